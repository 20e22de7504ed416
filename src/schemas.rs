//! What keeps the JSON Schemas in `schemas/` true: they are made of the types, here and only in tests, and the program
//! carries the result. What is done with them lives in the rooms of the types.

use std::{env, fs};

use schemars::generate::SchemaSettings;
use schemars::schema_for;
use serde_json::{Map, Value, json};

use crate::report::{Event, Report, events_schema, report_schema};
use crate::sim::SimSpec;

/// The variable that writes the files anew, set to `always`: the same as for snapshots.
const UPDATE: &str = "INSTA_UPDATE";

/// The schema as the file holds it: a line for each definition, so that a difference can be read.
fn lines(schema: &Map<String, Value>) -> String {
    let line = |(key, value): (&String, &Value)| match value {
        Value::Object(definitions) if key == "$defs" => {
            format!("\"$defs\":{}", lines(definitions).trim_end())
        }
        _ => format!("{}:{value}", json!(key)),
    };
    format!("{{\n{}\n}}\n", schema.iter().map(line).collect::<Vec<_>>().join(",\n"))
}

/// Panics unless the file holds the schema and the program shows it so.
fn is_current(name: &str, shown: &Value, of_types: &Value) {
    let path = format!("{}/src/schemas/{name}.json", env!("CARGO_MANIFEST_DIR"));
    let want = lines(of_types.as_object().unwrap());
    if env::var(UPDATE).is_ok_and(|update| update == "always") {
        fs::write(&path, &want).unwrap();
    }
    let held = fs::read_to_string(&path).unwrap_or_default();
    assert!(
        held == want,
        "{path} is not what the types say: run with {UPDATE}=always and read the difference"
    );
    assert_eq!(shown, of_types, "the program shows another {name}: build it again");
}

#[test]
fn the_schema_of_reports_is_that_of_the_types() {
    is_current("report", &report_schema(), &schema_for!(Report).into());
}

#[test]
fn the_schema_of_events_is_that_of_the_types() {
    is_current("events", &events_schema(), &schema_for!(Event).into());
}

#[test]
fn the_schema_of_simulated_targets_in_plans_is_that_of_the_types() {
    let mut generator = SchemaSettings::draft2020_12().into_generator();
    let _ = generator.subschema_for::<SimSpec>();
    let definitions = generator.take_definitions(true);
    let mut shown = crate::plan::schema()["$defs"].take();
    shown.as_object_mut().unwrap().retain(|name, _| definitions.contains_key(name));
    is_current("sim", &json!({ "$defs": shown }), &json!({ "$defs": definitions }));
}
