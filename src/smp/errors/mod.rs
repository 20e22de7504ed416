//! What devices say when they say no: by name, with a stable code and the next thing to do.

mod device;
mod names;

pub use device::{DeviceError, ResponseError};
pub use names::{error_name, group_name};
