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
    /// Rebuild reports from event logs and JSON reports, and merge several.
    Report(super::report::ReportArgs),
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
    // Not locked: what runs meanwhile writes to them too.
    let (mut out, mut err) = (std::io::stdout(), std::io::stderr());
    let exit = match cli.command {
        Command::Report(args) => super::report::run(args, &mut out, &mut err),
    };
    exit.into()
}
