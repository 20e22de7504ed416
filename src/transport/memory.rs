//! A link whose other end is held by a test or by a simulated device, with failures on demand.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use tokio::sync::mpsc;

use super::link::{Connector, Framing, Link, LinkError, LinkErrorKind, LinkProperties};
use super::stream::too_long;
use super::wire::{self, Direction};

/// The near end: what a client talks over.
#[derive(Debug)]
pub struct MemoryLink {
    address: String,
    properties: LinkProperties,
    out: mpsc::UnboundedSender<Vec<u8>>,
    inbox: mpsc::UnboundedReceiver<Vec<u8>>,
    faults: Arc<Mutex<Faults>>,
}

/// The far end: receives what the client sends and answers.
#[derive(Debug)]
pub struct MemoryPeer {
    inbox: mpsc::UnboundedReceiver<Vec<u8>>,
    out: mpsc::UnboundedSender<Vec<u8>>,
    faults: Arc<Mutex<Faults>>,
}

/// What goes wrong at the near end.
#[derive(Debug, Default)]
struct Faults {
    /// Errors for the next sends.
    send: VecDeque<LinkError>,
    /// Messages sent next that are lost without an error.
    lose: usize,
}

impl MemoryLink {
    /// Both ends. Messages arrive in order, at once, as often as they were sent.
    #[must_use]
    pub fn pair(address: impl Into<String>, properties: LinkProperties) -> (Self, MemoryPeer) {
        let (out, far_inbox) = mpsc::unbounded_channel();
        let (far_out, inbox) = mpsc::unbounded_channel();
        let faults = Arc::new(Mutex::new(Faults::default()));
        let peer = MemoryPeer { inbox: far_inbox, out: far_out, faults: Arc::clone(&faults) };
        (Self { address: address.into(), properties, out, inbox, faults }, peer)
    }

    /// What a link without limits of its own carries.
    #[must_use]
    pub fn unlimited() -> LinkProperties {
        LinkProperties {
            safe_message: 384,
            max_message: crate::smp::console::MAX_MESSAGE,
            buffer_overhead: 0,
            wire_bytes_per_s: None,
            framing: Framing::Datagram,
            survives_reset: true,
        }
    }

    fn gone(&self) -> LinkError {
        LinkError::new(LinkErrorKind::Disconnected, format!("{} hung up", self.address), "connect it again")
    }
}

impl MemoryPeer {
    /// The next message from the client; `None` once the client closed its end.
    pub async fn recv(&mut self) -> Option<Vec<u8>> {
        self.inbox.recv().await
    }

    /// Sends to the client; `false` where it closed its end.
    pub fn send(&self, message: impl Into<Vec<u8>>) -> bool {
        self.out.send(message.into()).is_ok()
    }

    /// Makes the client's next send that has no error yet fail with `error`.
    pub fn fail_send(&self, error: LinkError) {
        self.faults.lock().unwrap_or_else(PoisonError::into_inner).send.push_back(error);
    }

    /// Loses the next `count` messages from the client.
    pub fn lose(&self, count: usize) {
        self.faults.lock().unwrap_or_else(PoisonError::into_inner).lose = count;
    }

    /// Ends the link, as pulling the cable does. Dropping the peer does the same.
    pub fn hang_up(self) {}
}

#[async_trait]
impl Link for MemoryLink {
    async fn send(&mut self, message: &[u8]) -> Result<(), LinkError> {
        if message.len() > self.properties.max_message {
            return Err(too_long(&self.address, message.len(), self.properties.max_message));
        }
        {
            let mut faults = self.faults.lock().unwrap_or_else(PoisonError::into_inner);
            if let Some(error) = faults.send.pop_front() {
                return Err(error);
            }
            wire::message(Direction::Sent, &self.address, message);
            if faults.lose > 0 {
                faults.lose -= 1;
                return if self.out.is_closed() { Err(self.gone()) } else { Ok(()) };
            }
        }
        self.out.send(message.to_vec()).map_err(|_| self.gone())
    }

    async fn recv(&mut self) -> Result<Vec<u8>, LinkError> {
        let message = self.inbox.recv().await.ok_or_else(|| self.gone())?;
        wire::message(Direction::Received, &self.address, &message);
        Ok(message)
    }

    fn properties(&self) -> LinkProperties {
        self.properties.clone()
    }

    async fn close(self: Box<Self>) {}
}

/// Gives out links that were prepared, in order; without one the device is away ([`LinkErrorKind::NotFound`]).
#[derive(Debug)]
pub struct MemoryConnector {
    address: String,
    properties: LinkProperties,
    prepared: Mutex<VecDeque<Result<MemoryLink, LinkError>>>,
}

impl MemoryConnector {
    /// Nothing is prepared yet.
    #[must_use]
    pub fn new(address: impl Into<String>, properties: LinkProperties) -> Self {
        Self { address: address.into(), properties, prepared: Mutex::new(VecDeque::new()) }
    }

    /// Prepares one more link and gives its far end.
    #[must_use]
    pub fn prepare(&self) -> MemoryPeer {
        let (link, peer) = MemoryLink::pair(self.address.clone(), self.properties.clone());
        self.prepared.lock().unwrap_or_else(PoisonError::into_inner).push_back(Ok(link));
        peer
    }

    /// Prepares an error.
    pub fn refuse(&self, error: LinkError) {
        self.prepared.lock().unwrap_or_else(PoisonError::into_inner).push_back(Err(error));
    }
}

#[async_trait]
impl Connector for MemoryConnector {
    async fn connect(&self) -> Result<Box<dyn Link>, LinkError> {
        let next = self.prepared.lock().unwrap_or_else(PoisonError::into_inner).pop_front();
        let away = || {
            Err(LinkError::new(
                LinkErrorKind::NotFound,
                format!("expected {}, it is away", self.address),
                "plug it in",
            ))
        };
        Ok(Box::new(next.unwrap_or_else(away)?))
    }

    fn address(&self) -> String {
        self.address.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn failures_come_when_asked_for_and_only_then() {
        let connector = MemoryConnector::new("sim:1", MemoryLink::unlimited());
        assert_eq!(connector.connect().await.err().unwrap().kind, LinkErrorKind::NotFound);
        connector.refuse(LinkError::new(LinkErrorKind::Busy, "busy", "wait"));
        let mut peer = connector.prepare();
        assert_eq!(connector.connect().await.err().unwrap().kind, LinkErrorKind::Busy);
        let mut link = connector.connect().await.unwrap();

        peer.fail_send(LinkError::new(LinkErrorKind::Io, "broken", "mend it"));
        assert_eq!(link.send(b"1").await.unwrap_err().kind, LinkErrorKind::Io);
        peer.lose(1);
        link.send(b"2").await.unwrap();
        link.send(b"3").await.unwrap();
        assert_eq!(peer.recv().await.unwrap(), b"3");
        assert!(peer.send(b"answer"));
        peer.hang_up();
        assert_eq!(link.recv().await.unwrap(), b"answer");
        assert_eq!(link.recv().await.unwrap_err().kind, LinkErrorKind::Disconnected);
        assert_eq!(link.send(b"4").await.unwrap_err().kind, LinkErrorKind::Disconnected);
    }
}
