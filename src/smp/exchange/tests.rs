//! Requests and answers over a link that loses, delays and doubles them, in virtual time.

use std::time::Duration;

use super::*;
use crate::smp::message::os::{Echo, EchoResponse, Params, Reset};
use crate::smp::{HEADER_LEN, Version, group};

const SECOND: Duration = Duration::from_secs(1);
const POLICY: Policy = Policy { timeout: SECOND, retries: 2 };

fn at(seconds: u64) -> Time {
    Duration::from_secs(seconds)
}

fn exchange() -> Exchange {
    Exchange::new(ExchangeConfig { first_sequence: 7, ..ExchangeConfig::default() })
}

fn echo(text: &str) -> RawRequest {
    RawRequest::new(&Echo { d: text.to_owned() }).expect("an echo")
}

fn params() -> RawRequest {
    RawRequest::new(&Params {}).expect("params")
}

fn reset() -> RawRequest {
    RawRequest::new(&Reset::default()).expect("a reset")
}

/// What a server sends back to `message`, with this payload.
fn answer_to(message: &[u8], payload: &[u8]) -> Vec<u8> {
    let (header, _) = Header::split(message).expect("a whole message");
    let length = u16::try_from(payload.len()).expect("a short payload");
    let header = Header { op: header.op.response(), length, ..header };
    [header.encode().as_slice(), payload].concat()
}

/// `{"r": text}`, for texts of at most 23 bytes.
fn echoed(text: &str) -> Vec<u8> {
    let length = u8::try_from(text.len()).expect("a short text");
    [b"\xa1\x61r".as_slice(), &[0x60 | length], text.as_bytes()].concat()
}

fn sequence(message: &[u8]) -> u8 {
    Header::decode(message).expect("a header").sequence
}

#[test]
fn answer_goes_to_its_request() {
    let mut exchange = exchange();
    let ticket = exchange.submit(at(0), echo("one"), POLICY);
    let message = exchange.poll_transmit(at(1)).expect("a message");
    assert_eq!(exchange.poll_transmit(at(1)), None);
    assert_eq!(exchange.next_timeout(), Some(at(2)), "its time starts when it is sent");

    let received = exchange.handle_message(at(1) + SECOND / 4, &answer_to(&message, &echoed("one")));
    assert_eq!(received, Received::Answer);
    let (answered, outcome) = exchange.poll_outcome().expect("an outcome");
    let answer = outcome.expect("an answer");
    assert_eq!(answered, ticket);
    assert_eq!((answer.version, answer.rtt, answer.sends), (Version::V2, SECOND / 4, 1));
    assert_eq!(answer.decode::<Echo>(), Ok(EchoResponse { r: "one".to_owned() }));
    assert_eq!((exchange.in_flight(), exchange.next_timeout(), exchange.poll_outcome()), (0, None, None));
}

#[test]
fn answers_in_another_order_go_to_their_requests() {
    let mut exchange = exchange();
    let tickets: Vec<_> = ["a", "b", "c"].map(|text| exchange.submit(at(0), echo(text), POLICY)).into();
    let messages: Vec<_> = std::iter::from_fn(|| exchange.poll_transmit(at(0))).collect();
    assert_eq!(messages.iter().map(|message| sequence(message)).collect::<Vec<_>>(), [7, 8, 9]);
    for index in [2, 0, 1] {
        exchange.handle_message(at(0), &answer_to(&messages[index], &echoed(["a", "b", "c"][index])));
        let (ticket, answer) = exchange.poll_outcome().expect("an outcome");
        assert_eq!(ticket, tickets[index]);
        assert_eq!(answer.expect("an answer").payload, echoed(["a", "b", "c"][index]));
    }
}

#[test]
fn server_of_version_1_answers_in_version_1() {
    let mut exchange = exchange();
    exchange.submit(at(0), echo("one"), POLICY);
    let message = exchange.poll_transmit(at(0)).expect("a message");
    let mut answer = answer_to(&message, &echoed("one"));
    answer[0] &= !0x18;
    assert_eq!(exchange.handle_message(at(0), &answer), Received::Answer);
    let (_, outcome) = exchange.poll_outcome().expect("an outcome");
    assert_eq!(outcome.expect("an answer").version, Version::V1);
}

#[test]
fn what_answers_nothing_is_counted_and_dropped() {
    let mut exchange = exchange();
    exchange.submit(at(0), echo("one"), POLICY);
    let message = exchange.poll_transmit(at(0)).expect("a message");
    let answer = answer_to(&message, &echoed("one"));
    let changed = |index: usize, to: u8| {
        let mut message = answer.clone();
        message[index] = to;
        message
    };
    // Our own message sent back; another sequence number, group, command, operation.
    for foreign in [message.clone(), changed(6, 8), changed(5, 1), changed(7, 1), changed(0, 0x09)] {
        assert_eq!(exchange.handle_message(at(0), &foreign), Received::Foreign, "{foreign:02x?}");
    }
    // Nothing, half a header, a version and an operation that do not exist, a byte too few and too many.
    let longer = [answer.as_slice(), &[0]].concat();
    let shorter = &answer[..answer.len() - 1];
    for malformed in [&[], &answer[..7], &changed(0, 0x13), &changed(0, 0x0c), shorter, &longer] {
        assert_eq!(exchange.handle_message(at(0), malformed), Received::Malformed, "{malformed:02x?}");
    }
    assert_eq!(exchange.poll_outcome(), None);
    assert_eq!((exchange.stats().foreign, exchange.stats().malformed), (5, 6));
    assert_eq!(exchange.handle_message(at(0), &answer), Received::Answer, "the request is still in flight");
}

#[test]
fn repeat_is_the_same_message_and_any_of_its_answers_counts_once() {
    let mut exchange = exchange();
    exchange.submit(at(0), echo("one"), POLICY);
    let first = exchange.poll_transmit(at(0)).expect("a message");
    exchange.handle_timeout(at(1));
    let again = exchange.poll_transmit(at(1)).expect("a repeat");
    assert_eq!(first, again);

    // The answer to the first sending, late, then the one to the repeat.
    let answer = answer_to(&first, &echoed("one"));
    assert_eq!(exchange.handle_message(at(1), &answer), Received::Answer);
    assert_eq!(exchange.handle_message(at(1), &answer), Received::Late);
    let (_, outcome) = exchange.poll_outcome().expect("an outcome");
    let answer = outcome.expect("an answer");
    assert_eq!((answer.sends, answer.rtt), (2, SECOND));
    assert_eq!(exchange.poll_outcome(), None);
    assert_eq!((exchange.stats().repeated, exchange.stats().late), (1, 1));
}

#[test]
fn safe_request_is_sent_as_often_as_its_policy_says() {
    let mut exchange = exchange();
    let ticket = exchange.submit(at(0), params(), POLICY);
    let mut sent = Vec::new();
    for second in 0..10 {
        exchange.handle_timeout(at(second));
        sent.extend(exchange.poll_transmit(at(second)).map(|_| second));
    }
    assert_eq!(sent, [0, 1, 2]);
    let request = RequestId::of::<Params>();
    let error = ExchangeError::NoAnswer { request, sends: 3, waited: at(3) };
    assert_eq!(exchange.poll_outcome(), Some((ticket, Err(error.clone()))));
    let cause = Cause::from(error);
    assert_eq!((cause.class, cause.code.as_ref()), (Class::Link, "link.no_answer"));
}

#[test]
fn once_goes_once() {
    let mut exchange = exchange();
    let ticket = exchange.submit(at(0), reset(), Policy { timeout: SECOND, retries: 9 });
    let message = exchange.poll_transmit(at(0)).expect("a message");
    exchange.handle_timeout(at(1));
    assert_eq!(exchange.poll_transmit(at(1)), None);
    let error = ExchangeError::Unanswered { request: RequestId::of::<Reset>(), waited: SECOND };
    assert_eq!(exchange.poll_outcome(), Some((ticket, Err(error.clone()))));
    assert_eq!(Cause::from(error).code, "link.unanswered");
    assert_eq!(exchange.handle_message(at(2), &answer_to(&message, b"\xa0")), Received::Late);
    assert_eq!(exchange.poll_outcome(), None);
}

#[test]
fn nothing_times_out_early() {
    let mut exchange = exchange();
    exchange.submit(at(0), params(), POLICY);
    exchange.handle_timeout(at(100));
    assert_eq!(exchange.next_timeout(), None, "it was not sent yet");
    assert!(exchange.poll_transmit(at(100)).is_some());
    exchange.handle_timeout(at(101) - Duration::from_nanos(1));
    assert_eq!(exchange.poll_transmit(at(101)), None);
    exchange.handle_timeout(at(101));
    assert!(exchange.poll_transmit(at(101)).is_some());
}

#[test]
fn numbers_that_may_still_be_answered_are_not_used_again() {
    let mut exchange = exchange();
    let policy = Policy { timeout: SECOND, retries: 0 };
    exchange.submit(at(0), echo("lost"), policy);
    let lost = exchange.poll_transmit(at(0)).expect("a message");
    exchange.handle_timeout(at(1));
    assert!(exchange.poll_outcome().is_some());
    // Once around all numbers, each answered at once, so free again at once.
    let mut used = Vec::new();
    for _ in 0..600 {
        exchange.submit(at(2), echo("x"), policy);
        let message = exchange.poll_transmit(at(2)).expect("a message");
        used.push(sequence(&message));
        assert_eq!(exchange.handle_message(at(2), &answer_to(&message, &echoed("x"))), Received::Answer);
        exchange.poll_outcome();
    }
    assert!(!used.contains(&sequence(&lost)));
    assert!(used.iter().all(|number| used.iter().filter(|other| *other == number).count() >= 2));
    // Not even when an answer came: it may be a copy. Six seconds after the server has passed it the number is free.
    assert_eq!(exchange.handle_message(at(2), &answer_to(&lost, &echoed("lost"))), Received::Late);
    for (time, free) in [(at(8) - SECOND / 10, false), (at(8), true)] {
        let mut used = Vec::new();
        for _ in 0..256 {
            exchange.submit(time, echo("x"), policy);
            let message = exchange.poll_transmit(time).expect("a message");
            used.push(sequence(&message));
            exchange.handle_message(time, &answer_to(&message, &echoed("x")));
        }
        assert_eq!(used.contains(&sequence(&lost)), free);
    }
}

#[test]
fn request_waits_for_a_number_when_all_are_taken() {
    let mut exchange = exchange();
    let policy = Policy { timeout: SECOND, retries: 0 };
    for _ in 0..256 {
        exchange.submit(at(0), echo("lost"), policy);
        assert!(exchange.poll_transmit(at(0)).is_some());
    }
    exchange.handle_timeout(at(1));
    while exchange.poll_outcome().is_some() {}
    exchange.submit(at(1), echo("x"), policy);
    assert_eq!(exchange.poll_transmit(at(1)), None);
    assert_eq!(exchange.next_timeout(), Some(at(30)), "the numbers are free 30 s after their last sending");
    assert_eq!(exchange.poll_transmit(at(30) - SECOND), None);
    assert!(exchange.poll_transmit(at(30)).is_some());
    assert_eq!(exchange.next_timeout(), Some(at(31)));
}

#[test]
fn repeat_on_demand_is_the_same_message_and_never_of_what_goes_once() {
    let mut exchange = exchange();
    let ticket = exchange.submit(at(0), echo("x"), POLICY);
    let first = exchange.poll_transmit(at(0)).expect("a message");
    assert!(exchange.repeat(ticket));
    assert_eq!(exchange.poll_transmit(at(0)), Some(first.clone()));
    assert_eq!(exchange.poll_transmit(at(0)), None);
    assert_eq!(exchange.handle_message(at(1), &answer_to(&first, &echoed("x"))), Received::Answer);
    assert!(matches!(exchange.poll_outcome(), Some((_, Ok(Answer { sends: 2, .. })))));
    assert!(!exchange.repeat(ticket), "it is over");
    let once = exchange.submit(at(1), reset(), POLICY);
    assert!(exchange.poll_transmit(at(1)).is_some());
    assert!(!exchange.repeat(once));
    assert_eq!(exchange.poll_transmit(at(1)), None, "a reset goes once");
}

#[test]
fn number_of_an_answered_request_is_not_used_again_at_once() {
    let mut exchange = exchange();
    let policy = Policy { timeout: SECOND, retries: 0 };
    for _ in 0..255 {
        exchange.submit(at(0), echo("lost"), policy);
        assert!(exchange.poll_transmit(at(0)).is_some());
    }
    exchange.submit(at(0), echo("x"), policy);
    let message = exchange.poll_transmit(at(0)).expect("a message");
    exchange.handle_timeout(at(1));
    exchange.submit(at(1), echo("y"), policy);
    assert_eq!(exchange.poll_transmit(at(1)), None, "all numbers are in flight or may still be answered");

    // Its own request was answered: a copy of that answer must not answer the next one.
    let mut exchange = self::exchange();
    for _ in 0..255 {
        exchange.submit(at(0), echo("slow"), Policy { timeout: at(60), retries: 0 });
        assert!(exchange.poll_transmit(at(0)).is_some());
    }
    exchange.submit(at(0), echo("x"), policy);
    let answer = answer_to(&exchange.poll_transmit(at(0)).expect("a message"), &echoed("x"));
    assert_eq!(exchange.handle_message(at(0), &answer), Received::Answer);
    exchange.submit(at(0), echo("y"), policy);
    assert_eq!((exchange.poll_transmit(at(0)), exchange.next_timeout()), (None, Some(at(1))));
    assert_eq!(exchange.handle_message(at(0), &answer), Received::Late);
    assert_eq!(exchange.poll_transmit(at(1)).map(|next| sequence(&next)), Some(sequence(&message)));
}

#[test]
fn request_that_waits_for_a_number_does_not_hold_up_repeats() {
    let mut exchange = exchange();
    for _ in 0..256 {
        exchange.submit(at(0), echo("slow"), POLICY);
        assert!(exchange.poll_transmit(at(0)).is_some());
    }
    exchange.submit(at(0), echo("x"), POLICY);
    assert_eq!(exchange.poll_transmit(at(0)), None);
    exchange.handle_timeout(at(1));
    assert_eq!(std::iter::from_fn(|| exchange.poll_transmit(at(1))).count(), 256);
}

#[test]
fn cancelled_request_has_no_outcome() {
    let mut exchange = exchange();
    let ticket = exchange.submit(at(0), echo("one"), POLICY);
    let message = exchange.poll_transmit(at(0)).expect("a message");
    assert!(exchange.cancel(at(0), ticket));
    assert!(!exchange.cancel(at(0), ticket));
    assert_eq!(exchange.handle_message(at(0), &answer_to(&message, &echoed("one"))), Received::Late);
    exchange.handle_timeout(at(9));
    assert_eq!((exchange.poll_outcome(), exchange.poll_transmit(at(9))), (None, None));
    // Also where the outcome was there already.
    let ticket = exchange.submit(at(9), echo("two"), POLICY);
    let message = exchange.poll_transmit(at(9)).expect("a message");
    exchange.handle_message(at(9), &answer_to(&message, &echoed("two")));
    assert!(!exchange.cancel(at(9), ticket));
    assert_eq!(exchange.poll_outcome(), None);
}

#[test]
fn lost_link_ends_everything_in_flight() {
    let mut exchange = exchange();
    let sent = exchange.submit(at(0), reset(), POLICY);
    let message = exchange.poll_transmit(at(0)).expect("a message");
    let queued = exchange.submit(at(0), params(), POLICY);
    exchange.reset(at(1));
    let error = ExchangeError::LinkLost { request: RequestId::of::<Reset>(), sends: 1 };
    assert_eq!(exchange.poll_outcome(), Some((sent, Err(error))));
    let error = ExchangeError::LinkLost { request: RequestId::of::<Params>(), sends: 0 };
    assert_eq!(exchange.poll_outcome(), Some((queued, Err(error.clone()))));
    assert_eq!(Cause::from(error).code, "link.disconnected");
    assert_eq!((exchange.poll_transmit(at(1)), exchange.next_timeout()), (None, None));
    // An answer that comes over the next link is not taken for another request's.
    exchange.submit(at(2), reset(), POLICY);
    let next = exchange.poll_transmit(at(2)).expect("a message");
    assert_ne!(sequence(&next), sequence(&message));
    assert_eq!(exchange.handle_message(at(2), &answer_to(&message, b"\xa0")), Received::Late);
}

#[test]
fn payload_that_is_no_cbor_is_the_caller_s_to_judge() {
    let mut exchange = exchange();
    let id = RequestId { op: Op::Read, group: group::PER_USER, command: 1 };
    let request = RawRequest::from_parts(id, Repeat::Safe, b"own scheme".to_vec()).expect("a request");
    exchange.submit(at(0), request, POLICY);
    let message = exchange.poll_transmit(at(0)).expect("a message");
    assert_eq!(&message[HEADER_LEN..], b"own scheme");
    exchange.handle_message(at(0), &answer_to(&message, b"its own"));
    let (_, outcome) = exchange.poll_outcome().expect("an outcome");
    let answer = outcome.expect("an answer");
    assert_eq!(answer.payload, b"its own");
    let error = answer.decode::<Params>().expect_err("no CBOR");
    assert_eq!(Cause::from(error).code, "smp.malformed_answer");
}

#[test]
fn requests_that_no_message_can_hold_are_refused() {
    let id = RequestId::of::<Params>();
    assert!(RawRequest::from_parts(id, Repeat::Safe, vec![0; 0xffff]).is_ok());
    let error = RawRequest::from_parts(id, Repeat::Safe, vec![0; 0x1_0000]).expect_err("too long");
    assert_eq!(error.to_string(), "expected a payload of at most 65535 bytes, got 65536");
    let answer = RequestId { op: Op::ReadResponse, ..id };
    assert!(RawRequest::from_parts(answer, Repeat::Safe, Vec::new()).is_err());
}

#[test]
fn numbers_do_not_run_out_on_a_link_that_loses_many_messages() {
    let mut exchange = exchange();
    let mut now = at(0);
    // A hundred requests each second, of which every fourth, or the answer to it, gets lost once. All is answered.
    for round in 0..6000_u32 {
        now += SECOND / 100;
        let ticket = exchange.submit(now, params(), POLICY);
        let message = exchange.poll_transmit(now).unwrap_or_else(|| panic!("{round}: no number is free"));
        if round % 4 == 0 {
            assert!(exchange.repeat(ticket));
            assert_eq!(exchange.poll_transmit(now), Some(message.clone()), "{round}");
        }
        assert_eq!(exchange.handle_message(now, &answer_to(&message, b"\xa0")), Received::Answer);
        while exchange.poll_outcome().is_some() {}
    }
}

#[test]
fn number_of_what_the_server_has_passed_is_kept_for_a_late_copy_only() {
    let mut exchange = exchange();
    let once = Policy { retries: 0, ..POLICY };
    exchange.submit(at(0), params(), once);
    let lost = exchange.poll_transmit(at(0)).expect("a message");
    exchange.handle_timeout(at(1));
    assert!(exchange.poll_outcome().is_some_and(|(_, outcome)| outcome.is_err()));
    // Whatever is sent later and answered: the server was there before.
    exchange.submit(at(2), params(), once);
    let next = exchange.poll_transmit(at(2)).expect("a message");
    assert_eq!(exchange.handle_message(at(2), &answer_to(&next, b"\xa0")), Received::Answer);
    assert_eq!(
        exchange.handle_message(at(2), &answer_to(&lost, b"\xa0")),
        Received::Late,
        "the network was slow"
    );
    // Six seconds later nothing is known of it any more.
    exchange.submit(at(8), params(), once);
    assert!(exchange.poll_transmit(at(8)).is_some());
    assert_eq!(exchange.handle_message(at(8), &answer_to(&lost, b"\xa0")), Received::Foreign);
}

#[test]
fn answer_to_what_was_sent_before_passes_nothing() {
    let mut exchange = exchange();
    let first = exchange.submit(at(0), params(), POLICY);
    let message = exchange.poll_transmit(at(0)).expect("a message");
    let second = exchange.submit(at(0), echo("x"), POLICY);
    let lost = exchange.poll_transmit(at(0)).expect("a message");
    assert!(exchange.cancel(at(0), second));
    // The first is sent again after the second; the answer may well be to its first sending.
    assert!(exchange.repeat(first));
    exchange.poll_transmit(at(0)).expect("the repeat");
    assert_eq!(exchange.handle_message(at(0), &answer_to(&message, b"\xa0")), Received::Answer);
    exchange.handle_timeout(at(25));
    assert_eq!(exchange.handle_message(at(25), &answer_to(&lost, &echoed("x"))), Received::Late);
}
