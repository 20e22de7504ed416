//! Hot paths of failure on the kernel's own ports: boards that are pulled out, ports that refuse.

use std::io::{Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
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

/// Longer than the kernel waits for an answer (`USB_CTRL_SET_TIMEOUT`, 5 s).
const LATE: Duration = Duration::from_secs(8);
/// Bytes of a `USBIP_CMD_SUBMIT` without data; its last 8 are the setup packet (Linux, `Documentation/usb/usbip_protocol.rst`).
const SUBMIT: usize = 48;
/// How a `SET_CONFIGURATION` begins (USB 2.0, 9.4.7).
const SET_CONFIGURATION: [u8; 2] = [0x00, 0x09];

/// Passes connections on to the bus at `bus`, and gives the port for them. Of the first board that is imported it passes
/// nothing on for [`LATE`], once it is to be configured.
fn hold_up_once(bus: SocketAddr) -> Result<u16> {
    let listener = TcpListener::bind(("127.0.0.1", 0))?;
    let port = listener.local_addr()?.port();
    let first = Arc::new(AtomicBool::new(true));
    let pass = move |mut host: TcpStream, first: &AtomicBool| -> std::io::Result<()> {
        let mut board = TcpStream::connect(bus)?;
        let (mut to_host, mut from_board) = (host.try_clone()?, board.try_clone()?);
        std::thread::spawn(move || {
            let _ = std::io::copy(&mut from_board, &mut to_host);
            let _ = to_host.shutdown(Shutdown::Both);
        });
        // Version, then `OP_REQ_IMPORT` or `OP_REQ_DEVLIST`, then the status; an import names the board in 32 bytes.
        let mut request = [0; 8];
        host.read_exact(&mut request)?;
        board.write_all(&request)?;
        if request[2..4] == [0x80, 0x03] && first.swap(false, Ordering::SeqCst) {
            let mut busid = [0; 32];
            host.read_exact(&mut busid)?;
            board.write_all(&busid)?;
            let mut submit = [0; SUBMIT];
            loop {
                host.read_exact(&mut submit)?;
                if submit[SUBMIT - 8..].starts_with(&SET_CONFIGURATION) {
                    std::thread::sleep(LATE);
                    break board.write_all(&submit)?;
                }
                board.write_all(&submit)?;
            }
        }
        let ended = std::io::copy(&mut host, &mut board);
        let _ = board.shutdown(Shutdown::Both);
        ended.map(drop)
    };
    std::thread::spawn(move || {
        // Until the test process ends.
        for host in listener.incoming().flatten() {
            let first = Arc::clone(&first);
            std::thread::spawn(move || pass(host, &first));
        }
    });
    Ok(port)
}

/// As where this machine is so busy that an answer is late: the kernel leaves such a board as it is, without a port.
#[test]
fn usb_board_that_the_kernel_gives_up_on_is_plugged_in_again() -> Result<()> {
    let lab = Lab::take()?;
    let Scene { bench, boards, .. } = &mut Scene::new(&lab, 2)?;
    let start = Instant::now();
    let port = hold_up_once(bench.bus.address())?;
    lab.run("dmesg --clear")?;
    let ports = bench.attach_through(port, 2)?;
    println!("both there after {:.1} s", start.elapsed().as_secs_f64());
    let log = lab.run("dmesg | grep -v unlink")?;
    println!("{log}");
    assert!(log.contains("can't set config #1, error -110"), "the kernel did not give up");
    assert!(ports.iter().all(|port| port.driver == "cdc_acm"), "{ports:#?}");
    let state = |bench: &Bench, index| bench.bus.board(boards.numbers.start + index);
    let (first, second) = (state(bench, 0), state(bench, 1));
    assert_eq!((first.enumerations, second.enumerations), (2, 1), "{first:?} {second:?}");
    assert_eq!((bench.pulled(&first.busid)?, bench.pulled(&second.busid)?), (1, 0));
    Ok(())
}
