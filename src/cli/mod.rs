//! The command line: arguments, and one file per command.

mod args;
mod diagnose;
pub mod image;
pub mod list;
mod logging;
pub mod report;
pub mod run;

pub use crate::exit::Exit;
pub use args::{Cli, Command, main};
