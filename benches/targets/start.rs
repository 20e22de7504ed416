//! How long the program takes to say how it is used, and how large it is.

use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use crate::process::PROGRAM;
use crate::table::{Figure, Table, Target};

const STARTS: usize = 51;

/// From the start of the process to its end, with the usage text written.
pub(crate) fn start(table: &mut Table) -> Result<(), String> {
    let mut times: Vec<Duration> = Vec::new();
    for _ in 0..STARTS {
        let start = Instant::now();
        let output = Command::new(PROGRAM).arg("--help").stderr(Stdio::null()).output();
        times.push(start.elapsed());
        let output = output.map_err(|error| format!("cannot start: {error}"))?;
        if !String::from_utf8_lossy(&output.stdout).contains("Usage:") {
            return Err("no usage text came".to_owned());
        }
    }
    times.sort_unstable();
    let milliseconds = |time: Duration| time.as_secs_f64() * 1000.0;
    let (median, longest) = (times[STARTS / 2], times[STARTS - 1]);
    table.add(Figure {
        what: "start-up to usage text",
        target: Some(Target::AtMost(10.0)),
        measured: milliseconds(median),
        unit: "ms",
        decimals: 1,
        how: format!(
            "median of {STARTS} starts, process creation included; longest {:.1} ms",
            milliseconds(longest)
        ),
    });
    Ok(())
}

/// The size of the file.
pub(crate) fn size(table: &mut Table) -> Result<(), String> {
    let bytes = std::fs::metadata(PROGRAM).map_err(|error| format!("cannot read {PROGRAM}: {error}"))?.len();
    table.add(Figure {
        what: "stripped release binary",
        target: Some(Target::AtMost(8.0)),
        measured: bytes as f64 / 1e6,
        unit: "MB",
        decimals: 2,
        how: format!("{bytes} bytes"),
    });
    Ok(())
}
