//! The confirm step: only the running image, only where it is the uploaded one, and read back that it holds.

use crate::cause::{Cause, Class};
use crate::flow::proof::{Proof, confirm_not_held, examine, short_hash};
use crate::report::StepDetail;
use crate::smp::Time;
use crate::smp::message::image::ImageState;

use super::{Action, Facts, Outcome, StepMachine, Turn, unexpected};

#[derive(Debug)]
enum Phase {
    Start,
    Look,
    Confirm(Vec<Vec<u8>>),
    ReadBack,
}

/// Confirms every image that earlier steps uploaded.
#[derive(Debug)]
pub(in crate::flow) struct ConfirmStep {
    phase: Phase,
}

impl ConfirmStep {
    pub(in crate::flow) fn new() -> Self {
        Self { phase: Phase::Start }
    }

    fn first_look(&mut self, facts: &mut Facts, state: &ImageState) -> Turn {
        if facts.expected.is_empty() {
            return Turn::broke(Cause::new(
                Class::Plan,
                "plan.nothing_to_confirm",
                "expected an upload before the confirm, there was none",
                "put upload and test-boot before confirm: only an image that was seen to run is confirmed",
            ));
        }
        let by_version = facts.boot_mode().filter(|mode| mode.is_by_version());
        let mut unconfirmed = Vec::new();
        for expected in facts.expected.values() {
            match examine(state, expected, facts.boot_mode()) {
                Proof::Runs { .. } if by_version.is_some() => {}
                Proof::Runs { confirmed: true } => {}
                Proof::Runs { confirmed: false } => unconfirmed.push(expected.hash.clone()),
                // An image that never ran must not be confirmed: it could brick the device.
                Proof::SwapPending => {
                    return Turn::broke(Cause::new(
                        Class::Device,
                        "image.not_running",
                        format!(
                            "expected {} ({}) to run before it is confirmed, it still waits in the slot that does not run",
                            expected.version,
                            short_hash(&expected.hash)
                        ),
                        "put test-boot before confirm: only an image that was seen to run is confirmed",
                    ));
                }
                Proof::Other(cause) => return Turn::broke(cause),
            }
        }
        if let Some(mode) = by_version {
            facts.prove(false);
            let notes = vec![format!("{mode} has no confirm: that the image runs was read back")];
            let running = facts.running(facts.main_image());
            return Turn::held(StepDetail { running, notes, ..StepDetail::default() });
        }
        if unconfirmed.is_empty() {
            facts.prove(true);
            return Turn::skipped("it is confirmed already", facts);
        }
        self.confirm(unconfirmed)
    }

    fn confirm(&mut self, mut unconfirmed: Vec<Vec<u8>>) -> Turn {
        match unconfirmed.pop() {
            Some(hash) => {
                self.phase = Phase::Confirm(unconfirmed);
                Turn::Do(Action::Confirm { hash })
            }
            None => {
                self.phase = Phase::ReadBack;
                Turn::Do(Action::ReadState)
            }
        }
    }

    fn read_back(facts: &mut Facts, state: &ImageState) -> Turn {
        for expected in facts.expected.values() {
            match examine(state, expected, facts.boot_mode()) {
                Proof::Runs { confirmed: true } => {}
                Proof::Other(cause) => return Turn::broke(cause),
                Proof::Runs { confirmed: false } | Proof::SwapPending => {
                    return Turn::broke(confirm_not_held(expected));
                }
            }
        }
        facts.prove(true);
        let running = facts.running(facts.main_image());
        Turn::held(StepDetail { running, ..StepDetail::default() })
    }
}

/// Zephyr's servers refuse to confirm other images than the one that executes, unless they are built to
/// (`img_mgmt_set_next_boot_slot`). That is no matter of a missing test boot.
fn denied(mut cause: Cause, facts: &Facts) -> Cause {
    let several = facts.expected.keys().any(|&image_number| image_number > 0);
    if several && cause.code.ends_with("image_confirmation_denied") {
        cause.help = "let the application confirm its further images itself, or build it with \
                      CONFIG_MCUMGR_GRP_IMG_ALLOW_CONFIRM_NON_ACTIVE_IMAGE_ANY; as it is they revert at the next reset"
            .to_owned();
    }
    cause
}

impl StepMachine for ConfirmStep {
    fn next(&mut self, facts: &mut Facts, _now: Time, outcome: Option<Outcome>) -> Turn {
        let phase = std::mem::replace(&mut self.phase, Phase::Start);
        match (phase, outcome) {
            (Phase::Start, None) => {
                self.phase = Phase::Look;
                Turn::Do(Action::ReadState)
            }
            (Phase::Look, Some(Outcome::State(state))) => {
                facts.note_state(state.clone());
                self.first_look(facts, &state)
            }
            (Phase::Confirm(unconfirmed), Some(Outcome::State(_))) => {
                facts.changed = true;
                facts.forget_state();
                self.confirm(unconfirmed)
            }
            (Phase::ReadBack, Some(Outcome::State(state))) => {
                facts.note_state(state.clone());
                Self::read_back(facts, &state)
            }
            (Phase::Confirm(_), Some(Outcome::Failed(cause))) => Turn::broke(denied(cause, facts)),
            (_, Some(Outcome::Failed(cause))) => Turn::broke(cause),
            (_, outcome) => unexpected("confirm", outcome.as_ref()),
        }
    }

    fn retry(&mut self) {
        self.phase = Phase::Start;
    }
}
