//! A BLE central in memory, connected to one simulated device: bare GATT, in tokio's time. Messages are made elsewhere.

use std::sync::Arc;

use crate::sim::endpoint::wait_for;
use crate::sim::fleet::Cell;

/// The connection of a central to one simulated device. Dropping it disconnects.
#[derive(Debug)]
pub struct GattClient {
    cell: Arc<Cell>,
    session: u64,
    mtu: u16,
}

impl GattClient {
    /// Connects, and agrees on an MTU of at most `mtu` bytes; `None` where the device does not advertise.
    pub(in crate::sim) fn connect(cell: &Arc<Cell>, mtu: u16) -> Option<Self> {
        let now = cell.now();
        let mut device = cell.device();
        let session = device.central_connects(now)?;
        let mtu = device.central_exchanges_mtu(now, mtu);
        drop(device);
        cell.changed.notify_waiters();
        Some(Self { cell: Arc::clone(cell), session, mtu })
    }

    /// The ATT MTU that both have agreed on, in bytes.
    #[must_use]
    pub fn mtu(&self) -> u16 {
        self.mtu
    }

    /// Whether the connection is up.
    #[must_use]
    pub fn is_connected(&self) -> bool {
        let mut device = self.cell.device();
        device.advance(self.cell.now());
        device.session() == self.session
    }

    /// Asks for notifications, or for no more of them; gives whether the device got to know.
    pub fn subscribe(&self, on: bool) -> bool {
        let mut device = self.cell.device();
        device.session() == self.session && device.central_subscribes(self.cell.now(), on)
    }

    /// Writes a value without response. It goes nowhere where the connection is lost.
    pub fn write(&self, value: &[u8]) {
        let mut device = self.cell.device();
        if device.session() == self.session {
            device.central_writes(self.cell.now(), value);
        }
        drop(device);
        self.cell.changed.notify_waiters();
    }

    /// Disconnects.
    pub fn leave(&self) {
        let mut device = self.cell.device();
        if device.session() == self.session {
            device.central_leaves(self.cell.now());
        }
        drop(device);
        self.cell.changed.notify_waiters();
    }

    /// Waits for the next notification; `None` once the connection is lost.
    pub async fn notified(&self) -> Option<Vec<u8>> {
        loop {
            // Made before looking, so that nothing that happens in between is missed.
            let changed = self.cell.changed.notified();
            let next = {
                let now = self.cell.now();
                let mut device = self.cell.device();
                let value = device.poll_output(now);
                if device.session() != self.session {
                    return None;
                }
                if let Some((_, value)) = value {
                    return Some(value);
                }
                device.next_timeout()
            };
            wait_for(&self.cell, next, changed).await;
        }
    }
}

impl Drop for GattClient {
    fn drop(&mut self) {
        self.leave();
    }
}
