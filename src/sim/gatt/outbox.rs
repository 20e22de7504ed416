//! What a central means by its writes, whatever the server makes of them: which message each belongs to. For the faults. Pure.

use std::collections::HashMap;

use crate::sim::fault::LostWrite;
use crate::smp::{HEADER_LEN, Header};

/// The messages that centrals write to one device.
#[derive(Debug, Default)]
pub(in crate::sim) struct Outbox {
    /// Messages so far, by group and command.
    messages: HashMap<(u16, u8), u64>,
    /// The message under way, and how many bytes of it are to come.
    current: Option<(Written, usize)>,
}

/// One write.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::sim) struct Written {
    group: u16,
    command: u8,
    /// Which message to this command, from 1.
    nth: u64,
    /// Which write of the message, from 1.
    write: u64,
}

impl Written {
    /// Whether it is the one that is lost.
    pub(in crate::sim) fn is(self, lost: &LostWrite) -> bool {
        let Self { group, command, nth, write } = self;
        (group, command, nth, write) == (lost.group, lost.command, lost.nth, lost.write)
    }
}

impl Outbox {
    /// The next write; `None` where it belongs to no message.
    pub(in crate::sim) fn next(&mut self, value: &[u8]) -> Option<Written> {
        let (written, missing) = match self.current.take() {
            Some((last, missing)) => (Written { write: last.write + 1, ..last }, missing),
            None => {
                let header = Header::decode(value).ok()?;
                let (group, command) = (header.group, header.command);
                let nth = self.messages.entry((group, command)).or_default();
                *nth += 1;
                (Written { group, command, nth: *nth, write: 1 }, HEADER_LEN + usize::from(header.length))
            }
        };
        let missing = missing.saturating_sub(value.len());
        self.current = (missing > 0).then_some((written, missing));
        Some(written)
    }

    /// The central is gone, and with it what it had not written yet.
    pub(in crate::sim) fn leave(&mut self) {
        self.current = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn writes_are_told_apart_by_their_message() {
        let mut outbox = Outbox::default();
        let mut message = vec![2, 0, 0, 20, 0, 1, 7, 1];
        message.extend([0; 20]);
        let mut writes = |pieces: &[usize]| {
            let mut at = 0;
            let take = |len: &usize| {
                at += len;
                outbox.next(&message[at - len..at]).map(|it| (it.group, it.command, it.nth, it.write))
            };
            pieces.iter().map(take).collect::<Vec<_>>()
        };
        assert_eq!(writes(&[10, 10, 8]), [Some((1, 1, 1, 1)), Some((1, 1, 1, 2)), Some((1, 1, 1, 3))]);
        assert_eq!(writes(&[28]), [Some((1, 1, 2, 1))]);
        assert_eq!(writes(&[4]), [None], "no header");
        assert_eq!(writes(&[20]), [Some((1, 1, 3, 1))]);
        outbox.leave();
        assert_eq!(outbox.next(&message).map(|it| (it.nth, it.write)), Some((4, 1)));
    }
}
