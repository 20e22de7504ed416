//! Confirm and reset: only what was seen to run is made permanent, and what was proven must stay.

use flashfleet::flow::Outcome;
use flashfleet::plan::Step;
use flashfleet::report::{Departure, Verdict};
use flashfleet::smp::message::image::ImageSlot;

use super::board::{Board, config, default_steps, new_image, reset, slot, upload, walk, walk_default};

#[test]
fn a_confirm_that_does_not_hold_is_found_by_reading_back() {
    let mut board = Board { forgets_confirm: true, ..Board::new() };
    let walk = walk_default(&mut board);
    assert_eq!((walk.result.verdict, walk.code()), (Verdict::Failed, "image.confirm_not_held"));
}

#[test]
fn what_never_ran_is_never_confirmed() {
    let image = new_image();
    let mut board = Board::new();
    board.secondary = Some(ImageSlot { pending: true, ..slot(1, "2.0.0", image.hash()) });
    let walk = walk(&mut board, &config(vec![upload(), Step::Confirm]));
    assert_eq!(walk.code(), "image.not_running");
    assert!(!board.trail().contains("confirm"));

    let mut board = Board::new();
    let walk = super::board::walk(&mut board, &config(vec![upload(), Step::Confirm]));
    assert_eq!(walk.result.verdict, Verdict::Failed);
    assert!(!board.trail().contains("confirm"), "the old image runs: it is not the uploaded one");
}

#[test]
fn an_image_that_is_gone_after_the_last_reset_is_reverted() {
    let mut board = Board { loses_confirmed: true, ..Board::new() };
    let walk = walk_default(&mut board);
    assert_eq!((walk.result.verdict, walk.code()), (Verdict::Failed, "image.reverted"));
    assert_eq!(walk.ended.last().unwrap().name, "reset");
}

#[test]
fn a_confirm_that_is_gone_after_the_last_reset_is_found_though_the_image_runs() {
    let mut board = Board { unconfirms: true, ..Board::new() };
    let walk = walk_default(&mut board);
    assert_eq!((walk.result.verdict, walk.code()), (Verdict::Failed, "image.confirm_not_held"));
    assert_eq!(walk.ended.last().unwrap().name, "reset");
}

#[test]
fn a_reset_requires_what_was_proven_and_not_what_was_only_uploaded() {
    let other =
        Step::Upload { image: "other".to_owned(), image_number: 0, upgrade_only: false, force: false };
    let mut steps = default_steps();
    steps.insert(3, other);
    let walk = walk(&mut Board::new(), &config(steps));
    assert_eq!(walk.result.verdict, Verdict::Passed, "{:?}", walk.result.cause);
    assert_eq!(walk.result.images[0].after.as_ref().unwrap().version, "2.0.0");
}

#[test]
fn a_run_without_confirm_reverts_at_its_own_reset_and_says_so() {
    let mut board = Board::new();
    let walk = walk(&mut board, &config(vec![upload(), Step::TestBoot, reset()]));
    assert_eq!(walk.code(), "image.reverted");
}

#[test]
fn a_reset_that_showed_nothing_is_told_as_such() {
    let mut board = Board { left: Departure::None, reset_answers: [true, false].into(), ..Board::new() };
    let walk = walk_default(&mut board);
    assert_eq!(walk.result.verdict, Verdict::Passed);
    let last = walk.ended.last().unwrap();
    assert_eq!(last.detail.left, Some(Departure::None));
    assert!(last.detail.notes[0].contains("nothing showed that the device left"), "{:?}", last.detail.notes);
    assert_eq!(board.trail().matches("reset").count(), 2, "an unanswered reset is never sent again blindly");
}

#[test]
fn a_device_that_answers_and_then_falls_silent_left_late() {
    let mut board = Board { left: Departure::None, break_read: Some(0), ..Board::new() };
    let walk = walk(&mut board, &config(vec![reset()]));
    assert_eq!(board.trail(), "reset await read await read");
    let last = walk.ended.last().unwrap();
    assert_eq!((last.detail.left, last.detail.notes.len()), (Some(Departure::Silent), 0));
}

#[test]
fn two_resets_have_two_names() {
    let names: Vec<String> = flashfleet::flow::planned_steps(&[upload(), reset(), reset(), reset()])
        .into_iter()
        .map(|step| step.name)
        .collect();
    assert_eq!(names, ["upload app", "reset", "reset #2", "reset #3"]);
}

#[test]
fn verify_requires_what_the_plan_says() {
    let verify = |version: Option<&str>, hash: Option<Vec<u8>>, confirmed| Step::Verify {
        version: version.map(|text| text.parse().expect("a requirement")),
        hash,
        confirmed,
        echo: Some("hello".to_owned()),
    };
    let mut steps = default_steps();
    steps.push(verify(Some(">=2.0.0"), Some(new_image().hash().to_vec()), Some(true)));
    assert_eq!(walk(&mut Board::new(), &config(steps)).result.verdict, Verdict::Passed);
    for step in [
        verify(Some(">=2.0.0"), None, None),
        verify(None, Some(vec![3; 32]), None),
        verify(None, None, Some(false)),
    ] {
        let walk = walk(&mut Board::new(), &config(vec![step]));
        assert_eq!((walk.result.verdict, walk.code()), (Verdict::Failed, "verify.mismatch"));
    }
    let mut board = Board { instead: vec![("echo", Outcome::Echoed("hallo".to_owned()))], ..Board::new() };
    let walk = walk(&mut board, &config(vec![verify(None, None, None)]));
    assert_eq!((walk.result.verdict, walk.code()), (Verdict::Failed, "verify.echo"));
}

#[test]
fn an_erase_that_leaves_an_image_is_found_by_reading_back() {
    let full = Board { secondary: Some(slot(1, "0.9.0", &[4; 32])), ..Board::new() };
    let erase = Step::Erase { slot: 1 };
    let mut board = full.clone();
    assert_eq!(walk(&mut board, &config(vec![erase.clone()])).result.verdict, Verdict::Passed);
    assert_eq!(board.trail(), "erase read");
    let mut board = Board { instead: vec![("erase", Outcome::Done)], ..full };
    let walk = walk(&mut board, &config(vec![erase]));
    assert_eq!(
        (walk.result.verdict, walk.code(), walk.result.changed),
        (Verdict::Failed, "device.not_erased", true)
    );
}

/// Servers without image management refuse the image list; an echo is all that can be required of them.
#[test]
fn verify_of_an_echo_alone_needs_no_image_list() {
    let echo = Step::Verify { version: None, hash: None, confirmed: None, echo: Some("hello".to_owned()) };
    let mut board = Board::new();
    assert_eq!(walk(&mut board, &config(vec![echo.clone()])).result.verdict, Verdict::Passed);
    assert_eq!(board.trail(), "echo");
    let mut board = Board { instead: vec![("echo", Outcome::Echoed("hallo".to_owned()))], ..Board::new() };
    let walk = walk(&mut board, &config(vec![echo]));
    assert_eq!((walk.result.verdict, walk.code()), (Verdict::Failed, "verify.echo"));
}
