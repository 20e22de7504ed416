//! The table of commands in `docs/smp.md` cannot rot: every test that it names is there, it has every command of the
//! program, and none that the program does not have.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

fn read(path: &str) -> String {
    std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(path)).unwrap()
}

/// The rows of the table below `## Commands`, each as its cells.
fn rows() -> Vec<Vec<String>> {
    let text = read("docs/smp.md");
    let section = text.split("\n## ").find(|section| section.starts_with("Commands\n")).unwrap().to_owned();
    let rows = section.lines().filter(|line| line.starts_with("| `"));
    let cells = |row: &str| {
        let row = row.trim_matches('|').replace("\\|", "\u{1}");
        row.split('|').map(|cell| cell.trim().replace('\u{1}', "|")).collect()
    };
    rows.map(cells).collect()
}

/// What stands in backticks.
fn quoted(cell: &str) -> Vec<&str> {
    cell.split('`').skip(1).step_by(2).collect()
}

/// The file below `tests/` in which a test is said to be.
fn file(module: &str, real: bool) -> PathBuf {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join(if real { "tests/interop" } else { "tests" });
    folder.join(format!("{module}.rs"))
}

/// Whether `source` has a test of this name: `fn NAME(`, below an attribute that makes it one.
fn has_test(source: &str, name: &str) -> bool {
    let lines: Vec<&str> = source.lines().collect();
    let begins = |line: &str| {
        let line = line.trim_start().trim_start_matches("async ");
        line.strip_prefix("fn ")
            .and_then(|rest| rest.strip_prefix(name))
            .is_some_and(|rest| rest.starts_with('('))
    };
    let is_test = |line: &&str| {
        let line = line.trim_start();
        line == "#[test]" || line.starts_with("#[tokio::test") || line == "#[rstest]"
    };
    lines.iter().enumerate().filter(|(_, line)| begins(line)).any(|(at, _)| {
        let above = lines[..at].iter().rev().take_while(|line| line.trim_start().starts_with("#["));
        above.filter(|line| is_test(line)).count() > 0
    })
}

#[test]
fn every_test_that_the_table_names_is_there() {
    let rows = rows();
    assert!(rows.len() > 20, "{} rows", rows.len());
    for row in &rows {
        assert_eq!(row.len(), 7, "{row:?}");
        for (column, cell) in row.iter().enumerate().skip(3) {
            let names = quoted(cell);
            assert!(!names.is_empty(), "nothing shows `{} {}` in column {column}", row[0], row[1]);
            for name in names {
                let (module, test) =
                    name.split_once("::").unwrap_or_else(|| panic!("{name}: expected FILE::TEST"));
                let path = file(module, column == 6);
                let source = std::fs::read_to_string(&path).unwrap_or_else(|_| panic!("{name}: no {path:?}"));
                assert!(has_test(&source, test), "{name}: {path:?} has no such test");
            }
        }
    }
}

/// The tests that the text above the table names, too.
#[test]
fn every_test_that_the_text_names_is_there() {
    let text = read("docs/smp.md");
    let (_, section) = text.split_once("\n## Commands\n").unwrap();
    let (intro, _) = section.split_once("\n| group |").unwrap();
    let named: Vec<&str> = quoted(intro).into_iter().filter(|name| name.contains("::")).collect();
    assert!(named.len() >= 3, "{named:?}");
    for name in named {
        let (module, test) = name.split_once("::").unwrap();
        let path = file(module, module.starts_with("real_"));
        assert!(has_test(&std::fs::read_to_string(&path).unwrap(), test), "{name}");
    }
}

/// The commands that the program knows, as it names them itself.
fn commands() -> BTreeSet<String> {
    let source = read("src/cli/smp/commands.rs");
    let (_, names) = source.split_once("pub(super) fn name(&self)").unwrap();
    let (names, _) = names.split_once("command.to_owned()").unwrap();
    names
        .lines()
        .filter_map(|line| Some(line.split_once("=> \"")?.1.trim_end_matches("\",").to_owned()))
        .collect()
}

#[test]
fn the_table_has_every_command_and_no_other() {
    let mut told = BTreeSet::new();
    for row in rows() {
        let group = quoted(&row[0])[0].to_owned();
        for command in quoted(&row[1]) {
            // The words before what is to be put in.
            let fixed = |word: &&str| word.chars().all(|c| c.is_ascii_lowercase() || c == '-');
            let words = command.split(' ').take_while(fixed);
            let name = std::iter::once(group.as_str()).chain(words).collect::<Vec<_>>().join(" ");
            told.insert(name);
        }
    }
    let commands = commands();
    assert!(commands.len() > 30, "{commands:?}");
    assert_eq!(told, commands, "the table is on the left, the program on the right");
}

/// The specification's file is named by the group's number.
#[test]
fn the_table_names_the_specification_of_each_group() {
    let numbers = [
        ("os", 0),
        ("image", 1),
        ("stat", 2),
        ("settings", 3),
        ("fs", 8),
        ("shell", 9),
        ("enum", 10),
        ("zephyr", 63),
    ];
    for row in rows() {
        let group = quoted(&row[0])[0];
        let expected = numbers.iter().find(|(name, _)| *name == group);
        let expected =
            expected.map_or("smp_protocol.rst".to_owned(), |(_, number)| format!("smp_group_{number}.rst"));
        assert_eq!(quoted(&row[2]), [expected], "{row:?}");
    }
}
