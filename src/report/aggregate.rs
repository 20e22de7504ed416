//! The fold of events into a report: pure, total, and the same whether the events come one by one or from a log.
//! Knows no files and no clock.

use std::collections::HashMap;

use chrono::{DateTime, TimeDelta, Utc};

use super::device_state::DeviceState;
use super::event::{DeviceId, Event, EventKind, Outcome};
use super::model::{REPORT_SCHEMA, Report, ReportNote, RunReport, Summary, UnmetTarget, implied_outcome};
use super::sequence::Sequence;
use crate::cause::{Cause, Class};
use crate::exit::Exit;

/// Most notes that a report carries; further ones are counted.
const MAX_NOTES: usize = 200;

/// Everything that the events so far come to.
///
/// Never fails and never panics: what does not fit (a device that was never found, a step that was never planned, a
/// second verdict) leaves a note. Events whose `seq` was counted already change nothing.
#[derive(Debug, Clone, Default)]
pub struct Aggregate {
    run: RunState,
    devices: Vec<DeviceState>,
    index: HashMap<DeviceId, usize>,
    targets_unmet: Vec<UnmetTarget>,
    sequence: Sequence,
    uploads: Uploads,
    notes: Notes,
    damaged: bool,
}

#[derive(Debug, Clone, Default)]
struct RunState {
    started: Option<Started>,
    first_at: Option<DateTime<Utc>>,
    last_at: Option<DateTime<Utc>>,
    finished: Option<Finished>,
}

#[derive(Debug, Clone)]
struct Started {
    id: String,
    plan: String,
    plan_sha256: Option<String>,
    tool_version: String,
    host: String,
}

#[derive(Debug, Clone)]
struct Finished {
    at: DateTime<Utc>,
    outcome: Outcome,
    exit_code: u8,
    cause: Option<Cause>,
    duration_s: f64,
}

/// What finished upload steps come to.
#[derive(Debug, Clone, Default)]
struct Uploads {
    bytes: u64,
    first: Option<DateTime<Utc>>,
    last: Option<DateTime<Utc>>,
}

impl Uploads {
    fn count(&mut self, bytes: u64, started_at: DateTime<Utc>, duration_s: f64) {
        self.bytes = self.bytes.saturating_add(bytes);
        let end = started_at.checked_add_signed(seconds(duration_s)).unwrap_or(started_at);
        self.first = Some(self.first.map_or(started_at, |first| first.min(started_at)));
        self.last = Some(self.last.map_or(end, |last| last.max(end)));
    }

    fn bytes_per_s(&self) -> Option<f64> {
        let elapsed = (self.last? - self.first?).as_seconds_f64();
        (elapsed > 0.0).then(|| super::normalise::finite(self.bytes as f64 / elapsed))
    }
}

/// Notes, of which there are never more than [`MAX_NOTES`].
#[derive(Debug, Clone, Default)]
struct Notes {
    kept: Vec<ReportNote>,
    more: usize,
}

impl Notes {
    fn add(&mut self, code: &str, message: String, device: Option<&DeviceId>) {
        let note = ReportNote { code: code.to_owned(), message, device: device.cloned() };
        if self.kept.contains(&note) {
            return;
        }
        if self.kept.len() < MAX_NOTES {
            self.kept.push(note);
        } else {
            self.more += 1;
        }
    }

    fn all(&self) -> Vec<ReportNote> {
        let mut all = self.kept.clone();
        if self.more > 0 {
            let message = format!("{} more notes are left out", self.more);
            all.push(ReportNote { code: "report.more_notes".to_owned(), message, device: None });
        }
        all
    }
}

impl Aggregate {
    /// Nothing yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Counts one event.
    pub fn apply(&mut self, event: &Event) {
        if !self.sequence.is_new(event.seq) {
            return;
        }
        self.run.first_at.get_or_insert(event.at);
        self.run.last_at = Some(self.run.last_at.map_or(event.at, |last| last.max(event.at)));
        if self.run.finished.is_some() {
            self.notes.add("log.after_the_end", "events follow the end of the run".to_owned(), None);
        }
        match &event.kind {
            EventKind::RunStarted { run_id, plan, plan_sha256, tool_version, host, schema: _ } => {
                if self.run.started.is_some() {
                    self.damage(
                        "log.second_start",
                        "the run starts a second time; the first start counts".to_owned(),
                    );
                    return;
                }
                self.run.first_at = Some(event.at);
                self.run.started = Some(Started {
                    id: run_id.clone(),
                    plan: plan.clone(),
                    plan_sha256: plan_sha256.clone(),
                    tool_version: tool_version.clone(),
                    host: host.clone(),
                });
            }
            EventKind::RunFinished { outcome, exit_code, cause, duration_s } => {
                if self.run.finished.is_some() {
                    self.damage(
                        "log.second_end",
                        "the run ends a second time; the first end counts".to_owned(),
                    );
                    return;
                }
                self.run.finished = Some(Finished {
                    at: event.at,
                    outcome: *outcome,
                    exit_code: *exit_code,
                    cause: cause.clone(),
                    duration_s: *duration_s,
                });
            }
            EventKind::TargetUnmet { target, expected, found, cause } => {
                self.targets_unmet.push(UnmetTarget {
                    target: target.clone(),
                    expected: expected.clone(),
                    found: *found,
                    cause: cause.clone(),
                    plan: None,
                })
            }
            EventKind::Note { code, message } => self.notes.add(code, message.clone(), event.device.as_ref()),
            EventKind::DeviceFound { .. } => self.device_found(event),
            EventKind::DeviceStarted { .. }
            | EventKind::StepStarted { .. }
            | EventKind::Progress { .. }
            | EventKind::StepRetried { .. }
            | EventKind::StepFinished(_)
            | EventKind::DeviceFinished { .. } => self.device_event(event),
        }
    }

    /// Says that something is wrong with the log itself, for example a line that is no event.
    pub fn damage(&mut self, code: &str, message: String) {
        self.damaged = true;
        self.notes.add(code, message, None);
    }

    /// Whether any event was counted.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.run.first_at.is_none()
    }

    /// Target and slot of a device that was found.
    #[must_use]
    pub fn title(&self, id: &DeviceId) -> Option<String> {
        self.devices.get(*self.index.get(id)?).map(DeviceState::title)
    }

    fn device_found(&mut self, event: &Event) {
        let EventKind::DeviceFound { target, address, identity, steps, carried_from } = &event.kind else {
            return;
        };
        let Some(id) = &event.device else {
            self.damage("log.no_device", "a device was found without an id".to_owned());
            return;
        };
        if self.index.contains_key(id) {
            let message = "the device was found a second time; the first time counts".to_owned();
            self.notes.add("log.found_twice", message, Some(id));
            return;
        }
        self.index.insert(id.clone(), self.devices.len());
        self.devices.push(DeviceState::new(
            id.clone(),
            target.clone(),
            address.clone(),
            identity.clone(),
            steps,
            carried_from.clone(),
        ));
    }

    fn device_event(&mut self, event: &Event) {
        let Some(id) = &event.device else {
            self.damage("log.no_device", "an event about a device does not name it".to_owned());
            return;
        };
        let Some(device) = self.index.get(id).and_then(|at| self.devices.get_mut(*at)) else {
            self.damaged = true;
            let message = "events are about a device that was never found".to_owned();
            self.notes.add("log.unknown_device", message, Some(id));
            return;
        };
        if let Err((code, message)) = device.apply(event) {
            self.notes.add(code, message, Some(id));
        } else if !device.is_carried()
            && let EventKind::StepFinished(step) = &event.kind
            && let Some(upload) = &step.detail.upload
        {
            self.uploads.count(upload.bytes, step.started_at, step.duration_s);
        }
    }

    /// The report of the events so far. Devices without a verdict are `aborted`; a run without an end is `cut_short`.
    #[must_use]
    pub fn report(&self) -> Report {
        let mut notes = self.notes.clone();
        let missing = self.sequence.missing();
        if missing > 0 {
            notes.add("log.gap", format!("{missing} events are missing between those that are there"), None);
        }
        // A log that ends properly and is whole names every device's verdict; if it does not, flashfleet is wrong.
        let whole = self.run.finished.is_some() && !self.damaged && missing == 0;
        let lost = if whole { no_verdict() } else { cut_short() };
        let devices: Vec<_> = self.devices.iter().map(|device| device.report(&lost)).collect();
        let without_verdict = self.devices.iter().filter(|device| !device.has_verdict()).count();
        if self.run.finished.is_some() && without_verdict > 0 {
            notes.add("log.no_verdict", format!("{without_verdict} devices have no verdict"), None);
        }
        for device in &devices {
            if device.verdict == super::event::Verdict::Passed && device.failed_step().is_some() {
                let message = "the device passed although one of its steps did not".to_owned();
                notes.add("log.contradiction", message, Some(&device.id));
            }
        }
        let mut summary = Summary {
            bytes: self.uploads.bytes,
            bytes_per_s: self.uploads.bytes_per_s(),
            ..Summary::default()
        };
        devices.iter().for_each(|device| summary.count(device));
        let cut_short = self.run.finished.is_none() || (without_verdict > 0 && !whole);
        let run = self.run_report(implied_outcome(&devices, &self.targets_unmet), cut_short, &mut notes);
        Report {
            schema: REPORT_SCHEMA.to_owned(),
            run,
            summary,
            targets_unmet: self.targets_unmet.clone(),
            devices,
            notes: notes.all(),
            runs: Vec::new(),
        }
    }

    fn run_report(&self, implied: Outcome, cut_short: bool, notes: &mut Notes) -> RunReport {
        let started = self.run.started.as_ref();
        if started.is_none() {
            notes.add("log.no_start", "the event log does not say which run it is".to_owned(), None);
        }
        let (finished_at, duration_s, recorded, cause) = match &self.run.finished {
            Some(end) => (Some(end.at), Some(end.duration_s), end.outcome, end.cause.clone()),
            None => {
                let elapsed = self.run.first_at.zip(self.run.last_at).map(|(first, last)| last - first);
                (None, elapsed.map(|elapsed| elapsed.as_seconds_f64().max(0.0)), Outcome::CutShort, None)
            }
        };
        let outcome = if cut_short {
            recorded.worst(Outcome::CutShort)
        } else if implied == Outcome::Internal || (recorded == Outcome::Passed && implied != Outcome::Passed)
        {
            if recorded != Outcome::Internal {
                let message = format!("the run says '{recorded}', its devices come to '{implied}'");
                notes.add("log.contradiction", message, None);
            }
            Outcome::Internal
        } else {
            recorded
        };
        let exit_code = match &self.run.finished {
            Some(end) if end.outcome == outcome => end.exit_code,
            _ => Exit::from(outcome).code(),
        };
        RunReport {
            id: started.map(|started| started.id.clone()),
            plan: started.map(|started| started.plan.clone()),
            plan_sha256: started.and_then(|started| started.plan_sha256.clone()),
            tool_version: started.map(|started| started.tool_version.clone()),
            host: started.map(|started| started.host.clone()),
            started_at: self.run.first_at,
            finished_at,
            duration_s,
            outcome,
            exit_code,
            cut_short,
            cause,
        }
    }
}

fn cut_short() -> Cause {
    Cause::new(
        Class::Station,
        "run.cut_short",
        "expected a verdict for this device, but the event log ends or is damaged before it",
        "look at what runs on the device, then run the plan again",
    )
}

fn no_verdict() -> Cause {
    Cause::new(
        Class::Internal,
        "internal.no_verdict",
        "the run ended without a verdict for this device",
        "this is a defect of flashfleet: please report it with the event log",
    )
}

fn seconds(figure: f64) -> TimeDelta {
    // Figures from a log may be anything; a saturating cast of what `finite` lets through is always in range.
    #[expect(clippy::cast_possible_truncation, reason = "saturates on purpose")]
    let micros = (super::normalise::finite(figure) * 1e6).min(i64::MAX as f64 / 2.0) as i64;
    TimeDelta::microseconds(micros)
}
