//! Boards that go back: an image that nobody confirmed, and images that cannot run. Whatever the report says, the old
//! firmware is what must run in the end.

use std::time::Duration;

use serde_json::Value;

use crate::error::Result;
use crate::fleet_run::{Station, step};
use crate::images::{Image, SLOT_0};
use crate::qemu::Board;
use crate::readback::Device;

const BOOT: Duration = Duration::from_secs(60);

/// Fails where the board does not run `image` for good, as it says to a client that is not flashfleet.
fn assert_runs_confirmed(board: &Board, image: &Image) -> Result<()> {
    let running = Device::Tcp(board.address()).running()?;
    assert!(running.holds(image) && running.confirmed, "{running:?}");
    Ok(())
}

#[test]
fn fleet_without_confirm_reverts_at_the_next_reset() -> Result<()> {
    let board = Board::microbit()?;
    let old = Image::stock()?;
    let new = old.clone().with_version(1, 2, 3, 0);
    let station = Station::new()?;
    station.image("new.bin", &new)?;
    let plan = format!(
        "version: 1
name: trial
images: {{ app: {{ file: new.bin }} }}
targets:
  - name: bench
    match: {{ tcp: [\"{}\"] }}
    link: {{ quiet: 2s }}
    steps: [upload: app, test-boot]
",
        board.address()
    );
    let run = station.run("trial", &plan, &[])?;
    assert_eq!(run.code, 0, "{run}");
    let device = run.device(Device::Tcp(board.address()))?;
    assert_eq!((&device["verdict"], &device["on_test"]), (&"passed".into(), &true.into()), "{device:#}");
    assert_eq!(device["images"][0]["after"]["hash"], hex::encode(new.hash()), "{device:#}");
    assert_eq!(device["images"][0]["after"]["confirmed"], false, "{device:#}");
    assert_eq!(run.report["summary"]["on_test"], 1, "{run}");
    let warning = "on test: reverts at the next reset";
    assert!(run.said.contains(warning) && run.junit.contains(warning), "{run}\n{}", run.junit);
    assert_eq!(board.resets(), 1);
    let running = Device::Tcp(board.address()).running()?;
    assert!(running.holds(&new) && !running.confirmed, "{running:?}");

    board.pull_reset_line()?;
    board.wait_listening(BOOT)?;
    assert_runs_confirmed(&board, &old)
}

/// Three boards in one run: what goes wrong on two of them is none of the third one's business.
#[test]
fn fleet_bad_images_are_told_apart_and_harm_nobody() -> Result<()> {
    let [resetting, hanging, healthy] = <[Board; 3]>::try_from(Board::fleet(3)?).expect("three boards");
    let old = Image::stock()?;
    let (resets, hangs) = (
        old.clone().with_version(2, 0, 0, 0).that_resets(),
        old.clone().with_version(2, 0, 0, 0).that_hangs(),
    );
    let good = old.clone().with_version(1, 2, 3, 0);
    let station = Station::new()?;
    for (name, image) in [("resets.bin", &resets), ("hangs.bin", &hangs), ("good.bin", &good)] {
        station.image(name, image)?;
    }
    let target = |name: &str, board: &Board| {
        format!(
            "  - name: {name}
    match: {{ tcp: [\"{}\"] }}
    link: {{ quiet: 2s, return_within: 20s }}
    steps: [upload: {name}, test-boot, confirm, reset]
",
            board.address()
        )
    };
    // More attempts change nothing: what a device refused it gets once.
    let plan = format!(
        "version: 1
name: bad
images: {{ resets: {{ file: resets.bin }}, hangs: {{ file: hangs.bin }}, good: {{ file: good.bin }} }}
targets:
{}{}{}policy: {{ attempts: 3, deadline: 4m }}
",
        target("resets", &resetting),
        target("hangs", &hanging),
        target("good", &healthy)
    );
    let run = station.run("bad", &plan, &[])?;
    assert_eq!(run.code, 100, "{run}");
    let summary = &run.report["summary"];
    assert_eq!((&summary["passed"], &summary["failed"]), (&1.into(), &2.into()), "{run}");
    for (board, upload, code) in
        [(&resetting, "upload resets", "image.reverted"), (&hanging, "upload hangs", "device.never_returned")]
    {
        let device = run.device(Device::Tcp(board.address()))?;
        assert_eq!((&device["verdict"], &device["changed"]), (&"failed".into(), &true.into()), "{device:#}");
        assert_eq!((&device["cause"]["code"], &device["attempts"]), (&code.into(), &1.into()), "{device:#}");
        assert_eq!(step(device, upload)?["verdict"], "passed", "{device:#}");
        assert_eq!(step(device, "test-boot")?["verdict"], "failed", "{device:#}");
        for unreached in ["confirm", "reset"] {
            assert_eq!(step(device, unreached)?["verdict"], Value::Null, "{device:#}");
        }
    }
    assert_eq!(run.device(Device::Tcp(healthy.address()))?["verdict"], "passed", "{run}");
    assert_eq!(healthy.resets(), 2);
    assert_runs_confirmed(&healthy, &good)?;

    // Once into the bad image, once out of it.
    assert_eq!(resetting.resets(), 2);
    assert_eq!(resetting.uart().unheard(), 0);
    assert_runs_confirmed(&resetting, &old)?;

    // The bad image has the board, and hears nothing: what it is said to run is what it runs.
    assert_eq!(hanging.resets(), 1);
    hanging.wait_program_counter(hangs.entry()..hangs.entry() + 2, BOOT)?;
    assert_eq!(hanging.read_memory(SLOT_0, 0x200)?, hangs.bytes[..0x200]);
    hanging.pull_reset_line()?;
    hanging.wait_listening(BOOT)?;
    assert_runs_confirmed(&hanging, &old)
}
