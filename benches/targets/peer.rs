//! The upload of an image to a real Zephyr server, against `mcumgrctl` in the same run: an MPS2 board under QEMU, behind one
//! pseudo-terminal bridge for both, with latency and without.
//!
//! The board's UART is not paced here: what is compared is how well the round trips are used. Each program is timed as a
//! whole process, in turn, after the slot was erased; of several uploads the fastest counts, as whatever else the machine
//! does can only slow one down.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use nix::sched::{CpuSet, sched_getaffinity, sched_setaffinity};
use nix::unistd::Pid;

use crate::error::RigError;
use crate::images::Image;
use crate::process::{self, Cost, PROGRAM, Station};
use crate::qemu::Board;
use crate::table::{Figure, Table, Target};
use crate::terminal::Terminal;

/// The server: MCUboot that loads into RAM, 4 buffers of 384 bytes.
const CONFIG: &str = "serial_recovery";
/// Uploads with each program, with latency …
const FAR_UPLOADS: usize = 3;
/// … and without.
const NEAR_UPLOADS: usize = 5;
/// Neither program is to be held up by its own idea of the wire: the fastest that flashfleet knows.
const BAUD: &str = "20000000";
/// The peer, as it is called where it is not named by `MCUMGRCTL`.
const PEER: &str = "mcumgrctl";
/// What the figures are about.
const PEER_VERSION: &str = "0.20";

/// The least that an upload took.
#[derive(Debug, Clone, Copy)]
struct Least {
    wall: Duration,
    cpu: Duration,
}

impl Least {
    fn of(self, cost: &Cost) -> Self {
        Self { wall: self.wall.min(cost.wall), cpu: self.cpu.min(cost.cpu) }
    }
}

/// What it took with each program, in so many uploads.
struct Pair {
    ours: Least,
    peer: Least,
    uploads: usize,
}

pub(crate) fn run(table: &mut Table) -> Result<(), String> {
    let peer = peer()?;
    let board = on_one_processor(|| Board::mps2(CONFIG))?;
    board.uart().unpace();
    let image = Image::of_mps2(CONFIG).map_err(told)?.with_version(9, 0, 0, 0);
    let station = Station::new("peer", 1)?;
    let file = station.file("mps2.bin");
    std::fs::write(&file, &image.bytes)
        .map_err(|error| format!("cannot write {}: {error}", file.display()))?;

    let latency = Duration::from_millis(20);
    let far = compare(&board, latency, &peer, &file, FAR_UPLOADS)?;
    let near = compare(&board, Duration::ZERO, &peer, &file, NEAR_UPLOADS)?;

    let bytes = image.bytes.len();
    table.add(times_faster(
        "upload to a real Zephyr behind 20 ms each way, times as fast as mcumgrctl",
        2.8,
        bytes,
        &far,
    ));
    table.add(times_faster("the same without added latency", 1.0, bytes, &near));
    table.add(Figure {
        what: "its processor time against mcumgrctl's",
        target: Some(Target::AtMost(1.0)),
        measured: near.ours.cpu.as_secs_f64() / near.peer.cpu.as_secs_f64(),
        unit: "",
        decimals: 2,
        how: format!(
            "{:?} against {:?}, whole processes, least of {} each",
            near.ours.cpu, near.peer.cpu, near.uploads
        ),
    });
    Ok(())
}

/// Starts an emulated board whose threads share one processor. Its UART holds one byte: for each, the thread of the core and the
/// one that carries bytes wake each other. Where the system happens to have them on two processors, that takes as long as these
/// take to wake up, and a request three times as long, for whoever's upload it is.
pub(super) fn on_one_processor<T>(start: impl FnOnce() -> Result<T, RigError>) -> Result<T, String> {
    let this = Pid::from_raw(0);
    let failed = |error| format!("cannot choose a processor: {error}");
    let all = sched_getaffinity(this).map_err(failed)?;
    let last = (0..CpuSet::count()).rev().find(|&processor| all.is_set(processor).unwrap_or(false));
    let mut one = CpuSet::new();
    one.set(last.unwrap_or(0)).map_err(failed)?;
    // Processes and threads have the processors of the thread that starts them.
    sched_setaffinity(this, &one).map_err(failed)?;
    let started = start().map_err(told);
    sched_setaffinity(this, &all).map_err(failed)?;
    started
}

fn times_faster<'a>(what: &'a str, at_least: f64, bytes: usize, pair: &Pair) -> Figure<'a> {
    let (ours, peer) = (pair.ours.wall.as_secs_f64(), pair.peer.wall.as_secs_f64());
    Figure {
        what,
        target: Some(Target::AtLeast(at_least)),
        measured: peer / ours,
        unit: "",
        decimals: 2,
        how: format!(
            "{bytes} bytes in {ours:.2} s against {peer:.2} s, whole processes, fastest of {} each",
            pair.uploads
        ),
    }
}

/// Uploads the file with both programs in turn, to a slot that was erased.
fn compare(
    board: &Board,
    latency: Duration,
    peer: &Path,
    file: &Path,
    uploads: usize,
) -> Result<Pair, String> {
    let terminal = Terminal::with_latency(board.uart(), latency).map_err(told)?;
    let device = format!("serial:{}", terminal.path().display());
    let most = Least { wall: Duration::MAX, cpu: Duration::MAX };
    let mut pair = Pair { ours: most, peer: most, uploads };
    for _ in 0..uploads {
        erase(&device)?;
        let mut command = Command::new(PROGRAM);
        command.args(["smp", &device, "--baud", BAUD, "image", "upload"]).arg(file);
        pair.ours = pair.ours.of(&upload(&mut command)?);
        erase(&device)?;
        let mut command = Command::new(peer);
        command
            .arg("--serial")
            .arg(terminal.path())
            .args(["--baud", BAUD, "--quiet", "image", "upload"])
            .arg(file);
        pair.peer = pair.peer.of(&upload(&mut command)?);
    }
    Ok(pair)
}

fn upload(command: &mut Command) -> Result<Cost, String> {
    process::run(command.stdout(Stdio::null()).stderr(Stdio::null()))
}

fn erase(device: &str) -> Result<(), String> {
    upload(Command::new(PROGRAM).args(["smp", device, "--baud", BAUD, "image", "erase"])).map(|_| ())
}

/// The peer's program, of the version that the figures are about.
fn peer() -> Result<PathBuf, String> {
    let program = std::env::var_os("MCUMGRCTL").map_or_else(|| PathBuf::from(PEER), PathBuf::from);
    let help = "install it with `cargo install mcumgrctl --version '~0.20'`, or name it in MCUMGRCTL";
    let said = Command::new(&program).arg("--version").output();
    let said = said.map_err(|error| format!("cannot start {}: {error}; {help}", program.display()))?;
    let said = String::from_utf8_lossy(&said.stdout).into_owned();
    if said.contains(PEER_VERSION) {
        Ok(program)
    } else {
        Err(format!("expected {PEER} {PEER_VERSION}, got {:?}; {help}", said.trim()))
    }
}

fn told(error: RigError) -> String {
    error.to_string()
}
