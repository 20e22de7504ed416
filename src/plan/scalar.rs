//! YAML scalars: what the core schema makes of one, and where its characters were written.

use std::ops::Range;

use super::yaml::{Node, Value};

/// A scalar as it was written.
#[derive(Debug)]
pub(super) struct Scalar {
    pub(super) text: String,
    /// Written without quotes, so that the core schema says what it is.
    pub(super) plain: bool,
}

/// What the core schema (YAML 1.2.2, section 10.3.2) makes of a scalar.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Resolved<'a> {
    Null,
    Bool(bool),
    /// A whole number; beyond 64 bits it is a [`Resolved::Float`].
    Int(i64),
    Float(f64),
    Text(&'a str),
}

impl Scalar {
    pub(super) fn resolve(&self) -> Resolved<'_> {
        let text = self.text.as_str();
        if !self.plain {
            return Resolved::Text(text);
        }
        match text {
            "" | "~" | "null" | "Null" | "NULL" => return Resolved::Null,
            "true" | "True" | "TRUE" => return Resolved::Bool(true),
            "false" | "False" | "FALSE" => return Resolved::Bool(false),
            ".inf" | ".Inf" | ".INF" | "+.inf" | "+.Inf" | "+.INF" => return Resolved::Float(f64::INFINITY),
            "-.inf" | "-.Inf" | "-.INF" => return Resolved::Float(f64::NEG_INFINITY),
            ".nan" | ".NaN" | ".NAN" => return Resolved::Float(f64::NAN),
            _ => {}
        }
        let radix = |digits: &str, radix| {
            // `from_str_radix` takes a sign, which the core schema does not.
            if digits.starts_with(['+', '-']) { None } else { i64::from_str_radix(digits, radix).ok() }
        };
        if let Some(value) = text.strip_prefix("0x").and_then(|digits| radix(digits, 16)) {
            return Resolved::Int(value);
        }
        if let Some(value) = text.strip_prefix("0o").and_then(|digits| radix(digits, 8)) {
            return Resolved::Int(value);
        }
        if let Ok(value) = text.parse::<i64>() {
            return Resolved::Int(value);
        }
        // Rust's own words for floats (`inf`, `nan`, `infinity`) are plain text in YAML.
        let numeric = text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'.' | b'e' | b'E' | b'+' | b'-'))
            && text.bytes().any(|byte| byte.is_ascii_digit());
        match text.parse::<f64>() {
            Ok(value) if numeric => Resolved::Float(value),
            _ => Resolved::Text(text),
        }
    }
}

/// Where the bytes `within` a scalar's text were written, and the whole scalar where that cannot be told.
pub(super) fn place_within(source: &str, node: &Node, within: &Range<usize>) -> Range<usize> {
    let Value::Scalar(scalar) = &node.value else { return node.at.clone() };
    let written = source.get(node.at.clone()).unwrap_or_default();
    let (double, single) = (written.starts_with('"'), written.starts_with('\''));
    // The bytes of `written` at which each byte of the text begins, in order.
    let mut starts = Vec::with_capacity(scalar.text.len() + 1);
    let mut rest = written.char_indices().skip(usize::from(!scalar.plain)).peekable();
    while let Some((at, c)) = rest.next() {
        if !scalar.plain && ((double && c == '"') || (single && c == '\'' && rest.peek().is_none())) {
            starts.push(at);
            break;
        }
        starts.extend((0..c.len_utf8()).map(|byte| at + byte));
        let escape = match c {
            '\\' if double => rest.next(),
            '\'' if single => rest.next(),
            _ => continue,
        };
        // Of the escapes only those of one character for one character are followed.
        if !matches!(escape, Some((_, '\\' | '"' | '/' | '\'' | 't' | ' '))) {
            return node.at.clone();
        }
    }
    if starts.len() == scalar.text.len() {
        starts.push(written.len());
    }
    match (starts.get(within.start), starts.get(within.end)) {
        (Some(start), Some(end)) if starts.len() == scalar.text.len() + 1 => {
            node.at.start + start..node.at.start + end
        }
        _ => node.at.clone(),
    }
}

/// The parser's span of a quoted scalar goes on over a comment that follows.
pub(super) fn end_of_quoted(text: &str, start: usize) -> usize {
    let mut bytes = text.bytes().enumerate().skip(start);
    let quote = bytes.next().map(|(_, byte)| byte);
    while let Some((at, byte)) = bytes.next() {
        let doubled = || text.as_bytes().get(at + 1) == Some(&byte);
        if (byte == b'\\' && quote == Some(b'"')) || (byte == b'\'' && quote == Some(b'\'') && doubled()) {
            bytes.next();
        } else if Some(byte) == quote {
            return at + 1;
        }
    }
    text.len()
}

#[cfg(test)]
mod tests {
    use super::super::yaml::parse;
    use super::*;

    #[test]
    fn a_place_within_a_scalar_is_found_again() {
        for (text, value, want) in [
            ("a: x(y", "(y", "(y"),
            ("a: 'x''(y'", "(y", "(y"),
            ("a: \"x\\\\.(y\"", "(y", "(y"),
            ("a: \"ä(y\" # c", "(y", "(y"),
            ("a: \"x\\u0041(y\"", "(y", "\"x\\u0041(y\""),
            ("a: x\n  (y", "(y", "x\n  (y"),
        ] {
            let root = parse(text).unwrap().unwrap();
            let Value::Mapping(entries) = &root.value else { panic!() };
            let node = &entries[0].1;
            let Value::Scalar(scalar) = &node.value else { panic!() };
            let start = scalar.text.find(value).unwrap();
            assert_eq!(&text[place_within(text, node, &(start..start + value.len()))], want, "{text}");
        }
    }

    #[test]
    fn scalars_follow_the_core_schema() {
        let resolve = |text: &str| format!("{:?}", Scalar { text: text.to_owned(), plain: true }.resolve());
        for (text, want) in [
            ("", "Null"),
            ("~", "Null"),
            ("true", "Bool(true)"),
            ("yes", "Text(\"yes\")"),
            ("12", "Int(12)"),
            ("-0x1", "Text(\"-0x1\")"),
            ("0x-1", "Text(\"0x-1\")"),
            ("0x1F", "Int(31)"),
            ("0o17", "Int(15)"),
            ("1.5", "Float(1.5)"),
            ("1e3", "Float(1000.0)"),
            ("inf", "Text(\"inf\")"),
            ("nan", "Text(\"nan\")"),
            (".inf", "Float(inf)"),
            ("10s", "Text(\"10s\")"),
            ("8..24", "Text(\"8..24\")"),
            ("99999999999999999999", "Float(1e20)"),
        ] {
            assert_eq!(resolve(text), want, "{text}");
        }
        assert_eq!(Scalar { text: "12".to_owned(), plain: false }.resolve(), Resolved::Text("12"));
    }
}
