//! Simulated devices that behave as the real servers do.

mod device;
mod fault;
mod firmware;
mod flash;
mod fleet;
mod groups;
mod mcuboot;
mod memory;
mod server;
mod spec;
mod uart;

pub use device::{Device, Power};
pub use fault::{FaultSpec, NthAnswer, Refusal};
pub use firmware::{Behaviour, Version};
pub use fleet::{DeviceHandle, Fleet, Running, SlotTruth};
pub use server::SeenRequest;
pub use spec::{BootMode, OnCrash, SimSpec, SimTransport, SpecError};
