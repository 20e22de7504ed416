//! The upload step: look, settle the slots, check the size, upload, and read back that it is there.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::cause::{Cause, Class};
use crate::flow::BootMode;
use crate::flow::choice::{choose, missing};
use crate::flow::dependency;
use crate::flow::mode::settle;
use crate::flow::proof::{Expected, short_hash};
use crate::flow::slots::{SlotDecision, active, decide};
use crate::flow::version::{VersionDecision, decide_by_version, known_or_plain, must_win};
use crate::image::{Image, ImageSet, Member, Version};
use crate::report::StepDetail;
use crate::smp::Time;
use crate::smp::message::image::{ImageState, SlotInfoResponse};

use super::reboot::{Reboot, RebootTurn};
use super::{Action, Facts, Outcome, StepMachine, Turn, unexpected};

/// Resets that a device may be given to free its secondary slot: a pending image is swapped in by the first and reverted
/// by the second; the third is for a device that was on test before that.
const MAX_SETTLING_RESETS: u32 = 3;

#[derive(Debug)]
enum Phase {
    Start,
    Look,
    Mode,
    Settle(Reboot),
    Clear,
    Slots,
    Upload,
    ReadBack,
}

/// Puts one image into the secondary slot.
#[derive(Debug)]
pub(in crate::flow) struct UploadStep {
    name: String,
    /// What the plan has for this image number.
    members: Vec<Member>,
    /// The one of them for this device, once its slots are known.
    image: Option<Arc<Image>>,
    /// Versions that the plan puts on the device by the time this one boots.
    beside: BTreeMap<u32, Version>,
    image_number: u32,
    upgrade_only: bool,
    force: bool,
    phase: Phase,
    detail: StepDetail,
}

impl UploadStep {
    pub(in crate::flow) fn new(
        name: String,
        set: &ImageSet,
        beside: BTreeMap<u32, Version>,
        image_number: u32,
        upgrade_only: bool,
        force: bool,
    ) -> Self {
        Self {
            name,
            members: set.for_image(image_number).into_iter().cloned().collect(),
            image: None,
            beside,
            image_number,
            upgrade_only,
            force,
            phase: Phase::Start,
            detail: StepDetail::default(),
        }
    }

    fn look(&mut self) -> Turn {
        self.phase = Phase::Look;
        Turn::Do(Action::ReadState)
    }

    fn broke(&mut self, cause: Cause) -> Turn {
        Turn::Broke(cause, Box::new(std::mem::take(&mut self.detail)))
    }

    fn skip(&mut self, facts: &mut Facts, reason: &str) -> Turn {
        let mut detail = std::mem::take(&mut self.detail);
        detail.skipped = Some(reason.to_owned());
        detail.running = facts.running(self.image_number);
        Turn::held(detail)
    }

    /// Looks the slots up in the table and acts on it.
    fn act_on(&mut self, facts: &mut Facts, now: Time, state: &ImageState) -> Turn {
        let image = match choose(&self.members, state, self.image_number) {
            Ok(image) => image,
            Err(cause) => return self.broke(cause),
        };
        facts.expected.insert(self.image_number, Expected::of(self.image_number, &image));
        self.image = Some(Arc::clone(&image));
        if facts.mode.is_none() {
            self.phase = Phase::Mode;
            return Turn::Do(Action::ReadMode);
        }
        match facts.boot_mode() {
            Some(mode) if mode.is_by_version() => self.act_by_version(facts, state, &image, mode),
            mode => self.act_by_mark(facts, now, state, &image, mode),
        }
    }

    /// What the image needs of the device's other images.
    fn check_dependencies(&mut self, image: &Image, state: &ImageState) -> Result<(), Cause> {
        let notes = dependency::check(image, &self.beside, state)?;
        self.note(notes);
        Ok(())
    }

    /// Once each: the slots are looked at again after a reset that settled them.
    fn note(&mut self, notes: impl IntoIterator<Item = String>) {
        for note in notes {
            if !self.detail.notes.contains(&note) {
                self.detail.notes.push(note);
            }
        }
    }

    /// Where the image of the highest version boots.
    fn act_by_version(
        &mut self,
        facts: &mut Facts,
        state: &ImageState,
        image: &Image,
        mode: BootMode,
    ) -> Turn {
        let decision = match decide_by_version(state, self.image_number, image, mode) {
            Ok(decision) => decision,
            Err(cause) => return self.broke(cause),
        };
        let runs = matches!(decision, VersionDecision::AlreadyCurrent | VersionDecision::Clear(_));
        if !runs && let Err(cause) = self.check_dependencies(image, state) {
            return self.broke(cause);
        }
        match decision {
            VersionDecision::AlreadyCurrent if !self.force => self.skip(facts, "already running"),
            VersionDecision::AlreadyThere(note) if !self.force => {
                self.note(note);
                self.skip(facts, "already in the slot that does not run")
            }
            VersionDecision::Clear(other) => {
                self.note([format!(
                    "erased slot {}: {} in it would have booted at the next reset",
                    other.slot, other.version
                )]);
                self.phase = Phase::Clear;
                // Slots are numbered through all images: two each.
                Turn::Do(Action::Erase { slot: 2 * self.image_number + other.slot })
            }
            VersionDecision::AlreadyCurrent => self.ask_slots(),
            VersionDecision::AlreadyThere(note) | VersionDecision::Upload(note) => {
                self.note(note);
                self.ask_slots()
            }
        }
    }

    fn ask_slots(&mut self) -> Turn {
        self.phase = Phase::Slots;
        Turn::Do(Action::ReadSlots)
    }

    /// Why the image would not boot although it is marked, as far as the device's versions tell.
    fn refused_by_version(
        &mut self,
        facts: &Facts,
        state: &ImageState,
        image: &Image,
        mode: Option<BootMode>,
    ) -> Result<(), Cause> {
        let Some(running) = active(state, self.image_number) else { return Ok(()) };
        match mode {
            None => known_or_plain(image)?,
            Some(mode @ BootMode::DirectXipWithRevert) => {
                let note = must_win(image, running, mode)?;
                self.note(note);
            }
            Some(_) => {}
        }
        let older = running
            .version
            .parse::<Version>()
            .is_ok_and(|runs| image.parsed_version().cmp_without_build(&runs).is_lt());
        if facts.refuses_older && older {
            return Err(Cause::new(
                Class::Image,
                "image.downgrade",
                format!(
                    "expected at least version {}, which runs, got {}: the device says that its bootloader refuses older \
                     ones",
                    running.version,
                    image.version()
                ),
                "give this device an image of a higher version",
            ));
        }
        Ok(())
    }

    /// Where images are marked to be booted.
    fn act_by_mark(
        &mut self,
        facts: &mut Facts,
        now: Time,
        state: &ImageState,
        image: &Image,
        mode: Option<BootMode>,
    ) -> Turn {
        let decision = match decide(state, self.image_number, image.hash()) {
            Ok(decision) => decision,
            Err(cause) => return self.broke(cause),
        };
        let runs = matches!(decision, SlotDecision::AlreadyCurrent | SlotDecision::RunningOnTest);
        if !runs {
            let checked = self
                .refused_by_version(facts, state, image, mode)
                .and_then(|()| self.check_dependencies(image, state));
            if let Err(cause) = checked {
                return self.broke(cause);
            }
        }
        match decision {
            SlotDecision::Settle(reason) if !facts.reverts() => self.broke(Cause::new(
                Class::Device,
                "device.pending_without_revert",
                format!("expected nothing to be pending, but {reason}: a reset would install it for good"),
                "look at what the device has in its secondary slot: erase it, or reset the device to install it, and run \
                 again",
            )),
            SlotDecision::AlreadyCurrent if !self.force => self.skip(facts, "already running and confirmed"),
            SlotDecision::RunningOnTest if !self.force => {
                self.skip(facts, "already running, on test and not confirmed yet")
            }
            SlotDecision::AlreadyPending => {
                let set = if facts.reverts() { "set for test" } else { "set to be installed" };
                self.skip(facts, &format!("already in the secondary slot and {set}"))
            }
            SlotDecision::AlreadyThere if !self.force => self.skip(facts, "already in the secondary slot"),
            SlotDecision::RunningOnTest => self.settle(facts, now, "the image is on test and keeps its slot"),
            SlotDecision::Settle(reason) => self.settle(facts, now, reason),
            SlotDecision::Upload | SlotDecision::AlreadyCurrent | SlotDecision::AlreadyThere => {
                self.ask_slots()
            }
        }
    }

    fn settle(&mut self, facts: &mut Facts, now: Time, reason: &str) -> Turn {
        if facts.settling_resets >= MAX_SETTLING_RESETS {
            return self.broke(Cause::new(
                Class::Device,
                "device.slots_unsettled",
                format!("expected the slots to settle within {MAX_SETTLING_RESETS} resets, but {reason}"),
                "look at the device's image list; confirm or erase by hand what should not be pending",
            ));
        }
        facts.settling_resets += 1;
        self.detail.notes.push(format!("reset to settle the slots: {reason}"));
        let mut reboot = Reboot::new(false, None);
        let turn = reboot.next(facts, now, None);
        self.phase = Phase::Settle(reboot);
        self.follow(turn)
    }

    fn follow(&mut self, turn: RebootTurn) -> Turn {
        match turn {
            RebootTurn::Do(action) => Turn::Do(action),
            RebootTurn::Back { .. } => self.look(),
            RebootTurn::Broke(cause) => self.broke(cause),
        }
    }

    /// The cause where the image does not fit into the slot that it would go into.
    fn too_large(&self, facts: &Facts, slots: &SlotInfoResponse) -> Option<Cause> {
        let size = self.image.as_ref()?.bytes().len() as u64;
        let running = facts.state.as_ref().and_then(|state| active(state, self.image_number));
        let free = running.map_or(1, |running| u32::from(running.slot == 0));
        let image = slots.images.iter().find(|image| image.image == self.image_number)?;
        let target = image
            .slots
            .iter()
            .find(|slot| slot.upload_image_id == Some(self.image_number))
            .or_else(|| image.slots.iter().find(|slot| slot.slot == free))?;
        let limit = [target.size, image.max_image_size].into_iter().flatten().min()?;
        (size > limit).then(|| {
            Cause::new(
                Class::Image,
                "image.too_large",
                format!("expected an image of at most {limit} bytes for slot {}, got {size}", target.slot),
                "build a smaller image, or check that it is meant for this device",
            )
        })
    }

    fn start_upload(&mut self) -> Turn {
        self.phase = Phase::Upload;
        Turn::Do(Action::Upload {
            image: self.name.clone(),
            hash: self.image.as_ref().map(|image| image.hash().to_vec()).unwrap_or_default(),
            image_number: self.image_number,
            upgrade_only: self.upgrade_only,
        })
    }

    /// The image must be where it was put, as the device itself lists it.
    fn read_back(&mut self, facts: &Facts, state: &ImageState) -> Turn {
        let Some(image) = self.image.clone() else { return self.look() };
        // Images besides the one that executes are never marked active; their primary slot is what is in use.
        let in_use = active(state, self.image_number)
            .map(|slot| slot.slot)
            .or_else(|| (self.image_number > 0).then_some(0));
        let there = state.images.iter().any(|slot| {
            slot.image == self.image_number
                && slot.hash.as_deref() == Some(image.hash())
                && Some(slot.slot) != in_use
        });
        if !there {
            let listed = state
                .images
                .iter()
                .map(|slot| {
                    let hash = slot.hash.as_deref().map_or_else(|| "no hash".to_owned(), short_hash);
                    format!("slot {}: {} ({hash})", slot.slot, slot.version)
                })
                .collect::<Vec<_>>()
                .join(", ");
            return self.broke(Cause::new(
                Class::Image,
                "image.not_in_slot",
                format!(
                    "expected {} ({}) in the slot that does not run after the upload, the device lists {listed}",
                    image.version(),
                    short_hash(image.hash())
                ),
                "the upload did not survive on the device: check its flash and the link, then run again",
            ));
        }
        let mut detail = std::mem::take(&mut self.detail);
        detail.running = facts.running(self.image_number);
        Turn::held(detail)
    }
}

impl StepMachine for UploadStep {
    fn next(&mut self, facts: &mut Facts, now: Time, outcome: Option<Outcome>) -> Turn {
        let phase = std::mem::replace(&mut self.phase, Phase::Start);
        match (phase, outcome) {
            (Phase::Start, None) => self.look(),
            (Phase::Look, Some(Outcome::State(state))) => {
                facts.note_state(state.clone());
                self.act_on(facts, now, &state)
            }
            (Phase::Mode, Some(Outcome::Mode { mode, no_downgrade })) => {
                let told = mode;
                match settle(told, facts.planned_mode) {
                    Ok(mode) => facts.mode = Some(mode),
                    Err(cause) => return self.broke(cause),
                }
                if let Some(mode) =
                    facts.boot_mode().filter(|_| told.and_then(BootMode::from_number).is_none())
                {
                    self.note([format!(
                        "the device does not tell its bootloader's mode: {mode}, as the plan says"
                    )]);
                }
                facts.refuses_older = no_downgrade;
                match facts.state.clone() {
                    Some(state) => self.act_on(facts, now, &state),
                    None => self.look(),
                }
            }
            (Phase::Settle(mut reboot), outcome @ Some(_)) => {
                let turn = reboot.next(facts, now, outcome);
                self.phase = Phase::Settle(reboot);
                self.follow(turn)
            }
            (Phase::Clear, Some(Outcome::Done)) => {
                facts.changed = true;
                facts.forget_state();
                self.look()
            }
            (Phase::Slots, Some(Outcome::Slots(slots))) => {
                let refused = |slots| {
                    missing(slots, self.beside.keys().copied()).or_else(|| self.too_large(facts, slots))
                };
                match slots.as_ref().and_then(refused) {
                    Some(cause) => self.broke(cause),
                    None => self.start_upload(),
                }
            }
            (Phase::Upload, Some(Outcome::Uploaded { figures, notes })) => {
                facts.changed = true;
                facts.note_upload(figures.clone());
                self.detail.upload = Some(figures);
                self.detail.notes.extend(notes);
                self.phase = Phase::ReadBack;
                Turn::Do(Action::ReadState)
            }
            (Phase::ReadBack, Some(Outcome::State(state))) => {
                facts.note_state(state.clone());
                self.read_back(facts, &state)
            }
            (_, Some(Outcome::Failed(cause))) => self.broke(cause),
            (_, outcome) => unexpected("upload", outcome.as_ref()),
        }
    }

    fn retry(&mut self) {
        // The slots are looked at again, so whatever arrived before is found; an upload resumes by its hash.
        self.phase = Phase::Start;
    }
}
