//! What every format looks like, whole: a change of a format shows here.

use flashfleet::report::{LimitedBy, SummaryStyle, events_schema, report_schema, summary, to_html, to_junit};
use serde_json::Value;

use super::run::sample;

#[test]
fn json() {
    insta::assert_snapshot!(sample().report().to_json());
}

#[test]
fn junit() {
    insta::assert_snapshot!(to_junit(&sample().report()));
}

#[test]
fn summary_for_people() {
    insta::assert_snapshot!(summary(&sample().report(), SummaryStyle::default()));
}

#[test]
fn what_limits_an_upload_in_words() {
    use LimitedBy::*;
    let all =
        [BaudRate, BufferSize, BufferCount, Window, Mtu, Latency, Erase, Device, LinkOrDevice, Loss, Unknown];
    let lines: Vec<String> = all
        .into_iter()
        .map(|limited_by| {
            let mut report = sample().report();
            report.devices.retain(|device| device.images.iter().any(|image| image.upload.is_some()));
            report.devices.truncate(1);
            for upload in report.devices[0].images.iter_mut().filter_map(|image| image.upload.as_mut()) {
                let diagnosis = upload.diagnosis.as_mut().unwrap();
                diagnosis.limited_by = limited_by;
                match limited_by {
                    Latency => diagnosis.setting.as_mut().unwrap().bytes_per_s = None,
                    Device | Loss => diagnosis.setting = None,
                    _ => {}
                }
                upload.resent = 12;
            }
            let summary = summary(&report, SummaryStyle::default());
            summary.lines().find(|line| line.contains("limited by")).unwrap_or("nothing").to_owned()
        })
        .collect();
    insta::assert_snapshot!(lines.join("\n"));
}

#[test]
fn html() {
    insta::assert_snapshot!(to_html(&sample().report()));
}

#[test]
fn event_log() {
    let lines: Vec<String> =
        sample().events.iter().map(|event| serde_json::to_string(event).unwrap()).collect();
    insta::assert_snapshot!(lines.join("\n"));
}

#[test]
fn the_json_report_is_what_its_schema_says() {
    let report: Value = serde_json::from_str(&sample().report().to_json()).unwrap();
    let schema = report_schema();
    check(&schema, &schema, &report, "report");
}

#[test]
fn every_event_is_what_its_schema_says() {
    let schema = events_schema();
    for event in &sample().events {
        let event = serde_json::to_value(event).unwrap();
        check(&schema, &schema, &event, "event");
        let mut wrong = event.clone();
        wrong["seq"] = Value::from("first");
        assert!(problem(&schema, &schema, &wrong).is_some(), "the check sees nothing: {event}");
    }
}

fn check(root: &Value, schema: &Value, value: &Value, what: &str) {
    if let Some(problem) = problem(root, schema, value) {
        panic!("{what}: {problem}");
    }
}

/// What is wrong with a value, as far as the keywords go that our schemas use. Members that the schema does not name
/// are wrong too, though JSON Schema would let them pass.
fn problem(root: &Value, schema: &Value, value: &Value) -> Option<String> {
    if let Some(name) = schema["$ref"].as_str() {
        let there = root.pointer(name.trim_start_matches('#')).unwrap();
        return problem(root, &joined(schema, there), value);
    }
    for keyword in ["anyOf", "oneOf"] {
        if let Some(options) = schema[keyword].as_array() {
            // An object's own members are spread over the options and what stands beside them.
            let fits = options.iter().any(|option| problem(root, &joined(schema, option), value).is_none());
            return (!fits).then(|| format!("{value} fits none of {keyword}"));
        }
    }
    if let Some(constant) = schema.get("const") {
        return (constant != value).then(|| format!("{value} is not {constant}"));
    }
    if let Some(allowed) = schema["enum"].as_array() {
        return (!allowed.contains(value)).then(|| format!("{value} is not one of {allowed:?}"));
    }
    let types: Vec<&str> = match &schema["type"] {
        Value::String(name) => vec![name],
        Value::Array(names) => names.iter().filter_map(Value::as_str).collect(),
        other => return Some(format!("the schema says no type but {other}: {schema}")),
    };
    let actual = match value {
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        Value::Number(number) if number.is_f64() => "number",
        Value::Number(_) => "integer",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    };
    let fits = types.contains(&actual) || (actual == "integer" && types.contains(&"number"));
    if !fits {
        return Some(format!("{value} is no {types:?}"));
    }
    match value {
        Value::Array(items) => items.iter().find_map(|item| problem(root, &schema["items"], item)),
        Value::Object(members) => {
            let missing = schema["required"].as_array().into_iter().flatten();
            let missing = missing.filter_map(Value::as_str).find(|name| !members.contains_key(*name));
            if let Some(name) = missing {
                return Some(format!("{name} is missing in {value}"));
            }
            members.iter().find_map(|(name, member)| match schema["properties"].get(name) {
                Some(schema) => problem(root, schema, member).map(|problem| format!("{name}: {problem}")),
                None => Some(format!("{name} is not in the schema")),
            })
        }
        _ => None,
    }
}

/// A schema that is named by another, or is one of its choices, with the members that stand beside the name or choice.
fn joined(beside: &Value, schema: &Value) -> Value {
    let mut joined = schema.clone();
    for (name, member) in beside["properties"].as_object().into_iter().flatten() {
        joined["properties"][name] = member.clone();
    }
    let mut required: Vec<Value> = schema["required"].as_array().cloned().unwrap_or_default();
    required.extend(beside["required"].as_array().into_iter().flatten().cloned());
    if !required.is_empty() {
        joined["required"] = required.into();
    }
    joined
}
