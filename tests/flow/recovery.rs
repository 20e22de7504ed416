//! One device's way through its bootloader: who answers is asked before anything is written, and no reset goes twice.

use flashfleet::cause::{Cause, Class};
use flashfleet::flow::{Action, FlowConfig, Outcome};
use flashfleet::plan::Step;
use flashfleet::report::{Departure, Verdict};
use flashfleet::smp::message::image::{SlotInfoImage, SlotInfoResponse, SlotInfoSlot};

use super::board::{Board, Walk, config, default_steps, link_failure, reset, slot, upload, walk, walk_by};

fn steps() -> Vec<Step> {
    vec![Step::Reset { force: false, boot_mode: Some(1) }, upload(), reset()]
}

fn go(board: &mut Board) -> Walk {
    walk(board, &config(steps()))
}

fn starting_there() -> FlowConfig {
    FlowConfig { starts_in_bootloader: true, ..config(vec![upload(), reset()]) }
}

fn notes(walk: &Walk) -> String {
    walk.ended.iter().flat_map(|step| step.detail.notes.clone()).collect::<Vec<_>>().join("; ")
}

fn refused() -> Outcome {
    let cause = Cause::new(Class::Device, "smp.mgmt.not_supported", "expected success", "look");
    Outcome::Failed(cause)
}

#[test]
fn who_answers_is_asked_before_the_primary_slot_is_written_and_after_it_was_left() {
    let mut board = Board::new();
    let walk = go(&mut board);
    assert_eq!(walk.result.verdict, Verdict::Passed, "{:?}", walk.result.cause);
    assert_eq!(
        board.trail(),
        "read reset await who read who read slots upload-to-primary read reset await who read"
    );
    assert!(walk.result.changed && !walk.result.on_test);
    assert_eq!(board.resets, 2);
    let image = &walk.result.images[0];
    let version = |view: &Option<flashfleet::report::ImageView>| view.as_ref().map(|it| it.version.clone());
    assert_eq!((version(&image.before), version(&image.after)), (Some("1.0.0".into()), Some("2.0.0".into())));
    assert!(notes(&walk).contains("MCUboot's serial recovery answers"));
}

#[test]
fn a_device_that_runs_the_image_is_not_reset_at_all() {
    let mut board = Board::new();
    board.primary = flashfleet::smp::message::image::ImageSlot {
        active: true,
        confirmed: true,
        ..slot(0, board.image.version(), board.image.hash())
    };
    let walked = go(&mut board);
    assert_eq!((walked.result.verdict, walked.result.changed), (Verdict::Passed, false));
    assert_eq!((board.resets, board.trail().as_str()), (0, "read who read read"));
    // Nor one that the plan takes to be in its bootloader, as it was before the first run.
    board.actions.clear();
    let walked = walk(&mut board, &starting_there());
    assert_eq!((walked.result.verdict, walked.result.changed), (Verdict::Passed, false));
    assert_eq!((board.resets, board.trail().as_str()), (0, "who read read"));
    // Where something else is done there too, or the plan insists, the reset is needed.
    for between in [
        Step::EraseStorage,
        Step::Upload { image: "app".into(), image_number: 0, upgrade_only: false, force: true },
    ] {
        let mut again = board.clone();
        let steps = vec![Step::Reset { force: false, boot_mode: Some(1) }, between, reset()];
        assert_eq!(walk(&mut again, &config(steps)).result.verdict, Verdict::Passed);
        assert_eq!(again.resets, 2);
    }
}

#[test]
fn a_bootloader_that_has_the_image_is_given_it_again_only_by_force() {
    for (force, trail) in [
        (false, "who read reset await who read"),
        (true, "who read slots upload-to-primary read reset await who read"),
    ] {
        let mut board = Board::new();
        board.in_recovery = true;
        board.primary = slot(0, board.image.version(), board.image.hash());
        let upload = Step::Upload { image: "app".into(), image_number: 0, upgrade_only: false, force };
        let walk = walk(&mut board, &FlowConfig { steps: vec![upload, reset()], ..starting_there() });
        assert_eq!((walk.result.verdict, board.trail().as_str()), (Verdict::Passed, trail));
    }
}

#[test]
fn what_is_uploaded_after_a_bootloader_that_was_not_needed_goes_to_the_application() {
    let mut board = Board::new();
    board.primary = flashfleet::smp::message::image::ImageSlot {
        active: true,
        confirmed: true,
        ..slot(0, board.image.version(), board.image.hash())
    };
    let other = Step::Upload { image: "other".into(), image_number: 0, upgrade_only: false, force: false };
    let walk = walk(&mut board, &config([steps(), vec![other]].concat()));
    assert_eq!(walk.result.verdict, Verdict::Passed, "{:?}", walk.result.cause);
    assert_eq!((board.resets, board.trail().as_str()), (0, "read who read read read mode slots upload read"));
}

#[test]
fn an_image_on_test_is_no_reason_to_leave_the_reset_out() {
    let mut board = Board::new();
    board.primary = flashfleet::smp::message::image::ImageSlot {
        active: true,
        ..slot(0, board.image.version(), board.image.hash())
    };
    assert_eq!(go(&mut board).result.verdict, Verdict::Passed);
    assert_eq!(board.resets, 2);
}

#[test]
fn nothing_is_written_where_the_application_answers() {
    for (left, looks) in [(Departure::Silent, 1), (Departure::None, 6)] {
        let mut board = Board::new();
        (board.takes_boot_mode, board.left) = (false, left);
        let walk = go(&mut board);
        assert_eq!((walk.code(), walk.result.verdict), ("device.not_in_bootloader", Verdict::Failed));
        assert_eq!(board.resets, 1);
        let asked = board.actions.iter().filter(|action| **action == Action::AskConsoleEcho).count();
        assert_eq!(asked, looks, "one that was not seen to leave may be late");
    }
    let mut board = Board::new();
    let walk = walk(&mut board, &starting_there());
    assert_eq!((walk.code(), walk.result.changed), ("device.not_in_bootloader", false));
    assert_eq!((board.resets, board.trail().as_str()), (0, "who read"));
}

#[test]
fn where_nothing_tells_who_answers_the_report_says_so() {
    for knows_echo in [Some(false), None] {
        let mut board = Board::new();
        board.knows_echo = knows_echo;
        let walk = go(&mut board);
        assert_eq!(walk.result.verdict, Verdict::Passed, "{:?}", walk.result.cause);
        assert!(notes(&walk).contains("nothing proves that a bootloader answers"), "{}", notes(&walk));
    }
}

#[test]
fn the_bootloader_is_told_the_number_of_the_slot_that_is_meant() {
    let slots = |image: u32, upload_image_id| {
        Outcome::Slots(Some(SlotInfoResponse {
            images: vec![SlotInfoImage {
                image,
                slots: vec![SlotInfoSlot {
                    slot: 0,
                    size: Some(100_000),
                    upload_image_id,
                    ..SlotInfoSlot::default()
                }],
                max_image_size: None,
            }],
        }))
    };
    let told = |image_number, slots: Outcome| {
        let mut board = Board::new();
        board.instead = vec![("slots", slots)];
        let upload = Step::Upload { image: "app".into(), image_number, upgrade_only: false, force: false };
        let steps = vec![Step::Reset { force: false, boot_mode: Some(1) }, upload, reset()];
        let walk = walk(&mut board, &config(steps));
        let told = board.actions.iter().find_map(|action| match action {
            Action::UploadToPrimary { upload_id, .. } => Some(*upload_id),
            _ => None,
        });
        (told, walk.code().to_owned())
    };
    assert_eq!(told(0, Outcome::Slots(None)).0, Some(0));
    assert_eq!(told(0, slots(0, Some(1))).0, Some(1), "each slot has a number of its own");
    assert_eq!(told(1, slots(1, Some(3))).0, Some(3));
    assert_eq!(told(1, slots(1, None)).0, Some(1));
    let refused = |code: &str| (None, code.to_owned());
    assert_eq!(told(1, Outcome::Slots(None)), refused("device.upload_slot_not_known"));
    assert_eq!(told(1, slots(0, Some(0))), refused("device.no_such_image"));
    let small = SlotInfoResponse {
        images: vec![SlotInfoImage {
            slots: vec![SlotInfoSlot {
                slot: 0,
                size: Some(10),
                upload_image_id: Some(0),
                ..SlotInfoSlot::default()
            }],
            ..SlotInfoImage::default()
        }],
    };
    assert_eq!(told(0, Outcome::Slots(Some(small))), refused("image.too_large"));
}

#[test]
fn a_link_that_breaks_costs_an_attempt_and_never_a_second_reset() {
    for broken in ["await", "who", "read", "slots", "upload-to-primary"] {
        for nth in 0..2 {
            let mut board = Board::new();
            // The first look, before any reset, is another matter.
            let skip = usize::from(broken == "read");
            let mut seen = 0;
            let config = FlowConfig { attempts: 3, ..config(steps()) };
            let mut flow = flashfleet::flow::Flow::new(&config);
            let mut now = std::time::Duration::ZERO;
            let result = loop {
                match flow.next(now) {
                    flashfleet::flow::Directive::Perform(action) => {
                        now += std::time::Duration::from_secs(20);
                        let outcome = board.act(&action);
                        let hit = board.trail().rsplit(' ').next() == Some(broken);
                        seen += usize::from(hit);
                        let breaks = hit && seen == nth + 1 + skip;
                        flow.handle(if breaks { link_failure() } else { outcome });
                    }
                    flashfleet::flow::Directive::Tell(_) => {}
                    flashfleet::flow::Directive::Finished(result) => break result,
                }
            };
            assert_eq!(result.verdict, Verdict::Passed, "{broken} {nth}: {:?}", result.cause);
            assert_eq!(board.resets, 2, "{broken} {nth}: {}", board.trail());
        }
    }
}

#[test]
fn an_upload_that_breaks_off_for_good_says_that_no_application_is_left() {
    let mut board = Board::new();
    board.instead = vec![("upload-to-primary", link_failure())];
    let walk = go(&mut board);
    assert_eq!((walk.result.verdict, walk.code()), (Verdict::Error, "link.no_answer"));
    let help = walk.result.cause.expect("a cause").help;
    assert!(help.contains("no application boots") && help.contains("starts_in: bootloader"), "{help}");
}

#[test]
fn what_the_bootloader_does_not_list_is_not_booted() {
    let mut board = Board::new();
    board.drops_uploads = true;
    let walk = go(&mut board);
    assert_eq!((walk.code(), board.resets), ("image.not_in_slot", 1));
    let mut board = Board::new();
    let none = Outcome::State(flashfleet::smp::message::image::ImageState::default());
    // Before the upload it lists nothing either: the slot may be empty.
    board.in_recovery = true;
    board.instead = vec![("read", none.clone()), ("read", none)];
    let walk = super::board::walk(&mut board, &starting_there());
    assert_eq!((walk.code(), board.resets), ("image.not_accepted", 0));
}

#[test]
fn a_device_that_stays_in_its_bootloader_or_runs_another_image_did_not_pass() {
    let mut board = Board::new();
    board.boots = false;
    let walk = go(&mut board);
    assert_eq!((walk.code(), walk.result.verdict), ("device.still_in_bootloader", Verdict::Failed));
    assert_eq!(board.resets, 2);

    let mut board = Board::new();
    let other = flashfleet::smp::message::image::ImageSlot { active: true, ..slot(1, "3.0.0", &[9; 32]) };
    let lists =
        |images| Outcome::State(flashfleet::smp::message::image::ImageState { images, split_status: None });
    board.in_recovery = true;
    let there = lists(vec![slot(0, board.image.version(), board.image.hash())]);
    board.instead = vec![("read", lists(Vec::new())), ("read", there), ("read", lists(vec![other]))];
    let walk = super::board::walk(&mut board, &starting_there());
    assert_eq!(walk.code(), "image.other_runs");
}

#[test]
fn a_confirmed_image_must_be_confirmed_after_the_bootloader_was_left() {
    for held in [true, false] {
        let mut board = Board::new();
        let mut steps = default_steps();
        steps.insert(3, Step::Reset { force: false, boot_mode: Some(1) });
        let act = |action: &Action| {
            let outcome = board.act(action);
            // Out of the test boot, into the bootloader, out of it.
            board.primary.confirmed &= held || board.resets < 3;
            outcome
        };
        let walk = walk_by(act, &config(steps));
        assert_eq!(walk.code(), if held { "" } else { "image.confirm_not_held" });
    }
}

#[test]
fn an_application_without_an_image_list_is_a_pass_that_proves_nothing() {
    let mut board = Board::new();
    board.instead = vec![("read", refused())];
    assert_eq!(go(&mut board).result.verdict, Verdict::Passed, "it can be reset into its bootloader");

    let mut board = Board::new();
    board.in_recovery = true;
    let there = board.state();
    board.instead = vec![("read", Outcome::State(there)), ("read", refused()), ("read", refused())];
    let walk = walk(&mut board, &starting_there());
    assert_eq!(walk.result.verdict, Verdict::Passed);
    assert!(notes(&walk).contains("nothing proves that what was uploaded runs"), "{}", notes(&walk));
}
