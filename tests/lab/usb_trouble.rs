//! Hot paths of failure on the kernel's own ports: boards that are pulled out, ports that refuse.

use std::time::{Duration, Instant};

use flashfleet::sim::{SimSpec, UsbSpec};

use crate::bench::{Bench, Boards};
use crate::error::Result;
use crate::images::Image;
use crate::report::Run;
use crate::station::Station;
use crate::truth::{assert_kept, assert_untouched, reported};
use crate::vm::Lab;

/// Runs a program as a user who may open serial ports.
const OPERATOR: &str = "exec setpriv --reuid=1000 --regid=1000 --groups=dialout";
/// Runs a program as a user who may not.
const STRANGER: &str = "exec setpriv --reuid=1001 --regid=1001 --clear-groups";
const SHORT: Duration = Duration::from_secs(60);

fn new_image() -> Image {
    Image::filler(6 * 1024, 2, 0)
}

fn spec(count: usize) -> SimSpec {
    let usb = UsbSpec { serial_number: "T{n}".to_owned(), ..UsbSpec::default() };
    // So slow that an upload takes several seconds.
    SimSpec { count, boot_ms: 1000, baud: Some(57_600), usb: Some(usb), ..SimSpec::default() }
}

fn plan(count: usize, attempts: u32) -> String {
    format!(
        "version: 1
name: trouble
images: {{ app: {{ file: new.bin }} }}
targets:
  - name: boards
    match: {{ usb: \"2fe3:0004\" }}
    link: {{ quiet: 1s, return_within: 30s }}
    discover: 20s
    expect: {count}
policy: {{ deadline: 2m, attempts: {attempts} }}
"
    )
}

/// A station with the new image, and boards that are not plugged in yet.
struct Scene<'lab> {
    station: Station<'lab>,
    bench: Bench<'lab>,
    boards: Boards,
    /// Hashes of what they run.
    old: Vec<Vec<u8>>,
}

impl<'lab> Scene<'lab> {
    fn new(lab: &'lab Lab, count: usize) -> Result<Self> {
        let (station, bench) = (Station::new(lab)?, Bench::new(lab)?);
        station.file("new.bin", new_image().bytes)?;
        let boards = bench.boards(&spec(count))?;
        let old = boards.devices().map(|board| board.running().unwrap().hash).collect();
        Ok(Self { station, bench, boards, old })
    }

    /// Plugs the boards in.
    fn attach(&mut self) -> Result<()> {
        self.bench.attach(self.boards.len())?;
        Ok(())
    }

    /// Flashes the boards in one attempt, by a command that takes another one as its arguments.
    fn run_by(&self, starter: &str, name: &str) -> Result<Run> {
        self.station.start_by(starter, name, &plan(self.boards.len(), 1), "")?.wait()
    }

    /// Fails unless every board was flashed.
    fn assert_all_kept(&self, run: &Run) -> Result<()> {
        assert_eq!((run.code, run.devices().len()), (0, self.boards.len()), "{run}");
        for ((index, board), old) in self.boards.devices().enumerate().zip(&self.old) {
            assert_kept(reported(run, &format!("T{}", index + 1))?, &board, old, &new_image());
        }
        Ok(())
    }

    /// Fails unless every board is as it was, and has a verdict of this code.
    fn assert_none_touched(&self, run: &Run, code: &str) -> Result<()> {
        assert_eq!((run.code, run.devices().len()), (102, self.boards.len()), "{run}");
        for ((index, board), old) in self.boards.devices().enumerate().zip(&self.old) {
            assert_untouched(reported(run, &format!("T{}", index + 1))?, &board, old, "error", code);
            assert_eq!((board.boots(), board.bytes_written()), (0, 0), "{run}");
        }
        Ok(())
    }
}

#[test]
fn usb_board_pulled_out_in_mid_upload_passes_once_it_is_back_and_is_an_error_otherwise() -> Result<()> {
    let lab = Lab::take()?;
    let mut scene = Scene::new(&lab, 4)?;
    scene.attach()?;
    let Scene { station, bench, boards, old } = &scene;
    let run = station.start("pulled", &plan(4, 3), "")?;
    let until = Instant::now() + SHORT;
    let (back, gone) = (1, 2);
    for index in [back, gone] {
        let board = boards.device(index);
        while board.bytes_written() < 2048 {
            assert!(Instant::now() < until, "board {index} has {} bytes", board.bytes_written());
            std::thread::sleep(Duration::from_millis(5));
        }
        assert!(board.bytes_written() < new_image().bytes.len() as u64);
        bench.bus.unplug(boards.numbers.start + index);
    }
    std::thread::sleep(Duration::from_secs(3));
    bench.bus.plug(boards.numbers.start + back);
    let run = run.wait()?;
    assert_eq!((run.code, run.devices().len()), (100, 4), "{run}");
    for index in [0, back, 3] {
        let reported = reported(&run, &format!("T{}", index + 1))?;
        assert_kept(reported, &boards.device(index), &old[index], &new_image());
        let attempts = reported["attempts"].as_u64().unwrap();
        assert_eq!(attempts > 1, index == back, "{reported:#}");
    }
    let lost = reported(&run, &format!("T{}", gone + 1))?;
    println!("{:#}", lost["cause"]);
    assert_eq!((&lost["verdict"], &lost["cause"]["class"]), (&"error".into(), &"link".into()), "{lost:#}");
    // Put back for the sake of the question what it runs: what it ran before.
    bench.bus.plug(boards.numbers.start + gone);
    bench.wait_ports(4)?;
    let board = boards.device(gone);
    while board.running().is_none() {
        assert!(Instant::now() < until + SHORT, "{:?}", board.power());
        std::thread::sleep(Duration::from_millis(50));
    }
    assert_untouched(lost, &board, &old[gone], "error", lost["cause"]["code"].as_str().unwrap());
    Ok(())
}

/// Flashes two boards whose ports refuse for 3 s whenever they appear.
fn flash_where_ports_refuse(how: &str) -> Result<()> {
    let lab = Lab::take()?;
    let mut scene = Scene::new(&lab, 2)?;
    let mut refuser = lab.start(&format!("exec python3 /lab/refuse.py {how} 3"))?;
    refuser.wait_for_line("ready", SHORT)?;
    scene.attach()?;
    scene.assert_all_kept(&scene.run_by(OPERATOR, how)?)?;
    refuser.is_over()?;
    // At the beginning and after each of two resets.
    assert_eq!(refuser.so_far().matches("refused").count(), 6, "{}", refuser.so_far());
    Ok(())
}

#[test]
fn usb_port_that_is_held_for_3_s_whenever_it_appears_is_tried_again() -> Result<()> {
    flash_where_ports_refuse("hold")
}

#[test]
fn usb_port_that_is_forbidden_for_3_s_whenever_it_appears_is_tried_again() -> Result<()> {
    flash_where_ports_refuse("forbid")
}

#[test]
fn usb_port_that_stays_forbidden_is_told_with_the_group_that_may() -> Result<()> {
    let lab = Lab::take()?;
    let mut scene = Scene::new(&lab, 2)?;
    scene.attach()?;
    let run = scene.run_by(STRANGER, "stranger")?;
    scene.assert_none_touched(&run, "station.port_denied")?;
    for board in run.devices() {
        let help = board["cause"]["help"].as_str().unwrap();
        assert!(help.contains("dialout") && help.contains("ATTRS{idVendor}==\"2fe3\""), "{help}");
    }
    Ok(())
}

#[test]
fn usb_port_that_another_process_holds_is_told_with_its_name() -> Result<()> {
    let lab = Lab::take()?;
    let mut scene = Scene::new(&lab, 2)?;
    scene.attach()?;
    let mut holder = lab.start(&format!("echo $$; {OPERATOR} python3 /lab/refuse.py hold 1000"))?;
    holder.wait_for_line("refused /dev/ttyACM1", SHORT)?;
    let holder_pid = holder.so_far().lines().next().unwrap();
    let run = scene.run_by(OPERATOR, "held")?;
    scene.assert_none_touched(&run, "station.port_busy")?;
    for board in run.devices() {
        let message = board["cause"]["message"].as_str().unwrap();
        assert!(message.contains(&format!("python3 (process {holder_pid})")), "{message}");
    }
    Ok(())
}
