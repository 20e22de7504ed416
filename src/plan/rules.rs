//! What is wrong although every single value is right: the order of steps, names given twice, one device in two
//! targets. Only what is wrong for certain is told.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::ops::Range;

use super::images::Images;
use super::model::{Match, MatchKind, Pattern, UdpTarget};
use super::places::{self, Place};
use super::problems::{Problems, excerpt};
use super::step::Step;
use super::targets::PlacedTarget;
use crate::transport::Firmware;

/// Steps that cannot do what they are for, after the steps before them.
pub(super) fn check_order(
    problems: &Problems<'_>,
    steps: &[(Step, Range<usize>)],
    images: &Images,
    starts_in: Firmware,
) {
    places::check(problems, steps, starts_in);
    // Image numbers that wait for a test boot, with the image; what may run by now; whether anything was uploaded.
    let mut waiting: BTreeMap<u32, &str> = BTreeMap::new();
    let mut running: Option<&str> = None;
    let mut uploaded = false;
    let mut booted = false;
    let mut place = Place::from(starts_in);
    // What the bootloader was given for image 0.
    let mut written: Option<&str> = None;
    for (step, at) in steps {
        let here = place;
        place = place.after(step);
        if here == Place::Bootloader {
            match step {
                Step::Upload { image, image_number: 0, .. } => written = Some(image),
                Step::Reset { boot_mode: None, .. } => running = written.take(),
                _ => {}
            }
            continue;
        }
        match step {
            Step::Upload { image, image_number, .. } => {
                waiting.insert(*image_number, image);
                uploaded = true;
                booted = false;
                running = None;
            }
            Step::TestBoot => {
                if waiting.is_empty() {
                    let message = "`test-boot` has nothing to test: no `upload` stands before it";
                    let help = "put `- upload: IMAGE` before it, or take it out";
                    problems.add("plan.step_order", at, message, help);
                }
                running = waiting.get(&0).copied();
                waiting.clear();
                booted = true;
            }
            Step::Confirm if !uploaded => {
                let message = "`confirm` has nothing to confirm: no `upload` stands before it";
                let help = "put `- upload: IMAGE` and `- test-boot` before it, or take it out";
                problems.add("plan.step_order", at, message, help);
            }
            Step::Confirm if !booted => {
                let message = "`confirm` comes before the uploaded image was booted";
                problems.add(
                    "plan.step_order",
                    at,
                    message,
                    "put `- test-boot` between `upload` and `confirm`",
                );
            }
            Step::Verify { version, hash, .. } => {
                let Some(image) = running.and_then(|name| images.get(name)?.only(0)) else { continue };
                let wrong_version =
                    version.as_ref().is_some_and(|version| !image.parsed_version().satisfies(version));
                let wrong_hash = hash.as_ref().is_some_and(|hash| hash != image.hash());
                if wrong_version || wrong_hash {
                    let message = format!(
                        "`verify` can never hold: what runs here is image `{}`, version {}",
                        excerpt(running.unwrap_or_default()),
                        image.version()
                    );
                    problems.add(
                        "plan.contradiction",
                        at,
                        message,
                        "change `verify`, or upload another image",
                    );
                }
            }
            Step::Erase { slot } => {
                let image_number = slot / 2;
                if slot % 2 == 1
                    && let Some(image) = waiting.get(&image_number)
                {
                    let message =
                        format!("this erases image `{}`, which was uploaded and not booted", excerpt(image));
                    problems.add("plan.step_order", at, message, "erase before `upload`, or take it out");
                }
            }
            // A program and a command can do anything, a reset boots what some bootloaders choose by themselves.
            Step::Reset { .. }
            | Step::Run { .. }
            | Step::Shell { .. }
            | Step::Smp(_)
            | Step::Activate { .. } => {
                booted = true;
                running = None;
            }
            Step::Confirm
            | Step::Delay(_)
            | Step::Put { .. }
            | Step::Get { .. }
            | Step::Settings(_)
            | Step::SetTime
            | Step::EraseStorage => {}
        }
    }
}

/// Names, addresses and matches that two targets share.
pub(super) fn check_targets(problems: &Problems<'_>, targets: &[PlacedTarget]) {
    let mut names: BTreeMap<&str, &Range<usize>> = BTreeMap::new();
    let mut matches: BTreeMap<String, &PlacedTarget> = BTreeMap::new();
    for placed in targets {
        let name = placed.target.name.as_str();
        if let Some(first) = (!name.is_empty()).then(|| names.insert(name, &placed.name_at)).flatten() {
            let line = problems.line(first.start);
            let message = format!("a target named `{}` stands in line {line} already", excerpt(name));
            problems.add("plan.duplicate_target", &placed.name_at, message, "give each target its own name");
        }
        let Some(key) = match_key(&placed.target.matcher) else { continue };
        if let Some(first) = matches.insert(key, placed) {
            let message =
                format!("every device that this matches is in target `{}` too", excerpt(&first.target.name));
            let help =
                "a device that two targets match is refused: tell them apart, for example by `hub_path`";
            problems.add("plan.device_in_two_targets", &placed.match_at, message, help);
        }
    }
    check_addresses(problems, targets);
}

/// Equal keys match equal devices. `None` for kinds whose addresses are compared one by one, and for simulated devices,
/// of which every target has its own.
fn match_key(matcher: &Match) -> Option<String> {
    let sorted = |sources: BTreeSet<&str>| format!("{sources:?}");
    let kind = match &matcher.kind {
        MatchKind::Usb(patterns) => format!("usb {}", sorted(patterns.iter().map(Pattern::as_str).collect())),
        MatchKind::Port(globs) => {
            format!("port {}", sorted(globs.iter().map(glob::Pattern::as_str).collect()))
        }
        MatchKind::Ble(patterns) => format!("ble {}", sorted(patterns.iter().map(Pattern::as_str).collect())),
        MatchKind::Udp(_) | MatchKind::Tcp(_) | MatchKind::Sim(_) => return None,
    };
    let Match { bootloader_usb, serial_number, product, hub_path, .. } = matcher;
    let conditions = [bootloader_usb, serial_number, product, hub_path]
        .map(|pattern| pattern.as_ref().map(Pattern::as_str));
    Some(format!("{kind} {conditions:?}"))
}

/// An address of the plan: where it is, and in which target.
#[derive(Debug, Clone, Copy)]
struct Placed<'p> {
    at: &'p Range<usize>,
    target: &'p PlacedTarget,
    is_range: bool,
}

fn check_addresses(problems: &Problems<'_>, targets: &[PlacedTarget]) {
    let mut names: BTreeMap<(&str, u16), Placed<'_>> = BTreeMap::new();
    let mut tcp: BTreeMap<&str, Placed<'_>> = BTreeMap::new();
    // Sorted by port and first address, addresses that overlap are neighbours.
    let mut ranges: Vec<((u16, IpAddr, IpAddr), Placed<'_>)> = Vec::new();
    for target in targets {
        let mut places = target.addresses_at.iter().map(|at| Placed { at, target, is_range: false });
        match &target.target.matcher.kind {
            MatchKind::Tcp(addresses) => {
                for (address, placed) in addresses.iter().zip(&mut places) {
                    if let Some(first) = tcp.insert(address, placed) {
                        same_device(problems, first, placed);
                    }
                }
            }
            MatchKind::Udp(entries) => {
                for (entry, placed) in entries.iter().zip(&mut places) {
                    match entry {
                        UdpTarget::Range { first, last, port } => {
                            ranges.push(((*port, *first, *last), Placed { is_range: true, ..placed }));
                        }
                        UdpTarget::Host { host, port } => match host.parse::<IpAddr>() {
                            Ok(address) => ranges.push(((*port, address, address), placed)),
                            Err(_) => {
                                if let Some(first) = names.insert((host, *port), placed) {
                                    same_device(problems, first, placed);
                                }
                            }
                        },
                    }
                }
            }
            MatchKind::Usb(_) | MatchKind::Port(_) | MatchKind::Ble(_) | MatchKind::Sim(_) => {}
        }
    }
    ranges.sort_by_key(|(range, placed)| (*range, placed.at.start));
    let mut widest: Option<((u16, IpAddr), Placed<'_>)> = None;
    for ((port, first, last), placed) in ranges {
        if let Some(((wide_port, wide_last), wide)) = widest
            && wide_port == port
            && wide_last.is_ipv4() == first.is_ipv4()
            && first <= wide_last
        {
            same_device(problems, wide, placed);
            if last <= wide_last {
                continue;
            }
        }
        widest = Some(((port, last), placed));
    }
}

/// Reports that two addresses name one device, at the one that comes later in the plan.
fn same_device(problems: &Problems<'_>, a: Placed<'_>, b: Placed<'_>) {
    let (first, second) = if a.at.start <= b.at.start { (a, b) } else { (b, a) };
    let line = problems.line(first.at.start);
    if std::ptr::eq(first.target, second.target) {
        // Within one target, a claim in a range that is searched is one device, and a claim.
        if first.is_range != second.is_range {
            return;
        }
        let message = format!("this names a device that line {line} names already");
        problems.add("plan.duplicate_address", second.at, message, "name each device once");
    } else {
        let name = excerpt(&first.target.target.name);
        let message = format!("this names a device that target `{name}` names in line {line}");
        let help = "a device in two targets is refused: take it out of one";
        problems.add("plan.device_in_two_targets", second.at, message, help);
    }
}
