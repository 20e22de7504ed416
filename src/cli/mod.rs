//! The command line: arguments, and one file per command.

mod args;
pub mod check;
mod diagnose;
pub mod image;
pub mod list;
mod list_ble;
mod logging;
mod output;
pub mod report;
pub mod run;
pub mod schema;
mod signals;
pub mod sim;
mod sim_usbip;
pub mod smp;

pub use crate::exit::Exit;
pub use args::{Cli, Command, main};
