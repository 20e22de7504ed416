//! A connector that lets a test see and change what goes over a device's links.

use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use flashfleet::smp::Header;
use flashfleet::transport::{Connector, Link, LinkError, LinkProperties};
use tokio::time::Instant;

/// What a test does with messages from the device: each becomes another one, or is lost.
type Change = dyn Fn(&Tap, Vec<u8>) -> Option<Vec<u8>> + Send + Sync;

/// A message that was sent to the device.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Sent {
    /// Which link carried it, from 1.
    pub(crate) link: usize,
    pub(crate) at: Instant,
    pub(crate) header: Header,
    /// Bytes, SMP header included.
    pub(crate) len: usize,
}

/// What went over the links of one device.
pub(crate) struct Tap {
    links: Mutex<usize>,
    sent: Mutex<Vec<Sent>>,
    payloads: Mutex<Vec<Vec<u8>>>,
    change: Box<Change>,
}

impl std::fmt::Debug for Tap {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Tap").finish_non_exhaustive()
    }
}

impl Tap {
    pub(crate) fn sent(&self) -> Vec<Sent> {
        self.sent.lock().expect("nobody panicked").clone()
    }

    /// Whether a message of a group and command that was sent so far has these bytes in its payload.
    pub(crate) fn said(&self, group: u16, command: u8, bytes: &[u8]) -> bool {
        let payloads = self.payloads.lock().expect("nobody panicked");
        let mut both = self.sent().into_iter().zip(payloads.iter());
        both.any(|(sent, payload)| {
            (sent.header.group, sent.header.command) == (group, command)
                && payload.windows(bytes.len()).any(|window| window == bytes)
        })
    }

    /// How many messages of a group and command were sent so far.
    pub(crate) fn count(&self, group: u16, command: u8) -> usize {
        self.sent().iter().filter(|sent| (sent.header.group, sent.header.command) == (group, command)).count()
    }
}

/// A connector with a tap on it.
#[derive(Debug, Clone)]
pub(crate) struct Tapped {
    inner: Arc<dyn Connector>,
    pub(crate) tap: Arc<Tap>,
}

impl Tapped {
    pub(crate) fn new(
        inner: Arc<dyn Connector>,
        change: impl Fn(&Tap, Vec<u8>) -> Option<Vec<u8>> + Send + Sync + 'static,
    ) -> Self {
        let tap = Tap {
            links: Mutex::new(0),
            sent: Mutex::new(Vec::new()),
            payloads: Mutex::new(Vec::new()),
            change: Box::new(change),
        };
        Self { inner, tap: Arc::new(tap) }
    }
}

#[async_trait]
impl Connector for Tapped {
    async fn connect(&self) -> Result<Box<dyn Link>, LinkError> {
        let inner = self.inner.connect().await?;
        let mut links = self.tap.links.lock().expect("nobody panicked");
        *links += 1;
        Ok(Box::new(TappedLink { inner, number: *links, tap: Arc::clone(&self.tap) }))
    }

    fn address(&self) -> String {
        self.inner.address()
    }
}

struct TappedLink {
    inner: Box<dyn Link>,
    number: usize,
    tap: Arc<Tap>,
}

#[async_trait]
impl Link for TappedLink {
    async fn send(&mut self, message: &[u8]) -> Result<(), LinkError> {
        let (header, payload) = Header::split(message).expect("whole messages are sent");
        let sent = Sent { link: self.number, at: Instant::now(), header, len: message.len() };
        self.tap.sent.lock().expect("nobody panicked").push(sent);
        self.tap.payloads.lock().expect("nobody panicked").push(payload.to_vec());
        self.inner.send(message).await
    }

    async fn recv(&mut self) -> Result<Vec<u8>, LinkError> {
        loop {
            let message = self.inner.recv().await?;
            if let Some(message) = (self.tap.change)(&self.tap, message) {
                return Ok(message);
            }
        }
    }

    fn properties(&self) -> LinkProperties {
        self.inner.properties()
    }

    async fn forget_parts(&mut self) -> Result<(), LinkError> {
        self.inner.forget_parts().await
    }

    async fn close(self: Box<Self>) {
        self.inner.close().await;
    }
}
