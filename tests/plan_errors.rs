//! Every kind of plan that is not valid: code, place, offending text, message and help. The bad plans are in
//! `tests/data/plans`, each with what is wrong with it written below the line; see [`annotations`].

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::LazyLock;
use std::time::{Duration, Instant};

use assert_cmd::Command;
use flashfleet::image::{ImageBuilder, TlvType};
use flashfleet::plan::{self, Diagnostics, Place, Plan};
use proptest::prelude::*;
use rstest::rstest;
use serde_json::Value;
use tempfile::TempDir;

#[path = "common/package.rs"]
mod package;

use package::pack;

/// A folder with the images that the plans of these tests name.
static IMAGES: LazyLock<TempDir> = LazyLock::new(|| {
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, bytes: &[u8]| fs::write(folder.path().join(name), bytes).unwrap();
    let app = ImageBuilder::new().version("1.2.3").payload(&[1; 100]).build();
    write("app.bin", &app);
    write("boot.bin", &ImageBuilder::new().version("2.0.0").payload(&[2; 100]).build());
    write("truncated.bin", &app[..app.len() - 20]);
    write("firmware.elf", b"\x7fELF\x01\x01\x01\0\0\0\0\0\0\0\0\0");
    write("app.zip", b"PK\x03\x04");
    write("config.txt", b"hello");
    fs::create_dir(folder.path().join("logs")).unwrap();
    nix::unistd::mkfifo(&folder.path().join("pipe"), nix::sys::stat::Mode::S_IRWXU).unwrap();
    let app = |needs: [u8; 12]| {
        let builder = ImageBuilder::new().version("2.4.0").payload(&[3; 100]);
        builder.protected_tlv(TlvType::DEPENDENCY, &needs).build()
    };
    let app = app([1, 0, 0, 0, 1, 5, 0, 0, 0, 0, 0, 0]);
    let net = |version: &str| ImageBuilder::new().version(version).payload(&[4; 100]).build();
    let two =
        br#"{"files": [{"file": "app.bin", "image_index": "0"}, {"file": "net.bin", "image_index": "1"}]}"#;
    let packages = [("dfu.zip", "1.5.0"), ("older.zip", "1.4.9")];
    for (name, version) in packages {
        write(name, &pack(&[("manifest.json", two), ("app.bin", &app), ("net.bin", &net(version))]));
    }
    write("hollow.zip", &pack(&[("manifest.json", two), ("net.bin", &net("1.5.0"))]));
    let pair = br#"{"files": [{"file": "a", "image_index": 0, "slot": 0}, {"file": "b", "image_index": 0, "slot": 1}]}"#;
    write("pair.zip", &pack(&[("manifest.json", pair), ("a", &net("2.0.0")), ("b", &net("2.0.1"))]));
    for name in ["ed25519.bin", "ed25519.pub.pem", "other.pub.pem"] {
        fs::copy(Path::new("tests/data/images").join(name), folder.path().join(name)).unwrap();
    }
    folder
});

fn parse(text: &str) -> Result<Plan, Diagnostics> {
    plan::parse(text, &IMAGES.path().join("plan.yaml"))
}

/// The one problem of a plan: line, column, code, and message with help.
fn only_problem(text: &str) -> (usize, usize, &'static str, String) {
    let diagnostics = parse(text).unwrap_err();
    let [item] = diagnostics.items() else { panic!("{diagnostics}") };
    let (line, column) = item.place.as_ref().map_or((0, 0), |place| (place.line, place.column));
    (line, column, item.code, format!("{} | {}", item.message, item.help))
}

/// What a bad plan says of the line above: where, how long, which code, message and help.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Expected<'t> {
    line: usize,
    column: usize,
    /// `None` in the first column, where there is no room for carets.
    length: Option<usize>,
    code: &'t str,
    message: &'t str,
    help: &'t str,
}

/// The annotations of a bad plan. `#   ^^^ CODE: MESSAGE | HELP` is about the text above the carets; `#< …` is about
/// the first column. Messages and helps may be cut. `DIR/` is the folder that the plan is in.
fn annotations(text: &str) -> Vec<Expected<'_>> {
    let mut found = Vec::new();
    let mut last = 0;
    for (index, line) in text.lines().enumerate() {
        let carets = line.trim_start_matches(['#', ' ']);
        let length = carets.chars().take_while(|c| *c == '^').count();
        let is_first = line.starts_with("#< ");
        if !line.starts_with('#') || (length == 0 && !is_first) {
            last = index + 1;
            continue;
        }
        let column = if is_first { 1 } else { line.chars().take_while(|c| *c != '^').count() + 1 };
        let rest = if is_first { &line[3..] } else { carets.trim_start_matches('^').trim_start() };
        let (code, rest) = rest.split_once(": ").unwrap_or_else(|| panic!("no code in {line:?}"));
        let (message, help) = rest.rsplit_once(" | ").unwrap_or_else(|| panic!("no help in {line:?}"));
        let length = (!is_first).then_some(length);
        found.push(Expected { line: last, column, length, code, message, help });
    }
    found
}

#[rstest]
#[case::bootloader("bootloader.yaml")]
#[case::device_files("device-files.yaml")]
#[case::device_steps("device-steps.yaml")]
#[case::expect("expect.yaml")]
#[case::images("images.yaml")]
#[case::keys("keys.yaml")]
#[case::buffer("buffer.yaml")]
#[case::lists("lists.yaml")]
#[case::lists_images("lists-images.yaml")]
#[case::matches("matches.yaml")]
#[case::packages("packages.yaml")]
#[case::policy("policy.yaml")]
#[case::policy_share("policy-share.yaml")]
#[case::ranges("ranges.yaml")]
#[case::sim("sim.yaml")]
#[case::steps("steps.yaml")]
#[case::targets("targets.yaml")]
#[case::types("types.yaml")]
#[case::types_steps("types-steps.yaml")]
fn everything_that_is_wrong_is_told_in_one_go(#[case] name: &str) {
    let text = fs::read_to_string(Path::new("tests/data/plans").join(name)).unwrap();
    let mut expected = annotations(&text);
    assert!(!expected.is_empty(), "{name} expects nothing");
    let diagnostics = parse(&text).unwrap_err();
    assert_eq!(diagnostics.omitted(), 0);
    for item in diagnostics.items() {
        let Place { line, column, text, .. } = item.place.as_ref().unwrap();
        let message = item.message.replace(&format!("{}/", IMAGES.path().display()), "DIR/");
        let found = expected.iter().position(|expected| {
            expected.line == *line
                && expected.column == *column
                && expected.length.is_none_or(|length| length == text.chars().count().max(1))
                && expected.code == item.code
                && message.starts_with(expected.message)
                && item.help.starts_with(expected.help)
        });
        let Some(found) = found else {
            panic!(
                "{name}:{line}:{column}: not expected: `{text}` {}: {message} | {}\n{expected:#?}",
                item.code, item.help
            )
        };
        expected.remove(found);
    }
    assert!(expected.is_empty(), "{name}: not told: {expected:#?}");
}

#[test]
fn every_bad_plan_has_its_case() {
    let source = fs::read_to_string(file!()).unwrap();
    for entry in fs::read_dir("tests/data/plans").unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        assert!(source.contains(&format!("(\"{name}\")]")), "{name}");
    }
}

const GOOD: &str =
    "version: 1\nimages: { app: { file: app.bin } }\ntargets: [{ name: a, match: { usb: \"2fe3:.*\" } }]\n";

#[test]
fn the_plan_that_the_cases_below_break_is_valid() {
    let plan = parse(GOOD).unwrap();
    assert_eq!(plan.name, "plan");
    let steps: Vec<String> = plan.targets[0].steps.iter().map(plan::Step::name).collect();
    assert_eq!(steps, ["upload app", "test-boot", "confirm", "reset"]);
}

#[rstest]
#[case::empty("", 1, 1, "plan.empty", "version: 1")]
#[case::comments("# nothing\n\n", 1, 1, "plan.empty", "version: 1")]
#[case::document_start("---\n", 2, 1, "plan.wrong_type", "must be a map")]
#[case::text("flash all the boards\n", 1, 1, "plan.wrong_type", "must be a map")]
#[case::list("- a\n- b\n", 1, 1, "plan.wrong_type", "must be a map")]
#[case::tabs("version: 1\ntargets:\n\t- name: a\n", 3, 2, "plan.syntax", "indent with spaces")]
#[case::open_list("version: 1\ntargets: [{ name: a }\npolicy: {}\n", 3, 1, "plan.syntax", "brackets")]
#[case::open_quote("version: 1\nname: \"line\n", 2, 7, "plan.syntax", "quotes")]
#[case::two_colons("version: 1\nname: a: b\n", 2, 8, "plan.syntax", "in quotes")]
#[case::at_sign("version: 1\nname: @line\n", 2, 7, "plan.syntax", "in quotes")]
#[case::indentation("version: 1\npolicy:\n  canary: 1\n attempts: 2\n", 4, 2, "plan.syntax", "indentation")]
#[case::second_document("version: 1\n---\nversion: 1\n", 2, 1, "plan.syntax", "one document")]
#[case::tag("version: 1\nname: !!str 5\n", 2, 7, "plan.syntax", "tags")]
#[case::merge_key("version: 1\nname: a\n<<: {}\n", 3, 1, "plan.syntax", "merge keys")]
#[case::list_as_key("version: 1\n[a]: 1\n", 2, 1, "plan.syntax", "cannot be a key")]
#[case::unknown_anchor("version: 1\nname: *line\n", 2, 7, "plan.syntax", "anchor")]
#[case::duplicate_key("version: 1\nname: a\nversion: 1\n", 3, 1, "plan.duplicate_key", "twice")]
#[case::duplicate_key_deep(
    "version: 1\npolicy:\n  canary: 1\n  \"canary\": 2\n",
    4,
    3,
    "plan.duplicate_key",
    "`canary`"
)]
#[case::own_alias("version: 1\npolicy: &p { a: *p }\n", 2, 17, "plan.aliases", "inside the node")]
#[case::newer("version: 2\ntargets: {}\nstages: []\n", 1, 10, "plan.version", "use a newer one")]
fn a_text_that_is_no_plan_is_refused_where_it_stops_being_one(
    #[case] text: &str,
    #[case] line: usize,
    #[case] column: usize,
    #[case] code: &str,
    #[case] says: &str,
) {
    let found = only_problem(text);
    assert_eq!((found.0, found.1, found.2), (line, column, code), "{}", found.3);
    assert!(found.3.contains(says), "{}", found.3);
}

#[rstest]
#[case::missing("version: 1\n", "", 1, 1, "plan.missing_key", "needs the key `version`")]
#[case::zero("version: 1\n", "version: 0\n", 1, 10, "plan.out_of_range", "must be 1,")]
#[case::text("version: 1\n", "version: \"1\"\n", 1, 10, "plan.wrong_type", "without quotes")]
#[case::float("version: 1\n", "version: 1.0\n", 1, 10, "plan.wrong_type", "whole number")]
#[case::no_targets("targets: [", "target: [", 1, 1, "plan.missing_key", "needs the key `targets`")]
#[case::empty_targets(
    "targets: [{ name: a, match: { usb: \"2fe3:.*\" } }]",
    "targets: []",
    3,
    10,
    "plan.out_of_range",
    "empty list"
)]
#[case::null_targets(
    "targets: [{ name: a, match: { usb: \"2fe3:.*\" } }]",
    "targets:",
    3,
    8,
    "plan.wrong_type",
    "but is nothing"
)]
#[case::no_image("images: { app: { file: app.bin } }\n", "", 2, 11, "plan.no_steps", "the plan has none")]
fn a_plan_without_its_main_parts_is_refused(
    #[case] from: &str,
    #[case] to: &str,
    #[case] line: usize,
    #[case] column: usize,
    #[case] code: &str,
    #[case] says: &str,
) {
    assert!(GOOD.contains(from));
    let diagnostics = parse(&GOOD.replace(from, to)).unwrap_err();
    let found =
        diagnostics.items().iter().find(|item| item.code == code).unwrap_or_else(|| panic!("{diagnostics}"));
    let place = found.place.as_ref().unwrap();
    assert_eq!((place.line, place.column), (line, column), "{diagnostics}");
    assert!(format!("{} {}", found.message, found.help).contains(says), "{diagnostics}");
}

#[test]
fn a_pin_that_holds_is_accepted_and_one_changed_digit_is_not() {
    let image = fs::read(IMAGES.path().join("app.bin")).unwrap();
    let pin = hex::encode(<sha2::Sha256 as sha2::Digest>::digest(&image));
    let with = |pin: &str| GOOD.replace("app.bin }", &format!("app.bin, sha256: \"{pin}\" }}"));
    assert!(parse(&with(&pin)).is_ok());
    assert!(parse(&with(&pin.to_uppercase())).is_ok());
    let digit = if pin.starts_with('0') { "1" } else { "0" };
    let wrong = only_problem(&with(&format!("{digit}{}", &pin[1..])));
    assert_eq!(wrong.2, "plan.image_sha256");
    assert!(wrong.3.contains(&pin), "{}", wrong.3);
}

#[test]
fn a_hash_that_does_not_hold_is_refused_before_any_device_is_touched() {
    let mut image = fs::read(IMAGES.path().join("app.bin")).unwrap();
    // A byte of the firmware, behind the header of 0x200 bytes.
    image[0x210] ^= 1;
    fs::write(IMAGES.path().join("changed.bin"), image).unwrap();
    let found = only_problem(&GOOD.replace("app.bin", "changed.bin"));
    assert_eq!((found.0, found.1, found.2), (2, 24, "image.hash_mismatch"), "{}", found.3);
}

#[test]
fn ten_thousand_aliases_are_told_in_no_time() {
    let begun = Instant::now();
    // A bomb: every level ten times the one before.
    let mut bomb = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n".to_owned();
    for level in 1..1000 {
        let items = vec![format!("*a{}", level - 1); 10].join(", ");
        bomb.push_str(&format!("a{level}: &a{level} [{items}]\n"));
    }
    let found = only_problem(&bomb);
    assert_eq!((found.0, found.2), (6, "plan.aliases"), "{}", found.3);

    // Ten thousand uses of one valid step are a list that is too long, and no more.
    let steps = vec!["*s"; 10_000].join(", ");
    let found =
        only_problem(&GOOD.replace("} }]", &format!("}}, steps: [&s {{ upload: app }}, {steps}] }}]")));
    assert_eq!((found.0, found.2), (3, "plan.out_of_range"), "{}", found.3);
    assert!(found.3.contains("10001 entries"), "{}", found.3);

    // Four thousand are a plan.
    let steps = vec!["*s"; 4000].join(", ");
    let plan =
        parse(&GOOD.replace("} }]", &format!("}}, steps: [&s {{ delay: 1s }}, {steps}] }}]"))).unwrap();
    assert_eq!(plan.targets[0].steps.len(), 4001);
    assert!(begun.elapsed() < Duration::from_secs(10), "{:?}", begun.elapsed());
}

#[test]
fn deep_nesting_is_refused() {
    for text in ["[".repeat(200_000), "{a: ".repeat(200_000), "- ".repeat(200_000)] {
        assert_eq!(only_problem(&text).2, "plan.nesting");
    }
    assert_eq!(only_problem(&"? ".repeat(200_000)).2, "plan.syntax");
    let indented: String = (0..500).map(|level| format!("{}a:\n", " ".repeat(level))).collect();
    assert_eq!(only_problem(&indented).2, "plan.nesting");
}

#[test]
fn a_thousand_problems_are_counted_and_some_are_shown() {
    let keys: String = (0..1000).map(|index| format!("key{index}: 1\n")).collect();
    let diagnostics = parse(&format!("{GOOD}{keys}")).unwrap_err();
    assert_eq!(diagnostics.items().len() + diagnostics.omitted(), 1000);
    let shown = diagnostics.to_string();
    assert!(shown.contains("1000 problems, of which the first 50 are shown"), "{shown}");
}

#[test]
fn expensive_expressions_are_bounded() {
    let begun = Instant::now();
    let too_large = only_problem(&GOOD.replace("2fe3:.*", "(\\\\w{1000}){1000}"));
    assert_eq!((too_large.0, too_large.1, too_large.2), (3, 36, "plan.bad_expression"));
    assert!(
        too_large.3.contains("larger than 4194304 bytes | use fewer or smaller repetitions"),
        "{}",
        too_large.3
    );
    let patterns = vec!["\"2fe3:....\""; 2000].join(", ");
    let too_many = only_problem(&GOOD.replace("\"2fe3:.*\"", &format!("[{patterns}]")));
    assert_eq!((too_many.0, too_many.2), (3, "plan.out_of_range"));
    assert!(too_many.3.contains("more than 128 regular expressions | join several"), "{}", too_many.3);
    assert!(begun.elapsed() < Duration::from_secs(20), "{:?}", begun.elapsed());
}

fn in_folder(name: &str, content: Option<&[u8]>) -> (TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join(name);
    if let Some(content) = content {
        fs::write(&path, content).unwrap();
    }
    (folder, path)
}

fn load_error(path: &Path) -> (Option<(usize, usize)>, &'static str, String) {
    let diagnostics = plan::load(path).unwrap_err();
    let [item] = diagnostics.items() else { panic!("{diagnostics}") };
    let place = item.place.as_ref().map(|place| (place.line, place.column));
    (place, item.code, format!("{} | {}", item.message, item.help))
}

#[test]
fn a_file_that_cannot_be_a_plan_is_refused() {
    let (folder, missing) = in_folder("plan.yaml", None);
    assert_eq!(load_error(&missing).1, "plan.unreadable");
    let (place, code, text) = load_error(folder.path());
    assert_eq!((place, code), (None, "plan.unreadable"));
    assert!(text.contains("folder"), "{text}");

    let (_folder, binary) = in_folder("app.bin", Some(&fs::read(IMAGES.path().join("app.bin")).unwrap()));
    let (place, code, text) = load_error(&binary);
    // The magic of an MCUboot image, 0x96f3b83d, begins with `=` in little-endian order.
    assert_eq!((place, code), (Some((1, 2)), "plan.not_text"), "{text}");
    let (_folder, latin) = in_folder("plan.yaml", Some(b"version: 1\nname: W\xe4rme\n"));
    assert_eq!(load_error(&latin).0, Some((2, 8)));
    let (_folder, wide) = in_folder("plan.yaml", Some(b"\xff\xfev\0e\0r\0"));
    assert_eq!(load_error(&wide).1, "plan.not_text");
    let (_folder, nul) = in_folder("plan.yaml", Some(b"version: 1\0\n"));
    assert_eq!(load_error(&nul).1, "plan.syntax");

    let (_folder, large) = in_folder("plan.yaml", Some("# much\n".repeat(200_000).as_bytes()));
    assert_eq!(load_error(&large).1, "plan.too_large");
}

#[test]
fn a_byte_order_mark_and_windows_line_ends_are_no_problem() {
    let plan = format!("\u{feff}{}", GOOD.replace('\n', "\r\n"));
    assert!(parse(&plan).is_ok());
    let found = only_problem(&plan.replace("name: a", "nmae: a, name: a"));
    assert_eq!((found.0, found.1, found.2), (3, 13, "plan.unknown_key"));
}

fn check(arguments: &[&str]) -> assert_cmd::assert::Assert {
    Command::new(assert_cmd::cargo::cargo_bin!("flashfleet")).arg("check").args(arguments).assert()
}

#[test]
fn the_command_tells_people_on_standard_error_and_programs_on_standard_output() {
    let (_folder, path) = in_folder("plan.yaml", Some(GOOD.replace("usb", "usbb").as_bytes()));
    let shown = check(&[path.to_str().unwrap()]).code(2).stdout("");
    let shown = String::from_utf8(shown.get_output().stderr.clone()).unwrap();
    assert!(shown.contains("error[plan.unknown_key]: unknown key `usbb` in a match"), "{shown}");
    assert!(shown.contains("plan.yaml:3:31"), "{shown}");
    assert!(shown.contains("did you mean `usb`?"), "{shown}");
    assert!(!shown.contains('\u{1b}'), "colours where no terminal is: {shown:?}");

    let shown = check(&["--json", path.to_str().unwrap()]).code(2);
    let document: Value = serde_json::from_slice(&shown.get_output().stdout).unwrap();
    assert_eq!(document["valid"], false);
    let problem =
        document["problems"].as_array().unwrap().iter().find(|p| p["code"] == "plan.unknown_key").unwrap();
    assert_eq!(
        (&problem["line"], &problem["column"], &problem["text"]),
        (&3.into(), &31.into(), &"usbb".into())
    );
    assert_eq!(problem["file"], path.to_str().unwrap());
}

#[test]
fn the_command_says_what_a_valid_plan_will_do() {
    let path = IMAGES.path().join("good.yaml");
    fs::write(&path, GOOD).unwrap();
    let shown = check(&[path.to_str().unwrap()]).code(0).stdout("");
    let shown = String::from_utf8(shown.get_output().stderr.clone()).unwrap();
    for part in
        ["image app: version 1.2.3", "usb:2fe3:.*", "upload app, test-boot, confirm, reset", "expects 1.."]
    {
        assert!(shown.contains(part), "{part}: {shown}");
    }
    let shown = check(&["--json", path.to_str().unwrap()]).code(0);
    let document: Value = serde_json::from_slice(&shown.get_output().stdout).unwrap();
    assert_eq!((&document["valid"], &document["problems"]), (&true.into(), &Value::Array(vec![])));
    assert_eq!(document["plan"]["images"][0]["version"], "1.2.3");
    let hash = plan::load(&path).unwrap().images["app"].members()[0].image.hash().to_vec();
    assert_eq!(document["plan"]["images"][0]["hash"], hex::encode(hash));
    assert_eq!(document["plan"]["targets"][0]["steps"][1], "test-boot");
}

/// Pieces that plans are made of, in any order.
fn pieces() -> impl Strategy<Value = String> {
    let piece = prop::sample::select(vec![
        "version: 1\n",
        "images:\n",
        "targets:\n",
        "  - name: a\n",
        "    match: ",
        "{ usb: ",
        "{ sim: ",
        "{ udp: [",
        "steps",
        ": ",
        "- ",
        "[",
        "]",
        "{",
        "}",
        "\"",
        "'",
        "&a ",
        "*a",
        "!!str ",
        "|\n",
        ">\n",
        "\n",
        "  ",
        "\t",
        "# x\n",
        "---\n",
        "...\n",
        "%YAML 1.2\n",
        "? ",
        "<<: ",
        "upload: app",
        "link: ",
        "baud: 9600",
        "expect: 1..",
        "policy: ",
        "\u{feff}",
        "ä",
        "\u{1f980}",
        "\0",
        "\r\n",
        "10s",
        "-1",
        "0x",
        ".inf",
        "~",
        "true",
        "(",
        "\\",
        "10.0.0.1-10.0.0.9",
        "@",
        "`",
    ]);
    prop::collection::vec(piece, 0..60).prop_map(|pieces| pieces.concat())
}

/// Whatever the text, there is an answer, and every place in it lies in the text.
fn is_answered(text: &str) {
    let Err(diagnostics) = parse(text) else { return };
    assert!(!diagnostics.items().is_empty());
    let lines = text.split('\n').count();
    for item in diagnostics.items() {
        let place = item.place.as_ref().unwrap();
        assert!((1..=lines).contains(&place.line), "{item:?}");
        let line = text.strip_prefix('\u{feff}').unwrap_or(text).split('\n').nth(place.line - 1).unwrap();
        assert!((1..=line.chars().count() + 1).contains(&place.column), "{item:?}");
        assert!(line.contains(&place.text) || place.text.len() > 100, "{item:?}");
        assert!(!item.message.is_empty() && !item.help.is_empty(), "{item:?}");
    }
    assert!(diagnostics.to_string().contains("no device was touched"));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_text_is_answered(text in any::<String>()) {
        is_answered(&text);
    }

    #[test]
    fn any_pieces_of_plans_are_answered(text in pieces()) {
        is_answered(&text);
    }

    /// The project's tree of a document is what another YAML reader makes of it.
    #[test]
    fn what_is_accepted_another_yaml_reader_accepts_too(text in pieces()) {
        if parse(&text).is_ok() {
            prop_assert!(serde_yaml::from_str::<serde_yaml::Value>(&text).is_ok(), "{text}");
        }
    }
}

proptest! {
    // Each case compiles the expressions of a whole plan.
    #![proptest_config(ProptestConfig { cases: 60, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_plan_with_one_change_is_answered(at in 0usize..2000, what in "\\PC|[ \n\t:,\\[\\]{}\"'&*#-]", remove in 0usize..8) {
        let text = fs::read_to_string("plans/usb-line.yaml").unwrap();
        let characters: Vec<char> = text.chars().collect();
        let at = at % characters.len();
        let rest = (at + remove).min(characters.len());
        let changed: String = characters[..at].iter().copied().chain(what.chars()).chain(characters[rest..].iter().copied()).collect();
        is_answered(&changed);
    }
}
