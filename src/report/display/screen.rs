//! Chooses how progress is shown, and shows the summary at the end.

use std::fmt;
use std::io::{self, Write};

use chrono::{DateTime, Utc};

use super::bars::Bars;
use super::plain::Plain;
use super::tracker::Tracker;
use crate::cause::Cause;
use crate::report::event::{DeviceId, Event, Outcome};
use crate::report::model::Report;
use crate::report::outputs::Outputs;
use crate::report::summary::{SummaryStyle, summary};

/// How progress is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, clap::ValueEnum)]
pub enum ProgressMode {
    /// Bars on a terminal, else plain lines.
    #[default]
    Auto,
    /// Bars; plain lines where standard error is no terminal.
    Bars,
    /// One line per finished device, and a line about the rest every ten seconds.
    Plain,
    /// Nothing until the summary.
    None,
}

/// What a person sees of a run, on standard error.
pub struct Display {
    tracker: Tracker,
    view: View,
    quiet: bool,
    colours: bool,
    out: Box<dyn Write + Send>,
}

enum View {
    None,
    Plain(Plain),
    Bars(Box<Bars>),
}

impl fmt::Debug for Display {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Display")
            .field("tracker", &self.tracker)
            .field("quiet", &self.quiet)
            .finish_non_exhaustive()
    }
}

impl Display {
    /// On standard error. `quiet` leaves the summary out, too, where everything passed. Colours only on terminals, and not with `NO_COLOR`.
    #[must_use]
    pub fn new(mode: ProgressMode, quiet: bool) -> Self {
        let term = console::Term::stderr();
        let bars = term.is_term() && std::env::var_os("TERM").is_none_or(|term| term != "dumb");
        let view = match mode {
            _ if quiet => View::None,
            ProgressMode::Auto | ProgressMode::Bars if bars => View::Bars(Box::new(Bars::new())),
            ProgressMode::Auto | ProgressMode::Bars | ProgressMode::Plain => View::Plain(Plain::default()),
            ProgressMode::None => View::None,
        };
        let colours = console::colors_enabled_stderr();
        Self { tracker: Tracker::default(), view, quiet, colours, out: Box::new(io::stderr()) }
    }

    /// Plain lines, or nothing, into any writer; never bars and never colours.
    #[must_use]
    pub fn to_writer(mode: ProgressMode, quiet: bool, out: Box<dyn Write + Send>) -> Self {
        let view = match mode {
            ProgressMode::None => View::None,
            ProgressMode::Auto | ProgressMode::Bars | ProgressMode::Plain => View::Plain(Plain::default()),
        };
        Self { tracker: Tracker::default(), view, quiet, colours: false, out }
    }

    /// Shows nothing at all.
    #[must_use]
    pub fn hidden() -> Self {
        Self::to_writer(ProgressMode::None, true, Box::new(io::sink()))
    }

    /// Shows an event.
    pub fn on(&mut self, event: &Event) {
        let ended = self.tracker.on(event);
        match &mut self.view {
            View::None => {}
            View::Plain(plain) => plain.on(event, ended.as_ref(), &self.tracker, self.colours, &mut self.out),
            View::Bars(bars) => bars.on(event, ended.as_ref(), &self.tracker, self.colours),
        }
    }

    /// Shows how far a device is; cheap enough for every answer of every device.
    pub fn progress(&mut self, device: &DeviceId, done: u64, total: u64, at: DateTime<Utc>) {
        self.tracker.progress(device, done, total);
        match &mut self.view {
            View::None => {}
            View::Plain(plain) => plain.tick(at, &self.tracker, &mut self.out),
            View::Bars(bars) => bars.progress(device, done, total),
        }
    }

    /// Catches up with the time.
    pub fn tick(&mut self, at: DateTime<Utc>) {
        match &mut self.view {
            View::None => {}
            View::Plain(plain) => plain.tick(at, &self.tracker, &mut self.out),
            View::Bars(bars) => bars.tick(),
        }
    }

    /// Shows the summary, and what could not be written.
    pub fn finish(&mut self, report: &Report, outputs: &Outputs, troubles: &[Cause]) {
        if let View::Bars(bars) = &self.view {
            bars.clear();
        }
        let mut text = String::new();
        // Whoever wants quiet wants to hear of what did not pass.
        if !self.quiet || report.run.outcome != Outcome::Passed {
            text.push_str(&summary(report, SummaryStyle { colours: self.colours }));
            for (name, path) in outputs.report_files() {
                text.push_str(&format!("{name}: {}\n", path.display()));
            }
            if let Some(journal) = &outputs.journal {
                text.push_str(&format!("journal: {}\n", journal.name()));
            }
        }
        for trouble in troubles {
            text.push_str(&format!(
                "error[{}]: {}\n  help: {}\n",
                trouble.code, trouble.message, trouble.help
            ));
        }
        // A terminal that is gone does not change the outcome.
        let _ = self.out.write_all(text.as_bytes()).and_then(|()| self.out.flush());
    }
}
