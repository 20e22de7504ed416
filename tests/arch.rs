//! The architecture, checked in the sources: which room may know which, and what stays out of the pure ones.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// Every room and the rooms that it may know, besides itself. A new edge is a decision: make it here.
const MAY_KNOW: [(&str, &[&str]); 9] = [
    ("smp", &["cause"]),
    ("image", &["cause"]),
    ("report", &["cause", "exit", "identity"]),
    ("transport", &["cause", "identity", "plan", "smp"]),
    ("sim", &["cause", "image", "smp", "transport"]),
    ("plan", &["cause", "image", "sim", "smp", "transport"]),
    ("client", &["cause", "plan", "report", "smp", "transport"]),
    ("flow", &["cause", "image", "plan", "report", "smp"]),
    (
        "actors",
        &[
            "cause",
            "client",
            "exit",
            "flow",
            "identity",
            "image",
            "plan",
            "report",
            "sim",
            "smp",
            "transport",
        ],
    ),
];

/// Longest source file, in lines.
const LONGEST: usize = 600;

fn sources(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).expect("a source folder").map(|entry| entry.expect("an entry").path()) {
        if entry.is_dir() {
            found.extend(sources(&entry));
        } else if entry.extension().is_some_and(|extension| extension == "rs") {
            found.push(entry);
        }
    }
    found
}

/// The code of a file: no comments.
fn code(path: &Path) -> String {
    let text = fs::read_to_string(path).expect("a source file");
    text.lines().map(|line| line.split("//").next().unwrap_or_default()).collect::<Vec<_>>().join("\n")
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("src")
}

/// The names after `crate::`, in `use crate::{a, b}` too.
fn rooms_used(code: &str) -> BTreeSet<String> {
    let mut rooms = BTreeSet::new();
    for (at, _) in code.match_indices("crate::") {
        let rest = &code[at + "crate::".len()..];
        let names = if let Some(list) = rest.strip_prefix('{') {
            list.split('}').next().unwrap_or_default().split(',').map(str::trim).collect()
        } else {
            vec![rest]
        };
        for name in names {
            let word: String = name.chars().take_while(|c| c.is_ascii_lowercase() || *c == '_').collect();
            if !word.is_empty() {
                rooms.insert(word);
            }
        }
    }
    rooms
}

#[test]
fn every_room_knows_only_what_it_may() {
    for (room, allowed) in MAY_KNOW {
        let files = sources(&root().join(room));
        assert!(!files.is_empty(), "room {room} is empty");
        for file in files {
            for used in rooms_used(&code(&file)) {
                let fine = used == room || allowed.contains(&used.as_str());
                assert!(fine, "{} uses crate::{used}, which room {room} may not know", file.display());
            }
        }
    }
}

#[test]
fn the_pure_rooms_have_no_runtime_and_no_clock() {
    for room in ["smp", "flow"] {
        for file in sources(&root().join(room)) {
            let code = code(&file);
            for banned in
                ["tokio", "actix", "Instant", "SystemTime", "Utc::now", "Local::now", "std::fs", "std::net"]
            {
                assert!(!code.contains(banned), "{} knows {banned}", file.display());
            }
        }
    }
}

#[test]
fn only_the_actors_know_actix() {
    for file in sources(&root()) {
        let in_actors = file.starts_with(root().join("actors"));
        assert!(in_actors || !code(&file).contains("actix"), "{} knows actix", file.display());
    }
}

#[test]
fn module_files_only_re_export() {
    for file in sources(&root()).into_iter().filter(|file| file.ends_with("mod.rs")) {
        for line in code(&file).lines().map(str::trim) {
            let body = line.starts_with("fn ") || line.starts_with("pub fn ") || line.starts_with("impl");
            assert!(!body, "{} holds code: {line}", file.display());
        }
    }
}

#[test]
fn every_file_says_what_lives_there_and_stays_readable() {
    for file in sources(&root()) {
        let text = fs::read_to_string(&file).expect("a source file");
        assert!(text.starts_with("//!"), "{} does not say what lives there", file.display());
        let lines = text.lines().count();
        assert!(lines <= LONGEST, "{} has {lines} lines", file.display());
    }
}
