//! Framing, headers, payloads, exchange and upload of `flashfleet::smp`, for any input that a device, a line or a
//! network may come up with.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use flashfleet::smp::exchange::{Exchange, ExchangeConfig, ExchangeError, Policy, Ticket};
use flashfleet::smp::message::decode_response;
use flashfleet::smp::message::image::{ImageState, SlotInfoResponse, UploadResponse};
use flashfleet::smp::message::os::{BootloaderInfoResponse, Echo, EchoResponse, ParamsResponse};
use flashfleet::smp::upload::{Action, ChunkId, ListOutcome, Timeouts, Upload, UploadConfig};
use flashfleet::smp::{Answer, HEADER_LEN, Header, Op, RawRequest, RequestId, Version, console};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::{Index, select};
use serde::Deserialize;

/// What a decoder makes of a stream that comes in pieces of these lengths.
fn decode(stream: &[u8], pieces: &[usize]) -> (Vec<Vec<u8>>, console::Decoder) {
    let mut decoder = console::Decoder::new();
    let mut messages = Vec::new();
    let mut rest = stream;
    for piece in pieces.iter().copied().chain(std::iter::repeat(stream.len().max(1))) {
        let (now, later) = rest.split_at(piece.min(rest.len()));
        messages.extend(decoder.push(now));
        rest = later;
        if rest.is_empty() {
            break;
        }
    }
    (messages, decoder)
}

/// What else is on a line: boot logs, pieces of frames, anything.
fn noise() -> impl Strategy<Value = Vec<u8>> {
    let piece = prop_oneof![
        vec(any::<u8>(), 0..40),
        "\\[[0-9:.,]{12}\\] <inf> [a-z ]{0,30}\r?\n?".prop_map(String::into_bytes),
        // Markers, quanta and line ends in any order.
        vec(select(vec![6, 9, 4, 0x14, b'\n', b'\r', b'A', b'=', b'/', 0]), 0..40),
        // A frame that is cut off somewhere.
        (vec(any::<u8>(), 0..80), any::<Index>()).prop_map(|(message, cut)| {
            let mut frame = console::encode(&message, 64);
            frame.truncate(cut.index(frame.len()));
            frame
        }),
    ];
    vec(piece, 0..6).prop_map(|pieces| pieces.concat())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn console_frame_comes_back_whole(
        messages in vec(vec(any::<u8>(), 0..600), 1..4),
        line_length in 0_usize..300,
        pieces in vec(1_usize..50, 0..40),
    ) {
        let stream: Vec<u8> = messages.iter().flat_map(|message| console::encode(message, line_length)).collect();
        let expected: usize = messages.iter().map(|message| console::encoded_len(message.len(), line_length)).sum();
        prop_assert_eq!(stream.len(), expected);
        for line in stream.split_inclusive(|byte| *byte == b'\n') {
            prop_assert!(line.len() <= line_length.max(7));
        }
        let (decoded, decoder) = decode(&stream, &pieces);
        prop_assert_eq!(decoded, messages);
        prop_assert_eq!(decoder.stats(), console::DecoderStats::default());
        prop_assert_eq!(decoder.buffered(), 0);
    }

    #[test]
    fn console_frame_is_found_in_noise(
        before in noise(),
        message in vec(any::<u8>(), 0..200),
        between in noise(),
        second in vec(any::<u8>(), 0..200),
        line_length in 7_usize..200,
        pieces in vec(1_usize..50, 0..40),
    ) {
        let stream = [
            before,
            console::encode(&message, line_length),
            between,
            console::encode(&second, line_length),
        ]
        .concat();
        let (decoded, _) = decode(&stream, &pieces);
        let first = decoded.iter().position(|found| *found == message);
        prop_assert!(first.is_some(), "{:02x?} not in {:02x?}", message, decoded);
        prop_assert_eq!(decoded.last(), Some(&second));
    }

    #[test]
    fn console_frame_is_whole_without_its_last_newline(
        first in vec(any::<u8>(), 0..200),
        second in vec(any::<u8>(), 0..200),
        line_length in 7_usize..200,
    ) {
        let mut stream = console::encode(&first, line_length);
        stream.pop();
        stream.extend(console::encode(&second, line_length));
        prop_assert_eq!(decode(&stream, &[]).0, vec![first, second]);
    }

    #[test]
    fn console_text_between_the_lines_of_a_frame_does_no_harm(
        message in vec(any::<u8>(), 100..300),
        text in "[ -~]{0,60}",
    ) {
        let frame = console::encode(&message, 64);
        let stream: Vec<u8> = frame
            .split_inclusive(|byte| *byte == b'\n')
            .flat_map(|line| [&line[..line.len() - 1], b"\r\n", text.as_bytes(), b"\r\n"].concat())
            .collect();
        let (decoded, _) = decode(&stream, &[]);
        prop_assert_eq!(decoded, vec![message]);
    }

    #[test]
    fn console_frame_with_one_damaged_byte_is_no_other_message(
        message in vec(any::<u8>(), 0..300),
        line_length in 7_usize..200,
        place in any::<Index>(),
        byte in any::<u8>(),
    ) {
        let mut frame = console::encode(&message, line_length);
        let place = place.index(frame.len());
        frame[place] = byte;
        for found in decode(&frame, &[]).0 {
            prop_assert_eq!(&found, &message);
        }
    }

    #[test]
    fn console_decoder_holds_little_whatever_comes(stream in noise(), fill in any::<u8>(), times in 0_usize..300_000) {
        let (_, decoder) = decode(&[stream, vec![fill; times]].concat(), &[]);
        prop_assert!(decoder.buffered() <= 3 * 65536, "{} bytes", decoder.buffered());
    }

    #[test]
    fn header_survives_the_wire(
        op in select(vec![Op::Read, Op::ReadResponse, Op::Write, Op::WriteResponse]),
        version in select(vec![Version::V1, Version::V2]),
        (flags, length, group, sequence, command) in any::<(u8, u16, u16, u8, u8)>(),
    ) {
        let header = Header { op, version, flags, length, group, sequence, command };
        prop_assert_eq!(Header::decode(&header.encode()), Ok(header));
    }

    #[test]
    fn any_bytes_are_a_message_or_an_error(bytes in vec(any::<u8>(), 0..40)) {
        let whole = Header::split(&bytes);
        if let Ok((header, payload)) = whole {
            prop_assert_eq!(bytes.len(), HEADER_LEN + usize::from(header.length));
            prop_assert_eq!(payload, &bytes[HEADER_LEN..]);
        }
        // No panic, and not the memory that a length promises.
        let _ = decode_response::<ImageState>(&bytes);
        let _ = decode_response::<SlotInfoResponse>(&bytes);
        let _ = decode_response::<UploadResponse>(&bytes);
        let _ = decode_response::<EchoResponse>(&bytes);
        let _ = decode_response::<ParamsResponse>(&bytes);
        let _ = decode_response::<BootloaderInfoResponse>(&bytes);
    }
}

/// What becomes of the answer to one message.
#[derive(Debug, Clone)]
struct Fate {
    /// When each copy arrives, in milliseconds from the sending; none where it is lost.
    copies: Vec<u64>,
}

/// The server or the line may take its time for seconds; a network that doubles a message does so at once.
fn fate() -> impl Strategy<Value = Fate> {
    let delay = prop_oneof![4 => 0_u64..50, 1 => 0_u64..5000];
    (delay, vec(0_u64..50, 0..3))
        .prop_map(|(delay, copies)| Fate { copies: copies.into_iter().map(|later| delay + later).collect() })
}

/// A server's answer to an echo.
fn echo_server(request: &[u8]) -> Vec<u8> {
    let (header, payload) = Header::split(request).expect("a whole message");
    let text = &payload[2..];
    let body = [b"\xa1\x61r".as_slice(), &text[1..]].concat();
    let length = u16::try_from(body.len()).expect("a short text");
    [Header { op: header.op.response(), length, ..header }.encode().as_slice(), &body].concat()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 60, failure_persistence: None, ..ProptestConfig::default() })]

    /// Each answer goes to the request whose text it echoes, and each request ends once, whatever is lost, doubled,
    /// late or out of order, and with more requests than there are sequence numbers.
    #[test]
    fn exchange_hands_answers_to_their_requests_only(
        fates in vec(fate(), 40..80),
        gaps in vec(1_u64..20, 20..40),
        first_sequence in any::<u8>(),
        strangers in vec(vec(any::<u8>(), 0..20), 0..10),
    ) {
        const REQUESTS: usize = 400;
        let linger = Duration::from_secs(10);
        let mut exchange = Exchange::new(ExchangeConfig { first_sequence, linger });
        let policy = Policy { timeout: Duration::from_millis(200), retries: 2 };
        let mut fates = fates.iter().cycle();
        let mut strangers = strangers.iter().cycle();
        let mut gaps = gaps.iter().cycle();
        let mut wire: BTreeMap<(Duration, usize), Vec<u8>> = BTreeMap::new();
        let mut texts: BTreeMap<Ticket, String> = BTreeMap::new();
        let mut ended: BTreeMap<Ticket, bool> = BTreeMap::new();
        let mut now = Duration::ZERO;
        let mut submit_at = Duration::ZERO;
        let mut serial = 0;
        while ended.len() < REQUESTS {
            if texts.len() < REQUESTS && now >= submit_at {
                let text = format!("text {}", texts.len());
                let request = RawRequest::new(&Echo { d: text.clone() }).expect("an echo");
                texts.insert(exchange.submit(now, request, policy), text);
                submit_at = now + Duration::from_millis(*gaps.next().expect("a cycle"));
            }
            while let Some(message) = exchange.poll_transmit(now) {
                for delay in &fates.next().expect("a cycle").copies {
                    serial += 1;
                    wire.insert((now + Duration::from_millis(*delay), serial), echo_server(&message));
                }
            }
            while let Some(entry) = wire.first_entry().filter(|entry| entry.key().0 <= now) {
                exchange.handle_message(now, &entry.remove());
                if let Some(stranger) = strangers.next() {
                    exchange.handle_message(now, stranger);
                }
            }
            exchange.handle_timeout(now);
            while let Some((ticket, outcome)) = exchange.poll_outcome() {
                let answered = outcome.is_ok();
                if let Ok(answer) = outcome {
                    let response = answer.decode::<Echo>();
                    prop_assert_eq!(response.ok().map(|response| response.r), texts.get(&ticket).cloned());
                }
                prop_assert_eq!(ended.insert(ticket, answered), None, "each request ends once");
            }
            let next = wire.keys().next().map(|(at, _)| *at).into_iter().chain(exchange.next_timeout());
            let submit = (texts.len() < REQUESTS).then_some(submit_at);
            now = now.max(next.chain(submit).min().unwrap_or(now));
        }
        prop_assert!(now < Duration::from_secs(600));
        let stats = exchange.stats();
        prop_assert_eq!(stats.answered + stats.unanswered, REQUESTS as u64);
    }
}

/// What comes of a chunk.
#[derive(Debug, Clone)]
enum Reply {
    /// The next offset, as an honest server says.
    Taken,
    /// A part of it was taken.
    Part(Index),
    /// Any offset up to a little beyond the end, in units of a permille of the file.
    Lie(u64),
    Silence,
    Busy,
    Refused,
    Garbage,
    Mismatch,
    NoOffset,
}

fn reply() -> impl Strategy<Value = Reply> {
    prop_oneof![
        30 => Just(Reply::Taken),
        4 => any::<Index>().prop_map(Reply::Part),
        4 => (0_u64..1010).prop_map(Reply::Lie),
        2 => Just(Reply::Lie(0)),
        1 => Just(Reply::Silence),
        2 => Just(Reply::Busy),
        1 => Just(Reply::Garbage),
        1 => Just(Reply::NoOffset),
    ]
}

/// The fields of an upload request that tell where its data goes.
#[derive(Debug, Deserialize)]
struct Sent {
    off: usize,
    #[serde(default)]
    len: Option<usize>,
    #[serde(with = "serde_bytes")]
    data: Vec<u8>,
}

fn body(fields: &[(&str, ciborium::Value)]) -> Vec<u8> {
    let fields = fields.iter().map(|(name, value)| ((*name).into(), value.clone())).collect();
    let mut out = Vec::new();
    ciborium::into_writer(&ciborium::Value::Map(fields), &mut out).expect("a map");
    out
}

/// The outcome that a reply makes of a chunk.
fn outcome(reply: &Reply, len: usize, sent: &Sent, request: RequestId) -> Result<Answer, ExchangeError> {
    let offset = |offset: u64| body(&[("off", offset.into())]);
    let end = (sent.off + sent.data.len()) as u64;
    let payload = match reply {
        Reply::Taken => offset(end),
        Reply::Part(part) => offset((sent.off + part.index(sent.data.len().max(1))) as u64),
        Reply::Lie(permille) => offset(len as u64 * permille / 1000),
        Reply::Silence => {
            return Err(ExchangeError::NoAnswer { request, sends: 1, waited: Duration::from_secs(1) });
        }
        Reply::Busy => body(&[("rc", 10.into())]),
        Reply::Refused => body(&[("rc", 6.into())]),
        Reply::Garbage => vec![0xff],
        Reply::Mismatch => body(&[("off", end.into()), ("match", false.into())]),
        Reply::NoOffset => body(&[]),
    };
    Ok(Answer { request, version: Version::V2, payload, rtt: Duration::ZERO, sends: 1 })
}

/// Runs an upload against `replies`, which come round again, answering a chunk that `pick` picks. Gives the number of
/// chunks that it took to end.
fn run_upload(
    image: &Arc<[u8]>,
    config: UploadConfig,
    replies: &[Reply],
    picks: &[usize],
    lists: &[ListOutcome],
) -> Result<usize, TestCaseError> {
    let len = image.len();
    let max_message = config.max_message;
    let (window, sendings) = (config.window, config.sendings);
    let mut upload = Upload::new(Arc::clone(image), [7; 32], config).expect("an upload");
    let (mut replies, mut picks, mut lists) =
        (replies.iter().cycle(), picks.iter().cycle(), lists.iter().cycle());
    let mut now = Duration::ZERO;
    let mut open: Vec<(ChunkId, Sent, RequestId)> = Vec::new();
    let mut chunks = 0;
    loop {
        match upload.poll(now) {
            Action::Send(chunk) => {
                chunks += 1;
                prop_assert!(chunk.request.message_len() <= max_message);
                let sent: Sent = ciborium::from_reader(&*chunk.request.payload()).expect("an upload request");
                prop_assert_eq!((sent.off, sent.data.len()), (chunk.offset, chunk.len));
                prop_assert!(!sent.data.is_empty());
                prop_assert_eq!(image.get(sent.off..sent.off + sent.data.len()), Some(sent.data.as_slice()));
                prop_assert_eq!(sent.len, (sent.off == 0).then_some(len));
                open.push((chunk.id, sent, chunk.request.id()));
                prop_assert!(open.len() <= window.max(sendings));
                prop_assert!(chunks < 100_000, "it does not end");
            }
            Action::Cancel(id) => {
                let before = open.len();
                open.retain(|(other, _, _)| *other != id);
                prop_assert!(open.len() < before, "only chunks in flight are cancelled");
            }
            Action::LookAtList(_) => upload.handle_list(now, lists.next().expect("a cycle").clone()),
            Action::Wait(Some(until)) if open.is_empty() => {
                prop_assert!(until > now);
                now = until;
            }
            Action::Wait(until) => {
                prop_assert!(until.is_none_or(|until| until > now));
                prop_assert!(!open.is_empty(), "it waits for nothing");
                let pick = picks.next().expect("a cycle") % open.len();
                let (id, sent, request) = open.remove(pick);
                let outcome = outcome(replies.next().expect("a cycle"), len, &sent, request);
                upload.handle_outcome(now, id, outcome.clone());
                // And once more, as a driver at fault might.
                upload.handle_outcome(now, id, outcome);
            }
            Action::Done(stats) => {
                prop_assert!(stats.bytes <= len);
                prop_assert_eq!(upload.progress().offset, len);
                return Ok(chunks);
            }
            Action::Failed(_) => return Ok(chunks),
        }
        let progress = upload.progress();
        prop_assert!(progress.offset <= progress.len);
    }
}

fn image(len: usize) -> Arc<[u8]> {
    (0..len).map(|index| (index * 31 + index / 251).to_le_bytes()[0]).collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn upload_ends_and_sends_only_what_is_in_the_file(
        len in 1_usize..6000,
        max_message in 96_usize..400,
        (window, adaptive) in (1_usize..5, any::<bool>()),
        shrink in any::<bool>(),
        send_sha in any::<bool>(),
        replies in vec(reply(), 1..60),
        picks in vec(0_usize..5, 1..10),
        lists in vec(select(vec![ListOutcome::Present, ListOutcome::Absent, ListOutcome::Unknown]), 1..4),
    ) {
        let config = UploadConfig {
            window,
            adaptive,
            send_sha,
            shrink_to: shrink.then_some(90),
            timeouts: Timeouts::default(),
            ..UploadConfig::new(max_message)
        };
        run_upload(&image(len), config, &replies, &picks, &lists)?;
    }

    /// Servers that lie in one way, as hard as they can.
    #[test]
    fn upload_ends_whatever_one_lie(
        lie in prop_oneof![
            any::<Index>().prop_map(Reply::Part),
            (0_u64..1010).prop_map(Reply::Lie),
            select(vec![
                Reply::Silence, Reply::Busy, Reply::Refused, Reply::Garbage, Reply::Mismatch, Reply::NoOffset,
            ]),
        ],
        honest in 0_usize..4,
        window in 1_usize..5,
        list in select(vec![ListOutcome::Absent, ListOutcome::Unknown]),
    ) {
        let replies = [vec![Reply::Taken; honest], vec![lie]].concat();
        let config = UploadConfig { window, ..UploadConfig::new(256) };
        run_upload(&image(3000), config, &replies, &[0], &[list])?;
    }
}
