//! An earlier run of a plan, read back from its journal, for a run that goes on with it. What becomes of its devices is
//! decided elsewhere.

use std::collections::HashMap;
use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};

use chrono::{DateTime, Utc};

use super::event::{DeviceId, EventKind, Verdict};
use super::log::{LogLine, LogReader, journals_folder};
use super::model::{DeviceReport, REPORT_SCHEMA, Report};
use super::read::{LOOK, is_report, read_log, unreadable};
use crate::cause::{Cause, Class};

/// What an earlier run came to. The default is none.
#[derive(Debug, Clone, Default)]
pub struct EarlierRun {
    /// Its report, as its journal gives it.
    report: Option<Report>,
    devices: Vec<EarlierDevice>,
}

/// One device of an earlier run.
#[derive(Debug, Clone)]
pub struct EarlierDevice {
    /// What its run came to for it.
    pub report: DeviceReport,
    /// Everything that was told of it, but progress.
    events: Vec<(DateTime<Utc>, EventKind)>,
}

impl EarlierRun {
    /// Reads a journal. A JSON report does not do: a later journal must hold the figures of every step, too.
    ///
    /// # Errors
    /// `plan.input_unreadable`, `plan.input_format`.
    pub fn read(path: &Path) -> Result<Self, Cause> {
        let name = path.display().to_string();
        let file = File::open(path).map_err(|error| unreadable(format!("{name}: {error}")))?;
        let mut input = BufReader::with_capacity(LOOK, file);
        let start = input.fill_buf().map_err(|error| unreadable(format!("{name}: {error}")))?;
        if is_report(start) {
            return Err(unreadable(format!("{name}: expected a journal, it is a report ({REPORT_SCHEMA})")));
        }
        let mut told: HashMap<DeviceId, Vec<(DateTime<Utc>, EventKind)>> = HashMap::new();
        let report = read_log(input, &name, &mut |event| {
            if let Some(device) = event.device {
                keep(told.entry(device).or_default(), event.at, event.kind);
            }
        })?;
        let device = |report: &DeviceReport| EarlierDevice {
            report: report.clone(),
            events: told.remove(&report.id).unwrap_or_default(),
        };
        let devices = report.devices.iter().map(device).collect();
        Ok(Self { report: Some(report), devices })
    }

    /// The newest run of a plan that left a journal in the user's state folder, and where.
    ///
    /// # Errors
    /// `plan.nothing_to_resume` where there is none, `station.no_home`, and as [`Self::read`].
    pub fn newest_of(plan_sha256: &str) -> Result<(PathBuf, Self), Cause> {
        newest_in(&journals_folder()?, plan_sha256)
    }

    /// Its id; `None` where its journal does not say, and where there is no earlier run.
    #[must_use]
    pub fn id(&self) -> Option<&str> {
        self.report.as_ref()?.run.id.as_deref()
    }

    /// SHA-256 of the plan file that it ran, lower-case hex.
    #[must_use]
    pub fn plan_sha256(&self) -> Option<&str> {
        self.report.as_ref()?.run.plan_sha256.as_deref()
    }

    /// Its devices, in the order in which they were found.
    #[must_use]
    pub fn devices(&self) -> &[EarlierDevice] {
        &self.devices
    }

    /// Whether it ended, and every device passed.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        self.report.as_ref().is_some_and(|report| !report.run.cut_short && report.run.exit_code == 0)
    }

    /// Everything that was told of a device, as a later run's log tells it again: under an id of its own, and ending with its
    /// one verdict, also where its own run never gave one.
    pub fn retold<'a>(
        &'a self,
        device: &'a EarlierDevice,
    ) -> impl Iterator<Item = (DeviceId, DateTime<Utc>, EventKind)> + 'a {
        let run = self.id().unwrap_or("an earlier run");
        // What that run had carried over itself has an id of its own already.
        let id = match &device.report.carried_from {
            Some(_) => device.report.id.clone(),
            None => DeviceId(format!("{run}/{}", device.report.id)),
        };
        let last = device.events.last().map_or(DateTime::UNIX_EPOCH, |(at, _)| *at);
        let has_verdict = matches!(device.events.last(), Some((_, EventKind::DeviceFinished { .. })));
        let verdict = (!has_verdict).then(|| (last, device.report.verdict_event()));
        device.events.iter().cloned().chain(verdict).map(move |(at, mut kind)| {
            if let EventKind::DeviceFound { carried_from, .. } = &mut kind {
                carried_from.get_or_insert_with(|| run.to_owned());
            }
            (id.clone(), at, kind)
        })
    }
}

impl EarlierDevice {
    /// Whether it needs nothing more.
    #[must_use]
    pub fn passed(&self) -> bool {
        self.report.verdict == Verdict::Passed
    }
}

/// Keeps what a later log tells again of a device: from where it was found to its verdict.
fn keep(events: &mut Vec<(DateTime<Utc>, EventKind)>, at: DateTime<Utc>, kind: EventKind) {
    let is_over = matches!(events.last(), Some((_, EventKind::DeviceFinished { .. })));
    let is_first = events.is_empty();
    let fits = match &kind {
        EventKind::DeviceFound { .. } => is_first,
        EventKind::Progress { .. } | EventKind::Note { .. } => false,
        _ => !is_first && !is_over,
    };
    if fits {
        events.push((at, kind));
    }
}

impl DeviceReport {
    fn verdict_event(&self) -> EventKind {
        EventKind::DeviceFinished {
            verdict: self.verdict,
            changed: self.changed,
            cause: self.cause.clone(),
            attempts: self.attempts,
            images: self.images.clone(),
            on_test: self.on_test,
            duration_s: self.duration_s.unwrap_or(0.0),
        }
    }
}

/// Journals are named by the time at which their run began.
fn newest_in(folder: &Path, plan_sha256: &str) -> Result<(PathBuf, EarlierRun), Cause> {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let mut journals: Vec<PathBuf> = entries
        .map(|entry| entry.path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "jsonl"))
        .collect();
    journals.sort_unstable();
    let is_of_plan = |path: &PathBuf| begin_of(path).is_some_and(|sha256| sha256 == plan_sha256);
    match journals.into_iter().rev().find(is_of_plan) {
        Some(path) => EarlierRun::read(&path).map(|run| (path, run)),
        None => Err(Cause::new(
            Class::Plan,
            "plan.nothing_to_resume",
            format!(
                "expected the journal of an earlier run of exactly this plan in {}, there is none",
                folder.display()
            ),
            "name the journal (--resume=FILE), or run without --resume: what runs already is not written again",
        )),
    }
}

/// The hash of the plan that a journal is of, from its first line.
fn begin_of(path: &Path) -> Option<String> {
    let first = LogReader::new(BufReader::new(File::open(path).ok()?)).next()?.ok()?;
    let LogLine::Event(event) = first else { return None };
    let EventKind::RunStarted { plan_sha256, .. } = event.kind else { return None };
    plan_sha256
}
