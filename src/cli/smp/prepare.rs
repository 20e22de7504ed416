//! What is made of the arguments before a device is touched: files are read, texts checked, requests put together. No I/O with
//! devices.

use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use chrono::{DateTime, Local, NaiveDateTime, Utc};
use clap::ValueEnum;
use sha2::{Digest, Sha256};

use super::commands::{FileFormat, Fs, Group, ImageCommand, Os, RawOp, Settings, Time, ValueType};
use crate::cause::{Cause, Class};
use crate::cli::stdin;
use crate::client::UploadRequest;
use crate::image::Image;
use crate::smp::message::Repeat;
use crate::smp::message::raw::payload_from_text;
use crate::smp::{Op, RawRequest, RequestId};

/// Largest file to put, in bytes: more than any device's file system holds.
const MAX_FILE: u64 = 256 << 20;

/// A command with everything read and checked that this machine has to give.
#[derive(Debug)]
pub(super) enum Prepared<'a> {
    /// No command: whether the device answers.
    Answers,
    Plain(&'a Group),
    SetTime(String),
    Upload {
        file: Firmware,
        request: UploadRequest,
    },
    SetState {
        hash: Option<Vec<u8>>,
        confirm: bool,
        force: bool,
    },
    WriteSetting {
        name: &'a str,
        value: Vec<u8>,
    },
    Put {
        data: Vec<u8>,
        remote: String,
    },
    Get {
        remote: &'a str,
        local: PathBuf,
    },
    Raw(RawRequest),
}

impl Group {
    /// Reads and checks everything before the device is touched.
    pub(super) fn prepare(&self, json: bool) -> Result<Prepared<'_>, Cause> {
        Ok(match self {
            Self::Os(Os::Time(Time::Set { when, local })) => {
                Prepared::SetTime(time(when.as_deref(), *local)?)
            }
            Self::Image(ImageCommand::Upload { file, image_number, upgrade_only, sha256, format }) => {
                let firmware = Firmware::read(file, *format)?;
                check_sha256(file, &firmware.source_sha256, *sha256)?;
                let request = UploadRequest {
                    image_number: *image_number,
                    primary_of: None,
                    upgrade_only: *upgrade_only,
                };
                Prepared::Upload { file: firmware, request }
            }
            Self::Image(ImageCommand::Test { image }) => {
                Prepared::SetState { hash: Some(hash(image)?), confirm: false, force: false }
            }
            Self::Image(ImageCommand::Confirm { image, force }) => {
                let hash = image.as_deref().map(hash).transpose()?;
                Prepared::SetState { hash, confirm: true, force: *force }
            }
            Self::Settings(Settings::Write { name, value, kind }) => {
                Prepared::WriteSetting { name, value: kind.bytes(value)? }
            }
            Self::Fs(Fs::Put { local, remote }) => {
                Prepared::Put { data: read(local)?, remote: target(local, remote)? }
            }
            Self::Fs(Fs::Get { remote, local }) => {
                let name = || remote.rsplit('/').next().filter(|name| !name.is_empty()).map(PathBuf::from);
                let local = local.clone().or_else(name).ok_or_else(|| {
                    usage(
                        "cli.no_file_name",
                        format!("expected a path of a file, got {remote:?}"),
                        "give a path to write to",
                    )
                })?;
                if json && local == Path::new("-") {
                    let message = "expected a file to write to with --json, got standard output";
                    return Err(usage("cli.two_outputs", message, "name a file, or leave out --json"));
                }
                Prepared::Get { remote, local }
            }
            Self::Raw { op, group, command, data, repeat } => {
                Prepared::Raw(raw((*op, *group, *command), data, *repeat)?)
            }
            _ => Prepared::Plain(self),
        })
    }
}

/// A file to upload as an image.
#[derive(Debug)]
pub(super) struct Firmware {
    pub(super) bytes: Arc<[u8]>,
    pub(super) sha256: [u8; 32],
    /// By which the device lists it; empty where that is not known.
    pub(super) hash: Vec<u8>,
    /// In its header, where it is known to have one.
    pub(super) version: Option<String>,
    /// SHA-256 of the file that it comes from.
    source_sha256: [u8; 32],
}

impl Firmware {
    fn read(path: &Path, format: FileFormat) -> Result<Self, Cause> {
        if format == FileFormat::Mcuboot {
            let image = stdin::image(path)?;
            let (sha256, source_sha256) = (*image.file_sha256(), *image.source_sha256());
            return Ok(Self {
                bytes: Arc::clone(image.bytes()),
                sha256,
                hash: image.hash().to_vec(),
                version: Some(image.version().to_owned()),
                source_sha256,
            });
        }
        let bytes = read(path)?;
        if bytes.is_empty() {
            let message = format!("expected a file with firmware, {} is empty", path.display());
            return Err(usage("image.empty", message, "name the file that was meant"));
        }
        let sha256 = Sha256::digest(&bytes).into();
        Ok(Self { bytes: bytes.into(), sha256, hash: Vec::new(), version: None, source_sha256: sha256 })
    }
}

/// Requires that a file is the one that was meant.
pub(in crate::cli) fn check_sha256(path: &Path, is: &[u8; 32], pin: Option<[u8; 32]>) -> Result<(), Cause> {
    match pin.filter(|pin| pin != is) {
        None => Ok(()),
        Some(pin) => Err(Cause::new(
            Class::Image,
            "image.sha256",
            format!(
                "expected {} to have the SHA-256 {}, it has {}",
                path.display(),
                hex::encode(pin),
                hex::encode(is)
            ),
            "name the file that was meant, or give its hash",
        )),
    }
}

fn usage(code: &'static str, message: impl Into<String>, help: &str) -> Cause {
    Cause::new(Class::Plan, code, message, help)
}

fn raw((op, group, command): (RawOp, u16, u8), data: &str, repeat: bool) -> Result<RawRequest, Cause> {
    let help = "write it as JSON, {\"d\": \"hi\"}, with {\"$bytes\": \"HEX\"} for byte strings, or as CBOR in hexadecimal";
    let payload = payload_from_text(data).map_err(|error| usage("cli.bad_data", error.to_string(), help))?;
    let (op, safe) = match op {
        RawOp::Read => (Op::Read, true),
        RawOp::Write => (Op::Write, repeat),
    };
    let repeat = if safe { Repeat::Safe } else { Repeat::Once };
    RawRequest::from_parts(RequestId { op, group, command }, repeat, payload)
        .map_err(|error| usage("cli.bad_data", error.to_string(), "send less"))
}

/// A time as the device takes it. Milliseconds are left out: older servers refuse more than that, and setting a clock over
/// this protocol is no better than a second anyway.
fn time(when: Option<&str>, local: bool) -> Result<String, Cause> {
    let shown =
        |time: DateTime<Utc>| if local { time.with_timezone(&Local).naive_local() } else { time.naive_utc() };
    let time = match when {
        None => shown(Utc::now()),
        Some(text) => match DateTime::parse_from_rfc3339(text) {
            Ok(time) => shown(time.to_utc()),
            Err(_) => text.parse::<NaiveDateTime>().map_err(|error| {
                let message = format!("expected a time, got {text:?}: {error}");
                usage(
                    "cli.bad_time",
                    message,
                    "write it as 2026-11-25T20:52:29, or with a zone: 2026-11-25T20:52:29Z",
                )
            })?,
        },
    };
    Ok(time.format("%Y-%m-%dT%H:%M:%S").to_string())
}

/// The hash of an image: the text itself, or that of the image in the file.
fn hash(text: &str) -> Result<Vec<u8>, Cause> {
    match hex::decode(text) {
        Ok(hash) if matches!(hash.len(), 32 | 48 | 64) => Ok(hash),
        _ if Path::new(text).exists() => Ok(Image::load(Path::new(text))?.hash().to_vec()),
        _ => Err(usage(
            "cli.bad_hash",
            format!("expected a hash of 64, 96 or 128 hexadecimal digits, or a file, got {text:?}"),
            "`image list` shows the hashes of the device's images",
        )),
    }
}

fn read(local: &Path) -> Result<Vec<u8>, Cause> {
    let failed = |error: std::io::Error| {
        let message = format!("expected to read {}, but {error}", local.display());
        Cause::new(Class::Station, "station.cannot_read", message, "check the path and its rights")
    };
    let mut data = Vec::new();
    if local == Path::new("-") {
        std::io::stdin().take(MAX_FILE + 1).read_to_end(&mut data).map_err(failed)?;
    } else {
        std::fs::File::open(local)
            .and_then(|file| file.take(MAX_FILE + 1).read_to_end(&mut data))
            .map_err(failed)?;
    }
    if data.len() as u64 > MAX_FILE {
        let message = format!("expected at most {MAX_FILE} bytes, {} has more", local.display());
        return Err(usage("cli.file_too_large", message, "no device's file system holds that much"));
    }
    Ok(data)
}

/// The path on the device, with the file's name where it is a folder's.
fn target(local: &Path, remote: &str) -> Result<String, Cause> {
    if !remote.ends_with('/') {
        return Ok(remote.to_owned());
    }
    let name = local.file_name().filter(|_| local != Path::new("-")).and_then(|name| name.to_str());
    let name = name.ok_or_else(|| {
        let message = format!("expected the path of a file on the device, got the folder {remote}");
        usage("cli.no_file_name", message, "give the whole path on the device")
    })?;
    Ok(format!("{remote}{name}"))
}

impl ValueType {
    fn bytes(self, text: &str) -> Result<Vec<u8>, Cause> {
        let bytes = match self {
            Self::Text => Some(text.as_bytes().to_vec()),
            Self::Hex => hex::decode(text).ok(),
            Self::U8 => text.parse::<u8>().ok().map(|value| value.to_le_bytes().to_vec()),
            Self::U16 => text.parse::<u16>().ok().map(|value| value.to_le_bytes().to_vec()),
            Self::U32 => text.parse::<u32>().ok().map(|value| value.to_le_bytes().to_vec()),
            Self::U64 => text.parse::<u64>().ok().map(|value| value.to_le_bytes().to_vec()),
            Self::I8 => text.parse::<i8>().ok().map(|value| value.to_le_bytes().to_vec()),
            Self::I16 => text.parse::<i16>().ok().map(|value| value.to_le_bytes().to_vec()),
            Self::I32 => text.parse::<i32>().ok().map(|value| value.to_le_bytes().to_vec()),
            Self::I64 => text.parse::<i64>().ok().map(|value| value.to_le_bytes().to_vec()),
        };
        let name = self.to_possible_value().map(|value| value.get_name().to_owned()).unwrap_or_default();
        bytes.ok_or_else(|| {
            let message = format!("expected a value of type {name}, got {text:?}");
            usage("cli.bad_value", message, "say with --type what the value is")
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_become_the_bytes_that_the_application_keeps() {
        let bytes = |kind: ValueType, text: &str| kind.bytes(text).ok();
        assert_eq!(bytes(ValueType::Text, "ab"), Some(b"ab".to_vec()));
        assert_eq!(bytes(ValueType::Hex, "00Ff"), Some(vec![0, 0xff]));
        assert_eq!(bytes(ValueType::U32, "258"), Some(vec![2, 1, 0, 0]));
        assert_eq!(bytes(ValueType::I16, "-2"), Some(vec![0xfe, 0xff]));
        for (kind, wrong) in
            [(ValueType::Hex, "0"), (ValueType::U8, "256"), (ValueType::U8, "-1"), (ValueType::I64, "")]
        {
            assert_eq!(kind.bytes(wrong).unwrap_err().code, "cli.bad_value", "{wrong}");
        }
    }

    #[test]
    fn times_are_told_in_utc_unless_they_have_no_zone() {
        let at = |text: &str| time(Some(text), false).ok();
        assert_eq!(at("2026-11-25T20:52:29+02:00").as_deref(), Some("2026-11-25T18:52:29"));
        assert_eq!(at("2026-11-25T20:52:29.5").as_deref(), Some("2026-11-25T20:52:29"));
        assert_eq!(at("yesterday"), None);
    }

    #[test]
    fn a_folder_on_the_device_takes_the_files_name() {
        assert_eq!(target(Path::new("a/b.txt"), "/lfs1/").as_deref().ok(), Some("/lfs1/b.txt"));
        assert_eq!(target(Path::new("a/b.txt"), "/lfs1/c").as_deref().ok(), Some("/lfs1/c"));
        assert!(target(Path::new("-"), "/lfs1/").is_err());
    }

    #[test]
    fn hashes_have_the_length_of_one() {
        assert_eq!(hash(&"ab".repeat(32)).ok(), Some(vec![0xab; 32]));
        assert_eq!(hash("abcd").unwrap_err().code, "cli.bad_hash");
    }
}
