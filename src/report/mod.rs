//! Events, and everything that is made of them. Depends on no engine: reports are pure functions of the event log.

mod aggregate;
mod copy;
mod device_state;
mod diagnosis;
mod display;
mod earlier;
mod event;
mod html;
mod junit;
pub mod log;
mod merge;
mod model;
mod names;
mod normalise;
mod outputs;
mod read;
mod reporter;
mod sequence;
mod summary;
mod text;

pub use aggregate::Aggregate;
pub use diagnosis::{LimitedBy, Setting, UploadDiagnosis};
pub use display::{Display, ProgressMode};
pub use earlier::{EarlierDevice, EarlierRun};
pub use event::{
    Departure, DeviceId, Event, EventKind, ImageOutcome, ImageView, Outcome, PlannedStep, SCHEMA, StepDetail,
    StepFinished, UploadFigures, Verdict,
};
pub use html::to_html;
pub use junit::to_junit;
pub use merge::merge;
pub use model::{
    DeviceReport, ON_TEST, REPORT_SCHEMA, Report, ReportNote, Retry, RunReport, StepReport, Summary,
    UnmetTarget, events_schema, report_schema,
};
pub use normalise::MAX_TEXT;
pub use outputs::{Destination, Format, OutputPaths, Outputs, prepare_outputs, write_atomically};
pub use read::{read_report, read_report_from};
pub use reporter::{Finished, ReporterCore};
pub use summary::{SummaryStyle, summary};
