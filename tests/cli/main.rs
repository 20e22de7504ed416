//! The program as its users start it: exit codes, stable codes, lines and columns, and that nothing is written to a device
//! that should not be.

mod bad_input;
mod links;
mod list;
mod other_tools;
#[path = "../common/package.rs"]
mod package;
mod programs;
mod resume;
mod runs;
mod station;
mod update;
