//! The command line: arguments, and one file per command.

mod args;
pub mod check;
pub mod completions;
mod diagnose;
pub mod image;
mod link;
pub mod list;
mod list_ble;
mod logging;
pub mod man;
mod output;
pub mod report;
mod resume;
pub mod run;
pub mod schema;
mod signals;
pub mod sim;
mod sim_usbip;
pub mod smp;
mod stdin;
pub mod update;

pub use crate::exit::Exit;
pub use args::{Cli, Command, main};
