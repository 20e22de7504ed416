//! From typed messages to CBOR and back, in both error forms of `smp_protocol.rst`, "Minimal response". No group's
//! messages live here, and no names of errors.

use ciborium::Value;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::smp::Op;
use crate::smp::errors::DeviceError;

/// Bytes of a text or a byte string that are read at once.
const SCRATCH: usize = 256;

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

/// Why a request cannot be put into a message.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EncodeError {
    /// A value that CBOR cannot hold; none of this crate's messages has one.
    #[error("expected values that CBOR can hold, got {0}")]
    Unencodable(String),
    /// More payload than the header's 16-bit length can tell.
    #[error("expected a payload of at most 65535 bytes, got {0}")]
    TooLong(usize),
    /// An operation that is an answer.
    #[error("expected a read or a write, got {0:?}")]
    NotARequest(Op),
}

/// Why an answer's payload is not what was asked for.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// The device said no.
    #[error("the device answered with {0}")]
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
pub fn encode_body<T: Serialize>(message: &T) -> Result<Vec<u8>, EncodeError> {
    // Room for everything but long strings, which make room for themselves at once.
    let mut out = Vec::with_capacity(64);
    ciborium::into_writer(message, &mut out).map_err(|error| EncodeError::Unencodable(error.to_string()))?;
    Ok(out)
}

/// Reads an answer's payload: the device's no in either form, or the fields asked for. Which form it is depends on the
/// payload alone: servers of version 2 use the form of version 1 for errors of SMP itself. No payload at all is read
/// as an empty map, since "data is optional" (`smp_protocol.rst`, "Frame: The envelope").
///
/// # Errors
/// [`DecodeError`]; bytes left over are an error.
pub fn decode_response<T: DeserializeOwned>(payload: &[u8]) -> Result<T, DecodeError> {
    decode_fields(payload)?.deserialized().map_err(malformed)
}

/// The part of it that is the same for every answer.
#[inline(never)]
fn decode_fields(payload: &[u8]) -> Result<Value, DecodeError> {
    let value = decode_value(payload)?;
    let Value::Map(fields) = &value else {
        return Err(DecodeError::Malformed(format!("{} instead of a map", kind(&value))));
    };
    if let Some(error) = device_error(fields)? {
        return Err(DecodeError::Device(error));
    }
    Ok(value)
}

fn malformed(error: ciborium::value::Error) -> DecodeError {
    DecodeError::Malformed(error.to_string())
}

pub(super) fn decode_value(payload: &[u8]) -> Result<Value, DecodeError> {
    if payload.is_empty() {
        return Ok(Value::Map(Vec::new()));
    }
    let mut rest = payload;
    // Longer texts are read in parts. The 4 kB that ciborium would take are cleared first, for an answer of 20 bytes.
    let mut scratch = [0; SCRATCH];
    let value = ciborium::de::from_reader_with_buffer(&mut rest, &mut scratch)
        .map_err(|error| DecodeError::Malformed(error.to_string()))?;
    if !rest.is_empty() {
        return Err(DecodeError::Trailing { consumed: payload.len() - rest.len(), total: payload.len() });
    }
    Ok(value)
}

/// The error in a payload, in version 1's form `{rc, rsn}` or version 2's `{err: {group, rc}}`. `rc: 0` is none:
/// MCUboot's recovery adds it to every success. An error that cannot be read is never taken for a success.
fn device_error(fields: &[(Value, Value)]) -> Result<Option<DeviceError>, DecodeError> {
    let reason = field(fields, "rsn").and_then(Value::as_text).map(str::to_owned);
    if let Some(err) = field(fields, "err") {
        let Value::Map(err) = err else {
            return Err(DecodeError::Malformed(format!("`err` that is {} instead of a map", kind(err))));
        };
        let rc =
            integer(err, "rc")?.ok_or_else(|| DecodeError::Malformed("`err` without `rc`".to_owned()))?;
        let group = integer(err, "group")?.and_then(|group| u16::try_from(group).ok());
        let group = group
            .ok_or_else(|| DecodeError::Malformed("`err` without `group` from 0 to 65535".to_owned()))?;
        return Ok((rc != 0).then_some(DeviceError { group: Some(group), rc, reason }));
    }
    let rc = integer(fields, "rc")?.unwrap_or(0);
    Ok((rc != 0).then_some(DeviceError { group: None, rc, reason }))
}

fn field<'a>(fields: &'a [(Value, Value)], name: &str) -> Option<&'a Value> {
    fields.iter().find(|(key, _)| key.as_text() == Some(name)).map(|(_, value)| value)
}

fn integer(fields: &[(Value, Value)], name: &str) -> Result<Option<i64>, DecodeError> {
    let Some(value) = field(fields, name) else { return Ok(None) };
    let number = value.as_integer().and_then(|number| i64::try_from(number).ok());
    number.map(Some).ok_or_else(|| DecodeError::Malformed(format!("`{name}` that is {}", kind(value))))
}

/// What a value is, for messages.
fn kind(value: &Value) -> &'static str {
    match value {
        Value::Integer(_) => "an integer",
        Value::Bytes(_) => "a byte string",
        Value::Float(_) => "a float",
        Value::Text(_) => "a text",
        Value::Bool(_) => "a boolean",
        Value::Null => "null",
        Value::Tag(..) => "a tag",
        Value::Array(_) => "an array",
        Value::Map(_) => "a map",
        _ => "something unknown",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_and_bytes_longer_than_what_is_read_at_once_come_whole() {
        for length in [SCRATCH - 1, SCRATCH, SCRATCH + 1, 3 * SCRATCH + 7, 20_000] {
            // Characters of three bytes after one of one, so that parts end within some.
            let text: String = std::iter::once('a').chain(std::iter::repeat('→')).take(length).collect();
            let fields = vec![
                (Value::Text(text.clone()), Value::Bytes(vec![7; length])),
                (Value::Text("o".to_owned()), Value::Text(text)),
            ];
            let value = Value::Map(fields);
            let payload = encode_body(&value).unwrap();
            assert_eq!(decode_value(&payload).unwrap(), value, "{length}");
        }
    }
}
