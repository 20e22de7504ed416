//! From YAML nodes to values: each reading either gives a value or reports what would be right. What the values
//! are for does not live here.
//!
//! A reading that gives `None` has reported a problem, so callers go on with a default and never report again.

use std::cell::Cell;
use std::ops::Range;
use std::path::Path;
use std::rc::Rc;
use std::time::Duration;

use super::keys::{Key, Kind, Table};
use super::model::{Auto, Pattern};
use super::problems::{Problems, excerpt, suggest};
use super::scalar::Resolved;
use super::step::Search;
use super::yaml::{Node, Value};
use super::{expression, scalar};

/// Most entries of one list.
const MAX_LIST: usize = 4096;

/// Most regular expressions of one plan: compiling them takes time.
const MAX_EXPRESSIONS: usize = 128;

/// Longest text that has a meaning of its own: a name, a pattern, an address.
const MAX_TEXT: usize = 1024;

/// Reads nodes and reports what is wrong with them.
#[derive(Debug)]
pub(super) struct Reader<'a> {
    pub(super) problems: &'a Problems<'a>,
    /// The folder that file names are relative to.
    pub(super) base: &'a Path,
    expressions: Cell<usize>,
}

impl<'a> Reader<'a> {
    pub(super) fn new(problems: &'a Problems<'a>, base: &'a Path) -> Self {
        Self { problems, base, expressions: Cell::new(0) }
    }

    /// Reports that `node` is not what `what` must be.
    pub(super) fn wrong_type(&self, node: &Node, what: &str, expected: &str, help: &str) {
        let message = format!("{what} must be {expected}, but is {}", describe(node));
        self.problems.add("plan.wrong_type", &node.at, message, help);
    }

    fn out_of_range(&self, node: &Node, what: &str, min: impl ToString, max: impl ToString, help: &str) {
        let (min, max) = (min.to_string(), max.to_string());
        let must = if min == max { format!("must be {min}") } else { format!("must be {min} to {max}") };
        let actual = match &node.value {
            Value::Scalar(scalar) => excerpt(&scalar.text),
            Value::Sequence(_) | Value::Mapping(_) => describe(node),
        };
        let message = format!("{what} {must}, but is {actual}");
        self.problems.add("plan.out_of_range", &node.at, message, help);
    }

    pub(super) fn resolve<'n>(&self, node: &'n Node) -> Option<Resolved<'n>> {
        match &node.value {
            Value::Scalar(scalar) => Some(scalar.resolve()),
            Value::Sequence(_) | Value::Mapping(_) => None,
        }
    }

    /// Text on one line, not empty.
    pub(super) fn text<'n>(&self, node: &'n Node, what: &str) -> Option<&'n str> {
        let text = match self.resolve(node) {
            Some(Resolved::Text(text)) => text,
            Some(Resolved::Bool(_) | Resolved::Int(_) | Resolved::Float(_)) => {
                self.wrong_type(node, what, "text", "put it in quotes, so that YAML takes it for text");
                return None;
            }
            Some(Resolved::Null) | None => {
                self.wrong_type(node, what, "text", "write one text, in quotes if it has special characters");
                return None;
            }
        };
        if text.trim().is_empty() {
            self.problems.add("plan.bad_text", &node.at, format!("{what} is empty"), "write a text");
        } else if text.chars().count() > MAX_TEXT {
            let message = format!("{what} is {} characters long", text.chars().count());
            self.problems.add(
                "plan.bad_text",
                &node.at,
                message,
                format!("use at most {MAX_TEXT} characters"),
            );
        } else if let Some(control) = text.chars().find(|c| c.is_control()) {
            let message = format!("{what} contains the control character {}", control.escape_default());
            self.problems.add("plan.bad_text", &node.at, message, "write it on one line, without tabs");
        } else {
            return Some(text);
        }
        None
    }

    /// `true` or `false`.
    pub(super) fn flag(&self, node: &Node, what: &str) -> Option<bool> {
        match self.resolve(node) {
            Some(Resolved::Bool(value)) => Some(value),
            _ => {
                self.wrong_type(node, what, "true or false", "write `true` or `false`, without quotes");
                None
            }
        }
    }

    /// A whole number, both ends included.
    pub(super) fn whole(&self, node: &Node, what: &str, min: u64, max: u64) -> Option<u64> {
        match self.resolve(node) {
            Some(Resolved::Int(value)) => match u64::try_from(value) {
                Ok(value) if (min..=max).contains(&value) => return Some(value),
                _ => self.out_of_range(node, what, min, max, "write a number within this range"),
            },
            Some(Resolved::Text(text)) if text.parse::<u64>().is_ok() => {
                self.wrong_type(node, what, "a whole number", "write it without quotes");
            }
            _ => {
                self.wrong_type(node, what, "a whole number", &format!("write a number from {min} to {max}"))
            }
        }
        None
    }

    /// A number, both ends included.
    pub(super) fn number(&self, node: &Node, what: &str, min: f64, max: f64) -> Option<f64> {
        let value = match self.resolve(node) {
            // Exact: beyond 53 bits it is out of every range.
            #[expect(clippy::cast_precision_loss, reason = "a number that large is out of every range")]
            Some(Resolved::Int(value)) => value as f64,
            Some(Resolved::Float(value)) => value,
            _ => {
                self.wrong_type(node, what, "a number", &format!("write a number from {min} to {max}"));
                return None;
            }
        };
        if (min..=max).contains(&value) {
            return Some(value);
        }
        self.out_of_range(node, what, min, max, "write a number within this range");
        None
    }

    /// A duration such as `500ms`, both ends included.
    pub(super) fn time(&self, node: &Node, what: &str, min: Duration, max: Duration) -> Option<Duration> {
        let help = "write a number and a unit, for example `500ms`, `10s` or `5m`";
        let text = match self.resolve(node) {
            Some(Resolved::Text(text)) => text,
            Some(Resolved::Int(_) | Resolved::Float(_)) => {
                self.wrong_type(node, what, "a duration with a unit", help);
                return None;
            }
            _ => {
                self.wrong_type(node, what, "a duration", help);
                return None;
            }
        };
        match humantime::parse_duration(text) {
            Ok(value) if (min..=max).contains(&value) => Some(value),
            Ok(_) => {
                let (min, max) = (humantime::format_duration(min), humantime::format_duration(max));
                self.out_of_range(node, what, min, max, "write a duration within this range");
                None
            }
            Err(error) => {
                let message = format!("{what} is no duration: {}", lower_first(&error.to_string()));
                self.problems.add("plan.bad_duration", &node.at, message, help);
                None
            }
        }
    }

    /// A number of bytes, plain or such as `64KiB`, both ends included.
    pub(super) fn size(&self, node: &Node, what: &str, min: u64, max: u64) -> Option<u64> {
        let help = "write bytes, or a number and a unit, for example `64KiB`";
        let value = match self.resolve(node) {
            Some(Resolved::Int(value)) => u64::try_from(value).ok(),
            Some(Resolved::Text(text)) => match parse_size(text) {
                Some(value) => Some(value),
                None => {
                    let message = format!("{what} is no number of bytes: `{}`", excerpt(text));
                    self.problems.add("plan.bad_size", &node.at, message, help);
                    return None;
                }
            },
            _ => {
                self.wrong_type(node, what, "a number of bytes", help);
                return None;
            }
        };
        match value {
            Some(value) if (min..=max).contains(&value) => Some(value),
            _ => {
                self.out_of_range(node, what, min, max, "write a size within this range, in bytes");
                None
            }
        }
    }

    /// One of some words.
    pub(super) fn choice<'n>(
        &self,
        node: &'n Node,
        what: &str,
        words: &'static [&'static str],
    ) -> Option<&'n str> {
        let known = || words.iter().copied();
        let Some(Resolved::Text(text)) = self.resolve(node) else {
            self.wrong_type(node, what, "a word", &suggest("", known(), "known words"));
            return None;
        };
        if words.contains(&text) {
            return Some(text);
        }
        let message = format!("{what} cannot be `{}`", excerpt(text));
        self.problems.add("plan.unknown_word", &node.at, message, suggest(text, known(), "known words"));
        None
    }

    /// One of some words, or the number that it stands for, which may be any within both ends.
    pub(super) fn word_or_whole(
        &self,
        node: &Node,
        what: &str,
        words: &'static [(&'static str, u64)],
        min: u64,
        max: u64,
    ) -> Option<u64> {
        let known = || words.iter().map(|(word, _)| *word);
        match self.resolve(node) {
            Some(Resolved::Text(text)) => {
                let found = words.iter().find(|(word, _)| *word == text);
                if found.is_none() {
                    let message = format!("{what} cannot be `{}`", excerpt(text));
                    let help = format!("{}, or a number", suggest(text, known(), "known words"));
                    self.problems.add("plan.unknown_word", &node.at, message, help);
                }
                found.map(|(_, number)| *number)
            }
            _ => self.whole(node, what, min, max),
        }
    }

    /// A list that is neither empty nor endless.
    pub(super) fn list<'n>(&self, node: &'n Node, what: &str, of: &str) -> Option<&'n [Rc<Node>]> {
        let Value::Sequence(items) = &node.value else {
            self.wrong_type(
                node,
                what,
                &format!("a list of {of}"),
                "write a list: `[a, b]`, or lines with `- `",
            );
            return None;
        };
        if items.is_empty() {
            let message = format!("{what} is an empty list");
            self.problems.add(
                "plan.out_of_range",
                &node.at,
                message,
                "name at least one, or take out the key",
            );
            return None;
        }
        if items.len() > MAX_LIST {
            let message = format!("{what} has {} entries", items.len());
            self.problems.add(
                "plan.out_of_range",
                &node.at,
                message,
                format!("use at most {MAX_LIST} entries"),
            );
            return None;
        }
        Some(items)
    }

    /// The node itself, or the entries of a list.
    pub(super) fn one_or_list<'n>(&self, node: &'n Node, what: &str, of: &str) -> Vec<&'n Node> {
        match &node.value {
            Value::Sequence(_) => {
                self.list(node, what, of).unwrap_or_default().iter().map(Rc::as_ref).collect()
            }
            Value::Scalar(_) | Value::Mapping(_) => vec![node],
        }
    }

    /// A regular expression that must match a whole text.
    pub(super) fn expression(&self, node: &Node, what: &str) -> Option<Pattern> {
        self.compiled(node, what, Pattern::new)
    }

    /// A regular expression that must match somewhere in a text.
    pub(super) fn search(&self, node: &Node, what: &str) -> Option<Search> {
        self.compiled(node, what, Search::new)
    }

    fn compiled<T>(
        &self,
        node: &Node,
        what: &str,
        build: impl Fn(&str) -> Result<T, regex::Error>,
    ) -> Option<T> {
        let source = self.text(node, what)?;
        let count = self.expressions.get() + 1;
        self.expressions.set(count);
        if count > MAX_EXPRESSIONS {
            if count == MAX_EXPRESSIONS + 1 {
                let message = format!("the plan has more than {MAX_EXPRESSIONS} regular expressions");
                self.problems.add("plan.out_of_range", &node.at, message, "join several with `|`");
            }
            return None;
        }
        match expression::compile(source, build) {
            Ok(compiled) => Some(compiled),
            Err(error) => {
                let at = match error.at {
                    Some(within) => scalar::place_within(self.problems.text(), node, &within),
                    None => node.at.clone(),
                };
                let message = format!("{what} is no valid regular expression: {}", error.message);
                self.problems.add("plan.bad_expression", &at, message, error.help);
                None
            }
        }
    }

    /// The entries of a map, with unknown and missing keys reported.
    pub(super) fn fields<'n>(&'n self, node: &'n Node, table: &'static Table) -> Option<Fields<'n>> {
        let names = || table.keys.iter().map(|key| key.name);
        let Value::Mapping(entries) = &node.value else {
            self.wrong_type(node, table.what, "a map", &suggest("", names(), "its keys"));
            return None;
        };
        for (key, _) in entries.iter().filter(|(key, _)| !names().any(|name| name == key.name)) {
            let message = format!("unknown key `{}` in {}", excerpt(&key.name), table.what);
            self.problems.add(
                "plan.unknown_key",
                &key.at,
                message,
                suggest(&key.name, names(), "known keys"),
            );
        }
        let fields = Fields { reader: self, node, table };
        for key in table.keys.iter().filter(|key| key.required && fields.get(key.name).is_none()) {
            let message = format!("{} needs the key `{}`", table.what, key.name);
            self.problems.add("plan.missing_key", &node.at, message, format!("`{}`: {}", key.name, key.doc));
        }
        Some(fields)
    }
}

/// The entries of one map.
#[derive(Debug, Clone, Copy)]
pub(super) struct Fields<'n> {
    pub(super) reader: &'n Reader<'n>,
    pub(super) node: &'n Node,
    table: &'static Table,
}

impl<'n> Fields<'n> {
    fn key(&self, name: &str) -> Option<&'static Key> {
        let key = self.table.keys.iter().find(|key| key.name == name);
        debug_assert!(key.is_some(), "`{name}` is not in the table of {}", self.table.what);
        key
    }

    /// The value of a key.
    pub(super) fn get(&self, name: &str) -> Option<&'n Node> {
        self.key(name)?;
        let Value::Mapping(entries) = &self.node.value else { return None };
        entries.iter().find(|(key, _)| key.name == name).map(|(_, value)| value.as_ref())
    }

    /// Where a key is written; the whole map where it is not given.
    pub(super) fn key_at(&self, name: &str) -> Range<usize> {
        let Value::Mapping(entries) = &self.node.value else { return self.node.at.clone() };
        entries.iter().find(|(key, _)| key.name == name).map_or(&self.node.at, |(key, _)| &key.at).clone()
    }

    /// The value and the kind that it must have.
    fn entry(&self, name: &str) -> Option<(&'n Node, &'static Kind, String)> {
        Some((self.get(name)?, &self.key(name)?.kind, format!("`{name}`")))
    }

    pub(super) fn text(&self, name: &str) -> Option<&'n str> {
        let (node, _, what) = self.entry(name)?;
        self.reader.text(node, &what)
    }

    pub(super) fn flag(&self, name: &str) -> Option<bool> {
        let (node, _, what) = self.entry(name)?;
        self.reader.flag(node, &what)
    }

    /// A whole number that fits `T`: the bounds in the table see to it.
    pub(super) fn whole<T: TryFrom<u64>>(&self, name: &str) -> Option<T> {
        let (node, kind, what) = self.entry(name)?;
        self.whole_of(node, kind, &what)
    }

    fn whole_of<T: TryFrom<u64>>(&self, node: &Node, kind: &Kind, what: &str) -> Option<T> {
        let value = match kind {
            Kind::Whole(min, max) => self.reader.whole(node, what, *min, *max),
            Kind::Size(min, max) => self.reader.size(node, what, *min, *max),
            other => mismatch(other),
        }?;
        T::try_from(value).ok()
    }

    pub(super) fn number(&self, name: &str) -> Option<f64> {
        let (node, kind, what) = self.entry(name)?;
        match kind {
            Kind::Number(min, max) => self.reader.number(node, &what, *min, *max),
            other => mismatch(other),
        }
    }

    pub(super) fn time(&self, name: &str) -> Option<Duration> {
        let (node, kind, what) = self.entry(name)?;
        match kind {
            Kind::Time(min, max) => self.reader.time(node, &what, *min, *max),
            other => mismatch(other),
        }
    }

    pub(super) fn choice(&self, name: &str) -> Option<&'n str> {
        let (node, kind, what) = self.entry(name)?;
        match kind {
            Kind::Choice(words) => self.reader.choice(node, &what, words),
            other => mismatch(other),
        }
    }

    pub(super) fn expression(&self, name: &str) -> Option<Pattern> {
        let (node, _, what) = self.entry(name)?;
        self.reader.expression(node, &what)
    }

    pub(super) fn search(&self, name: &str) -> Option<Search> {
        let (node, _, what) = self.entry(name)?;
        self.reader.search(node, &what)
    }

    /// A whole number that may be a word, and that fits `T`.
    pub(super) fn word_or_whole<T: TryFrom<u64>>(&self, name: &str) -> Option<T> {
        let (node, kind, what) = self.entry(name)?;
        match kind {
            Kind::WordOrWhole(words, min, max) => {
                T::try_from(self.reader.word_or_whole(node, &what, words, *min, *max)?).ok()
            }
            other => mismatch(other),
        }
    }

    /// The word `auto`, or a whole number.
    pub(super) fn auto_whole<T: TryFrom<u64>>(&self, name: &str) -> Option<Auto<T>> {
        let (node, kind, what) = self.auto(name)?;
        match kind {
            None => Some(Auto::Auto),
            Some(kind) => self.whole_of(node, kind, &what).map(Auto::Fixed),
        }
    }

    /// The word `auto`, or a duration.
    pub(super) fn auto_time(&self, name: &str) -> Option<Auto<Duration>> {
        let (node, kind, what) = self.auto(name)?;
        match kind {
            None => Some(Auto::Auto),
            Some(Kind::Time(min, max)) => self.reader.time(node, &what, *min, *max).map(Auto::Fixed),
            Some(other) => mismatch(other),
        }
    }

    /// The kind is `None` where the value is the word `auto`.
    fn auto(&self, name: &str) -> Option<(&'n Node, Option<&'static Kind>, String)> {
        let (node, kind, what) = self.entry(name)?;
        let Kind::AutoOr(kind) = kind else { return mismatch(kind) };
        let is_auto = self.reader.resolve(node) == Some(Resolved::Text("auto"));
        Some((node, (!is_auto).then_some(*kind), format!("{what}, unless `auto`,")))
    }
}

/// The reader asks for another kind than the table has: a defect, which tests find. Nothing is read.
fn mismatch<T>(kind: &Kind) -> Option<T> {
    debug_assert!(false, "the table has {kind:?}");
    None
}

/// What a node is, in a message.
pub(super) fn describe(node: &Node) -> String {
    match &node.value {
        Value::Sequence(_) => "a list".to_owned(),
        Value::Mapping(_) => "a map".to_owned(),
        Value::Scalar(scalar) => match scalar.resolve() {
            Resolved::Null => "nothing".to_owned(),
            Resolved::Bool(value) => format!("{value}"),
            Resolved::Int(_) | Resolved::Float(_) => excerpt(&scalar.text),
            Resolved::Text(text) => format!("the text `{}`", excerpt(text)),
        },
    }
}

/// Errors of other crates begin with a capital letter.
pub(super) fn lower_first(text: &str) -> String {
    let mut chars = text.chars();
    chars.next().map_or_else(String::new, |first| first.to_lowercase().chain(chars).collect())
}

pub(super) fn parse_size(text: &str) -> Option<u64> {
    let digits = text.trim_end_matches(|c: char| !c.is_ascii_digit());
    let factor = match text[digits.len()..].trim() {
        "" | "B" => 1,
        "kB" => 1000,
        "KiB" | "K" => 1 << 10,
        "MB" => 1_000_000,
        "MiB" | "M" => 1 << 20,
        _ => return None,
    };
    digits.parse::<u64>().ok()?.checked_mul(factor)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_have_units() {
        for (text, want) in [
            ("64KiB", Some(65_536)),
            ("64 KiB", Some(65_536)),
            ("1MB", Some(1_000_000)),
            ("12", Some(12)),
            ("1.5KiB", None),
            ("KiB", None),
            ("1GiB", None),
            ("99999999999999999999MiB", None),
        ] {
            assert_eq!(parse_size(text), want, "{text}");
        }
    }
}
