//! Console framing: one message as base64 lines among other text (`smp_transport.rst`, "UART/serial and
//! console", "Fragmentation and framing"). No ports and no clock here.
//!
//! A packet is `length (2, big endian) | message | CRC16 (2, big endian)`, where length counts message and CRC, and the
//! CRC (CRC-16/XMODEM) covers the message alone. The packet is cut into lines: `06 09` before the first, `04 14` before
//! each further one, then base64, then a newline.

use base64::Engine as _;
use base64::alphabet;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};

/// Starts the first line of a packet.
pub const START: [u8; 2] = [0x06, 0x09];
/// Starts each further line of a packet.
pub const CONTINUATION: [u8; 2] = [0x04, 0x14];
/// Bytes of a packet besides the message: length and CRC. A server's `buf_size` holds these too.
pub const PACKET_OVERHEAD: usize = 4;
/// Longest line that every server takes, marker and newline included.
pub const DEFAULT_LINE_LENGTH: usize = 128;
/// Longest message that the 16-bit packet length can hold.
pub const MAX_MESSAGE: usize = u16::MAX as usize - 2;
/// Marker and newline.
const LINE_OVERHEAD: usize = 3;
/// Longest line accepted from a device: the longest packet, in base64.
const MAX_LINE: usize = (MAX_MESSAGE + PACKET_OVERHEAD).div_ceil(3) * 4;

/// Sixteen bytes at a time: the CRC would else be a third of the time that it takes to frame a message.
static CRC: crc::Crc<u16, crc::Table<16>> = crc::Crc::<u16, crc::Table<16>>::new(&crc::CRC_16_XMODEM);
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &alphabet::STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// Bytes of a packet in one line of `line_length` bytes, marker and newline included: whole base64 quanta, at least one.
#[must_use]
pub fn payload_per_line(line_length: usize) -> usize {
    (line_length.saturating_sub(LINE_OVERHEAD) / 4).max(1) * 3
}

/// The lines of one message, ready for the wire. `line_length` counts marker and newline; a line holds at least three
/// bytes of the packet, however short it is.
///
/// The 16-bit length cannot tell messages of more than [`MAX_MESSAGE`] bytes: callers refuse those first, no receiver
/// takes what comes out here.
#[must_use]
pub fn encode(message: &[u8], line_length: usize) -> Vec<u8> {
    let length = u16::try_from(message.len() + 2).unwrap_or(u16::MAX);
    let mut packet = Vec::with_capacity(message.len() + PACKET_OVERHEAD);
    packet.extend_from_slice(&length.to_be_bytes());
    packet.extend_from_slice(message);
    packet.extend_from_slice(&CRC.checksum(message).to_be_bytes());
    // Text, as the base64 engine adds to texts in place; all of it is ASCII.
    let mut out = String::with_capacity(encoded_len(message.len(), line_length));
    let mut marker = START;
    for chunk in packet.chunks(payload_per_line(line_length)) {
        out.extend(marker.map(char::from));
        BASE64.encode_string(chunk, &mut out);
        out.push('\n');
        marker = CONTINUATION;
    }
    out.into_bytes()
}

/// Bytes on the wire for a message of `message_len` bytes.
#[must_use]
pub fn encoded_len(message_len: usize, line_length: usize) -> usize {
    let packet = message_len + PACKET_OVERHEAD;
    let per_line = payload_per_line(line_length);
    let (full, rest) = (packet / per_line, packet % per_line);
    let rest_len = if rest == 0 { 0 } else { LINE_OVERHEAD + rest.div_ceil(3) * 4 };
    full * (LINE_OVERHEAD + per_line / 3 * 4) + rest_len
}

/// What the decoder had to skip, for the wire log and for link quality.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct DecoderStats {
    /// Bytes outside of frames: boot logs, shell output, line noise.
    pub noise_bytes: u64,
    /// Frames thrown away: bad base64, bad CRC, bad length, a continuation of nothing.
    pub bad_frames: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// Between frames.
    Idle,
    /// After the first byte of a marker.
    Marker(u8),
    /// In the base64 of a line.
    Line,
}

/// Finds messages in a stream of bytes that also carries other text. Memory is bounded by the longest packet.
#[derive(Debug)]
pub struct Decoder {
    state: State,
    /// Base64 of the line under way.
    line: Vec<u8>,
    /// Decoded bytes of the packet under way, its length field included; `None` outside of a packet.
    packet: Option<Vec<u8>>,
    stats: DecoderStats,
}

impl Default for Decoder {
    fn default() -> Self {
        Self::new()
    }
}

impl Decoder {
    /// A decoder between frames.
    #[must_use]
    pub fn new() -> Self {
        Self { state: State::Idle, line: Vec::new(), packet: None, stats: DecoderStats::default() }
    }

    /// Takes bytes as they came, gives every message that they complete.
    pub fn push(&mut self, bytes: &[u8]) -> Vec<Vec<u8>> {
        let mut messages = Vec::new();
        for &byte in bytes {
            if let Some(message) = self.push_byte(byte) {
                messages.push(message);
            }
        }
        messages
    }

    /// Forgets a frame under way, as after a reconnect.
    pub fn reset(&mut self) {
        self.state = State::Idle;
        self.line.clear();
        self.packet = None;
    }

    /// Bytes held for a frame under way; never more than the longest packet and the longest line.
    #[must_use]
    pub fn buffered(&self) -> usize {
        self.line.len() + self.packet.as_ref().map_or(0, Vec::len)
    }

    /// What was skipped so far.
    #[must_use]
    pub fn stats(&self) -> DecoderStats {
        self.stats
    }

    fn push_byte(&mut self, byte: u8) -> Option<Vec<u8>> {
        // No base64 text holds the first byte of a marker, so one of them ends whatever was under way: a line whose
        // newline got lost may still complete a packet, and the CRC says whether it does.
        if byte == START[0] || byte == CONTINUATION[0] {
            let message = if self.state == State::Line { self.end_line() } else { None };
            self.state = State::Marker(byte);
            return message;
        }
        match self.state {
            State::Idle => {
                self.stats.noise_bytes += 1;
                None
            }
            State::Marker(first) => {
                self.line.clear();
                if [first, byte] == START {
                    if self.packet.take().is_some() {
                        self.stats.bad_frames += 1;
                    }
                    self.packet = Some(Vec::new());
                    self.state = State::Line;
                } else if [first, byte] == CONTINUATION {
                    if self.packet.is_none() {
                        self.stats.bad_frames += 1;
                        self.state = State::Idle;
                    } else {
                        self.state = State::Line;
                    }
                } else {
                    self.stats.noise_bytes += 2;
                    self.state = State::Idle;
                }
                None
            }
            State::Line if byte == b'\n' => {
                self.state = State::Idle;
                self.end_line()
            }
            State::Line if byte == b'\r' => None,
            State::Line => {
                let base64 = byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'/' | b'=');
                if !base64 || self.line.len() >= MAX_LINE {
                    self.drop_packet();
                    self.state = State::Idle;
                } else {
                    self.line.push(byte);
                }
                None
            }
        }
    }

    fn drop_packet(&mut self) {
        self.packet = None;
        self.line.clear();
        self.stats.bad_frames += 1;
    }

    /// Adds a finished line to the packet; gives the message where the packet is complete and sound.
    fn end_line(&mut self) -> Option<Vec<u8>> {
        // Of no packet: it is no matter what it says.
        let packet = self.packet.as_mut()?;
        if BASE64.decode_vec(&self.line, packet).is_err() {
            self.drop_packet();
            return None;
        }
        let &[high, low, ref body @ ..] = packet.as_slice() else {
            self.drop_packet();
            return None;
        };
        let length = usize::from(u16::from_be_bytes([high, low]));
        if body.len() < length && length >= 2 {
            return None;
        }
        let message = body.split_last_chunk::<2>().and_then(|(message, crc)| {
            let sound = body.len() == length && CRC.checksum(message).to_be_bytes() == *crc;
            sound.then(|| message.to_vec())
        });
        if message.is_some() {
            self.packet = None;
            self.line.clear();
        } else {
            self.drop_packet();
        }
        message
    }
}
