//! Simulated devices that behave as the real servers do.

mod bare;
mod by_version;
mod content;
mod device;
mod endpoint;
mod fault;
mod firmware;
mod flash;
mod fleet;
mod gatt;
mod groups;
mod mcuboot;
mod memory;
mod next_boot;
#[cfg(unix)]
mod pty;
mod recovery;
mod server;
mod spec;
mod tcp;
mod uart;
mod udp;
mod usbip;

pub use device::{Device, Power};
pub use endpoint::{Endpoint, EndpointKind};
pub use fault::{FaultSpec, LostWrite, NthAnswer, Refusal};
pub use firmware::{Behaviour, ImageHash, Version};
pub use fleet::{DeviceHandle, Fleet, Running, SlotTruth};
pub use gatt::{Advertisement, Air, BlePermission, BleService, BleSpec, FromRadio, GattClient, ToRadio};
pub use recovery::RecoverySpec;
pub use server::SeenRequest;
pub use spec::{BootMode, OnCrash, SimFraming, SimSpec, SimTransport, SpecError};
pub use usbip::{
    AttachEvent, Attacher, BoardState, BootloaderSpec, OtherFunctions, USBIP_PORT, UpdatedSpec, UsbBus,
    UsbId, UsbKind, UsbSpec, UsbSpeed, Vhci,
};
