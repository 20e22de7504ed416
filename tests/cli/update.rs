//! `update`, `completions` and `man`, and the example plan of the steps that are not about images.

use std::io::{BufRead as _, BufReader, Write as _};
use std::process::{Child, Stdio};

use flashfleet::image::Image;
use serde_json::Value;
use sha2::{Digest as _, Sha256};

use super::package::pack;
use super::station::{Said, Station, Witness, image, read_json, verdict};

/// A simulated device behind a real endpoint.
struct Bench {
    station: Station,
    sim: Child,
    address: String,
}

impl Bench {
    fn new(kind: &str, more: &str) -> Self {
        let station = Station::new();
        station.write("spec.yaml", format!("{{ boot_ms: 50, {more} }}").as_bytes());
        let mut sim = station
            .command(&["sim", "--kind", kind, "--spec", "spec.yaml"])
            .stdout(Stdio::piped())
            .spawn()
            .expect("the simulator runs");
        let mut address = String::new();
        BufReader::new(sim.stdout.take().expect("its output")).read_line(&mut address).expect("an address");
        Self { station, sim, address: address.trim().to_owned() }
    }

    /// `flashfleet update`, and its report.
    fn update(&self, arguments: &[&str]) -> (Said, Value) {
        let fixed = ["update", &self.address, "app.bin", "--json", "report.json", "--progress", "none"];
        let said = self.station.say(&[&fixed, arguments].concat());
        let report = read_json(&self.station.path("report.json")).expect("a report");
        (said, report)
    }

    /// The running version, and what else holds of it.
    fn running(&self) -> String {
        let said = self.station.say(&["smp", &self.address, "image", "list"]);
        assert_eq!(said.exit, 0, "{}", said.err);
        let active = said.out.lines().find(|line| line.contains("active")).expect("an image runs");
        active.split_whitespace().skip(2).take(2).collect::<Vec<_>>().join(" ")
    }
}

impl Drop for Bench {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.sim.kill();
        let _ = self.sim.wait();
    }
}

fn steps(report: &Value) -> Vec<String> {
    let steps = report["devices"][0]["steps"].as_array().expect("steps");
    steps.iter().map(|step| step["name"].as_str().expect("a name").to_owned()).collect()
}

#[test]
fn one_device_is_updated_proven_and_reported_as_in_a_run() {
    for kind in ["pty", "tcp"] {
        let bench = Bench::new(kind, "");
        let (said, report) = bench.update(&["--junit", "report.xml", "--journal", "journal.jsonl"]);
        assert_eq!(said.exit, 0, "{kind}: {}", said.err);
        assert_eq!((said.out.as_str(), report["summary"]["passed"].as_u64()), ("", Some(1)));
        assert_eq!(steps(&report), ["upload image", "test-boot", "confirm", "reset"]);
        assert_eq!((&report["run"]["plan"], &report["run"]["plan_sha256"]), (&"update".into(), &Value::Null));
        let device = &report["devices"][0];
        assert_eq!((&device["address"], &device["changed"]), (&bench.address.as_str().into(), &true.into()));
        let hash = hex::encode(Image::from_bytes(image()).expect("an image").hash());
        assert_eq!(device["images"][0]["after"]["hash"], hash);
        assert_eq!(bench.running(), "2.0.0 active,confirmed,bootable");
        assert!(bench.station.path("report.xml").exists() && bench.station.path("journal.jsonl").exists());
    }
}

#[test]
fn a_package_is_one_upload_for_each_of_its_images() {
    let bench = Bench::new("pty", "");
    let app = std::fs::read(bench.station.path("app.bin")).expect("the image of the station");
    let package = |files: &str| {
        let manifest = format!("{{\"files\": [{files}]}}");
        pack(&[("manifest.json", manifest.as_bytes()), ("a.bin", &app), ("b.bin", &app)])
    };
    let update = |name: &str, files: &str| {
        bench.station.write(name, &package(files));
        let said = bench.station.say(&[
            "update",
            &bench.address,
            name,
            "--json",
            "report.json",
            "--progress",
            "none",
        ]);
        (said, read_json(&bench.station.path("report.json")).expect("a report"))
    };
    // The device has one image: what is for another is refused by it, and nothing is booted.
    let two = r#"{"file": "a.bin", "image_index": "0"}, {"file": "b.bin", "image_index": "1"}"#;
    let before = bench.running();
    let (said, report) = update("two.zip", two);
    assert_eq!(said.exit, 100, "{}", said.err);
    assert_eq!(steps(&report)[..3], ["upload image", "upload image to image 1", "test-boot"]);
    assert_eq!(bench.running(), before);

    let (said, report) = update("one.zip", r#"{"file": "a.bin", "image_index": "0"}"#);
    assert_eq!(said.exit, 0, "{}", said.err);
    assert_eq!(steps(&report), ["upload image", "test-boot", "confirm", "reset"]);
    assert_ne!(bench.running(), before);
}

#[test]
fn the_image_may_come_from_standard_input() {
    let bench = Bench::new("tcp", "");
    let update = |content: &[u8]| {
        let fixed = ["update", &bench.address, "-", "--json", "report.json", "--progress", "none"];
        let mut program = bench.station.command(&fixed);
        program.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut program = program.spawn().expect("the program runs");
        program.stdin.take().expect("its input").write_all(content).expect("it reads all of it");
        Said::from(program.wait_with_output().expect("its end"))
    };
    let image = image();
    let before = bench.running();
    let said = update(&image[..image.len() - 1]);
    assert!(said.exit == 2 && said.err.contains("error[image."), "{}", said.err);
    assert_eq!(bench.running(), before);

    let said = update(&image);
    let report = read_json(&bench.station.path("report.json")).expect("a report");
    assert_eq!((said.exit, report["summary"]["passed"].as_u64()), (0, Some(1)), "{}", said.err);
    let hash = hex::encode(Image::from_bytes(image).expect("an image").hash());
    assert_eq!(report["devices"][0]["images"][0]["after"]["hash"], hash);
    assert_eq!(bench.running(), "2.0.0 active,confirmed,bootable");
}

#[test]
fn what_is_there_already_is_left_alone_unless_it_is_forced() {
    let bench = Bench::new("udp", "");
    assert_eq!(bench.update(&["--confirm-directly"]).0.exit, 0);
    let (said, report) = bench.update(&[]);
    assert_eq!((said.exit, &report["devices"][0]["changed"]), (0, &false.into()), "{}", said.err);
    let (said, report) = bench.update(&["--force", "--skip-reset"]);
    let uploaded = report["devices"][0]["images"][0]["upload"]["bytes"].as_u64();
    assert_eq!((said.exit, uploaded), (0, Some(image().len() as u64)), "{}", said.err);
}

#[test]
fn without_the_reset_nothing_is_said_to_run() {
    let bench = Bench::new("udp", "");
    let (said, report) = bench.update(&["--skip-reset"]);
    assert_eq!(said.exit, 0, "{}", said.err);
    assert!(said.err.contains("not proven to boot"), "{}", said.err);
    assert_eq!(steps(&report), ["upload image", "mark for test"]);
    assert_eq!(report["devices"][0]["images"][0]["after"]["version"], "1.0.0");
    assert_eq!(bench.running(), "1.0.0 active,confirmed,bootable");
    let list = bench.station.say(&["smp", &bench.address, "image", "list"]).out;
    assert!(list.contains("2.0.0") && list.contains("pending"), "{list}");
}

#[test]
fn confirmed_directly_it_boots_once_and_stays() {
    let bench = Bench::new("udp", "");
    let (said, report) = bench.update(&["--confirm-directly"]);
    assert_eq!(said.exit, 0, "{}", said.err);
    assert_eq!(steps(&report), ["upload image", "boot to stay"]);
    assert_eq!(bench.running(), "2.0.0 active,confirmed,bootable");
    let bench = Bench::new("udp", "");
    let (said, report) = bench.update(&["--confirm-directly", "--skip-reset"]);
    assert_eq!((said.exit, steps(&report)), (0, vec!["upload image".to_owned(), "mark to stay".to_owned()]));
    assert_eq!(bench.running(), "1.0.0 active,confirmed,bootable");
}

#[test]
fn a_version_that_is_not_newer_is_refused_where_that_was_asked_for() {
    let bench = Bench::new("udp", "version: \"3.0.0\"");
    let (said, report) = bench.update(&["--upgrade-only"]);
    assert_eq!(said.exit, 100, "{}", said.err);
    let code = "smp.img_mgmt.current_version_is_newer";
    assert_eq!(verdict(&report, 0), ("failed".to_owned(), code.to_owned()));
    assert_eq!(bench.update(&[]).0.exit, 0, "without the option an older one is as good as any");
}

#[test]
fn an_image_that_reverts_is_no_pass() {
    let bench = Bench::new("udp", "fault: { crash_on_test_boot: true }");
    let (said, report) = bench.update(&["--return-within", "20s"]);
    assert_eq!((said.exit, verdict(&report, 0)), (100, ("failed".to_owned(), "image.reverted".to_owned())));
}

#[test]
fn a_pin_that_does_not_hold_and_everything_else_that_is_wrong_touches_no_device() {
    let station = Station::new();
    let witness = Witness::new();
    let address = format!("udp:{}", witness.address());
    station.write("text.bin", b"no image");
    let wrong = "00".repeat(32);
    for (arguments, code) in [
        (&[address.as_str(), "app.bin", "--sha256", &wrong][..], "image.sha256"),
        (&[&address, "text.bin"], "image.foreign"),
        (&[&address, "none.bin"], "image.file_missing"),
        (&["udp:", "app.bin"], "address.empty"),
        (&["sim:device", "app.bin"], "cli.not_supported"),
        (&[&address, "app.bin", "--sha256", "12"], "64 hexadecimal digits"),
        (&[&address, "app.bin", "--return-within", "10ms"], "at least 1s"),
        (&[&address], "<IMAGE>"),
    ] {
        let said = station.say(&[&["update"], arguments].concat());
        assert_eq!(said.exit, 2, "{arguments:?}: {}", said.err);
        assert!(said.err.contains(code), "{code}: {}", said.err);
    }
    assert_eq!(witness.heard().len(), 0);
    let right = hex::encode(Sha256::digest(image()));
    let said = station.say(&[
        "update",
        &address,
        "app.bin",
        "--sha256",
        &right,
        "--timeout",
        "100ms",
        "--retries",
        "0",
        "--json",
        "r.json",
    ]);
    assert_eq!(said.exit, 100, "{}", said.err);
    let report = read_json(&station.path("r.json")).expect("a report");
    assert_eq!(verdict(&report, 0), ("error".to_owned(), "link.no_answer".to_owned()));
    assert_eq!(witness.heard().len(), 3, "one question for each attempt");
}

#[test]
fn a_command_for_a_device_that_nothing_matches_ends_with_4() {
    let said = Station::new().say(&["smp", "usb:dead:beef", "os", "echo", "hi"]);
    assert_eq!((said.exit, said.out.as_str()), (4, ""), "{}", said.err);
    assert!(said.err.contains("device.not_found") && said.err.contains("flashfleet list"), "{}", said.err);
}

#[test]
fn a_device_that_does_not_come_is_reported_and_ends_with_4() {
    let station = Station::new();
    let arguments = ["update", "usb:dead:beef", "app.bin", "--discover", "100ms", "--json", "report.json"];
    let said = station.say(&arguments);
    assert_eq!(said.exit, 4, "{}", said.err);
    let report = read_json(&station.path("report.json")).expect("a report");
    assert_eq!((&report["run"]["exit_code"], &report["devices"]), (&4.into(), &Value::Array(Vec::new())));
    assert!(said.err.contains("within 100ms, found 0"), "{}", said.err);
}

#[test]
fn a_machine_without_bluetooth_is_reported_too() {
    let station = Station::new();
    let arguments = ["update", "ble:Beacon-01", "app.bin", "--discover", "100ms", "--json", "report.json"];
    // No service there: the tests may run where there is Bluetooth.
    let nowhere = format!("unix:path={}", station.path("none").display());
    let mut command = station.command(&arguments);
    let said: Said =
        command.env("DBUS_SYSTEM_BUS_ADDRESS", nowhere).output().expect("the program runs").into();
    assert_eq!(said.exit, 102, "{}", said.err);
    let report = read_json(&station.path("report.json")).expect("a report");
    assert_eq!(report["run"]["exit_code"], 102);
    assert!(said.err.contains("station."), "{}", said.err);
}

#[test]
fn an_output_that_cannot_be_written_is_trouble_of_the_station_before_a_device_is_touched() {
    let station = Station::new();
    let witness = Witness::new();
    station.write("file", b"no folder");
    let address = format!("udp:{}", witness.address());
    let said = station.say(&["update", &address, "app.bin", "--json", "file/report.json"]);
    assert_eq!(said.exit, 102, "{}", said.err);
    assert_eq!(witness.heard().len(), 0);
}

#[test]
fn what_a_device_looks_like_is_in_the_help_and_in_the_manual() {
    let station = Station::new();
    for arguments in
        [["update", "--help"], ["update", "-h"], ["smp", "--help"], ["man", "update"], ["man", "smp"]]
    {
        let out = station.say(&arguments).out.replace("\\-", "-");
        for kind in
            ["serial:/dev/ttyACM0", "usb:2fe3:0004", "ble:NAME-or-ADDRESS", "udp:HOST", "tcp:HOST:PORT"]
        {
            assert!(out.contains(kind), "{arguments:?}: {kind}\n{out}");
        }
    }
    let said = station.say(&["smp", "nothing", "os", "echo", "hi"]);
    assert!(said.err.contains("address.unknown_kind") && said.err.contains("`ble:"), "{}", said.err);
}

#[test]
fn every_shell_gets_its_completions() {
    let station = Station::new();
    for (shell, word) in [
        ("bash", "complete -F"),
        ("zsh", "#compdef flashfleet"),
        ("fish", "complete -c flashfleet"),
        ("powershell", "Register-ArgumentCompleter"),
        ("elvish", "edit:completion"),
    ] {
        let said = station.say(&["completions", shell]);
        assert_eq!((said.exit, said.err.as_str()), (0, ""), "{shell}");
        assert!(said.out.contains(word) && said.out.contains("confirm-directly"), "{shell}");
    }
    let said = station.say(&["completions", "csh"]);
    assert_eq!(said.exit, 2);
    assert!(said.err.contains("possible values: bash"), "{}", said.err);
}

#[test]
fn every_command_has_a_manual_page() {
    let station = Station::new();
    let said = station.say(&["man"]);
    assert_eq!((said.exit, said.err.as_str()), (0, ""));
    assert!(
        said.out.contains(".TH flashfleet 1") && said.out.contains("flashfleet\\-update(1)"),
        "{}",
        said.out
    );
    let said = station.say(&["man", "smp", "image", "upload"]);
    assert!(said.exit == 0 && said.out.contains("upgrade"), "{}", said.out);
    let said = station.say(&["man", "smp", "images"]);
    assert_eq!(said.exit, 2);
    assert!(said.err.contains("cli.unknown_command") && said.err.contains("settings"), "{}", said.err);

    let said = station.say(&["man", "--all", "pages/man1"]);
    assert_eq!((said.exit, said.out.as_str(), said.err.as_str()), (0, "", ""));
    for name in ["flashfleet.1", "flashfleet-run.1", "flashfleet-smp-fs-put.1"] {
        assert!(station.path("pages/man1").join(name).exists(), "{name}");
    }
    station.write("file", b"no folder");
    let said = station.say(&["man", "--all", "file/man1"]);
    assert!(said.exit == 102 && said.err.contains("station.cannot_write"), "{}", said.err);
}

#[test]
fn the_example_of_the_steps_runs_and_leaves_a_record_of_each_device() {
    let station = Station::new();
    for name in ["simulated-steps.yaml", "device.conf"] {
        std::fs::copy(format!("{}/plans/{name}", env!("CARGO_MANIFEST_DIR")), station.path(name))
            .expect("a copy");
    }
    let said = station.say(&["run", "simulated-steps.yaml", "--json", "report.json", "--progress", "none"]);
    assert_eq!(said.exit, 0, "{}", said.err);
    let report = read_json(&station.path("report.json")).expect("a report");
    assert_eq!(report["summary"]["passed"], 4);
    let conf = std::fs::read(station.path("device.conf")).expect("the file");
    for number in 1..=4 {
        let record = station.path(&format!("records/line-sim_device-{number}.conf"));
        assert_eq!(std::fs::read(record).expect("a record"), conf);
    }
}
