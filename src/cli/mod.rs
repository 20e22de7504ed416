//! The command line: arguments, and one file per command.

mod args;
mod image;

pub use crate::exit::Exit;
pub use args::{Cli, Command, main};
pub use image::ImageArgs;
