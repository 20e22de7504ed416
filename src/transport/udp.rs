//! SMP over UDP: one socket per address family, however many devices. A task reads it and hands each datagram to the
//! link of its sender.
//!
//! A host that answers with ICMP "unreachable" is silent here: the system tells such answers only to sockets with one
//! peer. A device that does not answer is told by the silence.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use async_trait::async_trait;
use tokio::net::UdpSocket;
use tokio::sync::mpsc;
use tokio::task::AbortHandle;
use tokio::time::Instant;

use super::address::HostPort;
use super::link::{Connector, Framing, Link, LinkError, LinkErrorKind, LinkProperties};
use super::resolve::{normal, resolve};
use super::stream::too_long;
use super::wire::{self, Direction};
use crate::plan::Auto;
use crate::smp::{HEADER_LEN, Header, HeaderError, Op};

/// Largest message over IPv4 that no Ethernet fragments: 1500 − 20 (IPv4) − 8 (UDP).
pub const MAX_MESSAGE_V4: usize = 1472;
/// Largest message over IPv6 that no Ethernet fragments: 1500 − 40 (IPv6) − 8 (UDP).
pub const MAX_MESSAGE_V6: usize = 1452;
/// What every server with Zephyr's smallest default buffer (`CONFIG_MCUMGR_TRANSPORT_NETBUF_SIZE`, 384) takes.
const SAFE_MESSAGE: usize = 384;
/// Smallest datagram that a plan's `mtu` may ask for: a header and a little.
const SMALLEST_MESSAGE: usize = 64;
/// Datagrams kept per device; more are thrown away, as the system's own buffer would.
const QUEUE: usize = 64;
/// What the system may keep of answers that nobody has read yet, in bytes. It counts some 800 for the shortest one, and by
/// default has room for 250 of those.
const RECEIVE_BUFFER: usize = 4 << 20;
/// A message that did not go on for this long never will.
const PART_LIMIT: Duration = Duration::from_secs(1);
/// Errors on the socket in a row, without one datagram in between, after which it is given up.
const ERROR_LIMIT: u32 = 100;

type Peers = Mutex<HashMap<SocketAddr, mpsc::Sender<Vec<u8>>>>;

/// The sockets of one run. Cheap to share; the sockets are opened when first needed and closed with the last link.
#[derive(Debug, Default)]
pub struct UdpHub {
    v4: Mutex<Weak<Shared>>,
    v6: Mutex<Weak<Shared>>,
}

/// One socket and who is waiting for what comes from where.
#[derive(Debug)]
struct Shared {
    socket: Arc<UdpSocket>,
    peers: Arc<Peers>,
    reader: AbortHandle,
}

impl Drop for Shared {
    fn drop(&mut self) {
        self.reader.abort();
    }
}

impl UdpHub {
    /// No socket yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Registers the one link of `peer`, and opens its family's socket where there is none.
    fn register(&self, peer: SocketAddr) -> Result<(Arc<Shared>, mpsc::Receiver<Vec<u8>>), LinkError> {
        let slot = if peer.is_ipv4() { &self.v4 } else { &self.v6 };
        let mut slot = slot.lock().unwrap_or_else(PoisonError::into_inner);
        let shared = match slot.upgrade().filter(|shared| !shared.reader.is_finished()) {
            Some(shared) => shared,
            None => {
                let shared = Arc::new(Shared::open(peer.is_ipv4()).map_err(|error| LinkError {
                    kind: LinkErrorKind::Unavailable,
                    message: format!("cannot open a UDP socket: {error}"),
                    help: "check that this machine has a network of that kind (IPv4, IPv6)".to_owned(),
                    source: Some(Arc::new(error)),
                })?);
                *slot = Arc::downgrade(&shared);
                shared
            }
        };
        let (sender, receiver) = mpsc::channel(QUEUE);
        match shared.peers.lock().unwrap_or_else(PoisonError::into_inner).entry(peer) {
            Entry::Occupied(_) => {
                return Err(LinkError::new(
                    LinkErrorKind::Busy,
                    format!("expected one device at {peer}, but another one of this run has that address"),
                    "name each device once: two names may lead to one address",
                ));
            }
            Entry::Vacant(entry) => entry.insert(sender),
        };
        Ok((shared, receiver))
    }
}

impl Shared {
    fn open(v4: bool) -> io::Result<Self> {
        let any =
            if v4 { (Ipv4Addr::UNSPECIFIED, 0).into() } else { SocketAddr::from((Ipv6Addr::UNSPECIFIED, 0)) };
        let socket = std::net::UdpSocket::bind(any)?;
        socket.set_nonblocking(true)?;
        // A thousand devices may answer at once; as much as the system gives is enough then, or has to be.
        let _ = socket2::SockRef::from(&socket).set_recv_buffer_size(RECEIVE_BUFFER);
        let socket = Arc::new(UdpSocket::from_std(socket)?);
        let peers = Arc::new(Peers::default());
        let reader = tokio::spawn(read(Arc::clone(&socket), Arc::clone(&peers))).abort_handle();
        Ok(Self { socket, peers, reader })
    }
}

/// Hands every datagram to the link of its sender. Ends only where the socket fails for good.
async fn read(socket: Arc<UdpSocket>, peers: Arc<Peers>) {
    // Larger than any datagram, so none is cut.
    let mut buffer = vec![0; 1 << 16];
    let mut errors = 0;
    while errors < ERROR_LIMIT {
        match socket.recv_from(&mut buffer).await {
            Ok((length, from)) => {
                errors = 0;
                let datagram = buffer.get(..length).unwrap_or_default();
                let peers = peers.lock().unwrap_or_else(PoisonError::into_inner);
                match peers.get(&normal(from)) {
                    None => {
                        wire::note("udp", format_args!("datagram from {from}, which is no device: ignored"))
                    }
                    Some(queue) => {
                        if queue.try_send(datagram.to_vec()).is_err() {
                            wire::note(
                                "udp",
                                format_args!("datagram from {from} thrown away: nobody takes them"),
                            );
                        }
                    }
                }
            }
            // Some systems tell here that an earlier datagram reached nobody. The others' answers still come.
            Err(error) => {
                wire::note("udp", format_args!("socket: {error}"));
                errors += 1;
                tokio::task::yield_now().await;
            }
        }
    }
    // Their links see the end of their queues.
    peers.lock().unwrap_or_else(PoisonError::into_inner).clear();
}

/// Opens the link to one device on the network.
#[derive(Debug, Clone)]
pub struct UdpConnector {
    hub: Arc<UdpHub>,
    place: HostPort,
    mtu: Auto<u32>,
}

impl UdpConnector {
    /// For the device at `place`. Where a name has several addresses the first one counts, in the system's order:
    /// asking at several could reach one device twice.
    #[must_use]
    pub fn new(hub: Arc<UdpHub>, place: HostPort, mtu: Auto<u32>) -> Self {
        Self { hub, place, mtu }
    }
}

#[async_trait]
impl Connector for UdpConnector {
    async fn connect(&self) -> Result<Box<dyn Link>, LinkError> {
        let found = resolve(&self.place).await?;
        let Some(peer) = found.first().copied() else {
            return Err(LinkError::new(
                LinkErrorKind::Unreachable,
                "the name has no address",
                "check the name",
            ));
        };
        let (shared, queue) = self.hub.register(peer)?;
        let most = if peer.is_ipv4() { MAX_MESSAGE_V4 } else { MAX_MESSAGE_V6 };
        let max_message = match self.mtu {
            Auto::Auto => most,
            Auto::Fixed(mtu) => usize::try_from(mtu).unwrap_or(most).clamp(SMALLEST_MESSAGE, most),
        };
        let address = self.address();
        wire::note(&address, "opened");
        Ok(Box::new(UdpLink { shared, peer, queue, part: None, max_message, address }))
    }

    fn address(&self) -> String {
        format!("udp:{}", self.place)
    }
}

struct UdpLink {
    shared: Arc<Shared>,
    peer: SocketAddr,
    queue: mpsc::Receiver<Vec<u8>>,
    /// The beginning of a message, and when its last piece came.
    part: Option<(Vec<u8>, Instant)>,
    max_message: usize,
    address: String,
}

impl Drop for UdpLink {
    fn drop(&mut self) {
        wire::note(&self.address, "closed");
        self.shared.peers.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.peer);
    }
}

impl UdpLink {
    /// Takes one datagram; gives the message that it completes.
    fn take(&mut self, datagram: Vec<u8>, now: Instant) -> Option<Vec<u8>> {
        if is_whole_answer(&datagram) {
            self.part = None;
            return Some(datagram);
        }
        let begun = self.part.take().filter(|(_, at)| now.duration_since(*at) < PART_LIMIT);
        let continues = begun.is_some();
        let bytes = match begun {
            Some((mut part, _)) => {
                part.extend_from_slice(&datagram);
                part
            }
            None => datagram.clone(),
        };
        match Header::decode(&bytes).map(|header| HEADER_LEN + usize::from(header.length)) {
            Ok(total) if bytes.len() == total => Some(bytes),
            Ok(total) if bytes.len() < total => {
                self.part = Some((bytes, now));
                None
            }
            Err(HeaderError::Short(_)) => {
                self.part = Some((bytes, now));
                None
            }
            // Its rest was lost and this is the beginning of another one.
            _ if continues => self.take(datagram, now),
            _ => {
                wire::note(
                    &self.address,
                    format_args!("thrown away, no SMP message: {}", hex::encode(&bytes)),
                );
                None
            }
        }
    }
}

/// Whether a datagram is an answer of exactly the length that its header says: what nearly every server sends, and what
/// the middle of a longer answer hardly looks like.
fn is_whole_answer(datagram: &[u8]) -> bool {
    Header::split(datagram).is_ok_and(|(header, _)| matches!(header.op, Op::ReadResponse | Op::WriteResponse))
}

#[async_trait]
impl Link for UdpLink {
    async fn send(&mut self, message: &[u8]) -> Result<(), LinkError> {
        if message.len() > self.max_message {
            return Err(too_long(&self.address, message.len(), self.max_message));
        }
        if self.shared.reader.is_finished() {
            return Err(socket_gone(&self.address));
        }
        wire::message(Direction::Sent, &self.address, message);
        match self.shared.socket.send_to(message, self.peer).await {
            Ok(_) => Ok(()),
            // Told of an earlier datagram; this one is on its way, or lost as any datagram may be.
            Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => Ok(()),
            Err(error) => Err(LinkError {
                kind: LinkErrorKind::Unreachable,
                message: format!("cannot send to {}: {error}", self.address),
                help: "check the address and this machine's network".to_owned(),
                source: Some(Arc::new(error)),
            }),
        }
    }

    async fn recv(&mut self) -> Result<Vec<u8>, LinkError> {
        loop {
            let Some(datagram) = self.queue.recv().await else { return Err(socket_gone(&self.address)) };
            if let Some(message) = self.take(datagram, Instant::now()) {
                wire::message(Direction::Received, &self.address, &message);
                return Ok(message);
            }
        }
    }

    fn properties(&self) -> LinkProperties {
        LinkProperties {
            safe_message: SAFE_MESSAGE.min(self.max_message),
            max_message: self.max_message,
            buffer_overhead: 0,
            wire_bytes_per_s: None,
            framing: Framing::Datagram,
            survives_reset: true,
        }
    }

    async fn close(self: Box<Self>) {}
}

fn socket_gone(address: &str) -> LinkError {
    LinkError::new(
        LinkErrorKind::Disconnected,
        format!("the UDP socket of {address} failed"),
        "check this machine's network",
    )
}
