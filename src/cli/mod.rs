//! The command line: arguments, and one file per command.

mod args;
mod exit;

pub use args::{Cli, Command, main};
pub use exit::Exit;
