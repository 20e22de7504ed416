//! Names of devices in JUnit: stable from run to run, and never the same twice. Nothing else.

use std::collections::HashMap;

use super::model::{DeviceReport, Report};

/// `plan.target.SLOT` for every device of a report, in its order.
///
/// A dot inside a part becomes `_`: Jenkins takes everything before the last dot for the package, and the usual GitHub
/// actions take what follows it for the file. Where two devices share a slot (two ports of one board, merged runs),
/// each gets what tells them apart: interface number, serial number, Bluetooth address, address, then a number.
pub(super) fn class_names(report: &Report) -> Vec<String> {
    let devices = &report.devices;
    let mut level = vec![0_usize; devices.len()];
    let mut names: Vec<String> = devices.iter().map(|device| class_name(report, device, 0)).collect();
    for _ in 0..LEVELS {
        let mut count: HashMap<&str, usize> = HashMap::new();
        names.iter().for_each(|name| *count.entry(name).or_default() += 1);
        let doubled: Vec<usize> = (0..names.len()).filter(|at| count[names[*at].as_str()] > 1).collect();
        for at in doubled {
            level[at] += 1;
            names[at] = class_name(report, &devices[at], level[at]);
        }
    }
    number_doubles(names)
}

/// How many things can tell two devices of one slot apart.
const LEVELS: usize = 4;

fn class_name(report: &Report, device: &DeviceReport, level: usize) -> String {
    let usb = device.identity.usb.as_ref();
    let mut slot = device.slot.clone();
    let further = [
        usb.and_then(|usb| usb.interface).map(|interface| format!("interface {interface}")),
        usb.and_then(|usb| usb.serial_number.clone()),
        device.identity.ble.as_ref().map(|ble| ble.address.clone()),
        Some(device.address.clone()),
    ];
    for part in further.into_iter().take(level).flatten() {
        slot = format!("{slot} {part}");
    }
    let plan = device.plan.as_deref().or(report.run.plan.as_deref());
    join(&[plan.unwrap_or("unknown"), &device.target, &slot])
}

/// Parts joined by dots, none inside a part.
pub(super) fn join(parts: &[&str]) -> String {
    parts.iter().map(|part| clean(&part.replace('.', "_"))).collect::<Vec<_>>().join(".")
}

/// A name as readers will see it: what XML cannot carry is gone and no blanks surround it. Names are compared in this
/// form, so that none become equal later.
pub(super) fn clean(name: &str) -> String {
    match super::junit::xml(name).trim() {
        "" => "unnamed".to_owned(),
        name => name.to_owned(),
    }
}

/// Appends ` #2`, ` #3` … to the second and later ones of equal names; never makes a new double.
pub(super) fn number_doubles(names: Vec<String>) -> Vec<String> {
    let mut used: HashMap<String, usize> = HashMap::new();
    for name in &names {
        used.insert(name.clone(), 0);
    }
    names
        .into_iter()
        .map(|name| {
            let count = used.get_mut(&name).map_or(1, |count| {
                *count += 1;
                *count
            });
            if count == 1 {
                return name;
            }
            let free =
                (count..).map(|n| format!("{name} #{n}")).find(|candidate| !used.contains_key(candidate));
            let free = free.unwrap_or(name);
            used.insert(free.clone(), 1);
            free
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn doubles_get_numbers_that_are_free() {
        let names = ["a", "a", "a #2", "b", "a"].map(str::to_owned).to_vec();
        assert_eq!(number_doubles(names), ["a", "a #3", "a #2", "b", "a #4"]);
    }

    #[test]
    fn names_are_compared_as_readers_see_them() {
        assert_eq!(clean("\u{1b}[31m re\u{0}set \u{ffff}"), "re set \u{fffd}".replace("re set", "reset"));
        assert_eq!(clean(" \u{7} "), "unnamed");
    }

    #[test]
    fn dots_inside_parts_are_replaced() {
        assert_eq!(join(&["line 2.1", "sensors", "1-2.3"]), "line 2_1.sensors.1-2_3");
    }
}
