//! Emulated boards: a micro:bit with a genuine MCUboot under QEMU.
//!
//! The firmware is written once, through the GDB stub, before the first instruction: QEMU's own loader device
//! would write it again at every reset and so undo each update.
//! The emulated UART stays deaf, even across a reset, once bytes reach it while no firmware listens. So `start`
//! waits for the firmware's greeting, and a board with a looping image is looked at through the monitor.

use std::io::Read;
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::time::{Duration, Instant};

use serde_json::json;
use tempfile::TempDir;

use crate::error::{Context, Result, RigError};
use crate::fixtures::{fixtures, require};
use crate::gdb::Gdb;
use crate::leash::Leash;
use crate::qmp::Qmp;

/// What the firmware prints once its kernel runs.
const GREETING: &[u8] = b"*** Booting Zephyr OS";
/// Slot 0 of the micro:bit, where whatever application was booted runs; MCUboot lies below.
const APPLICATION: std::ops::Range<u32> = 0x8000..0x8000 + 106_496;
/// Time from the greeting to an SMP server that listens.
const GREETING_TO_LISTENING: Duration = Duration::from_millis(300);

/// An emulated board, switched off when this is dropped.
#[derive(Debug)]
pub(crate) struct Board {
    qmp: Qmp,
    uart: SocketAddr,
    /// Resets that the rig itself made while it set the board up.
    setup_resets: u32,
    folder: TempDir,
    process: Leash,
}

impl Board {
    /// A micro:bit with MCUboot and the stock SMP server, booted and listening.
    pub(crate) fn microbit() -> Result<Self> {
        let fixtures = fixtures()?;
        let hex = fixtures.path(fixtures.server("qemu_cortex_m0", "serial")?)?;
        Self::microbit_with(&hex)
    }

    /// A micro:bit with the firmware of an Intel HEX file, booted and listening.
    pub(crate) fn microbit_with(hex: &Path) -> Result<Self> {
        require("qemu-system-arm", "apt-get install -y qemu-system-arm")?;
        let folder = tempfile::Builder::new().prefix("rig-board-").tempdir()?;
        let socket = |name: &str| format!("unix:{},server=on,wait=off", folder.path().join(name).display());
        let arguments = [
            "-machine",
            "microbit",
            "-cpu",
            "cortex-m0",
            "-display",
            "none",
            "-S",
            "-chardev",
            "socket,id=uart,host=127.0.0.1,port=0,server=on,wait=off",
            "-serial",
            "chardev:uart",
            "-gdb",
            &socket("gdb"),
            "-qmp",
            &socket("qmp"),
        ]
        .map(str::to_owned);
        let process = Leash::start("qemu-system-arm", &arguments, folder.path())?;
        wait_for_socket(&folder.path().join("qmp"), &process)?;
        let qmp = Qmp::connect(&folder.path().join("qmp"))?;
        let uart = uart_address(&qmp)?;

        let mut gdb = Gdb::connect(&folder.path().join("gdb"))?;
        for (address, bytes) in segments(hex)? {
            gdb.write_memory(address, &bytes)?;
        }
        // The core took its stack pointer and its first instruction from empty memory: take them again.
        qmp.execute("system_reset", json!({}))?;
        qmp.wait_resets(1, Duration::from_secs(10))?;
        let greeting = TcpStream::connect(uart).context("UART of the board")?;
        gdb.detach()?;
        let board = Self { setup_resets: qmp.resets(), qmp, uart, folder, process };
        board.wait_for_greeting(greeting)?;
        Ok(board)
    }

    /// Where the UART is served, one client at a time.
    pub(crate) fn uart(&self) -> SocketAddr {
        self.uart
    }

    /// Pulls the reset line.
    pub(crate) fn pull_reset_line(&self) -> Result<()> {
        let resets = self.qmp.resets();
        self.qmp.execute("system_reset", json!({}))?;
        self.qmp.wait_resets(resets + 1, Duration::from_secs(10))
    }

    /// How often the board was reset since `start` returned: by its firmware or by its reset line.
    pub(crate) fn resets(&self) -> u32 {
        self.qmp.resets() - self.setup_resets
    }

    /// Waits until the board was reset `count` times in all since `start` returned.
    pub(crate) fn wait_resets(&self, count: u32, within: Duration) -> Result<()> {
        self.qmp.wait_resets(count + self.setup_resets, within)
    }

    /// The address of the instruction that the core is at.
    pub(crate) fn program_counter(&self) -> Result<u32> {
        let registers = self.qmp.human("info registers")?;
        let value = registers.split("R15=").nth(1).and_then(|rest| rest.get(..8));
        value
            .and_then(|digits| u32::from_str_radix(digits, 16).ok())
            .ok_or_else(|| RigError::new(format!("no R15 in the board's registers: {registers}")))
    }

    /// Waits until the core stays within `range`, looking ten times in a row.
    pub(crate) fn wait_program_counter(&self, range: std::ops::Range<u32>, within: Duration) -> Result<()> {
        let until = Instant::now() + within;
        let mut in_a_row = 0;
        while in_a_row < 10 {
            let at = self.program_counter()?;
            in_a_row = if range.contains(&at) { in_a_row + 1 } else { 0 };
            if Instant::now() > until {
                return Err(RigError::new(format!(
                    "expected the core within {:#x}..{:#x}, found it at {at:#x}",
                    range.start, range.end
                )));
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        Ok(())
    }

    /// Waits until the application is up again after a reset. Nothing may reach the UART before. That it is one
    /// that listens, not one that hangs, is for the caller to know.
    pub(crate) fn wait_listening(&self, within: Duration) -> Result<()> {
        self.wait_program_counter(APPLICATION, within)?;
        std::thread::sleep(GREETING_TO_LISTENING);
        Ok(())
    }

    /// Reads memory, flash included, past the firmware.
    pub(crate) fn read_memory(&self, address: u32, length: usize) -> Result<Vec<u8>> {
        let file = self.folder.path().join("memory");
        // As the core sees it: the machine's physical address space of QEMU does not hold this board's flash.
        let arguments = json!({ "val": address, "size": length, "filename": file, "cpu-index": 0 });
        self.qmp.execute("memsave", arguments)?;
        Ok(std::fs::read(&file)?)
    }

    fn wait_for_greeting(&self, mut uart: TcpStream) -> Result<()> {
        let until = Instant::now() + Duration::from_secs(60);
        uart.set_read_timeout(Some(Duration::from_secs(1)))?;
        let mut seen = Vec::new();
        while !seen.windows(GREETING.len()).any(|window| window == GREETING) {
            let mut bytes = [0; 256];
            match uart.read(&mut bytes) {
                Ok(0) => break,
                Ok(count) => seen.extend_from_slice(&bytes[..count]),
                Err(_) if Instant::now() < until => {}
                Err(_) => {
                    let text = String::from_utf8_lossy(&seen);
                    let process = self.process.printed();
                    return Err(RigError::new(format!("the board did not boot; UART: {text}; QEMU: {process}")));
                }
            }
        }
        std::thread::sleep(GREETING_TO_LISTENING);
        Ok(())
    }
}

fn wait_for_socket(path: &Path, process: &Leash) -> Result<()> {
    let until = Instant::now() + Duration::from_secs(20);
    while !path.exists() {
        if Instant::now() > until {
            return Err(RigError::new(format!("QEMU did not start: {}", process.printed())));
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    Ok(())
}

/// The port that QEMU took for the UART; asking it beats guessing a free one.
fn uart_address(qmp: &Qmp) -> Result<SocketAddr> {
    let devices = qmp.execute("query-chardev", json!({}))?;
    let named = devices.as_array().into_iter().flatten().find(|device| device["label"] == "uart");
    let file = named.and_then(|device| device["filename"].as_str()).unwrap_or_default();
    file.split("tcp:")
        .nth(1)
        .and_then(|rest| rest.split(',').next()?.parse().ok())
        .ok_or_else(|| RigError::new(format!("no TCP port in QEMU's chardev {file:?}")))
}

/// The runs of bytes of an Intel HEX file, joined where they touch.
pub(crate) fn segments(path: &Path) -> Result<Vec<(u32, Vec<u8>)>> {
    let text = std::fs::read_to_string(path).context(path.display())?;
    let mut segments: Vec<(u32, Vec<u8>)> = Vec::new();
    let mut base = 0_u32;
    for record in ihex::Reader::new(&text) {
        match record.context(path.display())? {
            ihex::Record::ExtendedLinearAddress(upper) => base = u32::from(upper) << 16,
            ihex::Record::ExtendedSegmentAddress(segment) => base = u32::from(segment) << 4,
            ihex::Record::Data { offset, value } => {
                let address = base + u32::from(offset);
                match segments.last_mut() {
                    Some((start, bytes)) if *start as usize + bytes.len() == address as usize => {
                        bytes.extend(value);
                    }
                    _ => segments.push((address, value)),
                }
            }
            _ => {}
        }
    }
    Ok(segments)
}
