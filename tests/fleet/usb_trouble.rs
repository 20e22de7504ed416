//! Boards on USB that come late, refuse, or are pulled out; and what waiting for many of them costs.

use std::sync::Arc;
use std::time::Duration;

use flashfleet::plan::Policy;
use flashfleet::report::{Departure, Outcome, Verdict};
use flashfleet::sim::{FaultSpec, SimSpec};
use flashfleet::transport::LinkErrorKind;
use tokio::time::{Instant, sleep};

use super::bus::{Bus, Shows};
use super::line::in_virtual_time;
use super::usb::{boards, line, notes, run, runs_new_image};

#[test]
fn a_port_that_refuses_for_three_seconds_after_it_came_is_opened_then() {
    for kind in [LinkErrorKind::Denied, LinkErrorKind::Busy] {
        in_virtual_time(async {
            let bus = Bus::new(&boards(2), |index| Shows {
                refuses: Some((kind, Some(Duration::from_secs(3)))),
                ..Shows::board(index)
            });
            let mut line = line(2);
            line.plan.policy.attempts = 1;
            let finished = run(&line, &bus).await;
            assert_eq!(finished.verdicts(), [Verdict::Passed; 2], "{kind:?}: {:?}", finished.report.devices);
            assert!((0..2).all(|index| runs_new_image(&bus, index)));
        });
    }
}

#[test]
fn a_port_that_refuses_for_good_is_station_trouble_at_discovery_and_after_a_reset() {
    for (kind, code) in
        [(LinkErrorKind::Denied, "station.port_denied"), (LinkErrorKind::Busy, "station.port_busy")]
    {
        for refuses_from_boot in [0, 1] {
            in_virtual_time(async {
                let bus = Bus::new(&boards(2), |index| Shows {
                    refuses: (index == 1).then_some((kind, None)),
                    refuses_from_boot,
                    ..Shows::board(index)
                });
                let begin = Instant::now();
                let finished = run(&line(2), &bus).await;
                assert_eq!(finished.verdicts(), [Verdict::Passed, Verdict::Error]);
                assert_eq!((finished.code(1).as_str(), finished.outcome), (code, Outcome::Station));
                assert_eq!(bus.device(1).boots(), refuses_from_boot, "and is not reset again");
                // Three attempts of five seconds, not as long as a board may take to return.
                assert!(begin.elapsed() < Duration::from_secs(30), "{:?}", begin.elapsed());
            });
        }
    }
}

#[test]
fn a_board_that_comes_after_twenty_seconds_is_waited_for_within_return_within() {
    for (return_within, verdict) in [(30, Verdict::Passed), (15, Verdict::Failed)] {
        in_virtual_time(async {
            let bus = Bus::new(&SimSpec { boot_ms: 20_000, ..boards(1) }, Shows::board);
            let mut line = line(1);
            line.plan.targets[0].link.return_within = Duration::from_secs(return_within);
            let finished = run(&line, &bus).await;
            assert_eq!(finished.verdicts(), [verdict], "{:?}", finished.report.devices);
            if verdict == Verdict::Failed {
                assert_eq!(finished.code(0), "device.never_returned");
                let cause = finished.report.devices[0].cause.as_ref().expect("a cause");
                assert!(cause.message.contains("2fe3:0004:0 with serial number FF00"), "{cause}");
            }
        });
    }
}

/// Three boards, the second of which is pulled out in mid-upload. A policy as it is where the plan says nothing.
async fn pulled(back_after: Option<u64>) -> (Arc<Bus>, super::line::Finished, Duration) {
    let fault = FaultSpec {
        only: vec![2],
        vanish_at_byte: Some(5_000),
        vanish_ms: back_after.map(|seconds| seconds * 1000),
        ..FaultSpec::default()
    };
    let bus = Bus::new(&SimSpec { fault, ..boards(3) }, Shows::board);
    let mut line = line(3);
    line.plan.policy = Policy::default();
    let begin = Instant::now();
    let finished = run(&line, &bus).await;
    (bus, finished, begin.elapsed())
}

#[test]
fn a_board_that_is_pulled_out_in_mid_upload_and_put_back_is_found_again_and_finished() {
    in_virtual_time(async {
        let (bus, finished, _) = pulled(Some(20)).await;
        assert_eq!(finished.verdicts(), [Verdict::Passed; 3], "{:?}", finished.report.devices[1].cause);
        assert!((0..3).all(|index| runs_new_image(&bus, index)));
        let device = &finished.report.devices[1];
        assert_eq!((device.attempts, device.steps[0].attempts), (2, 2));
        assert_eq!(device.steps[0].retries[0].cause.code, "link.disconnected");
        let asked = bus.asked().into_iter().find(|asked| asked.index == 1 && asked.boots == 1);
        let after = asked.expect("it was asked").after;
        assert!(after >= Duration::from_millis(500), "what was plugged in may still boot: {after:?}");
    });
}

#[test]
fn a_board_that_is_put_back_under_another_name_is_told() {
    in_virtual_time(async {
        // The first board is reset while the second is out, and takes its name.
        let bus = Bus::new(&SimSpec { baud: Some(115_200), ..boards(2) }, Shows::board);
        let (first, second) = (bus.device(0), bus.device(1));
        tokio::spawn(async move {
            sleep(Duration::from_secs(1)).await;
            first.unplug(Some(Duration::from_secs(4)));
            second.unplug(Some(Duration::from_secs(2)));
        });
        let finished = run(&line(2), &bus).await;
        assert_eq!(finished.verdicts(), [Verdict::Passed; 2], "{:?}", finished.report.devices);
        for (index, note) in [
            "came back as serial:/dev/ttyACM1 (was serial:/dev/ttyACM0)",
            "came back as serial:/dev/ttyACM0 (was serial:/dev/ttyACM1)",
        ]
        .into_iter()
        .enumerate()
        {
            let device = &finished.report.devices[index];
            assert_eq!(device.steps[0].detail.notes, [note], "{:?}", notes(device));
        }
    });
}

#[test]
fn a_board_that_is_never_put_back_ends_with_its_cause_in_bounded_time() {
    in_virtual_time(async {
        let (bus, finished, took) = pulled(None).await;
        assert_eq!(finished.verdicts(), [Verdict::Passed, Verdict::Error, Verdict::Passed]);
        assert_eq!(finished.code(1), "link.not_found");
        let cause = finished.report.devices[1].cause.as_ref().expect("a cause");
        assert!(cause.message.contains("it went away 61 s ago"), "{cause}");
        assert_eq!(finished.report.devices[1].changed, Some(true));
        // `return_within` is 60 s, the deadline half an hour.
        assert!(took < Duration::from_secs(70), "{took:?}");
        assert!(!bus.device(1).is_present());
    });
}

#[test]
fn a_return_is_noticed_at_once_and_a_hundred_boards_that_wait_share_one_look() {
    in_virtual_time(async {
        let count = 120;
        let bus = Bus::new(&SimSpec { boot_ms: 3_000, ..boards(count) }, Shows::board);
        let mut line = line(count);
        line.plan.targets[0].link.quiet = Duration::from_secs(1);
        let begin = Instant::now();
        let finished = run(&line, &bus).await;
        assert_eq!(finished.outcome, Outcome::Passed, "{:?}", finished.report.devices[0].cause);
        let left: Vec<_> = finished.report.devices.iter().map(|device| device.steps[1].detail.left).collect();
        assert!(left.iter().all(|left| *left == Some(Departure::Gone)));
        let asked: Vec<_> = bus.asked().into_iter().filter(|asked| asked.boots > 0).collect();
        assert_eq!(asked.len(), 2 * count, "two boots each");
        let latest = asked.iter().map(|asked| asked.after).max().expect("boards");
        assert!(latest <= Duration::from_millis(100), "port back to first request: {latest:?}");
        // One list when a port came or went, or a second has passed; not one per board and look.
        let seconds = usize::try_from(begin.elapsed().as_secs()).expect("seconds");
        assert!(bus.listings() < 50 * seconds, "{} listings in {seconds} s", bus.listings());
        assert!(bus.listings() < 10 * count, "{} listings", bus.listings());
    });
}
