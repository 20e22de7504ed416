//! `flashfleet smp DEVICE GROUP COMMAND …`: one device, one command. Here are the options, the way to the device and the
//! way out; the commands' arguments live in `smp/commands.rs`, what they do in `smp/execute.rs` and `smp/files.rs`, and
//! how it is told in `smp/show.rs`.

use std::io::Write;
use std::path::PathBuf;

use clap::Args;
use serde_json::json;

use self::commands::Group;
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
mod show;

/// The name of the JSON format.
const SCHEMA: &str = "flashfleet.smp/1";

/// Send one SMP command to one device.
#[derive(Debug, Args)]
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
    /// Management group and command.
    #[command(subcommand)]
    group: Group,
}

/// Runs the command.
pub fn run(args: &SmpArgs, out: &mut dyn Write, err: &mut dyn Write) -> Exit {
    match try_run(args, out) {
        Ok(Some(told)) if args.json => {
            let document = json!({
                "schema": SCHEMA,
                "device": args.device,
                "command": args.group.name(),
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
            let _ = writeln!(err, "interrupted{}", args.group.after_interrupt());
            Exit::Interrupted
        }
        Err(cause) => {
            say(err, &cause);
            Exit::of_cause(&cause)
        }
    }
}

/// What the device said; `None` where a person interrupted it.
fn try_run(args: &SmpArgs, out: &mut dyn Write) -> Result<Option<Told>, Cause> {
    let address: Address = args.device.parse().map_err(bad_device)?;
    let group = args.group.prepare(args.json)?;
    let wire_log = logging::start(0, false, args.trace.as_deref())?;
    let station = |error: std::io::Error| {
        let message = format!("cannot start: {error}");
        Cause::new(Class::Station, "station.unavailable", message, "close other programs")
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(station)?;
    let link = args.link.options();
    let protocol = if args.protocol == 1 { Version::V1 } else { Version::V2 };
    let options = ClientOptions { protocol, ..ClientOptions::from(&link) };
    let told = runtime.block_on(async {
        let mut signals = Signals::listen().map_err(station)?;
        tokio::select! {
            biased;
            () = signals.next() => Ok(None),
            told = converse(&address, (&link, &options), group, out) => told.map(Some),
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
    command: commands::Prepared<'_>,
    out: &mut dyn Write,
) -> Result<Told, Cause> {
    let ports = Discovery::new().find(address, link).await?;
    let mut client = Client::open(&ports, options).await?;
    let told = execute::execute(&mut client, command, out).await;
    client.close().await;
    told
}

fn bad_device(error: AddressError) -> Cause {
    Cause::new(Class::Plan, error.code, error.to_string(), error.help)
}
