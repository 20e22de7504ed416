//! The steps that are not about images, on Zephyr servers that have the groups: shell, files, storage, any command.

use serde_json::Value;

use crate::error::{Context, Result};
use crate::fleet_run::{Station, step};
use crate::native::{SerialServer, UdpServer};

/// More than fits into one message, and not a multiple of anything.
fn content() -> Vec<u8> {
    (0..5003_u32).map(|n| n.to_le_bytes()[0].wrapping_mul(37)).collect()
}

#[test]
fn device_steps_hold_on_real_servers_over_serial_and_udp() -> Result<()> {
    let serial = SerialServer::start("serial")?;
    let udp = UdpServer::start("udp")?;
    let station = Station::new()?;
    std::fs::write(station.path("config.bin"), content()).context("a file")?;
    let plan = format!(
        "version: 1
name: steps
targets:
  - name: bench
    match: {{ port: \"{}\" }}
    steps:
      - shell: {{ run: \"kernel version\", expect: \"^Zephyr version 4\\\\.\" }}
      - put: {{ file: config.bin, to: /lfs1/ }}
      - get: {{ from: /lfs1/config.bin, file: \"got/{{target}}-{{address}}.bin\" }}
      - smp: {{ op: read, group: os, command: 6, expect: {{ buf_count: {} }} }}
      - smp: {{ op: write, group: os, command: 0, data: {{ d: grüße }}, expect: {{ r: grüße }} }}
  - name: network
    match: {{ udp: [\"{}\"] }}
    steps:
      - shell: {{ run: \"kernel version\", expect: \"^Zephyr version 4\\\\.\" }}
      - put: {{ file: config.bin, to: /lfs1/other.bin }}
      - get: {{ from: /lfs1/other.bin, file: \"got/{{target}}.bin\" }}
",
        serial.terminal().display(),
        serial.server.buf_count,
        udp.address()
    );
    let run = station.run("steps", &plan, &[])?;
    assert_eq!(run.code, 0, "{run}");
    let terminal = format!("serial:{}", serial.terminal().display());
    let device = run.device(&terminal)?;
    let put = &step(device, "put /lfs1/config.bin")?["detail"]["notes"][0];
    assert_eq!(put, "put 5003 bytes, crc32 compared");
    let name = format!("got/bench-{}.bin", terminal.replace([':', '/'], "_"));
    for name in [name.as_str(), "got/network.bin"] {
        assert!(std::fs::read(station.path(name)).context(name)? == content(), "{name} is another file");
    }

    // What is there already is left alone, found by the server's own checksum.
    let run = station.run("again", &plan, &[])?;
    let skipped = &step(run.device(&terminal)?, "put /lfs1/config.bin")?["detail"]["skipped"];
    assert!(skipped.as_str().is_some_and(|why| why.contains("crc32")), "{skipped}");

    // These servers keep their files in that very partition.
    let erase = "    steps:\n      - erase-storage\n";
    let (head, _) = plan.split_once("    steps:\n").unwrap_or_default();
    let run = station.run("erase", &format!("{head}{erase}"), &[])?;
    assert_eq!((run.code, &run.device(&terminal)?["changed"]), (0, &true.into()), "{run}");
    Ok(())
}

#[test]
fn device_steps_fail_on_real_servers_with_the_servers_own_word() -> Result<()> {
    let serial = SerialServer::start("serial")?;
    let station = Station::new()?;
    let cases = [
        (
            "shell: { run: \"kernel version\", expect: \"Zephyr version 1\" }",
            "shell kernel version",
            "shell.mismatch",
        ),
        ("shell: { run: nonsense }", "shell nonsense", "shell.failed"),
        ("get: { from: /lfs1/none, file: none.bin }", "get /lfs1/none", "smp.fs_mgmt.file_not_found"),
        ("settings: { set: { none/such: x } }", "settings", "smp.settings_mgmt.root_key_not_found"),
        ("smp: { op: read, group: 64, command: 0 }", "smp read 64 0", "smp.mgmt.not_supported"),
        ("smp: { op: read, group: os, command: 6, expect: { buf_size: 1 } }", "smp read 0 6", "smp.mismatch"),
        // This build has no real-time clock.
        ("set-time", "set-time", "smp.mgmt.not_supported"),
    ];
    for (number, (text, name, code)) in cases.into_iter().enumerate() {
        let plan = format!(
            "version: 1
targets:
  - name: bench
    match: {{ port: \"{}\" }}
    steps:
      - {text}
",
            serial.terminal().display()
        );
        let run = station.run(&format!("case{number}"), &plan, &[])?;
        let device = run.device(format!("serial:{}", serial.terminal().display()))?;
        assert_eq!(run.code, 100, "{text}: {run}");
        let cause: &Value = &step(device, name)?["cause"];
        assert_eq!(
            (&cause["code"], &device["verdict"]),
            (&code.into(), &"failed".into()),
            "{text}: {cause:#}"
        );
    }
    assert!(!station.path("none.bin").exists(), "nothing is left behind");
    Ok(())
}
