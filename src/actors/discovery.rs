//! Finds a target's devices and lets each show that it answers, until there are as many as expected or the time is over.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use actix::prelude::*;
use tokio::time::{Instant, sleep_until};

use crate::cause::{Cause, Class};
use crate::client::ClientOptions;
use crate::flow::FlowConfig;
use crate::identity::Identity;
use crate::plan::{Plan, Target};
use crate::report::DeviceId;
use crate::transport::Candidate;

use super::clock::Clock;
use super::device::{Answer, Device, Probe};
use super::programs::Names;
use super::reporter::Reporter;
use super::source::Source;
use super::worker::{Probed, Worker};

/// How often the ports are looked at while devices are missing.
const LOOK_AGAIN: Duration = Duration::from_millis(250);

/// A device that was matched.
#[derive(Debug, Clone)]
pub struct Found {
    /// Name of the target.
    pub target: String,
    /// Its address.
    pub address: String,
    /// What else is known of it.
    pub identity: Identity,
    /// What asking it for an echo showed; a device that the plan names is taken at its word unless a survey asks.
    pub probed: Probed,
}

/// What a target's selectors found.
#[derive(Debug)]
pub struct TargetSurvey {
    /// Name of the target.
    pub target: String,
    /// Its devices.
    pub found: Vec<Found>,
    /// Why the target's expectation does not hold.
    pub unmet: Option<Cause>,
}

/// What a plan's targets found, without anything being done.
#[derive(Debug)]
pub struct Survey {
    /// Targets in the plan's order.
    pub targets: Vec<TargetSurvey>,
}

/// A matched device and its actor.
pub(super) struct Manned {
    pub found: Found,
    /// What tells whether two are one device.
    pub key: String,
    /// The Bluetooth adapter that it shares with others.
    pub adapter: Option<String>,
    pub id: DeviceId,
    pub addr: Addr<Device>,
}

/// What came of looking for one target's devices.
pub(super) struct TargetDevices {
    pub target: usize,
    pub devices: Vec<Manned>,
    /// This machine could not look at all.
    pub trouble: Option<Cause>,
}

/// What every target's discovery shares.
#[derive(Clone)]
pub(super) struct Scout {
    pub plan: Arc<Plan>,
    pub source: Arc<dyn Source>,
    pub reporter: Addr<Reporter>,
    pub clock: Clock,
    pub attempts: u32,
    /// Ask the devices that the plan names, too.
    pub ask_all: bool,
}

impl Scout {
    /// Looks until the target's expectation holds or its time is over.
    pub(super) async fn discover(self, target_index: usize) -> TargetDevices {
        let mut result = TargetDevices { target: target_index, devices: Vec::new(), trouble: None };
        let Some(target) = self.plan.targets.get(target_index) else { return result };
        let end = Instant::now() + target.discover;
        // What answered no echo is asked again at the next look: it may still be booting.
        let mut known: HashSet<String> = HashSet::new();
        loop {
            match self.source.candidates(target).await {
                Ok(candidates) => {
                    let new: Vec<Candidate> =
                        candidates.into_iter().filter(|candidate| !known.contains(&candidate.key)).collect();
                    let manned = futures_util::future::join_all(
                        new.into_iter().map(|candidate| self.man(target, target_index, candidate)),
                    );
                    for manned in manned.await.into_iter().flatten() {
                        known.insert(manned.key.clone());
                        result.devices.push(manned);
                    }
                    drop_blocked_siblings(&mut result.devices);
                    result.trouble = None;
                }
                Err(cause) => result.trouble = Some(cause),
            }
            if target.expect.holds(result.devices.len()) || Instant::now() >= end {
                return result;
            }
            sleep_until((Instant::now() + LOOK_AGAIN).min(end)).await;
        }
    }

    /// Gives a candidate its actor, and asks it for an echo where it was only found by searching.
    async fn man(&self, target: &Target, target_index: usize, candidate: Candidate) -> Option<Manned> {
        let id = DeviceId(format!("{}/{}", target.name, candidate.address));
        let mut found = Found {
            target: target.name.clone(),
            address: candidate.address.clone(),
            identity: candidate.identity.clone(),
            probed: Probed::Answers,
        };
        let claim = candidate.claim;
        let worker = Worker::new(
            id.clone(),
            Arc::clone(&candidate.connector),
            ClientOptions::from(&target.link),
            FlowConfig {
                steps: target.steps.clone(),
                images: self.plan.images.clone(),
                quiet: target.link.quiet,
                return_within: target.link.return_within,
                attempts: self.attempts,
                can_recover: !self.plan.policy.recover.is_empty(),
            },
            names(&self.plan, target, &candidate),
            self.plan.policy.recover.clone(),
            self.reporter.clone(),
            self.clock,
        );
        let addr = Device::new(worker).start();
        if !claim || self.ask_all {
            found.probed = addr.send(Probe).await.map_or(Probed::Blocked, |Answer(probed)| probed);
        }
        if !claim && found.probed == Probed::Silent {
            tracing::debug!(target = target_index, address = %found.address, "answers no echo: not matched");
            return None;
        }
        let adapter = candidate.connector.adapter();
        Some(Manned { found, key: candidate.key, adapter, id, addr })
    }
}

/// Of a board with several ports the one that answers is meant: another one that somebody holds, with its log on it,
/// is none of our business.
fn drop_blocked_siblings(devices: &mut Vec<Manned>) {
    let board = |manned: &Manned| {
        let usb = manned.found.identity.usb.as_ref()?;
        // Without either, two boards of one kind would look like one.
        usb.serial_number.as_ref().or(usb.hub_path.as_ref())?;
        Some((usb.vid, usb.pid, usb.serial_number.clone(), usb.hub_path.clone()))
    };
    let answering: HashSet<_> =
        devices.iter().filter(|manned| manned.found.probed != Probed::Blocked).filter_map(board).collect();
    devices.retain(|manned| {
        manned.found.probed != Probed::Blocked
            || board(manned).is_none_or(|board| !answering.contains(&board))
    });
}

/// Why a target's expectation does not hold; `None` where it does.
pub(super) fn unmet(target: &Target, found: &[Found], trouble: Option<&Cause>) -> Option<Cause> {
    if target.expect.holds(found.len()) {
        return None;
    }
    if let Some(trouble) = trouble {
        return Some(trouble.clone());
    }
    let list = if found.is_empty() {
        "none".to_owned()
    } else {
        found.iter().map(|found| found.address.as_str()).collect::<Vec<_>>().join(", ")
    };
    Some(Cause::new(
        Class::Plan,
        "target.unexpected_count",
        format!(
            "expected {} for target {} within {}, found {}: {list}",
            target.expect.in_words(),
            target.name,
            humantime::format_duration(target.discover),
            found.len()
        ),
        "check power and cables; `flashfleet list PLAN` shows what is there and why it does not match",
    ))
}

fn names(plan: &Plan, target: &Target, candidate: &Candidate) -> Names {
    let mut names = Names::default();
    names.push("plan", plan.name.clone());
    names.push("target", target.name.clone());
    names.push("address", candidate.address.clone());
    let usb = candidate.identity.usb.as_ref();
    names.push("serial_number", usb.and_then(|usb| usb.serial_number.clone()).unwrap_or_default());
    names.push("hub_path", usb.and_then(|usb| usb.hub_path.clone()).unwrap_or_default());
    names.push("usb_id", usb.map(crate::identity::UsbIdentity::id).unwrap_or_default());
    names
}
