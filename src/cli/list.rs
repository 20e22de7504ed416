//! `flashfleet list [PLAN]`: the serial ports of this machine, and what a plan says of each. Bluetooth devices are told of
//! in `list_ble`.

use std::collections::HashSet;
use std::io::Write;
use std::ops::RangeInclusive;
use std::path::PathBuf;

use clap::Args;
use serde::Serialize;

use super::diagnose::{say, show_plan_errors};
use super::list_ble::{self, ListedPeripheral};
use crate::cause::{Cause, Class};
use crate::exit::Exit;
use crate::identity::UsbIdentity;
use crate::plan::{MatchKind, Plan, Target};
use crate::transport::ble::Sighting;
use crate::transport::{
    Address, Discovery, Firmware, LinkError, Mismatch, Port, device_key, matches, mismatches, name_in_plan,
};

/// The name of the JSON format.
const SCHEMA: &str = "flashfleet.list/1";

/// How long Bluetooth devices are listened for, in seconds.
const LISTEN_S: RangeInclusive<u32> = 1..=300;

/// Show every device in reach, and which target of a plan each one matches.
#[derive(Debug, Args)]
pub struct ListArgs {
    /// A plan: say of every port which of its targets match, and why the others do not.
    pub plan: Option<PathBuf>,
    /// Write one JSON object to standard output.
    #[arg(long)]
    pub json: bool,
    /// Look for Bluetooth devices too, for this long.
    #[arg(long, value_name = "SECONDS", num_args = 0..=1, default_missing_value = "10", value_parser = seconds)]
    pub ble: Option<u32>,
}

/// How long to listen, in seconds. What follows `--ble` may well be a plan.
fn seconds(text: &str) -> Result<u32, String> {
    let seconds = text.parse().ok().filter(|seconds| LISTEN_S.contains(seconds));
    seconds.ok_or_else(|| {
        let (least, most) = (LISTEN_S.start(), LISTEN_S.end());
        format!(
            "expected {least} to {most} seconds as in `--ble=10`; a plan comes before it: `list PLAN --ble`"
        )
    })
}

/// Runs the command.
pub fn run(args: &ListArgs, out: &mut dyn Write, err: &mut dyn Write) -> Exit {
    let plan = match args.plan.as_deref().map(crate::plan::load).transpose() {
        Ok(plan) => plan,
        Err(diagnostics) => {
            show_plan_errors(err, &diagnostics);
            return Exit::Usage;
        }
    };
    let listing = match ports(plan.as_ref()) {
        Ok(ports) => Listing::new(&ports, plan.as_ref()),
        Err(cause) => {
            say(err, &cause);
            return Exit::of_cause(&cause);
        }
    };
    let (listing, trouble) = match args.ble.map(list_ble::listen).transpose() {
        Ok(None) => (listing, None),
        Ok(Some(heard)) => (listing.with_ble(&heard, plan.as_ref()), None),
        // The ports are there all the same.
        Err(cause) => (Listing { ble: Listened::InVain, ..listing }, Some(cause)),
    };
    let text = if args.json { listing.json() } else { listing.text() };
    // Whoever reads the list may have seen enough: a closed pipe is no failure.
    let _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
    trouble.map_or(Exit::Passed, |cause| {
        say(err, &cause);
        Exit::of_cause(&cause)
    })
}

/// Every port that the machine lists, and those that the plan's globs lead to.
fn ports(plan: Option<&Plan>) -> Result<Vec<Port>, Cause> {
    let globs: Vec<_> = plan
        .into_iter()
        .flat_map(|plan| &plan.targets)
        .filter_map(|target| match &target.matcher.kind {
            MatchKind::Port(globs) => Some(globs.clone()),
            _ => None,
        })
        .flatten()
        .collect();
    runtime()?.block_on(Discovery::new().list(&globs)).map_err(LinkError::into)
}

/// Something to wait with.
pub(super) fn runtime() -> Result<tokio::runtime::Runtime, Cause> {
    tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(|error| {
        Cause::new(
            Class::Station,
            "station.unavailable",
            format!("cannot start: {error}"),
            "close other programs",
        )
    })
}

/// Everything that is told.
#[derive(Debug, Serialize)]
struct Listing {
    schema: &'static str,
    ports: Vec<ListedPort>,
    #[serde(skip_serializing_if = "Listened::is_not")]
    ble: Listened,
    /// Empty without a plan.
    targets: Vec<ListedTarget>,
}

/// The Bluetooth devices in reach.
#[derive(Debug, Serialize)]
#[serde(untagged)]
enum Listened {
    /// Nobody asked for them.
    Not,
    /// This machine's Bluetooth cannot be used; `null` in JSON.
    InVain,
    /// Those that were heard.
    Heard(Vec<ListedPeripheral>),
}

impl Listened {
    fn is_not(&self) -> bool {
        matches!(self, Self::Not)
    }
}

#[derive(Debug, Serialize)]
struct ListedPort {
    address: String,
    /// Other names of the port that the plan's globs found.
    links: Vec<String>,
    usb: Option<UsbIdentity>,
    /// What each target that is about ports says of it, in the plan's order.
    targets: Vec<Opinion>,
}

/// What one target says of one port, or of one Bluetooth device.
#[derive(Debug, Serialize)]
pub(super) struct Opinion {
    pub(super) target: String,
    pub(super) matches: bool,
    /// What `run` calls the device, where it matches.
    address: Option<String>,
    /// It matches, and is in its bootloader.
    in_bootloader: bool,
    /// Where the target's devices start: with those in their bootloader `run` begins there, or waits for their application.
    #[serde(skip)]
    starts_in: Firmware,
    /// Every key that does not hold.
    mismatches: Vec<Mismatch>,
}

#[derive(Debug, Serialize)]
struct ListedTarget {
    name: String,
    /// The kind of its `match`.
    kind: &'static str,
    /// Whether it is about ports; devices elsewhere are not looked for here.
    listed: bool,
    expect: String,
    /// How many of the ports match.
    matching: usize,
    /// How many devices these are ports of: of a board with several the one that answers is used.
    devices: usize,
}

impl Listing {
    fn new(ports: &[Port], plan: Option<&Plan>) -> Self {
        let plan_targets = plan.map_or(&[][..], |plan| &plan.targets);
        let matching = |target: &Target| {
            let keys = ports.iter().filter(|port| matches(&target.matcher, port).is_ok()).map(device_key);
            let keys: Vec<String> = keys.collect();
            (keys.len(), keys.into_iter().collect::<HashSet<_>>().len())
        };
        let targets = plan_targets
            .iter()
            .map(|target| {
                let (matching, devices) = matching(target);
                ListedTarget {
                    name: target.name.clone(),
                    kind: kind(&target.matcher.kind),
                    listed: is_about_ports(target),
                    expect: target.expect.to_string(),
                    matching,
                    devices,
                }
            })
            .collect();
        let ports = ports.iter().map(|port| ListedPort::new(port, plan_targets)).collect();
        Self { schema: SCHEMA, ports, ble: Listened::Not, targets }
    }

    /// The same with what was heard.
    fn with_ble(mut self, heard: &[Sighting], plan: Option<&Plan>) -> Self {
        let targets = plan.map_or(&[][..], |plan| &plan.targets);
        let peripherals = list_ble::peripherals(heard, targets);
        for (listed, target) in self.targets.iter_mut().zip(targets) {
            if matches!(target.matcher.kind, MatchKind::Ble(_)) {
                listed.listed = true;
                listed.matching = list_ble::matching(&peripherals, &target.name);
                listed.devices = listed.matching;
            }
        }
        self.ble = Listened::Heard(peripherals);
        self
    }

    fn json(&self) -> String {
        // Nothing in here can fail to be written as JSON.
        serde_json::to_string_pretty(self).unwrap_or_default() + "\n"
    }

    fn text(&self) -> String {
        let mut rows =
            vec![["PORT", "VID:PID:IF", "SERIAL NUMBER", "HUB PATH", "PRODUCT"].map(str::to_owned)];
        rows.extend(self.ports.iter().map(ListedPort::row));
        let widths: [usize; 5] = std::array::from_fn(|column| {
            rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count()).max().unwrap_or(0)
        });
        let line = |row: &[String; 5]| {
            let cells: Vec<String> =
                row.iter().zip(widths).map(|(cell, width)| format!("{cell:width$}")).collect();
            cells.join("  ").trim_end().to_owned() + "\n"
        };
        let mut text = String::new();
        if self.ports.is_empty() {
            text += "no serial ports\n";
        } else {
            let (head, body) = rows.split_at(1);
            head.iter().for_each(|row| text += &line(row));
            for (port, row) in self.ports.iter().zip(body) {
                text += &line(row);
                port.targets
                    .iter()
                    .for_each(|opinion| text += &format!("  {}\n", opinion.text(&port.address)));
                let matched: Vec<&str> = port
                    .targets
                    .iter()
                    .filter(|opinion| opinion.matches)
                    .map(|opinion| opinion.target.as_str())
                    .collect();
                if matched.len() > 1 {
                    text += &format!(
                        "  a device that several targets match is refused: {}\n",
                        matched.join(", ")
                    );
                }
            }
        }
        if let Listened::Heard(peripherals) = &self.ble {
            text += &list_ble::text(peripherals);
        }
        for target in &self.targets {
            let ListedTarget { name, kind, listed, expect, matching, devices } = target;
            text += &if *listed {
                let what = if *kind == "ble" { "Bluetooth devices" } else { "ports" };
                let of = if devices == matching {
                    String::new()
                } else if *devices == 1 {
                    ", all of one device".to_owned()
                } else {
                    format!(" (of {devices} devices)")
                };
                format!("target {}: {matching} of the {what} match{of}, expected {expect}\n", printable(name))
            } else {
                let why = match &self.ble {
                    Listened::InVain if *kind == "ble" => "could not be looked for",
                    _ if *kind == "ble" => "are not looked for here without --ble",
                    _ => "are not looked for here",
                };
                format!("target {}: {kind} devices {why}\n", printable(name))
            };
        }
        text
    }
}

impl ListedPort {
    fn new(port: &Port, targets: &[Target]) -> Self {
        Self {
            address: Address::Serial(port.path.to_string_lossy().into_owned()).to_string(),
            links: port.links.iter().map(|link| link.to_string_lossy().into_owned()).collect(),
            usb: port.identity.usb.clone(),
            targets: targets
                .iter()
                .filter(|target| is_about_ports(target))
                .map(|target| Opinion::new(target, port))
                .collect(),
        }
    }

    fn row(&self) -> [String; 5] {
        let usb = self.usb.as_ref();
        let or_none = |text: Option<&str>| text.map_or("-".to_owned(), printable);
        [
            printable(&self.address),
            or_none(usb.map(UsbIdentity::id).as_deref()),
            or_none(usb.and_then(|usb| usb.serial_number.as_deref())),
            or_none(usb.and_then(|usb| usb.hub_path.as_deref())),
            or_none(usb.and_then(|usb| usb.product.as_deref())),
        ]
    }
}

impl Opinion {
    fn new(target: &Target, port: &Port) -> Self {
        let runs = matches(&target.matcher, port);
        let name = Address::Serial(name_in_plan(&target.matcher, port)).to_string();
        Self {
            in_bootloader: runs == Ok(Firmware::Bootloader),
            ..Self::of(target, name, mismatches(&target.matcher, port))
        }
    }

    /// What it says of a device that `run` would call `address`.
    pub(super) fn of(target: &Target, address: String, mismatches: Vec<Mismatch>) -> Self {
        let matches = mismatches.is_empty();
        let address = matches.then_some(address);
        let (target, starts_in) = (target.name.clone(), target.starts_in);
        Self { target, matches, address, in_bootloader: false, starts_in, mismatches }
    }

    /// What it says of the port or device at `address`.
    pub(super) fn text(&self, address: &str) -> String {
        let target = printable(&self.target);
        let reasons: Vec<String> =
            self.mismatches.iter().map(|mismatch| printable(&mismatch.to_string())).collect();
        match &self.address {
            None => format!("{target}: no: {}", reasons.join("; ")),
            Some(_) if self.in_bootloader && self.starts_in == Firmware::Application => {
                format!("{target}: matches, but is in its bootloader: its application is waited for")
            }
            Some(name) => {
                let name = if name == address { String::new() } else { format!(", as {}", printable(name)) };
                let place =
                    if self.in_bootloader { ", in its bootloader, where its steps start" } else { "" };
                format!("{target}: matches{name}{place}")
            }
        }
    }
}

fn is_about_ports(target: &Target) -> bool {
    matches!(target.matcher.kind, MatchKind::Usb(_) | MatchKind::Port(_))
}

fn kind(kind: &MatchKind) -> &'static str {
    match kind {
        MatchKind::Usb(_) => "usb",
        MatchKind::Port(_) => "port",
        MatchKind::Ble(_) => "ble",
        MatchKind::Udp(_) => "udp",
        MatchKind::Tcp(_) => "tcp",
        MatchKind::Sim(_) => "sim",
    }
}

/// A text from a device, safe to show: what would move the cursor or change colours is escaped.
pub(super) fn printable(text: &str) -> String {
    text.chars()
        .flat_map(|c| if c.is_control() { c.escape_default().collect::<Vec<_>>() } else { vec![c] })
        .collect()
}

#[cfg(test)]
mod tests {

    use super::*;
    use crate::plan::{Expect, Match, Pattern};

    fn ports() -> Vec<Port> {
        let usb = |interface, serial: &str, product: &str| UsbIdentity {
            vid: 0x2fe3,
            pid: 4,
            interface: Some(interface),
            serial_number: Some(serial.to_owned()),
            product: Some(product.to_owned()),
            hub_path: Some("1-2.3".to_owned()),
        };
        vec![
            Port::usb("/dev/ttyACM0", usb(0, "FF01", "Zephyr CDC")),
            Port::usb("/dev/ttyACM1", usb(2, "AA", "\x1b[31mred\n")),
            Port::plain("/dev/ttyS0"),
        ]
    }

    fn plan() -> Plan {
        let target = |name: &str, kind: MatchKind, serial: Option<&str>| {
            let matcher = Match {
                serial_number: serial.map(|text| Pattern::new(text).unwrap()),
                product: serial.map(|_| Pattern::new("Zephyr.*").unwrap()),
                ..kind.into()
            };
            Target { expect: Expect { min: 24, max: Some(24) }, ..Target::new(name, matcher, Vec::new()) }
        };
        let usb = || MatchKind::Usb(vec![Pattern::new("2fe3:0004").unwrap()]);
        Plan {
            path: "line.yaml".into(),
            targets: vec![
                target("sensors", usb(), Some("FF.*")),
                target("all", usb(), None),
                target("racks", MatchKind::Tcp(vec!["rack1:4001".to_owned()]), None),
            ],
            ..Plan::new("line")
        }
    }

    #[test]
    fn every_port_is_a_line() {
        let text = Listing::new(&ports(), None).text();
        assert_eq!(
            text,
            "\
PORT                 VID:PID:IF   SERIAL NUMBER  HUB PATH  PRODUCT
serial:/dev/ttyACM0  2fe3:0004:0  FF01           1-2.3     Zephyr CDC
serial:/dev/ttyACM1  2fe3:0004:2  AA             1-2.3     \\u{1b}[31mred\\n
serial:/dev/ttyS0    -            -              -         -
"
        );
        assert_eq!(Listing::new(&[], None).text(), "no serial ports\n");
    }

    #[test]
    fn a_plan_says_which_target_matches_and_why_not() {
        let text = Listing::new(&ports(), Some(&plan())).text();
        for line in [
            "  sensors: matches\n",
            "  a device that several targets match is refused: sensors, all\n",
            "  sensors: no: serial_number: expected `FF.*`, got `AA`; product: expected `Zephyr.*`, got `\\u{1b}[31mred\\n`\n",
            "  all: no: usb: expected `2fe3:0004`, the port has none\n",
            "target sensors: 1 of the ports match, expected 24\n",
            "target all: 2 of the ports match, all of one device, expected 24\n",
            "target racks: tcp devices are not looked for here\n",
        ] {
            assert!(text.contains(line), "{line}\n{text}");
        }
        assert!(!text.contains("racks: no"), "{text}");
    }

    #[test]
    fn json_has_everything() {
        let json: serde_json::Value =
            serde_json::from_str(&Listing::new(&ports(), Some(&plan())).json()).unwrap();
        assert_eq!(json["schema"], "flashfleet.list/1");
        assert_eq!(json["ports"][0]["address"], "serial:/dev/ttyACM0");
        assert_eq!(json["ports"][0]["usb"]["hub_path"], "1-2.3");
        assert_eq!(json["ports"][0]["targets"][0]["matches"], true);
        assert_eq!(json["ports"][0]["targets"][0]["address"], "serial:/dev/ttyACM0");
        let expected = serde_json::json!([
            { "key": "serial_number", "expected": "FF.*", "actual": "AA" },
            { "key": "product", "expected": "Zephyr.*", "actual": "\u{1b}[31mred\n" },
        ]);
        assert_eq!(json["ports"][1]["targets"][0]["mismatches"], expected);
        assert!(json["ports"][1]["targets"][0]["address"].is_null());
        assert!(json["ports"][2]["usb"].is_null());
        assert_eq!(json["targets"][1]["matching"], 2);
        assert_eq!(json["targets"][1]["devices"], 1, "two ports of one board");
    }

    #[test]
    fn a_port_is_called_what_run_calls_it_and_a_bootloader_is_told() {
        let mut ports = ports();
        ports[0].links.push("/dev/serial/by-path/jig-1".into());
        let mut plan = plan();
        plan.targets[0].matcher.kind =
            MatchKind::Port(vec![glob::Pattern::new("/dev/serial/by-path/*").unwrap()]);
        plan.targets[1].matcher.bootloader_usb = Some(Pattern::new("2fe3:0004:2").unwrap());
        let listing = Listing::new(&ports, Some(&plan));
        let text = listing.text();
        assert!(text.contains("  sensors: matches, as serial:/dev/serial/by-path/jig-1\n"), "{text}");
        assert!(text.contains("  all: matches, but is in its bootloader"), "{text}");
        let json: serde_json::Value = serde_json::from_str(&listing.json()).unwrap();
        assert_eq!(json["ports"][0]["targets"][0]["address"], "serial:/dev/serial/by-path/jig-1");
        assert_eq!(json["ports"][1]["targets"][1]["in_bootloader"], true);
    }

    #[test]
    fn a_device_in_its_bootloader_is_where_a_target_that_starts_there_wants_it() {
        let mut plan = plan();
        plan.targets[1].matcher.bootloader_usb = Some(Pattern::new("2fe3:0004:2").unwrap());
        plan.targets[1].starts_in = Firmware::Bootloader;
        let listing = Listing::new(&ports(), Some(&plan));
        let text = listing.text();
        assert!(text.contains("  all: matches, in its bootloader, where its steps start\n"), "{text}");
        assert!(!text.contains("waited for"), "{text}");
        let json: serde_json::Value = serde_json::from_str(&listing.json()).unwrap();
        let opinion = |port: usize| &json["ports"][port]["targets"][1];
        assert_eq!((&opinion(1)["matches"], &opinion(1)["in_bootloader"]), (&true.into(), &true.into()));
        // One that runs its application is found too.
        assert_eq!((&opinion(0)["matches"], &opinion(0)["in_bootloader"]), (&true.into(), &false.into()));
    }
}
