//! The reporter's core and the files that it leaves.

use std::fs;
use std::path::Path;
use std::sync::{Arc, Mutex};

use flashfleet::cause::Class;
use flashfleet::exit::Exit;
use flashfleet::identity::Identity;
use flashfleet::report::log::{LogLine, LogReader, LogWriter, MAX_LINE};
use flashfleet::report::{
    Destination, DeviceId, Display, Event, EventKind, Finished, Outcome, OutputPaths, Outputs, ProgressMode,
    Report, ReporterCore, Verdict, prepare_outputs, read_report, write_atomically,
};
use rstest::rstest;

use super::run::{STEPS, Script, at, sample};

fn file(path: &Path) -> Option<Destination> {
    Some(Destination::File(path.to_owned()))
}

fn tell(core: &mut ReporterCore, events: &[Event]) {
    for event in events {
        core.on(event.kind.clone(), event.device.clone(), event.at).unwrap();
    }
}

/// A writer whose content can be looked at.
#[derive(Clone, Default)]
struct Screen(Arc<Mutex<Vec<u8>>>);

impl Screen {
    fn text(&self) -> String {
        String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
    }
}

impl std::io::Write for Screen {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[test]
fn a_run_leaves_everything_that_was_asked_for() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join("new/folder").join(name);
    let paths = OutputPaths {
        json: file(&path("report.json")),
        junit: file(&path("report.xml")),
        html: file(&path("report.html")),
        journal: Some(path("journal.jsonl")),
        events: file(&path("events.jsonl")),
        trace: Some(path("trace")),
    };
    let outputs = prepare_outputs(&paths).unwrap();
    assert!(path("trace").is_dir());
    assert!(!path("report.json").exists(), "only checked so far");
    let screen = Screen::default();
    let display = Display::to_writer(ProgressMode::None, false, Box::new(screen.clone()));
    let mut core = ReporterCore::new(outputs, display);
    tell(&mut core, &sample().events);
    let Finished { report, troubles } = core.finish();
    assert_eq!(troubles, []);
    assert_eq!(report, sample().report());

    let json: Report = serde_json::from_str(&fs::read_to_string(path("report.json")).unwrap()).unwrap();
    assert_eq!(json, report);
    assert_eq!(read_report(&path("journal.jsonl")).unwrap(), report);
    assert_eq!(fs::read(path("journal.jsonl")).unwrap(), fs::read(path("events.jsonl")).unwrap());
    assert!(fs::read_to_string(path("report.xml")).unwrap().starts_with("<?xml"));
    assert!(fs::read_to_string(path("report.html")).unwrap().starts_with("<!doctype html>"));
    let mut left: Vec<_> = fs::read_dir(path("")).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    left.sort();
    assert_eq!(left, ["events.jsonl", "journal.jsonl", "report.html", "report.json", "report.xml", "trace"]);
    for told in ["JSON report: ", "JUnit report: ", "HTML report: ", "journal: ", "9 devices"] {
        assert!(screen.text().contains(told), "{}", screen.text());
    }
}

#[rstest]
#[case::parent_is_a_file("taken/report.json")]
#[case::parent_of_parent_is_a_file("taken/a/b/report.json")]
#[case::it_is_a_folder("folder")]
#[case::no_name("folder/..")]
fn outputs_that_cannot_be_written_are_found_before_anything_is_touched(#[case] name: &str) {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("taken"), "old").unwrap();
    fs::create_dir(folder.path().join("folder")).unwrap();
    let bad = folder.path().join(name);
    let good = folder.path().join("good.jsonl");
    fs::write(&good, "old").unwrap();
    let with_good = || OutputPaths { journal: Some(good.clone()), ..OutputPaths::default() };
    for paths in [
        OutputPaths { json: file(&bad), ..with_good() },
        OutputPaths { junit: file(&bad), ..with_good() },
        OutputPaths { html: file(&bad), ..with_good() },
        OutputPaths { events: file(&bad), ..with_good() },
        OutputPaths { journal: Some(bad.clone()), ..OutputPaths::default() },
    ] {
        let cause = prepare_outputs(&paths).unwrap_err();
        assert_eq!((cause.class, cause.code.as_ref()), (Class::Station, "station.output_unwritable"));
        assert_eq!(Exit::of_cause(&cause).code(), 102);
        assert!(cause.message.contains(&bad.display().to_string()), "{cause}");
        assert_eq!(
            fs::read_to_string(&good).unwrap(),
            "old",
            "nothing is emptied where another path is refused"
        );
    }
    let trace = OutputPaths { trace: Some(folder.path().join("taken/trace")), ..OutputPaths::default() };
    assert_eq!(prepare_outputs(&trace).unwrap_err().code, "station.output_unwritable");
}

/// Not even root may make files there.
#[cfg(target_os = "linux")]
#[test]
fn folders_that_take_no_files_are_found_too() {
    let nowhere = Path::new("/proc");
    for paths in [
        OutputPaths { json: file(&nowhere.join("report.json")), ..OutputPaths::default() },
        OutputPaths { trace: Some(nowhere.to_owned()), ..OutputPaths::default() },
    ] {
        assert_eq!(prepare_outputs(&paths).unwrap_err().code, "station.output_unwritable");
    }
}

#[test]
fn one_file_cannot_hold_two_outputs() {
    let folder = tempfile::tempdir().unwrap();
    let plain = folder.path().join("report");
    let roundabout = folder.path().join(".").join("report");
    let paths = OutputPaths { json: file(&plain), junit: file(&roundabout), ..OutputPaths::default() };
    let cause = prepare_outputs(&paths).unwrap_err();
    assert_eq!(cause.code, "plan.output_named_twice");
    assert_eq!(Exit::of_cause(&cause).code(), 2);
}

#[test]
fn reports_replace_old_ones_whole() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("report.json");
    fs::write(&path, "old and longer").unwrap();
    let reader = fs::File::open(&path).unwrap();
    write_atomically(&path, b"new").unwrap();
    assert_eq!(fs::read_to_string(&path).unwrap(), "new");
    assert_eq!(
        std::io::read_to_string(reader).unwrap(),
        "old and longer",
        "who read the old one still reads it"
    );
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
}

#[cfg(unix)]
#[test]
fn reports_are_files_like_others_and_links_stay_links() {
    use std::os::unix::fs::{PermissionsExt, symlink};

    let folder = tempfile::tempdir().unwrap();
    let (ours, plain, link) =
        (folder.path().join("ours"), folder.path().join("plain"), folder.path().join("link"));
    write_atomically(&ours, b"").unwrap();
    fs::write(&plain, "").unwrap();
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode();
    assert_eq!(mode(&ours), mode(&plain), "{:o} {:o}", mode(&ours), mode(&plain));

    symlink(&plain, &link).unwrap();
    write_atomically(&link, b"through").unwrap();
    assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
    assert_eq!(fs::read_to_string(&plain).unwrap(), "through");
}

#[cfg(target_os = "linux")]
#[test]
fn a_full_disk_is_told_once_and_every_device_is_still_reported() {
    let folder = tempfile::tempdir().unwrap();
    let paths = OutputPaths {
        journal: Some("/dev/full".into()),
        json: file(&folder.path().join("report.json")),
        ..OutputPaths::default()
    };
    let mut core = ReporterCore::new(prepare_outputs(&paths).unwrap(), Display::hidden());
    let script = sample();
    let told: Vec<_> = script
        .events
        .iter()
        .filter_map(|event| core.on(event.kind.clone(), event.device.clone(), event.at).err())
        .collect();
    assert_eq!(told.len(), 1);
    assert_eq!((told[0].class, told[0].code.as_ref()), (Class::Station, "station.disk_full"));
    let finished = core.finish();
    assert_eq!(finished.outcome(), Outcome::Interrupted, "130 comes before 102");
    let Finished { report, troubles } = finished;
    assert_eq!(troubles, told);
    assert_eq!(report, script.report());
    assert!(folder.path().join("report.json").exists());
}

#[test]
fn a_report_that_cannot_be_written_does_not_keep_the_others_back() {
    let folder = tempfile::tempdir().unwrap();
    let (json, junit) = (folder.path().join("sub/report.json"), folder.path().join("report.xml"));
    let paths = OutputPaths { json: file(&json), junit: file(&junit), ..OutputPaths::default() };
    let outputs = prepare_outputs(&paths).unwrap();
    fs::remove_dir(folder.path().join("sub")).unwrap();
    fs::write(folder.path().join("sub"), "in the way").unwrap();
    let screen = Screen::default();
    let display = Display::to_writer(ProgressMode::None, true, Box::new(screen.clone()));
    let mut core = ReporterCore::new(outputs, display);
    let mut script = Script::started();
    script.run_finished(Outcome::Passed, 0);
    tell(&mut core, &script.events);
    let finished = core.finish();
    assert_eq!(finished.troubles[0].code, "station.output_unwritable");
    assert_eq!((finished.report.run.outcome, finished.outcome()), (Outcome::Passed, Outcome::Station));
    assert!(junit.exists());
    assert!(
        screen.text().starts_with("error[station.output_unwritable]: "),
        "even if quiet: {}",
        screen.text()
    );
}

#[test]
fn progress_is_thinned_and_nothing_else_is() {
    let folder = tempfile::tempdir().unwrap();
    let journal = folder.path().join("journal.jsonl");
    let paths = OutputPaths { journal: Some(journal.clone()), ..OutputPaths::default() };
    let mut core = ReporterCore::new(prepare_outputs(&paths).unwrap(), Display::hidden());
    let mut script = Script::started();
    for n in 0..1000 {
        script.found(&format!("d{n}"), "pretend", &format!("sim:{n}"), Identity::default(), &STEPS);
        script.about(&format!("d{n}"), EventKind::DeviceStarted { attempt: 1 });
    }
    tell(&mut core, &script.events);
    // Ten seconds in which every device tells of progress a hundred times a second.
    for hundredth in 0..1000_u64 {
        for n in [0, 1, 999] {
            let kind = EventKind::Progress { step: 0, done: hundredth, total: 1000 };
            core.on(kind, Some(DeviceId(format!("d{n}"))), at(1.0 + hundredth as f64 / 100.0)).unwrap();
        }
    }
    // And one in which all of them do.
    for n in 0..1000 {
        let kind = EventKind::Progress { step: 0, done: 1, total: 1000 };
        core.on(kind, Some(DeviceId(format!("d{n}"))), at(20.0)).unwrap();
    }
    let (mut progress, mut others, mut next) = (0, 0, 0);
    for line in LogReader::new(std::io::Cursor::new(fs::read(journal).unwrap())) {
        let LogLine::Event(event) = line.unwrap() else { panic!("the log is damaged") };
        assert_eq!(event.seq, next, "no gaps");
        next += 1;
        if matches!(event.kind, EventKind::Progress { .. }) { progress += 1 } else { others += 1 }
    }
    assert_eq!(others, script.events.len());
    // Three devices at five a second for ten seconds, and two hundred in the one second.
    assert_eq!(progress, 3 * 50 + 200);
}

#[test]
fn a_torn_line_does_not_harm_the_next() {
    let events = sample().events;
    let mut log = serde_json::to_vec(&events[0]).unwrap();
    log.extend_from_slice(b"\n{\"seq\":1,\"at\":\"2026-11-");
    log.extend_from_slice(b"\n");
    log.extend_from_slice(&serde_json::to_vec(&events[1]).unwrap());
    let lines: Vec<LogLine> = LogReader::new(&log[..]).map(Result::unwrap).collect();
    assert_eq!(lines.len(), 3);
    assert!(
        matches!(&lines[1], LogLine::Defect { code: "log.bad_line", message } if message.starts_with("line 2 "))
    );
    assert_eq!(lines[2], LogLine::Event(Box::new(events[1].clone())), "without a newline, but whole");
    let cut = LogReader::new(&log[..log.len() - 1]).last().unwrap().unwrap();
    assert!(matches!(cut, LogLine::Defect { code: "log.cut_line", .. }), "{cut:?}");
}

#[test]
fn endless_lines_are_read_over() {
    let mut log = vec![b'x'; MAX_LINE + 1];
    log.push(b'\n');
    log.extend_from_slice(&serde_json::to_vec(&sample().events[0]).unwrap());
    let lines: Vec<LogLine> = LogReader::new(&log[..]).map(Result::unwrap).collect();
    assert!(matches!(&lines[0], LogLine::Defect { code: "log.line_too_long", .. }), "{:?}", lines[0]);
    assert!(matches!(&lines[1], LogLine::Event(_)));
}

#[test]
fn the_longest_event_fits_a_line() {
    let hostile = "\u{1}".repeat(1 << 20);
    let mut script = Script::started();
    script.found("d1", "t", "a", Identity::default(), &STEPS);
    let mut result = super::run::not_passed(Verdict::Failed, super::run::cause(Class::Device, "x"));
    result.cause.as_mut().unwrap().message = hostile.clone();
    result.cause.as_mut().unwrap().help = hostile.clone();
    result.detail.output = Some(hostile.clone());
    result.detail.skipped = Some(hostile.clone());
    result.detail.notes = vec![hostile; 100];
    script.step("d1", 0, "upload app", 1.0, result);
    for event in script.events {
        let line = serde_json::to_vec(&Event { kind: event.kind.normalised(), ..event }).unwrap();
        assert!(line.len() < MAX_LINE, "{}", line.len());
    }
}

#[test]
fn plain_lines_for_a_thousand_devices() {
    let screen = Screen::default();
    let display = Display::to_writer(ProgressMode::Auto, true, Box::new(screen.clone()));
    let mut core = ReporterCore::new(Outputs::default(), display);
    let mut script = Script::started();
    for n in 0..1000 {
        script.found(&format!("d{n}"), "pretend", &format!("sim:{n}"), Identity::default(), &STEPS);
        script.about(&format!("d{n}"), EventKind::DeviceStarted { attempt: 1 });
    }
    tell(&mut core, &script.events);
    for second in 1..=60_u32 {
        for n in 0..1000 {
            let kind = EventKind::Progress { step: 0, done: u64::from(second) * 100, total: 6000 };
            core.on(kind, Some(DeviceId(format!("d{n}"))), at(f64::from(second))).unwrap();
        }
        core.tick(at(f64::from(second)));
    }
    let text = screen.text();
    assert_eq!(text.lines().count(), 1 + 6, "a start, and one line every ten seconds:\n{text}");
    assert_eq!(text.lines().nth(2), Some("0 of 1000 devices finished, 1000 running, 100.00 kB/s"));
}

#[test]
fn every_finished_device_leaves_a_line() {
    let screen = Screen::default();
    let display = Display::to_writer(ProgressMode::Plain, true, Box::new(screen.clone()));
    let mut core = ReporterCore::new(Outputs::default(), display);
    tell(&mut core, &sample().events);
    insta::assert_snapshot!(screen.text());
}

#[test]
fn none_shows_nothing_but_the_summary_and_quiet_that_only_where_something_did_not_pass() {
    let passed: Vec<Event> = sample().events.into_iter().filter(|event| event.device.is_none()).collect();
    let passed = passed.into_iter().map(|event| match event.kind {
        EventKind::RunFinished { duration_s, .. } => {
            let kind =
                EventKind::RunFinished { outcome: Outcome::Passed, exit_code: 0, cause: None, duration_s };
            Event { kind, ..event }
        }
        _ => event,
    });
    let passed: Vec<Event> =
        passed.filter(|event| !matches!(event.kind, EventKind::TargetUnmet { .. })).collect();
    for (events, quiet, shows) in [
        (sample().events, false, true),
        (sample().events, true, true),
        (passed.clone(), false, true),
        (passed, true, false),
    ] {
        let screen = Screen::default();
        let display = Display::to_writer(ProgressMode::None, quiet, Box::new(screen.clone()));
        let mut core = ReporterCore::new(Outputs::default(), display);
        tell(&mut core, &events);
        assert_eq!(screen.text(), "");
        let _ = core.finish();
        assert_eq!(!screen.text().is_empty(), shows, "{}", screen.text());
    }
}

#[test]
fn what_devices_say_does_not_steer_the_terminal() {
    let screen = Screen::default();
    let display = Display::to_writer(ProgressMode::Plain, false, Box::new(screen.clone()));
    let mut core = ReporterCore::new(Outputs::default(), display);
    let evil = "\u{1b}]0;owned\u{7}\u{1b}[2J\r";
    let mut script = Script::started();
    script.found("d1", evil, evil, Identity::default(), &[evil]);
    script.about("d1", EventKind::DeviceStarted { attempt: 1 });
    let mut why = super::run::cause(Class::Device, "x");
    (why.message, why.help) = (evil.to_owned(), evil.to_owned());
    script.step("d1", 0, evil, 1.0, super::run::not_passed(Verdict::Failed, why.clone()));
    script.device_finished("d1", Verdict::Failed, None, Some(why));
    script.tell(EventKind::Note { code: evil.to_owned(), message: evil.to_owned() });
    tell(&mut core, &script.events);
    let _ = core.finish();
    let control: Vec<char> = screen.text().chars().filter(|c| c.is_control() && *c != '\n').collect();
    assert!(control.is_empty(), "{control:?}");
}

#[test]
fn the_journal_is_written_event_by_event() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("deep/journal.jsonl");
    let mut writer = LogWriter::create(&path).unwrap();
    for (count, event) in sample().events.iter().enumerate() {
        writer.write(event).unwrap();
        let written = fs::read_to_string(&path).unwrap();
        assert!(written.ends_with('\n'));
        assert_eq!(written.lines().count(), count + 1, "nothing waits in a buffer");
    }
}
