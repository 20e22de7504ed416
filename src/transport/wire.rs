//! What goes over the wire, told to `tracing` under one target. Who writes it down does not live here.

use std::fmt;

use crate::smp::{Header, Op, Version};

/// The target of every wire event; all are at level TRACE.
pub const TARGET: &str = "flashfleet::wire";

/// Which way something went.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Direction {
    /// To the device.
    Sent,
    /// From the device.
    Received,
}

impl fmt::Display for Direction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Sent => "tx",
            Self::Received => "rx",
        })
    }
}

/// Tells of a chunk of bytes on a stream, as the system took or gave it.
pub(crate) fn chunk(direction: Direction, link: &str, bytes: &[u8]) {
    tracing::trace!(target: TARGET, %direction, link, bytes = %Escaped(bytes));
}

/// Tells of one whole message.
pub(crate) fn message(direction: Direction, link: &str, message: &[u8]) {
    tracing::trace!(target: TARGET, %direction, link, smp = %Message(message));
}

/// Tells of anything else that explains the wire: opened, closed, thrown away.
pub(crate) fn note(link: &str, note: impl fmt::Display) {
    tracing::trace!(target: TARGET, link, note = %note);
}

/// Bytes as quoted text: printable ASCII as it is, everything else as `\xNN`, `\n`, `\r`, `\t`.
struct Escaped<'a>(&'a [u8]);

impl fmt::Display for Escaped<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "\"{}\"", self.0.escape_ascii())
    }
}

/// A message as its header in words, then its payload in hex.
struct Message<'a>(&'a [u8]);

impl fmt::Display for Message<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (header, payload) = match Header::split(self.0) {
            Ok(parts) => parts,
            Err(error) => return write!(f, "malformed ({error}) {}", hex::encode(self.0)),
        };
        let op = match header.op {
            Op::Read => "read",
            Op::ReadResponse => "read-response",
            Op::Write => "write",
            Op::WriteResponse => "write-response",
        };
        let version = match header.version {
            Version::V1 => 1,
            Version::V2 => 2,
        };
        let Header { group, command, sequence, length, .. } = header;
        write!(f, "{op} v{version} group={group} command={command} seq={sequence} length={length} ")?;
        f.write_str(&hex::encode(payload))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_told_by_their_header() {
        // Read, version 2, group 0, command 6 (parameters), sequence 66, an empty map.
        let bytes = [0x08, 0, 0, 1, 0, 0, 66, 6, 0xa0];
        assert_eq!(Message(&bytes).to_string(), "read v2 group=0 command=6 seq=66 length=1 a0");
    }

    #[test]
    fn what_is_no_message_is_shown_whole() {
        assert_eq!(
            Message(&[1, 2]).to_string(),
            "malformed (expected at least 8 bytes of SMP header, got 2) 0102"
        );
    }

    #[test]
    fn bytes_are_readable() {
        assert_eq!(Escaped(b"\x06\x09AAo=\n").to_string(), r#""\x06\tAAo=\n""#);
    }
}
