//! Proof of boot: what is called passed, and what never is.

use flashfleet::cause::{Cause, Class};
use flashfleet::flow::Outcome;
use flashfleet::plan::Step;
use flashfleet::report::{Departure, Verdict};

use super::board::{Board, Boot, config, default_steps, new_image, slot, upload, walk, walk_default};

#[test]
fn the_default_steps_upload_test_confirm_and_prove_it_after_one_more_reset() {
    let mut board = Board::new();
    let walk = walk_default(&mut board);
    assert_eq!(walk.result.verdict, Verdict::Passed, "{:?}", walk.result);
    assert!(walk.result.changed && !walk.result.on_test);
    assert_eq!(
        board.trail(),
        "read mode slots upload read read mark read reset await read read confirm read reset await read"
    );
    assert_eq!(board.resets, 2, "one reset to test, one to see that it stays");
    let image = &walk.result.images[0];
    assert_eq!(image.before.as_ref().unwrap().version, "1.0.0");
    let after = image.after.as_ref().unwrap();
    assert!(after.active && after.confirmed && after.version == "2.0.0");
    assert_eq!(after.hash, Some(hex::encode(new_image().hash())));
}

#[test]
fn without_confirm_it_is_passed_and_on_test() {
    let walk = walk(&mut Board::new(), &config(vec![upload(), Step::TestBoot]));
    assert_eq!(walk.result.verdict, Verdict::Passed);
    assert!(walk.result.on_test, "it reverts at the next reset, and the report must say so");
}

#[test]
fn an_old_image_after_the_test_boot_is_reverted() {
    let mut board = Board { boot: Boot::Reverts, ..Board::new() };
    let walk = walk_default(&mut board);
    assert_eq!((walk.result.verdict, walk.code()), (Verdict::Failed, "image.reverted"));
    assert_eq!(board.resets, 1, "a second reset proves nothing");
    assert!(!board.trail().contains("confirm"), "what does not run is never confirmed");
}

#[test]
fn a_device_that_never_returns_is_told_as_such_and_not_touched_again() {
    let mut board = Board { boot: Boot::Hangs, ..Board::new() };
    let walk = walk_default(&mut board);
    assert_eq!((walk.result.verdict, walk.code()), (Verdict::Failed, "device.never_returned"));
    assert!(board.trail().ends_with("reset await"), "{}", board.trail());
}

#[test]
fn the_recovery_program_runs_once_and_the_truth_is_read_afterwards() {
    let mut board = Board { boot: Boot::Hangs, ..Board::new() };
    let mut config = config(default_steps());
    config.can_recover = true;
    let walk = walk(&mut board, &config);
    assert_eq!(walk.code(), "image.reverted");
    assert!(board.trail().ends_with("reset await recover await read"), "{}", board.trail());
}

#[test]
fn a_device_that_never_returned_is_told_with_how_it_left_also_where_recovery_failed() {
    // In words that fit a port, a network address and a peripheral.
    for (left, seen) in [
        (Departure::Silent, "it fell silent and it did not come back"),
        (Departure::Gone, "it went away and it did not come back"),
        (Departure::None, "it was never seen to leave and it did not come back"),
    ] {
        let trouble =
            Cause::new(Class::Station, "station.recover_failed", "expected it to exit with 0", "look");
        let instead = vec![("recover", Outcome::Failed(trouble))];
        let mut board = Board { boot: Boot::Hangs, left, instead, ..Board::new() };
        let mut config = config(default_steps());
        config.can_recover = true;
        let walk = walk(&mut board, &config);
        assert_eq!(walk.code(), "device.never_returned");
        let message = &walk.result.cause.as_ref().unwrap().message;
        assert!(message.contains(seen) && message.contains("recovery program failed"), "{message}");
        assert_eq!(walk.ended.last().unwrap().detail.left, Some(left));
    }
}

#[test]
fn a_swap_that_stays_pending_is_looked_at_until_its_time_is_over() {
    let mut board = Board { boot: Boot::Late(u32::MAX), left: Departure::None, ..Board::new() };
    let walk = walk_default(&mut board);
    assert_eq!((walk.result.verdict, walk.code()), (Verdict::Failed, "device.swap_pending"));
    assert_eq!(board.resets, 1, "an answered reset is never repeated");
}

#[test]
fn a_late_reset_is_waited_for() {
    let mut board = Board { boot: Boot::Late(6), left: Departure::None, ..Board::new() };
    let walk = walk_default(&mut board);
    assert_eq!(walk.result.verdict, Verdict::Passed, "{:?}", walk.result.cause);
}

#[test]
fn a_device_that_answers_and_then_falls_silent_is_waited_for() {
    let mut board = Board::new();
    // The reads: look and read-back of the upload, look and marks of the test boot; the fifth is the proof.
    board.break_read = Some(4);
    let walk = walk(&mut board, &config(vec![upload(), Step::TestBoot]));
    assert_eq!((walk.result.verdict, walk.retried), (Verdict::Passed, 0), "{:?}", walk.result.cause);
    assert!(board.trail().ends_with("reset await read await read"), "{}", board.trail());
}

#[test]
fn a_lost_reset_answer_is_resolved_by_looking() {
    let mut board = Board { reset_answers: [false].into(), ..Board::new() };
    let walk = walk_default(&mut board);
    assert_eq!(walk.result.verdict, Verdict::Passed);
    assert_eq!(board.resets, 2, "one to test, one at the end: the lost answer costs none");
}

#[test]
fn a_lost_reset_request_is_sent_again_only_after_looks_that_show_no_effect() {
    let mut board = Board {
        reset_answers: [false].into(),
        reset_acts: [false].into(),
        left: Departure::None,
        ..Board::new()
    };
    let walk = walk(&mut board, &config(vec![upload(), Step::TestBoot]));
    assert_eq!(walk.result.verdict, Verdict::Passed, "{:?}", walk.result.cause);
    assert_eq!(board.resets, 1, "the board counts one boot");
    assert_eq!(board.trail().matches("reset").count(), 2);
    assert!(board.trail().contains("reset await read wait read wait read reset"), "{}", board.trail());
}

#[test]
fn a_reset_without_answer_and_effect_is_sent_again_twice_at_most() {
    let mut board = Board {
        reset_answers: [false; 9].into(),
        reset_acts: [false; 9].into(),
        left: Departure::None,
        ..Board::new()
    };
    let walk = walk_default(&mut board);
    assert_eq!((walk.result.verdict, walk.code()), (Verdict::Failed, "device.swap_pending"));
    assert_eq!(board.trail().matches("reset").count(), 3);
}

#[test]
fn a_recovery_that_does_not_help_is_not_tried_again() {
    let mut board = Board { boot: Boot::Hangs, instead: vec![("recover", Outcome::Done)], ..Board::new() };
    let mut config = config(default_steps());
    config.can_recover = true;
    let walk = walk(&mut board, &config);
    assert_eq!(walk.code(), "device.never_returned");
    let message = &walk.result.cause.as_ref().unwrap().message;
    assert!(message.contains("not even after the recovery program"), "{message}");
    assert!(board.trail().ends_with("reset await recover await"), "{}", board.trail());
}

#[test]
fn a_mark_that_does_not_show_is_no_reason_to_reset() {
    let mut board = Board::new();
    board.instead.push(("mark", Outcome::State(board.state())));
    let walk = walk_default(&mut board);
    assert_eq!(walk.code(), "device.not_pending");
    assert_eq!(board.resets, 0);
}

#[test]
fn an_image_that_waits_already_is_not_uploaded_again() {
    let image = new_image();
    let mut board = Board::new();
    board.secondary = Some(slot(1, "2.0.0", image.hash()));
    let walk = walk_default(&mut board);
    assert_eq!(walk.result.verdict, Verdict::Passed);
    assert!(!board.trail().contains("upload"));
    assert_eq!(walk.ended[0].detail.skipped.as_deref(), Some("already in the secondary slot"));
}
