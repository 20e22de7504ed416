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
                // The origin apart from the snippet, whose column would be wrong where a long line is cut.
                Some(place) => title
                    .element(Origin::path(file.as_str()).line(place.line).char_column(place.column))
                    .element(
                        Snippet::source(place.shown.as_str())
                            .line_start(place.line)
                            .annotation(AnnotationKind::Primary.span(place.marked.clone())),
                    ),
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
