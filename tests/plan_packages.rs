//! Packages in plans: what an upload of one means, and what `flashfleet check` says of it. What is wrong with them is in
//! `tests/data/plans/packages.yaml`.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::fs;
use std::path::PathBuf;

use assert_cmd::Command;
use flashfleet::image::{Flags, ImageBuilder, TlvType};
use flashfleet::plan::{self, Plan, Step};
use rstest::{fixture, rstest};
use serde_json::{Value, json};
use tempfile::TempDir;

#[path = "common/package.rs"]
mod package;

use package::pack;

/// A folder with an image, a package of two and a package of a pair.
#[fixture]
fn folder() -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    let image = |version: &str| ImageBuilder::new().version(version).payload(version.as_bytes());
    let app =
        image("2.4.0").protected_tlv(TlvType::DEPENDENCY, &[1, 0, 0, 0, 1, 5, 0, 0, 0, 0, 0, 0]).build();
    let net = image("1.5.0").flags(Flags::COMPRESSED_LZMA2).build();
    let two =
        br#"{"files": [{"file": "app.bin", "image_index": "0"}, {"file": "net.bin", "image_index": "1"}]}"#;
    let pair = br#"{"files": [{"file": "a", "image_index": 0, "slot": 0}, {"file": "b", "image_index": 0, "slot": 1}]}"#;
    for (name, content) in [
        ("app.bin", app.clone()),
        ("dfu.zip", pack(&[("manifest.json", two), ("app.bin", &app), ("net.bin", &net)])),
        ("pair.zip", pack(&[("manifest.json", pair), ("a", &net), ("b", &image("1.5.1").build())])),
    ] {
        fs::write(folder.path().join(name), content).unwrap();
    }
    folder
}

fn write(folder: &TempDir, steps: &str) -> PathBuf {
    let path = folder.path().join("plan.yaml");
    let text = format!(
        "version: 1\nimages: {{ app: {{ file: app.bin }}, dfu: {{ file: dfu.zip }}, pair: {{ file: pair.zip }} }}\n\
         targets: [{{ name: a, match: {{ usb: \"2fe3:.*\" }}, steps: [{steps}] }}]\n"
    );
    fs::write(&path, text).unwrap();
    path
}

fn names(plan: &Plan) -> Vec<String> {
    plan.targets[0].steps.iter().map(Step::name).collect()
}

#[rstest]
#[case::all("upload: dfu", &["upload dfu", "upload dfu to image 1"])]
#[case::all_by_map("upload: { image: dfu }", &["upload dfu", "upload dfu to image 1"])]
#[case::one("upload: { image: dfu, image_number: 1 }", &["upload dfu to image 1"])]
#[case::a_pair_is_one("upload: pair", &["upload pair"])]
#[case::of_its_own("upload: { image: app, image_number: 3 }", &["upload app to image 3"])]
fn an_upload_of_a_package_is_one_of_each_image(
    folder: TempDir,
    #[case] step: &str,
    #[case] expected: &[&str],
) {
    assert_eq!(names(&plan::load(&write(&folder, step)).unwrap()), expected);
}

#[rstest]
fn options_hold_for_every_image(folder: TempDir) {
    let plan =
        plan::load(&write(&folder, "upload: { image: dfu, upgrade_only: true, force: true }")).unwrap();
    let both = plan.targets[0]
        .steps
        .iter()
        .all(|step| matches!(step, Step::Upload { upgrade_only: true, force: true, .. }));
    assert!(both && plan.targets[0].steps.len() == 2);
}

#[rstest]
fn the_default_steps_upload_every_image_of_a_package(folder: TempDir) {
    let text = "version: 1\nimages: { app: { file: dfu.zip, version: \">=1\" } }\n\
                targets: [{ name: a, match: { usb: \"2fe3:.*\" } }]\n";
    let plan = plan::parse(text, &folder.path().join("plan.yaml")).unwrap();
    assert_eq!(names(&plan), ["upload app", "upload app to image 1", "test-boot", "confirm", "reset"]);
    assert_eq!(plan.images["app"].members().len(), 2);
}

#[rstest]
fn check_says_what_is_in_a_package(folder: TempDir) {
    let path = write(&folder, "upload: dfu, test-boot");
    let check = |options: &[&str]| {
        let mut command = Command::new(assert_cmd::cargo::cargo_bin!("flashfleet"));
        let output = command.arg("check").args(options).arg(&path).assert().code(0).get_output().clone();
        (String::from_utf8(output.stdout).unwrap(), String::from_utf8(output.stderr).unwrap())
    };
    let (_, shown) = check(&[]);
    for part in [
        "  image dfu: package of 2 images\n",
        "    image 0: app.bin, version 2.4.0, ",
        "      needs image 1, version 1.5.0 or later\n",
        "    image 1: net.bin, version 1.5.0, ",
        " bytes, compressed, hash ",
        "    image 0, slot 1: b, version 1.5.1, ",
        "  image app: version 2.4.0, ",
        "upload dfu, upload dfu to image 1, test-boot",
    ] {
        assert!(shown.contains(part), "{part:?} is missing in\n{shown}");
    }

    let document: Value = serde_json::from_str(&check(&["--json"]).0).unwrap();
    let images = document["plan"]["images"].as_array().unwrap();
    let of = |name: &str| images.iter().find(|image| image["name"] == name).unwrap();
    assert_eq!((&of("dfu")["version"], &of("app")["version"]), (&Value::Null, &json!("2.4.0")));
    let net = &of("dfu")["images"][1];
    assert_eq!(
        (&net["file"], &net["image_number"], &net["slot"]),
        (&json!("net.bin"), &json!(1), &Value::Null)
    );
    assert_eq!(net["flags"], json!(["COMPRESSED_LZMA2"]));
    assert_eq!(of("dfu")["images"][0]["dependencies"], json!(["image 1, version 1.5.0 or later"]));
    assert_eq!(
        (&of("app")["images"][0]["file"], &of("app")["images"][0]["image_number"]),
        (&Value::Null, &Value::Null)
    );
}
