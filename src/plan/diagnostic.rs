//! What is wrong with a plan, and how it is shown to people and to programs. How it is found does not live here.

use std::fmt;
use std::ops::Range;
use std::path::{Path, PathBuf};

use annotate_snippets::renderer::DecorStyle;
use annotate_snippets::{AnnotationKind, Level, Origin, Renderer, Snippet};
use serde_json::{Value, json};

use crate::cause::{Cause, Class};

/// Longest part of a source line that is shown, in characters.
const MAX_SHOWN: usize = 160;

/// One thing that is wrong with a plan.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Diagnostic {
    /// Stable and dotted, for example `plan.unknown_key`.
    pub code: &'static str,
    /// Lower-case; what was expected and what came.
    pub message: String,
    /// What would be right.
    pub help: String,
    /// Where in the file; `None` where it is about the file as a whole.
    pub place: Option<Place>,
}

/// A place in the text of a plan.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// From 1.
    pub line: usize,
    /// From 1, in characters.
    pub column: usize,
    /// The offending text, no further than the end of its first line.
    pub text: String,
    /// The part of the line that is shown.
    shown: String,
    /// Whether `shown` begins later than the line does.
    is_cut: bool,
    /// Where the offending text is within `shown`, in bytes.
    marked: Range<usize>,
}

impl Place {
    /// The place of the bytes `at` of `text`, cut at the end of the first line.
    pub(super) fn new(text: &str, at: &Range<usize>) -> Self {
        let mut start = at.start.min(text.len());
        while !text.is_char_boundary(start) {
            start -= 1;
        }
        let (before, rest) = text.split_at(start);
        let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
        let line = before.matches('\n').count() + 1;
        let lead = &before[line_start..];
        let line_rest = rest.split('\n').next().unwrap_or_default().trim_end_matches('\r');
        let marked = rest.get(..at.end.saturating_sub(start)).unwrap_or_default();
        let marked = marked.split('\n').next().unwrap_or_default().trim_end();

        // Of a very long line only the surroundings are kept.
        let lead_shown = last_chars(lead, MAX_SHOWN / 2);
        let rest_shown = first_chars(line_rest, MAX_SHOWN);
        let marked_shown = first_chars(marked, MAX_SHOWN);
        Self {
            line,
            column: lead.chars().count() + 1,
            text: marked_shown.to_owned(),
            is_cut: lead_shown.len() < lead.len(),
            shown: format!("{lead_shown}{rest_shown}"),
            marked: lead_shown.len()..lead_shown.len() + marked_shown.len(),
        }
    }
}

fn first_chars(text: &str, count: usize) -> &str {
    text.char_indices().nth(count).map_or(text, |(end, _)| &text[..end])
}

fn last_chars(text: &str, count: usize) -> &str {
    text.char_indices().rev().nth(count.saturating_sub(1)).map_or(text, |(start, _)| &text[start..])
}

/// Everything that is wrong with one plan: never empty.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Diagnostics {
    file: PathBuf,
    items: Vec<Diagnostic>,
    omitted: usize,
}

impl Diagnostics {
    pub(super) fn new(file: &Path, items: Vec<Diagnostic>, omitted: usize) -> Self {
        Self { file: file.to_owned(), items, omitted }
    }

    /// One problem of the file as a whole.
    pub(super) fn of_file(file: &Path, code: &'static str, message: String, help: &str) -> Self {
        Self::new(file, vec![Diagnostic { code, message, help: help.to_owned(), place: None }], 0)
    }

    /// The plan file.
    #[must_use]
    pub fn file(&self) -> &Path {
        &self.file
    }

    /// In the order of the file.
    #[must_use]
    pub fn items(&self) -> &[Diagnostic] {
        &self.items
    }

    /// How many more problems there are that were not kept.
    #[must_use]
    pub fn omitted(&self) -> usize {
        self.omitted
    }

    /// For people: each problem with its line, a caret and help, in colours where `styled`.
    #[must_use]
    pub fn render(&self, styled: bool) -> String {
        let renderer = if styled { Renderer::styled() } else { Renderer::plain() };
        let renderer = renderer.decor_style(DecorStyle::Ascii);
        let file = self.file.display().to_string();
        let mut out = String::new();
        for item in &self.items {
            let title = Level::ERROR.primary_title(item.message.as_str()).id(item.code);
            let help = Level::HELP.message(item.help.as_str());
            let group = match &item.place {
                Some(place) => {
                    let snippet = Snippet::source(place.shown.as_str())
                        .line_start(place.line)
                        .annotation(AnnotationKind::Primary.span(place.marked.clone()));
                    if place.is_cut {
                        // Apart from the snippet, which would count columns from where the line was cut.
                        let origin = Origin::path(file.as_str()).line(place.line).char_column(place.column);
                        title.element(origin).element(snippet)
                    } else {
                        title.element(snippet.path(file.as_str()))
                    }
                }
                None => title.element(Origin::path(file.as_str())),
            };
            out.push_str(&renderer.render(&[group.element(help)]));
            out.push_str("\n\n");
        }
        out.push_str(&self.summary());
        out.push('\n');
        out
    }

    fn summary(&self) -> String {
        let count = self.items.len() + self.omitted;
        let plural = if count == 1 { "" } else { "s" };
        let shown = match self.omitted {
            0 => String::new(),
            _ => format!(", of which the first {} are shown", self.items.len()),
        };
        format!("{}: {count} problem{plural}{shown}; no device was touched", self.file.display())
    }

    /// For programs: a list of `{code, message, help, file, line, column, text}`.
    #[must_use]
    pub fn to_json(&self) -> Value {
        let file = self.file.display().to_string();
        let item = |item: &Diagnostic| {
            json!({
                "code": item.code,
                "message": item.message,
                "help": item.help,
                "file": file,
                "line": item.place.as_ref().map(|place| place.line),
                "column": item.place.as_ref().map(|place| place.column),
                "text": item.place.as_ref().map(|place| place.text.as_str()),
            })
        };
        self.items.iter().map(item).collect()
    }

    /// As the one cause that ends a run.
    #[must_use]
    pub fn to_cause(&self) -> Cause {
        let code = self.items.first().map_or("plan.invalid", |item| item.code);
        let message = match self.items.first() {
            Some(Diagnostic { message, place: Some(place), .. }) => {
                format!("{}:{}:{}: {message}", self.file.display(), place.line, place.column)
            }
            Some(Diagnostic { message, .. }) => format!("{}: {message}", self.file.display()),
            None => self.summary(),
        };
        let help = match (self.items.first(), self.items.len() + self.omitted) {
            (Some(item), 1) => item.help.clone(),
            (_, count) => format!("run `flashfleet check` to see all {count} problems"),
        };
        Cause::new(Class::Plan, code, message, help)
    }
}

impl fmt::Display for Diagnostics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.render(false))
    }
}

impl std::error::Error for Diagnostics {}

#[cfg(test)]
mod tests {
    use super::*;

    fn diagnostics(text: &str, at: Range<usize>) -> Diagnostics {
        let item = Diagnostic {
            code: "plan.test",
            message: "expected one, got another".to_owned(),
            help: "do that".to_owned(),
            place: Some(Place::new(text, &at)),
        };
        Diagnostics::new(Path::new("a.yaml"), vec![item], 0)
    }

    #[test]
    fn a_problem_is_shown_with_its_line_and_a_caret() {
        let text = "a: 1\nwörd: bad # x\nc: 2\n";
        let at = text.find("bad").unwrap();
        assert_eq!(
            diagnostics(text, at..at + 3).to_string(),
            "\
error[plan.test]: expected one, got another
 --> a.yaml:2:7
  |
2 | wörd: bad # x
  |       ^^^
  |
  = help: do that

a.yaml: 1 problem; no device was touched
"
        );
    }

    #[test]
    fn a_place_ends_with_its_first_line() {
        let place = Place::new("a:\r\n  b: 1\r\n  c: 2\r\n", &(6..20));
        assert_eq!((place.line, place.column, place.text.as_str()), (2, 3, "b: 1"));
        let end = Place::new("a: 1", &(4..4));
        assert_eq!((end.line, end.column, end.text.as_str()), (1, 5, ""));
        // A place that is out of the text, or within a character, is moved into it.
        assert_eq!(Place::new("ä", &(1..9)).column, 1);
        assert_eq!(Place::new("ä", &(7..9)).column, 2);
    }

    #[test]
    fn of_an_endless_line_only_the_surroundings_are_shown() {
        let text = format!("{}bad{}", "x".repeat(1_000_000), "y".repeat(1_000_000));
        let shown = diagnostics(&text, 1_000_000..1_000_003).to_string();
        assert!(shown.contains("a.yaml:1:1000001"), "{shown}");
        assert!(shown.contains("xbady"), "{shown}");
        assert!(shown.len() < 2000, "{}", shown.len());
    }

    #[test]
    fn control_characters_of_a_plan_do_not_reach_the_terminal() {
        let shown = diagnostics("a: \u{1b}[31mred\u{7}", 3..8).to_string();
        assert!(!shown.contains(['\u{1b}', '\u{7}']), "{shown:?}");
    }

    #[test]
    fn programs_get_every_part() {
        let found = diagnostics("a: bad", 3..6).to_json();
        assert_eq!(
            found,
            json!([{
                "code": "plan.test", "message": "expected one, got another", "help": "do that",
                "file": "a.yaml", "line": 1, "column": 4, "text": "bad",
            }])
        );
    }

    #[test]
    fn a_run_ends_with_the_first_problem() {
        let one = diagnostics("a: bad", 3..6).to_cause();
        assert_eq!((one.class, one.message.as_str()), (Class::Plan, "a.yaml:1:4: expected one, got another"));
        assert_eq!(one.help, "do that");
        let many = Diagnostics { omitted: 3, ..diagnostics("a: bad", 3..6) }.to_cause();
        assert!(many.help.contains("all 4 problems"), "{}", many.help);
    }
}
