//! Links to simulated devices in memory, in tokio's time: under a paused clock they take no time at all.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use async_trait::async_trait;

use super::fleet::Cell;
use super::spec::{SimSpec, SimTransport};
use crate::smp::Time;
use crate::transport::framing::StreamFraming;
use crate::transport::wire::{self, Direction};
use crate::transport::{Connector, Framing, Link, LinkError, LinkErrorKind, LinkProperties};

/// Largest message that every server takes, in bytes, before its buffers are known: two lines of console framing, or the
/// smallest buffers in use.
const SAFE_MESSAGE: usize = 128;
/// Bits on the wire for one byte: start, eight data, stop.
const BITS_PER_BYTE: f64 = 10.0;
/// Largest datagram that UDP can carry over IPv4, in bytes (RFC 768 and RFC 791: 65535 less both headers).
const MAX_DATAGRAM: usize = 65_507;
/// Tokio's timers are rounded up to whole milliseconds. An answer that comes by no more than this too late is taken to
/// have come in time, and what follows it to have been sent as much earlier, so that figures are those of the link.
const TIMER_GRAIN: Duration = Duration::from_millis(2);

/// Reaches one simulated device.
#[derive(Debug)]
pub(super) struct MemoryConnector {
    cell: Arc<Cell>,
}

impl MemoryConnector {
    pub(super) fn new(cell: Arc<Cell>) -> Self {
        Self { cell }
    }
}

#[async_trait]
impl Connector for MemoryConnector {
    async fn connect(&self) -> Result<Box<dyn Link>, LinkError> {
        let cell = &self.cell;
        let now = cell.now();
        let mut device = cell.device();
        device.advance(now);
        if !device.is_present() {
            let message = format!("expected the simulated device {}, but it is away", cell.name);
            return Err(LinkError::new(LinkErrorKind::NotFound, message, "plug it in again"));
        }
        let spec = Arc::clone(device.spec());
        let exclusive = spec.transport == SimTransport::Serial;
        if exclusive && cell.open.swap(true, Ordering::AcqRel) {
            let message = format!("the simulated port of {} is open already", cell.name);
            return Err(LinkError::new(LinkErrorKind::Busy, message, "close the other link first"));
        }
        device.discard_output(now);
        if spec.reset_on_open {
            device.reset_line(now);
        }
        let session = device.session();
        drop(device);
        Ok(Box::new(MemoryLink {
            port: OpenPort { cell: Arc::clone(cell), address: self.address(), exclusive },
            framing: StreamFraming::fixed(spec.framing.into(), spec.line_length),
            spec,
            session,
            ready: VecDeque::new(),
            lag: Duration::ZERO,
        }))
    }

    fn address(&self) -> String {
        format!("sim:{}", self.cell.name)
    }
}

/// Frees the port when the link goes.
#[derive(Debug)]
struct OpenPort {
    cell: Arc<Cell>,
    /// The device's address, for the wire log.
    address: String,
    exclusive: bool,
}

impl Drop for OpenPort {
    fn drop(&mut self) {
        if self.exclusive {
            self.cell.open.store(false, Ordering::Release);
        }
    }
}

/// An open link to one simulated device.
#[derive(Debug)]
struct MemoryLink {
    port: OpenPort,
    spec: Arc<SimSpec>,
    session: u64,
    framing: StreamFraming,
    ready: VecDeque<Vec<u8>>,
    /// How much later than due the last answer was delivered, for the grain of the timers.
    lag: Duration,
}

impl MemoryLink {
    fn disconnected(&self) -> LinkError {
        let message =
            format!("the simulated device {} went away while its link was open", self.port.cell.name);
        LinkError::new(LinkErrorKind::Disconnected, message, "wait for it to come back, and open it again")
    }

    /// Takes everything that has arrived until a message is whole. `None` says when to look again; never, where nothing
    /// is going to happen.
    fn poll(&mut self) -> Result<Option<Time>, LinkError> {
        let cell = Arc::clone(&self.port.cell);
        let now = cell.now();
        let mut device = cell.device();
        while self.ready.is_empty() {
            if device.session() != self.session {
                return Err(self.disconnected());
            }
            let Some((at, bytes)) = device.poll_output(now) else { break };
            match self.spec.transport {
                SimTransport::Serial => {
                    wire::chunk(Direction::Received, &self.port.address, &bytes);
                    self.ready.extend(self.framing.push(at, &bytes));
                }
                SimTransport::Udp | SimTransport::Ble => self.ready.push_back(bytes),
            }
            let late = now.saturating_sub(at);
            self.lag = if late < TIMER_GRAIN { late } else { Duration::ZERO };
        }
        if device.session() != self.session {
            return Err(self.disconnected());
        }
        Ok(device.next_timeout())
    }
}

#[async_trait]
impl Link for MemoryLink {
    async fn send(&mut self, message: &[u8]) -> Result<(), LinkError> {
        // A longer datagram than the server reads can be sent; what becomes of it is the server's matter.
        let max = match self.spec.transport {
            SimTransport::Serial => self.properties().max_message,
            SimTransport::Udp | SimTransport::Ble => MAX_DATAGRAM,
        };
        if message.len() > max {
            let text = format!("expected a message of at most {max} bytes, got {}", message.len());
            return Err(LinkError::new(LinkErrorKind::TooLong, text, "send smaller chunks"));
        }
        let cell = &self.port.cell;
        let mut device = cell.device();
        if device.session() != self.session {
            return Err(self.disconnected());
        }
        let now = cell.now().saturating_sub(self.lag).max(device.now());
        wire::message(Direction::Sent, &self.port.address, message);
        match self.spec.transport {
            SimTransport::Serial => {
                let bytes = self.framing.encode(now, message, false).unwrap_or_default();
                wire::chunk(Direction::Sent, &self.port.address, &bytes);
                device.host_write(now, &bytes);
            }
            SimTransport::Udp | SimTransport::Ble => device.host_datagram(now, message),
        }
        Ok(())
    }

    async fn recv(&mut self) -> Result<Vec<u8>, LinkError> {
        let cell = Arc::clone(&self.port.cell);
        loop {
            // Made before looking, so that nothing that happens in between is missed.
            let changed = cell.changed.notified();
            let next = self.poll()?;
            if let Some(message) = self.ready.pop_front() {
                wire::message(Direction::Received, &self.port.address, &message);
                return Ok(message);
            }
            match next {
                Some(at) => {
                    tokio::select! {
                        () = tokio::time::sleep_until(cell.epoch + at) => {}
                        () = changed => {}
                    }
                }
                None => changed.await,
            }
        }
    }

    fn properties(&self) -> LinkProperties {
        match self.spec.transport {
            SimTransport::Serial => {
                let rate = self.spec.baud.map(|baud| f64::from(baud) / BITS_PER_BYTE);
                let properties = self.framing.properties(rate, !self.spec.leaves_in_reset());
                let fits = self.spec.buf_size as usize - properties.buffer_overhead;
                LinkProperties { safe_message: SAFE_MESSAGE.min(fits), ..properties }
            }
            SimTransport::Udp | SimTransport::Ble => LinkProperties {
                safe_message: SAFE_MESSAGE.min(self.spec.buf_size as usize),
                max_message: self.spec.udp_mtu,
                buffer_overhead: 0,
                wire_bytes_per_s: None,
                framing: Framing::Datagram,
                survives_reset: true,
            },
        }
    }

    async fn close(self: Box<Self>) {}
}
