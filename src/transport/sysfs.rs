//! The serial ports that Linux knows, from `/sys/class/tty`. Each port is read once, when it appears; what lacks something
//! then is read again for a while.
//!
//! The `serialport` crate lists them too, and reads everything anew each time: about a hundred system calls per port, some of
//! which wait for the device, again and again while a line of boards reboots.

use std::collections::HashMap;
use std::ffi::{OsStr, OsString};
use std::fs::{self, File};
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::io::{self, Read as _};
use std::os::unix::fs::DirEntryExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::ports::Port;
use crate::identity::{Identity, UsbIdentity};

/// Most that an attribute can hold, in bytes: sysfs gives at most one page.
const ATTRIBUTE: u64 = 4096;
/// UART type of a socket without a UART: `PORT_UNKNOWN` in `linux/serial_core.h`.
const NO_UART: &str = "0";

/// Entries of a folder with their inodes. A new port has a new inode, also where it has an old name: the kernel numbers
/// the nodes of sysfs (kernfs) and of `/dev` (devtmpfs) one after the other.
type Entries = HashMap<OsString, u64>;

/// How long what a port lacks may still come: nothing tells of it, as a port's inode stays the same.
const SETTLES: Duration = Duration::from_secs(5);

/// A port as it was read.
#[derive(Debug, Clone)]
struct Read {
    /// By which it is known.
    inode: u64,
    /// When it was read first.
    appeared: Instant,
    /// `None` where the terminal is no port.
    identity: Option<Identity>,
}

impl Read {
    /// Whether nothing more is to be learnt of it.
    fn is_settled(&self) -> bool {
        let usb = self.identity.as_ref().map(|identity| identity.usb.as_ref());
        let lacks = match usb {
            Some(Some(usb)) => {
                usb.serial_number.is_none() || usb.hub_path.is_none() || usb.interface.is_none()
            }
            Some(None) => false,
            None => true,
        };
        !lacks || self.appeared.elapsed() >= SETTLES
    }
}

/// What was read, by name.
type Known = HashMap<OsString, Read>;

/// The terminals of a system.
#[derive(Debug)]
pub(super) struct Sysfs {
    class: PathBuf,
    dev: PathBuf,
    known: Mutex<Known>,
}

impl Sysfs {
    /// This machine's.
    pub(super) fn system() -> Self {
        Self::at("/sys/class/tty", "/dev")
    }

    fn at(class: impl Into<PathBuf>, dev: impl Into<PathBuf>) -> Self {
        Self { class: class.into(), dev: dev.into(), known: Mutex::default() }
    }

    /// A number that changes when a port comes or goes. `None` where there is nothing to look at.
    pub(super) fn stamp(&self) -> Option<u64> {
        let class = entries(&self.class).ok()?;
        let dev = entries(&self.dev).unwrap_or_default();
        let mut stamp = 0_u64;
        for (name, inode) in class {
            // A port without its node in `/dev` cannot be opened yet.
            let mut hasher = DefaultHasher::new();
            (&name, inode, dev.get(&name)).hash(&mut hasher);
            // Whatever the order they are read in.
            stamp = stamp.wrapping_add(hasher.finish());
        }
        Some(stamp)
    }

    /// The ports that can be opened.
    ///
    /// # Errors
    /// Where this system shows no terminals at all.
    pub(super) fn ports(&self) -> io::Result<Vec<Port>> {
        let class = entries(&self.class)?;
        let dev = entries(&self.dev).unwrap_or_default();
        let known = std::mem::take(&mut *self.known());
        let mut now = Known::new();
        let mut ports = Vec::new();
        for (name, inode) in class {
            if !dev.contains_key(&name) {
                continue;
            }
            let before = known.get(&name).filter(|before| before.inode == inode);
            let read = match before {
                Some(before) if before.is_settled() => before.clone(),
                // What cannot be read, as it goes at this moment, is read again at the next look.
                _ => match read_port(&self.class.join(&name)) {
                    Ok(identity) => {
                        Read { inode, appeared: before.map_or_else(Instant::now, |it| it.appeared), identity }
                    }
                    Err(_) => continue,
                },
            };
            if let Some(identity) = &read.identity {
                ports.push(Port { identity: identity.clone(), ..Port::plain(self.dev.join(&name)) });
            }
            now.insert(name, read);
        }
        *self.known() = now;
        Ok(ports)
    }

    fn known(&self) -> std::sync::MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn entries(folder: &Path) -> io::Result<Entries> {
    Ok(fs::read_dir(folder)?.flatten().map(|entry| (entry.file_name(), entry.ino())).collect())
}

/// What is behind the terminal at `tty`; `None` where it is no port.
fn read_port(tty: &Path) -> io::Result<Option<Identity>> {
    if tty.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(b"rfcomm")) {
        return Ok(Some(Identity::default()));
    }
    let device = tty.join("device");
    // The system's own terminals, some 60, have none. To find that out by following every link on the way takes 20 system calls
    // for each, instead of one.
    let device = match device.symlink_metadata().and_then(|_| device.canonicalize()) {
        Ok(device) => device,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    let subsystem = device.join("subsystem").canonicalize()?;
    let is_uart = || Ok(attribute(tty, "type")?.as_deref() != Some(NO_UART));
    match subsystem.file_name().and_then(OsStr::to_str) {
        Some("usb") => usb(&device).map(Some),
        Some("usb-serial") => usb(device.parent().ok_or(io::ErrorKind::InvalidData)?).map(Some),
        Some("amba" | "pci" | "platform" | "pnp" | "serial-base") => {
            is_uart().map(|is_uart| is_uart.then(Identity::default))
        }
        _ => Ok(None),
    }
}

/// The device of a USB interface (Linux, `Documentation/ABI/stable/sysfs-bus-usb`).
fn usb(interface: &Path) -> io::Result<Identity> {
    let device = interface.parent().ok_or(io::ErrorKind::InvalidData)?;
    let id = |name| {
        let text = attribute(device, name)?.unwrap_or_default();
        u16::from_str_radix(&text, 16).map_err(|_| io::Error::from(io::ErrorKind::InvalidData))
    };
    // Bus and port chain, as the kernel names the device: `1-2.3`.
    let hub_path = attribute(device, "busnum")?
        .zip(attribute(device, "devpath")?.filter(|path| path != "0"))
        .map(|(bus, path)| format!("{bus}-{path}"));
    let usb = UsbIdentity {
        vid: id("idVendor")?,
        pid: id("idProduct")?,
        interface: attribute(interface, "bInterfaceNumber")?
            .and_then(|text| u8::from_str_radix(&text, 16).ok()),
        serial_number: attribute(device, "serial")?,
        product: attribute(device, "product")?,
        hub_path,
    };
    Ok(Identity { usb: Some(usb), ble: None })
}

/// An attribute's text; `None` where it is missing or empty.
fn attribute(folder: &Path, name: &str) -> io::Result<Option<String>> {
    let file = match File::open(folder.join(name)) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    let mut bytes = Vec::new();
    file.take(ATTRIBUTE).read_to_end(&mut bytes)?;
    let text = String::from_utf8_lossy(&bytes).trim().to_owned();
    Ok((!text.is_empty()).then_some(text))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    /// A system in a folder, laid out as Linux lays it out.
    struct System {
        folder: tempfile::TempDir,
        sysfs: Sysfs,
    }

    impl System {
        fn new() -> Self {
            let folder = tempfile::tempdir().unwrap();
            for name in ["class", "dev", "devices", "bus/usb", "bus/usb-serial", "bus/pnp", "bus/virtio"] {
                fs::create_dir_all(folder.path().join(name)).unwrap();
            }
            let sysfs = Sysfs::at(folder.path().join("class"), folder.path().join("dev"));
            Self { folder, sysfs }
        }

        fn path(&self, name: &str) -> PathBuf {
            self.folder.path().join(name)
        }

        /// A terminal whose device is `device` on `bus`.
        fn tty(&self, name: &str, device: &str, bus: &str) -> PathBuf {
            let device = self.path("devices").join(device);
            let tty = device.join("tty").join(name);
            fs::create_dir_all(&tty).unwrap();
            symlink(&device, tty.join("device")).unwrap();
            let _ = symlink(self.path("bus").join(bus), device.join("subsystem"));
            symlink(&tty, self.path("class").join(name)).unwrap();
            fs::write(self.path("dev").join(name), "").unwrap();
            tty
        }

        /// A USB device with attributes.
        fn usb(&self, device: &str, attributes: &[(&str, &str)]) {
            let device = self.path("devices").join(device);
            fs::create_dir_all(&device).unwrap();
            for (name, value) in attributes {
                fs::write(device.join(name), format!("{value}\n")).unwrap();
            }
        }

        fn unplug(&self, name: &str) {
            let tty = self.path("class").join(name);
            fs::remove_dir_all(tty.canonicalize().unwrap()).unwrap();
            fs::remove_file(tty).unwrap();
            fs::remove_file(self.path("dev").join(name)).unwrap();
        }

        fn names(&self) -> Vec<String> {
            let ports = self.sysfs.ports().unwrap();
            let mut names: Vec<String> = ports
                .iter()
                .map(|port| port.path.file_name().unwrap().to_string_lossy().into_owned())
                .collect();
            names.sort();
            names
        }
    }

    const BOARD: [(&str, &str); 6] = [
        ("idVendor", "2fe3"),
        ("idProduct", "00ab"),
        ("busnum", "1"),
        ("devpath", "2.3"),
        ("serial", "FF01 "),
        ("product", ""),
    ];

    #[test]
    fn a_port_on_usb_is_told_by_ids_interface_serial_number_and_place() {
        let system = System::new();
        system.usb("usb1/1-2/1-2.3", &BOARD);
        system.usb("usb1/1-2/1-2.3/1-2.3:1.10", &[("bInterfaceNumber", "0a")]);
        system.tty("ttyACM0", "usb1/1-2/1-2.3/1-2.3:1.10", "usb");
        let ports = system.sysfs.ports().unwrap();
        assert_eq!(ports.len(), 1);
        assert_eq!(ports[0].path, system.path("dev/ttyACM0"));
        let usb = ports[0].identity.usb.as_ref().unwrap();
        assert_eq!(usb.id(), "2fe3:00ab:10");
        assert_eq!(usb.serial_number.as_deref(), Some("FF01"));
        assert_eq!(usb.product, None, "an empty string says nothing");
        assert_eq!(usb.hub_path.as_deref(), Some("1-2.3"));
    }

    #[test]
    fn a_bridges_port_lies_one_level_deeper() {
        let system = System::new();
        system.usb(
            "usb2/2-1",
            &[("idVendor", "10c4"), ("idProduct", "ea60"), ("busnum", "2"), ("devpath", "1")],
        );
        system.usb("usb2/2-1/2-1:1.0", &[("bInterfaceNumber", "00")]);
        system.tty("ttyUSB0", "usb2/2-1/2-1:1.0/ttyUSB0", "usb-serial");
        let ports = system.sysfs.ports().unwrap();
        let usb = ports[0].identity.usb.as_ref().unwrap();
        assert_eq!((usb.id().as_str(), usb.hub_path.as_deref()), ("10c4:ea60:0", Some("2-1")));
        assert_eq!(usb.serial_number, None);
    }

    #[test]
    fn only_what_can_be_opened_is_a_port() {
        let system = System::new();
        system.tty("ttyS0", "pnp0", "pnp");
        let socket = system.tty("ttyS1", "pnp1", "pnp");
        fs::write(socket.join("type"), "0\n").unwrap();
        system.tty("hvc0", "virtio0", "virtio");
        fs::create_dir_all(system.path("class/tty1")).unwrap();
        fs::write(system.path("dev/tty1"), "").unwrap();
        fs::create_dir_all(system.path("class/rfcomm0")).unwrap();
        fs::write(system.path("dev/rfcomm0"), "").unwrap();
        // Its node is not there yet.
        system.tty("ttyS2", "pnp2", "pnp");
        fs::remove_file(system.path("dev/ttyS2")).unwrap();
        assert_eq!(system.names(), ["rfcomm0", "ttyS0"]);
        fs::write(system.path("dev/ttyS2"), "").unwrap();
        assert_eq!(system.names(), ["rfcomm0", "ttyS0", "ttyS2"]);
    }

    #[test]
    fn a_port_is_read_once_and_anew_when_another_has_its_name() {
        let system = System::new();
        system.usb("a", &BOARD);
        system.usb("a/a:1.0", &[("bInterfaceNumber", "00")]);
        system.tty("ttyACM0", "a/a:1.0", "usb");
        let serial = |system: &System| {
            let ports = system.sysfs.ports().unwrap();
            ports.first().and_then(|port| port.identity.usb.clone()).and_then(|usb| usb.serial_number)
        };
        assert_eq!(serial(&system).as_deref(), Some("FF01"));
        let stamp = system.sysfs.stamp();
        // Nothing is read again as long as it is the same port.
        system.usb("a", &[("serial", "unread")]);
        assert_eq!((serial(&system).as_deref(), system.sysfs.stamp()), (Some("FF01"), stamp));
        // Something stays in the folders, so that no inode is used twice.
        let kept = system.path("class").join("kept");
        symlink("/nowhere", &kept).unwrap();
        let with_kept = system.sysfs.stamp();
        assert_ne!(with_kept, stamp);
        system.usb("b", &BOARD);
        system.usb("b", &[("serial", "FF02")]);
        let old = system.path("class/ttyACM0");
        fs::rename(&old, system.path("class/old")).unwrap();
        system.tty("ttyACM0", "b/b:1.0", "usb");
        assert_eq!(serial(&system).as_deref(), Some("FF02"));
        assert_ne!(system.sysfs.stamp(), with_kept);
        fs::remove_file(system.path("class/old")).unwrap();
        system.unplug("ttyACM0");
        assert_eq!(system.names(), [""; 0]);
    }

    #[test]
    fn what_a_port_lacks_when_it_appears_is_not_lacked_for_good() {
        let system = System::new();
        system.usb("a", &BOARD[..2]);
        system.tty("ttyACM0", "a/a:1.0", "usb");
        let usb = || system.sysfs.ports().unwrap().pop().and_then(|port| port.identity.usb);
        assert_eq!(
            usb().map(|usb| (usb.serial_number, usb.hub_path, usb.interface)),
            Some((None, None, None))
        );
        // A terminal of which not even the device is known yet.
        let tty = system.path("class/ttyACM1");
        fs::create_dir_all(&tty).unwrap();
        fs::write(system.path("dev/ttyACM1"), "").unwrap();
        assert_eq!(system.names(), ["ttyACM0"]);
        let stamp = system.sysfs.stamp();
        system.usb("a", &BOARD);
        system.usb("a/a:1.0", &[("bInterfaceNumber", "00")]);
        symlink(system.path("devices/a/a:1.0"), tty.join("device")).unwrap();
        assert_eq!(system.sysfs.stamp(), stamp, "nothing tells of it");
        assert_eq!(system.names(), ["ttyACM0", "ttyACM1"]);
        let ports = system.sysfs.ports().unwrap();
        for usb in ports.iter().filter_map(|port| port.identity.usb.as_ref()) {
            assert_eq!(usb.serial_number.as_deref(), Some("FF01"));
            assert_eq!((usb.hub_path.as_deref(), usb.interface), (Some("1-2.3"), Some(0)));
        }
        // Once it lacks nothing, it is not read again.
        system.usb("a", &[("serial", "unread")]);
        assert!(system.sysfs.ports().unwrap().iter().all(|port| {
            port.identity.usb.as_ref().is_some_and(|usb| usb.serial_number.as_deref() == Some("FF01"))
        }));
    }

    #[test]
    fn what_a_port_never_tells_is_not_read_for_ever() {
        let system = System::new();
        system.usb("a", &BOARD[..2]);
        system.tty("ttyACM0", "a/a:1.0", "usb");
        let serial = || system.sysfs.ports().unwrap().pop().and_then(|port| port.identity.usb?.serial_number);
        assert_eq!(serial(), None);
        for read in system.sysfs.known().values_mut() {
            read.appeared = read.appeared.checked_sub(SETTLES).unwrap();
        }
        system.usb("a", &BOARD);
        assert_eq!(serial(), None);
    }

    #[test]
    fn a_device_that_goes_while_it_is_read_and_a_system_without_terminals_are_no_panic() {
        let system = System::new();
        system.tty("ttyACM0", "a/a:1.0", "usb");
        assert_eq!(system.names(), [""; 0], "no ids");
        system.usb("a", &[("idVendor", "zz"), ("idProduct", "0004")]);
        assert_eq!(system.names(), [""; 0], "no number");
        // What could not be read was not decided for good.
        system.usb("a", &BOARD);
        assert_eq!(system.names(), ["ttyACM0"]);
        let nothing = Sysfs::at("/nowhere/class/tty", "/nowhere/dev");
        assert_eq!(nothing.stamp(), None);
        assert_eq!(nothing.ports().unwrap_err().kind(), io::ErrorKind::NotFound);
    }
}
