//! A thousand devices over UDP: whether they all pass, and what each of them costs.

use crate::process::{Cost, Simulator, Station};
use crate::table::{Figure, Table, Target};

const DEVICES: usize = 1000;
const PAYLOAD: usize = 32 * 1024;
/// Memory that the program may take, in bytes, without any device.
const BASE: f64 = 25e6;
/// And for each device.
const EACH: f64 = 64e3;

pub(crate) fn run(table: &mut Table) -> Result<(), String> {
    let (one, _) = flash(1)?;
    let (all, simulator) = flash(DEVICES)?;
    let what = "1,000 UDP devices in one process";
    let kilobytes = (all.peak.saturating_sub(one.peak)) as f64 / 1e3 / (DEVICES - 1) as f64;
    table.holds(
        what,
        "all pass",
        format!("{DEVICES} of {DEVICES}"),
        true,
        format!(
            "{PAYLOAD} bytes each, simulator in another process: {:.1} s; processor time {:.1} s, and {simulator:.1} s of the \
             simulator",
            all.wall.as_secs_f64(),
            all.cpu.as_secs_f64(),
        ),
    );
    table.add(Figure {
        what: "peak memory of these",
        target: Some(Target::AtMost((BASE + EACH * DEVICES as f64) / 1e6)),
        measured: all.peak as f64 / 1e6,
        unit: "MB",
        decimals: 1,
        how: format!("one device {:.1} MB, each further one {kilobytes:.1} kB", one.peak as f64 / 1e6),
    });
    table.add(Figure {
        what: "open files of these",
        target: Some(Target::AtMost(64.0)),
        measured: all.descriptors as f64,
        unit: "",
        decimals: 0,
        how: format!("one device {}: all devices share a socket", one.descriptors),
    });
    Ok(())
}

/// Flashes this many devices; gives what that cost, and the simulator's processor time in seconds.
fn flash(devices: usize) -> Result<(Cost, f64), String> {
    let station = Station::new("udp", PAYLOAD)?;
    let simulator = Simulator::start(&["--count", &devices.to_string(), "--kind", "udp"])?;
    let places: Vec<&str> =
        simulator.addresses.iter().map(|address| address.trim_start_matches("udp:")).collect();
    let plan = station.plan(&format!("{{ udp: [{}] }}\n  expect: {devices}", quoted(&places)), "")?;
    let cost = station.flash(&plan, &[], devices)?;
    Ok((cost, simulator.cpu().as_secs_f64()))
}

fn quoted(places: &[&str]) -> String {
    places.iter().map(|place| format!("{place:?}")).collect::<Vec<_>>().join(", ")
}
