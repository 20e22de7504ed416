//! Serial ports: opening, lines, closing. Framing is the stream's, and which port a device has is discovery's.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use tokio_serial::SerialPort as _;
#[cfg(not(unix))]
use tokio_serial::SerialStream;

use super::detached;
use super::framing::{FramingMemory, StreamFraming};
use super::link::{Connector, Firmware, Link, LinkError, LinkErrorKind};
use super::open_error::open_error;
use super::stream::StreamLink;
#[cfg(unix)]
use super::tty::Tty;
use crate::plan::{FlowControl, FramingChoice, LineState, LinkOptions};

/// How long opening a port may take. Drivers of healthy ports need milliseconds.
const OPEN_LIMIT: Duration = Duration::from_secs(10);
/// How long an earlier close of the same port may hold up an opening.
const TURN_LIMIT: Duration = Duration::from_secs(3);
/// How long a close waits for what was written to go out. Without it the last message of a conversation may be lost;
/// without a limit the kernel waits up to 30 s per port (`closing_wait`).
const DRAIN_LIMIT: Duration = Duration::from_millis(500);
/// How often it is looked whether the name of a port has come back …
const LOOK: Duration = Duration::from_millis(10);
/// … and after how many looks it is time to try to open it, whatever they showed.
const LOOKS: u32 = 5;
/// Bits on the wire per byte: start, eight data, stop.
const BITS_PER_BYTE: f64 = 10.0;

/// What [`open`] gives: on Unix a port that is not bound to a runtime yet.
#[cfg(unix)]
type OpenPort = serialport::TTYPort;
#[cfg(not(unix))]
type OpenPort = SerialStream;

/// How a serial port is used: the part of a plan's `link` that is about ports.
#[derive(Debug, Clone)]
pub struct SerialOptions {
    /// Bits per second.
    pub baud: u32,
    /// How messages are wrapped.
    pub framing: FramingChoice,
    /// What the device was found to speak, where that is found out.
    pub memory: FramingMemory,
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
            memory: FramingMemory::default(),
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
        let (path, options) = (self.path.clone(), self.options.clone());
        let port = detached::run(&format!("open {}", self.path), OPEN_LIMIT, move || open(&path, &options))
            .await??;
        let stream = into_stream(port).map_err(|error| open_error(&self.path, &error))?;
        let rate = wire_rate(&self.path, self.options.baud);
        let SerialOptions { framing, line_length, memory, .. } = &self.options;
        let framing = StreamFraming::new(*framing, *line_length, memory);
        let wire = (rate, survives_reset(&self.path));
        let link = StreamLink::start(stream, close, framing, wire, self.address()).await?;
        Ok(Box::new(match rate {
            Some(rate) if is_pseudo_terminal(&self.path) => link.paced(rate),
            _ => link,
        }))
    }

    async fn maybe_back(&self) {
        // A name that is there and does not open has to wait for the system. One that is not shows when it comes.
        let was_there = Path::new(&self.path).exists();
        for _ in 0..LOOKS {
            tokio::time::sleep(LOOK).await;
            if !was_there && Path::new(&self.path).exists() {
                return;
            }
        }
    }

    fn descriptors(&self) -> usize {
        1
    }

    fn address(&self) -> String {
        format!("serial:{}", self.path)
    }

    fn expect(&self, firmware: Firmware) {
        self.options.memory.expect(firmware);
    }
}

#[cfg(unix)]
fn into_stream(port: OpenPort) -> Result<Tty, serialport::Error> {
    Tty::new(port)
}

#[cfg(not(unix))]
fn into_stream(port: OpenPort) -> Result<SerialStream, serialport::Error> {
    Ok(port)
}

/// The rate of a port whose baud rate is a real one. USB devices with a port of their own (CDC ACM) take any baud rate and
/// ignore it. So does a pseudo-terminal, but there the link keeps to it by itself.
fn wire_rate(path: &str, baud: u32) -> Option<f64> {
    let rate = f64::from(baud) / BITS_PER_BYTE;
    (rate > 0.0 && (is_bridge(path) || is_pseudo_terminal(path))).then_some(rate)
}

/// Whether the port is expected to stay when the device behind it resets.
fn survives_reset(path: &str) -> bool {
    is_bridge(path) || is_pseudo_terminal(path)
}

/// Whether an emulator or a simulator lies behind the port: no wire slows down what is sent, and none is needed to lose it.
pub(super) fn is_pseudo_terminal(path: &str) -> bool {
    real_name(path).starts_with("/dev/pts")
}

/// Whether a UART lies behind the port. Debug probes with CDC ACM do have one, but cannot be told from devices without.
fn is_bridge(path: &str) -> bool {
    let real = real_name(path);
    let name = real.file_name().unwrap_or_default().to_string_lossy();
    !(name.starts_with("ttyACM") || name.contains("usbmodem") || is_pseudo_terminal(path))
}

/// The port behind links such as `/dev/serial/by-id/…`.
pub(super) fn real_name(path: &str) -> PathBuf {
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

/// A port that may still hold what was written to it.
trait Outgoing: Send + 'static {
    /// Whether something has yet to go out.
    fn waits(&self) -> bool;
    /// Throws that away.
    fn discard(&self);
    /// Gives up the exclusive hold. A close does that too, but not at once where a program is being started at the same
    /// time: until it runs, the child has a copy of every open file.
    fn unlock(&self);
}

#[cfg(unix)]
impl Outgoing for Tty {
    fn waits(&self) -> bool {
        self.bytes_to_write().is_some_and(|waiting| waiting > 0)
    }

    fn discard(&self) {
        Tty::discard(self);
    }

    fn unlock(&self) {
        use std::os::fd::AsRawFd as _;
        let Some(port) = self.port() else { return };
        #[expect(deprecated, reason = "the lock is the serialport crate's, so there is no `Flock` to drop")]
        let result = nix::fcntl::flock(port.as_raw_fd(), nix::fcntl::FlockArg::Unlock);
        // The close that follows does the same.
        let _ = result;
    }
}

#[cfg(not(unix))]
impl Outgoing for SerialStream {
    fn waits(&self) -> bool {
        self.bytes_to_write().is_ok_and(|waiting| waiting > 0)
    }

    fn discard(&self) {
        // A port that is gone has nothing left to throw away.
        let _ = self.clear(serialport::ClearBuffer::Output);
    }

    fn unlock(&self) {}
}

/// Closes on a thread of its own: the kernel may hold up a close for as long as it likes.
fn close<P: Outgoing>(port: P, address: &str) {
    let path = address.strip_prefix("serial:").unwrap_or(address);
    let turn = Turn::join(real_name(path));
    let job = move || {
        let end = Instant::now() + DRAIN_LIMIT;
        while port.waits() && Instant::now() < end {
            std::thread::sleep(Duration::from_millis(2));
        }
        if port.waits() {
            // What did not go out by now never will; thrown away, it cannot hold up the close. Not done otherwise: a
            // pseudo-terminal would throw away what the other side has yet to read.
            port.discard();
        }
        port.unlock();
        drop(port);
        drop(turn);
    };
    // Without a thread the job, and with it the port, is dropped here: better slow than leaked.
    let _ = detached::spawn(job);
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::sync::mpsc::{Receiver, Sender, channel};
    use std::thread::{self, ThreadId};

    use super::*;

    /// A port with so many bytes to send, one of which goes out at each look; closing it takes as long as the test
    /// wants.
    struct Slow {
        waiting: AtomicUsize,
        goes_out: bool,
        discarded: Sender<()>,
        may_close: Receiver<()>,
        closed_on: Sender<ThreadId>,
    }

    impl Outgoing for Slow {
        fn waits(&self) -> bool {
            let waiting = self.waiting.load(Ordering::Relaxed);
            if self.goes_out {
                self.waiting.store(waiting.saturating_sub(1), Ordering::Relaxed);
            }
            waiting > 0
        }

        fn discard(&self) {
            self.discarded.send(()).unwrap();
        }

        fn unlock(&self) {}
    }

    impl Drop for Slow {
        fn drop(&mut self) {
            let _ = self.may_close.recv();
            self.closed_on.send(thread::current().id()).unwrap();
        }
    }

    /// The port, what was thrown away, what lets it close, and where it closed.
    fn slow(waiting: usize, goes_out: bool) -> (Slow, Receiver<()>, Sender<()>, Receiver<ThreadId>) {
        let (discarded, was_discarded) = channel();
        let (let_close, may_close) = channel();
        let (closed_on, closed) = channel();
        let port = Slow { waiting: waiting.into(), goes_out, discarded, may_close, closed_on };
        (port, was_discarded, let_close, closed)
    }

    #[test]
    fn a_close_that_hangs_hangs_no_one_else() {
        let (port, _discarded, let_close, closed) = slow(0, true);
        close(port, "serial:/test/hangs");
        // Reached although the port cannot close yet; meanwhile it has its turn.
        assert!(IN_TRANSIT.lock().unwrap().contains_key(Path::new("/test/hangs")));
        let_close.send(()).unwrap();
        assert_ne!(closed.recv().unwrap(), thread::current().id());
        // And the next one gets it.
        Turn::wait(Path::new("/test/hangs")).unwrap();
    }

    #[test]
    fn a_close_waits_for_what_still_goes_out_and_throws_nothing_away() {
        let (port, discarded, let_close, closed) = slow(5, true);
        let_close.send(()).unwrap();
        close(port, "serial:/test/goes-out");
        closed.recv().unwrap();
        assert!(discarded.try_recv().is_err());
    }

    #[test]
    fn a_close_throws_away_what_never_goes_out() {
        let (port, discarded, let_close, closed) = slow(5, false);
        let_close.send(()).unwrap();
        close(port, "serial:/test/stuck");
        closed.recv().unwrap();
        assert!(discarded.try_recv().is_ok());
    }

    #[test]
    fn ports_with_a_uart_and_those_that_pretend_have_a_rate() {
        assert_eq!(wire_rate("/dev/ttyUSB7", 115_200), Some(11_520.0));
        assert_eq!(wire_rate("/dev/ttyACM7", 115_200), None);
        assert_eq!(wire_rate("/dev/pts/999", 115_200), Some(11_520.0));
        assert_eq!(wire_rate("/dev/pts/999", 0), None);
        assert!(
            survives_reset("/dev/ttyUSB7")
                && survives_reset("/dev/pts/999")
                && !survives_reset("/dev/ttyACM7")
        );
    }

    #[tokio::test(start_paused = true)]
    async fn a_port_that_comes_back_is_noticed_when_it_comes() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("port");
        let options = SerialOptions::from(&LinkOptions::default());
        let connector = SerialConnector::new(path.to_string_lossy(), options);
        let begin = tokio::time::Instant::now();
        connector.maybe_back().await;
        assert_eq!(begin.elapsed(), LOOK * LOOKS, "it does not come");
        let comes = async {
            tokio::time::sleep(LOOK * 3 / 2).await;
            std::fs::write(&path, "").unwrap();
        };
        let begin = tokio::time::Instant::now();
        tokio::join!(connector.maybe_back(), comes);
        assert_eq!(begin.elapsed(), LOOK * 2);
        // What is there already and did not open needs time.
        let begin = tokio::time::Instant::now();
        connector.maybe_back().await;
        assert_eq!(begin.elapsed(), LOOK * LOOKS);
    }
}
