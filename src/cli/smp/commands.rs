//! Arguments of every group and command, and what can be checked of them before a device is touched. No I/O with devices.

use std::io::Read as _;
use std::path::{Path, PathBuf};

use chrono::{DateTime, Local, NaiveDateTime, Utc};
use clap::{Subcommand, ValueEnum};

use crate::cause::{Cause, Class};
use crate::image::Image;
use crate::smp::message::Repeat;
use crate::smp::message::raw::payload_from_text;
use crate::smp::{Op, RawRequest, RequestId, group};

/// Largest file to put, in bytes: more than any device's file system holds.
const MAX_FILE: u64 = 256 << 20;

/// Management groups.
#[derive(Debug, Subcommand)]
pub(super) enum Group {
    /// Operating system.
    #[command(subcommand)]
    Os(Os),
    /// Firmware images.
    #[command(subcommand)]
    Image(ImageCommand),
    /// Statistics.
    #[command(subcommand)]
    Stat(Stat),
    /// Settings.
    #[command(subcommand)]
    Settings(Settings),
    /// Files.
    #[command(subcommand)]
    Fs(Fs),
    /// Run a command in the device's shell. The exit code is 100 where the command fails.
    Shell {
        /// Send the command again where no answer comes: it may then run more than once.
        #[arg(long)]
        repeat: bool,
        /// The command and its arguments.
        #[arg(required = true, trailing_var_arg = true, allow_hyphen_values = true)]
        argv: Vec<String>,
    },
    /// The device's management groups.
    #[command(subcommand)]
    Enum(Enumeration),
    /// Zephyr basic.
    #[command(subcommand)]
    Zephyr(Zephyr),
    /// Any command of any group.
    Raw {
        /// What to do.
        op: RawOp,
        /// Number of the group, or its name as in this command.
        #[arg(value_parser = group_number)]
        group: u16,
        /// Number of the command.
        command: u8,
        /// What to send: a JSON object, with {"$bytes": "HEX"} for byte strings, or a CBOR map in hexadecimal.
        #[arg(default_value = "{}")]
        data: String,
        /// Send a write again where no answer comes; reads always are.
        #[arg(long)]
        repeat: bool,
    },
}

/// Operating system group.
#[derive(Debug, Subcommand)]
pub(super) enum Os {
    /// Have a text sent back.
    Echo {
        /// The text.
        text: String,
    },
    /// Tasks: priority, state, stack in bytes, run time.
    Tasks,
    /// Memory pools: blocks and how many are free.
    MemoryPools,
    /// The device's clock.
    #[command(subcommand)]
    Time(Time),
    /// Reset the device. It answers first and resets a moment later.
    Reset {
        /// Reset even where the application would refuse.
        #[arg(long)]
        force: bool,
        /// What to boot into: normal, bootloader, or a number.
        #[arg(long, value_name = "MODE", value_parser = boot_mode)]
        boot_mode: Option<u8>,
    },
    /// The server's buffers.
    Params,
    /// What runs on the device, as `uname` tells it.
    Info {
        /// What to tell, one letter each: s kernel name, n node name, r kernel release, v kernel version, b build date,
        /// m machine, p processor, i hardware platform, o operating system, a all. Without it each part in a line.
        #[arg(long, value_name = "LETTERS")]
        format: Option<String>,
    },
    /// The bootloader, and how MCUboot updates.
    Bootloader {
        /// Ask this instead, for example `mode`.
        #[arg(long, value_name = "NAME")]
        query: Option<String>,
    },
}

/// The device's clock.
#[derive(Debug, Subcommand)]
pub(super) enum Time {
    /// Read it.
    Get,
    /// Set it.
    Set {
        /// The time, as 2026-11-25T20:52:29, or with a zone (RFC 3339); without it this machine's.
        when: Option<String>,
        /// Set local time instead of UTC.
        #[arg(long)]
        local: bool,
    },
}

/// Image group.
#[derive(Debug, Subcommand)]
pub(super) enum ImageCommand {
    /// Every image on the device.
    List,
    /// Put an image into the slot that is not running. An upload that broke off goes on.
    Upload {
        /// The image.
        file: PathBuf,
        /// Image number on the device.
        #[arg(long, value_name = "N", default_value_t = 0)]
        image_number: u32,
        /// Let the device refuse a version that is not newer.
        #[arg(long)]
        upgrade_only: bool,
    },
    /// Boot an image once at the next reset; it stays if it is confirmed.
    Test {
        /// Hash of the image, in hexadecimal, or a file that holds the image.
        image: String,
    },
    /// Make the running image permanent.
    Confirm {
        /// Hash of the image, in hexadecimal, or a file that holds the image; without it the running one.
        image: Option<String>,
        /// Confirm an image although it does not run: if it does not boot, nothing brings the old one back.
        #[arg(long, requires = "image")]
        force: bool,
    },
    /// Erase a slot.
    Erase {
        /// The slot, counted over all images; without it the one that is not running.
        #[arg(long, value_name = "N")]
        slot: Option<u32>,
    },
    /// The slots and their sizes.
    Slots,
}

/// Statistics group.
#[derive(Debug, Subcommand)]
pub(super) enum Stat {
    /// Names of the device's statistics.
    List,
    /// Every entry of one, or of all.
    Show {
        /// Its name; without it all.
        name: Option<String>,
    },
}

/// Settings group.
#[derive(Debug, Subcommand)]
pub(super) enum Settings {
    /// Read a setting.
    Read {
        /// Its name, for example id/serial.
        name: String,
        /// Most bytes to read.
        #[arg(long, value_name = "BYTES")]
        max_size: Option<u32>,
    },
    /// Write a setting. It is gone at the next reset unless it is saved.
    Write {
        /// Its name.
        name: String,
        /// Its value.
        #[arg(allow_hyphen_values = true)]
        value: String,
        /// What the value is; numbers become little-endian bytes.
        #[arg(long = "type", value_enum, default_value_t = ValueType::Text)]
        kind: ValueType,
    },
    /// Delete a setting from the storage.
    Delete {
        /// Its name.
        name: String,
    },
    /// Apply what was written and not yet applied.
    Commit,
    /// Load all settings from the storage.
    Load,
    /// Save settings to the storage.
    Save {
        /// Save this part of the tree alone.
        name: Option<String>,
    },
}

/// What a setting's value is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum ValueType {
    Text,
    Hex,
    U8,
    U16,
    U32,
    U64,
    I8,
    I16,
    I32,
    I64,
}

/// File system group.
#[derive(Debug, Subcommand)]
pub(super) enum Fs {
    /// Get a file from the device.
    Get {
        /// Its path on the device.
        remote: String,
        /// Where to, `-` for standard output; without it its name, in this folder.
        local: Option<PathBuf>,
    },
    /// Put a file onto the device and compare what is there.
    Put {
        /// The file, `-` for standard input.
        local: PathBuf,
        /// Its path on the device; one that ends with `/` gets the file's name.
        remote: String,
    },
    /// Length of a file on the device.
    Status {
        /// Its path on the device.
        remote: String,
    },
    /// Hash or checksum of a file on the device.
    Hash {
        /// Its path on the device.
        remote: String,
        /// Which one, for example sha256 or crc32; without it the device's default.
        #[arg(long = "type", value_name = "NAME")]
        kind: Option<String>,
        /// Where to begin, in bytes.
        #[arg(long, value_name = "BYTES")]
        offset: Option<u64>,
        /// Most bytes to take in.
        #[arg(long, value_name = "BYTES")]
        length: Option<u64>,
    },
    /// Hashes and checksums that the device has.
    HashTypes,
    /// Have the device close the file that it holds open.
    Close,
}

/// Enumeration group.
#[derive(Debug, Subcommand)]
pub(super) enum Enumeration {
    /// How many groups the device has.
    Count,
    /// Numbers of the groups.
    List,
    /// One group.
    Show {
        /// Which, counted from 0.
        #[arg(default_value_t = 0)]
        index: u32,
    },
    /// Names of the groups, and how many commands each has.
    Details {
        /// Of these groups alone: numbers, or names as in this command.
        #[arg(value_parser = group_number)]
        groups: Vec<u16>,
    },
}

/// Zephyr basic group.
#[derive(Debug, Subcommand)]
pub(super) enum Zephyr {
    /// Erase the storage partition, settings included.
    EraseStorage,
}

/// Read or write.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum RawOp {
    Read,
    Write,
}

/// A command with everything read and checked that this machine has to give.
#[derive(Debug)]
pub(super) enum Prepared<'a> {
    Plain(&'a Group),
    SetTime(String),
    Upload { image: Box<Image>, image_number: u32, upgrade_only: bool },
    SetState { hash: Option<Vec<u8>>, confirm: bool, force: bool },
    WriteSetting { name: &'a str, value: Vec<u8> },
    Put { data: Vec<u8>, remote: String },
    Get { remote: &'a str, local: PathBuf },
    Raw(RawRequest),
}

impl Group {
    /// Group and command, for programs.
    pub(super) fn name(&self) -> String {
        let command = match self {
            Self::Os(Os::Echo { .. }) => "os echo",
            Self::Os(Os::Tasks) => "os tasks",
            Self::Os(Os::MemoryPools) => "os memory-pools",
            Self::Os(Os::Time(Time::Get)) => "os time get",
            Self::Os(Os::Time(Time::Set { .. })) => "os time set",
            Self::Os(Os::Reset { .. }) => "os reset",
            Self::Os(Os::Params) => "os params",
            Self::Os(Os::Info { .. }) => "os info",
            Self::Os(Os::Bootloader { .. }) => "os bootloader",
            Self::Image(ImageCommand::List) => "image list",
            Self::Image(ImageCommand::Upload { .. }) => "image upload",
            Self::Image(ImageCommand::Test { .. }) => "image test",
            Self::Image(ImageCommand::Confirm { .. }) => "image confirm",
            Self::Image(ImageCommand::Erase { .. }) => "image erase",
            Self::Image(ImageCommand::Slots) => "image slots",
            Self::Stat(Stat::List) => "stat list",
            Self::Stat(Stat::Show { .. }) => "stat show",
            Self::Settings(Settings::Read { .. }) => "settings read",
            Self::Settings(Settings::Write { .. }) => "settings write",
            Self::Settings(Settings::Delete { .. }) => "settings delete",
            Self::Settings(Settings::Commit) => "settings commit",
            Self::Settings(Settings::Load) => "settings load",
            Self::Settings(Settings::Save { .. }) => "settings save",
            Self::Fs(Fs::Get { .. }) => "fs get",
            Self::Fs(Fs::Put { .. }) => "fs put",
            Self::Fs(Fs::Status { .. }) => "fs status",
            Self::Fs(Fs::Hash { .. }) => "fs hash",
            Self::Fs(Fs::HashTypes) => "fs hash-types",
            Self::Fs(Fs::Close) => "fs close",
            Self::Shell { .. } => "shell",
            Self::Enum(Enumeration::Count) => "enum count",
            Self::Enum(Enumeration::List) => "enum list",
            Self::Enum(Enumeration::Show { .. }) => "enum show",
            Self::Enum(Enumeration::Details { .. }) => "enum details",
            Self::Zephyr(Zephyr::EraseStorage) => "zephyr erase-storage",
            Self::Raw { .. } => "raw",
        };
        command.to_owned()
    }

    /// What an interrupt left behind, behind the word `interrupted`.
    pub(super) fn after_interrupt(&self) -> &'static str {
        match self {
            Self::Image(ImageCommand::Upload { .. }) => ": the same upload goes on from where it is",
            Self::Fs(Fs::Put { .. }) => ": the file on the device is not whole; put it again",
            Self::Fs(Fs::Get { .. }) => ": no file was written",
            _ => ": the device may have done what was asked, or not",
        }
    }

    /// Reads and checks everything before the device is touched.
    pub(super) fn prepare(&self, json: bool) -> Result<Prepared<'_>, Cause> {
        Ok(match self {
            Self::Os(Os::Time(Time::Set { when, local })) => {
                Prepared::SetTime(time(when.as_deref(), *local)?)
            }
            Self::Image(ImageCommand::Upload { file, image_number, upgrade_only }) => Prepared::Upload {
                image: Box::new(Image::load(file)?),
                image_number: *image_number,
                upgrade_only: *upgrade_only,
            },
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

/// A group's number, or its name on the command line.
fn group_number(text: &str) -> Result<u16, String> {
    Ok(match text {
        "os" => group::OS,
        "image" => group::IMAGE,
        "stat" => group::STAT,
        "settings" => group::SETTINGS,
        "fs" => group::FS,
        "shell" => group::SHELL,
        "enum" => group::ENUM,
        "zephyr" => group::ZEPHYR,
        _ => text.parse().map_err(|_| {
            "expected a number from 0 to 65535, or os, image, stat, settings, fs, shell, enum or zephyr"
                .to_owned()
        })?,
    })
}

fn boot_mode(text: &str) -> Result<u8, String> {
    match text {
        "normal" => Ok(0),
        "bootloader" => Ok(1),
        _ => text.parse().map_err(|_| "expected normal, bootloader, or a number from 0 to 255".to_owned()),
    }
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
