//! Several chunks in flight to real boards: the right image is there, no board falls over, and where there is latency it
//! pays.

#![expect(clippy::print_stdout, reason = "how fast real boards are is what a person runs this for")]

use std::time::Duration;

use serde_json::Value;

use crate::console::number;
use crate::error::Result;
use crate::fleet_run::{Station, step};
use crate::images::Image;
use crate::proxy::{Action, Direction, Frame, Proxy, latency};
use crate::qemu::Board;
use crate::readback::Device;

/// Each way.
const LATENCY: Duration = Duration::from_millis(20);
/// The board has four buffers: one for an answer, three for requests.
const BUFFERS: usize = 3;

/// Uploads a new image to the board behind `proxy` and starts it, with this `window`. Gives the report's figures, and the
/// seconds that the upload took.
fn update(board: &Board, proxy: &Proxy, window: &str) -> Result<(Value, f64)> {
    let new = Image::stock()?.with_version(1, 2, 3, 0);
    let station = Station::new()?;
    station.image("new.bin", &new)?;
    let plan = format!(
        "version: 1
name: window
images: {{ app: {{ file: new.bin }} }}
targets:
  - name: board
    match: {{ tcp: [\"{}\"] }}
    link: {{ quiet: 2s, return_within: 60s, window: {window} }}
policy: {{ deadline: 4m }}
",
        proxy.address()
    );
    let run = station.run("window", &plan, &[])?;
    assert_eq!(run.code, 0, "{run}");
    let device = run.device(format!("tcp:{}", proxy.address()))?;
    assert_eq!((&device["verdict"], &device["attempts"]), (&"passed".into(), &1.into()), "{device:#}");
    assert_eq!(board.resets(), 2, "one for the test boot, one after the confirm: {device:#}");
    let running = Device::Tcp(board.address()).running()?;
    assert!(running.holds(&new) && running.confirmed, "{running:?}");
    let figures = device["images"][0]["upload"].clone();
    let seconds = step(device, "upload app")?["duration_s"].as_f64().unwrap_or_default();
    println!("window {window}: {figures}, {seconds:.1} s in all");
    Ok((figures, seconds))
}

/// Most upload requests that were on their way, or with the board, at one time, by what the proxy saw. The board answers
/// in order: what came before an answered request is over, was it answered or not.
fn most_in_flight(proxy: &Proxy) -> usize {
    let (mut open, mut most) = (Vec::new(), 0);
    for (frame, action) in proxy.log() {
        if (frame.head.group, frame.head.command) != (1, 1) {
            continue;
        }
        match frame.direction {
            Direction::Request if matches!(action, Action::Lose | Action::Spoil) => {}
            Direction::Request => open.push(frame.head.sequence),
            Direction::Answer => {
                if let Some(first) = open.iter().position(|sequence| *sequence == frame.head.sequence) {
                    open.drain(..=first);
                }
            }
        }
        most = most.max(open.len());
    }
    most
}

/// How often the board answered an upload request with `MGMT_ERR_ENOMEM`: a request too many took its last buffer.
fn out_of_memory(proxy: &Proxy) -> usize {
    let answers = proxy.log().into_iter().filter(|(frame, _)| {
        frame.direction == Direction::Answer && (frame.head.group, frame.head.command) == (1, 1)
    });
    answers.filter(|(frame, _)| number(&frame.message, "rc") == Some(2)).count()
}

#[test]
fn fleet_window_pays_where_there_is_latency() -> Result<()> {
    let mut rates = Vec::new();
    for window in ["1", "auto"] {
        let board = Board::microbit()?;
        let proxy = Proxy::start(board.address(), latency(LATENCY))?;
        let (figures, _) = update(&board, &proxy, window)?;
        assert_eq!(figures["window"], if window == "1" { 1 } else { BUFFERS }, "{figures}");
        // A chunk that is sent again early counts too.
        assert!(most_in_flight(&proxy) <= BUFFERS, "{}", most_in_flight(&proxy));
        rates.push(figures["bytes_per_s"].as_f64().unwrap_or_default());
    }
    let ratio = rates[1] / rates[0];
    println!("{ratio:.2} times as fast");
    // About three on a quiet machine; an emulated board on a busy one is not limited by the latency alone.
    assert!(ratio > 1.5, "{rates:?}");
    Ok(())
}

#[test]
fn fleet_window_is_safe_without_latency() -> Result<()> {
    let board = Board::microbit()?;
    let proxy = Proxy::start(board.address(), |_| Action::Pass)?;
    let (figures, _) = update(&board, &proxy, "auto")?;
    assert!(figures["window"].as_u64() <= Some(BUFFERS as u64), "{figures}");
    assert!(most_in_flight(&proxy) <= BUFFERS);
    Ok(())
}

/// Loses or spoils one frame in so many, both ways, evenly spread.
fn trouble(one_in: u32, bad: Action) -> impl FnMut(&Frame) -> Action + Send {
    move |frame| {
        // Not the same place in both directions, and not the first, which would wait for the slowest erase.
        let turn = match frame.direction {
            Direction::Request => frame.index % one_in == one_in / 2,
            Direction::Answer => frame.index % one_in == one_in - 1,
        };
        // A lost reset would be another test.
        let upload = (frame.head.group, frame.head.command) == (1, 1);
        if turn && upload && frame.occurrence > 1 { bad } else { Action::Hold(Duration::from_millis(5)) }
    }
}

#[test]
fn fleet_window_holds_where_frames_are_lost_and_spoiled() -> Result<()> {
    for (one_in, bad) in [(100, Action::Lose), (20, Action::Lose), (100, Action::Spoil), (20, Action::Spoil)]
    {
        let board = Board::microbit()?;
        let proxy = Proxy::start(board.address(), trouble(one_in, bad))?;
        let (_, seconds) = update(&board, &proxy, "auto")?;
        assert!(proxy.lost() > 0 || bad == Action::Spoil);
        assert_eq!(
            out_of_memory(&proxy),
            0,
            "the board says itself whether it got more than it has buffers for"
        );
        // Fifty losses at the proven time of 2.5 s would take two minutes.
        assert!(seconds < 60.0, "{seconds}");
    }
    Ok(())
}
