//! One board on the bus: when it is there and as what, and how bytes pass between its serial functions and what is behind
//! them. How the host's requests are answered lives in `device.rs`.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use super::bridge::Bridge;
use super::descriptor::{Descriptors, RELEASE};
use super::device::UsbDevice;
use super::identity::{Identity, Role};
use super::protocol::DeviceRecord;
use super::spec::{OtherFunctions, UsbId, UsbKind, UsbSpec, UsbSpeed};
use crate::sim::device::Power;
use crate::sim::fleet::Cell;

/// Bytes that may be on their way to a device: what its driver would hold. More waits with the host.
const BACKLOG: usize = 1024;
/// How often the functions that do not talk SMP print a line.
const LOG_EVERY: Duration = Duration::from_secs(1);

/// What is known of a board on the bus.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BoardState {
    /// Its place on the server's bus, for example `1-3`. It stays the same.
    pub busid: String,
    /// Vendor and product id that it has now, or had last.
    pub id: UsbId,
    /// Serial number that it has now, or had last.
    pub serial_number: Option<String>,
    /// Product string that it has now, or had last.
    pub product: Option<String>,
    /// Whether it is on the bus: plugged in, and not in a reset.
    pub on_bus: bool,
    /// Whether a client has imported it.
    pub imported: bool,
    /// How often it was imported.
    pub enumerations: u64,
}

/// What is behind a board's serial function.
#[derive(Debug)]
pub(super) enum Behind {
    /// A simulated device.
    Device(Arc<Cell>),
    /// A serial server.
    Bridge(Bridge),
}

/// One stay of a board on the bus: another one is another enumeration.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Stay {
    /// How often the device vanished before.
    session: u64,
    /// How often the board was pulled before.
    pulled: u64,
    pub(super) role: Role,
}

#[derive(Debug)]
struct State {
    plugged: bool,
    pulled: u64,
    imported: bool,
    enumerations: u64,
    role: Role,
}

/// One board.
#[derive(Debug)]
pub(super) struct Board {
    pub(super) busid: String,
    devnum: u32,
    spec: UsbSpec,
    /// Name and number of the device, for the placeholders.
    name: (String, usize),
    behind: Behind,
    added: Instant,
    state: Mutex<State>,
    /// Rung when it is pulled or plugged in.
    changed: tokio::sync::Notify,
}

impl Board {
    /// The board at this place of the bus, from 1.
    pub(super) fn new(devnum: u32, spec: UsbSpec, name: (String, usize), behind: Behind) -> Self {
        let state = State {
            plugged: true,
            pulled: 0,
            imported: false,
            enumerations: 0,
            role: Role::Application { updated: false },
        };
        Self {
            busid: format!("1-{devnum}"),
            devnum,
            spec,
            name,
            behind,
            added: Instant::now(),
            state: Mutex::new(state),
            changed: tokio::sync::Notify::new(),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether and as what the board is on the bus, and when that changes by itself at the latest.
    pub(super) fn stay(&self) -> Option<(Stay, Option<Instant>)> {
        let (plugged, pulled) = {
            let state = self.state();
            (state.plugged, state.pulled)
        };
        if !plugged || self.added.elapsed() < Duration::from_millis(self.spec.appears_after_ms) {
            return None;
        }
        let (session, role, until) = match &self.behind {
            Behind::Bridge(_) => (0, Role::Application { updated: false }, None),
            Behind::Device(cell) => {
                let now = cell.now();
                let mut device = cell.device();
                device.advance(now);
                let waits = self.spec.bootloader.as_ref().map(|it| Duration::from_millis(it.ms));
                let until = waits.map(|waits| device.boot_started() + waits);
                match until.filter(|until| device.power() == Power::Booting && now < *until) {
                    Some(until) => (device.session(), Role::Bootloader, Some(cell.epoch + until)),
                    None if device.is_in_recovery() && waits.is_some() => {
                        (device.session(), Role::Bootloader, None)
                    }
                    None if device.is_present() => {
                        let updated = self.spec.updated.is_some() && device.flash().is_updated();
                        (device.session(), Role::Application { updated }, None)
                    }
                    None => return None,
                }
            }
        };
        self.state().role = role;
        Some((Stay { session, pulled, role }, until))
    }

    /// Whether a stay that began has not ended. Firmware that hangs later does not take its board off the bus.
    pub(super) fn stays(&self, stay: Stay) -> Option<Option<Instant>> {
        match self.stay() {
            Some((now, until)) => (now == stay).then_some(until),
            None => {
                let state = self.state();
                let Behind::Device(cell) = &self.behind else { return None };
                let device = cell.device();
                let hangs = matches!(device.power(), Power::Stuck | Power::Dead);
                let same = (device.session(), state.pulled) == (stay.session, stay.pulled);
                let hung = hangs && same && state.plugged && stay.role != Role::Bootloader;
                hung.then_some(None)
            }
        }
    }

    pub(super) fn board_state(&self) -> BoardState {
        let present = self.stay().is_some();
        let (role, imported, enumerations) = {
            let state = self.state();
            (state.role, state.imported, state.enumerations)
        };
        let Identity { id, serial_number, product, .. } = self.identity(role);
        let busid = self.busid.clone();
        // Firmware that hangs does not take a board off the bus that was on it.
        let on_bus = present || imported;
        BoardState { busid, id, serial_number, product, on_bus, imported, enumerations }
    }

    fn identity(&self, role: Role) -> Identity {
        Identity::new(&self.spec, role, &self.name.0, self.name.1)
    }

    /// How replies describe the board in a role.
    fn record(&self, role: Role) -> DeviceRecord {
        let identity = self.identity(role);
        let descriptors = Descriptors::new(identity);
        let identity = descriptors.identity();
        DeviceRecord {
            path: format!("/sys/devices/platform/flashfleet/usb1/{}", self.busid),
            busid: self.busid.clone(),
            busnum: 1,
            devnum: self.devnum,
            // `enum usb_device_speed`.
            speed: match identity.speed {
                UsbSpeed::Full => 2,
                UsbSpeed::High => 3,
            },
            id: identity.id,
            release: RELEASE,
            class: descriptors.class(),
            configuration: 1,
            configurations: 1,
            interfaces: descriptors.interfaces(),
        }
    }

    /// How the list describes the board, if it can be imported now.
    pub(super) fn offer(&self) -> Option<DeviceRecord> {
        let (stay, _) = self.stay()?;
        (!self.state().imported).then(|| self.record(stay.role))
    }

    /// Imports the board, if it can be.
    pub(super) fn import(self: &Arc<Self>) -> Option<Import> {
        let (stay, _) = self.stay()?;
        let mut state = self.state();
        if std::mem::replace(&mut state.imported, true) {
            return None;
        }
        state.enumerations += 1;
        drop(state);
        if self.spec.kind == UsbKind::Cp210x
            && let Behind::Device(cell) = &self.behind
        {
            // Nobody heard what came over the line before.
            cell.device().discard_output(cell.now());
        }
        let record = self.record(stay.role);
        let device = UsbDevice::new(Descriptors::new(self.identity(stay.role)), record.devid());
        let log_at = Instant::now() + LOG_EVERY;
        Some(Import { board: Arc::clone(self), stay, record, device, log_at })
    }

    /// Pulls the board: it is gone at once, whatever goes on.
    pub(super) fn unplug(&self) {
        {
            let mut state = self.state();
            state.pulled += u64::from(state.plugged);
            state.plugged = false;
        }
        if let Behind::Device(cell) = &self.behind {
            cell.device().unplug(cell.now(), None);
            cell.changed.notify_waiters();
        }
        self.changed.notify_waiters();
    }

    /// Plugs the board in again.
    pub(super) fn plug(&self) {
        self.state().plugged = true;
        if let Behind::Device(cell) = &self.behind {
            cell.device().plug(cell.now());
            cell.changed.notify_waiters();
        }
        self.changed.notify_waiters();
    }

    /// Waits until something was done to the board or to what is behind it. What happens after this call counts, also
    /// before it is waited for.
    pub(super) fn changed(&self) -> impl Future<Output = ()> + Send + '_ {
        let own = self.changed.notified();
        let behind = match &self.behind {
            Behind::Device(cell) => cell.changed.notified(),
            Behind::Bridge(bridge) => bridge.changed(),
        };
        async move {
            tokio::select! {
                () = own => {}
                () = behind => {}
            }
        }
    }
}

/// A board while a client has it.
#[derive(Debug)]
pub(super) struct Import {
    pub(super) board: Arc<Board>,
    pub(super) record: DeviceRecord,
    pub(super) device: UsbDevice,
    stay: Stay,
    log_at: Instant,
}

impl Drop for Import {
    fn drop(&mut self) {
        self.board.state().imported = false;
        if let Behind::Bridge(bridge) = &self.board.behind {
            bridge.close();
        }
    }
}

impl Import {
    /// Lets bytes pass in both directions, as far as each side takes them. Says when to look again at the latest; `None`
    /// where the board has left the bus.
    pub(super) fn pass(&mut self) -> Option<Option<Instant>> {
        let board = Arc::clone(&self.board);
        let until = board.stays(self.stay)?;
        let smp = match self.stay.role {
            Role::Application { .. } => usize::from(board.spec.smp_function),
            Role::Bootloader => 0,
        };
        let raised = self.device.take_raised(smp);
        let next = match &board.behind {
            Behind::Device(cell) => self.pass_device(cell, smp, raised)?,
            Behind::Bridge(bridge) => {
                bridge.pass(&mut self.device, smp);
                None
            }
        };
        let log = self.others(smp);
        Some([until, next, log].into_iter().flatten().min())
    }

    /// As [`Self::pass`]: what passes may make the device leave.
    fn pass_device(&mut self, cell: &Cell, smp: usize, raised: bool) -> Option<Option<Instant>> {
        let now = cell.now();
        let mut device = cell.device();
        if raised && device.spec().reset_on_open {
            device.reset_line(now);
        }
        while device.backlog() < BACKLOG
            && let Some(bytes) = self.device.take(smp)
        {
            device.host_write(now, &bytes);
        }
        // What the host does not ask for waits in a device with USB of its own, which keeps the latest lines. A UART waits
        // for nobody.
        let waits = self.board.spec.kind == UsbKind::CdcAcm;
        let full = loop {
            if waits && self.device.room(smp) < BACKLOG {
                break true;
            }
            match device.poll_output(now) {
                Some((_, bytes)) => self.device.send(smp, &bytes),
                None => break false,
            }
        };
        device.advance(now);
        let next = if full { device.next_event() } else { device.next_timeout() };
        (device.session() == self.stay.session).then(|| next.map(|at| cell.epoch + at))
    }

    /// The functions that do not talk SMP.
    fn others(&mut self, smp: usize) -> Option<Instant> {
        let spec = &self.board.spec;
        let logs = spec.others == OtherFunctions::Log && self.stay.role != Role::Bootloader;
        let now = Instant::now();
        let due = now >= self.log_at;
        let mut next = None;
        for function in (0..self.device.functions()).filter(|function| *function != smp) {
            while self.device.take(function).is_some() {}
            self.device.take_raised(function);
            if logs && due && self.device.wants(function) {
                let up = self.board.added.elapsed();
                let line =
                    format!("[{:08}.{:03},000] <inf> app: alive\r\n", up.as_secs(), up.subsec_millis());
                self.device.send(function, line.as_bytes());
            }
            if logs {
                next = Some(self.log_at);
            }
        }
        if due {
            self.log_at = now + LOG_EVERY;
        }
        next.map(|_| self.log_at)
    }
}
