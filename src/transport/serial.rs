//! Serial ports: opening, lines, closing. Framing is the stream's, and which port a device has is discovery's.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use tokio_serial::{SerialPort as _, SerialStream};

use super::detached;
use super::link::{Connector, Link, LinkError, LinkErrorKind};
use super::stream::{StreamFraming, StreamLink};
use crate::plan::{FlowControl, FramingChoice, LineState, LinkOptions};

/// How long opening a port may take. Drivers of healthy ports need milliseconds.
const OPEN_LIMIT: Duration = Duration::from_secs(10);
/// How long an earlier close of the same port may hold up an opening.
const TURN_LIMIT: Duration = Duration::from_secs(3);
/// How long a close waits for what was written to go out. Without it the last message of a conversation may be lost;
/// without a limit the kernel waits up to 30 s per port (`closing_wait`).
const DRAIN_LIMIT: Duration = Duration::from_millis(500);
/// Bits on the wire per byte: start, eight data, stop.
const BITS_PER_BYTE: f64 = 10.0;

/// What [`open`] gives: on Unix a port that is not bound to a runtime yet.
#[cfg(unix)]
type OpenPort = serialport::TTYPort;
#[cfg(not(unix))]
type OpenPort = SerialStream;

/// How a serial port is used: the part of a plan's `link` that is about ports.
#[derive(Debug, Clone, PartialEq)]
pub struct SerialOptions {
    /// Bits per second.
    pub baud: u32,
    /// How messages are wrapped.
    pub framing: FramingChoice,
    /// Longest line of console framing, in bytes, marker and newline included.
    pub line_length: usize,
    /// Data terminal ready. `Keep` leaves it as the system sets it when a port is opened: asserted on Linux.
    pub dtr: LineState,
    /// Request to send; as [`SerialOptions::dtr`].
    pub rts: LineState,
    /// Flow control.
    pub flow_control: FlowControl,
}

impl From<&LinkOptions> for SerialOptions {
    fn from(link: &LinkOptions) -> Self {
        Self {
            baud: link.baud,
            framing: link.framing,
            line_length: link.line_length,
            dtr: link.dtr,
            rts: link.rts,
            flow_control: link.flow_control,
        }
    }
}

/// Opens one port by its name.
#[derive(Debug, Clone)]
pub struct SerialConnector {
    path: String,
    options: SerialOptions,
}

impl SerialConnector {
    /// For the port at `path`, for example `/dev/ttyACM0` or `COM3`.
    pub fn new(path: impl Into<String>, options: SerialOptions) -> Self {
        Self { path: path.into(), options }
    }
}

#[async_trait]
impl Connector for SerialConnector {
    async fn connect(&self) -> Result<Box<dyn Link>, LinkError> {
        let framing = match self.options.framing {
            FramingChoice::Console => StreamFraming::console(self.options.line_length),
            FramingChoice::Raw | FramingChoice::Auto => {
                return Err(LinkError::new(
                    LinkErrorKind::Unavailable,
                    "expected console framing: raw and auto framing are not yet supported",
                    "write `framing: console`",
                ));
            }
        };
        let (path, options) = (self.path.clone(), self.options.clone());
        let port = detached::run(&format!("open {}", self.path), OPEN_LIMIT, move || open(&path, &options))
            .await??;
        let stream = into_stream(port).map_err(|error| open_error(&self.path, &error))?;
        let properties =
            framing.properties(wire_rate(&self.path, self.options.baud), survives_reset(&self.path));
        let link = StreamLink::start(stream, close, framing, properties, self.address()).await?;
        Ok(Box::new(link))
    }

    fn address(&self) -> String {
        format!("serial:{}", self.path)
    }
}

#[cfg(unix)]
fn into_stream(port: OpenPort) -> Result<SerialStream, serialport::Error> {
    SerialStream::try_from(port)
}

#[cfg(not(unix))]
fn into_stream(port: OpenPort) -> Result<SerialStream, serialport::Error> {
    Ok(port)
}

/// The rate of a port whose baud rate is a real one. USB devices with a port of their own (CDC ACM) and
/// pseudo-terminals take any baud rate and ignore it.
fn wire_rate(path: &str, baud: u32) -> Option<f64> {
    is_bridge(path).then(|| f64::from(baud) / BITS_PER_BYTE)
}

/// Whether the port is expected to stay when the device behind it resets.
fn survives_reset(path: &str) -> bool {
    is_bridge(path) || real_name(path).starts_with("/dev/pts")
}

/// Whether a UART lies behind the port. Debug probes with CDC ACM do have one, but cannot be told from devices without.
fn is_bridge(path: &str) -> bool {
    let real = real_name(path);
    let name = real.file_name().unwrap_or_default().to_string_lossy();
    !(name.starts_with("ttyACM") || name.contains("usbmodem") || real.starts_with("/dev/pts"))
}

/// The port behind links such as `/dev/serial/by-id/…`.
fn real_name(path: &str) -> PathBuf {
    std::fs::canonicalize(path).unwrap_or_else(|_| PathBuf::from(path))
}

/// How many openings and closings of each port are under way in this process. A close goes on after the link is gone, and a
/// port opened again before its end would be found busy, held by this very process.
static IN_TRANSIT: Mutex<BTreeMap<PathBuf, usize>> = Mutex::new(BTreeMap::new());
static TURN: Condvar = Condvar::new();

/// The right to open or close a port; who wants to open it waits until all are dropped.
struct Turn(PathBuf);

impl Turn {
    /// Waits until nobody opens or closes `path`.
    fn wait(path: &Path) -> Result<Self, LinkError> {
        let ports = IN_TRANSIT.lock().unwrap_or_else(PoisonError::into_inner);
        let (mut ports, waited) = TURN
            .wait_timeout_while(ports, TURN_LIMIT, |ports| ports.contains_key(path))
            .unwrap_or_else(PoisonError::into_inner);
        if waited.timed_out() {
            return Err(LinkError::new(
                LinkErrorKind::Busy,
                format!(
                    "{} is still being opened or closed from before, after {TURN_LIMIT:?}",
                    path.display()
                ),
                "unplug the device and plug it in again, then look at the kernel's log",
            ));
        }
        ports.insert(path.to_owned(), 1);
        Ok(Self(path.to_owned()))
    }

    /// Takes part without waiting, to close a port.
    fn join(path: PathBuf) -> Self {
        *IN_TRANSIT.lock().unwrap_or_else(PoisonError::into_inner).entry(path.clone()).or_default() += 1;
        Self(path)
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        let mut ports = IN_TRANSIT.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = ports.get_mut(&self.0) {
            *count -= 1;
            if *count == 0 {
                ports.remove(&self.0);
            }
        }
        TURN.notify_all();
    }
}

/// Opens the port and sets it up. May hang; runs on its own thread.
///
/// What the `serialport` crate does: opens without becoming the terminal's owner, takes it exclusively (`TIOCEXCL` and
/// `flock`), sets raw mode, baud rate and flow control, and leaves every other setting. The system asserts DTR and RTS
/// when a port is opened, before any program can have a say; whether it drops them at the close (`HUPCL`) is left as
/// the user set it (`stty -F PORT -hupcl` keeps them).
fn open(path: &str, options: &SerialOptions) -> Result<OpenPort, LinkError> {
    let _turn = Turn::wait(&real_name(path))?;
    let builder = tokio_serial::new(path, options.baud).flow_control(match options.flow_control {
        FlowControl::None => tokio_serial::FlowControl::None,
        FlowControl::Hardware => tokio_serial::FlowControl::Hardware,
        FlowControl::Software => tokio_serial::FlowControl::Software,
    });
    #[cfg(unix)]
    let opened = serialport::TTYPort::open(&builder);
    #[cfg(not(unix))]
    let opened = SerialStream::open(&builder);
    let mut port = opened.map_err(|error| open_error(path, &error))?;

    let no_line = |line: &str, error: serialport::Error| {
        LinkError::new(
            LinkErrorKind::Unavailable,
            format!("cannot set {line} of {path}: {error}"),
            format!("a pseudo-terminal has no such line: write `{}: keep`", line.to_lowercase()),
        )
    };
    if let Some(level) = level(options.dtr) {
        port.write_data_terminal_ready(level).map_err(|error| no_line("DTR", error))?;
    }
    if let Some(level) = level(options.rts) {
        port.write_request_to_send(level).map_err(|error| no_line("RTS", error))?;
    }
    // Input that the kernel kept from before. A port that cannot do this gets rid of it by reading.
    let _ = port.clear(serialport::ClearBuffer::Input);
    Ok(port)
}

fn level(line: LineState) -> Option<bool> {
    match line {
        LineState::Keep => None,
        LineState::On => Some(true),
        LineState::Off => Some(false),
    }
}

/// Closes on a thread of its own: the kernel may hold up a close for as long as it likes.
fn close(stream: SerialStream, address: &str) {
    let path = address.strip_prefix("serial:").unwrap_or(address);
    let turn = Turn::join(real_name(path));
    let job = move || {
        let end = Instant::now() + DRAIN_LIMIT;
        while stream.bytes_to_write().is_ok_and(|waiting| waiting > 0) && Instant::now() < end {
            std::thread::sleep(Duration::from_millis(2));
        }
        // What did not go out by now never will; thrown away, it cannot hold up the close.
        let _ = stream.clear(serialport::ClearBuffer::Output);
        drop(stream);
        drop(turn);
    };
    // Without a thread the job, and with it the stream, is dropped here: better slow than leaked.
    let _ = detached::spawn(job);
}

/// Says why a port could not be opened.
fn open_error(path: &str, error: &serialport::Error) -> LinkError {
    use serialport::ErrorKind as Kind;
    let source = std::io::Error::from(error.clone());
    let (kind, message, help) = match error.kind() {
        Kind::NoDevice if Path::new(path).exists() || !cfg!(unix) => {
            let holder = holder(path);
            let by = holder.as_deref().unwrap_or("another process, which only its owner or root can name");
            (
                LinkErrorKind::Busy,
                format!("expected {path} to be free, but it is held by {by}"),
                "close that program (a terminal, ModemManager, a second flashfleet), then run again"
                    .to_owned(),
            )
        }
        Kind::Io(std::io::ErrorKind::PermissionDenied) => {
            (LinkErrorKind::Denied, format!("this user may not open {path}: {error}"), denied_help(path))
        }
        Kind::NoDevice | Kind::Io(std::io::ErrorKind::NotFound) => (
            LinkErrorKind::NotFound,
            format!("expected a serial port at {path}, found nothing there"),
            "check that the device is plugged in and powered; `flashfleet list` shows what there is"
                .to_owned(),
        ),
        _ if is_absent(error) => (
            LinkErrorKind::NotFound,
            format!("expected a device behind {path}, found none: {error}"),
            "check that the device is plugged in and powered; `flashfleet list` shows what there is"
                .to_owned(),
        ),
        _ if is_no_port(error) => (
            LinkErrorKind::Unavailable,
            format!("expected a serial port at {path}, found something else: {error}"),
            "`flashfleet list` shows the ports of this machine".to_owned(),
        ),
        _ => (
            LinkErrorKind::Io,
            format!("cannot open {path}: {error}"),
            "unplug the device and plug it in again, then look at the kernel's log".to_owned(),
        ),
    };
    LinkError { kind, message, help, source: Some(std::sync::Arc::new(source)) }
}

/// Whether the system said what it says of things that are no terminals. The `serialport` crate keeps the text of such
/// an error and not its number.
#[cfg(unix)]
fn is_no_port(error: &serialport::Error) -> bool {
    use nix::errno::Errno;
    [Errno::ENOTTY, Errno::EISDIR, Errno::EINVAL, Errno::ELOOP, Errno::ENOTDIR]
        .iter()
        .any(|errno| errno.desc() == error.description)
}

#[cfg(not(unix))]
fn is_no_port(_error: &serialport::Error) -> bool {
    false
}

/// Whether the system said what it says of a port whose device is gone or was never there (`/dev/ttyS7`).
#[cfg(unix)]
fn is_absent(error: &serialport::Error) -> bool {
    use nix::errno::Errno;
    [Errno::ENXIO, Errno::ENODEV, Errno::EIO].iter().any(|errno| errno.desc() == error.description)
}

#[cfg(not(unix))]
fn is_absent(_error: &serialport::Error) -> bool {
    false
}

/// The processes that have `path` open, as far as this user may see.
#[cfg(target_os = "linux")]
fn holder(path: &str) -> Option<String> {
    let real = real_name(path);
    let mut holders = Vec::new();
    for process in std::fs::read_dir("/proc").ok()?.flatten() {
        let name = process.file_name();
        let Some(pid) = name.to_str().and_then(|name| name.parse::<u32>().ok()) else { continue };
        let Ok(files) = std::fs::read_dir(process.path().join("fd")) else { continue };
        if files.flatten().any(|file| std::fs::read_link(file.path()).is_ok_and(|target| target == real)) {
            let command = std::fs::read_to_string(process.path().join("comm")).unwrap_or_default();
            holders.push(if pid == std::process::id() {
                "this process".to_owned()
            } else {
                format!("{} (process {pid})", command.trim())
            });
        }
    }
    holders.sort();
    (!holders.is_empty()).then(|| holders.join(", "))
}

#[cfg(not(target_os = "linux"))]
fn holder(_path: &str) -> Option<String> {
    None
}

#[cfg(unix)]
fn denied_help(path: &str) -> String {
    use std::os::unix::fs::MetadataExt as _;
    let group = std::fs::metadata(path).ok().and_then(|data| {
        let group = nix::unistd::Group::from_gid(nix::unistd::Gid::from_raw(data.gid())).ok().flatten()?;
        // Group root would open far more than ports.
        (data.gid() != 0).then_some(group.name)
    });
    match group {
        Some(group) => format!(
            "add the user to the group that owns the port: `sudo usermod -aG {group} $USER`, then log in again; or \
             install a udev rule for the device"
        ),
        None => "install a udev rule that gives the port to the group `dialout`, and add the user to it"
            .to_owned(),
    }
}

#[cfg(not(unix))]
fn denied_help(_path: &str) -> String {
    "close other programs that use the port".to_owned()
}
