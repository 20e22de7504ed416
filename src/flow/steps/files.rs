//! The steps put and get. How a file goes over is the client's.

use crate::plan::LocalFile;
use crate::report::StepDetail;
use crate::smp::Time;

use super::{Action, Facts, Outcome, StepMachine, Turn, unexpected};

/// Writes a file to the device. One that is there already, as its hash shows, is left alone.
#[derive(Debug)]
pub(in crate::flow) struct PutStep {
    file: LocalFile,
    to: String,
    /// Something of it was sent: what is found there later is our own work.
    begun: bool,
}

impl PutStep {
    pub(in crate::flow) fn new(file: LocalFile, to: String) -> Self {
        Self { file, to, begun: false }
    }
}

impl StepMachine for PutStep {
    fn next(&mut self, facts: &mut Facts, _now: Time, outcome: Option<Outcome>) -> Turn {
        let (file, to) = (self.file.clone(), self.to.clone());
        match outcome {
            None => Turn::Do(Action::CompareFile { file, to }),
            Some(Outcome::Compared(Some(kind))) if self.begun => {
                let note = format!("put, {kind} compared; an answer of the device was lost");
                Turn::held(StepDetail { notes: vec![note], ..StepDetail::default() })
            }
            Some(Outcome::Compared(Some(kind))) => {
                Turn::skipped(format!("it is on the device already, {kind} compared"), facts)
            }
            Some(Outcome::Compared(None)) => {
                self.begun = true;
                Turn::Do(Action::PutFile { file, to })
            }
            Some(Outcome::FilePut { bytes, resumed, checked }) => {
                facts.changed = true;
                let checked = match checked {
                    Some(kind) => format!("{kind} compared"),
                    None => "compared by its length alone, as far as the device tells it: it has no hash for files"
                        .to_owned(),
                };
                let mut notes = vec![format!("put {bytes} bytes, {checked}")];
                if resumed > 0 {
                    notes.push(format!("the transfer went on or began again {resumed} times"));
                }
                Turn::held(StepDetail { notes, ..StepDetail::default() })
            }
            Some(Outcome::Failed(cause)) => Turn::broke(cause),
            Some(outcome) => unexpected("put", Some(&outcome)),
        }
    }

    fn retry(&mut self) {
        // The comparison at the beginning finds out whether an earlier attempt did it all.
    }
}

/// Reads a file from the device.
#[derive(Debug)]
pub(in crate::flow) struct GetStep {
    from: String,
    file: LocalFile,
}

impl GetStep {
    pub(in crate::flow) fn new(from: String, file: LocalFile) -> Self {
        Self { from, file }
    }
}

impl StepMachine for GetStep {
    fn next(&mut self, _facts: &mut Facts, _now: Time, outcome: Option<Outcome>) -> Turn {
        match outcome {
            None => Turn::Do(Action::GetFile { from: self.from.clone(), file: self.file.clone() }),
            Some(Outcome::FileGot { bytes, path }) => {
                let note = format!("got {bytes} bytes: {path}");
                Turn::held(StepDetail { notes: vec![note], ..StepDetail::default() })
            }
            Some(Outcome::Failed(cause)) => Turn::broke(cause),
            Some(outcome) => unexpected("get", Some(&outcome)),
        }
    }

    fn retry(&mut self) {}
}
