//! Typed requests and answers, one file per management group. Fields are named as in the specification.

mod codec;
pub mod image;
pub mod os;

pub use super::errors::DeviceError;
pub use codec::{DecodeError, EncodeError, Repeat, Request, decode_response, encode_body};
