//! Runs of the program on simulated devices: outputs, exit codes, signals.

use std::io::{BufRead, BufReader};
use std::process::Stdio;
use std::time::Duration;

use nix::sys::signal::Signal;

use super::station::{Said, Station, read_json};

fn simulated(extra: &str) -> String {
    format!(
        "version: 1\nname: pretend\nimages: {{ app: {{ sim: {{ version: \"2.0.0\", size: 16384 }} }} }}\ntargets:\n  - name: line\n    match: {{ sim: {{ {extra} }} }}\n    link: {{ quiet: 600ms, return_within: 20s }}\n"
    )
}

#[test]
fn a_run_leaves_json_junit_html_events_and_a_journal_and_exits_with_0() {
    let station = Station::new();
    station.plan(&simulated("count: 3, boot_ms: 50"));
    let outputs = [
        "--junit",
        "report.xml",
        "--html",
        "report.html",
        "--events",
        "events.jsonl",
        "--journal",
        "journal.jsonl",
    ];
    let (said, report) = station.run(&outputs);
    assert_eq!(said.exit, 0, "{}", said.err);
    assert_eq!(said.out, "", "human text goes to standard error");
    let report = report.expect("a report");
    assert_eq!(report["schema"], "flashfleet.report/1");
    assert_eq!(report["summary"]["passed"], 3);
    let junit = std::fs::read_to_string(station.path("report.xml")).expect("JUnit");
    assert_eq!(junit.matches("<testsuite ").count(), 3);
    assert_eq!(junit.matches("<testcase ").count(), 3 * 4);
    let journal = std::fs::read_to_string(station.path("journal.jsonl")).expect("a journal");
    assert_eq!(journal, std::fs::read_to_string(station.path("events.jsonl")).expect("events"));
    assert!(journal.lines().next().expect("a line").contains("flashfleet.events/1"));

    let said = station.say(&["report", "journal.jsonl", "--json", "again.json", "--junit", "again.xml"]);
    assert_eq!(said.exit, 0, "{}", said.err);
    assert_eq!(read_json(&station.path("again.json")), Some(report), "reports are made of the journal alone");
    assert_eq!(std::fs::read_to_string(station.path("again.xml")).expect("JUnit"), junit);
}

#[test]
fn a_json_report_on_standard_output_is_alone_there() {
    let station = Station::new();
    station.plan(&simulated("count: 1, boot_ms: 50"));
    let said = station.say(&["run", "plan.yaml", "--json", "-"]);
    assert_eq!(said.exit, 0, "{}", said.err);
    let report: serde_json::Value = serde_json::from_str(&said.out).expect("JSON and nothing else");
    assert_eq!(report["summary"]["passed"], 1);
}

#[test]
fn a_device_that_reverts_is_exit_code_100_and_a_failure_in_junit() {
    let station = Station::new();
    station.plan(&simulated("count: 2, boot_ms: 50, fault: { only: [2], crash_on_test_boot: true }"));
    let (said, report) = station.run(&["--junit", "report.xml"]);
    assert_eq!(said.exit, 100, "{}", said.err);
    let report = report.expect("a report");
    assert_eq!(report["run"]["exit_code"], 100);
    assert_eq!(report["devices"][1]["cause"]["code"], "image.reverted");
    assert!(said.err.contains("image.reverted") && said.err.contains("help"), "{}", said.err);
    let junit = std::fs::read_to_string(station.path("report.xml")).expect("JUnit");
    assert!(junit.contains("<failure ") && junit.contains("image.reverted"), "{junit}");
}

#[test]
fn two_simulated_targets_are_different_devices() {
    let station = Station::new();
    let second = "  - name: second\n    match: { sim: { count: 1, boot_ms: 50 } }\n    link: { quiet: 600ms, return_within: 20s }\n";
    station.plan(&format!("{}{second}", simulated("count: 1, boot_ms: 50")));
    let (said, report) = station.run(&[]);
    assert_eq!(said.exit, 0, "{}", said.err);
    assert_eq!(report.expect("a report")["summary"]["passed"], 2);
}

#[test]
fn quiet_is_silence_only_where_everything_passed() {
    let station = Station::new();
    station.plan(&simulated("count: 1, boot_ms: 50"));
    let said = station.say(&["run", "plan.yaml", "-q"]);
    assert_eq!((said.exit, said.err.as_str(), said.out.as_str()), (0, "", ""));
    station.plan(&simulated("count: 1, boot_ms: 50, fault: { crash_on_test_boot: true }"));
    let said = station.say(&["run", "plan.yaml", "-q"]);
    assert_eq!(said.exit, 100);
    assert!(said.err.contains("image.reverted"), "{}", said.err);
}

#[test]
fn a_dry_run_prints_what_would_be_done_and_writes_nothing() {
    let station = Station::new();
    station.plan(&simulated("count: 2"));
    let said = station.say(&["run", "plan.yaml", "--dry-run"]);
    assert_eq!((said.exit, said.err.as_str()), (0, ""), "{}", said.err);
    assert!(
        said.out.contains("sim:device-2") && said.out.contains("upload app, test-boot, confirm, reset"),
        "{}",
        said.out
    );
    let missing = simulated("count: 2")
        .replace("sim: { count: 2 }", "port: \"tty-none-*\"")
        .replace("sim: { version: \"2.0.0\", size: 16384 }", "file: app.bin");
    station.plan(&format!("{missing}    discover: 100ms\n"));
    let said = station.say(&["run", "plan.yaml", "--dry-run"]);
    assert_eq!(said.exit, 4, "{}", said.err);
}

/// Starts a slow run and sends signals once the first device is at work.
fn interrupted(hang_ups: bool, signals: &[Signal]) -> (Said, Option<serde_json::Value>) {
    let station = Station::new();
    station.plan(&simulated("count: 2, baud: 57600"));
    let arguments = ["run", "plan.yaml", "--json", "report.json", "--progress", "plain", "--events", "-"];
    let mut child = station
        .command_with_hang_ups(hang_ups, &arguments)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the program starts");
    let mut events = BufReader::new(child.stdout.take().expect("its events")).lines();
    let pid = nix::unistd::Pid::from_raw(i32::try_from(child.id()).expect("a process id"));
    let at_work = events.by_ref().map_while(Result::ok).any(|line| line.contains("\"type\":\"progress\""));
    assert!(at_work, "the run ended before any progress");
    for &signal in signals {
        nix::sys::signal::kill(pid, signal).expect("a signal");
        std::thread::sleep(Duration::from_millis(100));
    }
    let rest = std::thread::spawn(move || events.map_while(Result::ok).count());
    let said: Said = child.wait_with_output().expect("its end").into();
    rest.join().expect("the rest");
    (said, read_json(&station.path("report.json")))
}

#[test]
fn one_interrupt_lets_the_steps_end_two_end_them_and_both_report() {
    let (once, twice, hung_up, nohup) = std::thread::scope(|scope| {
        let once = scope.spawn(|| interrupted(true, &[Signal::SIGINT]));
        let twice = scope.spawn(|| interrupted(true, &[Signal::SIGINT, Signal::SIGTERM]));
        let hung_up = scope.spawn(|| interrupted(true, &[Signal::SIGHUP]));
        let nohup = scope.spawn(|| interrupted(false, &[Signal::SIGHUP]));
        let join = |thread: std::thread::ScopedJoinHandle<'_, _>| thread.join().expect("a run");
        (join(once), join(twice), join(hung_up), join(nohup))
    });
    assert_eq!(nohup.0.exit, 0, "a hang-up that was turned off is none: {}", nohup.0.err);
    for (said, report) in [&once, &twice, &hung_up] {
        assert_eq!(said.exit, 130, "{}", said.err);
        let report = report.as_ref().expect("a report");
        assert_eq!(report["summary"]["aborted"], 2);
        assert_eq!(report["run"]["outcome"], "interrupted");
    }
    let upload = |report: &Option<serde_json::Value>| {
        report.as_ref().expect("a report")["devices"][0]["steps"][0]["verdict"].clone()
    };
    assert_eq!(upload(&once.1), "passed", "the upload was let end");
    assert_eq!(upload(&twice.1), "aborted");
    assert!(once.0.err.contains("once more stops at once"), "{}", once.0.err);
}

#[test]
fn a_trace_is_one_wire_log_for_each_device() {
    let station = Station::new();
    station.plan(&simulated("count: 2, boot_ms: 50"));
    let (said, _) = station.run(&["--trace", "wire"]);
    assert_eq!(said.exit, 0, "{}", said.err);
    let logs: Vec<_> = std::fs::read_dir(station.path("wire"))
        .expect("a folder")
        .map(|entry| entry.expect("an entry").path())
        .collect();
    assert_eq!(logs.len(), 2, "{logs:?}");
    for log in logs {
        let text = std::fs::read_to_string(&log).expect("a log");
        assert!(
            text.contains("smp write v2 group=1 command=1"),
            "{}: {}",
            log.display(),
            &text[..text.len().min(300)]
        );
    }
}

#[test]
fn a_trace_that_cannot_be_written_is_trouble_of_the_station_beside_a_device_that_does_not_pass() {
    let station = Station::new();
    station.plan(&simulated("count: 1, boot_ms: 50, fault: { crash_on_test_boot: true }"));
    let (said, _) = station.run(&["--trace", "wire"]);
    assert_eq!(said.exit, 100, "{}", said.err);
    // A folder in the log's place: this cannot be seen before the device is there.
    for log in std::fs::read_dir(station.path("wire")).expect("a folder") {
        let log = log.expect("an entry").path();
        std::fs::remove_file(&log).expect("a log");
        std::fs::create_dir(&log).expect("a folder");
    }
    let (said, report) = station.run(&["--trace", "wire"]);
    assert_eq!(said.exit, 102, "{}", said.err);
    assert!(said.err.contains("station.cannot_write"), "{}", said.err);
    assert_eq!(report.expect("a report")["run"]["exit_code"], 100, "the devices' own");
}
