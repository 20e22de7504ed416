//! From what a plan or a person says to the peripherals that may be meant, each with a way to open it.

use std::sync::Arc;

use super::super::discover::Candidate;
use super::super::link::{Connector as _, LinkError};
use super::connector::BleConnector;
use super::hub::{BleHub, Sighting};
use super::matching::{BleMatch, is_address, normal};
use crate::cause::{Cause, Class};
use crate::identity::{BleIdentity, Identity};
use crate::plan::{LinkOptions, Pattern, Target};

/// The devices of a target: those that are heard, and those that it names by their address.
///
/// # Errors
/// What is wrong with this machine's Bluetooth.
pub(in super::super) async fn candidates(
    hub: &Arc<BleHub>,
    target: &Target,
    patterns: &[Pattern],
) -> Result<Vec<Candidate>, LinkError> {
    let heard = hub.survey(&target.name, patterns, target.expect.max, target.discover).await?;
    let mut found: Vec<Candidate> = heard
        .into_iter()
        .map(|(sighting, matched)| {
            let claim =
                patterns.iter().any(|pattern| pattern.as_str().eq_ignore_ascii_case(&sighting.seen.address));
            candidate(hub, &sighting, matched == BleMatch::Name, &target.link, claim)
        })
        .collect();
    // A device that was named and is not heard must be told, not passed over.
    for pattern in patterns.iter().filter(|pattern| is_address(pattern.as_str())) {
        let address = normal(pattern.as_str());
        if !found.iter().any(|candidate| candidate.key == key(&address)) {
            found.push(of(hub, address, None, false, &target.link, true));
        }
    }
    Ok(found)
}

/// The device that a person named.
///
/// # Errors
/// `device.not_found`, `device.several`, and what is wrong with this machine's Bluetooth.
pub(in super::super) async fn find(
    hub: &Arc<BleHub>,
    name: &str,
    link: &LinkOptions,
) -> Result<Candidate, Cause> {
    let address = is_address(name).then(|| normal(name));
    let fits = |sighting: &Sighting| match &address {
        Some(address) => sighting.seen.address == *address,
        None => sighting.seen.name.as_deref() == Some(name),
    };
    let found = hub.search(fits, address.is_some()).await.map_err(Cause::from)?;
    match &found[..] {
        [one] => Ok(candidate(hub, one, address.is_none(), link, true)),
        [] => Err(Cause::new(
            Class::Link,
            "device.not_found",
            format!("expected a Bluetooth device that advertises as `{name}`, heard none"),
            "check its power and distance, and that nothing else is connected to it; `flashfleet list --ble` shows what there \
             is",
        )),
        several => {
            let list: Vec<String> =
                several.iter().map(|sighting| format!("ble:{}", sighting.seen.address)).collect();
            Err(Cause::new(
                Class::Plan,
                "device.several",
                format!(
                    "expected one Bluetooth device called `{name}`, heard {}: {}",
                    list.len(),
                    list.join(", ")
                ),
                "name one of them by its address",
            ))
        }
    }
}

fn candidate(
    hub: &Arc<BleHub>,
    sighting: &Sighting,
    by_name: bool,
    link: &LinkOptions,
    claim: bool,
) -> Candidate {
    let address = sighting.seen.address.clone();
    // Chosen now, while it is known who hears it how well.
    hub.assign(&address);
    of(hub, address, sighting.seen.name.clone(), by_name, link, claim)
}

fn of(
    hub: &Arc<BleHub>,
    address: String,
    name: Option<String>,
    by_name: bool,
    link: &LinkOptions,
    claim: bool,
) -> Candidate {
    let connector = BleConnector::new(Arc::clone(hub), address.clone(), name.clone(), by_name, link.mtu);
    Candidate {
        address: connector.address(),
        key: key(&address),
        identity: Identity { usb: None, ble: Some(BleIdentity { name, address }) },
        connector: Arc::new(connector),
        claim,
    }
}

fn key(address: &str) -> String {
    format!("ble:{address}")
}
