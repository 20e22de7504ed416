//! `flashfleet schema plan|report|events`: the JSON Schema of a format, on standard output.

use std::io::Write;

use clap::{Args, ValueEnum};

use super::output::print_json;
use crate::exit::Exit;

/// Print the JSON Schema of a format.
#[derive(Debug, Args)]
pub struct SchemaArgs {
    /// Which format.
    pub format: Format,
}

/// A format that has a schema.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// The plan file.
    Plan,
    /// The JSON report (`flashfleet.report/1`).
    Report,
    /// One line of the event log (`flashfleet.events/1`).
    Events,
}

/// Runs the command.
pub fn run(args: &SchemaArgs, out: &mut dyn Write, err: &mut dyn Write) -> Exit {
    let schema = match args.format {
        Format::Plan => crate::plan::schema(),
        Format::Report => crate::report::report_schema(),
        Format::Events => crate::report::events_schema(),
    };
    print_json(out, err, &schema, Exit::Passed)
}
