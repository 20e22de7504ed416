//! What a fleet of paced devices takes against one of them.

use std::time::Duration;

use crate::process::{Cost, Simulator, Station};
use crate::table::{Figure, Table, Target};

const DEVICES: usize = 64;
const PAYLOAD: usize = 32 * 1024;

pub(crate) fn run(table: &mut Table) -> Result<(), String> {
    let (one, _) = flash(1)?;
    let (all, simulator) = flash(DEVICES)?;
    table.add(Figure {
        what: "64 paced serial devices against one, wall time",
        target: Some(Target::AtMost(1.05)),
        measured: all.wall.as_secs_f64() / one.wall.as_secs_f64(),
        unit: "",
        decimals: 3,
        how: format!(
            "{PAYLOAD} bytes at 115200 baud over pseudo-terminals, simulator in another process: {:.2} s against {:.2} s; \
             processor time {:.2} s, and {:.2} s of the simulator",
            all.wall.as_secs_f64(),
            one.wall.as_secs_f64(),
            all.cpu.as_secs_f64(),
            simulator.as_secs_f64(),
        ),
    });
    Ok(())
}

/// Flashes this many devices; gives what that cost, and the processor time of the simulator.
fn flash(devices: usize) -> Result<(Cost, Duration), String> {
    let station = Station::new("paced", PAYLOAD)?;
    let simulator =
        Simulator::start(&["--count", &devices.to_string(), "--kind", "pty", "--baud", "115200"])?;
    let ports: Vec<&str> =
        simulator.addresses.iter().map(|address| address.trim_start_matches("serial:")).collect();
    let plan = station.plan(
        &format!("{{ port: [{}] }}\n  expect: {devices}", ports.join(", ")),
        &format!("policy: {{ parallel: {DEVICES} }}\n"),
    )?;
    let cost = station.flash(&plan, &[], devices)?;
    Ok((cost, simulator.cpu()))
}
