//! `flashfleet man [COMMAND…]`: the manual page, on standard output, or every page into a folder.

use std::io::{self, Write};
use std::path::{Path, PathBuf};

use clap::{Args, Command, CommandFactory as _};
use clap_mangen::Man;

use super::args::Cli;
use super::diagnose::say;
use super::output::print;
use crate::cause::{Cause, Class};
use crate::exit::Exit;

/// Print the manual page, of the program or of one command.
///
/// For example `flashfleet man run | man -l -`.
#[derive(Debug, Args)]
pub struct ManArgs {
    /// The command, for example `run` or `smp image`; without it the program.
    #[arg(value_name = "COMMAND")]
    command: Vec<String>,
    /// Write every page into this folder instead, as `flashfleet-run.1`.
    #[arg(long, value_name = "DIR", conflicts_with = "command")]
    all: Option<PathBuf>,
}

/// Runs the command.
pub fn run(args: &ManArgs, out: &mut dyn Write, err: &mut dyn Write) -> Exit {
    let result = match &args.all {
        Some(folder) => write_all(folder).map(|()| Vec::new()),
        None => one_page(&args.command),
    };
    match result {
        Ok(page) => print(out, err, &page, Exit::Passed),
        Err(cause) => {
            say(err, &cause);
            Exit::of_cause(&cause)
        }
    }
}

/// Every command with its whole name, `flashfleet-smp-image`.
fn built() -> Command {
    let mut command = Cli::command().disable_help_subcommand(true);
    command.build();
    command
}

fn one_page(path: &[String]) -> Result<Vec<u8>, Cause> {
    let root = built();
    let mut command = &root;
    for name in path {
        command = command.find_subcommand(name).ok_or_else(|| {
            let known: Vec<&str> = command.get_subcommands().map(Command::get_name).collect();
            let help = match known.is_empty() {
                true => "it has no commands of its own".to_owned(),
                false => format!("there are: {}", known.join(", ")),
            };
            let message = format!("expected a command of {}, got {name:?}", command.get_name());
            Cause::new(Class::Plan, "cli.unknown_command", message, help)
        })?;
    }
    let mut page = Vec::new();
    let failed = |error: io::Error| {
        let message = format!("expected to make the manual page, but {error}");
        Cause::new(
            Class::Internal,
            "internal.man",
            message,
            "this is a defect of flashfleet: please report it",
        )
    };
    Man::new(command.clone()).render(&mut page).map_err(failed)?;
    Ok(page)
}

fn write_all(folder: &Path) -> Result<(), Cause> {
    let written = std::fs::create_dir_all(folder).and_then(|()| clap_mangen::generate_to(built(), folder));
    written.map_err(|error| {
        let message = format!("expected to write manual pages into {}, but {error}", folder.display());
        Cause::new(Class::Station, "station.cannot_write", message, "check the path, its rights and the disk")
    })
}
