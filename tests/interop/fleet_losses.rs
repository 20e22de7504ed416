//! Answers that get lost on the way: once in twenty, and exactly the one that matters. Every board passes, and was reset
//! no more often than if nothing had been lost. And runs that are cut off in an upload: the next one goes on from there.

use serde_json::Value;

use crate::error::Result;
use crate::fleet_run::{Station, step};
use crate::images::Image;
use crate::proxy::{Action, Direction, Proxy, lose_every_answer, lose_last_upload_answer, lose_reset_answer};
use crate::qemu::Board;
use crate::readback::Device;

/// How many resets a board gets from the default steps: one for the test boot, one after the confirm.
const RESETS: u32 = 2;

#[test]
fn fleet_recovers_from_lost_answers_without_another_reset() -> Result<()> {
    let boards = Board::fleet(3)?;
    let proxies = [
        Proxy::start(boards[0].address(), lose_every_answer(20))?,
        Proxy::start(boards[1].address(), lose_reset_answer())?,
        Proxy::start(boards[2].address(), lose_last_upload_answer())?,
    ];
    let [every_twentieth, of_the_reset, last_of_the_upload] = &proxies;
    let new = Image::stock()?.with_version(1, 2, 3, 0);
    let station = Station::new()?;
    station.image("new.bin", &new)?;
    let addresses: Vec<String> = proxies.iter().map(|proxy| format!("\"{}\"", proxy.address())).collect();
    let plan = format!(
        "version: 1
name: losses
images: {{ app: {{ file: new.bin }} }}
targets:
  - name: boards
    match: {{ tcp: [{}] }}
    link: {{ quiet: 2s, return_within: 60s }}
policy: {{ deadline: 4m }}
",
        addresses.join(", ")
    );
    let run = station.run("losses", &plan, &[])?;
    assert_eq!(run.code, 0, "{run}");
    let reported = |proxy: &Proxy| run.device(format!("tcp:{}", proxy.address()));
    for (board, proxy) in boards.iter().zip(&proxies) {
        let device = reported(proxy)?;
        // Not even an attempt was lost.
        assert_eq!((&device["verdict"], &device["attempts"]), (&"passed".into(), &1.into()), "{device:#}");
        assert_eq!(board.resets(), RESETS, "{device:#}");
        assert_eq!(board.uart().unheard(), 0);
        assert_eq!(proxy.count(Direction::Request, 2, 0, 5), RESETS as usize, "a reset was sent again");
        let running = Device::Tcp(board.address()).running()?;
        assert!(running.holds(&new) && running.confirmed, "{running:?}");
    }

    let uploads = every_twentieth.count(Direction::Request, 2, 1, 1);
    assert!(every_twentieth.lost() >= uploads / 20 && uploads > 100, "{uploads} chunks");
    // The answer to a later chunk tells what a lost one would have: hardly anything goes twice. Where the machine pauses for
    // longer than round trips took before, a chunk goes once more than the losses ask for.
    let figures = &reported(every_twentieth)?["images"][0]["upload"];
    let most = every_twentieth.lost() + uploads / 20;
    assert!(figures["resent"].as_u64() <= Some(most as u64), "{figures} of {uploads} chunks");

    assert_eq!(of_the_reset.lost(), 1);

    assert_eq!(last_of_the_upload.lost(), 1);
    let device = reported(last_of_the_upload)?;
    let notes = step(device, "upload app")?["detail"]["notes"].as_array().into_iter().flatten();
    assert!(
        notes.filter_map(Value::as_str).any(|note| note.contains("the last answer was lost")),
        "{device:#}"
    );
    Ok(())
}

#[test]
fn fleet_an_interrupted_upload_goes_on_where_it_was() -> Result<()> {
    const ENOUGH: usize = 60;
    let board = Board::microbit()?;
    let proxy = Proxy::start(board.address(), |_| Action::Pass)?;
    let new = Image::stock()?.with_version(1, 2, 3, 0);
    let station = Station::new()?;
    station.image("new.bin", &new)?;
    let plan = format!(
        "version: 1
name: patience
images: {{ app: {{ file: new.bin }} }}
targets:
  - name: board
    match: {{ tcp: [\"{}\"] }}
    link: {{ quiet: 2s, return_within: 60s }}
",
        proxy.address()
    );
    let chunks = || proxy.count(Direction::Request, 2, 1, 1);
    let cut = station.run_interrupted("cut", &plan, &[], || chunks() >= ENOUGH)?;
    assert_eq!(cut.code, 130, "{cut}");
    let device = cut.device(format!("tcp:{}", proxy.address()))?;
    assert_eq!((&device["verdict"], &device["changed"]), (&"aborted".into(), &true.into()), "{device:#}");
    assert_eq!(step(device, "upload app")?["verdict"], "aborted", "{device:#}");
    let sent = chunks();
    assert_eq!(board.resets(), 0);

    let run = station.run("whole", &plan, &[])?;
    assert_eq!(run.code, 0, "{run}");
    let device = run.device(format!("tcp:{}", proxy.address()))?;
    let notes = step(device, "upload app")?["detail"]["notes"].as_array().into_iter().flatten();
    assert!(notes.filter_map(Value::as_str).any(|note| note.contains("resumed at byte")), "{device:#}");
    // The first chunk again, which asks where to go on, and then only what was missing.
    let whole = new.bytes.len() / 300;
    assert!(
        chunks() <= whole + 10 && chunks() > sent,
        "{sent} and {} chunks, about {whole} needed",
        chunks()
    );
    assert_eq!(board.resets(), RESETS);
    let running = Device::Tcp(board.address()).running()?;
    assert!(running.holds(&new) && running.confirmed, "{running:?}");
    Ok(())
}
