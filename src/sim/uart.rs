//! The serial side of a simulated device: bytes that take their time on the wire, the pool of line buffers, and packets put
//! together from lines, after Zephyr `drivers/console/uart_mcumgr.c` and `subsys/mgmt/mcumgr/transport/src/serial_util.c`.
//! No ports here: time is an argument.

use std::collections::VecDeque;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::spec::{SimFraming, SimSpec};
use crate::smp::{Time, cobs, console};

/// Bits on the wire for one byte: start, eight data, stop.
const BITS_PER_BYTE: u64 = 10;
/// Longest line that Zephyr's server sends, in bytes (`MCUMGR_SERIAL_MAX_FRAME`).
const TX_LINE_LENGTH: usize = 127;
/// 0 over a message with its own CRC behind it.
static CRC: crc::Crc<u16, crc::Table<16>> = crc::Crc::<u16, crc::Table<16>>::new(&crc::CRC_16_XMODEM);

/// One direction of the serial link.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Wire {
    /// When the last byte given to it has left.
    free_at: Time,
}

impl Wire {
    /// When the last of `len` bytes has left that are given to the wire at `now`.
    pub(super) fn carry(&mut self, now: Time, len: usize, baud: Option<u32>) -> Time {
        self.free_at = self.free_at.max(now) + wire_time(len, baud);
        self.free_at
    }
}

/// How long `len` bytes take on the wire.
pub(super) fn wire_time(len: usize, baud: Option<u32>) -> Duration {
    match baud {
        Some(baud) => {
            Duration::from_nanos(len as u64 * BITS_PER_BYTE * 1_000_000_000 / u64::from(baud.max(1)))
        }
        None => Duration::ZERO,
    }
}

/// A message as the server sends it: its lines, or all of it at once where there are none.
pub(super) fn tx_lines(message: &[u8], framing: SimFraming) -> Vec<Vec<u8>> {
    match framing {
        SimFraming::Console => {
            let encoded = console::encode(message, TX_LINE_LENGTH);
            encoded.split_inclusive(|&byte| byte == b'\n').map(<[u8]>::to_vec).collect()
        }
        SimFraming::Raw => vec![message.to_vec()],
        SimFraming::Cobs => vec![cobs::encode(message)],
    }
}

/// The receiving side: line buffers and the packet under way.
#[derive(Debug, Default)]
pub(super) struct Receiver {
    /// The line under way, without what is beyond the buffer.
    line: Vec<u8>,
    /// The line under way is dropped: too long.
    ignoring: bool,
    /// Whole lines in their buffers, each with the earliest time at which it is taken out.
    pool: VecDeque<(Time, Vec<u8>)>,
    /// When the last of them is taken out.
    drained_at: Time,
    packet: Option<Packet>,
    /// Lines that found no free buffer.
    pub(super) overruns: u64,
}

/// Length, message and CRC, as far as they came.
#[derive(Debug)]
struct Packet {
    bytes: Vec<u8>,
}

impl Packet {
    fn of_at_most(bytes: usize) -> Self {
        Self { bytes: Vec::with_capacity(bytes) }
    }

    /// Length of message and CRC, in bytes, as the packet says; `None` where its first line was too short for that.
    fn length(&self) -> Option<usize> {
        self.bytes.first_chunk::<2>().map(|length| usize::from(u16::from_be_bytes(*length)))
    }

    fn message_and_crc(&self) -> &[u8] {
        self.bytes.get(2..).unwrap_or_default()
    }

    /// The message, where the packet is whole and sound.
    fn into_message(self) -> Option<Vec<u8>> {
        let length = self.length()?;
        let body = self.message_and_crc();
        let sound = body.len() == length && CRC.checksum(body) == 0;
        length.checked_sub(2).filter(|_| sound)?;
        let mut message = self.bytes;
        message.truncate(length);
        message.drain(..2);
        Some(message)
    }
}

impl Receiver {
    /// Forgets everything, as a reset does.
    pub(super) fn clear(&mut self) {
        *self = Self { overruns: self.overruns, ..Self::default() };
    }

    /// Bytes arrive: at most the end of one line.
    pub(super) fn arrive(&mut self, now: Time, bytes: Vec<u8>, spec: &SimSpec) {
        let ends = bytes.ends_with(b"\n");
        if self.ignoring || self.line.len() + bytes.len() > spec.line_length {
            self.ignoring = true;
        } else if self.line.is_empty() {
            self.line = bytes;
        } else {
            self.line.extend_from_slice(&bytes);
        }
        if !ends {
            return;
        }
        let line = std::mem::take(&mut self.line);
        if std::mem::take(&mut self.ignoring) {
            return;
        }
        if self.pool.len() >= spec.line_buffers {
            self.overruns += 1;
            return;
        }
        self.drained_at = self.drained_at.max(now) + Duration::from_micros(spec.line_us);
        self.pool.push_back((self.drained_at, line));
    }

    /// When the next line is taken out of its buffer, if nothing stalls the server.
    pub(super) fn next_line_at(&self) -> Option<Time> {
        self.pool.front().map(|(at, _)| *at)
    }

    /// Takes a line out; gives the message that it completes. A packet larger than `buf_size`, with its length and CRC,
    /// does not fit into a netbuf and is dropped.
    pub(super) fn take_line(&mut self, buf_size: u32) -> Option<Vec<u8>> {
        let (_, line) = self.pool.pop_front()?;
        let text = line.trim_ascii_end();
        let (marker, base64) = text.split_first_chunk::<2>()?;
        let first = *marker == console::START;
        if !first && *marker != console::CONTINUATION {
            return None;
        }
        // A packet that goes wrong is gone, and what continues it continues nothing.
        let under_way = self.packet.take();
        let mut packet = if first { Packet::of_at_most(buf_size as usize) } else { under_way? };
        STANDARD.decode_vec(base64, &mut packet.bytes).ok()?;
        if packet.message_and_crc().len() + 2 > buf_size as usize {
            return None;
        }
        if packet.message_and_crc().len() < packet.length()? {
            self.packet = Some(packet);
            return None;
        }
        packet.into_message()
    }
}
