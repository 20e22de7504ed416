//! The steps of a valid plan, with every default filled in. How they are read from YAML does not live here.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use regex::Regex;
use serde_json::Value as Json;

use super::model::Pattern;
use crate::smp::{Op, RequestId};

/// The boot mode in which MCUboot stays in its serial recovery (Zephyr, `BOOT_MODE_TYPE_BOOTLOADER` in
/// `retention/bootmode.h`; `smp_group_0.rst`, "System reset").
pub const BOOT_MODE_BOOTLOADER: u8 = 1;

/// One step of a target.
#[derive(Debug, Clone, PartialEq)]
pub enum Step {
    /// Put an image into the secondary slot; in the bootloader, into the primary one.
    Upload {
        /// Name of the image in the plan.
        image: String,
        /// Image number on the device.
        image_number: u32,
        /// Let the server refuse a version that is not newer.
        upgrade_only: bool,
        /// Upload even where it is there already.
        force: bool,
    },
    /// Mark for test, reset, prove that it runs.
    TestBoot,
    /// Make what runs permanent.
    Confirm,
    /// Mark what was uploaded, and boot it or leave that to the next reset. A plan file has no such step: `update` makes
    /// it.
    Activate {
        /// Mark it to stay, without a test boot: if it does not boot, nothing brings the old one back.
        permanent: bool,
        /// Reset, and prove that it runs.
        boot: bool,
    },
    /// Reset and prove that what ran still runs.
    Reset {
        /// Ask the device to reset even where its application would refuse.
        force: bool,
        /// What to boot into; `None` is normal.
        boot_mode: Option<u8>,
    },
    /// Require what is said of the running image.
    Verify {
        /// Requirement on its version.
        version: Option<semver::VersionReq>,
        /// Its TLV hash, or the name of an image of the plan, resolved to its hash.
        hash: Option<Vec<u8>>,
        /// Whether it is confirmed.
        confirmed: Option<bool>,
        /// A text that must come back.
        echo: Option<String>,
    },
    /// Erase a slot.
    Erase {
        /// The slot; 1 where the plan does not say.
        slot: u32,
    },
    /// Wait.
    Delay(Duration),
    /// Run a program on this machine.
    Run {
        /// The program.
        program: String,
        /// Its arguments.
        arguments: Vec<String>,
    },
    /// Run a command in the device's shell, once.
    Shell {
        /// The command line.
        run: String,
        /// What its output must have.
        expect: Option<Search>,
        /// How long it may run; `None` is the link's timeout, or 30 s.
        timeout: Option<Duration>,
    },
    /// Write a file to the device, and compare what is there.
    Put {
        /// The file on this machine.
        file: LocalFile,
        /// Absolute path on the device.
        to: String,
    },
    /// Read a file from the device.
    Get {
        /// Absolute path on the device.
        from: String,
        /// The file on this machine; each device has one of its own.
        file: LocalFile,
    },
    /// Change settings.
    Settings(Settings),
    /// Set the device's clock from this machine's, in UTC.
    SetTime,
    /// Erase the storage partition, once: settings, and files where the file system lies in it.
    EraseStorage,
    /// Any SMP command; a write is sent once.
    Smp(SmpCommand),
}

/// What a settings step does, in this order.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Settings {
    /// Names of the settings to delete from the storage.
    pub delete: Vec<String>,
    /// Name and value of each setting to write, as the application keeps it.
    pub set: Vec<(String, Vec<u8>)>,
    /// Apply what was written.
    pub commit: bool,
    /// Save to the storage.
    pub save: bool,
}

/// Any SMP command.
#[derive(Debug, Clone, PartialEq)]
pub struct SmpCommand {
    /// Operation, group and command.
    pub request: RequestId,
    /// What it carries, a CBOR map.
    pub payload: Vec<u8>,
    /// What the answer must contain: every key of a map, with a value that in turn contains what is given here; byte
    /// strings as `{"$bytes": "HEX"}`.
    pub expect: Option<Json>,
}

/// A file on this machine, relative to the plan.
#[derive(Clone, PartialEq, Eq)]
pub struct LocalFile {
    /// The plan's folder.
    pub folder: PathBuf,
    /// The name as the plan writes it, with `{placeholders}`.
    pub name: String,
    /// What is in it, where it was read with the plan.
    pub content: Option<Arc<[u8]>>,
}

impl LocalFile {
    /// What `{name}` in a file's name can stand for.
    pub const PLACEHOLDERS: [&str; 6] = ["plan", "target", "address", "serial_number", "hub_path", "usb_id"];
    /// Those that are another text for each device.
    pub const OF_DEVICE: [&str; 3] = ["address", "serial_number", "hub_path"];
}

impl fmt::Debug for LocalFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LocalFile")
            .field("folder", &self.folder)
            .field("name", &self.name)
            .field("bytes", &self.content.as_ref().map(|content| content.len()))
            .finish()
    }
}

/// A regular expression that must match somewhere in a text: case matters, `^` and `$` are the ends of a line.
#[derive(Debug, Clone)]
pub struct Search {
    source: String,
    regex: Regex,
}

impl Search {
    /// Compiles `source`.
    ///
    /// # Errors
    /// What the regex crate says of it.
    pub fn new(source: &str) -> Result<Self, regex::Error> {
        let regex = regex::RegexBuilder::new(source)
            .multi_line(true)
            // Shells end lines with both.
            .crlf(true)
            .size_limit(Pattern::MAX_COMPILED)
            .build()?;
        Ok(Self { source: source.to_owned(), regex })
    }

    /// Whether it matches somewhere in `text`.
    #[must_use]
    pub fn is_in(&self, text: &str) -> bool {
        self.regex.is_match(text)
    }

    /// As the plan writes it.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.source
    }
}

impl PartialEq for Search {
    fn eq(&self, other: &Self) -> bool {
        self.source == other.source
    }
}

/// Longest part of a command line in a step's name, in characters.
const NAME_LIMIT: usize = 40;

impl Step {
    /// The step's name in reports, before doubles are numbered.
    #[must_use]
    pub fn name(&self) -> String {
        match self {
            Self::Upload { image, image_number: 0, .. } => format!("upload {image}"),
            Self::Upload { image, image_number, .. } => format!("upload {image} to image {image_number}"),
            Self::TestBoot => "test-boot".to_owned(),
            Self::Confirm => "confirm".to_owned(),
            Self::Reset { .. } => "reset".to_owned(),
            Self::Verify { .. } => "verify".to_owned(),
            Self::Erase { slot } => format!("erase slot {slot}"),
            Self::Delay(time) => format!("delay {}", humantime::format_duration(*time)),
            Self::Run { program, .. } => format!("run {program}"),
            Self::Activate { permanent: false, boot: false } => "mark for test".to_owned(),
            Self::Activate { permanent: false, boot: true } => "test-boot".to_owned(),
            Self::Activate { permanent: true, boot: false } => "mark to stay".to_owned(),
            Self::Activate { permanent: true, boot: true } => "boot to stay".to_owned(),
            Self::Shell { run, .. } if run.chars().count() > NAME_LIMIT => {
                format!("shell {}…", run.chars().take(NAME_LIMIT).collect::<String>())
            }
            Self::Shell { run, .. } => format!("shell {run}"),
            Self::Put { to, .. } => format!("put {to}"),
            Self::Get { from, .. } => format!("get {from}"),
            Self::Settings(_) => "settings".to_owned(),
            Self::SetTime => "set-time".to_owned(),
            Self::EraseStorage => "erase-storage".to_owned(),
            Self::Smp(SmpCommand { request: RequestId { op, group, command }, .. }) => {
                let op = if *op == Op::Read { "read" } else { "write" };
                format!("smp {op} {group} {command}")
            }
        }
    }
}
