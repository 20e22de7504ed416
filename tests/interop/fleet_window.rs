//! Several chunks in flight to real boards: the right image is there, no board falls over, and where there is latency it
//! pays.

#![expect(clippy::print_stdout, reason = "how fast real boards are is what a person runs this for")]

use std::time::Duration;

use serde_json::Value;

use crate::console::{Head, number};
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

/// The kinds of boards, each with another UART and another bootloader.
#[derive(Debug, Clone, Copy)]
enum Kind {
    /// Swaps.
    Microbit,
    /// Loads into RAM, and does not tell.
    Mps2,
}

const MPS2: &str = "serial_recovery";

impl Kind {
    fn board(self) -> Result<Board> {
        match self {
            Self::Microbit => Board::microbit(),
            Self::Mps2 => Board::mps2(MPS2),
        }
    }

    /// What it is updated to, and how the plan calls its bootloader.
    fn update(self) -> Result<(Image, &'static str)> {
        let (image, bootloader) = match self {
            Self::Microbit => (Image::stock()?, "auto"),
            Self::Mps2 => (Image::of_mps2(MPS2)?, "ram-load"),
        };
        Ok((image.with_version(1, 2, 3, 0), bootloader))
    }
}

/// Uploads a new image to the board behind `proxy` and starts it, with this `window`. Gives the report's figures, and the
/// seconds that the upload took.
fn update(kind: Kind, board: &Board, proxy: &Proxy, window: &str) -> Result<(Value, f64)> {
    let (new, bootloader) = kind.update()?;
    let station = Station::new()?;
    station.image("new.bin", &new)?;
    let plan = format!(
        "version: 1
name: window
images: {{ app: {{ file: new.bin }} }}
targets:
  - name: board
    match: {{ tcp: [\"{}\"] }}
    bootloader: {bootloader}
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
    assert!(running.holds(&new), "{running:?}");
    assert!(running.confirmed || matches!(kind, Kind::Mps2), "{running:?}");
    let figures = device["images"][0]["upload"].clone();
    let seconds = step(device, "upload app")?["duration_s"].as_f64().unwrap_or_default();
    println!("window {window}: {figures}, {seconds:.1} s in all");
    Ok((figures, seconds))
}

/// Most requests of any kind that the board, or the way there, held at one time, by what the proxy saw.
///
/// The board answers each request that it takes, in the order in which they came. So a request that was not answered when
/// a later one was, it did not take: a byte of it was spoiled, or a line of it met no free line buffer. It held a buffer for it
/// no longer than until the next one began, and nothing else tells of that: only what was answered counts, from when it passed
/// the proxy to when its answer did.
fn most_in_flight(proxy: &Proxy) -> usize {
    held(&proxy.log())
}

fn held(log: &[(Frame, Action)]) -> usize {
    let (mut open, mut held) = (Vec::new(), Vec::new());
    for (at, (frame, action)) in log.iter().enumerate() {
        match frame.direction {
            Direction::Request if matches!(action, Action::Lose | Action::Spoil) => {}
            Direction::Request => open.push((at, frame.head.sequence)),
            Direction::Answer => {
                let sequence = frame.head.sequence;
                if let Some(first) = open.iter().position(|(_, open)| *open == sequence)
                    && let Some((since, _)) = open.drain(..=first).next_back()
                {
                    held.push(since..at);
                }
            }
        }
    }
    let at_once = |at: usize| held.iter().filter(|held| held.contains(&at)).count();
    held.iter().map(|one| at_once(one.start)).max().unwrap_or(0)
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
        let (figures, _) = update(Kind::Microbit, &board, &proxy, window)?;
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
    let (figures, _) = update(Kind::Microbit, &board, &proxy, "auto")?;
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

/// Uploads through one frame in so many lost or spoiled: the right image runs, and the board never got too much.
fn survives(kind: Kind, one_in: u32, bad: Action) -> Result<()> {
    let board = kind.board()?;
    let proxy = Proxy::start(board.address(), trouble(one_in, bad))?;
    let (_, seconds) = update(kind, &board, &proxy, "auto")?;
    assert!(proxy.lost() > 0 || bad == Action::Spoil);
    let most = most_in_flight(&proxy);
    println!("{kind:?}, one in {one_in}, {bad:?}: at most {most} with the board, {seconds:.1} s");
    assert!(most <= BUFFERS, "one in {one_in}, {bad:?}: {most}");
    assert_eq!(out_of_memory(&proxy), 0, "the board says itself whether it got more than it has buffers for");
    // Fifty losses at the proven time of 2.5 s would take two minutes.
    assert!(seconds < 60.0, "{seconds}");
    Ok(())
}

#[test]
fn fleet_window_holds_where_frames_are_lost_and_spoiled() -> Result<()> {
    for (one_in, bad) in [(100, Action::Lose), (20, Action::Lose), (100, Action::Spoil), (20, Action::Spoil)]
    {
        survives(Kind::Microbit, one_in, bad)?;
    }
    Ok(())
}

#[test]
fn fleet_window_holds_where_frames_to_another_board_are_lost() -> Result<()> {
    survives(Kind::Mps2, 100, Action::Lose)?;
    survives(Kind::Mps2, 20, Action::Lose)
}

#[test]
fn fleet_window_holds_where_frames_to_another_board_are_spoiled() -> Result<()> {
    survives(Kind::Mps2, 100, Action::Spoil)?;
    survives(Kind::Mps2, 20, Action::Spoil)
}

/// What the count is made of, on logs of which is known what the board held.
#[test]
fn requests_that_the_board_did_not_take_do_not_count_as_held() {
    let log = |text: &str| {
        let frames = text.split_whitespace().map(|word| {
            let (kind, sequence) = word.split_at(1);
            let sequence = sequence.parse().unwrap();
            let head = Head { op: 2, version: 1, group: 1, command: 1, sequence };
            let direction = if kind == "a" { Direction::Answer } else { Direction::Request };
            let frame = Frame { direction, head, message: Vec::new(), index: 1, occurrence: 1 };
            (frame, if kind == "s" { Action::Spoil } else { Action::Pass })
        });
        held(&frames.collect::<Vec<_>>())
    };
    assert_eq!(log("r1 a1 r2 a2"), 1);
    assert_eq!(log("r1 r2 r3 a1 r4 a2 a3 a4"), 3);
    assert_eq!(log("r1 r2 r3 r4 a1 a2 a3 a4"), 4, "too many, and all were taken");
    assert_eq!(log("r1 s2 r3 r4 a1 a3 a4"), 3);
    assert_eq!(
        log("r1 r2 r3 r1 a2 a3 a1"),
        3,
        "the first one was not taken, as its answer came after theirs"
    );
    assert_eq!(log("r1 r2 r3 r1 a1 a2 a3 a1"), 4, "it was, and its repeat was one too many");
    assert_eq!(log("r1 r2 r3 r1"), 0, "nothing was taken");
}
