//! What a client may believe of a link, a server and an answer: sequence numbers over reconnects, buffers, windows,
//! slow and noisy lines, and devices that come and go.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use flashfleet::cause::Cause;
use flashfleet::client::{Client, ClientError, ClientOptions, Conversation};
use flashfleet::identity::{Identity, UsbIdentity};
use flashfleet::image::{Image, ImageBuilder};
use flashfleet::plan::{Auto, Expect, Step};
use flashfleet::report::{Departure, Outcome, UploadFigures, Verdict};
use flashfleet::sim::{DeviceHandle, FaultSpec, Fleet, NthAnswer, Refusal, SimSpec};
use flashfleet::smp::Header;
use flashfleet::smp::message::image::ListImages;
use flashfleet::smp::message::os::ParamsResponse;
use flashfleet::transport::{Connector, Link, LinkError, LinkErrorKind, LinkProperties, Port, device_key};

use super::line::{Finished, Line, candidate, faulty, in_virtual_time, new_image, upload};
use super::tap::{Tap, Tapped};

/// One device behind a tap, in target `line`.
fn tapped(
    spec: &SimSpec,
    change: impl Fn(&Tap, Vec<u8>) -> Option<Vec<u8>> + Send + Sync + 'static,
) -> (Line, Arc<Tap>) {
    let fleet = Fleet::new(spec).expect("a fleet");
    let tapped = Tapped::new(fleet.connector(0), change);
    let tap = Arc::clone(&tapped.tap);
    let mut line = Line::of(vec![candidate(Arc::new(tapped))]);
    line.fleet = Some(fleet);
    (line, tap)
}

/// The same message with another payload.
fn with_payload(message: &[u8], payload: &[u8]) -> Vec<u8> {
    let (header, _) = Header::split(message).expect("a message");
    let length = u16::try_from(payload.len()).expect("a short payload");
    [&Header { length, ..header }.encode()[..], payload].concat()
}

fn figures(finished: &Finished) -> &UploadFigures {
    finished.report.devices[0].images[0].upload.as_ref().expect("figures")
}

fn search(line: &mut Line) {
    line.devices.get_mut("line").expect("a target").iter_mut().for_each(|candidate| candidate.claim = false);
}

#[test]
fn sequence_numbers_go_on_over_a_reconnect_and_nothing_of_the_old_link_is_sent_on_the_new_one() {
    in_virtual_time(async {
        let fault = FaultSpec { vanish_at_byte: Some(5_000), vanish_ms: Some(2_000), ..FaultSpec::default() };
        let (mut line, tap) = tapped(&faulty(fault), |_, message| Some(message));
        line.plan.policy.attempts = 2;
        assert_eq!(line.run().await.outcome, Outcome::Passed);
        let sent = tap.sent();
        let last = sent.iter().rfind(|sent| sent.link == 1).expect("a first link");
        let second: Vec<_> = sent.iter().filter(|sent| sent.link == 2).collect();
        assert_eq!(second[0].header.sequence, last.header.sequence.wrapping_add(1), "the numbers go on");
        // Far fewer than 256 requests, so a number that comes again is an old message.
        let old = |sent: &&super::tap::Sent| sent.link == 1;
        let again = second
            .iter()
            .find(|new| sent.iter().filter(old).any(|old| old.header.sequence == new.header.sequence));
        assert_eq!(again, None, "of {} sendings", sent.len());
    });
}

#[test]
fn every_run_begins_at_a_sequence_number_of_its_own() {
    let first = || {
        in_virtual_time(async {
            let (mut line, tap) = tapped(&SimSpec::default(), |_, message| Some(message));
            line.plan.targets[0].steps = vec![super::line::reset()];
            line.run().await;
            tap.sent()[0].header.sequence
        })
    };
    // Sixteen equal numbers out of 256 are not seen in the lifetime of the universe.
    let numbers: Vec<u8> = (0..16).map(|_| first()).collect();
    assert!(numbers.iter().any(|number| *number != numbers[0]), "always {}", numbers[0]);
}

#[test]
fn another_firmware_is_asked_for_its_buffers_and_gets_no_larger_messages() {
    in_virtual_time(async {
        // Simulated firmware keeps its buffers, so the tap makes them smaller from the first reset on.
        let (mut line, tap) = tapped(&SimSpec { line_buffers: 64, ..SimSpec::default() }, |tap, message| {
            let (header, _) = Header::split(&message).expect("a message");
            if (header.group, header.command) != (0, 6) || tap.count(0, 5) == 0 {
                return Some(message);
            }
            let mut payload = Vec::new();
            ciborium::into_writer(&ParamsResponse { buf_size: 200, buf_count: 4 }, &mut payload)
                .expect("CBOR");
            Some(with_payload(&message, &payload))
        });
        let bytes = ImageBuilder::new().version("3.0.0").payload(&[3; 4_000]).build();
        let other = Image::from_bytes(bytes).expect("a valid image");
        line.plan.images.insert("other".to_owned(), Arc::new(other.into()));
        let second =
            Step::Upload { image: "other".to_owned(), image_number: 0, upgrade_only: false, force: false };
        line.plan.targets[0].steps = vec![upload(), Step::TestBoot, Step::Confirm, second];
        let finished = line.run().await;
        assert_eq!(finished.outcome, Outcome::Passed, "{:?}", finished.report.devices[0].cause);
        let sent = tap.sent();
        let reset = sent.iter().position(|sent| (sent.header.group, sent.header.command) == (0, 5));
        let (before, after) = sent.split_at(reset.expect("a reset"));
        let longest = |sent: &[super::tap::Sent]| sent.iter().map(|sent| sent.len).max();
        assert_eq!((longest(before), longest(after)), (Some(384 - 4), Some(200 - 4)));
        assert_eq!(tap.count(0, 6), 2, "asked once for each firmware");
    });
}

#[test]
fn no_more_requests_are_in_flight_than_the_servers_buffers_take() {
    for (wanted, buf_count, expected) in [
        (Auto::Auto, 4, 3),
        (Auto::Fixed(1), 4, 1),
        (Auto::Fixed(2), 4, 2),
        (Auto::Fixed(8), 4, 3),
        (Auto::Fixed(8), 2, 1),
    ] {
        in_virtual_time(async {
            let spec = SimSpec { buf_count, line_buffers: 64, latency_ms: 20, ..SimSpec::default() };
            let mut line = Line::new(&spec);
            line.plan.targets[0].link.window = wanted;
            let finished = line.run().await;
            assert_eq!(finished.outcome, Outcome::Passed, "{:?}", finished.report.devices[0].cause);
            assert_eq!(figures(&finished).window, expected, "{wanted:?} with {buf_count} buffers");
        });
    }
}

#[test]
fn the_plans_buffer_holds_and_one_that_is_too_large_falls_back_to_the_servers_own() {
    in_virtual_time(async {
        let mut line = Line::new(&SimSpec { line_buffers: 64, ..SimSpec::default() });
        line.plan.targets[0].link.buffer = Auto::Fixed(200);
        assert_eq!(figures(&line.run().await).frame_bytes, 200 - 4);
        let mut line = Line::new(&SimSpec { line_buffers: 64, ..SimSpec::default() });
        line.plan.targets[0].link.buffer = Auto::Fixed(2048);
        let finished = line.run().await;
        assert_eq!(finished.outcome, Outcome::Passed, "{:?}", finished.report.devices[0].cause);
        let notes = &finished.report.devices[0].steps[0].detail.notes;
        assert!(notes.iter().any(|note| note.contains("in a message of 380 bytes")), "{notes:?}");
    });
}

#[test]
fn an_echo_with_another_text_shows_nothing_and_a_refused_one_shows_that_somebody_answers() {
    in_virtual_time(async {
        let (mut line, _) = tapped(&SimSpec::default(), |_, message| {
            let (header, _) = Header::split(&message).expect("a message");
            let other = b"\xa1\x61r\x65other";
            Some(if (header.group, header.command) == (0, 0) {
                with_payload(&message, other)
            } else {
                message
            })
        });
        search(&mut line);
        assert_eq!(line.run().await.outcome, Outcome::NoMatch);
    });
    for rc in [2, 8] {
        in_virtual_time(async {
            let refuse = Refusal { group: 0, command: 0, rc, of_group: false, from: 1, times: None };
            let mut line = Line::new(&faulty(FaultSpec { refuse: vec![refuse], ..FaultSpec::default() }));
            search(&mut line);
            let finished = line.run().await;
            assert_eq!(finished.verdicts(), [Verdict::Passed], "rc {rc}: {:?}", finished.report.devices);
        });
    }
}

#[test]
fn a_slow_link_is_given_the_plans_time_also_for_the_questions_after_a_reset() {
    in_virtual_time(async {
        let mut line = Line::new(&SimSpec { latency_ms: 900, ..SimSpec::default() });
        line.plan.targets[0].link.timeout = Auto::Fixed(Duration::from_secs(5));
        search(&mut line);
        let finished = line.run().await;
        assert_eq!(finished.verdicts(), [Verdict::Passed], "{:?}", finished.report.devices);
    });
}

#[test]
fn a_device_that_was_reset_gets_half_a_second_of_silence_whatever_the_plan_says() {
    // Deaf for good once bytes come between 250 and 450 ms after the reset's answer; or gone in that time.
    for vanishes_in_reset in [false, true] {
        in_virtual_time(async {
            let fault = FaultSpec { wedge_on_early_bytes: true, ..FaultSpec::default() };
            let spec = SimSpec { boot_ms: 200, reset_ms: 250, vanishes_in_reset, ..faulty(fault) };
            let mut line = Line::new(&spec);
            line.plan.targets[0].link.quiet = Duration::from_millis(300);
            let finished = line.run().await;
            assert_eq!(finished.outcome, Outcome::Passed, "{:?}", finished.report.devices[0].cause);
        });
    }
}

/// How long after the first reset each of the next messages was sent, and how long after the one before it.
fn pauses(tap: &Tap) -> Vec<(Duration, Duration)> {
    let sent = tap.sent();
    let reset =
        sent.iter().position(|sent| (sent.header.group, sent.header.command) == (0, 5)).expect("a reset");
    sent[reset..].windows(2).map(|pair| (pair[1].at - sent[reset].at, pair[1].at - pair[0].at)).collect()
}

#[test]
fn silence_begins_anew_when_the_port_goes_and_after_every_question_without_answer() {
    let half = Duration::from_millis(500);
    in_virtual_time(async {
        let spec = SimSpec { boot_ms: 10, reset_ms: 250, vanishes_in_reset: true, ..SimSpec::default() };
        let (mut line, tap) = tapped(&spec, |_, message| Some(message));
        line.plan.targets[0].link.quiet = Duration::from_millis(300);
        assert_eq!(line.run().await.outcome, Outcome::Passed);
        let (first, _) = pauses(&tap)[0];
        assert!(first >= Duration::from_millis(250) + half, "back at once, and asked after {first:?}");
    });
    in_virtual_time(async {
        let fault = FaultSpec { hang_on_test_boot: true, ..FaultSpec::default() };
        let (mut line, tap) = tapped(&faulty(fault), |_, message| Some(message));
        line.plan.targets[0].link.return_within = Duration::from_secs(20);
        assert_eq!(line.run().await.code(0), "device.never_returned");
        let pauses = pauses(&tap);
        assert!(pauses.len() > 5, "asked again and again: {pauses:?}");
        assert!(pauses[0].1 >= Duration::from_secs(1), "{pauses:?}");
        let question = Duration::from_secs(1);
        assert!(pauses[1..].iter().all(|pause| pause.1 >= question + Duration::from_secs(1)), "{pauses:?}");
        assert!(pauses.iter().all(|pause| pause.0 <= Duration::from_secs(20)), "{pauses:?}");
    });
}

#[test]
fn a_link_that_we_closed_ourselves_is_no_port_that_vanished() {
    in_virtual_time(async {
        // Answers to image list and state: two looks and a read-back of upload and test boot, the mark, the marks, and
        // then the proof.
        let lost = NthAnswer { group: 1, command: 0, nth: 6 };
        let mut line = Line::new(&faulty(FaultSpec { lose_answer: vec![lost], ..FaultSpec::default() }));
        line.plan.targets[0].link.retries = 0;
        let finished = line.run().await;
        assert_eq!(finished.outcome, Outcome::Passed, "{:?}", finished.report.devices[0].cause);
        assert_eq!(finished.report.devices[0].steps[1].detail.left, Some(Departure::Silent));
    });
}

#[test]
fn a_lost_look_after_a_reset_is_no_port_that_vanished_either() {
    in_virtual_time(async {
        let lost = NthAnswer { group: 1, command: 0, nth: 1 };
        let mut line = Line::new(&faulty(FaultSpec { lose_answer: vec![lost], ..FaultSpec::default() }));
        line.plan.targets[0].steps = vec![super::line::reset()];
        line.plan.targets[0].link.retries = 0;
        // Over while the look waits for its answer, so that another attempt has to find the device again.
        line.plan.targets[0].link.return_within = Duration::from_secs(3);
        line.plan.policy.attempts = 2;
        let finished = line.run().await;
        assert_eq!(finished.outcome, Outcome::Passed, "{:?}", finished.report.devices[0].cause);
        assert_eq!((line.device(0).boots(), finished.report.devices[0].attempts), (1, 2));
        assert_eq!(finished.report.devices[0].steps[0].detail.left, Some(Departure::None));
    });
}

#[test]
fn a_link_that_goes_with_the_reset_before_its_answer_came_costs_no_second_reset() {
    in_virtual_time(async {
        let fault = FaultSpec { lose_reset_answer: true, ..FaultSpec::default() };
        let mut line = Line::new(&SimSpec { vanishes_in_reset: true, ..faulty(fault) });
        line.plan.policy.attempts = 1;
        let finished = line.run().await;
        assert_eq!(finished.outcome, Outcome::Passed, "{:?}", finished.report.devices[0].cause);
        assert_eq!((line.device(0).boots(), line.device(0).request_count(0, 5)), (2, 2));
        assert_eq!(finished.report.devices[0].steps[1].detail.left, Some(Departure::Gone));
    });
}

/// Two devices one after the other; the second one goes away while the first is at work.
async fn second_goes(away: Option<Duration>) -> (Finished, DeviceHandle) {
    let mut line = Line::new(&SimSpec { count: 2, baud: Some(115_200), ..SimSpec::default() });
    search(&mut line);
    line.plan.targets[0].expect = Expect { min: 2, max: Some(2) };
    line.plan.policy.parallel = Some(1);
    line.plan.policy.attempts = 2;
    let second = line.device(1);
    let handle = second.clone();
    tokio::spawn(async move {
        tokio::time::sleep(Duration::from_millis(1_500)).await;
        handle.unplug(away);
    });
    (line.run().await, second)
}

#[test]
fn a_device_that_goes_between_being_found_and_being_started_has_its_verdict() {
    in_virtual_time(async {
        let (finished, second) = second_goes(None).await;
        assert_eq!(finished.verdicts(), [Verdict::Passed, Verdict::Error]);
        assert_eq!(finished.code(1), "link.not_found");
        assert_eq!((second.bytes_written(), finished.report.devices[1].changed), (0, Some(false)));
    });
    in_virtual_time(async {
        let (finished, second) = second_goes(Some(Duration::from_millis(500))).await;
        assert_eq!(finished.verdicts(), [Verdict::Passed; 2], "{:?}", finished.report.devices[1].cause);
        assert_eq!(second.running().expect("it runs").hash, new_image().hash());
    });
}

/// A way to a port that is never opened, that is held by somebody else, or that went after it was seen.
#[derive(Debug, Clone, Copy)]
enum Shut {
    Hangs,
    Held,
    Gone,
}

#[async_trait]
impl Connector for Shut {
    async fn connect(&self) -> Result<Box<dyn Link>, LinkError> {
        match self {
            Self::Hangs => std::future::pending().await,
            Self::Gone => Err(LinkError::new(LinkErrorKind::NotFound, "it is away", "plug it in")),
            Self::Held => {
                Err(LinkError::new(LinkErrorKind::Busy, "another process holds the port", "close it"))
            }
        }
    }

    fn address(&self) -> String {
        format!("serial:{self:?}")
    }
}

#[test]
fn a_port_that_cannot_be_opened_is_not_matched_and_holds_nobody_up() {
    in_virtual_time(async {
        let mut line = Line::new(&SimSpec::default());
        let devices = line.devices.get_mut("line").expect("a target");
        devices.extend([Shut::Hangs, Shut::Gone].map(|shut| candidate(Arc::new(shut))));
        search(&mut line);
        let finished = line.run().await;
        assert_eq!(finished.verdicts(), [Verdict::Passed]);
    });
}

#[test]
fn a_held_port_is_matched_but_for_the_other_port_of_a_board_that_answers() {
    let usb = |hub_path: &str, interface| {
        let hub_path = Some(hub_path.to_owned());
        let interface = Some(interface);
        let usb = UsbIdentity { vid: 1, pid: 2, interface, serial_number: None, product: None, hub_path };
        Identity { usb: Some(usb), ble: None }
    };
    for (answering, held, expected) in [
        (usb("1-2.1", 0), usb("1-2.1", 2), 1),
        (usb("1-2.1", 2), usb("1-2.1", 0), 1),
        (usb("1-2.1", 0), usb("1-2.2", 2), 2),
        (Identity::default(), Identity::default(), 2),
    ] {
        in_virtual_time(async {
            let mut line = Line::new(&SimSpec::default());
            let devices = line.devices.get_mut("line").expect("a target");
            devices.push(candidate(Arc::new(Shut::Held)));
            for (device, identity) in devices.iter_mut().zip([&answering, &held]) {
                device.identity = identity.clone();
                device.key = device_key(&Port { identity: identity.clone(), ..Port::plain(&device.address) });
            }
            search(&mut line);
            let finished = line.run().await;
            assert_eq!(finished.report.devices.len(), expected, "{answering:?} {held:?}");
            assert_eq!(finished.verdicts()[0], Verdict::Passed);
            if expected == 2 {
                assert_eq!(finished.code(1), "station.port_busy", "{answering:?} {held:?}");
            }
        });
    }
}

#[test]
fn a_lost_answer_to_a_mark_leaves_a_device_that_may_be_changed() {
    in_virtual_time(async {
        // The image is there already. Answers to image list and state: a look of the upload, one of the test boot, and
        // then the mark.
        let lost = NthAnswer { group: 1, command: 0, nth: 3 };
        let mut line = Line::new(&faulty(FaultSpec { lose_answer: vec![lost], ..FaultSpec::default() }));
        line.device(0).program(1, new_image().bytes());
        line.plan.targets[0].link.retries = 0;
        line.plan.policy.attempts = 1;
        let finished = line.run().await;
        assert_eq!((finished.verdicts()[0], finished.code(0).as_str()), (Verdict::Error, "link.no_answer"));
        assert!(line.device(0).is_pending(), "it was marked");
        assert_eq!(
            finished.report.devices[0].changed,
            Some(true),
            "and nobody may say that it was not touched"
        );
    });
    in_virtual_time(async {
        let refuse = Refusal { group: 1, command: 1, rc: 2, of_group: true, from: 1, times: None };
        let line = Line::new(&faulty(FaultSpec { refuse: vec![refuse], ..FaultSpec::default() }));
        let finished = line.run().await;
        assert_eq!(finished.verdicts()[0], Verdict::Failed);
        assert_eq!(finished.report.devices[0].changed, Some(false), "what was refused was not done");
    });
}

#[test]
fn an_upload_that_is_refused_in_the_middle_has_changed_the_device() {
    in_virtual_time(async {
        let refuse = Refusal { group: 1, command: 1, rc: 2, of_group: true, from: 3, times: None };
        let line = Line::new(&faulty(FaultSpec { refuse: vec![refuse], ..FaultSpec::default() }));
        let finished = line.run().await;
        assert_eq!(finished.verdicts()[0], Verdict::Failed);
        assert!(line.device(0).bytes_written() > 0);
        assert_eq!(finished.report.devices[0].changed, Some(true));
    });
}

#[test]
fn upgrade_only_lets_the_server_refuse_an_older_version() {
    for upgrade_only in [true, false] {
        in_virtual_time(async {
            let mut line = Line::new(&SimSpec { version: "3.0.0".to_owned(), ..SimSpec::default() });
            line.plan.targets[0].steps =
                vec![Step::Upload { image: "app".to_owned(), image_number: 0, upgrade_only, force: false }];
            let finished = line.run().await;
            let expected = if upgrade_only { Verdict::Failed } else { Verdict::Passed };
            assert_eq!(finished.verdicts(), [expected], "{:?}", finished.report.devices[0].cause);
            assert_eq!(line.device(0).bytes_written() == 0, upgrade_only);
        });
    }
}

/// A device that says things nobody asked for, faster than they can be read.
struct Chatterbox {
    started: std::time::Instant,
}

const CHATTER: Duration = Duration::from_secs(20);

#[async_trait]
impl Link for Chatterbox {
    async fn send(&mut self, _: &[u8]) -> Result<(), LinkError> {
        Ok(())
    }

    async fn recv(&mut self) -> Result<Vec<u8>, LinkError> {
        if self.started.elapsed() > CHATTER {
            return Err(LinkError::new(LinkErrorKind::Disconnected, "it has said everything", "run again"));
        }
        Ok(vec![3, 0, 0, 0, 0, 99, 1, 1])
    }

    fn properties(&self) -> LinkProperties {
        flashfleet::transport::MemoryLink::unlimited()
    }

    async fn close(self: Box<Self>) {}
}

#[tokio::test]
async fn a_device_that_never_stops_talking_does_not_keep_a_request_from_ending() {
    let link = Box::new(Chatterbox { started: std::time::Instant::now() });
    let options =
        ClientOptions { timeout: Some(Duration::from_millis(50)), retries: 1, ..ClientOptions::default() };
    let mut client = Client::new(link, options, Conversation::default());
    let error = client.request(&ListImages {}).await.expect_err("nobody answered");
    assert!(matches!(error, ClientError::Unanswered(_)), "{error}");
    assert_eq!(Cause::from(error).code, "link.no_answer");
}

#[test]
fn an_erase_is_sent_once_and_looked_at() {
    in_virtual_time(async {
        let (mut line, tap) = tapped(&SimSpec::default(), |_, message| Some(message));
        line.device(0).program(1, new_image().bytes());
        line.plan.targets[0].steps = vec![Step::Erase { slot: 1 }];
        let finished = line.run().await;
        assert_eq!(finished.outcome, Outcome::Passed, "{:?}", finished.report.devices[0].cause);
        assert_eq!((tap.count(1, 5), tap.count(1, 0)), (1, 1));
        assert_eq!(line.device(0).slot(1).version, None);
    });
}
