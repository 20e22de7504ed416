//! The lab against itself, with nothing plugged in: only what these show to hold may be built upon.

use std::time::{Duration, Instant};

use nix::sys::signal::Signal;

use crate::bench::Bench;
use crate::error::Result;
use crate::images::Image;
use crate::station::Station;
use crate::vm::Lab;

const SHORT: Duration = Duration::from_secs(30);

#[test]
fn lab_scripts_end_as_they_end_in_a_shell() -> Result<()> {
    let lab = Lab::take()?;
    let ended = lab.start("echo told; echo \u{fc}bel >&2; pwd; exit 7")?.wait(SHORT)?;
    assert_eq!((ended.status, ended.out.as_str()), (7, "told\n/station\n"));
    assert_eq!(ended.err, "\u{fc}bel\n");
    // Lines far longer than any buffer on the way.
    let long = lab.run("head -c 3000000 /dev/zero | tr '\\0' x")?;
    assert!(long.len() == 3_000_000 && long.bytes().all(|byte| byte == b'x'), "{}", long.len());
    // Two at once, one of which is stopped by the other's end.
    let mut waiting =
        lab.start("trap 'echo asked to end; exit 3' TERM; echo up; while :; do sleep 0.1; done")?;
    waiting.wait_for_line("up", SHORT)?;
    assert!(!waiting.is_over()?);
    assert_eq!(lab.run("echo beside")?, "beside\n");
    waiting.signal(Signal::SIGTERM)?;
    let ended = waiting.wait(SHORT)?;
    assert_eq!((ended.status, ended.out.as_str()), (3, "up\nasked to end\n"));
    Ok(())
}

#[test]
fn lab_script_that_never_ends_is_killed_and_told() -> Result<()> {
    let lab = Lab::take()?;
    let job = lab.start("echo before; sleep 1000 & echo $!; wait")?;
    let error = job.wait(Duration::from_secs(3)).unwrap_err().to_string();
    assert!(error.contains("did not end") && error.contains("before"), "{error}");
    let child = error.lines().find(|line| line.parse::<u32>().is_ok()).unwrap().to_owned();
    let until = Instant::now() + SHORT;
    while lab.run(&format!("[ -d /proc/{child} ] && grep -v Z /proc/{child}/stat | wc -l || echo 0"))?.trim()
        != "0"
    {
        assert!(Instant::now() < until, "its child lives");
    }
    Ok(())
}

#[test]
fn lab_flashfleet_runs_in_the_guest() -> Result<()> {
    let lab = Lab::take()?;
    let station = Station::new(&lab)?;
    let version = station.flashfleet("--version")?.success()?;
    assert_eq!(version, format!("flashfleet {}\n", env!("CARGO_PKG_VERSION")));
    let plan = "version: 1
name: pretend
images: { app: { sim: { version: 2.0.0, size: 2KiB } } }
targets: [{ name: all, match: { sim: { count: 3 } }, expect: 3 }]
";
    let run = station.run("pretend", plan, "")?;
    assert_eq!((run.code, &run.report["summary"]["passed"]), (0, &3.into()), "{run}");
    Ok(())
}

#[test]
fn lab_guest_without_a_board_has_none_to_list_and_none_to_flash() -> Result<()> {
    let lab = Lab::take()?;
    let station = Station::new(&lab)?;
    // Also waits until the boards of an earlier scenario are gone.
    let bench = Bench::new(&lab)?;
    assert_eq!(bench.ports()?, []);
    let listed = station.flashfleet("list --json")?.success()?;
    let listed: serde_json::Value = serde_json::from_str(&listed).unwrap();
    // The machine's own UART is no USB port.
    assert!(listed["ports"].as_array().unwrap().iter().all(|port| port["usb"].is_null()), "{listed:#}");
    let plan = "version: 1
name: nothing
images: { app: { file: new.bin } }
targets: [{ name: boards, match: { usb: \"2fe3:0004\" }, discover: 1s }]
";
    station.file("new.bin", Image::filler(1024, 2, 0).bytes)?;
    let run = station.run("nothing", plan, "")?;
    assert_eq!((run.code, run.devices().len()), (4, 0), "{run}");
    Ok(())
}
