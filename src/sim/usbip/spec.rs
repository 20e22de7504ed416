//! How the USB side of simulated boards is described: `usb:` in a description of simulated devices. No behaviour.

use std::fmt;
use std::ops::RangeInclusive;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::sim::SpecError;

/// Serial functions of one board: endpoint addresses end at 15 (USB 2.0, 9.6.6), and the last of seven CDC-ACM functions
/// has endpoints 13 and 14.
const FUNCTIONS: RangeInclusive<u64> = 1..=7;
/// UTF-16 units of a string: its descriptor's length is one byte (USB 2.0, 9.6.7).
const MAX_STRING: usize = 126;

/// The USB side of simulated boards, for `flashfleet sim --usbip`.
///
/// In texts `{name}` stands for the device's name and `{n}` for its number, from 1; an empty text leaves the string out.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields, default)]
pub struct UsbSpec {
    /// What the host sees.
    pub kind: UsbKind,
    /// Vendor and product id, as `2fe3:0004`; without it the usual one of `kind`.
    pub id: Option<UsbId>,
    /// `iSerialNumber`. Without a placeholder all boards have the same.
    pub serial_number: String,
    /// `iProduct`.
    pub product: String,
    /// `iManufacturer`.
    pub manufacturer: String,
    /// Number of serial ports of one board.
    pub functions: u8,
    /// Which of them talks SMP, from 0. On `cdc_acm` its interface has twice this number, on `cp210x` the same.
    pub smp_function: u8,
    /// What the other ones do.
    pub others: OtherFunctions,
    /// How fast the board is on the bus; that is not the pace of its serial line.
    pub speed: UsbSpeed,
    /// Time from the start until the board is plugged in, in milliseconds.
    pub appears_after_ms: u64,
    /// After a reset the board is on the bus in its bootloader first. For `cdc_acm` only.
    pub bootloader: Option<BootloaderSpec>,
    /// What is different once another image runs than the first one. For `cdc_acm` only.
    pub updated: Option<UpdatedSpec>,
    /// The line behind the board leads to a serial server, as `tcp:HOST:PORT`, instead of a simulated device; it is paced
    /// at the baud rate that the host sets.
    pub bridge: Option<String>,
}

impl Default for UsbSpec {
    fn default() -> Self {
        Self {
            kind: UsbKind::CdcAcm,
            id: None,
            serial_number: "{name}".to_owned(),
            product: "Simulated board".to_owned(),
            manufacturer: "flashfleet".to_owned(),
            functions: 1,
            smp_function: 0,
            others: OtherFunctions::Log,
            speed: UsbSpeed::Full,
            appears_after_ms: 0,
            bootloader: None,
            updated: None,
            bridge: None,
        }
    }
}

/// What the host sees.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum UsbKind {
    /// A microcontroller with USB of its own (CDC-ACM): it leaves the bus when it is reset, and comes back under
    /// whatever name the host gives it then.
    #[default]
    CdcAcm,
    /// A UART bridge (Silicon Labs CP210x): it stays on the bus while the device behind it is reset.
    Cp210x,
}

impl UsbKind {
    /// The id of most boards of this kind: Zephyr's sample id, or Silicon Labs' factory default.
    #[must_use]
    pub fn usual_id(self) -> UsbId {
        match self {
            Self::CdcAcm => UsbId { vid: 0x2fe3, pid: 0x0004 },
            Self::Cp210x => UsbId { vid: 0x10c4, pid: 0xea60 },
        }
    }
}

/// What the functions do that do not talk SMP.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum OtherFunctions {
    /// They print a line of a log every second.
    #[default]
    Log,
    /// They are silent.
    Silent,
}

/// How fast a board is on the bus.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum UsbSpeed {
    /// 12 Mbit/s, packets of 64 bytes.
    #[default]
    Full,
    /// 480 Mbit/s, packets of 512 bytes.
    High,
}

/// A bootloader that shows itself on the bus.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct BootloaderSpec {
    /// Its vendor and product id.
    pub id: UsbId,
    /// How long it waits before it boots, in milliseconds; this adds to the time a boot takes.
    pub ms: u64,
    /// Its serial number, where that is another one.
    #[serde(default)]
    pub serial_number: Option<String>,
    /// Its product string, where that is another one.
    #[serde(default)]
    pub product: Option<String>,
}

/// What is different once another image runs.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields, default)]
pub struct UpdatedSpec {
    /// Vendor and product id.
    pub id: Option<UsbId>,
    /// Serial number.
    pub serial_number: Option<String>,
    /// Product string.
    pub product: Option<String>,
}

/// Vendor and product id, written as four hexadecimal digits each with a colon between them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(try_from = "String", into = "String")]
#[cfg_attr(test, schemars(with = "String"))]
pub struct UsbId {
    /// Vendor id.
    pub vid: u16,
    /// Product id.
    pub pid: u16,
}

impl fmt::Display for UsbId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:04x}:{:04x}", self.vid, self.pid)
    }
}

impl FromStr for UsbId {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let hex = |part: &str| {
            let digits = part.len() == 4 && part.bytes().all(|byte| byte.is_ascii_hexdigit());
            u16::from_str_radix(part, 16).ok().filter(|_| digits)
        };
        let ids = text.split_once(':').and_then(|(vid, pid)| Some((hex(vid)?, hex(pid)?)));
        let (vid, pid) = ids.ok_or_else(|| format!("expected a USB id as 2fe3:0004, got {text:?}"))?;
        Ok(Self { vid, pid })
    }
}

impl TryFrom<String> for UsbId {
    type Error = String;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl From<UsbId> for String {
    fn from(id: UsbId) -> Self {
        id.to_string()
    }
}

/// A text with the placeholders filled in.
pub(super) fn fill(text: &str, name: &str, number: usize) -> String {
    text.replace("{name}", name).replace("{n}", &number.to_string())
}

impl UsbSpec {
    /// Vendor and product id of the application.
    #[must_use]
    pub fn id(&self) -> UsbId {
        self.id.unwrap_or(self.kind.usual_id())
    }

    /// The serial server behind the board with this name and number, as `HOST:PORT`.
    pub(super) fn bridge_to(&self, name: &str, number: usize) -> Option<String> {
        let text = fill(self.bridge.as_deref()?, name, number);
        text.strip_prefix("tcp:").map(str::to_owned)
    }

    /// Adds everything here that cannot be simulated. `name` is the longest name of a device and `count` how many there are.
    pub(in crate::sim) fn problems(&self, name: &str, count: usize, problems: &mut Vec<SpecError>) {
        let mut require = |holds: bool, field: &'static str, message: String| {
            if !holds {
                problems.push(SpecError { field, message });
            }
        };
        let (low, high) = (FUNCTIONS.start(), FUNCTIONS.end());
        let message = format!("expected a number from {low} to {high}, got {}", self.functions);
        require(FUNCTIONS.contains(&u64::from(self.functions)), "usb.functions", message);
        let message =
            format!("expected a number below `functions` ({}), got {}", self.functions, self.smp_function);
        require(self.smp_function < self.functions.max(1), "usb.smp_function", message);
        let bootloader = self.bootloader.as_ref();
        let updated = self.updated.as_ref();
        let texts = [
            ("usb.serial_number", Some(&self.serial_number)),
            ("usb.product", Some(&self.product)),
            ("usb.manufacturer", Some(&self.manufacturer)),
            ("usb.bootloader.serial_number", bootloader.and_then(|it| it.serial_number.as_ref())),
            ("usb.bootloader.product", bootloader.and_then(|it| it.product.as_ref())),
            ("usb.updated.serial_number", updated.and_then(|it| it.serial_number.as_ref())),
            ("usb.updated.product", updated.and_then(|it| it.product.as_ref())),
        ];
        for (field, text) in texts {
            let length = text.map_or(0, |text| fill(text, name, count).encode_utf16().count());
            let message = format!("expected at most {MAX_STRING} characters, got {length}");
            require(length <= MAX_STRING, field, message);
        }
        let native = self.kind == UsbKind::CdcAcm && self.bridge.is_none();
        for (field, given) in [("usb.bootloader", bootloader.is_some()), ("usb.updated", updated.is_some())] {
            let message =
                "expected `kind: cdc_acm` without `bridge` with it: nothing else leaves the bus in a reset";
            require(native || !given, field, message.to_owned());
        }
        if let Some(bridge) = &self.bridge {
            let place = self.bridge_to(name, count);
            let port = place.as_ref().and_then(|place| place.rsplit_once(':'));
            let holds = port.is_some_and(|(host, port)| !host.is_empty() && port.parse::<u16>().is_ok());
            let message = format!("expected an address as tcp:localhost:4001, got {bridge:?}");
            require(holds, "usb.bridge", message);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_eight_hexadecimal_digits() {
        let id = "2FE3:000a".parse::<UsbId>().unwrap();
        assert_eq!((id.vid, id.pid, id.to_string().as_str()), (0x2fe3, 0x000a, "2fe3:000a"));
        for bad in ["", "2fe3", "2fe3:4", "2fe3:0004:0", "+fe3:0004", "2fe3-0004", "g000:0000"] {
            let error = bad.parse::<UsbId>().unwrap_err();
            assert!(error.contains("expected a USB id as 2fe3:0004"), "{bad}: {error}");
        }
    }

    #[test]
    fn placeholders_are_filled_in() {
        assert_eq!(fill("FF{n}-{name}", "board-7", 7), "FF7-board-7");
        let bridge = Some("tcp:host:400{n}".to_owned());
        assert_eq!(UsbSpec { bridge, ..UsbSpec::default() }.bridge_to("x", 2).as_deref(), Some("host:4002"));
    }

    #[test]
    fn what_cannot_be_is_told_by_key() {
        let fields = |usb: UsbSpec| {
            let mut problems = Vec::new();
            usb.problems("device-9", 9, &mut problems);
            problems.into_iter().map(|problem| problem.field).collect::<Vec<_>>()
        };
        let usb = UsbSpec::default;
        assert!(fields(usb()).is_empty());
        assert_eq!(fields(UsbSpec { functions: 8, ..usb() }), ["usb.functions"]);
        assert_eq!(fields(UsbSpec { functions: 2, smp_function: 2, ..usb() }), ["usb.smp_function"]);
        assert_eq!(fields(UsbSpec { product: "x".repeat(127), ..usb() }), ["usb.product"]);
        assert_eq!(fields(UsbSpec { product: "𝄞".repeat(63), ..usb() }), [""; 0]);
        let updated =
            Some(UpdatedSpec { serial_number: Some("{name}".repeat(20)), ..UpdatedSpec::default() });
        assert_eq!(fields(UsbSpec { updated, ..usb() }), ["usb.updated.serial_number"]);
        let id = UsbKind::CdcAcm.usual_id();
        let bootloader = Some(BootloaderSpec { id, ms: 1, serial_number: None, product: None });
        let bridged = UsbSpec { kind: UsbKind::Cp210x, bootloader, ..usb() };
        assert_eq!(fields(bridged), ["usb.bootloader"]);
        for bridge in ["localhost:4001", "tcp:4001", "tcp:host:", "tcp::4001", "tcp:host:99999"] {
            assert_eq!(
                fields(UsbSpec { bridge: Some(bridge.to_owned()), ..usb() }),
                ["usb.bridge"],
                "{bridge}"
            );
        }
    }
}
