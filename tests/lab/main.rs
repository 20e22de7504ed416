//! flashfleet on the real Linux stacks, without hardware: Debian's stock kernel under QEMU, whose USB serial ports and
//! Bluetooth adapters lead to simulated devices in this process, or to real MCUboot boards under QEMU.
//!
//! `cargo test --test lab` builds the guest's image out of Debian's packages into `.cache/` and runs every scenario in
//! one guest, one at a time; each also runs alone, by its name. It takes root, Python 3 with venv, and the packages that
//! it names where they are missing. `-- --show-output` prints the tables of ports and costs.
//!
//! flashfleet runs in the guest as its users run it. Its verdicts are held against the devices' own state out here and
//! the guest's sysfs.

#![expect(clippy::unwrap_used, reason = "a broken rig ends the test that needed it")]
#![expect(
    clippy::print_stdout,
    reason = "what the guest says is shown where a scenario fails, or is asked for"
)]

mod agent;
mod bench;
mod ble_air;
mod ble_fleet;
mod ble_trouble;
#[path = "../rig/error.rs"]
mod error;
#[expect(dead_code, reason = "the tests of real servers use the rest")]
#[path = "../rig/fixtures.rs"]
mod fixtures;
#[path = "../rig/gdb.rs"]
mod gdb;
mod image;
#[expect(dead_code, reason = "the tests of real servers use the rest")]
#[path = "../rig/images.rs"]
mod images;
mod lab_tests;
#[path = "../rig/leash.rs"]
mod leash;
#[expect(dead_code, reason = "the tests of real servers use the rest")]
#[path = "../rig/qemu.rs"]
mod qemu;
#[path = "../rig/qmp.rs"]
mod qmp;
#[expect(dead_code, reason = "the tests of real servers use the rest")]
#[path = "../rig/readback.rs"]
mod readback;
#[expect(dead_code, reason = "the tests of real servers use the rest")]
#[path = "../rig/report.rs"]
mod report;
mod station;
mod truth;
#[expect(dead_code, reason = "the tests of real servers use the rest")]
#[path = "../rig/uart.rs"]
mod uart;
mod usb_boards;
mod usb_fleet;
mod usb_ports;
mod usb_sim;
mod usb_trouble;
mod vm;
