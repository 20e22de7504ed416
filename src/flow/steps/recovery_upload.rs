//! The upload step where the bootloader answers: into the primary slot, so there is no test boot and no way back. Before it
//! the bootloader must be seen to answer, as an application would put the same upload into the secondary slot.

use std::sync::Arc;

use crate::cause::{Cause, Class};
use crate::flow::answerer::{Answerer, Inquired, Inquiry, not_in_bootloader};
use crate::flow::choice::{choose, choose_primary};
use crate::flow::facts::Place;
use crate::flow::proof::{Expected, Proof, examine, short_hash};
use crate::flow::slots::primary;
use crate::image::{Image, ImageSet, Member};
use crate::report::StepDetail;
use crate::smp::Time;
use crate::smp::message::image::{ImageSlot, ImageState, SlotInfoResponse};

use super::{Action, Facts, Outcome, StepMachine, Turn, unexpected};

/// What to do where an upload into the primary slot broke off.
const NO_APPLICATION: &str = "the primary slot was being written, so no application boots until an upload there is whole; a \
    board that does not stay in its bootloader by itself has to be brought there again (button), then run again with \
    `starts_in: bootloader`";

#[derive(Debug)]
enum Phase {
    Start,
    Inquire(Inquiry),
    Slots,
    Upload,
    ReadBack,
}

/// Has the bootloader write one image into its primary slot.
#[derive(Debug)]
pub(in crate::flow) struct RecoveryUploadStep {
    name: String,
    members: Vec<Member>,
    image_number: u32,
    force: bool,
    image: Option<Arc<Image>>,
    /// Part of the image may be in the primary slot.
    began: bool,
    phase: Phase,
    detail: StepDetail,
}

impl RecoveryUploadStep {
    pub(in crate::flow) fn new(name: String, set: &ImageSet, image_number: u32, force: bool) -> Self {
        Self {
            name,
            members: set.for_image(image_number).into_iter().cloned().collect(),
            image_number,
            force,
            image: None,
            began: false,
            phase: Phase::Start,
            detail: StepDetail::default(),
        }
    }

    fn broke(&mut self, mut cause: Cause) -> Turn {
        if self.began && cause.class.is_retryable() {
            cause.help = NO_APPLICATION.to_owned();
        }
        Turn::Broke(cause, Box::new(std::mem::take(&mut self.detail)))
    }

    fn held(&mut self) -> Turn {
        Turn::held(std::mem::take(&mut self.detail))
    }

    /// What must run once the bootloader was left.
    fn expect(&mut self, facts: &mut Facts, image: &Arc<Image>) {
        facts.expected.insert(self.image_number, Expected::of(self.image_number, image));
        facts.proven.remove(&self.image_number);
        self.image = Some(Arc::clone(image));
    }

    fn told(&mut self, facts: &mut Facts, answerer: Answerer, state: Option<ImageState>) -> Turn {
        if answerer == Answerer::Application {
            return self.application(facts, state);
        }
        let image = match choose_primary(&self.members, self.image_number) {
            Ok(image) => image,
            Err(cause) => return self.broke(cause),
        };
        self.expect(facts, &image);
        facts.place = Place::Bootloader;
        let note = answerer.note().map(str::to_owned);
        self.detail.notes.extend(note.filter(|note| !self.detail.notes.contains(note)));
        let there = state.as_ref().and_then(|state| primary(state, self.image_number));
        facts.note_before(self.image_number, there);
        if !self.force && there.and_then(|slot| slot.hash.as_deref()) == Some(image.hash()) {
            if self.began {
                self.detail.notes.push("the upload is whole, although its end was not heard".to_owned());
            } else {
                self.detail.skipped = Some("already in the primary slot".to_owned());
            }
            return self.held();
        }
        self.phase = Phase::Slots;
        Turn::Do(Action::ReadSlots)
    }

    /// The application answers. Where it is what would be uploaded, all is done.
    fn application(&mut self, facts: &mut Facts, state: Option<ImageState>) -> Turn {
        let image = state.as_ref().and_then(|state| choose(&self.members, state, self.image_number).ok());
        let (Some(state), Some(image)) = (state.as_ref(), image) else {
            return self.broke(not_in_bootloader(state.as_ref(), false));
        };
        facts.note_state(state.clone());
        let expected = Expected::of(self.image_number, &image);
        let runs = examine(state, &expected, facts.boot_mode()) == Proof::Runs { confirmed: true };
        if !runs || self.force || self.began {
            return self.broke(not_in_bootloader(Some(state), false));
        }
        facts.expected.insert(self.image_number, expected);
        facts.prove(true);
        facts.place = Place::NotNeeded;
        self.detail.running = facts.running(self.image_number);
        self.detail.skipped = Some("already running and confirmed".to_owned());
        self.held()
    }

    /// What the bootloader has to be told for the primary slot, or why the image cannot go there.
    fn upload_id(&self, slots: Option<&SlotInfoResponse>) -> Result<u32, Cause> {
        let images = slots.map(|slots| &slots.images[..]).unwrap_or_default();
        let Some(image) = images.iter().find(|image| image.image == self.image_number) else {
            return match (self.image_number, images) {
                // 0 is the first image's primary slot whether or not each slot has a number of its own
                // (`MCUBOOT_SERIAL_DIRECT_IMAGE_UPLOAD`); 1 may be that as well.
                (0, []) => Ok(0),
                (number, []) => Err(Cause::new(
                    Class::Device,
                    "device.upload_slot_not_known",
                    format!(
                        "expected the bootloader to say how the primary slot of image {number} is called, it does not: {number} \
                         may be that slot, or one of image 0"
                    ),
                    "build MCUboot with slot information (MCUBOOT_SERIAL_IMG_GRP_SLOT_INFO), or update this image through the \
                     application",
                )),
                (number, images) => {
                    let has = images.iter().map(|image| image.image.to_string()).collect::<Vec<_>>();
                    Err(Cause::new(
                        Class::Device,
                        "device.no_such_image",
                        format!(
                            "expected the device to have an image {number}, its image numbers are {}",
                            has.join(", ")
                        ),
                        "give an image that was built for this device, or another `image_number`",
                    ))
                }
            };
        };
        let slot = image.slots.iter().find(|slot| slot.slot == 0);
        let size = self.image.as_ref().map_or(0, |image| image.bytes().len() as u64);
        let limit = [slot.and_then(|slot| slot.size), image.max_image_size].into_iter().flatten().min();
        if let Some(limit) = limit.filter(|limit| size > *limit) {
            return Err(Cause::new(
                Class::Image,
                "image.too_large",
                format!("expected an image of at most {limit} bytes for the primary slot, got {size}"),
                "build a smaller image, or check that it is meant for this device",
            ));
        }
        match (slot.and_then(|slot| slot.upload_image_id), self.image_number) {
            (Some(id), _) => Ok(id),
            (None, number) => Ok(number),
        }
    }

    /// The bootloader must list what it was given, where it lists hashes: it leaves out what it would not boot.
    fn read_back(&mut self, state: &ImageState) -> Turn {
        let Some(image) = self.image.clone() else { return unexpected("upload", None) };
        match primary(state, self.image_number) {
            Some(slot) if slot.hash.as_deref() == Some(image.hash()) => self.held(),
            Some(ImageSlot { hash: None, version, .. }) => {
                let note = format!(
                    "the bootloader lists version {version} in the primary slot and no hash: whether it is this image shows only \
                     the application"
                );
                self.detail.notes.push(note);
                self.held()
            }
            Some(ImageSlot { hash: Some(hash), version, .. }) => self.broke(Cause::new(
                Class::Image,
                "image.not_in_slot",
                format!(
                    "expected {} ({}) in the primary slot after the upload, the bootloader lists {version} ({})",
                    image.version(),
                    short_hash(image.hash()),
                    short_hash(hash)
                ),
                "the upload did not survive on the device: check its flash and the link, then run again",
            )),
            None if image.hash_checked() => self.broke(Cause::new(
                Class::Image,
                "image.not_accepted",
                format!(
                    "expected {} ({}) in the primary slot after the upload, the bootloader lists no image there: it would not \
                     boot this one",
                    image.version(),
                    short_hash(image.hash())
                ),
                "check that it is signed with this device's key and built for this device. It was not reset: it is still in its \
                 bootloader, so upload another image (`starts_in: bootloader`)",
            )),
            None => {
                let note = "the bootloader does not list the encrypted image that it was given: whether it boots shows only \
                            the application";
                self.detail.notes.push(note.to_owned());
                self.held()
            }
        }
    }
}

impl StepMachine for RecoveryUploadStep {
    fn next(&mut self, facts: &mut Facts, _now: Time, outcome: Option<Outcome>) -> Turn {
        let phase = std::mem::replace(&mut self.phase, Phase::Start);
        match (phase, outcome) {
            (Phase::Start, None) => {
                let (inquiry, action) = Inquiry::begin();
                self.phase = Phase::Inquire(inquiry);
                Turn::Do(action)
            }
            (Phase::Inquire(mut inquiry), outcome) => match inquiry.next(outcome) {
                Some(Inquired::Do(action)) => {
                    self.phase = Phase::Inquire(inquiry);
                    Turn::Do(action)
                }
                Some(Inquired::Told(answerer, state)) => self.told(facts, answerer, state),
                Some(Inquired::Broke(cause)) => self.broke(cause),
                None => unexpected("upload", None),
            },
            (Phase::Slots, Some(Outcome::Slots(slots))) => match self.upload_id(slots.as_ref()) {
                Err(cause) => self.broke(cause),
                Ok(upload_id) => {
                    self.phase = Phase::Upload;
                    self.began = true;
                    Turn::Do(Action::UploadToPrimary {
                        image: self.name.clone(),
                        hash: self.image.as_ref().map(|image| image.hash().to_vec()).unwrap_or_default(),
                        image_number: self.image_number,
                        upload_id,
                    })
                }
            },
            (Phase::Upload, Some(Outcome::Uploaded { figures, notes })) => {
                facts.changed = true;
                facts.note_upload(figures.clone());
                self.detail.upload = Some(figures);
                self.detail.notes.extend(notes);
                self.phase = Phase::ReadBack;
                Turn::Do(Action::ReadState)
            }
            (Phase::ReadBack, Some(Outcome::State(state))) => self.read_back(&state),
            (Phase::ReadBack, Some(Outcome::Failed(cause))) if cause.class == Class::Device => {
                let note = "the bootloader has no image list: whether it would boot the image shows only the application";
                self.detail.notes.push(note.to_owned());
                self.held()
            }
            (_, Some(Outcome::Failed(cause))) => self.broke(cause),
            (_, outcome) => unexpected("upload", outcome.as_ref()),
        }
    }

    fn retry(&mut self) {
        // The recovery resumes nothing: a whole image in the slot is found, all else starts over.
        self.phase = Phase::Start;
    }
}
