//! `flashfleet smp DEVICE GROUP COMMAND …`: one device, one command. Here are the options, the way to the device and the
//! way out; the commands' arguments live in `smp/commands.rs`, what they do in `smp/execute.rs` and `smp/files.rs`, and
//! how it is told in `smp/show.rs`.

use std::io::Write;
use std::path::PathBuf;
use std::time::Duration;

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
use crate::client::{Client, ClientOptions, Conversation};
use crate::exit::Exit;
use crate::plan::LinkOptions;
use crate::transport::{Address, AddressError, Candidate, Discovery};

mod commands;
mod execute;
mod files;
mod show;

/// The name of the JSON format.
const SCHEMA: &str = "flashfleet.smp/1";

/// How long each port of a board with several has to answer, where no `--timeout` is given.
const ANSWER_WITHIN: Duration = Duration::from_secs(1);

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
    let told = runtime.block_on(async {
        let mut signals = Signals::listen().map_err(station)?;
        tokio::select! {
            biased;
            () = signals.next() => Ok(None),
            told = converse(&address, &link, group, out) => told.map(Some),
        }
    })?;
    match wire_log.and_then(|log| log.failure()) {
        Some(cause) => Err(cause),
        None => Ok(told),
    }
}

async fn converse(
    address: &Address,
    link: &LinkOptions,
    command: commands::Prepared<'_>,
    out: &mut dyn Write,
) -> Result<Told, Cause> {
    let ports = Discovery::new().find(address, link).await?;
    let mut client = open(&ports, link).await?;
    let told = execute::execute(&mut client, command, out).await;
    client.close().await;
    told
}

/// A conversation with the device; of several ports of one board over the first that answers.
///
/// # Errors
/// Why the one port cannot be opened; of several, what is wrong with the first, where none answers.
async fn open(ports: &[Candidate], link: &LinkOptions) -> Result<Client, Cause> {
    let options = ClientOptions::from(link);
    let within = options.timeout.unwrap_or(ANSWER_WITHIN) + options.settle;
    let mut trouble = None;
    for port in ports {
        let tried = async {
            let connection = port.connector.connect().await.map_err(Cause::from)?;
            let mut client = Client::new(connection, options.clone(), Conversation::default());
            if ports.len() > 1
                && let Err(silent) = client.echo_once(within).await
            {
                client.close().await;
                return Err(silent.into());
            }
            Ok::<_, Cause>(client)
        };
        match tried.await {
            Ok(client) => return Ok(client),
            Err(cause) => trouble = trouble.or(Some(cause)),
        }
    }
    Err(trouble.unwrap_or_else(|| {
        Cause::new(
            Class::Link,
            "device.not_found",
            "expected a device, found none",
            "look for it with `flashfleet list`",
        )
    }))
}

fn bad_device(error: AddressError) -> Cause {
    Cause::new(Class::Plan, error.code, error.to_string(), error.help)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::identity::Identity;
    use crate::sim::{Fleet, SimSpec};
    use crate::transport::{Connector, LinkError, LinkErrorKind, MemoryConnector, MemoryLink};

    fn port(connector: Arc<dyn Connector>) -> Candidate {
        let address = connector.address();
        Candidate {
            key: "usb:1-1".to_owned(),
            address,
            identity: Identity::default(),
            connector,
            claim: true,
        }
    }

    fn memory(address: &str) -> Arc<MemoryConnector> {
        Arc::new(MemoryConnector::new(address, MemoryLink::unlimited()))
    }

    #[tokio::test(start_paused = true)]
    async fn of_several_ports_the_first_that_answers_is_used() {
        let fleet = Fleet::new(&SimSpec::default()).unwrap();
        let (held, silent) = (memory("held"), memory("silent"));
        held.refuse(LinkError::new(LinkErrorKind::Busy, "held", "let go"));
        let _listens = silent.prepare();
        let ports = [port(held), port(silent), port(fleet.connector(0))];
        let mut client = open(&ports, &LinkOptions::default()).await.unwrap();
        assert_eq!(client.echo("hi".to_owned()).await.unwrap(), "hi");
    }

    #[tokio::test(start_paused = true)]
    async fn where_no_port_answers_the_first_one_s_trouble_is_told() {
        let (silent, held) = (memory("silent"), memory("held"));
        let _listens = silent.prepare();
        held.refuse(LinkError::new(LinkErrorKind::Busy, "held", "let go"));
        let cause = open(&[port(silent), port(held)], &LinkOptions::default()).await.unwrap_err();
        assert_eq!(cause.code, "link.no_answer");
    }

    #[tokio::test(start_paused = true)]
    async fn a_device_with_one_port_hears_nothing_but_the_command() {
        let silent = memory("silent");
        let mut peer = silent.prepare();
        let client = open(&[port(silent)], &LinkOptions::default()).await.unwrap();
        client.close().await;
        assert!(peer.recv().await.is_none());
    }
}
