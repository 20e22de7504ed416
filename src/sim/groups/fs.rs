//! File system group, after Zephyr `grp/fs_mgmt/src/fs_mgmt.c` on littlefs: a file's length changes for others when it is
//! closed. Files that stay open are not closed by themselves: the server has no time.

use std::collections::BTreeMap;

use crc::{CRC_32_ISO_HDLC, Crc};
use sha2::{Digest, Sha256};

use super::{Answer, Body, Effects, Refused, SmpError};
use crate::sim::spec::SimSpec;
use crate::smp::{Op, group};

/// Where the file system is mounted.
const MOUNT: &str = "/lfs1";
/// Most bytes of all files.
const CAPACITY: usize = 1 << 20;
/// Longest path, in bytes (Zephyr `CONFIG_MCUMGR_GRP_FS_PATH_LEN`).
const PATH_LEN: usize = 64;
/// Bytes of a buffer that an answer to a download needs besides the data.
const ANSWER_OVERHEAD: u32 = 48;

/// Errors of the file group (Zephyr `enum fs_mgmt_err_code_t`).
#[derive(Debug, Clone, Copy)]
#[repr(u32)]
enum FileError {
    Unknown = 1,
    InvalidName = 2,
    NotFound = 3,
    IsDirectory = 4,
    WriteFailed = 10,
    OffsetNotValid = 11,
    OffsetLargerThanFile = 12,
    HashNotFound = 13,
    MountPointNotFound = 14,
    Empty = 16,
}

impl From<FileError> for Refused {
    fn from(error: FileError) -> Self {
        Self::Group { group: group::FS, rc: error as u32, reason: None }
    }
}

/// The file that the server holds open.
#[derive(Debug)]
struct Open {
    path: String,
    upload: bool,
    /// Where the next request is expected, in bytes.
    off: u64,
    /// Length of the whole file, in bytes; 0 where it is not known.
    len: u64,
    /// The file as written through this handle.
    data: Vec<u8>,
    /// Position of the handle, in bytes.
    position: usize,
}

/// The files, and the one that is open.
#[derive(Debug, Default)]
pub(in crate::sim) struct Files {
    files: BTreeMap<String, Vec<u8>>,
    open: Option<Open>,
}

impl Files {
    /// A reset: what was not closed is lost.
    pub(in crate::sim) fn restart(&mut self) {
        self.open = None;
    }

    /// A file's content, as written at its last close.
    pub(in crate::sim) fn content(&self, path: &str) -> Option<&[u8]> {
        self.files.get(path).map(Vec::as_slice)
    }

    /// A request to the file group.
    pub(in crate::sim) fn handle(
        &mut self,
        spec: &SimSpec,
        (op, command): (Op, u8),
        payload: &[u8],
        answer: &mut Answer,
    ) -> Result<Effects, Refused> {
        match (op, command) {
            (Op::Read, 0) => self.download(spec, &Body::read(payload)?, answer)?,
            (Op::Write, 0) => return self.upload(spec, &Body::read(payload)?, answer),
            (Op::Read, 1) => {
                let len = self.length(&path(&Body::read(payload)?)?)?;
                answer.number("len", len as u64);
            }
            (Op::Read, 2) => self.hash(&Body::read(payload)?, answer)?,
            (Op::Read, 3) => {
                answer.map("types");
                for (name, format, size) in [("crc32", 0, 4), ("sha256", 1, 32)] {
                    answer.map(name);
                    answer.number("format", format);
                    answer.number("size", size);
                    answer.close();
                }
                answer.close();
            }
            (Op::Write, 4) => self.close(),
            _ => return Err(SmpError::NotSupported.into()),
        }
        Ok(Effects::default())
    }

    /// `fs_mgmt_cleanup`.
    fn close(&mut self) {
        if let Some(open) = self.open.take().filter(|open| open.upload) {
            self.files.insert(open.path, open.data);
        }
    }

    /// `fs_mgmt_filelen`.
    fn length(&self, path: &str) -> Result<usize, FileError> {
        if !path.starts_with('/') {
            return Err(FileError::InvalidName);
        }
        if is_root(path) {
            return Err(FileError::IsDirectory);
        }
        self.files.get(path).map(Vec::len).ok_or(FileError::NotFound)
    }

    /// The open file, where it is this one, opened for this; else every file is closed.
    fn reopen(&mut self, path: &str, upload: bool) {
        if self.open.as_ref().is_none_or(|open| open.upload != upload || open.path != path) {
            self.close();
        }
    }

    fn finish_check(&mut self) {
        if self.open.as_ref().is_some_and(|open| open.len > 0 && open.off >= open.len) {
            self.close();
        }
    }

    fn download(&mut self, spec: &SimSpec, body: &Body, answer: &mut Answer) -> Result<(), Refused> {
        let (path, off) = (path(body)?, body.u64("off")?.ok_or(SmpError::Invalid)?);
        self.reopen(&path, false);
        let len = self.length(&path)? as u64;
        let data = self.files.get(&path).map(Vec::as_slice).unwrap_or_default();
        let start = usize::try_from(off).unwrap_or(usize::MAX).min(data.len());
        let most = spec.buf_size.saturating_sub(ANSWER_OVERHEAD).max(1) as usize;
        let end = start.saturating_add(most).min(data.len());
        let chunk = data.get(start..end).unwrap_or_default();
        answer.number("off", off);
        answer.bytes("data", chunk);
        if off == 0 {
            answer.number("len", len);
        }
        let off = off.saturating_add(chunk.len() as u64);
        self.open = Some(Open { path, upload: false, off, len, data: Vec::new(), position: end });
        self.finish_check();
        Ok(())
    }

    fn upload(&mut self, spec: &SimSpec, body: &Body, answer: &mut Answer) -> Result<Effects, Refused> {
        let (path, off) = (path(body)?, body.u64("off")?.ok_or(SmpError::Invalid)?);
        let (data, len) = (body.bytes("data")?.unwrap_or_default(), body.u64("len")?);
        if off == 0 && len.is_none() {
            return Err(SmpError::Invalid.into());
        }
        self.reopen(&path, true);
        if !path.starts_with('/') {
            return Err(FileError::InvalidName.into());
        }
        if is_root(&path) {
            return Err(FileError::Unknown.into());
        }
        // There are no folders besides the one.
        let name = path.strip_prefix(MOUNT).and_then(|rest| rest.strip_prefix('/'));
        if name.is_none_or(|name| name.contains('/')) {
            return Err(FileError::MountPointNotFound.into());
        }
        let used: usize = self.files.values().map(Vec::len).sum();
        // A file is there from its opening on.
        let closed = self.files.entry(path.clone()).or_default();
        let closed_len = closed.len();
        let mut open = self.open.take().unwrap_or_else(|| Open {
            path,
            upload: true,
            off: 0,
            len: 0,
            data: closed.clone(),
            position: 0,
        });
        if off == 0 {
            open.len = len.unwrap_or(0);
        } else if open.off == 0 {
            open.off = closed_len as u64;
        }
        if off > 0 && off != open.off {
            let len = open.off;
            self.open = Some(open);
            self.close();
            return Err(Refused::Offset { rc: FileError::OffsetNotValid as u32, len });
        }
        if used + open.data.len() + data.len() > CAPACITY {
            self.open = Some(open);
            self.close();
            return Err(FileError::WriteFailed.into());
        }
        if !data.is_empty() {
            if off == 0 && closed_len != 0 {
                open.data.clear();
                open.position = 0;
            } else if open.position as u64 != off {
                open.position = open.data.len();
            }
            open.data.truncate(open.position);
            open.data.extend_from_slice(&data);
            open.position = open.data.len();
            open.off += data.len() as u64;
        }
        if spec.legacy_rc {
            answer.number("rc", 0);
        }
        answer.number("off", open.off);
        self.open = Some(open);
        self.finish_check();
        Ok(Effects::default())
    }

    fn hash(&self, body: &Body, answer: &mut Answer) -> Result<(), Refused> {
        let path = path(body)?;
        let kind = body.text("type")?.filter(|kind| !kind.is_empty()).unwrap_or_else(|| "crc32".to_owned());
        let (off, len) = (body.u64("off")?.unwrap_or(0), body.u64("len")?);
        if len == Some(0) || kind.len() > 8 {
            return Err(SmpError::Invalid.into());
        }
        if !matches!(kind.as_str(), "crc32" | "sha256") {
            return Err(FileError::HashNotFound.into());
        }
        self.length(&path)?;
        let data = self.files.get(&path).map(Vec::as_slice).unwrap_or_default();
        if data.is_empty() {
            return Err(FileError::Empty.into());
        }
        let start = usize::try_from(off).ok().filter(|start| *start < data.len());
        let rest = start.and_then(|start| data.get(start..)).ok_or(FileError::OffsetLargerThanFile)?;
        let wanted = len.and_then(|len| usize::try_from(len).ok()).unwrap_or(usize::MAX);
        let input = rest.get(..wanted).unwrap_or(rest);
        answer.text("type", &kind);
        if off != 0 {
            answer.number("off", off);
        }
        answer.number("len", input.len() as u64);
        if kind == "crc32" {
            answer.number("output", Crc::<u32>::new(&CRC_32_ISO_HDLC).checksum(input).into());
        } else {
            answer.bytes("output", &Sha256::digest(input));
        }
        Ok(())
    }
}

/// Whether this is the folder that the file system is.
fn is_root(path: &str) -> bool {
    path.strip_prefix(MOUNT).is_some_and(|rest| rest.is_empty() || rest == "/")
}

fn path(body: &Body) -> Result<String, SmpError> {
    let path = body.text("name")?.unwrap_or_default();
    if path.is_empty() || path.len() > PATH_LEN {
        return Err(SmpError::Invalid);
    }
    Ok(path)
}
