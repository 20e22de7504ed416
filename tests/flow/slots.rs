//! The table of slot states, row by row, and what the upload step makes of each.

use flashfleet::flow::{SlotDecision, decide};
use flashfleet::plan::Step;
use flashfleet::report::Verdict;
use flashfleet::smp::message::image::{ImageSlot, ImageState};

use super::board::{Board, config, default_steps, new_image, slot, walk, walk_default};

fn state(primary: ImageSlot, secondary: Option<ImageSlot>) -> ImageState {
    ImageState { images: std::iter::once(primary).chain(secondary).collect(), split_status: None }
}

fn running(hash: &[u8], confirmed: bool) -> ImageSlot {
    ImageSlot { active: true, confirmed, ..slot(0, "1.0.0", hash) }
}

const WANTED: [u8; 32] = [9; 32];
const OLD: [u8; 32] = [1; 32];
const OTHER: [u8; 32] = [5; 32];

#[test]
fn every_row_of_the_table() {
    let other = |hash: &[u8]| Some(slot(1, "3.0.0", hash));
    let pending = |hash: &[u8]| Some(ImageSlot { pending: true, ..slot(1, "3.0.0", hash) });
    let confirmed = |hash: &[u8]| Some(ImageSlot { confirmed: true, ..slot(1, "3.0.0", hash) });
    let rows = [
        (running(&WANTED, true), None, "current"),
        (running(&WANTED, true), other(&OLD), "current"),
        (running(&WANTED, true), other(&WANTED), "current"),
        (running(&WANTED, true), pending(&OTHER), "settle"),
        (running(&WANTED, false), confirmed(&OLD), "on test"),
        (running(&WANTED, true), confirmed(&OLD), "on test"),
        (running(&OTHER, true), confirmed(&OLD), "settle"),
        (running(&OTHER, false), confirmed(&OLD), "settle"),
        (running(&OTHER, false), None, "settle"),
        (running(&OTHER, false), confirmed(&WANTED), "settle"),
        (running(&OLD, true), pending(&WANTED), "pending"),
        (running(&OLD, true), other(&WANTED), "there"),
        (running(&OLD, true), pending(&OTHER), "settle"),
        (running(&OLD, true), other(&OTHER), "upload"),
        (running(&OLD, true), None, "upload"),
    ];
    for (primary, secondary, expected) in rows {
        let what = format!("{primary:?} {secondary:?}");
        let actual = match decide(&state(primary, secondary), 0, &WANTED).expect(&what) {
            SlotDecision::AlreadyCurrent => "current",
            SlotDecision::RunningOnTest => "on test",
            SlotDecision::AlreadyPending => "pending",
            SlotDecision::AlreadyThere => "there",
            SlotDecision::Upload => "upload",
            SlotDecision::Settle(_) => "settle",
        };
        assert_eq!(actual, expected, "{what}");
    }
}

#[test]
fn states_that_prove_nothing_are_refused() {
    let code = |state: &ImageState| decide(state, 0, &WANTED).expect_err("refused").code.into_owned();
    assert_eq!(code(&state(slot(0, "1.0.0", &OLD), None)), "device.no_running_image");
    assert_eq!(code(&ImageState::default()), "device.no_running_image");
    let unhashed = ImageSlot { hash: None, ..running(&OLD, true) };
    assert_eq!(code(&state(unhashed, None)), "device.no_image_hash");
    let unbootable = ImageSlot { bootable: false, ..slot(1, "2.0.0", &WANTED) };
    assert_eq!(code(&state(running(&OLD, true), Some(unbootable))), "image.not_bootable");
}

#[test]
fn an_already_current_device_is_passed_and_untouched() {
    let image = new_image();
    let mut board = Board::new();
    board.primary.hash = Some(image.hash().to_vec());
    let walk = walk_default(&mut board);
    assert_eq!(walk.result.verdict, Verdict::Passed);
    assert!(!walk.result.changed, "nothing had to be done");
    assert_eq!(board.trail(), "read mode read read read", "it is looked at, and only looked at");
    assert_eq!(walk.result.images[0].after.as_ref().unwrap().hash, Some(hex::encode(image.hash())));
}

#[test]
fn somebody_elses_test_is_reverted_before_the_upload() {
    let mut board = Board::new();
    board.primary = ImageSlot { confirmed: false, ..running(&OTHER, false) };
    board.secondary = Some(ImageSlot { confirmed: true, ..slot(1, "1.0.0", &OLD) });
    let walk = walk_default(&mut board);
    assert_eq!(walk.result.verdict, Verdict::Passed, "{:?}", walk.result.cause);
    assert!(board.trail().starts_with("read mode reset await read slots upload"), "{}", board.trail());
}

#[test]
fn somebody_elses_pending_image_costs_two_resets() {
    let mut board = Board::new();
    board.secondary = Some(ImageSlot { pending: true, ..slot(1, "3.0.0", &OTHER) });
    let walk = walk_default(&mut board);
    assert_eq!(walk.result.verdict, Verdict::Passed, "{:?}", walk.result.cause);
    assert!(
        board.trail().starts_with("read mode reset await read reset await read slots upload"),
        "{}",
        board.trail()
    );
}

#[test]
fn slots_that_never_settle_are_given_up_with_bounded_resets() {
    let mut board = Board::new();
    board.secondary = Some(ImageSlot { pending: true, ..slot(1, "3.0.0", &OTHER) });
    board.boot = super::board::Boot::Late(u32::MAX);
    let walk = walk_default(&mut board);
    assert_eq!(walk.code(), "device.slots_unsettled");
    assert_eq!(board.resets, 3);
    assert!(!board.trail().contains("upload"));
}

#[test]
fn an_image_larger_than_the_slot_is_refused_before_a_byte_is_sent() {
    let mut board = Board { slot_size: Some(100), ..Board::new() };
    let walk = walk_default(&mut board);
    assert_eq!((walk.result.verdict, walk.code()), (Verdict::Failed, "image.too_large"));
    assert!(!board.trail().contains("upload") && !walk.result.changed);
}

#[test]
fn an_upload_that_does_not_show_in_the_list_is_no_upload() {
    let mut board = Board { drops_uploads: true, ..Board::new() };
    let walk = walk_default(&mut board);
    assert_eq!((walk.result.verdict, walk.code()), (Verdict::Failed, "image.not_in_slot"));
    assert_eq!(board.resets, 0);
}

#[test]
fn a_forced_upload_is_looked_for_in_the_secondary_slot_though_the_same_image_runs() {
    let forced = Step::Upload { image: "app".to_owned(), image_number: 0, upgrade_only: false, force: true };
    let current = Board { primary: running(new_image().hash(), true), ..Board::new() };
    let mut board = current.clone();
    let walked = walk(&mut board, &config(vec![forced.clone()]));
    assert_eq!(walked.result.verdict, Verdict::Passed, "{:?}", walked.result.cause);
    assert_eq!(board.trail(), "read mode slots upload read");
    let mut board = Board { drops_uploads: true, ..current };
    assert_eq!(walk(&mut board, &config(vec![forced])).code(), "image.not_in_slot");
}

#[test]
fn a_bootloader_that_cannot_test_is_refused_untouched() {
    for mode in [0, 7, 8, 77] {
        let mut board = Board { mode: Some(mode), ..Board::new() };
        let walk = walk_default(&mut board);
        assert_eq!(walk.code(), "device.mode_not_supported", "mode {mode}");
        assert!(!walk.result.changed);
    }
    for mode in [None, Some(1), Some(2), Some(3), Some(9)] {
        let mut board = Board { mode, ..Board::new() };
        assert_eq!(
            walk(&mut board, &config(default_steps())).result.verdict,
            Verdict::Passed,
            "mode {mode:?}"
        );
    }
}
