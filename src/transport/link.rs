//! What every transport offers: whole SMP messages to and from one device. No transport lives here.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;

use crate::cause::{Cause, Class};

/// One open way to one device. Carries whole SMP messages: framing is the transport's own business.
#[async_trait]
pub trait Link: Send {
    /// Sends one whole message; returns when it has been handed to the system.
    ///
    /// # Errors
    /// [`LinkError`]; after [`LinkErrorKind::Disconnected`] the link is dead and every further call says so.
    async fn send(&mut self, message: &[u8]) -> Result<(), LinkError>;

    /// Waits for the next whole message, without a time limit of its own. Cancel safe: a message is either returned or
    /// kept for the next call.
    ///
    /// # Errors
    /// [`LinkError`]; a link that is gone is an error, never endless silence.
    async fn recv(&mut self) -> Result<Vec<u8>, LinkError>;

    /// What the link can carry.
    fn properties(&self) -> LinkProperties;

    /// Has the device forget the part of a message that it may hold, on links where nothing marks where one begins. What
    /// is sent next is a message of its own then. Answers that are on their way may be lost.
    ///
    /// # Errors
    /// [`LinkError`]: whether the device forgot it is not known, and nothing more may be sent.
    async fn forget_parts(&mut self) -> Result<(), LinkError> {
        Ok(())
    }

    /// Closes the link without making the caller wait for slow hardware.
    async fn close(self: Box<Self>);
}

/// How a link to one device is opened, the first time and after the device came back.
#[async_trait]
pub trait Connector: Send + Sync + fmt::Debug {
    /// Opens a link. Looks for the device by what it is, not by the name that its port had before.
    ///
    /// # Errors
    /// [`LinkError`], for example [`LinkErrorKind::NotFound`] while the device is away.
    async fn connect(&self) -> Result<Box<dyn Link>, LinkError>;

    /// The device's address in the grammar of the command line, for example `serial:/dev/ttyACM0`. May change when a
    /// link is opened: the device may have another port by then.
    fn address(&self) -> String;

    /// Waits until a device that was away may be back, a moment at most: then it is worth trying to connect again.
    async fn maybe_back(&self) {
        tokio::time::sleep(LOOK_AGAIN).await;
    }

    /// What the device is expected to run from now on. Links are opened to nothing else, where the two can be told apart.
    fn expect(&self, _firmware: Firmware) {}

    /// Descriptors that an open link of its own holds: none where it shares a socket with others.
    fn descriptors(&self) -> usize {
        0
    }

    /// The adapter of this machine that the link shares with other devices, where there are only so many links at once
    /// (Bluetooth). Such a link is not kept open while its device waits for its turn, and opening it may have to wait for
    /// that of others: it ends by itself, but nobody else can say within what time.
    fn adapter(&self) -> Option<String> {
        None
    }
}

/// How long [`Connector::maybe_back`] waits where there is nothing to watch.
const LOOK_AGAIN: Duration = Duration::from_millis(50);

/// What a device runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Firmware {
    /// What it is for.
    #[default]
    Application,
    /// What starts the application, and may speak SMP too.
    Bootloader,
}

/// What a link can carry, for filling frames and for telling the limit.
#[derive(Debug, Clone)]
pub struct LinkProperties {
    /// Largest message, in bytes, that may be sent before the server's buffers are known.
    pub safe_message: usize,
    /// Largest message, in bytes, that the medium carries whatever the server says.
    pub max_message: usize,
    /// Bytes of a server's `buf_size` that are not available to the message (length and CRC on console framing).
    pub buffer_overhead: usize,
    /// Bytes per second on the wire; `None` where it is not known.
    pub wire_bytes_per_s: Option<f64>,
    /// What a message costs on the wire.
    pub framing: Framing,
    /// Whether the link survives a reset of the device (a UART bridge, a network socket) or vanishes with it.
    pub survives_reset: bool,
}

/// How messages are wrapped on the wire.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Framing {
    /// Console framing with lines of at most `line_length` bytes, marker and newline included.
    Console {
        /// Bytes of the longest line.
        line_length: usize,
    },
    /// Messages as they are, one after the other.
    Raw,
    /// COBS: a CRC behind each message, no zeros within it, one behind it.
    Cobs,
    /// One message per datagram (UDP) or as it is (memory).
    Datagram,
    /// A message goes in GATT writes of at most `write_len` bytes. Whether the server puts several of them together is
    /// its own choice, so a longer message goes only to one that has shown it.
    Gatt {
        /// Bytes of the longest write: the ATT MTU less 3 bytes of header.
        write_len: usize,
    },
}

/// What each write costs besides its data, in bytes: ATT opcode and handle (3), L2CAP header (4), link layer header, access
/// address, CRC and preamble (10) (Bluetooth Core Specification, Vol 3 Part F 3.4.5, Part A 3.1, Vol 6 Part B 2.1).
const GATT_WRITE_OVERHEAD: usize = 17;

impl Framing {
    /// Bytes on the wire for a message of `message_len` bytes.
    #[must_use]
    pub fn wire_len(self, message_len: usize) -> usize {
        match self {
            Self::Console { line_length } => crate::smp::console::encoded_len(message_len, line_length),
            Self::Cobs => crate::smp::cobs::encoded_len(message_len),
            Self::Raw | Self::Datagram => message_len,
            Self::Gatt { write_len } => {
                message_len + message_len.div_ceil(write_len.max(1)) * GATT_WRITE_OVERHEAD
            }
        }
    }
}

/// What kind of trouble a link is in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum LinkErrorKind {
    /// The device or port is not there.
    NotFound,
    /// Another process holds the port.
    Busy,
    /// The system does not let this user open it.
    Denied,
    /// It was open and is gone.
    Disconnected,
    /// Nobody answers at the other end: refused, unreachable, name not known.
    Unreachable,
    /// The message is larger than the medium carries.
    TooLong,
    /// This machine lacks something: no adapter, no daemon, no such feature.
    Unavailable,
    /// Several devices fit and nothing tells them apart.
    Ambiguous,
    /// The system has no Bluetooth service that could be asked.
    NoBluetooth,
    /// No Bluetooth adapter.
    NoAdapter,
    /// The Bluetooth adapter is switched off.
    AdapterOff,
    /// The peripheral refuses whoever is not bonded with it.
    PairingRequired,
    /// The peripheral has no SMP service, or not all of it.
    NoSmpService,
    /// The peripheral takes no message as long as is needed: small packets, and it does not put them together.
    MtuTooSmall,
    /// Anything else that the system said.
    Io,
}

/// Trouble with a link.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{message}")]
pub struct LinkError {
    /// What kind.
    pub kind: LinkErrorKind,
    /// Lower-case; what was expected and what came.
    pub message: String,
    /// The next thing to do.
    pub help: String,
    /// What the system said.
    #[source]
    pub source: Option<Arc<std::io::Error>>,
}

impl LinkError {
    /// An error without a system error behind it.
    pub fn new(kind: LinkErrorKind, message: impl Into<String>, help: impl Into<String>) -> Self {
        Self { kind, message: message.into(), help: help.into(), source: None }
    }
}

impl From<LinkError> for Cause {
    fn from(error: LinkError) -> Self {
        let (class, code) = match error.kind {
            LinkErrorKind::NotFound => (Class::Link, "link.not_found"),
            LinkErrorKind::Busy => (Class::Station, "station.port_busy"),
            LinkErrorKind::Denied => (Class::Station, "station.port_denied"),
            LinkErrorKind::Disconnected => (Class::Link, "link.disconnected"),
            LinkErrorKind::Unreachable => (Class::Link, "link.unreachable"),
            LinkErrorKind::TooLong => (Class::Internal, "link.message_too_long"),
            LinkErrorKind::Unavailable => (Class::Station, "station.unavailable"),
            LinkErrorKind::Ambiguous => (Class::Plan, "plan.ambiguous_device"),
            LinkErrorKind::NoBluetooth => (Class::Station, "station.no_bluetooth"),
            LinkErrorKind::NoAdapter => (Class::Station, "station.no_adapter"),
            LinkErrorKind::AdapterOff => (Class::Station, "station.adapter_off"),
            LinkErrorKind::PairingRequired => (Class::Device, "device.pairing_required"),
            LinkErrorKind::NoSmpService => (Class::Device, "device.no_smp_service"),
            LinkErrorKind::MtuTooSmall => (Class::Device, "link.mtu_too_small"),
            LinkErrorKind::Io => (Class::Link, "link.io"),
        };
        Self::new(class, code, error.message, error.help)
    }
}
