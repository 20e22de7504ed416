//! A raw SMP client for the recorder and the rig's own tests: sends bytes, shows what comes.
//!
//! It knows framing, and nothing of what a right answer is.

use std::fs::File;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream, UdpSocket};
use std::path::Path;
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::{Duration, Instant};

use crate::console::{Decoder, Line, encode};
use crate::error::{Context, Result, RigError};

/// Between two lines to a native_sim terminal, which no baud rate slows down: the stock server has line buffers
/// for two lines, and drops what comes sooner than it can empty them (measured: 5 ms lose, 20 ms do not).
const BREATH: Duration = Duration::from_millis(20);

/// A connection to a server under any framing.
pub(crate) struct Wire {
    send: Box<dyn FnMut(&[u8]) -> std::io::Result<()> + Send>,
    messages: Receiver<Vec<u8>>,
}

impl Wire {
    /// Console framing over a TCP serial server.
    pub(crate) fn tcp(address: SocketAddr) -> Result<Self> {
        let stream = TcpStream::connect(address).context(address)?;
        stream.set_nodelay(true)?;
        let reader = stream.try_clone()?;
        Ok(Self::console(stream, reader, Duration::ZERO))
    }

    /// Console framing over a pseudo-terminal that is already raw.
    pub(crate) fn terminal(path: &Path) -> Result<Self> {
        let file = File::options().read(true).write(true).open(path).context(path.display())?;
        let mut mode = nix::sys::termios::tcgetattr(&file).context(path.display())?;
        nix::sys::termios::cfmakeraw(&mut mode);
        nix::sys::termios::tcsetattr(&file, nix::sys::termios::SetArg::TCSANOW, &mode).context(path.display())?;
        let reader = file.try_clone()?;
        Ok(Self::console(file, reader, BREATH))
    }

    /// One message per datagram.
    pub(crate) fn udp(address: SocketAddr) -> Result<Self> {
        let any = if address.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" };
        let socket = UdpSocket::bind(any)?;
        socket.connect(address).context(address)?;
        let reader = socket.try_clone()?;
        let (sender, messages) = channel();
        std::thread::spawn(move || {
            let mut bytes = [0; 65536];
            // A refused datagram is an error of one read; the socket stays good.
            loop {
                let message = reader.recv(&mut bytes).map_or_else(|_| Vec::new(), |count| bytes[..count].to_vec());
                if sender.send(message).is_err() {
                    return;
                }
            }
        });
        Ok(Self { send: Box::new(move |message| socket.send(message).map(drop)), messages })
    }

    fn console(
        mut writer: impl Write + Send + 'static,
        mut reader: impl Read + Send + 'static,
        breath: Duration,
    ) -> Self {
        let (sender, messages) = channel();
        std::thread::spawn(move || {
            let (mut decoder, mut line, mut bytes) = (Decoder::default(), Vec::new(), [0; 512]);
            while let Ok(count @ 1..) = reader.read(&mut bytes) {
                for byte in &bytes[..count] {
                    line.push(*byte);
                    if *byte == b'\n' {
                        if let Line::Message(message) = decoder.line(&line)
                            && sender.send(message).is_err()
                        {
                            return;
                        }
                        line.clear();
                    }
                }
            }
        });
        let send = move |message: &[u8]| {
            for line in encode(message).split_inclusive(|byte| *byte == b'\n') {
                writer.write_all(line)?;
                writer.flush()?;
                std::thread::sleep(breath);
            }
            Ok(())
        };
        Self { send: Box::new(send), messages }
    }

    pub(crate) fn send(&mut self, message: &[u8]) -> Result<()> {
        (self.send)(message).context("sending to the server")
    }

    /// The next message; none where the server stays silent for `within`.
    pub(crate) fn receive(&self, within: Duration) -> Result<Option<Vec<u8>>> {
        let until = Instant::now() + within;
        loop {
            match self.messages.recv_timeout(until.saturating_duration_since(Instant::now())) {
                Ok(message) if message.is_empty() => {}
                Ok(message) => return Ok(Some(message)),
                Err(RecvTimeoutError::Timeout) => return Ok(None),
                Err(RecvTimeoutError::Disconnected) => return Err(RigError::new("the server closed the connection")),
            }
        }
    }
}
