//! Notifications put together to whole SMP messages. No radio and no clock: time is an argument.

use std::time::Duration;

use tokio::time::Instant;

use crate::smp::{HEADER_LEN, Header, HeaderError, Op};

/// A message that did not go on for this long never will. Shorter than the time that a request waits for its answer
/// (2.5 s), so that the answer to a repeated request does not meet the remains of the first one; longer than what the
/// slowest usual connection (interval 500 ms) takes between two notifications.
pub(super) const PART_LIMIT: Duration = Duration::from_secs(2);

/// Puts messages together. Over GATT nothing marks where one begins: only the length in its header does. Holds at most one
/// message, of at most 8 + 65 535 bytes.
#[derive(Debug, Default)]
pub(super) struct Reassembly {
    part: Vec<u8>,
    last: Option<Instant>,
}

/// What became of a fragment.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Taken {
    /// Messages that are whole now.
    pub messages: Vec<Vec<u8>>,
    /// Bytes that belong to no message.
    pub thrown_away: usize,
}

impl Reassembly {
    /// Takes one notification.
    pub(super) fn take(&mut self, fragment: &[u8], now: Instant) -> Taken {
        let mut taken = Taken::default();
        let stale = self.last.is_some_and(|last| now.duration_since(last) >= PART_LIMIT);
        if stale && !self.part.is_empty() {
            taken.thrown_away += self.part.len();
            self.part.clear();
        }
        self.last = Some(now);
        self.part.extend_from_slice(fragment);
        if self.cut(&mut taken).is_err() {
            taken.thrown_away += self.part.len();
            self.part.clear();
        }
        taken
    }

    /// Cuts whole messages off the front. `Err` where what is at the front is no answer.
    fn cut(&mut self, taken: &mut Taken) -> Result<(), ()> {
        loop {
            // The first byte alone shows most of what is no answer.
            if self.part.first().is_some_and(|&first| !begins_answer(first)) {
                return Err(());
            }
            match Header::decode(&self.part) {
                Ok(header) => {
                    let total = HEADER_LEN + usize::from(header.length);
                    if self.part.len() < total {
                        return Ok(());
                    }
                    let rest = self.part.split_off(total);
                    taken.messages.push(std::mem::replace(&mut self.part, rest));
                }
                Err(HeaderError::Short(_)) => return Ok(()),
                Err(_) => return Err(()),
            }
        }
    }
}

/// Whether a message that starts with this byte can be an answer.
fn begins_answer(first: u8) -> bool {
    let header = [first, 0, 0, 0, 0, 0, 0, 0];
    Header::decode(&header).is_ok_and(|header| matches!(header.op, Op::ReadResponse | Op::WriteResponse))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(sequence: u8, payload: &[u8]) -> Vec<u8> {
        let length = u16::try_from(payload.len()).unwrap();
        let header = Header {
            op: Op::ReadResponse,
            version: crate::smp::Version::V2,
            flags: 0,
            length,
            group: 0,
            sequence,
            command: 0,
        };
        [header.encode().as_slice(), payload].concat()
    }

    fn whole(reassembly: &mut Reassembly, fragments: &[&[u8]]) -> Vec<Vec<u8>> {
        let now = Instant::now();
        fragments.iter().flat_map(|fragment| reassembly.take(fragment, now).messages).collect()
    }

    #[tokio::test]
    async fn a_message_may_be_cut_anywhere() {
        let message = message(7, &[0xa0, 1, 2, 3, 4, 5, 6, 0x01, 0x09, 0, 0, 2]);
        for at in 0..=message.len() {
            let (front, back) = message.split_at(at);
            assert_eq!(
                whole(&mut Reassembly::default(), &[front, back]),
                vec![message.clone()],
                "cut at {at}"
            );
        }
        let bytes: Vec<&[u8]> = message.chunks(1).collect();
        assert_eq!(whole(&mut Reassembly::default(), &bytes), vec![message.clone()]);
        // Two messages, every pair of cuts.
        let two = [message.clone(), message.clone()].concat();
        for first in 0..=two.len() {
            for second in first..=two.len() {
                let parts = [&two[..first], &two[first..second], &two[second..]];
                let found = whole(&mut Reassembly::default(), &parts);
                assert_eq!(found, [message.clone(), message.clone()], "cut at {first} and {second}");
            }
        }
    }

    #[tokio::test]
    async fn garbage_is_thrown_away_and_what_follows_is_read() {
        let good = message(1, &[0xa0]);
        for garbage in [&[0xff; 20][..], &[0x08; 9], &[0x1b], &[0x04, 0, 0]] {
            let mut reassembly = Reassembly::default();
            let taken = reassembly.take(garbage, Instant::now());
            assert_eq!(taken, Taken { messages: vec![], thrown_away: garbage.len() });
            assert_eq!(whole(&mut reassembly, &[&good]), vec![good.clone()], "after {garbage:x?}");
        }
        // Garbage behind a message does not cost the message.
        let mut reassembly = Reassembly::default();
        let taken = reassembly.take(&[good.clone(), vec![0xff, 0xfe]].concat(), Instant::now());
        assert_eq!(taken, Taken { messages: vec![good.clone()], thrown_away: 2 });
        assert_eq!(whole(&mut reassembly, &[&good]), [good]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_message_that_does_not_go_on_is_dropped() {
        let good = message(1, &[0xa1, 2, 3, 4]);
        let mut reassembly = Reassembly::default();
        assert_eq!(reassembly.take(&good[..9], Instant::now()), Taken::default());
        tokio::time::advance(PART_LIMIT - Duration::from_millis(1)).await;
        assert_eq!(reassembly.take(&good[9..], Instant::now()).messages, vec![good.clone()]);
        assert_eq!(reassembly.take(&good[..9], Instant::now()), Taken::default());
        tokio::time::advance(PART_LIMIT).await;
        assert_eq!(
            reassembly.take(&good, Instant::now()),
            Taken { messages: vec![good.clone()], thrown_away: 9 }
        );
    }

    #[tokio::test]
    async fn what_is_held_is_bounded() {
        let mut reassembly = Reassembly::default();
        let now = Instant::now();
        // The longest message that a header can promise, endlessly.
        let endless = [0x09, 0, 0xff, 0xff, 0, 0, 0, 0];
        let mut most = 0;
        for round in 0..40_000 {
            reassembly.take(if round == 0 { &endless } else { &[0x09; 20] }, now);
            most = most.max(reassembly.part.len());
        }
        assert!(most <= HEADER_LEN + usize::from(u16::MAX), "{most}");
    }
}
