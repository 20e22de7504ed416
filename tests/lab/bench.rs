//! The guest's USB: boards that are simulated in this process, plugged in over USB/IP, and what the kernel makes of them.

use std::collections::BTreeMap;
use std::ops::Range;
use std::time::{Duration, Instant};

use flashfleet::sim::{DeviceHandle, Fleet, SimSpec, UsbBus, UsbSpec};
use serde::Deserialize;
use tokio::runtime::Handle;
use tokio::sync::oneshot;

use crate::agent::Job;
use crate::error::{Context, Result, RigError};
use crate::vm::Lab;

/// Within this the kernel has made ports of all boards, or removed those of a scenario that is over.
const SETTLED: Duration = Duration::from_secs(90);

/// What the kernel says of each transfer that is under way when a board is pulled.
const NOISE: &str = "vhci_hcd: unlink->seqnum\\|vhci_hcd: urb->status";
/// What it says where it has trouble with a board.
const COMPLAINTS: &str = "error -|unable to|not accepting|[Cc]an.?not|can.t |cable";

/// Boards on the guest's USB. Dropping it pulls them all out.
pub(crate) struct Bench<'lab> {
    lab: &'lab Lab,
    /// `flashfleet sim --attach` in the guest.
    attacher: Option<Job>,
    pub(crate) bus: UsbBus,
    simulator: Simulator,
}

/// Where simulated devices live: a thread that nothing else blocks.
pub(crate) struct Simulator {
    pub(crate) handle: Handle,
    /// Its end is the thread's.
    _stop: oneshot::Sender<()>,
}

/// Boards of one kind.
pub(crate) struct Boards {
    fleet: Fleet,
    /// Their numbers on the bus.
    pub(crate) numbers: Range<usize>,
}

/// A USB serial port, as the guest's sysfs has it.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq)]
pub(crate) struct Port {
    /// For example `/dev/ttyACM0`.
    pub(crate) path: String,
    /// `vid:pid:interface`.
    pub(crate) id: String,
    pub(crate) serial_number: Option<String>,
    pub(crate) product: Option<String>,
    /// Bus and port chain, for example `1-2`.
    pub(crate) hub_path: String,
    /// The kernel driver.
    pub(crate) driver: String,
}

impl<'lab> Bench<'lab> {
    /// An empty bus, once the boards of earlier scenarios are gone.
    pub(crate) fn new(lab: &'lab Lab) -> Result<Self> {
        let simulator = Simulator::start()?;
        let bus = {
            let _context = simulator.handle.enter();
            UsbBus::listen(([127, 0, 0, 1], 0).into())?
        };
        let bench = Self { lab, attacher: None, bus, simulator };
        lab.run("rm -rf /run/udev/rules.d; udevadm control --reload")?;
        bench.wait_ports(0)?;
        Ok(bench)
    }

    /// Puts boards on the bus, by the description's `usb`.
    pub(crate) fn boards(&self, spec: &SimSpec) -> Result<Boards> {
        let _context = self.simulator.handle.enter();
        let fleet = Fleet::new(spec).context("simulated boards")?;
        let numbers = self.bus.add_fleet(&fleet).context("simulated boards")?;
        Ok(Boards { fleet, numbers })
    }

    /// Puts a board on the bus whose line leads elsewhere, and gives its number.
    pub(crate) fn bridge(&self, usb: UsbSpec) -> Result<usize> {
        let _context = self.simulator.handle.enter();
        self.bus.add_bridge(usb).context("bridge")
    }

    /// Plugs the bus into the guest, where a board that comes back is plugged in again at the same place; waits until
    /// the kernel has made so many ports.
    pub(crate) fn attach(&mut self, ports: usize) -> Result<Vec<Port>> {
        self.attach_through(self.bus.address().port(), ports)
    }

    /// The same, where something else listens at `port` of this machine and passes on to the bus.
    pub(crate) fn attach_through(&mut self, port: u16, ports: usize) -> Result<Vec<Port>> {
        self.attacher = Some(self.lab.start(&format!("exec flashfleet sim --attach 10.0.2.2:{port}"))?);
        self.wait_ports(ports)
    }

    /// How often a board was pulled out because the kernel had made no device of it.
    pub(crate) fn pulled(&mut self, busid: &str) -> Result<usize> {
        let Some(attacher) = &mut self.attacher else { return Ok(0) };
        attacher.is_over()?;
        let said = format!("{busid} pulled from ");
        Ok(attacher.so_far().lines().filter(|line| line.starts_with(&said)).count())
    }

    /// The guest's USB serial ports, by name.
    pub(crate) fn ports(&self) -> Result<Vec<Port>> {
        let printed = self.lab.run("exec python3 /lab/ports.py")?;
        let mut ports: Vec<Port> = serde_json::from_str(&printed).context(printed)?;
        ports.sort_by_key(|port| (port.path.len(), port.path.clone()));
        Ok(ports)
    }

    /// Waits until the guest has so many USB serial ports, and udev is done with them.
    pub(crate) fn wait_ports(&self, count: usize) -> Result<Vec<Port>> {
        let until = Instant::now() + SETTLED;
        loop {
            let ports = self.ports()?;
            if ports.len() == count {
                self.lab.run("udevadm settle")?;
                return Ok(ports);
            }
            if Instant::now() > until {
                return Err(RigError::new(format!("expected {count} ports in the guest, found {ports:#?}")));
            }
        }
    }
}

/// What helps to understand why a scenario failed: the state of the bus on both sides, and what the kernel said of it.
impl Drop for Bench<'_> {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            return;
        }
        for number in 0..self.bus.len() {
            println!("{:?}", self.bus.board(number));
        }
        if let Some(attacher) = &mut self.attacher {
            let _ = attacher.is_over();
            println!("attached, by and by:\n{}", attacher.so_far());
        }
        let look = format!(
            "cat /sys/devices/platform/vhci_hcd.0/status*; python3 /lab/ports.py; dmesg | grep -v '{NOISE}' >/run/dmesg; \
             grep -E '{COMPLAINTS}' /run/dmesg; tail -n 60 /run/dmesg"
        );
        println!("{}", self.lab.run(&look).unwrap_or_else(|error| error.to_string()));
    }
}

impl Simulator {
    pub(crate) fn start() -> Result<Self> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let handle = runtime.handle().clone();
        let (stop, stopped) = oneshot::channel();
        std::thread::spawn(move || runtime.block_on(stopped));
        Ok(Self { handle, _stop: stop })
    }
}

impl Boards {
    pub(crate) fn len(&self) -> usize {
        self.fleet.len()
    }

    /// The truth about one of them, from 0.
    pub(crate) fn device(&self, index: usize) -> DeviceHandle {
        self.fleet.device(index)
    }

    /// The truth about all.
    pub(crate) fn devices(&self) -> impl Iterator<Item = DeviceHandle> {
        (0..self.len()).map(|index| self.device(index))
    }
}

/// Ports by serial number; for boards of one port each, with serial numbers of their own.
pub(crate) fn by_serial_number(ports: &[Port]) -> Result<BTreeMap<String, Port>> {
    let mut found = BTreeMap::new();
    for port in ports {
        let serial_number = port.serial_number.clone().ok_or_else(|| RigError::new(format!("{port:?}")))?;
        if found.insert(serial_number, port.clone()).is_some() {
            return Err(RigError::new(format!("two ports with the serial number of {port:?}")));
        }
    }
    Ok(found)
}
