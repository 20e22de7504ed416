//! Network addresses of a plan: `HOST[:PORT]`, `FIRST-LAST[:PORT]`, and which of them are one device.
//! Nothing here asks the network.

use std::net::IpAddr;

use super::model::UdpTarget;
use crate::transport::{DEFAULT_UDP_PORT, HostPort, MAX_ADDRESSES};

/// What is wrong with an address, and what would be right.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct AddressError {
    pub(super) message: String,
    pub(super) help: String,
}

impl AddressError {
    fn new(message: impl Into<String>, help: &str) -> Self {
        Self { message: message.into(), help: help.to_owned() }
    }
}

/// An entry of `match: { udp: […] }`.
pub(super) fn parse_udp(text: &str) -> Result<UdpTarget, AddressError> {
    let text = text.strip_prefix("udp:").unwrap_or(text);
    if let Some((first, last)) = text.split_once('-')
        && let Ok(first) = unbracketed(first).parse::<IpAddr>()
    {
        let HostPort { host, port } = place(last, Some(DEFAULT_UDP_PORT))?;
        let last = host.parse::<IpAddr>().map_err(|_| {
            AddressError::new(
                format!("expected a range to end with an address, got `{host}`"),
                "write both ends whole, for example `10.0.0.10-10.0.0.99`",
            )
        })?;
        return range(first, last, port);
    }
    let HostPort { host, port } = place(text, Some(DEFAULT_UDP_PORT))?;
    Ok(UdpTarget::Host { host, port })
}

/// An entry of `match: { tcp: […] }`, as `host:port` with brackets around an IPv6 address.
pub(super) fn parse_tcp(text: &str) -> Result<String, AddressError> {
    place(text.strip_prefix("tcp:").unwrap_or(text), None).map(|place| place.to_string())
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
        Some(count) if count >= MAX_ADDRESSES as u128 => Err(AddressError::new(
            format!("the range has more than {MAX_ADDRESSES} addresses"),
            "name a smaller range: every address in it is asked",
        )),
        Some(_) => Ok(UdpTarget::Range { first, last, port }),
    }
}

fn unbracketed(text: &str) -> &str {
    text.strip_prefix('[').and_then(|text| text.strip_suffix(']')).unwrap_or(text)
}

/// A host and its port, the name in lower case: two ways to write one host are one device.
fn place(text: &str, default_port: Option<u16>) -> Result<HostPort, AddressError> {
    let place = HostPort::parse(text, default_port)
        .map_err(|error| AddressError { message: error.message, help: error.help })?;
    let host = place.host.strip_suffix('.').unwrap_or(&place.host).to_ascii_lowercase();
    // RFC 1123, section 2.1: a name whose last label is a number would be an address.
    let numeric =
        host.rsplit('.').next().is_some_and(|label| label.bytes().all(|byte| byte.is_ascii_digit()));
    if numeric && host.parse::<IpAddr>().is_err() {
        let message = format!("expected an IPv4 address or a host name, got `{host}`");
        return Err(AddressError::new(message, "an IPv4 address is four numbers up to 255"));
    }
    Ok(HostPort { host, ..place })
}

/// How many addresses some UDP entries name.
pub(super) fn count(entries: &[UdpTarget]) -> usize {
    let of_one = |entry: &UdpTarget| match entry {
        UdpTarget::Host { .. } => 1,
        UdpTarget::Range { first: IpAddr::V4(first), last: IpAddr::V4(last), .. } => {
            distance(first.to_bits().into(), last.to_bits().into())
        }
        UdpTarget::Range { first: IpAddr::V6(first), last: IpAddr::V6(last), .. } => {
            distance(first.to_bits(), last.to_bits())
        }
        // No range ends with another kind of address than it begins with.
        UdpTarget::Range { .. } => 0,
    };
    entries.iter().map(of_one).fold(0, usize::saturating_add)
}

fn distance(first: u128, last: u128) -> usize {
    usize::try_from(last.saturating_sub(first)).unwrap_or(usize::MAX).saturating_add(1)
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
            ("GW-1.local", host("gw-1.local", DEFAULT_UDP_PORT)),
            ("udp:10.0.0.1", host("10.0.0.1", DEFAULT_UDP_PORT)),
            ("fd00::1", host("fd00::1", DEFAULT_UDP_PORT)),
            ("[FD00:0::1]:99", host("fd00::1", 99)),
            ("10.0.0.10-10.0.0.99", range("10.0.0.10", "10.0.0.99", DEFAULT_UDP_PORT)),
            ("10.0.0.10-10.0.0.99:5", range("10.0.0.10", "10.0.0.99", 5)),
            ("[fd00::1]-[fd00::9]:5", range("fd00::1", "fd00::9", 5)),
            ("fd00::1-fd00::9", range("fd00::1", "fd00::9", DEFAULT_UDP_PORT)),
        ] {
            assert_eq!(parse_udp(text), Ok(want), "{text}");
        }
    }

    #[test]
    fn what_is_no_address_is_refused_with_a_reason() {
        for (text, want) in [
            ("", "host name"),
            (":1337", "host name"),
            ("gw:", "1 to 65535"),
            ("gw:0", "1 to 65535"),
            ("gw:65536", "1 to 65535"),
            ("gw:x", "1 to 65535"),
            ("10.0.0.300", "IPv4"),
            ("10.0.0", "IPv4"),
            ("[fd00::1", "brackets"),
            ("a b", "host name"),
            ("10.0.0.9-10.0.0.1", "ends before"),
            ("10.0.0.9-20", "IPv4"),
            ("10.0.0.9-gw", "end with an address"),
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
        assert!(parse_tcp("rack1").unwrap_err().message.contains("without a port"));
        assert!(parse_tcp("fd00::1").unwrap_err().message.contains("without a port"));
    }

    #[test]
    fn entries_are_counted() {
        let entries =
            ["10.0.0.10-10.0.0.99", "gw.local", "fd00::1-fd00::2"].map(|text| parse_udp(text).unwrap());
        assert_eq!(count(&entries), 90 + 1 + 2);
    }
}
