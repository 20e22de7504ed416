//! From a file to a plan that is valid, or to everything that is wrong with it. Touches no device.

use std::fs::File;
use std::io::Read;
use std::ops::Range;
use std::path::Path;

use sha2::{Digest, Sha256};

use super::diagnostic::{Diagnostic, Diagnostics, Place};
use super::images::{self, Images};
use super::keys::PLAN;
use super::model::{Plan, Policy};
use super::problems::Problems;
use super::reader::{Fields, Reader};
use super::{files, policy, rules, scalar, targets, yaml};

/// Largest plan file, in bytes.
const MAX_SIZE: u64 = 1 << 20;

/// Reads a plan file, opens every image, and checks everything that can be checked without a device.
///
/// # Errors
/// Everything that is wrong, with its places in the file.
pub fn load(path: &Path) -> Result<Plan, Diagnostics> {
    let of_file = |code, message, help: &str| Diagnostics::of_file(path, code, message, help);
    if path.is_dir() {
        let help = "name the plan file in it";
        return Err(of_file(
            "plan.unreadable",
            "expected a plan file, and this is a folder".to_owned(),
            help,
        ));
    }
    let mut bytes = Vec::new();
    // One byte more than allowed tells a file that is too large, whatever its length says.
    File::open(path).and_then(|file| file.take(MAX_SIZE + 1).read_to_end(&mut bytes)).map_err(|error| {
        let help = match images::similar_file(path).filter(|_| !path.exists()) {
            Some(similar) => format!("check the path; did you mean `{similar}`?"),
            None => "check the path".to_owned(),
        };
        of_file("plan.unreadable", format!("cannot read the plan: {error}"), &help)
    })?;
    if bytes.len() as u64 > MAX_SIZE {
        let message = format!("the plan is larger than {MAX_SIZE} bytes");
        return Err(of_file(
            "plan.too_large",
            message,
            "name the plan, not an image; split a plan that large",
        ));
    }
    match std::str::from_utf8(&bytes) {
        Ok(text) => parse(text, path),
        Err(error) => {
            let valid = bytes.get(..error.valid_up_to()).unwrap_or_default();
            let valid = String::from_utf8_lossy(valid);
            let item = Diagnostic {
                code: "plan.not_text",
                message: "expected YAML in UTF-8, and here is a byte that is none".to_owned(),
                help: "name the plan, not an image; save it as UTF-8".to_owned(),
                place: Some(Place::new(&valid, &(valid.len()..valid.len()))),
            };
            Err(Diagnostics::new(path, vec![item], 0))
        }
    }
}

/// Reads a plan from its text. `path` names it in messages; images are relative to the folder that it is in.
///
/// # Errors
/// Everything that is wrong, with its places in the text.
pub fn parse(text: &str, path: &Path) -> Result<Plan, Diagnostics> {
    let sha256 = hex::encode(Sha256::digest(text));
    // A byte order mark is no part of the first line.
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let problems = Problems::new(text);
    let plan = read(&problems, path, sha256);
    let valid = problems.is_empty();
    match plan {
        Some(plan) if valid => Ok(plan),
        _ => {
            let (items, omitted) = problems.finish();
            Err(Diagnostics::new(path, items, omitted))
        }
    }
}

fn read(problems: &Problems<'_>, path: &Path, sha256: String) -> Option<Plan> {
    let base = path.parent().unwrap_or(Path::new(""));
    let reader = Reader::new(problems, base);
    let root = match yaml::parse(problems.text()) {
        Ok(Some(root)) => root,
        Ok(None) => {
            let help = "begin with `version: 1` and `targets:`; `flashfleet schema plan` lists every key";
            problems.add("plan.empty", &(0..0), "the plan is empty", help);
            return None;
        }
        Err(error) => {
            problems.add(error.code, &error.at, error.message, error.help);
            return None;
        }
    };
    if let Some(version) = newer_version(&root) {
        let message =
            format!("this plan is written in version {} of the format", &problems.text()[version.clone()]);
        problems.add("plan.version", &version, message, "this flashfleet reads version 1: use a newer one");
        return None;
    }
    let fields = reader.fields(&root, &PLAN)?;
    let _: Option<u64> = fields.whole("version");
    let images = match fields.get("images") {
        Some(node) => images::read(&reader, node, base)?,
        None => Images::new(),
    };
    let targets = fields.get("targets").map_or_else(Vec::new, |node| targets::read(&reader, node, &images));
    rules::check_targets(problems, &targets);
    files::check(problems, &targets);
    Some(Plan {
        name: name(&fields, path),
        path: path.to_owned(),
        sha256,
        images: images.into_iter().filter_map(|(name, image)| Some((name, image.set?))).collect(),
        targets: targets.into_iter().map(|placed| placed.target).collect(),
        policy: fields.get("policy").map_or_else(Policy::default, |node| policy::read(&reader, node)),
    })
}

/// Where the plan says that it is written in a later version: nothing else that is unknown in it is an error then.
fn newer_version(root: &yaml::Node) -> Option<Range<usize>> {
    let yaml::Value::Mapping(entries) = &root.value else { return None };
    let (_, node) = entries.iter().find(|(key, _)| key.name == "version")?;
    let yaml::Value::Scalar(scalar) = &node.value else { return None };
    matches!(scalar.resolve(), scalar::Resolved::Int(version) if version > 1).then(|| node.at.clone())
}

fn name(fields: &Fields<'_>, path: &Path) -> String {
    let stem =
        || path.file_stem().map_or_else(|| "plan".to_owned(), |stem| stem.to_string_lossy().into_owned());
    fields.text("name").map_or_else(stem, str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::super::keys::{Kind, TABLES};
    use super::*;

    /// A plan in which `line` stands at the one place for a key of the table, in a line of its own.
    fn with_line(what: &str, line: &str) -> String {
        let target =
            |inside: &str| format!("version: 1\ntargets:\n  - name: a\n    steps: [reset]\n{inside}");
        let step = |name: &str| {
            let steps =
                format!("    match: {{ usb: \"2fe3:.*\" }}\n    steps:\n      - {name}:\n          {line}\n");
            target(&steps).replace("    steps: [reset]\n", "")
        };
        match what {
            "a plan" => format!("{line}\n"),
            "an image" => format!("version: 1\nimages:\n  app:\n    {line}\n"),
            "a simulated image" => format!("version: 1\nimages:\n  app:\n    sim:\n      {line}\n"),
            "a target" => format!("version: 1\ntargets:\n  -\n    {line}\n"),
            "a match" => target(&format!("    match:\n      {line}\n")),
            "a link" => target(&format!("    match: {{ usb: \"2fe3:.*\" }}\n    link:\n      {line}\n")),
            "a policy" => format!("version: 1\npolicy:\n  {line}\n"),
            "a stop_after" => format!("version: 1\npolicy:\n  stop_after:\n    {line}\n"),
            "an upload" => step("upload"),
            "a reset" => step("reset"),
            "a verify" => step("verify"),
            "an erase" => step("erase"),
            "a shell step" => step("shell"),
            "a put" => step("put"),
            "a get" => step("get"),
            "a settings step" => step("settings"),
            "an smp step" => step("smp"),
            other => panic!("no place for the keys of {other}"),
        }
    }

    #[test]
    fn every_key_of_the_tables_is_read() {
        for table in TABLES {
            for key in table.keys.iter().filter(|key| !matches!(key.kind, Kind::Any)) {
                // A list in a list is the right value of no key. The conditions of a match need a kind beside them.
                let usb = if key.name == "usb" { "" } else { "      usb: \"2fe3:.*\"\n" };
                let line = format!("{}: [[[]]]", key.name);
                let text = with_line(table.what, &line);
                let text = match table.what {
                    "a match" if !super::super::keys::MATCH_KINDS.contains(&key.name) => {
                        text.replace("match:\n", &format!("match:\n{usb}"))
                    }
                    "an image" if key.name != "file" && key.name != "sim" => {
                        text.replace("app:\n", "app:\n    file: app.bin\n")
                    }
                    _ => text,
                };
                let at = text.lines().position(|found| found.trim() == line).unwrap() + 1;
                let found = parse(&text, Path::new("plan.yaml")).unwrap_err();
                let told = found.items().iter().any(|item| {
                    let place = item.place.as_ref().unwrap();
                    // About the value, and not about the key being there.
                    place.line == at && place.text.contains('[') && item.code != "plan.unknown_key"
                });
                assert!(told, "`{}` of {} is not read\n{text}{found}", key.name, table.what);
            }
        }
    }
}
