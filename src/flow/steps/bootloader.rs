//! The reset into the bootloader: left out where the device runs already what would be written there; afterwards it must
//! not be the application that answers.

use std::time::Duration;

use crate::flow::answerer::{Answerer, Inquired, Inquiry, not_in_bootloader};
use crate::flow::choice::choose;
use crate::flow::facts::Place;
use crate::flow::proof::{Expected, Proof, examine};
use crate::image::Member;
use crate::report::{Departure, StepDetail};
use crate::smp::Time;
use crate::smp::message::image::ImageState;

use super::reboot::{Reboot, RebootTurn};
use super::reset::left_late;
use super::{Action, Facts, Outcome, StepMachine, Turn, unexpected};
use crate::cause::{Cause, Class};

/// How long to wait between two looks at a device that was not seen to leave: its reset may only be late.
pub(super) const LOOK_AGAIN: Duration = Duration::from_secs(1);
/// How many looks it gets.
pub(super) const LOOKS: u32 = 5;

/// An image that the plan uploads in the bootloader.
#[derive(Debug)]
pub(in crate::flow) struct Planned {
    /// Image number.
    pub(in crate::flow) image_number: u32,
    /// What the plan has for it.
    pub(in crate::flow) members: Vec<Member>,
}

impl Planned {
    /// What must run for the upload to be needless.
    fn expected(&self, state: &ImageState) -> Option<Expected> {
        let image = choose(&self.members, state, self.image_number).ok()?;
        Some(Expected::of(self.image_number, &image))
    }
}

#[derive(Debug)]
enum Phase {
    Start,
    /// What runs before the reset.
    Look,
    Reboot,
    Inquire(Inquiry),
    LookAgain,
}

/// One reset into the bootloader.
#[derive(Debug)]
pub(in crate::flow) struct EnterBootloaderStep {
    force: bool,
    boot_mode: u8,
    /// What is uploaded there; nothing where something else is done there too, so that the reset is needed anyway.
    planned: Vec<Planned>,
    phase: Phase,
    reboot: Reboot,
    left: Departure,
    looks: u32,
    notes: Vec<String>,
}

impl EnterBootloaderStep {
    pub(in crate::flow) fn new(force: bool, boot_mode: u8, planned: Vec<Planned>) -> Self {
        Self {
            force,
            boot_mode,
            planned,
            phase: Phase::Start,
            reboot: Reboot::new(force, Some(boot_mode)),
            left: Departure::None,
            looks: 0,
            notes: Vec::new(),
        }
    }

    fn broke(&mut self, cause: Cause) -> Turn {
        let left = self.reboot.is_sent().then_some(self.left);
        let notes = std::mem::take(&mut self.notes);
        Turn::Broke(cause, Box::new(StepDetail { left, notes, ..StepDetail::default() }))
    }

    /// Whether everything that would be uploaded runs already; what runs may also forbid the upload.
    fn look_before(&mut self, facts: &mut Facts, now: Time, state: &ImageState) -> Turn {
        let expected: Vec<_> = self.planned.iter().map(|planned| planned.expected(state)).collect();
        let mode = facts.boot_mode();
        let runs = |expected: &Option<Expected>| {
            expected
                .as_ref()
                .is_some_and(|expected| examine(state, expected, mode) == Proof::Runs { confirmed: true })
        };
        let pending = state.images.iter().find(|slot| slot.pending && !slot.active);
        if pending.is_none() && !self.force && expected.iter().all(runs) {
            for expected in expected.into_iter().flatten() {
                facts.expected.insert(expected.image_number, expected);
            }
            facts.prove(true);
            facts.place = Place::NotNeeded;
            return Turn::skipped(
                "what would be uploaded in the bootloader runs already, and is confirmed",
                facts,
            );
        }
        if let Some(slot) = pending {
            return self.broke(Cause::new(
                Class::Device,
                "device.slots_unsettled",
                format!(
                    "expected no image to wait before the bootloader writes the primary slot, {} is pending in slot {} and \
                     would be swapped in over it",
                    slot.version, slot.slot
                ),
                "put `- reset` before it, so that the pending image is swapped in first, or erase its slot",
            ));
        }
        self.start_reboot(facts, now)
    }

    fn start_reboot(&mut self, facts: &mut Facts, now: Time) -> Turn {
        let turn = self.reboot.next(facts, now, None);
        self.follow(turn)
    }

    fn follow(&mut self, turn: RebootTurn) -> Turn {
        self.phase = Phase::Reboot;
        match turn {
            RebootTurn::Do(action) => Turn::Do(action),
            RebootTurn::Back { left, .. } => {
                self.left = left;
                self.inquire()
            }
            RebootTurn::Broke(cause) => {
                self.left = self.reboot.left();
                self.broke(cause)
            }
        }
    }

    fn inquire(&mut self) -> Turn {
        let (inquiry, action) = Inquiry::begin();
        self.phase = Phase::Inquire(inquiry);
        Turn::Do(action)
    }

    fn told(&mut self, facts: &mut Facts, answerer: Answerer, state: Option<ImageState>) -> Turn {
        if answerer == Answerer::Application {
            // One that was not seen to leave may not have left yet.
            if self.left == Departure::None && self.looks < LOOKS {
                self.looks += 1;
                self.phase = Phase::LookAgain;
                return Turn::Do(Action::Wait(LOOK_AGAIN));
            }
            return self.broke(not_in_bootloader(state.as_ref(), true));
        }
        facts.place = Place::Bootloader;
        self.notes.extend(answerer.note().map(str::to_owned));
        let notes = std::mem::take(&mut self.notes);
        Turn::held(StepDetail { left: Some(self.left), notes, ..StepDetail::default() })
    }
}

impl StepMachine for EnterBootloaderStep {
    fn next(&mut self, facts: &mut Facts, now: Time, outcome: Option<Outcome>) -> Turn {
        let phase = std::mem::replace(&mut self.phase, Phase::Start);
        match (phase, outcome) {
            // It went out before: whatever failed after that must not send another one.
            (Phase::Start, None) if self.reboot.is_sent() => {
                let turn = self.reboot.wait_anew(facts, now);
                self.follow(turn)
            }
            (Phase::Start, None) if self.planned.is_empty() => self.start_reboot(facts, now),
            (Phase::Start, None) => {
                self.phase = Phase::Look;
                Turn::Do(Action::ReadState)
            }
            (Phase::Look, Some(Outcome::State(state))) => {
                facts.note_state(state.clone());
                self.look_before(facts, now, &state)
            }
            // An application without an image list can be left for the bootloader all the same.
            (Phase::Look, Some(Outcome::Failed(cause))) if cause.class == Class::Device => {
                self.notes.push(format!("what runs before is not known: {cause}"));
                self.start_reboot(facts, now)
            }
            (Phase::Reboot, outcome @ Some(_)) => {
                let turn = self.reboot.next(facts, now, outcome);
                self.follow(turn)
            }
            (Phase::LookAgain, Some(Outcome::Done)) => self.inquire(),
            // It answered and then fell silent: it left late. Its time is not over yet.
            (Phase::Inquire(_), Some(Outcome::Failed(cause)))
                if cause.class.is_retryable() && !self.reboot.is_over(now) =>
            {
                self.reboot.note_left(left_late(&cause));
                let turn = self.reboot.wait_again(facts, now);
                self.follow(turn)
            }
            (Phase::Inquire(mut inquiry), outcome) => match inquiry.next(outcome) {
                Some(Inquired::Do(action)) => {
                    self.phase = Phase::Inquire(inquiry);
                    Turn::Do(action)
                }
                Some(Inquired::Told(answerer, state)) => self.told(facts, answerer, state),
                Some(Inquired::Broke(cause)) => self.broke(cause),
                None => unexpected("reset", None),
            },
            (_, Some(Outcome::Failed(cause))) => self.broke(cause),
            (_, outcome) => unexpected("reset", outcome.as_ref()),
        }
    }

    fn retry(&mut self) {
        if !self.reboot.is_sent() {
            self.reboot = Reboot::new(self.force, Some(self.boot_mode));
        }
        self.notes.clear();
        self.looks = 0;
        self.phase = Phase::Start;
    }
}
