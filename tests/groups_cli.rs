//! `flashfleet smp` as a person runs it, against `flashfleet sim` behind real endpoints.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::io::{BufRead as _, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};

use flashfleet::image::ImageBuilder;
use serde_json::Value;
use sha2::{Digest as _, Sha256};
use tempfile::TempDir;

/// A simulated device behind a real endpoint, and a folder.
struct Bench {
    sim: Child,
    address: String,
    folder: TempDir,
}

/// What the program said.
#[derive(Debug)]
struct Said {
    exit: i32,
    out: String,
    err: String,
}

impl Bench {
    fn new(kind: &str) -> Self {
        Self::with(kind, "")
    }

    /// A device with every group, and what `more` says of it.
    fn with(kind: &str, more: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let spec = folder.path().join("spec.yaml");
        let statistics = if more.contains("statistics") { "" } else { "statistics: [smp]," };
        let text = format!(
            "{{ groups: [0, 1, 2, 3, 8, 9, 10, 63], {statistics} memory_pools: true, boot_ms: 50, {more} }}"
        );
        std::fs::write(&spec, text).unwrap();
        let mut sim = Command::new(env!("CARGO_BIN_EXE_flashfleet"))
            .args(["sim", "--kind", kind, "--spec"])
            .arg(&spec)
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut address = String::new();
        BufReader::new(sim.stdout.take().unwrap()).read_line(&mut address).unwrap();
        Self { sim, address: address.trim().to_owned(), folder }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn smp(&self, arguments: &[&str]) -> Said {
        say(self.folder.path(), &[&["smp", &self.address], arguments].concat())
    }

    /// The same with something on standard input.
    fn smp_with(&self, arguments: &[&str], input: &[u8]) -> Said {
        let mut child = program(self.folder.path(), &[&["smp", &self.address], arguments].concat())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        child.stdin.take().unwrap().write_all(input).unwrap();
        said(child.wait_with_output().unwrap())
    }

    /// What a command that succeeds tells people.
    #[track_caller]
    fn text(&self, arguments: &[&str]) -> String {
        let said = self.smp(arguments);
        assert_eq!((said.exit, said.err.as_str()), (0, ""), "{arguments:?}");
        said.out
    }

    /// What a command that succeeds tells programs.
    #[track_caller]
    fn json(&self, arguments: &[&str]) -> Value {
        let said = self.smp(&[arguments, &["--json"]].concat());
        assert_eq!((said.exit, said.err.as_str()), (0, ""), "{arguments:?}");
        let mut document: Value = serde_json::from_str(&said.out).unwrap();
        assert_eq!(document["schema"], "flashfleet.smp/1");
        assert_eq!(document["device"], self.address);
        let words = document["command"].as_str().unwrap().split(' ').count();
        assert_eq!(document["command"], arguments[..words].join(" "));
        document["result"].take()
    }
}

impl Drop for Bench {
    fn drop(&mut self) {
        let _ = self.sim.kill();
        let _ = self.sim.wait();
    }
}

fn program(folder: &Path, arguments: &[&str]) -> Command {
    let mut program = Command::new(env!("CARGO_BIN_EXE_flashfleet"));
    program.args(arguments).current_dir(folder);
    program
}

fn said(output: Output) -> Said {
    Said {
        exit: output.status.code().unwrap(),
        out: String::from_utf8(output.stdout).unwrap(),
        err: String::from_utf8(output.stderr).unwrap(),
    }
}

fn say(folder: &Path, arguments: &[&str]) -> Said {
    said(program(folder, arguments).output().unwrap())
}

/// Without a device: the program in any folder.
fn alone(arguments: &[&str]) -> Said {
    say(Path::new("."), arguments)
}

#[test]
fn os() {
    let bench = Bench::new("udp");
    assert_eq!(bench.text(&["os", "echo", "hi there"]), "hi there\n");
    assert_eq!(bench.json(&["os", "echo", "hi"])["text"], "hi");
    let tasks = bench.text(&["os", "tasks"]);
    assert!(tasks.contains("sysworkq  0   -1        0x02   232         1024        0\n"), "{tasks}");
    let tasks = bench.json(&["os", "tasks"]);
    assert_eq!(tasks["tasks"][0]["stack_size_bytes"], 1024);
    assert!(bench.text(&["os", "memory-pools"]).contains("netbuf  384"));
    assert_eq!(bench.json(&["os", "memory-pools"])["pools"][0]["blocks"], 4);
    let unset = bench.smp(&["os", "time", "get"]);
    assert_eq!(unset.exit, 100);
    assert!(
        unset.err.contains("error[smp.os_mgmt.rtc_not_set]") && unset.err.contains("help:"),
        "{}",
        unset.err
    );
    assert_eq!(
        bench.text(&["os", "time", "set", "2026-11-25T20:52:29+01:00"]),
        "clock set to 2026-11-25T19:52:29\n"
    );
    assert_eq!(bench.json(&["os", "time", "get"])["datetime"], "2026-11-25T19:52:29");
    bench.text(&["os", "time", "set"]);
    assert_eq!(bench.text(&["os", "params"]), "4 buffers of 384 bytes\n");
    assert_eq!(bench.json(&["os", "params"])["buf_size"], 384);
    assert_eq!(bench.text(&["os", "info", "--format", "sv"]), "Zephyr 4.4.0\n");
    assert!(bench.text(&["os", "info"]).contains("kernel version     4.4.0\n"));
    assert_eq!(bench.json(&["os", "info"])["hardware_platform"], "flashfleet_sim");
    assert_eq!(bench.text(&["os", "bootloader"]), "MCUboot, mode 9: swap using offset\n");
    assert_eq!(bench.json(&["os", "bootloader"])["mode"], 9);
    assert_eq!(bench.text(&["os", "reset", "--boot-mode", "normal"]), "the device says that it will reset\n");
}

#[test]
fn image() {
    let bench = Bench::new("tcp");
    let image = ImageBuilder::new().version("2.0.0").payload(&[0x5a; 3000]).build();
    std::fs::write(bench.path("app.bin"), image).unwrap();
    let first = bench.json(&["image", "list"])["images"][0].take();
    assert_eq!(
        (&first["version"], &first["active"], &first["slot"]),
        (&"1.0.0".into(), &true.into(), &0.into())
    );
    let uploaded = bench.json(&["image", "upload", "app.bin"]);
    assert_eq!(uploaded["version"], "2.0.0");
    let hash = uploaded["hash"].as_str().unwrap();
    let list = bench.text(&["image", "list"]);
    assert!(list.contains(&format!("0      1     2.0.0    bootable                   {hash}\n")), "{list}");
    let unproven = bench.smp(&["image", "confirm", "app.bin"]);
    assert_eq!(unproven.exit, 2);
    assert!(unproven.err.contains("cli.confirm_unproven"), "{}", unproven.err);
    assert_eq!(bench.json(&["image", "test", hash])["images"][1]["pending"], true);
    bench.text(&["os", "reset"]);
    // It answers first and resets a moment later.
    let booted = (0..100).find_map(|_| {
        let said = bench.smp(&["image", "list", "--json", "--timeout", "200ms", "--retries", "0"]);
        let document: Value = serde_json::from_str(&said.out).ok()?;
        let running = document["result"]["images"][0].clone();
        (running["version"] == "2.0.0").then_some(running)
    });
    assert_eq!(booted.unwrap()["confirmed"], false);
    assert_eq!(bench.json(&["image", "confirm", "app.bin"])["images"][0]["confirmed"], true);
    assert_eq!(bench.json(&["image", "confirm"])["images"][0]["confirmed"], true);
    assert_eq!(bench.text(&["image", "erase", "--slot", "1"]), "erased\n");
    assert_eq!(bench.json(&["image", "slots"])["images"][0]["slots"][1]["size"], 512 * 1024);
    assert!(bench.text(&["image", "slots"]).starts_with("IMAGE  SLOT  BYTES"));
}

/// What comes out of a pipe is an image as much as what lies in a file, and `any` is any file.
#[test]
fn images_from_standard_input_and_of_other_kinds() {
    let bench = Bench::new("udp");
    let image = ImageBuilder::new().version("2.0.0").payload(&[0x5a; 2000]).build();
    let sha256 = hex::encode(Sha256::digest(&image));
    let upload =
        |more: &[&str], input: &[u8]| bench.smp_with(&[&["image", "upload", "-"], more].concat(), input);

    let said = upload(&["--checksum", &sha256], &image);
    assert_eq!((said.exit, said.err.as_str()), (0, ""));
    assert!(bench.text(&["image", "list"]).contains("2.0.0"));
    let said = upload(&["--sha256", &"ab".repeat(32)], &image);
    assert!(said.exit == 2 && said.err.starts_with("error[image.sha256]: expected - to have"), "{said:?}");

    let said = upload(&[], b"no image");
    assert!(said.exit == 2 && said.err.starts_with("error[image."), "{said:?}");
    // The device looks for itself: the first chunk of an image begins with MCUboot's magic.
    let said = upload(&["--format", "any"], &[0x5a; 500]);
    assert!(said.exit == 100 && said.err.contains("smp.img_mgmt.invalid_image_header_magic"), "{said:?}");
    let said = upload(&["--format", "any", "--json"], &image);
    let document: Value = serde_json::from_str(&said.out).unwrap();
    assert_eq!((said.exit, &document["result"]["hash"]), (0, &Value::Null), "nobody looked into it");
    let said = upload(&["--format", "any"], b"");
    assert!(said.exit == 2 && said.err.starts_with("error[image.empty]"), "{said:?}");
}

#[test]
fn without_a_command_a_device_is_asked_whether_it_answers() {
    let bench = Bench::new("udp");
    assert!(bench.text(&[]).starts_with("the device answers, after "));
    let said = alone(&["smp", "udp:127.0.0.1:9", "--timeout", "50ms", "--retries", "0", "--json"]);
    assert!(said.exit == 100 && said.err.starts_with("error[link."), "{said:?}");
    let document: Value = serde_json::from_str(&said.out).unwrap();
    assert_eq!((&document["command"], &document["error"]["class"]), (&"answers".into(), &"link".into()));
}

#[test]
fn statistics_settings_storage_and_enumeration() {
    let bench = Bench::new("udp");
    assert_eq!(bench.text(&["stat", "list"]), "smp\n");
    assert!(bench.json(&["stat", "show", "smp"])["fields"]["requests"].as_u64().unwrap() > 0);
    assert!(
        bench
            .text(&["stat", "show", "smp"])
            .starts_with("STATISTICS  ENTRY     COUNT\nsmp         requests  ")
    );
    assert_eq!(bench.json(&["stat", "show"])["statistics"][0]["name"], "smp");

    bench.text(&["settings", "write", "a/n", "-2", "--type", "i16"]);
    assert_eq!(bench.text(&["settings", "read", "a/n"]), "feff  (2 bytes, number 65534)\n");
    bench.text(&["settings", "write", "a/t", "hello"]);
    assert_eq!(bench.json(&["settings", "read", "a/t"])["text"], "hello");
    bench.text(&["settings", "commit"]);
    bench.text(&["settings", "save", "a"]);
    bench.text(&["settings", "write", "a/t", "00", "--type", "hex"]);
    bench.text(&["settings", "load"]);
    assert_eq!(bench.json(&["settings", "read", "a/t", "--max-size", "2"])["text"], "he");
    bench.text(&["settings", "delete", "a/t"]);
    assert!(bench.text(&["zephyr", "erase-storage"]).starts_with("storage erased"));

    assert_eq!(bench.text(&["enum", "count"]), "8\n");
    assert_eq!(bench.json(&["enum", "list"])["groups"], serde_json::json!([0, 1, 2, 3, 8, 9, 10, 63]));
    assert_eq!(bench.text(&["enum", "show", "7"]), "63  zephyr, the last one\n");
    let details = bench.text(&["enum", "details", "fs"]);
    assert_eq!(details, "GROUP  NAME     COMMANDS\n8      fs mgmt  5\n");
}

/// Statistics that the device cannot tell do not take the others with them.
#[test]
fn statistics_that_are_refused_are_told_beside_the_others() {
    let refuse = "fault: { refuse: [{ group: 2, command: 0, rc: 7, from: 1, times: 1 }] }";
    let bench = Bench::with("udp", &format!("statistics: [big, small], {refuse}"));
    let said = bench.smp(&["stat", "show"]);
    assert_eq!((said.exit, said.err.as_str()), (100, ""), "{said:?}");
    let lines: Vec<&str> = said.out.lines().collect();
    assert!(lines[1].starts_with("small       requests  "), "{lines:?}");
    assert!(
        lines[2].starts_with("big: error[smp.mgmt.message_too_large]: expected success of statistics"),
        "{lines:?}"
    );
    let bench = Bench::with("udp", &format!("statistics: [big, small], {refuse}"));
    let said = bench.smp(&["--json", "stat", "show"]);
    let told: Value = serde_json::from_str(&said.out).unwrap();
    assert_eq!(told["result"]["statistics"][0]["error"]["code"], "smp.mgmt.message_too_large");
    assert!(told["result"]["statistics"][1]["fields"]["requests"].is_u64(), "{told:#}");
}

/// Every request is sent in the version that is asked for: errors come back in its form.
#[test]
fn the_version_of_the_protocol_is_chosen() {
    let bench = Bench::new("tcp");
    let code = |arguments: &[&str]| {
        let said = bench.smp(arguments);
        assert_eq!(said.exit, 100, "{said:?}");
        said.err.split(['[', ']']).nth(1).unwrap().to_owned()
    };
    let show = ["stat", "show", "none"];
    let said = bench.smp(&[&["--json"], &show[..]].concat());
    let told: Value = serde_json::from_str(&said.out).unwrap();
    assert_eq!((&told["command"], &told["result"]), (&"stat show".into(), &Value::Null));
    assert_eq!(told["error"]["code"], "smp.stat_mgmt.invalid_stat_name", "{told:#}");
    assert_eq!(told["error"]["help"], "check the name: the device has none like it");
    assert_eq!(code(&show), "smp.stat_mgmt.invalid_stat_name");
    assert_eq!(code(&[&["--protocol", "2"], &show[..]].concat()), "smp.stat_mgmt.invalid_stat_name");
    assert_eq!(code(&[&show[..], &["--protocol", "1"]].concat()), "smp.mgmt.no_entry");
    assert_eq!(code(&["--protocol", "1", "fs", "get", "/lfs1/none"]), "smp.mgmt.no_entry");
    let image = ImageBuilder::new().version("0.9.0").payload(&[0x5a; 3000]).build();
    std::fs::write(bench.path("old.bin"), image).unwrap();
    let upload = ["image", "upload", "old.bin", "--upgrade-only"];
    assert_eq!(code(&upload), "smp.img_mgmt.current_version_is_newer");
    assert_eq!(code(&[&["--protocol", "1"], &upload[..]].concat()), "smp.mgmt.bad_state");
    for wrong in ["0", "3", "x"] {
        assert_eq!(bench.smp(&["--protocol", wrong, "os", "params"]).exit, 2);
    }
}

#[test]
fn files() {
    let bench = Bench::new("pty");
    let data: Vec<u8> = (0..4000_u32).flat_map(u32::to_le_bytes).collect();
    std::fs::write(bench.path("a.bin"), &data).unwrap();
    let put = bench.json(&["fs", "put", "a.bin", "/lfs1/"]);
    assert_eq!((&put["remote"], &put["checked"]), (&"/lfs1/a.bin".into(), &"crc32".into()));
    assert_eq!(bench.text(&["fs", "status", "/lfs1/a.bin"]), "16000 bytes\n");
    assert_eq!(bench.text(&["fs", "get", "/lfs1/a.bin", "b.bin"]), "got 16000 bytes: b.bin\n");
    assert_eq!(std::fs::read(bench.path("b.bin")).unwrap(), data);
    std::fs::write(bench.path("t.txt"), "123456789").unwrap();
    assert_eq!(bench.text(&["fs", "put", "t.txt", "/lfs1/t"]), "put 9 bytes, crc32 compared\n");
    assert_eq!(bench.text(&["fs", "get", "/lfs1/t", "-"]), "123456789");
    assert_eq!(bench.text(&["fs", "hash", "/lfs1/t"]), "cbf43926  crc32 of 9 bytes\n");
    let part = bench.json(&["fs", "hash", "/lfs1/t", "--type", "sha256", "--offset", "1", "--length", "2"]);
    assert_eq!((&part["offset"], &part["bytes"]), (&1.into(), &2.into()));
    assert_eq!(
        bench.text(&["fs", "hash-types"]),
        "TYPE    FORMAT  BYTES\ncrc32   number  4\nsha256  bytes   32\n"
    );
    assert_eq!(bench.text(&["fs", "close"]), "closed\n");

    let missing = bench.smp(&["fs", "get", "/lfs1/none"]);
    assert_eq!(missing.exit, 100);
    assert!(missing.err.contains("error[smp.fs_mgmt.file_not_found]"), "{}", missing.err);
    let left: Vec<_> =
        std::fs::read_dir(bench.folder.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(left.len(), 4, "nothing half got stays behind: {left:?}");
    let both = bench.smp(&["fs", "get", "/lfs1/t", "-", "--json"]);
    assert_eq!(both.exit, 2, "{both:?}");
    assert_eq!(bench.smp(&["fs", "put", "none.bin", "/lfs1/t"]).exit, 102);
    assert_eq!(bench.smp(&["fs", "get", "/lfs1/t", "no/such/folder"]).exit, 102);
}

#[test]
fn shell_and_raw() {
    let bench = Bench::new("udp");
    assert_eq!(bench.text(&["shell", "kernel", "version"]), "Zephyr version 4.4.0\n");
    assert_eq!(bench.text(&["shell", "echo", "--json", "-x"]), "--json -x\n", "all of it is the command");
    let failed = bench.smp(&["--json", "shell", "nothing"]);
    assert_eq!(failed.exit, 100);
    let document: Value = serde_json::from_str(&failed.out).unwrap();
    assert_eq!(document["result"]["returned"], -8);

    assert_eq!(bench.json(&["raw", "write", "os", "0", r#"{"d": "hi"}"#])["r"], "hi");
    assert_eq!(bench.json(&["raw", "read", "0", "0", "a16164626869"])["r"], "hi");
    let hash = &bench.json(&["raw", "read", "image", "0"])["images"][0]["hash"]["$bytes"];
    assert_eq!(hash.as_str().unwrap().len(), 64);
    let refused = bench.smp(&["raw", "read", "stat", "0", r#"{"name": "x"}"#]);
    assert!(refused.err.contains("error[smp.stat_mgmt.invalid_stat_name]"), "{}", refused.err);
    let refused = bench.smp(&["raw", "read", "stat", "0", r#"{"name": "x"}"#, "--protocol", "1"]);
    assert!(refused.err.contains("error[smp.mgmt.no_entry]"), "{}", refused.err);
    assert_eq!(bench.smp(&["raw", "read", "0", "99"]).exit, 100);
    for wrong in [
        &["raw", "read", "0", "0", "[1]"][..],
        &["raw", "read", "0", "0", "zz"],
        &["raw", "read", "nix", "0"],
    ] {
        assert_eq!(bench.smp(wrong).exit, 2, "{wrong:?}");
    }
}

#[test]
fn a_request_that_the_device_would_drop_is_told() {
    let bench = Bench::with("pty", "buf_size: 96");
    let long = bench.smp(&["os", "echo", &"x".repeat(300)]);
    assert_eq!(long.exit, 2);
    assert!(
        long.err.contains("error[smp.request_too_long]") && long.err.contains("92 bytes"),
        "{}",
        long.err
    );
    assert_eq!(bench.text(&["os", "echo", &"x".repeat(70)]).len(), 71);
}

#[test]
fn lost_answers() {
    let lose = "fault: { lose_answer: [{ group: 0, command: 0 }, { group: 0, command: 5 }] }";
    let bench = Bench::with("udp", lose);
    assert_eq!(bench.smp(&["os", "echo", "hi", "--timeout", "100ms", "--retries", "0"]).exit, 100);
    assert_eq!(bench.text(&["os", "echo", "hi", "--timeout", "100ms"]), "hi\n");
    let reset = bench.smp(&["os", "reset", "--timeout", "100ms"]);
    assert_eq!(reset.exit, 100);
    assert!(reset.err.contains("error[link.unanswered]"), "{}", reset.err);
}

#[test]
fn devices_that_cannot_be() {
    let sim = alone(&["smp", "sim:line", "os", "params"]);
    assert_eq!(sim.exit, 2);
    assert!(sim.err.contains("simulated devices exist within a plan only"), "{}", sim.err);
    assert_eq!(alone(&["smp", "nonsense", "os", "params"]).exit, 2);
    assert_eq!(alone(&["smp", "serial:/dev/ttyNONE", "os", "params"]).exit, 100);
    assert_eq!(alone(&["smp", "udp:127.0.0.1", "os"]).exit, 2);
    assert_eq!(alone(&["smp", "udp:127.0.0.1", "os", "params", "--buffer", "4"]).exit, 2);
    assert_eq!(alone(&["smp", "udp:127.0.0.1", "image", "test", "abcd"]).exit, 2);
}

/// Ctrl-C in the middle of a get: the exit code says so, and no file is there.
#[cfg(unix)]
#[test]
fn an_interrupt_leaves_no_half_file() {
    use nix::sys::signal::{Signal, kill};
    let bench = Bench::with("pty", "baud: 9600");
    let data = vec![7; 2000];
    std::fs::write(bench.path("a.bin"), data).unwrap();
    bench.text(&["fs", "put", "a.bin", "/lfs1/a", "--timeout", "10s"]);
    let child = Command::new(env!("CARGO_BIN_EXE_flashfleet"))
        .args(["smp", &bench.address, "fs", "get", "/lfs1/a", "b.bin", "--timeout", "10s"])
        .current_dir(bench.folder.path())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // The file that is not yet named shows that it has begun.
    let begun = || std::fs::read_dir(bench.folder.path()).unwrap().count() > 2;
    while !begun() {
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
    kill(nix::unistd::Pid::from_raw(child.id().try_into().unwrap()), Signal::SIGINT).unwrap();
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(130));
    assert!(String::from_utf8(output.stderr).unwrap().contains("no file was written"));
    assert!(!bench.path("b.bin").exists() && !begun());
}
