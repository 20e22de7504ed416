//! What tells one USB board from all others, and which port it has by now, whatever the port is called. Nothing is opened
//! here.

use super::link::{Firmware, LinkError, LinkErrorKind};
use super::matching::matches_usb;
use super::ports::Port;
use super::watch::Twins;
use crate::identity::UsbIdentity;
use crate::plan::Pattern;

/// What tells one USB board from all others, taken down when it was matched.
#[derive(Debug, Clone)]
pub struct UsbFingerprint {
    /// As it was.
    pub seen: UsbIdentity,
    /// Ids under which the same board may come back: a target's `usb` patterns.
    pub aliases: Vec<Pattern>,
    /// Ids of its bootloader.
    pub bootloader: Option<Pattern>,
}

impl UsbFingerprint {
    /// The board's port among `ports`, where it runs what is `expected` of it. `twins` are two ports of boards that say
    /// the same of themselves as this one does, where there are such.
    ///
    /// A serial number of its own is followed wherever the board is plugged in; else the place counts. A bootloader may
    /// have another serial number than the application or none, so from one to the other the place is enough. So it is for what is the board by its ids and
    /// tells no serial number: the kernel reads that string once, and a line of boards that all come back at once is when
    /// such a transfer times out.
    ///
    /// # Errors
    /// [`LinkErrorKind::NotFound`] while it is away or runs something else, [`LinkErrorKind::Ambiguous`] where several
    /// fit.
    pub fn locate<'a>(
        &self,
        ports: &'a [Port],
        expected: Firmware,
        twins: Option<&Twins>,
    ) -> Result<&'a Port, LinkError> {
        if let Some(twins) = twins.filter(|_| self.seen.hub_path.is_none()) {
            return Err(self.indistinguishable(twins));
        }
        let serial = self.seen.serial_number.as_deref().filter(|_| twins.is_none());
        let here = |usb: &UsbIdentity| usb.hub_path.is_some() && usb.hub_path == self.seen.hub_path;
        let mut fits = Vec::new();
        let mut otherwise = None;
        for port in ports {
            let Some(usb) = &port.identity.usb else { continue };
            let Some(role) = self.role(usb) else { continue };
            let same = match serial {
                Some(serial) => {
                    let runs_another = role.firmware() != self.seen_as();
                    match usb.serial_number.as_deref() {
                        Some(other) => other == serial || (runs_another && here(usb)),
                        // The system asks for it once, and goes on without where no answer comes in time.
                        None => (role != Role::Alias || runs_another) && here(usb),
                    }
                }
                None if self.seen.hub_path.is_some() => here(usb),
                // Neither number nor place: all that is left is that only one fits.
                None => true,
            };
            // Where the plan has no name for the bootloader, it has the same ids, as behind a UART bridge.
            if same && (role.firmware() == expected || self.bootloader.is_none()) {
                // The best fit is the least: the same serial number, the same ids, the same place.
                let rank = (usb.serial_number != self.seen.serial_number, role, !here(usb));
                fits.push((rank, port));
            } else if same {
                otherwise = Some((port, role.firmware()));
            }
        }
        let Some(best) = fits.iter().map(|(rank, _)| *rank).min() else {
            return Err(match otherwise {
                Some((port, runs)) => self.runs_something_else(port, runs),
                None => self.not_found(ports),
            });
        };
        let mut best_fits = fits.iter().filter(|(rank, _)| *rank == best).map(|(_, port)| *port);
        match (best_fits.next(), best_fits.next()) {
            (Some(port), None) => Ok(port),
            (Some(first), Some(second)) => Err(self.ambiguous(first, second)),
            (None, _) => Err(self.not_found(ports)),
        }
    }

    /// Whether one of these ports may be the board's: where this is not so, none of them is, whatever is expected of it.
    #[must_use]
    pub fn may_be_among(&self, ports: &[Port]) -> bool {
        let UsbIdentity { serial_number: serial, hub_path: place, .. } = &self.seen;
        let may =
            |usb: &UsbIdentity| (serial.is_some() && usb.serial_number == *serial) || usb.hub_path == *place;
        place.is_none() || ports.iter().filter_map(|port| port.identity.usb.as_ref()).any(may)
    }

    fn role(&self, usb: &UsbIdentity) -> Option<Role> {
        let seen = &self.seen;
        // Its interface is that of the firmware that was seen.
        let interface = || usb.interface == seen.interface || self.seen_as() == Firmware::Bootloader;
        if self.is_bootloader(usb) {
            // Before the aliases: a wide pattern such as `2fe3:.*` takes in the bootloader's ids.
            Some(Role::Bootloader)
        } else if (usb.vid, usb.pid, usb.interface) == (seen.vid, seen.pid, seen.interface) {
            Some(Role::Same)
        } else if interface() && self.aliases.iter().any(|alias| matches_usb(alias, usb)) {
            Some(Role::Alias)
        } else {
            None
        }
    }

    fn is_bootloader(&self, usb: &UsbIdentity) -> bool {
        self.bootloader.as_ref().is_some_and(|pattern| matches_usb(pattern, usb))
    }

    /// What it ran when it was matched.
    fn seen_as(&self) -> Firmware {
        if self.is_bootloader(&self.seen) { Firmware::Bootloader } else { Firmware::Application }
    }

    /// The board, for people: ids, serial number, place.
    fn in_words(&self) -> String {
        let seen = &self.seen;
        let mut what = seen.id();
        if let Some(serial) = &seen.serial_number {
            what += &format!(" with serial number {serial}");
        }
        if let Some(place) = &seen.hub_path {
            what += &format!(" (last at hub path {place})");
        }
        what
    }

    fn runs_something_else(&self, port: &Port, runs: Firmware) -> LinkError {
        let ids = port.identity.usb.as_ref().map(UsbIdentity::id).unwrap_or_default();
        let (runs, help) = match runs {
            Firmware::Bootloader => (
                "in its bootloader",
                "the application does not start: look at its boot log, or program the board anew",
            ),
            Firmware::Application => (
                "running its application",
                "check that the application can be told to stay in its bootloader (boot_mode)",
            ),
        };
        LinkError::new(
            LinkErrorKind::NotFound,
            format!(
                "expected USB device {}, found it {runs} as serial:{} ({ids})",
                self.in_words(),
                port.path.display()
            ),
            help,
        )
    }

    fn not_found(&self, ports: &[Port]) -> LinkError {
        let seen = &self.seen;
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
            format!("expected USB device {}, found none{instead}", self.in_words()),
            help,
        )
    }

    fn ambiguous(&self, first: &Port, second: &Port) -> LinkError {
        LinkError::new(
            LinkErrorKind::Ambiguous,
            format!(
                "expected one port for USB device {}, but serial:{} and serial:{} both fit and nothing tells them apart",
                self.seen.id(),
                first.path.display(),
                second.path.display()
            ),
            "name the interface in the pattern (`2fe3:0004:0`), or give each device a serial number of its own",
        )
    }

    fn indistinguishable(&self, (first, second): &Twins) -> LinkError {
        let serial = self
            .seen
            .serial_number
            .as_ref()
            .map_or("no serial number".to_owned(), |s| format!("serial number {s}"));
        LinkError::new(
            LinkErrorKind::Ambiguous,
            format!(
                "expected boards that can be told apart, but serial:{} and serial:{} are both {:04x}:{:04x} with {serial}, \
                 and this system does not say where they are plugged in",
                first.display(),
                second.display(),
                self.seen.vid,
                self.seen.pid
            ),
            "give each board a serial number of its own, or plug in one at a time: after a reset nothing would tell which \
             is which",
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

impl Role {
    fn firmware(self) -> Firmware {
        match self {
            Self::Same | Self::Alias => Firmware::Application,
            Self::Bootloader => Firmware::Bootloader,
        }
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
        UsbFingerprint {
            seen: ports[index].identity.usb.clone().unwrap(),
            aliases: vec![Pattern::new("2fe3:0004").unwrap()],
            bootloader: bootloader.map(|text| Pattern::new(text).unwrap()),
        }
    }

    fn result(found: Result<&Port, LinkError>) -> Result<String, LinkErrorKind> {
        found.map(|port| port.path.display().to_string()).map_err(|error| error.kind)
    }

    /// Where the application is of a board that says of itself what no other board says.
    fn found(print: &UsbFingerprint, ports: &[Port]) -> Result<String, LinkErrorKind> {
        result(print.locate(ports, Firmware::Application, None))
    }

    fn in_bootloader(print: &UsbFingerprint, ports: &[Port]) -> Result<String, LinkErrorKind> {
        result(print.locate(ports, Firmware::Bootloader, None))
    }

    /// Where the application is of a board that has a twin.
    fn found_of_twins(print: &UsbFingerprint, ports: &[Port]) -> Result<String, LinkErrorKind> {
        let twins = ("ACM0".into(), "ACM1".into());
        result(print.locate(ports, Firmware::Application, Some(&twins)))
    }

    #[test]
    fn a_port_that_is_found_is_one_that_may_be_the_boards() {
        let boards = |ids: &[&str], serials: &[&str], places: &[&str]| {
            let mut all = Vec::new();
            for ids in ids {
                for serial in serials {
                    all.extend(places.iter().map(|place| port("ACM0", ids, serial, place)));
                }
            }
            all
        };
        let twins = ("ACM0".into(), "ACM1".into());
        let mut found = 0;
        for seen in boards(&["2fe3:0005:0", "2fe3:0100:0"], &["-", "A"], &["-", "1-1"]) {
            let print = take(&[seen], 0, Some("2fe3:0100"));
            for there in
                boards(&["2fe3:0005:0", "2fe3:0004:0", "2fe3:0100:0"], &["-", "A", "B"], &["-", "1-1", "1-2"])
            {
                let there = [there];
                for expected in [Firmware::Application, Firmware::Bootloader] {
                    for twins in [None, Some(&twins)] {
                        let located = print.locate(&there, expected, twins).is_ok();
                        found += usize::from(located);
                        assert!(!located || print.may_be_among(&there), "{print:?} {there:?}");
                    }
                }
            }
        }
        assert!(found > 20, "{found}");
        let [mine, others] =
            [port("ACM0", "2fe3:0004:0", "A", "1-1"), port("ACM1", "2fe3:0004:0", "B", "1-2")];
        let print = take(std::slice::from_ref(&mine), 0, None);
        assert!(!print.may_be_among(std::slice::from_ref(&others)) && print.may_be_among(&[others, mine]));
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
        let swapped = [port("ACM0", "2fe3:4:0", "A", "1-2"), port("ACM1", "2fe3:4:0", "A", "1-1")];
        assert_eq!(found_of_twins(&print, &swapped), Ok("ACM1".to_owned()));
        // The twin must not stand in while the device is away.
        assert_eq!(found_of_twins(&print, &swapped[..1]), Err(LinkErrorKind::NotFound));
    }

    #[test]
    fn the_interfaces_of_one_device_are_no_twins() {
        let before = [port("ACM0", "2fe3:4:0", "A", "1-1"), port("ACM1", "2fe3:4:2", "A", "1-1")];
        for (index, name) in [(0, "ACM0"), (1, "ACM1")] {
            let print = take(&before, index, None);
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
        assert_eq!(in_bootloader(&print, &boot), Ok("ACM1".to_owned()), "by place");
        let boot = [port("ACM0", "2fe3:100:0", "B", "1-2"), port("ACM1", "2fe3:100:0", "A", "1-7")];
        assert_eq!(in_bootloader(&print, &boot), Ok("ACM1".to_owned()), "by serial number");
        assert_eq!(
            in_bootloader(&take(&before, 0, None), &boot),
            Err(LinkErrorKind::NotFound),
            "unless the plan has it"
        );
    }

    #[test]
    fn a_bootloader_is_not_the_application_nor_the_other_way_round() {
        let before = [port("ACM0", "2fe3:4:0", "A", "1-1")];
        let mut print = take(&before, 0, Some("2fe3:0100"));
        // A wide pattern does not make an application of it.
        print.aliases.push(Pattern::new("2fe3:.*").unwrap());
        let both = [port("ACM3", "2fe3:100:0", "A", "1-1"), port("ACM4", "2fe3:4:0", "A", "1-1")];
        assert_eq!(found(&print, &both), Ok("ACM4".to_owned()));
        assert_eq!(in_bootloader(&print, &both), Ok("ACM3".to_owned()));
        let error = print.locate(&both[..1], Firmware::Application, None).unwrap_err();
        assert_eq!(error.kind, LinkErrorKind::NotFound);
        assert!(error.message.contains("found it in its bootloader as serial:ACM3 (2fe3:0100:0)"), "{error}");
        let error = print.locate(&both[1..], Firmware::Bootloader, None).unwrap_err();
        assert!(error.message.contains("found it running its application as serial:ACM4"), "{error}");
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
        let error = print.locate(&two, Firmware::Bootloader, None).unwrap_err();
        assert_eq!(error.kind, LinkErrorKind::Ambiguous);
        assert!(error.message.contains("serial:ACM0 and serial:ACM1"), "{error}");
        // A system that tells neither number nor place.
        let bare = [port("COM3", "2fe3:4", "-", "-"), port("COM4", "2fe3:4", "-", "-")];
        assert_eq!(found(&take(&bare, 0, None), &bare), Err(LinkErrorKind::Ambiguous));
        assert_eq!(found(&take(&bare[..1], 0, None), &bare[..1]), Ok("COM3".to_owned()));
    }

    #[test]
    fn twins_without_a_place_are_refused_also_while_one_of_them_is_away() {
        let twins = [port("ACM0", "2fe3:4:0", "A", "-"), port("ACM1", "2fe3:4:0", "A", "-")];
        let print = take(&twins, 0, None);
        assert_eq!(found_of_twins(&print, &twins[1..]), Err(LinkErrorKind::Ambiguous));
        let names = ("ACM0".into(), "ACM1".into());
        let error = print.locate(&twins, Firmware::Application, Some(&names)).unwrap_err();
        let text = "serial:ACM0 and serial:ACM1 are both 2fe3:0004 with serial number A";
        assert!(error.message.contains(text), "{error}");
        assert!(error.help.contains("a serial number of its own"), "{}", error.help);
    }

    #[test]
    fn a_board_whose_serial_number_was_not_read_this_time_is_known_by_its_place() {
        let before = [port("ACM0", "2fe3:4:0", "A", "1-1"), port("ACM1", "2fe3:4:0", "B", "1-2")];
        let print = take(&before, 0, None);
        let after = [port("ACM0", "2fe3:4:0", "-", "1-2"), port("ACM3", "2fe3:4:0", "-", "1-1")];
        assert_eq!(found(&print, &after), Ok("ACM3".to_owned()));
        assert_eq!(found(&print, &after[..1]), Err(LinkErrorKind::NotFound), "another's place");
        let moved = [after[1].clone(), port("ACM9", "2fe3:4:0", "A", "1-7")];
        assert_eq!(
            found(&print, &moved),
            Ok("ACM9".to_owned()),
            "its serial number says more than its place"
        );
        let other = [port("ACM3", "2fe3:5:0", "-", "1-1")];
        assert_eq!(found(&print, &other), Err(LinkErrorKind::NotFound), "other ids");
        let mut wide = print.clone();
        wide.aliases.push(Pattern::new("2fe3:.*").unwrap());
        assert_eq!(found(&wide, &other), Err(LinkErrorKind::NotFound), "other ids, even of its patterns");
        let nowhere = [port("ACM3", "2fe3:4:0", "-", "-")];
        assert_eq!(found(&print, &nowhere), Err(LinkErrorKind::NotFound), "no place either");
    }

    #[test]
    fn another_board_in_the_place_is_not_taken_but_told() {
        let before = [port("ACM0", "2fe3:4:0", "A", "1-1")];
        let error = take(&before, 0, None)
            .locate(&[port("ACM0", "2fe3:4:0", "Z", "1-1")], Firmware::Application, None)
            .unwrap_err();
        assert_eq!(error.kind, LinkErrorKind::NotFound);
        assert!(error.message.contains("at its place is 2fe3:0004:0 with serial number Z"), "{error}");
    }
}
