//! The argument tree, and from arguments to commands. What a command does lives in its own file.

use std::io::Write;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

use super::{Exit, check, completions, image, list, man, report, run, schema, sim, smp, update};

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
    /// Match devices, flash them concurrently, report.
    Run(run::RunArgs),
    /// Update one device without a plan.
    #[command(alias = "upgrade")]
    Update(update::UpdateArgs),
    /// Check a plan and its images; touch no device.
    Check(check::CheckArgs),
    /// List every device in reach, and which target of a plan each one matches.
    List(list::ListArgs),
    /// Show image files and check them.
    Image(image::ImageArgs),
    /// Send one SMP command to one device.
    Smp(smp::SmpArgs),
    /// Run simulated devices behind real endpoints until interrupted.
    Sim(sim::SimArgs),
    /// Rebuild reports from event logs or reports.
    Report(report::ReportArgs),
    /// Print a JSON Schema: of plans, reports or events.
    Schema(schema::SchemaArgs),
    /// Print completions for a shell.
    Completions(completions::CompletionsArgs),
    /// Print the manual page, of the program or of one command.
    Man(man::ManArgs),
}

impl Command {
    fn execute(&self, out: &mut dyn Write, err: &mut dyn Write) -> Exit {
        match self {
            Self::Run(args) => run::run(args, out, err),
            Self::Update(args) => update::run(args, err),
            Self::Check(args) => check::run(args, out, err),
            Self::List(args) => list::run(args, out, err),
            Self::Image(args) => image::run(args, out, err),
            Self::Smp(args) => smp::run(args, out, err),
            Self::Sim(args) => sim::run(args, out, err),
            Self::Report(args) => report::run(args, out, err),
            Self::Schema(args) => schema::run(args, out, err),
            Self::Completions(args) => completions::run(args, out, err),
            Self::Man(args) => man::run(args, out, err),
        }
    }
}

/// The whole program: parses the arguments, runs the command, gives the exit code. A panic is exit code 1.
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
    let work = || cli.command.execute(&mut std::io::stdout(), &mut std::io::stderr());
    std::panic::catch_unwind(std::panic::AssertUnwindSafe(work)).unwrap_or(Exit::Internal).into()
}
