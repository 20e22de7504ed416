//! Simulated devices that behave as the real servers do.

mod spec;

pub use spec::{FaultSpec, SimSpec};
