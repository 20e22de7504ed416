//! Which port is meant, and which one it is after a reset: several ports on one board, boards that look alike, boards that
//! change their ids, boards that take their time.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use flashfleet::sim::{BootloaderSpec, FaultSpec, OtherFunctions, SimSpec, UpdatedSpec, UsbSpec};
use serde_json::Value;

use crate::bench::{Bench, Boards, Port};
use crate::error::Result;
use crate::images::Image;
use crate::report::Run;
use crate::station::Station;
use crate::truth::{assert_kept, reported};
use crate::vm::Lab;

fn new_image() -> Image {
    Image::filler(3 * 1024, 2, 0)
}

/// A plan for these targets, one YAML list entry each.
fn plan(targets: &str) -> String {
    format!(
        "version: 1
name: ports
images: {{ app: {{ file: new.bin }} }}
targets:
{targets}
policy: {{ deadline: 3m }}
"
    )
}

fn spec(count: usize, usb: UsbSpec) -> SimSpec {
    SimSpec { count, boot_ms: 1000, usb: Some(usb), ..SimSpec::default() }
}

/// The device of a report at this hub path.
fn at<'run>(run: &'run Run, hub_path: &str) -> &'run Value {
    let here = |device: &&Value| device["identity"]["usb"]["hub_path"] == hub_path;
    run.devices().iter().find(here).unwrap_or_else(|| panic!("no device at {hub_path}\n{run}"))
}

fn running(boards: &Boards) -> Vec<Vec<u8>> {
    boards.devices().map(|board| board.running().unwrap().hash).collect()
}

#[test]
fn usb_of_a_board_with_two_ports_the_one_that_answers_is_used() -> Result<()> {
    let lab = Lab::take()?;
    let (station, mut bench) = (Station::new(&lab)?, Bench::new(&lab)?);
    station.file("new.bin", new_image().bytes)?;
    // The first port prints a log on half of them, and is silent on the others.
    let usb = |others, serial_number: &str| UsbSpec {
        functions: 2,
        smp_function: 1,
        others,
        serial_number: serial_number.to_owned(),
        ..UsbSpec::default()
    };
    let kinds = [
        (bench.boards(&spec(2, usb(OtherFunctions::Log, "LOG{n}")))?, "LOG"),
        (bench.boards(&spec(2, usb(OtherFunctions::Silent, "MUTE{n}")))?, "MUTE"),
    ];
    let old: Vec<_> = kinds.iter().map(|(boards, _)| running(boards)).collect();
    bench.attach(8)?;
    let target = "  - name: boards
    match: { usb: \"2fe3:0004\" }
    link: { quiet: 1s }
    discover: 20s
    expect: 4";
    let run = station.run("ports", &plan(target), "")?;
    assert_eq!((run.code, run.devices().len()), (0, 4), "{run}");
    for ((boards, name), old) in kinds.iter().zip(old) {
        for ((index, board), old) in boards.devices().enumerate().zip(old) {
            let reported = reported(&run, &format!("{name}{}", index + 1))?;
            assert_eq!(reported["identity"]["usb"]["interface"], 2, "{reported:#}");
            assert_kept(reported, &board, &old, &new_image());
        }
    }
    Ok(())
}

#[test]
fn usb_boards_with_one_serial_number_are_told_apart_by_their_hub_paths() -> Result<()> {
    let lab = Lab::take()?;
    let (station, mut bench) = (Station::new(&lab)?, Bench::new(&lab)?);
    // The first one takes longer to boot, so that the second one gets its name.
    let slow = FaultSpec { only: vec![1], slow_boot_ms: 3000, ..FaultSpec::default() };
    let usb = UsbSpec { serial_number: "SAME".to_owned(), ..UsbSpec::default() };
    let boards = bench.boards(&SimSpec { faults: vec![slow], ..spec(2, usb) })?;
    // The first board is plugged in at the first port of the hub.
    let by_place = |mut ports: Vec<Port>| {
        ports.sort_by_key(|port| port.hub_path.clone());
        ports
    };
    let ports = by_place(bench.attach(2)?);
    let old = running(&boards);

    // With hub paths the plan gives each one an image of its own. One reset, so that the names are swapped once.
    let images = [Image::filler(3 * 1024, 2, 1), Image::filler(3 * 1024, 2, 2)];
    let mut apart = String::new();
    for (number, (image, port)) in images.iter().zip(&ports).enumerate() {
        station.file(&format!("slot-{number}.bin"), &image.bytes)?;
        apart += &format!(
            "  - name: slot-{number}
    match: {{ usb: \"2fe3:0004\", hub_path: '{}' }}
    link: {{ quiet: 1s }}
    discover: 20s
    expect: 1
    steps: [{{ upload: image-{number} }}, test-boot, confirm]
",
            port.hub_path
        );
    }
    let files = "images: { image-0: { file: slot-0.bin }, image-1: { file: slot-1.bin } }";
    let apart = plan(&apart).replace("images: { app: { file: new.bin } }", files);
    let run = station.run("apart", &apart, "")?;
    assert_eq!((run.code, run.devices().len()), (0, 2), "{run}");
    for (((board, old), image), port) in boards.devices().zip(&old).zip(&images).zip(&ports) {
        assert_kept(at(&run, &port.hub_path), &board, old, image);
    }
    let after = by_place(bench.wait_ports(2)?);
    assert_eq!(
        (&after[0].path, &after[1].path),
        (&ports[1].path, &ports[0].path),
        "the names were not swapped, so that nothing is shown"
    );

    // Without a hub path in the plan: the kernel says where each one is, and there it is found again.
    let new = Image::filler(3 * 1024, 3, 0);
    station.file("new.bin", &new.bytes)?;
    let target = "  - name: twins
    match: { usb: \"2fe3:0004\" }
    link: { quiet: 1s }
    discover: 20s
    expect: 2";
    let run = station.run("alike", &plan(target), "")?;
    assert_eq!((run.code, run.devices().len()), (0, 2), "{run}");
    for ((board, image), port) in boards.devices().zip(&images).zip(&ports) {
        assert_kept(at(&run, &port.hub_path), &board, &image.hash(), &new);
    }
    Ok(())
}

#[test]
fn usb_board_with_another_id_in_its_bootloader_and_after_the_update_is_found_again() -> Result<()> {
    let lab = Lab::take()?;
    let (station, mut bench) = (Station::new(&lab)?, Bench::new(&lab)?);
    station.file("new.bin", new_image().bytes)?;
    let usb = UsbSpec {
        serial_number: "B{n}".to_owned(),
        bootloader: Some(BootloaderSpec {
            id: "2fe3:0100".parse().unwrap(),
            ms: 2000,
            serial_number: Some(String::new()),
            product: None,
        }),
        updated: Some(UpdatedSpec { id: Some("2fe3:0005".parse().unwrap()), ..UpdatedSpec::default() }),
        ..UsbSpec::default()
    };
    let boards = bench.boards(&spec(3, usb))?;
    let old = running(&boards);
    bench.attach(3)?;
    let target = "  - name: boards
    match: { usb: [\"2fe3:0004\", \"2fe3:0005\"], bootloader_usb: \"2fe3:0100\" }
    link: { quiet: 1s, return_within: 60s }
    discover: 20s
    expect: 3";
    let run = station.run("ids", &plan(target), "")?;
    assert_eq!((run.code, run.devices().len()), (0, 3), "{run}");
    for ((index, board), old) in boards.devices().enumerate().zip(old) {
        let reported = reported(&run, &format!("B{}", index + 1))?;
        assert_kept(reported, &board, &old, &new_image());
        // At first, and for each of two resets once in the bootloader and once as itself.
        assert_eq!(bench.bus.board(boards.numbers.start + index).enumerations, 5, "{reported:#}");
    }
    assert!(bench.ports()?.iter().all(|port| port.id == "2fe3:0005:0"), "{:#?}", bench.ports()?);
    Ok(())
}

#[test]
fn usb_board_that_enumerates_after_20_s_is_waited_for_as_long_as_the_plan_says() -> Result<()> {
    let lab = Lab::take()?;
    let (station, mut bench) = (Station::new(&lab)?, Bench::new(&lab)?);
    station.file("new.bin", new_image().bytes)?;
    let late = FaultSpec { slow_boot_ms: 20_000, ..FaultSpec::default() };
    let usb = |serial_number: &str| UsbSpec { serial_number: serial_number.to_owned(), ..UsbSpec::default() };
    let patient = bench.boards(&SimSpec { faults: vec![late.clone()], ..spec(1, usb("PATIENT")) })?;
    let hasty = bench.boards(&SimSpec { faults: vec![late], ..spec(1, usb("HASTY")) })?;
    let old = running(&patient).remove(0);
    bench.attach(2)?;
    let target = |name: &str, within: &str| {
        format!(
            "  - name: {}
    match: {{ usb: \"2fe3:0004\", serial_number: {name} }}
    link: {{ quiet: 1s, return_within: {within} }}
    discover: 20s
    expect: 1
    steps: [{{ upload: app }}, test-boot, confirm]",
            name.to_lowercase()
        )
    };
    let start = Instant::now();
    let run =
        station.run("late", &plan(&[target("PATIENT", "60s"), target("HASTY", "8s")].join("\n")), "")?;
    assert!(start.elapsed() > Duration::from_secs(20));
    assert_eq!(run.code, 100, "{run}");
    assert_kept(reported(&run, "PATIENT")?, &patient.device(0), &old, &new_image());
    let gone = reported(&run, "HASTY")?;
    assert_eq!(
        (&gone["verdict"], &gone["cause"]["code"]),
        (&"failed".into(), &"device.never_returned".into()),
        "{gone:#}"
    );
    // It is on test, whatever became of it later.
    assert!(
        !hasty.device(0).running().is_some_and(|running| running.confirmed && running.hash != old),
        "{gone:#}"
    );
    Ok(())
}

#[test]
fn usb_boards_behind_one_hub_take_turns_where_the_plan_says_so() -> Result<()> {
    let lab = Lab::take()?;
    let (station, mut bench) = (Station::new(&lab)?, Bench::new(&lab)?);
    station.file("new.bin", new_image().bytes)?;
    // The virtual controllers have a hub each, and are filled in turn: two hubs get a second board.
    let boards =
        bench.boards(&spec(10, UsbSpec { serial_number: "H{n}".to_owned(), ..UsbSpec::default() }))?;
    let ports = bench.attach(10)?;
    let hub = |hub_path: &str| hub_path.rsplit_once(['-', '.']).unwrap().0.to_owned();
    let hubs: BTreeSet<_> = ports.iter().map(|port| hub(&port.hub_path)).collect();
    assert_eq!(hubs.len(), 8, "{ports:#?}");
    let target = "  - name: boards
    match: { usb: \"2fe3:0004\" }
    discover: 20s
    expect: 10
    steps: [{ upload: app }]";
    let plan = plan(target).replace("deadline: 3m", "deadline: 3m, per_hub: 1");
    let run = station.run("turns", &plan, "")?;
    assert_eq!((run.code, &run.report["summary"]["passed"]), (0, &10.into()), "{run}");
    assert!(boards.devices().all(|board| board.slot(1).version.as_deref() == Some("2.0.0")));

    let mut busy = BTreeMap::<String, usize>::new();
    let mut most_at_once = 0;
    for line in station.read("turns.jsonl")?.lines() {
        let event: Value = serde_json::from_str(line).unwrap();
        let at = |device: &&Value| device["id"] == event["device"];
        let Some(device) = run.devices().iter().find(at) else { continue };
        let at = busy.entry(hub(device["identity"]["usb"]["hub_path"].as_str().unwrap())).or_default();
        match event["type"].as_str().unwrap() {
            "device_started" => *at += 1,
            "device_finished" => *at -= 1,
            _ => {}
        }
        assert!(*at <= 1, "two boards behind one hub: {busy:?}");
        most_at_once = most_at_once.max(busy.values().sum());
    }
    // Different hubs do not wait for each other.
    assert!(most_at_once > 1, "{most_at_once} at once");
    Ok(())
}
