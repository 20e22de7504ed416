//! Arguments of every group and command. Names under which mcumgrctl and smpmgr have the same command are aliases that no help
//! lists: whoever comes from there types what they know. What is made of them before a device is touched lives in `prepare.rs`.

use std::path::PathBuf;

use clap::{Subcommand, ValueEnum};

use crate::smp::group;

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
    #[command(subcommand, aliases = ["stats", "statistics"])]
    Stat(Stat),
    /// Settings.
    #[command(subcommand)]
    Settings(Settings),
    /// Files.
    #[command(subcommand, alias = "file")]
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
    #[command(alias = "task-statistics")]
    Tasks,
    /// Memory pools: blocks and how many are free.
    #[command(alias = "memory-pool-statistics")]
    MemoryPools,
    /// The device's clock.
    #[command(subcommand)]
    Time(Time),
    /// Reset the device. It answers first and resets a moment later.
    #[command(alias = "system-reset")]
    Reset {
        /// Reset even where the application would refuse.
        #[arg(short, long)]
        force: bool,
        /// What to boot into: normal, bootloader, or a number.
        #[arg(long, alias = "bootmode", value_name = "MODE", value_parser = boot_mode)]
        boot_mode: Option<u8>,
    },
    /// The server's buffers.
    #[command(alias = "mcumgr-parameters")]
    Params,
    /// What runs on the device, as `uname` tells it.
    #[command(alias = "application-info")]
    Info {
        /// What to tell, one letter each: s kernel name, n node name, r kernel release, v kernel version, b build date,
        /// m machine, p processor, i hardware platform, o operating system, a all. Without it each part in a line.
        #[arg(long, value_name = "LETTERS")]
        format: Option<String>,
    },
    /// The bootloader, and how MCUboot updates.
    #[command(alias = "bootloader-info")]
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
    #[command(aliases = ["get-state", "state-read"])]
    List,
    /// Put an image into the slot that is not running. An upload that broke off goes on.
    Upload {
        /// The image, `-` for standard input.
        file: PathBuf,
        /// Image number on the device.
        #[arg(long, alias = "image-id", value_name = "N", default_value_t = 0)]
        image_number: u32,
        /// Let the device refuse a version that is not newer.
        #[arg(long)]
        upgrade_only: bool,
        /// The whole file must hash to this SHA-256.
        #[arg(long, alias = "checksum", value_name = "HEX", value_parser = sha256)]
        sha256: Option<[u8; 32]>,
        /// What the file must be. With `any` nothing is checked on this machine: whether it is fit to run is up to the
        /// bootloader.
        #[arg(long, value_enum, default_value_t)]
        format: FileFormat,
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
        #[arg(value_name = "SLOT")]
        at: Option<u32>,
        /// The same.
        #[arg(long, value_name = "N", conflicts_with = "at", hide = true)]
        slot: Option<u32>,
    },
    /// The slots and their sizes.
    #[command(alias = "slot-info")]
    Slots,
}

/// Statistics group.
#[derive(Debug, Subcommand)]
pub(super) enum Stat {
    /// Names of the device's statistics.
    #[command(alias = "list-groups")]
    List,
    /// Every entry of one, or of all.
    #[command(aliases = ["get", "fetch-all"])]
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
        /// The same.
        #[arg(long = "name", value_name = "NAME", conflicts_with = "name", hide = true)]
        part: Option<String>,
    },
}

/// What a file to upload must be.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub(super) enum FileFormat {
    /// An MCUboot image whose structure and hash hold.
    #[default]
    Mcuboot,
    /// Anything.
    Any,
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
    #[command(alias = "download")]
    Get {
        /// Its path on the device.
        remote: String,
        /// Where to, `-` for standard output; without it its name, in this folder.
        local: Option<PathBuf>,
    },
    /// Put a file onto the device and compare what is there.
    #[command(alias = "upload")]
    Put {
        /// The file, `-` for standard input.
        local: PathBuf,
        /// Its path on the device; one that ends with `/` gets the file's name.
        remote: String,
    },
    /// Length of a file on the device.
    #[command(alias = "read-size")]
    Status {
        /// Its path on the device.
        remote: String,
    },
    /// Hash or checksum of a file on the device.
    #[command(aliases = ["checksum", "get-hash"])]
    Hash {
        /// Its path on the device.
        remote: String,
        /// Which one, for example sha256 or crc32; without it the device's default.
        #[arg(value_name = "TYPE")]
        kind: Option<String>,
        /// The same.
        #[arg(long = "type", value_name = "NAME", conflicts_with = "kind", hide = true)]
        named: Option<String>,
        /// Where to begin, in bytes.
        #[arg(long, value_name = "BYTES")]
        offset: Option<u64>,
        /// Most bytes to take in.
        #[arg(long, value_name = "BYTES")]
        length: Option<u64>,
    },
    /// Hashes and checksums that the device has.
    #[command(aliases = ["supported-checksums", "get-supported-hash-types"])]
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
    #[command(aliases = ["list-groups", "get-supported-groups"])]
    List,
    /// One group.
    Show {
        /// Which, counted from 0.
        #[arg(default_value_t = 0)]
        index: u32,
    },
    /// Names of the groups, and how many commands each has.
    #[command(aliases = ["show-group-details", "get-group-details"])]
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

/// A SHA-256 as `sha256sum` prints it.
pub(in crate::cli) fn sha256(text: &str) -> Result<[u8; 32], String> {
    let mut hash = [0; 32];
    match hex::decode_to_slice(text, &mut hash) {
        Ok(()) => Ok(hash),
        Err(_) => Err("expected 64 hexadecimal digits, as `sha256sum` prints them".to_owned()),
    }
}

fn boot_mode(text: &str) -> Result<u8, String> {
    match text {
        "normal" => Ok(0),
        "bootloader" => Ok(1),
        _ => text.parse().map_err(|_| "expected normal, bootloader, or a number from 0 to 255".to_owned()),
    }
}
