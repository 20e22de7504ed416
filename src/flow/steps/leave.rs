//! The reset out of the bootloader: afterwards the application must answer, and exactly what was uploaded must run.

use crate::cause::{Cause, Class};
use crate::flow::answerer::{Answerer, Inquired, Inquiry};
use crate::flow::facts::Place;
use crate::flow::proof::{Proof, confirm_not_held, examine, short_hash};
use crate::report::{Departure, StepDetail};
use crate::smp::Time;
use crate::smp::message::image::ImageState;

use super::bootloader::{LOOK_AGAIN, LOOKS};
use super::reboot::{Reboot, RebootTurn};
use super::reset::left_late;
use super::{Action, Facts, Outcome, StepMachine, Turn, unexpected};

/// What to do where no application comes.
const NO_APPLICATION: &str = "it may have no image that its bootloader boots, or one that does not answer: look at its boot log. \
    To write another image, get it into its bootloader (button) and run a plan with `starts_in: bootloader`. One that only boots \
    slowly needs a longer return_within";

#[derive(Debug)]
enum Phase {
    Start,
    Reboot,
    Inquire(Inquiry),
    LookAgain,
}

/// One reset out of the bootloader.
#[derive(Debug)]
pub(in crate::flow) struct LeaveBootloaderStep {
    force: bool,
    phase: Phase,
    reboot: Reboot,
    left: Departure,
    looks: u32,
}

impl LeaveBootloaderStep {
    pub(in crate::flow) fn new(force: bool) -> Self {
        let reboot = Reboot::new(force, None);
        Self { force, phase: Phase::Start, reboot, left: Departure::None, looks: 0 }
    }

    fn detail(&self, facts: &Facts) -> StepDetail {
        let running = facts.running(facts.main_image());
        StepDetail { running, left: self.reboot.is_sent().then_some(self.left), ..StepDetail::default() }
    }

    fn broke(&self, facts: &Facts, cause: Cause) -> Turn {
        Turn::Broke(cause, Box::new(self.detail(facts)))
    }

    fn follow(&mut self, facts: &Facts, turn: RebootTurn) -> Turn {
        self.phase = Phase::Reboot;
        match turn {
            RebootTurn::Do(action) => Turn::Do(action),
            RebootTurn::Back { left, .. } => {
                self.left = left;
                self.inquire()
            }
            RebootTurn::Broke(mut cause) => {
                self.left = self.reboot.left();
                if cause.code == "device.never_returned" {
                    cause.help = NO_APPLICATION.to_owned();
                }
                self.broke(facts, cause)
            }
        }
    }

    fn inquire(&mut self) -> Turn {
        let (inquiry, action) = Inquiry::begin();
        self.phase = Phase::Inquire(inquiry);
        Turn::Do(action)
    }

    /// One that was not seen to leave may not have left yet.
    fn may_be_late(&self) -> bool {
        self.left == Departure::None && self.looks < LOOKS
    }

    fn look_again(&mut self) -> Turn {
        self.looks += 1;
        self.phase = Phase::LookAgain;
        Turn::Do(Action::Wait(LOOK_AGAIN))
    }

    fn told(&mut self, facts: &mut Facts, answerer: Answerer, state: Option<ImageState>) -> Turn {
        match (answerer, state) {
            (Answerer::Recovery, _) if self.may_be_late() => self.look_again(),
            (Answerer::Recovery, state) => self.broke(facts, still_in_bootloader(state.as_ref())),
            (Answerer::Application, Some(state)) => {
                facts.note_state(state.clone());
                facts.place = Place::Application;
                match prove(facts, &state) {
                    Ok(()) => Turn::held(self.detail(facts)),
                    Err(cause) => self.broke(facts, cause),
                }
            }
            (_, state) => {
                facts.place = Place::Application;
                let mut detail = self.detail(facts);
                let has = if state.is_some() { "lists no running image" } else { "has no image list" };
                detail.notes.push(format!(
                    "the device answers and {has}: nothing proves that what was uploaded runs, nor that its application answers"
                ));
                Turn::held(detail)
            }
        }
    }
}

/// Exactly what was uploaded must run.
fn prove(facts: &mut Facts, state: &ImageState) -> Result<(), Cause> {
    let mut confirmed = true;
    let mode = facts.boot_mode();
    for expected in facts.expected.values() {
        match examine(state, expected, mode) {
            Proof::Runs { confirmed: stays } => {
                let earlier = facts.proven.get(&expected.image_number);
                let held = earlier.filter(|proven| proven.expected == *expected && proven.confirmed);
                if !stays && held.is_some() {
                    return Err(confirm_not_held(expected));
                }
                confirmed &= stays;
            }
            Proof::SwapPending | Proof::Other(_) => {
                let running =
                    state.images.iter().find(|slot| slot.image == expected.image_number && slot.active);
                let runs = running.map_or_else(
                    || "nothing that the device lists".to_owned(),
                    |slot| {
                        let hash = slot.hash.as_deref().map_or_else(|| "no hash".to_owned(), short_hash);
                        format!("{} ({hash}) of slot {}", slot.version, slot.slot)
                    },
                );
                return Err(Cause::new(
                    Class::Image,
                    "image.other_runs",
                    format!(
                        "expected {} ({}), which the bootloader wrote into the primary slot, to run as image {}; {runs} runs",
                        expected.version,
                        short_hash(&expected.hash),
                        expected.image_number
                    ),
                    "the bootloader chose another image: with RAM load and direct XIP the one with the higher version, else one \
                     that was waiting to be swapped in; look at the device's image list",
                ));
            }
        }
    }
    facts.prove(confirmed);
    Ok(())
}

fn still_in_bootloader(state: Option<&ImageState>) -> Cause {
    let listed = state.map(|state| &state.images[..]).unwrap_or_default();
    let listed = listed
        .iter()
        .map(|slot| {
            let hash = slot.hash.as_deref().map_or_else(|| "no hash".to_owned(), short_hash);
            format!("{} ({hash}) in slot {}", slot.version, slot.slot)
        })
        .collect::<Vec<_>>();
    let listed = if listed.is_empty() { "no image".to_owned() } else { listed.join(", ") };
    Cause::new(
        Class::Device,
        "device.still_in_bootloader",
        format!(
            "expected the application to answer after the reset, the bootloader does, which lists {listed}"
        ),
        "where it lists no image in slot 0, it has none that it may boot: check that the image is signed with this device's key \
         and built for this device, and upload again with `starts_in: bootloader`. A held button keeps a board there, too",
    )
}

impl StepMachine for LeaveBootloaderStep {
    fn next(&mut self, facts: &mut Facts, now: Time, outcome: Option<Outcome>) -> Turn {
        let phase = std::mem::replace(&mut self.phase, Phase::Start);
        match (phase, outcome) {
            // It went out before: whatever failed after that must not send another one.
            (Phase::Start, None) if self.reboot.is_sent() => {
                let turn = self.reboot.wait_anew(facts, now);
                self.follow(facts, turn)
            }
            (Phase::Start, None) => {
                let turn = self.reboot.next(facts, now, None);
                self.follow(facts, turn)
            }
            (Phase::Reboot, outcome @ Some(_)) => {
                let turn = self.reboot.next(facts, now, outcome);
                self.follow(facts, turn)
            }
            (Phase::LookAgain, Some(Outcome::Done)) => self.inquire(),
            // It answered and then fell silent: it left late. Its time is not over yet.
            (Phase::Inquire(_), Some(Outcome::Failed(cause)))
                if cause.class.is_retryable() && !self.reboot.is_over(now) =>
            {
                self.reboot.note_left(left_late(&cause));
                let turn = self.reboot.wait_again(facts, now);
                self.follow(facts, turn)
            }
            (Phase::Inquire(mut inquiry), outcome) => match inquiry.next(outcome) {
                Some(Inquired::Do(action)) => {
                    self.phase = Phase::Inquire(inquiry);
                    Turn::Do(action)
                }
                Some(Inquired::Told(answerer, state)) => self.told(facts, answerer, state),
                Some(Inquired::Broke(cause)) => self.broke(facts, cause),
                None => unexpected("reset", None),
            },
            (_, Some(Outcome::Failed(cause))) => self.broke(facts, cause),
            (_, outcome) => unexpected("reset", outcome.as_ref()),
        }
    }

    fn retry(&mut self) {
        if !self.reboot.is_sent() {
            self.reboot = Reboot::new(self.force, None);
        }
        self.looks = 0;
        self.phase = Phase::Start;
    }
}
