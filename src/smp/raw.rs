//! Raw framing: messages one after the other as they are, told apart by the length in their headers (`smp_transport.rst`,
//! "Raw UART/serial (without console)"). No ports and no clock here: time is an argument.
//!
//! Nothing marks where a message begins, and nothing tells a damaged one from a sound one. So a server that lost a byte
//! takes the first bytes of the next message for the rest of this one. It finds back where it is told to give up on a
//! message that does not end (Zephyr `CONFIG_MCUMGR_TRANSPORT_RAW_UART_INPUT_TIMEOUT`, 3 s after the first byte of it;
//! MCUboot `CONFIG_BOOT_SERIAL_RAW_PROTOCOL_INPUT_TIMEOUT`), and where it reads a header that cannot be one: an operation
//! that is none, or a length beyond its buffer. Silence is what brings both back into step; see [`SILENCE`].

use std::time::Duration;

use super::console::DecoderStats;
use super::{HEADER_LEN, Time};

/// How long a message from the device may pause before it is given up. A device sends a message in one go, but a serial
/// server or a USB bridge may hold a part of it back.
pub const GAP: Duration = Duration::from_millis(500);
/// After this long without a byte, a server that waits for the rest of a message has given it up: Zephyr's input timeout of
/// 3 s (`CONFIG_MCUMGR_TRANSPORT_RAW_UART_INPUT_TIMEOUT_TIME_MS`), and a little.
pub const SILENCE: Duration = Duration::from_millis(3200);
/// Longest message that the 16-bit length of a header can tell, in bytes.
pub const MAX_MESSAGE: usize = HEADER_LEN + u16::MAX as usize;

/// Finds messages in a stream of bytes that may carry noise. Memory is bounded by the longest message and what is pushed at
/// once.
#[derive(Debug, Default)]
pub struct Decoder {
    /// What may still become a message; begins with what may be its header.
    bytes: Vec<u8>,
    /// When the last bytes came.
    latest: Time,
    stats: DecoderStats,
}

impl Decoder {
    /// A decoder between messages.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes bytes that came at `now`, gives every message that they complete.
    pub fn push(&mut self, now: Time, bytes: &[u8]) -> Vec<Vec<u8>> {
        let mut messages = self.handle_timeout(now);
        self.latest = now;
        self.bytes.extend_from_slice(bytes);
        messages.append(&mut self.scan(false));
        messages
    }

    /// Gives up the message under way where the device has paused for [`GAP`]: what looked like a header was none, or the rest
    /// is lost. What came after it may hold a message; gives those.
    pub fn handle_timeout(&mut self, now: Time) -> Vec<Vec<u8>> {
        if self.next_timeout().is_none_or(|due| now < due) {
            return Vec::new();
        }
        self.scan(true)
    }

    /// When [`Self::handle_timeout`] has something to do.
    #[must_use]
    pub fn next_timeout(&self) -> Option<Time> {
        (!self.bytes.is_empty()).then(|| self.latest + GAP)
    }

    /// Forgets a message under way, as after a reconnect.
    pub fn reset(&mut self) {
        self.bytes.clear();
    }

    /// Bytes held for a message under way.
    #[must_use]
    pub fn buffered(&self) -> usize {
        self.bytes.len()
    }

    /// What was skipped so far.
    #[must_use]
    pub fn stats(&self) -> DecoderStats {
        self.stats
    }

    /// Takes whole messages off the front, and whatever cannot be the beginning of one. Where nothing more comes (`ended`)
    /// that is every beginning that does not end.
    fn scan(&mut self, ended: bool) -> Vec<Vec<u8>> {
        let mut messages = Vec::new();
        let mut at = 0;
        while let Some(rest) = self.bytes.get(at..).filter(|rest| !rest.is_empty()) {
            let whole = length(rest).and_then(|length| rest.get(..length));
            let step = match whole {
                _ if !may_begin(rest) => None,
                Some(message) => {
                    messages.push(message.to_vec());
                    Some(message.len())
                }
                None if ended => {
                    self.stats.bad_frames += 1;
                    None
                }
                None => break,
            };
            self.stats.noise_bytes += u64::from(step.is_none());
            at += step.unwrap_or(1);
        }
        self.bytes.drain(..at);
        messages
    }
}

/// Length of the message whose header `bytes` begin with; `None` where there is less than a header.
fn length(bytes: &[u8]) -> Option<usize> {
    let &[_, _, high, low, _, _, _, _, ..] = bytes else { return None };
    Some(HEADER_LEN + usize::from(u16::from_be_bytes([high, low])))
}

/// Whether `bytes`, as far as they go, can be the beginning of a device's message (`smp_protocol.rst`, "Frame: The
/// envelope"): an answer of a version that exists, its reserved bits and flags 0, its payload a map.
fn may_begin(bytes: &[u8]) -> bool {
    let first = bytes.first().is_none_or(|first| matches!(first, 0x01 | 0x03 | 0x09 | 0x0b));
    let flags = bytes.get(1).is_none_or(|flags| *flags == 0);
    // No answer is empty: even an empty map is a byte.
    let empty = length(bytes) == Some(HEADER_LEN);
    let payload = bytes.get(HEADER_LEN).is_none_or(|first| first >> 5 == CBOR_MAP);
    first && flags && !empty && payload
}

/// Major type of a map (RFC 8949, 3.1).
const CBOR_MAP: u8 = 5;

#[cfg(test)]
mod tests {
    use super::*;

    fn at(ms: u64) -> Time {
        Duration::from_millis(ms)
    }

    fn answer(sequence: u8, text: usize) -> Vec<u8> {
        let mut message = vec![0x09, 0, 0, 0, 0, 0, sequence, 0, 0xa1, 0x61, b'r', 0x78];
        message.push(u8::try_from(text).unwrap());
        message.resize(message.len() + text, b'x');
        message[3] = u8::try_from(message.len() - HEADER_LEN).unwrap();
        message
    }

    #[test]
    fn messages_come_whole_however_they_are_split() {
        let (one, two) = (answer(1, 40), answer(2, 0));
        let stream = [one.clone(), two.clone()].concat();
        for size in 1..stream.len() {
            let mut decoder = Decoder::new();
            let found: Vec<_> = stream.chunks(size).flat_map(|part| decoder.push(at(0), part)).collect();
            assert_eq!(found, [one.clone(), two.clone()], "{size}");
            assert_eq!((decoder.buffered(), decoder.stats()), (0, DecoderStats::default()));
        }
    }

    #[test]
    fn text_before_a_message_is_noise() {
        let mut decoder = Decoder::new();
        let log = b"*** Booting Zephyr OS ***\r\n\tuart:~$ ";
        assert!(decoder.push(at(0), log).is_empty());
        assert_eq!(decoder.push(at(0), &answer(1, 3)), [answer(1, 3)]);
        assert_eq!(decoder.stats(), DecoderStats { noise_bytes: log.len() as u64, bad_frames: 0 });
    }

    #[test]
    fn a_message_that_stops_is_given_up_and_one_behind_it_found() {
        let mut decoder = Decoder::new();
        let cut = &answer(1, 200)[..100];
        assert!(decoder.push(at(0), cut).is_empty());
        // The next one comes too soon to be told from its rest.
        assert!(decoder.push(at(100), &answer(2, 5)).is_empty());
        assert_eq!(decoder.next_timeout(), Some(at(600)));
        assert!(decoder.handle_timeout(at(599)).is_empty());
        assert_eq!(decoder.handle_timeout(at(600)), [answer(2, 5)]);
        assert_eq!((decoder.buffered(), decoder.next_timeout()), (0, None));
        assert!(decoder.stats().bad_frames > 0);
        assert_eq!(decoder.push(at(601), &answer(3, 5)), [answer(3, 5)]);
    }

    #[test]
    fn the_first_bytes_after_a_pause_begin_a_message() {
        let mut decoder = Decoder::new();
        assert!(decoder.push(at(0), &answer(1, 200)[..100]).is_empty());
        assert_eq!(decoder.push(at(500), &answer(2, 5)), [answer(2, 5)]);
    }

    #[test]
    fn what_no_answer_begins_with_holds_up_none() {
        // An answer without a payload, and one whose payload is no map.
        for wrong in [&[0x01, 0, 0, 0, 0, 0, 7, 0][..], &[0x01, 0, 0, 1, 0, 0, 7, 0, 0x80]] {
            let mut decoder = Decoder::new();
            assert!(decoder.push(at(0), wrong).is_empty(), "{wrong:x?}");
            assert_eq!(decoder.push(at(0), &answer(1, 3)), [answer(1, 3)], "{wrong:x?}");
            assert_eq!(decoder.stats().noise_bytes, wrong.len() as u64);
        }
    }

    #[test]
    fn requests_are_no_answers() {
        let mut decoder = Decoder::new();
        // A device that sends back what it gets.
        assert!(decoder.push(at(0), &[0x08, 0, 0, 1, 0, 0, 66, 6, 0xa0]).is_empty());
        // From the 1 on it might still be the beginning of one.
        assert_eq!(decoder.buffered(), 6);
        assert!(decoder.handle_timeout(at(500)).is_empty());
        assert_eq!(decoder.buffered(), 0);
    }
}
