//! flashfleet against real SMP servers: MCUboot boards under QEMU, Zephyr programs behind terminals and UDP.
//!
//! `cargo test --test interop` fetches what it needs into `.cache/` and runs them. It takes root (network
//! namespaces), Python 3 with venv, qemu-system-arm, iproute2 and libc6:i386; what is missing is told by name.
//! `cargo test --test interop -- --ignored record` writes `tests/data/transcripts/` again.
//!
//! `fleet_*.rs` hold the tests of flashfleet: its program is run as its users run it, and what the devices then hold is
//! read back by smpclient. The rig, which is all the rest, uses nothing of flashfleet, so that it can judge it.

#![expect(clippy::unwrap_used, reason = "a broken rig ends the test that needed it")]

mod console;
mod error;
mod fixtures;
mod fleet_boards;
mod fleet_losses;
mod fleet_native;
mod fleet_reverts;
mod fleet_run;
mod fleet_slots;
mod fleet_trace;
mod fleet_window;
mod gdb;
mod images;
mod leash;
mod native;
mod proxy;
mod qemu;
mod qmp;
mod readback;
mod record;
mod record_board;
mod rig_tests;
mod terminal;
mod uart;
mod wire;
