//! A serial server behind a board, as the UART behind a bridge chip: paced at the baud rate that the host sets, and what
//! comes while nobody has the board is lost.

use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::BytesMut;
use tokio::net::TcpStream;
use tokio::sync::Notify;
use tokio::sync::futures::Notified;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, sleep_until, timeout};

use super::device::UsbDevice;
use crate::sim::endpoint::READ_SIZE;
use crate::sim::uart::wire_time;

/// Bytes that wait in the chip for the UART, as in a CP2102 (data sheet, "Features").
const TO_SERVER: usize = 640;
/// Bytes that wait for the host.
const TO_HOST: usize = 4096;
/// How long a connection may take, and how long to wait after one that failed.
const CONNECT: Duration = Duration::from_secs(2);
const AGAIN: Duration = Duration::from_millis(100);
/// Time's worth of bytes that are written at once.
const PIECE: Duration = Duration::from_millis(4);

#[derive(Debug, Default)]
struct Lines {
    to_server: BytesMut,
    to_host: BytesMut,
    /// Bits per second; not known while nobody has the board.
    baud: Option<u32>,
    /// Somebody has the board.
    open: bool,
}

/// The two directions, and who waits for them.
#[derive(Debug, Default)]
struct Shared {
    lines: Mutex<Lines>,
    /// Bytes for the server.
    written: Notify,
    /// Bytes for the host, or room for more to the server.
    changed: Notify,
}

impl Shared {
    fn lines(&self) -> MutexGuard<'_, Lines> {
        self.lines.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A serial server behind a board.
#[derive(Debug)]
pub(super) struct Bridge {
    shared: Arc<Shared>,
    task: JoinHandle<()>,
}

impl Drop for Bridge {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Bridge {
    /// Keeps a connection to `place`, as `HOST:PORT`, from now on.
    pub(super) fn to(place: String) -> Self {
        let shared = Arc::new(Shared::default());
        let task = tokio::spawn(keep_connected(Arc::clone(&shared), place));
        Self { shared, task }
    }

    pub(super) fn changed(&self) -> Notified<'_> {
        self.shared.changed.notified()
    }

    /// Lets bytes pass between the host and the line.
    pub(super) fn pass(&self, device: &mut UsbDevice, function: usize) {
        let mut lines = self.shared.lines();
        lines.open = true;
        lines.baud = device.baud(function);
        let mut written = false;
        while lines.to_server.len() < TO_SERVER
            && let Some(bytes) = device.take(function)
        {
            lines.to_server.extend_from_slice(&bytes);
            written = true;
        }
        let count = device.room(function).min(lines.to_host.len());
        device.send(function, &lines.to_host.split_to(count));
        drop(lines);
        if written {
            self.shared.written.notify_one();
        }
    }

    /// Nobody has the board any more.
    pub(super) fn close(&self) {
        let mut lines = self.shared.lines();
        lines.open = false;
        lines.to_host.clear();
    }
}

async fn keep_connected(shared: Arc<Shared>, place: String) {
    loop {
        if let Ok(Ok(stream)) = timeout(CONNECT, TcpStream::connect(&place)).await {
            let _ = stream.set_nodelay(true);
            // However it ends, it begins again.
            let end: io::Result<()> = tokio::select! {
                end = read(&shared, &stream) => end,
                end = write(&shared, &stream) => end,
            };
            tracing::debug!(%place, ?end, "the serial server behind a board closed the connection");
        }
        // Nobody hears what was sent meanwhile.
        shared.lines().to_server.clear();
        shared.changed.notify_waiters();
        sleep(AGAIN).await;
    }
}

async fn read(shared: &Shared, stream: &TcpStream) -> io::Result<()> {
    let mut buffer = vec![0; READ_SIZE];
    loop {
        stream.readable().await?;
        let count = match stream.try_read(&mut buffer) {
            Ok(0) => return Ok(()),
            Ok(count) => count,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => continue,
            Err(error) => return Err(error),
        };
        {
            let mut lines = shared.lines();
            let room = if lines.open { TO_HOST.saturating_sub(lines.to_host.len()) } else { 0 };
            lines.to_host.extend_from_slice(buffer.get(..count.min(room)).unwrap_or_default());
        }
        shared.changed.notify_waiters();
    }
}

async fn write(shared: &Shared, stream: &TcpStream) -> io::Result<()> {
    let mut free_at = Instant::now();
    loop {
        let (piece, baud) = {
            let mut lines = shared.lines();
            let baud = lines.baud;
            let whole = lines.to_server.len();
            let count = baud.map_or(whole, |baud| bytes_in(PIECE, baud).min(whole));
            (lines.to_server.split_to(count), baud)
        };
        if piece.is_empty() {
            shared.written.notified().await;
            continue;
        }
        shared.changed.notify_waiters();
        let mut rest = &piece[..];
        while !rest.is_empty() {
            stream.writable().await?;
            match stream.try_write(rest) {
                Ok(count) => rest = rest.get(count..).unwrap_or_default(),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Err(error),
            }
        }
        // Not from now, so that the rate is kept however late a timer is.
        let now = Instant::now();
        free_at = free_at.max(now.checked_sub(PIECE).unwrap_or(now)) + wire_time(piece.len(), baud);
        sleep_until(free_at).await;
    }
}

/// Bytes that a line carries in this time, but one at least.
fn bytes_in(time: Duration, baud: u32) -> usize {
    let one = wire_time(1, Some(baud)).as_nanos().max(1);
    usize::try_from(time.as_nanos() / one).unwrap_or(usize::MAX).max(1)
}
