//! How one device is talked to: the options that `smp` and `update` share.

use std::time::Duration;

use clap::{Args, ValueEnum};

use crate::plan::{Auto, Buffer, FramingChoice, LinkOptions};

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
    /// The framing on serial links: base64 lines (console), bare messages (raw), COBS (cobs), or found out (auto)
    /// [default: console].
    #[arg(long, value_name = "FRAMING", global = true, value_enum)]
    framing: Option<Framing>,
    /// The server's buffer, in bytes, or as the lines that it has buffers for: 512, or 128x4. Without it the device is
    /// asked.
    #[arg(long, value_name = "BYTES|LENGTHxCOUNT", global = true, value_parser = Buffer::parse)]
    buffer: Option<Buffer>,
    /// Longest line of console framing, in bytes [default: 128, or that of --buffer].
    #[arg(long, value_name = "BYTES", global = true, value_parser = clap::value_parser!(u16).range(8..))]
    line_length: Option<u16>,
}

/// Framings by name.
#[derive(Debug, Clone, Copy, ValueEnum)]
enum Framing {
    Console,
    Raw,
    Cobs,
    Auto,
}

impl From<Framing> for FramingChoice {
    fn from(framing: Framing) -> Self {
        match framing {
            Framing::Console => Self::Console,
            Framing::Raw => Self::Raw,
            Framing::Cobs => Self::Cobs,
            Framing::Auto => Self::Auto,
        }
    }
}

impl LinkArgs {
    /// What the arguments say, and defaults for the rest.
    pub(super) fn options(&self) -> LinkOptions {
        let default = LinkOptions::default();
        let framing = self.framing.map_or(default.framing, FramingChoice::from);
        let of_buffer = self.buffer.and_then(Buffer::line_length);
        let line_length = self.line_length.map(usize::from).or(of_buffer).unwrap_or(default.line_length);
        LinkOptions {
            baud: self.baud.unwrap_or(default.baud),
            timeout: self.timeout.map_or(default.timeout, Auto::Fixed),
            retries: self.retries.unwrap_or(default.retries),
            framing,
            buffer: self
                .buffer
                .map_or(default.buffer, |buffer| Auto::Fixed(buffer.bytes(framing, line_length))),
            line_length,
            ..default
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Debug, Parser)]
    struct Command {
        #[command(flatten)]
        link: LinkArgs,
    }

    fn options(arguments: &str) -> LinkOptions {
        Command::try_parse_from(arguments.split(' ')).unwrap().link.options()
    }

    #[test]
    fn lines_tell_their_length_and_what_fits_them() {
        let told = |text| {
            let LinkOptions { buffer, line_length, framing, .. } = options(text);
            (buffer, line_length, framing)
        };
        use FramingChoice::{Auto as Found, Console, Raw};
        assert_eq!(told("x"), (Auto::Auto, 128, Console));
        assert_eq!(told("x --buffer 512 --framing auto"), (Auto::Fixed(512), 128, Found));
        assert_eq!(told("x --buffer 96x4"), (Auto::Fixed(4 * 69), 96, Console));
        assert_eq!(told("x --buffer 128x4 --line-length 64"), (Auto::Fixed(4 * 45), 64, Console));
        assert_eq!(told("x --buffer 128x4 --framing raw"), (Auto::Fixed(512), 128, Raw));
        assert!(Command::try_parse_from(["x", "--buffer", "31"]).is_err());
    }
}
