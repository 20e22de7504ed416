//! What a device says to a client that is not flashfleet: smpclient, through `readback.py`.

use std::fmt;
use std::io::Write as _;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::Command;

use serde::Deserialize;
use serde::de::DeserializeOwned;

use crate::error::{Context, Result, RigError};
use crate::fixtures::{python, run};
use crate::images::Image;

/// Where a device is.
#[derive(Clone, Debug)]
pub(crate) enum Device {
    Tcp(SocketAddr),
    Terminal(PathBuf),
    /// Always at port 1337: smpclient knows no other.
    Udp(IpAddr),
}

impl fmt::Display for Device {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => write!(f, "tcp:{address}"),
            Self::Terminal(path) => write!(f, "serial:{}", path.display()),
            Self::Udp(address) => write!(f, "udp:{address}"),
        }
    }
}

/// One entry of an image list.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq)]
pub(crate) struct SlotState {
    pub(crate) image: u32,
    pub(crate) slot: u32,
    pub(crate) version: String,
    /// TLV hash, lower-case hex.
    pub(crate) hash: Option<String>,
    pub(crate) bootable: bool,
    pub(crate) pending: bool,
    pub(crate) confirmed: bool,
    pub(crate) active: bool,
    pub(crate) permanent: bool,
}

impl SlotState {
    /// Whether this entry is `image`.
    pub(crate) fn holds(&self, image: &Image) -> bool {
        self.hash.as_deref() == Some(hex::encode(image.hash()).as_str())
    }
}

/// The buffers that a server says it has.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq)]
pub(crate) struct Params {
    pub(crate) buf_size: u32,
    pub(crate) buf_count: u32,
}

impl Device {
    /// The image list.
    pub(crate) fn images(&self) -> Result<Vec<SlotState>> {
        self.ask(&["list"])
    }

    /// The image that runs; an error where not exactly one does.
    pub(crate) fn running(&self) -> Result<SlotState> {
        let images = self.images()?;
        let mut active = images.iter().filter(|image| image.active);
        match (active.next(), active.next()) {
            (Some(only), None) => Ok(only.clone()),
            _ => Err(RigError::new(format!("expected one active image, got {images:?}"))),
        }
    }

    /// Buffer size and count.
    pub(crate) fn params(&self) -> Result<Params> {
        self.ask(&["params"])
    }

    /// What comes back for `text`.
    pub(crate) fn echo(&self, text: &str) -> Result<String> {
        self.ask(&["echo", text])
    }

    /// Puts an image into the secondary slot.
    pub(crate) fn upload(&self, image: &Image) -> Result<()> {
        let mut file = tempfile::NamedTempFile::new()?;
        file.write_all(&image.bytes)?;
        self.ask::<serde_json::Value>(&["upload", &file.path().to_string_lossy()]).map(drop)
    }

    /// The bytes of a file.
    pub(crate) fn file(&self, name: &str) -> Result<Vec<u8>> {
        let file = tempfile::NamedTempFile::new()?;
        self.ask::<Option<()>>(&["get", name, &file.path().to_string_lossy()])?;
        Ok(std::fs::read(file.path())?)
    }

    /// Puts a file onto the device.
    pub(crate) fn put_file(&self, name: &str, content: &[u8]) -> Result<()> {
        let mut file = tempfile::NamedTempFile::new()?;
        file.write_all(content)?;
        self.ask::<Option<()>>(&["put", name, &file.path().to_string_lossy()]).map(drop)
    }

    /// Marks an image for one test boot.
    pub(crate) fn test(&self, image: &Image) -> Result<Vec<SlotState>> {
        self.ask(&["test", &hex::encode(image.hash())])
    }

    /// Confirms the running image.
    pub(crate) fn confirm(&self) -> Result<Vec<SlotState>> {
        self.ask(&["confirm"])
    }

    /// Makes an image permanent that may never have run: Zephyr allows it.
    pub(crate) fn confirm_unseen(&self, image: &Image) -> Result<Vec<SlotState>> {
        self.ask(&["confirm", &hex::encode(image.hash())])
    }

    /// Asks the device to reset itself.
    pub(crate) fn reset(&self) -> Result<()> {
        self.ask(&["reset"])
    }

    /// Asks the device to reset itself into its bootloader's recovery.
    pub(crate) fn reset_into_recovery(&self) -> Result<()> {
        self.ask(&["reset", "1"])
    }

    fn ask<T: DeserializeOwned>(&self, arguments: &[&str]) -> Result<T> {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/rig/readback.py");
        let mut command = Command::new(python()?);
        let printed = run(command.arg(script).arg(self.to_string()).args(arguments), "is the device up?")?;
        serde_json::from_str(&printed).context(format!("answer of readback.py: {printed}"))
    }
}
