//! The size of a server's buffer, as people know it: in bytes, or as the lines that it takes. No devices here.

use super::model::{Auto, FramingChoice};
use super::problems::excerpt;
use super::reader::{Fields, Reader, parse_size};
use super::scalar::Resolved;
use super::yaml::Node;
use crate::smp::console;

/// Bytes of a buffer.
pub(super) const BYTES: std::ops::RangeInclusive<u64> = 64..=65_535;
/// Bytes of a line, as `line_length`.
pub(super) const LINE_LENGTH: std::ops::RangeInclusive<u64> = 16..=4096;

/// A server's buffer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Buffer {
    /// Its size in bytes, as a server tells it (`buf_size`; Zephyr `CONFIG_MCUMGR_TRANSPORT_NETBUF_SIZE`, MCUboot
    /// `CONFIG_BOOT_SERIAL_MAX_RECEIVE_SIZE`).
    Bytes(u32),
    /// So many lines of so many bytes (MCUboot `CONFIG_BOOT_MAX_LINE_INPUT_LEN` times `CONFIG_BOOT_LINE_BUFS`; Zephyr
    /// `CONFIG_UART_MCUMGR_RX_BUF_SIZE` times `CONFIG_UART_MCUMGR_RX_BUF_COUNT`).
    Lines {
        /// Bytes of a line, marker and newline included.
        length: usize,
        /// How many.
        count: u32,
    },
}

impl Buffer {
    /// Reads `512`, `2KiB` or `128x4`.
    ///
    /// # Errors
    /// Lower-case, what was expected.
    pub fn parse(text: &str) -> Result<Self, String> {
        let expected = || "expected bytes, as 512, or a line's length times their count, as 128x4".to_owned();
        let Some((length, count)) = text.split_once(['x', '*', '×']) else {
            let bytes = parse_size(text).ok_or_else(expected)?;
            return match u32::try_from(bytes) {
                Ok(size) if BYTES.contains(&bytes) => Ok(Self::Bytes(size)),
                _ => Err(format!("expected from {} to {} bytes, got {bytes}", BYTES.start(), BYTES.end())),
            };
        };
        let length: usize = length.trim().parse().map_err(|_| expected())?;
        let count: u32 = count.trim().parse().map_err(|_| expected())?;
        if !u64::try_from(length).is_ok_and(|length| LINE_LENGTH.contains(&length)) {
            return Err(format!(
                "expected lines of {} to {} bytes, got {length}",
                LINE_LENGTH.start(),
                LINE_LENGTH.end()
            ));
        }
        let buffer = Self::Lines { length, count };
        let bytes = u64::from(buffer.bytes(FramingChoice::Console, length));
        let raw = u64::from(buffer.bytes(FramingChoice::Raw, length));
        if !BYTES.contains(&bytes) || !BYTES.contains(&raw) {
            return Err(format!(
                "expected lines that hold from {} to {} bytes, got {bytes}",
                BYTES.start(),
                BYTES.end()
            ));
        }
        Ok(buffer)
    }

    /// Bytes of the packets that it takes: what a server would tell as its `buf_size`, for lines of at most `line_length`
    /// bytes.
    ///
    /// Lines hold base64, so they take less than their length: a message is only sent if all of its lines have a buffer, as
    /// servers that are slow to empty them lose the others without a word. Where nothing is encoded, the buffers hold what
    /// comes as it is. Where the framing is yet to be found out, the lesser of the two counts.
    #[must_use]
    pub fn bytes(self, framing: FramingChoice, line_length: usize) -> u32 {
        match (self, framing) {
            (Self::Bytes(bytes), _) => bytes,
            (Self::Lines { length, count }, FramingChoice::Raw | FramingChoice::Cobs) => {
                u32::try_from(length).unwrap_or(u32::MAX).saturating_mul(count)
            }
            (Self::Lines { length, count }, FramingChoice::Console | FramingChoice::Auto) => {
                let line = console::payload_per_line(length.min(line_length));
                u32::try_from(line).unwrap_or(u32::MAX).saturating_mul(count)
            }
        }
    }

    /// The longest line that it takes, where it tells.
    #[must_use]
    pub fn line_length(self) -> Option<usize> {
        match self {
            Self::Bytes(_) => None,
            Self::Lines { length, .. } => Some(length),
        }
    }
}

/// The key `buffer` of a link: the word `auto`, bytes, or lines.
pub(super) fn read(fields: &Fields<'_>) -> Option<Auto<Buffer>> {
    let node = fields.get("buffer")?;
    match fields.reader.resolve(node) {
        Some(Resolved::Text("auto")) => Some(Auto::Auto),
        Some(Resolved::Int(bytes)) => parse(fields.reader, node, &bytes.to_string()),
        Some(Resolved::Text(text)) => parse(fields.reader, node, text),
        _ => {
            let what = "a number of bytes, or lines such as `128x4`";
            fields.reader.wrong_type(node, "`buffer`, unless `auto`,", what, HELP);
            None
        }
    }
}

const HELP: &str =
    "write bytes, for example `384` or `2KiB`, or the length of a line and their count, for example `128x4`";

fn parse(reader: &Reader<'_>, node: &Node, text: &str) -> Option<Auto<Buffer>> {
    match Buffer::parse(text) {
        Ok(buffer) => Some(Auto::Fixed(buffer)),
        Err(why) => {
            let message = format!("`buffer` cannot be `{}`: {why}", excerpt(text));
            reader.problems.add("plan.bad_size", &node.at, message, HELP);
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buffers_are_bytes_or_lines() {
        let lines = |length, count| Ok(Buffer::Lines { length, count });
        assert_eq!(Buffer::parse("512"), Ok(Buffer::Bytes(512)));
        assert_eq!(Buffer::parse("2KiB"), Ok(Buffer::Bytes(2048)));
        assert_eq!(Buffer::parse("128x4"), lines(128, 4));
        assert_eq!(Buffer::parse("96 * 2"), lines(96, 2));
        assert_eq!(Buffer::parse("512×4"), lines(512, 4));
        let wrong = [
            "",
            "0",
            "63",
            "65536",
            "x4",
            "128x",
            "128x0",
            "15x9",
            "4097x9",
            "4096x17",
            "128x4294967295",
            "-1",
            "1k5",
            "128x4x2",
        ];
        for wrong in wrong {
            assert!(Buffer::parse(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_message_has_no_more_lines_than_there_are_buffers() {
        for (length, count) in [(128, 2), (128, 4), (128, 8), (96, 3), (512, 4), (129, 5)] {
            let buffer = Buffer::Lines { length, count };
            let packet = usize::try_from(buffer.bytes(FramingChoice::Console, length)).unwrap();
            let lines = |message| {
                console::encode(&vec![0; message], length).iter().filter(|byte| **byte == b'\n').count()
            };
            let most = packet - console::PACKET_OVERHEAD;
            assert_eq!(lines(most), usize::try_from(count).unwrap(), "{length}x{count}");
            assert_eq!(lines(most + 1), usize::try_from(count).unwrap() + 1, "{length}x{count}");
        }
    }

    #[test]
    fn shorter_lines_hold_less_and_bare_messages_more() {
        let buffer = Buffer::Lines { length: 128, count: 8 };
        assert_eq!(buffer.bytes(FramingChoice::Console, 128), 8 * 93);
        assert_eq!(buffer.bytes(FramingChoice::Auto, 64), 8 * 45);
        assert_eq!(buffer.bytes(FramingChoice::Raw, 64), 1024);
        assert_eq!(Buffer::Bytes(384).bytes(FramingChoice::Raw, 64), 384);
    }
}
