//! Boards whose slots somebody left in disorder: each is put in order with the resets that it takes, and no more.

use serde_json::Value;

use crate::error::Result;
use crate::fleet_run::{Run, Station, step};
use crate::fleet_trace;
use crate::images::Image;
use crate::qemu::Board;
use crate::readback::Device;

/// Slots of the micro:bit, bytes; source: its slot information.
const SLOT_SIZE: usize = 106_496;

/// One target per board with these steps.
fn plan(name: &str, boards: &[Board], steps: &[&str]) -> String {
    let targets = boards.iter().zip(steps).enumerate().map(|(index, (board, steps))| {
        format!(
            "  - {{ name: board-{index}, match: {{ tcp: [\"{}\"] }}, link: {{ quiet: 2s }}, steps: [{steps}] }}\n",
            board.address()
        )
    });
    format!(
        "version: 1
name: {name}
images: {{ app: {{ file: app.bin }}, other: {{ file: other.bin }}, huge: {{ file: huge.bin }} }}
targets:
{}policy: {{ deadline: 4m }}
",
        targets.collect::<String>()
    )
}

fn device(board: &Board) -> Device {
    Device::Tcp(board.address())
}

fn notes<'a>(run: &'a Run, board: &Board, name: &str) -> Result<Vec<&'a str>> {
    let detail = &step(run.device(device(board))?, name)?["detail"];
    Ok(detail["notes"].as_array().into_iter().flatten().filter_map(Value::as_str).collect())
}

#[test]
fn fleet_slots_in_disorder_are_settled_with_as_few_resets_as_it_takes() -> Result<()> {
    let boards = Board::fleet(5)?;
    let [wanted_on_test, other_on_test, other_pending, other_for_good, other_erased] = &boards[..] else {
        unreachable!()
    };
    let app = Image::stock()?.with_version(1, 2, 3, 0);
    let other = Image::stock()?.with_version(1, 9, 0, 0);
    let station = Station::new()?;
    station.image("app.bin", &app)?;
    station.image("other.bin", &other)?;
    station.image("huge.bin", &Image::filler(SLOT_SIZE, 2, 0))?;

    let on_test = ["upload: app, test-boot", "upload: other, test-boot"];
    let uploaded = ["upload: other"; 3];
    let disorder = [&on_test[..], &uploaded].concat();
    let run = station.run("disorder", &plan("disorder", &boards, &disorder), &[])?;
    assert_eq!(run.code, 0, "{run}");
    for board in [other_pending, other_erased] {
        assert!(device(board).test(&other)?.iter().any(|slot| slot.holds(&other) && slot.pending));
    }
    let slots = device(other_for_good).confirm_unseen(&other)?;
    assert!(slots.iter().any(|slot| slot.holds(&other) && slot.pending && slot.permanent), "{slots:?}");
    assert_eq!(boards.iter().map(Board::resets).collect::<Vec<_>>(), [1, 1, 0, 0, 0]);

    let mut order = ["upload: app, test-boot, confirm, reset"; 5];
    order[4] = "erase: { slot: 1 }, upload: app, test-boot, confirm, reset";
    let run = station.run("order", &plan("order", &boards, &order), &[])?;
    assert_eq!(run.code, 0, "{run}");
    for board in &boards {
        let reported = run.device(device(board))?;
        assert_eq!(
            (&reported["verdict"], &reported["changed"]),
            (&"passed".into(), &true.into()),
            "{reported:#}"
        );
        let running = device(board).running()?;
        assert!(running.holds(&app) && running.confirmed, "{running:?}");
        assert_eq!(board.uart().unheard(), 0);
    }
    // Only the last step's reset: it ran already, and was only to be confirmed.
    assert_eq!(wanted_on_test.resets() - 1, 1);
    assert_eq!(run.device(device(wanted_on_test))?["images"][0]["upload"], Value::Null);
    // Back to the stock image, then as always.
    assert_eq!(other_on_test.resets() - 1, 1 + 2);
    assert_eq!(notes(&run, other_on_test, "upload app")?.len(), 1, "{run}");
    // Into the other image, back to the stock image, then as always.
    assert_eq!(other_pending.resets(), 2 + 2);
    assert_eq!(notes(&run, other_pending, "upload app")?.len(), 2, "{run}");
    // Into the other image, which stays, then as always.
    assert_eq!(other_for_good.resets(), 1 + 2);
    assert_eq!(run.device(device(other_for_good))?["images"][0]["after"]["hash"], hex::encode(app.hash()));

    // A pending image that is erased is pending no more.
    assert_eq!(other_erased.resets(), 2);
    assert_eq!(step(run.device(device(other_erased))?, "erase slot 1")?["verdict"], "passed", "{run}");
    assert!(notes(&run, other_erased, "upload app")?.is_empty(), "{run}");

    // What does not fit is refused before a byte of it is sent.
    let before = device(wanted_on_test).images()?;
    let trace = station.path("trace");
    let huge = plan("huge", &boards[..1], &["upload: huge"]);
    let run = station.run("huge", &huge, &["--trace", &trace.to_string_lossy()])?;
    assert_eq!(run.code, 100, "{run}");
    let reported = run.device(device(wanted_on_test))?;
    assert_eq!(
        (&reported["verdict"], &reported["changed"]),
        (&"failed".into(), &false.into()),
        "{reported:#}"
    );
    assert_eq!(reported["cause"]["code"], "image.too_large", "{reported:#}");
    let logs = fleet_trace::read(&trace)?;
    assert_eq!(logs.iter().map(|log| log.requests(2, 1, 1)).collect::<Vec<_>>(), [0]);
    assert_eq!(device(wanted_on_test).images()?, before);
    Ok(())
}
