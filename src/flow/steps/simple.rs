//! Steps of one or two actions: verify, erase, delay, run.

use std::time::Duration;

use semver::VersionReq;

use crate::cause::{Cause, Class};
use crate::flow::facts::Place;
use crate::flow::proof::short_hash;
use crate::flow::slots::{active, no_running_image, primary};
use crate::report::StepDetail;
use crate::smp::Time;
use crate::smp::message::image::ImageState;

use super::{Action, Facts, Outcome, StepMachine, Turn, unexpected};

/// Requires what the plan says of the running image.
#[derive(Debug)]
pub(in crate::flow) struct VerifyStep {
    version: Option<VersionReq>,
    hash: Option<Vec<u8>>,
    confirmed: Option<bool>,
    echo: Option<String>,
}

impl VerifyStep {
    pub(in crate::flow) fn new(
        version: Option<VersionReq>,
        hash: Option<Vec<u8>>,
        confirmed: Option<bool>,
        echo: Option<String>,
    ) -> Self {
        Self { version, hash, confirmed, echo }
    }

    /// Whether more is required than an echo.
    fn is_about_the_image(&self) -> bool {
        self.version.is_some() || self.hash.is_some() || self.confirmed.is_some()
    }

    fn check(&self, state: &ImageState, image_number: u32, place: Place) -> Result<(), Cause> {
        let running = active(state, image_number)
            .or_else(|| (place == Place::Bootloader).then(|| primary(state, image_number)).flatten())
            .ok_or_else(|| no_running_image(state, image_number))?;
        let unmet = |what: &str, expected: String, actual: String| {
            Cause::new(
                Class::Device,
                "verify.mismatch",
                format!("expected {what} {expected}, got {actual}"),
                "the running image is not what the plan requires: look at which image the device runs",
            )
        };
        if let Some(required) = &self.version {
            let holds = running
                .version
                .parse::<crate::image::Version>()
                .is_ok_and(|version| version.satisfies(required));
            if !holds {
                return Err(unmet("version", required.to_string(), running.version.clone()));
            }
        }
        if let Some(expected) = &self.hash
            && running.hash.as_ref() != Some(expected)
        {
            let actual = running.hash.as_deref().map_or_else(|| "none".to_owned(), short_hash);
            return Err(unmet("hash", short_hash(expected), actual));
        }
        if let Some(expected) = self.confirmed
            && running.confirmed != expected
        {
            return Err(unmet("confirmed", expected.to_string(), running.confirmed.to_string()));
        }
        Ok(())
    }
}

impl StepMachine for VerifyStep {
    fn next(&mut self, facts: &mut Facts, _now: Time, outcome: Option<Outcome>) -> Turn {
        match outcome {
            None => match &self.echo {
                // A device without image management can still send a text back.
                Some(text) if !self.is_about_the_image() => Turn::Do(Action::Echo { text: text.clone() }),
                _ => Turn::Do(Action::ReadState),
            },
            Some(Outcome::State(state)) => {
                facts.note_state(state.clone());
                if let Err(cause) = self.check(&state, facts.main_image(), facts.place) {
                    return Turn::broke(cause);
                }
                match &self.echo {
                    Some(text) => Turn::Do(Action::Echo { text: text.clone() }),
                    None => {
                        let running = facts.running(facts.main_image());
                        Turn::held(StepDetail { running, ..StepDetail::default() })
                    }
                }
            }
            Some(Outcome::Echoed(text)) => {
                if self.echo.as_deref() != Some(text.as_str()) {
                    return Turn::broke(Cause::new(
                        Class::Device,
                        "verify.echo",
                        format!(
                            "expected the echo {:?}, got {text:?}",
                            self.echo.as_deref().unwrap_or_default()
                        ),
                        "the device or the link changes what is sent: check cable and baud rate",
                    ));
                }
                let running = facts.running(facts.main_image());
                Turn::held(StepDetail { running, ..StepDetail::default() })
            }
            Some(Outcome::Failed(cause)) => Turn::broke(cause),
            Some(outcome) => unexpected("verify", Some(&outcome)),
        }
    }

    fn retry(&mut self) {}
}

/// Erases a slot, and reads back that it is empty.
#[derive(Debug)]
pub(in crate::flow) struct EraseStep {
    slot: u32,
}

impl EraseStep {
    pub(in crate::flow) fn new(slot: u32) -> Self {
        Self { slot }
    }
}

impl StepMachine for EraseStep {
    fn next(&mut self, facts: &mut Facts, _now: Time, outcome: Option<Outcome>) -> Turn {
        match outcome {
            None => Turn::Do(Action::Erase { slot: self.slot }),
            Some(Outcome::Done) => {
                facts.changed = true;
                facts.forget_state();
                Turn::Do(Action::ReadState)
            }
            Some(Outcome::State(state)) => {
                facts.note_state(state.clone());
                // Slots are numbered through all images: two each.
                let (image, slot) = (self.slot / 2, self.slot % 2);
                match state.images.iter().find(|entry| entry.image == image && entry.slot == slot) {
                    None => Turn::held(StepDetail::default()),
                    Some(left) => Turn::broke(Cause::new(
                        Class::Device,
                        "device.not_erased",
                        format!(
                            "expected slot {} to be empty, the device lists {} in it",
                            self.slot, left.version
                        ),
                        "the device accepted the erase and still shows an image: look at its flash",
                    )),
                }
            }
            Some(Outcome::Failed(cause)) => Turn::broke(cause),
            Some(outcome) => unexpected("erase", Some(&outcome)),
        }
    }

    fn retry(&mut self) {}
}

/// Waits.
#[derive(Debug)]
pub(in crate::flow) struct DelayStep {
    time: Duration,
}

impl DelayStep {
    pub(in crate::flow) fn new(time: Duration) -> Self {
        Self { time }
    }
}

impl StepMachine for DelayStep {
    fn next(&mut self, _facts: &mut Facts, _now: Time, outcome: Option<Outcome>) -> Turn {
        match outcome {
            None => Turn::Do(Action::Wait(self.time)),
            Some(Outcome::Done) => Turn::held(StepDetail::default()),
            Some(outcome) => unexpected("delay", Some(&outcome)),
        }
    }

    fn retry(&mut self) {}
}

/// Runs a program on this machine; a non-zero exit fails the step.
#[derive(Debug)]
pub(in crate::flow) struct RunStep {
    program: String,
    arguments: Vec<String>,
}

impl RunStep {
    pub(in crate::flow) fn new(program: String, arguments: Vec<String>) -> Self {
        Self { program, arguments }
    }
}

impl StepMachine for RunStep {
    fn next(&mut self, _facts: &mut Facts, _now: Time, outcome: Option<Outcome>) -> Turn {
        match outcome {
            None => Turn::Do(Action::RunProgram {
                program: self.program.clone(),
                arguments: self.arguments.clone(),
            }),
            Some(Outcome::ProgramEnded { code, output }) => {
                let detail = StepDetail { output: Some(output), ..StepDetail::default() };
                if code == Some(0) {
                    return Turn::held(detail);
                }
                let actual = code.map_or_else(|| "a signal".to_owned(), |code| format!("exit code {code}"));
                let cause = Cause::new(
                    Class::Device,
                    "step.program_failed",
                    format!("expected {} to exit with 0, got {actual}", self.program),
                    "the end of what it printed is in the report",
                );
                Turn::Broke(cause, Box::new(detail))
            }
            Some(Outcome::Failed(cause)) => Turn::broke(cause),
            Some(outcome) => unexpected("run", Some(&outcome)),
        }
    }

    fn retry(&mut self) {}
}
