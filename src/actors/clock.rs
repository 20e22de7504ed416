//! One clock for a run: durations from tokio's clock, so that virtual time works, wall time reckoned from it.

use chrono::{DateTime, Utc};
use tokio::time::Instant;

use crate::smp::Time;

/// Time since the run began, and what the wall says then.
#[derive(Debug, Clone, Copy)]
pub(super) struct Clock {
    epoch: Instant,
    wall: DateTime<Utc>,
}

impl Clock {
    pub(super) fn start() -> Self {
        Self { epoch: Instant::now(), wall: Utc::now() }
    }

    pub(super) fn now(self) -> Time {
        self.epoch.elapsed()
    }

    pub(super) fn instant(self, time: Time) -> Instant {
        self.epoch + time
    }

    /// Wall time of a time of this clock.
    pub(super) fn wall(self, time: Time) -> DateTime<Utc> {
        chrono::Duration::from_std(time).map_or(self.wall, |since| self.wall + since)
    }
}
