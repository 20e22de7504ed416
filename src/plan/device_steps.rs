//! The steps that do something on a device besides its images: shell, files, settings, any SMP command. Their files are
//! opened here; whether two steps can share one is checked in `files`.

use std::path::Path;
use std::sync::Arc;

use super::data;
use super::files::read_file;
use super::images::similar_file;
use super::keys::{GET, PUT, SETTINGS, SHELL, SMP};
use super::policy::placeholders;
use super::problems::{excerpt, suggest};
use super::reader::{Fields, Reader, lower_first};
use super::step::{LocalFile, Settings, SmpCommand, Step};
use super::yaml::{Node, Value};
use crate::smp::message::raw::payload_from_json;
use crate::smp::{Op, RequestId, group};

/// Largest payload of an SMP message, in bytes: its length has 16 bits.
const MAX_PAYLOAD: usize = u16::MAX as usize;

/// Reads the step `name`, one of those that live here.
pub(super) fn read(reader: &Reader<'_>, name: &str, node: &Node) -> Option<Step> {
    match name {
        "shell" => read_shell(reader, node),
        "put" => read_put(reader, node),
        "get" => read_get(reader, node),
        "settings" => read_settings(reader, node),
        "smp" => read_smp(reader, node),
        _ => None,
    }
}

fn read_shell(reader: &Reader<'_>, node: &Node) -> Option<Step> {
    let fields = reader.fields(node, &SHELL)?;
    let expect = fields.search("expect");
    let timeout = fields.time("timeout");
    Some(Step::Shell { run: fields.text("run")?.to_owned(), expect, timeout })
}

fn read_put(reader: &Reader<'_>, node: &Node) -> Option<Step> {
    let fields = reader.fields(node, &PUT)?;
    let to = device_path(&fields, "to");
    let file = local_file(&fields);
    let (to, mut file) = (to?, file?);
    // What is another file for each device can be read only once there is one.
    let is_one = placeholders(&file.name).next().is_none();
    if is_one {
        file.content = Some(content(&fields, &file)?);
    }
    if !to.ends_with('/') {
        return Some(Step::Put { file, to: to.to_owned() });
    }
    let name = Path::new(&file.name).file_name().and_then(|name| name.to_str()).filter(|_| is_one);
    let Some(name) = name else {
        let message = "a file with `{placeholders}` needs the whole path on the device";
        let help = "say what it is called there, for example `/lfs1/config.bin`";
        reader.problems.add("plan.bad_path", &fields.get("to")?.at, message, help);
        return None;
    };
    let to = format!("{to}{name}");
    Some(Step::Put { file, to })
}

fn read_get(reader: &Reader<'_>, node: &Node) -> Option<Step> {
    let fields = reader.fields(node, &GET)?;
    let from = device_path(&fields, "from");
    let file = local_file(&fields);
    let (from, file) = (from?, file?);
    let names_a_folder = file.name.ends_with('/') || file.folder.join(&file.name).is_dir();
    if from.ends_with('/') || names_a_folder {
        let key = if names_a_folder { "file" } else { "from" };
        let message = format!("`{key}` names a folder, and `get` reads one file");
        reader.problems.add("plan.bad_path", &fields.get(key)?.at, message, "name a file in it");
        return None;
    }
    Some(Step::Get { from: from.to_owned(), file })
}

/// An absolute path on the device.
fn device_path<'n>(fields: &Fields<'n>, key: &str) -> Option<&'n str> {
    let path = fields.text(key)?;
    if path.starts_with('/') {
        return Some(path);
    }
    let message = format!("`{key}` must be an absolute path on the device, but is `{}`", excerpt(path));
    let help = "begin with `/` and where the file system is mounted, for example `/lfs1/`";
    fields.reader.problems.add("plan.bad_path", &fields.get(key)?.at, message, help);
    None
}

/// The value of `file`, not opened yet.
fn local_file(fields: &Fields<'_>) -> Option<LocalFile> {
    let name = fields.text("file")?;
    let at = &fields.get("file")?.at;
    let mut known = true;
    for placeholder in placeholders(name).filter(|name| !LocalFile::PLACEHOLDERS.contains(name)) {
        let message = format!("unknown placeholder `{{{}}}`", excerpt(placeholder));
        let help = suggest(placeholder, LocalFile::PLACEHOLDERS, "known placeholders");
        fields.reader.problems.add("plan.unknown_word", at, message, help);
        known = false;
    }
    let file = LocalFile { folder: fields.reader.base.to_owned(), name: name.to_owned(), content: None };
    known.then_some(file)
}

fn content(fields: &Fields<'_>, file: &LocalFile) -> Option<Arc<[u8]>> {
    let problems = fields.reader.problems;
    let at = &fields.get("file")?.at;
    let path = file.folder.join(&file.name);
    read_file(&path)
        .inspect_err(|error| {
            let message =
                format!("cannot read `{}`: {}", excerpt(&file.name), lower_first(&error.to_string()));
            let help = match similar_file(&path).filter(|_| !path.exists()) {
                Some(similar) => {
                    format!("did you mean `{}`? files are relative to the plan", excerpt(&similar))
                }
                None => "check the path and its rights: files are relative to the plan".to_owned(),
            };
            problems.add("plan.file_unreadable", at, message, help);
        })
        .ok()
}

fn read_settings(reader: &Reader<'_>, node: &Node) -> Option<Step> {
    let fields = reader.fields(node, &SETTINGS)?;
    let mut settings = Settings {
        commit: fields.flag("commit").unwrap_or_default(),
        save: fields.flag("save").unwrap_or_default(),
        ..Settings::default()
    };
    let mut deleted = Vec::new();
    if let Some(node) = fields.get("delete") {
        for node in reader.one_or_list(node, "`delete`", "names") {
            let name = reader.text(node, "`delete`");
            settings.delete.extend(name.map(str::to_owned));
            deleted.extend(name);
        }
    }
    if let Some(node) = fields.get("set") {
        let Value::Mapping(entries) = &node.value else {
            reader.wrong_type(node, "`set`", "a map", "write `{ name: value }`");
            return None;
        };
        if entries.is_empty() {
            let help = "name at least one, or take out the key";
            reader.problems.add("plan.out_of_range", &node.at, "`set` is an empty map", help);
        }
        for (key, value) in entries {
            if key.name.is_empty() || key.name.chars().any(char::is_control) {
                let message = format!("`{}` is no name of a setting", excerpt(&key.name));
                reader.problems.add("plan.bad_text", &key.at, message, "write for example `id/serial`");
            }
            if deleted.contains(&key.name.as_str()) {
                let message = format!("`{}` is both set and deleted", excerpt(&key.name));
                let help = "keep one of both, or use two steps";
                reader.problems.add("plan.contradiction", &key.at, message, help);
            }
            let bytes = data::setting(reader, &key.name, value);
            settings.set.extend(bytes.map(|bytes| (key.name.clone(), bytes)));
        }
    }
    let asks = ["set", "delete"].into_iter().any(|key| fields.get(key).is_some());
    if !asks && !settings.commit && !settings.save {
        let help = "name at least one of `set`, `delete`, `commit: true` and `save: true`";
        reader.problems.add("plan.missing_key", &node.at, "step `settings` does nothing", help);
        return None;
    }
    Some(Step::Settings(settings))
}

fn read_smp(reader: &Reader<'_>, node: &Node) -> Option<Step> {
    let fields = reader.fields(node, &SMP)?;
    let op = fields.choice("op").map(|op| if op == "read" { Op::Read } else { Op::Write });
    let group = fields.word_or_whole("group");
    let command = fields.whole("command");
    let payload = match fields.get("data") {
        None => payload_from_json(&serde_json::json!({})).ok(),
        Some(node) => read_data(reader, node),
    };
    let expect = match fields.get("expect") {
        None => Some(None),
        Some(node) => data::json(reader, node).map(Some),
    };
    let request = RequestId { op: op?, group: group?, command: command? };
    if request == (RequestId { op: Op::Write, group: group::OS, command: 5 }) {
        let message = "this resets the device, and would not wait until it is back";
        reader.problems.add("plan.contradiction", &node.at, message, "use the step `reset`");
        return None;
    }
    Some(Step::Smp(SmpCommand { request, payload: payload?, expect: expect? }))
}

fn read_data(reader: &Reader<'_>, node: &Node) -> Option<Vec<u8>> {
    if !matches!(node.value, Value::Mapping(_)) {
        reader.wrong_type(node, "`data`", "a map", "write `{ key: value }`");
        return None;
    }
    let json = data::json(reader, node)?;
    let Ok(payload) = payload_from_json(&json) else {
        let help = "write `{ key: value }`; a byte string is a value in it";
        reader.wrong_type(node, "`data`", "a map with keys of its own", help);
        return None;
    };
    if payload.len() > MAX_PAYLOAD {
        let message = format!("`data` is {} bytes in CBOR, and a message holds {MAX_PAYLOAD}", payload.len());
        reader.problems.add("plan.out_of_range", &node.at, message, "send less");
        return None;
    }
    Some(payload)
}
