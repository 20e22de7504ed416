//! Reads what earlier runs left, event logs and JSON reports, back into reports.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::path::Path;

use super::aggregate::Aggregate;
use super::event::Event;
use super::log::{LogError, LogLine, LogReader};
use super::model::{REPORT_SCHEMA, Report};
use crate::cause::{Cause, Class};

/// So many bytes at the begin decide what an input is.
pub(super) const LOOK: usize = 16 * 1024;

/// Largest JSON report that is read, in bytes.
const MAX_REPORT: u64 = 512 * 1024 * 1024;

/// Reads an event log or a JSON report; `-` is standard input.
///
/// # Errors
/// `plan.input_unreadable` where there is no such file or it is neither, and `plan.input_format` where its format is
/// another version, both with file and line.
pub fn read_report(path: &Path) -> Result<Report, Cause> {
    if path == Path::new("-") {
        return read_report_from(io::stdin().lock(), "standard input");
    }
    let name = path.display().to_string();
    let file = File::open(path).map_err(|error| unreadable(format!("{name}: {error}")))?;
    read_report_from(file, &name)
}

/// As [`read_report`], from anything; `name` is what messages call it.
///
/// # Errors
/// As [`read_report`].
pub fn read_report_from(input: impl Read, name: &str) -> Result<Report, Cause> {
    let mut input = BufReader::with_capacity(LOOK, input);
    let start = input.fill_buf().map_err(|error| unreadable(format!("{name}: {error}")))?;
    if is_report(start) { read_json(input, name) } else { read_log(input, name, &mut drop) }
}

/// Whether it begins like a JSON report rather than like a line of an event log: the first thing that it says is its
/// schema, or its first line is no object by itself.
pub(super) fn is_report(start: &[u8]) -> bool {
    let text = String::from_utf8_lossy(start);
    let text = text.trim_start();
    let Some(rest) = text.strip_prefix('{') else { return false };
    rest.trim_start().starts_with("\"schema\"")
        || rest.lines().next().is_some_and(|rest| rest.trim().is_empty())
}

fn read_json(input: impl Read, name: &str) -> Result<Report, Cause> {
    // From memory, as only then the parser tells places exactly.
    let mut text = Vec::new();
    input
        .take(MAX_REPORT + 1)
        .read_to_end(&mut text)
        .map_err(|error| unreadable(format!("{name}: {error}")))?;
    if text.len() as u64 > MAX_REPORT {
        return Err(unreadable(format!(
            "{name}: expected a report of at most {MAX_REPORT} bytes, it is longer"
        )));
    }
    let report: Report = serde_json::from_slice(&text).map_err(|error| {
        let place = format!("{name}:{}:{}", error.line(), error.column());
        unreadable(format!(
            "{place}: expected a report in the format '{REPORT_SCHEMA}': {}",
            without_place(&error)
        ))
    })?;
    if report.schema != REPORT_SCHEMA {
        return Err(format_error(format!(
            "{name}: expected '{REPORT_SCHEMA}', the report says '{}'",
            report.schema
        )));
    }
    Ok(report)
}

/// What a JSON parser said, without the place, which stands before it already.
fn without_place(error: &serde_json::Error) -> String {
    let text = error.to_string();
    text.split_once(" at line ").map_or(text.as_str(), |(said, _)| said).to_owned()
}

/// Folds a log into its report, and hands on every event.
pub(super) fn read_log(
    input: impl BufRead,
    name: &str,
    hand_on: &mut dyn FnMut(Event),
) -> Result<Report, Cause> {
    let mut aggregate = Aggregate::new();
    let mut first_defect = None;
    for line in LogReader::new(input) {
        match line {
            Ok(LogLine::Event(event)) => {
                aggregate.apply(&event);
                hand_on(*event);
            }
            Ok(LogLine::Defect { code, message }) => {
                first_defect.get_or_insert_with(|| message.clone());
                aggregate.damage(code, message);
            }
            Err(error @ LogError::Schema { .. }) => return Err(format_error(format!("{name}: {error}"))),
            Err(error @ LogError::Io { .. }) => return Err(unreadable(format!("{name}: {error}"))),
        }
    }
    if aggregate.is_empty() {
        let found = first_defect.unwrap_or_else(|| "line 1: it is empty".to_owned());
        return Err(unreadable(format!("{name}: expected an event log or a JSON report: {found}")));
    }
    Ok(aggregate.report())
}

pub(super) fn unreadable(message: String) -> Cause {
    let help = "name an event log (--journal, --events) or a JSON report (--json) of an earlier run";
    Cause::new(Class::Plan, "plan.input_unreadable", message, help)
}

fn format_error(message: String) -> Cause {
    Cause::new(
        Class::Plan,
        "plan.input_format",
        message,
        "read it with the version of flashfleet that wrote it",
    )
}
