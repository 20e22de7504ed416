//! The sequence of one device's steps: starts, retries, ends, and the one verdict. What a single step does lives in
//! `steps`.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use crate::cause::{Cause, Class};
use crate::image::ImageSet;
use crate::plan::{Auto, BOOT_MODE_BOOTLOADER, Bootloader, Step};
use crate::report::{PlannedStep, StepDetail, Verdict};
use crate::smp::Time;

use super::dependency::accompanying;
use super::facts::{Facts, Place};
use super::steps::{
    ConfirmStep, DelayStep, EnterBootloaderStep, EraseStep, EraseStorageStep, GetStep, LeaveBootloaderStep,
    Planned, PutStep, RecoveryUploadStep, ResetStep, RunStep, SetTimeStep, SettingsStep, ShellStep, SmpStep,
    StepMachine, TestBootStep, Turn, UploadStep, VerifyStep,
};
use super::{Action, DeviceResult, Directive, FlowEvent, Outcome, StepEnded};

/// Pause before another attempt.
const RETRY_PAUSE: Duration = Duration::from_secs(1);

/// Everything a flow needs to know before it starts.
#[derive(Debug, Clone)]
pub struct FlowConfig {
    /// The steps, in order.
    pub steps: Vec<Step>,
    /// Images of the plan by name.
    pub images: BTreeMap<String, Arc<ImageSet>>,
    /// Silence after a reset.
    pub quiet: Duration,
    /// How long the device may take to come back.
    pub return_within: Duration,
    /// Attempts per device, at least 1; for link and station causes only.
    pub attempts: u32,
    /// Whether the plan has a recovery program.
    pub can_recover: bool,
    /// The device sits in its bootloader when its first step begins.
    pub starts_in_bootloader: bool,
    /// The bootloader's mode, where the plan says it.
    pub bootloader: Auto<Bootloader>,
}

/// The planned steps with names that are unique within the device and stable from run to run.
#[must_use]
pub fn planned_steps(steps: &[Step]) -> Vec<PlannedStep> {
    let mut seen: HashMap<String, u32> = HashMap::new();
    steps
        .iter()
        .map(|step| {
            let name = step.name();
            let count = seen.entry(name.clone()).or_insert(0);
            *count += 1;
            PlannedStep { name: if *count == 1 { name } else { format!("{name} #{count}") } }
        })
        .collect()
}

#[derive(Debug)]
struct Current {
    index: usize,
    machine: Box<dyn StepMachine>,
    attempts: u32,
    started: Time,
}

#[derive(Debug)]
enum State {
    /// Between steps.
    Between(usize),
    /// Within a step, its next action is due.
    Due(Current),
    /// Within a step, an action is under way.
    Acting(Current),
    /// Waiting before another attempt at a step.
    Pausing(Current),
    /// Over.
    Finished(Box<DeviceResult>),
}

/// One device's way through its steps.
#[derive(Debug)]
pub struct Flow {
    steps: Vec<Step>,
    names: Vec<PlannedStep>,
    facts: Facts,
    state: State,
    told: VecDeque<FlowEvent>,
    outcome: Option<Outcome>,
    attempts_left: u32,
    attempts: u32,
    stop: Option<Cause>,
}

impl Flow {
    /// A flow before its first step.
    #[must_use]
    pub fn new(config: &FlowConfig) -> Self {
        Self {
            names: planned_steps(&config.steps),
            facts: Facts::new(config),
            steps: config.steps.clone(),
            state: State::Between(0),
            told: VecDeque::new(),
            outcome: None,
            attempts_left: config.attempts.max(1) - 1,
            attempts: 1,
            stop: None,
        }
    }

    /// Asks the flow to end after the step that is under way.
    pub fn stop_after_step(&mut self, cause: Cause) {
        self.stop.get_or_insert(cause);
    }

    /// Tells that something was written to the device, also where the action then fails.
    pub fn note_written(&mut self) {
        self.facts.changed = true;
    }

    /// The outcome of the action that was asked for last.
    pub fn handle(&mut self, outcome: Outcome) {
        self.outcome = Some(outcome);
    }

    /// What is next.
    pub fn next(&mut self, now: Time) -> Directive {
        loop {
            if let Some(event) = self.told.pop_front() {
                return Directive::Tell(event);
            }
            match std::mem::replace(&mut self.state, State::Between(usize::MAX)) {
                State::Finished(result) => {
                    self.state = State::Finished(result.clone());
                    return Directive::Finished(*result);
                }
                State::Between(index) => self.begin(index, now),
                State::Due(mut current) => {
                    let turn = current.machine.next(&mut self.facts, now, None);
                    if let Some(action) = self.take(current, now, turn) {
                        return Directive::Perform(action);
                    }
                }
                State::Acting(mut current) => {
                    let turn = current.machine.next(&mut self.facts, now, self.outcome.take());
                    if let Some(action) = self.take(current, now, turn) {
                        return Directive::Perform(action);
                    }
                }
                State::Pausing(mut current) => {
                    self.outcome = None;
                    current.machine.retry();
                    self.state = State::Due(current);
                }
            }
        }
    }

    /// The device's end where something outside the flow ended it: its deadline, an interrupt, a defect.
    #[must_use]
    pub fn cut(&self, verdict: Verdict, cause: Cause) -> DeviceResult {
        self.result(verdict, Some(cause))
    }

    /// The step under way, where one is.
    #[must_use]
    pub fn current_step(&self) -> Option<&str> {
        match &self.state {
            State::Due(current) | State::Acting(current) | State::Pausing(current) => {
                self.names.get(current.index).map(|step| step.name.as_str())
            }
            State::Between(_) | State::Finished(_) => None,
        }
    }

    /// Position of the step under way in the planned steps, from 0; 0 where none is.
    #[must_use]
    pub fn current_index(&self) -> usize {
        match &self.state {
            State::Due(current) | State::Acting(current) | State::Pausing(current) => current.index,
            State::Between(_) | State::Finished(_) => 0,
        }
    }

    /// The current step's event where something outside the flow ends it, so that it does not stay open in the log.
    #[must_use]
    pub fn cut_step(&self, now: Time, verdict: Verdict, cause: &Cause) -> Option<StepEnded> {
        match &self.state {
            State::Due(current) | State::Acting(current) | State::Pausing(current) => {
                Some(self.ended(current, now, verdict, Some(cause.clone()), StepDetail::default()))
            }
            State::Between(_) | State::Finished(_) => None,
        }
    }

    fn begin(&mut self, index: usize, now: Time) {
        let Some(step) = self.steps.get(index) else {
            self.finish(Verdict::Passed, None);
            return;
        };
        if let Some(cause) = self.stop.take() {
            self.finish(Verdict::Aborted, Some(cause));
            return;
        }
        if matches!(step, Step::Reset { boot_mode: None, .. }) && self.facts.place == Place::NotNeeded {
            self.facts.place = Place::Application;
        }
        let machine = match self.machine(index, step) {
            Ok(machine) => machine,
            Err(cause) => {
                self.finish(Verdict::of_cause(&cause), Some(cause));
                return;
            }
        };
        let name = self.name(index);
        self.told.push_back(FlowEvent::StepStarted { step: index, name });
        self.state = State::Due(Current { index, machine, attempts: 1, started: now });
    }

    fn machine(&self, index: usize, step: &Step) -> Result<Box<dyn StepMachine>, Cause> {
        Ok(match step.clone() {
            Step::Upload { image: name, image_number, upgrade_only, force } => {
                let Some(set) = self.facts.images.get(&name) else {
                    return Err(Cause::new(
                        Class::Internal,
                        "internal.unknown_image",
                        format!("expected the plan to hold image {name}, it does not"),
                        "this is a defect of flashfleet: the plan should have been refused",
                    ));
                };
                if self.facts.place != Place::Application {
                    return Ok(Box::new(RecoveryUploadStep::new(name, set, image_number, force)));
                }
                let beside = accompanying(&self.steps, index, &self.facts.images);
                Box::new(UploadStep::new(name, set, beside, image_number, upgrade_only, force))
            }
            Step::TestBoot => Box::new(TestBootStep::new(false, true)),
            Step::Activate { permanent, boot } => Box::new(TestBootStep::new(permanent, boot)),
            Step::Confirm => Box::new(ConfirmStep::new()),
            Step::Reset { force, boot_mode: Some(BOOT_MODE_BOOTLOADER) } => {
                let planned = self.planned_in_bootloader(index + 1);
                Box::new(EnterBootloaderStep::new(force, BOOT_MODE_BOOTLOADER, planned))
            }
            Step::Reset { force, boot_mode: None } if self.facts.place == Place::Bootloader => {
                Box::new(LeaveBootloaderStep::new(force))
            }
            Step::Reset { force, boot_mode } => Box::new(ResetStep::new(force, boot_mode)),
            Step::Verify { version, hash, confirmed, echo } => {
                Box::new(VerifyStep::new(version, hash, confirmed, echo))
            }
            Step::Erase { slot } => Box::new(EraseStep::new(slot)),
            Step::Delay(time) => Box::new(DelayStep::new(time)),
            Step::Run { program, arguments } => Box::new(RunStep::new(program, arguments)),
            Step::Shell { run, expect, timeout } => Box::new(ShellStep::new(run, expect, timeout)),
            Step::Put { file, to } => Box::new(PutStep::new(file, to)),
            Step::Get { from, file } => Box::new(GetStep::new(from, file)),
            Step::Settings(settings) => Box::new(SettingsStep::new(settings)),
            Step::SetTime => Box::new(SetTimeStep::new()),
            Step::EraseStorage => Box::new(EraseStorageStep),
            Step::Smp(command) => Box::new(SmpStep::new(command)),
        })
    }

    /// The images that the steps from `index` on upload before the next reset; none where they do anything else there, or
    /// must upload whatever runs.
    fn planned_in_bootloader(&self, index: usize) -> Vec<Planned> {
        let mut planned = Vec::new();
        for step in self.steps.iter().skip(index) {
            match step {
                Step::Upload { image, image_number, force: false, .. } => {
                    let Some(set) = self.facts.images.get(image) else { return Vec::new() };
                    let members = set.for_image(*image_number).into_iter().cloned().collect();
                    planned.push(Planned { image_number: *image_number, members });
                }
                Step::Delay(_) | Step::Verify { .. } => {}
                Step::Reset { boot_mode: None, .. } => break,
                _ => return Vec::new(),
            }
        }
        planned
    }

    /// Takes what a step wants; gives the action to perform, if it is one.
    fn take(&mut self, current: Current, now: Time, turn: Turn) -> Option<Action> {
        match turn {
            Turn::Do(action) => {
                self.state = State::Acting(current);
                Some(action)
            }
            Turn::Held(detail) => {
                let ended = self.ended(&current, now, Verdict::Passed, None, *detail);
                self.told.push_back(FlowEvent::StepEnded(Box::new(ended)));
                self.state = State::Between(current.index + 1);
                None
            }
            Turn::Broke(cause, _)
                if cause.class.is_retryable() && self.attempts_left > 0 && self.stop.is_none() =>
            {
                self.attempts_left -= 1;
                self.attempts += 1;
                let mut current = current;
                self.told.push_back(FlowEvent::StepRetried {
                    step: current.index,
                    attempt: current.attempts,
                    cause,
                });
                current.attempts += 1;
                self.facts.forget_state();
                self.state = State::Pausing(current);
                Some(Action::Wait(RETRY_PAUSE))
            }
            Turn::Broke(cause, detail) => {
                self.end(&current, now, cause, *detail);
                None
            }
            Turn::Lost(cause) => {
                self.end(&current, now, cause, StepDetail::default());
                None
            }
        }
    }

    /// The step did not hold, and with it the device did not pass.
    fn end(&mut self, current: &Current, now: Time, cause: Cause, detail: StepDetail) {
        let verdict = Verdict::of_cause(&cause);
        let ended = self.ended(current, now, verdict, Some(cause.clone()), detail);
        self.told.push_back(FlowEvent::StepEnded(Box::new(ended)));
        self.finish(verdict, Some(cause));
    }

    fn ended(
        &self,
        current: &Current,
        now: Time,
        verdict: Verdict,
        cause: Option<Cause>,
        detail: StepDetail,
    ) -> StepEnded {
        StepEnded {
            step: current.index,
            name: self.name(current.index),
            verdict,
            attempts: current.attempts,
            started: current.started,
            ended: now,
            cause,
            detail,
        }
    }

    fn name(&self, index: usize) -> String {
        self.names.get(index).map(|step| step.name.clone()).unwrap_or_default()
    }

    fn finish(&mut self, verdict: Verdict, cause: Option<Cause>) {
        self.state = State::Finished(Box::new(self.result(verdict, cause)));
    }

    fn result(&self, verdict: Verdict, cause: Option<Cause>) -> DeviceResult {
        DeviceResult {
            verdict,
            changed: self.facts.changed,
            cause,
            attempts: self.attempts,
            images: self.facts.outcomes(),
            on_test: self.facts.on_test(),
        }
    }
}
