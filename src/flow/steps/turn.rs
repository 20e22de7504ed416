//! What a step and the sequence of steps say to each other. No step lives here.

use std::fmt;

use crate::cause::{Cause, Class};
use crate::report::StepDetail;
use crate::smp::Time;

use super::{Action, Facts, Outcome};

/// What a step wants next.
#[derive(Debug)]
pub(in crate::flow) enum Turn {
    /// Do this.
    Do(Action),
    /// The step held.
    Held(Box<StepDetail>),
    /// The step did not hold.
    Broke(Cause, Box<StepDetail>),
    /// The step did not hold, and trying again could do harm.
    Lost(Cause),
}

impl Turn {
    pub(super) fn held(detail: StepDetail) -> Self {
        Self::Held(Box::new(detail))
    }

    pub(super) fn skipped(reason: impl Into<String>, facts: &Facts) -> Self {
        let running = facts.running(facts.main_image());
        Self::held(StepDetail { skipped: Some(reason.into()), running, ..StepDetail::default() })
    }

    /// What must not be sent a second time was sent, and nothing tells what came of it.
    pub(super) fn lost(facts: &mut Facts, cause: Cause) -> Self {
        facts.changed = true;
        Self::Lost(cause)
    }

    pub(super) fn broke(cause: Cause) -> Self {
        Self::Broke(cause, Box::default())
    }
}

/// One step of one device.
pub(in crate::flow) trait StepMachine: Send + fmt::Debug {
    /// Takes the outcome of the action asked for last (`None` at the start and after a retry), gives what is next.
    fn next(&mut self, facts: &mut Facts, now: Time, outcome: Option<Outcome>) -> Turn;

    /// Prepares for another attempt after the link or the station failed. Never lets a reset be sent twice blindly.
    fn retry(&mut self);
}

/// An outcome that does not belong to the action: a defect, told as one.
pub(super) fn unexpected(step: &str, outcome: Option<&Outcome>) -> Turn {
    Turn::broke(Cause::new(
        Class::Internal,
        "internal.unexpected_outcome",
        format!("step {step} got an outcome that it did not ask for: {outcome:?}"),
        "this is a defect of flashfleet: please report it with the journal",
    ))
}
