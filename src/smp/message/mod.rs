//! Typed requests and answers, one file per management group. Fields are named as in the specification.

mod codec;
mod entries;
pub mod enumeration;
pub mod fs;
pub mod image;
pub mod os;
pub mod raw;
pub mod settings;
pub mod shell;
pub mod stat;
pub mod zephyr;

pub use super::errors::DeviceError;
pub use codec::{DecodeError, EncodeError, Repeat, Request, decode_response, encode_body};
pub use entries::Entries;
