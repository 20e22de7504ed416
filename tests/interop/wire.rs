//! A raw SMP client for the recorder and the rig's own tests: sends bytes, shows what comes.
//!
//! It knows framing, and nothing of what a right answer is.

use std::fs::File;
use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream, UdpSocket};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread::JoinHandle;
use std::time::Duration;

use nix::sys::termios::{SetArg, SpecialCharacterIndices, cfmakeraw, tcgetattr, tcsetattr};

use crate::console::{Decoder, Line, encode};
use crate::error::{Context, Result, RigError};

/// Between two lines to a native_sim terminal, which no baud rate slows down: the stock server has line buffers
/// for two lines, and drops what comes sooner than it can empty them (measured: 5 ms lose, 20 ms do not).
const BREATH: Duration = Duration::from_millis(20);
/// How long a read waits before it looks whether the connection is still wanted; tenths of a second on a terminal.
const LOOK_UP: Duration = Duration::from_millis(100);

/// Puts one message on the wire.
type Transmit = Box<dyn FnMut(&[u8]) -> std::io::Result<()> + Send>;

/// A connection to a server under any framing, closed for good when this is dropped.
pub(crate) struct Wire {
    send: Option<Transmit>,
    messages: Receiver<Vec<u8>>,
    closed: Arc<AtomicBool>,
    reader: Option<JoinHandle<()>>,
}

impl Wire {
    /// Console framing over a TCP serial server.
    pub(crate) fn tcp(address: SocketAddr) -> Result<Self> {
        let stream = TcpStream::connect(address).context(address)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(LOOK_UP))?;
        let mut reader = stream.try_clone()?;
        let read = move |bytes: &mut [u8]| match reader.read(bytes) {
            Ok(0) => Outcome::End,
            other => Outcome::of(other),
        };
        Ok(Self::console(stream, read, Duration::ZERO))
    }

    /// Console framing over a pseudo-terminal.
    pub(crate) fn terminal(path: &Path) -> Result<Self> {
        let file = File::options().read(true).write(true).open(path).context(path.display())?;
        let mut mode = tcgetattr(&file).context(path.display())?;
        cfmakeraw(&mut mode);
        // A read that nothing comes for ends with 0 bytes after LOOK_UP.
        mode.control_chars[SpecialCharacterIndices::VMIN as usize] = 0;
        mode.control_chars[SpecialCharacterIndices::VTIME as usize] = 1;
        tcsetattr(&file, SetArg::TCSANOW, &mode).context(path.display())?;
        let mut reader = file.try_clone()?;
        Ok(Self::console(file, move |bytes: &mut [u8]| Outcome::of(reader.read(bytes)), BREATH))
    }

    /// One message per datagram.
    pub(crate) fn udp(address: SocketAddr) -> Result<Self> {
        let any = if address.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" };
        let socket = UdpSocket::bind(any)?;
        socket.connect(address).context(address)?;
        socket.set_read_timeout(Some(LOOK_UP))?;
        let reader = socket.try_clone()?;
        let read = move |bytes: &mut [u8]| match reader.recv(bytes) {
            // A datagram that was refused is an error of one read; the socket stays good.
            Err(error) if error.kind() == ErrorKind::ConnectionRefused => Outcome::Nothing,
            other => Outcome::of(other),
        };
        let whole = |bytes: &[u8], messages: &Sender<Vec<u8>>| messages.send(bytes.to_vec()).is_ok();
        Ok(Self::new(move |message| socket.send(message).map(drop), read, whole))
    }

    fn console(
        mut writer: impl Write + Send + 'static,
        read: impl FnMut(&mut [u8]) -> Outcome + Send + 'static,
        breath: Duration,
    ) -> Self {
        let send = move |message: &[u8]| {
            for line in encode(message).split_inclusive(|byte| *byte == b'\n') {
                writer.write_all(line)?;
                writer.flush()?;
                std::thread::sleep(breath);
            }
            Ok(())
        };
        let (mut decoder, mut line) = (Decoder::default(), Vec::new());
        let take = move |bytes: &[u8], messages: &Sender<Vec<u8>>| {
            for byte in bytes {
                line.push(*byte);
                if *byte == b'\n' {
                    let decoded = decoder.line(&line);
                    line.clear();
                    if let Line::Message(message) = decoded
                        && messages.send(message).is_err()
                    {
                        return false;
                    }
                }
            }
            true
        };
        Self::new(send, read, take)
    }

    fn new(
        send: impl FnMut(&[u8]) -> std::io::Result<()> + Send + 'static,
        mut read: impl FnMut(&mut [u8]) -> Outcome + Send + 'static,
        mut take: impl FnMut(&[u8], &Sender<Vec<u8>>) -> bool + Send + 'static,
    ) -> Self {
        let (sender, messages) = channel();
        let closed = Arc::new(AtomicBool::new(false));
        let unwanted = Arc::clone(&closed);
        let reader = std::thread::spawn(move || {
            let mut bytes = vec![0; 65536];
            while !unwanted.load(Ordering::SeqCst) {
                match read(&mut bytes) {
                    Outcome::Bytes(count) if take(&bytes[..count], &sender) => {}
                    Outcome::Nothing => {}
                    Outcome::Bytes(_) | Outcome::End => return,
                }
            }
        });
        Self { send: Some(Box::new(send)), messages, closed, reader: Some(reader) }
    }

    pub(crate) fn send(&mut self, message: &[u8]) -> Result<()> {
        let send = self.send.as_mut().ok_or_else(|| RigError::new("the connection is closed"))?;
        send(message).context("sending to the server")
    }

    /// The next message; none where the server stays silent for `within`.
    pub(crate) fn receive(&self, within: Duration) -> Result<Option<Vec<u8>>> {
        match self.messages.recv_timeout(within) {
            Ok(message) => Ok(Some(message)),
            Err(RecvTimeoutError::Timeout) => Ok(None),
            Err(RecvTimeoutError::Disconnected) => Err(RigError::new("the server closed the connection")),
        }
    }
}

impl Drop for Wire {
    fn drop(&mut self) {
        drop(self.send.take());
        self.closed.store(true, Ordering::SeqCst);
        if let Some(reader) = self.reader.take() {
            let _ = reader.join();
        }
    }
}

/// What one read of a connection brought.
enum Outcome {
    Bytes(usize),
    Nothing,
    End,
}

impl Outcome {
    fn of(read: std::io::Result<usize>) -> Self {
        match read {
            Ok(0) => Self::Nothing,
            Ok(count) => Self::Bytes(count),
            Err(error) => match error.kind() {
                ErrorKind::WouldBlock | ErrorKind::TimedOut | ErrorKind::Interrupted => Self::Nothing,
                _ => Self::End,
            },
        }
    }
}
