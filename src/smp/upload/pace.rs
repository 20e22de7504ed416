//! What an upload measures of its own pace. Samples only; what they say of link and device is the diagnosis's.
//!
//! A chunk that went while nothing else was on its way tells the round trip. One that went behind others may have waited
//! for them, so of these only the time from one answer to the next is kept, by how many were in flight.

use std::time::Duration;

use crate::smp::Time;

/// Answers one after the other, with as many chunks in flight all the time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stretch {
    /// Chunks in flight.
    pub in_flight: usize,
    /// Answers.
    pub answers: u32,
    /// Bytes of the file that they told.
    pub bytes: usize,
    /// From the answer before the first of them to the last.
    pub time: Duration,
}

/// What an upload measured.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Pace {
    /// Round trips of full chunks that went alone, and how many.
    alone: (Duration, u32),
    /// Each number in flight once, in no order.
    pub stretches: Vec<Stretch>,
}

impl Pace {
    /// The mean round trip of a full chunk with nothing else on its way; `None` where there was none.
    #[must_use]
    pub fn round_trip(&self) -> Option<Duration> {
        let (time, trips) = self.alone;
        (trips > 0).then(|| time / trips)
    }

    /// A full chunk that went alone was answered after this time.
    pub fn went_alone(&mut self, trip: Duration) {
        let (time, trips) = &mut self.alone;
        *time = time.saturating_add(trip);
        *trips = trips.saturating_add(1);
    }

    /// Answers more with so many chunks in flight.
    pub fn add(&mut self, new: Stretch) {
        match self.stretches.iter_mut().find(|stretch| stretch.in_flight == new.in_flight) {
            Some(stretch) => {
                stretch.answers = stretch.answers.saturating_add(new.answers);
                stretch.bytes = stretch.bytes.saturating_add(new.bytes);
                stretch.time = stretch.time.saturating_add(new.time);
            }
            None => self.stretches.push(new),
        }
    }
}

/// Tells which times between answers are those of one number in flight.
#[derive(Debug, Default)]
pub(super) struct Meter {
    in_flight: usize,
    /// The answer before the next one.
    since: Option<Time>,
    /// Answers to come that still belong to another number in flight, or to trouble.
    skip: usize,
    /// Answers since then, fewer than are in flight, and the bytes that they told. Where the link waits, answers come in
    /// bursts of as many as are in flight: only whole ones tell a pace.
    answers: usize,
    bytes: usize,
}

impl Meter {
    /// An answer came after which nothing is on its way, and `window` chunks will be.
    pub(super) fn begin(&mut self, now: Time, window: usize) {
        self.change(window);
        if window == 1 {
            (self.since, self.skip) = (Some(now), 0);
        }
    }

    /// The answer to a chunk came in its turn, and told so many `bytes`; from now on `window` chunks are in flight.
    pub(super) fn answered(&mut self, now: Time, bytes: usize, window: usize, pace: &mut Pace) {
        if let Some(since) = self.since {
            self.answers += 1;
            self.bytes = self.bytes.saturating_add(bytes);
            if self.answers >= self.in_flight {
                let answers = u32::try_from(self.answers).unwrap_or(u32::MAX);
                let time = now.saturating_sub(since);
                pace.add(Stretch { in_flight: self.in_flight, answers, bytes: self.bytes, time });
                (self.since, self.answers, self.bytes) = (Some(now), 0, 0);
            }
        } else {
            self.skip = self.skip.saturating_sub(1);
            self.since = (self.skip == 0).then_some(now);
        }
        if window != self.in_flight {
            self.change(window);
        }
    }

    /// Something was lost, or late, or refused.
    pub(super) fn disturbed(&mut self) {
        self.change(self.in_flight);
    }

    /// What is on its way was sent at another pace; then the first answer of this one has none before it.
    fn change(&mut self, window: usize) {
        *self = Self { in_flight: window, skip: window.max(1), ..Self::default() };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    #[test]
    fn times_belong_to_the_number_that_was_in_flight() {
        let (mut meter, mut pace) = (Meter::default(), Pace::default());
        meter.begin(ms(0), 1);
        meter.answered(ms(40), 100, 2, &mut pace);
        // Two are in flight from 40 ms on: the answer at 80 ms is the first of them, and none before it is of that pace.
        meter.answered(ms(80), 100, 2, &mut pace);
        meter.answered(ms(85), 100, 2, &mut pace);
        assert_eq!(pace.stretches, [Stretch { in_flight: 1, answers: 1, bytes: 100, time: ms(40) }]);
        meter.answered(ms(120), 100, 2, &mut pace);
        assert_eq!(pace.stretches.len(), 1, "half a burst tells nothing");
        meter.answered(ms(125), 90, 2, &mut pace);
        let two = Stretch { in_flight: 2, answers: 2, bytes: 190, time: ms(40) };
        assert_eq!(pace.stretches[1], two);
        meter.disturbed();
        for at in [900, 905, 940] {
            meter.answered(ms(at), 100, 2, &mut pace);
        }
        assert_eq!(pace.stretches[1], two, "what follows trouble tells nothing of the link");
        meter.answered(ms(945), 100, 2, &mut pace);
        assert_eq!(pace.stretches[1], Stretch { in_flight: 2, answers: 4, bytes: 390, time: ms(80) });
    }

    #[test]
    fn window_that_is_there_at_once_has_its_first_answers_skipped() {
        let (mut meter, mut pace) = (Meter::default(), Pace::default());
        meter.begin(ms(0), 3);
        for at in [40, 45, 50] {
            meter.answered(ms(at), 100, 3, &mut pace);
        }
        assert_eq!(pace.stretches, []);
        for at in [80, 85, 90] {
            meter.answered(ms(at), 100, 3, &mut pace);
        }
        assert_eq!(pace.stretches[0].time, ms(40));
    }

    #[test]
    fn round_trip_is_the_mean_of_those_alone() {
        let mut pace = Pace::default();
        assert_eq!(pace.round_trip(), None);
        pace.went_alone(ms(40));
        pace.went_alone(ms(44));
        assert_eq!(pace.round_trip(), Some(ms(42)));
    }
}
