//! Links over streams in memory, in virtual time.

use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};
use tokio::time::{sleep, timeout};

use super::super::framing::{FramingMemory, safe_console_message};
use super::*;
use crate::plan::FramingChoice;
use crate::smp::console;

async fn link_over(stream: DuplexStream) -> StreamLink<DuplexStream> {
    let framing = StreamFraming::new(FramingChoice::Console, 128, &FramingMemory::default());
    StreamLink::start(stream, |stream, _| drop(stream), framing, (None, true), "test:1".to_owned())
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
    fn poll_read(mut self: Pin<&mut Self>, _: &mut Context<'_>, _: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
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
    let framing = StreamFraming::new(FramingChoice::Console, 128, &FramingMemory::default());
    let mut link = StreamLink::start(FailsOnce(false), |_, _| (), framing, (None, true), "test:1".to_owned())
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

#[tokio::test(start_paused = true)]
async fn a_paced_link_gives_each_line_its_time_on_the_wire_and_reads_meanwhile() {
    let (near, mut far) = duplex(4096);
    let mut link = link_over(near).await.paced(1000.0);
    let start = Instant::now();
    let device = tokio::spawn(async move {
        far.write_all(&console::encode(&message(9, 0), 128)).await.unwrap();
        let (mut lines, mut length) = (Vec::new(), 0);
        while lines.len() < 4 {
            length += 1;
            if far.read_u8().await.unwrap() == b'\n' {
                lines.push((start.elapsed(), Duration::from_millis(std::mem::take(&mut length))));
            }
        }
        lines
    });
    link.send(&message(1, 200)).await.unwrap();
    let sent = start.elapsed();
    assert_eq!(link.inbox.len(), 1, "nothing was read while the wire was awaited");
    link.send(&message(2, 0)).await.unwrap();
    let lines = device.await.unwrap();
    let mut free_at = Duration::ZERO;
    for (at, time_on_wire) in &lines {
        // Timers know whole milliseconds, so none is waited for beyond that time.
        assert!(*at <= free_at && *at + TIMER_STEP >= free_at, "{at:?} for {free_at:?}");
        free_at += *time_on_wire;
    }
    // The last line of a frame holds up the next frame, not whoever waits for the answer.
    assert_eq!(sent, lines[2].0);
}

#[tokio::test(start_paused = true)]
async fn a_fast_wire_is_not_slowed_by_timers_that_know_milliseconds_only() {
    let (near, mut far) = duplex(1 << 20);
    // A line of 127 bytes takes 1.27 ms.
    let mut link = link_over(near).await.paced(100_000.0);
    let start = Instant::now();
    let mut bytes = 0;
    for number in 0..100 {
        bytes += console::encode(&message(number, 300), 128).len();
        link.send(&message(number, 300)).await.unwrap();
    }
    let wire = Duration::from_secs_f64(bytes as f64 / 100_000.0);
    let took = start.elapsed();
    assert!(took <= wire && took + Duration::from_millis(5) >= wire, "{took:?} for {wire:?} of wire");
    // After a pause lines are as far apart as ever.
    sleep(Duration::from_secs(1)).await;
    let mut seen = vec![0; bytes];
    far.read_exact(&mut seen).await.unwrap();
    let start = Instant::now();
    link.send(&message(1, 300)).await.unwrap();
    assert!(start.elapsed() >= Duration::from_millis(2), "{:?}", start.elapsed());
}

/// A port that takes everything at once, and knows when it was given how much.
struct Counting(std::sync::mpsc::Sender<(Instant, usize)>);

impl AsyncRead for Counting {
    fn poll_read(self: Pin<&mut Self>, _: &mut Context<'_>, _: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Poll::Pending
    }
}

impl AsyncWrite for Counting {
    fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.0.send((Instant::now(), bytes.len())).unwrap();
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

#[tokio::test(start_paused = true)]
async fn bytes_that_a_wire_carries_before_any_timer_go_in_one_write_and_no_more_than_those() {
    // Ten lines of 127 bytes: those that begin within a millisecond.
    for (bytes_per_s, most) in [(11_520.0, 1), (100_000.0, 1), (400_000.0, 4), (2_000_000.0, 10)] {
        let (written, writes) = std::sync::mpsc::channel();
        let framing = StreamFraming::new(FramingChoice::Console, 128, &FramingMemory::default());
        let link =
            StreamLink::start(Counting(written), |_, _| (), framing, (None, true), "test:1".to_owned());
        let mut link = link.await.unwrap().paced(bytes_per_s);
        let begin = Instant::now();
        let frame = console::encode(&message(1, 900), 128).len();
        for number in 0..20 {
            link.send(&message(number, 900)).await.unwrap();
        }
        let writes: Vec<(Instant, usize)> = writes.try_iter().collect();
        assert_eq!(writes.iter().map(|(_, bytes)| bytes).sum::<usize>(), 20 * frame);
        let longest = writes.iter().map(|(_, bytes)| bytes.div_ceil(127)).max();
        assert_eq!(longest, Some(most), "{bytes_per_s} bytes/s");
        // Never more at any moment than the wire has carried and would carry within two steps of a timer, but for one line.
        let mut sent = 0;
        for (at, bytes) in writes {
            sent += bytes;
            let carried = (at - begin + 2 * TIMER_STEP).as_secs_f64() * bytes_per_s;
            assert!(sent as f64 <= carried + 127.0, "{sent} of {carried} at {bytes_per_s} bytes/s");
        }
    }
}
