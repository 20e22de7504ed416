//! The link to one connected peripheral: messages in pieces of MTU − 3, notifications put together. How the connection came
//! about is the connector's business.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use tokio::sync::{OwnedMutexGuard, mpsc};
use tokio::time::{Instant, timeout};

use super::super::link::{Framing, Link, LinkError, LinkProperties};
use super::super::stream::too_long;
use super::super::wire::{self, Direction};
use super::central::{Peripheral, PeripheralEvent};
use super::errors::{disconnected, limited};
use super::hub::BleHub;
use super::reassembly::Reassembly;
use crate::smp::HEADER_LEN;

/// Bytes of an ATT write besides its data: opcode and handle (Bluetooth Core Specification, Vol 3 Part F, 3.4.5).
pub(super) const ATT_HEADER: u16 = 3;
/// The smallest MTU that there is (Bluetooth Core Specification, Vol 3 Part G, 5.2.1).
pub(super) const SMALLEST_MTU: u16 = 23;
/// How long one write may take to be handed on. Without response the system only queues it, and waits where its queue is
/// full: a connection that moves nothing for this long is about to time out.
const WRITE_WITHIN: Duration = Duration::from_secs(10);
/// How long subscribing anew may take: two exchanges, where twenty fit at the slowest usual connection interval (100 ms).
const RESUBSCRIBE_WITHIN: Duration = Duration::from_secs(4);
/// How long a disconnect may take. BlueZ waits 2 s by itself before it lets a connection go.
const DISCONNECT_WITHIN: Duration = Duration::from_secs(5);
/// How long closing a link waits for its end. It goes on without anybody waiting.
const CLOSE_WITHIN: Duration = Duration::from_secs(3);

/// What there is once a peripheral is connected, for as long as it is.
#[derive(Debug)]
pub(super) struct Hold {
    pub hub: Arc<BleHub>,
    pub peripheral: Arc<dyn Peripheral>,
    pub address: String,
    /// Nobody else opens the same device.
    pub door: OwnedMutexGuard<()>,
}

impl Hold {
    /// Ends the connection, then lets others to the device.
    pub(super) async fn release(self) {
        // Whatever it says, there is nothing else to be done; the next connect sees what is left.
        let _ = limited("disconnect", DISCONNECT_WITHIN, self.peripheral.disconnect()).await;
        self.hub.set_linked(&self.address, false);
        drop(self.door);
    }
}

/// The link to one peripheral.
#[derive(Debug)]
pub(super) struct BleLink {
    /// `None` once it is released.
    hold: Option<Hold>,
    events: mpsc::Receiver<PeripheralEvent>,
    reassembly: Reassembly,
    messages: VecDeque<Vec<u8>>,
    dead: Option<LinkError>,
    write_len: usize,
    with_response: bool,
    /// In the grammar of the command line.
    name: String,
}

impl BleLink {
    pub(super) fn new(
        hold: Hold,
        events: mpsc::Receiver<PeripheralEvent>,
        mtu: u16,
        with_response: bool,
    ) -> Self {
        let write_len = usize::from(mtu.max(SMALLEST_MTU) - ATT_HEADER);
        let name = format!("ble:{}", hold.address);
        hold.hub.set_linked(&hold.address, true);
        wire::note(&name, format_args!("opened, MTU {mtu}"));
        Self {
            hold: Some(hold),
            events,
            reassembly: Reassembly::default(),
            messages: VecDeque::new(),
            dead: None,
            write_len,
            with_response,
            name,
        }
    }

    fn died(&mut self, error: LinkError) -> LinkError {
        wire::note(&self.name, &error);
        self.dead.get_or_insert(error).clone()
    }
}

/// A message in writes of at most `write_len` bytes: a full one, then shorter ones. Zephyr's server takes whatever comes for
/// the rest of a message of which a write was lost, and refuses what is longer than that rest. With writes of one length the
/// next message's first would fill the gap, its header written into the image; as it is, it never fits.
fn pieces(message: &[u8], write_len: usize) -> impl Iterator<Item = &[u8]> {
    let (first, rest) = message.split_at(message.len().min(write_len));
    std::iter::once(first).chain(rest.chunks((write_len - 1).max(1)))
}

#[async_trait]
impl Link for BleLink {
    async fn send(&mut self, message: &[u8]) -> Result<(), LinkError> {
        if let Some(error) = &self.dead {
            return Err(error.clone());
        }
        let most = self.properties().max_message;
        if message.len() > most {
            return Err(too_long(&self.name, message.len(), most));
        }
        let Some(hold) = &self.hold else { return Err(disconnected(&self.name, "it was closed")) };
        wire::message(Direction::Sent, &self.name, message);
        for piece in pieces(message, self.write_len) {
            let write = hold.peripheral.write(piece, self.with_response);
            if let Err(error) = limited("take a write", WRITE_WITHIN, write).await {
                return Err(self.died(error));
            }
        }
        Ok(())
    }

    async fn recv(&mut self) -> Result<Vec<u8>, LinkError> {
        loop {
            if let Some(message) = self.messages.pop_front() {
                wire::message(Direction::Received, &self.name, &message);
                return Ok(message);
            }
            if let Some(error) = &self.dead {
                return Err(error.clone());
            }
            match self.events.recv().await {
                Some(PeripheralEvent::Notified(fragment)) => {
                    let taken = self.reassembly.take(&fragment, Instant::now());
                    if taken.thrown_away > 0 {
                        wire::note(
                            &self.name,
                            format_args!("{} bytes thrown away, no SMP message", taken.thrown_away),
                        );
                    }
                    self.messages.extend(taken.messages);
                }
                Some(PeripheralEvent::Disconnected(error)) => return Err(self.died(error)),
                None => {
                    let error = disconnected(&self.name, "the system told no more of it");
                    return Err(self.died(error));
                }
            }
        }
    }

    fn properties(&self) -> LinkProperties {
        LinkProperties {
            safe_message: self.write_len,
            max_message: HEADER_LEN + usize::from(u16::MAX),
            buffer_overhead: 0,
            // Decided by controllers on both sides and the air between them.
            wire_bytes_per_s: None,
            framing: Framing::Gatt { write_len: self.write_len },
            survives_reset: false,
        }
    }

    async fn forget_parts(&mut self) -> Result<(), LinkError> {
        if let Some(error) = &self.dead {
            return Err(error.clone());
        }
        let Some(hold) = &self.hold else { return Err(disconnected(&self.name, "it was closed")) };
        wire::note(&self.name, "subscribing anew: the device may hold a part of a message");
        let resubscribed = limited("subscribe anew", RESUBSCRIBE_WITHIN, hold.peripheral.resubscribe());
        if let Err(error) = resubscribed.await {
            return Err(self.died(error));
        }
        // Of an answer that was cut off, the rest does not come.
        self.reassembly = Reassembly::default();
        Ok(())
    }

    async fn close(mut self: Box<Self>) {
        if let Some(hold) = self.hold.take() {
            wire::note(&self.name, "closed");
            let released = tokio::spawn(hold.release());
            // The task goes on where nobody waits for it, and cannot panic.
            let _ = timeout(CLOSE_WITHIN, released).await;
        }
    }
}

impl Drop for BleLink {
    fn drop(&mut self) {
        let Some(hold) = self.hold.take() else { return };
        wire::note(&self.name, "closed");
        // Without a runtime the process is ending; then the system ends the connection.
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            runtime.spawn(hold.release());
        }
    }
}
