//! A USB/IP client for tests, written from the kernel's document on its own, so that the server is held against something.
//! Its serial port is a [`Link`].

use std::collections::HashMap;
use std::net::SocketAddr;
use std::time::Duration;

use async_trait::async_trait;
use flashfleet::smp::console;
use flashfleet::transport::{Framing, Link, LinkError, LinkErrorKind, LinkProperties};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

/// `-EPIPE`, `-ECONNRESET`.
pub(crate) const STALL: i32 = -32;
pub(crate) const UNLINKED: i32 = -104;

/// Longest that anything here may take.
const PATIENCE: Duration = Duration::from_secs(10);

/// A device in a list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Listed {
    pub(crate) busid: String,
    pub(crate) vid: u16,
    pub(crate) pid: u16,
    pub(crate) speed: u32,
    pub(crate) interfaces: Vec<[u8; 3]>,
}

async fn exactly(stream: &mut TcpStream, count: usize) -> std::io::Result<Vec<u8>> {
    let mut bytes = vec![0; count];
    timeout(PATIENCE, stream.read_exact(&mut bytes)).await.expect("an answer in time")?;
    Ok(bytes)
}

fn text(field: &[u8]) -> String {
    String::from_utf8(field.iter().copied().take_while(|&byte| byte != 0).collect()).unwrap()
}

fn word(bytes: &[u8], at: usize) -> u32 {
    u32::from_be_bytes(bytes[at..at + 4].try_into().unwrap())
}

fn half(bytes: &[u8], at: usize) -> u16 {
    u16::from_be_bytes(bytes[at..at + 2].try_into().unwrap())
}

/// Asks for the list on a connection that is there.
pub(crate) async fn list_on(stream: &mut TcpStream) -> Vec<Listed> {
    stream.write_all(&[1, 0x11, 0x80, 5, 0, 0, 0, 0]).await.unwrap();
    let head = exactly(stream, 12).await.unwrap();
    assert_eq!(head[..8], [1, 0x11, 0, 5, 0, 0, 0, 0]);
    let mut all = Vec::new();
    for _ in 0..word(&head, 8) {
        let device = exactly(stream, 312).await.unwrap();
        let interfaces = exactly(stream, 4 * usize::from(device[311])).await.unwrap();
        let interfaces = interfaces.chunks(4).map(|it| it[..3].try_into().unwrap()).collect();
        let busid = text(&device[256..288]);
        let (vid, pid, speed) = (half(&device, 300), half(&device, 302), word(&device, 296));
        all.push(Listed { busid, vid, pid, speed, interfaces });
    }
    all
}

/// The boards that can be imported.
pub(crate) async fn list(server: SocketAddr) -> Vec<Listed> {
    list_on(&mut TcpStream::connect(server).await.unwrap()).await
}

/// Waits until the list is as wanted.
pub(crate) async fn list_until(server: SocketAddr, wanted: impl Fn(&[Listed]) -> bool) -> Vec<Listed> {
    let wait = async {
        loop {
            let all = list(server).await;
            if wanted(&all) {
                return all;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    timeout(PATIENCE, wait).await.expect("the list is never as wanted")
}

/// An answer to a transfer, or to taking one back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Returned {
    pub(crate) seqnum: u32,
    pub(crate) status: i32,
    /// `actual_length`.
    pub(crate) length: u32,
    pub(crate) data: Vec<u8>,
}

/// An imported board.
pub(crate) struct Imported {
    pub(crate) stream: TcpStream,
    devid: u32,
    seqnum: u32,
    /// Transfers under way: whether they are from the device.
    pub(crate) under_way: HashMap<u32, bool>,
}

impl Imported {
    /// Imports a board; `None` where the server refuses.
    pub(crate) async fn new(server: SocketAddr, busid: &str) -> Option<Self> {
        let mut stream = TcpStream::connect(server).await.unwrap();
        let mut request = vec![1, 0x11, 0x80, 3, 0, 0, 0, 0];
        request.extend_from_slice(busid.as_bytes());
        request.resize(40, 0);
        stream.write_all(&request).await.unwrap();
        let head = exactly(&mut stream, 8).await.unwrap();
        assert_eq!(head[..4], [1, 0x11, 0, 3]);
        if word(&head, 4) != 0 {
            return None;
        }
        let device = exactly(&mut stream, 312).await.unwrap();
        assert_eq!(text(&device[256..288]), busid);
        let devid = word(&device, 288) << 16 | word(&device, 292);
        Some(Self { stream, devid, seqnum: 0, under_way: HashMap::new() })
    }

    /// Imports a board and sets its configuration, as a host does.
    pub(crate) async fn configured(server: SocketAddr, busid: &str) -> Self {
        let mut board = Self::new(server, busid).await.expect("the board can be had");
        assert_eq!(board.control([0, 9, 1, 0, 0, 0, 0, 0], &[]).await.status, 0);
        board
    }

    fn header(&self, command: u32, endpoint: u32, is_in: bool) -> Vec<u8> {
        [command, self.seqnum, self.devid, u32::from(is_in), endpoint]
            .iter()
            .flat_map(|it| it.to_be_bytes())
            .collect()
    }

    /// Begins a transfer; gives its number.
    pub(crate) async fn submit(
        &mut self,
        (endpoint, is_in): (u32, bool),
        length: u32,
        setup: [u8; 8],
        data: &[u8],
    ) -> u32 {
        self.seqnum += 1;
        let mut request = self.header(1, endpoint, is_in);
        for field in [0, length, 0, u32::MAX, 0] {
            request.extend_from_slice(&field.to_be_bytes());
        }
        request.extend_from_slice(&setup);
        request.extend_from_slice(data);
        // The board may be gone; then no answer will come.
        let _ = self.stream.write_all(&request).await;
        self.under_way.insert(self.seqnum, is_in);
        self.seqnum
    }

    /// Asks for bytes of a bulk or interrupt endpoint.
    pub(crate) async fn ask(&mut self, endpoint: u32) -> u32 {
        self.submit((endpoint, true), 256, [0; 8], &[]).await
    }

    /// Sends bytes to a bulk endpoint.
    pub(crate) async fn send(&mut self, endpoint: u32, data: &[u8]) -> u32 {
        self.submit((endpoint, false), u32::try_from(data.len()).unwrap(), [0; 8], data).await
    }

    /// Takes a transfer back; gives the number of this request.
    pub(crate) async fn unlink(&mut self, target: u32) -> u32 {
        self.seqnum += 1;
        let mut request = self.header(2, 0, false);
        request.extend_from_slice(&target.to_be_bytes());
        request.resize(48, 0);
        self.stream.write_all(&request).await.unwrap();
        self.seqnum
    }

    /// The next answer; an error where the board is gone.
    pub(crate) async fn returned(&mut self) -> std::io::Result<Returned> {
        let head = exactly(&mut self.stream, 48).await?;
        let (command, seqnum, length) = (word(&head, 0), word(&head, 4), word(&head, 24));
        assert_eq!(head[8..20], [0; 12]);
        let data = match (command, self.under_way.remove(&seqnum)) {
            (3, Some(true)) => exactly(&mut self.stream, length as usize).await?,
            (3, Some(false)) | (4, None) => Vec::new(),
            other => panic!("an answer to nothing: {other:?}"),
        };
        Ok(Returned { seqnum, status: word(&head, 20).cast_signed(), length, data })
    }

    /// Whether no answer comes for a while.
    pub(crate) async fn is_silent_for(&mut self, time: Duration) -> bool {
        timeout(time, self.stream.peek(&mut [0])).await.is_err()
    }

    /// Waits until the server closes the connection.
    pub(crate) async fn gone(&mut self) {
        while self.returned().await.is_ok() {}
    }

    /// A control transfer.
    pub(crate) async fn control(&mut self, setup: [u8; 8], data: &[u8]) -> Returned {
        let length = u32::from(u16::from_le_bytes([setup[6], setup[7]]));
        let seqnum = self.submit((0, setup[0] & 0x80 != 0), length, setup, data).await;
        loop {
            let returned = self.returned().await.unwrap();
            if returned.seqnum == seqnum {
                return returned;
            }
        }
    }

    /// A string of the board.
    pub(crate) async fn string(&mut self, number: u8) -> Option<String> {
        let returned = self.control([0x80, 6, number, 3, 9, 4, 255, 0], &[]).await;
        let units = returned.data.get(2..)?.chunks(2).map(|it| u16::from_le_bytes([it[0], it[1]]));
        Some(String::from_utf16(&units.collect::<Vec<_>>()).unwrap())
    }

    /// The serial port whose data endpoints have this number.
    pub(crate) fn port(self, endpoint: u32) -> UsbPort {
        UsbPort { board: self, endpoint, asked: None, decoder: console::Decoder::new(), ready: Vec::new() }
    }
}

/// A serial port of an imported board, as a link.
pub(crate) struct UsbPort {
    pub(crate) board: Imported,
    endpoint: u32,
    /// The transfer that asks for bytes.
    asked: Option<u32>,
    decoder: console::Decoder,
    ready: Vec<Vec<u8>>,
}

#[async_trait]
impl Link for UsbPort {
    async fn send(&mut self, message: &[u8]) -> Result<(), LinkError> {
        self.board.send(self.endpoint, &console::encode(message, 128)).await;
        Ok(())
    }

    async fn recv(&mut self) -> Result<Vec<u8>, LinkError> {
        loop {
            if !self.ready.is_empty() {
                return Ok(self.ready.remove(0));
            }
            if self.asked.is_none() {
                self.asked = Some(self.board.ask(self.endpoint).await);
            }
            let returned = self
                .board
                .returned()
                .await
                .map_err(|error| LinkError::new(LinkErrorKind::Disconnected, error.to_string(), ""))?;
            assert_eq!(returned.status, 0);
            self.asked = self.asked.filter(|seqnum| *seqnum != returned.seqnum);
            self.ready.extend(self.decoder.push(&returned.data));
        }
    }

    fn properties(&self) -> LinkProperties {
        LinkProperties {
            safe_message: 128,
            max_message: console::MAX_MESSAGE,
            buffer_overhead: console::PACKET_OVERHEAD,
            wire_bytes_per_s: None,
            framing: Framing::Console { line_length: 128 },
            survives_reset: false,
        }
    }

    async fn close(self: Box<Self>) {}
}
