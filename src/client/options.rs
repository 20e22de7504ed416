//! How to talk to one device. No behaviour.

use std::time::Duration;

use crate::plan::{Auto, FramingChoice, LinkOptions};
use crate::smp::{Version, detect};

/// How to talk to one device.
#[derive(Debug, Clone)]
pub struct ClientOptions {
    /// The server's buffer size in bytes, where it is not asked for.
    pub buffer: Option<u32>,
    /// Requests in flight, where it is not found out.
    pub window: Option<u32>,
    /// How long one request waits for its answer, where it is not the default.
    pub timeout: Option<Duration>,
    /// How often a request is sent again.
    pub retries: u32,
    /// How much longer the first answer may take, as it has to be found out first how to ask.
    pub settle: Duration,
    /// The protocol version that requests are sent in. Servers from before version 2 take both, and answer in version 1.
    pub protocol: Version,
}

impl Default for ClientOptions {
    fn default() -> Self {
        Self::from(&LinkOptions::default())
    }
}

impl From<&LinkOptions> for ClientOptions {
    fn from(link: &LinkOptions) -> Self {
        Self {
            buffer: fixed(link.buffer),
            window: fixed(link.window),
            timeout: fixed(link.timeout),
            retries: link.retries,
            settle: match link.framing {
                FramingChoice::Auto => detect::ROUND,
                FramingChoice::Console | FramingChoice::Raw | FramingChoice::Cobs => Duration::ZERO,
            },
            protocol: Version::V2,
        }
    }
}

fn fixed<T>(value: Auto<T>) -> Option<T> {
    match value {
        Auto::Auto => None,
        Auto::Fixed(value) => Some(value),
    }
}
