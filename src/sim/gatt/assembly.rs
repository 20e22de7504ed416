//! Messages from writes, after Zephyr `subsys/mgmt/mcumgr/transport/src/smp_bt.c` and `smp_reassembly.c`. Pure.

use crate::smp::HEADER_LEN;

/// A message that comes in several writes. There is one for the whole server, whoever writes.
#[derive(Debug, Default)]
pub(in crate::sim) struct Assembly {
    /// What has come, and how many bytes are missing.
    current: Option<(Vec<u8>, usize)>,
}

/// What became of a write.
#[derive(Debug, PartialEq, Eq)]
pub(in crate::sim) enum Collected {
    /// It completes this message.
    Message(Vec<u8>),
    /// More is to come.
    More,
    /// It was refused, and what it continued is dropped. The error of an unacknowledged write is heard by nobody.
    Refused,
}

impl Assembly {
    /// Drops what has come.
    pub(in crate::sim) fn clear(&mut self) {
        self.current = None;
    }

    /// One write where each is a message: it fits into a buffer of `buf_size` bytes, or it is refused.
    pub(in crate::sim) fn whole(value: Vec<u8>, buf_size: usize) -> Collected {
        if value.len() <= buf_size { Collected::Message(value) } else { Collected::Refused }
    }

    /// One write where messages are put together. `free` says whether a first one finds a buffer.
    pub(in crate::sim) fn collect(&mut self, value: &[u8], buf_size: usize, free: bool) -> Collected {
        let (mut message, missing) = match self.current.take() {
            Some(started) => started,
            None => {
                let Some(&[_, _, high, low, ..]) = value.first_chunk::<HEADER_LEN>() else {
                    return Collected::Refused;
                };
                let length = HEADER_LEN + usize::from(u16::from_be_bytes([high, low]));
                if length > buf_size || !free {
                    return Collected::Refused;
                }
                (Vec::with_capacity(length), length)
            }
        };
        let Some(missing) = missing.checked_sub(value.len()) else { return Collected::Refused };
        message.extend_from_slice(value);
        if missing == 0 {
            return Collected::Message(message);
        }
        self.current = Some((message, missing));
        Collected::More
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A header that announces `length` bytes, with `length` bytes behind it.
    fn message(length: u8) -> Vec<u8> {
        let mut message = vec![0, 0, 0, length, 0, 0, 7, 0];
        message.extend(0..length);
        message
    }

    #[test]
    fn a_message_is_put_together_from_its_writes() {
        let mut assembly = Assembly::default();
        let whole = message(30);
        assert_eq!(assembly.collect(&whole[..20], 64, true), Collected::More);
        assert_eq!(
            assembly.collect(&whole[20..30], 64, false),
            Collected::More,
            "its buffer is held already"
        );
        assert_eq!(assembly.collect(&whole[30..], 64, false), Collected::Message(whole));
        assert!(assembly.current.is_none());
    }

    #[test]
    fn what_does_not_fit_is_refused_and_drops_what_came_before() {
        let mut assembly = Assembly::default();
        assert_eq!(assembly.collect(&[0; 7], 64, true), Collected::Refused, "less than a header");
        assert_eq!(assembly.collect(&message(57), 64, true), Collected::Refused, "more than a buffer");
        assert_eq!(assembly.collect(&message(10), 64, false), Collected::Refused, "no buffer");
        let two = [message(1), message(1)].concat();
        assert_eq!(assembly.collect(&two, 64, true), Collected::Refused, "more than one message");
        let whole = message(30);
        assert_eq!(assembly.collect(&whole[..20], 64, true), Collected::More);
        assert_eq!(assembly.collect(&whole[..20], 64, true), Collected::Refused, "more than is missing");
        assert!(assembly.current.is_none());
        assert_eq!(assembly.collect(&whole, 64, true), Collected::Message(whole));
    }

    #[test]
    fn without_reassembly_each_write_is_a_message() {
        assert_eq!(Assembly::whole(vec![1; 64], 64), Collected::Message(vec![1; 64]));
        assert_eq!(Assembly::whole(vec![1; 65], 64), Collected::Refused);
    }
}
