//! The Simple Management Protocol without I/O: no tokio, no actix, no clock. Time is an argument.
//!
//! Specification: Zephyr `doc/services/device_mgmt/smp_protocol.rst`, `smp_transport.rst` and `smp_groups/`.

pub mod chunk;
pub mod cobs;
pub mod console;
pub mod detect;
pub mod errors;
pub mod exchange;
mod header;
pub mod message;
pub mod raw;
mod request;
pub mod upload;

pub use header::{HEADER_LEN, Header, HeaderError, Op, Version, group};
pub use request::{Answer, RawRequest, RequestId};

/// A point in time: the time since an epoch that the caller chooses and keeps.
pub type Time = std::time::Duration;
