//! A real MCUboot that copies the image of the highest version to RAM, and tells nobody that it does: the plan says so.

use std::time::Duration;

use serde_json::Value;

use crate::error::Result;
use crate::fleet_run::{Run, Station};
use crate::fleet_trace;
use crate::images::Image;
use crate::qemu::Board;
use crate::readback::Device;

const CONFIG: &str = "serial_recovery";

fn device(board: &Board) -> Device {
    Device::Tcp(board.address())
}

/// One target with the default steps.
fn plan(board: &Board, image: &str, bootloader: &str) -> String {
    format!(
        "version: 1
name: ram
images: {{ app: {{ file: {image} }} }}
targets:
  - {{ name: board, match: {{ tcp: [\"{}\"] }}, bootloader: {bootloader}, link: {{ quiet: 2s, return_within: 15s }} }}
policy: {{ deadline: 4m }}
",
        board.address()
    )
}

/// Everything that the report notes of a device's steps.
fn notes(run: &Run, board: &Board) -> Result<String> {
    let steps = run.device(device(board))?["steps"].as_array().cloned().unwrap_or_default();
    let notes = steps.iter().flat_map(|step| step["detail"]["notes"].as_array().cloned().unwrap_or_default());
    Ok(notes.filter_map(|note| note.as_str().map(str::to_owned)).collect::<Vec<_>>().join("; "))
}

#[test]
fn fleet_ram_load_boots_the_higher_version_and_the_next_one_from_the_other_slot() -> Result<()> {
    let board = Board::mps2(CONFIG)?;
    let stock = Image::of_mps2(CONFIG)?;
    let station = Station::new()?;
    let new = stock.clone().with_version(1, 2, 3, 0);
    station.image("new.bin", &new)?;
    let trace = station.path("trace");
    let options = ["--trace", &trace.to_string_lossy()];
    let run = station.run("higher", &plan(&board, "new.bin", "ram-load"), &options)?;
    assert_eq!(run.code, 0, "{run}");
    let reported = run.device(device(&board))?;
    assert_eq!(
        (&reported["verdict"], &reported["changed"], &reported["on_test"]),
        (&"passed".into(), &true.into(), &false.into()),
        "{reported:#}"
    );
    let image = &reported["images"][0];
    assert_eq!(image["before"]["hash"], hex::encode(stock.hash()), "{reported:#}");
    assert_eq!(image["after"]["hash"], hex::encode(new.hash()), "{reported:#}");
    assert_eq!(image["after"]["version"], "1.2.3", "{reported:#}");
    let said = notes(&run, &board)?;
    for word in ["RAM load, as the plan says", "whether it works or not", "RAM load has no confirm"] {
        assert!(said.contains(word), "expected {word:?} in the notes: {said}");
    }
    let logs = fleet_trace::read(&trace)?;
    assert_eq!(logs.iter().map(|log| log.requests(2, 1, 0)).collect::<Vec<_>>(), [0], "no marks, no confirm");
    assert_eq!(logs.iter().map(|log| log.requests(2, 0, 5)).collect::<Vec<_>>(), [2], "resets");
    assert_eq!(board.resets(), 2);
    // What the board itself says, to another client.
    let running = device(&board).running()?;
    assert!(running.holds(&new) && running.slot == 1 && running.version == "1.2.3", "{running:?}");

    // A single device from the command line: now the first slot is free.
    let newest = stock.with_version(1, 3, 0, 0);
    station.image("newest.bin", &newest)?;
    let address = format!("tcp:{}", board.address());
    let run = station.update(&address, "newest.bin", &["--bootloader", "ram-load"])?;
    assert_eq!(run.code, 0, "{run}");
    let running = device(&board).running()?;
    assert!(running.holds(&newest) && running.slot == 0, "{running:?}");
    assert_eq!(board.resets(), 4);
    Ok(())
}

#[test]
fn fleet_ram_load_refuses_what_would_never_boot_before_a_byte_is_sent() -> Result<()> {
    let stock = Image::of_mps2(CONFIG)?;
    let runs = stock.clone().with_version(2, 0, 0, 0);
    let board = Board::mps2_with(CONFIG, &[runs.clone(), stock.clone()])?;
    let station = Station::new()?;
    station.image("lower.bin", &stock.clone().with_version(1, 9, 9, 0))?;
    station.image("equal.bin", &stock.clone().with_version(2, 0, 0, 0).that_hangs())?;
    station.image("higher.bin", &stock.with_version(2, 0, 1, 0))?;
    station.image("flash.bin", &Image::filler(600, 9, 0))?;
    let before = device(&board).images()?;
    for (image, bootloader, code) in [
        ("lower.bin", "ram-load", "image.never_boots"),
        ("equal.bin", "ram-load", "image.never_boots"),
        ("flash.bin", "ram-load", "image.not_for_ram"),
        // It does not tell its mode, and nobody else does.
        ("higher.bin", "auto", "device.mode_unknown"),
    ] {
        let trace = station.path(image);
        let trace = trace.with_extension("trace");
        let run = station.run(
            "refused",
            &plan(&board, image, bootloader),
            &["--trace", &trace.to_string_lossy()],
        )?;
        assert_eq!(run.code, 100, "{run}");
        let reported = run.device(device(&board))?;
        assert_eq!(
            (&reported["cause"]["code"], &reported["changed"]),
            (&code.into(), &false.into()),
            "{reported:#}"
        );
        let logs = fleet_trace::read(&trace)?;
        assert_eq!(logs.iter().map(|log| log.requests(2, 1, 1)).sum::<usize>(), 0, "{image}");
    }
    assert_eq!(device(&board).images()?, before);
    assert_eq!(board.resets(), 0);
    Ok(())
}

#[test]
fn fleet_ram_load_has_nothing_that_goes_back_as_its_report_says() -> Result<()> {
    let board = Board::mps2(CONFIG)?;
    let station = Station::new()?;
    let bad = Image::of_mps2(CONFIG)?.with_version(3, 0, 0, 0).that_hangs();
    station.image("bad.bin", &bad)?;
    let run = station.run("bad", &plan(&board, "bad.bin", "ram-load"), &[])?;
    assert_eq!(run.code, 100, "{run}");
    let reported = run.device(device(&board))?;
    assert_eq!(reported["cause"]["code"], "device.never_returned", "{reported:#}");
    assert_eq!(reported["images"][0]["after"], Value::Null, "nothing is claimed to run: {reported:#}");
    assert!(notes(&run, &board)?.contains("whether it works or not"), "{run}");
    // And so it is: the reset line brings the same image again.
    board.pull_reset_line()?;
    board.wait_program_counter(bad.entry()..bad.entry() + 4, Duration::from_secs(30))
}
