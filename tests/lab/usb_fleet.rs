//! Dozens of boards in one run, on the kernel's own USB: each leaves the bus at every reset and comes back under whatever
//! name the kernel has free then.

use std::time::Instant;

use flashfleet::sim::{FaultSpec, SimSpec, UsbSpec};

use crate::bench::{Bench, Boards, Port, by_serial_number};
use crate::error::Result;
use crate::images::Image;
use crate::report::Run;
use crate::station::Station;
use crate::truth::{assert_kept, reported};
use crate::vm::Lab;

/// What the boards are to run.
fn new_image() -> Image {
    Image::filler(6 * 1024, 2, 0)
}

/// Boards that come back in the opposite order: the first one is the last to be there again.
fn spec(count: usize) -> SimSpec {
    let slow = |number: usize| FaultSpec {
        only: vec![number],
        slow_boot_ms: 200 * (count - number) as u64,
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

/// Flashes all boards; gives the run and the ports before and after.
fn flash(station: &Station, bench: &mut Bench, boards: &Boards) -> Result<(Run, Vec<Port>, Vec<Port>)> {
    let count = boards.len();
    station.file("new.bin", new_image().bytes)?;
    let before = bench.attach(count)?;
    let start = Instant::now();
    let run = station.run("line", &plan(count), "")?;
    println!("{count} boards in {:.1} s", start.elapsed().as_secs_f64());
    let after = bench.wait_ports(count)?;
    Ok((run, before, after))
}

/// Fails unless every board was flashed, and came back as often as it was reset.
fn assert_line(run: &Run, bench: &Bench, boards: &Boards, old: &[Vec<u8>]) -> Result<()> {
    assert_eq!(run.code, 0, "{run}");
    assert_eq!(run.report["summary"]["passed"], boards.len(), "{run}");
    for ((index, board), old) in boards.devices().enumerate().zip(old) {
        let reported = reported(run, &format!("FF{}", index + 1))?;
        assert_kept(reported, &board, old, &new_image());
        // One reset for the test boot, one after the confirm, and none besides.
        assert_eq!(board.boots(), 2, "{reported:#}");
        let state = bench.bus.board(boards.numbers.start + index);
        assert_eq!(state.enumerations, 3, "{state:?}");
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
        let taken = before.values().any(|other| other.path == new.path && other.serial_number != new.serial_number);
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
    let lab = Lab::take()?;
    let (station, mut bench) = (Station::new(&lab)?, Bench::new(&lab)?);
    let boards = bench.boards(&spec(24))?;
    let old = running(&boards);
    let (run, before, after) = flash(&station, &mut bench, &boards)?;
    assert_line(&run, &bench, &boards, &old)?;
    let moved = moved(&before, &after)?;
    assert!(moved >= 2, "{moved} boards have a name that another one had");
    Ok(())
}
