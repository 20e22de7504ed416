//! Devices whose bootloader does not swap: where the highest version boots (direct XIP, RAM load), where the new image
//! overwrites the old one, where the plan has to say so, and where neither can be.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::sync::Arc;

use flashfleet::cause::{Cause, Class};
use flashfleet::flow::{Action, FlowConfig, Outcome};
use flashfleet::image::{Flags, Image, ImageBuilder};
use flashfleet::plan::{Auto, Bootloader, Step};
use flashfleet::report::{Departure, Verdict};
use flashfleet::smp::message::image::{ImageSlot, ImageState, SlotInfoImage, SlotInfoResponse, SlotInfoSlot};
use rstest::rstest;

use crate::board::{
    Board, Walk, config, default_steps, figures, new_image, reset, set, slot, upload, walk, walk_by,
};

const XIP: Option<i32> = Some(4);
const RAM: Option<i32> = Some(6);

/// A board that boots the image of the highest version.
struct Highest {
    /// What each slot holds; flags are made for each list.
    slots: [Option<ImageSlot>; 2],
    active: usize,
    mode: Option<i32>,
    /// What is uploaded.
    image: Arc<Image>,
    /// The bootloader finds the new image damaged.
    refuses: bool,
    /// The bootloader passes over the new image.
    passes_over: bool,
    /// The new image never answers.
    hangs: bool,
    left: Departure,
    trail: Vec<&'static str>,
}

fn image(version: &str, flags: Flags) -> Arc<Image> {
    let bytes = ImageBuilder::new().version(version).flags(flags).payload(&[7; 64]).build();
    Arc::new(Image::from_bytes(bytes).expect("the builder makes valid images"))
}

impl Highest {
    /// Version 1.0.0 runs from slot 0, 2.0.0 is to be uploaded.
    fn new(mode: Option<i32>) -> Self {
        Self {
            slots: [Some(slot(0, "1.0.0", &[1; 32])), None],
            active: 0,
            mode,
            image: image("2.0.0", Flags::RAM_LOAD),
            refuses: false,
            passes_over: false,
            hangs: false,
            left: Departure::Silent,
            trail: Vec::new(),
        }
    }

    /// Version 1.0.0 runs from slot 1.
    fn from_the_second_slot(mode: Option<i32>) -> Self {
        Self { slots: [None, Some(slot(1, "1.0.0", &[1; 32]))], active: 1, ..Self::new(mode) }
    }

    fn version(&self, at: usize) -> Option<flashfleet::image::Version> {
        self.slots[at].as_ref().map(|slot| slot.version.parse().unwrap())
    }

    fn boot(&mut self) {
        let other = 1 - self.active;
        if self.refuses {
            self.slots[other] = None;
        }
        let higher = self.version(other) > self.version(self.active);
        if higher && !self.passes_over {
            self.active = other;
        }
    }

    fn list(&self) -> ImageState {
        let images = self.slots.iter().enumerate().filter_map(|(at, slot)| {
            let active = at == self.active;
            // As Zephyr shows a slot of a higher version with direct XIP.
            let pending = self.mode == XIP && !active && self.version(at) > self.version(self.active);
            let slot = slot.clone()?;
            Some(ImageSlot { active, confirmed: active, pending, permanent: pending, ..slot })
        });
        ImageState { images: images.collect(), split_status: None }
    }

    fn act(&mut self, action: &Action) -> Outcome {
        self.trail.push(Board::name(action));
        let other = 1 - self.active;
        let number = u32::try_from(other).unwrap();
        match action {
            Action::ReadState => Outcome::State(self.list()),
            Action::ReadMode => Outcome::Mode { mode: self.mode, no_downgrade: false },
            Action::ReadSlots => Outcome::Slots(Some(SlotInfoResponse {
                images: vec![SlotInfoImage {
                    slots: [0, 1]
                        .map(|slot| SlotInfoSlot {
                            slot,
                            size: Some(1000 * u64::from(slot + 1)),
                            ..SlotInfoSlot::default()
                        })
                        .to_vec(),
                    ..SlotInfoImage::default()
                }],
            })),
            Action::Upload { .. } => {
                self.slots[other] = Some(slot(number, self.image.version(), self.image.hash()));
                Outcome::Uploaded { figures: figures(), notes: Vec::new() }
            }
            Action::Erase { slot } => {
                assert_eq!(*slot, number, "only the slot that does not run is ever erased");
                self.slots[other] = None;
                Outcome::Done
            }
            Action::Reset { .. } => {
                self.boot();
                Outcome::ResetSent { answered: true }
            }
            Action::AwaitReturn { .. } if self.hangs => {
                Outcome::NeverReturned { left: self.left, seen: None }
            }
            Action::AwaitReturn { .. } => Outcome::Returned { left: self.left },
            Action::Wait(_) => Outcome::Done,
            other => Outcome::Failed(Cause::new(
                Class::Device,
                "smp.mgmt.not_supported",
                format!("expected no {other:?}"),
                "this device has no marks",
            )),
        }
    }

    fn trail(&self) -> String {
        self.trail.join(" ")
    }
}

fn told(bootloader: Bootloader, image: &Arc<Image>, steps: Vec<Step>) -> FlowConfig {
    let mut config = FlowConfig { bootloader: Auto::Fixed(bootloader), ..config(steps) };
    config.images.insert("app".to_owned(), set(Arc::clone(image)));
    config
}

fn go(board: &mut Highest, steps: Vec<Step>) -> Walk {
    let image = Arc::clone(&board.image);
    let mut config = config(steps);
    config.images.insert("app".to_owned(), set(image));
    walk_by(|action| board.act(action), &config)
}

fn notes(walk: &Walk) -> String {
    walk.ended.iter().flat_map(|step| step.detail.notes.clone()).collect::<Vec<_>>().join("; ")
}

#[rstest]
#[case::xip(Highest::new(XIP), "direct XIP")]
#[case::ram(Highest::new(RAM), "RAM load")]
#[case::xip_from_the_second_slot(Highest::from_the_second_slot(XIP), "direct XIP")]
#[case::ram_from_the_second_slot(Highest::from_the_second_slot(RAM), "RAM load")]
fn a_higher_version_is_proven_by_its_hash_with_no_mark_and_no_confirm(
    #[case] mut board: Highest,
    #[case] mode: &str,
) {
    let from = board.active;
    let walk = go(&mut board, default_steps());
    assert_eq!(walk.result.verdict, Verdict::Passed, "{:?}", walk.result.cause);
    assert_eq!(board.trail(), "read mode slots upload read read reset await read read reset await read");
    assert_eq!(board.active, 1 - from);
    assert!(!walk.result.on_test, "nothing reverts");
    let after = walk.result.images[0].after.clone().unwrap();
    assert_eq!(after.hash, Some(hex::encode(board.image.hash())));
    let notes = notes(&walk);
    assert!(notes.contains(mode) && notes.contains("has no confirm"), "{notes}");
    assert!(notes.contains("whether it works or not"), "what is not proven is said: {notes}");
}

#[rstest]
#[case::lower(Highest::new(RAM), "0.9.0", "image.never_boots")]
#[case::equal(Highest::new(RAM), "1.0.0", "image.never_boots")]
#[case::equal_xip(Highest::new(XIP), "1.0.0", "image.never_boots")]
#[case::lower_into_the_first_slot(Highest::from_the_second_slot(XIP), "0.9.9", "image.never_boots")]
// Of equal versions the one in slot 0 boots.
#[case::equal_into_the_first_slot(Highest::from_the_second_slot(RAM), "1.0.0", "")]
#[case::another_build(Highest::new(RAM), "1.0.0+7", "")]
fn a_version_that_would_never_boot_is_refused_before_a_byte_is_sent(
    #[case] mut board: Highest,
    #[case] version: &str,
    #[case] code: &str,
) {
    board.image = image(version, Flags::RAM_LOAD);
    let walk = go(&mut board, vec![upload()]);
    assert_eq!(walk.code(), code, "{:?}", walk.result.cause);
    assert_eq!(board.trail().contains("upload"), code.is_empty());
    assert_eq!(walk.result.changed, code.is_empty());
    assert_eq!(notes(&walk).contains("build numbers"), version.contains('+'), "{}", notes(&walk));
}

#[test]
fn ram_load_refuses_an_image_that_is_not_for_ram() {
    let mut board = Highest { image: image("2.0.0", Flags::default()), ..Highest::new(RAM) };
    let walk = go(&mut board, default_steps());
    assert_eq!((walk.code(), walk.result.changed), ("image.not_for_ram", false));
    let mut board = Highest { image: image("2.0.0", Flags::default()), ..Highest::new(XIP) };
    assert_eq!(go(&mut board, default_steps()).result.verdict, Verdict::Passed);
}

#[test]
fn a_higher_version_in_the_other_slot_is_cleared_where_the_wanted_one_runs() {
    let mut board = Highest::new(RAM);
    board.slots = [Some(slot(0, "2.0.0", board.image.hash())), Some(slot(1, "3.0.0", &[3; 32]))];
    let walk = go(&mut board, default_steps());
    assert_eq!(walk.result.verdict, Verdict::Passed, "{:?}", walk.result.cause);
    assert_eq!(board.trail(), "read mode erase read read read reset await read");
    assert!(walk.result.changed && notes(&walk).contains("erased slot 1: 3.0.0"), "{}", notes(&walk));

    // One that would not win stays.
    let mut board = Highest::new(RAM);
    board.slots = [Some(slot(0, "2.0.0", board.image.hash())), Some(slot(1, "1.0.0", &[3; 32]))];
    let walk = go(&mut board, default_steps());
    assert_eq!((board.trail(), walk.result.changed), ("read mode read read read".to_owned(), false));
}

#[test]
fn an_image_that_is_there_already_is_booted_without_an_upload() {
    let mut board = Highest::new(XIP);
    board.slots[1] = Some(slot(1, "2.0.0", board.image.hash()));
    let walk = go(&mut board, default_steps());
    assert_eq!(walk.result.verdict, Verdict::Passed, "{:?}", walk.result.cause);
    assert!(board.trail().starts_with("read mode read reset"), "{}", board.trail());
}

#[test]
fn an_image_that_the_bootloader_erased_is_told_as_not_booted() {
    let mut board = Highest { refuses: true, ..Highest::new(RAM) };
    let walk = go(&mut board, default_steps());
    assert_eq!((walk.result.verdict, walk.code()), (Verdict::Failed, "image.not_booted"));
    assert!(walk.result.cause.as_ref().unwrap().help.contains("erased it"), "{:?}", walk.result.cause);
    assert!(board.trail().ends_with("reset await read"), "{}", board.trail());
}

#[rstest]
#[case::seen_to_leave(Departure::Silent, false)]
#[case::never_seen_to_leave(Departure::None, true)]
fn an_image_that_the_bootloader_passed_over_is_looked_for_until_the_time_is_over(
    #[case] left: Departure,
    #[case] perhaps: bool,
) {
    let mut board = Highest { passes_over: true, left, ..Highest::new(XIP) };
    let walk = go(&mut board, default_steps());
    assert_eq!((walk.result.verdict, walk.code()), (Verdict::Failed, "image.not_booted"));
    let message = walk.result.cause.as_ref().unwrap().message.clone();
    assert_eq!(message.contains("never rebooted"), perhaps, "{message}");
    assert_eq!(board.trail.iter().filter(|name| **name == "reset").count(), 1, "a reset is not repeated");
    assert!(board.trail().ends_with("wait read wait read"), "{}", board.trail());
}

#[test]
fn an_image_that_never_answers_fails_with_what_was_not_proven() {
    let mut board = Highest { hangs: true, ..Highest::new(RAM) };
    let walk = go(&mut board, default_steps());
    assert_eq!(walk.code(), "device.never_returned");
    assert!(notes(&walk).contains("whether it works or not"), "{}", notes(&walk));
}

#[rstest]
#[case(None)]
#[case(Some(-1))]
fn a_device_that_does_not_tell_is_taken_at_the_plans_word(#[case] mode: Option<i32>) {
    let mut board = Highest { mode, ..Highest::new(RAM) };
    let config = told(Bootloader::RamLoad, &board.image, default_steps());
    let walk = walk_by(|action| board.act(action), &config);
    assert_eq!(walk.result.verdict, Verdict::Passed, "{:?}", walk.result.cause);
    assert!(!board.trail().contains("mark"), "{}", board.trail());
    assert!(notes(&walk).contains("RAM load, as the plan says"), "{}", notes(&walk));

    // Nobody says: an image for RAM is not tried with marks.
    let mut board = Highest { mode, ..Highest::new(RAM) };
    let walk = go(&mut board, default_steps());
    assert_eq!((walk.code(), walk.result.changed), ("device.mode_unknown", false));
    // Nor does another image get far, and the way on is told.
    let mut board = Highest { mode, image: image("2.0.0", Flags::default()), ..Highest::new(XIP) };
    let walk = go(&mut board, default_steps());
    assert_eq!(walk.code(), "smp.mgmt.not_supported");
    assert!(walk.result.cause.as_ref().unwrap().help.contains("`bootloader:"), "{:?}", walk.result.cause);
}

#[test]
fn a_device_that_says_otherwise_than_the_plan_is_not_written_to() {
    let mut board = Board::new();
    let config = told(Bootloader::RamLoad, &image("2.0.0", Flags::RAM_LOAD), default_steps());
    let walked = walk(&mut board, &config);
    assert_eq!((walked.result.verdict, walked.code()), (Verdict::Failed, "device.other_mode"));
    assert_eq!((board.trail(), walked.result.changed), ("read mode".to_owned(), false));
}

#[test]
fn a_skipped_reset_says_that_the_image_stays() {
    for permanent in [false, true] {
        let mut board = Highest::new(RAM);
        let walk = go(&mut board, vec![upload(), Step::Activate { permanent, boot: false }]);
        assert_eq!(walk.result.verdict, Verdict::Passed, "{:?}", walk.result.cause);
        assert_eq!(board.trail(), "read mode slots upload read read");
        let notes = notes(&walk);
        assert!(notes.contains("and stays") && !notes.contains("reverts"), "{notes}");
    }
}

#[test]
fn a_version_that_is_not_higher_is_refused_with_direct_xip_and_revert_too() {
    for (version, code) in [("2.0.0", "image.never_boots"), ("1.0.0", "")] {
        let mut board = Board { mode: Some(5), ..Board::new() };
        board.primary.version = version.to_owned();
        let walked = walk(&mut board, &config(vec![upload()]));
        assert_eq!(walked.code(), code, "{:?}", walked.result.cause);
        assert_eq!(board.trail().contains("upload"), code.is_empty());
    }
}

/// Overwriting: what is marked is installed for good.
fn overwriting() -> Board {
    Board { mode: Some(2), ..Board::new() }
}

#[test]
fn overwriting_never_says_that_anything_reverts() {
    let mut board = overwriting();
    let walked = walk(&mut board, &config(vec![upload(), Step::TestBoot]));
    assert_eq!(walked.result.verdict, Verdict::Passed, "{:?}", walked.result.cause);
    assert!(!walked.result.on_test, "the model's list says not confirmed, and still nothing reverts");
    let said = notes(&walked);
    assert!(said.contains("nothing goes back to the old one"), "{said}");

    let mut board = overwriting();
    let walked = walk(&mut board, &config(vec![upload(), Step::Activate { permanent: false, boot: false }]));
    let said = notes(&walked);
    assert!(said.contains("and stays") && !said.contains("reverts"), "{said}");
}

#[test]
fn overwriting_does_not_install_somebody_elses_image_to_get_rid_of_it() {
    let mut board = overwriting();
    board.secondary = Some(ImageSlot { pending: true, ..slot(1, "3.0.0", &[3; 32]) });
    let walked = walk(&mut board, &config(default_steps()));
    assert_eq!((walked.code(), board.resets), ("device.pending_without_revert", 0));
    assert!(!walked.result.changed);
}

#[test]
fn overwriting_refused_by_the_bootloader_is_not_called_a_revert() {
    let mut board = Board { boot: crate::board::Boot::Reverts, ..overwriting() };
    let walked = walk(&mut board, &config(default_steps()));
    assert_eq!((walked.result.verdict, walked.code()), (Verdict::Failed, "image.not_booted"));
}

#[test]
fn an_older_version_is_refused_where_the_device_says_that_its_bootloader_would() {
    for (version, no_downgrade, code) in
        [("3.0.0", true, "image.downgrade"), ("3.0.0", false, ""), ("2.0.0", true, "")]
    {
        let mut board = Board { no_downgrade, ..Board::new() };
        board.primary.version = version.to_owned();
        let walked = walk(&mut board, &config(vec![upload()]));
        assert_eq!(walked.code(), code, "{version}: {:?}", walked.result.cause);
        assert_eq!(walked.result.changed, code.is_empty());
    }
}

#[test]
fn a_reset_later_on_must_find_the_image_again() {
    let mut board = Highest::new(RAM);
    let image = Arc::clone(&board.image);
    let mut config = config(vec![upload(), Step::TestBoot, reset()]);
    config.images.insert("app".to_owned(), set(image));
    let mut resets = 0;
    let walk = walk_by(
        |action| {
            if matches!(action, Action::Reset { .. }) {
                resets += 1;
                if resets == 2 {
                    // Somebody put a higher version beside it.
                    board.slots[0] = Some(slot(0, "9.0.0", &[9; 32]));
                }
            }
            board.act(action)
        },
        &config,
    );
    assert_eq!((walk.result.verdict, walk.code()), (Verdict::Failed, "image.not_booted"));
    assert_ne!(new_image().hash(), board.image.hash());
}
