//! The summary for people: totals, one line with cause and help per device that did not pass, rates. Bounded: equal
//! causes are told once, long lists are cut.

use std::collections::HashMap;
use std::fmt::Write as _;

use super::diagnosis;
use super::display::verdict_style;
use super::event::{Outcome, Verdict};
use super::model::{DeviceReport, ON_TEST, Report, Summary};
use super::text;
use crate::cause::Cause;

/// Most causes that are told.
const MAX_CAUSES: usize = 20;

/// Most devices that are named where several share a cause, or are on test.
const MAX_NAMES: usize = 8;

/// Most notes that are told.
const MAX_NOTES: usize = 5;

/// How the summary looks.
#[derive(Debug, Clone, Copy, Default)]
pub struct SummaryStyle {
    /// Whether verdicts are coloured.
    pub colours: bool,
}

/// The summary of a report, some lines with a newline at the end.
#[must_use]
pub fn summary(report: &Report, style: SummaryStyle) -> String {
    let mut lines = vec![headline(report)];
    for unmet in &report.targets_unmet {
        lines.push(format!(
            "  target {}: expected {}, found {}: {}",
            text::printable(&unmet.target),
            unmet.expected,
            unmet.found,
            text::printable(&unmet.cause.to_string())
        ));
        lines.push(help(&unmet.cause));
    }
    causes(report, style, &mut lines);
    let on_test: Vec<&DeviceReport> = report.devices.iter().filter(|device| device.on_test).collect();
    if !on_test.is_empty() {
        lines.push(format!("  {ON_TEST}: {}", names(&on_test)));
    }
    lines.extend(rates(report));
    lines.extend(diagnosis::lines(report));
    for note in report.notes.iter().take(MAX_NOTES) {
        let device = note.device.as_ref().map_or_else(String::new, |device| format!("{device}: "));
        lines.push(text::printable(&format!("  note: {device}{} [{}]", note.message, note.code)));
    }
    if report.notes.len() > MAX_NOTES {
        lines.push(format!(
            "  … and {} more in the report",
            text::count(report.notes.len() - MAX_NOTES, "note")
        ));
    }
    if let Some(cause) = &report.run.cause {
        lines.push(text::printable(&format!("{}: {cause}", report.run.outcome)));
        lines.push(help(cause));
    }
    lines.iter().fold(String::new(), |mut all, line| {
        let _ = writeln!(all, "{line}");
        all
    })
}

/// `line: 24 devices in 2 min 10 s: 21 passed (3 already current), 2 failed, 1 error; interrupted`.
fn headline(report: &Report) -> String {
    let Summary {
        devices, passed, failed, error, timed_out, aborted, already_current, on_test, carried, ..
    } = report.summary;
    let plan = report.run.plan.as_deref().unwrap_or("unknown plan");
    let mut line = format!("{}: {}", text::printable(plan), text::count(devices, "device"));
    if let Some(duration) = report.run.duration_s {
        let _ = write!(line, " in {}", text::seconds(duration));
    }
    let mut remarks = Vec::new();
    if already_current > 0 {
        remarks.push(format!("{already_current} already current"));
    }
    if on_test > 0 {
        remarks.push(format!("{on_test} on test"));
    }
    let remarks = if remarks.is_empty() { String::new() } else { format!(" ({})", remarks.join(", ")) };
    let mut parts = vec![format!("{passed} passed{remarks}")];
    let others = [(failed, "failed"), (error, "error"), (timed_out, "timed out"), (aborted, "aborted")];
    parts
        .extend(others.iter().filter(|(count, _)| *count > 0).map(|(count, name)| format!("{count} {name}")));
    let _ = write!(line, ": {}", parts.join(", "));
    if carried > 0 {
        let _ = write!(line, " ({carried} in the earlier run, and not there any more)");
    }
    // That devices passed or did not was just said.
    if !matches!(report.run.outcome, Outcome::Passed | Outcome::NotPassed) {
        let _ = write!(line, "; {}", report.run.outcome);
    }
    line
}

/// Devices that did not pass, those of one cause together.
fn causes(report: &Report, style: SummaryStyle, lines: &mut Vec<String>) {
    let mut groups: Vec<Vec<&DeviceReport>> = Vec::new();
    let mut index: HashMap<(Verdict, Option<&str>, Option<&str>), usize> = HashMap::new();
    for device in report.devices.iter().filter(|device| device.verdict != Verdict::Passed) {
        let step = device.failed_step().map(|step| step.name.as_str());
        let code = device.cause.as_ref().map(|cause| cause.code.as_ref());
        let at = *index.entry((device.verdict, step, code)).or_insert_with(|| {
            groups.push(Vec::new());
            groups.len() - 1
        });
        if let Some(group) = groups.get_mut(at) {
            group.push(device);
        }
    }
    for group in groups.iter().take(MAX_CAUSES) {
        tell_group(group, style, lines);
    }
    let left: usize = groups.iter().skip(MAX_CAUSES).map(Vec::len).sum();
    if left > 0 {
        lines.push(format!("  … and {} with other causes: see the report", text::count(left, "more device")));
    }
}

fn tell_group(group: &[&DeviceReport], style: SummaryStyle, lines: &mut Vec<String>) {
    let Some(first) = group.first() else { return };
    let verdict = verdict_style(first.verdict, style.colours).apply_to(first.verdict);
    let step =
        first.failed_step().map_or_else(String::new, |step| format!(", {}", text::printable(&step.name)));
    let cause = first.cause.as_ref();
    let message =
        cause.map_or_else(|| "no cause is known".to_owned(), |cause| text::printable(&cause.to_string()));
    if group.len() == 1 {
        lines.push(format!("  {verdict} {}{step}: {message}", names(group)));
    } else {
        lines.push(format!("  {verdict} {}{step}: {message}", text::count(group.len(), "device")));
        lines.push(format!("    {}", names(group)));
    }
    lines.extend(cause.map(help));
}

fn help(cause: &Cause) -> String {
    format!("    help: {}", text::printable(&cause.help))
}

fn names(devices: &[&DeviceReport]) -> String {
    let mut names: Vec<String> =
        devices.iter().take(MAX_NAMES).map(|device| text::printable(&device.title())).collect();
    if devices.len() > MAX_NAMES {
        names.push(format!("… and {} more", devices.len() - MAX_NAMES));
    }
    names.join(", ")
}

/// `4.92 MB sent, 88.10 kB/s over all devices, 3.20 kB/s to 4.10 kB/s each`.
fn rates(report: &Report) -> Option<String> {
    let rate = report.summary.bytes_per_s?;
    let mut line =
        format!("  {} sent, {} over all devices", text::bytes(report.summary.bytes), text::rate(rate));
    let each: Vec<f64> = report.devices.iter().filter_map(DeviceReport::bytes_per_s).collect();
    if each.len() > 1 {
        let slowest = each.iter().copied().fold(f64::INFINITY, f64::min);
        let fastest = each.iter().copied().fold(0.0, f64::max);
        let _ = write!(line, ", {} to {} each", text::rate(slowest), text::rate(fastest));
    }
    Some(line)
}
