//! The actors: one per device, a scheduler and a reporter. The only place that knows actix. They share messages,
//! nothing else.

mod boards;
mod clock;
mod commands;
mod device;
mod discovery;
mod earlier;
mod probe;
mod programs;
mod progress;
mod recovery;
mod reporter;
mod run;
mod scheduler;
mod setup;
mod source;
mod task;
mod way;
mod worker;
mod written;

pub use discovery::{Found, Survey, TargetSurvey};
pub use probe::Probed;
pub use run::{Interrupts, RunOptions, in_system, survey};
pub use setup::Run;
pub use source::{InBootloader, RealSource, Source};
