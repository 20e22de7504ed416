//! The reset step: reset once, and prove that what ran still runs. Into another boot mode nothing is proven: what answers
//! there need not be the application.

use crate::cause::Cause;
use crate::flow::proof::{Proof, Proven, confirm_not_held, examine, swap_pending};
use crate::report::{Departure, StepDetail};
use crate::smp::Time;
use crate::smp::message::image::ImageState;

use super::reboot::{Reboot, RebootTurn};
use super::{Action, Facts, Outcome, StepMachine, Turn, unexpected};

#[derive(Debug)]
enum Phase {
    Start,
    /// A look that replaces the reset, where nothing was changed.
    LookOnly,
    Reboot,
    Proof,
}

/// One reset.
#[derive(Debug)]
pub(in crate::flow) struct ResetStep {
    force: bool,
    boot_mode: Option<u8>,
    phase: Phase,
    reboot: Reboot,
    /// The reset went out: whatever fails after that must not send another one.
    sent: bool,
    left: Departure,
    answered: bool,
}

/// How a device left whose answer to a question after its return did not come.
pub(super) fn left_late(cause: &Cause) -> Departure {
    if cause.code == "link.disconnected" { Departure::Gone } else { Departure::Silent }
}

impl ResetStep {
    pub(in crate::flow) fn new(force: bool, boot_mode: Option<u8>) -> Self {
        Self {
            force,
            boot_mode,
            phase: Phase::Start,
            reboot: Reboot::new(force, boot_mode),
            sent: false,
            left: Departure::None,
            answered: true,
        }
    }

    fn detail(&self, facts: &Facts) -> StepDetail {
        let mut notes = Vec::new();
        if self.reboot.is_sent() && self.left == Departure::None {
            let answer = if self.answered { "answered" } else { "never answered" };
            notes.push(format!(
                "nothing showed that the device left: the reset was {answer}, and it was never silent"
            ));
        }
        StepDetail {
            running: facts.running(facts.main_image()),
            left: self.reboot.is_sent().then_some(self.left),
            notes,
            ..StepDetail::default()
        }
    }

    fn broke(&self, facts: &Facts, cause: Cause) -> Turn {
        Turn::Broke(cause, Box::new(self.detail(facts)))
    }

    fn follow(&mut self, facts: &mut Facts, turn: RebootTurn) -> Turn {
        self.phase = Phase::Reboot;
        match turn {
            RebootTurn::Do(action) => Turn::Do(action),
            RebootTurn::Back { left, answered } => {
                self.left = left;
                self.answered = answered;
                if let Some(mode) = self.boot_mode {
                    let mut detail = self.detail(facts);
                    detail.notes.push(format!(
                        "asked to boot into mode {mode}: the device answers, and nothing proves which mode it is in"
                    ));
                    return Turn::held(detail);
                }
                self.phase = Phase::Proof;
                Turn::Do(Action::ReadState)
            }
            RebootTurn::Broke(cause) => {
                self.left = self.reboot.left();
                self.broke(facts, cause)
            }
        }
    }

    /// What the earlier steps proved must still hold.
    fn check(&self, facts: &Facts, state: &ImageState) -> Result<(), Cause> {
        for Proven { expected, confirmed } in facts.proven.values() {
            match examine(state, expected, facts.boot_mode()) {
                Proof::Runs { confirmed: false } if *confirmed => return Err(confirm_not_held(expected)),
                Proof::Runs { .. } => {}
                Proof::SwapPending => return Err(swap_pending(expected, facts.boot_mode(), self.left)),
                Proof::Other(cause) => return Err(cause),
            }
        }
        Ok(())
    }
}

impl StepMachine for ResetStep {
    fn next(&mut self, facts: &mut Facts, now: Time, outcome: Option<Outcome>) -> Turn {
        let phase = std::mem::replace(&mut self.phase, Phase::Start);
        match (phase, outcome) {
            (Phase::Start, None) if self.sent => {
                let turn = self.reboot.wait_anew(facts, now);
                self.follow(facts, turn)
            }
            (Phase::Start, None)
                if !facts.proven.is_empty() && !facts.changed && !self.force && self.boot_mode.is_none() =>
            {
                self.phase = Phase::LookOnly;
                Turn::Do(Action::ReadState)
            }
            (Phase::LookOnly, Some(Outcome::State(state))) => {
                facts.note_state(state.clone());
                match self.check(facts, &state) {
                    Ok(()) => Turn::skipped("nothing was changed", facts),
                    Err(cause) => Turn::broke(cause),
                }
            }
            (Phase::Start, None) => {
                self.sent = true;
                let turn = self.reboot.next(facts, now, None);
                self.follow(facts, turn)
            }
            (Phase::Reboot, outcome @ Some(_)) => {
                let turn = self.reboot.next(facts, now, outcome);
                self.follow(facts, turn)
            }
            (Phase::Proof, Some(Outcome::State(state))) => {
                facts.note_state(state.clone());
                match self.check(facts, &state) {
                    Ok(()) => Turn::held(self.detail(facts)),
                    Err(cause) => self.broke(facts, cause),
                }
            }
            // It answered and then fell silent: it left late. Its time is not over yet.
            (Phase::Proof, Some(Outcome::Failed(cause)))
                if cause.class.is_retryable() && !self.reboot.is_over(now) =>
            {
                self.reboot.note_left(left_late(&cause));
                let turn = self.reboot.wait_again(facts, now);
                self.follow(facts, turn)
            }
            (_, Some(Outcome::Failed(cause))) => self.broke(facts, cause),
            (_, outcome) => unexpected("reset", outcome.as_ref()),
        }
    }

    fn retry(&mut self) {
        // A reset that went out stays sent: a second one during a test boot would revert it.
        self.sent = self.reboot.is_sent();
        if !self.sent {
            self.reboot = Reboot::new(self.force, self.boot_mode);
        }
        self.phase = Phase::Start;
    }
}
