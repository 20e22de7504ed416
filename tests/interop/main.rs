//! flashfleet against real SMP servers: MCUboot boards under QEMU, Zephyr programs behind terminals and UDP.
//!
//! `cargo test --test interop` fetches what it needs into `.cache/` and runs them. It takes root (network
//! namespaces), Python 3 with venv, qemu-system-arm, iproute2 and libc6:i386; what is missing is told by name.
//! `cargo test --test interop -- --ignored record` writes `tests/data/transcripts/` again.
//!
//! `fleet_*.rs` hold the tests of flashfleet: its program is run as its users run it, and what the devices then hold is
//! read back by smpclient. The rig, which is all the rest, uses nothing of flashfleet, so that it can judge it. What it
//! shares with `tests/lab/` is in `tests/rig/`.

#![expect(clippy::unwrap_used, reason = "a broken rig ends the test that needed it")]

mod bridge;
mod console;
mod device_steps;
#[path = "../rig/error.rs"]
mod error;
#[path = "../rig/fixtures.rs"]
mod fixtures;
mod fleet_boards;
mod fleet_losses;
mod fleet_native;
mod fleet_packages;
mod fleet_ram_load;
mod fleet_recovery;
mod fleet_reverts;
mod fleet_run;
mod fleet_slots;
mod fleet_trace;
mod fleet_window;
#[path = "../rig/gdb.rs"]
mod gdb;
mod image_reading;
#[path = "../rig/images.rs"]
mod images;
mod imgtool;
#[expect(dead_code, reason = "the lab uses the rest")]
#[path = "../rig/leash.rs"]
mod leash;
mod native;
mod proxy;
#[path = "../rig/qemu.rs"]
mod qemu;
#[path = "../rig/qmp.rs"]
mod qmp;
#[path = "../rig/readback.rs"]
mod readback;
mod real_files;
mod real_framing;
mod real_images;
mod real_options;
mod real_servers;
mod record;
mod record_board;
mod record_groups;
mod record_mps2;
#[path = "../rig/report.rs"]
mod report;
mod rig_mps2;
mod rig_tests;
mod smp_program;
mod survey;
#[path = "../rig/terminal.rs"]
mod terminal;
#[expect(dead_code, reason = "benches use the rest")]
#[path = "../rig/uart.rs"]
mod uart;
mod wire;
