//! How long an answer usually takes: the estimator of TCP (RFC 6298), for one link. Samples only; what is done when an
//! answer is late is the upload's.

use std::time::Duration;

/// Shortest time after which a chunk is sent again. Longer than parts take to erase one page in the middle of an upload
/// (85 ms on the nRF52, up to 300 ms on serial flash), so that a device that is only busy is not bothered.
const FLOOR: Duration = Duration::from_millis(300);

/// Round trips of a link, smoothed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct RoundTrips {
    /// Smoothed round trip and its variation (RFC 6298, 2.2 and 2.3); `None` before the first sample.
    smoothed: Option<(Duration, Duration)>,
}

impl RoundTrips {
    /// Takes the round trip of a chunk that was sent once: of one that was sent again nobody knows which sending was
    /// answered (RFC 6298, 3).
    pub fn sample(&mut self, rtt: Duration) {
        self.smoothed = Some(match self.smoothed {
            None => (rtt, rtt / 2),
            Some((mean, variation)) => {
                ((mean * 7).saturating_add(rtt) / 8, (variation * 3).saturating_add(mean.abs_diff(rtt)) / 4)
            }
        });
    }

    /// How long after silence began a chunk is sent again the first time; `None` where nothing was measured.
    #[must_use]
    pub fn timeout(&self) -> Option<Duration> {
        self.smoothed.map(|(mean, variation)| mean.saturating_add(variation.saturating_mul(4)).max(FLOOR))
    }

    /// The smoothed round trip; `None` where nothing was measured.
    #[must_use]
    pub fn mean(&self) -> Option<Duration> {
        self.smoothed.map(|(mean, _)| mean)
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
        trips.sample(ms(400));
        assert_eq!(trips.timeout(), Some(ms(400 + 4 * 200)), "RFC 6298, 2.2");
        trips.sample(ms(800));
        // 7/8 × 400 + 1/8 × 800, and 3/4 × 200 + 1/4 × 400 (2.3)
        assert_eq!((trips.mean(), trips.timeout()), (Some(ms(450)), Some(ms(450 + 4 * 250))));
        (0..100).for_each(|_| trips.sample(ms(800)));
        let timeout = trips.timeout().expect("samples");
        assert!((ms(795)..ms(801)).contains(&timeout), "a steady link: {timeout:?}");
    }

    #[test]
    fn fast_link_keeps_the_floor() {
        let mut trips = RoundTrips::default();
        (0..10).for_each(|_| trips.sample(ms(2)));
        assert_eq!(trips.timeout(), Some(FLOOR));
        trips.sample(Duration::MAX);
        trips.sample(Duration::MAX);
        assert!(trips.timeout() > Some(FLOOR), "no overflow");
    }
}
