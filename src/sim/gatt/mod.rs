//! Simulated devices as BLE peripherals: the SMP service behind its GATT characteristic.

mod air;
mod assembly;
mod client;
mod connector;
mod outbox;
mod protocol;
mod radio;
mod spec;

pub use air::Air;
pub(super) use assembly::{Assembly, Collected};
pub use client::GattClient;
pub(super) use connector::{AirConnector, hub};
pub(super) use outbox::Outbox;
pub use protocol::{Advertisement, FromRadio, ToRadio};
pub(super) use radio::serve;
pub(super) use spec::ATT_OVERHEAD;
pub use spec::{BlePermission, BleService, BleSpec};
