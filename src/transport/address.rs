//! The one grammar of addresses, on the command line and in every report: `serial:`, `usb:`, `ble:`, `udp:`, `tcp:`,
//! `sim:`. Text only: nothing here is looked up or opened.

use std::fmt;
use std::net::Ipv6Addr;
use std::str::FromStr;

use crate::cause::{Cause, Class};
use crate::plan::Pattern;

/// UDP port of SMP servers (Zephyr, `CONFIG_MCUMGR_TRANSPORT_UDP_PORT`).
pub const DEFAULT_UDP_PORT: u16 = 1337;

/// Every kind, as it is written before the colon.
const KINDS: [&str; 6] = ["serial", "usb", "ble", "udp", "tcp", "sim"];

/// One device, or (`usb:` and `ble:`) what the device must look like.
#[derive(Debug, Clone)]
pub enum Address {
    /// `serial:PATH`, for example `serial:/dev/ttyACM0` or `serial:COM3`.
    Serial(String),
    /// `usb:PATTERN`, a regular expression on `vid:pid[:interface]`.
    Usb(Pattern),
    /// `ble:NAME-or-ADDRESS`.
    Ble(String),
    /// `udp:HOST[:PORT]`.
    Udp(HostPort),
    /// `tcp:HOST:PORT`, a serial server.
    Tcp(HostPort),
    /// `sim:NAME`.
    Sim(String),
}

/// A host and a port. Writes itself as `host:port`, with IPv6 addresses in brackets.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct HostPort {
    /// Name or address; IP addresses in canonical form, without brackets.
    pub host: String,
    /// Port, never 0.
    pub port: u16,
}

/// Text that is no address.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct AddressError {
    /// Stable and dotted, for example `address.unknown_kind`.
    pub code: &'static str,
    /// Lower-case; what was expected and what came.
    pub message: String,
    /// The next thing to do.
    pub help: String,
}

impl AddressError {
    fn new(code: &'static str, message: impl Into<String>, help: impl Into<String>) -> Self {
        Self { code, message: message.into(), help: help.into() }
    }
}

impl From<AddressError> for Cause {
    fn from(error: AddressError) -> Self {
        Self::new(Class::Plan, error.code, error.message, error.help)
    }
}

impl FromStr for Address {
    type Err = AddressError;

    fn from_str(text: &str) -> Result<Self, AddressError> {
        let Some((kind, rest)) = text.split_once(':') else { return Err(no_kind(text)) };
        if !KINDS.contains(&kind) {
            return Err(no_kind(text));
        }
        if rest.is_empty() {
            return Err(AddressError::new(
                "address.empty",
                format!("expected something after `{kind}:`, got nothing"),
                format!("write it like `{}`", example(kind)),
            ));
        }
        Ok(match kind {
            "serial" => Self::Serial(rest.to_owned()),
            "usb" => Self::Usb(Pattern::new(rest).map_err(|error| {
                AddressError::new(
                    "address.bad_pattern",
                    format!("expected a regular expression on vid:pid[:interface], got `{rest}`: {error}"),
                    format!("write it like `{}`", example(kind)),
                )
            })?),
            "ble" => Self::Ble(rest.to_owned()),
            "udp" => Self::Udp(HostPort::parse(rest, Some(DEFAULT_UDP_PORT))?),
            "tcp" => Self::Tcp(HostPort::parse(rest, None)?),
            _ => Self::Sim(rest.to_owned()),
        })
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Serial(path) => write!(f, "serial:{path}"),
            Self::Usb(pattern) => write!(f, "usb:{}", pattern.as_str()),
            Self::Ble(name) => write!(f, "ble:{name}"),
            Self::Udp(place) => write!(f, "udp:{place}"),
            Self::Tcp(place) => write!(f, "tcp:{place}"),
            Self::Sim(name) => write!(f, "sim:{name}"),
        }
    }
}

fn example(kind: &str) -> &'static str {
    match kind {
        "usb" => "usb:2fe3:0004",
        "ble" => "ble:Beacon-01",
        "udp" => "udp:192.168.1.20",
        "tcp" => "tcp:rack1:4001",
        "sim" => "sim:1",
        _ => "serial:/dev/ttyACM0",
    }
}

/// The error for text without a known kind, with the nearest thing that would be right.
fn no_kind(text: &str) -> AddressError {
    let upper = text.to_ascii_uppercase();
    let is_com =
        upper.strip_prefix("COM").is_some_and(|n| !n.is_empty() && n.bytes().all(|b| b.is_ascii_digit()));
    let is_usb_id = text.split(':').count() >= 2
        && text.split(':').take(2).all(|id| id.len() == 4 && id.bytes().all(|b| b.is_ascii_hexdigit()));
    let is_mac = text.split(':').count() == 6
        && text.split(':').all(|byte| byte.len() == 2 && byte.bytes().all(|b| b.is_ascii_hexdigit()));
    let help = if text.starts_with('/') || is_com || upper.starts_with("TTY") {
        let path = if upper.starts_with("TTY") { format!("/dev/{text}") } else { text.to_owned() };
        format!("for a serial port write `serial:{path}`")
    } else if text.parse::<std::net::IpAddr>().is_ok() || text.parse::<std::net::SocketAddr>().is_ok() {
        format!("for a device on the network write `udp:{text}`, for a serial server `tcp:HOST:PORT`")
    } else if is_mac {
        format!("for a Bluetooth device write `ble:{text}`")
    } else if is_usb_id {
        format!("for a USB device write `usb:{text}`")
    } else {
        let kind = text.split(':').next().unwrap_or_default();
        let near = KINDS
            .iter()
            .map(|known| (strsim::damerau_levenshtein(&kind.to_ascii_lowercase(), known), known))
            .min()
            .filter(|(distance, _)| *distance <= 2 && text.contains(':'));
        match near {
            Some((_, known)) => {
                format!("did you mean `{known}:{}`?", text.get(kind.len() + 1..).unwrap_or_default())
            }
            None => {
                "write it like `serial:/dev/ttyACM0`, `usb:2fe3:0004`, `ble:Beacon-01`, `udp:192.168.1.20` or \
                 `tcp:rack1:4001`"
                    .to_owned()
            }
        }
    };
    AddressError::new(
        "address.unknown_kind",
        format!("expected serial:, usb:, ble:, udp:, tcp: or sim: before a device's address, got `{text}`"),
        help,
    )
}

impl HostPort {
    /// Reads `host[:port]`, `[ipv6][:port]` or a bare IPv6 address. The port may be left out where there is a default.
    ///
    /// # Errors
    /// [`AddressError`] for an empty or impossible host, a port that is no number from 1 to 65535, or none where one is
    /// needed.
    pub fn parse(text: &str, default_port: Option<u16>) -> Result<Self, AddressError> {
        let bad_host = |host: &str| {
            AddressError::new(
                "address.bad_host",
                format!("expected a host name, an IPv4 address or an IPv6 address in brackets, got `{host}`"),
                "write it like `gw.local:1337`, `10.0.0.10` or `[fe80::1%eth0]:1337`",
            )
        };
        let (host, port) = if let Some(rest) = text.strip_prefix('[') {
            let Some((host, after)) = rest.split_once(']') else { return Err(bad_host(text)) };
            let host = canonical_v6(host).ok_or_else(|| bad_host(host))?;
            match after.strip_prefix(':') {
                Some(port) => (host, Some(port)),
                None if after.is_empty() => (host, None),
                None => return Err(bad_host(text)),
            }
        } else if let Some(host) = canonical_v6(text) {
            (host, None)
        } else {
            let (host, port) = match text.split_once(':') {
                Some((host, port)) => (host, Some(port)),
                None => (text, None),
            };
            let sound = !host.is_empty()
                && host.len() <= 253
                && host.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b'_'));
            if !sound {
                return Err(bad_host(host));
            }
            (host.to_owned(), port)
        };
        let port = match (port, default_port) {
            (Some(port), _) => port.parse::<u16>().ok().filter(|port| *port != 0).ok_or_else(|| {
                AddressError::new(
                    "address.bad_port",
                    format!("expected a port from 1 to 65535 after `{host}:`, got `{port}`"),
                    "correct the port",
                )
            })?,
            (None, Some(port)) => port,
            (None, None) => {
                return Err(AddressError::new(
                    "address.no_port",
                    format!("expected HOST:PORT, got `{text}` without a port"),
                    format!("add the port, for example `{text}:4001`"),
                ));
            }
        };
        Ok(Self { host, port })
    }
}

/// An IPv6 address, with an optional `%scope`, in canonical form.
fn canonical_v6(text: &str) -> Option<String> {
    let (address, scope) = match text.split_once('%') {
        Some((address, scope)) => (address, Some(scope)),
        None => (text, None),
    };
    let address: Ipv6Addr = address.parse().ok()?;
    match scope {
        None => Some(address.to_string()),
        Some(scope) => {
            let sound =
                !scope.is_empty() && scope.bytes().all(|b| b.is_ascii_graphic() && !b"[]%:/".contains(&b));
            sound.then(|| format!("{address}%{scope}"))
        }
    }
}

impl fmt::Display for HostPort {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.contains(':') {
            write!(f, "[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{}:{}", self.host, self.port)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_keep_their_text() {
        for text in [
            "serial:/dev/ttyACM0",
            "serial:COM3",
            "usb:2FE3:0004(:0)?",
            "ble:Beacon-01",
            "udp:gw.local:1337",
            "udp:[::1]:1338",
            "udp:[fe80::1%eth0]:1337",
            "tcp:10.0.0.1:4001",
            "tcp:[2001:db8::1]:4001",
            "sim:7",
        ] {
            assert_eq!(text.parse::<Address>().unwrap().to_string(), text);
        }
    }

    #[test]
    fn what_may_be_left_out_is_filled_in() {
        for (text, full) in [
            ("udp:10.0.0.10", "udp:10.0.0.10:1337"),
            ("udp:[::1]", "udp:[::1]:1337"),
            ("udp:2001:DB8:0::1", "udp:[2001:db8::1]:1337"),
            ("udp:gw", "udp:gw:1337"),
        ] {
            assert_eq!(text.parse::<Address>().unwrap().to_string(), full);
        }
    }

    #[test]
    fn bad_addresses_say_what_would_be_right() {
        for (text, code, help) in [
            ("/dev/ttyACM0", "address.unknown_kind", "for a serial port write `serial:/dev/ttyACM0`"),
            ("ttyUSB1", "address.unknown_kind", "for a serial port write `serial:/dev/ttyUSB1`"),
            ("COM3", "address.unknown_kind", "for a serial port write `serial:COM3`"),
            ("2fe3:0004", "address.unknown_kind", "for a USB device write `usb:2fe3:0004`"),
            ("serail:/dev/x", "address.unknown_kind", "did you mean `serial:/dev/x`?"),
            ("10.0.0.1", "address.unknown_kind", "write `udp:10.0.0.1`"),
            ("::1", "address.unknown_kind", "write `udp:::1`"),
            ("", "address.unknown_kind", "write it like"),
            ("usb:", "address.empty", "usb:2fe3:0004"),
            ("usb:2fe3:(", "address.bad_pattern", "usb:2fe3:0004"),
            ("udp::1337", "address.bad_host", "gw.local"),
            ("udp:a b", "address.bad_host", "gw.local"),
            ("udp:[::1", "address.bad_host", "gw.local"),
            ("udp:[::1]x", "address.bad_host", "gw.local"),
            ("udp:[gw]:1", "address.bad_host", "gw.local"),
            ("udp:gw:0", "address.bad_port", "port"),
            ("udp:gw:65536", "address.bad_port", "port"),
            ("udp:gw:", "address.bad_port", "port"),
            ("tcp:rack1", "address.no_port", "`rack1:4001`"),
        ] {
            let error = text.parse::<Address>().unwrap_err();
            assert_eq!(error.code, code, "{text}");
            assert!(error.help.contains(help), "{text}: {}", error.help);
        }
    }
}
