//! Progress of one upload on its way to the reporter. Nothing depends on it.

use std::time::Duration;

use crate::report::{DeviceId, EventKind};
use crate::smp::Time;

use super::clock::Clock;
use super::reporter::{Reporter, Tell};

/// Least time between two progress events of one device.
const PROGRESS_EVERY: Duration = Duration::from_millis(200);

/// Thins progress where it arises, so that a fleet's progress costs the reporter little.
pub(super) struct Progress {
    id: DeviceId,
    step: usize,
    reporter: actix::Addr<Reporter>,
    clock: Clock,
    last: Option<Time>,
}

impl Progress {
    pub(super) fn new(id: DeviceId, step: usize, reporter: actix::Addr<Reporter>, clock: Clock) -> Self {
        Self { id, step, reporter, clock, last: None }
    }

    pub(super) fn tell(&mut self, done: u64, total: u64) {
        let now = self.clock.now();
        if done < total && self.last.is_some_and(|last| now < last + PROGRESS_EVERY) {
            return;
        }
        self.last = Some(now);
        self.reporter.do_send(Tell {
            device: Some(self.id.clone()),
            at: self.clock.wall(now),
            kind: EventKind::Progress { step: self.step, done, total },
        });
    }
}
