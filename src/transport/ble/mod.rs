//! SMP over Bluetooth Low Energy. The radio of this machine stands behind the traits in `central`; everything above them
//! is tested without one.

mod central;
mod connector;
mod discover;
mod errors;
mod hub;
mod link;
mod locate;
mod matching;
mod reassembly;
mod system;
mod system_errors;

pub use central::{
    Adapter, Advertisement, Central, Characteristic, Gatt, Peripheral, PeripheralEvent, SMP_CHARACTERISTIC,
    SMP_SERVICE, Service,
};
pub use connector::BleConnector;
pub(super) use discover::{candidates, find};
pub use errors::{
    adapter_off, disconnected, hung, no_adapter, no_daemon, no_such_peripheral, not_paired, not_smp,
    service_hangs,
};
pub use hub::{BleHub, Sighting};
pub use matching::{BleMatch, matches_ble};
pub use system::SystemCentral;
