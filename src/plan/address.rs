//! Network addresses of a plan: `HOST[:PORT]`, `FIRST-LAST[:PORT]`, and which of them are one device.
//! Nothing here asks the network.

use std::net::IpAddr;

use super::model::UdpTarget;

/// The UDP port of Zephyr's SMP server (`CONFIG_MCUMGR_TRANSPORT_UDP_PORT`).
pub(super) const UDP_PORT: u16 = 1337;

/// Most addresses of one range.
const MAX_RANGE: u128 = 65_536;

/// What is wrong with an address, and what would be right.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct AddressError {
    pub(super) message: String,
    pub(super) help: &'static str,
}

impl AddressError {
    fn new(message: impl Into<String>, help: &'static str) -> Self {
        Self { message: message.into(), help }
    }
}

/// An entry of `match: { udp: […] }`.
pub(super) fn parse_udp(text: &str) -> Result<UdpTarget, AddressError> {
    let text = text.strip_prefix("udp:").unwrap_or(text);
    if let Some((first, last)) = text.split_once('-')
        && let Ok(first) = unbracketed(first).parse::<IpAddr>()
    {
        let (last, port) = split_port(last)?;
        let last = last.parse::<IpAddr>().map_err(|_| {
            AddressError::new(
                "the range does not end with an address",
                "write both ends whole, for example `10.0.0.10-10.0.0.99`",
            )
        })?;
        return range(first, last, port.unwrap_or(UDP_PORT));
    }
    let (host, port) = split_port(text)?;
    Ok(UdpTarget::Host { host: host_name(host)?, port: port.unwrap_or(UDP_PORT) })
}

/// An entry of `match: { tcp: […] }`, as `host:port` with brackets around an IPv6 address.
pub(super) fn parse_tcp(text: &str) -> Result<String, AddressError> {
    let text = text.strip_prefix("tcp:").unwrap_or(text);
    let (host, port) = split_port(text)?;
    let host = host_name(host)?;
    let port = port.ok_or_else(|| {
        AddressError::new("the port is missing", "write `HOST:PORT`, with the port of the serial server")
    })?;
    Ok(if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") })
}

fn range(first: IpAddr, last: IpAddr, port: u16) -> Result<UdpTarget, AddressError> {
    let count = match (first, last) {
        (IpAddr::V4(a), IpAddr::V4(b)) => u32::from(b).checked_sub(u32::from(a)).map(u128::from),
        (IpAddr::V6(a), IpAddr::V6(b)) => u128::from(b).checked_sub(u128::from(a)),
        _ => {
            return Err(AddressError::new(
                "the range begins with one kind of address and ends with another",
                "use two IPv4 addresses or two IPv6 addresses",
            ));
        }
    };
    match count {
        None => Err(AddressError::new("the range ends before it begins", "write the lower address first")),
        Some(count) if count >= MAX_RANGE => Err(AddressError::new(
            format!("the range has more than {MAX_RANGE} addresses"),
            "name a smaller range: every address in it is asked",
        )),
        Some(_) => Ok(UdpTarget::Range { first, last, port }),
    }
}

fn unbracketed(text: &str) -> &str {
    text.strip_prefix('[').and_then(|text| text.strip_suffix(']')).unwrap_or(text)
}

/// The host without brackets, and the port.
fn split_port(text: &str) -> Result<(&str, Option<u16>), AddressError> {
    let (host, port) = if let Some(rest) = text.strip_prefix('[') {
        let (host, rest) = rest
            .split_once(']')
            .ok_or_else(|| AddressError::new("the bracket is never closed", "write `[ADDRESS]:PORT`"))?;
        match rest.strip_prefix(':') {
            Some(port) => (host, Some(port)),
            None if rest.is_empty() => (host, None),
            None => {
                return Err(AddressError::new("something stands after the bracket", "write `[ADDRESS]:PORT`"));
            }
        }
    } else if text.matches(':').count() > 1 {
        // A bare IPv6 address has no port: which colon would begin it?
        (text, None)
    } else {
        match text.split_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => (text, None),
        }
    };
    let port = match port {
        None => None,
        Some(digits) if digits.bytes().all(|byte| byte.is_ascii_digit()) => match digits.parse() {
            Ok(0) | Err(_) => {
                return Err(AddressError::new("the port is not within 1 to 65535", "write a port number"));
            }
            Ok(port) => Some(port),
        },
        Some(_) => return Err(AddressError::new("the port is no number", "write a port number")),
    };
    Ok((host, port))
}

/// An address as it is written best, or a name in lower case.
fn host_name(host: &str) -> Result<String, AddressError> {
    if let Ok(address) = host.parse::<IpAddr>() {
        return Ok(address.to_string());
    }
    if host.is_empty() {
        return Err(AddressError::new("the host is missing", "write a host name or an address"));
    }
    if host.contains(':') {
        return Err(AddressError::new(
            "this is no IPv6 address",
            "an IPv6 address with a port stands in brackets: `[fd00::1]:1337`",
        ));
    }
    let valid = |label: &str| {
        (1..=63).contains(&label.len())
            && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_')
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    let name = host.strip_suffix('.').unwrap_or(host);
    // RFC 1123, section 2.1: a name whose last label is a number would be an address.
    let numeric = name.rsplit('.').next().is_some_and(|label| label.bytes().all(|byte| byte.is_ascii_digit()));
    if numeric {
        return Err(AddressError::new("this is no IPv4 address", "write four numbers up to 255, or a host name"));
    }
    if name.len() > 253 || !name.split('.').all(valid) {
        return Err(AddressError::new(
            "this is no host name",
            "use letters, digits, `-` and `_` in labels of at most 63 characters with `.` between them",
        ));
    }
    Ok(name.to_ascii_lowercase())
}

/// How many devices a UDP entry can find.
pub(super) fn udp_count(target: &UdpTarget) -> usize {
    match target {
        UdpTarget::Host { .. } => 1,
        UdpTarget::Range { first: IpAddr::V4(first), last: IpAddr::V4(last), .. } => {
            usize::try_from(u32::from(*last).saturating_sub(u32::from(*first))).unwrap_or(usize::MAX).saturating_add(1)
        }
        UdpTarget::Range { first: IpAddr::V6(first), last: IpAddr::V6(last), .. } => {
            usize::try_from(u128::from(*last).saturating_sub(u128::from(*first)))
                .unwrap_or(usize::MAX)
                .saturating_add(1)
        }
        UdpTarget::Range { .. } => 0,
    }
}

/// Whether two UDP entries name one device for certain.
pub(super) fn udp_overlap(a: &UdpTarget, b: &UdpTarget) -> bool {
    match (a, b) {
        (UdpTarget::Host { host: ha, port: pa }, UdpTarget::Host { host: hb, port: pb }) => ha == hb && pa == pb,
        (UdpTarget::Host { host, port: ph }, UdpTarget::Range { first, last, port })
        | (UdpTarget::Range { first, last, port }, UdpTarget::Host { host, port: ph }) => {
            ph == port
                && host.parse::<IpAddr>().is_ok_and(|address| {
                    address.is_ipv4() == first.is_ipv4() && (*first..=*last).contains(&address)
                })
        }
        (
            UdpTarget::Range { first: fa, last: la, port: pa },
            UdpTarget::Range { first: fb, last: lb, port: pb },
        ) => pa == pb && fa.is_ipv4() == fb.is_ipv4() && fa <= lb && fb <= la,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn host(host: &str, port: u16) -> UdpTarget {
        UdpTarget::Host { host: host.to_owned(), port }
    }

    fn range(first: &str, last: &str, port: u16) -> UdpTarget {
        UdpTarget::Range { first: first.parse().unwrap(), last: last.parse().unwrap(), port }
    }

    #[test]
    fn udp_entries_are_hosts_or_ranges() {
        for (text, want) in [
            ("gw.local:1400", host("gw.local", 1400)),
            ("GW-1.local", host("gw-1.local", UDP_PORT)),
            ("udp:10.0.0.1", host("10.0.0.1", UDP_PORT)),
            ("fd00::1", host("fd00::1", UDP_PORT)),
            ("[FD00:0::1]:99", host("fd00::1", 99)),
            ("10.0.0.10-10.0.0.99", range("10.0.0.10", "10.0.0.99", UDP_PORT)),
            ("10.0.0.10-10.0.0.99:5", range("10.0.0.10", "10.0.0.99", 5)),
            ("[fd00::1]-[fd00::9]:5", range("fd00::1", "fd00::9", 5)),
            ("fd00::1-fd00::9", range("fd00::1", "fd00::9", UDP_PORT)),
        ] {
            assert_eq!(parse_udp(text), Ok(want), "{text}");
        }
    }

    #[test]
    fn what_is_no_address_is_refused_with_a_reason() {
        for (text, want) in [
            ("", "host is missing"),
            (":1337", "host is missing"),
            ("gw:", "not within"),
            ("gw:0", "not within"),
            ("gw:65536", "not within"),
            ("gw:x", "no number"),
            ("gw:+5", "no number"),
            ("10.0.0.300", "no IPv4"),
            ("10.0.0", "no IPv4"),
            ("fd00::1::2", "no IPv6"),
            ("[fd00::1", "never closed"),
            ("[fd00::1]x", "after the bracket"),
            ("a b", "no host name"),
            ("-a.local", "no host name"),
            ("10.0.0.9-10.0.0.1", "ends before"),
            ("10.0.0.9-20", "does not end with"),
            ("10.0.0.9-fd00::1", "another"),
            ("10.0.0.0-10.1.0.0", "more than"),
            ("::-ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff", "more than"),
        ] {
            let error = parse_udp(text).unwrap_err();
            assert!(error.message.contains(want), "{text}: {error:?}");
        }
    }

    #[test]
    fn tcp_entries_need_a_port() {
        assert_eq!(parse_tcp("Rack1:4001"), Ok("rack1:4001".to_owned()));
        assert_eq!(parse_tcp("[fd00::1]:4001"), Ok("[fd00::1]:4001".to_owned()));
        assert!(parse_tcp("rack1").unwrap_err().message.contains("port is missing"));
        assert!(parse_tcp("fd00::1").unwrap_err().message.contains("port is missing"));
    }

    #[test]
    fn one_device_in_two_entries_is_seen() {
        let a = range("10.0.0.10", "10.0.0.99", 1337);
        assert_eq!(udp_count(&a), 90);
        for (other, want) in [
            (host("10.0.0.10", 1337), true),
            (host("10.0.0.99", 1337), true),
            (host("10.0.0.100", 1337), false),
            (host("10.0.0.10", 1338), false),
            (host("gw", 1337), false),
            (host("::", 1337), false),
            (range("10.0.0.99", "10.0.0.200", 1337), true),
            (range("10.0.0.100", "10.0.0.200", 1337), false),
            (range("10.0.0.1", "10.0.0.200", 1), false),
        ] {
            assert_eq!(udp_overlap(&a, &other), want, "{other:?}");
            assert_eq!(udp_overlap(&other, &a), want, "{other:?}");
        }
        assert!(udp_overlap(&host("gw", 1), &host("gw", 1)));
    }
}
