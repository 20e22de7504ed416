//! The reporter actor: the one place where events get their order. What is made of them lives in `report`.

use actix::prelude::*;
use chrono::{DateTime, Utc};

use crate::cause::Cause;
use crate::report::{DeviceId, EventKind, Report, ReporterCore};

/// Something happened.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub(super) struct Tell {
    pub device: Option<DeviceId>,
    pub at: DateTime<Utc>,
    pub kind: EventKind,
}

/// Nothing will happen any more: write everything.
#[derive(Debug, Message)]
#[rtype(result = "Closed")]
pub(super) struct Close;

/// What the reporter has at the end.
#[derive(Debug, MessageResponse)]
pub(super) struct Closed {
    pub report: Report,
    /// An output that could not be written.
    pub problem: Option<Cause>,
}

/// Orders events and hands them to every sink.
pub(super) struct Reporter {
    core: ReporterCore,
    problem: Option<Cause>,
}

impl Reporter {
    pub(super) fn new(core: ReporterCore) -> Self {
        Self { core, problem: None }
    }
}

impl Actor for Reporter {
    type Context = Context<Self>;
}

impl Handler<Tell> for Reporter {
    type Result = ();

    fn handle(&mut self, tell: Tell, _: &mut Self::Context) {
        if let Err(cause) = self.core.on(tell.kind, tell.device, tell.at) {
            // The run goes on: devices must not be left half done because a disk is full. The exit code tells.
            tracing::error!(%cause, "an event could not be written");
            self.problem.get_or_insert(cause);
        }
    }
}

impl Handler<Close> for Reporter {
    type Result = Closed;

    fn handle(&mut self, _: Close, _: &mut Self::Context) -> Closed {
        let (report, result) = self.core.finish();
        Closed { report, problem: self.problem.take().or(result.err()) }
    }
}
