//! Where devices come from. Tests give their own.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;

use crate::identity::Identity;
use crate::plan::{MatchKind, Target};
use crate::sim::Fleet;
use crate::transport::{Connector, LinkError};

/// A device that a target's selectors point at.
#[derive(Debug, Clone)]
pub struct Candidate {
    /// Its address.
    pub address: String,
    /// What else is known of it.
    pub identity: Identity,
    /// The way to it.
    pub connector: Arc<dyn Connector>,
    /// Named in the plan: it counts whether it answers or not. Otherwise it counts only once it has answered an echo.
    pub claim: bool,
}

/// Finds the devices of a target.
#[async_trait]
pub trait Source: Send + Sync {
    /// Every candidate that is there now. Called again while devices are missing.
    ///
    /// # Errors
    /// [`LinkError`] where this machine cannot look at all.
    async fn candidates(&self, target: &Target) -> Result<Vec<Candidate>, LinkError>;
}

/// Real ports and sockets, and simulated devices where the plan asks for them.
#[derive(Debug, Default)]
pub struct RealSource {
    fleets: Mutex<HashMap<String, Arc<Fleet>>>,
}

impl RealSource {
    /// A source without simulated devices so far.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// The simulated devices of a target, made at the first call: their state lasts as long as this source.
    fn fleet(&self, target: &str, spec: &crate::sim::SimSpec) -> Arc<Fleet> {
        let mut fleets = self.fleets.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(fleets.entry(target.to_owned()).or_insert_with(|| Arc::new(Fleet::new(spec))))
    }
}

#[async_trait]
impl Source for RealSource {
    async fn candidates(&self, target: &Target) -> Result<Vec<Candidate>, LinkError> {
        if let MatchKind::Sim(spec) = &target.matcher.kind {
            let fleet = self.fleet(&target.name, spec);
            return Ok((0..fleet.len())
                .map(|index| {
                    let connector = fleet.connector(index);
                    Candidate {
                        address: connector.address(),
                        identity: Identity::default(),
                        connector,
                        claim: true,
                    }
                })
                .collect());
        }
        crate::transport::discover(target).await
    }
}
