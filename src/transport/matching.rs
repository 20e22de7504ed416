//! Which port a plan's `match` means, and why not: the one function that decides it. No port is looked for here.

use std::fmt;

use serde::Serialize;

use super::link::Firmware;
use super::ports::Port;
use crate::identity::UsbIdentity;
use crate::plan::{Match, MatchKind, Pattern};

/// A key of a `match` that a port does not satisfy.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Mismatch {
    /// The key, for example `serial_number`.
    pub key: &'static str,
    /// What the plan asks for.
    pub expected: String,
    /// What the port has; `None` where it has nothing of the kind.
    pub actual: Option<String>,
}

impl fmt::Display for Mismatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { key, expected, actual } = self;
        match actual {
            Some(actual) => write!(f, "{key}: expected `{expected}`, got `{actual}`"),
            None => write!(f, "{key}: expected `{expected}`, the port has none"),
        }
    }
}

/// Whether every key of `matcher` holds for `port`; gives what the board behind it runs.
///
/// # Errors
/// The first key that does not hold, kind first.
pub fn matches(matcher: &Match, port: &Port) -> Result<Firmware, Mismatch> {
    let runs = firmware(matcher, port);
    mismatches(matcher, port).into_iter().next().map_or(Ok(runs), Err)
}

/// What the board behind a port runs: its bootloader where that is what the plan calls `bootloader_usb`.
fn firmware(matcher: &Match, port: &Port) -> Firmware {
    let in_bootloader = matcher
        .bootloader_usb
        .as_ref()
        .zip(port.identity.usb.as_ref())
        .is_some_and(|(pattern, usb)| matches_usb(pattern, usb));
    if in_bootloader { Firmware::Bootloader } else { Firmware::Application }
}

/// Every key of `matcher` that does not hold for `port`, kind first. A port that is in its bootloader matches by
/// `bootloader_usb`.
#[must_use]
pub fn mismatches(matcher: &Match, port: &Port) -> Vec<Mismatch> {
    let usb = port.identity.usb.as_ref();
    let mut all = Vec::new();
    match &matcher.kind {
        MatchKind::Usb(patterns) => {
            let known = patterns.iter().chain(&matcher.bootloader_usb);
            if !usb.is_some_and(|usb| known.clone().any(|pattern| matches_usb(pattern, usb))) {
                let expected: Vec<&str> = known.map(Pattern::as_str).collect();
                all.push(mismatch("usb", &expected.join("` or `"), usb.map(UsbIdentity::id)));
            }
        }
        MatchKind::Port(globs) => {
            if !names(port).any(|name| globs.iter().any(|glob| matches_name(glob, &name))) {
                let expected: Vec<&str> = globs.iter().map(glob::Pattern::as_str).collect();
                let actual: Vec<String> = names(port).collect();
                all.push(mismatch("port", &expected.join("` or `"), Some(actual.join("` or `"))));
            }
        }
        MatchKind::Ble(patterns) => {
            let expected: Vec<&str> = patterns.iter().map(Pattern::as_str).collect();
            all.push(mismatch("ble", &expected.join("` or `"), None));
        }
        MatchKind::Udp(_) => all.push(mismatch("udp", "an address on the network", None)),
        MatchKind::Tcp(places) => all.push(mismatch("tcp", &places.join("` or `"), None)),
        MatchKind::Sim(_) => all.push(mismatch("sim", "a simulated device", None)),
    }
    let texts = [
        ("serial_number", &matcher.serial_number, usb.and_then(|usb| usb.serial_number.as_deref())),
        ("product", &matcher.product, usb.and_then(|usb| usb.product.as_deref())),
        ("hub_path", &matcher.hub_path, usb.and_then(|usb| usb.hub_path.as_deref())),
    ];
    for (key, pattern, actual) in texts {
        if let Some(pattern) = pattern
            && !actual.is_some_and(|actual| pattern.matches(actual))
        {
            all.push(mismatch(key, pattern.as_str(), actual.map(str::to_owned)));
        }
    }
    all
}

fn mismatch(key: &'static str, expected: &str, actual: Option<String>) -> Mismatch {
    Mismatch { key, expected: expected.to_owned(), actual }
}

/// Whether a glob on port names means `name`, by the rules of globs on files: `*` stops at `/`.
#[must_use]
pub fn matches_name(glob: &glob::Pattern, name: &str) -> bool {
    let options = glob::MatchOptions { require_literal_separator: true, ..glob::MatchOptions::new() };
    glob.matches_with(name, options)
}

/// What a plan's `match` calls a port: by the name that its globs mean, the port's own where that is one of them.
#[must_use]
pub fn name_in_plan(matcher: &Match, port: &Port) -> String {
    let globs: &[glob::Pattern] = match &matcher.kind {
        MatchKind::Port(globs) => globs,
        _ => &[],
    };
    names(port)
        .find(|name| globs.iter().any(|glob| matches_name(glob, name)))
        .unwrap_or_else(|| port.path.to_string_lossy().into_owned())
}

/// Every name of a port, its own first.
pub(super) fn names(port: &Port) -> impl Iterator<Item = String> {
    std::iter::once(&port.path).chain(&port.links).map(|name| name.to_string_lossy().into_owned())
}

/// Whether a `usb:` pattern means this device. A pattern that leaves the interface out means any; one that speaks of
/// interfaces, as `2fe3:0004(:0)?` does, means those.
#[must_use]
pub fn matches_usb(pattern: &Pattern, usb: &UsbIdentity) -> bool {
    let full = usb.id();
    if pattern.matches(&full) {
        return true;
    }
    let short = UsbIdentity { interface: None, ..usb.clone() }.id();
    full != short
        && pattern.matches(&short)
        // It speaks of interfaces if there is one that it would take.
        && !(0..=u8::MAX).any(|interface| pattern.matches(&format!("{short}:{interface}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn usb(interface: Option<u8>) -> UsbIdentity {
        UsbIdentity {
            vid: 0x2fe3,
            pid: 0x00ab,
            interface,
            serial_number: Some("FF01".to_owned()),
            product: None,
            hub_path: Some("1-2.3".to_owned()),
        }
    }

    fn matcher(kind: MatchKind) -> Match {
        Match { kind, bootloader_usb: None, serial_number: None, product: None, hub_path: None }
    }

    fn pattern(text: &str) -> Pattern {
        Pattern::new(text).unwrap()
    }

    #[test]
    fn the_interface_may_be_left_out_to_mean_any() {
        for (text, interface, expected) in [
            ("2fe3:00ab", Some(0), true),
            ("2FE3:00AB", Some(2), true),
            ("2fe3:00ab", None, true),
            ("2fe3:00ab:2", Some(2), true),
            ("2fe3:00ab:2", Some(0), false),
            ("2fe3:00ab:2", Some(20), false),
            ("2fe3:00ab:2", None, false),
            ("2fe3:00ab(:0)?", Some(0), true),
            ("2fe3:00ab(:0)?", Some(2), false),
            ("2fe3:00ab(:0)?", None, true),
            ("2fe3:00ab:[02]", Some(2), true),
            ("2fe3:.*", Some(2), true),
            ("2fe3:00a", Some(0), false),
            ("fe3:00ab", Some(0), false),
            ("(?:2fe3|1915):00(ab|cd)", Some(3), true),
        ] {
            assert_eq!(matches_usb(&pattern(text), &usb(interface)), expected, "{text} on {interface:?}");
        }
    }

    #[test]
    fn a_mismatch_names_the_first_key_that_does_not_hold() {
        let port = Port::usb("/dev/ttyACM0", usb(Some(0)));
        let mut plan = matcher(MatchKind::Usb(vec![pattern("2fe3:00ab")]));
        assert_eq!(matches(&plan, &port), Ok(Firmware::Application));
        plan.hub_path = Some(pattern("1-3\\..*"));
        assert_eq!(
            matches(&plan, &port).unwrap_err().to_string(),
            r"hub_path: expected `1-3\..*`, got `1-2.3`"
        );
        plan.product = Some(pattern("Jig"));
        assert_eq!(
            matches(&plan, &port).unwrap_err().to_string(),
            "product: expected `Jig`, the port has none"
        );
        plan.serial_number = Some(pattern("AA.*"));
        assert_eq!(
            matches(&plan, &port).unwrap_err().to_string(),
            "serial_number: expected `AA.*`, got `FF01`"
        );
        plan.kind = MatchKind::Usb(vec![pattern("1915:.*"), pattern("1366:.*")]);
        assert_eq!(
            matches(&plan, &port).unwrap_err().to_string(),
            "usb: expected `1915:.*` or `1366:.*`, got `2fe3:00ab:0`"
        );
    }

    #[test]
    fn every_key_that_does_not_hold_is_told() {
        let port = Port::usb("/dev/ttyACM0", usb(Some(0)));
        let plan = Match {
            serial_number: Some(pattern("AA.*")),
            product: Some(pattern("Jig")),
            hub_path: Some(pattern("1-2.3")),
            ..matcher(MatchKind::Usb(vec![pattern("1915:.*")]))
        };
        let keys: Vec<_> = mismatches(&plan, &port).into_iter().map(|one| (one.key, one.actual)).collect();
        let some = |text: &str| Some(text.to_owned());
        assert_eq!(
            keys,
            [("usb", some("2fe3:00ab:0")), ("serial_number", some("FF01")), ("product", None)],
            "and the one that holds is not"
        );
    }

    #[test]
    fn a_board_in_its_bootloader_is_the_same_board() {
        let port = Port::usb("/dev/ttyACM0", UsbIdentity { pid: 0x100, ..usb(Some(0)) });
        let mut plan = matcher(MatchKind::Usb(vec![pattern("2fe3:00ab")]));
        assert!(matches(&plan, &port).is_err());
        plan.bootloader_usb = Some(pattern("2fe3:0100"));
        assert_eq!(matches(&plan, &port), Ok(Firmware::Bootloader));
        // A wide pattern does not make an application of it.
        plan.kind = MatchKind::Usb(vec![pattern("2fe3:.*")]);
        assert_eq!(matches(&plan, &port), Ok(Firmware::Bootloader));
        let application = Port::usb("/dev/ttyACM0", usb(Some(0)));
        assert_eq!(matches(&plan, &application), Ok(Firmware::Application));
    }

    #[test]
    fn port_globs_take_every_name_of_a_port_and_further_keys_hold_too() {
        let mut port = Port::usb("/dev/ttyACM0", usb(Some(0)));
        port.links.push("/dev/serial/by-path/pci-1-jig".into());
        let mut plan =
            matcher(MatchKind::Port(vec![glob::Pattern::new("/dev/serial/by-path/*-jig*").unwrap()]));
        assert_eq!(matches(&plan, &port), Ok(Firmware::Application));
        plan.serial_number = Some(pattern("ff01"));
        assert_eq!(matches(&plan, &port), Ok(Firmware::Application));
        assert_eq!(matches(&plan, &Port::plain("/dev/ttyS0")).unwrap_err().key, "port");
        let plain = Port { identity: crate::identity::Identity::default(), ..port };
        assert_eq!(matches(&plan, &plain).unwrap_err().key, "serial_number");
    }

    #[test]
    fn a_port_is_no_network_device() {
        let port = Port::plain("/dev/ttyS0");
        assert_eq!(
            matches(&matcher(MatchKind::Tcp(vec!["rack1:4001".to_owned()])), &port).unwrap_err().key,
            "tcp"
        );
        assert_eq!(matches(&matcher(MatchKind::Usb(vec![pattern(".*")])), &port).unwrap_err().actual, None);
    }
}
