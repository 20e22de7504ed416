//! The BLE side of a simulated device: one central at a time, its writes, and notifications cut to the MTU, after Zephyr
//! `subsys/mgmt/mcumgr/transport/src/smp_bt.c`.

use super::{Device, Power};
use crate::sim::gatt::{ATT_OVERHEAD, Advertisement, Assembly, Collected};
use crate::sim::spec::SimTransport;
use crate::smp::Time;

/// Bytes of an ATT MTU before any exchange, and the least that may be agreed on (Bluetooth Core Specification, Vol 3,
/// Part G, 5.2.1).
const DEFAULT_MTU: u16 = 23;

/// A central that is connected.
#[derive(Debug)]
pub(super) struct Connection {
    mtu: u16,
    /// It wants notifications.
    subscribed: bool,
    /// Nothing that it sends arrives any more.
    stalled: bool,
}

impl Device {
    /// Whether the device is a BLE peripheral.
    pub(super) fn is_ble(&self) -> bool {
        self.spec.transport == SimTransport::Ble
    }

    /// Whether a central is connected.
    #[must_use]
    pub fn is_connected(&self) -> bool {
        self.connection.is_some()
    }

    /// What the device advertises now; `None` while it is connected, or nobody is there to advertise.
    #[must_use]
    pub fn advertisement(&self) -> Option<Advertisement> {
        let speaks = self.is_ble() && self.is_present() && self.connection.is_none();
        speaks.then(|| Advertisement::new(&self.spec, self.index, self.boots, self.power == Power::Running))
    }

    /// The device's address now.
    #[must_use]
    pub fn ble_address(&self) -> String {
        self.spec.ble.address_of(self.index, self.spec.count, self.boots)
    }

    /// A central connects; gives the session, which lasts as long as the connection. `None` where the device does not
    /// advertise.
    pub fn central_connects(&mut self, now: Time) -> Option<u64> {
        self.advance(now);
        self.advertisement()?;
        self.connection = Some(Connection { mtu: DEFAULT_MTU, subscribed: false, stalled: false });
        Some(self.session)
    }

    /// The central asks for this MTU; gives what is agreed on.
    pub fn central_exchanges_mtu(&mut self, now: Time, mtu: u16) -> u16 {
        self.advance(now);
        let mtu = mtu.clamp(DEFAULT_MTU, self.spec.ble.mtu.max(DEFAULT_MTU));
        if let Some(connection) = &mut self.connection {
            connection.mtu = mtu;
        }
        mtu
    }

    /// The central wants notifications, or no more of them. Gives whether the device got to know.
    pub fn central_subscribes(&mut self, now: Time, on: bool) -> bool {
        self.advance(now);
        let Some(connection) = self.connection.as_mut().filter(|connection| !connection.stalled) else {
            return false;
        };
        connection.subscribed = on;
        if !on {
            self.assembly.clear();
        }
        true
    }

    /// The central writes a value to the characteristic, without a response.
    pub fn central_writes(&mut self, now: Time, value: &[u8]) {
        self.advance(now);
        let Some(connection) = &mut self.connection else { return };
        let written = self.outbox.next(value);
        let lost = self.fault.lose_write.iter().find(|lost| written.is_some_and(|written| written.is(lost)));
        connection.stalled |= lost.is_some_and(|lost| lost.and_all_after);
        if lost.is_none() && !connection.stalled {
            self.host_value(now, value);
        }
    }

    /// The central disconnects, or is out of reach.
    pub fn central_leaves(&mut self, now: Time) {
        self.advance(now);
        self.lose_connection();
    }

    /// The connection is over: what has not been handled is dropped, and what is being handled is answered to nobody.
    pub(super) fn lose_connection(&mut self) {
        if self.connection.take().is_some() {
            self.session += 1;
            self.assembly.clear();
            self.outbox.leave();
            self.queue.clear();
            self.incoming.clear();
            self.outputs.clear();
        }
    }

    /// A write has arrived.
    pub(super) fn value_arrived(&mut self, value: Vec<u8>) {
        let buf_size = self.spec.buf_size as usize;
        let collected = if self.spec.ble.reassembly {
            let free = self.in_flight() < self.spec.buf_count as usize;
            self.assembly.collect(&value, buf_size, free)
        } else {
            Assembly::whole(value, buf_size)
        };
        if let Collected::Message(message) = collected {
            self.message_arrived(message);
        }
    }

    /// Cuts a message into notifications; none where nobody wants them (Zephyr `CONFIG_BT_GATT_ENFORCE_SUBSCRIPTION`).
    pub(super) fn notifications(&self, message: &[u8]) -> Vec<Vec<u8>> {
        match &self.connection {
            Some(Connection { mtu, subscribed: true, .. }) => {
                message.chunks(usize::from(mtu - ATT_OVERHEAD)).map(<[u8]>::to_vec).collect()
            }
            _ => Vec::new(),
        }
    }
}
