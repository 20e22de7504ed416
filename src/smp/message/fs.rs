//! File system group (`smp_groups/smp_group_8.rst`): requests and answers. How a whole file goes over is the client's.
//!
//! ```
//! use flashfleet::smp::message::fs::{FileHash, FileHashTypes, FileStatus, HashOutput};
//!
//! # use flashfleet::{cause::Cause, client::Client, sim::{Fleet, SimSpec}, smp::group};
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Cause> {
//! # let fleet = Fleet::new(&SimSpec { groups: vec![group::FS], ..SimSpec::default() }).expect("a device");
//! # let link = fleet.connector(0).connect().await?;
//! let mut client = Client::over(link);
//! // A whole file, in pieces, through lost answers, compared in the end.
//! let put = client.put_file("/lfs1/id.txt", b"0042", |_done| ()).await?;
//! assert_eq!(put.checked.as_deref(), Some("crc32"));
//!
//! let mut content = Vec::new();
//! let write = |piece: &[u8]| {
//!     content.extend_from_slice(piece);
//!     Ok(())
//! };
//! client.get_file("/lfs1/id.txt", write, |_done, _total| ()).await?;
//! assert_eq!(content, b"0042");
//!
//! let name = || "/lfs1/id.txt".to_owned();
//! assert_eq!(client.request(&FileStatus { name: name() }).await?.len, 4);
//! assert!(client.request(&FileHashTypes {}).await?.types.get("sha256").is_some());
//! let crc = client.request(&FileHash { name: name(), kind: Some("crc32".to_owned()), ..FileHash::default() }).await?;
//! assert_eq!(crc.output, HashOutput::Number(0x86f9_605a));
//! # Ok(())
//! # }
//! ```

use std::fmt;

use serde::de::{Deserializer, Error, Visitor};
use serde::ser::Serializer;
use serde::{Deserialize, Serialize};

use super::os::Empty;
use super::{Entries, Repeat, Request};
use crate::smp::{Op, group};

/// File download (command 0, read): one piece, as long as the server likes.
#[derive(Debug, Clone, Default, Serialize)]
pub struct FileDownload {
    /// Offset of the piece in the file, in bytes.
    pub off: u64,
    /// Absolute path on the device.
    pub name: String,
}

/// Answer to [`FileDownload`].
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileChunk {
    /// Offset of `data` in the file, in bytes.
    pub off: u64,
    /// The bytes.
    #[serde(with = "serde_bytes")]
    pub data: Vec<u8>,
    /// Length of the whole file, in bytes; sent with the first piece.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub len: Option<u64>,
}

impl Request for FileDownload {
    const OP: Op = Op::Read;
    const GROUP: u16 = group::FS;
    const COMMAND: u8 = 0;
    type Response = FileChunk;
}

/// File upload (command 0, write): one piece behind the ones before it.
#[derive(Debug, Clone, Default, Serialize)]
pub struct FileUpload<'a> {
    /// Offset of `data` in the file, in bytes.
    pub off: u64,
    /// The bytes.
    #[serde(with = "serde_bytes")]
    pub data: &'a [u8],
    /// Absolute path on the device.
    pub name: &'a str,
    /// Length of the whole file, in bytes; with the first piece only.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub len: Option<u64>,
}

/// Answer to [`FileUpload`].
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileUploadResponse {
    /// Bytes that the device has: the offset of the next piece.
    pub off: u64,
}

impl Request for FileUpload<'_> {
    const OP: Op = Op::Write;
    const GROUP: u16 = group::FS;
    const COMMAND: u8 = 0;
    /// The first piece, sent again while the server holds the file open, is appended to itself (seen on Zephyr 4.4;
    /// `fs_mgmt.c` truncates only what `fs_stat` already sees). What a lost answer means is found out by looking.
    const REPEAT: Repeat = Repeat::Once;
    type Response = FileUploadResponse;
}

/// File status (command 1, read).
#[derive(Debug, Clone, Default, Serialize)]
pub struct FileStatus {
    /// Absolute path on the device.
    pub name: String,
}

/// Answer to [`FileStatus`].
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileStatusResponse {
    /// Length of the file, in bytes.
    pub len: u64,
}

impl Request for FileStatus {
    const OP: Op = Op::Read;
    const GROUP: u16 = group::FS;
    const COMMAND: u8 = 1;
    type Response = FileStatusResponse;
}

/// File hash or checksum (command 2, read).
#[derive(Debug, Clone, Default, Serialize)]
pub struct FileHash {
    /// Absolute path on the device.
    pub name: String,
    /// Which one, for example `sha256` or `crc32`; the server's default where it is not sent.
    #[serde(rename = "type", skip_serializing_if = "Option::is_none")]
    pub kind: Option<String>,
    /// Where to begin, in bytes; 0 where it is not sent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub off: Option<u64>,
    /// Most bytes to take in; up to the file's end where it is not sent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub len: Option<u64>,
}

/// Answer to [`FileHash`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileHashResponse {
    /// Which one it is.
    #[serde(rename = "type")]
    pub kind: String,
    /// Where it begins, in bytes; sent where it is not 0.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub off: Option<u64>,
    /// Bytes that were taken in.
    pub len: u64,
    /// The hash or checksum.
    pub output: HashOutput,
}

impl Request for FileHash {
    const OP: Op = Op::Read;
    const GROUP: u16 = group::FS;
    const COMMAND: u8 = 2;
    type Response = FileHashResponse;
}

/// A hash as bytes, or a checksum as a number ("Hash/checksum types").
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HashOutput {
    /// A number, for example an IEEE CRC-32.
    Number(u64),
    /// Bytes, for example a SHA-256.
    Bytes(Vec<u8>),
}

impl fmt::Display for HashOutput {
    /// Lower-case hexadecimal; numbers with at least 8 digits.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Number(number) => write!(f, "{number:08x}"),
            Self::Bytes(bytes) => f.write_str(&hex::encode(bytes)),
        }
    }
}

impl Serialize for HashOutput {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Number(number) => serializer.serialize_u64(*number),
            Self::Bytes(bytes) => serializer.serialize_bytes(bytes),
        }
    }
}

impl<'de> Deserialize<'de> for HashOutput {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(HashOutputVisitor)
    }
}

struct HashOutputVisitor;

impl Visitor<'_> for HashOutputVisitor {
    type Value = HashOutput;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an unsigned number or a byte string")
    }

    fn visit_u64<E: Error>(self, number: u64) -> Result<Self::Value, E> {
        Ok(HashOutput::Number(number))
    }

    fn visit_bytes<E: Error>(self, bytes: &[u8]) -> Result<Self::Value, E> {
        Ok(HashOutput::Bytes(bytes.to_vec()))
    }
}

/// Supported file hash and checksum types (command 3, read).
#[derive(Debug, Clone, Default, Serialize)]
pub struct FileHashTypes {}

/// Answer to [`FileHashTypes`].
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileHashTypesResponse {
    /// Every type by name.
    pub types: Entries<HashType>,
}

/// One type of [`FileHashTypesResponse`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HashType {
    /// 0 for a number, 1 for bytes.
    pub format: u32,
    /// Size, in bytes.
    pub size: u32,
}

impl Request for FileHashTypes {
    const OP: Op = Op::Read;
    const GROUP: u16 = group::FS;
    const COMMAND: u8 = 3;
    type Response = FileHashTypesResponse;
}

/// File close (command 4): the server closes the file that it holds open for an upload or a download, if any.
#[derive(Debug, Clone, Default, Serialize)]
pub struct CloseFile {}

impl Request for CloseFile {
    const OP: Op = Op::Write;
    const GROUP: u16 = group::FS;
    const COMMAND: u8 = 4;
    type Response = Empty;
}
