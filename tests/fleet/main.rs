//! Whole runs against simulated devices in virtual time: scheduler, reporter and device actors as they are, every verdict
//! held against what is true of the device.

mod happy;
mod line;
mod policy;
mod trouble;
mod verdicts;
