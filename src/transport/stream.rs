//! Whole messages over a stream of bytes: what serial ports and TCP serial servers share. The framing is apart from the
//! stream, so another framing needs no other link. Nothing is opened here.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use async_trait::async_trait;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, timeout_at};

use super::framing::StreamFraming;
use super::link::{Link, LinkError, LinkErrorKind, LinkProperties};
use super::wire::{self, Direction};

/// After opening, input is thrown away until this long nothing came …
const STALE_QUIET: Duration = Duration::from_millis(20);
/// … or this long has passed: a device that never stops talking must not hold up the link.
const STALE_LIMIT: Duration = Duration::from_millis(100);
/// Bytes read at once.
const READ_BUFFER: usize = 4096;
/// Messages kept for a caller that sends and does not receive; more are thrown away, as a serial port's own buffer would.
const INBOX: usize = 256;

/// Gives the stream back to the system.
type Closer<S> = fn(S, &str);

/// A link over a stream.
pub(super) struct StreamLink<S> {
    /// `None` once it was handed to the closer.
    stream: Option<S>,
    closer: Closer<S>,
    framing: StreamFraming,
    /// Bytes per second on the wire; `None` where it is not known.
    rate: Option<f64>,
    survives_reset: bool,
    address: String,
    /// Where the framing's time begins.
    epoch: Instant,
    inbox: VecDeque<Vec<u8>>,
    buffer: Box<[u8]>,
    /// A message was not written to its end.
    cut: bool,
    /// When bytes were written last.
    written_at: Instant,
    pace: Option<Pace>,
    dead: Option<LinkError>,
}

/// Timers know milliseconds only, most of a line's time at 1 Mbaud. So bytes may go so much earlier than a wire would be free
/// for them, and after a timer that was late, so much is made up for.
const TIMER_STEP: Duration = Duration::from_millis(1);

/// The wire that a stream does not have: each line of a frame takes its time before the next one goes.
///
/// A server takes lines out of its UART into a few buffers, two of them unless configured otherwise, and counts on the wire
/// for the time to empty them. Where there is no wire, lines of one frame arrive back to back and overrun the buffers, and the
/// message is lost without a word.
#[derive(Debug)]
struct Pace {
    bytes_per_s: f64,
    /// When a wire would have carried what was written so far.
    free_at: Instant,
}

impl Pace {
    /// When the next bytes may go; `None` for now.
    fn busy_until(&mut self, now: Instant) -> Option<Instant> {
        let due = self.free_at.checked_sub(TIMER_STEP).filter(|due| *due > now);
        if due.is_none() && self.free_at + TIMER_STEP < now {
            // Nothing was written for a while: what the wire could have carried meanwhile is not owed to anybody.
            self.free_at = now;
        }
        due
    }

    fn time_for(&self, bytes: usize) -> Duration {
        Duration::from_secs_f64(f64::from(u32::try_from(bytes).unwrap_or(u32::MAX)) / self.bytes_per_s)
    }

    /// How many bytes of `frame` go at once now, which are taken for written: the next piece, and those that a fast wire would
    /// carry before any timer. Their time counts from when the wire was free, and not from when a timer said so.
    fn take(&mut self, now: Instant, framing: &StreamFraming, frame: &[u8]) -> usize {
        let all_at = self.free_at + self.time_for(frame.len());
        if all_at <= now + TIMER_STEP {
            self.free_at = all_at;
            return frame.len();
        }
        let mut length = 0;
        loop {
            let rest = frame.get(length..).unwrap_or_default();
            let piece = framing.piece_len(rest);
            length += piece;
            self.free_at += self.time_for(piece);
            if piece == 0 || self.free_at > now + TIMER_STEP {
                return length;
            }
        }
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin + Send> StreamLink<S> {
    /// A link over an open stream, after stale input was thrown away. `closer` gets the stream at the end, however the
    /// link ends. `rate` is in bytes per second.
    ///
    /// # Errors
    /// Where the stream ends at once.
    pub(super) async fn start(
        stream: S,
        closer: Closer<S>,
        framing: StreamFraming,
        (rate, survives_reset): (Option<f64>, bool),
        address: String,
    ) -> Result<Self, LinkError> {
        wire::note(&address, "opened");
        let mut link = Self {
            stream: Some(stream),
            closer,
            framing,
            rate,
            survives_reset,
            address,
            epoch: Instant::now(),
            inbox: VecDeque::new(),
            buffer: vec![0; READ_BUFFER].into_boxed_slice(),
            cut: false,
            written_at: Instant::now(),
            pace: None,
            dead: None,
        };
        link.drop_stale_input().await?;
        Ok(link)
    }

    /// Sends no faster than a wire of so many bytes per second, more than 0, would.
    pub(super) fn paced(mut self, bytes_per_s: f64) -> Self {
        self.pace = Some(Pace { bytes_per_s, free_at: Instant::now() });
        self
    }

    async fn drop_stale_input(&mut self) -> Result<(), LinkError> {
        let end = Instant::now() + STALE_LIMIT;
        loop {
            let quiet = Instant::now() + STALE_QUIET;
            match timeout_at(quiet.min(end), self.fill()).await {
                Ok(result) => result?,
                Err(_) => break,
            }
        }
        self.framing.reset();
        self.inbox.clear();
        Ok(())
    }

    /// Reads once and takes what came. Cancel safe: what was read is in the inbox or in the decoder.
    async fn fill(&mut self) -> Result<(), LinkError> {
        poll_fn(|cx| self.poll_fill(cx)).await
    }

    fn poll_fill(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), LinkError>> {
        if let Some(error) = &self.dead {
            return Poll::Ready(Err(error.clone()));
        }
        let Some(stream) = self.stream.as_mut() else { return Poll::Ready(Err(closed(&self.address))) };
        let mut buffer = ReadBuf::new(&mut self.buffer);
        let result = match Pin::new(stream).poll_read(cx, &mut buffer) {
            Poll::Pending => return Poll::Pending,
            Poll::Ready(result) => result,
        };
        let length = buffer.filled().len();
        Poll::Ready(match result {
            Ok(()) if length == 0 => Err(self.die(ended(&self.address))),
            Ok(()) => {
                self.take(length);
                Ok(())
            }
            Err(error) => Err(self.die(broken(&self.address, error))),
        })
    }

    fn take(&mut self, length: usize) {
        let bytes = self.buffer.get(..length).unwrap_or_default();
        wire::chunk(Direction::Received, &self.address, bytes);
        let before = self.framing.encoding();
        let messages = self.framing.push(self.epoch.elapsed(), bytes);
        if let Some(found) = self.framing.encoding().filter(|_| before.is_none()) {
            wire::note(&self.address, format_args!("speaks {} framing", found.name()));
        }
        self.deliver(messages);
    }

    fn deliver(&mut self, messages: Vec<Vec<u8>>) {
        for message in messages {
            wire::message(Direction::Received, &self.address, &message);
            if self.inbox.len() < INBOX {
                self.inbox.push_back(message);
            } else {
                wire::note(&self.address, "message thrown away: nobody takes them");
            }
        }
    }

    /// Waits until the wire, where the link has to stand in for one, has carried what was written. Input is read meanwhile.
    async fn await_wire(&mut self) -> Result<(), LinkError> {
        let Some(due) = self.pace.as_mut().and_then(|pace| pace.busy_until(Instant::now())) else {
            return Ok(());
        };
        loop {
            match timeout_at(due, self.fill()).await {
                Ok(result) => result?,
                Err(_) => return Ok(()),
            }
        }
    }

    /// Writes all of `bytes`.
    async fn write(&mut self, bytes: &[u8]) -> Result<(), LinkError> {
        let mut rest = bytes;
        while !rest.is_empty() {
            let length = poll_fn(|cx| self.poll_write(cx, rest)).await?;
            let (done, left) = rest.split_at(length.min(rest.len()));
            wire::chunk(Direction::Sent, &self.address, done);
            self.written_at = Instant::now();
            rest = left;
        }
        Ok(())
    }

    /// Writes one frame. Where it is not written to its end, the next one is told.
    async fn write_frame(&mut self, frame: &[u8]) -> Result<(), LinkError> {
        self.cut = true;
        let mut rest = frame;
        while !rest.is_empty() {
            self.await_wire().await?;
            // One write for a whole frame where the wire sets the pace.
            let length = match &mut self.pace {
                Some(pace) => pace.take(Instant::now(), &self.framing, rest),
                None => rest.len(),
            };
            let (now, later) = rest.split_at(length.min(rest.len()));
            self.write(now).await?;
            rest = later;
        }
        self.cut = false;
        Ok(())
    }

    /// Sends a message, or keeps it where it is not known yet what the device speaks.
    async fn send_or_hold(&mut self, message: &[u8]) -> Result<(), LinkError> {
        if self.cut {
            let silent_until = self.written_at + self.framing.silence_after_cut();
            tokio::time::sleep_until(silent_until).await;
        }
        if let Some(frame) = self.framing.encode(self.epoch.elapsed(), message, self.cut) {
            wire::message(Direction::Sent, &self.address, message);
            self.write_frame(&frame).await?;
        }
        Ok(())
    }

    /// Asks the device what it speaks, and sends what waited for that.
    async fn catch_up(&mut self) -> Result<(), LinkError> {
        while let Some(question) = self.framing.poll_question(self.epoch.elapsed()) {
            wire::note(&self.address, "asks which framing the device speaks");
            self.write_frame(&question).await?;
        }
        while let Some(message) = self.framing.poll_held() {
            self.send_or_hold(&message).await?;
        }
        Ok(())
    }

    /// Waits for input, or until the framing has something to do.
    async fn turn(&mut self) -> Result<(), LinkError> {
        self.catch_up().await?;
        let Some(due) = self.framing.next_timeout() else { return self.fill().await };
        let due = self.epoch + due;
        match timeout_at(due, self.fill()).await {
            Ok(result) => result,
            Err(_elapsed) => {
                let messages = self.framing.handle_timeout(self.epoch.elapsed());
                self.deliver(messages);
                Ok(())
            }
        }
    }

    /// Writes some of `bytes`. While the stream takes none, input is read: a device that cannot get rid of its output
    /// may not take any input either.
    fn poll_write(&mut self, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<Result<usize, LinkError>> {
        if let Some(error) = &self.dead {
            return Poll::Ready(Err(error.clone()));
        }
        let Some(stream) = self.stream.as_mut() else { return Poll::Ready(Err(closed(&self.address))) };
        match Pin::new(stream).poll_write(cx, bytes) {
            Poll::Ready(Ok(0)) => return Poll::Ready(Err(self.die(ended(&self.address)))),
            Poll::Ready(Ok(length)) => return Poll::Ready(Ok(length)),
            Poll::Ready(Err(error)) => return Poll::Ready(Err(self.die(broken(&self.address, error)))),
            Poll::Pending => {}
        }
        loop {
            match self.poll_fill(cx) {
                Poll::Ready(Ok(())) => {}
                Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                Poll::Pending => return Poll::Pending,
            }
        }
    }

    /// Remembers that the link is dead, and why.
    fn die(&mut self, error: LinkError) -> LinkError {
        wire::note(&self.address, &error);
        self.dead.insert(error).clone()
    }
}

impl<S> StreamLink<S> {
    fn give_back(&mut self) {
        if let Some(stream) = self.stream.take() {
            wire::note(&self.address, "closed");
            (self.closer)(stream, &self.address);
        }
    }
}

impl<S> Drop for StreamLink<S> {
    fn drop(&mut self) {
        self.give_back();
    }
}

#[async_trait]
impl<S: AsyncRead + AsyncWrite + Unpin + Send> Link for StreamLink<S> {
    async fn send(&mut self, message: &[u8]) -> Result<(), LinkError> {
        let most = self.properties().max_message;
        if message.len() > most {
            return Err(too_long(&self.address, message.len(), most));
        }
        self.send_or_hold(message).await?;
        self.catch_up().await
    }

    async fn recv(&mut self) -> Result<Vec<u8>, LinkError> {
        loop {
            if let Some(message) = self.inbox.pop_front() {
                return Ok(message);
            }
            self.turn().await?;
        }
    }

    fn properties(&self) -> LinkProperties {
        self.framing.properties(self.rate, self.survives_reset)
    }

    async fn close(mut self: Box<Self>) {
        self.give_back();
    }
}

/// The error for a message that the medium cannot carry.
pub(super) fn too_long(address: &str, length: usize, limit: usize) -> LinkError {
    LinkError::new(
        LinkErrorKind::TooLong,
        format!("expected a message of at most {limit} bytes for {address}, got {length}"),
        "this is a defect of flashfleet: please report it",
    )
}

fn closed(address: &str) -> LinkError {
    LinkError::new(LinkErrorKind::Disconnected, format!("{address} was closed"), "open it again")
}

fn ended(address: &str) -> LinkError {
    LinkError::new(
        LinkErrorKind::Disconnected,
        format!("{address} hung up"),
        "check the cable, the device's power and, over TCP, the serial server",
    )
}

/// An error on an open stream. It ends the link whatever it is; most of them are the device's departure.
fn broken(address: &str, error: io::Error) -> LinkError {
    use io::ErrorKind as Kind;
    let gone = matches!(
        error.kind(),
        Kind::UnexpectedEof
            | Kind::BrokenPipe
            | Kind::ConnectionReset
            | Kind::ConnectionAborted
            | Kind::NotConnected
            | Kind::TimedOut
            | Kind::HostUnreachable
            | Kind::NetworkUnreachable
    ) || is_gone(&error);
    LinkError {
        kind: if gone { LinkErrorKind::Disconnected } else { LinkErrorKind::Io },
        message: format!("{address} broke off: {error}"),
        help: "check the cable, the device's power and, over TCP, the serial server".to_owned(),
        source: Some(Arc::new(error)),
    }
}

/// What a tty says after its device was pulled out, which has no name in [`io::ErrorKind`].
#[cfg(unix)]
fn is_gone(error: &io::Error) -> bool {
    use nix::errno::Errno;
    error.raw_os_error().is_some_and(|code| {
        matches!(
            Errno::from_raw(code),
            Errno::EIO | Errno::ENXIO | Errno::ENODEV | Errno::EBADF | Errno::EPROTO | Errno::ESHUTDOWN
        )
    })
}

#[cfg(not(unix))]
fn is_gone(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::PermissionDenied
}

#[cfg(test)]
mod framing_tests;
#[cfg(test)]
mod tests;
