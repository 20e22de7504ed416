//! The command line: arguments, and one file per command.

mod args;
mod diagnose;
mod logging;
pub mod run;

pub use crate::exit::Exit;
pub use args::{Cli, Command, main};
