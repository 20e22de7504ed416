//! The steps of a target, each on its own. Whether their order makes sense is checked in `rules`.

use std::ops::Range;

use super::images::{Images, read_requirement};
use super::keys::{ERASE, Kind, RESET, STEPS, StepForm, Takes, UPLOAD, VERIFY};
use super::problems::{excerpt, suggest};
use super::reader::{Fields, Reader};
use super::scalar::Resolved;
use super::step::Step;
use super::yaml::{Node, Value};
use super::{derived, device_steps, packages, rules};
use crate::transport::Firmware;

/// MCUboot numbers slots through; 1 is the secondary slot of image 0.
const SECONDARY_SLOT: u32 = 1;

/// Lengths of TLV hashes, in bytes: SHA-256, SHA-384, SHA-512.
const HASH_LENGTHS: [usize; 3] = [32, 48, 64];

/// Reads `steps` of a target, or makes the default ones. Beside each is where it is written, of a `get` and a `put` the place
/// of its file.
pub(super) fn read(
    target: &Fields<'_>,
    images: &Images,
    simulated: bool,
    starts_in: Firmware,
) -> Vec<(Step, Range<usize>)> {
    let reader = target.reader;
    let Some(node) = target.get("steps") else {
        let at = &target.node.at;
        let steps = default_steps(target, images, simulated, starts_in);
        return steps.into_iter().map(|step| (step, at.clone())).collect();
    };
    let nodes = reader.list(node, "`steps`", "steps").unwrap_or_default();
    let mut steps = Vec::new();
    let mut whole = true;
    for node in nodes {
        let file = derived::find(node, "get.file").or_else(|| derived::find(node, "put.file"));
        let at = file.unwrap_or(&node.at);
        let read = read_step(reader, node, images, simulated);
        let expanded = read.and_then(|step| packages::expand(reader, step, node, images));
        whole &= expanded.is_some();
        steps.extend(expanded.unwrap_or_default().into_iter().map(|step| (step, at.clone())));
    }
    // Without every step nothing is certain about their order.
    if whole {
        rules::check_order(reader.problems, &steps, images, starts_in);
        packages::check_dependencies(reader.problems, &steps, images);
    }
    steps
}

fn default_steps(target: &Fields<'_>, images: &Images, simulated: bool, starts_in: Firmware) -> Vec<Step> {
    let reader = target.reader;
    let mut names = images.keys();
    let (Some(image), None) = (names.next(), names.next()) else {
        let message = match images.len() {
            0 => "a target without `steps` uploads the plan's only image, and the plan has none".to_owned(),
            count => {
                format!("a target without `steps` uploads the plan's only image, and the plan has {count}")
            }
        };
        let help = match starts_in {
            Firmware::Application => "say which: `steps: [upload: NAME, test-boot, confirm, reset]`",
            Firmware::Bootloader => "say which: `steps: [upload: NAME, reset]`",
        };
        reader.problems.add("plan.no_steps", &target.node.at, message, help);
        return Vec::new();
    };
    check_image(reader, image, &target.node.at, images, simulated);
    // An image that could not be read has been reported.
    let Some(set) = images.get(image).and_then(|read| read.set.as_ref()) else { return Vec::new() };
    match starts_in {
        Firmware::Application => Step::update(image, set),
        Firmware::Bootloader => Step::recover(image, set),
    }
}

fn read_step(reader: &Reader<'_>, node: &Node, images: &Images, simulated: bool) -> Option<Step> {
    let (name, at, value) = match &node.value {
        Value::Scalar(scalar) => match scalar.resolve() {
            Resolved::Text(text) => (text, node.at.clone(), None),
            _ => return not_a_step(reader, node),
        },
        Value::Mapping(entries) => match &entries[..] {
            [(key, value)] => (key.name.as_str(), key.at.clone(), Some(value.as_ref())),
            [] => return not_a_step(reader, node),
            [(first, _), (second, _), ..] => {
                let message =
                    format!("a step has one name, and this one has `{}` too", excerpt(&second.name));
                let help = if STEPS.iter().any(|form| form.name == second.name) {
                    "begin every step with `- `".to_owned()
                } else {
                    format!("options go in a map of their own: `{}: {{ … }}`", excerpt(&first.name))
                };
                reader.problems.add("plan.wrong_type", &second.at, message, help);
                return None;
            }
        },
        Value::Sequence(_) => return not_a_step(reader, node),
    };
    let Some(form) = STEPS.iter().find(|form| form.name == name) else {
        let message = format!("unknown step `{}`", excerpt(name));
        let help = suggest(name, STEPS.iter().map(|form| form.name), "known steps");
        reader.problems.add("plan.unknown_step", &at, message, help);
        return None;
    };
    let value = check_presence(reader, form, &at, value)?;
    match name {
        "upload" => read_upload(reader, value?, images, simulated),
        "test-boot" => Some(Step::TestBoot),
        "confirm" => Some(Step::Confirm),
        "reset" => read_reset(reader, value),
        "verify" => read_verify(reader, value?, images),
        "erase" => read_erase(reader, value),
        "run" => read_run(reader, value?),
        "delay" => read_delay(reader, form, value?),
        "set-time" => Some(Step::SetTime),
        "erase-storage" => Some(Step::EraseStorage),
        _ => device_steps::read(reader, name, value?),
    }
}

fn not_a_step<T>(reader: &Reader<'_>, node: &Node) -> Option<T> {
    let help = "write a word such as `- confirm`, or a word with what it needs such as `- upload: app`";
    reader.wrong_type(node, "a step", "a word or a map with one key", help);
    None
}

/// The value of a step that may or must have one. The outer `None` is a step that lacks it, or has one too many.
fn check_presence<'n>(
    reader: &Reader<'_>,
    form: &StepForm,
    at: &Range<usize>,
    value: Option<&'n Node>,
) -> Option<Option<&'n Node>> {
    let is_null =
        |node: &&Node| matches!(&node.value, Value::Scalar(scalar) if scalar.resolve() == Resolved::Null);
    // `- confirm:` says no more than `- confirm`.
    let value = value.filter(|node| !is_null(node));
    match (&form.takes, value) {
        (Takes::Nothing, Some(node)) => {
            let message = format!("step `{}` takes nothing more", form.name);
            let help = format!("write `- {}`", form.name);
            reader.problems.add("plan.wrong_type", &node.at, message, help);
            None
        }
        (Takes::Value(_) | Takes::ValueOrMap(..), None) => {
            let message = format!("step `{}` needs more than its name", form.name);
            let help = format!("write {}", example(form.name));
            reader.problems.add("plan.missing_key", at, message, help);
            None
        }
        (_, value) => Some(value),
    }
}

fn example(step: &str) -> &'static str {
    match step {
        "upload" => "`- upload: app`, with the name of an image",
        "verify" => "for example `- verify: { version: \"2.4.0\" }`",
        "run" => "for example `- run: [program, argument]`",
        "delay" => "for example `- delay: 500ms`",
        "shell" => "for example `- shell: { run: \"selftest\", expect: \"PASS\" }`",
        "put" => "for example `- put: { file: a.txt, to: /lfs/a.txt }`",
        "get" => "for example `- get: { from: /lfs/a.txt, file: a.txt }`",
        "settings" => "for example `- settings: { set: { key: value }, save: true }`",
        _ => "for example `- smp: { op: read, group: 0, command: 6 }`",
    }
}

fn check_image(reader: &Reader<'_>, name: &str, at: &Range<usize>, images: &Images, simulated: bool) -> bool {
    match images.get(name) {
        None => {
            let message = format!("there is no image `{}`", excerpt(name));
            let help = suggest(name, images.keys().map(String::as_str), "images of this plan");
            reader.problems.add("plan.unknown_image", at, message, help);
            false
        }
        Some(image) if image.simulated && !simulated => {
            let message =
                format!("image `{}` is made for simulated devices, and this target has none", excerpt(name));
            let help = "give the image a `file`, or match `sim`";
            reader.problems.add("plan.sim_image", at, message, help);
            false
        }
        Some(_) => true,
    }
}

fn read_upload(reader: &Reader<'_>, node: &Node, images: &Images, simulated: bool) -> Option<Step> {
    if let Value::Scalar(_) = &node.value {
        let image = reader.text(node, "`upload`")?;
        let known = check_image(reader, image, &node.at, images, simulated);
        return known.then(|| Step::Upload {
            image: image.to_owned(),
            image_number: 0,
            upgrade_only: false,
            force: false,
        });
    }
    let fields = reader.fields(node, &UPLOAD)?;
    let step = Step::Upload {
        image: fields.text("image").unwrap_or_default().to_owned(),
        image_number: fields.whole("image_number").unwrap_or_default(),
        upgrade_only: fields.flag("upgrade_only").unwrap_or_default(),
        force: fields.flag("force").unwrap_or_default(),
    };
    let image_node = fields.get("image")?;
    let image = fields.text("image")?;
    check_image(reader, image, &image_node.at, images, simulated).then_some(step)
}

fn read_reset(reader: &Reader<'_>, value: Option<&Node>) -> Option<Step> {
    let Some(node) = value else { return Some(Step::Reset { force: false, boot_mode: None }) };
    let fields = reader.fields(node, &RESET)?;
    Some(Step::Reset {
        force: fields.flag("force").unwrap_or_default(),
        // A boot as usual is what a device does that is told nothing, and some know nothing else.
        boot_mode: fields.word_or_whole("boot_mode").filter(|mode| *mode != 0),
    })
}

fn read_verify(reader: &Reader<'_>, node: &Node, images: &Images) -> Option<Step> {
    let fields = reader.fields(node, &VERIFY)?;
    if VERIFY.keys.iter().all(|key| fields.get(key.name).is_none()) {
        let message = "step `verify` requires nothing";
        let help = "name at least one of `version`, `hash`, `confirmed` and `echo`";
        reader.problems.add("plan.missing_key", &node.at, message, help);
        return None;
    }
    Some(Step::Verify {
        version: read_requirement(&fields, "version"),
        hash: read_hash(&fields, images),
        confirmed: fields.flag("confirmed"),
        echo: fields.text("echo").map(str::to_owned),
    })
}

/// A hash in hex, or that of an image of the plan.
fn read_hash(fields: &Fields<'_>, images: &Images) -> Option<Vec<u8>> {
    let node = fields.get("hash")?;
    let text = fields.text("hash")?;
    if let Some(image) = images.get(text) {
        return packages::hash_of(fields, text, image);
    }
    match hex::decode(text) {
        Ok(hash) if HASH_LENGTHS.contains(&hash.len()) => return Some(hash),
        Ok(hash) => {
            let message = format!("`hash` has {} bytes, and an image hash has 32, 48 or 64", hash.len());
            let help = "write the whole hash, as `flashfleet image FILE` shows it, or the name of an image";
            fields.reader.problems.add("plan.bad_hash", &node.at, message, help);
        }
        Err(_) => {
            let message =
                format!("`hash` is neither hexadecimal nor an image of this plan: `{}`", excerpt(text));
            let help = suggest(text, images.keys().map(String::as_str), "images of this plan");
            fields.reader.problems.add("plan.unknown_image", &node.at, message, help);
        }
    }
    None
}

fn read_erase(reader: &Reader<'_>, value: Option<&Node>) -> Option<Step> {
    let Some(node) = value else { return Some(Step::Erase { slot: SECONDARY_SLOT }) };
    let fields = reader.fields(node, &ERASE)?;
    match fields.get("slot") {
        None => Some(Step::Erase { slot: SECONDARY_SLOT }),
        Some(_) => Some(Step::Erase { slot: fields.whole("slot")? }),
    }
}

fn read_run(reader: &Reader<'_>, node: &Node) -> Option<Step> {
    let mut words = Vec::new();
    for item in reader.list(node, "`run`", "a program and its arguments")? {
        words.push(reader.text(item, "a word of `run`")?.to_owned());
    }
    let program = words.remove(0);
    Some(Step::Run { program, arguments: words })
}

fn read_delay(reader: &Reader<'_>, form: &StepForm, node: &Node) -> Option<Step> {
    let Takes::Value(Kind::Time(min, max)) = &form.takes else { return None };
    reader.time(node, "`delay`", *min, *max).map(Step::Delay)
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::super::images::PlanImage;
    use super::super::problems::Problems;
    use super::super::yaml;
    use super::*;

    #[test]
    fn every_step_form_is_read() {
        // A form that is added to the table without a reading would come to nothing, and the plan would go on without it.
        for form in &STEPS {
            let text = match form.takes {
                Takes::Nothing | Takes::Options(_) => form.name.to_owned(),
                Takes::Value(_) | Takes::ValueOrMap(..) => {
                    let example = example(form.name).split('`').nth(1).unwrap().trim_start_matches("- ");
                    example.replace("file: a.txt, to", "file: \"{address}\", to")
                }
            };
            let node = yaml::parse(&text).unwrap().unwrap();
            let problems = Problems::new(&text);
            let images = Images::from([("app".to_owned(), PlanImage { set: None, simulated: false })]);
            let step = read_step(&Reader::new(&problems, Path::new("")), &node, &images, false);
            let (found, _) = problems.finish();
            assert!(found.is_empty(), "{text}: {found:?}");
            let name = step.unwrap_or_else(|| panic!("{} is not read", form.name)).name();
            assert!(name.starts_with(form.name), "{} is read as {name}", form.name);
        }
    }
}
