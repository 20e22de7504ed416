//! Payloads of commands that this crate has no types for: from JSON or hexadecimal CBOR to a payload, and from an
//! answer's payload to JSON.
//!
//! JSON has no byte strings. One is written as an object with the one key `$bytes` and hexadecimal text:
//! `{"data": {"$bytes": "00ff"}}`, in both directions.
//!
//! ```
//! use flashfleet::smp::message::Repeat;
//! use flashfleet::smp::message::raw::{payload_from_text, payload_to_json};
//! use flashfleet::smp::{Op, RawRequest, RequestId, group};
//!
//! # use flashfleet::{cause::Cause, client::Client, sim::{Fleet, SimSpec}};
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Cause> {
//! # let fleet = Fleet::new(&SimSpec::default()).expect("a device");
//! # let link = fleet.connector(0).connect().await?;
//! let mut client = Client::over(link);
//! let payload = payload_from_text(r#"{"d": "hello"}"#).expect("a JSON object");
//! let echo = RequestId { op: Op::Write, group: group::OS, command: 0 };
//! let request = RawRequest::from_parts(echo, Repeat::Safe, payload).expect("a short message");
//! let answer = client.send(request, None).await?;
//! let json = payload_to_json(&answer.payload).expect("a CBOR map");
//! assert_eq!(json["r"], "hello");
//! # Ok(())
//! # }
//! ```

use ciborium::Value;
use serde_json::{Map, Number, Value as Json};

use super::codec::decode_value;
use super::{DecodeError, encode_body};

/// Key of a byte string in JSON.
const BYTES: &str = "$bytes";

/// Why a text is not the payload of a request.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RawError {
    /// Neither JSON nor hexadecimal CBOR.
    #[error("expected a JSON object, or a CBOR map in hexadecimal, got {0}")]
    Syntax(String),
    /// A byte string whose text is no hexadecimal.
    #[error("expected {{\"{BYTES}\": \"HEX\"}} with two hexadecimal digits for each byte, got {0}")]
    Bytes(String),
}

/// The payload that a person wrote: a JSON object, or a CBOR map in hexadecimal. Nothing at all is an empty map.
///
/// # Errors
/// [`RawError`].
pub fn payload_from_text(text: &str) -> Result<Vec<u8>, RawError> {
    let text = text.trim();
    if text.starts_with('{') {
        let json: Json = serde_json::from_str(text).map_err(|error| RawError::Syntax(error.to_string()))?;
        return payload_from_json(&json);
    }
    if text.is_empty() {
        return payload_from_json(&Json::Object(Map::new()));
    }
    let bytes = hex::decode(text).map_err(|error| RawError::Syntax(format!("{text:?}: {error}")))?;
    match decode_value(&bytes) {
        Ok(Value::Map(_)) => Ok(bytes),
        Ok(_) => Err(RawError::Syntax("CBOR that is no map".to_owned())),
        Err(error) => Err(RawError::Syntax(error.to_string())),
    }
}

/// The payload for a JSON object.
///
/// # Errors
/// [`RawError`] where it is no object, or a byte string in it is none.
pub fn payload_from_json(json: &Json) -> Result<Vec<u8>, RawError> {
    if !json.is_object() {
        return Err(RawError::Syntax(format!("{json}")));
    }
    let value = cbor(json)?;
    if !matches!(value, Value::Map(_)) {
        return Err(RawError::Syntax("a byte string".to_owned()));
    }
    encode_body(&value).map_err(|error| RawError::Syntax(error.to_string()))
}

fn cbor(json: &Json) -> Result<Value, RawError> {
    Ok(match json {
        Json::Null => Value::Null,
        Json::Bool(value) => Value::Bool(*value),
        Json::Number(number) => match (number.as_u64(), number.as_i64(), number.as_f64()) {
            (Some(number), _, _) => Value::from(number),
            (None, Some(number), _) => Value::from(number),
            (None, None, number) => Value::Float(number.unwrap_or(f64::NAN)),
        },
        Json::String(text) => Value::Text(text.clone()),
        Json::Array(items) => Value::Array(items.iter().map(cbor).collect::<Result<_, _>>()?),
        Json::Object(map) => match map.get(BYTES).filter(|_| map.len() == 1) {
            Some(text) => {
                let bytes = text.as_str().and_then(|text| hex::decode(text).ok());
                Value::Bytes(bytes.ok_or_else(|| RawError::Bytes(text.to_string()))?)
            }
            None => {
                let pair = |(key, value): (&String, &Json)| Ok((Value::Text(key.clone()), cbor(value)?));
                Value::Map(map.iter().map(pair).collect::<Result<_, _>>()?)
            }
        },
    })
}

/// An answer's payload as JSON, whatever it says: also a device's no.
///
/// # Errors
/// [`DecodeError`] where it is no CBOR, or something follows it.
pub fn payload_to_json(payload: &[u8]) -> Result<Json, DecodeError> {
    Ok(json(&decode_value(payload)?))
}

/// What JSON cannot hold becomes text: numbers beyond 64 bits, keys that are no text (see [`key`]), and floats that are no
/// numbers. Tags are left out, and what they tag stays.
fn json(value: &Value) -> Json {
    match value {
        Value::Null => Json::Null,
        Value::Bool(value) => Json::Bool(*value),
        Value::Integer(number) => {
            let number = i128::from(*number);
            if let Ok(number) = u64::try_from(number) {
                Json::from(number)
            } else if let Ok(number) = i64::try_from(number) {
                Json::from(number)
            } else {
                Json::from(number.to_string())
            }
        }
        Value::Float(number) => {
            Number::from_f64(*number).map_or_else(|| Json::from(number.to_string()), Json::Number)
        }
        Value::Text(text) => Json::from(text.as_str()),
        Value::Bytes(bytes) => {
            Json::Object(Map::from_iter([(BYTES.to_owned(), Json::from(hex::encode(bytes)))]))
        }
        Value::Array(items) => Json::Array(items.iter().map(json).collect()),
        Value::Tag(_, value) => json(value),
        Value::Map(pairs) => {
            Json::Object(pairs.iter().map(|(name, value)| (key(name), json(value))).collect())
        }
        other => Json::from(format!("{other:?}")),
    }
}

/// A key as text. One that holds others, an array or a map, is its CBOR in hexadecimal: as JSON in a text it would be twice as
/// long for every level, so that a hundred bytes of a device would fill the memory.
fn key(value: &Value) -> String {
    match value {
        Value::Text(text) => text.clone(),
        Value::Tag(_, value) => key(value),
        Value::Array(_) | Value::Map(_) => {
            encode_body(value).map_or_else(|error| error.to_string(), hex::encode)
        }
        _ => json(value).to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_that_are_no_text_are_told_as_text() {
        let told = |hexadecimal: &str| {
            payload_to_json(&hex::decode(hexadecimal).unwrap()).map(|json| json.to_string()).unwrap()
        };
        assert_eq!(told("a1617801"), r#"{"x":1}"#);
        assert_eq!(told("a10502"), r#"{"5":2}"#);
        assert_eq!(told("a1f402"), r#"{"false":2}"#);
        assert_eq!(told("a1c102f6"), r#"{"2":null}"#, "a tag is left out");
        assert_eq!(told("a142aaff01"), r#"{"{\"$bytes\":\"aaff\"}":1}"#);
        assert_eq!(told("a1a161780102"), r#"{"a1617801":2}"#, "a map as a key");
        assert_eq!(told("a181810302"), r#"{"818103":2}"#, "an array as a key");
    }

    #[test]
    fn maps_as_keys_of_maps_as_keys_do_not_fill_the_memory() {
        // Each level is a map whose key is the next one, and whose value is `false`.
        let levels = 40;
        let mut payload = vec![0xa1; levels];
        payload.resize(2 * levels + 1, 0xf4);
        let json = payload_to_json(&payload).unwrap().to_string();
        assert!(json.len() < 3 * payload.len(), "{}", json.len());
    }
}
