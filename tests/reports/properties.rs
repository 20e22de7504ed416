//! What holds for every sequence of events, sensible or not, and for every log, whole or not.

use std::collections::HashSet;
use std::io::Cursor;

use chrono::TimeDelta;
use flashfleet::cause::{Cause, Class};
use flashfleet::identity::{Identity, UsbIdentity};
use flashfleet::report::log::{LogLine, LogReader};
use flashfleet::report::{
    Aggregate, DeviceId, Display, Event, EventKind, ImageOutcome, Outcome, OutputPaths, PlannedStep, Report,
    ReporterCore, SCHEMA, StepDetail, StepFinished, SummaryStyle, Verdict, prepare_outputs, summary, to_html,
    to_junit,
};
use proptest::prelude::*;
use roxmltree::{Document, Node};

use super::run::{at, figures, fold, sample, view};

/// Texts that break formats, among others.
fn text() -> impl Strategy<Value = String> {
    prop_oneof![
        prop::sample::select(vec![
            "",
            " ",
            "upload app",
            "device",
            "a.b",
            "]]>",
            "<![CDATA[",
            "\"quoted\" & 'quoted'",
            "</testcase>",
            "🦀 \u{202e}\u{200b}",
            "\u{0}\u{1}\u{7f}\u{85}",
            "\u{1b}[31mred\u{1b}[0m",
            "\u{fffe}\u{ffff}",
            "a\tb\r\nc",
            "&#0;",
        ])
        .prop_map(str::to_owned),
        "\\PC{0,12}",
        any::<String>(),
    ]
}

fn why() -> impl Strategy<Value = Cause> {
    let classes =
        vec![Class::Device, Class::Image, Class::Link, Class::Station, Class::Plan, Class::Internal];
    (prop::sample::select(classes), text(), text(), text())
        .prop_map(|(class, code, message, help)| Cause::new(class, code, message, help))
}

fn verdict() -> impl Strategy<Value = Verdict> {
    use Verdict::{Aborted, Error, Failed, Passed, TimedOut};
    prop::sample::select(vec![Passed, Failed, Error, TimedOut, Aborted])
}

fn outcome() -> impl Strategy<Value = Outcome> {
    use Outcome::{CutShort, Internal, Interrupted, NoMatch, NotPassed, Passed, Station, Stopped};
    prop::sample::select(vec![Passed, NotPassed, NoMatch, Stopped, Interrupted, Station, Internal, CutShort])
}

fn figure() -> impl Strategy<Value = f64> {
    prop_oneof![0.0..1e4, any::<f64>(), Just(f64::NAN), Just(f64::INFINITY), Just(-1.0)]
}

fn identity() -> impl Strategy<Value = Identity> {
    (any::<bool>(), prop::option::of(text()), prop::option::of(text()), prop::option::of(0..2_u8)).prop_map(
        |(usb, serial_number, hub_path, interface)| Identity {
            usb: usb.then_some(UsbIdentity {
                vid: 0x2fe3,
                pid: 4,
                interface,
                serial_number,
                product: None,
                hub_path,
            }),
            ble: None,
        },
    )
}

fn detail() -> impl Strategy<Value = StepDetail> {
    (prop::option::of(text()), any::<bool>(), 0..u64::MAX, figure(), prop::option::of(text())).prop_map(
        |(skipped, upload, bytes, seconds, output)| StepDetail {
            skipped,
            upload: upload.then(|| figures(bytes, seconds)),
            output,
            ..StepDetail::default()
        },
    )
}

fn step_finished() -> impl Strategy<Value = EventKind> {
    (0..5_usize, text(), verdict(), any::<u32>(), figure(), prop::option::of(why()), detail()).prop_map(
        |(step, name, verdict, attempts, duration_s, cause, detail)| {
            let started_at = at(step as f64);
            EventKind::StepFinished(StepFinished {
                step,
                name,
                verdict,
                attempts,
                started_at,
                duration_s,
                cause,
                detail,
            })
        },
    )
}

fn device_finished() -> impl Strategy<Value = EventKind> {
    let images = prop::collection::vec(0..3_u32, 0..3);
    (verdict(), any::<Option<bool>>(), prop::option::of(why()), any::<u32>(), images, any::<bool>(), figure())
        .prop_map(|(verdict, changed, cause, attempts, images, on_test, duration_s)| {
            EventKind::DeviceFinished {
                verdict,
                changed,
                cause,
                attempts,
                images: images
                    .into_iter()
                    .map(|image_number| ImageOutcome {
                        image_number,
                        before: Some(view("1.0.0", true)),
                        after: None,
                        upload: None,
                    })
                    .collect(),
                on_test,
                duration_s,
            }
        })
}

fn device_found() -> impl Strategy<Value = EventKind> {
    let steps = prop::collection::vec(text(), 0..4);
    (text(), text(), identity(), steps, prop::option::of(text())).prop_map(|found| {
        let (target, address, identity, steps, carried_from) = found;
        EventKind::DeviceFound {
            target,
            address,
            identity,
            steps: steps.into_iter().map(|name| PlannedStep { name }).collect(),
            carried_from,
        }
    })
}

fn kind() -> impl Strategy<Value = EventKind> {
    prop_oneof![
        1 => (text(), text(), text(), prop::option::of(text())).prop_map(|(run_id, plan, host, plan_sha256)| {
            let (schema, tool_version) = (SCHEMA.to_owned(), "0.1.0".to_owned());
            EventKind::RunStarted { schema, run_id, plan, plan_sha256, tool_version, host }
        }),
        6 => device_found(),
        2 => (text(), text(), any::<usize>(), why())
            .prop_map(|(target, expected, found, cause)| EventKind::TargetUnmet { target, expected, found, cause }),
        3 => (1..4_u32).prop_map(|attempt| EventKind::DeviceStarted { attempt }),
        5 => (0..5_usize, text()).prop_map(|(step, name)| EventKind::StepStarted { step, name }),
        3 => (0..5_usize, any::<u64>(), any::<u64>())
            .prop_map(|(step, done, total)| EventKind::Progress { step, done, total }),
        3 => (0..5_usize, any::<u32>(), why())
            .prop_map(|(step, attempt, cause)| EventKind::StepRetried { step, attempt, cause }),
        6 => step_finished(),
        4 => device_finished(),
        1 => (text(), text()).prop_map(|(code, message)| EventKind::Note { code, message }),
        1 => (outcome(), any::<u8>(), prop::option::of(why()), figure()).prop_map(
            |(outcome, exit_code, cause, duration_s)| EventKind::RunFinished { outcome, exit_code, cause, duration_s }
        ),
    ]
}

/// Anything at all about a handful of devices, most often in order.
fn told() -> impl Strategy<Value = Vec<(Option<DeviceId>, EventKind)>> {
    let device = prop::option::weighted(0.9, (0..6_u8).prop_map(|id| DeviceId(format!("d{id}"))));
    prop::collection::vec((device, kind()), 0..60)
}

fn events() -> impl Strategy<Value = Vec<Event>> {
    (told(), prop::collection::vec(prop_oneof![9 => Just(0), 1 => -5..5_i64], 60), any::<i32>()).prop_map(
        |(told, jumps, offset)| {
            let numbered = told.into_iter().zip(jumps).enumerate();
            numbered
                .map(|(position, ((device, kind), jump))| Event {
                    seq: (position as i64).saturating_add(jump).unsigned_abs(),
                    at: at(position as f64) + TimeDelta::seconds(jump.saturating_mul(i64::from(offset))),
                    device,
                    kind: kind.normalised(),
                })
                .collect()
        },
    )
}

/// Every device that was found is there once, and the totals agree.
fn complete(report: &Report, found: &HashSet<DeviceId>) -> Result<(), TestCaseError> {
    let reported: HashSet<DeviceId> = report.devices.iter().map(|device| device.id.clone()).collect();
    prop_assert_eq!(&reported, found);
    prop_assert_eq!(report.devices.len(), found.len(), "one of them twice");
    let summary = &report.summary;
    let verdicts = summary.passed + summary.failed + summary.error + summary.timed_out + summary.aborted;
    prop_assert_eq!(summary.devices, found.len());
    prop_assert_eq!(verdicts, found.len());
    if report.run.exit_code == 0 && report.run.outcome == Outcome::Passed {
        prop_assert!(report.devices.iter().all(|device| device.verdict == Verdict::Passed));
    }
    Ok(())
}

fn found_in<'a>(events: impl IntoIterator<Item = &'a Event>) -> HashSet<DeviceId> {
    let mut seen = HashSet::new();
    let fresh = events.into_iter().filter(|event| seen.insert(event.seq));
    let found = fresh.filter(|event| matches!(event.kind, EventKind::DeviceFound { .. }));
    found.filter_map(|event| event.device.clone()).collect()
}

/// What a reader of JUnit relies on.
fn junit_holds(report: &Report) -> Result<(), TestCaseError> {
    let junit = to_junit(report);
    let document =
        Document::parse(&junit).map_err(|error| TestCaseError::fail(format!("{error}\n{junit}")))?;
    let root = document.root_element();
    let count = |node: Node<'_, '_>, name: &str| node.descendants().filter(|n| n.has_tag_name(name)).count();
    let says = |node: Node<'_, '_>, name: &str| node.attribute(name).unwrap().parse::<usize>().unwrap();
    let tags = [("tests", "testcase"), ("failures", "failure"), ("errors", "error"), ("skipped", "skipped")];
    let suites: Vec<_> = root.children().filter(Node::is_element).collect();
    for suite in suites.iter().chain([&root]) {
        for (attribute, tag) in tags {
            prop_assert_eq!(says(*suite, attribute), count(*suite, tag), "{} of {}", attribute, &junit);
        }
        prop_assert!(suite.attribute("time").is_some());
    }
    let names: HashSet<_> = suites.iter().map(|suite| suite.attribute("name").unwrap().trim()).collect();
    prop_assert_eq!(names.len(), suites.len(), "doubled suite names in {}", &junit);
    let mut cases = HashSet::new();
    for case in root.descendants().filter(|node| node.has_tag_name("testcase")) {
        let name = (case.attribute("classname").unwrap(), case.attribute("name").unwrap().trim());
        prop_assert!(!name.1.is_empty());
        prop_assert!(cases.insert(name), "doubled case {:?} in {}", name, &junit);
        prop_assert!(case.attribute("time").is_some());
        for told in case.children().filter(|node| node.has_tag_name("failure") || node.has_tag_name("error"))
        {
            prop_assert!(told.attribute("message").is_some());
            prop_assert!(told.text().is_some_and(|text| !text.is_empty()));
        }
    }
    // A device that did not pass shows: as failure or error, or skipped where it was left alone.
    for (device, suite) in report.devices.iter().zip(&suites[report.targets_unmet.len()..]) {
        let shown = count(*suite, "failure") + count(*suite, "error");
        match (device.verdict, device.changed) {
            (Verdict::Passed, _) => {}
            (Verdict::Aborted, Some(false)) => prop_assert!(shown + count(*suite, "skipped") > 0),
            _ => prop_assert!(shown > 0, "{:?} is hidden in {}", device, &junit),
        }
    }
    Ok(())
}

fn read_back(log: &[u8]) -> (Report, Vec<Event>) {
    let (mut aggregate, mut events) = (Aggregate::new(), Vec::new());
    for line in LogReader::new(Cursor::new(log)) {
        match line.unwrap() {
            LogLine::Event(event) => {
                aggregate.apply(&event);
                events.push(*event);
            }
            LogLine::Defect { code, message } => aggregate.damage(code, message),
        }
    }
    (aggregate.report(), events)
}

fn as_log(events: &[Event]) -> Vec<u8> {
    events.iter().flat_map(|event| [serde_json::to_vec(event).unwrap(), b"\n".to_vec()].concat()).collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 100, ..ProptestConfig::default() })]

    #[test]
    fn any_events_cut_anywhere_report_every_device_once(events in events(), cut in any::<prop::sample::Index>()) {
        let cut = &events[..cut.index(events.len() + 1)];
        let report = fold(cut);
        complete(&report, &found_in(cut))?;
        junit_holds(&report)?;
        prop_assert!(summary(&report, SummaryStyle::default()).lines().count() < 150);
        prop_assert!(to_html(&report).ends_with("</html>\n"));
    }

    #[test]
    fn events_told_twice_count_once(events in events()) {
        let doubled: Vec<Event> = events.iter().flat_map(|event| [event.clone(), event.clone()]).collect();
        prop_assert_eq!(fold(&doubled), fold(&events));
        let again: Vec<Event> = events.iter().chain(&events).cloned().collect();
        prop_assert_eq!(fold(&again), fold(&events));
    }

    #[test]
    fn a_log_cut_at_any_byte_reports_every_device_that_it_still_holds(cut in any::<prop::sample::Index>()) {
        let log = as_log(&sample().events);
        let cut = cut.index(log.len());
        let (report, events) = read_back(&log[..cut]);
        complete(&report, &found_in(&events))?;
        junit_holds(&report)?;
        let whole_lines = log[..cut].iter().filter(|byte| **byte == b'\n').count();
        // The newline alone may be missing from a line that is otherwise whole.
        prop_assert!(events.len() == whole_lines || events.len() == whole_lines + 1);
        let all_there = events.len() == sample().events.len();
        prop_assert_eq!(report.run.cut_short, !all_there);
    }

    #[test]
    fn any_bytes_at_all_are_read_to_their_end(
        mut log in prop::collection::vec(any::<u8>(), 0..300),
        place in any::<prop::sample::Index>(),
    ) {
        let events = as_log(&sample().events);
        let place = place.index(log.len() + 1);
        log.splice(place..place, [b"\n", &events[..], b"\n"].concat());
        let (report, read) = read_back(&log);
        complete(&report, &found_in(&read))?;
        prop_assert_eq!(report.devices.len(), sample().report().devices.len());
        prop_assert_eq!(report.run.outcome, Outcome::Interrupted);
    }
}

proptest! {
    // Each case writes a file and brings it to the disk.
    #![proptest_config(ProptestConfig { cases: 40, ..ProptestConfig::default() })]

    #[test]
    fn a_log_reads_back_as_what_was_counted_live(told in told()) {
        let folder = tempfile::tempdir().unwrap();
        let journal = folder.path().join("run.jsonl");
        let paths = OutputPaths { journal: Some(journal.clone()), ..OutputPaths::default() };
        let mut core = ReporterCore::new(prepare_outputs(&paths).unwrap(), Display::hidden());
        for (position, (device, kind)) in told.into_iter().enumerate() {
            core.on(kind, device, at(position as f64)).unwrap();
        }
        let live = core.report();
        let (rebuilt, events) = read_back(&std::fs::read(journal).unwrap());
        prop_assert_eq!(&rebuilt, &live);
        prop_assert!(events.iter().map(|event| event.seq).eq(0..events.len() as u64));
        // And so do JSON reports.
        let again: Report = serde_json::from_str(&live.to_json()).unwrap();
        prop_assert_eq!(&again, &live);
    }
}
