//! Whole runs against simulated devices in virtual time: scheduler, reporter and device actors as they are, every verdict
//! held against what is true of the device.

mod adapters;
mod ble;
mod ble_pieces;
mod bus;
mod device_steps;
mod diagnosis;
mod framing;
mod happy;
mod interrupts;
mod line;
mod links;
mod modes;
#[path = "../common/package.rs"]
mod package;
mod packages;
mod phases;
mod policy;
mod recovery;
mod resume;
mod tap;
mod trouble;
mod usb;
mod usb_trouble;
mod verdicts;
