//! Several ports of one board are one device; several boards that say the same of themselves are not. Pure: nobody is asked
//! here.

use std::collections::{BTreeMap, HashSet};

use crate::identity::{Identity, UsbIdentity};

use super::discovery::Found;
use super::probe::Probed;

/// Most places that a note names.
const NAMED: usize = 8;

/// Something that a person should know about what was matched.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Remark {
    pub code: &'static str,
    pub message: String,
}

/// Which of `found` are kept, so that every board is there once: of several ports the one that answers, of those the one with
/// the lowest interface. Tells where that was a choice.
pub(super) fn one_per_board(found: &[&Found]) -> (Vec<bool>, Vec<Remark>) {
    let mut boards: BTreeMap<&str, Vec<usize>> = BTreeMap::new();
    for (index, found) in found.iter().enumerate() {
        boards.entry(&found.key).or_default().push(index);
    }
    let mut keep = vec![true; found.len()];
    let mut remarks = Vec::new();
    for (key, mut ports) in boards {
        let port = |index: &usize| found.get(*index).copied();
        let interface = |index: &usize| port(index).and_then(|found| found.identity.usb.as_ref()?.interface);
        let interfaces: HashSet<_> = ports.iter().map(interface).collect();
        let has_place = |index| port(index).is_some_and(|found| place(found).is_some());
        // Where only what they say makes two ports one board, two ports of one interface are two boards that say the same.
        let are_twins = interfaces.len() < ports.len() && !ports.iter().all(has_place);
        if ports.len() < 2 || are_twins {
            continue;
        }
        // Ports come in the order of their names.
        ports.sort_by_key(|index| (port(index).map(|found| rank(&found.probed)), interface(index)));
        let Some((first, others)) = ports.split_first() else { continue };
        for index in others {
            if let Some(kept) = keep.get_mut(*index) {
                *kept = false;
            }
        }
        remarks.extend(choice(key, port(first), others.iter().filter_map(port)));
    }
    (keep, remarks)
}

fn place(found: &Found) -> Option<&str> {
    found.identity.usb.as_ref()?.hub_path.as_deref()
}

/// Whoever answers comes first.
fn rank(probed: &Probed) -> u8 {
    match probed {
        Probed::Answers => 0,
        Probed::Blocked(_) => 1,
        Probed::Silent => 2,
    }
}

/// What is told of a board of which several ports answer.
fn choice<'a>(key: &str, taken: Option<&Found>, others: impl Iterator<Item = &'a Found>) -> Option<Remark> {
    let taken = taken?;
    let others: Vec<&Found> = others.filter(|other| rank(&other.probed) == rank(&taken.probed)).collect();
    let named = others.iter().map(|other| other.address.as_str()).collect::<Vec<_>>().join(" and ");
    let example = others.first()?.identity.usb.as_ref()?.id();
    let (all, of_those) = match &taken.probed {
        Probed::Answers => ("all answer", " that answers"),
        Probed::Blocked(_) | Probed::Silent => ("none could be asked or answers", ""),
    };
    let why = match taken.identity.usb.as_ref()?.interface {
        Some(interface) => format!("its interface {interface} is the lowest{of_those}"),
        None => format!("its name is the first{of_those}"),
    };
    let message = format!(
        "{} and {named} are ports of one board ({key}) and {all}: {} is used, as {why}; to use another one name it in the \
         plan (`{example}`)",
        taken.address, taken.address
    );
    Some(Remark { code: "target.several_ports", message })
}

/// Boards that only their places tell apart.
pub(super) fn told_apart_by_place<'a>(found: impl Iterator<Item = &'a Found>) -> Vec<Remark> {
    let mut alike: BTreeMap<_, Vec<&UsbIdentity>> = BTreeMap::new();
    for usb in found.filter_map(|found| found.identity.usb.as_ref()).filter(|usb| usb.hub_path.is_some()) {
        alike.entry((usb.vid, usb.pid, &usb.serial_number)).or_default().push(usb);
    }
    let mut remarks = Vec::new();
    for ((vid, pid, serial), boards) in alike {
        let mut places: Vec<&str> = boards.iter().filter_map(|usb| usb.hub_path.as_deref()).collect();
        places.sort_unstable();
        places.dedup();
        if places.len() < 2 {
            continue;
        }
        let serial =
            serial.as_ref().map_or("no serial number".to_owned(), |serial| format!("serial number {serial}"));
        let more = if places.len() > NAMED { ", …" } else { "" };
        let named = places.get(..NAMED).unwrap_or(&places).join(", ");
        let message = format!(
            "{} boards are {vid:04x}:{pid:04x} with {serial}: they are told apart by their places ({named}{more}); \
             leave each where it is during the run",
            places.len()
        );
        remarks.push(Remark { code: "target.told_apart_by_place", message });
    }
    remarks
}

/// The hub that a board is plugged into: its port chain without the last port. The ports of a bus itself are those of its
/// root hub.
pub(super) fn hub(identity: &Identity) -> Option<String> {
    let path = identity.usb.as_ref()?.hub_path.as_deref()?;
    let parent = path.rsplit_once('.').or_else(|| path.rsplit_once('-'))?.0;
    Some(parent.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cause::{Cause, Class};
    use crate::transport::{Port, device_key};

    fn found(
        address: &str,
        interface: Option<u8>,
        serial: Option<&str>,
        place: &str,
        probed: Probed,
    ) -> Found {
        let usb = UsbIdentity {
            vid: 0x2fe3,
            pid: 4,
            interface,
            serial_number: serial.map(str::to_owned),
            product: None,
            hub_path: (place != "-").then(|| place.to_owned()),
        };
        let identity = Identity { usb: Some(usb), ble: None };
        let key = device_key(&Port { identity: identity.clone(), ..Port::plain(address) });
        Found { target: "line".to_owned(), address: address.to_owned(), identity, key, probed }
    }

    fn kept(found: &[Found]) -> (Vec<&str>, Vec<Remark>) {
        let (keep, remarks) = one_per_board(&found.iter().collect::<Vec<_>>());
        let kept = found.iter().zip(keep).filter(|(_, keep)| *keep);
        (kept.map(|(found, _)| found.address.as_str()).collect(), remarks)
    }

    #[test]
    fn of_several_ports_the_one_that_answers_is_the_device() {
        use Probed::{Answers, Silent};
        let blocked =
            || Probed::Blocked(Cause::new(Class::Station, "station.port_busy", "it is held", "let it go"));
        for (probed, taken, told) in [
            ([Answers, blocked()], "a", false),
            ([blocked(), Answers], "b", false),
            ([Silent, Answers], "b", false),
            ([Silent, blocked()], "b", false),
            ([Answers, Answers], "a", true),
            ([blocked(), blocked()], "a", true),
        ] {
            let ports = [
                found("a", Some(0), Some("A"), "1-1", probed[0].clone()),
                found("b", Some(2), Some("A"), "1-1", probed[1].clone()),
                found("c", Some(0), Some("A"), "1-2", Answers),
            ];
            let (kept, remarks) = kept(&ports);
            assert_eq!(kept, [taken, "c"], "{probed:?}");
            assert_eq!(remarks.len(), usize::from(told), "{probed:?} {remarks:?}");
        }
    }

    #[test]
    fn a_choice_between_ports_that_answer_is_told_with_its_reason() {
        let ports = [
            found("serial:/dev/ttyACM10", Some(2), None, "1-1", Probed::Answers),
            found("serial:/dev/ttyACM9", Some(0), None, "1-1", Probed::Answers),
        ];
        let (kept, remarks) = kept(&ports);
        assert_eq!(kept, ["serial:/dev/ttyACM9"], "the lower interface, whatever the order of names");
        for text in ["serial:/dev/ttyACM10", "serial:/dev/ttyACM9 is used", "interface 0", "`2fe3:0004:2`"] {
            assert!(remarks[0].message.contains(text), "{text}: {}", remarks[0].message);
        }
    }

    #[test]
    fn what_cannot_be_shown_to_be_one_board_is_two() {
        let pair = |serial: [Option<&str>; 2], place: [&str; 2], interfaces: [Option<u8>; 2]| {
            let ports = [
                found("/dev/ttyACM0", interfaces[0], serial[0], place[0], Probed::Answers),
                found("/dev/ttyACM1", interfaces[1], serial[1], place[1], Probed::Silent),
            ];
            kept(&ports).0.len()
        };
        let (a, b, none) = (Some("A"), Some("B"), None);
        let two = [Some(0), Some(2)];
        assert_eq!(pair([a, a], ["1-2", "1-2"], two), 1);
        assert_eq!(pair([none, none], ["1-2", "1-2"], [None, None]), 1, "one place is one board");
        assert_eq!(pair([a, a], ["1-2", "1-3"], two), 2, "two places are two");
        assert_eq!(pair([a, a], ["-", "-"], two), 1, "one serial number, and each an interface of its own");
        assert_eq!(pair([a, a], ["-", "-"], [Some(0), Some(0)]), 2, "twins");
        assert_eq!(pair([a, a], ["-", "-"], [None, None]), 2);
        assert_eq!(pair([a, b], ["-", "-"], two), 2);
        assert_eq!(pair([none, none], ["-", "-"], two), 2);
        // Behind a UART bridge each port may have a device of its own.
        let port = |name: &str| found(name, Some(0), a, "1-2", Probed::Answers);
        assert_eq!(kept(&[port("/dev/ttyUSB0"), port("/dev/ttyUSB1")]).0.len(), 2);
    }

    #[test]
    fn boards_that_only_their_places_tell_apart_are_told_once() {
        let board = |serial, place: &str| found(place, Some(0), serial, place, Probed::Answers);
        let told = |boards: &[Found]| told_apart_by_place(boards.iter());
        assert_eq!(told(&[board(Some("A"), "1-1"), board(Some("B"), "1-2")]), []);
        let twins = told(&[board(Some("A"), "1-1"), board(Some("A"), "1-2"), board(Some("B"), "1-3")]);
        assert_eq!(twins.len(), 1);
        assert!(
            twins[0].message.contains("2 boards are 2fe3:0004 with serial number A"),
            "{}",
            twins[0].message
        );
        assert!(twins[0].message.contains("(1-1, 1-2)"), "{}", twins[0].message);
        let many: Vec<Found> = (1..=24).map(|port| board(None, &format!("1-1.{port}"))).collect();
        let message = &told(&many)[0].message;
        assert!(message.contains("24 boards") && message.contains("no serial number"), "{message}");
        assert!(message.contains(", …)"), "{message}");
    }

    #[test]
    fn a_hub_is_what_a_board_is_plugged_into_root_hubs_too() {
        let hub_of = |place| hub(&found("a", Some(0), None, place, Probed::Answers).identity);
        for (place, expected) in
            [("1-2.3.4", Some("1-2.3")), ("1-2.3", Some("1-2")), ("1-2", Some("1")), ("-", None)]
        {
            assert_eq!(hub_of(place).as_deref(), expected, "{place}");
        }
        assert_ne!(hub_of("1-2"), hub_of("2-2"), "two root hubs");
        assert_ne!(hub_of("1-2"), hub_of("1-2.1"), "a board beside a hub is not behind it");
    }
}
