//! Tests of the upload step by step, without a server and a link.

use std::time::Duration;

use super::fake::{group_error, image, offset, smp_error, upload};
use super::*;
use crate::smp::{Answer, Version};

fn config() -> UploadConfig {
    UploadConfig::new(256)
}

/// The answer to a chunk with this payload.
fn answer(chunk: &ChunkRequest, payload: Vec<u8>) -> Answer {
    Answer { request: chunk.request.id(), version: Version::V2, payload, rtt: Duration::ZERO, sends: 1 }
}

/// Everything that the upload sends before it waits, and until when.
fn sent(upload: &mut Upload, now: Duration) -> (Vec<ChunkRequest>, Option<Duration>) {
    let mut chunks = Vec::new();
    loop {
        match upload.poll(now) {
            Action::Send(chunk) => chunks.push(chunk),
            Action::Cancel(_) => {}
            Action::Wait(until) => return (chunks, until),
            other => panic!("expected chunks, got {other:?}"),
        }
    }
}

#[test]
fn chunk_that_was_taken_in_part_is_gone_on_from_at_once() {
    let now = Duration::ZERO;
    let mut upload = upload(&image(5000), UploadConfig { window: 3, ..config() }).expect("an upload");
    let (first, _) = sent(&mut upload, now);
    upload.handle_outcome(now, first[0].id, Ok(answer(&first[0], offset(first[0].len))));
    let (chunks, _) = sent(&mut upload, now);
    let part = chunks[0].offset + 8;
    upload.handle_outcome(now, chunks[0].id, Ok(answer(&chunks[0], offset(part))));
    // The others lie beyond what the server wants next, and are in its buffers until they are answered.
    let (none, _) = sent(&mut upload, now);
    assert_eq!(none, []);
    upload.handle_outcome(now, chunks[1].id, Ok(answer(&chunks[1], offset(part))));
    let (next, _) = sent(&mut upload, now);
    assert_eq!((next.len(), next[0].offset), (1, part));
    upload.handle_outcome(now, chunks[2].id, Ok(answer(&chunks[2], offset(part))));
    assert_eq!(upload.progress().offset, part, "what they are answered is known already");
}

#[test]
fn window_shrinks_when_the_server_is_out_of_buffers() {
    let config = UploadConfig { window: 3, ..config() };
    let mut upload = upload(&image(5000), config).expect("an upload");
    let mut now = Duration::ZERO;
    let (first, _) = sent(&mut upload, now);
    assert_eq!(first.len(), 1, "the first chunk goes alone");
    upload.handle_outcome(now, first[0].id, Ok(answer(&first[0], offset(first[0].len))));
    for window in [3, 2, 1, 1] {
        let (chunks, _) = sent(&mut upload, now);
        assert_eq!(chunks.len(), window);
        assert_eq!(chunks[0].offset, first[0].len, "what was not taken goes again");
        for chunk in &chunks {
            upload.handle_outcome(now, chunk.id, Ok(answer(chunk, smp_error(2))));
        }
        let (none, until) = sent(&mut upload, now);
        assert_eq!(none, []);
        now = until.expect("a pause");
    }
}

#[test]
fn times_to_wait_are_proven_ones_or_longer_where_the_link_is_slow() {
    let seconds = Duration::from_secs_f64;
    for (trip, measured, expected) in
        [(0.05, true, 0.3), (3.0, true, 3.0), (60.0, true, 20.0), (0.05, false, 2.5), (60.0, false, 2.5)]
    {
        let mut config = UploadConfig { sendings: 2, ..config() };
        config.timeouts.measured = measured;
        (0..100).for_each(|_| config.memory.round_trips.sample(seconds(trip), false));
        let mut upload = upload(&image(5000), config).expect("an upload");
        let (first, until) = sent(&mut upload, Duration::ZERO);
        // The first may have to erase the slot, and is resumed for nothing after a while.
        assert_eq!(until, Some(seconds(if measured { 5.0 } else { 40.0 })));
        upload.handle_outcome(Duration::ZERO, first[0].id, Ok(answer(&first[0], offset(first[0].len))));
        let (_, until) = sent(&mut upload, Duration::ZERO);
        let until = until.expect("a time").as_secs_f64();
        assert!((until - expected).abs() < 0.01, "round trips of {trip} s: {until} s");
    }
}

#[test]
fn outcome_of_a_chunk_that_is_over_changes_nothing() {
    let image = image(2000);
    let mut upload = upload(&image, config()).expect("an upload");
    let Action::Send(chunk) = upload.poll(Duration::ZERO) else { panic!("expected a chunk") };
    assert_eq!(upload.poll(Duration::ZERO), Action::Wait(Some(Duration::from_secs(40))));
    upload.handle_outcome(Duration::ZERO, chunk.id, Ok(answer(&chunk, offset(chunk.len))));
    let before = upload.progress();
    upload.handle_outcome(Duration::ZERO, chunk.id, Ok(answer(&chunk, group_error(13))));
    upload.handle_list(Duration::ZERO, ListOutcome::Present);
    assert_eq!(upload.progress(), before);
    assert!(matches!(upload.poll(Duration::ZERO), Action::Send(_)));
}
