//! flashfleet against real SMP servers: MCUboot boards under QEMU, Zephyr programs behind terminals and UDP.

mod console;
mod error;
mod fixtures;
mod gdb;
mod images;
mod leash;
mod native;
mod proxy;
mod qemu;
mod qmp;
mod readback;
mod record;
mod rig_tests;
mod terminal;
mod uart;
mod wire;
