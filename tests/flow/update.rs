//! What `update` does besides the default steps: mark an image and leave the reset to others, or mark it to stay.

use flashfleet::plan::Step;
use flashfleet::report::Verdict;

use super::board::{Board, Boot, Walk, config, new_image, slot, upload, walk};

fn run(board: &mut Board, permanent: bool, boot: bool) -> Walk {
    walk(board, &config(vec![upload(), Step::Activate { permanent, boot }]))
}

#[test]
fn an_image_that_is_only_marked_is_pending_and_not_said_to_run() {
    for permanent in [false, true] {
        let mut board = Board::new();
        let walked = run(&mut board, permanent, false);
        assert_eq!(walked.result.verdict, Verdict::Passed, "{:?}", walked.result.cause);
        assert_eq!(board.resets, 0);
        let waiting = board.secondary.as_ref().expect("it waits");
        assert_eq!((waiting.pending, waiting.permanent), (true, permanent));
        let detail = &walked.ended[1].detail;
        assert_eq!(detail.left, None);
        assert!(detail.running.as_ref().is_some_and(|running| running.version == "1.0.0"));
        assert!(detail.notes.iter().any(|note| note.contains("not booted")), "{:?}", detail.notes);
        assert!(!walked.result.on_test, "what runs is what ran");
    }
}

#[test]
fn an_image_that_is_marked_to_stay_boots_once_and_stays() {
    let mut board = Board::new();
    let walked = run(&mut board, true, true);
    assert_eq!(walked.result.verdict, Verdict::Passed, "{:?}", walked.result.cause);
    assert_eq!(board.resets, 1);
    assert!(board.trail().contains("mark-to-stay read reset await read"), "{}", board.trail());
    assert_eq!((board.primary.version.as_str(), board.primary.confirmed), ("2.0.0", true));
    assert!(!walked.result.on_test);
}

#[test]
fn an_image_that_was_to_stay_and_is_on_test_is_no_pass() {
    let mut board = Board { forgets_confirm: true, ..Board::new() };
    let walked = run(&mut board, true, true);
    assert_eq!((walked.result.verdict, walked.code()), (Verdict::Failed, "image.confirm_not_held"));
}

#[test]
fn an_image_that_does_not_come_up_is_no_pass_whatever_was_marked() {
    for permanent in [false, true] {
        let mut board = Board { boot: Boot::Reverts, ..Board::new() };
        assert_eq!(run(&mut board, permanent, true).code(), "image.reverted");
    }
}

#[test]
fn an_image_that_waits_for_its_test_is_marked_to_stay_all_the_same() {
    let image = new_image();
    let mut board = Board::new();
    board.secondary = Some(slot(1, "2.0.0", image.hash()));
    board.secondary.as_mut().expect("a slot").pending = true;
    let walked = run(&mut board, true, true);
    assert_eq!(walked.result.verdict, Verdict::Passed, "{:?}", walked.result.cause);
    assert!(board.primary.confirmed);
}

#[test]
fn an_image_that_runs_and_stays_already_is_left_alone() {
    let mut board = Board::new();
    run(&mut board, true, true);
    let resets = board.resets;
    let walked = run(&mut board, true, true);
    assert_eq!((walked.result.verdict, walked.result.changed), (Verdict::Passed, false));
    assert_eq!(board.resets, resets);
}
