//! A serial port as a stream of bytes (Unix). What `tokio-serial` does, but asks the system for less: not to be told when the
//! port can be written to, as long as it always can. A port says so after each write, as soon as its driver has taken the bytes, and each time
//! the program would be woken for nothing.

use std::io::{self, ErrorKind, Read as _, Write as _};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use mio_serial::{SerialPort as _, SerialStream};
use tokio::io::unix::AsyncFd;
use tokio::io::{AsyncRead, AsyncWrite, Interest, ReadBuf};

/// An open port.
#[derive(Debug)]
pub(super) struct Tty {
    /// `None` only where the system refused to go on with it.
    port: Option<AsyncFd<SerialStream>>,
    /// It was full once: from then on it says when it can be written to.
    tells_room: bool,
}

impl Tty {
    /// A port that was opened, for the runtime that this is called in.
    ///
    /// # Errors
    /// What the system says.
    pub(super) fn new(port: serialport::TTYPort) -> Result<Self, serialport::Error> {
        let port = SerialStream::try_from(port)?;
        Ok(Self { port: Some(register(port, Interest::READABLE)?), tells_room: false })
    }

    /// The port itself.
    pub(super) fn port(&self) -> Option<&SerialStream> {
        self.port.as_ref().map(AsyncFd::get_ref)
    }

    /// Bytes that were written and have yet to go out.
    pub(super) fn bytes_to_write(&self) -> Option<u32> {
        self.port()?.bytes_to_write().ok()
    }

    /// Throws away what has yet to go out. A port that is gone has nothing left.
    pub(super) fn discard(&self) {
        let _ = self.port().map(|port| port.clear(serialport::ClearBuffer::Output));
    }

    fn registered(&self) -> io::Result<&AsyncFd<SerialStream>> {
        self.port.as_ref().ok_or_else(|| io::Error::from(ErrorKind::NotConnected))
    }

    /// Asks to be told when the port can be written to.
    fn tell_room(&mut self) -> io::Result<()> {
        if let Some(port) = self.port.take() {
            let both = Interest::READABLE | Interest::WRITABLE;
            self.port = Some(register(port.into_inner(), both)?);
            self.tells_room = true;
        }
        Ok(())
    }
}

#[expect(
    deprecated,
    reason = "what replaces it is unsafe, as `AsRawFd` may be implemented wrongly: a `SerialStream` owns its descriptor and keeps it"
)]
fn register(port: SerialStream, interest: Interest) -> io::Result<AsyncFd<SerialStream>> {
    AsyncFd::with_interest(port, interest)
}

impl AsyncRead for Tty {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let port = self.registered()?;
        loop {
            let mut guard = ready!(port.poll_read_ready(cx))?;
            let room = buf.remaining();
            let Ok(read) = guard.try_io(|port| port.get_ref().read(buf.initialize_unfilled())) else {
                continue;
            };
            let read = read?;
            // There was no more, and what comes from now on will be told: to ask once more would only find nothing, and Linux
            // waits for its own worker before it says so. Nothing at all is a hang-up, which stays one.
            if cfg!(target_os = "linux") && read > 0 && read < room {
                guard.clear_ready();
            }
            buf.advance(read);
            return Poll::Ready(Ok(()));
        }
    }
}

impl AsyncWrite for Tty {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        if !self.tells_room {
            match self.registered()?.get_ref().write(bytes) {
                Err(error) if error.kind() == ErrorKind::WouldBlock => self.tell_room()?,
                written => return Poll::Ready(written),
            }
        }
        let port = self.registered()?;
        loop {
            let mut guard = ready!(port.poll_write_ready(cx))?;
            if let Ok(written) = guard.try_io(|port| port.get_ref().write(bytes)) {
                return Poll::Ready(written);
            }
        }
    }

    /// Nothing is kept back here. What the driver has yet to send is not waited for: that may take as long as it likes.
    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}
