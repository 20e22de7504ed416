//! The guest's Bluetooth: virtual adapters, and peripherals that are simulated in this process, in one air outside of it.

use std::collections::BTreeMap;
use std::time::Duration;

use flashfleet::sim::{DeviceHandle, Endpoint, EndpointKind, Fleet, SimSpec};
use serde_json::Value;

use crate::agent::Job;
use crate::bench::Simulator;
use crate::error::{Context, Result, RigError};
use crate::fixtures::virtual_environment;
use crate::leash::Leash;
use crate::report::Run;
use crate::vm::Lab;

/// The first package, with the version whose shortcomings `peripherals.py` knows.
const BUMBLE: &str = "bumble==0.0.236";
/// Bumble loads a lot of Python.
const STARTED: Duration = Duration::from_secs(60);
/// BlueZ has started and its adapters are on: 5 s on two idle cores.
const SWITCHED_ON: Duration = Duration::from_secs(90);

/// Adapters of the guest, and peripherals in reach. All gone when this is dropped.
pub(crate) struct Air {
    /// BlueZ in the guest; it goes before the air does.
    _bluez: Job,
    radio: Leash,
    fleets: Vec<Fleet>,
    _endpoints: Vec<Endpoint>,
    _simulator: Simulator,
}

/// The connections of one adapter.
#[derive(Debug, Default)]
pub(crate) struct Connections {
    pub(crate) total: usize,
    pub(crate) most: usize,
    now: usize,
}

impl Air {
    /// Switches on so many adapters, with the devices of these descriptions in reach.
    pub(crate) fn new(lab: &Lab, adapters: usize, specs: &[SimSpec]) -> Result<Self> {
        let simulator = Simulator::start()?;
        let (mut fleets, mut endpoints) = (Vec::new(), Vec::new());
        {
            let _context = simulator.handle.enter();
            for spec in specs {
                let fleet = Fleet::new(spec).context("simulated peripherals")?;
                for index in 0..fleet.len() {
                    endpoints.push(fleet.serve(index, EndpointKind::Radio(([127, 0, 0, 1], 0).into()))?);
                }
                fleets.push(fleet);
            }
        }
        let radio = radio(adapters, &endpoints)?;
        let ports = attachments(&radio, adapters)?;
        let mut bluez = lab.start(&format!("exec /lab/bluez.sh {}", ports.join(" ")))?;
        bluez.wait_for_line("ready", SWITCHED_ON)?;
        Ok(Self { _bluez: bluez, radio, fleets, _endpoints: endpoints, _simulator: simulator })
    }

    /// For each adapter that was ever connected, by its address: connections in all, and the most at one time.
    pub(crate) fn connections(&self) -> BTreeMap<String, Connections> {
        let mut adapters = BTreeMap::<String, Connections>::new();
        for line in self.radio.printed().lines() {
            if let Some(adapter) = line.strip_prefix("connected to ") {
                let connections = adapters.entry(adapter.to_owned()).or_default();
                connections.total += 1;
                connections.now += 1;
                connections.most = connections.most.max(connections.now);
            } else if let Some(adapter) = line.strip_prefix("disconnected from ") {
                adapters.entry(adapter.to_owned()).or_default().now -= 1;
            }
        }
        adapters
    }

    /// The truth about a device of the fleet with this number, both from 0.
    pub(crate) fn device(&self, fleet: usize, index: usize) -> DeviceHandle {
        self.fleets[fleet].device(index)
    }
}

impl Drop for Air {
    fn drop(&mut self) {
        // Shown where the scenario fails.
        println!("air:\n{}", self.radio.printed());
        for device in self.fleets.iter().flat_map(|fleet| (0..fleet.len()).map(|index| fleet.device(index))) {
            let seen =
                device.requests().iter().map(|it| (it.group, it.command, it.sequence)).collect::<Vec<_>>();
            println!("{}, {} bytes written, asked {seen:?}", device.name(), device.bytes_written());
        }
    }
}

/// Starts the program that is everybody's radio.
fn radio(adapters: usize, endpoints: &[Endpoint]) -> Result<Leash> {
    let python = virtual_environment("venv-bumble", &[BUMBLE])?;
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/lab/peripherals.py");
    let mut arguments = vec![script.to_owned(), adapters.to_string()];
    arguments.extend(endpoints.iter().map(|endpoint| endpoint.address().replace("radio:", "")));
    Leash::start(&python.display().to_string(), &arguments, std::env::temp_dir().as_path())
}

/// Where each adapter waits for the guest, as the guest sees it.
fn attachments(radio: &Leash, adapters: usize) -> Result<Vec<String>> {
    radio.wait_for_line("ready", STARTED, |line| (line == "ready").then_some(()))?;
    let printed = radio.printed();
    let ports: Vec<_> = printed
        .lines()
        .filter_map(|line| line.strip_prefix("adapter 127.0.0.1:"))
        .map(|port| format!("10.0.2.2:{port}"))
        .collect();
    if ports.len() == adapters {
        return Ok(ports);
    }
    Err(RigError::new(format!("expected {adapters} adapters, it printed:\n{printed}")))
}

/// The device of a report with this name.
pub(crate) fn named<'run>(run: &'run Run, name: &str) -> Result<&'run Value> {
    let mut found = run.devices().iter().filter(|device| device["identity"]["ble"]["name"] == name);
    match (found.next(), found.next()) {
        (Some(device), None) => Ok(device),
        _ => Err(RigError::new(format!("expected one device called {name}\n{run}"))),
    }
}
