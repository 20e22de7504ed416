//! What a person sees while a run goes on. Consumes events; decides nothing, and never fails: a terminal that is gone
//! does not end a run.

mod bars;
mod lines;
mod plain;
mod screen;
mod tracker;

pub(super) use lines::verdict_style;
pub use screen::{Display, ProgressMode};
