//! One HTML page from a report: self-contained, no scripts, nothing fetched. Layout only.

use std::fmt::Write as _;

use super::event::{UploadFigures, Verdict};
use super::model::{DeviceReport, ON_TEST, Report, StepReport};
use super::text;
use crate::cause::Cause;

/// Follows the reader's light or dark setting and prints well.
const STYLE: &str = "\
:root { color-scheme: light dark; }
body { font: 15px/1.45 system-ui, sans-serif; margin: 2rem auto; max-width: 75rem; padding: 0 1rem; }
h1 { font-size: 1.4rem; margin-bottom: 0; }
table { border-collapse: collapse; width: 100%; margin: 1rem 0; }
th, td { text-align: left; vertical-align: top; padding: .35rem .6rem; border-bottom: 1px solid #8884; }
td.n { text-align: right; white-space: nowrap; font-variant-numeric: tabular-nums; }
code, .id { font-family: ui-monospace, monospace; font-size: .9em; overflow-wrap: anywhere; }
.v { font-weight: 600; white-space: nowrap; }
.passed { color: #188038; } .failed, .error, .timed_out { color: #d93025; } .aborted { color: #b06000; }
.help, .quiet { opacity: .75; }
.bar { display: flex; height: .6rem; border-radius: .3rem; overflow: hidden; background: #8883; margin: .8rem 0; }
.bar i { background: currentColor; }
details table { margin: .3rem 0; } summary { cursor: pointer; }
";

/// The report as one HTML page.
#[must_use]
pub fn to_html(report: &Report) -> String {
    let plan = escape(report.run.plan.as_deref().unwrap_or("unknown plan"));
    let mut page = format!(
        "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <title>{plan}: {outcome}</title>\n<style>\n{STYLE}</style>\n</head>\n<body>\n<h1>{plan}: {outcome}</h1>\n",
        outcome = report.run.outcome
    );
    page.push_str(&run_line(report));
    page.push_str(&totals(report));
    if let Some(cause) = &report.run.cause {
        let _ = writeln!(page, "<p>{}</p>", cause_html(cause));
    }
    for unmet in &report.targets_unmet {
        let _ = writeln!(
            page,
            "<p><b>Target {}</b>: expected {}, found {}. {}</p>",
            escape(&unmet.target),
            escape(&unmet.expected),
            unmet.found,
            cause_html(&unmet.cause)
        );
    }
    page.push_str(
        "<table>\n<thead><tr><th>Verdict<th>Target<th>Slot<th>Image<th>Rate<th>Time<th>Cause and steps</tr></thead>\n<tbody>\n",
    );
    // Those that need a person come first; otherwise the order of the report.
    let (passed, others): (Vec<_>, Vec<_>) =
        report.devices.iter().partition(|device| device.verdict == Verdict::Passed);
    others.iter().chain(&passed).for_each(|device| page.push_str(&device_row(device)));
    page.push_str("</tbody>\n</table>\n");
    if !report.notes.is_empty() {
        page.push_str("<h2>Notes</h2>\n<ul>\n");
        for note in &report.notes {
            let device = note
                .device
                .as_ref()
                .map_or_else(String::new, |id| format!("<code>{}</code>: ", escape(&id.0)));
            let _ = writeln!(
                page,
                "<li>{device}{} <code>{}</code></li>",
                escape(&note.message),
                escape(&note.code)
            );
        }
        page.push_str("</ul>\n");
    }
    page.push_str("</body>\n</html>\n");
    page
}

fn run_line(report: &Report) -> String {
    let run = &report.run;
    let facts = [
        run.started_at.map(|at| at.format("%Y-%m-%d %H:%M:%S UTC").to_string()),
        run.duration_s.map(text::seconds),
        run.host.clone(),
        run.id.as_ref().map(|id| format!("run {id}")),
        run.tool_version.as_ref().map(|version| format!("flashfleet {version}")),
        Some(format!("exit code {}", run.exit_code)),
    ];
    let facts: Vec<String> = facts.into_iter().flatten().map(|fact| escape(&fact)).collect();
    format!("<p class=\"quiet\">{}</p>\n", facts.join(" · "))
}

fn totals(report: &Report) -> String {
    let summary = &report.summary;
    let counts = [
        (Verdict::Passed, summary.passed),
        (Verdict::Failed, summary.failed),
        (Verdict::Error, summary.error),
        (Verdict::TimedOut, summary.timed_out),
        (Verdict::Aborted, summary.aborted),
    ];
    let mut html = String::from("<div class=\"bar\">");
    for (verdict, count) in counts.iter().filter(|(_, count)| *count > 0) {
        let _ = write!(html, "<i class=\"{}\" style=\"flex: {count}\"></i>", verdict.as_str());
    }
    let _ = write!(html, "</div>\n<p>{}:", text::count(summary.devices, "device"));
    for (verdict, count) in counts.iter().filter(|(verdict, count)| *count > 0 || *verdict == Verdict::Passed)
    {
        let _ = write!(html, " <span class=\"v {}\">{count} {verdict}</span>", verdict.as_str());
    }
    if summary.already_current > 0 {
        let _ = write!(html, " · {} already current", summary.already_current);
    }
    if summary.on_test > 0 {
        let _ = write!(html, " · {} {ON_TEST}", summary.on_test);
    }
    if summary.carried > 0 {
        let _ = write!(html, " · {} of an earlier run, and not there any more", summary.carried);
    }
    if let Some(rate) = summary.bytes_per_s {
        let _ = write!(html, " · {} sent at {}", text::bytes(summary.bytes), text::rate(rate));
    }
    html.push_str("</p>\n");
    html
}

fn device_row(device: &DeviceReport) -> String {
    let mut images = String::new();
    for image in &device.images {
        let view = |view: &Option<_>| {
            view.as_ref().map_or_else(|| "?".to_owned(), |view| escape(&text::image(view)))
        };
        let _ = write!(images, "<div class=\"id\">{} → {}</div>", view(&image.before), view(&image.after));
    }
    let mut told = String::new();
    if let Some(cause) = &device.cause {
        told.push_str(&cause_html(cause));
    }
    if device.on_test {
        let _ = write!(told, "<div class=\"aborted\">{ON_TEST}</div>");
    }
    if let Some(run) = &device.carried_from {
        let _ = write!(told, "<div class=\"quiet\">verdict of run {}: not there any more</div>", escape(run));
    }
    if device.verdict == Verdict::Passed && device.changed == Some(false) {
        told.push_str("<div>already current</div>");
    }
    if !device.steps.is_empty() {
        let open = if device.verdict == Verdict::Passed { "" } else { " open" };
        let steps: String = device.steps.iter().map(step_row).collect();
        let _ = write!(
            told,
            "<details{open}><summary>{}</summary><table>{steps}</table></details>",
            text::count(device.steps.len(), "step")
        );
    }
    format!(
        "<tr><td class=\"v {class}\">{verdict}<td>{target}<td><b>{slot}</b><div class=\"id quiet\">{address}</div>\
         <td>{images}<td class=\"n\">{rate}<td class=\"n\">{time}<td>{told}</tr>\n",
        class = device.verdict.as_str(),
        verdict = device.verdict,
        target = escape(&device.target),
        slot = escape(&device.slot),
        address = escape(&device.address),
        rate = device.bytes_per_s().map(text::rate).unwrap_or_default(),
        time = device.duration_s.map(text::seconds).unwrap_or_default(),
    )
}

fn step_row(step: &StepReport) -> String {
    let (class, verdict) = match step.verdict {
        Some(verdict) => (verdict.as_str(), verdict.to_string()),
        None => ("quiet", "not reached".to_owned()),
    };
    let mut told = String::new();
    for retry in &step.retries {
        let _ = write!(
            told,
            "<div class=\"quiet\">attempt {}: {}</div>",
            retry.attempt,
            escape(&retry.cause.to_string())
        );
    }
    if let Some(cause) = &step.cause {
        let _ = write!(told, "<div>{}</div>", escape(&cause.to_string()));
    }
    for line in step.detail.skipped.iter().chain(&step.detail.notes) {
        let _ = write!(told, "<div class=\"quiet\">{}</div>", escape(line));
    }
    if let Some(line) = step.detail.upload.as_ref().and_then(UploadFigures::explained) {
        let _ = write!(told, "<div class=\"quiet\">{}</div>", escape(&line));
    }
    if let Some(output) = &step.detail.output {
        let _ = write!(told, "<pre>{}</pre>", escape(output));
    }
    format!(
        "<tr><td class=\"v {class}\">{verdict}<td>{}<td class=\"n\">{}<td>{told}</tr>",
        escape(&step.name),
        step.duration_s.map(text::seconds).unwrap_or_default()
    )
}

fn cause_html(cause: &Cause) -> String {
    format!(
        "<div>{} <code>{}</code></div><div class=\"help\">{}</div>",
        escape(&cause.message),
        escape(&cause.code),
        escape(&cause.help)
    )
}

/// Text as HTML shows it, in elements and in quoted attributes; control characters become visible.
fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\'' => escaped.push_str("&#39;"),
            '\n' | '\t' => escaped.push(c),
            c if c.is_control() => escaped.push('\u{fffd}'),
            c => escaped.push(c),
        }
    }
    escaped
}
