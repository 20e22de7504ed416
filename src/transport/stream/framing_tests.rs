//! Links that find out what the device speaks, over streams in memory, in virtual time.

use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};
use tokio::time::{sleep, timeout};

use super::super::framing::FramingMemory;
use super::super::link::{Firmware, Framing};
use super::*;
use crate::plan::FramingChoice;
use crate::smp::detect::Encoding;
use crate::smp::{cobs, console, raw};

async fn link_with(
    choice: FramingChoice,
    memory: &FramingMemory,
    stream: DuplexStream,
) -> StreamLink<DuplexStream> {
    let framing = StreamFraming::new(choice, 128, memory);
    StreamLink::start(stream, |stream, _| drop(stream), framing, (Some(11_520.0), true), "test:1".to_owned())
        .await
        .unwrap()
}

/// A request; its answer has operation 1.
fn request(sequence: u8) -> Vec<u8> {
    vec![0, 0, 0, 1, 0, 0, sequence, 0, 0xa0]
}

/// A device that answers every message of one framing, and tells what it got.
async fn serve(
    encoding: Encoding,
    mut stream: DuplexStream,
    got: tokio::sync::mpsc::UnboundedSender<Vec<u8>>,
) {
    let mut text = console::Decoder::new();
    let mut packed = cobs::Decoder::new();
    let mut bare = Vec::new();
    let mut buffer = [0; 512];
    while let Ok(count @ 1..) = stream.read(&mut buffer).await {
        let bytes = &buffer[..count];
        let messages = match encoding {
            Encoding::Console => text.push(bytes),
            Encoding::Cobs => packed.push(bytes),
            Encoding::Raw => {
                bare.extend_from_slice(bytes);
                // As MCUboot's: with a header that is none goes all that came.
                if bare.first().is_some_and(|first| first & 7 > 2) {
                    bare.clear();
                }
                if bare.len() == 9 { vec![std::mem::take(&mut bare)] } else { Vec::new() }
            }
        };
        for mut message in messages {
            got.send(message.clone()).unwrap();
            message[0] |= 1;
            let frame = match encoding {
                Encoding::Console => console::encode(&message, 128),
                Encoding::Cobs => cobs::encode(&message),
                Encoding::Raw => message,
            };
            if stream.write_all(&frame).await.is_err() {
                return;
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_message_waits_until_the_device_has_shown_what_it_speaks() {
    for encoding in Encoding::ALL {
        let (near, far) = duplex(4096);
        let (tell, mut got) = tokio::sync::mpsc::unbounded_channel();
        let device = tokio::spawn(serve(encoding, far, tell));
        let memory = FramingMemory::default();
        let mut link = link_with(FramingChoice::Auto, &memory, near).await;
        link.send(&request(1)).await.unwrap();
        // Sent again meanwhile: it is the same one.
        link.send(&request(1)).await.unwrap();
        let answer = timeout(Duration::from_secs(2), link.recv()).await.expect("no answer").unwrap();
        assert_eq!((answer[0], answer[6]), (1, 1));
        link.send(&request(2)).await.unwrap();
        assert_eq!(link.recv().await.unwrap()[6], 2);
        let (question, first, second) = (got.recv().await, got.recv().await, got.recv().await);
        assert_eq!(question.unwrap()[7], 6, "the parameters");
        assert_eq!([first, second], [Some(request(1)), Some(request(2))]);
        assert_eq!(memory.known(), Some(encoding));
        assert_eq!(link.properties().wire_bytes_per_s, Some(11_520.0));
        drop(link);
        device.await.unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn nothing_is_asked_before_there_is_a_message_to_send() {
    let (near, mut far) = duplex(4096);
    let mut link = link_with(FramingChoice::Auto, &FramingMemory::default(), near).await;
    assert!(timeout(Duration::from_secs(60), link.recv()).await.is_err());
    assert!(timeout(Duration::from_millis(1), far.read_u8()).await.is_err(), "it was asked");
    link.send(&request(1)).await.unwrap();
    assert_eq!(far.read_u8().await.unwrap(), 6);
}

#[tokio::test(start_paused = true)]
async fn another_firmware_may_speak_another_framing() {
    let memory = FramingMemory::default();
    let (near, far) = duplex(4096);
    let (tell, mut got) = tokio::sync::mpsc::unbounded_channel();
    let mut link = link_with(FramingChoice::Auto, &memory, near).await;
    let application = tokio::spawn(serve(Encoding::Raw, far, tell));
    link.send(&request(1)).await.unwrap();
    link.recv().await.unwrap();
    application.abort();
    let _ = application.await;

    // The same wire, with the bootloader behind it.
    let (near, far) = duplex(4096);
    link.stream = Some(near);
    link.dead = None;
    let (tell, mut got_by_bootloader) = tokio::sync::mpsc::unbounded_channel();
    tokio::spawn(serve(Encoding::Cobs, far, tell));
    memory.expect(Firmware::Bootloader);
    assert_eq!(memory.known(), None);
    link.send(&request(2)).await.unwrap();
    let answer = timeout(Duration::from_secs(3), link.recv()).await.expect("no answer").unwrap();
    assert_eq!(answer[6], 2);
    assert_eq!(memory.known(), Some(Encoding::Cobs));
    memory.expect(Firmware::Application);
    assert_eq!(memory.known(), Some(Encoding::Raw));
    assert_eq!(got.recv().await.unwrap()[7], 6);
    assert_eq!(got_by_bootloader.recv().await.unwrap()[7], 6);
}

#[tokio::test(start_paused = true)]
async fn a_device_that_has_long_answered_nothing_is_asked_again() {
    let memory = FramingMemory::default();
    let (near, mut far) = duplex(4096);
    let mut link = link_with(FramingChoice::Auto, &memory, near).await;
    link.send(&request(1)).await.unwrap();
    let answer = [0x01, 0, 0, 1, 0, 0, 0xc5, 6, 0xa0];
    far.write_all(&console::encode(&answer, 128)).await.unwrap();
    // The answer to the question is not for whoever receives.
    assert!(timeout(Duration::from_millis(1), link.recv()).await.is_err());
    let mut seen = Vec::new();
    for sequence in 2..5 {
        sleep(Duration::from_secs(3)).await;
        assert_eq!(memory.known(), Some(Encoding::Console), "{sequence}");
        link.send(&request(sequence)).await.unwrap();
    }
    far.read_buf(&mut seen).await.unwrap();
    assert!(memory.known().is_none() || seen.len() < 200);
    link.send(&request(5)).await.unwrap();
    assert_eq!(memory.known(), None);
}

#[tokio::test(start_paused = true)]
async fn a_bare_message_after_a_cut_one_waits_until_the_server_has_given_that_up() {
    let (near, mut far) = duplex(16);
    let mut link = link_with(FramingChoice::Raw, &FramingMemory::default(), near).await;
    assert_eq!(link.properties().framing, Framing::Raw);
    let long = [vec![0x02; 8], vec![7; 100]].concat();
    assert!(timeout(Duration::from_millis(1), link.send(&long)).await.is_err(), "it fits no buffer");
    let mut seen = vec![0; 16];
    far.read_exact(&mut seen).await.unwrap();
    let start = Instant::now();
    let device = tokio::spawn(async move {
        let mut whole = vec![0; 9];
        far.read_exact(&mut whole).await.unwrap();
        whole
    });
    link.send(&request(2)).await.unwrap();
    assert_eq!(device.await.unwrap(), request(2), "nothing but the message");
    assert!(start.elapsed() >= raw::SILENCE - Duration::from_millis(5), "{:?}", start.elapsed());
}

#[tokio::test(start_paused = true)]
async fn an_answer_behind_one_that_stops_is_given_after_the_gap() {
    let (near, mut far) = duplex(4096);
    let mut link = link_with(FramingChoice::Raw, &FramingMemory::default(), near).await;
    let whole = [0x09, 0, 0, 1, 0, 0, 3, 0, 0xa0];
    far.write_all(&[0x09, 0, 1, 0, 0, 0, 2, 0, 0xa1]).await.unwrap();
    far.write_all(&whole).await.unwrap();
    let answer = timeout(raw::GAP * 2, link.recv()).await.expect("it waits for what never comes").unwrap();
    assert_eq!(answer, whole);
}
