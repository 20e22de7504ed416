//! The actors: one per device, a scheduler and a reporter. The only place that knows actix. They share messages,
//! nothing else.

mod boards;
mod clock;
mod device;
mod discovery;
mod programs;
mod progress;
mod reporter;
mod run;
mod scheduler;
mod source;
mod way;
mod worker;

pub use discovery::{Found, Survey, TargetSurvey};
pub use run::{Interrupts, RunOptions, in_system, run, survey};
pub use source::{InBootloader, RealSource, Source};
pub use worker::Probed;
