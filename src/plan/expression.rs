//! Regular expressions of a plan: where one is wrong, and whether one can match a USB id at all.

use std::collections::{BTreeSet, VecDeque};
use std::ops::Range;

use regex_automata::Anchored;
use regex_automata::dfa::{Automaton, StartKind, dense};
use regex_automata::nfa::thompson;
use regex_automata::util::start;
use regex_automata::util::syntax;

/// Largest automaton that is built to see whether an expression can match, in bytes; beyond, it is taken to match.
const MAX_AUTOMATON: usize = 256 << 10;

/// Why an expression is not valid.
#[derive(Debug)]
pub(super) struct ExpressionError {
    /// Bytes of the expression.
    pub(super) at: Option<Range<usize>>,
    pub(super) message: String,
    pub(super) help: String,
}

/// Compiles an expression with `build`.
pub(super) fn compile<T>(
    source: &str,
    build: impl Fn(&str) -> Result<T, regex::Error>,
) -> Result<T, ExpressionError> {
    let (at, message) = match regex_syntax::parse(source) {
        Ok(_) => match build(source) {
            Ok(compiled) => return Ok(compiled),
            Err(regex::Error::CompiledTooBig(limit)) => {
                (None, format!("compiled it would be larger than {limit} bytes"))
            }
            Err(error) => (None, last_line(&error.to_string())),
        },
        Err(regex_syntax::Error::Parse(error)) => (Some(range(error.span())), error.kind().to_string()),
        Err(regex_syntax::Error::Translate(error)) => (Some(range(error.span())), error.kind().to_string()),
        Err(error) => (None, last_line(&error.to_string())),
    };
    let help = if message.contains("too") || message.contains("larger") {
        "use fewer or smaller repetitions".to_owned()
    } else {
        "put `\\` before a character that is meant as itself; look-around and backreferences do not exist"
            .to_owned()
    };
    Err(ExpressionError { at, message, help })
}

fn range(span: &regex_syntax::ast::Span) -> Range<usize> {
    span.start.offset..span.end.offset
}

/// The regex crate's messages quote the whole expression first.
fn last_line(message: &str) -> String {
    message.lines().last().unwrap_or_default().trim_start_matches("error: ").to_owned()
}

/// What a character of a USB id can be.
#[derive(Debug, Clone, Copy)]
enum Class {
    Hex,
    Digit,
    Only(u8),
}

impl Class {
    fn bytes(self) -> impl Iterator<Item = u8> {
        (0..=127u8).filter(move |byte| match self {
            Self::Hex => byte.is_ascii_digit() || (b'a'..=b'f').contains(byte),
            Self::Digit => byte.is_ascii_digit(),
            Self::Only(only) => *byte == only,
        })
    }
}

/// `vid:pid:interface`; what comes after position 9 may be left out, and after position 11 it may end anywhere.
const USB_ID: [Class; 13] = {
    use Class::{Digit, Hex, Only};
    [Hex, Hex, Hex, Hex, Only(b':'), Hex, Hex, Hex, Hex, Only(b':'), Digit, Digit, Digit]
};

/// The lengths that a USB id can have: without interface, and with one of one to three digits.
const USB_ID_LENGTHS: [usize; 4] = [9, 11, 12, 13];

/// Whether some USB id (`vid:pid` or `vid:pid:interface`) matches. Says `true` where it cannot tell.
pub(super) fn can_match_usb_id(source: &str) -> bool {
    let config = dense::Config::new()
        .start_kind(StartKind::Anchored)
        .dfa_size_limit(Some(MAX_AUTOMATON))
        .determinize_size_limit(Some(MAX_AUTOMATON));
    // An id is ASCII, on which an expression means the same without Unicode, and its automaton is small.
    let Ok(dfa) = dense::Builder::new()
        .configure(config)
        .syntax(syntax::Config::new().case_insensitive(true).unicode(false).utf8(false))
        .thompson(thompson::Config::new().utf8(false))
        .build(&format!("^(?:{source})$"))
    else {
        return true;
    };
    let Ok(first) = dfa.start_state(&start::Config::new().anchored(Anchored::Yes)) else { return true };
    // Every state of the automaton together with every length of id that reaches it.
    let mut seen = BTreeSet::from([(first, 0)]);
    let mut queue = VecDeque::from([(first, 0)]);
    while let Some((state, length)) = queue.pop_front() {
        if dfa.is_quit_state(state) {
            return true;
        }
        if USB_ID_LENGTHS.contains(&length) && dfa.is_match_state(dfa.next_eoi_state(state)) {
            return true;
        }
        let Some(class) = USB_ID.get(length) else { continue };
        for byte in class.bytes() {
            let next = (dfa.next_state(state, byte), length + 1);
            if !dfa.is_dead_state(next.0) && seen.insert(next) {
                queue.push_back(next);
            }
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::model::Pattern;

    fn compiled(source: &str) -> Result<Pattern, ExpressionError> {
        compile(source, Pattern::new)
    }

    #[test]
    fn an_error_says_where() {
        for (source, at) in
            [("2fe3:(0004", Some(5..6)), ("a)(b", Some(1..2)), ("[z-a]", Some(1..4)), ("*", Some(0..0))]
        {
            assert_eq!(compiled(source).unwrap_err().at, at, "{source}");
        }
        // What a name needs is far from the bound.
        assert!(compiled("[\\w-]{1,40}").is_ok());
        assert!(compiled("((a{1000}){1000}){1000}").unwrap_err().message.contains("larger"));
        assert!(compiled(&"(".repeat(1000)).is_err());
        assert!(compiled("(?x)a # not closed").is_err());
    }

    #[test]
    fn a_pattern_for_usb_ids_can_match_one() {
        for source in [
            "2FE3:0004(:0)?",
            "2fe3:0004",
            "2fe3:.*",
            ".*",
            "2fe3:0004:255",
            "(?i)2fe3:00..",
            "....:....:[02]",
            "2fe3.*",
            ".{9}",
            "\\p{L}.*",
            "\\w+:\\w+",
            "\\b2fe3:0004\\b",
        ] {
            assert!(can_match_usb_id(source), "{source}");
        }
        for source in [
            "0x2fe3",
            "2fe3",
            "2fe3:4",
            "2fe3:0004:",
            "2fe3:0004:0:1",
            "2fe3-0004",
            "usb:2fe3:0004",
            "2fg3:.*",
            "2fe3:0004:a",
            ".{10}",
            "2fe3:0004:00000",
            " 2fe3:0004",
            "^$",
        ] {
            assert!(!can_match_usb_id(source), "{source}");
        }
    }
}
