//! What a valid plan says, with every default filled in. How it is read from YAML does not live here.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use regex::Regex;

use super::step::Step;
use crate::image::ImageSet;
use crate::sim::SimSpec;
use crate::transport::Firmware;

/// A whole plan: valid, files found, images opened and checked.
#[derive(Debug, Clone)]
pub struct Plan {
    /// Name of the plan, used in reports.
    pub name: String,
    /// Where it was read from.
    pub path: PathBuf,
    /// SHA-256 of the file, lower-case hex; empty where there is none.
    pub sha256: String,
    /// Images by the name that steps use: one each, or those of a package.
    pub images: BTreeMap<String, Arc<ImageSet>>,
    /// Targets in the plan's order.
    pub targets: Vec<Target>,
    /// What holds for the run.
    pub policy: Policy,
}

/// One group of devices and what is done to each.
#[derive(Debug, Clone)]
pub struct Target {
    /// Unique within the plan.
    pub name: String,
    /// Which devices.
    pub matcher: Match,
    /// How to talk to them.
    pub link: LinkOptions,
    /// How their bootloader puts a new image into use, where they do not tell it themselves.
    pub bootloader: Auto<Bootloader>,
    /// How long to wait for `expect` devices.
    pub discover: Duration,
    /// How many devices there must be.
    pub expect: Expect,
    /// What answers before the first step.
    pub starts_in: Firmware,
    /// What is done to each, in order. Never empty.
    pub steps: Vec<Step>,
}

/// Which devices a target is about: one kind, and conditions that must all hold.
#[derive(Debug, Clone)]
pub struct Match {
    /// Where to look.
    pub kind: MatchKind,
    /// What the same board is called while in its bootloader.
    pub bootloader_usb: Option<Pattern>,
    /// On the USB serial number.
    pub serial_number: Option<Pattern>,
    /// On the USB product string.
    pub product: Option<Pattern>,
    /// On the bus and port chain.
    pub hub_path: Option<Pattern>,
}

/// Where to look for devices.
#[derive(Debug, Clone)]
#[expect(clippy::large_enum_variant, reason = "a plan has a handful of them")]
pub enum MatchKind {
    /// Patterns on `vid:pid:interface`.
    Usb(Vec<Pattern>),
    /// Globs on port names.
    Port(Vec<glob::Pattern>),
    /// Patterns on names, or addresses.
    Ble(Vec<Pattern>),
    /// Addresses and ranges.
    Udp(Vec<UdpTarget>),
    /// Addresses of serial servers, `host:port`.
    Tcp(Vec<String>),
    /// Simulated devices.
    Sim(SimSpec),
}

/// One entry of `match: { udp: […] }`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum UdpTarget {
    /// `host[:port]`: a claim. One that does not answer is an error.
    Host {
        /// Name or address.
        host: String,
        /// UDP port.
        port: u16,
    },
    /// `first-last[:port]`, both included: a search. What does not answer is not matched.
    Range {
        /// First address.
        first: std::net::IpAddr,
        /// Last address.
        last: std::net::IpAddr,
        /// UDP port.
        port: u16,
    },
}

/// A regular expression that must match the whole text.
#[derive(Debug, Clone)]
pub struct Pattern {
    source: String,
    regex: Regex,
}

impl Pattern {
    /// Largest compiled form, in bytes: what matches a name or an id is small, and a plan may have many.
    pub(super) const MAX_COMPILED: usize = 4 << 20;

    /// Case-insensitive and anchored at both ends.
    ///
    /// # Errors
    /// What the regex crate says of `source`.
    pub fn new(source: &str) -> Result<Self, regex::Error> {
        // Read alone first: `a)(b` must be refused, not completed by the group around it.
        regex_syntax::parse(source).map_err(|error| regex::Error::Syntax(error.to_string()))?;
        let regex = regex::RegexBuilder::new(&format!("^(?:{source})$"))
            .case_insensitive(true)
            .size_limit(Self::MAX_COMPILED)
            .build()?;
        Ok(Self { source: source.to_owned(), regex })
    }

    /// Whether the whole of `text` matches.
    #[must_use]
    pub fn matches(&self, text: &str) -> bool {
        self.regex.is_match(text)
    }

    /// As the plan writes it.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.source
    }
}

/// A value that flashfleet finds out, or the plan says.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Auto<T> {
    /// Found out.
    #[default]
    Auto,
    /// As the plan says.
    Fixed(T),
}

/// How an MCUboot puts a new image into use (`mcuboot/docs/design.md`, "Image slots" and "Boot swap types").
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Bootloader {
    /// The slots are swapped, with test and revert: by scratch, move or offset.
    Swap,
    /// The new image overwrites the old one.
    OverwriteOnly,
    /// Runs from either slot: the higher version.
    DirectXip,
    /// Runs from either slot, with test and revert.
    DirectXipWithRevert,
    /// The higher version is copied to RAM and runs there.
    RamLoad,
}

impl Bootloader {
    /// Every mode with its word in a plan.
    pub const WORDS: [(&str, Self); 5] = [
        ("swap", Self::Swap),
        ("overwrite-only", Self::OverwriteOnly),
        ("direct-xip", Self::DirectXip),
        ("direct-xip-with-revert", Self::DirectXipWithRevert),
        ("ram-load", Self::RamLoad),
    ];
}

/// How to talk to the devices of a target.
#[derive(Debug, Clone, PartialEq)]
pub struct LinkOptions {
    /// Bits per second on serial links.
    pub baud: u32,
    /// Framing on serial links.
    pub framing: FramingChoice,
    /// Requests in flight.
    pub window: Auto<u32>,
    /// The server's buffer size, in bytes.
    pub buffer: Auto<u32>,
    /// How long one request waits for its answer.
    pub timeout: Auto<Duration>,
    /// How often a request is sent again.
    pub retries: u32,
    /// Silence after a device left in a reset.
    pub quiet: Duration,
    /// How long a device may take to answer after a reset.
    pub return_within: Duration,
    /// Data terminal ready.
    pub dtr: LineState,
    /// Request to send.
    pub rts: LineState,
    /// Flow control.
    pub flow_control: FlowControl,
    /// Longest line of console framing, in bytes, marker and newline included.
    pub line_length: usize,
    /// Largest BLE write, or UDP datagram, in bytes.
    pub mtu: Auto<u32>,
}

impl Default for LinkOptions {
    fn default() -> Self {
        Self {
            baud: 115_200,
            framing: FramingChoice::Console,
            window: Auto::Auto,
            buffer: Auto::Auto,
            timeout: Auto::Auto,
            retries: 3,
            quiet: Duration::from_secs(1),
            return_within: Duration::from_secs(60),
            dtr: LineState::Keep,
            rts: LineState::Keep,
            flow_control: FlowControl::None,
            line_length: crate::smp::console::DEFAULT_LINE_LENGTH,
            mtu: Auto::Auto,
        }
    }
}

/// Framing on serial links.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FramingChoice {
    /// Base64 lines.
    Console,
    /// Bare messages.
    Raw,
    /// COBS: without zeros, with a CRC.
    Cobs,
    /// Found out.
    Auto,
}

/// What to do with a modem control line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LineState {
    /// Leave it as the system sets it.
    Keep,
    /// Asserted.
    On,
    /// Not asserted.
    Off,
}

/// Flow control of a serial port.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FlowControl {
    /// None.
    None,
    /// RTS and CTS.
    Hardware,
    /// XON and XOFF; harms raw framing.
    Software,
}

/// How many devices a target must find.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Expect {
    /// At least.
    pub min: usize,
    /// At most; `None` is no limit.
    pub max: Option<usize>,
}

impl Default for Expect {
    fn default() -> Self {
        Self { min: 1, max: None }
    }
}

impl Expect {
    /// Whether `count` devices are what is expected.
    #[must_use]
    pub fn holds(self, count: usize) -> bool {
        count >= self.min && self.max.is_none_or(|max| count <= max)
    }

    /// For people: `24 devices`, `8 to 24 devices`, `at least 1 device`.
    #[must_use]
    pub fn in_words(self) -> String {
        let devices =
            |count: usize| if count == 1 { "1 device".to_owned() } else { format!("{count} devices") };
        match self.max {
            Some(max) if max == self.min => devices(max),
            Some(max) => format!("{} to {}", self.min, devices(max)),
            None => format!("at least {}", devices(self.min)),
        }
    }
}

impl std::fmt::Display for Expect {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.max {
            Some(max) if max == self.min => write!(f, "{max}"),
            Some(max) => write!(f, "{}..{max}", self.min),
            None => write!(f, "{}..", self.min),
        }
    }
}

/// What holds for the whole run.
#[derive(Debug, Clone, PartialEq)]
pub struct Policy {
    /// Devices at once; `None` is no limit.
    pub parallel: Option<usize>,
    /// Devices at once behind one USB hub.
    pub per_hub: Option<usize>,
    /// BLE connections at once on one adapter.
    pub per_adapter: usize,
    /// Attempts per device, for link and station causes only.
    pub attempts: u32,
    /// A program run once for a device that never returned.
    pub recover: Vec<String>,
    /// Longest time per device, all attempts together.
    pub deadline: Duration,
    /// Finish this many first; go on only if they pass.
    pub canary: usize,
    /// When to stop starting devices.
    pub stop_after: Option<StopAfter>,
}

impl Policy {
    /// What `{name}` in an argument of [`Policy::recover`] can stand for.
    pub const RECOVER_PLACEHOLDERS: [&str; 4] = ["address", "target", "serial_number", "hub_path"];
}

impl Default for Policy {
    fn default() -> Self {
        Self {
            parallel: None,
            per_hub: None,
            per_adapter: 3,
            attempts: 3,
            recover: Vec::new(),
            deadline: Duration::from_secs(30 * 60),
            canary: 0,
            stop_after: None,
        }
    }
}

/// When to stop starting devices: whichever comes first.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct StopAfter {
    /// This many devices did not pass.
    pub failures: Option<usize>,
    /// This share of the finished devices, in percent, did not pass …
    pub percent: Option<f64>,
    /// … once at least this many have finished.
    pub of_at_least: usize,
}
