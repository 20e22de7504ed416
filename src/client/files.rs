//! Whole files to and from a device over the file system group (`smp_group_8.rst`), and what other calls need beyond one
//! request and its answer. What a file is for is the caller's.

use std::io;
use std::time::Duration;

use ciborium::Value;
use crc::{CRC_32_ISO_HDLC, Crc};
use sha2::{Digest, Sha256};

use crate::cause::{Cause, Class};
use crate::smp::chunk::longest_byte_string;
use crate::smp::errors::DeviceError;
use crate::smp::exchange::Policy;
use crate::smp::message::fs::{CloseFile, FileDownload, FileHash, FileStatus, FileUpload, HashOutput};
use crate::smp::message::{Repeat, encode_body};
use crate::smp::{Answer, RawRequest, RequestId, group};

use super::{Client, ClientError};

/// How long the first piece and a hash may take: the file system erases and reads whole files.
const SLOW_TIMEOUT: Duration = Duration::from_secs(20);
/// `FS_MGMT_ERR_FILE_OFFSET_NOT_VALID` (Zephyr `fs_mgmt.h`).
const OFFSET_NOT_VALID: i64 = 11;
/// `MGMT_ERR_EUNKNOWN` and `MGMT_ERR_EINVAL`, as which version 1 and older servers tell it.
const OFFSET_NOT_VALID_V1: [i64; 2] = [1, 3];

/// What came of putting a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FilePut {
    /// Length of the file, in bytes.
    pub bytes: u64,
    /// How often the upload went on from what the device had, or began again.
    pub resumed: u32,
    /// The hash or checksum by which the device's file was compared with this one, for example `crc32`; `None` where the
    /// server has none, and the length alone was compared, if at all.
    pub checked: Option<String>,
}

/// Why a file did not go over.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    /// A request came to nothing.
    #[error(transparent)]
    Client(#[from] ClientError),
    /// What came could not be written on this machine.
    #[error("expected to write what the device sent, but {0}")]
    Local(#[source] io::Error),
    /// The device answered with another offset than can be.
    #[error("expected an answer for offset {expected}, got one for {actual}")]
    Offset {
        /// Where the transfer is, in bytes.
        expected: u64,
        /// What the device said, in bytes.
        actual: u64,
    },
    /// The device sent less or more than it said the file has.
    #[error("expected a file of {expected} bytes, the device sent {actual}")]
    Length {
        /// What it said, in bytes.
        expected: u64,
        /// What came, in bytes.
        actual: u64,
    },
    /// The first piece came without the file's length, which the specification asks for.
    #[error("expected the file's length with its first piece, got none")]
    NoLength,
    /// The upload was begun again as often as it may be.
    #[error("expected the upload to go on, it stopped at {offset} of {total} bytes in {tries} tries")]
    Stuck {
        /// The furthest offset, in bytes.
        offset: u64,
        /// Length of the file, in bytes.
        total: u64,
        /// How often it was tried from there.
        tries: u32,
    },
    /// The path leaves no room for data in the server's buffer.
    #[error("expected a buffer of more than {needed} bytes for this path, the server's takes {available}")]
    NoRoom {
        /// Bytes of a message without data.
        needed: usize,
        /// Bytes of the largest message.
        available: usize,
    },
    /// What the device has is not what was sent.
    #[error("expected the file on the device to have {what} {expected}, it has {actual}")]
    Differs {
        /// Length, or which hash.
        what: String,
        /// This machine's.
        expected: String,
        /// The device's.
        actual: String,
    },
}

impl From<FileError> for Cause {
    fn from(error: FileError) -> Self {
        let (class, code, help) = match &error {
            FileError::Client(_) => {
                return match error {
                    FileError::Client(error) => error.into(),
                    other => Self::new(Class::Internal, "internal.file", other.to_string(), ""),
                };
            }
            FileError::Local(_) => {
                (Class::Station, "station.cannot_write", "check the disk and the rights of the folder")
            }
            FileError::Offset { .. } => (
                Class::Device,
                "fs.unexpected_offset",
                "something else uses the file: try again when it is done",
            ),
            FileError::Length { .. } | FileError::NoLength => {
                (Class::Device, "fs.wrong_length", "the file changed while it was read: try again")
            }
            FileError::Stuck { .. } => (
                Class::Link,
                "fs.no_progress",
                "check the link, and that nothing else writes the file; raise its timeout or retries if it is slow",
            ),
            FileError::NoRoom { .. } => (
                Class::Plan,
                "fs.path_too_long",
                "give a shorter path, or say the server's buffer (`buffer`) where it is larger",
            ),
            FileError::Differs { .. } => (
                Class::Device,
                "fs.differs",
                "put the file again; delete it on the device first where its file system cannot shorten files",
            ),
        };
        Self::new(class, code, error.to_string(), help)
    }
}

/// Where an upload stands.
#[derive(Debug, Default)]
struct Standing {
    off: u64,
    furthest: u64,
    /// Resumptions since `furthest` last grew.
    tries: u32,
    resumed: u32,
}

impl Standing {
    fn advance(&mut self, off: u64) {
        self.off = off;
        if off > self.furthest {
            self.furthest = off;
            self.tries = 0;
        }
    }

    /// Goes on from `off`, if that was not tried too often.
    fn resume(&mut self, off: u64, total: u64, retries: u32) -> Result<(), FileError> {
        self.tries += 1;
        self.resumed += 1;
        if self.tries > retries.saturating_add(1) {
            return Err(FileError::Stuck { offset: self.furthest, total, tries: self.tries });
        }
        self.off = off;
        Ok(())
    }
}

impl Client {
    /// Sends a request that is encoded already; `timeout` is for each sending.
    ///
    /// # Errors
    /// [`ClientError`] where no answer came. A device's no is in the answer.
    pub async fn send(
        &mut self,
        request: RawRequest,
        timeout: Option<Duration>,
    ) -> Result<Answer, ClientError> {
        let timeout = timeout.unwrap_or_else(|| self.timeout());
        self.ask(request, Policy { timeout, retries: self.options.retries }).await
    }

    /// Puts `data` into the file `name`, an absolute path on the device, and reads back that it is there. `progress` is
    /// called with the bytes that the device has.
    ///
    /// A first piece is never sent twice into an open file, since servers append it to itself; after a lost answer the
    /// file is closed and the upload begins again. Later pieces go on from where the device says that it is.
    ///
    /// One piece is in flight at a time. An offset that the server did not expect is an error, after which it closes the
    /// file (Zephyr `fs_mgmt_file_upload`): with several in flight each loss would be a chain of errors and openings.
    ///
    /// # Errors
    /// [`FileError`].
    pub async fn put_file(
        &mut self,
        name: &str,
        data: &[u8],
        mut progress: impl FnMut(u64),
    ) -> Result<FilePut, FileError> {
        let max_message = self.limits().await?.max_message;
        let total = data.len() as u64;
        let retries = self.options.retries;
        let mut at = Standing::default();
        self.close_file().await?;
        loop {
            let rest = usize::try_from(at.off).ok().and_then(|off| data.get(off..)).unwrap_or_default();
            let (request, sent) = piece(name, at.off, rest, total, max_message)?;
            let first = at.off == 0;
            let timeout = first.then(|| self.options.timeout.unwrap_or(SLOW_TIMEOUT + self.wire_time()));
            let answer = match self.send(request, timeout).await {
                Ok(answer) => answer,
                Err(ClientError::Unanswered(error)) if first => {
                    at.resume(0, total, retries).map_err(|_| ClientError::Unanswered(error))?;
                    self.close_file().await?;
                    continue;
                }
                Err(error) => return Err(error.into()),
            };
            match answer.decode::<FileUpload<'_>>().map_err(ClientError::from) {
                Ok(response) if response.off == at.off + sent => at.advance(response.off),
                // Part of the piece, as far as the device could.
                Ok(response) if !first && response.off > at.off && response.off < at.off + sent => {
                    at.advance(response.off);
                }
                // The piece came twice, or into a file that was open: what is there is not this file.
                Ok(_) => {
                    self.close_file().await?;
                    at.resume(0, total, retries)?;
                }
                Err(ClientError::Device { error, .. }) if !first && is_wrong_offset(&error) => {
                    let there = match told_offset(&answer) {
                        Some(off) => off,
                        None => self.length_on_device(name).await?.unwrap_or(0),
                    };
                    if there > total || there == 0 {
                        self.close_file().await?;
                    }
                    at.resume(if there > total { 0 } else { there }, total, retries)?;
                    if at.off > at.furthest {
                        at.advance(at.off);
                    }
                }
                Err(error) => return Err(error.into()),
            }
            progress(at.off);
            if at.off >= total {
                break;
            }
        }
        self.close_file().await?;
        let checked = self.compare_file(name, data).await?;
        Ok(FilePut { bytes: total, resumed: at.resumed, checked })
    }

    /// Gets the file `name`, an absolute path on the device. `write` is called with each piece in order, `progress` with
    /// the bytes so far and those in all. Gives the file's length, in bytes.
    ///
    /// # Errors
    /// [`FileError`].
    pub async fn get_file(
        &mut self,
        name: &str,
        mut write: impl FnMut(&[u8]) -> io::Result<()>,
        mut progress: impl FnMut(u64, u64),
    ) -> Result<u64, FileError> {
        let mut off = 0;
        let mut total = None;
        loop {
            let chunk = self.request(&FileDownload { off, name: name.to_owned() }).await?;
            if chunk.off != off {
                return Err(FileError::Offset { expected: off, actual: chunk.off });
            }
            let len = match total {
                Some(len) => len,
                None => *total.insert(chunk.len.ok_or(FileError::NoLength)?),
            };
            let end = off + chunk.data.len() as u64;
            // Nothing more where more should come, or more than there should be.
            if end > len || (end == off && off < len) {
                return Err(FileError::Length { expected: len, actual: end });
            }
            write(&chunk.data).map_err(FileError::Local)?;
            off = end;
            progress(off, len);
            if off >= len {
                return Ok(len);
            }
        }
    }

    /// Closes whatever file the server holds open. Servers from before that command hold none.
    async fn close_file(&mut self) -> Result<(), ClientError> {
        optional(self.request(&CloseFile {}).await)?;
        Ok(())
    }

    async fn length_on_device(&mut self, name: &str) -> Result<Option<u64>, ClientError> {
        self.close_file().await?;
        Ok(optional(self.request(&FileStatus { name: name.to_owned() }).await)?.map(|status| status.len))
    }

    /// Compares the device's file `name` with `data`, as far as the server can tell. Gives the hash or checksum by which
    /// they were found to be the same; `None` where the server has none that is known here, or no such file.
    ///
    /// # Errors
    /// [`FileError::Differs`] where they are not the same, and [`FileError::Client`].
    pub async fn compare_file(&mut self, name: &str, data: &[u8]) -> Result<Option<String>, FileError> {
        let differs = |what: &str, expected: String, actual: String| {
            Err(FileError::Differs { what: what.to_owned(), expected, actual })
        };
        let status = optional(self.request(&FileStatus { name: name.to_owned() }).await)?;
        if let Some(actual) = status.map(|status| status.len).filter(|len| *len != data.len() as u64) {
            return differs("a length of", data.len().to_string(), actual.to_string());
        }
        if data.is_empty() {
            return Ok(None);
        }
        let timeout = self.options.timeout.unwrap_or(SLOW_TIMEOUT + self.wire_time());
        let request = FileHash { name: name.to_owned(), ..FileHash::default() };
        let Some(hash) = optional(self.request_within(&request, timeout).await)? else { return Ok(None) };
        let expected = match hash.kind.as_str() {
            "crc32" => HashOutput::Number(Crc::<u32>::new(&CRC_32_ISO_HDLC).checksum(data).into()),
            "sha256" => HashOutput::Bytes(Sha256::digest(data).to_vec()),
            _ => return Ok(None),
        };
        if hash.output != expected {
            return differs(&hash.kind, expected.to_string(), hash.output.to_string());
        }
        Ok(Some(hash.kind))
    }
}

/// The next piece of a file, and how many bytes of it.
fn piece(
    name: &str,
    off: u64,
    rest: &[u8],
    total: u64,
    max_message: usize,
) -> Result<(RawRequest, u64), FileError> {
    let first = off == 0;
    let encode = |data| {
        let body = FileUpload { off, data, name, len: first.then_some(total) };
        let repeat = if first { Repeat::Once } else { Repeat::Safe };
        let payload = encode_body(&body).map_err(ClientError::from)?;
        RawRequest::from_parts(RequestId::of::<FileUpload<'_>>(), repeat, payload).map_err(ClientError::from)
    };
    let empty = encode(&[])?.message_len();
    // The empty byte string's one byte is part of the budget.
    let most = longest_byte_string((max_message + 1).saturating_sub(empty));
    if most == 0 && !rest.is_empty() {
        return Err(FileError::NoRoom { needed: empty, available: max_message });
    }
    let data = rest.get(..most).unwrap_or(rest);
    Ok((encode(data)?, data.len() as u64))
}

/// A device's no means that it does not have the command, or cannot say now.
fn optional<T>(result: Result<T, ClientError>) -> Result<Option<T>, ClientError> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(ClientError::Device { .. }) => Ok(None),
        Err(error) => Err(error),
    }
}

fn is_wrong_offset(error: &DeviceError) -> bool {
    match error.group {
        Some(group) => group == group::FS && error.rc == OFFSET_NOT_VALID,
        None => OFFSET_NOT_VALID_V1.contains(&error.rc),
    }
}

/// How much of the file the device says that it has: `len` beside the error, or `off` from servers before version 2.
fn told_offset(answer: &Answer) -> Option<u64> {
    let value: Value = ciborium::from_reader(answer.payload.as_slice()).ok()?;
    let fields = value.as_map()?;
    let field = |name: &str| {
        let (_, value) = fields.iter().find(|(key, _)| key.as_text() == Some(name))?;
        u64::try_from(value.as_integer()?).ok()
    };
    field("len").or_else(|| field("off"))
}
