//! A serial link over a TCP serial server such as ser2net. Plain TCP: no Telnet, no RFC 2217.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::address::HostPort;
use super::framing::{FramingMemory, StreamFraming};
use super::link::{Connector, Firmware, Link, LinkError, LinkErrorKind};
use super::resolve::resolve;
use super::stream::StreamLink;
use crate::plan::{FramingChoice, LinkOptions};

/// How long one address may take to accept: three lost SYNs (1 s, 2 s and 4 s apart) are a host that is not there.
const CONNECT_LIMIT: Duration = Duration::from_secs(5);
/// Keepalive: a server that vanished is noticed after 10 s of idleness and three unanswered probes 5 s apart.
const KEEPALIVE_IDLE: Duration = Duration::from_secs(10);
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(5);
const KEEPALIVE_PROBES: u32 = 3;

/// Connects to one port of a serial server.
#[derive(Debug, Clone)]
pub struct TcpConnector {
    place: HostPort,
    framing: FramingChoice,
    line_length: usize,
    memory: FramingMemory,
}

impl TcpConnector {
    /// For the serial server's port at `place`, with the framing of `link`.
    #[must_use]
    pub fn new(place: HostPort, link: &LinkOptions) -> Self {
        let LinkOptions { framing, line_length, .. } = *link;
        Self { place, framing, line_length, memory: FramingMemory::default() }
    }
}

#[async_trait]
impl Connector for TcpConnector {
    async fn connect(&self) -> Result<Box<dyn Link>, LinkError> {
        let mut last = None;
        for address in resolve(&self.place).await? {
            let result = match timeout(CONNECT_LIMIT, TcpStream::connect(address)).await {
                Ok(result) => result,
                Err(_) => {
                    Err(io::Error::new(io::ErrorKind::TimedOut, format!("no answer in {CONNECT_LIMIT:?}")))
                }
            };
            match result.and_then(|stream| set_up(&stream).map(|()| stream)) {
                Ok(stream) => {
                    let framing = StreamFraming::new(self.framing, self.line_length, &self.memory);
                    // The rate of the UART behind the server is the server's secret.
                    let wire = (None, true);
                    let close = |stream, _: &str| drop(stream);
                    return Ok(Box::new(
                        StreamLink::start(stream, close, framing, wire, self.address()).await?,
                    ));
                }
                Err(error) => last = Some((address, error)),
            }
        }
        let (tried, error) = match last {
            Some((address, error)) => (address.to_string(), error),
            None => (self.place.to_string(), io::Error::other("the name has no address")),
        };
        Err(refused(&self.place, &tried, error))
    }

    fn descriptors(&self) -> usize {
        1
    }

    fn address(&self) -> String {
        format!("tcp:{}", self.place)
    }

    fn expect(&self, firmware: Firmware) {
        self.memory.expect(firmware);
    }
}

fn set_up(stream: &TcpStream) -> io::Result<()> {
    // Every message is one write; waiting to fill a segment only costs time.
    stream.set_nodelay(true)?;
    let keepalive = socket2::TcpKeepalive::new()
        .with_time(KEEPALIVE_IDLE)
        .with_interval(KEEPALIVE_INTERVAL)
        .with_retries(KEEPALIVE_PROBES);
    socket2::SockRef::from(stream).set_tcp_keepalive(&keepalive)
}

fn refused(place: &HostPort, tried: &str, error: io::Error) -> LinkError {
    let at = if tried == place.to_string() { String::new() } else { format!(" ({tried})") };
    LinkError {
        kind: LinkErrorKind::Unreachable,
        message: format!("expected a serial server at {place}{at}, got: {error}"),
        help:
            "check host and port, and that the serial server runs and its port is not taken by another client"
                .to_owned(),
        source: Some(Arc::new(error)),
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    use super::*;
    use crate::smp::console;

    fn place(address: std::net::SocketAddr) -> HostPort {
        HostPort { host: address.ip().to_string(), port: address.port() }
    }

    #[tokio::test]
    async fn messages_go_both_ways_and_a_closed_connection_is_told() {
        let server = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let connector = TcpConnector::new(place(server.local_addr().unwrap()), &LinkOptions::default());
        let device = tokio::spawn(async move {
            let (mut stream, _) = server.accept().await.unwrap();
            let mut decoder = console::Decoder::new();
            loop {
                let byte = stream.read_u8().await.unwrap();
                if let Some(message) = decoder.push(&[byte]).pop() {
                    stream.write_all(b"boot log\r\n").await.unwrap();
                    stream.write_all(&console::encode(&message, 128)).await.unwrap();
                    return;
                }
            }
        });
        let mut link = connector.connect().await.unwrap();
        let message = [8, 0, 0, 1, 0, 0, 1, 0, 0xa0];
        link.send(&message).await.unwrap();
        assert_eq!(link.recv().await.unwrap(), message);
        device.await.unwrap();
        let end = timeout(CONNECT_LIMIT, link.recv()).await.expect("endless silence");
        assert_eq!(end.unwrap_err().kind, LinkErrorKind::Disconnected);
    }

    #[tokio::test]
    async fn a_port_where_nobody_listens_is_unreachable() {
        let server = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = server.local_addr().unwrap();
        drop(server);
        let error = TcpConnector::new(place(address), &LinkOptions::default()).connect().await.err().unwrap();
        assert_eq!(error.kind, LinkErrorKind::Unreachable);
        assert!(error.message.contains(&address.to_string()), "{error}");
        assert!(error.message.contains("refused"), "{error}");
    }
}
