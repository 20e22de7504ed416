//! Uploads to a server that behaves like real ones, over a link that does not.

use std::time::Duration;

use super::fake::{Bench, Kind, Server, Way, group_error, image, map, offset, smp_error, upload};
use super::*;
use crate::cause::{Cause, Class};
use crate::smp::chunk::MAX_MESSAGE;
use crate::smp::exchange::ExchangeError;

const SECOND: Duration = Duration::from_secs(1);

fn config() -> UploadConfig {
    UploadConfig::new(256)
}

fn code(error: UploadError) -> String {
    Cause::from(error).code.into_owned()
}

#[test]
fn whole_image_arrives() {
    for kind in [Kind::Zephyr, Kind::Recovery(8), Kind::Recovery(1)] {
        for window in [1, 3] {
            let image = image(5000);
            let mut bench = Bench::new(Server::new(kind));
            let mut upload = upload(&image, UploadConfig { window, ..config() }).expect("an upload");
            let stats = bench.run(&mut upload).expect("success");
            assert_eq!(bench.server.flash, *image, "{kind:?} {window}");
            assert!(bench.server.complete);
            assert_eq!((stats.bytes, stats.restarts, stats.seen_in_list), (5000, 0, false));
            assert_eq!(upload.progress(), Progress { offset: 5000, len: 5000 });
            assert_eq!(bench.looks, 0);
        }
    }
}

#[test]
fn a_fleet_holds_the_image_once() {
    let image = image(5000);
    let place = image.as_ptr_range();
    for _ in 0..2 {
        let mut upload = upload(&image, config()).expect("an upload");
        let Action::Send(chunk) = upload.poll(Duration::ZERO) else { panic!("expected a chunk") };
        let data = chunk.request.shared();
        assert_eq!((data.len(), data.as_ptr()), (chunk.len, place.start), "a copy");
    }
}

#[test]
fn first_packet_fields_are_in_the_first_chunk_only() {
    let image = image(1000);
    let mut bench = Bench::new(Server::new(Kind::Zephyr));
    let config = UploadConfig { image_number: 2, upgrade_only: true, ..config() };
    let stats = bench.run(&mut upload(&image, config).expect("an upload")).expect("success");
    let (first, rest) = bench.server.requests.split_first().expect("requests");
    assert_eq!((first.image, first.len, first.upgrade), (2, Some(1000), true));
    assert_eq!(first.sha.as_deref().map(<[u8]>::len), Some(32));
    assert!(stats.sha_sent);
    assert!(!rest.is_empty());
    for chunk in rest {
        assert_eq!((chunk.image, chunk.len, chunk.upgrade, chunk.sha.is_none()), (0, None, false, true));
    }
}

#[test]
fn every_message_but_the_last_is_full() {
    for max_message in [96, 97, 130, 131, 256, 300, 301, 302, 380, 1472, 2044, 65543, usize::MAX] {
        let image = image(70_000);
        let mut bench = Bench::new(Server::new(Kind::Zephyr));
        let mut upload = upload(&image, UploadConfig::new(max_message)).expect("an upload");
        let stats = bench.run(&mut upload).expect("success");
        assert_eq!(stats.largest_message, *bench.server.lengths.iter().max().expect("requests"));
        let max_message = max_message.min(MAX_MESSAGE);
        let (_, full) = bench.server.lengths.split_last().expect("requests");
        for (length, chunk) in full.iter().zip(&bench.server.requests) {
            // One byte stays free exactly where one more would need a longer head too.
            let grows = [24, 256].contains(&(chunk.data.len() + 1));
            let free = max_message - length;
            assert!(
                free == 0 || free == 1 && grows,
                "{free} bytes free of {max_message}, {} used",
                chunk.data.len()
            );
        }
    }
}

#[test]
fn sha_is_left_out_where_the_image_header_does_not_fit_beside_it() {
    let image = image(1000);
    // 8 header, 1 map, 4+3 len, 4+1 off, 4+34 sha, 5+2+32 data
    let with_sha = 8 + 1 + 7 + 5 + 38 + 39;
    for (max_message, sha) in [(with_sha, true), (with_sha - 1, false), (with_sha - 38, false)] {
        let mut bench = Bench::new(Server::new(Kind::Zephyr));
        let mut upload = upload(&image, UploadConfig::new(max_message)).expect("an upload");
        let stats = bench.run(&mut upload).expect("success");
        assert_eq!((stats.sha_sent, bench.server.requests[0].sha.is_some()), (sha, sha), "{max_message}");
        assert!(bench.server.requests[0].data.len() >= 32);
        assert_eq!(bench.server.flash, *image);
    }
    let needed = with_sha - 38;
    let error = upload(&image, UploadConfig::new(needed - 1)).expect_err("no room for the image header");
    assert_eq!(error, UploadError::BufferTooSmall { max_message: needed - 1, needed });
    assert_eq!(code(error), "device.buffer_too_small");
}

#[test]
fn empty_file_is_refused() {
    assert_eq!(upload(&image(0), config()).map(|_| ()), Err(UploadError::Empty));
}

#[test]
fn small_image_goes_in_one_chunk() {
    let image = image(40);
    let mut bench = Bench::new(Server::new(Kind::Zephyr));
    let stats = bench.run(&mut upload(&image, config()).expect("an upload")).expect("success");
    assert_eq!((stats.chunks, stats.bytes), (1, 40));
    assert_eq!(bench.server.flash, *image);
}

#[test]
fn lost_messages_are_sent_again() {
    for way in [Way::Request, Way::Answer] {
        for window in [1, 3] {
            let image = image(5000);
            // Each third message of the first twenty, so never the last, whose loss has its own tests.
            let mut bench = Bench::losing(Server::new(Kind::Zephyr), move |which, number| {
                which == way && number % 3 == 1 && number < 20
            });
            let config = UploadConfig { window, ..config() };
            let stats = bench.run(&mut upload(&image, config).expect("an upload")).expect("success");
            assert_eq!(bench.server.flash, *image, "{way:?} {window}");
            // With several in flight, the answer to a later chunk tells what a lost one would have.
            let told_later = way == Way::Answer && window > 1;
            assert_eq!(stats.resent_chunks == 0, told_later, "{way:?} {window} {stats:?}");
            assert_eq!((stats.bytes, stats.restarts), (5000, 0), "each byte is counted once");
        }
    }
}

#[test]
fn timeouts_are_those_of_first_middle_and_last() {
    let image = image(700);
    // Every chunk's first request is lost.
    let mut bench =
        Bench::losing(Server::new(Kind::Zephyr), |way, number| way == Way::Request && number % 2 == 0);
    let stats = bench.run(&mut upload(&image, config()).expect("an upload")).expect("success");
    let middle = Duration::from_millis(2500);
    let (second, third) = (40 * SECOND + middle, 40 * SECOND + 2 * middle);
    let expected =
        [Duration::ZERO, 40 * SECOND, 40 * SECOND, second, second, third, third, third + 20 * SECOND];
    assert_eq!(bench.sent_at, expected, "each goes twice");
    assert_eq!(bench.now, 60 * SECOND + 2 * middle);
    assert_eq!((stats.erase, stats.duration, stats.streaming), (40 * SECOND, bench.now, 25 * SECOND));
    assert_eq!(stats.resent_chunks, 4);
    assert_eq!(stats.streamed_bytes, 700 - bench.server.requests[0].data.len());
}

#[test]
fn silence_ends_the_upload() {
    let mut bench = Bench::losing(Server::new(Kind::Zephyr), |_, number| number >= 3);
    let error = bench.run(&mut upload(&image(5000), config()).expect("an upload")).expect_err("silence");
    assert_eq!(bench.now, 10 * SECOND, "four sendings of 2.5 s");
    assert!(matches!(
        &error,
        UploadError::Unanswered { error: ExchangeError::NoAnswer { sends: 4, .. }, .. }
    ));
    assert_eq!(code(error), "link.no_answer");
}

#[test]
fn lost_last_answer_is_resolved_from_the_list() {
    for kind in [Kind::Zephyr, Kind::Recovery(8)] {
        let image = image(600);
        // Requests 0 to 2 carry the image; the answer to 2 is lost, and all to its repeats where `more`.
        for more in [false, true] {
            let mut bench = Bench::losing(Server::new(kind), move |way, number| {
                way == Way::Answer && (number == 2 || more && number > 2)
            });
            let mut upload = upload(&image, config()).expect("an upload");
            let stats = bench.run(&mut upload).expect("success");
            assert_eq!(bench.server.requests.len(), 4, "the last chunk goes twice");
            // Zephyr answers the repeat with offset 0, recovery with the length.
            let looked = more || kind == Kind::Zephyr;
            assert_eq!((stats.seen_in_list, bench.looks), (looked, u32::from(looked)), "{kind:?} {more}");
            assert_eq!((bench.server.flash.as_slice(), bench.server.complete), (&*image, true));
            assert_eq!(stats.restarts, 0);
        }
    }
}

#[test]
fn lost_answers_to_the_last_chunks_are_no_reason_to_start_again() {
    let image = image(1000);
    // Requests 0 to 4 carry the image, of which 2 to 4 are in flight together at the end: their answers are lost.
    for kind in [Kind::Zephyr, Kind::Recovery(1)] {
        let mut bench =
            Bench::losing(Server::new(kind), |way, number| way == Way::Answer && (2..5).contains(&number));
        let config = UploadConfig { window: 3, sendings: 4, ..config() };
        let stats = bench.run(&mut upload(&image, config).expect("an upload")).expect("success");
        assert_eq!((stats.restarts, bench.server.requests.len()), (0, 6), "{kind:?}: one repeat");
        assert_eq!(stats.seen_in_list, kind == Kind::Zephyr, "a server that forgot says offset 0");
        assert_eq!(bench.server.flash, *image);
    }
}

#[test]
fn last_chunk_that_never_arrived_is_sent_again_after_the_list() {
    let image = image(600);
    // The last chunk and its repeat are lost on the way there.
    let mut bench = Bench::losing(Server::new(Kind::Zephyr), |way, number| {
        way == Way::Request && (2..4).contains(&number)
    });
    let stats = bench.run(&mut upload(&image, config()).expect("an upload")).expect("success");
    assert_eq!((bench.looks, stats.seen_in_list, stats.restarts), (1, false, 0));
    assert_eq!(bench.server.flash, *image);
}

#[test]
fn last_chunk_is_not_tried_for_ever() {
    let mut bench =
        Bench::losing(Server::new(Kind::Zephyr), |way, number| way == Way::Request && number >= 2);
    let error = bench.run(&mut upload(&image(600), config()).expect("an upload")).expect_err("silence");
    assert_eq!((bench.looks, bench.now), (3, 120 * SECOND));
    assert_eq!(code(error), "link.no_answer");
    // And where the list is not answered either.
    let request = crate::smp::RequestId::of::<crate::smp::message::image::ListImages>();
    let silence = ExchangeError::NoAnswer { request, sends: 4, waited: SECOND };
    let mut bench =
        Bench::losing(Server::new(Kind::Zephyr), |way, number| way == Way::Request && number >= 2);
    bench.list = Some(ListOutcome::Failed(silence));
    let error = bench.run(&mut upload(&image(600), config()).expect("an upload")).expect_err("silence");
    assert_eq!((bench.looks, code(error).as_str()), (1, "link.no_answer"));
}

#[test]
fn offset_0_starts_again_with_all_fields() {
    let image = image(2000);
    let mut bench = Bench::new(Server::new(Kind::Zephyr));
    let mut upload = upload(&image, config()).expect("an upload");
    // The device restarted: it lost its state before request 4, and knows no upload then.
    bench.lose = Box::new(|_, _| false);
    bench.server.instead.insert(4, offset(0));
    bench.server.upload = None;
    let stats = bench.run(&mut upload).expect("success");
    // The fake still knows the `sha` and resumes, as a server does that answered so for another reason.
    let firsts: Vec<_> = bench.server.requests.iter().filter(|chunk| chunk.off == 0).collect();
    assert_eq!(firsts.len(), 2);
    assert!(firsts.iter().all(|chunk| chunk.len == Some(2000) && chunk.sha.is_some()));
    assert_eq!((stats.restarts, stats.bytes), (1, 2000));
    assert_eq!(bench.server.flash, *image);
}

#[test]
fn forgotten_upload_starts_again_and_is_counted_once() {
    let image = image(2000);
    let mut server = Server::new(Kind::Recovery(1));
    server.instead.insert(4, offset(0));
    let mut bench = Bench::new(server);
    let stats = bench.run(&mut upload(&image, config()).expect("an upload")).expect("success");
    assert_eq!((stats.restarts, stats.bytes), (1, 2000));
    assert!(stats.resent_chunks >= 4);
    assert_eq!(bench.server.flash, *image);
}

#[test]
fn forgotten_after_the_last_chunk_and_not_in_the_list_starts_again() {
    let image = image(600);
    let mut server = Server::new(Kind::Recovery(1));
    server.instead.insert(2, offset(0));
    let mut bench = Bench::new(server);
    let stats = bench.run(&mut upload(&image, config()).expect("an upload")).expect("success");
    assert_eq!((bench.looks, stats.restarts, stats.seen_in_list), (1, 1, false));
    assert_eq!(bench.server.flash, *image);
}

#[test]
fn server_that_starts_again_and_again_is_given_up() {
    let mut server = Server::new(Kind::Recovery(1));
    server.instead = (0..100).filter(|number| number % 2 == 1).map(|number| (number, offset(0))).collect();
    let error = Bench::new(server).run(&mut upload(&image(5000), config()).expect("an upload"));
    let error = error.expect_err("too many restarts");
    assert_eq!(error, UploadError::Restarted { times: 4 });
    assert_eq!(code(error), "device.upload_restarted");
}

#[test]
fn broken_off_upload_is_resumed_by_sha() {
    let image = image(5000);
    let mut bench = Bench::losing(Server::new(Kind::Zephyr), |_, number| number >= 10);
    bench.run(&mut upload(&image, config()).expect("an upload")).expect_err("the link broke");
    let at = bench.server.flash.len();
    bench.lose = Box::new(|_, _| false);
    let stats = bench.run(&mut upload(&image, config()).expect("an upload")).expect("success");
    assert_eq!(stats.resumed_at, Some(at));
    let first = bench.server.requests[10].data.len();
    assert_eq!(stats.bytes, first + 5000 - at, "what was sent before is not counted again");
    assert_eq!(bench.server.flash, *image);
}

#[test]
fn server_that_has_it_all_already_needs_one_chunk() {
    let mut server = Server::new(Kind::Zephyr);
    server.instead.insert(0, map(&[("off", 5000.into()), ("match", true.into())]));
    let mut bench = Bench::new(server);
    let stats = bench.run(&mut upload(&image(5000), config()).expect("an upload")).expect("success");
    assert_eq!((stats.chunks, stats.matched), (1, Some(true)));
}

#[test]
fn mismatch_fails() {
    let mut server = Server::new(Kind::Zephyr);
    server.instead.insert(2, map(&[("off", 600.into()), ("match", false.into())]));
    let error = Bench::new(server).run(&mut upload(&image(600), config()).expect("an upload"));
    assert_eq!(code(error.expect_err("another file")), "image.upload_mismatch");
}

#[test]
fn offsets_that_cannot_be_are_refused() {
    let cases = [
        (map(&[("off", 5001.into())]), "device.upload_offset"),
        (map(&[("off", u64::MAX.into())]), "device.upload_offset"),
        (map(&[("off", (-1).into())]), "smp.malformed_answer"),
        (map(&[("off", "7".into())]), "smp.malformed_answer"),
        (vec![0xff], "smp.malformed_answer"),
        (map(&[]), "device.upload_stalled"),
    ];
    for (answer, expected) in cases {
        let mut server = Server::new(Kind::Zephyr);
        server.instead = (2..100).map(|number| (number, answer.clone())).collect();
        let mut bench = Bench::new(server);
        let error = bench.run(&mut upload(&image(5000), config()).expect("an upload")).expect_err("a lie");
        assert_eq!(code(error), expected, "{answer:02x?}");
        assert!(bench.server.requests.len() <= 11, "bounded");
    }
}

#[test]
fn server_that_does_not_move_is_given_up() {
    let mut server = Server::new(Kind::Zephyr);
    let first = 256 - (8 + 1 + 7 + 5 + 38 + 5 + 2);
    server.instead = (1..100).map(|number| (number, offset(first))).collect();
    let mut bench = Bench::new(server);
    let error = bench.run(&mut upload(&image(5000), config()).expect("an upload")).expect_err("no progress");
    assert_eq!(error, UploadError::NoProgress { offset: first, len: 5000, times: 9 });
    assert_eq!(code(error), "device.upload_stalled");
}

#[test]
fn server_that_goes_back_and_forth_is_given_up() {
    let mut server = Server::new(Kind::Zephyr);
    server.instead =
        (1..1000).map(|number| (number, offset(if number % 2 == 0 { 50 } else { 400 }))).collect();
    let mut bench = Bench::new(server);
    let error =
        bench.run(&mut upload(&image(5000), config()).expect("an upload")).expect_err("back and forth");
    assert_eq!(error, UploadError::WentBack { from: 400, to: 50, times: 9 });
    assert_eq!(code(error), "device.upload_went_back");
}

#[test]
fn refusal_ends_the_upload_with_its_own_code() {
    for (answer, expected, class) in [
        (group_error(13), "smp.img_mgmt.flash_erase_failed", Class::Device),
        (group_error(30), "smp.img_mgmt.invalid_image_too_large", Class::Image),
        (smp_error(6), "smp.mgmt.bad_state", Class::Device),
        (map(&[("rc", 6.into()), ("rsn", "downgrade".into())]), "smp.mgmt.bad_state", Class::Image),
    ] {
        let mut server = Server::new(Kind::Zephyr);
        server.instead.insert(0, answer);
        let mut bench = Bench::new(server);
        let cause =
            Cause::from(bench.run(&mut upload(&image(600), config()).expect("an upload")).expect_err("no"));
        assert_eq!((cause.code.as_ref(), cause.class), (expected, class));
        assert!(cause.message.contains("image upload at offset 0"), "{}", cause.message);
        assert_eq!(bench.server.requests.len(), 1, "a no is not asked again");
    }
}

#[test]
fn busy_server_is_asked_again_later() {
    for rc in [2, 10] {
        let image = image(2000);
        let mut server = Server::new(Kind::Zephyr);
        server.instead = (3..6).map(|number| (number, smp_error(rc))).collect();
        let mut bench = Bench::new(server);
        let stats = bench.run(&mut upload(&image, config()).expect("an upload")).expect("success");
        assert_eq!(bench.now, Duration::from_millis(250 + 500 + 1000), "each pause is twice the one before");
        assert_eq!((stats.bytes, bench.server.flash.as_slice()), (2000, &*image));
    }
}

#[test]
fn busy_server_is_given_up_in_the_end() {
    let mut server = Server::new(Kind::Zephyr);
    server.instead = (1..100).map(|number| (number, smp_error(10))).collect();
    let mut bench = Bench::new(server);
    let error = bench.run(&mut upload(&image(2000), config()).expect("an upload")).expect_err("busy");
    assert_eq!(code(error), "smp.mgmt.busy");
    assert_eq!(
        (bench.server.requests.len(), bench.now),
        (10, Duration::from_millis(250 * (1 + 2 + 4 + 8 + 4 * 16)))
    );
}

#[test]
fn server_out_of_buffers_gets_fewer_at_once() {
    let image = image(5000);
    let mut server = Server::new(Kind::Zephyr);
    server.instead.insert(4, smp_error(2));
    let mut bench = Bench::new(server);
    let config = UploadConfig { window: 4, ..config() };
    let stats = bench.run(&mut upload(&image, config).expect("an upload")).expect("success");
    assert_eq!(stats.window, 4);
    assert_eq!(bench.server.flash, *image);
    let together = bench.sent_at.iter().filter(|time| **time == Duration::ZERO).count();
    assert_eq!(together, 5, "the first chunk and the first window go before the pause");
}

#[test]
fn guessed_length_shrinks_once_after_silence() {
    let image = image(2000);
    let mut server = Server::new(Kind::Zephyr);
    server.max_message = 128;
    let mut bench = Bench::new(server);
    let config = UploadConfig { shrink_to: Some(128), ..config() };
    let stats = bench.run(&mut upload(&image, config.clone()).expect("an upload")).expect("success");
    assert_eq!((stats.shrunk_to, bench.now), (Some(128), 40 * SECOND));
    assert_eq!(bench.server.flash, *image);

    // Not small enough either.
    let mut server = Server::new(Kind::Zephyr);
    server.max_message = 100;
    let mut bench = Bench::new(server);
    let error = bench.run(&mut upload(&image, config).expect("an upload")).expect_err("silence");
    assert_eq!((code(error).as_str(), bench.now), ("link.no_answer", 200 * SECOND));
}

#[test]
fn length_that_was_taken_once_is_not_blamed() {
    let mut server = Server::new(Kind::Recovery(1));
    server.instead.insert(3, offset(0));
    let mut bench = Bench::losing(server, |way, number| way == Way::Request && number >= 4);
    let config = UploadConfig { shrink_to: Some(128), ..config() };
    let mut upload = upload(&image(2000), config).expect("an upload");
    let error = bench.run(&mut upload).expect_err("silence");
    assert_eq!((code(error).as_str(), upload.stats().shrunk_to), ("link.no_answer", None));
}

#[test]
fn guessed_length_shrinks_where_the_server_got_a_part() {
    let image = image(2000);
    let mut server = Server::new(Kind::Zephyr);
    server.instead.insert(0, smp_error(9));
    let mut bench = Bench::new(server);
    let config = UploadConfig { shrink_to: Some(128), ..config() };
    let stats = bench.run(&mut upload(&image, config).expect("an upload")).expect("success");
    assert_eq!((stats.shrunk_to, stats.largest_message), (Some(128), 256));
    assert!(bench.server.lengths[1..].iter().all(|length| *length <= 128));
    // Later, or where the length is known, it is an error like any other.
    for (number, shrink_to) in [(0, None), (3, Some(128))] {
        let mut server = Server::new(Kind::Zephyr);
        server.instead.insert(number, smp_error(9));
        let config = UploadConfig { shrink_to, ..self::config() };
        let error = Bench::new(server).run(&mut upload(&image, config).expect("an upload"));
        assert_eq!(code(error.expect_err("damaged")), "smp.mgmt.corrupt");
    }
}
