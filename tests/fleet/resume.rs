//! A run that goes on with an earlier one: who is done again, who keeps a verdict, and that nobody is lost.

use std::io::Write as _;
use std::sync::Arc;
use std::time::Duration;

use flashfleet::report::{DeviceId, EarlierRun, Event, EventKind, Outcome, Verdict, merge};
use flashfleet::sim::{FaultSpec, SimSpec};
use tokio::sync::mpsc;
use tokio::time::Instant;

use super::line::{Finished, Line, in_virtual_time};
use super::usb::expect;

/// Three devices, of which the second one reverts its image.
fn three() -> Line {
    let fault = FaultSpec { only: vec![2], crash_on_test_boot: true, ..FaultSpec::default() };
    let mut line = Line::new(&SimSpec { count: 3, fault, ..SimSpec::default() });
    line.plan.targets[0].expect = expect(3);
    line
}

/// The same line another time, with some of its devices, none of them faulty.
fn again(earlier: &Finished, there: &[usize]) -> Line {
    let mut line = Line::new(&SimSpec { count: 3, ..SimSpec::default() });
    line.plan.targets[0].expect = expect(3);
    line.plan.targets[0].discover = Duration::from_secs(20);
    line.options.run_id = "second".to_owned();
    line.options.earlier = read(&earlier.events);
    let candidates = line.devices.get_mut("line").expect("its devices");
    let mut index = 0;
    candidates.retain(|_| {
        index += 1;
        there.contains(&index)
    });
    line
}

fn read(events: &[Event]) -> Arc<EarlierRun> {
    let mut journal = tempfile::NamedTempFile::new().expect("a file");
    for event in events {
        writeln!(journal, "{}", serde_json::to_string(event).expect("JSON")).expect("a line");
    }
    Arc::new(EarlierRun::read(journal.path()).expect("a journal"))
}

fn verdicts(finished: &Finished) -> Vec<(&str, Verdict, Option<&str>)> {
    let mut all: Vec<_> = (finished.report.devices.iter())
        .map(|device| (&*device.address, device.verdict, device.carried_from.as_deref()))
        .collect();
    all.sort_by_key(|(address, ..)| *address);
    all
}

#[test]
fn what_passed_and_is_not_there_any_more_counts_and_the_rest_is_done() {
    in_virtual_time(async {
        let first = three().run().await;
        assert_eq!(first.outcome, Outcome::NotPassed);
        let line = again(&first, &[2]);
        let start = Instant::now();
        let second = line.run().await;
        assert_eq!(second.outcome, Outcome::Passed, "{:?}", second.report.run.cause);
        assert_eq!(
            verdicts(&second),
            [
                ("sim:device-1", Verdict::Passed, Some("run")),
                ("sim:device-2", Verdict::Passed, None),
                ("sim:device-3", Verdict::Passed, Some("run")),
            ]
        );
        assert!(
            start.elapsed() < Duration::from_secs(20),
            "what passed is not waited for: {:?}",
            start.elapsed()
        );
        let (then, now) = (&first.report.summary, &second.report.summary);
        assert_eq!((now.carried, now.passed, now.devices), (2, 3, 3));
        assert_eq!(now.bytes, then.bytes / 3, "what this run sent");
        let of = |finished: &Finished| {
            let mut device = finished
                .report
                .devices
                .iter()
                .find(|device| device.address == "sim:device-1")
                .cloned()
                .expect("it");
            device.carried_from = None;
            device.id = DeviceId("same".to_owned());
            device
        };
        assert_eq!(of(&second), of(&first), "with every figure");
        let both = merge(vec![first.report, second.report]).expect("a report");
        assert_eq!((both.summary.devices, both.summary.passed, both.summary.carried), (4, 3, 0), "each once");
    });
}

#[test]
fn what_is_there_is_looked_at_again_and_not_written_where_it_runs_already() {
    in_virtual_time(async {
        let line = three();
        let first = line.run().await;
        // The very same devices: two of them run the new image.
        let mut second = three();
        second.devices = line.devices.clone();
        second.options.earlier = read(&first.events);
        let second = second.run().await;
        let changed: Vec<_> = second.report.devices.iter().map(|device| device.changed).collect();
        assert_eq!(changed, [Some(false), Some(true), Some(false)]);
        assert_eq!((second.report.summary.carried, second.outcome), (0, Outcome::NotPassed));
        assert!(!line.device(0).requests().is_empty());
    });
}

#[test]
fn what_did_not_pass_is_waited_for_and_keeps_its_verdict_where_it_does_not_come() {
    in_virtual_time(async {
        let first = three().run().await;
        let start = Instant::now();
        let second = again(&first, &[]).run().await;
        assert!(start.elapsed() >= Duration::from_secs(20), "{:?}", start.elapsed());
        assert_eq!(second.outcome, Outcome::NotPassed);
        assert_eq!(verdicts(&second)[1], ("sim:device-2", Verdict::Failed, Some("run")));
        let cause = second.report.devices[1].cause.as_ref().expect("a cause");
        assert_eq!(cause.code, "image.reverted");

        // And once more: what was carried over is carried on, under the same id, and is still that run's.
        let third = again(&second, &[2]).run().await;
        assert_eq!(third.outcome, Outcome::Passed);
        assert_eq!(verdicts(&third)[0], ("sim:device-1", Verdict::Passed, Some("run")));
        let id = |finished: &Finished| {
            finished
                .report
                .devices
                .iter()
                .find(|device| device.address == "sim:device-1")
                .expect("it")
                .id
                .clone()
        };
        assert_eq!(id(&third), id(&second));
    });
}

#[test]
fn a_device_whose_run_was_cut_short_has_a_verdict_too() {
    in_virtual_time(async {
        let first = three().run().await;
        let is_end = |event: &Event| {
            matches!(event.kind, EventKind::RunFinished { .. } | EventKind::DeviceFinished { .. })
        };
        let cut: Vec<Event> = first.events.into_iter().filter(|event| !is_end(event)).collect();
        let cut = Finished { events: cut, report: first.report, outcome: first.outcome };
        let second = again(&cut, &[1, 2]).run().await;
        assert_eq!(verdicts(&second)[2], ("sim:device-3", Verdict::Aborted, Some("run")));
        let cut_short = second.report.devices.iter().find(|device| device.verdict == Verdict::Aborted);
        assert_eq!(cut_short.and_then(|device| device.cause.clone()).expect("a cause").code, "run.cut_short");
        assert_eq!((second.outcome, second.report.run.cut_short), (Outcome::NotPassed, false));
    });
}

#[test]
fn nobody_is_lost_where_the_run_ends_before_it_began_or_is_about_another_target() {
    in_virtual_time(async {
        let first = three().run().await;
        let line = again(&first, &[]);
        let (sender, interrupts) = mpsc::unbounded_channel();
        sender.send(()).expect("a listener");
        let second = line.run_with(interrupts).await;
        assert_eq!(second.outcome, Outcome::Interrupted);
        assert_eq!(second.report.summary.carried, 3);
        assert_eq!(verdicts(&second)[1].1, Verdict::Failed);

        let mut line = again(&first, &[1, 2, 3]);
        let mut other = line.plan.targets[0].clone();
        other.name = "other".to_owned();
        other.expect = expect(3);
        let candidates = line.devices.remove("line").expect("its devices");
        line.devices.insert("other".to_owned(), candidates);
        line.plan.targets.push(other);
        line.options.only = vec!["other".to_owned()];
        let third = line.run().await;
        assert_eq!((third.report.summary.devices, third.report.summary.carried), (6, 3));
        assert_eq!(third.outcome, Outcome::NotPassed, "the failed one of the earlier run is among them");
    });
}

#[test]
fn too_many_are_too_many_with_those_of_the_earlier_run() {
    in_virtual_time(async {
        let first = three().run().await;
        let mut line = again(&first, &[2]);
        line.plan.targets[0].expect = expect(1);
        let second = line.run().await;
        assert_eq!(second.outcome, Outcome::NoMatch);
        let unmet = &second.report.targets_unmet[0];
        assert_eq!(unmet.found, 3);
        assert!(unmet.cause.message.contains("not there any more: 2"), "{}", unmet.cause.message);
        assert!(line.device(1).requests().is_empty(), "nobody was written to");
    });
}

#[test]
fn what_passed_before_was_the_canary() {
    in_virtual_time(async {
        let first = three().run().await;
        let mut line = again(&first, &[2, 3]);
        line.plan.policy.canary = 1;
        let second = line.run().await;
        assert_eq!((second.outcome, second.report.summary.carried), (Outcome::Passed, 1));
        assert_eq!(second.most_at_once(|_| true), 2);
        // Without the earlier run one of them goes first.
        line.options.earlier = Arc::default();
        line.plan.targets[0].expect = expect(2);
        assert_eq!(line.run().await.most_at_once(|_| true), 1);
    });
}
