//! Updates through a real MCUboot's serial recovery, on an MPS2: what it proves, what a second run does, and what is left
//! when a run is cut off in the middle.

use std::time::Duration;

use serde_json::Value;

use crate::error::Result;
use crate::fleet_run::{Run, Station, step};
use crate::images::Image;
use crate::qemu::Board;
use crate::readback::Device;

const CONFIG: &str = "serial_recovery";
const SHORT: Duration = Duration::from_secs(20);

fn device(board: &Board) -> Device {
    Device::Tcp(board.address())
}

/// A plan for one board.
fn plan(board: &Board, more: &str, steps: &str) -> String {
    format!(
        "version: 1
name: recovery
images: {{ app: {{ file: app.bin }} }}
targets:
  - name: board
    match: {{ tcp: [\"{}\"] }}
    link: {{ quiet: 2s }}
    {more}
    steps: [{steps}]
policy: {{ deadline: 4m }}
",
        board.address()
    )
}

const THROUGH: &str = "reset: { boot_mode: bootloader }, upload: app, reset, verify: { hash: app }";

fn notes(run: &Run, board: &Board, name: &str) -> Result<String> {
    let detail = &step(run.device(device(board))?, name)?["detail"];
    let notes = detail["notes"].as_array().into_iter().flatten().filter_map(Value::as_str);
    Ok(notes.collect::<Vec<_>>().join("\n"))
}

#[test]
fn fleet_recovery_writes_the_primary_slot_and_its_application_proves_it() -> Result<()> {
    let board = Board::mps2(CONFIG)?;
    let app = Image::of_mps2(CONFIG)?.with_version(1, 2, 3, 0);
    let station = Station::new()?;
    station.image("app.bin", &app)?;
    let run = station.run("first", &plan(&board, "", THROUGH), &[])?;
    assert_eq!(run.code, 0, "{run}");
    let reported = run.device(device(&board))?;
    assert_eq!(
        (&reported["verdict"], &reported["changed"]),
        (&"passed".into(), &true.into()),
        "{reported:#}"
    );
    assert!(notes(&run, &board, "reset")?.contains("MCUboot's serial recovery answers"));
    let upload = &reported["images"][0]["upload"];
    assert_eq!(upload["window"], 1, "one buffer: {upload:#}");
    assert!(upload["frame_bytes"].as_u64().is_some_and(|bytes| (900..=1020).contains(&bytes)), "{upload:#}");
    let running = device(&board).running()?;
    assert!(running.holds(&app) && running.slot == 0, "{running:?}");
    assert_eq!(board.resets(), 2);

    // It runs already: no reset, and nothing written, also where the plan takes it to be in its bootloader.
    for (name, more, steps) in
        [("again", "", THROUGH), ("there", "starts_in: bootloader", "upload: app, reset")]
    {
        let run = station.run(name, &plan(&board, more, steps), &[])?;
        assert_eq!(run.code, 0, "{run}");
        assert_eq!(run.device(device(&board))?["changed"], false, "{run}");
        assert_eq!(board.resets(), 2, "{run}");
    }
    Ok(())
}

#[test]
fn fleet_recovery_of_a_run_that_was_cut_off_in_mid_upload() -> Result<()> {
    let board = Board::mps2(CONFIG)?;
    let app = Image::of_mps2(CONFIG)?.with_version(1, 2, 3, 0);
    let station = Station::new()?;
    station.image("app.bin", &app)?;
    let first_slot = || board.read_memory(0x2005_0000 + 20, 4).unwrap_or_default();
    // The version in the header of slot 0: written with the first chunk.
    let began = || board.resets() == 1 && first_slot() == [1, 2, 3, 0];
    let run = station.run_interrupted("cut", &plan(&board, "", THROUGH), &[], began)?;
    assert_eq!(run.code, 130, "{run}");
    let reported = run.device(device(&board))?;
    assert_eq!(
        (&reported["verdict"], &reported["changed"]),
        (&"aborted".into(), &true.into()),
        "{reported:#}"
    );
    let left = device(&board).images()?;
    assert!(left.iter().all(|slot| !slot.active && !slot.holds(&app)), "no application, no image: {left:?}");

    let run = station.run("rest", &plan(&board, "starts_in: bootloader", "upload: app, reset"), &[])?;
    assert_eq!(run.code, 0, "{run}");
    assert_eq!(run.device(device(&board))?["changed"], true, "{run}");
    let running = device(&board).running()?;
    assert!(running.holds(&app) && running.slot == 0, "{running:?}");
    assert_eq!(board.resets(), 2);
    Ok(())
}

#[test]
fn fleet_recovery_tells_where_another_slot_is_booted() -> Result<()> {
    // RAM load boots the higher version of both slots, and the bootloader writes the first one only.
    let board = Board::mps2(CONFIG)?;
    let higher = Image::of_mps2(CONFIG)?.with_version(3, 0, 0, 0);
    device(&board).upload(&higher)?;
    device(&board).reset()?;
    board.wait_resets(1, SHORT)?;
    board.wait_listening(SHORT)?;
    let station = Station::new()?;
    station.image("app.bin", &Image::of_mps2(CONFIG)?.with_version(2, 0, 0, 0))?;
    let run = station.run("lower", &plan(&board, "", THROUGH), &[])?;
    assert_eq!(run.code, 100, "{run}");
    let reported = run.device(device(&board))?;
    assert_eq!(reported["verdict"], "failed", "{reported:#}");
    assert_eq!(reported["cause"]["code"], "image.other_runs", "{reported:#}");
    assert!(device(&board).running()?.holds(&higher));
    Ok(())
}

#[test]
fn fleet_recovery_tells_what_the_bootloader_would_not_boot_before_it_is_left() -> Result<()> {
    let board = Board::mps2(CONFIG)?;
    let station = Station::new()?;
    // Whole and with a right hash, but not made to be loaded into RAM.
    let app = Image::filler(4096, 9, 0);
    station.image("app.bin", &app)?;
    let steps = "reset: { boot_mode: bootloader }, upload: app, reset";
    let run = station.run(
        "bad",
        &plan(&board, "", steps).replace("quiet: 2s", "quiet: 2s, return_within: 20s"),
        &[],
    )?;
    assert_eq!(run.code, 100, "{run}");
    let reported = run.device(device(&board))?;
    assert_eq!(reported["cause"]["code"], "image.not_accepted", "{reported:#}");
    assert_eq!((device(&board).images()?.len(), board.resets()), (0, 1), "it can be given another image");
    Ok(())
}

#[test]
fn fleet_recovery_by_update_of_a_board_that_sits_there() -> Result<()> {
    let board = Board::mps2(CONFIG)?;
    device(&board).reset_into_recovery()?;
    board.wait_resets(1, SHORT)?;
    board.wait_listening(SHORT)?;
    let app = Image::of_mps2(CONFIG)?.with_version(1, 2, 4, 0);
    let station = Station::new()?;
    station.image("app.bin", &app)?;
    let image = station.path("app.bin").to_string_lossy().into_owned();
    let address = format!("tcp:{}", board.address());
    let output = std::process::Command::new(env!("CARGO_BIN_EXE_flashfleet"))
        .args(["update", &address, &image, "--recovery"])
        .output()?;
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let running = device(&board).running()?;
    assert!(running.holds(&app) && running.slot == 0, "{running:?}");
    Ok(())
}
