//! Events, and everything that is made of them. Depends on no engine: reports are pure functions of the event log.

mod event;

pub use event::{
    Departure, DeviceId, Event, EventKind, ImageOutcome, ImageView, Outcome, PlannedStep, SCHEMA, StepDetail,
    StepFinished, UploadFigures, Verdict,
};
