//! Bad input ends with exit code 2 or 102, says where and what, and no device hears a byte.

use super::station::{Station, Witness, image};

/// Runs a plan that must be refused; `@` in it stands for the witness's address.
fn refused(station: &Station, plan: &str, code: &str, line: usize, column: usize) {
    let witness = Witness::new();
    station.plan(&plan.replace('@', &witness.address()));
    let (said, report) = station.run(&[]);
    assert_eq!(said.exit, 2, "{}", said.err);
    assert!(said.err.contains(&format!("error[{code}]")), "expected {code}:\n{}", said.err);
    assert!(
        said.err.contains(&format!("plan.yaml:{line}:{column}")),
        "expected {line}:{column}:\n{}",
        said.err
    );
    assert!(said.err.contains("help:"), "{}", said.err);
    assert_eq!(said.out, "", "nothing for programs to misread");
    assert!(report.is_none(), "no report of a run that was none");
    assert_eq!(witness.heard(), Vec::<Vec<u8>>::new(), "a device was touched");
}

const HEAD: &str = "version: 1\nname: bad\nimages: { app: { file: app.bin } }\n";
const GOOD_TARGETS: &str = "targets: [{ name: a, match: { udp: [\"@\"] } }]\n";

#[test]
fn the_good_plan_of_these_tests_is_good() {
    let station = Station::new();
    let witness = Witness::new();
    station.plan(&format!("{HEAD}{GOOD_TARGETS}").replace('@', &witness.address()));
    let said = station.say(&["check", "plan.yaml"]);
    assert_eq!(said.exit, 0, "{}", said.err);
    assert!(witness.heard().is_empty(), "check touches no device");
}

#[test]
fn an_unknown_key() {
    let plan = format!("{HEAD}targets: [{{ name: a, match: {{ udp: [\"@\"] }} }}]\npolcy: {{}}\n");
    refused(&Station::new(), &plan, "plan.unknown_key", 5, 1);
}

#[test]
fn an_unknown_step() {
    let plan = format!(
        "{HEAD}targets:\n  - name: a\n    match: {{ udp: [\"@\"] }}\n    steps:\n      - uplod: app\n"
    );
    refused(&Station::new(), &plan, "plan.unknown_step", 8, 9);
}

#[test]
fn an_unknown_image() {
    let plan = format!(
        "{HEAD}targets:\n  - name: a\n    match: {{ udp: [\"@\"] }}\n    steps:\n      - upload: ap\n"
    );
    refused(&Station::new(), &plan, "plan.unknown_image", 8, 17);
}

#[test]
fn a_bad_expression() {
    let plan = format!(
        "{HEAD}targets: [{{ name: a, match: {{ udp: [\"@\"] }} }}, {{ name: b, match: {{ usb: \"2fe3:(\" }} }}]\n"
    );
    let station = Station::new();
    let witness = Witness::new();
    station.plan(&plan.replace('@', &witness.address()));
    let (said, _) = station.run(&[]);
    assert_eq!(said.exit, 2, "{}", said.err);
    assert!(
        said.err.contains("error[plan.bad_pattern]") || said.err.contains("error[plan.bad_expression]"),
        "{}",
        said.err
    );
    assert!(said.err.contains("plan.yaml:4:"), "{}", said.err);
    assert!(witness.heard().is_empty());
}

#[test]
fn a_type_error() {
    let plan = format!("{HEAD}targets: 7\n");
    refused(&Station::new(), &plan, "plan.wrong_type", 4, 10);
}

#[test]
fn a_syntax_error() {
    refused(&Station::new(), &format!("{HEAD}targets: [{{ name: a\n"), "plan.syntax", 5, 1);
}

#[test]
fn a_file_that_devices_would_share() {
    let plan = format!(
        "{HEAD}targets:\n  - name: a\n    match: {{ udp: [\"@\", \"127.0.0.2\"] }}\n    steps:\n      - get: {{ from: /lfs1/a, file: a.txt }}\n"
    );
    refused(&Station::new(), &plan, "plan.shared_file", 8, 37);
}

#[test]
fn a_missing_image() {
    let plan = format!("version: 1\nname: bad\nimages: {{ app: {{ file: gone.bin }} }}\n{GOOD_TARGETS}");
    refused(&Station::new(), &plan, "image.file_missing", 3, 24);
}

#[test]
fn a_truncated_image() {
    let station = Station::new();
    for length in [0, 10, 500, image().len() - 1] {
        station.write("app.bin", &image()[..length]);
        let witness = Witness::new();
        station.plan(&format!("{HEAD}{GOOD_TARGETS}").replace('@', &witness.address()));
        let (said, _) = station.run(&[]);
        assert_eq!(said.exit, 2, "{length}: {}", said.err);
        assert!(
            said.err.contains("error[image.") && said.err.contains("plan.yaml:3:24"),
            "{length}: {}",
            said.err
        );
        assert!(witness.heard().is_empty());
    }
}

#[test]
fn an_image_whose_hash_does_not_hold() {
    let station = Station::new();
    let mut bytes = image();
    bytes[0x210] ^= 1;
    station.write("app.bin", &bytes);
    refused(&station, &format!("{HEAD}{GOOD_TARGETS}"), "image.hash_mismatch", 3, 24);
}

#[test]
fn ten_thousand_aliases_and_deep_nesting() {
    let aliases = format!("{HEAD}targets: &t [{}]\n", "*t, ".repeat(10_000));
    let bomb: String =
        (1..=9).map(|n| format!("a{n}: &a{n} [{}]\n", format!("*a{}, ", n - 1).repeat(10))).collect();
    let bomb = format!("{HEAD}a0: &a0 [x]\n{bomb}{GOOD_TARGETS}");
    let deep = format!("{HEAD}targets: {}\n", "[".repeat(10_000));
    for plan in [aliases, bomb, deep] {
        let station = Station::new();
        station.plan(&plan);
        let start = std::time::Instant::now();
        let (said, report) = station.run(&[]);
        assert_eq!(said.exit, 2, "{}", &said.err[..said.err.len().min(500)]);
        assert!(said.err.contains("error[plan."), "{}", &said.err[..said.err.len().min(500)]);
        assert!(report.is_none() && said.err.len() < 64 * 1024, "{} bytes of errors", said.err.len());
        assert!(start.elapsed().as_secs() < 20, "a plan of a few kilobytes took {:?}", start.elapsed());
    }
}

#[test]
fn plans_that_are_no_plans() {
    let station = Station::new();
    for content in [&b""[..], b"\0\xff\xfe", b"\t- x", b"- 1\n", b"version: 2\n", b"name: x\n"] {
        station.write("plan.yaml", content);
        let (said, _) = station.run(&[]);
        assert_eq!(said.exit, 2, "{content:?}: {}", said.err);
        assert!(said.err.contains("error[plan."), "{content:?}: {}", said.err);
    }
    let said = station.say(&["run", "no-such-plan.yaml"]);
    assert_eq!(said.exit, 2, "{}", said.err);
    let said = station.say(&["run", "plam.yaml"]);
    assert!(said.exit == 2 && said.err.contains("did you mean `plan.yaml`?"), "{}", said.err);
    let said = station.say(&["run", "."]);
    assert_eq!(said.exit, 2, "{}", said.err);
}

#[test]
fn a_report_folder_that_cannot_be_written_is_found_before_any_device_is_touched() {
    let station = Station::new();
    let witness = Witness::new();
    station.plan(&format!("{HEAD}{GOOD_TARGETS}").replace('@', &witness.address()));
    station.write("a-file", b"");
    for option in ["--json", "--junit", "--html", "--journal", "--events", "--trace"] {
        let said = station.say(&["run", "plan.yaml", option, "a-file/below/it"]);
        assert_eq!(said.exit, 102, "{option}: {}", said.err);
        assert!(said.err.contains("error[station."), "{option}: {}", said.err);
        assert!(said.err.contains("help:"), "{option}: {}", said.err);
    }
    assert_eq!(witness.heard(), Vec::<Vec<u8>>::new(), "a device was touched");
}

#[test]
fn words_that_are_no_commands_and_targets_that_are_none() {
    let station = Station::new();
    let witness = Witness::new();
    station.plan(&format!("{HEAD}{GOOD_TARGETS}").replace('@', &witness.address()));
    for arguments in [
        &[][..],
        &["frobnicate"],
        &["run"],
        &["run", "plan.yaml", "--parallel", "0"],
        &["run", "plan.yaml", "--only", "b"],
    ] {
        let said = station.say(arguments);
        assert_eq!(said.exit, 2, "{arguments:?}: {}", said.err);
        assert_ne!(said.err, "");
    }
    for arguments in [&["--help"][..], &["--version"], &["run", "--help"]] {
        let said = station.say(arguments);
        assert_eq!((said.exit, said.err.as_str()), (0, ""), "{arguments:?}");
        assert_ne!(said.out, "");
    }
    assert!(witness.heard().is_empty());
}
