//! Emulated boards with a genuine MCUboot under QEMU: a micro:bit that swaps, an MPS2 that loads into RAM and has serial
//! recovery.
//!
//! The firmware is written once, through the GDB stub, before the first instruction: QEMU's own loader device
//! would write it again at every reset and so undo each update.
//! Starting boards and looking into them lives here; their UART is in `uart.rs`.

use std::net::SocketAddr;
use std::ops::Range;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::json;
use tempfile::TempDir;

use crate::error::{Context, Result, RigError};
use crate::fixtures::{fixtures, require};
use crate::gdb::Gdb;
use crate::images::Image;
use crate::leash::Leash;
use crate::qmp::Qmp;
use crate::uart::{CMSDK, NRF51, Receiver, Uart, listens};

/// A board boots in about 30 ms of its own time; a machine that runs many has less for each.
const BOOT: Duration = Duration::from_secs(60);

/// Where the MPS2's servers have their slots: its flash is simulated in RAM, which outlives a reset.
const MPS2_SLOTS: [u32; 2] = [0x2005_0000, 0x200d_0000];

/// A board as QEMU knows it.
#[derive(Debug, Clone, Copy)]
struct Machine {
    name: &'static str,
    core: &'static str,
    receiver: Receiver,
}

const MICROBIT: Machine = Machine { name: "microbit", core: "cortex-m0", receiver: NRF51 };
const MPS2: Machine = Machine { name: "mps2-an385", core: "cortex-m3", receiver: CMSDK };

/// An emulated board, switched off when this is dropped.
#[derive(Debug)]
pub(crate) struct Board {
    qmp: Arc<Qmp>,
    uart: Uart,
    /// Resets that the rig itself made while it set the board up.
    setup_resets: u32,
    folder: TempDir,
    process: Leash,
    machine: Machine,
}

impl Board {
    /// A micro:bit with MCUboot and the stock SMP server, booted and listening.
    pub(crate) fn microbit() -> Result<Self> {
        let fixtures = fixtures()?;
        let hex = fixtures.path(fixtures.server("qemu_cortex_m0", "serial")?)?;
        Self::microbit_with(&hex)
    }

    /// So many of them at once.
    pub(crate) fn fleet(count: usize) -> Result<Vec<Self>> {
        std::thread::scope(|scope| {
            let starts: Vec<_> = (0..count).map(|_| scope.spawn(Self::microbit)).collect();
            starts.into_iter().map(|start| start.join().unwrap()).collect()
        })
    }

    /// A micro:bit with the firmware of an Intel HEX file, booted and listening.
    pub(crate) fn microbit_with(hex: &Path) -> Result<Self> {
        Self::start(MICROBIT, &segments(hex)?)
    }

    /// An MPS2 with MCUboot, which loads into RAM and has serial recovery, and the SMP server of `config`, for example
    /// `serial_recovery`; booted and listening.
    pub(crate) fn mps2(config: &str) -> Result<Self> {
        Self::mps2_with(config, &[Image::of_mps2(config)?])
    }

    /// The same with these images in its slots, the first one in slot 0.
    pub(crate) fn mps2_with(config: &str, images: &[Image]) -> Result<Self> {
        let fixtures = fixtures()?;
        let mut memory = segments(&fixtures.path(fixtures.server("mps2_an385", config)?)?)?;
        memory.extend(MPS2_SLOTS.into_iter().zip(images.iter().map(|image| image.bytes.clone())));
        Self::start(MPS2, &memory)
    }

    /// Starts a board with what is in its memory before the first instruction.
    fn start(machine: Machine, memory: &[(u32, Vec<u8>)]) -> Result<Self> {
        require("qemu-system-arm", "apt-get install -y qemu-system-arm")?;
        let folder = tempfile::Builder::new().prefix("rig-board-").tempdir()?;
        let socket = |name: &str| format!("unix:{},server=on,wait=off", folder.path().join(name).display());
        let arguments = [
            "-machine",
            machine.name,
            "-cpu",
            machine.core,
            "-display",
            "none",
            "-S",
            "-serial",
            &socket("uart"),
            "-gdb",
            &socket("gdb"),
            "-qmp",
            &socket("qmp"),
        ]
        .map(str::to_owned);
        let process = Leash::start("qemu-system-arm", &arguments, folder.path())?;
        let qmp = Arc::new(Qmp::over(connect(&folder.path().join("qmp"), &process)?)?);
        let uart = connect(&folder.path().join("uart"), &process)?;
        let uart = Uart::serve(uart, Arc::clone(&qmp), machine.receiver)?;

        let mut gdb = Gdb::over(connect(&folder.path().join("gdb"), &process)?)?;
        for (address, bytes) in memory {
            gdb.write_memory(*address, bytes)?;
        }
        // The core took its stack pointer and its first instruction from empty memory: take them again.
        qmp.execute("system_reset", json!({}))?;
        qmp.wait_resets(1, Duration::from_secs(10))?;
        gdb.detach()?;
        let board = Self { setup_resets: qmp.resets(), qmp, uart, folder, process, machine };
        board.wait_listening(BOOT)?;
        Ok(board)
    }

    /// Where the UART is served over TCP, one client at a time.
    pub(crate) fn address(&self) -> SocketAddr {
        self.uart.address()
    }

    /// The UART: what the board printed, what it could not hear.
    pub(crate) fn uart(&self) -> &Uart {
        &self.uart
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
    pub(crate) fn wait_program_counter(&self, range: Range<u32>, within: Duration) -> Result<()> {
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

    /// Waits until a firmware listens at the UART.
    pub(crate) fn wait_listening(&self, within: Duration) -> Result<()> {
        let until = Instant::now() + within;
        while !listens(&self.qmp, self.machine.receiver)? {
            if Instant::now() > until {
                let text = String::from_utf8_lossy(&self.uart.printed()).into_owned();
                let at = self.program_counter()?;
                let process = self.process.printed();
                return Err(RigError::new(format!(
                    "no firmware listens; program counter {at:#x}; UART: {text}; QEMU: {process}"
                )));
            }
            std::thread::sleep(Duration::from_millis(5));
        }
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
}

/// Connects to a socket that QEMU is about to open: its file is there a moment before QEMU listens.
fn connect(path: &Path, process: &Leash) -> Result<UnixStream> {
    let until = Instant::now() + Duration::from_secs(20);
    loop {
        match UnixStream::connect(path) {
            Ok(stream) => return Ok(stream),
            Err(error) if Instant::now() > until => {
                let printed = process.printed();
                return Err(RigError::new(format!(
                    "QEMU did not open {}: {error}; {printed}",
                    path.display()
                )));
            }
            Err(_) => std::thread::sleep(Duration::from_millis(10)),
        }
    }
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
