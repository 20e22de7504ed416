//! `flashfleet report`: reports of runs that are over, from what they left.

use std::io::Write;
use std::path::PathBuf;

use crate::cause::Cause;
use crate::exit::Exit;
use crate::report::{self, Destination, OutputPaths, SummaryStyle};

use super::diagnose::say;

/// Rebuilds reports from event logs and JSON reports, and merges several.
///
/// Prints the summary on standard error where no other output is asked for. The exit code is that of the run: where
/// several are merged, the first of 1, 130, 102, 103, 4, 100 that holds for any. An event log that ends before its run
/// did gives 130, and its devices without a verdict are `aborted`. An input that cannot be read gives 2, an output that
/// cannot be written 102.
#[derive(Debug, clap::Args)]
pub struct ReportArgs {
    /// Event logs (journals) or JSON reports; `-` is standard input.
    #[arg(required = true, value_name = "FILE")]
    pub inputs: Vec<PathBuf>,
    /// Write the JSON report; `-` is standard output.
    #[arg(long, value_name = "FILE")]
    pub json: Option<Destination>,
    /// Write JUnit XML; `-` is standard output.
    #[arg(long, value_name = "FILE")]
    pub junit: Option<Destination>,
    /// Write one HTML page; `-` is standard output.
    #[arg(long, value_name = "FILE")]
    pub html: Option<Destination>,
}

/// Runs the command.
pub fn run(args: &ReportArgs, out: &mut dyn Write, err: &mut dyn Write) -> Exit {
    match try_run(args, out, err) {
        Ok(exit) => exit,
        Err(cause) => {
            say(err, &cause);
            Exit::of_cause(&cause)
        }
    }
}

fn try_run(args: &ReportArgs, out: &mut dyn Write, err: &mut dyn Write) -> Result<Exit, Cause> {
    let ReportArgs { inputs, json, junit, html } = args;
    let (json, junit, html) = (json.clone(), junit.clone(), html.clone());
    let wants_files = json.is_some() || junit.is_some() || html.is_some();
    let reports = inputs.iter().map(|path| report::read_report(path)).collect::<Result<Vec<_>, _>>()?;
    let Some(report) = report::merge(reports) else { return Ok(Exit::Usage) };
    let (json, junit, html) = (json.clone(), junit.clone(), html.clone());
    let paths = OutputPaths { json, junit, html, ..OutputPaths::default() };
    let outputs = report::prepare_outputs(&paths)?;
    let troubles = outputs.write_reports(&report, out);
    for trouble in &troubles {
        say(err, trouble);
    }
    if !wants_files {
        let style = SummaryStyle { colours: console::colors_enabled_stderr() };
        // A terminal that is gone does not change the outcome.
        let _ = err.write_all(report::summary(&report, style).as_bytes());
    }
    let trouble = if troubles.is_empty() { report::Outcome::Passed } else { report::Outcome::Station };
    Ok(Exit::from(report.run.outcome.worst(trouble)))
}
