//! The flow against a model of a board: which actions it asks for, and what it concludes. No I/O and no clock: the model
//! advances a counter.

mod board;
mod confirm_and_reset;
mod device_steps;
mod modes;
#[path = "../common/package.rs"]
mod package;
mod packages;
mod recovery;
mod retries;
mod slots;
mod test_boot;
mod update;
