//! Steps that are not about images, on whole runs: what the devices themselves know afterwards, and what is told where
//! an answer is lost or a group is not there.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use flashfleet::plan::{LocalFile, Search, Settings, SmpCommand, Step};
use flashfleet::report::{Outcome, Verdict};
use flashfleet::sim::{FaultSpec, NthAnswer, SimSpec};
use flashfleet::smp::{Op, RequestId, group};
use serde_json::json;

use super::line::{Finished, Line, in_virtual_time};

/// A device with every group.
fn spec(fault: FaultSpec) -> SimSpec {
    SimSpec { groups: vec![0, 1, 2, 3, 8, 9, 10, 63], fault, ..SimSpec::default() }
}

fn losing(group: u16, command: u8, nth: u64) -> FaultSpec {
    FaultSpec { lose_answer: vec![NthAnswer { group, command, nth }], ..FaultSpec::default() }
}

fn run(spec: &SimSpec, steps: Vec<Step>) -> (Finished, Line) {
    in_virtual_time(async {
        let mut line = Line::new(spec);
        line.plan.targets[0].steps = steps;
        (line.run().await, line)
    })
}

#[track_caller]
fn passes(spec: &SimSpec, step: Step) -> (Finished, Line) {
    let (finished, line) = run(spec, vec![step]);
    assert_eq!(finished.outcome, Outcome::Passed, "{:?}", finished.report.devices[0].cause);
    (finished, line)
}

/// Runs one step that must not pass; gives the message of its cause too.
#[track_caller]
fn fails(spec: &SimSpec, step: Step, verdict: Verdict, code: &str) -> (Finished, Line, String) {
    let (finished, line) = run(spec, vec![step]);
    let cause = finished.report.devices[0].cause.clone();
    assert_eq!((finished.verdicts()[0], finished.code(0).as_str()), (verdict, code), "{cause:?}");
    let message = cause.expect("a cause").message;
    (finished, line, message)
}

fn notes(finished: &Finished) -> String {
    finished.report.devices[0].steps[0].detail.notes.join("; ")
}

fn shell(command: &str, expect: Option<&str>) -> Step {
    let expect = expect.map(|expect| Search::new(expect).expect("an expression"));
    Step::Shell { run: command.to_owned(), expect, timeout: None }
}

fn local(folder: &Path, name: &str, content: Option<&[u8]>) -> LocalFile {
    LocalFile { folder: folder.to_owned(), name: name.to_owned(), content: content.map(Arc::from) }
}

/// More than fits into one message.
fn content() -> Vec<u8> {
    (0..3000_u32).map(|n| n.to_le_bytes()[0].wrapping_mul(31)).collect()
}

fn put() -> Step {
    let file = local(Path::new("/nowhere"), "a.bin", Some(&content()));
    Step::Put { file, to: "/lfs1/a.bin".to_owned() }
}

fn set(name: &str, value: &[u8]) -> Settings {
    Settings { set: vec![(name.to_owned(), value.to_vec())], ..Settings::default() }
}

fn smp(op: Op, group: u16, command: u8, data: &serde_json::Value, expect: Option<serde_json::Value>) -> Step {
    let payload = flashfleet::smp::message::raw::payload_from_json(data).expect("a payload");
    Step::Smp(SmpCommand { request: RequestId { op, group, command }, payload, expect })
}

#[test]
fn a_shell_command_passes_by_its_output_and_is_in_the_report() {
    let (finished, line) = passes(&spec(FaultSpec::default()), shell("selftest", Some("^PASS$")));
    let device = &finished.report.devices[0];
    assert_eq!((device.changed, device.steps[0].name.as_str()), (Some(true), "shell selftest"));
    assert_eq!(device.steps[0].detail.output.as_deref(), Some("\r\nPASS\r\n"));
    assert_eq!(line.device(0).request_count(group::SHELL, 0), 1);
}

#[test]
fn a_shell_command_fails_by_its_output_and_by_what_it_returns() {
    let spec = spec(FaultSpec::default());
    let (.., message) = fails(&spec, shell("echo FAIL", Some("PASS")), Verdict::Failed, "shell.mismatch");
    assert!(message.contains("`PASS`") && message.contains("FAIL"), "{message}");
    let (.., message) = fails(&spec, shell("nothing", None), Verdict::Failed, "shell.failed");
    assert!(message.contains("-8") && message.contains("command not found"), "{message}");
}

#[test]
fn what_must_not_happen_twice_is_sent_once_when_its_answer_is_lost() {
    let cases: [(Step, u16, u8); 3] = [
        (shell("selftest", None), group::SHELL, 0),
        (Step::EraseStorage, group::ZEPHYR, 0),
        (smp(Op::Write, group::STAT, 9, &json!({}), None), group::STAT, 9),
    ];
    for (step, group, command) in cases {
        let (finished, line, message) =
            fails(&spec(losing(group, command, 1)), step, Verdict::Error, "link.unanswered");
        assert_eq!(line.device(0).request_count(group, command), 1, "{message}");
        assert!(message.contains("may have been done"), "{message}");
        assert_eq!(finished.report.devices[0].changed, Some(true), "nobody knows that nothing was done");
        assert_eq!(finished.report.devices[0].attempts, 1);
    }
}

#[test]
fn what_must_not_happen_twice_is_not_sent_to_a_device_that_does_not_answer() {
    in_virtual_time(async {
        // The link that is open is dead by then, as that of a native USB port whose board was power-cycled.
        let mut line = Line::new(&spec(FaultSpec::default()));
        line.plan.targets[0].steps =
            vec![Step::SetTime, Step::Delay(Duration::from_secs(5)), shell("selftest", Some("PASS"))];
        let device = line.device(0);
        let pulled = async {
            tokio::time::sleep(Duration::from_secs(3)).await;
            device.unplug(Some(Duration::from_secs(1)));
        };
        let (finished, ()) = tokio::join!(line.run(), pulled);
        assert_eq!(finished.outcome, Outcome::Passed, "{:?}", finished.report.devices[0].cause);
        assert_eq!(finished.report.devices[0].steps[2].attempts, 2, "the dead link was found out by an echo");
        assert_eq!(device.request_count(group::SHELL, 0), 1);
    });
}

#[test]
fn a_read_is_sent_again_when_its_answer_is_lost() {
    let step = smp(Op::Read, group::OS, 6, &json!({}), Some(json!({ "buf_count": 4 })));
    let (finished, line) = passes(&spec(losing(group::OS, 6, 1)), step);
    assert_eq!(line.device(0).request_count(group::OS, 6), 2);
    assert_eq!(finished.report.devices[0].changed, Some(false));
}

#[test]
fn a_group_that_is_not_there_is_named() {
    let plain = SimSpec { groups: vec![0, 1], ..SimSpec::default() };
    let folder = tempfile::tempdir().expect("a folder");
    let get = Step::Get { from: "/lfs1/a".to_owned(), file: local(folder.path(), "a", None) };
    for (step, name) in [
        (shell("selftest", None), "shell_mgmt"),
        (put(), "fs_mgmt"),
        (get, "fs_mgmt"),
        (Step::Settings(set("a", b"x")), "settings_mgmt"),
        (Step::EraseStorage, "zephyr_basic"),
        (smp(Op::Read, 64, 3, &json!({}), None), "group 64"),
        (smp(Op::Write, 64, 3, &json!({}), None), "group 64"),
    ] {
        let (finished, _, message) = fails(&plain, step, Verdict::Failed, "smp.mgmt.not_supported");
        assert!(message.contains(name), "{name} is not in {message:?}");
        assert_eq!(finished.report.devices[0].changed, Some(false), "{name}");
    }
    assert_eq!(std::fs::read_dir(folder.path()).expect("the folder").count(), 0, "nothing is left behind");
}

#[test]
fn a_file_is_put_compared_and_the_second_time_left_alone() {
    in_virtual_time(async {
        let mut line = Line::new(&spec(FaultSpec::default()));
        line.plan.targets[0].steps = vec![put()];
        let finished = line.run().await;
        assert_eq!(finished.outcome, Outcome::Passed, "{:?}", finished.report.devices[0].cause);
        assert_eq!(line.device(0).file("/lfs1/a.bin"), Some(content()));
        assert!(notes(&finished).contains("crc32 compared"), "{}", notes(&finished));
        assert_eq!(finished.report.devices[0].changed, Some(true));
        let uploads = line.device(0).request_count(group::FS, 0);
        let again = line.run().await;
        assert_eq!((again.outcome, again.report.devices[0].changed), (Outcome::Passed, Some(false)));
        assert_eq!(line.device(0).request_count(group::FS, 0), uploads, "not a byte is sent again");
    });
}

#[test]
fn a_put_survives_lost_answers_wherever_they_are_lost() {
    for nth in 1..=9 {
        let (_, line) = passes(&spec(losing(group::FS, 0, nth)), put());
        assert_eq!(line.device(0).file("/lfs1/a.bin"), Some(content()), "answer {nth}");
    }
}

#[test]
fn each_device_gets_and_gives_a_file_of_its_own() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = |name: &str| folder.path().join(name);
    for number in 1..=3 {
        std::fs::write(path(&format!("sim_device-{number}.in")), format!("device {number}")).expect("a file");
    }
    let steps = vec![
        Step::Put { file: local(folder.path(), "{address}.in", None), to: "/lfs1/id".to_owned() },
        Step::Get {
            from: "/lfs1/id".to_owned(),
            file: local(folder.path(), "got/{target}-{address}.txt", None),
        },
    ];
    let (finished, line) = run(&SimSpec { count: 3, ..spec(FaultSpec::default()) }, steps);
    assert_eq!(finished.outcome, Outcome::Passed, "{:?}", finished.report.devices[0].cause);
    for number in 1..=3 {
        let text = format!("device {number}");
        let got = std::fs::read_to_string(path(&format!("got/line-sim_device-{number}.txt")));
        assert_eq!(got.expect("it was got"), text);
        assert_eq!(line.device(number - 1).file("/lfs1/id"), Some(text.into_bytes()));
    }
}

#[test]
fn two_devices_never_write_one_file() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = local(folder.path(), "{target}.txt", None);
    let steps = vec![put(), Step::Get { from: "/lfs1/a.bin".to_owned(), file }];
    let (finished, _) = run(&SimSpec { count: 3, ..spec(FaultSpec::default()) }, steps);
    let mut verdicts = finished.verdicts();
    verdicts.sort_by_key(|verdict| *verdict != Verdict::Passed);
    assert_eq!(verdicts, [Verdict::Passed, Verdict::Error, Verdict::Error]);
    let refused = finished.report.devices.iter().filter_map(|device| device.cause.as_ref());
    for cause in refused {
        assert_eq!(cause.code, "plan.shared_file");
        assert!(cause.message.contains("sim:device-"), "{}", cause.message);
    }
    assert_eq!(std::fs::read(folder.path().join("line.txt")).expect("the first one's"), content());
}

#[test]
fn a_file_that_this_machine_lacks_or_the_device_lacks_is_told() {
    let folder = tempfile::tempdir().expect("a folder");
    let spec = spec(FaultSpec::default());
    let missing = Step::Put { file: local(folder.path(), "{address}.in", None), to: "/lfs1/id".to_owned() };
    let (finished, _, message) = fails(&spec, missing, Verdict::Error, "plan.file_unreadable");
    assert!(message.contains("sim_device-1.in"), "{message}");
    assert_eq!((finished.report.devices[0].changed, finished.report.devices[0].attempts), (Some(false), 1));
    let unknown = local(folder.path(), "{serial_number}", None);
    let get = |file| Step::Get { from: "/lfs1/none".to_owned(), file };
    fails(&spec, get(unknown), Verdict::Error, "plan.name_not_known");
    let file = local(folder.path(), "a.txt", None);
    fails(&spec, get(file), Verdict::Failed, "smp.fs_mgmt.file_not_found");
    assert_eq!(std::fs::read_dir(folder.path()).expect("the folder").count(), 0, "nothing is left behind");
}

#[test]
fn a_folder_that_cannot_be_written_to_is_trouble_of_the_station() {
    let folder = tempfile::tempdir().expect("a folder");
    std::fs::write(folder.path().join("file"), "no folder").expect("a file");
    let steps = vec![
        put(),
        Step::Get { from: "/lfs1/a.bin".to_owned(), file: local(folder.path(), "file/a.txt", None) },
    ];
    let (finished, _) = run(&spec(FaultSpec::default()), steps);
    assert_eq!((finished.code(0).as_str(), finished.outcome), ("station.cannot_write", Outcome::Station));
}

#[test]
fn settings_are_written_saved_and_read_back() {
    let settings = Settings { save: true, delete: vec!["old".to_owned()], ..set("id/serial", b"FF01") };
    // Each answer is lost once: all of it may be done twice.
    let mut fault = losing(group::SETTINGS, 0, 1);
    fault.lose_answer.extend(losing(group::SETTINGS, 1, 1).lose_answer);
    fault.lose_answer.extend(losing(group::SETTINGS, 3, 1).lose_answer);
    let steps = vec![
        Step::Settings(settings),
        Step::Reset { force: false, boot_mode: None },
        smp(
            Op::Read,
            3,
            0,
            &json!({ "name": "id/serial" }),
            Some(json!({ "val": { "$bytes": "46463031" } })),
        ),
    ];
    let (finished, line) = run(&spec(fault), steps);
    assert_eq!(finished.outcome, Outcome::Passed, "{:?}", finished.report.devices[0].cause);
    assert_eq!(line.device(0).request_count(group::SETTINGS, 3), 2, "saved, and asked again");
    assert_eq!(finished.report.devices[0].changed, Some(true));
}

#[test]
fn settings_that_were_not_saved_are_gone_after_a_reset() {
    let steps = vec![
        Step::Settings(set("id/serial", b"FF01")),
        Step::Reset { force: false, boot_mode: None },
        smp(Op::Read, 3, 0, &json!({ "name": "id/serial" }), None),
    ];
    let (finished, _) = run(&spec(FaultSpec::default()), steps);
    assert_eq!(finished.code(0), "smp.settings_mgmt.key_not_found");
}

#[test]
fn a_value_that_the_device_gives_back_in_part_is_told_as_such() {
    let (finished, _) = passes(&spec(FaultSpec::default()), Step::Settings(set("a", &[7; 40])));
    assert!(notes(&finished).contains("32 of 40"), "{}", notes(&finished));
    let (finished, _) = passes(&spec(FaultSpec::default()), Step::Settings(set("a", &[7; 32])));
    assert_eq!(notes(&finished), "");
}

#[test]
fn erasing_the_storage_takes_the_saved_settings() {
    let saved = Settings { save: true, ..set("a", b"x") };
    let steps = vec![
        Step::Settings(saved),
        Step::EraseStorage,
        Step::Reset { force: false, boot_mode: None },
        smp(Op::Read, 3, 0, &json!({ "name": "a" }), Some(json!({ "err": { "rc": 3 } }))),
    ];
    let (finished, _) = run(&spec(FaultSpec::default()), steps);
    assert_eq!(finished.outcome, Outcome::Passed, "{:?}", finished.report.devices[0].cause);
}

#[test]
fn the_clock_is_set_and_says_what_time_it_is_when_it_is_sent_again() {
    let (finished, line) = passes(&spec(losing(group::OS, 4, 1)), Step::SetTime);
    assert_eq!(line.device(0).request_count(group::OS, 4), 3, "set twice, read once");
    // The first answer was waited for longer than that.
    let notes = notes(&finished);
    let times: Vec<chrono::NaiveDateTime> =
        notes.split([' ', ',']).filter_map(|word| word.parse().ok()).collect();
    let [device, machine] = times[..] else { panic!("{notes}") };
    assert!((machine - device).num_seconds().abs() <= 1, "{notes}");
    assert_eq!(finished.report.devices[0].changed, Some(true));
    // A link on which every request takes long sets no clock right.
    let slow = SimSpec { latency_ms: 8_000, ..spec(FaultSpec::default()) };
    in_virtual_time(async {
        let mut line = Line::new(&slow);
        line.plan.targets[0].steps = vec![Step::SetTime];
        line.plan.targets[0].link.timeout = flashfleet::plan::Auto::Fixed(Duration::from_secs(30));
        let finished = line.run().await;
        assert_eq!(
            (finished.verdicts()[0], finished.code(0).as_str()),
            (Verdict::Failed, "device.clock_off")
        );
    });
}

#[test]
fn any_command_passes_by_its_answer() {
    let spec = spec(FaultSpec::default());
    let echo = |expect| smp(Op::Write, group::OS, 0, &json!({ "d": "hi" }), Some(expect));
    let (finished, _) = passes(&spec, echo(json!({ "r": "hi" })));
    assert_eq!(finished.report.devices[0].steps[0].detail.output.as_deref(), Some(r#"{"r":"hi"}"#));
    let (.., message) = fails(&spec, echo(json!({ "r": "ho" })), Verdict::Failed, "smp.mismatch");
    assert!(message.contains("\"ho\"") && message.contains("\"hi\""), "{message}");
}

#[test]
fn a_request_that_the_device_would_drop_without_a_word_is_not_sent() {
    let long = "x".repeat(1000);
    let step = smp(Op::Write, group::OS, 0, &json!({ "d": long }), None);
    let (finished, line, message) =
        fails(&spec(FaultSpec::default()), step, Verdict::Error, "smp.request_too_long");
    assert!(message.contains("380"), "{message}");
    assert_eq!(line.device(0).request_count(group::OS, 0), 0);
    assert_eq!(finished.report.devices[0].changed, Some(false));
}

#[test]
fn a_shell_step_between_test_boot_and_confirm_leaves_the_old_image_when_it_fails() {
    let steps =
        |expect| vec![super::line::upload(), Step::TestBoot, shell("selftest", Some(expect)), Step::Confirm];
    let (finished, line) = run(&spec(FaultSpec::default()), steps("PASS"));
    assert_eq!(finished.outcome, Outcome::Passed, "{:?}", finished.report.devices[0].cause);
    assert!(line.device(0).running().expect("it runs").confirmed);
    let (finished, line) = run(&spec(FaultSpec::default()), steps("FAIL"));
    assert_eq!(finished.code(0), "shell.mismatch");
    assert!(!line.device(0).running().expect("it runs").confirmed, "what failed its test is not confirmed");
}

#[test]
fn progress_of_a_file_is_told_in_its_bytes() {
    use flashfleet::report::EventKind;
    let (finished, _) = passes(&SimSpec { baud: Some(9600), ..spec(FaultSpec::default()) }, put());
    let told: Vec<(u64, u64)> = finished
        .events
        .iter()
        .filter_map(|event| match event.kind {
            EventKind::Progress { done, total, .. } => Some((done, total)),
            _ => None,
        })
        .collect();
    assert!(told.len() > 2 && told.iter().all(|(_, total)| *total == 3000), "{told:?}");
    assert_eq!(told.last(), Some(&(3000, 3000)));
}
