//! The virtual host controller of Linux (`vhci_hcd`) as its files in sysfs show it: its ports, and which one a board is put
//! into. Who talks to the server lives in `attach.rs`.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::TcpStream;
use std::path::{Path, PathBuf};

use crate::cause::{Cause, Class};

/// Where the module shows itself. Further controllers have their ports in its files, too.
const ROOT: &str = "/sys/devices/platform/vhci_hcd.0";
/// Where every USB device shows itself (`Documentation/ABI/stable/sysfs-bus-usb`).
const DEVICES: &str = "/sys/bus/usb/devices";
/// `VDEV_ST_NULL` of `enum usbip_device_status` (`include/uapi/linux/usbip.h`): nothing is attached.
const FREE: &str = "004";
/// `VDEV_ST_USED`: the kernel has given an address to what is attached.
const USED: &str = "006";

/// A port of the virtual host controller.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Port {
    pub(super) number: u32,
    /// Which root hub it is on: two ports of one controller, but of different speeds, are on different hubs.
    pub(super) hub: usize,
    /// For SuperSpeed devices only; the other ones are for all others.
    pub(super) superspeed: bool,
    pub(super) free: bool,
    /// What the device in it is called, once it has an address; it may be no device yet, or never become one.
    pub(super) device: Option<String>,
}

/// The virtual host controller of this machine.
#[derive(Debug, Clone)]
pub struct Vhci {
    root: PathBuf,
    devices: PathBuf,
}

impl Vhci {
    /// The one of this machine.
    ///
    /// # Errors
    /// Where the module is not there, with what to do.
    pub fn system() -> Result<Self, Cause> {
        Self::at(Path::new(ROOT), Path::new(DEVICES))
    }

    /// The one whose files are in the folder `root`, with a folder in `devices` for each USB device.
    ///
    /// # Errors
    /// Where they are not there.
    pub fn at(root: &Path, devices: &Path) -> Result<Self, Cause> {
        if root.join("attach").exists() {
            return Ok(Self { root: root.to_owned(), devices: devices.to_owned() });
        }
        let message = format!("expected the virtual USB host controller at {}, found none", root.display());
        let help = "as root: `modprobe vhci-hcd`; it is part of Linux (CONFIG_USBIP_VHCI_HCD)";
        Err(Cause::new(Class::Station, "station.no_vhci", message, help))
    }

    /// Every port.
    pub(super) fn ports(&self) -> io::Result<Vec<Port>> {
        let mut ports = Vec::new();
        // `status` for the first controller, then `status.1` and so on.
        for controller in 0.. {
            let name = if controller == 0 { "status".to_owned() } else { format!("status.{controller}") };
            match std::fs::read_to_string(self.root.join(name)) {
                Ok(text) => ports.extend(read_ports(&text, controller)),
                Err(error) if error.kind() == io::ErrorKind::NotFound && controller > 0 => break,
                Err(error) => return Err(error),
            }
        }
        Ok(ports)
    }

    /// Whether the kernel has made a device of what is attached to a port: one that is configured, or that it was told not
    /// to configure. Where it gives up there is none, or one without a configuration.
    pub(super) fn has_device(&self, port: &Port) -> bool {
        let Some(folder) = port.device.as_ref().map(|name| self.devices.join(name)) else { return false };
        let read = |name: &str| std::fs::read_to_string(folder.join(name)).unwrap_or_default();
        !read("bConfigurationValue").trim().is_empty() || read("authorized").trim() == "0"
    }

    /// Whether the kernel has this device. After a board was taken off it has it until the hub's turn comes to be looked at.
    pub(super) fn is_there(&self, device: &str) -> bool {
        self.devices.join(device).exists()
    }

    /// Hands an import over to the kernel: from now on `connection` carries the device's transfers.
    pub(super) fn attach(&self, port: u32, connection: &TcpStream, devid: u32, speed: u32) -> io::Result<()> {
        #[cfg(unix)]
        {
            use std::os::fd::AsRawFd as _;
            let line = format!("{port} {} {devid} {speed}", connection.as_raw_fd());
            std::fs::write(self.root.join("attach"), line)
        }
        #[cfg(not(unix))]
        {
            let _ = (port, connection, devid, speed);
            Err(io::ErrorKind::Unsupported.into())
        }
    }

    /// Takes off what is attached to a port.
    pub(super) fn detach(&self, port: u32) -> io::Result<()> {
        std::fs::write(self.root.join("detach"), port.to_string())
    }
}

/// The ports in one status file. Lines as `hs  0003 004 000 00000000 000000 0-0`, below a head line: hub, port, state, speed,
/// device id at the server, socket, name of the device.
fn read_ports(text: &str, controller: usize) -> impl Iterator<Item = Port> + '_ {
    text.lines().filter_map(move |line| {
        let mut words = line.split_ascii_whitespace();
        let superspeed = match words.next()? {
            "hs" => false,
            "ss" => true,
            _ => return None,
        };
        let number = words.next()?.parse().ok()?;
        let state = words.next()?;
        let device = words.nth(3).filter(|_| state == USED).map(str::to_owned);
        let hub = 2 * controller + usize::from(superspeed);
        Some(Port { number, hub, superspeed, free: state == FREE, device })
    })
}

/// Which port a board is put into.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Choice {
    Take(u32),
    /// The port that it had is not free yet.
    Wait,
    /// All ports of its speed are in use.
    Full,
}

/// Chooses a port: the one that the board had before, as a real one stays in its place; else one on the hub that has the
/// fewest boards, and none that another board is expected back in (`kept`), as long as there are others.
pub(super) fn choose(ports: &[Port], superspeed: bool, had: Option<u32>, kept: &BTreeSet<u32>) -> Choice {
    let ours: Vec<&Port> = ports.iter().filter(|port| port.superspeed == superspeed).collect();
    if let Some(had) = had
        && let Some(port) = ours.iter().find(|port| port.number == had)
    {
        return if port.free { Choice::Take(had) } else { Choice::Wait };
    }
    let mut boards = BTreeMap::<usize, usize>::new();
    for port in &ours {
        *boards.entry(port.hub).or_default() += usize::from(!port.free || kept.contains(&port.number));
    }
    let free = ours.iter().filter(|port| port.free);
    let best = free.min_by_key(|port| {
        (kept.contains(&port.number), boards.get(&port.hub).copied().unwrap_or_default(), port.number)
    });
    best.map_or(Choice::Full, |port| Choice::Take(port.number))
}

#[cfg(test)]
mod tests {
    use super::*;

    const STATUS: &str = "hub port sta spd dev      sockfd local_busid\n\
        hs  0000 006 002 00010001 000003 3-1\n\
        hs  0001 004 000 00000000 000000 0-0\n\
        ss  0002 004 000 00000000 000000 0-0\n\
        ss  0003 004 000 00000000 000000 0-0\n";

    /// Two controllers of two ports for each speed, all free.
    fn ports() -> Vec<Port> {
        (0..2)
            .flat_map(|hub| read_ports(&STATUS.replace("006", "004"), hub).collect::<Vec<_>>())
            .zip(0..)
            .map(|(port, number)| Port { number, ..port })
            .collect()
    }

    #[test]
    fn status_files_are_read() {
        let ports: Vec<_> = read_ports(STATUS, 1).collect();
        let first =
            Port { number: 0, hub: 2, superspeed: false, free: false, device: Some("3-1".to_owned()) };
        assert_eq!((ports.len(), &ports[0]), (4, &first));
        assert_eq!(ports[3], Port { number: 3, hub: 3, superspeed: true, free: true, device: None });
        assert_eq!(read_ports("hs\nhs 1\nxx 0 4\n\u{0}", 0).count(), 0);
    }

    #[test]
    fn boards_spread_over_the_hubs_and_use_every_port() {
        let mut ports = ports();
        let mut taken = Vec::new();
        while let Choice::Take(number) = choose(&ports, false, None, &BTreeSet::new()) {
            ports.iter_mut().find(|port| port.number == number).unwrap().free = false;
            taken.push(number);
        }
        assert_eq!(taken, [0, 4, 1, 5]);
        assert_eq!(choose(&ports, false, None, &BTreeSet::new()), Choice::Full);
        assert_eq!(choose(&ports, true, None, &BTreeSet::new()), Choice::Take(2));
    }

    #[test]
    fn a_board_comes_back_to_its_port() {
        let mut ports = ports();
        assert_eq!(choose(&ports, false, Some(5), &BTreeSet::from([5])), Choice::Take(5));
        ports[5].free = false;
        assert_eq!(choose(&ports, false, Some(5), &BTreeSet::from([5])), Choice::Wait);
        // Nobody else takes a port that is kept, unless there is no other one.
        assert_eq!(choose(&ports, false, None, &BTreeSet::from([0, 4])), Choice::Take(1));
        assert_eq!(choose(&ports, false, None, &BTreeSet::from([0, 1, 4])), Choice::Take(0));
    }

    #[test]
    fn a_device_is_one_that_is_configured_or_kept_from_it() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("attach"), "").unwrap();
        let vhci = Vhci::at(folder.path(), folder.path()).unwrap();
        let port = read_ports(STATUS, 0).next().unwrap();
        assert!(!vhci.has_device(&port), "none in sysfs");
        std::fs::create_dir(folder.path().join("3-1")).unwrap();
        let write =
            |name: &str, text: &str| std::fs::write(folder.path().join("3-1").join(name), text).unwrap();
        write("bConfigurationValue", "\n");
        write("authorized", "1\n");
        assert!(!vhci.has_device(&port), "the kernel could not set its configuration");
        write("authorized", "0\n");
        assert!(vhci.has_device(&port));
        write("bConfigurationValue", "1\n");
        write("authorized", "1\n");
        assert!(vhci.has_device(&port));
        assert!(!vhci.has_device(&Port { device: None, ..port }), "without an address it is no device");
    }

    #[test]
    fn without_the_module_it_says_what_to_do() {
        let nowhere = Path::new("/no/such/folder");
        let cause = Vhci::at(nowhere, nowhere).unwrap_err();
        assert_eq!((cause.class, &*cause.code), (Class::Station, "station.no_vhci"));
        assert!(cause.help.contains("modprobe vhci-hcd"), "{}", cause.help);
    }
}
