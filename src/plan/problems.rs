//! Where problems of one plan are collected, with their places in its text.

use std::cell::{Cell, RefCell};
use std::ops::Range;

use super::diagnostic::{Diagnostic, Place};

/// How many problems of one plan are kept; the rest is counted.
const MAX_KEPT: usize = 50;

/// Longest piece of the plan that is repeated in a message, in characters.
const MAX_EXCERPT: usize = 60;

/// The problems of one plan.
#[derive(Debug)]
pub(super) struct Problems<'a> {
    text: &'a str,
    kept: RefCell<Vec<(usize, Diagnostic)>>,
    omitted: Cell<usize>,
}

impl<'a> Problems<'a> {
    pub(super) fn new(text: &'a str) -> Self {
        Self { text, kept: RefCell::default(), omitted: Cell::new(0) }
    }

    /// The whole text of the plan.
    pub(super) fn text(&self) -> &'a str {
        self.text
    }

    /// Adds one that is about the bytes `at`.
    pub(super) fn add(
        &self,
        code: &'static str,
        at: &Range<usize>,
        message: impl Into<String>,
        help: impl Into<String>,
    ) {
        let (message, help) = (message.into(), help.into());
        let mut kept = self.kept.borrow_mut();
        // A value that two readings look at is wrong once.
        if kept.iter().any(|(start, d)| *start == at.start && d.code == code && d.message == message) {
            return;
        }
        if kept.len() >= MAX_KEPT {
            self.omitted.set(self.omitted.get() + 1);
            return;
        }
        let place = Place::new(self.text, at);
        kept.push((at.start, Diagnostic { code, message, help, place: Some(place) }));
    }

    /// The line, from 1, of a byte.
    pub(super) fn line(&self, byte: usize) -> usize {
        Place::new(self.text, &(byte..byte)).line
    }

    /// Everything in the order of the text, and how many more there were.
    pub(super) fn finish(self) -> (Vec<Diagnostic>, usize) {
        let mut kept = self.kept.into_inner();
        kept.sort_by_key(|(at, _)| *at);
        (kept.into_iter().map(|(_, diagnostic)| diagnostic).collect(), self.omitted.get())
    }

    /// Whether nothing is wrong so far.
    pub(super) fn is_empty(&self) -> bool {
        self.kept.borrow().is_empty()
    }
}

/// A piece of the plan, fit to stand in a message: one line, not too long, without control characters.
pub(super) fn excerpt(text: &str) -> String {
    let mut out = String::new();
    for (index, c) in text.chars().enumerate() {
        if index == MAX_EXCERPT {
            out.push('…');
            break;
        }
        if c.is_control() {
            out.extend(c.escape_default());
        } else {
            out.push(c);
        }
    }
    out
}

/// The known name that `name` was most likely meant to be.
pub(super) fn closest<'n>(name: &str, known: impl IntoIterator<Item = &'n str>) -> Option<&'n str> {
    // A distance is quadratic in the length, and no name is this long.
    if name.chars().count() > 40 {
        return None;
    }
    let name = name.to_lowercase();
    let distance = |candidate: &str| {
        // A word and the beginning of it are close, however long the rest is.
        let is_part = name.len() >= 3 && candidate.starts_with(&name);
        if is_part { 1 } else { strsim::damerau_levenshtein(&name, &candidate.to_lowercase()) }
    };
    known
        .into_iter()
        .map(|candidate| (distance(candidate), candidate))
        .filter(|(distance, candidate)| *distance <= 1 + candidate.chars().count().min(12) / 4)
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, candidate)| candidate)
}

/// `did you mean …?`, where a name is close, and then what is known.
pub(super) fn suggest<'n>(
    name: &str,
    known: impl IntoIterator<Item = &'n str> + Clone,
    what: &str,
) -> String {
    let list = known.clone().into_iter().map(|name| format!("`{}`", excerpt(name))).collect::<Vec<_>>();
    let list = match list.len() {
        0 => format!("there are no {what}"),
        1..=20 => format!("{what}: {}", list.join(", ")),
        more => format!("{what}: {} and {} more", list[..20].join(", "), more - 20),
    };
    match closest(name, known) {
        Some(close) => format!("did you mean `{}`? {list}", excerpt(close)),
        None => list,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn close_names_are_found_and_far_ones_are_not() {
        let known = ["baud", "buffer", "framing", "return_within"];
        assert_eq!(closest("bauds", known), Some("baud"));
        assert_eq!(closest("Buffer", known), Some("buffer"));
        assert_eq!(closest("return-within", known), Some("return_within"));
        assert_eq!(closest("speed", known), None);
        assert_eq!(closest("img", ["image", "force"]), Some("image"));
        assert_eq!(closest("serial", ["serial_number", "sim"]), Some("serial_number"));
        assert_eq!(closest("", known), None);
        assert_eq!(closest(&"b".repeat(100_000), known), None);
    }

    #[test]
    fn an_excerpt_is_one_short_line() {
        assert_eq!(excerpt("a\nb\u{1b}[0m"), "a\\nb\\u{1b}[0m");
        assert_eq!(excerpt(&"x".repeat(1000)).chars().count(), MAX_EXCERPT + 1);
    }

    #[test]
    fn problems_come_in_the_order_of_the_text_and_are_bounded() {
        let text = "x".repeat(100);
        let problems = Problems::new(&text);
        for at in (0..100).rev() {
            problems.add("plan.test", &(at..at + 1), "m", "h");
        }
        let (kept, omitted) = problems.finish();
        assert_eq!((kept.len(), omitted), (MAX_KEPT, 50));
        let columns: Vec<_> = kept.iter().map(|d| d.place.as_ref().unwrap().column).collect();
        assert!(columns.is_sorted(), "{columns:?}");
    }
}
