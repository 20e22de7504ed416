//! One simulated device without I/O: what comes in and goes out carries its time. Here is what comes in, the buffers it
//! lies in, and the order in which things happen; sending and booting live below. What the server answers lives in
//! `server.rs`, what the bootloader does in `mcuboot.rs`.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use super::bare::BareReceiver;
use super::content::Shelf;
use super::fault::{Dice, FaultSpec};
use super::firmware::{Behaviour, Place, Version, build_image};
use super::flash::{Flash, PAGE};
use super::gatt::{Assembly, Outbox};
use super::server::{Reply, Server};
use super::spec::{BootMode, OnCrash, SimFraming, SimSpec, SimTransport};
use super::uart::{Receiver, Wire};
use crate::smp::Time;

mod boot;
mod connection;
mod send;

/// Where images are copied to with RAM load; nothing checks the address.
const RAM: u32 = 0x2024_0000;

/// What a device is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Power {
    /// Bootloader and firmware start; nobody listens.
    Booting,
    /// The firmware runs, with its SMP server.
    Running,
    /// The bootloader stays in its serial recovery.
    Recovery,
    /// The firmware runs without an SMP server.
    Mute,
    /// Firmware or bootloader loops; the reset line helps.
    Stuck,
    /// Nothing helps.
    Dead,
    /// Unplugged.
    Away,
}

/// What the worker is about.
#[derive(Debug)]
enum Work {
    /// Handles a request that came in a session; its answers are ready at `until`.
    Handling { until: Time, replies: Vec<Reply>, session: u64 },
    /// Sends answers; its buffers are free at `until`.
    Sending { until: Time },
}

impl Work {
    fn until(&self) -> Time {
        match self {
            Self::Handling { until, .. } | Self::Sending { until } => *until,
        }
    }
}

/// A request in its buffer.
#[derive(Debug)]
struct Queued {
    message: Vec<u8>,
    /// No buffer is left for the answer.
    no_memory: bool,
}

/// One simulated device.
#[derive(Debug)]
pub struct Device {
    spec: Arc<SimSpec>,
    /// From 0.
    index: usize,
    fault: FaultSpec,
    dice: Dice,
    flash: Flash,
    server: Server,
    power: Power,
    /// When booting, or being away, is over; `None` for never.
    changes_at: Option<Time>,
    /// What the firmware will do once booted.
    behaviour: Behaviour,
    boots: u64,
    /// When the latest boot began.
    boot_started: Time,
    now: Time,
    reset_at: Option<Time>,
    /// Everything on its way to the device: whole datagrams or writes, or bytes up to the end of one line.
    incoming: VecDeque<(Time, Vec<u8>)>,
    to_device: Wire,
    to_host: Wire,
    receiver: Receiver,
    bare: BareReceiver,
    /// The BLE central that is connected.
    connection: Option<connection::Connection>,
    assembly: Assembly,
    outbox: Outbox,
    queue: VecDeque<Queued>,
    work: Option<Work>,
    /// Lines stay in their buffers until then: flash is being written.
    stalled_until: Time,
    /// What is on its way to the host, in the order in which it arrives.
    outputs: VecDeque<(Time, Vec<u8>)>,
    /// Counts how often the device's port vanished, or its connection was lost.
    session: u64,
    reset_answers: u64,
    uploads: u64,
    resets: u64,
    wedged: bool,
    /// What the application asked to boot into; it outlives one reset.
    boot_mode: Option<u8>,
    /// The device as its bootloader is built, while it is in its recovery.
    recovery: Option<Arc<SimSpec>>,
}

impl Device {
    /// The device with this index, from 0, of those that `spec` describes; it has booted already.
    #[must_use]
    pub fn new(spec: &Arc<SimSpec>, index: usize) -> Self {
        Self::of_fleet(spec, index, &Shelf::default())
    }

    /// The same, of a fleet whose devices find on `shelf` what others were given.
    pub(super) fn of_fleet(spec: &Arc<SimSpec>, index: usize, shelf: &Shelf) -> Self {
        let fault = FaultSpec::of_device(std::iter::once(&spec.fault).chain(&spec.faults), index + 1);
        let version = spec.version.parse::<Version>().unwrap_or_default();
        let payload = format!("firmware {version} of a simulated device\n").into_bytes();
        let place = if spec.mode == BootMode::RamLoad { Place::Ram(RAM) } else { Place::Anywhere };
        let image = build_image(version, &payload, spec.image_hash, place);
        let mut flash = Flash::new(spec.mode, spec.slot_size, spec.image_hash, image, shelf);
        for number in 1..spec.images {
            let payload = format!("image {number} {version} of a simulated device\n").into_bytes();
            flash.add_image(build_image(version, &payload, spec.image_hash, Place::Anywhere));
        }
        let recovery =
            spec.recovery.as_ref().filter(|it| it.starts).map(|recovery| Arc::new(recovery.over(spec)));
        Self {
            flash,
            dice: Dice::new(fault.seed, index),
            index,
            fault,
            server: Server::default(),
            power: if recovery.is_some() { Power::Recovery } else { Power::Running },
            changes_at: None,
            behaviour: Behaviour::Normal,
            boots: 0,
            boot_started: Time::ZERO,
            now: Time::ZERO,
            reset_at: None,
            incoming: VecDeque::new(),
            to_device: Wire::default(),
            to_host: Wire::default(),
            receiver: Receiver::default(),
            bare: BareReceiver::default(),
            connection: None,
            assembly: Assembly::default(),
            outbox: Outbox::default(),
            queue: VecDeque::new(),
            work: None,
            stalled_until: Time::ZERO,
            outputs: VecDeque::new(),
            session: 0,
            reset_answers: 0,
            uploads: 0,
            resets: 0,
            wedged: false,
            boot_mode: None,
            recovery,
            spec: Arc::clone(spec),
        }
    }

    /// How the device was described.
    #[must_use]
    pub fn spec(&self) -> &Arc<SimSpec> {
        &self.spec
    }

    /// How what runs now was built: the recovery has other buffers.
    fn present(&self) -> &Arc<SimSpec> {
        self.recovery.as_ref().unwrap_or(&self.spec)
    }

    /// Whether its bootloader stays in its recovery, or will once it is up.
    pub(super) fn is_in_recovery(&self) -> bool {
        self.recovery.is_some()
    }

    /// What the device is doing.
    #[must_use]
    pub fn power(&self) -> Power {
        self.power
    }

    /// Boots since the device was made, not counting the one before.
    #[must_use]
    pub fn boots(&self) -> u64 {
        self.boots
    }

    /// Whether the host sees the device's port.
    #[must_use]
    pub fn is_present(&self) -> bool {
        match self.power {
            Power::Away => false,
            Power::Booting | Power::Stuck | Power::Dead => !self.spec.leaves_in_reset(),
            Power::Running | Power::Recovery | Power::Mute => true,
        }
    }

    /// Counts how often the port vanished, or the connection was lost: a link opened in another session is dead.
    #[must_use]
    pub fn session(&self) -> u64 {
        self.session
    }

    pub(super) fn flash(&self) -> &Flash {
        &self.flash
    }

    pub(super) fn flash_mut(&mut self) -> &mut Flash {
        &mut self.flash
    }

    pub(super) fn server(&self) -> &Server {
        &self.server
    }

    pub(super) fn overruns(&self) -> u64 {
        self.receiver.overruns
    }

    /// The latest time that the device has seen.
    pub(super) fn now(&self) -> Time {
        self.now
    }

    /// When the latest boot began.
    pub(super) fn boot_started(&self) -> Time {
        self.boot_started
    }

    /// Bytes on their way to the device.
    pub(super) fn backlog(&self) -> usize {
        self.incoming.iter().map(|(_, bytes)| bytes.len()).sum()
    }

    /// The host puts bytes on the serial link at `now`.
    pub fn host_write(&mut self, now: Time, bytes: &[u8]) {
        let latency = Duration::from_millis(self.spec.latency_ms);
        for piece in bytes.split_inclusive(|&byte| byte == b'\n') {
            let done = self.to_device.carry(now.max(self.now), piece.len(), self.spec.baud);
            self.incoming.push_back((done + latency, piece.to_vec()));
        }
    }

    /// The host sends a datagram at `now`.
    pub fn host_datagram(&mut self, now: Time, datagram: &[u8]) {
        self.host_value(now, datagram.get(..self.spec.udp_mtu).unwrap_or(datagram));
    }

    /// Something whole is on its way to the device.
    fn host_value(&mut self, now: Time, value: &[u8]) {
        let at = now.max(self.now) + Duration::from_millis(self.spec.latency_ms);
        self.incoming.push_back((at, value.to_vec()));
    }

    /// The next thing that reaches the host by `limit`: on a serial link the bytes of one line, else a datagram or a
    /// notification. Time does not go beyond it.
    pub fn poll_output(&mut self, limit: Time) -> Option<(Time, Vec<u8>)> {
        loop {
            let output = self.outputs.front().map(|(at, _)| *at);
            let event = self.next_event();
            match output {
                Some(at) if at <= limit && event.is_none_or(|event| at <= event) => {
                    self.now = self.now.max(at);
                    return self.outputs.pop_front();
                }
                _ => {}
            }
            match event {
                Some(at) if at <= limit => self.step(at),
                _ => {
                    self.now = self.now.max(limit);
                    return None;
                }
            }
        }
    }

    /// Lets everything happen that happens until `now`; what it sends waits to be polled.
    pub fn advance(&mut self, now: Time) {
        while let Some(at) = self.next_event().filter(|at| *at <= now) {
            self.step(at);
        }
        self.now = self.now.max(now);
    }

    /// When something happens next.
    #[must_use]
    pub fn next_timeout(&self) -> Option<Time> {
        let output = self.outputs.front().map(|(at, _)| *at);
        self.next_event().into_iter().chain(output).min()
    }

    /// Throws away what was sent to a host that did not listen.
    pub fn discard_output(&mut self, now: Time) {
        self.advance(now);
        self.outputs.retain(|(at, _)| *at > now);
    }

    /// Pulls the reset line.
    pub fn reset_line(&mut self, now: Time) {
        self.advance(now);
        if !matches!(self.power, Power::Dead | Power::Away) {
            self.wedged = false;
            self.boot();
        }
    }

    /// Unplugs the device; `until` says when it is plugged in again, `None` that it stays away.
    pub fn unplug(&mut self, now: Time, until: Option<Time>) {
        self.advance(now);
        self.vanish(until);
    }

    /// Plugs the device in again.
    pub fn plug(&mut self, now: Time) {
        self.advance(now);
        if self.power == Power::Away {
            self.boot();
        }
    }

    /// When something happens next in the device.
    pub(super) fn next_event(&self) -> Option<Time> {
        let incoming = self.incoming.front().map(|(at, _)| *at);
        let line = self.receiver.next_line_at().map(|at| at.max(self.stalled_until));
        let work = self.work.as_ref().map(Work::until);
        [incoming, line, work, self.reset_at, self.changes_at].into_iter().flatten().min()
    }

    /// Lets one thing happen that is due at `at`.
    fn step(&mut self, at: Time) {
        self.now = self.now.max(at);
        let now = self.now;
        if self.changes_at.is_some_and(|due| due <= at) {
            self.changes_at = None;
            match self.power {
                Power::Booting => self.booted(),
                _ => self.boot(),
            }
        } else if self.reset_at.is_some_and(|due| due <= at) {
            self.reset_at = None;
            self.resets += 1;
            self.boot();
            if self.fault.never_return {
                self.power = Power::Dead;
                self.changes_at = None;
            }
        } else if self.work.as_ref().is_some_and(|work| work.until() <= at) {
            self.work_done();
        } else if self.receiver.next_line_at().is_some_and(|due| due.max(self.stalled_until) <= at) {
            if let Some(message) = self.receiver.take_line(self.present().buf_size) {
                self.message_arrived(message);
            }
        } else if let Some((_, bytes)) = self.incoming.pop_front() {
            self.bytes_arrived(now, bytes);
        }
    }

    fn bytes_arrived(&mut self, now: Time, bytes: Vec<u8>) {
        if self.power == Power::Booting && self.fault.wedge_on_early_bytes {
            self.wedged = true;
        }
        if !matches!(self.power, Power::Running | Power::Recovery) {
            return;
        }
        match self.spec.transport {
            SimTransport::Serial => {
                let spec = self.recovery.as_ref().unwrap_or(&self.spec);
                if spec.framing == SimFraming::Console {
                    return self.receiver.arrive(now, bytes, spec);
                }
                for message in self.bare.arrive(now, &bytes, spec) {
                    self.message_arrived(message);
                }
            }
            SimTransport::Udp if bytes.len() <= self.spec.buf_size as usize => self.message_arrived(bytes),
            SimTransport::Udp => {}
            SimTransport::Ble => self.value_arrived(bytes),
        }
    }

    /// A whole message is in a buffer of its own, if there is one.
    fn message_arrived(&mut self, mut message: Vec<u8>) {
        let transport = self.spec.transport;
        if self.dice.throw(self.fault.lose) {
            return;
        }
        if self.dice.throw(self.fault.corrupt) {
            if transport == SimTransport::Serial && self.spec.framing != SimFraming::Raw {
                return; // its CRC is wrong
            }
            self.flip_a_bit(&mut message);
        }
        let buffers = self.present().buf_count as usize;
        let twice = self.dice.throw(self.fault.duplicate) && self.in_flight() + 2 < buffers;
        if twice {
            self.queue.push_back(Queued { message: message.clone(), no_memory: false });
        }
        let in_flight = self.in_flight();
        let full = in_flight >= buffers;
        let taken = match transport {
            SimTransport::Serial if full => return self.crash(),
            SimTransport::Serial => true,
            SimTransport::Udp => in_flight + 1 < buffers,
            // A write that finds no buffer is refused, which nobody hears.
            SimTransport::Ble => !full,
        };
        if taken {
            self.queue.push_back(Queued { message, no_memory: in_flight + 1 == buffers });
            self.start_work();
        }
    }

    fn in_flight(&self) -> usize {
        self.queue.len() + usize::from(self.work.is_some())
    }

    fn crash(&mut self) {
        match self.spec.on_crash {
            OnCrash::Reset => self.boot(),
            OnCrash::Hang => {
                self.stop();
                self.power = Power::Stuck;
            }
        }
    }

    fn start_work(&mut self) {
        if self.work.is_some() {
            return;
        }
        let Some(Queued { message, no_memory }) = self.queue.pop_front() else { return };
        let mut until = self.now + Duration::from_micros(self.spec.process_us);
        if no_memory {
            let replies = self.server.out_of_memory(&message);
            self.work = Some(Work::Handling { until, replies, session: self.session });
            return;
        }
        let replies = match self.spec.recovery.as_ref().filter(|_| self.recovery.is_some()) {
            Some(recovery) => {
                let spec = (&*self.spec, &self.fault);
                self.server.handle_in_recovery(spec, recovery, &mut self.flash, &message)
            }
            None => self.server.handle((&self.spec, &self.fault), &mut self.flash, &message),
        };
        let flash: Duration = replies.iter().map(|reply| self.flash_time(reply)).sum();
        if !flash.is_zero() {
            until += flash;
            self.stalled_until = until;
        }
        if Self::crossed(&mut self.fault.vanish_at_byte, &self.flash) {
            self.vanish(self.fault.vanish_ms.map(|ms| self.now + Duration::from_millis(ms)));
            return;
        }
        if Self::crossed(&mut self.fault.hang_at_byte, &self.flash) {
            self.stop();
            self.power = Power::Stuck;
            return;
        }
        if Self::crossed(&mut self.fault.forget_upload_at_byte, &self.flash) {
            self.server.restart();
        }
        self.work = Some(Work::Handling { until, replies, session: self.session });
    }

    /// Whether uploads have written as far as a fault waits for; once.
    fn crossed(at: &mut Option<u64>, flash: &Flash) -> bool {
        at.take_if(|at| flash.written >= *at).is_some()
    }

    fn flash_time(&self, reply: &Reply) -> Duration {
        let pages = reply.effects.erased.div_ceil(u64::from(PAGE));
        let slow = if pages > 0 { self.fault.slow_erase_ms } else { 0 };
        Duration::from_micros(
            pages * self.spec.erase_page_us + reply.effects.written * self.spec.write_kib_us / 1024,
        ) + Duration::from_millis(slow)
    }

    fn work_done(&mut self) {
        match self.work.take() {
            Some(Work::Handling { replies, session, .. }) => {
                // Who asked has gone: it is done, and told to nobody.
                let heard = session == self.session;
                let mut until = self.now;
                for reply in replies {
                    until = until.max(self.send(reply, heard));
                }
                self.work = Some(Work::Sending { until });
            }
            Some(Work::Sending { .. }) | None => self.start_work(),
        }
    }
}
