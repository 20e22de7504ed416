//! The device actor: one per device, owner of its link. What it does is the worker's; this file is its mailbox.

use actix::prelude::*;
use tokio::sync::watch;
use tokio::time::Instant;
use tracing::Instrument as _;

use crate::flow::DeviceResult;

use super::probe::Probed;
use super::task::Task;
use super::worker::{Stop, Worker};

/// Ask whether the device answers.
#[derive(Debug, Message)]
#[rtype(result = "Answer")]
pub(super) struct Probe;

/// What asking a device shows.
#[derive(Debug, Clone, MessageResponse)]
pub(super) struct Answer(pub Probed);

/// Walk through the steps.
#[derive(Debug, Message)]
#[rtype(result = "Option<DeviceResult>")]
pub(super) struct Run {
    /// When the device must be done.
    pub deadline: Instant,
}

/// End as a person asked.
#[derive(Debug, Clone, Copy, Message)]
#[rtype(result = "()")]
pub(super) struct Halt(pub Stop);

/// One device.
pub(super) struct Device {
    /// Away while a message is being worked on.
    worker: Option<Worker>,
    stop: watch::Sender<Stop>,
}

impl Device {
    pub(super) fn new(worker: Worker) -> Self {
        Self { worker: Some(worker), stop: watch::Sender::new(Stop::No) }
    }
}

impl Actor for Device {
    type Context = Context<Self>;
}

impl Handler<Probe> for Device {
    type Result = ResponseActFuture<Self, Answer>;

    fn handle(&mut self, _: Probe, _: &mut Self::Context) -> Self::Result {
        let Some(mut worker) = self.worker.take() else {
            return Box::pin(fut::ready(Answer(Probed::Silent)));
        };
        let span = tracing::info_span!("device", device = %worker.id);
        let work = async move {
            let probed = worker.probe().await;
            (worker, Answer(probed))
        };
        Box::pin(work.instrument(span).into_actor(self).map(|(worker, answer), act, _| {
            act.worker = Some(worker);
            answer
        }))
    }
}

impl Handler<Run> for Device {
    type Result = ResponseActFuture<Self, Option<DeviceResult>>;

    fn handle(&mut self, run: Run, _: &mut Self::Context) -> Self::Result {
        let Some(mut worker) = self.worker.take() else {
            return Box::pin(fut::ready(None));
        };
        let stop = self.stop.subscribe();
        let span = tracing::info_span!("device", device = %worker.id);
        let work = async move { Some(worker.run(run.deadline, stop).await) };
        // The worker and its link end here: a device is run once.
        Box::pin(Task::spawn(work.instrument(span)).into_actor(self).map(|result, _, ctx| {
            ctx.stop();
            result
        }))
    }
}

impl Handler<Halt> for Device {
    type Result = ();

    fn handle(&mut self, Halt(stop): Halt, _: &mut Self::Context) {
        self.stop.send_if_modified(|current| {
            let raise = stop > *current;
            if raise {
                *current = stop;
            }
            raise
        });
    }
}
