//! `flashfleet completions SHELL`: what a shell needs to complete commands and options, on standard output.

use std::io::Write;

use clap::{Args, CommandFactory as _};
use clap_complete::Shell;

use super::args::Cli;
use super::output::print;
use crate::exit::Exit;

/// Print completions for a shell.
///
/// For example `flashfleet completions bash > ~/.local/share/bash-completion/completions/flashfleet`.
#[derive(Debug, Args)]
pub struct CompletionsArgs {
    /// Which shell.
    #[arg(value_enum)]
    shell: Shell,
}

/// Runs the command.
pub fn run(args: &CompletionsArgs, out: &mut dyn Write, err: &mut dyn Write) -> Exit {
    let mut command = Cli::command();
    let name = command.get_name().to_owned();
    // Into memory first: the crate panics where it cannot write.
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut command, name, &mut script);
    print(out, err, &script, Exit::Passed)
}
