//! A run that goes on with an earlier one: which of that one's devices are here again, and what is told of the others.
//!
//! Whatever is here is done again from its first step: what runs already is read back and not written, and a name is no proof
//! that it is the same board. Only what is not here any more keeps the verdict that it has.

use std::collections::HashSet;

use crate::identity::Identity;
use crate::report::EarlierRun;

use super::discovery::{Found, Scout};
use super::reporter::Tell;

/// One target's devices of the earlier run, beside what was found.
#[derive(Debug, Default)]
pub(super) struct Earlier {
    /// Those that were found again: positions in the earlier run.
    pub seen_again: Vec<usize>,
    /// How many were not.
    pub absent: usize,
    /// One of those that were not has not passed: it is worth waiting for.
    pub is_work_missing: bool,
}

impl Earlier {
    /// Compares by name. Every device that was found is at most one of the earlier run.
    pub(super) fn of<'a>(earlier: &EarlierRun, target: &str, found: impl Iterator<Item = &'a Found>) -> Self {
        if earlier.devices().is_empty() {
            return Self::default();
        }
        let found: Vec<(&Identity, &str)> = found.map(|found| (&found.identity, &*found.address)).collect();
        let then: Vec<_> = earlier
            .devices()
            .iter()
            .enumerate()
            .filter(|(_, device)| device.report.target == target)
            .collect();
        let known = || then.iter().map(|(_, device)| (&device.report.identity, &*device.report.address));
        let mut shared = doubles(known());
        shared.extend(doubles(found.iter().copied()));
        let mut here: HashSet<Name<'_>> =
            found.iter().map(|(identity, address)| Name::of(identity, address, &shared)).collect();
        let mut result = Self::default();
        for ((index, device), (identity, address)) in then.iter().zip(known()) {
            if here.remove(&Name::of(identity, address, &shared)) {
                result.seen_again.push(*index);
            } else {
                result.absent += 1;
                result.is_work_missing |= !device.passed();
            }
        }
        result
    }
}

/// What a device is called from one run to the next: a port's name may be another board's by then.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Name<'a> {
    /// USB serial number and interface: a bridge with several ports may have a device behind each.
    Serial(&'a str, Option<u8>),
    /// Bus and port chain, and interface.
    Place(&'a str, Option<u8>),
    Peripheral(&'a str),
    Address(&'a str),
}

/// Serial numbers that tell nobody apart.
fn doubles<'a>(devices: impl Iterator<Item = (&'a Identity, &'a str)>) -> HashSet<Name<'a>> {
    let mut seen = HashSet::new();
    let names = devices.map(|(identity, address)| Name::of(identity, address, &HashSet::new()));
    names.filter(|name| matches!(name, Name::Serial(..)) && !seen.insert(*name)).collect()
}

impl<'a> Name<'a> {
    fn of(identity: &'a Identity, address: &'a str, shared: &HashSet<Name<'a>>) -> Self {
        let usb = identity.usb.as_ref();
        let interface = usb.and_then(|usb| usb.interface);
        let serial = usb.and_then(|usb| usb.serial_number.as_deref()).filter(|serial| !serial.is_empty());
        let place = usb.and_then(|usb| usb.hub_path.as_deref());
        match (serial, place, &identity.ble) {
            (Some(serial), ..) if !shared.contains(&Self::Serial(serial, interface)) => {
                Self::Serial(serial, interface)
            }
            (_, Some(place), _) => Self::Place(place, interface),
            (_, None, Some(ble)) => Self::Peripheral(&ble.address),
            (_, None, None) => Self::Address(address),
        }
    }
}

impl Scout {
    /// Tells again what the earlier run told of the devices that are not in `seen_again`; how many of them passed.
    pub(super) fn carry_over(&self, seen_again: &HashSet<usize>) -> usize {
        let mut passed = 0;
        for (index, device) in self.earlier.devices().iter().enumerate() {
            if seen_again.contains(&index) {
                continue;
            }
            passed += usize::from(device.passed());
            for (id, at, kind) in self.earlier.retold(device) {
                self.reporter.do_send(Tell { device: Some(id), at, kind });
            }
        }
        passed
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::super::probe::Probed;
    use super::*;
    use crate::identity::{BleIdentity, UsbIdentity};

    fn usb(serial: Option<&str>, place: Option<&str>, interface: u8) -> Identity {
        let usb = UsbIdentity {
            vid: 0x2fe3,
            pid: 4,
            interface: Some(interface),
            serial_number: serial.map(str::to_owned),
            product: None,
            hub_path: place.map(str::to_owned),
        };
        Identity { usb: Some(usb), ble: None }
    }

    fn ble(address: &str) -> Identity {
        Identity { usb: None, ble: Some(BleIdentity { name: None, address: address.to_owned() }) }
    }

    /// Which of the earlier devices are seen again among those found; all of target `line`, at addresses by their position.
    fn seen_again(earlier: &[Identity], found: &[(&str, Identity)]) -> Vec<usize> {
        let mut journal = tempfile::NamedTempFile::new().unwrap();
        for (index, identity) in earlier.iter().enumerate() {
            let event = serde_json::json!({
                "seq": index, "at": "2026-11-03T08:00:00Z", "device": format!("line/{index}"), "type": "device_found",
                "target": "line", "address": format!("serial:/dev/ttyACM{index}"), "identity": identity, "steps": [],
            });
            writeln!(journal, "{event}").unwrap();
        }
        let earlier = EarlierRun::read(journal.path()).unwrap();
        let found: Vec<Found> = found
            .iter()
            .map(|(address, identity)| Found {
                target: "line".to_owned(),
                address: (*address).to_owned(),
                identity: identity.clone(),
                key: (*address).to_owned(),
                probed: Probed::Answers,
            })
            .collect();
        let result = Earlier::of(&earlier, "line", found.iter());
        assert_eq!(result.seen_again.len() + result.absent, earlier.devices().len());
        assert_eq!(Earlier::of(&earlier, "other", found.iter()).absent, 0, "another target's");
        result.seen_again
    }

    #[test]
    fn a_board_is_known_by_its_serial_number_wherever_it_is() {
        let earlier = [usb(Some("A"), Some("1-1"), 0), usb(Some("B"), Some("1-2"), 0)];
        assert_eq!(seen_again(&earlier, &[("x", usb(Some("B"), Some("1-1"), 0))]), [1]);
        assert_eq!(seen_again(&earlier, &[("serial:/dev/ttyACM0", usb(Some("C"), Some("1-1"), 0))]), [0; 0]);
        let two_ports = [usb(Some("A"), Some("1-1"), 0), usb(Some("A"), Some("1-1"), 2)];
        assert_eq!(seen_again(&two_ports, &[("x", usb(Some("A"), Some("1-3"), 2))]), [1]);
    }

    #[test]
    fn boards_that_say_the_same_are_known_by_their_places() {
        let twins = [usb(Some("A"), Some("1-1"), 0), usb(Some("A"), Some("1-2"), 0)];
        assert_eq!(seen_again(&twins, &[("x", usb(Some("A"), Some("1-2"), 0))]), [1]);
        let silent = [usb(None, Some("1-1"), 0), usb(None, Some("1-2"), 0)];
        assert_eq!(seen_again(&silent, &[("x", usb(None, Some("1-2"), 0))]), [1]);
        // A twin came that was not there before: the place tells them apart now.
        let one = [usb(Some("A"), Some("1-1"), 0)];
        let both = [("x", usb(Some("A"), Some("1-2"), 0)), ("y", usb(Some("A"), Some("1-3"), 0))];
        assert_eq!(seen_again(&one, &both), [0; 0]);
    }

    #[test]
    fn peripherals_are_known_by_their_address_and_what_has_nothing_else_by_its_port() {
        assert_eq!(seen_again(&[ble("c0:01"), ble("c0:02")], &[("ble:Beacon", ble("c0:02"))]), [1]);
        let plain = [Identity::default(), Identity::default()];
        let found = [("serial:/dev/ttyACM1", Identity::default())];
        assert_eq!(seen_again(&plain, &found), [1]);
    }
}
