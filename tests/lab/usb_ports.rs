//! Which port is meant, and which one it is after a reset: several ports on one board, boards that look alike, boards that
//! change their ids, boards that take their time.

use std::time::{Duration, Instant};

use flashfleet::sim::{BootloaderSpec, FaultSpec, OtherFunctions, SimSpec, UpdatedSpec, UsbSpec};

use crate::bench::{Bench, Boards};
use crate::error::Result;
use crate::images::Image;
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
fn usb_boards_with_one_serial_number_need_their_hub_paths() -> Result<()> {
    let lab = Lab::take()?;
    let (station, mut bench) = (Station::new(&lab)?, Bench::new(&lab)?);
    station.file("new.bin", new_image().bytes)?;
    let usb = UsbSpec { serial_number: "SAME".to_owned(), ..UsbSpec::default() };
    let boards = bench.boards(&spec(2, usb))?;
    let old = running(&boards);
    let ports = bench.attach(2)?;
    let target = "  - name: twins
    match: { usb: \"2fe3:0004\" }
    discover: 5s
    expect: 2";
    let run = station.run("alike", &plan(target), "")?;
    println!("{run}");
    assert_ne!(run.code, 0, "{run}");
    assert_eq!(running(&boards), old, "{run}");
    assert!(boards.devices().all(|board| board.boots() == 0 && board.bytes_written() == 0), "{run}");

    let targets: Vec<_> = ports
        .iter()
        .enumerate()
        .map(|(number, port)| {
            format!(
                "  - name: slot-{number}
    match: {{ usb: \"2fe3:0004\", hub_path: '{}' }}
    link: {{ quiet: 1s }}
    discover: 20s
    expect: 1",
                port.hub_path
            )
        })
        .collect();
    let run = station.run("apart", &plan(&targets.join("\n")), "")?;
    assert_eq!((run.code, run.devices().len()), (0, 2), "{run}");
    let slots = boards.numbers.clone().map(|number| bench.bus.board(number));
    for ((board, old), state) in boards.devices().zip(&old).zip(slots) {
        // A board's place on the bus is its place at the hub.
        println!("{state:?}");
        let index = state.busid.rsplit('-').next().unwrap().parse::<usize>().unwrap() - 1;
        let here = |device: &&serde_json::Value| {
            device["identity"]["usb"]["hub_path"] == ports[index].hub_path.as_str()
        };
        let reported = run.devices().iter().find(here).unwrap();
        assert_kept(reported, &board, old, &new_image());
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
    let run = station.run("late", &plan(&[target("PATIENT", "60s"), target("HASTY", "8s")].join("\n")), "")?;
    assert!(start.elapsed() > Duration::from_secs(20));
    assert_eq!(run.code, 100, "{run}");
    assert_kept(reported(&run, "PATIENT")?, &patient.device(0), &old, &new_image());
    let gone = reported(&run, "HASTY")?;
    assert_eq!((&gone["verdict"], &gone["cause"]["code"]), (&"failed".into(), &"device.never_returned".into()), "{gone:#}");
    // It is on test, whatever became of it later.
    assert!(!hasty.device(0).running().is_some_and(|running| running.confirmed && running.hash != old), "{gone:#}");
    Ok(())
}
