//! The command line: arguments, and one file per command.

mod args;

pub use crate::exit::Exit;
pub use args::{Cli, Command, main};
