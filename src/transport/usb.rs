//! A USB device found again by what it is, whatever its port is called by now. How a port is opened is the serial
//! transport's business.

use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;

use super::link::{Connector, Link, LinkError, LinkErrorKind};
use super::matching::matches_usb;
use super::ports::{Port, Ports};
use super::serial::{SerialConnector, SerialOptions};
use crate::identity::UsbIdentity;
use crate::plan::Pattern;

/// What tells one USB device from all others, taken down when it was matched.
#[derive(Debug, Clone)]
pub struct UsbFingerprint {
    /// As it was.
    pub seen: UsbIdentity,
    /// Whether no other device that was plugged in had its ids and serial number.
    pub serial_unique: bool,
    /// Ids under which the same device may come back: a target's `usb` patterns.
    pub aliases: Vec<Pattern>,
    /// Ids of its bootloader.
    pub bootloader: Option<Pattern>,
}

impl UsbFingerprint {
    /// Takes down `seen`, one of `ports`.
    #[must_use]
    pub fn new(
        seen: &UsbIdentity,
        ports: &[Port],
        aliases: Vec<Pattern>,
        bootloader: Option<Pattern>,
    ) -> Self {
        let twin = |usb: &UsbIdentity| {
            (usb.vid, usb.pid, &usb.serial_number) == (seen.vid, seen.pid, &seen.serial_number)
                // The further interfaces of one device are in one place.
                && (usb.hub_path != seen.hub_path || (seen.hub_path.is_none() && usb.interface == seen.interface))
        };
        let places =
            ports.iter().filter_map(|port| port.identity.usb.as_ref()).filter(|usb| twin(usb)).count();
        // Without a place the device itself counts as its own twin.
        let serial_unique = places <= usize::from(seen.hub_path.is_none());
        Self { seen: seen.clone(), serial_unique, aliases, bootloader }
    }

    /// The device's port among `ports`.
    ///
    /// A serial number that was unique is followed wherever the device is plugged in; else the place counts. A
    /// bootloader may have another serial number or none, so there the place is enough.
    ///
    /// # Errors
    /// [`LinkErrorKind::NotFound`] while it is away, [`LinkErrorKind::Ambiguous`] where several fit.
    pub fn locate<'a>(&self, ports: &'a [Port]) -> Result<&'a Port, LinkError> {
        let serial = self.seen.serial_number.as_deref().filter(|_| self.serial_unique);
        let here = |usb: &UsbIdentity| usb.hub_path.is_some() && usb.hub_path == self.seen.hub_path;
        let mut fits = Vec::new();
        for port in ports {
            let Some(usb) = &port.identity.usb else { continue };
            let Some(role) = self.role(usb) else { continue };
            let same = match serial {
                Some(serial) => {
                    usb.serial_number.as_deref() == Some(serial) || (role == Role::Bootloader && here(usb))
                }
                None if self.seen.hub_path.is_some() => here(usb),
                // Neither number nor place: all that is left is that only one fits.
                None => true,
            };
            if same {
                // The best fit is the least: the same serial number, the same ids, the same place.
                let rank = (usb.serial_number != self.seen.serial_number, role, !here(usb));
                fits.push((rank, port));
            }
        }
        let Some(best) = fits.iter().map(|(rank, _)| *rank).min() else { return Err(self.not_found(ports)) };
        let mut best_fits = fits.iter().filter(|(rank, _)| *rank == best).map(|(_, port)| *port);
        match (best_fits.next(), best_fits.next()) {
            (Some(port), None) => Ok(port),
            (Some(first), Some(second)) => Err(self.ambiguous(first, second)),
            (None, _) => Err(self.not_found(ports)),
        }
    }

    fn role(&self, usb: &UsbIdentity) -> Option<Role> {
        let seen = &self.seen;
        if (usb.vid, usb.pid, usb.interface) == (seen.vid, seen.pid, seen.interface) {
            Some(Role::Same)
        } else if usb.interface == seen.interface && self.aliases.iter().any(|alias| matches_usb(alias, usb))
        {
            Some(Role::Alias)
        } else if self.bootloader.as_ref().is_some_and(|pattern| matches_usb(pattern, usb)) {
            Some(Role::Bootloader)
        } else {
            None
        }
    }

    fn not_found(&self, ports: &[Port]) -> LinkError {
        let seen = &self.seen;
        let mut what = seen.id();
        if let Some(serial) = &seen.serial_number {
            what += &format!(" with serial number {serial}");
        }
        if let Some(place) = &seen.hub_path {
            what += &format!(" (last at hub path {place})");
        }
        let other = ports
            .iter()
            .filter_map(|port| port.identity.usb.as_ref())
            .find(|usb| usb.hub_path.is_some() && usb.hub_path == seen.hub_path);
        let (instead, help) = match other {
            Some(usb) => (
                format!(
                    "; at its place is {} with {}",
                    usb.id(),
                    usb.serial_number
                        .as_ref()
                        .map_or("no serial number".to_owned(), |s| format!("serial number {s}"))
                ),
                "if that is the same board, in its bootloader or with new ids, add them to the plan (`bootloader_usb` or \
                 `usb`)",
            ),
            None => (String::new(), "check its cable and power; `flashfleet list` shows what there is"),
        };
        LinkError::new(
            LinkErrorKind::NotFound,
            format!("expected USB device {what}, found none{instead}"),
            help,
        )
    }

    fn ambiguous(&self, first: &Port, second: &Port) -> LinkError {
        LinkError::new(
            LinkErrorKind::Ambiguous,
            format!(
                "expected one port for USB device {}, but {} and {} both fit and nothing tells them apart",
                self.seen.id(),
                first.path.display(),
                second.path.display()
            ),
            "name the interface in the pattern (`2fe3:0004:0`), or give each device a serial number of its own",
        )
    }
}

/// As what a port fits, the best first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Role {
    Same,
    Alias,
    Bootloader,
}

/// Opens a USB device's port by what the device is.
#[derive(Debug)]
pub struct UsbConnector {
    ports: Arc<dyn Ports>,
    fingerprint: UsbFingerprint,
    options: SerialOptions,
    /// The port that it had last.
    path: Mutex<String>,
}

impl UsbConnector {
    /// For the device of `fingerprint`, which was at `path`.
    pub fn new(
        ports: Arc<dyn Ports>,
        fingerprint: UsbFingerprint,
        path: impl Into<String>,
        options: SerialOptions,
    ) -> Self {
        Self { ports, fingerprint, options, path: Mutex::new(path.into()) }
    }
}

#[async_trait]
impl Connector for UsbConnector {
    async fn connect(&self) -> Result<Box<dyn Link>, LinkError> {
        let ports = self.ports.ports(&[]).await?;
        let path = self.fingerprint.locate(&ports)?.path.to_string_lossy().into_owned();
        self.path.lock().unwrap_or_else(PoisonError::into_inner).clone_from(&path);
        SerialConnector::new(path, self.options.clone()).connect().await
    }

    fn address(&self) -> String {
        format!("serial:{}", self.path.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `vid:pid:interface`, serial number (`-` is none), hub path.
    fn port(path: &str, ids: &str, serial: &str, place: &str) -> Port {
        let mut ids = ids.split(':');
        let mut hex = || u16::from_str_radix(ids.next().unwrap(), 16).unwrap();
        let (vid, pid) = (hex(), hex());
        let usb = UsbIdentity {
            vid,
            pid,
            interface: ids.next().map(|interface| interface.parse().unwrap()),
            serial_number: (serial != "-").then(|| serial.to_owned()),
            product: None,
            hub_path: (place != "-").then(|| place.to_owned()),
        };
        Port::usb(path, usb)
    }

    fn take(ports: &[Port], index: usize, bootloader: Option<&str>) -> UsbFingerprint {
        let seen = ports[index].identity.usb.as_ref().unwrap();
        UsbFingerprint::new(
            seen,
            ports,
            vec![Pattern::new("2fe3:0004").unwrap()],
            bootloader.map(|text| Pattern::new(text).unwrap()),
        )
    }

    fn found(print: &UsbFingerprint, ports: &[Port]) -> Result<String, LinkErrorKind> {
        print.locate(ports).map(|port| port.path.display().to_string()).map_err(|error| error.kind)
    }

    #[test]
    fn a_device_is_followed_by_serial_number_to_another_name_and_place() {
        let before = [port("ACM0", "2fe3:4:0", "A", "1-1"), port("ACM1", "2fe3:4:0", "B", "1-2")];
        let print = take(&before, 0, None);
        let after = [port("ACM0", "2fe3:4:0", "B", "1-2"), port("ACM5", "2fe3:4:0", "A", "1-4")];
        assert_eq!(found(&print, &after), Ok("ACM5".to_owned()));
    }

    #[test]
    fn two_boards_with_one_serial_number_are_told_apart_by_their_place() {
        let before = [port("ACM0", "2fe3:4:0", "A", "1-1"), port("ACM1", "2fe3:4:0", "A", "1-2")];
        let print = take(&before, 0, None);
        assert!(!print.serial_unique);
        let swapped = [port("ACM0", "2fe3:4:0", "A", "1-2"), port("ACM1", "2fe3:4:0", "A", "1-1")];
        assert_eq!(found(&print, &swapped), Ok("ACM1".to_owned()));
        // The twin must not stand in while the device is away.
        assert_eq!(found(&print, &swapped[..1]), Err(LinkErrorKind::NotFound));
    }

    #[test]
    fn the_interfaces_of_one_device_are_no_twins() {
        let before = [port("ACM0", "2fe3:4:0", "A", "1-1"), port("ACM1", "2fe3:4:2", "A", "1-1")];
        for (index, name) in [(0, "ACM0"), (1, "ACM1")] {
            let print = take(&before, index, None);
            assert!(print.serial_unique);
            assert_eq!(found(&print, &before), Ok(name.to_owned()));
        }
        // The console of a board is not its SMP port.
        assert_eq!(found(&take(&before, 0, None), &before[1..]), Err(LinkErrorKind::NotFound));
    }

    #[test]
    fn without_a_serial_number_the_place_counts() {
        let before = [port("ACM0", "2fe3:4:0", "-", "1-1"), port("ACM1", "2fe3:4:0", "-", "1-2")];
        let print = take(&before, 1, None);
        let after = [port("ACM0", "2fe3:4:0", "-", "1-2"), port("ACM1", "2fe3:4:0", "-", "1-1")];
        assert_eq!(found(&print, &after), Ok("ACM0".to_owned()));
        assert_eq!(found(&print, &after[1..]), Err(LinkErrorKind::NotFound));
    }

    #[test]
    fn a_bootloader_is_known_by_its_place_or_by_the_serial_number() {
        let before = [port("ACM0", "2fe3:4:0", "A", "1-1"), port("ACM1", "2fe3:4:0", "B", "1-2")];
        let print = take(&before, 0, Some("2fe3:0100"));
        let boot = [port("ACM0", "2fe3:100:0", "-", "1-2"), port("ACM1", "2fe3:100:0", "BOOT", "1-1")];
        assert_eq!(found(&print, &boot), Ok("ACM1".to_owned()), "by place");
        let boot = [port("ACM0", "2fe3:100:0", "B", "1-2"), port("ACM1", "2fe3:100:0", "A", "1-7")];
        assert_eq!(found(&print, &boot), Ok("ACM1".to_owned()), "by serial number");
        assert_eq!(
            found(&take(&before, 0, None), &boot),
            Err(LinkErrorKind::NotFound),
            "unless the plan has it"
        );
        // Application and bootloader at once: the application counts.
        let both = [port("ACM3", "2fe3:100:0", "A", "1-1"), port("ACM4", "2fe3:4:0", "A", "1-1")];
        assert_eq!(found(&print, &both), Ok("ACM4".to_owned()));
    }

    #[test]
    fn new_ids_within_the_patterns_are_the_same_device() {
        let before = [port("ACM0", "2fe3:4:0", "A", "1-1")];
        let mut print = take(&before, 0, None);
        print.aliases.push(Pattern::new("1915:.*").unwrap());
        let after = [port("ACM1", "1915:521f:0", "A", "1-1"), port("ACM2", "1915:521f:2", "A", "1-1")];
        assert_eq!(found(&print, &after), Ok("ACM1".to_owned()));
    }

    #[test]
    fn ports_that_nothing_tells_apart_are_refused() {
        let before = [port("ACM0", "2fe3:4:0", "A", "1-1")];
        let print = take(&before, 0, Some("2fe3:0100"));
        let two = [port("ACM0", "2fe3:100:0", "-", "1-1"), port("ACM1", "2fe3:100:2", "-", "1-1")];
        let error = print.locate(&two).unwrap_err();
        assert_eq!(error.kind, LinkErrorKind::Ambiguous);
        assert!(error.message.contains("ACM0 and ACM1"), "{error}");
        // A system that tells neither number nor place.
        let bare = [port("COM3", "2fe3:4", "-", "-"), port("COM4", "2fe3:4", "-", "-")];
        assert_eq!(found(&take(&bare, 0, None), &bare), Err(LinkErrorKind::Ambiguous));
        assert_eq!(found(&take(&bare[..1], 0, None), &bare[..1]), Ok("COM3".to_owned()));
    }

    #[test]
    fn another_board_in_the_place_is_not_taken_but_told() {
        let before = [port("ACM0", "2fe3:4:0", "A", "1-1")];
        let error = take(&before, 0, None).locate(&[port("ACM0", "2fe3:4:0", "Z", "1-1")]).unwrap_err();
        assert_eq!(error.kind, LinkErrorKind::NotFound);
        assert!(error.message.contains("at its place is 2fe3:0004:0 with serial number Z"), "{error}");
    }
}
