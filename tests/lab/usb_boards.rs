//! Real boards on the guest's USB: MCUboot and Zephyr under QEMU behind a simulated CP210x, which stays on the bus while
//! the board behind it is reset.

use std::time::Duration;

use flashfleet::sim::{UsbKind, UsbSpec};

use crate::bench::Bench;
use crate::error::Result;
use crate::images::Image;
use crate::qemu::Board;
use crate::readback::Device;
use crate::station::Station;
use crate::truth::reported;
use crate::vm::Lab;

/// A board that was reset by its line listens again well within this, whatever else the machine does.
const BOOT: Duration = Duration::from_secs(60);
const BOARDS: usize = 2;

const PLAN: &str = "version: 1
name: bridges
images: { app: { file: new.bin } }
targets:
  - name: boards
    match: { usb: \"10c4:ea60\", serial_number: \"MB.*\" }
    link: { quiet: 2s, return_within: 60s }
    discover: 20s
    expect: 2
policy: { deadline: 4m }
";

/// Fails unless the board runs `image` for good, as it says to a client that is not flashfleet.
fn assert_runs(board: &Board, image: &Image) -> Result<()> {
    board.wait_listening(BOOT)?;
    let running = Device::Tcp(board.address()).running()?;
    assert!(running.holds(image) && running.confirmed, "{running:?}");
    Ok(())
}

#[test]
fn usb_real_boards_behind_bridges_are_updated_and_stay_so() -> Result<()> {
    let lab = Lab::take()?;
    let (station, mut bench) = (Station::new(&lab)?, Bench::new(&lab)?);
    let (old, new) = (Image::stock()?, Image::stock()?.with_version(1, 2, 3, 0));
    station.file("new.bin", &new.bytes)?;
    let boards = Board::fleet(BOARDS)?;
    for (number, board) in boards.iter().enumerate() {
        bench.bridge(UsbSpec {
            kind: UsbKind::Cp210x,
            serial_number: format!("MB{number}"),
            bridge: Some(format!("tcp:{}", board.address())),
            ..UsbSpec::default()
        })?;
    }
    let before = bench.attach(BOARDS)?;
    assert!(before.iter().all(|port| port.driver == "cp210x"), "{before:#?}");
    let run = station.run("bridges", PLAN, "")?;
    assert_eq!((run.code, &run.report["summary"]["passed"]), (0, &BOARDS.into()), "{run}");
    assert_eq!(bench.ports()?, before);
    for (number, board) in boards.iter().enumerate() {
        let reported = reported(&run, &format!("MB{number}"))?;
        assert_eq!(
            (&reported["verdict"], &reported["changed"]),
            (&"passed".into(), &true.into()),
            "{reported:#}"
        );
        let image = &reported["images"][0];
        assert_eq!(image["before"]["hash"], hex::encode(old.hash()), "{reported:#}");
        assert_eq!(image["after"]["hash"], hex::encode(new.hash()), "{reported:#}");
        assert_eq!(image["upload"]["bytes"], new.bytes.len(), "{reported:#}");
        // One for the test boot, one after the confirm, and none besides; both kept quiet until the firmware listened.
        assert_eq!((board.resets(), board.uart().unheard()), (2, 0), "{reported:#}");
        assert_eq!(bench.bus.board(number).enumerations, 1);
    }

    // The boards' lines are free once the bridges are gone.
    drop(bench);
    boards.iter().try_for_each(|board| assert_runs(board, &new))?;
    boards.iter().try_for_each(Board::pull_reset_line)?;
    boards.iter().try_for_each(|board| assert_runs(board, &new))
}
