//! One request on its way to a device and the answer on its way back, with their payloads already in CBOR. Typed
//! messages live in [`super::message`], matching of answers to requests in [`super::exchange`].

use std::borrow::Cow;
use std::fmt;
use std::time::Duration;

use bytes::Bytes;
use ciborium_ll::{Encoder, Header as Item};

use super::errors::ResponseError;
use super::message::{EncodeError, Repeat, Request, decode_response, encode_body};
use super::{HEADER_LEN, Header, Op, Version, group};

/// What a request asks for: operation, group and command.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct RequestId {
    /// [`Op::Read`] or [`Op::Write`].
    pub op: Op,
    /// Management group.
    pub group: u16,
    /// Command within the group.
    pub command: u8,
}

impl RequestId {
    /// The identity of a typed request.
    #[must_use]
    pub const fn of<R: Request>() -> Self {
        Self { op: R::OP, group: R::GROUP, command: R::COMMAND }
    }

    /// The command's name in the specification (`smp_groups/`); `None` for commands that it does not know.
    #[must_use]
    pub fn name(self) -> Option<&'static str> {
        let write = matches!(self.op, Op::Write | Op::WriteResponse);
        Some(match (self.group, self.command) {
            (group::OS, 0) => "echo",
            (group::OS, 1) => "console echo control",
            (group::OS, 2) => "task statistics",
            (group::OS, 3) => "memory pool statistics",
            (group::OS, 4) if write => "set date and time",
            (group::OS, 4) => "get date and time",
            (group::OS, 5) => "system reset",
            (group::OS, 6) => "MCUmgr parameters",
            (group::OS, 7) => "application information",
            (group::OS, 8) => "bootloader information",
            (group::IMAGE, 0) if write => "set image state",
            (group::IMAGE, 0) => "image list",
            (group::IMAGE, 1) => "image upload",
            (group::IMAGE, 5) => "image erase",
            (group::IMAGE, 6) => "slot information",
            (group::STAT, 0) => "statistics",
            (group::STAT, 1) => "list of statistics",
            (group::SETTINGS, 0) if write => "write setting",
            (group::SETTINGS, 0) => "read setting",
            (group::SETTINGS, 1) => "delete setting",
            (group::SETTINGS, 2) => "commit settings",
            (group::SETTINGS, 3) if write => "save settings",
            (group::SETTINGS, 3) => "load settings",
            (group::FS, 0) if write => "file upload",
            (group::FS, 0) => "file download",
            (group::FS, 1) => "file status",
            (group::FS, 2) => "file hash",
            (group::FS, 3) => "supported file hashes",
            (group::FS, 4) => "close file",
            (group::SHELL, 0) => "shell command",
            (group::ENUM, 0) => "count of groups",
            (group::ENUM, 1) => "list of groups",
            (group::ENUM, 2) => "group identifier",
            (group::ENUM, 3) => "group details",
            (group::ZEPHYR, 0) => "erase storage",
            _ => return None,
        })
    }
}

impl fmt::Display for RequestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(name) = self.name() {
            return f.write_str(name);
        }
        let op = match self.op {
            Op::Read | Op::ReadResponse => "read",
            Op::Write | Op::WriteResponse => "write",
        };
        write!(f, "{op} of group {} command {}", self.group, self.command)
    }
}

/// A request with its payload in CBOR. It always fits a message: longer payloads are refused when it is made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RawRequest {
    id: RequestId,
    version: Version,
    repeat: Repeat,
    /// The payload, but for what is shared.
    own: Vec<u8>,
    /// Bytes that many requests hold, in place.
    shared: Bytes,
    /// Where in `own` they belong.
    shared_at: usize,
}

/// An empty byte string in CBOR (RFC 8949, 3.1, major type 2).
const EMPTY_BYTES: u8 = 0x40;

impl RawRequest {
    /// Encodes a typed request, in protocol version 2.
    ///
    /// # Errors
    /// [`EncodeError`] for a payload of more than 65 535 bytes.
    pub fn new<R: Request>(request: &R) -> Result<Self, EncodeError> {
        Self::from_parts(RequestId::of::<R>(), R::REPEAT, encode_body(request)?)
    }

    /// A request from a payload that is encoded already, in protocol version 2.
    ///
    /// # Errors
    /// [`EncodeError`] for a payload of more than 65 535 bytes, or an operation that is an answer.
    pub fn from_parts(id: RequestId, repeat: Repeat, payload: Vec<u8>) -> Result<Self, EncodeError> {
        if u16::try_from(payload.len()).is_err() {
            return Err(EncodeError::TooLong(payload.len()));
        }
        if !matches!(id.op, Op::Read | Op::Write) {
            return Err(EncodeError::NotARequest(id.op));
        }
        Ok(Self { id, version: Version::V2, repeat, own: payload, shared: Bytes::new(), shared_at: 0 })
    }

    /// Puts `bytes` in the place of the empty byte string that is followed by `after` bytes of payload. They are not copied:
    /// a fleet that gets the same image holds it once.
    ///
    /// # Errors
    /// [`EncodeError`] where no empty byte string stands there, or the payload is longer than 65 535 bytes then.
    pub(crate) fn with_shared(mut self, after: usize, bytes: Bytes) -> Result<Self, EncodeError> {
        let at = self.own.len().checked_sub(after + 1).filter(|at| self.own.get(*at) == Some(&EMPTY_BYTES));
        let at = at
            .ok_or_else(|| EncodeError::Unencodable("no byte string where there should be one".to_owned()))?;
        let mut head = Vec::with_capacity(9);
        let pushed = Encoder::from(&mut head).push(Item::Bytes(Some(bytes.len())));
        pushed.map_err(|error| EncodeError::Unencodable(format!("{error:?}")))?;
        self.shared_at = at + head.len();
        drop(self.own.splice(at..=at, head));
        self.shared = bytes;
        if u16::try_from(self.payload_len()).is_err() {
            return Err(EncodeError::TooLong(self.payload_len()));
        }
        Ok(self)
    }

    /// The same request in another protocol version.
    #[must_use]
    pub fn with_version(mut self, version: Version) -> Self {
        self.version = version;
        self
    }

    /// What it asks for.
    #[must_use]
    pub fn id(&self) -> RequestId {
        self.id
    }

    /// The protocol version that it is sent in.
    #[must_use]
    pub fn version(&self) -> Version {
        self.version
    }

    /// Whether it may be sent again when its answer does not come.
    #[must_use]
    pub fn repeat(&self) -> Repeat {
        self.repeat
    }

    /// The payload.
    #[must_use]
    pub fn payload(&self) -> Cow<'_, [u8]> {
        if self.shared.is_empty() {
            return Cow::Borrowed(&self.own);
        }
        Cow::Owned(self.pieces().concat())
    }

    fn pieces(&self) -> [&[u8]; 3] {
        let (before, after) = self.own.split_at_checked(self.shared_at).unwrap_or((&self.own, &[]));
        [before, &self.shared, after]
    }

    #[cfg(test)]
    pub(super) fn shared(&self) -> &Bytes {
        &self.shared
    }

    fn payload_len(&self) -> usize {
        self.own.len() + self.shared.len()
    }

    /// Length of the whole message, in bytes, header included.
    #[must_use]
    pub fn message_len(&self) -> usize {
        HEADER_LEN + self.payload_len()
    }

    /// The whole message, header included.
    #[must_use]
    pub fn encode(&self, sequence: u8) -> Vec<u8> {
        let header = Header {
            op: self.id.op,
            version: self.version,
            flags: 0,
            // Checked when the request was made.
            length: u16::try_from(self.payload_len()).unwrap_or(u16::MAX),
            group: self.id.group,
            sequence,
            command: self.id.command,
        };
        let mut message = Vec::with_capacity(self.message_len());
        message.extend_from_slice(&header.encode());
        self.pieces().into_iter().for_each(|piece| message.extend_from_slice(piece));
        message
    }
}

/// A device's answer to one request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// The request that it answers.
    pub request: RequestId,
    /// The protocol version that the device answered in. Servers from before version 2 answer in version 1.
    pub version: Version,
    /// The payload, not looked at yet.
    pub payload: Vec<u8>,
    /// Time from the first sending to the answer.
    pub rtt: Duration,
    /// How often the request was sent until then; more than 1 makes `rtt` a time with a loss in it.
    pub sends: u32,
}

impl Answer {
    /// Reads the answer to `R`.
    ///
    /// # Errors
    /// [`ResponseError`] for the device's no, and for a payload that is not what `R` is answered with.
    pub fn decode<R: Request>(&self) -> Result<R::Response, ResponseError> {
        decode_response(&self.payload).map_err(|source| ResponseError { request: self.request, source })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::smp::message::image::UploadChunk;

    #[test]
    fn shared_bytes_are_the_same_message_and_no_copy() {
        let file = Bytes::from(vec![0x5a_u8; 70_000]);
        for (len, upgrade) in [(1, None), (23, Some(true)), (24, None), (256, Some(false)), (60_000, None)] {
            let shared = file.slice(100..100 + len);
            let chunk = |data| UploadChunk { off: 100, data, upgrade, ..UploadChunk::default() };
            let whole = RawRequest::new(&chunk(&shared)).expect("a request");
            let after = if upgrade.is_some() { UploadChunk::UPGRADE_LEN } else { 0 };
            let request = RawRequest::new(&chunk(&[])).expect("a request");
            let request = request.with_shared(after, shared.clone()).expect("a request");
            assert_eq!(request.encode(7), whole.encode(7), "{len} {upgrade:?}");
            assert_eq!(request.payload(), whole.payload());
            assert_eq!(request.message_len(), whole.message_len());
            assert_eq!(request.shared.as_ptr(), shared.as_ptr(), "a copy");
        }
    }

    #[test]
    fn shared_bytes_have_their_place_and_fit() {
        let chunk = UploadChunk { data: &[], ..UploadChunk::default() };
        let request = RawRequest::new(&chunk).expect("a request");
        let misplaced = request.clone().with_shared(1, Bytes::from_static(b"x"));
        assert!(matches!(misplaced, Err(EncodeError::Unencodable(_))), "{misplaced:?}");
        let long = request.with_shared(0, Bytes::from(vec![0; 65_530]));
        assert!(matches!(long, Err(EncodeError::TooLong(_))));
    }
}
