//! Progress as lines, for logs: one per finished device, and now and then one about the rest.

use std::io::Write;

use chrono::{DateTime, TimeDelta, Utc};

use super::lines;
use super::tracker::{Running, Tracker};
use crate::report::event::{Event, EventKind};
use crate::report::text;

/// Between two lines about the rest there is at least this much time.
const SUMMARY_EVERY: TimeDelta = TimeDelta::seconds(10);

/// What plain lines have to remember.
#[derive(Debug, Default)]
pub(super) struct Plain {
    last_summary: Option<DateTime<Utc>>,
    moved_then: u64,
}

impl Plain {
    pub(super) fn on(
        &mut self,
        event: &Event,
        ended: Option<&Running>,
        tracker: &Tracker,
        colours: bool,
        out: &mut dyn Write,
    ) {
        let line = match &event.kind {
            EventKind::RunStarted { plan, run_id, .. } => Some(format!("{plan}: started, run {run_id}")),
            EventKind::TargetUnmet { target, expected, found, cause } => Some(format!(
                "target {target}: expected {expected}, found {found}: {}",
                text::printable(&cause.to_string())
            )),
            EventKind::Note { message, .. } => Some(format!("note: {}", text::printable(message))),
            kind => ended.and_then(|device| lines::finished(device, kind, colours)),
        };
        if let Some(line) = line {
            // A terminal or log that is gone does not end a run.
            let _ = writeln!(out, "{line}");
        }
        self.tick(event.at, tracker, out);
    }

    pub(super) fn tick(&mut self, at: DateTime<Utc>, tracker: &Tracker, out: &mut dyn Write) {
        let last = *self.last_summary.get_or_insert(at);
        let elapsed = at - last;
        if elapsed < SUMMARY_EVERY || tracker.running() == 0 {
            return;
        }
        let moved = tracker.moved.saturating_sub(self.moved_then);
        (self.last_summary, self.moved_then) = (Some(at), tracker.moved);
        let mut line = format!(
            "{} of {} finished, {} running",
            tracker.finished,
            text::count(tracker.found, "device"),
            tracker.running()
        );
        if tracker.not_passed > 0 {
            line.push_str(&format!(", {} not passed", tracker.not_passed));
        }
        if moved > 0 {
            line.push_str(&format!(", {}", text::rate(moved as f64 / elapsed.as_seconds_f64())));
        }
        let _ = writeln!(out, "{line}");
    }
}
