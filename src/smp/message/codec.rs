//! From typed messages to CBOR and back, and what a device says when it says no. No group's messages live here.

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::smp::{Op, Version};

/// Whether a request may be sent again when its answer does not come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Repeat {
    /// Doing it twice is the same as doing it once.
    Safe,
    /// Doing it twice is another thing, or harm: a second reset during a test boot reverts the update. A lost answer
    /// is resolved by looking.
    Once,
}

/// A request that knows where it goes and what answers it.
pub trait Request: Serialize {
    /// [`Op::Read`] or [`Op::Write`].
    const OP: Op;
    /// Management group.
    const GROUP: u16;
    /// Command within the group.
    const COMMAND: u8;
    /// Whether it may be sent twice.
    const REPEAT: Repeat = Repeat::Safe;
    /// What a success carries.
    type Response: DeserializeOwned;
}

/// The device's no.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeviceError {
    /// The group whose numbering `rc` follows; `None` for the errors of SMP itself.
    pub group: Option<u16>,
    /// The number.
    pub rc: i64,
    /// The reason that some servers add (`rsn`).
    pub reason: Option<String>,
}

/// Why an answer's payload is not what was asked for.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// The device said no.
    #[error("the device answered with an error: {0:?}")]
    Device(DeviceError),
    /// Not CBOR, or not the fields that were expected.
    #[error("expected a CBOR map with the answer's fields, got {0}")]
    Malformed(String),
    /// Bytes after the CBOR.
    #[error("expected {consumed} bytes of CBOR, got {total}")]
    Trailing {
        /// Bytes that the CBOR item took.
        consumed: usize,
        /// Bytes of the payload.
        total: usize,
    },
}

/// The CBOR payload of a message.
///
/// # Errors
/// Only where a value cannot be put into CBOR at all, which none of this crate's messages do.
pub fn encode_body<T: Serialize>(message: &T) -> Result<Vec<u8>, DecodeError> {
    let mut out = Vec::new();
    ciborium::into_writer(message, &mut out).map_err(|error| DecodeError::Malformed(error.to_string()))?;
    Ok(out)
}

/// Reads an answer's payload: the device's no in either version's form, or the fields asked for.
///
/// # Errors
/// [`DecodeError`]; bytes left over are an error.
pub fn decode_response<T: DeserializeOwned>(version: Version, payload: &[u8]) -> Result<T, DecodeError> {
    let _ = version;
    let mut rest = payload;
    let value: ciborium::Value =
        ciborium::from_reader(&mut rest).map_err(|error| DecodeError::Malformed(error.to_string()))?;
    if !rest.is_empty() {
        return Err(DecodeError::Trailing { consumed: payload.len() - rest.len(), total: payload.len() });
    }
    if let Some(error) = device_error(&value) {
        return Err(DecodeError::Device(error));
    }
    value.deserialized().map_err(|error| DecodeError::Malformed(error.to_string()))
}

/// The error in a payload, in version 1's form `{rc, rsn}` or version 2's `{err: {group, rc}}`; `rc: 0` is none.
fn device_error(value: &ciborium::Value) -> Option<DeviceError> {
    let map = value.as_map()?;
    let field = |map: &[(ciborium::Value, ciborium::Value)], name: &str| {
        map.iter().find(|(key, _)| key.as_text() == Some(name)).map(|(_, value)| value.clone())
    };
    let number = |value: ciborium::Value| value.as_integer().and_then(|n| i64::try_from(n).ok());
    let reason = field(map, "rsn").and_then(|value| value.into_text().ok());
    if let Some(err) = field(map, "err").and_then(|value| value.into_map().ok()) {
        let rc = field(&err, "rc").and_then(number)?;
        let group = field(&err, "group").and_then(number).and_then(|n| u16::try_from(n).ok());
        return (rc != 0).then_some(DeviceError { group, rc, reason });
    }
    let rc = field(map, "rc").and_then(number)?;
    (rc != 0).then_some(DeviceError { group: None, rc, reason })
}
