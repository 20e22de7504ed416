//! Devices with several images, and pairs for direct XIP, against a model of them: each image has two slots, and every
//! pending one is swapped in, or run where it lies, at the next reset.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use flashfleet::cause::{Cause, Class};
use flashfleet::flow::{Action, DeviceResult, Directive, Flow, FlowConfig, FlowEvent, Outcome, StepEnded};
use flashfleet::image::{Image, ImageBuilder, ImageSet, PackageInspection, TlvType, Version};
use flashfleet::plan::Step;
use flashfleet::report::{Departure, Verdict};
use flashfleet::smp::message::image::{ImageSlot, ImageState, SlotInfoImage, SlotInfoResponse};
use serde_json::json;

use super::board::{figures, reset, slot};
use super::package::pack;

/// One image of a device: slot numbers as indices, and which one is in use.
#[derive(Debug, Clone)]
struct Pair {
    slots: [Option<ImageSlot>; 2],
    used: usize,
}

/// A device with several images.
#[derive(Debug)]
struct Device {
    pairs: Vec<Pair>,
    /// Images run where they lie.
    xip: bool,
    /// Only the first image's running slot is marked active, as older servers do.
    marks_first_only: bool,
    /// Image numbers whose pending image does not boot.
    stubborn: Vec<usize>,
    /// Only the image that executes may be confirmed, as most servers are built.
    confirms_first_only: bool,
    /// It says which images it has.
    tells_slots: bool,
    set: Arc<ImageSet>,
    actions: Vec<Action>,
}

impl Device {
    /// Every image runs version 1.0.0, confirmed; nothing is in the other slots.
    fn new(count: usize, set: ImageSet) -> Self {
        let old = |number: usize| ImageSlot {
            image: u32::try_from(number).unwrap(),
            confirmed: true,
            ..slot(0, "1.0.0", &[u8::try_from(number).unwrap() + 1; 32])
        };
        let pairs = (0..count).map(|number| Pair { slots: [Some(old(number)), None], used: 0 }).collect();
        let set = Arc::new(set);
        Self {
            pairs,
            xip: false,
            marks_first_only: false,
            stubborn: Vec::new(),
            confirms_first_only: false,
            tells_slots: false,
            set,
            actions: Vec::new(),
        }
    }

    fn state(&self) -> ImageState {
        let mut images = Vec::new();
        for (number, pair) in self.pairs.iter().enumerate() {
            for (index, slot) in pair.slots.iter().enumerate() {
                let Some(slot) = slot.clone() else { continue };
                let active = index == pair.used && (number == 0 || !self.marks_first_only);
                images.push(ImageSlot { slot: u32::try_from(index).unwrap(), active, ..slot });
            }
        }
        ImageState { images, split_status: None }
    }

    fn find(&mut self, hash: &[u8]) -> &mut ImageSlot {
        let mut slots = self.pairs.iter_mut().flat_map(|pair| pair.slots.iter_mut().flatten());
        slots.find(|slot| slot.hash.as_deref() == Some(hash)).expect("a slot with this hash")
    }

    fn reboot(&mut self) {
        for (number, pair) in self.pairs.iter_mut().enumerate() {
            let other = 1 - pair.used;
            let pending = pair.slots[other].as_ref().is_some_and(|slot| slot.pending);
            let unconfirmed = pair.slots[pair.used].as_ref().is_some_and(|slot| !slot.confirmed);
            if let Some(slot) = pair.slots[other].as_mut() {
                slot.pending = false;
            }
            if (!pending && !unconfirmed) || self.stubborn.contains(&number) {
                continue;
            }
            if self.xip {
                pair.used = other
            } else {
                pair.slots.swap(0, 1)
            }
            if pending {
                pair.slots[1 - pair.used].as_mut().expect("what ran before").confirmed = true;
            }
        }
    }

    fn act(&mut self, action: &Action) -> Outcome {
        self.actions.push(action.clone());
        match action {
            Action::ReadState => Outcome::State(self.state()),
            Action::ReadMode => {
                Outcome::Mode { mode: Some(if self.xip { 5 } else { 3 }), no_downgrade: false }
            }
            Action::ReadSlots => {
                let image = |number| SlotInfoImage {
                    image: u32::try_from(number).unwrap(),
                    ..SlotInfoImage::default()
                };
                let images = (0..self.pairs.len()).map(image).collect();
                Outcome::Slots(self.tells_slots.then_some(SlotInfoResponse { images }))
            }
            Action::Upload { hash, image_number, .. } => {
                let image = self.set.by_hash(hash).expect("an image of the plan");
                let pair = &mut self.pairs[*image_number as usize];
                let new = ImageSlot { image: *image_number, ..slot(0, image.version(), image.hash()) };
                pair.slots[1 - pair.used] = Some(new);
                Outcome::Uploaded { figures: figures(), notes: Vec::new() }
            }
            Action::MarkForTest { hash } => {
                self.find(hash).pending = true;
                Outcome::State(self.state())
            }
            Action::Confirm { hash } if self.confirms_first_only && self.find(hash).image > 0 => {
                let code = "smp.img_mgmt.image_confirmation_denied";
                Outcome::Failed(Cause::new(
                    Class::Device,
                    code,
                    "expected to confirm, got a refusal",
                    "test first",
                ))
            }
            Action::Confirm { hash } => {
                self.find(hash).confirmed = true;
                for pair in &mut self.pairs {
                    let used = pair.slots[pair.used].as_ref().is_some_and(|slot| slot.confirmed);
                    if let (true, Some(other)) = (used, pair.slots[1 - pair.used].as_mut()) {
                        other.confirmed = false;
                    }
                }
                Outcome::State(self.state())
            }
            Action::Reset { .. } => {
                self.reboot();
                Outcome::ResetSent { answered: true }
            }
            Action::AwaitReturn { .. } => Outcome::Returned { left: Departure::Silent },
            other => panic!("{other:?}"),
        }
    }

    fn count(&self, wanted: impl Fn(&Action) -> bool) -> usize {
        self.actions.iter().filter(|action| wanted(action)).count()
    }

    fn uploads(&self) -> Vec<(u32, Vec<u8>)> {
        let upload = |action: &Action| match action {
            Action::Upload { image_number, hash, .. } => Some((*image_number, hash.clone())),
            _ => None,
        };
        self.actions.iter().filter_map(upload).collect()
    }
}

fn run(device: &mut Device, steps: Vec<Step>) -> (DeviceResult, Vec<StepEnded>) {
    let config = FlowConfig {
        steps,
        images: BTreeMap::from([("app".to_owned(), Arc::clone(&device.set))]),
        quiet: Duration::from_secs(1),
        return_within: Duration::from_secs(30),
        attempts: 1,
        can_recover: false,
        starts_in_bootloader: false,
        bootloader: flashfleet::plan::Auto::Auto,
    };
    let mut flow = Flow::new(&config);
    let (mut now, mut ended) = (Duration::ZERO, Vec::new());
    for _ in 0..500 {
        now += Duration::from_millis(100);
        match flow.next(now) {
            Directive::Perform(Action::Wait(time)) => {
                now += time;
                flow.handle(Outcome::Done);
            }
            Directive::Perform(action) => flow.handle(device.act(&action)),
            Directive::Tell(FlowEvent::StepEnded(step)) => ended.push(*step),
            Directive::Tell(_) => {}
            Directive::Finished(result) => return (result, ended),
        }
    }
    panic!("the flow did not end: {:?}", device.actions);
}

fn image(version: &str, seed: u8) -> ImageBuilder {
    ImageBuilder::new().version(version).payload(&[seed; 64])
}

/// The value of a DEPENDENCY TLV.
fn needs(image_number: u8, version: &str) -> Vec<u8> {
    let version: Version = version.parse().unwrap();
    [&[image_number, 0, 0, 0][..], &version.to_bytes()].concat()
}

/// A package of images: image number, slot, image.
fn package(images: &[(u32, Option<u32>, Vec<u8>)]) -> ImageSet {
    let name = |index: usize| format!("{index}.bin");
    let file = |(index, (number, slot, _)): (usize, &(u32, Option<u32>, Vec<u8>))| json!({"file": name(index), "image_index": number.to_string(), "slot": slot});
    let files: Vec<_> = images.iter().enumerate().map(file).collect();
    let manifest = json!({"format-version": 0, "files": files}).to_string();
    let names: Vec<String> = (0..images.len()).map(name).collect();
    let entries = names.iter().zip(images).map(|(name, (_, _, bytes))| (name.as_str(), bytes.as_slice()));
    let entries: Vec<_> = entries.chain([("manifest.json", manifest.as_bytes())]).collect();
    let bytes = pack(&entries);
    ImageSet::of_package(PackageInspection::of_bytes(&bytes).unwrap()).unwrap()
}

fn upload_to(image_number: u32) -> Step {
    Step::Upload { image: "app".to_owned(), image_number, upgrade_only: false, force: false }
}

fn both() -> Vec<Step> {
    vec![upload_to(0), upload_to(1), Step::TestBoot, Step::Confirm, reset()]
}

fn hash(bytes: &[u8]) -> Vec<u8> {
    Image::from_bytes(bytes.to_vec()).unwrap().hash().to_vec()
}

#[test]
fn every_image_of_a_package_is_uploaded_marked_proved_and_confirmed() {
    for marks_first_only in [false, true] {
        let (app, net) = (image("2.0.0", 7).build(), image("3.0.0", 8).build());
        let mut device = Device::new(2, package(&[(0, None, app.clone()), (1, None, net.clone())]));
        device.marks_first_only = marks_first_only;
        let (result, ended) = run(&mut device, both());
        assert_eq!(result.verdict, Verdict::Passed, "{:?}", result.cause);
        assert_eq!(device.uploads(), [(0, hash(&app)), (1, hash(&net))], "in the package's order");
        assert_eq!(device.count(|action| matches!(action, Action::MarkForTest { .. })), 2);
        assert_eq!(device.count(|action| matches!(action, Action::Confirm { .. })), 2);
        // One for the test boot of both, one to see that they stay.
        assert_eq!(device.count(|action| matches!(action, Action::Reset { .. })), 2);
        for (pair, bytes) in device.pairs.iter().zip([&app, &net]) {
            let used = pair.slots[0].as_ref().unwrap();
            assert_eq!((used.hash.clone(), used.confirmed), (Some(hash(bytes)), true));
        }
        assert_eq!(ended.len(), 5);

        // The same again: nothing is left to do.
        let before = device.actions.len();
        let (result, _) = run(&mut device, both());
        assert_eq!((result.verdict, result.changed), (Verdict::Passed, false), "{:?}", result.cause);
        let reads = |action: &Action| matches!(action, Action::ReadState | Action::ReadMode);
        assert!(device.actions[before..].iter().all(reads), "{:?}", &device.actions[before..]);
    }
}

#[test]
fn an_image_that_the_device_does_not_have_is_refused_before_the_first_is_written() {
    let images = [(0, None, image("2.0.0", 7).build()), (1, None, image("3.0.0", 8).build())];
    let mut device = Device::new(1, package(&images));
    device.tells_slots = true;
    let (result, _) = run(&mut device, both());
    assert_eq!((result.verdict, result.changed), (Verdict::Failed, false));
    let cause = result.cause.unwrap();
    assert_eq!(cause.code, "device.no_such_image");
    assert!(cause.message.contains("an image 1, its image numbers are 0"), "{cause}");
    assert_eq!(device.uploads(), []);

    let mut device = Device::new(2, package(&images));
    device.tells_slots = true;
    assert_eq!(run(&mut device, both()).0.verdict, Verdict::Passed);
}

#[test]
fn one_image_that_does_not_boot_fails_the_device_and_confirms_nothing() {
    for stubborn in [0, 1] {
        let set = package(&[(0, None, image("2.0.0", 7).build()), (1, None, image("3.0.0", 8).build())]);
        let mut device = Device::new(2, set);
        device.stubborn = vec![stubborn];
        let (result, _) = run(&mut device, both());
        assert_eq!(result.verdict, Verdict::Failed);
        let cause = result.cause.unwrap();
        assert_eq!(cause.code, "image.reverted");
        assert!(cause.message.contains(&format!("to run as image {stubborn}")), "{cause}");
        assert_eq!(device.count(|action| matches!(action, Action::Confirm { .. })), 0);
    }
}

#[test]
fn a_server_that_does_not_confirm_other_images_leaves_all_of_them_on_test() {
    let set = package(&[(0, None, image("2.0.0", 7).build()), (1, None, image("3.0.0", 8).build())]);
    let mut device = Device::new(2, set);
    device.confirms_first_only = true;
    let (result, _) = run(&mut device, both());
    assert_eq!((result.verdict, result.on_test), (Verdict::Failed, true));
    assert!(result.cause.unwrap().help.contains("ALLOW_CONFIRM_NON_ACTIVE_IMAGE_ANY"));
    // Not a new image beside an old one: at the next reset both go back.
    assert!(device.pairs.iter().all(|pair| !pair.slots[0].as_ref().unwrap().confirmed));
}

#[test]
fn of_a_pair_the_one_for_the_slot_that_does_not_run_is_taken() {
    for used in [0, 1] {
        let pair = [image("2.0.0", 7).build(), image("2.0.0", 8).build()];
        let set = package(&[(0, Some(0), pair[0].clone()), (0, Some(1), pair[1].clone())]);
        let mut device = Device::new(1, set);
        device.xip = true;
        device.pairs[0].slots.swap(0, used);
        device.pairs[0].used = used;
        let steps = vec![upload_to(0), Step::TestBoot, Step::Confirm, reset()];
        let (result, _) = run(&mut device, steps.clone());
        assert_eq!(result.verdict, Verdict::Passed, "{:?}", result.cause);
        assert_eq!(device.uploads(), [(0, hash(&pair[1 - used]))], "slot {used} runs");
        assert_eq!(device.pairs[0].used, 1 - used);

        // Its other half is not taken for something newer.
        let (result, _) = run(&mut device, steps);
        assert_eq!((result.verdict, result.changed), (Verdict::Passed, false));
        assert_eq!(device.uploads().len(), 1);
    }
}

#[test]
fn half_a_pair_for_the_slot_that_runs_is_refused() {
    let mut device = Device::new(1, package(&[(0, Some(0), image("2.0.0", 7).build())]));
    device.xip = true;
    let (result, _) = run(&mut device, vec![upload_to(0)]);
    assert_eq!((result.verdict, result.changed), (Verdict::Failed, false));
    assert_eq!(result.cause.unwrap().code, "image.wrong_slot");
    assert_eq!(device.uploads(), []);
}

#[test]
fn a_dependency_that_the_device_does_not_meet_is_refused_before_anything_is_written() {
    let app = image("2.0.0", 7).protected_tlv(TlvType::DEPENDENCY, &needs(1, "1.0.1")).build();
    let steps = || vec![upload_to(0), Step::TestBoot];
    for marks_first_only in [false, true] {
        let mut device = Device::new(2, package(&[(0, None, app.clone())]));
        device.marks_first_only = marks_first_only;
        let (result, _) = run(&mut device, steps());
        assert_eq!((result.verdict, result.changed), (Verdict::Failed, false));
        let cause = result.cause.unwrap();
        assert_eq!(cause.code, "image.dependency_not_met");
        for part in ["image 1", "1.0.1 or later", "version 2.0.0 needs it", "the device runs 1.0.0"] {
            assert!(cause.message.contains(part), "{part:?} is missing in {cause}");
        }
        let reads = |action: &Action| matches!(action, Action::ReadState | Action::ReadMode);
        assert!(device.actions.iter().all(reads), "{:?}", device.actions);
    }

    // Met exactly.
    let met = image("2.0.0", 7).protected_tlv(TlvType::DEPENDENCY, &needs(1, "1.0.0")).build();
    let mut device = Device::new(2, package(&[(0, None, met)]));
    assert_eq!(run(&mut device, steps()).0.verdict, Verdict::Passed);
}

#[test]
fn what_the_plan_puts_beside_it_counts_and_not_what_runs() {
    let app = || image("2.0.0", 7).protected_tlv(TlvType::DEPENDENCY, &needs(1, "3.0.0"));
    for (net, verdict) in [("3.0.0", Verdict::Passed), ("2.9.0", Verdict::Failed)] {
        for app_first in [true, false] {
            let images = [(0, None, app().build()), (1, None, image(net, 8).build())];
            let mut device = Device::new(2, package(&images));
            let mut steps = both();
            if !app_first {
                steps.swap(0, 1);
            }
            let (result, _) = run(&mut device, steps);
            assert_eq!(result.verdict, verdict, "{net} {:?}", result.cause);
            if verdict == Verdict::Failed {
                let cause = result.cause.unwrap();
                assert_eq!(cause.code, "image.dependency_not_met");
                assert!(cause.message.contains("the plan puts 2.9.0"), "{cause}");
            }
        }
    }
    // What comes only after the boot does not count.
    let images = [(0, None, app().build()), (1, None, image("3.0.0", 8).build())];
    let mut device = Device::new(2, package(&images));
    let (result, _) = run(&mut device, vec![upload_to(0), Step::TestBoot, upload_to(1)]);
    assert_eq!(result.cause.unwrap().code, "image.dependency_not_met");
}

#[test]
fn what_cannot_be_known_of_a_dependency_is_said() {
    let cases = [
        (needs(1, "1.0.0"), "could not be checked"),
        ([&[0, 2, 0, 0][..], &Version::new(1, 0, 0, 0).to_bytes()].concat(), "was not checked"),
    ];
    for (value, says) in cases {
        let app = image("2.0.0", 7).protected_tlv(TlvType::DEPENDENCY, &value).build();
        let mut device = Device::new(1, package(&[(0, None, app)]));
        let (result, ended) = run(&mut device, vec![upload_to(0), Step::TestBoot]);
        assert_eq!(result.verdict, Verdict::Passed, "{:?}", result.cause);
        let notes = &ended[0].detail.notes;
        assert!(notes.len() == 1 && notes[0].contains(says), "{notes:?}");
    }
    // Enough without the build number.
    let app = image("2.0.0", 7).protected_tlv(TlvType::DEPENDENCY, &needs(1, "1.0.0+5")).build();
    let mut device = Device::new(2, package(&[(0, None, app)]));
    let (result, ended) = run(&mut device, vec![upload_to(0), Step::TestBoot]);
    assert_eq!(result.verdict, Verdict::Passed);
    assert!(
        ended[0].detail.notes[0].contains("does not compare build numbers"),
        "{:?}",
        ended[0].detail.notes
    );
}
