//! How one device is talked to: the options that `smp` and `update` share.

use std::time::Duration;

use clap::Args;

use crate::plan::{Auto, LinkOptions};

/// What a DEVICE looks like.
pub(super) const DEVICE_HELP: &str = "The device: serial:/dev/ttyACM0, usb:2fe3:0004 (a regular expression on \
     vid:pid:interface), ble:NAME-or-ADDRESS, udp:HOST[:PORT] or tcp:HOST:PORT";

/// How to talk to the device.
#[derive(Debug, Args)]
pub(super) struct LinkArgs {
    /// How long each request waits for its answer, for example 2s; without it as long as the command may need.
    #[arg(long, value_name = "TIME", global = true, value_parser = humantime::parse_duration)]
    timeout: Option<Duration>,
    /// How often a request is sent again that gets no answer. Resets, shell commands and raw writes never are.
    #[arg(long, value_name = "N", global = true)]
    retries: Option<u32>,
    /// Bits per second on serial links [default: 115200].
    #[arg(short, long, alias = "baudrate", value_name = "BITS_PER_SECOND", global = true, value_parser = clap::value_parser!(u32).range(1..))]
    baud: Option<u32>,
    /// The server's buffer, in bytes, or as lines that it takes: 512, or 128x4. Without it the device is asked.
    #[arg(long, value_name = "BYTES|LENGTHxCOUNT", global = true, value_parser = buffer)]
    buffer: Option<u32>,
    /// Longest line of console framing, in bytes [default: 128].
    #[arg(long, value_name = "BYTES", global = true, value_parser = clap::value_parser!(u16).range(8..))]
    line_length: Option<u16>,
}

impl LinkArgs {
    /// What the arguments say, and defaults for the rest.
    pub(super) fn options(&self) -> LinkOptions {
        let default = LinkOptions::default();
        LinkOptions {
            baud: self.baud.unwrap_or(default.baud),
            timeout: self.timeout.map_or(default.timeout, Auto::Fixed),
            retries: self.retries.unwrap_or(default.retries),
            buffer: self.buffer.map_or(default.buffer, Auto::Fixed),
            line_length: self.line_length.map_or(default.line_length, usize::from),
            ..default
        }
    }
}

/// Bytes, or length times count.
fn buffer(text: &str) -> Result<u32, String> {
    let number = |text: &str| text.trim().parse::<u32>().ok().filter(|number| *number > 0);
    let bytes = match text.split_once(['x', '*']) {
        Some((length, count)) => number(length).zip(number(count)).and_then(|(l, c)| l.checked_mul(c)),
        None => number(text),
    };
    bytes.filter(|bytes| *bytes >= 32).ok_or_else(|| {
        "expected at least 32 bytes, as 512 or as a line's length times their count, 128x4".to_owned()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buffers_are_bytes_or_lines() {
        assert_eq!(buffer("512"), Ok(512));
        assert_eq!(buffer("128x4"), Ok(512));
        assert_eq!(buffer("96*2"), Ok(192));
        for wrong in ["", "0", "31", "x4", "128x", "128x0", "4294967295x2", "-1", "1k"] {
            assert!(buffer(wrong).is_err(), "{wrong}");
        }
    }
}
