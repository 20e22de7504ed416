//! COBS framing: each message with a CRC behind it, its zero bytes taken out, a zero byte at its end. MCUboot's recovery
//! speaks it where it is built with `BOOT_SERIAL_RAW_PROTOCOL_COBS`. No ports and no clock here.
//!
//! A frame is `COBS(message | CRC16 (2, big endian)) | 00`, the CRC that of console framing (CRC-16/XMODEM). COBS
//! ("Consistent Overhead Byte Stuffing", Cheshire and Baker, IEEE/ACM Transactions on Networking 7(2), 1999) puts before each
//! run of bytes that are not 0 its length and one, at most 255; a run that is shorter stands for its bytes and a 0.

use super::console::DecoderStats;

/// Ends a frame, and stands nowhere within one.
pub const DELIMITER: u8 = 0;
/// Longest message: what the 16-bit length of an SMP header can tell, and the header.
pub const MAX_MESSAGE: usize = super::raw::MAX_MESSAGE;
/// Bytes of a server's `buf_size` that are not available to the message.
pub const BUFFER_OVERHEAD: usize = 0;
/// Bytes of a CRC.
const CRC_LEN: usize = 2;
/// Longest run of bytes that are not 0.
const RUN: usize = 254;
/// Longest frame that is taken from a device, without its delimiter.
const MAX_FRAME: usize = MAX_MESSAGE + CRC_LEN + (MAX_MESSAGE + CRC_LEN) / RUN + 1;

const CRC: crc::Crc<u16> = crc::Crc::<u16>::new(&crc::CRC_16_XMODEM);

/// The frame of one message, its delimiter included.
#[must_use]
pub fn encode(message: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(encoded_len(message.len()));
    let crc = CRC.checksum(message).to_be_bytes();
    let mut run = Vec::with_capacity(RUN);
    let mut flush = |run: &mut Vec<u8>| {
        out.push(u8::try_from(run.len() + 1).unwrap_or(u8::MAX));
        out.append(run);
    };
    for &byte in message.iter().chain(&crc) {
        if byte == 0 {
            flush(&mut run);
            continue;
        }
        run.push(byte);
        if run.len() == RUN {
            flush(&mut run);
        }
    }
    flush(&mut run);
    out.push(DELIMITER);
    out
}

/// Bytes on the wire for a message of `message_len` bytes, at most: what few zeros cost.
#[must_use]
pub const fn encoded_len(message_len: usize) -> usize {
    let bytes = message_len + CRC_LEN;
    bytes + bytes / RUN + 1 + 1
}

/// The message of a frame without its delimiter; `None` where it is damaged.
#[must_use]
pub fn decode(frame: &[u8]) -> Option<Vec<u8>> {
    let mut out = Vec::with_capacity(frame.len());
    let mut rest = frame;
    while let Some((&code, behind)) = rest.split_first() {
        let length = usize::from(code).checked_sub(1)?;
        let (run, behind) = behind.split_at_checked(length)?;
        out.extend_from_slice(run);
        if length < RUN && !behind.is_empty() {
            out.push(0);
        }
        rest = behind;
    }
    let (message, crc) = out.split_last_chunk::<CRC_LEN>()?;
    (!message.is_empty() && CRC.checksum(message).to_be_bytes() == *crc).then(|| message.to_vec())
}

/// Finds messages in a stream of bytes that may carry noise. Memory is bounded by the longest frame.
#[derive(Debug, Default)]
pub struct Decoder {
    frame: Vec<u8>,
    /// The frame under way is too long to be one.
    ignoring: bool,
    stats: DecoderStats,
}

impl Decoder {
    /// A decoder between frames.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes bytes as they came, gives every message that they complete.
    pub fn push(&mut self, bytes: &[u8]) -> Vec<Vec<u8>> {
        let mut messages = Vec::new();
        let mut parts = bytes.split(|byte| *byte == DELIMITER).peekable();
        while let Some(part) = parts.next() {
            if self.ignoring || self.frame.len() + part.len() > MAX_FRAME {
                self.stats.noise_bytes += (self.frame.len() + part.len()) as u64;
                self.frame.clear();
                self.ignoring = true;
            } else {
                self.frame.extend_from_slice(part);
            }
            if parts.peek().is_some() {
                messages.extend(self.end());
            }
        }
        messages
    }

    /// Forgets a frame under way, as after a reconnect.
    pub fn reset(&mut self) {
        self.frame.clear();
        self.ignoring = false;
    }

    /// Bytes held for a frame under way; never more than the longest one has.
    #[must_use]
    pub fn buffered(&self) -> usize {
        self.frame.len()
    }

    /// What was skipped so far.
    #[must_use]
    pub fn stats(&self) -> DecoderStats {
        self.stats
    }

    fn end(&mut self) -> Option<Vec<u8>> {
        let frame = std::mem::take(&mut self.frame);
        if std::mem::take(&mut self.ignoring) || frame.is_empty() {
            return None;
        }
        let message = decode(&frame);
        if message.is_none() {
            self.stats.bad_frames += 1;
        }
        message
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runs_of_any_length_come_back() {
        for len in (1..20).chain(250..260).chain(505..515) {
            for step in [0, 1, 3, 255] {
                let message: Vec<u8> = (0..len).map(|at| u8::try_from(at * step % 256).unwrap()).collect();
                let frame = encode(&message);
                assert!(frame.len() <= encoded_len(len), "{len} {step}");
                let (end, inner) = frame.split_last().unwrap();
                assert!(*end == DELIMITER && !inner.contains(&DELIMITER), "{len} {step}");
                assert_eq!(decode(inner), Some(message), "{len} {step}");
            }
        }
    }

    #[test]
    fn the_longest_frame_has_no_zero() {
        let message = [7; 600];
        assert_eq!(encode(&message).len(), encoded_len(600));
    }

    #[test]
    fn damage_costs_one_frame() {
        let (one, two) = (encode(&[1, 2, 3, 0, 5]), encode(&[6, 0, 0, 7]));
        let mut decoder = Decoder::new();
        let mut damaged = one.clone();
        damaged[2] ^= 0x10;
        let found = decoder.push(&[&b"noise"[..], &[0], &damaged, &two, &one[1..], &one].concat());
        assert_eq!(found, [vec![6, 0, 0, 7], vec![1, 2, 3, 0, 5]]);
        assert_eq!(decoder.stats().bad_frames, 3);
    }

    #[test]
    fn a_crc_alone_is_no_message() {
        // The CRC of nothing is 0.
        assert_eq!(decode(&[1, 1, 1]), None);
    }

    #[test]
    fn what_never_ends_takes_no_memory() {
        let mut decoder = Decoder::new();
        for _ in 0..100 {
            assert!(decoder.push(&[0x55; 4096]).is_empty());
            assert!(decoder.buffered() <= MAX_FRAME);
        }
        decoder.push(&[0]);
        assert_eq!(decoder.push(&encode(&[1, 2])), [vec![1, 2]]);
    }
}
