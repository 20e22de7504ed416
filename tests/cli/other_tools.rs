//! The table for those who know another tool: each command that it names is one that this program has.

use clap::Parser as _;
use flashfleet::cli::Cli;

const TABLE: &str = include_str!("../../docs/smp.md");

/// A value for each word that stands for one.
fn value(word: &str) -> &str {
    match word {
        "DEVICE" => "udp:gw",
        "HASH" | "SHA256" => "347b9f3f534985bb02c03c67b00d851337803d4efea946925c9ea5b657c261de",
        "N" | "SLOT" | "MODE" | "GROUP" | "GROUP…" | "COMMAND" => "1",
        "WHEN" => "2026-11-25T20:52:29",
        "JSON" => "{}",
        word => word,
    }
}

/// The commands of the third column, each with what may be left out and without.
fn commands() -> Vec<Vec<String>> {
    let section = TABLE.split("## For those who know another tool").nth(1).expect("the section");
    let mut commands = Vec::new();
    for row in section.lines().filter(|line| line.starts_with('|')) {
        // A stroke within code does not end a cell.
        let row = row.replace("\\|", "/");
        let cell = row.trim_matches('|').rsplit('|').next().expect("a cell").to_owned();
        for code in cell.split('`').skip(1).step_by(2).filter(|code| code.starts_with("flashfleet ")) {
            let with = |keep: bool| {
                let mut words = Vec::new();
                let mut optional = false;
                for word in code.split_whitespace() {
                    optional |= word.starts_with('[');
                    if keep || !optional {
                        words.push(value(word.trim_matches(['[', ']'])).to_owned());
                    }
                    optional &= !word.ends_with(']');
                }
                words
            };
            commands.extend([with(true), with(false)]);
        }
    }
    commands
}

#[test]
fn every_command_that_the_table_names_exists() {
    let commands = commands();
    // The table has not moved away from under this test.
    assert!(commands.len() > 80, "{} commands", commands.len());
    for words in commands {
        if let Err(error) = Cli::try_parse_from(&words) {
            panic!("{}: {error}", words.join(" "));
        }
    }
}

/// Those of `firmware update` of mcumgrctl and `upgrade` of smpmgr.
#[test]
fn names_of_an_update_and_its_options_in_other_tools_mean_the_same_here() {
    let parsed = |words: &str| {
        let words = ["flashfleet"].into_iter().chain(words.split_whitespace().map(value));
        format!("{:?}", Cli::try_parse_from(words).unwrap_or_else(|error| panic!("{error}")))
    };
    for (theirs, ours) in [
        ("upgrade DEVICE app.bin", "update DEVICE app.bin"),
        ("update DEVICE app.bin --force-confirm", "update DEVICE app.bin --confirm-directly"),
        ("update DEVICE app.bin --skip-reboot", "update DEVICE app.bin --skip-reset"),
        ("update DEVICE app.bin --checksum SHA256", "update DEVICE app.bin --sha256 SHA256"),
    ] {
        assert_eq!(parsed(theirs), parsed(ours), "{theirs}");
    }
}
