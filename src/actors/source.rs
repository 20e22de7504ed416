//! Where devices come from. Tests give their own.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;

use crate::cause::{Cause, Class};
use crate::identity::Identity;
use crate::plan::{MatchKind, Target};
use crate::sim::{Fleet, SimSpec};
use crate::transport::{Candidate, Discovery};

/// Finds the devices of a target.
#[async_trait]
pub trait Source: Send + Sync {
    /// Every candidate that is there now. Called again while devices are missing.
    ///
    /// # Errors
    /// [`Cause`] where this machine cannot look at all.
    async fn candidates(&self, target: &Target) -> Result<Vec<Candidate>, Cause>;
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
                    let connector = fleet.connector(index);
                    let address = connector.address();
                    Candidate {
                        // Each target has simulated devices of its own, whatever they are called.
                        key: format!("{}/{address}", target.name),
                        address,
                        identity: Identity::default(),
                        connector,
                        claim: true,
                    }
                })
                .collect());
        }
        self.discovery.discover(target).await
    }
}
