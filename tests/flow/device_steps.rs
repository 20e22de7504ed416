//! Steps that are not about images: what is asked, in which order, what fails them, and what is never asked twice.

use std::time::Duration;

use flashfleet::cause::{Cause, Class};
use flashfleet::flow::{Action, Outcome, SettingAction};
use flashfleet::plan::{LocalFile, Search, Settings, SmpCommand, Step};
use flashfleet::report::Verdict;
use flashfleet::smp::{Op, RequestId};
use serde_json::json;

use super::board::{Board, Walk, config, link_failure, reset, upload, walk};

fn shell(expect: Option<&str>) -> Step {
    let expect = expect.map(|expect| Search::new(expect).expect("an expression"));
    Step::Shell { run: "selftest".to_owned(), expect, timeout: None }
}

fn file() -> LocalFile {
    LocalFile { folder: "/plans".into(), name: "a.txt".to_owned(), content: None }
}

fn put() -> Step {
    Step::Put { file: file(), to: "/lfs1/a.txt".to_owned() }
}

fn smp(op: Op, expect: Option<serde_json::Value>) -> Step {
    let request = RequestId { op, group: 64, command: 3 };
    Step::Smp(SmpCommand { request, payload: vec![0xa0], expect })
}

fn settings() -> Settings {
    Settings {
        delete: vec!["old".to_owned()],
        set: vec![("a".to_owned(), b"x".to_vec())],
        commit: true,
        save: true,
    }
}

fn refusal(code: &'static str) -> Outcome {
    Outcome::Failed(Cause::new(Class::Device, code, "expected success, the device said no", "look"))
}

fn lost() -> Outcome {
    Outcome::MayHaveHappened(Cause::new(
        Class::Link,
        "link.unanswered",
        "expected an answer, got none",
        "look",
    ))
}

/// A walk with several attempts, and these outcomes instead of the board's.
fn run(step: Step, instead: Vec<(&'static str, Outcome)>) -> (Walk, Board) {
    let mut board = Board { instead, ..Board::new() };
    let mut config = config(vec![step]);
    config.attempts = 3;
    (walk(&mut board, &config), board)
}

#[track_caller]
fn expect_failure(step: Step, instead: Vec<(&'static str, Outcome)>, code: &str, words: &[&str]) {
    let (walked, _) = run(step, instead);
    assert_eq!((walked.result.verdict, walked.code()), (Verdict::Failed, code));
    let message = &walked.result.cause.as_ref().expect("a cause").message;
    for word in words {
        assert!(message.contains(word), "{word:?} is not in {message:?}");
    }
}

#[test]
fn a_shell_command_that_returns_0_and_prints_what_is_expected_passes() {
    for expect in [None, Some("PASS"), Some("^PASS$"), Some("(?i)pass")] {
        let (walked, board) = run(shell(expect), Vec::new());
        assert_eq!(walked.result.verdict, Verdict::Passed, "{expect:?}: {:?}", walked.result.cause);
        assert!(walked.result.changed, "a command may do anything");
        assert_eq!(walked.ended[0].detail.output.as_deref(), Some("PASS\r\n"));
        assert_eq!(board.trail(), "shell");
    }
}

#[test]
fn a_shell_command_fails_by_its_output_and_by_what_it_returns() {
    let printed =
        |output: &str, returned| vec![("shell", Outcome::Printed { output: output.to_owned(), returned })];
    let failed = printed("3 of 9\r\nFAIL\r\n", 0);
    expect_failure(shell(Some("PASS")), failed, "shell.mismatch", &["`PASS`", "FAIL", "selftest"]);
    expect_failure(shell(Some("pass")), Vec::new(), "shell.mismatch", &["`pass`", "PASS"]);
    // What it prints does not make up for it.
    expect_failure(shell(Some("PASS")), printed("PASS", -5), "shell.failed", &["-5", "PASS", "return 0"]);
    let (walked, _) = run(shell(Some("PASS")), printed("FAIL", 0));
    assert_eq!(walked.ended[0].detail.output.as_deref(), Some("FAIL"), "what it printed is in the report");
}

#[test]
fn what_must_not_be_sent_twice_is_not_when_its_answer_is_lost() {
    for (step, name) in
        [(shell(None), "shell"), (Step::EraseStorage, "erase-storage"), (smp(Op::Write, None), "smp")]
    {
        let (walked, board) = run(step, vec![(name, lost())]);
        assert_eq!((walked.result.verdict, walked.code()), (Verdict::Error, "link.unanswered"), "{name}");
        assert_eq!((walked.retried, walked.result.attempts), (0, 1), "{name}");
        assert_eq!(board.trail(), name, "it went out once");
        assert!(walked.result.changed, "{name} may have done something");
    }
}

#[test]
fn what_was_not_sent_is_tried_again() {
    for (step, name) in [
        (shell(None), "shell"),
        (Step::EraseStorage, "erase-storage"),
        (smp(Op::Write, None), "smp"),
        (smp(Op::Read, None), "smp"),
        (put(), "put"),
        (Step::Get { from: "/lfs1/a.txt".to_owned(), file: file() }, "get"),
        (Step::Settings(settings()), "write"),
        (Step::SetTime, "set-time"),
        (Step::SetTime, "read-time"),
    ] {
        let (walked, _) = run(step, vec![(name, link_failure())]);
        assert_eq!(
            (walked.result.verdict, walked.retried),
            (Verdict::Passed, 1),
            "{name}: {}",
            walked.code()
        );
    }
}

#[test]
fn what_the_device_refuses_is_told_and_not_tried_again() {
    for (step, name) in [
        (shell(None), "shell"),
        (Step::EraseStorage, "erase-storage"),
        (put(), "put"),
        (Step::Get { from: "/lfs1/a.txt".to_owned(), file: file() }, "get"),
        (Step::Settings(settings()), "delete"),
        (Step::Settings(settings()), "write"),
        (Step::Settings(settings()), "save"),
        (Step::SetTime, "set-time"),
    ] {
        let (walked, _) = run(step, vec![(name, refusal("smp.mgmt.not_supported"))]);
        assert_eq!(
            (walked.result.verdict, walked.code()),
            (Verdict::Failed, "smp.mgmt.not_supported"),
            "{name}"
        );
        assert_eq!(walked.retried, 0, "{name}");
    }
}

#[test]
fn a_file_that_is_there_already_is_left_alone() {
    let same = || Outcome::Compared(Some("crc32".to_owned()));
    let (walked, board) = run(put(), vec![("compare", same())]);
    assert_eq!((walked.result.verdict, walked.result.changed), (Verdict::Passed, false));
    assert!(walked.ended[0].detail.skipped.as_ref().is_some_and(|why| why.contains("crc32")));
    assert_eq!(board.trail(), "compare");

    let (walked, board) = run(put(), Vec::new());
    assert_eq!((walked.result.verdict, walked.result.changed), (Verdict::Passed, true));
    assert_eq!(board.trail(), "compare put");

    // The link broke after the last piece: what is found then is our own work.
    let (walked, board) =
        run(put(), vec![("put", link_failure()), ("compare", Outcome::Compared(None)), ("compare", same())]);
    assert_eq!((walked.result.verdict, walked.retried), (Verdict::Passed, 1));
    assert_eq!(walked.ended[0].detail.skipped, None);
    assert_eq!(board.trail(), "compare put wait compare");
}

#[test]
fn a_put_says_by_what_the_file_was_compared() {
    for (checked, word) in [(Some("sha256".to_owned()), "sha256"), (None, "length alone")] {
        let done = Outcome::FilePut { bytes: 5, resumed: 2, checked };
        let (walked, _) = run(put(), vec![("put", done)]);
        let notes = walked.ended[0].detail.notes.join("; ");
        assert!(notes.contains(word) && notes.contains("2 times"), "{notes}");
    }
}

#[test]
fn settings_are_deleted_written_committed_saved_and_read_back_in_this_order() {
    let (walked, board) = run(Step::Settings(settings()), Vec::new());
    assert_eq!((walked.result.verdict, walked.result.changed), (Verdict::Passed, true));
    assert_eq!(board.trail(), "delete write commit save read-setting");
    // One byte more than was written shows a value that is longer.
    let read = SettingAction::Read { name: "a".to_owned(), most: 2 };
    assert_eq!(board.actions.last(), Some(&Action::Setting(read)));
}

#[test]
fn a_setting_that_reads_back_otherwise_fails() {
    let reads = |value: &[u8], most| vec![("read-setting", Outcome::Setting { value: value.to_vec(), most })];
    let differs = |value: &[u8], words: &[&str]| {
        expect_failure(Step::Settings(settings()), reads(value, None), "settings.differs", words);
    };
    differs(b"y", &["\"x\"", "\"y\""]);
    differs(b"xy", &["\"xy\""]);
    differs(b"", &["empty"]);
    differs(&[0], &["hex 00"]);
    let long = || {
        let set = vec![("a".to_owned(), vec![7; 40])];
        Step::Settings(Settings { set, ..Settings::default() })
    };
    let (walked, _) = run(long(), reads(&[7; 32], Some(32)));
    assert_eq!(walked.result.verdict, Verdict::Passed);
    assert!(walked.ended[0].detail.notes[0].contains("32 of 40"), "{:?}", walked.ended[0].detail.notes);
    expect_failure(long(), reads(&[7; 32], None), "settings.differs", &["40 bytes"]);
    expect_failure(long(), reads(&[8; 32], Some(32)), "settings.differs", &[]);
}

#[test]
fn a_setting_that_cannot_be_read_back_is_told_as_such_and_one_that_is_missing_fails() {
    for code in ["smp.settings_mgmt.read_not_supported", "smp.mgmt.not_supported"] {
        let (walked, _) = run(Step::Settings(settings()), vec![("read-setting", refusal(code))]);
        assert_eq!(walked.result.verdict, Verdict::Passed);
        let notes = walked.ended[0].detail.notes.join("; ");
        assert!(notes.contains("a was written and could not be read back"), "{notes}");
    }
    let missing = "smp.settings_mgmt.key_not_found";
    let (walked, _) = run(Step::Settings(settings()), vec![("read-setting", refusal(missing))]);
    assert_eq!((walked.result.verdict, walked.code()), (Verdict::Failed, missing));
    // What is not there need not be deleted.
    let (walked, _) = run(Step::Settings(settings()), vec![("delete", refusal(missing))]);
    assert_eq!(walked.result.verdict, Verdict::Passed);
}

#[test]
fn a_clock_must_read_back_within_five_seconds() {
    let clock = |apart: Option<u64>| {
        let (device, machine) = ("2026-11-25T12:00:00".to_owned(), "2026-11-25T12:00:05".to_owned());
        vec![("read-time", Outcome::Clock { device, machine, apart: apart.map(Duration::from_secs) })]
    };
    let (walked, board) = run(Step::SetTime, clock(Some(5)));
    assert_eq!((walked.result.verdict, walked.result.changed), (Verdict::Passed, true));
    assert_eq!(board.trail(), "set-time read-time");
    expect_failure(Step::SetTime, clock(Some(6)), "device.clock_off", &["12:00:05", "12:00:00", "6 s"]);
    expect_failure(Step::SetTime, clock(None), "device.clock_unreadable", &["12:00:00"]);
    let not_set = "smp.os_mgmt.rtc_not_set";
    expect_failure(Step::SetTime, vec![("read-time", refusal(not_set))], not_set, &[]);
    let (walked, _) = run(Step::SetTime, vec![("read-time", refusal("smp.mgmt.not_supported"))]);
    assert!(walked.ended[0].detail.notes[0].contains("could not be read back"));
}

#[test]
fn an_answer_must_contain_what_the_plan_expects() {
    for (op, expect) in [
        (Op::Read, None),
        (Op::Read, Some(json!({}))),
        (Op::Write, Some(json!({ "n": 1 }))),
        (Op::Read, Some(json!({ "n": 1, "s": "x" }))),
    ] {
        let (walked, _) = run(smp(op, expect), Vec::new());
        assert_eq!((walked.result.verdict, walked.result.changed), (Verdict::Passed, op == Op::Write));
        assert_eq!(walked.ended[0].detail.output.as_deref(), Some(r#"{"n":1,"s":"x"}"#));
    }
    let wants = |expect| smp(Op::Read, Some(expect));
    expect_failure(wants(json!({ "n": 2 })), Vec::new(), "smp.mismatch", &["`n`", "be 2", "got 1"]);
    expect_failure(wants(json!({ "z": true })), Vec::new(), "smp.mismatch", &["`z`", "got nothing"]);
}

#[test]
fn a_refusal_fails_a_command_unless_the_plan_expects_it() {
    let refused = || {
        let cause = Cause::new(Class::Device, "smp.mgmt.not_supported", "expected success", "look");
        vec![("smp", Outcome::Answered { answer: json!({ "rc": 8 }), refusal: Some(cause) })]
    };
    for expect in [None, Some(json!({ "n": 1 }))] {
        let (walked, _) = run(smp(Op::Write, expect), refused());
        assert_eq!((walked.result.verdict, walked.code()), (Verdict::Failed, "smp.mgmt.not_supported"));
        assert!(!walked.result.changed, "a device that said no did nothing");
    }
    let (walked, _) = run(smp(Op::Write, Some(json!({ "rc": 8 }))), refused());
    assert_eq!(walked.result.verdict, Verdict::Passed);
    expect_failure(smp(Op::Write, Some(json!({ "rc": 3 }))), refused(), "smp.mismatch", &["got 8"]);
}

#[test]
fn a_reset_into_another_boot_mode_claims_nothing_of_what_runs() {
    let into_another = Step::Reset { force: false, boot_mode: Some(7) };
    let mut board = Board::new();
    let steps = vec![upload(), Step::TestBoot, Step::Confirm, into_another, reset()];
    let walked = walk(&mut board, &config(steps));
    assert_eq!(walked.result.verdict, Verdict::Passed, "{:?}", walked.result.cause);
    let detail = &walked.ended[3].detail;
    assert_eq!(detail.running, None);
    assert!(detail.notes.iter().any(|note| note.contains("nothing proves")), "{:?}", detail.notes);
    assert!(
        board.trail().contains("reset await reset await read"),
        "the image list is not asked for: {}",
        board.trail()
    );
    // The reset after it proves again what was proved before.
    assert!(walked.ended[4].detail.running.as_ref().is_some_and(|running| running.version == "2.0.0"));

    // What that one proves is not lost with the boot mode.
    let acts = [true, false, true].into();
    let mut board = Board { loses_confirmed: true, reset_acts: acts, ..Board::new() };
    let into_another = Step::Reset { force: false, boot_mode: Some(7) };
    let steps = vec![upload(), Step::TestBoot, Step::Confirm, into_another, reset()];
    assert_eq!(walk(&mut board, &config(steps)).code(), "image.reverted");
}
