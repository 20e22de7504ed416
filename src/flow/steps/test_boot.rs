//! The test-boot step: mark, reset once, and prove that exactly the uploaded hash runs. `update` has it stop after the
//! mark, or mark the image to stay. Where the image of the highest version boots, there is nothing to mark.

use crate::cause::{Cause, Class};
use crate::flow::BootMode;
use crate::flow::proof::{Expected, Proof, confirm_not_held, examine, short_hash, swap_pending};
use crate::report::{Departure, StepDetail};
use crate::smp::Time;
use crate::smp::message::image::ImageState;
use std::time::Duration;

use super::reboot::{Reboot, RebootTurn};
use super::reset::left_late;
use super::{Action, Facts, Outcome, StepMachine, Turn, unexpected};

/// How long to wait between two looks at a device whose swap is still pending.
const LOOK_AGAIN: Duration = Duration::from_secs(1);
/// Looks that must show an unanswered reset without effect before it is sent again: it may only have been late.
const LOOKS_BEFORE_RESEND: u32 = 3;
/// How often a reset that had neither an answer nor an effect is sent again.
const MAX_RESENDS: u32 = 2;

#[derive(Debug)]
enum Phase {
    Start,
    Look,
    Mark(Vec<Vec<u8>>),
    ReadMarks,
    Reboot,
    Proof,
    LookAgain,
}

/// Test boot of every image that earlier steps uploaded.
#[derive(Debug)]
pub(in crate::flow) struct TestBootStep {
    /// Mark the images to stay instead of for test.
    permanent: bool,
    /// Reset, and prove that they run.
    boot: bool,
    phase: Phase,
    reboot: Reboot,
    left: Departure,
    answered: bool,
    looks: u32,
    resends: u32,
    notes: Vec<String>,
}

impl TestBootStep {
    pub(in crate::flow) fn new(permanent: bool, boot: bool) -> Self {
        Self {
            permanent,
            boot,
            phase: Phase::Start,
            reboot: Reboot::new(false, None),
            left: Departure::None,
            answered: true,
            looks: 0,
            resends: 0,
            notes: Vec::new(),
        }
    }

    fn detail(&mut self, facts: &Facts) -> StepDetail {
        StepDetail {
            running: facts.running(facts.main_image()),
            left: self.boot.then_some(self.left),
            notes: std::mem::take(&mut self.notes),
            ..StepDetail::default()
        }
    }

    fn broke(&mut self, facts: &Facts, cause: Cause) -> Turn {
        Turn::Broke(cause, Box::new(self.detail(facts)))
    }

    /// Before the reset: which images still have to be marked.
    fn first_look(&mut self, facts: &mut Facts, now: Time, state: &ImageState) -> Turn {
        if facts.expected.is_empty() {
            return Turn::broke(Cause::new(
                Class::Plan,
                "plan.nothing_to_test",
                "expected an upload before the test boot, there was none",
                "put an upload step before test-boot",
            ));
        }
        let by_version = facts.boot_mode().is_some_and(BootMode::is_by_version);
        let mut unmarked = Vec::new();
        let mut waiting = false;
        for expected in facts.expected.values() {
            match examine(state, expected, facts.boot_mode()) {
                Proof::Runs { .. } if by_version => {}
                Proof::SwapPending if by_version => waiting = true,
                Proof::Other(_) if by_version => {
                    let cause = not_there(expected);
                    return self.broke(facts, cause);
                }
                Proof::Runs { confirmed: false } if self.permanent => unmarked.push(expected.hash.clone()),
                Proof::Runs { .. } => {}
                // One that waits for a test may not stay.
                Proof::SwapPending if self.permanent => unmarked.push(expected.hash.clone()),
                Proof::SwapPending => waiting = true,
                Proof::Other(_) => unmarked.push(expected.hash.clone()),
            }
        }
        if unmarked.is_empty() && !waiting {
            facts.prove(self.permanent && !by_version);
            return Turn::skipped("it runs already", facts);
        }
        if by_version {
            return self.marked(facts, now);
        }
        self.mark(facts, unmarked)
    }

    fn mark(&mut self, facts: &mut Facts, mut unmarked: Vec<Vec<u8>>) -> Turn {
        match unmarked.pop() {
            Some(hash) => {
                self.phase = Phase::Mark(unmarked);
                Turn::Do(if self.permanent {
                    Action::MarkToStay { hash }
                } else {
                    Action::MarkForTest { hash }
                })
            }
            None => {
                self.phase = Phase::ReadMarks;
                facts.forget_state();
                Turn::Do(Action::ReadState)
            }
        }
    }

    /// After the marks: each image must be pending, or a reset would prove nothing.
    fn check_marks(&mut self, facts: &mut Facts, now: Time, state: &ImageState) -> Turn {
        for expected in facts.expected.values() {
            if let Proof::Other(cause) = examine(state, expected, facts.boot_mode()) {
                let cause = Cause::new(
                    Class::Device,
                    "device.not_pending",
                    format!(
                        "expected the uploaded image to be pending after it was marked; {}",
                        cause.message
                    ),
                    "the device accepted the mark and does not show it: look at its image list",
                );
                return self.broke(facts, cause);
            }
        }
        self.marked(facts, now)
    }

    /// The next reset will boot the image.
    fn marked(&mut self, facts: &mut Facts, now: Time) -> Turn {
        self.notes.extend(facts.boot_mode().and_then(BootMode::unproven).map(str::to_owned));
        if self.boot {
            return self.start_reboot(facts, now);
        }
        let stays = self.permanent || !facts.reverts();
        let then = if stays { "and stays" } else { "and reverts at the one after, unless it is confirmed" };
        self.notes.push(format!("not booted: the image runs from the next reset on, {then}"));
        Turn::held(self.detail(facts))
    }

    fn start_reboot(&mut self, facts: &mut Facts, now: Time) -> Turn {
        self.reboot = Reboot::new(false, None);
        self.phase = Phase::Reboot;
        let turn = self.reboot.next(facts, now, None);
        self.follow(facts, turn)
    }

    fn follow(&mut self, facts: &mut Facts, turn: RebootTurn) -> Turn {
        self.phase = Phase::Reboot;
        match turn {
            RebootTurn::Do(action) => Turn::Do(action),
            RebootTurn::Back { left, answered } => {
                // A device that was once seen to leave has left, whatever a later wait saw.
                if self.left == Departure::None {
                    self.left = left;
                }
                self.answered = answered;
                self.phase = Phase::Proof;
                Turn::Do(Action::ReadState)
            }
            RebootTurn::Broke(cause) => {
                if self.left == Departure::None {
                    self.left = self.reboot.left();
                }
                self.broke(facts, cause)
            }
        }
    }

    fn prove(&mut self, facts: &mut Facts, now: Time, state: &ImageState) -> Turn {
        let mode = facts.boot_mode();
        let by_version = mode.is_some_and(BootMode::is_by_version);
        let proofs: Vec<(Expected, Proof)> = facts
            .expected
            .values()
            .map(|expected| (expected.clone(), examine(state, expected, mode)))
            .collect();
        for (_, proof) in &proofs {
            if let Proof::Other(cause) = proof {
                let cause = cause.clone();
                return self.broke(facts, cause);
            }
        }
        let Some((waiting, _)) = proofs.iter().find(|(_, proof)| *proof == Proof::SwapPending) else {
            let on_test = |(_, proof): &&(Expected, Proof)| *proof == Proof::Runs { confirmed: false };
            if let Some((expected, _)) = proofs.iter().filter(|_| self.permanent && !by_version).find(on_test)
            {
                let cause = confirm_not_held(expected);
                return self.broke(facts, cause);
            }
            facts.prove(self.permanent && !by_version);
            if self.left == Departure::None {
                self.notes.push(
                    "the device was not seen to leave; its new running hash shows that it did".to_owned(),
                );
            }
            let detail = self.detail(facts);
            return Turn::held(detail);
        };
        if self.reboot.is_over(now) {
            let cause = swap_pending(waiting, mode, self.left);
            return self.broke(facts, cause);
        }
        self.looks += 1;
        let unheard = !self.answered && self.left == Departure::None;
        if unheard && self.looks >= LOOKS_BEFORE_RESEND && self.resends < MAX_RESENDS {
            self.looks = 0;
            self.resends += 1;
            self.notes.push("the reset had no answer and no effect: it was sent again".to_owned());
            return self.start_reboot(facts, now);
        }
        self.phase = Phase::LookAgain;
        Turn::Do(Action::Wait(LOOK_AGAIN))
    }
}

/// The cause for an image that neither runs nor waits for a reset.
fn not_there(expected: &Expected) -> Cause {
    Cause::new(
        Class::Image,
        "image.not_in_slot",
        format!(
            "expected {} ({}) in the slot that does not run, the device does not list it",
            expected.version,
            short_hash(&expected.hash)
        ),
        "put the upload right before test-boot, and look at what changed the slot since",
    )
}

/// A device that has no command for marks, and does not tell why.
fn without_marks(mut cause: Cause, facts: &Facts) -> Cause {
    if facts.boot_mode().is_none() && cause.code == "smp.mgmt.not_supported" {
        cause.help =
            "where its bootloader boots the image of the highest version, say so: `bootloader: ram-load` or \
                      `direct-xip` in the plan's target"
                .to_owned();
    }
    cause
}

impl StepMachine for TestBootStep {
    fn next(&mut self, facts: &mut Facts, now: Time, outcome: Option<Outcome>) -> Turn {
        let phase = std::mem::replace(&mut self.phase, Phase::Start);
        match (phase, outcome) {
            (Phase::Start, None) => {
                self.phase = Phase::Look;
                Turn::Do(Action::ReadState)
            }
            (Phase::Look, Some(Outcome::State(state))) => {
                facts.note_state(state.clone());
                self.first_look(facts, now, &state)
            }
            (Phase::Mark(unmarked), Some(Outcome::State(_))) => {
                facts.changed = true;
                self.mark(facts, unmarked)
            }
            (Phase::ReadMarks, Some(Outcome::State(state))) => {
                facts.note_state(state.clone());
                self.check_marks(facts, now, &state)
            }
            (Phase::Reboot, outcome @ Some(_)) => {
                let turn = self.reboot.next(facts, now, outcome);
                self.follow(facts, turn)
            }
            (Phase::Proof, Some(Outcome::State(state))) => {
                facts.note_state(state.clone());
                self.prove(facts, now, &state)
            }
            // It answered and then fell silent: it left late. Its time is not over yet.
            (Phase::Proof, Some(Outcome::Failed(cause)))
                if cause.class.is_retryable() && !self.reboot.is_over(now) =>
            {
                self.reboot.note_left(left_late(&cause));
                let turn = self.reboot.wait_again(facts, now);
                self.follow(facts, turn)
            }
            (Phase::LookAgain, Some(Outcome::Done)) => {
                self.phase = Phase::Proof;
                Turn::Do(Action::ReadState)
            }
            (Phase::Mark(_), Some(Outcome::Failed(cause))) => {
                let cause = without_marks(cause, facts);
                self.broke(facts, cause)
            }
            (_, Some(Outcome::Failed(cause))) => self.broke(facts, cause),
            (_, outcome) => unexpected("test-boot", outcome.as_ref()),
        }
    }

    fn retry(&mut self) {
        // The first look finds out whether an earlier attempt's reset has done its work.
        self.phase = Phase::Start;
        self.looks = 0;
    }
}
