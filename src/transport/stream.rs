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

use super::link::{Framing, Link, LinkError, LinkErrorKind, LinkProperties};
use super::wire::{self, Direction};
use crate::smp::console;

/// After opening, input is thrown away until this long nothing came …
const STALE_QUIET: Duration = Duration::from_millis(20);
/// … or this long has passed: a device that never stops talking must not hold up the link.
const STALE_LIMIT: Duration = Duration::from_millis(100);
/// Bytes read at once.
const READ_BUFFER: usize = 4096;
/// Messages kept for a caller that sends and does not receive; more are thrown away, as a serial port's own buffer would.
const INBOX: usize = 256;

/// How messages are wrapped in a stream.
#[derive(Debug)]
pub(super) enum StreamFraming {
    /// Base64 lines.
    Console {
        /// Bytes of the longest line, marker and newline included.
        line_length: usize,
        /// What is under way from the device.
        decoder: console::Decoder,
    },
}

impl StreamFraming {
    /// Console framing with lines of at most `line_length` bytes, marker and newline included.
    pub(super) fn console(line_length: usize) -> Self {
        Self::Console { line_length, decoder: console::Decoder::new() }
    }

    /// The framed message. `after_cut` says that the frame before it was left unfinished on the wire.
    fn encode(&self, message: &[u8], after_cut: bool) -> Vec<u8> {
        match self {
            Self::Console { line_length, .. } => {
                let mut out = Vec::new();
                if after_cut {
                    // Ends the line that the device has half of; else it would swallow the marker that follows.
                    out.push(b'\n');
                }
                out.extend(console::encode(message, *line_length));
                out
            }
        }
    }

    fn push(&mut self, bytes: &[u8]) -> Vec<Vec<u8>> {
        match self {
            Self::Console { decoder, .. } => decoder.push(bytes),
        }
    }

    fn reset(&mut self) {
        match self {
            Self::Console { decoder, .. } => decoder.reset(),
        }
    }

    /// What the link can carry, for a stream of `wire_bytes_per_s`.
    pub(super) fn properties(&self, wire_bytes_per_s: Option<f64>, survives_reset: bool) -> LinkProperties {
        match self {
            Self::Console { line_length, .. } => LinkProperties {
                safe_message: safe_console_message(*line_length),
                max_message: console::MAX_MESSAGE,
                buffer_overhead: console::PACKET_OVERHEAD,
                wire_bytes_per_s,
                framing: Framing::Console { line_length: *line_length },
                survives_reset,
            },
        }
    }
}

/// The longest message in two full lines: Zephyr's UART driver has two line buffers unless configured otherwise
/// (`CONFIG_UART_MCUMGR_RX_BUF_COUNT`), and MCUboot's recovery takes several lines as well.
fn safe_console_message(line_length: usize) -> usize {
    let lines = 2 * line_length.max(8);
    (1..=lines).rev().find(|len| console::encoded_len(*len, line_length) <= lines).unwrap_or(1)
}

/// Gives the stream back to the system.
type Closer<S> = fn(S, &str);

/// A link over a stream.
pub(super) struct StreamLink<S> {
    /// `None` once it was handed to the closer.
    stream: Option<S>,
    closer: Closer<S>,
    framing: StreamFraming,
    properties: LinkProperties,
    address: String,
    inbox: VecDeque<Vec<u8>>,
    buffer: Box<[u8]>,
    /// A message was not written to its end.
    cut: bool,
    pace: Option<Pace>,
    dead: Option<LinkError>,
}

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
    fn note(&mut self, bytes: usize) {
        let bytes = f64::from(u32::try_from(bytes).unwrap_or(u32::MAX));
        self.free_at = self.free_at.max(Instant::now()) + Duration::from_secs_f64(bytes / self.bytes_per_s);
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin + Send> StreamLink<S> {
    /// A link over an open stream, after stale input was thrown away. `closer` gets the stream at the end, however the
    /// link ends.
    ///
    /// # Errors
    /// Where the stream ends at once.
    pub(super) async fn start(
        stream: S,
        closer: Closer<S>,
        framing: StreamFraming,
        properties: LinkProperties,
        address: String,
    ) -> Result<Self, LinkError> {
        wire::note(&address, "opened");
        let mut link = Self {
            stream: Some(stream),
            closer,
            framing,
            properties,
            address,
            inbox: VecDeque::new(),
            buffer: vec![0; READ_BUFFER].into_boxed_slice(),
            cut: false,
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
        for message in self.framing.push(bytes) {
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
        let Some(free_at) = self.pace.as_ref().map(|pace| pace.free_at) else { return Ok(()) };
        loop {
            match timeout_at(free_at, self.fill()).await {
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
            rest = left;
        }
        Ok(())
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
        if message.len() > self.properties.max_message {
            return Err(too_long(&self.address, message.len(), self.properties.max_message));
        }
        let frame = self.framing.encode(message, self.cut);
        wire::message(Direction::Sent, &self.address, message);
        self.cut = true;
        // One write for a whole frame where the wire sets the pace, else one for each of its lines.
        let pieces: Vec<&[u8]> = match self.pace {
            Some(_) => frame.split_inclusive(|byte| *byte == b'\n').collect(),
            None => vec![&frame],
        };
        for piece in pieces {
            self.await_wire().await?;
            self.write(piece).await?;
            if let Some(pace) = &mut self.pace {
                pace.note(piece.len());
            }
        }
        self.cut = false;
        Ok(())
    }

    async fn recv(&mut self) -> Result<Vec<u8>, LinkError> {
        loop {
            if let Some(message) = self.inbox.pop_front() {
                return Ok(message);
            }
            self.fill().await?;
        }
    }

    fn properties(&self) -> LinkProperties {
        self.properties.clone()
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
<<<<<<< HEAD
mod tests;
=======
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};
    use tokio::time::{sleep, timeout};

    use super::*;

    async fn link_over(stream: DuplexStream) -> StreamLink<DuplexStream> {
        let framing = StreamFraming::console(128);
        let properties = framing.properties(None, true);
        StreamLink::start(stream, |stream, _| drop(stream), framing, properties, "test:1".to_owned())
            .await
            .unwrap()
    }

    fn message(seq: u8, payload: usize) -> Vec<u8> {
        let mut message = vec![0x09, 0, 0, 0, 0, 0, seq, 0];
        message.resize(8 + payload, seq);
        message
    }

    #[test]
    fn a_safe_message_fits_two_lines() {
        assert_eq!(safe_console_message(128), 182);
        assert_eq!(console::encoded_len(182, 128), 2 * 127);
        assert!(console::encoded_len(183, 128) > 2 * 128);
    }

    #[tokio::test(start_paused = true)]
    async fn messages_come_through_noise_and_any_split() {
        let (near, mut far) = duplex(64);
        let mut link = link_over(near).await;
        let writer = tokio::spawn(async move {
            far.write_all(b"*** Booting Zephyr ***\r\n").await.unwrap();
            for byte in console::encode(&message(1, 300), 128) {
                far.write_all(&[byte]).await.unwrap();
            }
            far.write_all(b"noise").await.unwrap();
            far.write_all(&console::encode(&message(2, 0), 128)).await.unwrap();
            far
        });
        assert_eq!(link.recv().await.unwrap(), message(1, 300));
        assert_eq!(link.recv().await.unwrap(), message(2, 0));
        drop(writer.await.unwrap());
    }

    #[tokio::test(start_paused = true)]
    async fn input_from_before_the_opening_is_thrown_away() {
        let (near, mut far) = duplex(4096);
        far.write_all(&console::encode(&message(1, 20), 128)).await.unwrap();
        // Half a frame, of which the other half comes later.
        let frame = console::encode(&message(2, 20), 128);
        let (half, rest) = frame.split_at(10);
        far.write_all(half).await.unwrap();
        let mut link = link_over(near).await;
        far.write_all(rest).await.unwrap();
        far.write_all(&console::encode(&message(3, 20), 128)).await.unwrap();
        assert_eq!(link.recv().await.unwrap(), message(3, 20));
    }

    #[tokio::test(start_paused = true)]
    async fn a_device_that_never_stops_talking_does_not_hold_up_the_opening() {
        let (near, mut far) = duplex(64);
        let talker = tokio::spawn(async move {
            while far.write_all(b"tick\n").await.is_ok() {
                sleep(Duration::from_millis(5)).await
            }
        });
        let start = Instant::now();
        drop(timeout(Duration::from_secs(1), link_over(near)).await.expect("held up for good"));
        assert!(start.elapsed() <= STALE_LIMIT, "{:?}", start.elapsed());
        talker.await.unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn receiving_can_be_cancelled_anywhere() {
        let (near, mut far) = duplex(4096);
        let mut link = link_over(near).await;
        let frame = console::encode(&message(1, 200), 128);
        for part in frame.chunks(7) {
            assert!(timeout(Duration::from_millis(1), link.recv()).await.is_err());
            far.write_all(part).await.unwrap();
        }
        assert_eq!(link.recv().await.unwrap(), message(1, 200));
    }

    #[tokio::test(start_paused = true)]
    async fn a_hang_up_is_said_again_and_again_but_after_the_last_message() {
        let (near, mut far) = duplex(4096);
        let mut link = link_over(near).await;
        far.write_all(&console::encode(&message(1, 0), 128)).await.unwrap();
        drop(far);
        assert_eq!(link.recv().await.unwrap(), message(1, 0));
        for _ in 0..2 {
            let end = timeout(Duration::from_secs(1), link.recv()).await.expect("endless silence");
            assert_eq!(end.unwrap_err().kind, LinkErrorKind::Disconnected);
            assert_eq!(link.send(&message(1, 0)).await.unwrap_err().kind, LinkErrorKind::Disconnected);
        }
    }

    /// A port that fails once, as a tty whose device is gone does, and is silent from then on.
    struct FailsOnce(bool);

    impl AsyncRead for FailsOnce {
        fn poll_read(
            mut self: Pin<&mut Self>,
            _: &mut Context<'_>,
            _: &mut ReadBuf<'_>,
        ) -> Poll<io::Result<()>> {
            if std::mem::take(&mut self.0) {
                Poll::Ready(Err(io::Error::from_raw_os_error(5)))
            } else {
                Poll::Pending
            }
        }
    }

    impl AsyncWrite for FailsOnce {
        fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
            Poll::Ready(Ok(bytes.len()))
        }

        fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }

        fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }
    }

    #[cfg(unix)]
    #[tokio::test(start_paused = true)]
    async fn a_link_that_broke_once_stays_broken() {
        let framing = StreamFraming::console(128);
        let properties = framing.properties(None, true);
        let mut link =
            StreamLink::start(FailsOnce(false), |_, _| (), framing, properties, "test:1".to_owned())
                .await
                .unwrap();
        link.stream = Some(FailsOnce(true));
        for _ in 0..2 {
            let end = timeout(Duration::from_secs(1), link.recv()).await.expect("endless silence");
            assert_eq!(end.unwrap_err().kind, LinkErrorKind::Disconnected, "error 5 is EIO");
        }
        assert_eq!(link.send(&message(1, 0)).await.unwrap_err().kind, LinkErrorKind::Disconnected);
    }

    #[tokio::test(start_paused = true)]
    async fn sending_reads_on_while_the_device_takes_nothing() {
        let (near, mut far) = duplex(16);
        let mut link = link_over(near).await;
        // The device first gets rid of its output, more than any buffer holds, and only then takes input.
        let device = tokio::spawn(async move {
            far.write_all(&console::encode(&message(7, 500), 128)).await.unwrap();
            let mut decoder = console::Decoder::new();
            loop {
                let mut byte = [0];
                far.read_exact(&mut byte).await.unwrap();
                if let Some(message) = decoder.push(&byte).pop() {
                    return message;
                }
            }
        });
        timeout(Duration::from_secs(1), link.send(&message(1, 100))).await.expect("a deadlock").unwrap();
        assert_eq!(link.recv().await.unwrap(), message(7, 500));
        assert_eq!(device.await.unwrap(), message(1, 100));
    }

    #[tokio::test(start_paused = true)]
    async fn the_message_after_a_cut_one_is_understood() {
        let (near, mut far) = duplex(16);
        let mut link = link_over(near).await;
        assert!(
            timeout(Duration::from_millis(1), link.send(&message(1, 100))).await.is_err(),
            "it fits no buffer"
        );
        let mut seen = vec![0; 16];
        far.read_exact(&mut seen).await.unwrap();
        let device = tokio::spawn(async move {
            let mut all = Vec::new();
            while !all.ends_with(&console::encode(&message(2, 4), 128)) {
                all.push(far.read_u8().await.unwrap());
            }
            all
        });
        link.send(&message(2, 4)).await.unwrap();
        let all = device.await.unwrap();
        assert_eq!(all.first(), Some(&b'\n'), "the half line is ended first: {}", all.escape_ascii());
    }

    #[tokio::test(start_paused = true)]
    async fn a_message_beyond_the_framing_is_refused_and_the_link_lives() {
        let (near, mut far) = duplex(4096);
        let mut link = link_over(near).await;
        let error = link.send(&vec![0; console::MAX_MESSAGE + 1]).await.unwrap_err();
        assert_eq!(error.kind, LinkErrorKind::TooLong);
        link.send(&message(1, 0)).await.unwrap();
        assert!(far.read_u8().await.is_ok());
    }
}
>>>>>>> transport
