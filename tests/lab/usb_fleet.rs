//! Dozens of boards in one run, on the kernel's own USB: each leaves the bus at every reset and comes back under whatever
//! name the kernel has free then.

use std::time::{Duration, Instant};

use flashfleet::sim::{FaultSpec, SimSpec, UsbSpec};

use serde_json::Value;

use crate::bench::{Bench, Boards, Port, by_serial_number};
use crate::error::Result;
use crate::images::Image;
use crate::report::Run;
use crate::station::Station;
use crate::truth::{assert_kept, reported};
use crate::vm::Lab;

const SHORT: Duration = Duration::from_secs(60);

/// What the boards are to run.
fn new_image() -> Image {
    Image::filler(6 * 1024, 2, 0)
}

/// Boards that come back in the opposite order: the first one is the last to be there again, 5 s after the last one.
fn spec(count: usize) -> SimSpec {
    let slow = |number: usize| FaultSpec {
        only: vec![number],
        slow_boot_ms: (5000 * (count - number) / count) as u64,
        ..FaultSpec::default()
    };
    SimSpec {
        count,
        boot_ms: 1500,
        faults: (1..=count).map(slow).collect(),
        usb: Some(UsbSpec { serial_number: "FF{n}".to_owned(), ..UsbSpec::default() }),
        ..SimSpec::default()
    }
}

/// The default steps on all boards.
fn plan(count: usize) -> String {
    format!(
        "version: 1
name: line
images: {{ app: {{ file: new.bin }} }}
targets:
  - name: boards
    match: {{ usb: \"2fe3:0004\" }}
    link: {{ quiet: 1s, return_within: 90s }}
    discover: 30s
    expect: {count}
policy: {{ deadline: 4m }}
"
    )
}

/// A fleet that was flashed.
struct Flashed {
    /// The ports that the boards had.
    before: Vec<Port>,
    /// The ports that they have now.
    after: Vec<Port>,
    cost: Cost,
}

/// What flashing them took.
struct Cost {
    boards: usize,
    /// From the start of flashfleet to its end.
    wall: Duration,
    /// Processor time of flashfleet.
    cpu: Duration,
    /// Its largest resident set, KiB.
    peak_kib: u64,
    /// The most files that it had open at one time.
    files: usize,
}

/// Flashes so many boards, and fails unless each was, and came back as often as it was reset.
fn flash(lab: &Lab, count: usize) -> Result<Flashed> {
    let (station, mut bench) = (Station::new(lab)?, Bench::new(lab)?);
    let boards = bench.boards(&spec(count))?;
    let old = running(&boards);
    station.file("new.bin", new_image().bytes)?;
    let before = bench.attach(count)?;
    let start = Instant::now();
    let mut running = station.start("line", &plan(count), "")?;
    let counter = lab.start(&format!("exec bash /lab/files.sh {}", running.pid()?))?;
    let (run, ended) = running.wait_with_cost()?;
    let wall = start.elapsed();
    let files = counter.wait(SHORT)?.success()?.trim().parse().unwrap();
    assert_line(&run, &mut bench, &boards, &old, &before)?;
    let after = bench.wait_ports(count)?;
    let cost = Cost { boards: count, wall, cpu: ended.cpu, peak_kib: ended.peak_kib, files };
    Ok(Flashed { before, after, cost })
}

/// Fails unless every board was flashed, and came back as often as it was reset.
fn assert_line(run: &Run, bench: &mut Bench, boards: &Boards, old: &[Vec<u8>], ports: &[Port]) -> Result<()> {
    let ports = by_serial_number(ports)?;
    assert_eq!(run.code, 0, "{run}");
    assert_eq!(run.report["summary"]["passed"], boards.len(), "{run}");
    for ((index, board), old) in boards.devices().enumerate().zip(old) {
        let serial_number = format!("FF{}", index + 1);
        let reported = reported(run, &serial_number)?;
        // It is named by the port at which it was found, and by the place that it has in the kernel's eyes.
        let port = &ports[&serial_number];
        assert_eq!(reported["address"], format!("serial:{}", port.path), "{reported:#}");
        assert_eq!(reported["identity"]["usb"]["hub_path"], port.hub_path.as_str(), "{reported:#}");
        assert_kept(reported, &board, old, &new_image());
        // One reset for the test boot, one after the confirm, and none besides.
        assert_eq!(board.boots(), 2, "{reported:#}");
        let state = bench.bus.board(boards.numbers.start + index);
        // And once more whenever the kernel gave up on it, which is none of flashfleet's doing.
        let pulled = bench.pulled(&state.busid)? as u64;
        assert_eq!(state.enumerations, 3 + pulled, "{state:?}");
    }
    Ok(())
}

/// Prints the old and the new port of every board, and gives how many have a name that another one had.
fn moved(before: &[Port], after: &[Port]) -> Result<usize> {
    let (before, after) = (by_serial_number(before)?, by_serial_number(after)?);
    assert!(before.keys().eq(after.keys()), "{before:#?}\n{after:#?}");
    let mut moved = 0;
    println!("{:<8} {:<8} {:<16} {:<16}", "board", "hub path", "old port", "new port");
    for (serial_number, old) in &before {
        let new = &after[serial_number];
        // Where a board is plugged in stays.
        assert_eq!(old.hub_path, new.hub_path);
        let taken =
            before.values().any(|other| other.path == new.path && other.serial_number != new.serial_number);
        moved += usize::from(taken);
        println!("{serial_number:<8} {:<8} {:<16} {:<16}", new.hub_path, old.path, new.path);
    }
    Ok(moved)
}

/// What the boards run now.
fn running(boards: &Boards) -> Vec<Vec<u8>> {
    boards.devices().map(|board| board.running().unwrap().hash).collect()
}

#[test]
fn usb_24_boards_come_back_under_names_that_others_had() -> Result<()> {
    let flashed = flash(&Lab::take()?, 24)?;
    let moved = moved(&flashed.before, &flashed.after)?;
    assert!(moved >= 2, "{moved} boards have a name that another one had");
    Ok(())
}

#[test]
fn usb_120_boards_and_what_they_cost() -> Result<()> {
    let lab = Lab::take()?;
    let one = flash(&lab, 1)?;
    let all = flash(&lab, 120)?;
    let moved = moved(&all.before, &all.after)?;
    assert!(moved >= 2, "{moved} boards have a name that another one had");
    println!(
        "\nflashfleet in the guest, built {}",
        if cfg!(debug_assertions) { "for debugging" } else { "for release" }
    );
    println!("{:>6} {:>8} {:>8} {:>12} {:>6}", "boards", "wall, s", "CPU, s", "memory, MiB", "files");
    for Cost { boards, wall, cpu, peak_kib, files } in [one.cost, all.cost] {
        let (wall, cpu) = (wall.as_secs_f64(), cpu.as_secs_f64());
        println!("{boards:>6} {wall:>8.1} {cpu:>8.2} {:>12.1} {files:>6}", peak_kib as f64 / 1024.0);
        // One for each board's port, one more while it is opened anew, and what the program itself has open.
        assert!(files <= 2 * boards + 64, "{files} files for {boards} boards");
    }
    Ok(())
}

#[test]
fn usb_list_says_of_24_boards_which_target_matches_each_and_why_not() -> Result<()> {
    let lab = Lab::take()?;
    let (station, mut bench) = (Station::new(&lab)?, Bench::new(&lab)?);
    let _boards = bench.boards(&spec(24))?;
    let ports = bench.attach(24)?;
    station.file("new.bin", new_image().bytes)?;
    station.file(
        "list.yaml",
        "version: 1
name: list
images: { app: { file: new.bin } }
targets:
  - { name: tens, match: { usb: \"2fe3:0004\", serial_number: \"FF1.\" }, expect: 10 }
  - { name: first-hub, match: { usb: \"2fe3:0004\", hub_path: \"1-.*\" } }
  - { name: others, match: { usb: \"1915:.*\", product: Gadget } }
",
    )?;
    let listed = station.flashfleet("list --json list.yaml")?.success()?;
    let listed: Value = serde_json::from_str(&listed).unwrap();
    let text = station.flashfleet("list list.yaml")?.success()?;
    println!("{text}");
    let mut tens = 0;
    for port in &ports {
        let serial_number = port.serial_number.as_deref().unwrap();
        let address = format!("serial:{}", port.path);
        let all = listed["ports"].as_array().unwrap();
        let entry = all.iter().find(|entry| entry["address"] == address.as_str());
        let entry = entry.unwrap_or_else(|| panic!("{address} is not in {listed:#}"));
        assert_eq!(entry["usb"]["serial_number"], serial_number);
        assert_eq!(entry["usb"]["hub_path"], port.hub_path.as_str());
        assert_eq!(entry["usb"]["product"], port.product.as_deref().unwrap());
        let reasons = |target: usize| {
            let opinion = &entry["targets"][target];
            let reasons = opinion["mismatches"].as_array().unwrap();
            assert_eq!(opinion["matches"], reasons.is_empty(), "{opinion:#}");
            let told = |reason: &Value| {
                ["key", "expected", "actual"].map(|key| reason[key].as_str().unwrap().to_owned())
            };
            reasons.iter().map(told).collect::<Vec<_>>()
        };
        let no = |key: &str, expected: &str, actual: &str| [key, expected, actual].map(str::to_owned);
        let is_ten = serial_number.len() == 4 && serial_number.starts_with("FF1");
        tens += usize::from(is_ten);
        let ten = if is_ten { vec![] } else { vec![no("serial_number", "FF1.", serial_number)] };
        assert_eq!(reasons(0), ten);
        let here = port.hub_path.starts_with("1-");
        assert_eq!(reasons(1), if here { vec![] } else { vec![no("hub_path", "1-.*", &port.hub_path)] });
        let other =
            [no("usb", "1915:.*", &port.id), no("product", "Gadget", port.product.as_deref().unwrap())];
        assert_eq!(reasons(2), other);
    }
    assert_eq!(tens, 10);
    assert!(text.contains("target tens: 10 of the ports match, expected 10\n"), "{text}");
    Ok(())
}
