//! `flashfleet list --ble`: the Bluetooth devices in reach, and what a plan says of each. Its place in the list is in
//! `list`.

use std::time::Duration;

use serde::Serialize;

use super::list::{Opinion, printable, runtime};
use crate::cause::Cause;
use crate::plan::{MatchKind, Target};
use crate::transport::ble::{Sighting, matches_ble};
use crate::transport::{Address, Discovery};

/// One device in reach.
#[derive(Debug, Serialize)]
pub(super) struct ListedPeripheral {
    address: String,
    name: Option<String>,
    /// Signal strength in dBm at the adapter; `None` where it is connected and does not advertise.
    rssi: Option<i16>,
    /// The adapter that hears it best.
    adapter: String,
    /// It advertises the SMP service.
    smp: bool,
    /// What each target that is about Bluetooth says of it, in the plan's order.
    targets: Vec<Opinion>,
}

/// Listens for this many seconds.
///
/// # Errors
/// No Bluetooth service, no adapter, none that is switched on.
pub(super) fn listen(seconds: u32) -> Result<Vec<Sighting>, Cause> {
    let discovery = Discovery::new();
    let heard = discovery.ble().listen_for(Duration::from_secs(seconds.into()));
    runtime()?.block_on(heard).map_err(Cause::from)
}

/// One entry for each device, the strongest first.
pub(super) fn peripherals(heard: &[Sighting], targets: &[Target]) -> Vec<ListedPeripheral> {
    let mut best: Vec<&Sighting> = Vec::new();
    for sighting in heard {
        match best.iter_mut().find(|other| other.seen.address == sighting.seen.address) {
            Some(other) if other.seen.rssi < sighting.seen.rssi => *other = sighting,
            Some(_) => {}
            None => best.push(sighting),
        }
    }
    best.sort_by_key(|sighting| (std::cmp::Reverse(sighting.seen.rssi), sighting.seen.address.clone()));
    best.into_iter()
        .map(|sighting| ListedPeripheral {
            address: Address::Ble(sighting.seen.address.clone()).to_string(),
            name: sighting.seen.name.clone(),
            rssi: sighting.seen.rssi,
            adapter: sighting.adapter.clone(),
            smp: sighting.seen.smp,
            targets: targets
                .iter()
                .filter_map(|target| match &target.matcher.kind {
                    MatchKind::Ble(patterns) => {
                        let address = Address::Ble(sighting.seen.address.clone()).to_string();
                        let mismatch = matches_ble(patterns, &sighting.seen).err();
                        Some(Opinion::of(target, address, mismatch.into_iter().collect()))
                    }
                    _ => None,
                })
                .collect(),
        })
        .collect()
}

/// How many devices a target means.
pub(super) fn matching(peripherals: &[ListedPeripheral], target: &str) -> usize {
    let means = |opinion: &Opinion| opinion.matches && opinion.target == target;
    peripherals.iter().filter(|peripheral| peripheral.targets.iter().any(means)).count()
}

/// The table.
pub(super) fn text(peripherals: &[ListedPeripheral]) -> String {
    if peripherals.is_empty() {
        return "no Bluetooth devices\n".to_owned();
    }
    let mut rows = vec![["DEVICE", "NAME", "RSSI", "ADAPTER", "SMP"].map(str::to_owned)];
    rows.extend(peripherals.iter().map(|peripheral| {
        [
            printable(&peripheral.address),
            peripheral.name.as_deref().map_or_else(|| "-".to_owned(), printable),
            peripheral.rssi.map_or_else(|| "connected".to_owned(), |rssi| format!("{rssi} dBm")),
            printable(&peripheral.adapter),
            if peripheral.smp { "yes" } else { "not advertised" }.to_owned(),
        ]
    }));
    let width = |column: usize| {
        rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count()).max().unwrap_or(0)
    };
    let widths: [usize; 5] = std::array::from_fn(width);
    let mut lines = rows.iter().map(|row| {
        let cells: Vec<String> =
            row.iter().zip(widths).map(|(cell, width)| format!("{cell:width$}")).collect();
        cells.join("  ").trim_end().to_owned() + "\n"
    });
    let mut text = lines.next().unwrap_or_default();
    for (peripheral, line) in peripherals.iter().zip(lines) {
        text += &line;
        peripheral
            .targets
            .iter()
            .for_each(|opinion| text += &format!("  {}\n", opinion.text(&peripheral.address)));
    }
    text
}

#[cfg(test)]
mod tests {
    use tokio::time::Instant;

    use super::*;
    use crate::plan::Pattern;
    use crate::transport::ble::Advertisement;

    fn sighting(address: &str, name: Option<&str>, rssi: i16, adapter: &str, smp: bool) -> Sighting {
        let seen = Advertisement {
            address: address.to_owned(),
            name: name.map(str::to_owned),
            rssi: Some(rssi),
            smp,
        };
        let now = Instant::now();
        Sighting { seen, adapter: adapter.to_owned(), first: now, last: now }
    }

    fn target(pattern: &str) -> Target {
        let kind = MatchKind::Ble(vec![Pattern::new(pattern).unwrap()]);
        Target::new("beacons", kind.into(), Vec::new())
    }

    #[test]
    fn every_device_is_a_line_however_many_adapters_hear_it() {
        let heard = [
            sighting("F0:00:00:00:00:01", Some("Beacon-01"), -70, "hci0", true),
            sighting("F0:00:00:00:00:01", Some("Beacon-01"), -40, "hci1", true),
            sighting("F0:00:00:00:00:02", None, -60, "hci0", false),
            sighting("F0:00:00:00:00:03", Some("\x1b[31mred"), -20, "hci0", false),
        ];
        assert_eq!(
            text(&peripherals(&heard, &[])),
            "\
DEVICE                 NAME           RSSI     ADAPTER  SMP
ble:F0:00:00:00:00:03  \\u{1b}[31mred  -20 dBm  hci0     not advertised
ble:F0:00:00:00:00:01  Beacon-01      -40 dBm  hci1     yes
ble:F0:00:00:00:00:02  -              -60 dBm  hci0     not advertised
"
        );
        assert_eq!(text(&[]), "no Bluetooth devices\n");
    }

    #[test]
    fn a_plan_says_which_target_means_a_device_and_why_not() {
        let heard = [
            sighting("F0:00:00:00:00:01", Some("Beacon-01"), -40, "hci0", false),
            sighting("F0:00:00:00:00:02", Some("Kettle"), -60, "hci0", true),
        ];
        let targets = [target("Beacon-[0-9]{2}")];
        let listed = peripherals(&heard, &targets);
        assert_eq!(matching(&listed, "beacons"), 1);
        let text = text(&listed);
        assert!(text.contains("  beacons: matches\n"), "{text}");
        assert!(text.contains("  beacons: no: ble: expected `Beacon-[0-9]{2}`, got `Kettle`\n"), "{text}");
    }
}
