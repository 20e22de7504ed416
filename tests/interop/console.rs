//! The rig's own console framing and SMP header, so that nothing here depends on the code under test.
//!
//! Sources: Zephyr `doc/services/device_mgmt/smp_transport.rst` (UART framing) and `smp_protocol.rst` (header).

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ciborium::Value;

/// Starts the first line of a frame.
pub(crate) const FIRST: [u8; 2] = [0x06, 0x09];
/// Starts every further line of a frame.
pub(crate) const NEXT: [u8; 2] = [0x04, 0x14];
/// Bytes of a message that fit a line of 128: marker 2, base64 of 93, line feed.
const BYTES_PER_LINE: usize = 93;
/// Bytes of the SMP header.
pub(crate) const HEADER: usize = 8;

/// CRC-16 of the framing: polynomial 0x1021, start 0, no reflection.
const CRC: crc::Crc<u16> = crc::Crc::<u16>::new(&crc::CRC_16_XMODEM);

/// The fields of an SMP header that tell which message it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Head {
    /// 0 read, 1 read answer, 2 write, 3 write answer.
    pub(crate) op: u8,
    /// 0 for the first protocol version, 1 for the second.
    pub(crate) version: u8,
    pub(crate) group: u16,
    pub(crate) command: u8,
    pub(crate) sequence: u8,
}

impl Head {
    /// The header of a message; none where it is shorter than one.
    pub(crate) fn of(message: &[u8]) -> Option<Self> {
        let head = message.get(..HEADER)?;
        Some(Self {
            op: head[0] & 7,
            version: (head[0] >> 3) & 3,
            group: u16::from_be_bytes([head[4], head[5]]),
            command: head[7],
            sequence: head[6],
        })
    }

    /// The whole message: header and body.
    pub(crate) fn message(self, body: &[u8]) -> Vec<u8> {
        let length = u16::try_from(body.len()).expect("a body under 64 KiB").to_be_bytes();
        let group = self.group.to_be_bytes();
        let head = [
            self.op | self.version << 3,
            0,
            length[0],
            length[1],
            group[0],
            group[1],
            self.sequence,
            self.command,
        ];
        [&head, body].concat()
    }
}

/// The body of a message as CBOR; none where it is no CBOR.
pub(crate) fn body(message: &[u8]) -> Option<Value> {
    ciborium::from_reader(message.get(HEADER..)?).ok()
}

/// The unsigned number under `key` of a message's body.
pub(crate) fn number(message: &[u8], key: &str) -> Option<u64> {
    let body = body(message)?;
    let entries = body.as_map()?;
    let value = entries.iter().find(|(name, _)| name.as_text() == Some(key)).map(|(_, value)| value)?;
    u64::try_from(value.as_integer()?).ok()
}

/// A CBOR map in bytes.
pub(crate) fn cbor(entries: &[(&str, Value)]) -> Vec<u8> {
    let map = entries.iter().map(|(key, value)| (Value::from(*key), value.clone())).collect();
    let mut bytes = Vec::new();
    ciborium::into_writer(&Value::Map(map), &mut bytes).expect("writing into memory");
    bytes
}

/// The lines that carry one message.
pub(crate) fn encode(message: &[u8]) -> Vec<u8> {
    let length = u16::try_from(message.len() + 2).expect("a message under 64 KiB").to_be_bytes();
    let packet = [&length, message, &CRC.checksum(message).to_be_bytes()].concat();
    let mut lines = Vec::new();
    for (index, part) in packet.chunks(BYTES_PER_LINE).enumerate() {
        lines.extend(if index == 0 { FIRST } else { NEXT });
        lines.extend(STANDARD.encode(part).as_bytes());
        lines.push(b'\n');
    }
    lines
}

/// What came of one more line.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Line {
    /// No part of a frame: boot log, shell output.
    Text,
    /// Part of a frame that goes on.
    Part,
    /// The last line of this message.
    Message(Vec<u8>),
    /// The end of a frame that was not whole.
    Broken,
}

/// Puts messages together from lines.
#[derive(Debug, Default)]
pub(crate) struct Decoder {
    packet: Vec<u8>,
}

impl Decoder {
    /// Takes a line, with or without its line feed.
    pub(crate) fn line(&mut self, line: &[u8]) -> Line {
        let line = line.strip_suffix(b"\n").unwrap_or(line);
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        let find = |marker: [u8; 2]| line.windows(2).rposition(|pair| pair == marker);
        let rest = if let Some(at) = find(FIRST) {
            self.packet.clear();
            &line[at + 2..]
        } else if let (Some(at), false) = (find(NEXT), self.packet.is_empty()) {
            &line[at + 2..]
        } else {
            return Line::Text;
        };
        let Ok(bytes) = STANDARD.decode(rest) else {
            self.packet.clear();
            return Line::Broken;
        };
        self.packet.extend(bytes);
        let Some(length) =
            self.packet.get(..2).map(|length| usize::from(u16::from_be_bytes([length[0], length[1]])))
        else {
            return Line::Broken;
        };
        if self.packet.len() < length + 2 {
            return Line::Part;
        }
        let packet = std::mem::take(&mut self.packet);
        if packet.len() != length + 2 || CRC.checksum(&packet[2..]) != 0 {
            return Line::Broken;
        }
        Line::Message(packet[2..length].to_vec())
    }
}
