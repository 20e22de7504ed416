//! The plan's policy: what holds for the whole run.

use super::keys::{POLICY, STOP_AFTER};
use super::model::{Policy, StopAfter};
use super::problems::{excerpt, suggest};
use super::reader::{Fields, Reader};
use super::yaml::Node;

/// Reads the map `policy`.
pub(super) fn read(reader: &Reader<'_>, node: &Node) -> Policy {
    let default = Policy::default();
    let Some(fields) = reader.fields(node, &POLICY) else { return default };
    Policy {
        parallel: fields.whole("parallel"),
        per_hub: fields.whole("per_hub"),
        per_adapter: fields.whole("per_adapter").unwrap_or(default.per_adapter),
        attempts: fields.whole("attempts").unwrap_or(default.attempts),
        recover: read_recover(&fields),
        deadline: fields.time("deadline").unwrap_or(default.deadline),
        canary: fields.whole("canary").unwrap_or(default.canary),
        stop_after: fields.get("stop_after").and_then(|node| read_stop_after(reader, node)),
    }
}

fn read_recover(fields: &Fields<'_>) -> Vec<String> {
    let reader = fields.reader;
    let Some(node) = fields.get("recover") else { return Vec::new() };
    let mut words = Vec::new();
    for node in reader.list(node, "`recover`", "a program and its arguments").unwrap_or_default() {
        let Some(text) = reader.text(node, "a word of `recover`") else { continue };
        for name in placeholders(text).filter(|name| !Policy::RECOVER_PLACEHOLDERS.contains(name)) {
            let message = format!("unknown placeholder `{{{}}}`", excerpt(name));
            let help = suggest(name, Policy::RECOVER_PLACEHOLDERS, "known placeholders");
            reader.problems.add("plan.unknown_word", &node.at, message, help);
        }
        words.push(text.to_owned());
    }
    words
}

/// The names in `{braces}`. What does not look like a name is text: a program's own syntax.
pub(super) fn placeholders(text: &str) -> impl Iterator<Item = &str> {
    text.split('{').skip(1).filter_map(|rest| {
        let (name, _) = rest.split_once('}')?;
        let is_name = !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_');
        is_name.then_some(name)
    })
}

fn read_stop_after(reader: &Reader<'_>, node: &Node) -> Option<StopAfter> {
    let fields = reader.fields(node, &STOP_AFTER)?;
    let [failures, percent] = ["failures", "percent"].map(|name| fields.get(name).is_some());
    if !failures && !percent {
        let help = "say after what: `failures: 5` or `percent: 10`";
        reader.problems.add("plan.missing_key", &node.at, "`stop_after` names no limit", help);
    } else if fields.get("of_at_least").is_some() && !percent {
        let message = "`of_at_least` belongs to `percent`, which is not given";
        let help = "add `percent`, or take `of_at_least` out";
        reader.problems.add("plan.contradiction", &fields.key_at("of_at_least"), message, help);
    }
    Some(StopAfter {
        failures: fields.whole("failures"),
        percent: fields.number("percent"),
        of_at_least: fields.whole("of_at_least").unwrap_or(1),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_names_in_braces_are_placeholders() {
        let found = |text| placeholders(text).collect::<Vec<_>>();
        assert_eq!(found("--slot={hub_path}/{target}"), ["hub_path", "target"]);
        assert_eq!(found("awk '{print $1}' {} {"), [""; 0]);
    }
}
