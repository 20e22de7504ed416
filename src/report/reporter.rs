//! The reporter's core: orders events, keeps the log, the display and the aggregate in step, writes the reports.
//! Knows no actors and no clock: what happened and when it happened are arguments.

use std::collections::HashMap;
use std::io;

use chrono::{DateTime, TimeDelta, Utc};

use super::aggregate::Aggregate;
use super::display::Display;
use super::event::{DeviceId, Event, EventKind, Outcome};
use super::log::LogWriter;
use super::model::Report;
use super::outputs::Outputs;
use crate::cause::Cause;

/// One device's progress is logged at most this often: five times a second.
const PROGRESS_EVERY: TimeDelta = TimeDelta::milliseconds(200);

/// Progress of all devices together is logged at most this many times a second, so that a large fleet does not fill
/// the disk.
const MAX_PROGRESS_PER_S: u32 = 200;

/// Everything that is told of one run. The only one that gives out `seq`.
#[derive(Debug)]
pub struct ReporterCore {
    outputs: Outputs,
    display: Display,
    aggregate: Aggregate,
    next_seq: u64,
    thinning: Thinning,
    /// The first trouble of the journal and of its copy.
    troubles: Vec<Cause>,
}

/// What a run comes to, and what could not be written of it.
#[derive(Debug)]
pub struct Finished {
    /// The report, as it was written.
    pub report: Report,
    /// Logs and reports that could not be written. Each was shown.
    pub troubles: Vec<Cause>,
}

impl Finished {
    /// The run's outcome, raised to station trouble where something could not be written.
    #[must_use]
    pub fn outcome(&self) -> Outcome {
        let trouble = if self.troubles.is_empty() { Outcome::Passed } else { Outcome::Station };
        self.report.run.outcome.worst(trouble)
    }
}

impl ReporterCore {
    /// A reporter that has told nothing yet.
    #[must_use]
    pub fn new(outputs: Outputs, display: Display) -> Self {
        Self {
            outputs,
            display,
            aggregate: Aggregate::new(),
            next_seq: 0,
            thinning: Thinning::default(),
            troubles: Vec::new(),
        }
    }

    /// Tells one event: gives it its place, writes it to the journal and the copy, shows and counts it. An event is
    /// counted even where it cannot be written.
    ///
    /// # Errors
    /// `station.disk_full` or `station.log_write_failed`, the first time that the journal or the copy fails; later
    /// events are still tried on the journal, and no longer on the copy.
    pub fn on(&mut self, kind: EventKind, device: Option<DeviceId>, at: DateTime<Utc>) -> Result<(), Cause> {
        let kind = kind.normalised();
        if let (EventKind::Progress { done, total, .. }, Some(device)) = (&kind, &device) {
            self.display.progress(device, *done, *total, at);
            if !self.thinning.let_through(device, done >= total, at) {
                return Ok(());
            }
        }
        let event = Event { seq: self.next_seq, at, device, kind };
        self.next_seq += 1;
        let written = self.write(&event);
        self.aggregate.apply(&event);
        self.display.on(&event);
        if let (EventKind::DeviceFinished { .. }, Some(device)) = (&event.kind, &event.device) {
            self.thinning.forget(device);
        }
        written
    }

    fn write(&mut self, event: &Event) -> Result<(), Cause> {
        let mut first_trouble = Ok(());
        let journal_failed_before = self.outputs.journal.as_ref().is_some_and(LogWriter::has_failed);
        let journal = self.outputs.journal.as_mut().map_or(Ok(()), |journal| journal.write(event));
        if let Err(cause) = journal
            && !journal_failed_before
        {
            self.troubles.push(cause.clone());
            first_trouble = Err(cause);
        }
        // A reader of the copy that went away stays away.
        if let Some(Err(cause)) = self.outputs.events.as_ref().map(|copy| copy.write(event)) {
            self.outputs.events = None;
            self.troubles.push(cause.clone());
            first_trouble = first_trouble.and(Err(cause));
        }
        first_trouble
    }

    /// Lets the display catch up with the time while nothing happens; about once a second is enough.
    pub fn tick(&mut self, at: DateTime<Utc>) {
        self.display.tick(at);
    }

    /// The report of what happened so far.
    #[must_use]
    pub fn report(&self) -> Report {
        self.aggregate.report()
    }

    /// Makes the report, writes it wherever it was asked for, shows the summary. Without a `run_finished` before it the
    /// run is `cut_short`. What cannot be written does not keep the rest from being written.
    #[must_use]
    pub fn finish(mut self) -> Finished {
        let report = self.aggregate.report();
        let mut troubles = self.troubles;
        // A report on standard output comes after the events.
        troubles.extend(self.outputs.events.take().and_then(|copy| copy.finish().err()));
        troubles.extend(self.outputs.write_reports(&report, &mut io::stdout()));
        self.display.finish(&report, &self.outputs, &troubles);
        Finished { report, troubles }
    }
}

/// Which progress goes into the log: the latest of each device, not too often.
#[derive(Debug, Default)]
struct Thinning {
    last: HashMap<DeviceId, DateTime<Utc>>,
    second: i64,
    in_second: u32,
}

impl Thinning {
    fn let_through(&mut self, device: &DeviceId, complete: bool, at: DateTime<Utc>) -> bool {
        let due = self.last.get(device).is_none_or(|last| at - *last >= PROGRESS_EVERY);
        if self.second != at.timestamp() {
            (self.second, self.in_second) = (at.timestamp(), 0);
        }
        if (!due && !complete) || self.in_second >= MAX_PROGRESS_PER_S {
            return false;
        }
        self.in_second += 1;
        self.last.insert(device.clone(), at);
        true
    }

    fn forget(&mut self, device: &DeviceId) {
        self.last.remove(device);
    }
}
