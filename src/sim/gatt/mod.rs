//! Simulated devices as BLE peripherals: the SMP service behind its GATT characteristic.

mod assembly;
mod central;
mod protocol;
mod radio;
mod spec;

pub(super) use assembly::{Assembly, Collected};
pub use central::Central;
pub use protocol::{Advertisement, FromRadio, ToRadio};
pub(super) use radio::serve;
pub use spec::{BlePermission, BleService, BleSpec};
