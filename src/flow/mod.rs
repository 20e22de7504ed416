//! What to do next with one device: the outcome of an action goes in, the next action comes out. No I/O, no tokio,
//! no actix, no clock: time is an argument.

mod action;
mod answerer;
mod choice;
mod dependency;
mod facts;
mod machine;
mod mode;
mod proof;
mod slots;
mod steps;
mod version;

pub use action::{Action, DeviceResult, Directive, FlowEvent, Outcome, SettingAction, StepEnded};
pub use machine::{Flow, FlowConfig, planned_steps};
pub use mode::BootMode;
pub use slots::{SlotDecision, decide};
