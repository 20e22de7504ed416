//! How soon the first request comes once a port is back.
//!
//! Devices with USB of their own take their port with them when they reset. Each is away for longer than the quiet time, so
//! that the first request may come as soon as its port is there.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use flashfleet::sim::{DeviceHandle, EndpointKind, Fleet, SimSpec};

use crate::process::Station;
use crate::table::{Figure, Table, Target};

const DEVICES: usize = 8;
/// Test boot, and the reset after it was confirmed.
const RETURNS: usize = 2;
/// Twice the quiet time of a plan that does not say.
const BOOT_MS: u64 = 2000;
/// How closely ports and requests are looked at.
const LOOK: Duration = Duration::from_millis(1);

pub(crate) fn run(table: &mut Table) -> Result<(), String> {
    let station = Station::new("port", 8 * 1024)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| format!("cannot start: {error}"))?;
    let _inside = runtime.enter();
    let spec = SimSpec { count: DEVICES, vanishes_in_reset: true, boot_ms: BOOT_MS, ..SimSpec::default() };
    let fleet = Fleet::new(&spec).map_err(|error| error.to_string())?;
    let mut endpoints = Vec::new();
    let mut watches = Vec::new();
    let over = Arc::new(AtomicBool::new(false));
    for index in 0..DEVICES {
        let port = station.file(&spec.device_name(index));
        let endpoint = fleet.serve(index, EndpointKind::Pty { link: Some(port.clone()) });
        endpoints.push(endpoint.map_err(|error| format!("cannot make a pseudo-terminal: {error}"))?);
        watches.push(runtime.spawn(watch(fleet.device(index), port, Arc::clone(&over))));
    }
    let ports: Vec<String> =
        (0..DEVICES).map(|index| station.file(&spec.device_name(index)).display().to_string()).collect();
    let plan = station.plan(&format!("{{ port: [{}] }}\n  expect: {DEVICES}", ports.join(", ")), "")?;
    // The devices live on this thread.
    let flash = tokio::task::spawn_blocking(move || station.flash(&plan, &[], DEVICES));
    let flashed = runtime.block_on(flash).map_err(|error| error.to_string())?;
    over.store(true, Ordering::Relaxed);
    let mut delays = Vec::new();
    for watch in watches {
        delays.extend(runtime.block_on(watch).map_err(|error| error.to_string())?);
    }
    flashed?;
    if delays.len() != DEVICES * RETURNS {
        return Err(format!("expected {} returns, saw {}", DEVICES * RETURNS, delays.len()));
    }
    delays.sort_unstable();
    let milliseconds = |delay: Duration| delay.as_secs_f64() * 1000.0;
    let longest = delays.last().copied().unwrap_or_default();
    table.add(Figure {
        what: "port back to first request",
        target: Some(Target::AtMost(100.0)),
        measured: milliseconds(longest),
        unit: "ms",
        decimals: 0,
        how: format!(
            "longest of {RETURNS} returns of {DEVICES} devices, {BOOT_MS} ms after the reset, so later than the quiet time; \
             median {:.0} ms",
            milliseconds(delays[delays.len() / 2])
        ),
    });
    Ok(())
}

/// Looks at one device until all is over; gives the time from each return of its port to the next request.
async fn watch(device: DeviceHandle, port: impl AsRef<Path> + Send, over: Arc<AtomicBool>) -> Vec<Duration> {
    let mut delays = Vec::new();
    let mut was_there = true;
    let mut back: Option<(Instant, u64)> = None;
    while !over.load(Ordering::Relaxed) {
        let is_there = port.as_ref().exists();
        let requests = device.total_requests();
        let now = Instant::now();
        if is_there && !was_there {
            back = Some((now, requests));
        }
        was_there = is_there;
        if let Some((since, _)) = back.take_if(|(_, before)| requests > *before) {
            delays.push(now - since);
        }
        tokio::time::sleep(LOOK).await;
    }
    delays
}
