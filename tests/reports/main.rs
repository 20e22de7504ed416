//! Reports: what a run's events come to, in every format, whole or cut short.

#![expect(
    clippy::unwrap_used,
    clippy::cast_possible_truncation,
    reason = "a test that cannot go on has failed"
)]

mod command;
mod golden;
mod properties;
mod reporter;
mod run;
mod verdicts;
