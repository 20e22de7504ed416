//! `flashfleet report`.

use std::fs;
use std::path::{Path, PathBuf};

use flashfleet::cli::report::{ReportArgs, run};
use flashfleet::report::{Destination, Event, Report};

use super::run::{Script, sample};

fn args(inputs: &[PathBuf]) -> ReportArgs {
    ReportArgs { inputs: inputs.to_vec(), json: None, junit: None, html: None }
}

/// Exit code, standard output, standard error.
fn call(args: ReportArgs) -> (u8, String, String) {
    let (mut out, mut err) = (Vec::new(), Vec::new());
    let exit = run(&args, &mut out, &mut err);
    (exit.code(), String::from_utf8(out).unwrap(), String::from_utf8(err).unwrap())
}

fn write_log(folder: &Path, name: &str, events: &[Event]) -> PathBuf {
    let lines: Vec<String> =
        events.iter().map(|event| serde_json::to_string(event).unwrap() + "\n").collect();
    let path = folder.join(name);
    fs::write(&path, lines.concat()).unwrap();
    path
}

#[test]
fn a_log_gives_the_summary_and_the_exit_code_of_its_run() {
    let folder = tempfile::tempdir().unwrap();
    let log = write_log(folder.path(), "run.jsonl", &sample().events);
    let (code, out, err) = call(args(&[log]));
    assert_eq!((code, out.as_str()), (130, ""));
    assert!(err.starts_with("sensor-line: 9 devices in 1 min 25 s: 4 passed"), "{err}");
}

#[test]
fn a_log_and_the_report_made_of_it_give_the_same() {
    let folder = tempfile::tempdir().unwrap();
    let log = write_log(folder.path(), "run.jsonl", &sample().events);
    let json = ReportArgs { json: Some(Destination::Stdout), ..args(&[log]) };
    let (code, from_log, err) = call(json);
    assert_eq!((code, err.as_str()), (130, ""));
    assert_eq!(from_log, sample().report().to_json());
    let pretty = folder.path().join("pretty.json");
    fs::write(&pretty, &from_log).unwrap();
    let compact = folder.path().join("compact.json");
    fs::write(&compact, serde_json::to_string(&sample().report()).unwrap()).unwrap();
    for report in [pretty, compact] {
        let (code, from_report, _) = call(ReportArgs { json: Some(Destination::Stdout), ..args(&[report]) });
        assert_eq!((code, &from_report), (130, &from_log));
    }
}

#[test]
fn a_log_cut_short_is_said_to_be() {
    let folder = tempfile::tempdir().unwrap();
    let events = sample().events;
    let log = write_log(folder.path(), "run.jsonl", &events[..events.len() / 2]);
    fs::write(&log, fs::read_to_string(&log).unwrap() + "{\"seq\":").unwrap();
    let (code, _, err) = call(args(std::slice::from_ref(&log)));
    assert_eq!(code, 130);
    assert!(err.contains("; cut short\n"), "{err}");
    assert!(err.contains("is cut off: the log ends in the middle of it [log.cut_line]"), "{err}");
    assert!(err.contains("[run.cut_short]"), "{err}");
    let (_, json, _) = call(ReportArgs { json: Some(Destination::Stdout), ..args(&[log]) });
    let report: Report = serde_json::from_str(&json).unwrap();
    assert!(report.run.cut_short);
    assert_eq!(report.devices.len(), 9);
}

#[test]
fn several_inputs_become_one_report() {
    let folder = tempfile::tempdir().unwrap();
    let mut other = Script::started();
    other.run_finished(flashfleet::report::Outcome::Passed, 0);
    let mut events = other.events;
    if let flashfleet::report::EventKind::RunStarted { run_id, .. } = &mut events[0].kind {
        *run_id = "other".to_owned();
    }
    let inputs =
        [write_log(folder.path(), "a.jsonl", &sample().events), write_log(folder.path(), "b.jsonl", &events)];
    let junit = folder.path().join("out/merged.xml");
    let html = folder.path().join("out/merged.html");
    let (code, out, err) = call(ReportArgs {
        json: Some(Destination::Stdout),
        junit: Some(Destination::File(junit.clone())),
        html: Some(Destination::File(html.clone())),
        ..args(&inputs)
    });
    assert_eq!((code, err.as_str()), (130, ""), "the worst of them");
    let report: Report = serde_json::from_str(&out).unwrap();
    assert_eq!((report.runs.len(), report.devices.len()), (2, 9));
    assert!(junit.exists() && html.exists());
}

#[test]
fn input_that_cannot_be_read_is_told_with_its_line() {
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, content: &str| {
        let path = folder.path().join(name);
        fs::write(&path, content).unwrap();
        path
    };
    let events = sample().events;
    let first = serde_json::to_string(&events[0]).unwrap();
    let report = sample().report().to_json();
    let second_line = |text: &str| text.replace("flashfleet.events/1", "flashfleet.events/9");
    let cases = [
        (write("empty", ""), "line 1: it is empty", "plan.input_unreadable"),
        (write("text", "hello\n"), "line 1 is no event", "plan.input_unreadable"),
        (write("cut.json", &report[..report.len() / 2]), "cut.json:", "plan.input_unreadable"),
        (write("other.json", "{\n\"schema\": 5\n}"), "other.json:2:11: ", "plan.input_unreadable"),
        (
            write("newer.json", &report.replace("flashfleet.report/1", "flashfleet.report/9")),
            "the report says 'flashfleet.report/9'",
            "plan.input_format",
        ),
        (
            write("newer.jsonl", &format!("\n{}\n", second_line(&first))),
            "line 2: expected the format 'flashfleet.events/1', the log says 'flashfleet.events/9'",
            "plan.input_format",
        ),
        (folder.path().join("missing"), "missing: No such file", "plan.input_unreadable"),
        (folder.path().to_owned(), "Is a directory", "plan.input_unreadable"),
    ];
    for (path, told, code) in cases {
        let (exit, out, err) = call(args(&[path]));
        assert_eq!((exit, out.as_str()), (2, ""), "{err}");
        assert!(err.starts_with(&format!("error[{code}]: ")) && err.contains("\n  help: "), "{err}");
        assert!(err.contains(told), "expected {told} in:\n{err}");
    }
}

#[test]
fn output_that_cannot_be_written_is_station_trouble() {
    let folder = tempfile::tempdir().unwrap();
    let log = write_log(folder.path(), "run.jsonl", &sample().events);
    let nowhere = Some(Destination::File(log.join("report.json")));
    let (code, _, err) = call(ReportArgs { json: nowhere, ..args(&[log]) });
    assert_eq!(code, 102);
    assert!(err.contains("station.output_unwritable"), "{err}");
}
