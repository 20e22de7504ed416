//! How long an answer usually takes: the estimator of TCP (RFC 6298), for one link. Samples only; what is done when an
//! answer is late is the upload's.

use std::time::Duration;

/// Shortest time after which a chunk is sent again. Longer than parts take to erase one page in the middle of an upload
/// (85 ms on the nRF52, up to 300 ms on serial flash), so that a device that is only busy is not bothered.
const FLOOR: Duration = Duration::from_millis(300);

/// Round trips, smoothed: the mean and the variation (RFC 6298, 2.2 and 2.3); `None` before the first sample.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Smoothed(Option<(Duration, Duration)>);

impl Smoothed {
    fn sample(&mut self, rtt: Duration) {
        self.0 = Some(match self.0 {
            None => (rtt, rtt / 2),
            Some((mean, variation)) => {
                ((mean * 7).saturating_add(rtt) / 8, (variation * 3).saturating_add(mean.abs_diff(rtt)) / 4)
            }
        });
    }

    fn timeout(self) -> Option<Duration> {
        self.0.map(|(mean, variation)| mean.saturating_add(variation.saturating_mul(4)).max(FLOOR))
    }
}

/// Round trips of a link.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct RoundTrips {
    /// However many chunks were in flight: some waited for others.
    all: Smoothed,
    /// Of those that waited for no other.
    alone: Smoothed,
}

impl RoundTrips {
    /// Takes the round trip of one sending. It must be known which sending was answered (RFC 6298, 3): here each has a
    /// number of its own. `alone` is one that had not to wait for others.
    pub fn sample(&mut self, rtt: Duration, alone: bool) {
        self.all.sample(rtt);
        if alone {
            self.alone.sample(rtt);
        }
    }

    /// How long after silence began a chunk is sent again the first time; `None` where nothing was measured.
    #[must_use]
    pub fn timeout(&self) -> Option<Duration> {
        self.all.timeout()
    }

    /// The same for one that does not wait for others.
    #[must_use]
    pub fn timeout_alone(&self) -> Option<Duration> {
        self.alone.timeout().into_iter().chain(self.all.timeout()).min()
    }

    /// The smoothed round trip; `None` where nothing was measured.
    #[must_use]
    pub fn mean(&self) -> Option<Duration> {
        self.all.0.map(|(mean, _)| mean)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    #[test]
    fn timeout_follows_round_trips_and_their_variation() {
        let mut trips = RoundTrips::default();
        assert_eq!((trips.timeout(), trips.mean()), (None, None));
        trips.sample(ms(400), false);
        assert_eq!(trips.timeout(), Some(ms(400 + 4 * 200)), "RFC 6298, 2.2");
        trips.sample(ms(800), false);
        // 7/8 × 400 + 1/8 × 800, and 3/4 × 200 + 1/4 × 400 (2.3)
        assert_eq!((trips.mean(), trips.timeout()), (Some(ms(450)), Some(ms(450 + 4 * 250))));
        (0..100).for_each(|_| trips.sample(ms(800), false));
        let timeout = trips.timeout().expect("samples");
        assert!((ms(795)..ms(801)).contains(&timeout), "a steady link: {timeout:?}");
    }

    #[test]
    fn one_alone_is_overdue_sooner_than_those_that_wait_for_others() {
        let mut trips = RoundTrips::default();
        trips.sample(ms(400), false);
        assert_eq!(trips.timeout_alone(), trips.timeout(), "nothing better is known");
        for _ in 0..100 {
            trips.sample(ms(350), true);
            trips.sample(ms(1050), false);
        }
        let alone = trips.timeout_alone().expect("samples");
        assert!((ms(349)..ms(351)).contains(&alone), "{alone:?}");
        assert!(trips.timeout() > Some(ms(1050)));
    }

    #[test]
    fn fast_link_keeps_the_floor() {
        let mut trips = RoundTrips::default();
        (0..10).for_each(|_| trips.sample(ms(2), false));
        assert_eq!(trips.timeout(), Some(FLOOR));
        trips.sample(Duration::MAX, false);
        trips.sample(Duration::MAX, false);
        assert!(trips.timeout() > Some(FLOOR), "no overflow");
    }
}
