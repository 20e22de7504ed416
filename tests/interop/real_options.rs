//! The options of `flashfleet smp`, and the text that it tells people, on real servers. That every command is read right
//! is `real_servers.rs`'s.

use std::net::SocketAddr;
use std::time::Duration;

use serde_json::json;

use crate::bridge::Bridge;
use crate::error::Result;
use crate::native::{SerialServer, UdpServer};
use crate::proxy::{Action, Direction, Frame, Proxy};
use crate::smp_program::Bench;

/// What a server with every group tells people, as far as it is the same on each.
fn assert_tells_people(bench: &Bench, buffers: &str) -> Result<()> {
    assert_eq!(bench.text(&["os", "echo", "grüße, \t you"])?, "grüße, \\t you\n");
    assert_eq!(bench.text(&["os", "params"])?, format!("{buffers}\n"));
    let tasks = bench.text(&["os", "tasks"])?;
    assert!(tasks.starts_with("TASK") && tasks.contains("\nmcumgr smp "), "{tasks}");
    assert_eq!(bench.text(&["os", "info", "--format", "sv"])?, "Zephyr 4.4.0\n");
    let information = bench.text(&["os", "info"])?;
    for line in
        ["kernel name        Zephyr", "kernel version     4.4.0", "hardware platform  native_sim/native"]
    {
        assert!(information.lines().any(|told| told == line), "{line:?} in {information}");
    }
    assert!(bench.text(&["stat", "list"])?.lines().any(|line| line == "smp_svr_stats"));
    let statistics = bench.text(&["stat", "show", "smp_svr_stats"])?;
    assert!(statistics.starts_with("STATISTICS     ENTRY  COUNT\nsmp_svr_stats  ticks  "), "{statistics}");
    assert_eq!(bench.text(&["settings", "commit"])?, "committed\n");
    assert_eq!(bench.text(&["settings", "load"])?, "loaded\n");
    let types = "TYPE    FORMAT  BYTES\ncrc32   number  4\nsha256  bytes   32\n";
    assert_eq!(bench.text(&["fs", "hash-types"])?, types);
    assert_eq!(bench.text(&["fs", "close"])?, "closed\n");
    assert_eq!(bench.text(&["shell", "kernel", "version"])?, "Zephyr version 4.4.0\n");
    let unknown = bench.smp(&["shell", "nonsense"])?;
    assert_eq!(unknown.exit, 100);
    assert_eq!(unknown.out, "nonsense: command not found\nthe command returned -8\n");
    assert_eq!(bench.text(&["enum", "count"])?, "7\n");
    let groups = "10  enum\n8  fs\n0  os\n3  settings\n9  shell\n2  stat\n63  zephyr\n";
    assert_eq!(bench.text(&["enum", "list"])?, groups);
    assert_eq!(bench.text(&["enum", "show", "6"])?, "63  zephyr, the last one\n");
    let details = "GROUP  NAME     COMMANDS\n8      fs mgmt  5\n";
    assert_eq!(bench.text(&["enum", "details", "fs"])?, details);
    Ok(())
}

#[test]
fn what_people_are_told() -> Result<()> {
    let serial = SerialServer::start("serial")?;
    let bench = Bench::new(format!("serial:{}", serial.terminal().display()))?;
    assert_tells_people(&bench, "4 buffers of 384 bytes")?;
    assert_statistics(&bench)?;

    let udp = UdpServer::start("udp")?;
    let bench = Bench::new(format!("udp:{}", udp.address().ip()))?;
    assert_tells_people(&bench, "2 buffers of 2048 bytes")?;
    assert_statistics(&bench)
}

/// One of the statistics is more than the server can put into an answer: the others are told all the same.
fn assert_statistics(bench: &Bench) -> Result<()> {
    let all = bench.smp(&["stat", "show"])?;
    assert_eq!(all.exit, 100, "{all:#?}");
    assert!(all.out.contains("smp_svr_stats         ticks            "), "{all:#?}");
    assert!(all.out.contains("flash_sim_stats: error[smp.mgmt.message_too_large]: "), "{all:#?}");
    let told = bench.smp(&["stat", "show", "--json"])?.result()?["statistics"].take();
    assert_eq!(told[0]["error"]["code"], "smp.mgmt.message_too_large", "{told:#}");
    assert_eq!(told[1]["fields"]["max_len"], 0, "{told:#}");
    Ok(())
}

/// What the server does not have is its own no, by name, in both versions of the protocol.
#[test]
fn refusals_by_name() -> Result<()> {
    let serial = SerialServer::start("serial")?;
    let bench = Bench::new(format!("serial:{}", serial.terminal().display()))?;
    let cases: &[(&[&str], &str, &str)] = &[
        // There is no real-time clock, and no bootloader.
        (&["os", "time", "get"], "mgmt.not_supported", "mgmt.not_supported"),
        (&["os", "time", "set"], "mgmt.not_supported", "mgmt.not_supported"),
        (&["os", "bootloader"], "mgmt.not_supported", "mgmt.not_supported"),
        (&["os", "memory-pools"], "mgmt.not_supported", "mgmt.not_supported"),
        (&["os", "info", "--format", "z"], "mgmt.invalid_value", "os_mgmt.invalid_format"),
        (&["image", "list"], "mgmt.not_supported", "mgmt.not_supported"),
        (&["stat", "show", "none"], "mgmt.no_entry", "stat_mgmt.invalid_stat_name"),
        (&["settings", "read", "a/b"], "mgmt.unknown", "settings_mgmt.root_key_not_found"),
        (&["settings", "delete", "a/b"], "mgmt.no_entry", "settings_mgmt.key_not_found"),
        (&["settings", "save", "a"], "mgmt.unknown", "settings_mgmt.save_not_supported"),
        (&["fs", "status", "/lfs1"], "mgmt.unknown", "fs_mgmt.file_is_directory"),
        (&["fs", "get", "/lfs1/none"], "mgmt.no_entry", "fs_mgmt.file_not_found"),
        (
            &["fs", "hash", "/lfs1/none", "--type", "md5"],
            "mgmt.invalid_value",
            "fs_mgmt.checksum_hash_not_found",
        ),
        (&["enum", "show", "7"], "mgmt.unknown", "enum_mgmt.index_too_large"),
        (&["raw", "read", "fs", "1", r#"{"name": "/lfs1/none"}"#], "mgmt.no_entry", "fs_mgmt.file_not_found"),
        (&["raw", "read", "60", "0"], "mgmt.not_supported", "mgmt.not_supported"),
    ];
    for (arguments, first, second) in cases {
        for (version, code) in [("1", first), ("2", second)] {
            let said = bench.smp(&[&["--protocol", version], *arguments].concat())?;
            assert!(
                said.refuses(&format!("smp.{code}")),
                "{arguments:?}, version {version}: expected {code}: {said:#?}"
            );
        }
    }
    assert_eq!(std::fs::read_dir(bench.folder())?.count(), 0, "nothing half got is left");
    Ok(())
}

#[test]
fn raw_requests() -> Result<()> {
    let udp = UdpServer::start("udp")?;
    for version in ["1", "2"] {
        let bench = Bench::new(format!("udp:{}", udp.address().ip()))?.with(&["--protocol", version]);
        assert_eq!(bench.json(&["raw", "write", "os", "0", r#"{"d": "hi"}"#])?, json!({ "r": "hi" }));
        // {"d": "hi"}
        assert_eq!(bench.json(&["raw", "read", "0", "0", "a16164626869"])?, json!({ "r": "hi" }));
        let bytes =
            json!({ "off": 0, "len": 3, "name": "/lfs1/raw", "data": { "$bytes": "00ff7f" } }).to_string();
        assert_eq!(bench.json(&["raw", "write", "fs", "0", &bytes])?, json!({ "off": 3 }));
        let got = bench.json(&["raw", "read", "8", "0", r#"{"off": 0, "name": "/lfs1/raw"}"#])?;
        assert_eq!(got, json!({ "off": 0, "data": { "$bytes": "00ff7f" }, "len": 3 }));
        bench.text(&["fs", "get", "/lfs1/raw", "raw.bin"])?;
        assert_eq!(bench.content("raw.bin")?, [0, 0xff, 0x7f]);
    }
    Ok(())
}

/// A device that hears nothing: no request gets through.
fn deaf(frame: &Frame) -> Action {
    if frame.direction == Direction::Request { Action::Lose } else { Action::Pass }
}

/// How often each command is sent into silence, and for how long.
fn assert_obeys_timeout_and_retries(proxy: &Proxy, scheme: &str, address: SocketAddr) -> Result<()> {
    let bench = Bench::new(format!("{scheme}:{address}"))?;
    let seen = || proxy.log().len();
    let mut before = seen();
    let mut case = |code: &str, arguments: &[&str], sends: u32| -> Result<()> {
        let said = bench.smp(arguments)?;
        assert!(said.refuses(code), "{arguments:?}: {said:#?}");
        assert_eq!(seen() - before, sends as usize, "{arguments:?}: {said:#?}");
        before = seen();
        // Each sending waits its time; what is above that is the start of the program.
        let waited = Duration::from_millis(150) * sends;
        assert!(
            said.took >= waited && said.took < waited + Duration::from_secs(5),
            "{arguments:?}: {said:#?}"
        );
        Ok(())
    };
    let short = |more: &[&'static str]| [&["--timeout", "150ms"], more].concat();
    case("link.no_answer", &short(&["--retries", "0", "os", "echo", "hi"]), 1)?;
    case("link.no_answer", &short(&["--retries", "2", "os", "echo", "hi"]), 3)?;
    case("link.no_answer", &short(&["os", "params"]), 4)?;
    case("link.no_answer", &short(&["--retries", "1", "stat", "list"]), 2)?;
    // What must not be done twice is sent once.
    case("link.unanswered", &short(&["os", "reset"]), 1)?;
    case("link.unanswered", &short(&["shell", "kernel", "version"]), 1)?;
    case("link.unanswered", &short(&["raw", "write", "os", "0", r#"{"d": "hi"}"#]), 1)?;
    // Unless it is said that it may be.
    case("link.no_answer", &short(&["--retries", "2", "shell", "--repeat", "kernel", "version"]), 3)?;
    case("link.no_answer", &short(&["--retries", "1", "raw", "write", "os", "0", "--repeat"]), 2)?;
    Ok(())
}

#[test]
fn timeout_and_retries() -> Result<()> {
    let serial = SerialServer::start("serial_fs")?;
    let bridge = Bridge::to(serial.terminal())?;
    let proxy = Proxy::start(bridge.address(), deaf)?;
    assert_obeys_timeout_and_retries(&proxy, "tcp", proxy.address())?;
    let udp = UdpServer::start("udp")?;
    let proxy = Proxy::udp(udp.address(), deaf)?;
    assert_obeys_timeout_and_retries(&proxy, "udp", proxy.address())
}
