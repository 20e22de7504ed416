//! `flashfleet smp DEVICE GROUP COMMAND …`: one device, one command. Here are the options, the way to the device and the
//! way out; the commands' arguments live in `smp/commands.rs`, what is made of them in `smp/prepare.rs`, what they do in `smp/execute.rs` and `smp/files.rs`, and
//! how it is told in `smp/show.rs`.

use std::io::Write;
use std::path::PathBuf;

use clap::Args;
use serde_json::json;

use self::commands::Group;
use self::files::Terminal;
use self::show::Told;
use super::diagnose::say;
use super::link::{DEVICE_HELP, LinkArgs};
use super::logging;
use super::output::print_json;
use super::signals::Signals;
use crate::cause::{Cause, Class};
use crate::client::{Client, ClientOptions};
use crate::exit::Exit;
use crate::plan::LinkOptions;
use crate::smp::Version;
use crate::transport::{Address, AddressError, Discovery};

mod commands;
mod execute;
mod files;
mod prepare;
mod show;

pub(super) use self::commands::sha256;
pub(super) use self::prepare::check_sha256;

/// The name of the JSON format.
const SCHEMA: &str = "flashfleet.smp/1";

/// Send one SMP command to one device.
#[derive(Debug, Args)]
#[command(
    subcommand_value_name = "GROUP",
    subcommand_help_heading = "Groups",
    after_help = "Names that mcumgrctl and smpmgr have for the same commands are understood, too: `fs checksum`, `image get-state`, \
                  `os system-reset`, `stats`. docs/smp.md has all of them side by side."
)]
pub struct SmpArgs {
    /// The device.
    #[arg(value_name = "DEVICE", help = DEVICE_HELP)]
    device: String,
    #[command(flatten)]
    link: LinkArgs,
    /// Write one JSON object to standard output.
    #[arg(long, global = true)]
    json: bool,
    /// Write a wire log into this folder.
    #[arg(long, value_name = "DIR", global = true)]
    trace: Option<PathBuf>,
    /// Version of the protocol. In version 1 the device tells fewer errors apart.
    #[arg(
        long,
        value_name = "1|2",
        global = true,
        default_value_t = 2,
        value_parser = clap::value_parser!(u8).range(1..=2)
    )]
    protocol: u8,
    /// Say more; twice for everything.
    #[arg(short, long, global = true, action = clap::ArgAction::Count)]
    verbose: u8,
    /// Show no progress, and warn of nothing.
    #[arg(short, long, global = true, conflicts_with = "verbose")]
    quiet: bool,
    /// Management group and command. Without any it is only asked whether the device answers.
    #[command(subcommand)]
    group: Option<Group>,
}

impl SmpArgs {
    /// Group and command, for programs.
    fn command(&self) -> String {
        self.group.as_ref().map_or_else(|| "answers".to_owned(), Group::name)
    }
}

/// Runs the command.
pub fn run(args: &SmpArgs, out: &mut dyn Write, err: &mut dyn Write) -> Exit {
    match try_run(args, out) {
        Ok(Some(told)) if args.json => {
            let document = json!({
                "schema": SCHEMA,
                "device": args.device,
                "command": args.command(),
                "result": told.json,
            });
            print_json(out, err, &document, told.exit)
        }
        Ok(Some(told)) => {
            // Whoever reads it may have seen enough: a closed pipe is no failure.
            let _ = out.write_all(told.text.as_bytes()).and_then(|()| out.flush());
            told.exit
        }
        Ok(None) => {
            let left = args.group.as_ref().map_or("", Group::after_interrupt);
            let _ = writeln!(err, "interrupted{left}");
            Exit::Interrupted
        }
        Err(cause) => {
            say(err, &cause);
            let exit = Exit::of_cause(&cause);
            if !args.json {
                return exit;
            }
            let document = json!({
                "schema": SCHEMA,
                "device": args.device,
                "command": args.command(),
                "error": cause,
            });
            print_json(out, err, &document, exit)
        }
    }
}

/// What the device said; `None` where a person interrupted it.
fn try_run(args: &SmpArgs, out: &mut dyn Write) -> Result<Option<Told>, Cause> {
    let address: Address = args.device.parse().map_err(bad_device)?;
    let command = match &args.group {
        Some(group) => group.prepare(args.json)?,
        None => prepare::Prepared::Answers,
    };
    let wire_log = logging::start(args.verbose, args.quiet, args.trace.as_deref())?;
    let station = |error: std::io::Error| {
        let message = format!("cannot start: {error}");
        Cause::new(Class::Station, "station.unavailable", message, "close other programs")
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(station)?;
    let link = args.link.options();
    let protocol = if args.protocol == 1 { Version::V1 } else { Version::V2 };
    let options = ClientOptions { protocol, ..ClientOptions::from(&link) };
    let mut terminal = Terminal { out, quiet: args.quiet };
    let told = runtime.block_on(async {
        let mut signals = Signals::listen().map_err(station)?;
        // A task of its own is only looked at when a signal came, and not each time that the device says something.
        let mut interrupted = tokio::spawn(async move { signals.next().await });
        tokio::select! {
            biased;
            _ = &mut interrupted => Ok(None),
            told = converse(&address, (&link, &options), command, &mut terminal) => told.map(Some),
        }
    })?;
    match wire_log.and_then(|log| log.failure()) {
        Some(cause) => Err(cause),
        None => Ok(told),
    }
}

async fn converse(
    address: &Address,
    (link, options): (&LinkOptions, &ClientOptions),
    command: prepare::Prepared<'_>,
    terminal: &mut Terminal<'_>,
) -> Result<Told, Cause> {
    let ports = Discovery::new().find(address, link).await?;
    let mut client = Client::open(&ports, options).await?;
    let told = execute::execute(&mut client, command, terminal).await;
    client.close().await;
    told
}

fn bad_device(error: AddressError) -> Cause {
    Cause::new(Class::Plan, error.code, error.to_string(), error.help)
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;
    use crate::cli::{Cli, Command};

    fn parse(words: &str) -> SmpArgs {
        let words = ["flashfleet", "smp", "udp:gw"].into_iter().chain(words.split_whitespace());
        match Cli::try_parse_from(words).unwrap_or_else(|error| panic!("{error}")).command {
            Command::Smp(args) => args,
            other => panic!("expected smp, got {other:?}"),
        }
    }

    /// Those of mcumgrctl 0.20 and smpmgr 0.19 that are one word here, too. What is another thing, or the same with other
    /// defaults, is refused: `os set-datetime` would set another time.
    #[test]
    fn names_that_other_tools_have_mean_the_same_here() {
        for (theirs, ours) in [
            ("os task-statistics", "os tasks"),
            ("os memory-pool-statistics", "os memory-pools"),
            ("os system-reset -f --bootmode 1", "os reset"),
            ("os mcumgr-parameters", "os params"),
            ("os application-info", "os info"),
            ("os bootloader-info", "os bootloader"),
            ("fs download /a b", "fs get"),
            ("fs upload a /b", "fs put"),
            ("fs checksum /a sha256 --offset 1 --length 2", "fs hash"),
            ("fs supported-checksums", "fs hash-types"),
            ("image get-state", "image list"),
            ("image upload --image-id 1 --upgrade-only a.bin", "image upload"),
            ("image erase 1", "image erase"),
            ("image slot-info", "image slots"),
            ("stats get", "stat show"),
            ("stats list-groups", "stat list"),
            ("settings save --name a", "settings save"),
            ("enum list-groups", "enum list"),
            ("enum show-group-details", "enum details"),
            ("file download /a", "fs get"),
            ("file upload a /b", "fs put"),
            ("file get-hash /a", "fs hash"),
            ("file get-supported-hash-types", "fs hash-types"),
            ("file read-size /a", "fs status"),
            ("image state-read", "image list"),
            ("statistics list", "stat list"),
            ("statistics get a", "stat show"),
            ("statistics fetch-all", "stat show"),
            ("enum get-supported-groups", "enum list"),
            ("enum get-group-details 1", "enum details"),
        ] {
            assert_eq!(parse(theirs).group.expect(theirs).name(), ours, "{theirs}");
        }
        for other in ["os set-datetime", "image set-state --confirm", "terminal"] {
            let words = ["flashfleet", "smp", "udp:gw"].into_iter().chain(other.split_whitespace());
            assert!(Cli::try_parse_from(words).is_err(), "{other}");
        }
    }

    #[test]
    fn both_ways_to_say_a_thing_are_heard() {
        for (words, slot) in
            [("image erase 3", Some(3)), ("image erase --slot 3", Some(3)), ("image erase", None)]
        {
            let Some(Group::Image(commands::ImageCommand::Erase { at, slot: long })) = parse(words).group
            else {
                panic!("{words}")
            };
            assert_eq!(at.or(long), slot, "{words}");
        }
        assert!(parse("-q").quiet && parse("--baudrate 9600 -v").group.is_none());
    }
}
