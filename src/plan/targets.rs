//! The plan's targets: which devices, how to talk to them, how many there must be.

use std::ops::Range;

use super::address::{self, AddressError};
use super::images::Images;
use super::keys::{LINK, MATCH, MATCH_KINDS, TARGET};
use super::model::{
    Auto, Bootloader, Expect, FlowControl, FramingChoice, LineState, LinkOptions, Match, MatchKind, Pattern,
    Target, UdpTarget,
};
use super::problems::excerpt;
use super::reader::{Fields, Reader, lower_first};
use super::scalar::Resolved;
use super::yaml::{Node, Value};
use super::{buffer, derived, expression, scalar, steps};
use crate::sim::SimSpec;
use crate::transport::{Firmware, MAX_ADDRESSES};

/// Longest glob, in characters.
const MAX_GLOB: usize = 256;

/// A target with the places that checks across targets point at.
#[derive(Debug)]
pub(super) struct PlacedTarget {
    pub(super) target: Target,
    pub(super) name_at: Range<usize>,
    pub(super) match_at: Range<usize>,
    /// Where each address of `udp` or `tcp` is written, in their order.
    pub(super) addresses_at: Vec<Range<usize>>,
    /// Where each step is written.
    pub(super) steps_at: Vec<Range<usize>>,
}

/// Reads the list `targets`.
pub(super) fn read(reader: &Reader<'_>, node: &Node, images: &Images) -> Vec<PlacedTarget> {
    let items = reader.list(node, "`targets`", "maps").unwrap_or_default();
    items.iter().filter_map(|item| read_target(reader, item, images)).collect()
}

/// `None` where there is no kind of device, which has been reported; whatever else is wrong gets a default.
fn read_target(reader: &Reader<'_>, node: &Node, images: &Images) -> Option<PlacedTarget> {
    let fields = reader.fields(node, &TARGET)?;
    let name = fields.text("name").unwrap_or_default().to_owned();
    let link = fields.get("link").and_then(|link| read_link(reader, link)).unwrap_or_default();
    let found = fields.get("match").and_then(|matcher| read_match(reader, matcher));
    let simulated = matches!(&found, Some(Found { matcher: Match { kind: MatchKind::Sim(_), .. }, .. }));
    let starts_in = match fields.choice("starts_in") {
        Some("bootloader") => Firmware::Bootloader,
        _ => Firmware::Application,
    };
    let steps = steps::read(&fields, images, found.is_none() || simulated, starts_in);
    let expect = fields.get("expect").and_then(|expect| read_expect(reader, expect));
    let discover = fields.time("discover").unwrap_or(Target::DISCOVER);
    let Found { matcher, addresses_at } = found?;
    if let (Some(expect), Some(node)) = (expect, fields.get("expect")) {
        check_expect(reader, node, expect, &matcher.kind);
    }
    let (steps, steps_at) = steps.into_iter().unzip();
    let word = fields.choice("bootloader");
    let bootloader = Bootloader::WORDS.into_iter().find(|(known, _)| Some(*known) == word);
    let target = Target {
        name,
        matcher,
        link,
        bootloader: bootloader.map_or(Auto::Auto, |(_, mode)| Auto::Fixed(mode)),
        discover,
        expect: expect.unwrap_or_default(),
        starts_in,
        steps,
    };
    let name_at = fields.get("name").map_or(node.at.clone(), |name| name.at.clone());
    let match_at = fields.get("match").map_or(node.at.clone(), |matcher| matcher.at.clone());
    Some(PlacedTarget { target, name_at, match_at, addresses_at, steps_at })
}

struct Found {
    matcher: Match,
    addresses_at: Vec<Range<usize>>,
}

fn read_match(reader: &Reader<'_>, node: &Node) -> Option<Found> {
    let fields = reader.fields(node, &MATCH)?;
    let given: Vec<&str> = MATCH_KINDS.into_iter().filter(|kind| fields.get(kind).is_some()).collect();
    let help = "give exactly one of `usb`, `port`, `ble`, `udp`, `tcp` and `sim`";
    let kind = match given[..] {
        [kind] => kind,
        [] => {
            reader.problems.add("plan.match_kind", &node.at, "a match needs one kind of device", help);
            return None;
        }
        [_, ref more @ ..] => {
            for kind in more {
                let message = format!("a match has one kind of device, and `{kind}` is one more");
                reader.problems.add("plan.match_kind", &fields.key_at(kind), message, help);
            }
            return None;
        }
    };
    let conditions = read_conditions(&fields, kind);
    let value = fields.get(kind)?;
    let mut addresses_at = Vec::new();
    let kind = match kind {
        "usb" => MatchKind::Usb(read_usb(reader, value)),
        "port" => MatchKind::Port(
            reader
                .one_or_list(value, "`port`", "globs")
                .into_iter()
                .filter_map(|n| read_glob(reader, n))
                .collect(),
        ),
        "ble" => {
            let patterns = reader.one_or_list(value, "`ble`", "regular expressions");
            MatchKind::Ble(patterns.into_iter().filter_map(|node| reader.expression(node, "`ble`")).collect())
        }
        "udp" => {
            let entries = read_addresses(reader, value, "`udp`", &mut addresses_at, address::parse_udp);
            let count = address::count(&entries);
            if count > MAX_ADDRESSES {
                let message = format!("`udp` names {count} addresses");
                let help = format!("name at most {MAX_ADDRESSES}: every one is asked");
                reader.problems.add("plan.out_of_range", &value.at, message, help);
            }
            MatchKind::Udp(entries)
        }
        "tcp" => {
            MatchKind::Tcp(read_addresses(reader, value, "`tcp`", &mut addresses_at, address::parse_tcp))
        }
        _ => MatchKind::Sim(read_sim(reader, value)?),
    };
    let [bootloader_usb, serial_number, product, hub_path] = conditions;
    Some(Found { matcher: Match { kind, bootloader_usb, serial_number, product, hub_path }, addresses_at })
}

/// What only devices on USB have.
const CONDITIONS: [&str; 4] = ["bootloader_usb", "serial_number", "product", "hub_path"];

fn read_conditions(fields: &Fields<'_>, kind: &str) -> [Option<Pattern>; 4] {
    CONDITIONS.map(|name| {
        let node = fields.get(name)?;
        if !matches!(kind, "usb" | "port") {
            let message = format!("`{name}` never holds for devices found by `{kind}`");
            let help = "it is a property of USB devices: take it out, or match by `usb` or `port`";
            fields.reader.problems.add("plan.match_condition", &fields.key_at(name), message, help);
        }
        let pattern = fields.expression(name)?;
        if name == "bootloader_usb" {
            check_usb_pattern(fields.reader, node, &pattern);
        }
        Some(pattern)
    })
}

fn read_usb(reader: &Reader<'_>, node: &Node) -> Vec<Pattern> {
    let mut patterns = Vec::new();
    for node in reader.one_or_list(node, "`usb`", "regular expressions") {
        if let Some(pattern) = reader.expression(node, "`usb`") {
            check_usb_pattern(reader, node, &pattern);
            patterns.push(pattern);
        }
    }
    patterns
}

fn check_usb_pattern(reader: &Reader<'_>, node: &Node, pattern: &Pattern) {
    if !expression::can_match_usb_id(pattern.as_str()) {
        let message = format!("`{}` can match no `vid:pid:interface`", excerpt(pattern.as_str()));
        let help = "write four hexadecimal digits, `:`, four more, and `:` and a number where the interface matters: \
                    `2fe3:0004`, `2fe3:.*`";
        reader.problems.add("plan.never_matches", &node.at, message, help);
    }
}

fn read_glob(reader: &Reader<'_>, node: &Node) -> Option<glob::Pattern> {
    let text = reader.text(node, "`port`")?;
    if text.chars().count() > MAX_GLOB {
        let message = format!("`port` is {} characters long", text.chars().count());
        reader.problems.add("plan.bad_glob", &node.at, message, format!("use at most {MAX_GLOB} characters"));
        return None;
    }
    match glob::Pattern::new(text) {
        Ok(pattern) => Some(pattern),
        Err(error) => {
            // The position counts characters.
            let start = text.char_indices().nth(error.pos).map_or(text.len(), |(byte, _)| byte);
            let at = scalar::place_within(reader.problems.text(), node, &(start..text.len()));
            let message = format!("`port` is no valid glob: {}", lower_first(error.msg));
            let help = "`*` is any text, `?` any character, `[ab]` one of some, `**` any folders";
            reader.problems.add("plan.bad_glob", &at, message, help);
            None
        }
    }
}

fn read_addresses<T>(
    reader: &Reader<'_>,
    node: &Node,
    what: &str,
    places: &mut Vec<Range<usize>>,
    parse: impl Fn(&str) -> Result<T, AddressError>,
) -> Vec<T> {
    let mut addresses = Vec::new();
    for node in reader.list(node, what, "addresses").unwrap_or_default() {
        let Some(text) = reader.text(node, what) else { continue };
        match parse(text) {
            Ok(address) => {
                addresses.push(address);
                places.push(node.at.clone());
            }
            Err(error) => {
                let message = format!("`{}` is no address for {what}: {}", excerpt(text), error.message);
                reader.problems.add("plan.bad_address", &node.at, message, error.help);
            }
        }
    }
    addresses
}

fn read_sim(reader: &Reader<'_>, node: &Node) -> Option<SimSpec> {
    let spec: SimSpec = derived::read(reader.problems, node, "sim")?;
    for problem in spec.problems() {
        let at = derived::find(node, problem.field).unwrap_or(&node.at);
        let help = "`flashfleet schema plan` describes every key of a simulated device";
        let message = format!("`{}`: {}", problem.field, problem.message);
        reader.problems.add("plan.out_of_range", at, message, help);
    }
    Some(spec)
}

fn read_expect(reader: &Reader<'_>, node: &Node) -> Option<Expect> {
    let help = "write a number, or in quotes \"8..24\" for a range or \"8..\" for at least eight";
    let Value::Scalar(scalar) = &node.value else {
        reader.wrong_type(node, "`expect`", "a number or a range", help);
        return None;
    };
    let expect = match scalar.resolve() {
        Resolved::Int(count) => {
            usize::try_from(count).ok().map(|count| Expect { min: count, max: Some(count) })
        }
        Resolved::Text(text) => parse_expect(text),
        _ => {
            reader.wrong_type(node, "`expect`", "a number or a range", help);
            return None;
        }
    };
    let message = match expect {
        None => format!("`expect` is neither a number nor a range: `{}`", excerpt(&scalar.text)),
        Some(Expect { max: Some(0), .. }) => "`expect` lets no device pass".to_owned(),
        Some(Expect { min, max: Some(max) }) if min > max => {
            format!("`expect` begins with {min} and ends with {max}")
        }
        Some(expect) => return Some(expect),
    };
    reader.problems.add("plan.bad_expect", &node.at, message, help);
    None
}

fn parse_expect(text: &str) -> Option<Expect> {
    let number = |text: &str| {
        text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse::<usize>().ok()).flatten()
    };
    match text.split_once("..") {
        None => number(text).map(|count| Expect { min: count, max: Some(count) }),
        Some((min, "")) => Some(Expect { min: number(min)?, max: None }),
        Some((min, max)) => Some(Expect { min: number(min)?, max: Some(number(max)?) }),
    }
}

/// Refuses a number of devices that the match can never find.
fn check_expect(reader: &Reader<'_>, node: &Node, expect: Expect, kind: &MatchKind) {
    let (least, most) = match kind {
        MatchKind::Usb(_) | MatchKind::Port(_) | MatchKind::Ble(_) => return,
        MatchKind::Udp(targets) => {
            let claims = targets.iter().filter(|target| matches!(target, UdpTarget::Host { .. })).count();
            (claims, address::count(targets))
        }
        MatchKind::Tcp(addresses) => (addresses.len(), addresses.len()),
        MatchKind::Sim(spec) => (spec.count, spec.count),
    };
    // Every explicit address is a claim: the device is there, or its verdict is an error.
    if expect.min > most || expect.max.is_some_and(|max| max < least) {
        let found = if least == most { format!("{most}") } else { format!("{least} to {most}") };
        let message = format!("`expect` is {expect}, and the match names {found}");
        let help = "change one of the two, or leave out `expect`";
        reader.problems.add("plan.bad_expect", &node.at, message, help);
    }
}

fn read_link(reader: &Reader<'_>, node: &Node) -> Option<LinkOptions> {
    let fields = reader.fields(node, &LINK)?;
    let default = LinkOptions::default();
    let (framing, line_length, buffer) = read_packets(reader, &fields, &default);
    let link = LinkOptions {
        baud: fields.whole("baud").unwrap_or(default.baud),
        framing,
        window: fields.auto_whole("window").unwrap_or(default.window),
        buffer,
        timeout: fields.auto_time("timeout").unwrap_or(default.timeout),
        retries: fields.whole("retries").unwrap_or(default.retries),
        quiet: fields.time("quiet").unwrap_or(default.quiet),
        return_within: fields.time("return_within").unwrap_or(default.return_within),
        dtr: read_line(&fields, "dtr"),
        rts: read_line(&fields, "rts"),
        flow_control: match fields.choice("flow_control") {
            Some("hardware") => FlowControl::Hardware,
            Some("software") => FlowControl::Software,
            _ => default.flow_control,
        },
        line_length,
        mtu: fields.auto_whole("mtu").unwrap_or(default.mtu),
    };
    if link.quiet >= link.return_within {
        let given = if fields.get("quiet").is_some() { "quiet" } else { "return_within" };
        let message = format!(
            "`quiet` ({}) must be shorter than `return_within` ({})",
            humantime::format_duration(link.quiet),
            humantime::format_duration(link.return_within)
        );
        let help = "a device that returns is asked only after `quiet`: give it more time";
        reader.problems.add("plan.contradiction", &fields.key_at(given), message, help);
    }
    Some(link)
}

/// What is sent at once: framing, longest line and buffer, which depend on each other.
fn read_packets(
    reader: &Reader<'_>,
    fields: &Fields<'_>,
    default: &LinkOptions,
) -> (FramingChoice, usize, Auto<u32>) {
    let framing = match fields.choice("framing") {
        Some("raw") => FramingChoice::Raw,
        Some("cobs") => FramingChoice::Cobs,
        Some("auto") => FramingChoice::Auto,
        _ => default.framing,
    };
    let given: Option<usize> = fields.whole("line_length");
    let Some(Auto::Fixed(buffer)) = buffer::read(fields) else {
        return (framing, given.unwrap_or(default.line_length), Auto::Auto);
    };
    let longest = buffer.line_length();
    if let (Some(given), Some(longest)) =
        (given, longest.filter(|longest| given.is_some_and(|given| given > *longest)))
    {
        let message = format!("`line_length` is {given}, and `buffer` has lines of {longest} bytes");
        let help = "leave out `line_length`: the lines of `buffer` tell it";
        reader.problems.add("plan.contradiction", &fields.key_at("line_length"), message, help);
    }
    let line_length = given.or(longest).unwrap_or(default.line_length);
    (framing, line_length, Auto::Fixed(buffer.bytes(framing, line_length)))
}

fn read_line(fields: &Fields<'_>, name: &str) -> LineState {
    match fields.choice(name) {
        Some("on") => LineState::On,
        Some("off") => LineState::Off,
        _ => LineState::Keep,
    }
}

#[cfg(test)]
mod tests {
    use super::super::keys::Kind;
    use super::*;

    #[test]
    fn every_word_for_a_bootloader_is_a_mode() {
        let key = TARGET.keys.iter().find(|key| key.name == "bootloader").unwrap();
        let Kind::Choice(words) = &key.kind else { panic!("{key:?}") };
        assert_eq!(words.len(), Bootloader::WORDS.len() + 1);
        for word in *words {
            let text = format!(
                "version: 1\ntargets: [{{ name: a, match: {{ sim: {{}} }}, bootloader: {word}, steps: [reset] }}]"
            );
            let plan = super::super::parse(&text, std::path::Path::new("plan.yaml")).unwrap();
            let mode = Bootloader::WORDS.into_iter().find(|(known, _)| known == word).map(|(_, mode)| mode);
            assert_eq!(plan.targets[0].bootloader, mode.map_or(Auto::Auto, Auto::Fixed), "{word}");
            assert_eq!(mode.is_none(), *word == "auto");
        }
    }

    #[test]
    fn expect_is_a_number_or_a_range() {
        let expect = |min, max| Some(Expect { min, max });
        for (text, want) in [
            ("24", expect(24, Some(24))),
            ("8..24", expect(8, Some(24))),
            ("1..", expect(1, None)),
            ("0..", expect(0, None)),
            ("..8", None),
            ("8..x", None),
            ("8...9", None),
            ("+8", None),
            ("", None),
            ("..", None),
            ("99999999999999999999999", None),
        ] {
            assert_eq!(parse_expect(text), want, "{text}");
        }
    }
}
