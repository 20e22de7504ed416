//! The eight bytes before every SMP payload (`smp_protocol.rst`, "Frame: The envelope"). No payloads here.

/// Length of the header, in bytes.
pub const HEADER_LEN: usize = 8;

/// Management groups (`smp_protocol.rst`, "Management group IDs").
pub mod group {
    /// Operating system.
    pub const OS: u16 = 0;
    /// Application and firmware images.
    pub const IMAGE: u16 = 1;
    /// Statistics.
    pub const STAT: u16 = 2;
    /// Settings.
    pub const SETTINGS: u16 = 3;
    /// File system.
    pub const FS: u16 = 8;
    /// Shell.
    pub const SHELL: u16 = 9;
    /// Enumeration of groups.
    pub const ENUM: u16 = 10;
    /// Zephyr basic.
    pub const ZEPHYR: u16 = 63;
    /// First of the groups that applications define.
    pub const PER_USER: u16 = 64;
}

/// What a message is (`smp_protocol.rst`, field "OP").
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Op {
    /// Read request.
    Read = 0,
    /// Answer to a read.
    ReadResponse = 1,
    /// Write request.
    Write = 2,
    /// Answer to a write.
    WriteResponse = 3,
}

impl Op {
    /// The operation that answers this one; an answer answers itself.
    #[must_use]
    pub fn response(self) -> Self {
        match self {
            Self::Read | Self::ReadResponse => Self::ReadResponse,
            Self::Write | Self::WriteResponse => Self::WriteResponse,
        }
    }
}

/// Protocol version (`smp_protocol.rst`, field "Version"): how group errors are told.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
#[repr(u8)]
pub enum Version {
    /// The first version, `{rc}` for every error. On the wire 0.
    V1 = 0,
    /// `{err: {group, rc}}` for errors of a group. On the wire 1.
    #[default]
    V2 = 1,
}

/// The header of one message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Header {
    /// What the message is.
    pub op: Op,
    /// Protocol version.
    pub version: Version,
    /// No flag is defined.
    pub flags: u8,
    /// Length of the payload, in bytes, header not included.
    pub length: u16,
    /// Management group.
    pub group: u16,
    /// Sequence number, echoed in the answer.
    pub sequence: u8,
    /// Command within the group.
    pub command: u8,
}

/// Why bytes are not an SMP message.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum HeaderError {
    /// Fewer bytes than a header.
    #[error("expected at least {HEADER_LEN} bytes of SMP header, got {0}")]
    Short(usize),
    /// A version that does not exist.
    #[error("expected SMP version 0 or 1 in the header, got {0}")]
    Version(u8),
    /// An operation that does not exist.
    #[error("expected an SMP operation from 0 to 3 in the header, got {0}")]
    Op(u8),
    /// The payload is shorter or longer than the header says.
    #[error("the SMP header promises {expected} bytes of payload, got {actual}")]
    Length {
        /// What the header says.
        expected: usize,
        /// What followed it.
        actual: usize,
    },
}

impl Header {
    /// The wire form (`smp_protocol.rst`, "Frame: The envelope"): big endian.
    #[must_use]
    pub fn encode(&self) -> [u8; HEADER_LEN] {
        let [l0, l1] = self.length.to_be_bytes();
        let [g0, g1] = self.group.to_be_bytes();
        let first = (self.op as u8) | ((self.version as u8) << 3);
        [first, self.flags, l0, l1, g0, g1, self.sequence, self.command]
    }

    /// Reads the header at the start of `bytes`; neither what follows it nor the reserved bits are looked at.
    ///
    /// # Errors
    /// [`HeaderError`] for too few bytes, an unknown version or operation.
    pub fn decode(bytes: &[u8]) -> Result<Self, HeaderError> {
        let &[first, flags, l0, l1, g0, g1, sequence, command, ..] = bytes else {
            return Err(HeaderError::Short(bytes.len()));
        };
        let op = match first & 0x07 {
            0 => Op::Read,
            1 => Op::ReadResponse,
            2 => Op::Write,
            3 => Op::WriteResponse,
            other => return Err(HeaderError::Op(other)),
        };
        let version = match (first >> 3) & 0x03 {
            0 => Version::V1,
            1 => Version::V2,
            other => return Err(HeaderError::Version(other)),
        };
        Ok(Self {
            op,
            version,
            flags,
            length: u16::from_be_bytes([l0, l1]),
            group: u16::from_be_bytes([g0, g1]),
            sequence,
            command,
        })
    }

    /// Splits one whole message into header and payload. Bytes left over are an error.
    ///
    /// # Errors
    /// [`HeaderError`], also where the payload is shorter or longer than the header says.
    pub fn split(message: &[u8]) -> Result<(Self, &[u8]), HeaderError> {
        let header = Self::decode(message)?;
        let payload = message.get(HEADER_LEN..).unwrap_or_default();
        let expected = usize::from(header.length);
        if payload.len() != expected {
            return Err(HeaderError::Length { expected, actual: payload.len() });
        }
        Ok((header, payload))
    }
}
