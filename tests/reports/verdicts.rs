//! What single events and damaged logs come to: exactly one verdict per device, and nothing hidden.

use flashfleet::cause::Class;
use flashfleet::identity::Identity;
use flashfleet::report::{EventKind, Outcome, Report, SummaryStyle, Verdict, merge, summary, to_junit};
use roxmltree::{Document, Node};
use rstest::rstest;

use super::run::{STEPS, Script, ble, cause, fold, not_passed, passed, sample, uploaded, usb};

fn one_device(finish: impl FnOnce(&mut Script)) -> Script {
    let mut script = Script::started();
    script.found("d1", "sensors", "serial:/dev/ttyACM1", usb("FF01", "1-2.1"), &STEPS);
    finish(&mut script);
    script
}

fn codes(report: &Report) -> Vec<&str> {
    report.notes.iter().map(|note| note.code.as_str()).collect()
}

/// Name and the element that says how it ended, per case.
fn cases(junit: &str) -> Vec<(String, String)> {
    let document = Document::parse(junit).unwrap();
    let state = |case: Node<'_, '_>| {
        let names = ["failure", "error", "skipped", "flakyFailure"];
        let child = case.children().find(|child| names.iter().any(|name| child.has_tag_name(*name)));
        child.map_or("passed", |child| child.tag_name().name()).to_owned()
    };
    let cases = document.descendants().filter(|node| node.has_tag_name("testcase"));
    cases.map(|case| (case.attribute("name").unwrap().to_owned(), state(case))).collect()
}

fn case<'a>(cases: &'a [(String, String)], name: &str) -> &'a str {
    &cases.iter().find(|(case, _)| case == name).unwrap_or_else(|| panic!("no {name} in {cases:?}")).1
}

#[rstest]
#[case(Verdict::Failed, Some(true), "failure")]
#[case(Verdict::Failed, Some(false), "failure")]
#[case(Verdict::Error, Some(true), "error")]
#[case(Verdict::TimedOut, Some(true), "error")]
#[case(Verdict::Aborted, Some(false), "skipped")]
#[case(Verdict::Aborted, Some(true), "error")]
#[case(Verdict::Aborted, None, "error")]
fn verdicts_in_junit(#[case] verdict: Verdict, #[case] changed: Option<bool>, #[case] element: &str) {
    let why = cause(Class::Device, "device.example");
    let in_step = one_device(|script| {
        script.step("d1", 0, "upload app", 1.0, not_passed(verdict, why.clone()));
        script.device_finished("d1", verdict, changed, Some(why.clone()));
    });
    let junit = to_junit(&in_step.report());
    assert_eq!(case(&cases(&junit), "upload app"), element);
    assert!(!cases(&junit).iter().any(|(name, _)| name == "device"), "the step tells it already");
    assert!(junit.contains("message=\"expected better, got device.example [device.example]\""), "{junit}");
    assert!(junit.contains("\nhelp: do something about it"), "{junit}");

    let outside = one_device(|script| script.device_finished("d1", verdict, changed, Some(why.clone())));
    let cases = cases(&to_junit(&outside.report()));
    assert_eq!(case(&cases, "device"), element);
    assert_eq!(case(&cases, "upload app"), "skipped");
}

#[test]
fn an_error_is_not_hidden_behind_a_skipped_step() {
    let script = one_device(|script| {
        let gone = cause(Class::Link, "link.disconnected");
        script.step("d1", 0, "upload app", 1.0, not_passed(Verdict::Aborted, gone.clone()));
        script.device_finished("d1", Verdict::Error, Some(false), Some(gone));
    });
    let cases = cases(&to_junit(&script.report()));
    assert_eq!((case(&cases, "upload app"), case(&cases, "device")), ("skipped", "error"));
}

#[test]
fn what_was_not_reached_says_why() {
    let junit = to_junit(&sample().report());
    assert!(junit.contains("not reached: step &apos;test-boot&apos; failed"), "{junit}");
    let cases = cases(&junit);
    // Nine devices, eight of four steps and one of two, and two that ended outside any step.
    assert_eq!(cases.len(), 8 * 4 + 2 + 2);
}

#[test]
fn a_step_that_passed_in_the_end_shows_what_failed_before() {
    let report = sample().report();
    let retried = report.devices.iter().find(|device| device.id.0 == "d4").unwrap();
    assert_eq!(retried.verdict, Verdict::Passed);
    let upload = &retried.steps[0];
    assert_eq!((upload.verdict, upload.attempts, upload.retries.len()), (Some(Verdict::Passed), 3, 1));
    let boot = &retried.steps[1];
    assert_eq!((boot.attempts, boot.retries[0].attempt), (2, 1));
    assert_eq!(boot.retries[0].cause.code, "link.disconnected");
    // The first attempt's upload is what was sent, though the second had nothing to do.
    assert_eq!(retried.images[0].upload.as_ref().unwrap().bytes, 40_000);
}

#[test]
fn a_step_in_progress_shares_the_devices_end() {
    let report = sample().report();
    let late = report.devices.iter().find(|device| device.id.0 == "d6").unwrap();
    let step = &late.steps[0];
    assert_eq!(step.verdict, Some(Verdict::TimedOut));
    assert_eq!(step.cause.as_ref().unwrap().code, "device.deadline");
    assert_eq!(step.duration_s, Some(30.0));
    assert_eq!(late.steps[1].verdict, None);
}

#[test]
fn figures_come_from_finished_steps_alone() {
    let mut script = sample();
    let with = script.report().summary;
    script.events.retain(|event| !matches!(event.kind, EventKind::Progress { .. }));
    assert_eq!(script.report().summary, with);
    assert_eq!(with.bytes, 4 * 40_000);
    assert_eq!(with.already_current, 1);
    assert_eq!(with.devices, with.passed + with.failed + with.error + with.timed_out + with.aborted);
    // From the first upload's begin to the last one's end.
    let rate = with.bytes_per_s.unwrap();
    assert!((rate - 160_000.0 / 80.75).abs() < 1e-3, "{rate}");
}

#[test]
fn a_log_cut_short_says_so() {
    let events = sample().events;
    let report = fold(&events[..events.len() - 1]);
    assert!(report.run.cut_short);
    assert_eq!((report.run.outcome, report.run.exit_code), (Outcome::CutShort, 130));
    assert_eq!(report.run.finished_at, None);

    let found = fold(&events[..10]);
    assert_eq!(found.summary.aborted, 9);
    for device in &found.devices {
        assert_eq!((device.verdict, device.changed), (Verdict::Aborted, Some(false)));
        assert_eq!(device.cause.as_ref().unwrap().code, "run.cut_short");
    }
    let in_step =
        events.iter().position(|event| matches!(event.kind, EventKind::StepStarted { .. })).unwrap();
    let in_step = fold(&events[..=in_step]);
    assert_eq!(in_step.devices[0].changed, None, "a step may have written");
    assert_eq!(case(&cases(&to_junit(&in_step)), "upload app"), "error");
}

#[test]
fn a_whole_log_without_a_verdict_is_our_own_defect() {
    let script = one_device(|script| script.run_finished(Outcome::Passed, 0));
    let report = script.report();
    assert!(!report.run.cut_short);
    assert_eq!((report.run.outcome, report.run.exit_code), (Outcome::Internal, 1));
    assert_eq!(report.devices[0].cause.as_ref().unwrap().code, "internal.no_verdict");
    assert!(codes(&report).contains(&"log.no_verdict"));

    // With a line missing it is the log that is damaged, not flashfleet.
    let mut gap = script.events;
    gap.last_mut().unwrap().seq += 1;
    let report = fold(&gap);
    assert!(report.run.cut_short);
    assert_eq!((report.run.outcome, report.run.exit_code), (Outcome::CutShort, 130));
    assert_eq!(codes(&report), ["log.gap", "log.no_verdict"]);
}

#[test]
fn a_run_cannot_claim_to_have_passed() {
    let script = one_device(|script| {
        let reverted = cause(Class::Image, "image.reverted");
        script.device_finished("d1", Verdict::Failed, Some(true), Some(reverted));
        script.run_finished(Outcome::Passed, 0);
    });
    let report = script.report();
    assert_eq!((report.run.outcome, report.run.exit_code), (Outcome::Internal, 1));
    assert_eq!(codes(&report), ["log.contradiction"]);
}

#[test]
fn a_device_cannot_pass_with_a_failed_step_unseen() {
    let script = one_device(|script| {
        script.step(
            "d1",
            0,
            "upload app",
            1.0,
            not_passed(Verdict::Failed, cause(Class::Image, "image.refused")),
        );
        script.device_finished("d1", Verdict::Passed, Some(true), None);
        script.run_finished(Outcome::Passed, 0);
    });
    let report = script.report();
    assert_eq!(codes(&report), ["log.contradiction"]);
    assert_eq!(case(&cases(&to_junit(&report)), "upload app"), "failure");
}

#[test]
fn what_does_not_fit_leaves_a_note() {
    let script = one_device(|script| {
        script.found("d1", "others", "serial:/dev/ttyACM9", Identity::default(), &STEPS);
        script.step_started("d1", 99, "none");
        script.about("ghost", EventKind::DeviceStarted { attempt: 1 });
        script.device_finished("d1", Verdict::Passed, Some(true), None);
        script.device_finished("d1", Verdict::Failed, Some(true), None);
        script.step_started("d1", 0, "upload app");
        script.run_finished(Outcome::Passed, 0);
        script.run_finished(Outcome::Internal, 1);
    });
    let report = script.report();
    assert_eq!(report.devices.len(), 1);
    let device = &report.devices[0];
    assert_eq!(
        (device.target.as_str(), device.verdict),
        ("sensors", Verdict::Passed),
        "the first one counts"
    );
    assert_eq!(
        codes(&report),
        [
            "log.found_twice",
            "log.unknown_step",
            "log.unknown_device",
            "log.second_verdict",
            "log.after_verdict",
            "log.after_the_end",
            "log.second_end"
        ]
    );
}

#[test]
fn unmet_targets_and_runs_without_devices_are_seen() {
    let mut script = Script::started();
    let missing = cause(Class::Plan, "plan.target_unmet");
    script.tell(EventKind::TargetUnmet {
        target: "sensors".to_owned(),
        expected: "24".to_owned(),
        found: 0,
        cause: missing,
    });
    let unmet_only = script.report();
    assert_eq!(unmet_only.implied_outcome(), Outcome::NoMatch);
    script.run_finished(Outcome::NoMatch, 4);
    let report = script.report();
    assert_eq!(cases(&to_junit(&report)), [("expect".to_owned(), "error".to_owned())]);
    assert!(summary(&report, SummaryStyle::default()).contains("target sensors: expected 24, found 0"));

    let mut script = Script::started();
    script.run_finished(Outcome::Interrupted, 130);
    assert_eq!(cases(&to_junit(&script.report())), [("run".to_owned(), "error".to_owned())]);
}

#[test]
fn on_test_is_told_everywhere() {
    let report = sample().report();
    let device = report.devices.iter().find(|device| device.id.0 == "d8").unwrap();
    assert!(device.on_test);
    let told = "on test: reverts at the next reset";
    for text in
        [summary(&report, SummaryStyle::default()), to_junit(&report), flashfleet::report::to_html(&report)]
    {
        assert!(text.contains(told), "{text}");
    }
}

#[test]
fn two_ports_of_one_board_have_names_of_their_own() {
    let mut script = Script::started();
    for interface in [0, 2] {
        let mut identity = usb("FF01", "1-2.1");
        identity.usb.as_mut().unwrap().interface = Some(interface);
        script.found(
            &format!("d{interface}"),
            "cores",
            &format!("serial:/dev/ttyACM{interface}"),
            identity,
            &STEPS,
        );
    }
    let junit = to_junit(&script.report());
    for name in ["sensor-line.cores.1-2_1 interface 0", "sensor-line.cores.1-2_1 interface 2"] {
        assert!(junit.contains(&format!("testsuite name=\"{name}\"")), "{junit}");
    }
}

#[test]
fn two_beacons_of_one_name_are_told_apart_by_their_addresses() {
    let mut script = Script::started();
    for number in [1, 2] {
        let mut identity = ble("Beacon");
        identity.ble.as_mut().unwrap().address = format!("C0:FF:EE:00:00:0{number}");
        script.found(&format!("d{number}"), "beacons", "ble:Beacon", identity, &STEPS);
    }
    let junit = to_junit(&script.report());
    for address in ["C0:FF:EE:00:00:01", "C0:FF:EE:00:00:02"] {
        assert!(
            junit.contains(&format!("classname=\"sensor-line.beacons.ble:Beacon {address}\"")),
            "{junit}"
        );
    }
}

#[test]
fn names_do_not_depend_on_the_order_of_discovery() {
    let names = |order: [u8; 2]| {
        let mut script = Script::started();
        for interface in order {
            let mut identity = usb("FF01", "1-2.1");
            identity.usb.as_mut().unwrap().interface = Some(interface);
            script.found(&format!("d{interface}"), "cores", &format!("serial:{interface}"), identity, &STEPS);
        }
        let junit = to_junit(&script.report());
        let document = Document::parse(&junit).unwrap();
        let suites = document.descendants().filter(|node| node.has_tag_name("testsuite"));
        let mut names: Vec<_> = suites.map(|suite| suite.attribute("name").unwrap().to_owned()).collect();
        names.sort();
        names
    };
    assert_eq!(names([0, 2]), names([2, 0]));
}

#[test]
fn merging_keeps_every_device_of_every_run() {
    let first = sample().report();
    let mut second = one_device(|script| {
        script.step("d1", 0, "upload app", 4.0, uploaded(1000, 4.0));
        script.step("d1", 1, "test-boot", 4.0, passed());
        script.device_finished("d1", Verdict::Passed, Some(true), None);
        script.run_finished(Outcome::Passed, 0);
    })
    .report();
    second.run.id = Some("second".to_owned());
    second.run.plan = Some("mended".to_owned());
    let merged = merge(vec![second.clone(), first.clone(), first.clone()]).unwrap();
    assert_eq!(merged.devices.len(), first.devices.len() + 1, "the same run given twice counts once");
    assert_eq!(merged.summary.devices, merged.devices.len());
    assert_eq!(merged.summary.bytes, first.summary.bytes + 1000);
    assert_eq!((merged.run.outcome, merged.run.exit_code), (Outcome::Interrupted, 130));
    assert_eq!(merged.runs.len(), 2);
    let mut ids: Vec<_> = merged.devices.iter().map(|device| &device.id).collect();
    ids.sort();
    ids.dedup();
    assert_eq!(ids.len(), merged.devices.len());
    let junit = to_junit(&merged);
    assert!(junit.contains("classname=\"mended.sensors.1-2_1\""), "{junit}");
    assert!(junit.contains("classname=\"sensor-line.sensors.1-2_1\""), "{junit}");
    assert_eq!(merge(vec![second.clone()]), Some(second));
    assert_eq!(merge(Vec::new()), None);
}

#[test]
fn a_thousand_failures_of_one_cause_are_told_once() {
    let mut script = Script::started();
    for n in 0..1000 {
        let id = format!("d{n}");
        script.found(&id, "racks", &format!("tcp:rack:{n}"), Identity::default(), &STEPS);
        let gone = cause(Class::Link, "link.unreachable");
        script.device_finished(&id, Verdict::Error, Some(false), Some(gone));
    }
    for n in 0..100 {
        let id = format!("e{n}");
        script.found(&id, "racks", &format!("tcp:other:{n}"), Identity::default(), &STEPS);
        let mut own = cause(Class::Link, "link.io");
        own.code = format!("smp.made_up.error_{n}").into();
        script.device_finished(&id, Verdict::Error, Some(false), Some(own));
    }
    let text = summary(&script.report(), SummaryStyle::default());
    assert!(
        text.contains("error 1000 devices: expected better, got link.unreachable [link.unreachable]"),
        "{text}"
    );
    assert!(text.contains("… and 992 more"), "{text}");
    assert!(text.contains("… and 81 more devices with other causes"), "{text}");
    assert!(text.lines().count() < 60, "{}", text.lines().count());
}
