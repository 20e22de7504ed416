//! The argument tree, and from arguments to commands. What a command does lives in its own file.

use std::process::ExitCode;

use clap::{Parser, Subcommand};

use super::Exit;

/// Updates the firmware of many devices at once over SMP, and proves that it booted.
#[derive(Debug, Parser)]
#[command(name = "flashfleet", version, about, propagate_version = true)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// Every command. Each variant's arguments and behaviour live in `src/cli/NAME.rs`.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Show image files and check them.
    Image(super::image::ImageArgs),
}

/// The whole program: parses the arguments, runs the command, gives the exit code.
#[must_use]
pub fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            let exit = if error.use_stderr() { Exit::Usage } else { Exit::Passed };
            // Nothing can be done where the terminal is gone.
            let _ = error.print();
            return exit.into();
        }
    };
    let (mut out, mut err) = (std::io::stdout(), std::io::stderr());
    match cli.command {
        Command::Image(args) => super::image::run(&args, &mut out, &mut err),
    }
    .into()
}
