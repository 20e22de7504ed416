//! Boards on USB that come back from every reset under other names: who is who, and that the report says so.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use flashfleet::plan::{Expect, MatchKind, Pattern};
use flashfleet::report::{DeviceReport, Outcome, Verdict};
use flashfleet::sim::SimSpec;
use tokio::sync::mpsc;

use super::bus::{Bus, Shows};
use super::line::{Finished, Line, in_virtual_time, new_image};

pub(crate) fn boards(count: usize) -> SimSpec {
    SimSpec { count, boot_ms: 1500, ..SimSpec::default() }
}

pub(crate) fn pattern(text: &str) -> Pattern {
    Pattern::new(text).expect("an expression")
}

pub(crate) fn expect(count: usize) -> Expect {
    Expect { min: count, max: Some(count) }
}

/// A plan for `count` boards on a bus.
pub(crate) fn line(count: usize) -> Line {
    let mut line = Line::of(Vec::new());
    let target = &mut line.plan.targets[0];
    target.matcher.kind = MatchKind::Usb(vec![pattern("2fe3:0004")]);
    target.expect = expect(count);
    line
}

pub(crate) async fn run(line: &Line, bus: &Arc<Bus>) -> Finished {
    line.run_from(bus.source(), mpsc::unbounded_channel().1).await
}

pub(crate) fn runs_new_image(bus: &Bus, index: usize) -> bool {
    let running = bus.device(index).running().expect("an image");
    running.hash == new_image().hash() && running.confirmed
}

/// All that was noted on a device's steps.
pub(crate) fn notes(device: &DeviceReport) -> Vec<&str> {
    device.steps.iter().flat_map(|step| &step.detail.notes).map(String::as_str).collect()
}

fn serial_number(device: &DeviceReport) -> &str {
    device.identity.usb.as_ref().and_then(|usb| usb.serial_number.as_deref()).expect("a serial number")
}

#[test]
fn two_dozen_boards_that_swap_their_names_at_every_reset_are_who_they_were() {
    in_virtual_time(async {
        let bus = Bus::new(&boards(24), Shows::board);
        let mut line = line(24);
        line.plan.policy.per_hub = Some(4);
        let before: HashMap<String, String> =
            (0..24).map(|index| (format!("FF{index:02}"), bus.port_of(index))).collect();
        let finished = run(&line, &bus).await;
        assert_eq!(finished.outcome, Outcome::Passed, "{:?}", finished.report.devices[0].cause);
        assert!((0..24).all(|index| runs_new_image(&bus, index) && bus.device(index).boots() == 2));
        assert_eq!(finished.most_at_once(|_| true), 12, "four behind each of three hubs");

        let mut moves = HashSet::new();
        for device in &finished.report.devices {
            let first = format!("serial:{}", before[serial_number(device)]);
            assert_eq!(device.address, first, "the address is where it was found");
            for note in notes(device) {
                let (now, was) = note
                    .strip_prefix("came back as serial:")
                    .and_then(|note| note.strip_suffix(')'))
                    .and_then(|note| note.split_once(" (was serial:"))
                    .expect("a note on old and new port");
                moves.insert((was.to_owned(), now.to_owned()));
            }
        }
        let swapped = moves.iter().any(|(was, now)| moves.contains(&(now.clone(), was.clone())));
        assert!(swapped, "two boards swapped their names: {moves:?}");
    });
}

#[test]
fn a_note_on_the_step_says_what_the_port_was_and_is() {
    in_virtual_time(async {
        let bus = Bus::new(&boards(2), Shows::board);
        let finished = run(&line(2), &bus).await;
        assert_eq!(finished.outcome, Outcome::Passed);
        let device = &finished.report.devices[0];
        let moved = ["came back as serial:/dev/ttyACM1 (was serial:/dev/ttyACM0)"];
        let of_steps: Vec<_> = device.steps.iter().map(|step| step.detail.notes.as_slice()).collect();
        assert_eq!(of_steps[0], [""; 0], "nothing happened in the upload");
        assert_eq!(of_steps[1], moved, "the test boot: {device:?}");
    });
}

#[test]
fn a_board_with_several_ports_is_one_device_reached_by_the_one_that_answers() {
    for (interfaces, smp, taken) in [([0, 2], vec![2], 2), ([0, 2], vec![0], 0), ([0, 2], vec![0, 2], 0)] {
        in_virtual_time(async {
            let bus = Bus::new(&boards(4), |index| Shows {
                interfaces: interfaces.to_vec(),
                smp: smp.clone(),
                ..Shows::board(index)
            });
            let finished = run(&line(4), &bus).await;
            assert_eq!(finished.verdicts(), [Verdict::Passed; 4], "{:?}", finished.report.devices);
            assert!((0..4).all(|index| runs_new_image(&bus, index)));
            for device in &finished.report.devices {
                let usb = device.identity.usb.as_ref().expect("a board on USB");
                assert_eq!(usb.interface, Some(taken), "{device:?}");
            }
            let told: Vec<_> =
                finished.report.notes.iter().filter(|note| note.code == "target.several_ports").collect();
            assert_eq!(told.len(), if smp.len() > 1 { 4 } else { 0 }, "{told:?}");
            assert!(told.iter().all(|note| note.message.contains("its interface 0 is the lowest")));
        });
    }
}

#[test]
fn a_named_board_with_several_ports_is_one_device_reached_by_the_one_that_answers() {
    for (smp, taken) in [(vec![2], 2), (vec![0], 0), (vec![0, 2], 0)] {
        in_virtual_time(async {
            let bus = Bus::new(&boards(1), |index| Shows {
                interfaces: vec![0, 2],
                smp: smp.clone(),
                ..Shows::board(index)
            });
            let named = bus.named("usb:2fe3:0004");
            let finished = line(1).run_from(named, mpsc::unbounded_channel().1).await;
            assert_eq!(finished.verdicts(), [Verdict::Passed], "{:?}", finished.report.devices);
            assert!(runs_new_image(&bus, 0));
            let usb = finished.report.devices[0].identity.usb.as_ref().expect("a board on USB");
            assert_eq!(usb.interface, Some(taken));
        });
    }
}

#[test]
fn two_targets_that_match_two_ports_of_one_board_match_one_device() {
    in_virtual_time(async {
        let bus = Bus::new(&boards(1), |index| Shows {
            interfaces: vec![0, 2],
            smp: vec![0, 2],
            ..Shows::board(index)
        });
        let mut line = line(1);
        let mut second = line.plan.targets[0].clone();
        second.name = "other".to_owned();
        line.plan.targets[0].matcher.kind = MatchKind::Usb(vec![pattern("2fe3:0004:0")]);
        second.matcher.kind = MatchKind::Usb(vec![pattern("2fe3:0004:2")]);
        line.plan.targets.push(second);
        let finished = run(&line, &bus).await;
        assert_eq!(finished.verdicts(), [Verdict::Error; 2]);
        assert_eq!(finished.code(0), "plan.device_in_two_targets");
        assert_eq!(bus.device(0).bytes_written(), 0);
    });
}

#[test]
fn twins_are_told_apart_by_their_places_and_the_report_says_so() {
    in_virtual_time(async {
        // The second one is plugged in when the first was already found, and is there while the first one resets.
        let bus = Bus::new(&boards(3), |index| Shows {
            serial_number: (index < 2).then(|| "TWIN".to_owned()),
            ..Shows::board(index)
        });
        bus.device(1).unplug(Some(Duration::from_secs(3)));
        let mut line = line(3);
        line.plan.policy.parallel = Some(1);
        let finished = run(&line, &bus).await;
        assert_eq!(finished.outcome, Outcome::Passed, "{:?}", finished.report.devices);
        assert!((0..3).all(|index| runs_new_image(&bus, index) && bus.device(index).boots() >= 2));
        let told: Vec<_> = (finished.report.notes.iter())
            .filter(|note| note.code == "target.told_apart_by_place")
            .map(|note| note.message.as_str())
            .collect();
        assert_eq!(told.len(), 1);
        assert!(told[0].contains("serial number TWIN") && told[0].contains("(1-1.1, 1-1.2)"), "{told:?}");
    });
}

#[test]
fn a_twin_does_not_stand_in_for_a_board_that_never_comes_back() {
    in_virtual_time(async {
        let fault = flashfleet::sim::FaultSpec {
            only: vec![1],
            never_return: true,
            ..flashfleet::sim::FaultSpec::default()
        };
        let spec = SimSpec { fault, ..boards(2) };
        let twin = Some("TWIN".to_owned());
        let bus = Bus::new(&spec, |index| Shows { serial_number: twin.clone(), ..Shows::board(index) });
        bus.device(1).unplug(Some(Duration::from_secs(3)));
        let mut line = line(2);
        line.plan.policy.parallel = Some(1);
        line.plan.targets[0].link.return_within = Duration::from_secs(20);
        let finished = run(&line, &bus).await;
        let mut verdicts: Vec<(String, Verdict)> =
            (finished.report.devices.iter()).map(|device| (device.slot.clone(), device.verdict)).collect();
        verdicts.sort_by(|one, other| one.0.cmp(&other.0));
        let expected = [("1-1.1".to_owned(), Verdict::Failed), ("1-1.2".to_owned(), Verdict::Passed)];
        assert_eq!(verdicts, expected, "{:?}", finished.report.devices);
        assert_eq!(bus.device(1).boots(), 3, "plugged in, test boot and last reset");
    });
}

#[test]
fn twins_without_places_are_refused_before_anything_is_written() {
    in_virtual_time(async {
        let bus = Bus::new(&boards(3), |index| Shows {
            serial_number: Some(if index < 2 { "TWIN".to_owned() } else { "OWN".to_owned() }),
            hub_path: None,
            ..Shows::board(index)
        });
        let finished = run(&line(3), &bus).await;
        assert_eq!(finished.verdicts(), [Verdict::Error, Verdict::Error, Verdict::Passed]);
        for index in 0..2 {
            assert_eq!(finished.code(index), "plan.ambiguous_device");
            let cause = finished.report.devices[index].cause.as_ref().expect("a cause");
            assert!(cause.message.contains("serial:/dev/ttyACM0 and serial:/dev/ttyACM1"), "{cause}");
            assert!(cause.help.contains("a serial number of its own"), "{}", cause.help);
            assert_eq!((bus.device(index).bytes_written(), bus.device(index).boots()), (0, 0));
            assert_eq!(finished.report.devices[index].changed, Some(false));
        }
        assert!(runs_new_image(&bus, 2));
    });
}

#[test]
fn a_bootloader_that_speaks_smp_is_not_taken_for_the_application() {
    in_virtual_time(async {
        // In its bootloader from half a second after it left, for two seconds; the application comes after four.
        let spec = SimSpec { boot_ms: 4000, ..boards(3) };
        let bus = Bus::new(&spec, |index| Shows {
            bootloader: Some((Duration::from_millis(500), Duration::from_millis(2500))),
            ..Shows::board(index)
        });
        let mut line = line(3);
        line.plan.targets[0].matcher.bootloader_usb = Some(pattern("2fe3:0100"));
        // A wide pattern must not let it in either.
        line.plan.targets[0].matcher.kind = MatchKind::Usb(vec![pattern("2fe3:.*")]);
        let finished = run(&line, &bus).await;
        assert_eq!(finished.verdicts(), [Verdict::Passed; 3], "{:?}", finished.report.devices);
        assert!((0..3).all(|index| runs_new_image(&bus, index)));
        assert!((0..3).all(|index| bus.asked_in_bootloader(index) == 0), "nobody asks a bootloader");
    });
}

#[test]
fn a_board_that_stays_in_its_bootloader_never_returned_and_the_cause_says_where_it_is() {
    in_virtual_time(async {
        let spec = SimSpec { boot_ms: 100_000, ..boards(1) };
        let bus = Bus::new(&spec, |index| Shows {
            bootloader: Some((Duration::from_millis(500), Duration::from_secs(1000))),
            ..Shows::board(index)
        });
        let mut line = line(1);
        line.plan.targets[0].matcher.bootloader_usb = Some(pattern("2fe3:0100"));
        let finished = run(&line, &bus).await;
        assert_eq!(finished.code(0), "device.never_returned");
        let cause = finished.report.devices[0].cause.as_ref().expect("a cause");
        let text = "in its bootloader as serial:/dev/ttyACM0 (2fe3:0100:0)";
        assert!(cause.message.contains(text), "{cause}");
        assert_eq!(bus.asked_in_bootloader(0), 0);
    });
}

#[test]
fn a_board_in_its_bootloader_is_waited_for_and_told_where_it_stays_there() {
    for (boot_ms, found) in [(4_000, 2), (60_000, 1)] {
        in_virtual_time(async {
            let spec = SimSpec { boot_ms, ..boards(2) };
            let bus = Bus::new(&spec, |index| Shows {
                bootloader: (index == 1).then(|| (Duration::ZERO, Duration::from_secs(600))),
                ..Shows::board(index)
            });
            bus.device(1).reset_line();
            let mut line = line(2);
            line.plan.targets[0].matcher.bootloader_usb = Some(pattern("2fe3:0100"));
            let finished = run(&line, &bus).await;
            assert_eq!(finished.report.devices.len(), found);
            assert_eq!(bus.asked_in_bootloader(1), 0, "a search asks no bootloader");
            if found == 2 {
                assert_eq!(finished.outcome, Outcome::Passed, "{:?}", finished.report.devices);
                return;
            }
            assert_eq!(finished.outcome, Outcome::NoMatch);
            let cause = &finished.report.targets_unmet[0].cause;
            assert!(
                cause.message.contains("in their bootloader: serial:/dev/ttyACM1 (2fe3:0100:0)"),
                "{cause}"
            );
            assert!(finished.report.notes.iter().any(|note| note.code == "target.in_bootloader"));
        });
    }
}

#[test]
fn a_name_that_the_plan_uses_stays_the_devices_name() {
    in_virtual_time(async {
        let bus = Bus::new(&boards(2), |index| Shows {
            link: Some(format!("/dev/serial/by-path/jig-{index}")),
            ..Shows::board(index)
        });
        let mut line = line(2);
        let glob = glob::Pattern::new("/dev/serial/by-path/jig-*").expect("a glob");
        line.plan.targets[0].matcher.kind = MatchKind::Port(vec![glob]);
        let finished = run(&line, &bus).await;
        assert_eq!(finished.outcome, Outcome::Passed, "{:?}", finished.report.devices);
        assert!((0..2).all(|index| runs_new_image(&bus, index)));
        for device in &finished.report.devices {
            assert!(device.address.starts_with("serial:/dev/serial/by-path/jig-"), "{}", device.address);
            assert!(notes(device).is_empty(), "its name did not change: {:?}", notes(device));
        }
    });
}
