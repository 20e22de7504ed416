//! The serial ports of this machine, with what USB says of the device behind each. Which of them a plan means is not
//! decided here.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use serialport::{SerialPortInfo, SerialPortType, UsbPortInfo};

use super::detached;
use super::link::{Connector as _, Link, LinkError, LinkErrorKind};
use super::serial::{SerialConnector, SerialOptions};
use crate::identity::{Identity, UsbIdentity};

/// How long listing the ports may take.
const LIMIT: Duration = Duration::from_secs(10);
/// How long, and over how many names, a glob may go: `/**` is a plan's mistake, not a reason to hang.
const GLOB_LIMIT: Duration = Duration::from_secs(3);
const GLOB_NAMES: usize = 65_536;

/// One serial port.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Port {
    /// The system's own name, for example `/dev/ttyACM0`; every link leads to it.
    pub path: PathBuf,
    /// Other names that lead to it, for example `/dev/serial/by-path/…`, sorted.
    pub links: Vec<PathBuf>,
    /// What USB says of the device; empty for other ports.
    pub identity: Identity,
}

impl Port {
    /// A port that is not on USB.
    pub fn plain(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into(), links: Vec::new(), identity: Identity::default() }
    }

    /// A port on USB.
    pub fn usb(path: impl Into<PathBuf>, usb: UsbIdentity) -> Self {
        Self { identity: Identity { usb: Some(usb), ble: None }, ..Self::plain(path) }
    }
}

/// Where ports come from: the system, or a test.
#[async_trait]
pub trait Ports: Send + Sync + std::fmt::Debug {
    /// Every port that the system lists, and every one that a glob of `globs` leads to: pseudo-terminals are never
    /// listed. Each device once, sorted by path.
    ///
    /// # Errors
    /// Where the system lists no ports at all, as in a container without `/sys`.
    async fn ports(&self, globs: &[glob::Pattern]) -> Result<Vec<Port>, LinkError>;

    /// A number that changes when a port comes or goes, also where another one takes its name at once. Much cheaper than
    /// a list. `None` where the system has nothing of the kind.
    fn stamp(&self) -> Option<u64> {
        None
    }

    /// Opens the port of this name.
    ///
    /// # Errors
    /// [`LinkError`]: not there, held, denied.
    async fn open(&self, name: &str, options: &SerialOptions) -> Result<Box<dyn Link>, LinkError> {
        SerialConnector::new(name, options.clone()).connect().await
    }
}

/// The ports of this machine.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemPorts;

#[async_trait]
impl Ports for SystemPorts {
    async fn ports(&self, globs: &[glob::Pattern]) -> Result<Vec<Port>, LinkError> {
        let globs = globs.to_vec();
        detached::run("list the serial ports", LIMIT, move || {
            let found = expand(&globs);
            match listed() {
                Ok(infos) => Ok(merge(infos, found)),
                // A glob needs no list: the plan knows where its ports are.
                Err(_) if !found.is_empty() => Ok(merge(Vec::new(), found)),
                Err(error) => Err(error),
            }
        })
        .await?
    }

    /// Names and inodes of the terminals in `/dev`. It lives in memory (devtmpfs), and every new node there has a new
    /// inode.
    #[cfg(unix)]
    fn stamp(&self) -> Option<u64> {
        use std::hash::{DefaultHasher, Hash as _, Hasher as _};
        use std::os::unix::fs::DirEntryExt as _;
        let mut stamp = 0_u64;
        for entry in std::fs::read_dir("/dev").ok()?.flatten() {
            let name = entry.file_name();
            if ["tty", "cu", "rfcomm"].iter().any(|kind| name.as_encoded_bytes().starts_with(kind.as_bytes()))
            {
                let mut hasher = DefaultHasher::new();
                (name, entry.ino()).hash(&mut hasher);
                // Whatever the order they are read in.
                stamp = stamp.wrapping_add(hasher.finish());
            }
        }
        Some(stamp)
    }
}

/// What the `serialport` crate lists, without the sockets of UARTs that are not there.
fn listed() -> Result<Vec<SerialPortInfo>, LinkError> {
    let unavailable = |message: String| {
        LinkError::new(
            LinkErrorKind::Unavailable,
            message,
            "run where /sys is mounted, or name the port in the plan (`match: { port: … }`)",
        )
    };
    // The crate panics where this is missing.
    if cfg!(target_os = "linux") && !Path::new("/sys/class/tty").is_dir() {
        return Err(unavailable("cannot list serial ports: this system has no /sys/class/tty".to_owned()));
    }
    let infos = serialport::available_ports()
        .map_err(|error| unavailable(format!("cannot list the serial ports: {error}")))?;
    Ok(infos.into_iter().filter(|info| !is_empty_socket(&info.port_name)).collect())
}

/// Whether the kernel keeps a name for a UART that does not exist: type 0, `PORT_UNKNOWN` in `linux/serial_core.h`.
fn is_empty_socket(port: &str) -> bool {
    let name = Path::new(port).file_name().unwrap_or_default();
    std::fs::read_to_string(Path::new("/sys/class/tty").join(name).join("type"))
        .is_ok_and(|kind| kind.trim() == "0")
}

/// Every terminal that the globs lead to: the name as found, and what it leads to.
fn expand(globs: &[glob::Pattern]) -> Vec<(PathBuf, PathBuf)> {
    let end = Instant::now() + GLOB_LIMIT;
    let mut found = Vec::new();
    for glob in globs {
        let Ok(names) = glob::glob(glob.as_str()) else { continue };
        for name in names.take(GLOB_NAMES).take_while(|_| Instant::now() < end).flatten() {
            if let Ok(real) = std::fs::canonicalize(&name)
                && is_device(&real)
            {
                found.push((name, real));
            }
        }
    }
    found
}

#[cfg(unix)]
fn is_device(path: &Path) -> bool {
    use std::os::unix::fs::FileTypeExt as _;
    std::fs::metadata(path).is_ok_and(|data| data.file_type().is_char_device())
}

#[cfg(not(unix))]
fn is_device(_path: &Path) -> bool {
    false
}

/// One port per device, whatever its names.
fn merge(infos: Vec<SerialPortInfo>, found: Vec<(PathBuf, PathBuf)>) -> Vec<Port> {
    let mut ports = BTreeMap::new();
    for info in infos {
        let name = PathBuf::from(&info.port_name);
        let identity = match info.port_type {
            SerialPortType::UsbPort(usb) => Identity { usb: Some(usb_identity(usb)), ble: None },
            SerialPortType::PciPort | SerialPortType::BluetoothPort | SerialPortType::Unknown => {
                Identity::default()
            }
        };
        let path = std::fs::canonicalize(&name).unwrap_or(name);
        ports.insert(path.clone(), Port { identity, ..Port::plain(path) });
    }
    for (name, real) in found {
        let port = ports.entry(real.clone()).or_insert_with(|| Port::plain(&real));
        if name != real && !port.links.contains(&name) {
            port.links.push(name);
        }
    }
    let mut ports: Vec<Port> = ports.into_values().collect();
    for port in &mut ports {
        port.links.sort();
    }
    ports
}

fn usb_identity(usb: UsbPortInfo) -> UsbIdentity {
    let text = |text: Option<String>| text.map(|text| text.trim().to_owned()).filter(|text| !text.is_empty());
    UsbIdentity {
        vid: usb.vid,
        pid: usb.pid,
        interface: usb.interface,
        serial_number: text(usb.serial_number),
        product: text(usb.product),
        hub_path: usb.location.as_ref().map(hub_path),
    }
}

/// Bus and port chain as the kernel writes them, for example `1-2.3`.
fn hub_path(location: &serialport::Location) -> String {
    let chain: Vec<String> = location.port_chain().iter().map(u8::to_string).collect();
    format!("{}-{}", location.bus_id(), chain.join("."))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn usb_ports_are_told_by_vid_pid_interface_and_place() {
        let info = SerialPortInfo {
            port_name: "/nowhere/ttyACM0".to_owned(),
            port_type: SerialPortType::UsbPort(UsbPortInfo {
                vid: 0x2fe3,
                pid: 4,
                serial_number: Some("FF01 ".to_owned()),
                manufacturer: None,
                product: Some(String::new()),
                location: Some(serialport::Location::new("1".to_owned(), vec![2, 3])),
                interface: Some(2),
            }),
        };
        let ports = merge(vec![info], Vec::new());
        let usb = ports[0].identity.usb.as_ref().unwrap();
        assert_eq!(usb.id(), "2fe3:0004:2");
        assert_eq!(usb.serial_number.as_deref(), Some("FF01"));
        assert_eq!(usb.product, None, "an empty string says nothing");
        assert_eq!(usb.hub_path.as_deref(), Some("1-2.3"));
    }

    #[cfg(unix)]
    #[test]
    fn one_device_with_two_names_is_one_port() {
        let folder = tempfile::tempdir().unwrap();
        for name in ["b-jig", "a-jig"] {
            std::os::unix::fs::symlink("/dev/null", folder.path().join(name)).unwrap();
        }
        std::fs::write(folder.path().join("c-jig"), "a file is no port").unwrap();
        let glob = glob::Pattern::new(&format!("{}/*-jig", folder.path().display())).unwrap();
        let direct = glob::Pattern::new("/dev/null").unwrap();
        let ports = merge(Vec::new(), expand(&[glob.clone(), direct, glob]));
        assert_eq!(ports.len(), 1);
        assert_eq!(ports[0].path, Path::new("/dev/null"));
        assert_eq!(ports[0].links, [folder.path().join("a-jig"), folder.path().join("b-jig")]);
    }
}
