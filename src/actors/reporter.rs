//! The reporter actor: the one place where events get their order. What is made of them lives in `report`.

use std::time::Duration;

use actix::prelude::*;
use chrono::{DateTime, Utc};

use crate::report::{DeviceId, EventKind, Finished, Outcome, ReporterCore};

use super::clock::Clock;

/// How often the display catches up with the time.
const TICK: Duration = Duration::from_secs(1);

/// Something happened.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub(super) struct Tell {
    pub device: Option<DeviceId>,
    pub at: DateTime<Utc>,
    pub kind: EventKind,
}

/// Ask what the devices and targets told so far come to.
#[derive(Debug, Message)]
#[rtype(result = "Outcome")]
pub(super) struct Implied;

/// Nothing will happen any more: write everything. Answered once.
#[derive(Debug, Message)]
#[rtype(result = "Option<Finished>")]
pub(super) struct Close;

/// Orders events and hands them to every sink.
pub(super) struct Reporter {
    /// Gone once everything is written.
    core: Option<ReporterCore>,
    clock: Clock,
}

impl Reporter {
    pub(super) fn new(core: ReporterCore, clock: Clock) -> Self {
        Self { core: Some(core), clock }
    }
}

impl Actor for Reporter {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        ctx.run_interval(TICK, |act, _| {
            let now = act.clock.wall(act.clock.now());
            if let Some(core) = act.core.as_mut() {
                core.tick(now);
            }
        });
    }
}

impl Handler<Tell> for Reporter {
    type Result = ();

    fn handle(&mut self, tell: Tell, _: &mut Self::Context) {
        let Some(core) = self.core.as_mut() else { return };
        if let Err(cause) = core.on(tell.kind, tell.device, tell.at) {
            // The run goes on: devices must not be left half done because a disk is full. The exit code tells.
            tracing::error!(%cause, "an event could not be written");
        }
    }
}

impl Handler<Implied> for Reporter {
    type Result = MessageResult<Implied>;

    fn handle(&mut self, _: Implied, _: &mut Self::Context) -> Self::Result {
        MessageResult(self.core.as_ref().map_or(Outcome::Internal, |core| core.report().implied_outcome()))
    }
}

impl Handler<Close> for Reporter {
    type Result = Option<Finished>;

    fn handle(&mut self, _: Close, ctx: &mut Self::Context) -> Option<Finished> {
        ctx.stop();
        self.core.take().map(ReporterCore::finish)
    }
}
