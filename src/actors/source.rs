//! Where devices come from. Tests give their own.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;

use crate::cause::{Cause, Class};
use crate::plan::{MatchKind, Target};
use crate::sim::{Fleet, SimSpec};
use crate::transport::{Candidate, Discovery, Port, device_key};

/// Finds the devices of a target.
#[async_trait]
pub trait Source: Send + Sync {
    /// Every candidate that is there now. Called again while devices are missing.
    ///
    /// # Errors
    /// [`Cause`] where this machine cannot look at all.
    async fn candidates(&self, target: &Target) -> Result<Vec<Candidate>, Cause>;

    /// The target's boards that are in their bootloader now, and so no candidates.
    async fn in_bootloader(&self, _target: &Target) -> Vec<InBootloader> {
        Vec::new()
    }
}

/// A board that is in its bootloader.
#[derive(Debug, Clone)]
pub struct InBootloader {
    /// Its port and ids, in words.
    pub address: String,
    /// As [`Candidate::key`].
    pub key: String,
}

impl From<&Port> for InBootloader {
    fn from(port: &Port) -> Self {
        let ids = port.identity.usb.as_ref().map(|usb| format!(" ({})", usb.id())).unwrap_or_default();
        Self { address: format!("serial:{}{ids}", port.path.display()), key: device_key(port) }
    }
}

/// Real ports and sockets, and simulated devices where the plan asks for them.
#[derive(Debug, Default)]
pub struct RealSource {
    fleets: Mutex<HashMap<String, Arc<Fleet>>>,
    discovery: Discovery,
}

impl RealSource {
    /// A source without simulated devices so far.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// The same, with ports and a radio from elsewhere, for tests.
    #[must_use]
    pub fn with_discovery(discovery: Discovery) -> Self {
        Self { discovery, ..Self::default() }
    }

    /// The simulated devices of a target, made at the first call: their state lasts as long as this source.
    fn fleet(&self, target: &str, spec: &SimSpec) -> Result<Arc<Fleet>, Cause> {
        let mut fleets = self.fleets.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(fleet) = fleets.get(target) {
            return Ok(Arc::clone(fleet));
        }
        let fleet = Arc::new(Fleet::new(spec).map_err(|error| {
            Cause::new(
                Class::Plan,
                "plan.bad_simulation",
                format!("expected a simulated device that can exist: {error}"),
                "correct the target's match: { sim: … }",
            )
        })?);
        fleets.insert(target.to_owned(), Arc::clone(&fleet));
        Ok(fleet)
    }
}

#[async_trait]
impl Source for RealSource {
    async fn candidates(&self, target: &Target) -> Result<Vec<Candidate>, Cause> {
        if let MatchKind::Sim(spec) = &target.matcher.kind {
            let fleet = self.fleet(&target.name, spec)?;
            return Ok((0..fleet.len())
                .map(|index| {
                    let candidate = Candidate::new(fleet.connector(index));
                    // Each target has simulated devices of its own, whatever they are called.
                    Candidate { key: format!("{}/{}", target.name, candidate.address), ..candidate }
                })
                .collect());
        }
        self.discovery.discover(target).await
    }

    async fn in_bootloader(&self, target: &Target) -> Vec<InBootloader> {
        // Where the ports cannot be listed, finding candidates has said so.
        let ports = self.discovery.in_bootloader(target).await.unwrap_or_default();
        ports.iter().map(InBootloader::from).collect()
    }
}

/// The devices of a fleet, for every target: with these a plan's targets need not say which devices they are about.
#[async_trait]
impl Source for Fleet {
    async fn candidates(&self, _target: &Target) -> Result<Vec<Candidate>, Cause> {
        Ok(self.connectors().into_iter().map(Candidate::new).collect())
    }
}
