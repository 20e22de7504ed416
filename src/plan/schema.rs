//! The JSON Schema of the plan, made of the tables that the reader looks keys up in.

use serde_json::{Map, Value, json};

use super::keys::{Kind, MATCH, MATCH_KINDS, PLAN, STEPS, StepForm, Table, Takes};
use super::{buffer, data};

/// JSON Schema (draft 2020-12) of a plan.
///
/// It says what can be said of a plan alone. That images exist and hold what they should, that names are known and
/// expressions valid is what [`load`](super::load) checks beyond it.
#[must_use]
pub fn schema() -> Value {
    let mut definitions = Map::new();
    let mut root = table(&PLAN, &mut definitions);
    // A name of its own in `$defs`, beside the plan's.
    for (name, definition) in sim_definitions() {
        definitions.insert(name, definition);
    }
    if let Some(root) = root.as_object_mut() {
        root.insert("$schema".to_owned(), json!("https://json-schema.org/draft/2020-12/schema"));
        root.insert("title".to_owned(), json!("flashfleet plan, version 1"));
        root.insert("$defs".to_owned(), Value::Object(definitions));
    }
    root
}

/// The type of a simulated target's description and everything that it refers to.
fn sim_definitions() -> Map<String, Value> {
    // Made of the types by a test, which sees to it that these are definitions.
    let mut schema: Value = serde_json::from_str(include_str!("../schemas/sim.json")).unwrap_or_default();
    schema["$defs"].as_object_mut().map(std::mem::take).unwrap_or_default()
}

fn reference(name: &str) -> Value {
    json!({ "$ref": format!("#/$defs/{name}") })
}

/// The name of a table in `$defs`: what it is, without the article.
fn name(table: &Table) -> String {
    let (_, noun) = table.what.split_once(' ').unwrap_or(("", table.what));
    noun.replace(' ', "_")
}

fn table_reference(table_of: &Table, definitions: &mut Map<String, Value>) -> Value {
    let name = name(table_of);
    if !definitions.contains_key(&name) {
        // Entered before it is made, for tables that would refer to themselves.
        definitions.insert(name.clone(), Value::Null);
        let definition = table(table_of, definitions);
        definitions.insert(name.clone(), definition);
    }
    reference(&name)
}

fn table(table: &Table, definitions: &mut Map<String, Value>) -> Value {
    let mut properties = Map::new();
    for key in table.keys {
        let mut value = kind(&key.kind, definitions);
        if let Some(value) = value.as_object_mut() {
            value.insert("description".to_owned(), json!(key.doc));
        }
        properties.insert(key.name.to_owned(), value);
    }
    let required: Vec<&str> = table.keys.iter().filter(|key| key.required).map(|key| key.name).collect();
    let mut object = json!({ "type": "object", "additionalProperties": false, "properties": properties });
    let one_of =
        |names: &[&str]| -> Value { names.iter().map(|name| json!({ "required": [name] })).collect() };
    if let Some(object) = object.as_object_mut() {
        if !required.is_empty() {
            object.insert("required".to_owned(), json!(required));
        }
        match table.what {
            what if what == MATCH.what => object.insert("oneOf".to_owned(), one_of(&MATCH_KINDS)),
            "an image" => object.insert("oneOf".to_owned(), one_of(&["file", "sim"])),
            "a stop_after" => object.insert("anyOf".to_owned(), one_of(&["failures", "percent"])),
            "a verify" => object.insert("minProperties".to_owned(), json!(1)),
            "a settings step" => object.insert("minProperties".to_owned(), json!(1)),
            _ => None,
        };
    }
    object
}

fn kind(of: &Kind, definitions: &mut Map<String, Value>) -> Value {
    match of {
        Kind::Text | Kind::Glob | Kind::Hash | Kind::UdpAddress | Kind::TcpAddress | Kind::Requirement => {
            text()
        }
        Kind::Requirements => json!({ "anyOf": [text(), {
            "type": "object",
            "minProperties": 1,
            "additionalProperties": false,
            // Image numbers, without leading zeros.
            "patternProperties": { "^([0-9]|1[0-5])$": text() },
        }] }),
        Kind::Flag => json!({ "type": "boolean" }),
        Kind::Whole(min, max) => json!({ "type": "integer", "minimum": min, "maximum": max }),
        Kind::WordOrWhole(words, min, max) => json!({ "anyOf": [
            { "enum": words.iter().map(|(word, _)| *word).collect::<Vec<_>>() },
            { "type": "integer", "minimum": min, "maximum": max },
        ] }),
        Kind::Number(min, max) => json!({ "type": "number", "minimum": min, "maximum": max }),
        Kind::Time(..) => json!({
            "type": "string",
            "pattern": "^ *(0|([0-9]+ *[A-Za-z]+ *)+)$",
            "examples": ["500ms", "10s", "5m"],
        }),
        Kind::Size(min, max) => json!({ "anyOf": [
            { "type": "integer", "minimum": min, "maximum": max },
            { "type": "string", "pattern": "^[0-9]+ *(B|kB|K|KiB|MB|M|MiB)?$", "examples": ["64KiB"] },
        ] }),
        Kind::Buffer => json!({ "anyOf": [
            { "type": "integer", "minimum": buffer::BYTES.start(), "maximum": buffer::BYTES.end() },
            {
                "type": "string",
                "pattern": "^ *[0-9]+ *((B|kB|K|KiB)?|[x*×] *[0-9]+) *$",
                "examples": ["2KiB", "128x4"],
            },
        ] }),
        Kind::Choice(words) => json!({ "enum": words }),
        Kind::AutoOr(of) => json!({ "anyOf": [{ "const": "auto" }, kind(of, definitions)] }),
        Kind::List(of) => list(kind(of, definitions)),
        Kind::OneOrList(of) => {
            let one = kind(of, definitions);
            json!({ "anyOf": [one, list(one.clone())] })
        }
        Kind::Expression => json!({ "type": "string", "minLength": 1, "format": "regex" }),
        Kind::Sha256 => json!({ "type": "string", "pattern": "^[0-9a-fA-F]{64}$" }),
        Kind::Version => json!({
            "type": "string",
            "pattern": "^[0-9]+(\\.[0-9]+){0,3}(\\+[0-9]+)?$",
            "examples": ["2.0.0"],
        }),
        Kind::Expect => json!({ "anyOf": [
            { "type": "integer", "minimum": 1 },
            { "type": "string", "pattern": "^[0-9]+(\\.\\.([0-9]+)?)?$", "examples": ["8..24", "1.."] },
        ] }),
        Kind::Map(of) => table_reference(of, definitions),
        Kind::Named(of) => {
            json!({ "type": "object", "additionalProperties": table_reference(of, definitions) })
        }
        Kind::AnyMap => json!({ "type": "object" }),
        Kind::SettingValues => setting_values(),
        Kind::Any => json!({}),
        Kind::SimDevices => reference("SimSpec"),
        Kind::Steps => {
            if !definitions.contains_key("step") {
                let forms: Vec<Value> = STEPS.iter().map(|form| step(form, definitions)).collect();
                definitions.insert("step".to_owned(), json!({ "anyOf": forms }));
            }
            list(reference("step"))
        }
    }
}

/// Text, or a map with one key, which is the value's type.
fn setting_values() -> Value {
    let mut typed = Map::new();
    typed.insert("text".to_owned(), json!({ "type": "string" }));
    typed.insert("hex".to_owned(), json!({ "type": "string", "pattern": "^([0-9a-fA-F]{2})*$" }));
    for (name, min, max) in data::NUMBERS {
        typed.insert(name.to_owned(), json!({ "type": "integer", "minimum": min, "maximum": max }));
    }
    let typed = json!({
        "type": "object",
        "additionalProperties": false,
        "minProperties": 1,
        "maxProperties": 1,
        "properties": typed,
    });
    json!({
        "type": "object",
        "minProperties": 1,
        "additionalProperties": { "anyOf": [{ "type": "string" }, typed] },
    })
}

fn text() -> Value {
    json!({ "type": "string", "minLength": 1, "maxLength": 1024 })
}

fn list(items: Value) -> Value {
    json!({ "type": "array", "minItems": 1, "maxItems": 4096, "items": items })
}

fn step(form: &StepForm, definitions: &mut Map<String, Value>) -> Value {
    let word = json!({ "const": form.name });
    let map = |value: Value| {
        json!({
            "type": "object",
            "additionalProperties": false,
            "properties": { form.name: value },
            "required": [form.name],
        })
    };
    let nothing = json!({ "type": "null" });
    let forms = match &form.takes {
        Takes::Nothing => vec![word, map(nothing)],
        Takes::Options(of) => {
            let options = table_reference(of, definitions);
            vec![word, map(json!({ "anyOf": [nothing, options] }))]
        }
        Takes::Value(of) => vec![map(kind(of, definitions))],
        Takes::ValueOrMap(value, of) => {
            let value = kind(value, definitions);
            let options = table_reference(of, definitions);
            vec![map(json!({ "anyOf": [value, options] }))]
        }
    };
    json!({ "description": form.doc, "anyOf": forms })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::super::keys::TABLES;
    use super::*;

    #[test]
    fn every_table_and_every_key_is_in_the_schema_and_nothing_else() {
        let schema = schema();
        for table in TABLES {
            let definition = if table.what == PLAN.what { &schema } else { &schema["$defs"][name(table)] };
            let known: BTreeSet<&str> = table.keys.iter().map(|key| key.name).collect();
            let properties = definition["properties"].as_object().unwrap_or_else(|| panic!("{}", table.what));
            assert_eq!(
                properties.keys().map(String::as_str).collect::<BTreeSet<_>>(),
                known,
                "{}",
                table.what
            );
            for (key, property) in properties {
                assert!(property["description"].as_str().is_some_and(|doc| doc.ends_with('.')), "{key}");
            }
        }
    }

    #[test]
    fn no_definition_is_missing_or_unused() {
        let schema = schema();
        let text = schema.to_string();
        let definitions = schema["$defs"].as_object().unwrap();
        for name in definitions.keys() {
            assert!(text.contains(&format!("\"#/$defs/{name}\"")), "{name} is unused");
        }
        for reference in text.split("\"#/$defs/").skip(1) {
            let name = reference.split('"').next().unwrap();
            assert!(definitions.contains_key(name), "{name} is missing");
        }
    }
}
