//! The one timer of a conversation. Nothing is known here of what is waited for.

use std::pin::Pin;

use tokio::time::{Instant, Sleep, sleep_until};

/// A timer that is set anew for every wait and never put away: a timer that is moved to a later time stays where it is in
/// the runtime's wheel, while making and dropping one for every message touches the timers of other devices each time.
#[derive(Debug, Default)]
pub(super) struct Alarm(Option<Pin<Box<Sleep>>>);

impl Alarm {
    /// Waits until `at`. Cancel safe.
    pub(super) async fn rings(&mut self, at: Instant) {
        let sleep = self.0.get_or_insert_with(|| Box::pin(sleep_until(at)));
        if sleep.deadline() != at {
            sleep.as_mut().reset(at);
        }
        sleep.as_mut().await;
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::time::timeout;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn it_rings_at_the_time_it_was_set_to_last() {
        let start = Instant::now();
        let mut alarm = Alarm::default();
        let ms = Duration::from_millis;
        for (at, given_up) in [(1000, 10), (2000, 20), (50, 30)] {
            let rang = timeout(ms(given_up) - start.elapsed(), alarm.rings(start + ms(at))).await;
            assert!(rang.is_err(), "set to {at} ms, given up after {given_up} ms");
        }
        alarm.rings(start + ms(70)).await;
        assert_eq!(start.elapsed(), ms(70));
        alarm.rings(start + ms(70)).await;
        assert_eq!(start.elapsed(), ms(70), "it is that time already");
        alarm.rings(start + ms(40)).await;
        assert_eq!(start.elapsed(), ms(70), "it was that time already");
        alarm.rings(start + ms(5000)).await;
        assert_eq!(start.elapsed(), ms(5000));
    }
}
