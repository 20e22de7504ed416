//! Finds a target's devices and lets each show that it answers, until there are as many as expected or the time is over.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use actix::prelude::*;
use tokio::time::{Instant, sleep_until};

use crate::cause::{Cause, Class};
use crate::client::ClientOptions;
use crate::flow::FlowConfig;
use crate::identity::Identity;
use crate::plan::{Plan, Target};
use crate::report::{DeviceId, EarlierRun};
use crate::transport::{Candidate, Firmware};

use super::boards::{Remark, one_per_board, told_apart_by_place};
use super::clock::Clock;
use super::device::{Answer, Device, Probe};
use super::earlier::Earlier;
use super::probe::Probed;
use super::programs::Names;
use super::progress::Uploads;
use super::reporter::Reporter;
use super::source::Source;
use super::worker::Worker;
use super::written::WrittenFiles;

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
    /// What tells whether two are one device, whichever targets they were found for.
    pub key: String,
    /// What asking it for an echo showed; a device that the plan names is taken at its word unless a survey asks.
    pub probed: Probed,
}

/// What a target's selectors found.
#[derive(Debug)]
#[non_exhaustive]
pub struct TargetSurvey {
    /// Name of the target.
    pub target: String,
    /// Its devices.
    pub found: Vec<Found>,
    /// Why the target's expectation does not hold.
    pub unmet: Option<Cause>,
    /// What else a person should know of what was found.
    pub notes: Vec<String>,
}

/// What a plan's targets found, without anything being done.
#[derive(Debug)]
pub struct Survey {
    /// Targets in the plan's order.
    pub targets: Vec<TargetSurvey>,
}

impl Survey {
    /// The other targets that match a device: none of them would get it.
    #[must_use]
    pub fn others(&self, found: &Found) -> Vec<&str> {
        let is_it = |other: &Found| other.key == found.key;
        self.targets
            .iter()
            .filter(|target| target.target != found.target && target.found.iter().any(is_it))
            .map(|target| target.target.as_str())
            .collect()
    }
}

/// A matched device and its actor.
pub(super) struct Manned {
    pub found: Found,
    /// The Bluetooth adapter that it shares with others.
    pub adapter: Option<String>,
    /// Descriptors that its open link holds.
    pub descriptors: usize,
    /// Its link is open already.
    pub is_open: bool,
    pub id: DeviceId,
    pub addr: Addr<Device>,
}

/// What came of looking for one target's devices.
pub(super) struct TargetDevices {
    pub target: usize,
    pub devices: Vec<Manned>,
    /// Devices of the earlier run.
    pub earlier: Earlier,
    /// What a person should know of them.
    pub remarks: Vec<Remark>,
    /// Boards that are in their bootloader, in words.
    pub in_bootloader: Vec<String>,
    /// This machine could not look at all.
    pub trouble: Option<Cause>,
}

impl TargetDevices {
    /// How many the target has: those of the earlier run that are not there any more are not missing.
    pub(super) fn count(&self) -> usize {
        self.devices.len() + self.earlier.absent
    }
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
    /// The files of this machine that the run has written.
    pub written: WrittenFiles,
    /// The uploads under way.
    pub uploads: Uploads,
    /// The run that this one goes on with.
    pub earlier: Arc<EarlierRun>,
}

impl Scout {
    /// Looks until the target's expectation holds or its time is over.
    pub(super) async fn discover(self, target_index: usize) -> TargetDevices {
        let mut result = TargetDevices {
            target: target_index,
            devices: Vec::new(),
            earlier: Earlier::default(),
            remarks: Vec::new(),
            in_bootloader: Vec::new(),
            trouble: None,
        };
        let Some(target) = self.plan.targets.get(target_index) else { return result };
        let end = Instant::now() + target.discover;
        // What answered no echo is asked again at the next look: it may still be booting.
        let mut known: HashSet<String> = HashSet::new();
        loop {
            match self.source.candidates(target).await {
                Ok(candidates) => {
                    // A port that could not be asked and is gone by now may be there under another name.
                    result.devices.retain(|manned| {
                        let found = &manned.found;
                        !found.probed.is_blocked()
                            || has_own_address(found)
                            || candidates.iter().any(|one| one.address == found.address)
                    });
                    let new: Vec<Candidate> = candidates
                        .into_iter()
                        .filter(|one| !known.contains(&one.key) && !known.contains(&one.address))
                        .collect();
                    let mut keys: HashMap<String, usize> = HashMap::new();
                    new.iter().for_each(|one| *keys.entry(one.key.clone()).or_default() += 1);
                    let manned = new.into_iter().map(|candidate| {
                        // Of several ports of one device only asking shows which one is meant.
                        let is_one_of_several = keys.get(&candidate.key).is_some_and(|&ports| ports > 1);
                        self.man(target, target_index, candidate, is_one_of_several)
                    });
                    let manned = futures_util::future::join_all(manned).await;
                    result.devices.extend(manned.into_iter().flatten());
                    let found: Vec<_> = result.devices.iter().map(|manned| &manned.found).collect();
                    let (keep, remarks) = one_per_board(&found);
                    let mut keep = keep.into_iter();
                    result.devices.retain(|_| keep.next().unwrap_or(true));
                    result.remarks.extend(remarks);
                    // The other port of a board that could not be asked may answer yet.
                    known = (result.devices.iter())
                        .map(|manned| match manned.found.probed {
                            Probed::Blocked(_) => manned.found.address.clone(),
                            Probed::Answers | Probed::Silent => manned.found.key.clone(),
                        })
                        .collect();
                    result.trouble = None;
                }
                Err(cause) => result.trouble = Some(cause),
            }
            let found = || result.devices.iter().map(|manned| &manned.found);
            result.earlier = Earlier::of(&self.earlier, &target.name, found());
            let is_complete = target.expect.holds(result.count()) && !result.earlier.is_work_missing;
            if is_complete || Instant::now() >= end {
                break;
            }
            sleep_until((Instant::now() + LOOK_AGAIN).min(end)).await;
        }
        result.remarks.extend(told_apart_by_place(result.devices.iter().map(|manned| &manned.found)));
        let held: HashSet<&str> = result.devices.iter().map(|manned| manned.found.key.as_str()).collect();
        for port in self.source.in_bootloader(target).await {
            if !held.contains(port.key.as_str()) {
                result.in_bootloader.push(port.address);
            }
        }
        if !result.in_bootloader.is_empty() {
            result.remarks.push(Remark {
                code: "target.in_bootloader",
                message: format!(
                    "not matched, as it is in its bootloader and its application did not come: {}",
                    result.in_bootloader.join(", ")
                ),
            });
        }
        result
    }

    /// Gives a candidate its actor, and asks it for an echo where it was only found by searching.
    async fn man(
        &self,
        target: &Target,
        target_index: usize,
        candidate: Candidate,
        is_one_of_several: bool,
    ) -> Option<Manned> {
        let id = DeviceId(format!("{}/{}", target.name, candidate.address));
        let mut found = Found {
            target: target.name.clone(),
            address: candidate.address.clone(),
            identity: candidate.identity.clone(),
            key: candidate.key.clone(),
            probed: Probed::Answers,
        };
        let claim = candidate.claim;
        let mut worker = Worker::new(
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
                starts_in_bootloader: target.starts_in == Firmware::Bootloader,
                bootloader: target.bootloader,
            },
            names(&self.plan, target, &candidate),
            self.plan.policy.recover.clone(),
            self.reporter.clone(),
            self.clock,
            self.written.clone(),
        );
        worker.uploads = self.uploads.clone();
        let addr = Device::new(worker).start();
        let asked = !claim || self.ask_all || is_one_of_several;
        if asked {
            found.probed =
                addr.send(Probe).await.map_or_else(|_| Probed::Blocked(panicked()), |Answer(probed)| probed);
        }
        if !claim && found.probed == Probed::Silent {
            tracing::debug!(target = target_index, address = %found.address, "answers no echo: not matched");
            return None;
        }
        let adapter = candidate.connector.adapter();
        let descriptors = candidate.connector.descriptors();
        Some(Manned { found, adapter, descriptors, is_open: asked, id, addr })
    }
}

/// Whether its address is the device's own, and not that of a port which may be another one's next. A peripheral is heard
/// only now and then: that it was not just now says nothing.
fn has_own_address(found: &Found) -> bool {
    found.identity.ble.is_some()
}

fn panicked() -> Cause {
    Cause::new(
        Class::Internal,
        "internal.device_panicked",
        "expected an answer from the device's actor, it panicked",
        "this is a defect of flashfleet: please report it",
    )
}

/// Why a target's expectation does not hold; `None` where it does.
pub(super) fn unmet(target: &Target, survey: &TargetDevices) -> Option<Cause> {
    let TargetDevices { devices, in_bootloader, trouble, earlier, .. } = survey;
    if target.expect.holds(survey.count()) {
        return None;
    }
    if let Some(trouble) = trouble {
        return Some(trouble.clone());
    }
    let mut list = if devices.is_empty() {
        "none".to_owned()
    } else {
        devices.iter().map(|manned| manned.found.address.as_str()).collect::<Vec<_>>().join(", ")
    };
    if earlier.absent > 0 {
        list += &format!("; of the earlier run, and not there any more: {}", earlier.absent);
    }
    if !in_bootloader.is_empty() {
        list += &format!("; in their bootloader: {}", in_bootloader.join(", "));
    }
    Some(Cause::new(
        Class::Plan,
        "target.unexpected_count",
        format!(
            "expected {} for target {} within {}, found {}: {list}",
            target.expect.in_words(),
            target.name,
            humantime::format_duration(target.discover),
            survey.count()
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
