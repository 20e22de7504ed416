//! Reads a part of the plan whose format another module owns, through that module's `Deserialize`: descriptions of
//! simulated devices. Problems get their place, and reading goes on without the entry that has one.

use std::collections::BTreeSet;
use std::fmt;
use std::ops::Range;
use std::rc::Rc;
use std::slice;

use serde::de::value::{MapAccessDeserializer, StrDeserializer};
use serde::de::{
    self, DeserializeOwned, DeserializeSeed, Expected, MapAccess, SeqAccess, Unexpected, Visitor,
};
use serde::forward_to_deserialize_any;

use super::problems::{Problems, excerpt, suggest};
use super::reader::{describe, lower_first};
use super::scalar::Resolved;
use super::yaml::{Key, Node, Value};

/// Most problems of one description.
const MAX_PROBLEMS: usize = 20;

/// Reads `node`, the value of the key `what`, as `T`. `None` where something was wrong, which has been reported.
pub(super) fn read<T: DeserializeOwned>(problems: &Problems<'_>, node: &Node, what: &str) -> Option<T> {
    let mut skip = BTreeSet::new();
    for _ in 0..MAX_PROBLEMS {
        match T::deserialize(Source { node, skip: &skip, what: Some(what) }) {
            Ok(value) => return skip.is_empty().then_some(value),
            Err(error) => {
                let Parts { place: Some(place), fault } = *error.or_at(&node.at, node, Some(what)).0 else {
                    return None;
                };
                report(problems, &place.at, &fault, place.what.as_deref());
                // The root cannot be left out.
                if place.entry == node.at.start || !skip.insert(place.entry) {
                    return None;
                }
            }
        }
    }
    None
}

/// Where the value of `path`, keys with dots between them, is written: as deep as it is given.
pub(super) fn find<'n>(node: &'n Node, path: &str) -> Option<&'n Range<usize>> {
    let (name, rest) = path.split_once('.').map_or((path, None), |(name, rest)| (name, Some(rest)));
    let Value::Mapping(entries) = &node.value else { return None };
    let (_, value) = entries.iter().find(|(key, _)| key.name == name)?;
    rest.and_then(|rest| find(value, rest)).or(Some(&value.at))
}

fn report(problems: &Problems<'_>, at: &Range<usize>, fault: &Fault, what: Option<&str>) {
    let what = what.map_or_else(|| "this".to_owned(), |name| format!("`{}`", excerpt(name)));
    match fault {
        Fault::UnknownKey { name, known } => {
            let message = format!("unknown key `{}`", excerpt(name));
            let help = suggest(name, known.iter().copied(), "known keys");
            problems.add("plan.unknown_key", at, message, help);
        }
        Fault::UnknownWord { name, known } => {
            let message = format!("{what} cannot be `{}`", excerpt(name));
            let help = suggest(name, known.iter().copied(), "known words");
            problems.add("plan.unknown_word", at, message, help);
        }
        Fault::WrongType { expected, found } => {
            let message = format!("{what} must be {expected}, but is {found}");
            problems.add("plan.wrong_type", at, message, format!("write {expected}"));
        }
        Fault::Other(message) => {
            let help = "`flashfleet schema plan` lists what is allowed here";
            problems.add("plan.bad_value", at, format!("{what}: {message}"), help);
        }
    }
}

#[derive(Debug)]
enum Fault {
    UnknownKey { name: String, known: &'static [&'static str] },
    UnknownWord { name: String, known: &'static [&'static str] },
    WrongType { expected: String, found: String },
    Other(String),
}

/// The entry of a map or list that an error is about.
#[derive(Debug)]
struct At {
    at: Range<usize>,
    /// Start of the entry's value, by which it is left out.
    entry: usize,
    what: Option<String>,
}

/// Small, since it is handed on by much code: that of every field.
#[derive(Debug)]
struct Error(Box<Parts>);

#[derive(Debug)]
struct Parts {
    place: Option<At>,
    fault: Fault,
}

impl Error {
    fn new(fault: Fault) -> Self {
        Self(Box::new(Parts { place: None, fault }))
    }

    /// Sets the place, unless a deeper one is known.
    fn or_at(mut self, at: &Range<usize>, entry: &Node, what: Option<&str>) -> Self {
        if self.0.place.is_none() {
            if let Fault::WrongType { found, .. } = &mut self.0.fault {
                *found = describe(entry);
            }
            self.0.place = Some(At { at: at.clone(), entry: entry.at.start, what: what.map(str::to_owned) });
        }
        self
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.0.fault)
    }
}

impl std::error::Error for Error {}

impl de::Error for Error {
    fn custom<T: fmt::Display>(message: T) -> Self {
        Self::new(Fault::Other(lower_first(&message.to_string())))
    }

    fn invalid_type(found: Unexpected<'_>, expected: &dyn Expected) -> Self {
        let expected = match expected.to_string().as_str() {
            "u8" | "u16" | "u32" | "u64" | "usize" | "i32" | "i64" => "a whole number".to_owned(),
            "f64" | "f32" => "a number".to_owned(),
            "a string" | "str" | "string" => "text".to_owned(),
            "a boolean" => "true or false".to_owned(),
            other if other.starts_with("struct ") => "a map".to_owned(),
            "a sequence" => "a list".to_owned(),
            other => other.to_owned(),
        };
        Self::new(Fault::WrongType { expected, found: lower_first(&found.to_string()) })
    }

    fn invalid_value(found: Unexpected<'_>, expected: &dyn Expected) -> Self {
        Self::invalid_type(found, expected)
    }

    fn unknown_variant(name: &str, known: &'static [&'static str]) -> Self {
        Self::new(Fault::UnknownWord { name: name.to_owned(), known })
    }

    fn unknown_field(name: &str, known: &'static [&'static str]) -> Self {
        Self::new(Fault::UnknownKey { name: name.to_owned(), known })
    }
}

/// A node to read from.
struct Source<'n> {
    node: &'n Node,
    /// Entries to leave out, by the start of their values.
    skip: &'n BTreeSet<usize>,
    what: Option<&'n str>,
}

impl<'n> Source<'n> {
    fn map(&self, entries: &'n [(Key, Rc<Node>)]) -> Entries<'n> {
        Entries { entries: entries.iter(), current: None, skip: self.skip }
    }
}

impl<'de> de::Deserializer<'de> for Source<'de> {
    type Error = Error;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        match &self.node.value {
            Value::Sequence(items) => {
                visitor.visit_seq(Items { items: items.iter(), skip: self.skip, what: self.what })
            }
            Value::Mapping(entries) => visitor.visit_map(self.map(entries)),
            Value::Scalar(scalar) => match scalar.resolve() {
                Resolved::Null => visitor.visit_unit(),
                Resolved::Bool(value) => visitor.visit_bool(value),
                Resolved::Int(value) => match u64::try_from(value) {
                    Ok(value) => visitor.visit_u64(value),
                    Err(_) => visitor.visit_i64(value),
                },
                Resolved::Float(value) => visitor.visit_f64(value),
                Resolved::Text(text) => visitor.visit_borrowed_str(text),
            },
        }
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        match &self.node.value {
            Value::Scalar(scalar) if scalar.resolve() == Resolved::Null => visitor.visit_none(),
            _ => visitor.visit_some(self),
        }
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        visitor: V,
    ) -> Result<V::Value, Error> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        name: &'static str,
        variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Error> {
        match &self.node.value {
            Value::Mapping(entries) => {
                MapAccessDeserializer::new(self.map(entries)).deserialize_enum(name, variants, visitor)
            }
            Value::Scalar(scalar) => match scalar.resolve() {
                Resolved::Text(text) => {
                    StrDeserializer::<Error>::new(text).deserialize_enum(name, variants, visitor)
                }
                _ => Err(de::Error::invalid_type(Unexpected::Other("something else"), &"a word")),
            },
            Value::Sequence(_) => Err(de::Error::invalid_type(Unexpected::Seq, &"a word")),
        }
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Error> {
        match &self.node.value {
            Value::Mapping(entries) => visitor.visit_map(self.map(entries)),
            // A derived visitor would take a list for the fields in their order.
            _ => Err(de::Error::invalid_type(Unexpected::Other("something else"), &"a map")),
        }
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf unit unit_struct seq tuple
        tuple_struct map identifier ignored_any
    }
}

struct Entries<'n> {
    entries: slice::Iter<'n, (Key, Rc<Node>)>,
    current: Option<&'n (Key, Rc<Node>)>,
    skip: &'n BTreeSet<usize>,
}

impl<'de> MapAccess<'de> for Entries<'de> {
    type Error = Error;

    fn next_key_seed<K: DeserializeSeed<'de>>(&mut self, seed: K) -> Result<Option<K::Value>, Error> {
        let skip = self.skip;
        self.current = self.entries.find(|(_, value)| !skip.contains(&value.at.start));
        let Some((key, value)) = self.current else { return Ok(None) };
        seed.deserialize(StrDeserializer::new(&key.name))
            .map(Some)
            .map_err(|error: Error| error.or_at(&key.at, value, Some(&key.name)))
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, Error> {
        let Some((key, value)) = self.current else {
            return Err(de::Error::custom("a value was asked for before its key"));
        };
        seed.deserialize(Source { node: value, skip: self.skip, what: Some(&key.name) })
            .map_err(|error| error.or_at(&value.at, value, Some(&key.name)))
    }
}

struct Items<'n> {
    items: slice::Iter<'n, Rc<Node>>,
    skip: &'n BTreeSet<usize>,
    what: Option<&'n str>,
}

impl<'de> SeqAccess<'de> for Items<'de> {
    type Error = Error;

    fn next_element_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Result<Option<T::Value>, Error> {
        let skip = self.skip;
        let Some(item) = self.items.find(|item| !skip.contains(&item.at.start)) else { return Ok(None) };
        seed.deserialize(Source { node: item, skip: self.skip, what: self.what })
            .map(Some)
            .map_err(|error| error.or_at(&item.at, item, self.what))
    }
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;

    use super::*;
    use crate::plan::yaml;

    #[derive(Debug, Default, PartialEq, Deserialize)]
    #[serde(deny_unknown_fields, default)]
    struct Outer {
        count: usize,
        baud: Option<u32>,
        name: String,
        mode: Mode,
        inner: Inner,
        list: Vec<Inner>,
    }

    #[derive(Debug, Default, PartialEq, Deserialize)]
    #[serde(deny_unknown_fields, default)]
    struct Inner {
        lose: f64,
        on: bool,
    }

    #[derive(Debug, Default, PartialEq, Deserialize)]
    #[serde(rename_all = "snake_case")]
    enum Mode {
        #[default]
        SwapMove,
        Single,
    }

    /// Line, column, code, and message with help.
    type Found = (usize, usize, &'static str, String);

    fn read_text(text: &str) -> (Option<Outer>, Vec<Found>) {
        let node = yaml::parse(text).unwrap().unwrap();
        let problems = Problems::new(text);
        let value = read(&problems, &node, "outer");
        let found = problems.finish().0.into_iter().map(|d| {
            let place = d.place.unwrap();
            (place.line, place.column, d.code, format!("{}; {}", d.message, d.help))
        });
        (value, found.collect())
    }

    #[test]
    fn what_is_right_is_read() {
        let (value, problems) = read_text(
            "count: 8\nbaud: null\nname: x\nmode: single\ninner: {lose: 1, on: true}\nlist: [{lose: 0.5}, {}]\n",
        );
        assert_eq!(problems, []);
        let inner = |lose, on| Inner { lose, on };
        assert_eq!(
            value.unwrap(),
            Outer {
                count: 8,
                baud: None,
                name: "x".to_owned(),
                mode: Mode::Single,
                inner: inner(1.0, true),
                list: vec![inner(0.5, false), inner(0.0, false)],
            }
        );
    }

    #[test]
    fn every_problem_is_told_with_its_place() {
        let text = "cuont: 8\nbaud: fast\nname: 5\nmode: singel\ninner:\n  lose: much\n  of: 1\nlist:\n- {lose: 0.5}\n- {loose: 1}\n- 5\ncount: -1\n";
        let (value, problems) = read_text(text);
        assert_eq!(value, None);
        let want = [
            (1, 1, "plan.unknown_key", "unknown key `cuont`; did you mean `count`?"),
            (2, 7, "plan.wrong_type", "`baud` must be a whole number, but is the text `fast`"),
            (3, 7, "plan.wrong_type", "`name` must be text, but is 5"),
            (4, 7, "plan.unknown_word", "`mode` cannot be `singel`; did you mean `single`?"),
            (6, 9, "plan.wrong_type", "`lose` must be a number, but is the text `much`"),
            (7, 3, "plan.unknown_key", "unknown key `of`"),
            (10, 4, "plan.unknown_key", "unknown key `loose`; did you mean `lose`?"),
            (11, 3, "plan.wrong_type", "`list` must be a map, but is 5"),
            (12, 8, "plan.wrong_type", "`count` must be a whole number, but is -1"),
        ];
        assert_eq!(problems.len(), want.len(), "{problems:#?}");
        for ((line, column, code, text), found) in want.into_iter().zip(problems) {
            assert_eq!((line, column, code), (found.0, found.1, found.2));
            assert!(found.3.starts_with(text), "{}", found.3);
        }
    }

    #[test]
    fn a_description_that_is_no_map_is_refused() {
        assert_eq!(read_text("5").1.len(), 1);
        assert_eq!(read_text("[1, 2]").1.len(), 1);
        assert_eq!(read_text("text").1[0].2, "plan.wrong_type");
    }
}
