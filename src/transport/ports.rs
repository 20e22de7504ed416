//! The serial ports of this machine, with what USB says of the device behind each. Which of them a plan means is not
//! decided here.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use async_trait::async_trait;

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

    fn stamp(&self) -> Option<u64> {
        #[cfg(target_os = "linux")]
        return SYSTEM.stamp();
        #[cfg(not(target_os = "linux"))]
        None
    }
}

/// The terminals of this machine, as they were read so far.
#[cfg(target_os = "linux")]
static SYSTEM: std::sync::LazyLock<super::sysfs::Sysfs> =
    std::sync::LazyLock::new(super::sysfs::Sysfs::system);

#[cfg(target_os = "linux")]
fn listed() -> Result<Vec<Port>, LinkError> {
    SYSTEM.ports().map_err(|error| unavailable(&format!("{error} (/sys/class/tty)")))
}

/// What the `serialport` crate lists.
#[cfg(not(target_os = "linux"))]
fn listed() -> Result<Vec<Port>, LinkError> {
    let infos = serialport::available_ports().map_err(|error| unavailable(&error.to_string()))?;
    Ok(infos.into_iter().map(port).collect())
}

fn unavailable(why: &str) -> LinkError {
    LinkError::new(
        LinkErrorKind::Unavailable,
        format!("expected a list of the serial ports, got: {why}"),
        "run where /sys is mounted, or name the port in the plan (`match: { port: … }`)",
    )
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
fn merge(listed: Vec<Port>, found: Vec<(PathBuf, PathBuf)>) -> Vec<Port> {
    let mut ports: BTreeMap<PathBuf, Port> =
        listed.into_iter().map(|port| (port.path.clone(), port)).collect();
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

#[cfg(not(target_os = "linux"))]
fn port(info: serialport::SerialPortInfo) -> Port {
    let text = |text: Option<String>| text.map(|text| text.trim().to_owned()).filter(|text| !text.is_empty());
    let usb = match info.port_type {
        serialport::SerialPortType::UsbPort(usb) => Some(UsbIdentity {
            vid: usb.vid,
            pid: usb.pid,
            interface: usb.interface,
            serial_number: text(usb.serial_number),
            product: text(usb.product),
            hub_path: usb.location.map(|location| {
                // Bus and port chain as Linux writes them, for example `1-2.3`.
                let chain: Vec<String> = location.port_chain().iter().map(u8::to_string).collect();
                format!("{}-{}", location.bus_id(), chain.join("."))
            }),
        }),
        _ => None,
    };
    let path = std::fs::canonicalize(&info.port_name).unwrap_or_else(|_| PathBuf::from(&info.port_name));
    Port { identity: Identity { usb, ble: None }, ..Port::plain(path) }
}

#[cfg(test)]
mod tests {
    use super::*;

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
