//! Values of a plan that go to a device as they are: what an SMP command carries, and settings. Nothing knows here what
//! they mean to it.

use std::ops::Range;

use serde_json::{Map, Number, Value as Json};

use super::problems::excerpt;
use super::reader::{Reader, describe};
use super::scalar::Resolved;
use super::yaml::{Node, Value};

/// Key of a byte string, as everywhere that people write one.
const BYTES: &str = "$bytes";

/// Types of whole numbers that settings hold: name, least and greatest value. They are stored with the least byte first,
/// as the parts that run Zephyr keep them.
pub(super) const NUMBERS: [(&str, i128, i128); 8] = [
    ("u8", 0, u8::MAX as i128),
    ("u16", 0, u16::MAX as i128),
    ("u32", 0, u32::MAX as i128),
    ("u64", 0, u64::MAX as i128),
    ("i8", i8::MIN as i128, i8::MAX as i128),
    ("i16", i16::MIN as i128, i16::MAX as i128),
    ("i32", i32::MIN as i128, i32::MAX as i128),
    ("i64", i64::MIN as i128, i64::MAX as i128),
];

/// Any YAML as JSON; byte strings stay maps with the one key `$bytes`, whose text is checked. `None` where something was
/// wrong, which has been reported.
pub(super) fn json(reader: &Reader<'_>, node: &Node) -> Option<Json> {
    match &node.value {
        Value::Sequence(items) => {
            // Every entry is read, so that all that is wrong is told.
            let read: Vec<Option<Json>> = items.iter().map(|item| json(reader, item)).collect();
            read.into_iter().collect::<Option<Vec<_>>>().map(Json::Array)
        }
        Value::Mapping(entries) => {
            if let [(key, value)] = &entries[..]
                && key.name == BYTES
            {
                hexadecimal(reader, value, &format!("`{BYTES}`"))?;
            }
            let read: Vec<Option<(String, Json)>> =
                entries.iter().map(|(key, value)| Some((key.name.clone(), json(reader, value)?))).collect();
            read.into_iter().collect::<Option<Map<_, _>>>().map(Json::Object)
        }
        Value::Scalar(scalar) => Some(match scalar.resolve() {
            Resolved::Null => Json::Null,
            Resolved::Bool(value) => Json::Bool(value),
            Resolved::Int(value) => value.into(),
            Resolved::Text(text) => text.into(),
            // Numbers beyond 63 bits are whole numbers in CBOR up to 64.
            Resolved::Float(_) if scalar.text.parse::<u64>().is_ok() => {
                scalar.text.parse::<u64>().unwrap_or_default().into()
            }
            Resolved::Float(value) => match Number::from_f64(value) {
                Some(number) => Json::Number(number),
                None => {
                    let help = "write a number that is finite";
                    reader.wrong_type(node, "a value", "text, a number, true, false or null", help);
                    return None;
                }
            },
        }),
    }
}

/// Bytes in hexadecimal.
fn hexadecimal(reader: &Reader<'_>, node: &Node, what: &str) -> Option<Vec<u8>> {
    let text = match &node.value {
        // Digits alone are a number to YAML, and zeros before it are lost unless the text is taken as it stands.
        Value::Scalar(scalar) => scalar.text.as_str(),
        Value::Sequence(_) | Value::Mapping(_) => "?",
    };
    let bytes = hex::decode(text).ok();
    if bytes.is_none() {
        let help = "write two hexadecimal digits for each byte, in quotes";
        reader.wrong_type(node, what, "bytes in hexadecimal", help);
    }
    bytes
}

/// The value of a setting: text, or a map of its type and the value.
pub(super) fn setting(reader: &Reader<'_>, name: &str, node: &Node) -> Option<Vec<u8>> {
    let what = format!("`{}`", excerpt(name));
    let types = || ["text", "hex"].into_iter().chain(NUMBERS.iter().map(|(name, ..)| *name));
    match &node.value {
        Value::Scalar(scalar) => match scalar.resolve() {
            Resolved::Text(text) => Some(text.as_bytes().to_vec()),
            Resolved::Null => None.or_else(|| untyped(reader, node, &what)),
            Resolved::Bool(value) => {
                let help = format!(
                    "say how the application keeps it: `{{ u8: {} }}`, or `\"{value}\"` for text",
                    u8::from(value)
                );
                reader.wrong_type(node, &what, "text, or a type and a value", &help);
                None
            }
            Resolved::Int(_) | Resolved::Float(_) => {
                let help = format!(
                    "say how the application keeps it: `{{ u32: {0} }}`, or `\"{0}\"` for text",
                    excerpt(&scalar.text)
                );
                reader.wrong_type(node, &what, "text, or a type and a value", &help);
                None
            }
        },
        Value::Sequence(_) => untyped(reader, node, &what),
        Value::Mapping(entries) => match &entries[..] {
            [(key, value)] => match key.name.as_str() {
                "text" => match &value.value {
                    Value::Scalar(scalar) if matches!(scalar.resolve(), Resolved::Text(_)) => {
                        Some(scalar.text.as_bytes().to_vec())
                    }
                    _ => {
                        reader.wrong_type(value, &what, "text", "put it in quotes");
                        None
                    }
                },
                "hex" => hexadecimal(reader, value, &what),
                name => match NUMBERS.iter().find(|(number, ..)| *number == name) {
                    Some((kind, min, max)) => number(reader, value, &what, (kind, *min, *max)),
                    None => unknown_type(reader, &key.at, name, types()),
                },
            },
            _ => untyped(reader, node, &what),
        },
    }
}

fn untyped(reader: &Reader<'_>, node: &Node, what: &str) -> Option<Vec<u8>> {
    let help = "write text in quotes, or for example `{ u32: 5 }` or `{ hex: \"00ff\" }`";
    reader.wrong_type(node, what, "text, or a map of one type and a value", help);
    None
}

fn unknown_type<'n>(
    reader: &Reader<'_>,
    at: &Range<usize>,
    name: &str,
    types: impl Iterator<Item = &'n str> + Clone,
) -> Option<Vec<u8>> {
    let message = format!("unknown type `{}` of a setting's value", excerpt(name));
    let help = super::problems::suggest(name, types, "known types");
    reader.problems.add("plan.unknown_word", at, message, help);
    None
}

fn number(
    reader: &Reader<'_>,
    node: &Node,
    what: &str,
    (kind, min, max): (&str, i128, i128),
) -> Option<Vec<u8>> {
    let value = match &node.value {
        Value::Scalar(scalar) => match scalar.resolve() {
            Resolved::Int(value) => Some(i128::from(value)),
            // Beyond 63 bits.
            Resolved::Float(_) => scalar.text.parse::<i128>().ok(),
            Resolved::Null | Resolved::Bool(_) | Resolved::Text(_) => None,
        },
        Value::Sequence(_) | Value::Mapping(_) => None,
    };
    let Some(value) = value else {
        reader.wrong_type(node, what, "a whole number", &format!("write a number from {min} to {max}"));
        return None;
    };
    if !(min..=max).contains(&value) {
        let message = format!("{what} must be {min} to {max} as {kind}, but is {}", describe(node));
        reader.problems.add("plan.out_of_range", &node.at, message, "take another type, or another value");
        return None;
    }
    let length = kind.get(1..)?.parse::<usize>().ok()? / 8;
    value.to_le_bytes().get(..length).map(<[u8]>::to_vec)
}

#[cfg(test)]
mod tests {
    use super::super::problems::Problems;
    use super::super::yaml;
    use super::*;
    use std::path::Path;

    fn with<T>(text: &str, read: impl Fn(&Reader<'_>, &Node) -> Option<T>) -> Result<T, Vec<&'static str>> {
        let node = yaml::parse(text).unwrap().unwrap();
        let problems = Problems::new(text);
        let value = read(&Reader::new(&problems, Path::new("")), &node);
        value.ok_or_else(|| problems.finish().0.iter().map(|problem| problem.code).collect())
    }

    #[test]
    fn settings_become_the_bytes_that_the_application_keeps() {
        let bytes = |text: &str| with(text, |reader, node| setting(reader, "a", node));
        for (text, want) in [
            ("abc", &b"abc"[..]),
            ("\"12\"", b"12"),
            ("{ text: \"12\" }", b"12"),
            ("{ hex: 00Ff }", &[0, 0xff]),
            ("{ hex: 0012 }", &[0, 0x12]),
            ("{ hex: \"\" }", &[]),
            ("{ u8: 255 }", &[255]),
            ("{ u32: 258 }", &[2, 1, 0, 0]),
            ("{ i16: -2 }", &[0xfe, 0xff]),
            ("{ u64: 18446744073709551615 }", &[0xff; 8]),
        ] {
            assert_eq!(bytes(text).as_deref(), Ok(want), "{text}");
        }
        for (text, code) in [
            ("5", "plan.wrong_type"),
            ("true", "plan.wrong_type"),
            ("~", "plan.wrong_type"),
            ("[1]", "plan.wrong_type"),
            ("{}", "plan.wrong_type"),
            ("{ u8: 1, u16: 1 }", "plan.wrong_type"),
            ("{ u8: 256 }", "plan.out_of_range"),
            ("{ i8: -129 }", "plan.out_of_range"),
            ("{ u8: \"1\" }", "plan.wrong_type"),
            ("{ u24: 1 }", "plan.unknown_word"),
            ("{ hex: 0 }", "plan.wrong_type"),
            ("{ text: 1 }", "plan.wrong_type"),
        ] {
            assert_eq!(bytes(text), Err(vec![code]), "{text}");
        }
    }

    #[test]
    fn any_yaml_becomes_json() {
        let read = |text: &str| with(text, json).map(|json| json.to_string());
        let text = "{ d: hi, n: -1, f: 1.5, t: true, x: ~, l: [1, {}], b: { $bytes: 00ff } }";
        let want = r#"{"b":{"$bytes":"00ff"},"d":"hi","f":1.5,"l":[1,{}],"n":-1,"t":true,"x":null}"#;
        assert_eq!(read(text).as_deref(), Ok(want));
        assert_eq!(read("18446744073709551615").as_deref(), Ok("18446744073709551615"));
        assert_eq!(read("{ a: .nan, b: { $bytes: 0 } }"), Err(vec!["plan.wrong_type", "plan.wrong_type"]));
    }
}
