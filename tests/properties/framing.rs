//! Raw and COBS framing for any stream: pieces, noise, damage, messages that stop.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::time::Duration;

use flashfleet::smp::console::DecoderStats;
use flashfleet::smp::{Time, cobs, raw};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::{Index, select};

/// An answer as devices send it: its payload is a map.
fn answer() -> impl Strategy<Value = Vec<u8>> {
    let first = select(vec![0x01_u8, 0x03, 0x09, 0x0b]);
    let payload = (0xa0_u8..0xc0, vec(any::<u8>(), 0..300));
    (first, vec(any::<u8>(), 4), payload).prop_map(|(first, ids, (map, rest))| {
        let length = u16::try_from(1 + rest.len()).unwrap().to_be_bytes();
        [&[first, 0][..], &length, &ids, &[map], &rest].concat()
    })
}

/// What a device prints: no byte of it can begin an answer, as none is followed by a 0.
fn text() -> impl Strategy<Value = Vec<u8>> {
    vec(any::<u8>().prop_filter("no end of text", |byte| *byte >= 2), 0..60)
}

/// Cuts a stream into pieces of these lengths.
fn pieces<'a>(mut stream: &'a [u8], lengths: &[usize]) -> Vec<&'a [u8]> {
    let mut cut = Vec::new();
    for length in lengths {
        let (now, later) = stream.split_at((*length).min(stream.len()));
        cut.push(now);
        stream = later;
    }
    cut.push(stream);
    cut
}

fn at(ms: u64) -> Time {
    Duration::from_millis(ms)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn raw_messages_come_back_whole_in_any_pieces(
        messages in vec(answer(), 1..5),
        lengths in vec(1_usize..60, 0..40),
    ) {
        let stream = messages.concat();
        let mut decoder = raw::Decoder::new();
        // Less than the gap between any two pieces.
        let found: Vec<_> = pieces(&stream, &lengths)
            .into_iter()
            .enumerate()
            .flat_map(|(index, piece)| decoder.push(at(400 * index as u64), piece))
            .collect();
        prop_assert_eq!(found, messages);
        prop_assert_eq!((decoder.stats(), decoder.buffered()), (DecoderStats::default(), 0));
    }

    #[test]
    fn raw_messages_are_found_between_text(
        before in text(),
        first in answer(),
        between in text(),
        second in answer(),
        lengths in vec(1_usize..60, 0..40),
    ) {
        let stream = [&before[..], &first, &between, &second].concat();
        let mut decoder = raw::Decoder::new();
        let found: Vec<_> =
            pieces(&stream, &lengths).into_iter().flat_map(|piece| decoder.push(at(0), piece)).collect();
        prop_assert_eq!(found, [first, second]);
        prop_assert_eq!(decoder.stats().noise_bytes, (before.len() + between.len()) as u64);
    }

    #[test]
    fn raw_silence_brings_the_next_message_back_after_anything(
        junk in vec(any::<u8>(), 0..400),
        cut in any::<Index>(),
        half in answer(),
        whole in answer(),
    ) {
        let mut decoder = raw::Decoder::new();
        decoder.push(at(0), &junk);
        decoder.push(at(10), &half[..cut.index(half.len())]);
        let found = decoder.push(at(10) + raw::GAP, &whole);
        prop_assert_eq!(found.last(), Some(&whole));
        prop_assert_eq!(decoder.next_timeout(), None);
    }

    #[test]
    fn raw_memory_is_bounded_and_time_ends_every_wait(
        chunks in vec(vec(select(vec![0_u8, 1, 3, 9, 0x0b, 0xff, 0xa0]), 0..3000), 0..60),
    ) {
        let mut decoder = raw::Decoder::new();
        for chunk in &chunks {
            for message in decoder.push(at(0), chunk) {
                prop_assert!(message.len() <= raw::MAX_MESSAGE);
            }
            prop_assert!(decoder.buffered() < raw::MAX_MESSAGE + chunk.len());
        }
        if let Some(due) = decoder.next_timeout() {
            decoder.handle_timeout(due);
        }
        prop_assert_eq!((decoder.buffered(), decoder.next_timeout()), (0, None));
    }

    #[test]
    fn cobs_messages_come_back_whole_in_any_pieces(
        messages in vec(vec(prop_oneof![Just(0_u8), any::<u8>()], 1..600), 1..4),
        lengths in vec(1_usize..300, 0..20),
    ) {
        let stream: Vec<u8> = messages.iter().flat_map(|message| cobs::encode(message)).collect();
        let most: usize = messages.iter().map(|message| cobs::encoded_len(message.len())).sum();
        prop_assert!(stream.len() <= most);
        let mut decoder = cobs::Decoder::new();
        let found: Vec<_> = pieces(&stream, &lengths).into_iter().flat_map(|piece| decoder.push(piece)).collect();
        prop_assert_eq!(found, messages);
        prop_assert_eq!((decoder.stats(), decoder.buffered()), (DecoderStats::default(), 0));
    }

    #[test]
    fn cobs_damage_costs_no_message_behind_it(
        junk in vec(any::<u8>(), 0..300),
        damaged in vec(any::<u8>(), 1..300),
        at in any::<Index>(),
        flip in 1_u8..=255,
        whole in vec(any::<u8>(), 1..300),
    ) {
        let mut frame = cobs::encode(&damaged);
        let at = at.index(frame.len());
        frame[at] ^= flip;
        let mut decoder = cobs::Decoder::new();
        decoder.push(&junk);
        decoder.push(&[cobs::DELIMITER]);
        let found = decoder.push(&[&frame[..], &[cobs::DELIMITER], &cobs::encode(&whole)].concat());
        prop_assert_eq!(found.last(), Some(&whole));
        // One damaged byte is at most 16 bits in a row: the CRC finds every one of those.
        prop_assert!(!found.contains(&damaged) || damaged == whole, "{:x?}", frame);
    }

    #[test]
    fn cobs_frames_of_anything_harm_nobody(frame in vec(any::<u8>(), 0..600)) {
        if let Some(message) = cobs::decode(&frame) {
            prop_assert!(!message.is_empty() && message.len() < frame.len());
        }
    }
}
