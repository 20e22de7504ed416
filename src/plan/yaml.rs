//! A plan's text as a tree of YAML nodes that know where they were written. What keys mean does not live here.
//!
//! YAML 1.2 with the core schema, one document. Anchors and aliases work; tags, merge keys and keys that are not
//! scalars are refused. An alias shares the node it names, so that no chain of aliases costs memory, and the size of
//! the tree with every alias written out is bounded.

use std::collections::BTreeMap;
use std::ops::Range;
use std::rc::Rc;

use saphyr_parser::{Event, Marker, Parser, ScalarStyle, Span};

use super::scalar::{Scalar, end_of_quoted};

/// Longest chain of nodes within nodes, aliases followed. A valid plan needs eight.
const MAX_DEPTH: usize = 24;

/// Most nodes of a plan, aliases written out.
const MAX_NODES: usize = 500_000;

/// One YAML node.
#[derive(Debug)]
pub(super) struct Node {
    /// Where it was written, in bytes of the text.
    pub(super) at: Range<usize>,
    pub(super) value: Value,
    /// Nodes in it, itself included, aliases written out.
    size: usize,
    /// Nodes on the longest way down, itself included.
    depth: usize,
}

/// What a node holds.
#[derive(Debug)]
pub(super) enum Value {
    Scalar(Scalar),
    Sequence(Vec<Rc<Node>>),
    /// Keys are scalars, each once.
    Mapping(Vec<(Key, Rc<Node>)>),
}

/// A key of a mapping.
#[derive(Debug)]
pub(super) struct Key {
    pub(super) at: Range<usize>,
    pub(super) name: String,
}

/// Why a text is no tree.
#[derive(Debug)]
pub(super) struct YamlError {
    pub(super) at: Range<usize>,
    pub(super) code: &'static str,
    pub(super) message: String,
    pub(super) help: String,
}

impl YamlError {
    fn new(
        at: Range<usize>,
        code: &'static str,
        message: impl Into<String>,
        help: impl Into<String>,
    ) -> Self {
        Self { at, code, message: message.into(), help: help.into() }
    }
}

/// Reads the one document of `text`; `None` where there is nothing but comments.
pub(super) fn parse(text: &str) -> Result<Option<Rc<Node>>, YamlError> {
    let offsets = Offsets::new(text);
    let mut builder = Builder::default();
    let mut documents = 0;
    for event in Parser::new_from_str(text) {
        let (event, span) = event.map_err(|error| {
            let start = offsets.byte(*error.marker());
            syntax_error(start..offsets.next(start), error.info())
        })?;
        let mut at = offsets.range(span);
        if let Event::Scalar(_, ScalarStyle::SingleQuoted | ScalarStyle::DoubleQuoted, ..) = &event {
            at.end = end_of_quoted(text, at.start);
        }
        if matches!(event, Event::DocumentStart(_)) {
            documents += 1;
            if documents > 1 {
                return Err(YamlError::new(
                    at,
                    "plan.syntax",
                    "a second YAML document begins here, and a plan is one document",
                    "keep one plan per file and take out the line `---`",
                ));
            }
        }
        builder.event(event, at, text)?;
    }
    Ok(builder.root)
}

fn syntax_error(at: Range<usize>, info: &str) -> YamlError {
    let (code, help) = if info.contains("recursion limit") {
        ("plan.nesting", "a plan nests no deeper than eight levels")
    } else if info.contains("tabs") {
        ("plan.syntax", "indent with spaces: YAML allows no tabs there")
    } else if info.contains("unknown anchor") {
        (
            "plan.syntax",
            "name an anchor that was set before with `&`, or put text that begins with `*` in quotes",
        )
    } else if info.contains("unexpected character") || info.contains("mapping values are not allowed") {
        ("plan.syntax", "put text with special characters in quotes")
    } else {
        ("plan.syntax", "check brackets, quotes and indentation here and just before")
    };
    YamlError::new(at, code, format!("this is not YAML: {info}"), help)
}

/// A collection that is not complete yet.
struct Open {
    at: Range<usize>,
    /// Where its last entry so far ends.
    end: usize,
    anchor: usize,
    size: usize,
    depth: usize,
    items: Items,
}

enum Items {
    Sequence(Vec<Rc<Node>>),
    Mapping { entries: Vec<(Key, Rc<Node>)>, names: BTreeMap<String, usize>, key: Option<Key> },
}

#[derive(Default)]
struct Builder {
    stack: Vec<Open>,
    anchors: BTreeMap<usize, Rc<Node>>,
    root: Option<Rc<Node>>,
}

impl Builder {
    fn event(&mut self, event: Event<'_>, at: Range<usize>, source: &str) -> Result<(), YamlError> {
        match event {
            Event::Scalar(_, _, _, Some(_))
            | Event::SequenceStart(_, Some(_))
            | Event::MappingStart(_, Some(_)) => Err(YamlError::new(
                at,
                "plan.syntax",
                "YAML tags have no meaning in a plan",
                "take out the tag; put text in quotes where it must not be taken for a number",
            )),
            Event::Scalar(text, style, anchor, None) => {
                let scalar = Scalar { text: text.into_owned(), plain: style == ScalarStyle::Plain };
                self.add(Node { at, value: Value::Scalar(scalar), size: 1, depth: 1 }, anchor)
            }
            Event::SequenceStart(anchor, None) => self.open(at, anchor, Items::Sequence(Vec::new())),
            Event::MappingStart(anchor, None) => {
                let items = Items::Mapping { entries: Vec::new(), names: BTreeMap::new(), key: None };
                self.open(at, anchor, items)
            }
            Event::SequenceEnd | Event::MappingEnd => self.close(at, source),
            Event::Alias(anchor) => match self.anchors.get(&anchor) {
                Some(node) => {
                    let node = Rc::clone(node);
                    self.put(node, at)
                }
                None => Err(YamlError::new(
                    at,
                    "plan.aliases",
                    "this alias is inside the node that it names",
                    "write the value out",
                )),
            },
            Event::Nothing
            | Event::StreamStart
            | Event::StreamEnd
            | Event::DocumentStart(_)
            | Event::DocumentEnd => Ok(()),
        }
    }

    fn open(&mut self, at: Range<usize>, anchor: usize, items: Items) -> Result<(), YamlError> {
        if let Some(Open { items: Items::Mapping { key: None, .. }, .. }) = self.stack.last() {
            return Err(YamlError::new(
                at,
                "plan.syntax",
                "a list or a map cannot be a key",
                "a key is a word; put text that begins with `[` or `{` in quotes",
            ));
        }
        if self.stack.len() >= MAX_DEPTH {
            return Err(too_deep(at));
        }
        let end = at.end;
        self.stack.push(Open { at, end, anchor, size: 1, depth: 1, items });
        Ok(())
    }

    /// `end` is where the collection is closed: the bracket, or somewhere after a block.
    fn close(&mut self, end: Range<usize>, source: &str) -> Result<(), YamlError> {
        let Some(open) = self.stack.pop() else { return Ok(()) };
        let value = match open.items {
            Items::Sequence(items) => Value::Sequence(items),
            Items::Mapping { entries, .. } => Value::Mapping(entries),
        };
        let flow_end = source.get(end.start..).is_some_and(|rest| rest.starts_with([']', '}']));
        let end = if flow_end { end.start + 1 } else { open.end };
        let at = open.at.start..end;
        self.add(Node { at, value, size: open.size, depth: open.depth }, open.anchor)
    }

    fn add(&mut self, node: Node, anchor: usize) -> Result<(), YamlError> {
        let at = node.at.clone();
        let node = Rc::new(node);
        if anchor != 0 {
            self.anchors.insert(anchor, Rc::clone(&node));
        }
        self.put(node, at)
    }

    /// Puts a complete node where it belongs; `at` is where it is used, which for an alias is not where it was written.
    fn put(&mut self, node: Rc<Node>, at: Range<usize>) -> Result<(), YamlError> {
        let level = self.stack.len();
        let Some(open) = self.stack.last_mut() else {
            self.root = Some(node);
            return Ok(());
        };
        open.end = at.end;
        open.size = open.size.saturating_add(node.size);
        open.depth = open.depth.max(node.depth + 1);
        if open.size > MAX_NODES {
            return Err(YamlError::new(
                at,
                "plan.aliases",
                format!("with every alias written out the plan has more than {MAX_NODES} values"),
                "use fewer aliases of aliases",
            ));
        }
        if level + node.depth > MAX_DEPTH {
            return Err(too_deep(at));
        }
        match &mut open.items {
            Items::Sequence(items) => items.push(node),
            Items::Mapping { entries, names, key } => match key.take() {
                Some(key) => entries.push((key, node)),
                None => *key = Some(new_key(&node, at, names)?),
            },
        }
        Ok(())
    }
}

fn too_deep(at: Range<usize>) -> YamlError {
    YamlError::new(
        at,
        "plan.nesting",
        format!("values are nested more than {MAX_DEPTH} deep"),
        "a plan nests no deeper than eight levels",
    )
}

fn new_key(node: &Node, at: Range<usize>, names: &mut BTreeMap<String, usize>) -> Result<Key, YamlError> {
    let Value::Scalar(scalar) = &node.value else {
        return Err(YamlError::new(at, "plan.syntax", "a list or a map cannot be a key", "a key is a word"));
    };
    if scalar.plain && scalar.text == "<<" {
        return Err(YamlError::new(
            at,
            "plan.syntax",
            "merge keys (`<<`) are not part of YAML 1.2",
            "use an alias for a whole value, or write the keys out",
        ));
    }
    if names.insert(scalar.text.clone(), at.start).is_some() {
        return Err(YamlError::new(
            at,
            "plan.duplicate_key",
            format!("the key `{}` stands twice in this map", super::problems::excerpt(&scalar.text)),
            "keep one of the two",
        ));
    }
    Ok(Key { at, name: scalar.text.clone() })
}

/// From the parser's positions, in characters, to bytes.
struct Offsets<'a> {
    text: &'a str,
    /// Byte offset of each character; empty where every character is one byte.
    bytes: Vec<usize>,
}

impl<'a> Offsets<'a> {
    fn new(text: &'a str) -> Self {
        let bytes = if text.is_ascii() {
            Vec::new()
        } else {
            text.char_indices().map(|(offset, _)| offset).collect()
        };
        Self { text, bytes }
    }

    fn byte(&self, marker: Marker) -> usize {
        let index = marker.index();
        if self.bytes.is_empty() {
            index.min(self.text.len())
        } else {
            self.bytes.get(index).copied().unwrap_or(self.text.len())
        }
    }

    /// The byte offset after the character at `byte`.
    fn next(&self, byte: usize) -> usize {
        self.text.get(byte..).and_then(|rest| rest.chars().next()).map_or(byte, |c| byte + c.len_utf8())
    }

    fn range(&self, span: Span) -> Range<usize> {
        let start = self.byte(span.start);
        let end = self.byte(span.end).max(start);
        // A block scalar ends after its last newline, a flow collection may end with spaces.
        let end = start + self.text.get(start..end).map_or(0, |text| text.trim_end().len());
        start..end
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tree(text: &str) -> Rc<Node> {
        parse(text).unwrap().unwrap()
    }

    fn entry<'a>(node: &'a Node, name: &str) -> &'a Node {
        let Value::Mapping(entries) = &node.value else { panic!("not a map: {node:?}") };
        &entries.iter().find(|(key, _)| key.name == name).unwrap().1
    }

    #[test]
    fn every_node_knows_its_bytes() {
        let text =
            "# ä comment\r\nwörd: 'it''s' # end\nlist: [a, {b: \"c\"} ] # end\nblock: |\n  two\n  lines\n";
        let root = tree(text);
        let slice = |node: &Node| &text[node.at.clone()];
        assert_eq!(slice(entry(&root, "wörd")), "'it''s'");
        assert_eq!(slice(entry(&root, "list")), "[a, {b: \"c\"} ]");
        assert_eq!(slice(entry(&root, "block")), "two\n  lines");
        let Value::Sequence(items) = &entry(&root, "list").value else { panic!() };
        assert_eq!(slice(&items[1]), "{b: \"c\"}");
    }

    #[test]
    fn an_alias_is_the_node_it_names() {
        let root = tree("a: &x [1, 2]\nb: *x\n");
        assert!(std::ptr::eq(entry(&root, "a"), entry(&root, "b")));
    }

    #[test]
    fn a_chain_of_aliases_is_refused_before_it_costs_anything() {
        let mut text = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n".to_owned();
        for level in 1..15 {
            let previous = level - 1;
            let items = vec![format!("*a{previous}"); 10].join(", ");
            text.push_str(&format!("a{level}: &a{level} [{items}]\n"));
        }
        let error = parse(&text).unwrap_err();
        assert_eq!(error.code, "plan.aliases");
        // Ten to the power of six is the first level beyond the bound.
        assert_eq!(text[..error.at.start].lines().count(), 6, "{error:?}");
    }

    #[test]
    fn depth_counts_through_aliases() {
        let mut text = "a0: &a0 [x]\n".to_owned();
        for level in 1..40 {
            text.push_str(&format!("a{level}: &a{level} [*a{}]\n", level - 1));
        }
        assert_eq!(parse(&text).unwrap_err().code, "plan.nesting");
        assert_eq!(parse(&"- ".repeat(100_000)).unwrap_err().code, "plan.nesting");
        assert_eq!(parse(&"[".repeat(100_000)).unwrap_err().code, "plan.nesting");
    }

    #[test]
    fn what_a_plan_does_not_use_is_refused() {
        for (text, code, at) in [
            ("a: 1\na: 2\n", "plan.duplicate_key", 5),
            ("a: !!str 1\n", "plan.syntax", 3),
            ("a: &x {}\nb:\n  <<: *x\n", "plan.syntax", 14),
            ("[a]: 1\n", "plan.syntax", 0),
            ("? {a: 1}\n: 2\n", "plan.syntax", 2),
            ("a: &x {b: *x}\n", "plan.aliases", 10),
            ("a: 1\n---\nb: 1\n", "plan.syntax", 5),
            ("a: *x\n", "plan.syntax", 3),
            ("a:\n\t- b\n", "plan.syntax", 4),
        ] {
            let error = parse(text).unwrap_err();
            assert_eq!((error.code, error.at.start), (code, at), "{text:?}: {error:?}");
        }
        assert!(parse("# nothing\n").unwrap().is_none());
    }
}
