//! The plans in `plans/` and the JSON Schema of plans: every example is valid for the reader and for the schema, and
//! both refuse the same shapes.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::LazyLock;

use flashfleet::image::ImageBuilder;
use flashfleet::plan::{self, MatchKind, Plan, Step};
use jsonschema::Validator;
use rstest::rstest;
use serde_json::Value;
use tempfile::TempDir;

#[path = "common/package.rs"]
mod package;

static SCHEMA: LazyLock<Validator> = LazyLock::new(|| jsonschema::draft202012::new(&plan::schema()).unwrap());

/// A folder with the images that the example plans name.
static FOLDER: LazyLock<TempDir> = LazyLock::new(|| {
    let folder = tempfile::tempdir().unwrap();
    for (name, version) in
        [("app.signed.bin", "2.4.1"), ("gateway.signed.bin", "3.1.0"), ("modem.signed.bin", "1.0.0")]
    {
        let image = ImageBuilder::new().version(version).payload(name.as_bytes()).build();
        fs::write(folder.path().join(name), image).unwrap();
    }
    let files = r#"{"files": [{"file": "app", "image_index": "0"}, {"file": "modem", "image_index": "1"}]}"#;
    let member = |name: &str| fs::read(folder.path().join(name)).unwrap();
    let line = package::pack(&[
        ("manifest.json", files.as_bytes()),
        ("app", &member("app.signed.bin")),
        ("modem", &member("modem.signed.bin")),
    ]);
    fs::write(folder.path().join("line.zip"), line).unwrap();
    fs::copy("plans/device.conf", folder.path().join("device.conf")).unwrap();
    folder
});

fn examples() -> Vec<PathBuf> {
    let mut found: Vec<PathBuf> = fs::read_dir("plans").unwrap().map(|entry| entry.unwrap().path()).collect();
    found.retain(|path| path.extension().is_some_and(|extension| extension == "yaml"));
    found.sort();
    assert!(found.len() >= 6, "{found:?}");
    found
}

fn read(text: &str) -> Result<Plan, plan::Diagnostics> {
    plan::parse(text, &FOLDER.path().join("plan.yaml"))
}

fn as_json(text: &str) -> Value {
    serde_yaml::from_str(text).unwrap()
}

#[test]
fn every_example_is_valid_for_the_reader_and_for_the_schema() {
    for path in examples() {
        let text = fs::read_to_string(&path).unwrap();
        let plan = read(&text).unwrap_or_else(|diagnostics| panic!("{}:\n{diagnostics}", path.display()));
        assert_eq!(
            path.file_stem().unwrap().to_str().unwrap(),
            plan.name.replace("simulated-line", "simulated")
        );
        let errors: Vec<String> =
            SCHEMA.iter_errors(&as_json(&text)).map(|error| error.to_string()).collect();
        assert!(errors.is_empty(), "{}: {errors:#?}", path.display());
        assert!(text.starts_with("# "), "{} does not say what it is for", path.display());
    }
}

#[test]
fn the_simulated_example_needs_no_file_and_no_hardware() {
    let plan = plan::load(Path::new("plans/simulated.yaml")).unwrap();
    let devices: usize = plan
        .targets
        .iter()
        .map(|target| match &target.matcher.kind {
            MatchKind::Sim(spec) => spec.count,
            other => panic!("{other:?}"),
        })
        .sum();
    assert!(devices >= 8, "{devices}");
    assert_eq!(plan.images["app"].members()[0].image.version(), "2.0.0");
    assert!(plan.targets.iter().all(|target| target.steps.contains(&Step::Confirm)));
}

#[test]
fn simulated_images_of_different_versions_are_different_images() {
    let image = |version: &str| {
        let text = format!(
            "version: 1\nimages: {{ app: {{ sim: {{ version: \"{version}\", size: 2KiB }} }} }}\n\
             targets: [{{ name: a, match: {{ sim: {{}} }} }}]\n"
        );
        std::sync::Arc::clone(&read(&text).unwrap().images["app"].members()[0].image)
    };
    let (one, other) = (image("2.0.0"), image("2.0.1"));
    assert_ne!(one.hash(), other.hash());
    assert_eq!(one.hash(), image("2.0.0").hash(), "the same description is another image the second time");
    // The body of 2 KiB, header, and trailing TLVs.
    assert!((2048..3072).contains(&one.bytes().len()), "{}", one.bytes().len());
}

/// Everything that the format has, the parts for later included.
const WHOLE: &str = r#"
version: 1
name: sensor-line
images:
  app:
    file: app.signed.bin
    version: ">=2.4.0"
targets:
  - name: sensors
    match:
      usb: "2FE3:0004(:0)?"
      bootloader_usb: "2fe3:0100"
      serial_number: "FF.*"
      product: ".*"
      hub_path: "1-2\\..*"
    link: { baud: 115200, framing: console, window: auto, buffer: auto, timeout: auto, retries: 3, quiet: 1s, return_within: 60s,
            dtr: keep, rts: keep, flow_control: none, line_length: 128, mtu: auto }
    discover: 10s
    expect: 24
    steps:
      - upload: app
      - test-boot
      - shell: { run: "selftest", expect: "PASS" }
      - confirm
      - reset
  - name: beacons
    match: { ble: "Beacon-[0-9A-F]{4}" }
  - name: gateways
    match: { udp: ["10.0.0.10-10.0.0.99", "gw.local:1337"] }
  - name: racks
    match: { tcp: ["rack1:4001", "rack1:4002"] }
  - name: jigs
    match: { port: "/dev/serial/by-path/*-jig*" }
  - name: pretend
    match: { sim: { count: 8, baud: 115200, fault: { lose: 0.01 } } }
policy:
  parallel: 32
  per_hub: 8
  per_adapter: 3
  attempts: 3
  recover: ["power-cycle", "{hub_path}"]
  deadline: 10m
  canary: 1
  stop_after: { failures: 5, percent: 10, of_at_least: 20 }
"#;

#[test]
fn the_whole_format_is_read() {
    assert!(SCHEMA.is_valid(&as_json(WHOLE)));
    let plan = read(WHOLE).unwrap();
    let names: Vec<&str> = plan.targets.iter().map(|target| target.name.as_str()).collect();
    assert_eq!(names, ["sensors", "beacons", "gateways", "racks", "jigs", "pretend"]);
    assert_eq!(plan.targets[0].expect.to_string(), "24");
    assert_eq!(plan.targets[1].expect.to_string(), "1..");
    assert_eq!(plan.policy.recover, ["power-cycle", "{hub_path}"]);
    assert_eq!(plan.policy.deadline.as_secs(), 600);
    for target in &plan.targets {
        let mut steps: Vec<String> = target.steps.iter().map(Step::name).collect();
        if target.name == "sensors" {
            assert_eq!(steps.remove(2), "shell selftest");
        }
        assert_eq!(steps, ["upload app", "test-boot", "confirm", "reset"], "{}", target.name);
    }
}

#[test]
fn what_a_plan_leaves_out_has_the_documented_default() {
    let plan = read("version: 1\ntargets: [{ name: a, match: { sim: {} }, steps: [reset] }]\n").unwrap();
    let target = &plan.targets[0];
    assert_eq!(target.link, plan::LinkOptions::default());
    assert_eq!(plan.policy, plan::Policy::default());
    assert_eq!((target.discover.as_secs(), target.expect.to_string()), (10, "1..".to_owned()));
    // What the schema says of each key is what the reader does.
    let schema = plan::schema();
    let said = |table: &str, key: &str| {
        schema["$defs"][table]["properties"][key]["description"].as_str().unwrap().to_owned()
    };
    let link = &target.link;
    let time = |time| humantime::format_duration(time).to_string();
    for (key, default) in [
        ("baud", link.baud.to_string()),
        ("retries", link.retries.to_string()),
        ("quiet", time(link.quiet)),
        ("return_within", time(link.return_within).replace("1m", "60s")),
        ("line_length", link.line_length.to_string()),
    ] {
        assert!(said("link", key).contains(&format!("Default: {default}.")), "{key}: {}", said("link", key));
    }
    for (key, default) in [
        ("per_adapter", plan.policy.per_adapter.to_string()),
        ("attempts", plan.policy.attempts.to_string()),
        ("deadline", time(plan.policy.deadline)),
        ("canary", plan.policy.canary.to_string()),
    ] {
        assert!(
            said("policy", key).contains(&format!("Default: {default}.")),
            "{key}: {}",
            said("policy", key)
        );
    }
}

/// Changes of [`WHOLE`] that reader and schema must both refuse, or both accept.
#[rstest]
#[case::unknown_key("baud: 115200", "bauds: 115200")]
#[case::unknown_step("- confirm", "- confrim")]
#[case::word_that_needs_more("- upload: app", "- upload")]
#[case::step_with_too_much("- test-boot", "- test-boot: now")]
#[case::two_steps_in_one("- test-boot", "- { test-boot: , confirm: }")]
#[case::no_kind("usb: \"2FE3:0004(:0)?\"", "")]
#[case::two_kinds("usb: \"2FE3:0004(:0)?\"", "usb: \"2FE3:0004(:0)?\"\n      port: \"/dev/*\"")]
#[case::file_and_sim("file: app.signed.bin", "file: app.signed.bin\n    sim: { version: \"2.4.0\" }")]
#[case::no_file("    file: app.signed.bin\n", "")]
#[case::text_for_number("baud: 115200", "baud: \"115200\"")]
#[case::number_for_duration("discover: 10s", "discover: 10")]
#[case::number_for_text("name: sensor-line", "name: 5")]
#[case::word("framing: console", "framing: lines")]
#[case::small("baud: 115200", "baud: 1")]
#[case::large("retries: 3", "retries: 1000")]
#[case::zero_devices("expect: 24", "expect: 0")]
#[case::bad_range("expect: 24", "expect: many")]
#[case::empty_list("[\"rack1:4001\", \"rack1:4002\"]", "[]")]
#[case::one_address("[\"rack1:4001\", \"rack1:4002\"]", "\"rack1:4001\"")]
#[case::sim_key("fault: { lose: 0.01 }", "fault: { loose: 0.01 }")]
#[case::sim_type("count: 8", "count: eight")]
#[case::no_limit("{ failures: 5, percent: 10, of_at_least: 20 }", "{ of_at_least: 20 }")]
#[case::format_version("version: 1\n", "version: 2\n")]
#[case::no_format_version("version: 1\n", "")]
#[case::no_target_name("  - name: racks\n    match", "  - match")]
#[case::shell_key("run: \"selftest\"", "cmd: \"selftest\"")]
#[case::shell_value("{ run: \"selftest\", expect: \"PASS\" }", "selftest")]
#[case::boot_mode("- reset", "- reset: { boot_mode: recovery }")]
#[case::setting_without_type("- confirm", "- settings: { set: { a: 5 } }")]
#[case::setting_of_two_types("- confirm", "- settings: { set: { a: { u8: 1, u16: 1 } } }")]
#[case::setting_out_of_range("- confirm", "- settings: { set: { a: { i8: 128 } } }")]
#[case::no_setting("- confirm", "- settings: {}")]
#[case::smp_group("- confirm", "- smp: { op: read, group: oss, command: 0 }")]
#[case::smp_data("- confirm", "- smp: { op: read, group: os, command: 0, data: [1] }")]
#[case::set_time("- confirm", "- set-time: now")]
#[case::null("policy:\n", "policy: ~\nx:\n")]
fn reader_and_schema_refuse_the_same_shapes(#[case] from: &str, #[case] to: &str) {
    assert!(WHOLE.contains(from), "{from}");
    let text = WHOLE.replacen(from, to, 1);
    let diagnostics = read(&text).unwrap_err();
    assert!(diagnostics.items().iter().any(|item| item.code != "plan.not_supported"), "{diagnostics}");
    assert!(!SCHEMA.is_valid(&as_json(&text)), "the schema accepts what the reader refuses:\n{diagnostics}");
}

#[rstest]
#[case::several_patterns("usb: \"2FE3:0004(:0)?\"", "usb: [\"2FE3:0004(:0)?\", \"2fe3:0005\"]")]
#[case::version_of_each_image(
    "    file: app.signed.bin\n    version: \">=2.4.0\"",
    "    file: line.zip\n    version: { 0: \">=2.4.0\", \"1\": \"1.0.0\" }"
)]
#[case::fixed_window("window: auto", "window: 1")]
#[case::fixed_buffer("buffer: auto", "buffer: 1KiB")]
#[case::fixed_timeout("timeout: auto", "timeout: 1s 500ms")]
#[case::options(
    "- upload: app",
    "- upload: { image: app, image_number: 1, upgrade_only: true, force: false }"
)]
#[case::options_left_out("- reset", "- reset: { force: true }")]
#[case::trailing_colon("- reset", "- reset:")]
#[case::erase("- reset", "- erase")]
#[case::erase_slot("- reset", "- erase: { slot: 3 }")]
#[case::verify("- reset", "- verify: { confirmed: true, echo: hello, hash: app, version: \"2.4.1\" }")]
#[case::run("- reset", "- run: [\"./test\", \"1\"]")]
#[case::shell("run: \"selftest\"", "run: \"selftest\", timeout: 2m")]
#[case::put("- reset", "- put: { file: app.signed.bin, to: /lfs1/ }")]
#[case::put_of_each("- reset", "- put: { file: \"{serial_number}.pem\", to: /lfs1/key.pem }")]
#[case::get("- reset", "- get: { from: /lfs1/log.txt, file: \"logs/{target}-{serial_number}.txt\" }")]
#[case::settings(
    "- reset",
    "- settings: { set: { a: x, b: { u32: 5 }, c: { hex: \"00\" }, d: { i8: -1 } }, delete: e, commit: true, save: true }"
)]
#[case::delete_only("- reset", "- settings: { delete: [e, f] }")]
#[case::clock_and_storage("- reset", "- set-time\n      - erase-storage")]
#[case::smp(
    "- reset",
    "- smp: { op: write, group: os, command: 0, data: { d: hi, b: { $bytes: \"00\" } }, expect: { r: hi } }"
)]
#[case::smp_number("- reset", "- smp: { op: read, group: 64, command: 255 }")]
#[case::boot_mode("- reset", "- reset: { boot_mode: bootloader, force: true }")]
#[case::boot_mode_number("- reset", "- reset: { boot_mode: 7 }")]
#[case::range("expect: 24", "expect: \"8..24\"")]
#[case::plain_range("expect: 24", "expect: 8..")]
fn reader_and_schema_accept_the_same_shapes(#[case] from: &str, #[case] to: &str) {
    assert!(WHOLE.contains(from), "{from}");
    let text = WHOLE.replacen(from, to, 1);
    let refused = read(&text).err();
    assert!(refused.is_none(), "{}", refused.unwrap());
    let errors: Vec<String> = SCHEMA.iter_errors(&as_json(&text)).map(|error| error.to_string()).collect();
    assert!(errors.is_empty(), "{errors:#?}");
}
