//! Every command of every group that a server offers, through `flashfleet smp --json`, held against what smpclient reads
//! in the answers of the same server (`survey.py`). Which servers there are is `real_servers.rs`'s.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;

use serde_json::{Map, Value, json};

use crate::error::{Context, Result};
use crate::fixtures::{python, run};
use crate::smp_program::{Bench, Said};

/// One server to be asked: its address as `survey.py` has it, its groups as manifest.json names them, and the protocol version.
#[derive(Clone, Debug)]
pub(crate) struct Asked {
    pub(crate) address: String,
    pub(crate) groups: Vec<String>,
    pub(crate) version: u8,
}

/// What smpclient read: commands as `flashfleet smp` has them, each with the answer.
pub(crate) type Answers = Map<String, Value>;

/// Asks each server everything, all at once, through smpclient.
pub(crate) fn smpclient(servers: &[Asked]) -> Result<Vec<Answers>> {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/rig/survey.py");
    let servers: Vec<_> = servers
        .iter()
        .map(
            |server| json!({ "address": server.address, "groups": server.groups, "version": server.version }),
        )
        .collect();
    let servers = Value::from(servers).to_string();
    let printed = run(Command::new(python()?).arg(script).arg(servers), "are the servers up?")?;
    serde_json::from_str(&printed).context(format!("answer of survey.py: {printed}"))
}

/// Asks the server the same through flashfleet; gives each command where the two differ, with both answers.
pub(crate) fn differences(server: &Asked, answers: &Answers) -> Result<Vec<String>> {
    let version = server.version.to_string();
    let bench = match server.address.strip_prefix("raw:") {
        Some(path) => Bench::new(format!("serial:{path}"))?.with(&["--framing", "raw"]),
        None => Bench::new(&server.address)?,
    };
    let bench = bench.with(&["--protocol", &version, "--json"]);
    let mut differences = Vec::new();
    for (command, answer) in answers {
        // A request that has no command of its own: it made the file that others look at.
        if command == "put" {
            continue;
        }
        let arguments: Vec<&str> = command.split(' ').collect();
        let said = bench.smp(&arguments)?;
        if let Err(expected) = compare(command, answer, &said) {
            differences.push(format!("{command}: smpclient read {answer}, expected {expected}: {said:#?}"));
        }
    }
    Ok(differences)
}

/// Holds what flashfleet said against what smpclient read; an error is what it ought to have said.
fn compare(command: &str, answer: &Value, said: &Said) -> std::result::Result<(), String> {
    if answer.is_null() {
        // smpclient knows no such number: Zephyr 4.4 has it.
        let code = "smp.settings_mgmt.save_not_supported";
        return if command == "settings save" && said.refuses(code) { Ok(()) } else { Err(code.to_owned()) };
    }
    if let Some(refused) = answer.get("refused") {
        let number = match &refused["group"] {
            Value::Null => format!("SMP error {}:", refused["rc"]),
            group => format!("error {} of group {group} (", refused["rc"]),
        };
        let error = said.error().unwrap_or_default();
        let code = error["code"].as_str().unwrap_or_default();
        let named = code.starts_with("smp.") && said.err.starts_with(&format!("error[{code}]"));
        let named = named && !said.err.contains("no name") && !error["help"].is_null();
        return if said.exit == 100 && named && said.err.contains(&number) { Ok(()) } else { Err(number) };
    }
    let expected = expected(command, answer);
    let exit = if answer["ret"].as_i64().is_some_and(|ret| ret != 0) { 100 } else { 0 };
    let told = said.result().map_err(|error| error.to_string())?;
    if said.exit == exit && said.err.is_empty() && same(command, &told, &expected) {
        Ok(())
    } else {
        Err(expected.to_string())
    }
}

/// What flashfleet's JSON ought to hold, from the fields that smpclient read.
fn expected(command: &str, answer: &Value) -> Value {
    let word = |index: usize| command.split(' ').nth(index).unwrap_or_default();
    match (word(0), word(1)) {
        ("os", "echo") => json!({ "text": answer["r"] }),
        ("os", "tasks") => {
            let task = |(name, task): (&String, &Value)| {
                let bytes = |words: &Value| words.as_u64().map(|words| words * 4);
                json!({
                    "name": name,
                    "tid": task["tid"],
                    "priority": task["prio"],
                    "state": task["state"],
                    "stack_used_bytes": bytes(&task["stkuse"]),
                    "stack_size_bytes": bytes(&task["stksiz"]),
                    "context_switches": task["cswcnt"],
                    "runtime": task["runtime"],
                })
            };
            let tasks = answer["tasks"].as_object().into_iter().flatten().map(task);
            json!({ "tasks": tasks.collect::<Vec<_>>() })
        }
        ("os", "bootloader") => json!({ "bootloader": answer["bootloader"] }),
        ("image", "list") => {
            let image = |image: &Value| {
                let flag = |name: &str| image[name].as_bool().unwrap_or(false);
                json!({
                    "image": image["image"].as_u64().unwrap_or(0),
                    "slot": image["slot"],
                    "version": image["version"],
                    "hash": image["hash"]["$bytes"],
                    "active": flag("active"),
                    "confirmed": flag("confirmed"),
                    "pending": flag("pending"),
                    "permanent": flag("permanent"),
                    "bootable": flag("bootable"),
                    "compressed": false,
                })
            };
            json!({ "images": answer["images"].as_array().into_iter().flatten().map(image).collect::<Vec<_>>() })
        }
        ("stat", "list") => json!({ "statistics": answer["stat_list"] }),
        ("fs", "status") => json!({ "remote": word(2), "bytes": answer["len"] }),
        ("fs", "hash-types") => {
            let kind = |(name, kind): (&String, &Value)| {
                let format = if kind["format"] == 0 { "number" } else { "bytes" };
                json!({ "name": name, "format": format, "bytes": kind["size"] })
            };
            json!({ "types": answer["types"].as_object().into_iter().flatten().map(kind).collect::<Vec<_>>() })
        }
        ("fs", "hash") => {
            let output = match &answer["output"] {
                Value::Number(number) => format!("{:08x}", number.as_u64().unwrap_or_default()),
                bytes => bytes["$bytes"].as_str().unwrap_or_default().to_owned(),
            };
            json!({
                "remote": word(2),
                "type": answer["type"],
                "offset": answer["off"].as_u64().unwrap_or(0),
                "bytes": answer["len"],
                "output": output,
            })
        }
        ("shell", _) => json!({ "output": answer["o"], "returned": answer["ret"] }),
        ("enum", "show") => json!({
            "index": word(2).parse::<u32>().unwrap_or_default(),
            "group": answer["group"],
            "end": answer["end"].as_bool().unwrap_or(false),
        }),
        // The same fields by the same names.
        _ => answer.clone(),
    }
}

/// Whether both are the same, as far as they can be: the server's counters and stacks grow from one question to the next,
/// and a task's state changes.
fn same(command: &str, told: &Value, expected: &Value) -> bool {
    if command == "os tasks" {
        let (told, expected) = (by_name(told), by_name(expected));
        let grows = ["stack_used_bytes", "context_switches", "runtime"];
        let still = |tasks: &[Value]| -> Vec<Value> {
            let still = |task: &Value| {
                let mut task = task.clone();
                for field in grows.iter().chain(&["state"]) {
                    task.as_object_mut().map(|fields| fields.remove(*field));
                }
                task
            };
            tasks.iter().map(still).collect()
        };
        let grew = |(told, expected): (&Value, &Value)| {
            told["state"].is_u64()
                && grows.iter().all(|field| told[field].as_u64() >= expected[field].as_u64())
        };
        return !told.is_empty() && still(&told) == still(&expected) && told.iter().zip(&expected).all(grew);
    }
    if command.starts_with("stat show ") {
        let fields = |value: &Value| value["fields"].as_object().cloned().unwrap_or_default();
        let (told_fields, expected_fields) = (fields(told), fields(expected));
        return told["name"] == expected["name"]
            && told_fields.keys().eq(expected_fields.keys())
            && told_fields.iter().all(|(name, count)| count.as_u64() >= expected_fields[name].as_u64());
    }
    told == expected
}

/// The tasks in the order of their names. Where several have the same, as all have on a server that knows no names but
/// priorities, smpclient keeps the last.
fn by_name(value: &Value) -> Vec<Value> {
    let tasks = value["tasks"].as_array().into_iter().flatten();
    let named = tasks.map(|task| (task["name"].as_str().map(str::to_owned), task.clone()));
    named.collect::<BTreeMap<_, _>>().into_values().collect()
}
