//! Progress of one upload on its way to the reporter. Nothing depends on it.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use crate::report::{DeviceId, EventKind};
use crate::smp::Time;

use super::clock::Clock;
use super::reporter::{Reporter, Tell};

/// Least time between two progress events of one device.
const PROGRESS_EVERY: Duration = Duration::from_millis(200);
/// Each upload under way adds this to the time between two events of one device, so that all of a run together tell 200
/// times a second at most: what the log takes.
const SHARE: Duration = Duration::from_millis(5);

/// How many uploads of a run are under way.
#[derive(Debug, Clone, Default)]
pub(super) struct Uploads(Arc<AtomicU32>);

impl Uploads {
    /// Least time between two events of one device.
    fn every(&self) -> Duration {
        PROGRESS_EVERY.max(SHARE.saturating_mul(self.0.load(Ordering::Relaxed)))
    }
}

/// One of them, until it is dropped.
struct UnderWay(Uploads);

impl UnderWay {
    fn new(uploads: Uploads) -> Self {
        uploads.0.fetch_add(1, Ordering::Relaxed);
        Self(uploads)
    }
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        self.0.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Thins progress where it arises, so that a fleet's progress costs the reporter little: the less often each device tells,
/// the more there are. The first and the last of an upload are always told.
pub(super) struct Progress {
    id: DeviceId,
    step: usize,
    reporter: actix::Addr<Reporter>,
    clock: Clock,
    under_way: UnderWay,
    last: Option<Time>,
}

impl Progress {
    pub(super) fn new(
        id: DeviceId,
        step: usize,
        reporter: actix::Addr<Reporter>,
        clock: Clock,
        uploads: Uploads,
    ) -> Self {
        Self { id, step, reporter, clock, under_way: UnderWay::new(uploads), last: None }
    }

    pub(super) fn tell(&mut self, done: u64, total: u64) {
        let now = self.clock.now();
        if !is_due(now, self.last, self.under_way.0.every(), done >= total) {
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

fn is_due(now: Time, last: Option<Time>, every: Duration, complete: bool) -> bool {
    complete || last.is_none_or(|last| now >= last + every)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fleet_tells_no_more_often_than_a_few_devices() {
        let uploads = Uploads::default();
        let per_second = |count: u32| {
            uploads.0.store(count, Ordering::Relaxed);
            f64::from(count) / uploads.every().as_secs_f64()
        };
        assert!((per_second(1) - 5.0).abs() < 1e-9, "one device tells five times a second");
        for count in [40, 64, 1000, 100_000] {
            assert!(per_second(count) <= 200.0 + 1e-9, "{count}");
        }
    }

    #[test]
    fn uploads_count_while_they_are_under_way() {
        let uploads = Uploads::default();
        let hundred: Vec<_> = (0..100).map(|_| UnderWay::new(uploads.clone())).collect();
        assert_eq!(uploads.every(), SHARE * 100);
        drop(hundred);
        assert_eq!(uploads.every(), PROGRESS_EVERY);
    }

    #[test]
    fn the_first_and_the_last_are_told() {
        let every = Duration::from_secs(5);
        assert!(is_due(Time::ZERO, None, every, false));
        assert!(!is_due(Time::from_secs(4), Some(Time::ZERO), every, false));
        assert!(is_due(Time::from_secs(5), Some(Time::ZERO), every, false));
        assert!(is_due(Time::from_secs(1), Some(Time::ZERO), every, true));
    }
}
