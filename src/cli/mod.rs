//! The command line: arguments, and one file per command.

mod args;

pub use args::{Cli, Command, main};
pub use crate::exit::Exit;
