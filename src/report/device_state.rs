//! What the events about one device come to. Part of the fold in `aggregate`; knows no other device.

use chrono::{DateTime, Utc};

use super::event::{
    DeviceId, Event, EventKind, ImageOutcome, PlannedStep, StepDetail, StepFinished, UploadFigures, Verdict,
};
use super::model::{DeviceReport, Retry, StepReport};
use super::normalise::finite;
use crate::cause::Cause;
use crate::identity::Identity;

/// Most failed attempts that one step keeps with their causes.
const MAX_RETRIES: usize = 20;

/// One device so far.
#[derive(Debug, Clone)]
pub(super) struct DeviceState {
    id: DeviceId,
    target: String,
    address: String,
    slot: String,
    identity: Identity,
    carried_from: Option<String>,
    attempts: u32,
    started_at: Option<DateTime<Utc>>,
    steps: Vec<StepState>,
    /// The step that was started and is not finished.
    open: Option<usize>,
    /// The latest of each image number, by number. Nearly always one, for which a map holds ten times its size.
    uploads: Vec<UploadFigures>,
    finished: Option<Finished>,
}

#[derive(Debug, Clone)]
struct Finished {
    /// When the verdict came; `None` where there is none.
    at: Option<DateTime<Utc>>,
    verdict: Verdict,
    changed: Option<bool>,
    cause: Option<Cause>,
    attempts: u32,
    images: Vec<ImageOutcome>,
    on_test: bool,
    duration_s: f64,
}

#[derive(Debug, Clone)]
struct StepState {
    name: String,
    started_at: Option<DateTime<Utc>>,
    /// Attempts of earlier attempts of the device.
    earlier: u32,
    retries: Vec<Retry>,
    result: Option<StepFinished>,
}

impl StepState {
    fn new(planned: &PlannedStep) -> Self {
        Self { name: planned.name.clone(), started_at: None, earlier: 0, retries: Vec::new(), result: None }
    }

    /// Makes room for another result, as the device is tried again.
    fn supersede(&mut self) {
        let Some(old) = self.result.take() else { return };
        self.earlier = self.earlier.saturating_add(old.attempts);
        if let (false, Some(cause)) = (old.verdict == Verdict::Passed, old.cause) {
            self.retry(self.earlier, cause);
        }
    }

    fn retry(&mut self, attempt: u32, cause: Cause) {
        if self.retries.len() < MAX_RETRIES {
            self.retries.push(Retry { attempt, cause });
        }
    }
}

/// Why an event does not fit, as code and message of a note.
type Misfit = (&'static str, String);

impl DeviceState {
    pub(super) fn new(
        id: DeviceId,
        target: String,
        address: String,
        identity: Identity,
        steps: &[PlannedStep],
        carried_from: Option<String>,
    ) -> Self {
        let slot = identity.slot_name().filter(|name| !name.is_empty()).unwrap_or(&address).to_owned();
        Self {
            id,
            target,
            address,
            slot,
            identity,
            carried_from,
            attempts: 0,
            started_at: None,
            steps: steps.iter().map(StepState::new).collect(),
            open: None,
            uploads: Vec::new(),
            finished: None,
        }
    }

    pub(super) fn title(&self) -> String {
        format!("{} {}", self.target, self.slot)
    }

    /// Whether another run gave it its verdict.
    pub(super) fn is_carried(&self) -> bool {
        self.carried_from.is_some()
    }

    pub(super) fn has_verdict(&self) -> bool {
        self.finished.is_some()
    }

    /// Counts an event in, or says why it does not fit.
    pub(super) fn apply(&mut self, event: &Event) -> Result<(), Misfit> {
        if self.finished.is_some() {
            return Err(match event.kind {
                EventKind::DeviceFinished { .. } => {
                    ("log.second_verdict", "the device has a second verdict; the first one counts".to_owned())
                }
                // The last word of a device that was given up.
                EventKind::Progress { .. } => return Ok(()),
                _ => ("log.after_verdict", "events follow the device's verdict and do not count".to_owned()),
            });
        }
        match &event.kind {
            EventKind::DeviceStarted { attempt } => {
                self.attempts = self.attempts.max(*attempt);
                self.started_at.get_or_insert(event.at);
                self.open = None;
            }
            EventKind::StepStarted { step, .. } => {
                let state = self.step(*step)?;
                state.supersede();
                state.started_at = Some(event.at);
                self.open = Some(*step);
            }
            EventKind::StepRetried { step, attempt, cause } => {
                let state = self.step(*step)?;
                state.retry(state.earlier.saturating_add(*attempt), cause.clone());
            }
            EventKind::StepFinished(finished) => {
                let state = self.step(finished.step)?;
                state.supersede();
                state.started_at = Some(finished.started_at);
                state.result = Some(finished.clone());
                self.open = None;
                if let Some(upload) = &finished.detail.upload {
                    self.uploads.retain(|other| other.image_number != upload.image_number);
                    let before =
                        self.uploads.partition_point(|other| other.image_number < upload.image_number);
                    self.uploads.reserve_exact(1);
                    self.uploads.insert(before, upload.clone());
                }
            }
            EventKind::DeviceFinished { verdict, changed, cause, attempts, images, on_test, duration_s } => {
                self.finished = Some(Finished {
                    at: Some(event.at),
                    verdict: *verdict,
                    changed: *changed,
                    cause: cause.clone(),
                    attempts: *attempts,
                    images: images.clone(),
                    on_test: *on_test,
                    duration_s: *duration_s,
                });
            }
            EventKind::RunStarted { .. }
            | EventKind::DeviceFound { .. }
            | EventKind::TargetUnmet { .. }
            | EventKind::Progress { .. }
            | EventKind::Note { .. }
            | EventKind::RunFinished { .. } => {}
        }
        Ok(())
    }

    fn step(&mut self, step: usize) -> Result<&mut StepState, Misfit> {
        let planned = self.steps.len();
        self.steps.get_mut(step).ok_or_else(|| {
            (
                "log.unknown_step",
                format!("an event is about step {step}, but only {planned} steps are planned"),
            )
        })
    }

    /// The device as reported; `lost` is the cause where there is no verdict.
    pub(super) fn report(&self, lost: &Cause) -> DeviceReport {
        let touched = self.steps.iter().any(|step| step.started_at.is_some());
        let unfinished = Finished {
            at: None,
            verdict: Verdict::Aborted,
            // Writing happens in steps only.
            changed: if touched { None } else { Some(false) },
            cause: Some(lost.clone()),
            attempts: self.attempts,
            images: Vec::new(),
            on_test: false,
            duration_s: 0.0,
        };
        let end = self.finished.as_ref().unwrap_or(&unfinished);
        DeviceReport {
            id: self.id.clone(),
            plan: None,
            target: self.target.clone(),
            address: self.address.clone(),
            slot: self.slot.clone(),
            identity: self.identity.clone(),
            verdict: end.verdict,
            changed: end.changed,
            on_test: end.on_test && end.verdict == Verdict::Passed,
            carried_from: self.carried_from.clone(),
            cause: end.cause.clone(),
            attempts: end.attempts.max(self.attempts),
            started_at: self.started_at,
            duration_s: self.finished.as_ref().map(|finished| finished.duration_s),
            images: self.images(end),
            steps: self.steps.iter().enumerate().map(|(at, step)| self.step_report(at, step, end)).collect(),
        }
    }

    /// The images of the verdict, completed by what the steps told.
    fn images(&self, end: &Finished) -> Vec<ImageOutcome> {
        let mut images = end.images.clone();
        for upload in &self.uploads {
            let number = upload.image_number;
            match images.iter_mut().find(|image| image.image_number == number) {
                Some(image) => {
                    image.upload.get_or_insert_with(|| upload.clone());
                }
                None => images.push(ImageOutcome {
                    image_number: number,
                    before: None,
                    after: None,
                    upload: Some(upload.clone()),
                }),
            }
        }
        images
    }

    fn step_report(&self, at: usize, step: &StepState, end: &Finished) -> StepReport {
        let report = StepReport {
            name: step.name.clone(),
            verdict: None,
            attempts: step.earlier,
            started_at: step.started_at,
            duration_s: None,
            cause: None,
            retries: step.retries.clone(),
            detail: StepDetail::default(),
        };
        match &step.result {
            Some(result) => StepReport {
                verdict: Some(result.verdict),
                attempts: step.earlier.saturating_add(result.attempts),
                duration_s: Some(result.duration_s),
                cause: result.cause.clone(),
                detail: result.detail.clone(),
                ..report
            },
            // The device ended in the middle of this step: what ended the device ended the step.
            None if self.open == Some(at) && end.verdict != Verdict::Passed => StepReport {
                verdict: Some(end.verdict),
                attempts: step.earlier.saturating_add(1),
                duration_s: end
                    .at
                    .zip(step.started_at)
                    .map(|(end, start)| finite((end - start).as_seconds_f64())),
                cause: end.cause.clone(),
                ..report
            },
            None => report,
        }
    }
}
