//! What flashfleet needs of a machine's Bluetooth, as traits: the real one and the simulated ones stand behind them. No
//! behaviour lives here: time limits, retries and turns are the business of those who call.

use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use tokio::sync::mpsc;
use uuid::Uuid;

use super::super::link::LinkError;

/// The SMP service (Zephyr `smp_transport.rst`, "BLE").
pub const SMP_SERVICE: Uuid = Uuid::from_u128(0x8d53_dc1d_1db7_4cd3_868b_8a52_7460_aa84);
/// Its one characteristic: written with requests, notifies answers (Zephyr `smp_transport.rst`, "BLE").
pub const SMP_CHARACTERISTIC: Uuid = Uuid::from_u128(0xda2e_7828_fbce_4e01_ae9e_2611_7499_7c48);

/// The Bluetooth of one machine.
#[async_trait]
pub trait Central: Send + Sync + fmt::Debug {
    /// Every adapter that is there now; none is no error.
    ///
    /// # Errors
    /// Where the system has no Bluetooth service to ask: [`no_daemon`](super::no_daemon).
    async fn adapters(&self) -> Result<Vec<Arc<dyn Adapter>>, LinkError>;
}

/// One adapter.
#[async_trait]
pub trait Adapter: Send + Sync + fmt::Debug {
    /// What the system calls it, for example `hci0`. Tells adapters apart.
    fn name(&self) -> &str;

    /// Whether it is switched on.
    ///
    /// # Errors
    /// Where the system does not say.
    async fn is_powered(&self) -> Result<bool, LinkError>;

    /// Starts to scan for everything that advertises.
    ///
    /// # Errors
    /// Where the adapter does not scan, for example [`adapter_off`](super::adapter_off).
    async fn start_scan(&self) -> Result<(), LinkError>;

    /// Ends the scan; no error where none is under way.
    ///
    /// # Errors
    /// Where the adapter is in trouble.
    async fn stop_scan(&self) -> Result<(), LinkError>;

    /// Everything that has been heard since the scan began, and what is connected to this adapter. What the system only
    /// remembers does not count.
    ///
    /// # Errors
    /// Where the adapter is in trouble.
    async fn heard(&self) -> Result<Vec<Advertisement>, LinkError>;

    /// The peripheral with this address, as [`Self::heard`] gives it. Nothing goes over the air.
    ///
    /// # Errors
    /// [`no_such_peripheral`](super::no_such_peripheral) where the system does not know it (any more).
    async fn peripheral(&self, address: &str) -> Result<Arc<dyn Peripheral>, LinkError>;
}

/// One peripheral in reach.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Advertisement {
    /// Its address in capitals, `F0:F1:F2:F3:F4:F5`, or the UUID that some systems give instead.
    pub address: String,
    /// The name that it advertises.
    pub name: Option<String>,
    /// Signal strength, in dBm; `None` where it is connected and does not advertise.
    pub rssi: Option<i16>,
    /// It advertises the SMP service. One that does not may have it all the same.
    pub smp: bool,
}

/// One peripheral as one adapter reaches it. Every call may be given up (dropped) at any time.
#[async_trait]
pub trait Peripheral: Send + Sync + fmt::Debug {
    /// Connects.
    ///
    /// # Errors
    /// Where no connection comes about.
    async fn connect(&self) -> Result<(), LinkError>;

    /// Asks what it offers; connected peripherals only.
    ///
    /// # Errors
    /// Where it does not say, or the connection is lost.
    async fn discover(&self) -> Result<Gatt, LinkError>;

    /// Has the notifications of the SMP characteristic sent; after [`Self::discover`] only. The events end with
    /// [`PeripheralEvent::Disconnected`]. Whoever sends them keeps a bounded number and throws away what nobody takes.
    ///
    /// # Errors
    /// [`not_paired`](super::not_paired) where the peripheral wants a bond, or where the connection is lost.
    async fn subscribe(&self) -> Result<mpsc::Receiver<PeripheralEvent>, LinkError>;

    /// Has the notifications of a subscribed peripheral ended, and sent again: Zephyr's server drops a message of which
    /// only a part came when its last subscriber leaves (`smp_bt_ccc_changed` in `smp_bt.c`). Events go on as before.
    ///
    /// # Errors
    /// Where the peripheral does not take it, or the connection is lost.
    async fn resubscribe(&self) -> Result<(), LinkError>;

    /// Writes to the SMP characteristic, at most MTU − 3 bytes.
    ///
    /// # Errors
    /// Where the write could not be handed on.
    async fn write(&self, data: &[u8], with_response: bool) -> Result<(), LinkError>;

    /// Ends the connection, also one that is only coming about. Returns when it has ended; no error where there is none.
    ///
    /// # Errors
    /// Where the system does not let it go.
    async fn disconnect(&self) -> Result<(), LinkError>;
}

/// What a subscribed peripheral does.
#[derive(Debug, Clone)]
pub enum PeripheralEvent {
    /// One notification.
    Notified(Vec<u8>),
    /// The connection is gone, and why. The last event.
    Disconnected(LinkError),
}

/// What a connected peripheral offers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Gatt {
    /// Bytes of the largest ATT packet, 3 bytes of header included; known only after the discovery.
    pub mtu: u16,
    /// Every service.
    pub services: Vec<Service>,
}

/// One service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Service {
    /// What it is.
    pub uuid: Uuid,
    /// Its characteristics.
    pub characteristics: Vec<Characteristic>,
}

/// One characteristic.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Characteristic {
    /// What it is.
    pub uuid: Uuid,
    /// May be written without response.
    pub write_without_response: bool,
    /// May be written with response.
    pub write: bool,
    /// Sends notifications.
    pub notify: bool,
}

impl Gatt {
    /// What an SMP server offers at least, with this MTU. For simulated peripherals.
    #[must_use]
    pub fn smp(mtu: u16) -> Self {
        let characteristic = Characteristic {
            uuid: SMP_CHARACTERISTIC,
            write_without_response: true,
            write: false,
            notify: true,
        };
        Self { mtu, services: vec![Service { uuid: SMP_SERVICE, characteristics: vec![characteristic] }] }
    }
}
