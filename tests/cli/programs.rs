//! Programs that a plan runs on this machine: `run` steps and `recover`. In real time, as programs are.

use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::sys::signal::kill;
use nix::unistd::Pid;

use super::station::{Station, verdict};

/// One simulated device, with these steps and this policy, in flow style.
fn plan(station: &Station, sim: &str, steps: &str, policy: &str) {
    station.plan(&format!(
        "version: 1\nname: bench\nimages: {{ app: {{ sim: {{ version: \"2.0.0\", size: 4096 }} }} }}\npolicy: {{ attempts: 3, {policy} }}\ntargets:\n  - name: line\n    match: {{ sim: {{ boot_ms: 50, {sim} }} }}\n    link: {{ quiet: 500ms, return_within: 2s }}\n    steps: [{steps}]\n"
    ));
}

fn shell(script: &str) -> String {
    format!("run: [sh, -c, {script:?}, sh, \"{{target}}\", \"{{address}}\"]")
}

/// The process whose id a program wrote into a file of the station.
fn process(station: &Station, file: &str) -> Pid {
    let text = std::fs::read_to_string(station.path(file)).expect("the program wrote its id");
    Pid::from_raw(text.trim().parse().expect("an id"))
}

/// Waits until a process is gone; a killed one is there until it was waited for.
fn assert_gone(process: Pid) {
    let start = Instant::now();
    while kill(process, None) != Err(Errno::ESRCH) {
        let stat = std::fs::read_to_string(format!("/proc/{process}/stat")).unwrap_or_default();
        if stat.rsplit(')').next().is_some_and(|rest| rest.trim_start().starts_with('Z')) {
            return;
        }
        assert!(start.elapsed() < Duration::from_secs(10), "{process} lives on: {stat}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn a_program_knows_its_device_and_what_it_prints_is_in_the_report() {
    let station = Station::new();
    let script = "env | grep ^FLASHFLEET_ | sort > names; echo $1 $2; echo and >&2";
    plan(&station, "", &shell(script), "");
    let (said, report) = station.run(&[]);
    assert_eq!(said.exit, 0, "{}", said.err);
    let names = std::fs::read_to_string(station.path("names")).expect("the program ran");
    let expected = [
        "FLASHFLEET_ADDRESS=sim:device-1",
        "FLASHFLEET_HUB_PATH=",
        "FLASHFLEET_PLAN=bench",
        "FLASHFLEET_SERIAL_NUMBER=",
        "FLASHFLEET_TARGET=line",
        "FLASHFLEET_USB_ID=",
    ];
    assert_eq!(names.lines().collect::<Vec<_>>(), expected);
    let device = &report.expect("a report")["devices"][0];
    assert_eq!(device["steps"][0]["detail"]["output"], "line sim:device-1\nand\n", "{device}");
    assert_eq!(device["changed"], false, "what a program does is its own");
}

#[test]
fn a_program_that_fails_fails_the_step_once() {
    let station = Station::new();
    plan(&station, "", &shell("echo x >> runs; echo broken fixture; exit 7"), "");
    let (said, report) = station.run(&[]);
    assert_eq!(said.exit, 100, "{}", said.err);
    let report = report.expect("a report");
    assert_eq!(verdict(&report, 0), ("failed".to_owned(), "step.program_failed".to_owned()));
    let device = &report["devices"][0];
    assert!(device["cause"]["message"].as_str().is_some_and(|text| text.contains("exit code 7")), "{device}");
    assert_eq!(device["steps"][0]["detail"]["output"], "broken fixture\n");
    let runs = std::fs::read_to_string(station.path("runs")).expect("it ran");
    assert_eq!(runs, "x\n", "what said no is not asked again");
    plan(&station, "", "run: [no-such-program-anywhere]", "");
    let (said, report) = station.run(&[]);
    assert_eq!(said.exit, 102, "{}", said.err);
    let code = verdict(&report.expect("a report"), 0).1;
    assert_eq!(code, "step.program_not_started");
}

#[test]
fn the_deadline_ends_a_program_and_everything_that_it_started() {
    let station = Station::new();
    plan(&station, "", &shell("echo $$ > parent; sleep 100 & echo $! > child; wait"), "deadline: 1s");
    let (said, report) = station.run(&[]);
    assert_eq!(said.exit, 100, "{}", said.err);
    assert_eq!(
        verdict(&report.expect("a report"), 0),
        ("timed_out".to_owned(), "device.deadline".to_owned())
    );
    assert_gone(process(&station, "parent"));
    assert_gone(process(&station, "child"));
}

#[test]
fn what_a_program_leaves_in_the_background_is_not_waited_for() {
    let station = Station::new();
    plan(&station, "", &shell("sleep 100 & echo $! > child; echo started"), "deadline: 60s");
    let (said, report) = station.run(&[]);
    kill(process(&station, "child"), nix::sys::signal::Signal::SIGKILL)
        .expect("it lives: it was started to stay");
    assert_eq!(said.exit, 0, "{}", said.err);
    assert_eq!(report.expect("a report")["devices"][0]["steps"][0]["detail"]["output"], "started\n");
}

#[test]
fn a_program_has_a_process_group_of_its_own_so_that_an_interrupt_at_the_terminal_is_not_for_it() {
    let station = Station::new();
    plan(&station, "", &shell("cut -d' ' -f5 /proc/$$/stat > group; echo $$ > id"), "");
    let (said, _) = station.run(&[]);
    assert_eq!(said.exit, 0, "{}", said.err);
    assert_eq!(process(&station, "group"), process(&station, "id"));
}

#[test]
fn the_recovery_program_is_run_once_for_a_device_that_never_returned_and_its_failure_is_told() {
    let station = Station::new();
    let steps = "upload: app, test-boot";
    let recover = "recover: [sh, -c, \"echo $1 $FLASHFLEET_TARGET >> recovered; exit 3\", sh, \"slot={hub_path}/{serial_number}\"]";
    plan(&station, "fault: { hang_on_test_boot: true }", steps, recover);
    let (said, report) = station.run(&[]);
    assert_eq!(said.exit, 100, "{}", said.err);
    let report = report.expect("a report");
    assert_eq!(verdict(&report, 0), ("failed".to_owned(), "device.never_returned".to_owned()));
    let message = report["devices"][0]["cause"]["message"].as_str().unwrap_or_default().to_owned();
    assert!(
        message.contains("expected the recovery program sh to exit with 0, got exit code 3"),
        "{message}"
    );
    assert_eq!(std::fs::read_to_string(station.path("recovered")).expect("it ran"), "slot=/ line\n");
}

#[test]
fn a_run_that_its_policy_stopped_is_exit_code_103() {
    for policy in ["canary: 1", "parallel: 1, stop_after: { failures: 1 }"] {
        let station = Station::new();
        plan(&station, "count: 3", "run: [\"false\"]", policy);
        let (said, report) = station.run(&[]);
        assert_eq!(said.exit, 103, "{policy}: {}", said.err);
        let report = report.expect("a report");
        assert_eq!((&report["summary"]["failed"], &report["summary"]["aborted"]), (&1.into(), &2.into()));
        assert_eq!(report["run"]["exit_code"], 103);
    }
}
