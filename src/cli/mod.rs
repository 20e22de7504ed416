//! The command line: arguments, and one file per command.

mod args;
pub mod report;

pub use crate::exit::Exit;
pub use args::{Cli, Command, main};
