//! Steps whose request is never sent a second time: shell, erase-storage, smp. An answer that is lost ends them: nobody
//! knows what was done.

use std::time::Duration;

use serde_json::Value as Json;

use crate::cause::{Cause, Class};
use crate::plan::{Search, SmpCommand};
use crate::report::StepDetail;
use crate::smp::{Op, Time};

use super::{Action, Facts, Outcome, StepMachine, Turn, unexpected};

/// Longest part of a device's own words in a message, in characters.
const EXCERPT: usize = 200;

/// The device's own words, fit to stand in a message.
pub(super) fn excerpt(text: &str) -> String {
    let text = text.trim();
    match text.char_indices().nth(EXCERPT) {
        // The end says most: tests print their result last.
        Some(_) => {
            let from = text.char_indices().rev().nth(EXCERPT - 1).map_or(0, |(at, _)| at);
            format!("…{:?}", text.get(from..).unwrap_or_default())
        }
        None => format!("{text:?}"),
    }
}

/// Runs a command in the device's shell: it must return 0 and print what is expected.
#[derive(Debug)]
pub(in crate::flow) struct ShellStep {
    command: String,
    expect: Option<Search>,
    timeout: Option<Duration>,
}

impl ShellStep {
    pub(in crate::flow) fn new(command: String, expect: Option<Search>, timeout: Option<Duration>) -> Self {
        Self { command, expect, timeout }
    }

    fn check(&self, output: &str, returned: i32) -> Result<(), Cause> {
        if returned != 0 {
            return Err(Cause::new(
                Class::Device,
                "shell.failed",
                format!(
                    "expected `{}` to return 0, it returned {returned} and printed {}",
                    self.command,
                    excerpt(output)
                ),
                "the whole output is in the report; a command that does not exist returns -8",
            ));
        }
        match &self.expect {
            Some(expect) if !expect.is_in(output) => Err(Cause::new(
                Class::Device,
                "shell.mismatch",
                format!(
                    "expected the output of `{}` to match `{}`, got {}",
                    self.command,
                    expect.as_str(),
                    excerpt(output)
                ),
                "the whole output is in the report; `(?i)` at the beginning of `expect` takes upper and lower case for the \
                 same",
            )),
            _ => Ok(()),
        }
    }
}

impl StepMachine for ShellStep {
    fn next(&mut self, facts: &mut Facts, _now: Time, outcome: Option<Outcome>) -> Turn {
        match outcome {
            None => Turn::Do(Action::Shell { command: self.command.clone(), timeout: self.timeout }),
            Some(Outcome::Printed { output, returned }) => {
                facts.changed = true;
                let checked = self.check(&output, returned);
                let detail = Box::new(StepDetail { output: Some(output), ..StepDetail::default() });
                match checked {
                    Ok(()) => Turn::Held(detail),
                    Err(cause) => Turn::Broke(cause, detail),
                }
            }
            Some(Outcome::MayHaveHappened(cause)) => Turn::lost(facts, cause),
            Some(Outcome::Failed(cause)) => Turn::broke(cause),
            Some(outcome) => unexpected("shell", Some(&outcome)),
        }
    }

    fn retry(&mut self) {
        // Only what was not sent is tried again.
    }
}

/// Erases the storage partition. There is nothing to read back: the device's word is all there is.
#[derive(Debug)]
pub(in crate::flow) struct EraseStorageStep;

impl StepMachine for EraseStorageStep {
    fn next(&mut self, facts: &mut Facts, _now: Time, outcome: Option<Outcome>) -> Turn {
        match outcome {
            None => Turn::Do(Action::EraseStorage),
            Some(Outcome::Done) => {
                facts.changed = true;
                let note = "the device says that it is erased; no command reads that back, and the application keeps what it \
                            has in memory until it is reset";
                Turn::held(StepDetail { notes: vec![note.to_owned()], ..StepDetail::default() })
            }
            Some(Outcome::MayHaveHappened(cause)) => Turn::lost(facts, cause),
            Some(Outcome::Failed(cause)) => Turn::broke(cause),
            Some(outcome) => unexpected("erase-storage", Some(&outcome)),
        }
    }

    fn retry(&mut self) {}
}

/// Any SMP command: the answer must be no refusal, and contain what is expected.
#[derive(Debug)]
pub(in crate::flow) struct SmpStep {
    command: SmpCommand,
}

impl SmpStep {
    pub(in crate::flow) fn new(command: SmpCommand) -> Self {
        Self { command }
    }

    fn check(&self, answer: &Json, refusal: Option<Cause>) -> Result<(), Cause> {
        let expect = self.command.expect.as_ref();
        // A plan that speaks of the error expects one.
        let of_error = |key: &String| key == "rc" || key == "err";
        let expects_error =
            expect.and_then(Json::as_object).is_some_and(|expect| expect.keys().any(of_error));
        if let Some(refusal) = refusal.filter(|_| !expects_error) {
            return Err(refusal);
        }
        let Some(unmet) = expect.and_then(|expect| first_unmet(expect, Some(answer), "")) else {
            return Ok(());
        };
        let Unmet { path, expected, actual } = unmet;
        let place = if path.is_empty() { String::new() } else { format!(" `{path}`") };
        let actual = actual.map_or_else(|| "nothing".to_owned(), |actual| short(&actual));
        Err(Cause::new(
            Class::Device,
            "smp.mismatch",
            format!(
                "expected the answer to {}{} to be {}, got {actual}",
                self.command.request,
                if place.is_empty() { place } else { format!(" to have{place}, and that") },
                short(&expected)
            ),
            "the whole answer is in the report",
        ))
    }
}

fn short(json: &Json) -> String {
    let text = json.to_string();
    match text.char_indices().nth(EXCERPT) {
        Some((end, _)) => format!("{}…", text.get(..end).unwrap_or_default()),
        None => text,
    }
}

/// What an answer does not have.
#[derive(Debug, PartialEq)]
struct Unmet {
    /// Where, keys and positions with dots between them.
    path: String,
    expected: Json,
    actual: Option<Json>,
}

/// The first part of `expected` that `actual` does not contain: of a map every key is wanted, of a list as many entries;
/// numbers are the same by their value.
fn first_unmet(expected: &Json, actual: Option<&Json>, path: &str) -> Option<Unmet> {
    let unmet = || Unmet { path: path.to_owned(), expected: expected.clone(), actual: actual.cloned() };
    let below = |name: &str| if path.is_empty() { name.to_owned() } else { format!("{path}.{name}") };
    match (expected, actual) {
        (Json::Object(expected), Some(Json::Object(actual))) => {
            expected.iter().find_map(|(key, value)| first_unmet(value, actual.get(key), &below(key)))
        }
        (Json::Array(expected), Some(Json::Array(actual))) if expected.len() == actual.len() => {
            let pairs = expected.iter().zip(actual).enumerate();
            let mut pairs = pairs.map(|(at, (expected, actual))| (below(&at.to_string()), expected, actual));
            pairs.find_map(|(path, expected, actual)| first_unmet(expected, Some(actual), &path))
        }
        (Json::Number(expected), Some(Json::Number(actual))) => {
            let same = expected == actual
                || (expected.is_f64() || actual.is_f64()) && expected.as_f64() == actual.as_f64();
            if same { None } else { Some(unmet()) }
        }
        (expected, Some(actual)) if expected == actual => None,
        _ => Some(unmet()),
    }
}

impl StepMachine for SmpStep {
    fn next(&mut self, facts: &mut Facts, _now: Time, outcome: Option<Outcome>) -> Turn {
        match outcome {
            None => {
                Turn::Do(Action::Smp { request: self.command.request, payload: self.command.payload.clone() })
            }
            Some(Outcome::Answered { answer, refusal }) => {
                // A device that said no did nothing.
                facts.changed |= self.command.request.op == Op::Write && refusal.is_none();
                let checked = self.check(&answer, refusal);
                let detail =
                    Box::new(StepDetail { output: Some(answer.to_string()), ..StepDetail::default() });
                match checked {
                    Ok(()) => Turn::Held(detail),
                    Err(cause) => Turn::Broke(cause, detail),
                }
            }
            Some(Outcome::MayHaveHappened(cause)) => Turn::lost(facts, cause),
            Some(Outcome::Failed(cause)) => Turn::broke(cause),
            Some(outcome) => unexpected("smp", Some(&outcome)),
        }
    }

    fn retry(&mut self) {}
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn an_answer_contains_what_is_expected_and_may_say_more() {
        let unmet = |expected: Json, actual: Json| {
            first_unmet(&expected, Some(&actual), "").map(|unmet| (unmet.path, unmet.actual))
        };
        let answer = json!({ "a": 1, "l": [{ "b": "x", "c": 2 }], "n": null });
        for expected in [
            json!({}),
            json!({ "a": 1 }),
            json!({ "a": 1.0 }),
            json!({ "l": [{ "b": "x" }] }),
            json!({ "n": null }),
        ] {
            assert_eq!(unmet(expected, answer.clone()), None);
        }
        for (expected, path, actual) in [
            (json!({ "a": 2 }), "a", Some(json!(1))),
            (json!({ "a": "1" }), "a", Some(json!(1))),
            (json!({ "z": null }), "z", None),
            (json!({ "l": [] }), "l", Some(json!([{ "b": "x", "c": 2 }]))),
            (json!({ "l": [{ "b": "y" }] }), "l.0.b", Some(json!("x"))),
            (json!([]), "", Some(answer.clone())),
        ] {
            assert_eq!(unmet(expected, answer.clone()), Some((path.to_owned(), actual)));
        }
        // Beyond 53 bits a float cannot tell two numbers apart.
        let (one, other) = (json!(u64::MAX), json!(u64::MAX - 1));
        assert!(unmet(one.clone(), other).is_some());
        assert!(unmet(one.clone(), one).is_none());
    }

    #[test]
    fn an_excerpt_keeps_the_end_and_is_short() {
        assert_eq!(excerpt("PASS\r\n"), "\"PASS\"");
        let long = format!("{}FAIL", "ä".repeat(1000));
        let short = excerpt(&long);
        assert!(short.ends_with("FAIL\"") && short.chars().count() < 220, "{short}");
    }
}
