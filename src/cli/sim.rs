//! `flashfleet sim`: simulated devices behind real endpoints, until interrupted.

use std::fs;
use std::io::{self, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::{Args, ValueEnum};
use serde_json::json;

use super::diagnose::say;
use super::signals::Signals;
use super::sim_usbip;
use crate::cause::{Cause, Class};
use crate::exit::Exit;
use crate::sim::{Endpoint, EndpointKind, FaultSpec, Fleet, SimSpec, SimTransport};
use crate::transport::raise_descriptor_limit;

/// The name of the JSON format: one object per device and line.
pub(super) const SCHEMA: &str = "flashfleet.sim/1";

/// Run simulated devices behind real endpoints until interrupted.
///
/// Prints one address per line, in the order of the devices, once all of them can be reached. Being interrupted is the
/// regular end: the exit code is 0.
#[derive(Debug, Args)]
pub struct SimArgs {
    /// Number of devices.
    #[arg(long, value_name = "N")]
    pub count: Option<usize>,
    /// What to put the devices behind; without it pseudo-terminals, or UDP or a radio where the description says so.
    #[arg(long, value_enum)]
    pub kind: Option<Kind>,
    /// Address to listen at, for UDP, TCP and radios.
    #[arg(long, value_name = "ADDRESS", default_value_t = IpAddr::V4(Ipv4Addr::LOCALHOST))]
    pub host: IpAddr,
    /// First port to listen at, for UDP, TCP and radios; each further device takes the next. Without it any that are free.
    #[arg(long, value_name = "PORT", default_value_t = 0)]
    pub port: u16,
    /// Folder for symbolic links to the pseudo-terminals, named as the devices: they stay the same, also where a device
    /// is unplugged and comes back. It is made where it does not exist.
    #[arg(long, value_name = "DIR")]
    pub link_dir: Option<PathBuf>,
    /// Bits per second of the paced serial link; without it as fast as it goes.
    #[arg(long, value_name = "BITS_PER_SECOND")]
    pub baud: Option<u32>,
    /// Size of one of the server's buffers, in bytes.
    #[arg(long, value_name = "BYTES")]
    pub buf_size: Option<u32>,
    /// Number of the server's buffers.
    #[arg(long, value_name = "N")]
    pub buf_count: Option<u32>,
    /// Version of the image that runs at first, as 1.2.3 or 1.2.3.4.
    #[arg(long, value_name = "VERSION")]
    pub image_version: Option<String>,
    /// What goes wrong, as in a plan: for example '{ lose: 0.01, only: [2, 5] }'.
    #[arg(long, value_name = "YAML")]
    pub fault: Option<String>,
    /// A description of devices, as behind `match: { sim: … }` in a plan; the other options override it. More than once
    /// for devices of several kinds, each with a `name` of its own.
    #[arg(long, value_name = "FILE")]
    pub spec: Vec<PathBuf>,
    /// Serve the devices as boards on USB, over USB/IP at this address: by default 127.0.0.1, port 3240. What the boards
    /// are is said under `usb` in the description. Prints bus id, vid:pid and serial number of each.
    #[arg(
        long,
        value_name = "ADDRESS[:PORT]",
        num_args = 0..=1,
        default_missing_value = "127.0.0.1",
        value_parser = sim_usbip::parse_listen,
        conflicts_with_all = ["kind", "host", "port", "link_dir"]
    )]
    pub usbip: Option<SocketAddr>,
    /// Attach boards to this machine, and attach them again when they come back after a reset: those of `--usbip`, or
    /// else those that the USB/IP server there offers, by default the one at 127.0.0.1, port 3240. Linux with the module
    /// vhci-hcd only, as root. The boards are taken off at the end.
    #[arg(
        long,
        value_name = "HOST[:PORT]",
        num_args = 0..=1,
        value_parser = sim_usbip::parse_server,
        conflicts_with_all = ["kind", "host", "port", "link_dir"]
    )]
    pub attach: Option<Option<String>>,
    /// End by itself after this time, for example 30s.
    #[arg(long = "for", value_name = "TIME", value_parser = humantime::parse_duration)]
    pub time: Option<Duration>,
    /// Print one JSON object per line: schema, name, address and link of each device.
    #[arg(long)]
    pub json: bool,
}

/// What the devices are behind.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Kind {
    /// Pseudo-terminals.
    Pty,
    /// UDP sockets.
    Udp,
    /// TCP serial servers, console framing over the stream.
    Tcp,
    /// TCP sockets for the program that is the devices' BLE radio.
    Radio,
}

/// Runs the command.
pub fn run(args: &SimArgs, out: &mut dyn Write, err: &mut dyn Write) -> Exit {
    match try_run(args, out, err) {
        Ok(()) => Exit::Passed,
        Err(causes) => {
            for cause in &causes {
                say(err, cause);
            }
            causes.first().map_or(Exit::Internal, Exit::of_cause)
        }
    }
}

fn try_run(args: &SimArgs, out: &mut dyn Write, err: &mut dyn Write) -> Result<(), Vec<Cause>> {
    if args.attach.is_some() {
        check_attach(args).map_err(|message| vec![bad_description(message.to_owned())])?;
    }
    let specs = specs_of(args)?;
    // One for each device, and one more for each that is open.
    raise_descriptor_limit();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| vec![station(format!("cannot start: {error}"), "close other programs")])?;
    runtime.block_on(async {
        match (args.usbip, &args.attach) {
            (Some(address), _) => sim_usbip::serve(args, &specs, address, out, err).await,
            (None, Some(server)) => sim_usbip::attach(args, server.as_deref(), out, err).await,
            (None, None) => serve(args, &specs, out).await,
        }
    })
}

/// Options that mean nothing beside `--attach` are no silent ones.
fn check_attach(args: &SimArgs) -> Result<(), &'static str> {
    if args.usbip.is_some() {
        return match args.attach {
            Some(Some(_)) => {
                Err("expected `--attach` without a server beside `--usbip`: it attaches its own boards")
            }
            _ => Ok(()),
        };
    }
    let numbers = args.count.is_some() || args.buf_size.is_some() || args.buf_count.is_some();
    let texts = args.baud.is_some() || args.image_version.is_some() || args.fault.is_some();
    if numbers || texts || !args.spec.is_empty() {
        return Err(
            "expected `--usbip` beside a description of devices and `--attach`, got `--attach` alone",
        );
    }
    Ok(())
}

/// The descriptions that the options make: one, or one for each `--spec`.
fn specs_of(args: &SimArgs) -> Result<Vec<SimSpec>, Vec<Cause>> {
    if args.spec.is_empty() {
        return Ok(vec![spec_of(args, None)?]);
    }
    let mut specs = Vec::<SimSpec>::new();
    for path in &args.spec {
        let spec = spec_of(args, Some(path))?;
        if specs.iter().any(|other| other.name == spec.name) {
            let message = format!("name: expected another one in each `--spec`, got {:?} twice", spec.name);
            return Err(vec![bad_description(message)]);
        }
        specs.push(spec);
    }
    Ok(specs)
}

/// The description that a file and the options make.
fn spec_of(args: &SimArgs, path: Option<&Path>) -> Result<SimSpec, Vec<Cause>> {
    let mut spec = match path {
        Some(path) => read_spec(path).map_err(|cause| vec![cause])?,
        None => SimSpec::default(),
    };
    match args.kind {
        Some(Kind::Udp) => spec.transport = SimTransport::Udp,
        Some(Kind::Radio) => spec.transport = SimTransport::Ble,
        Some(Kind::Pty | Kind::Tcp) => spec.transport = SimTransport::Serial,
        None => {}
    }
    spec.count = args.count.unwrap_or(spec.count);
    spec.baud = args.baud.or(spec.baud);
    spec.buf_size = args.buf_size.unwrap_or(spec.buf_size);
    spec.buf_count = args.buf_count.unwrap_or(spec.buf_count);
    if let Some(version) = &args.image_version {
        spec.version.clone_from(version);
    }
    if let Some(text) = &args.fault {
        let fault = serde_yaml::from_str::<FaultSpec>(text)
            .map_err(|error| vec![bad_description(format!("expected faults in `--fault`: {error}"))])?;
        spec.fault = fault;
    }
    if args.usbip.is_some() {
        spec.usb.get_or_insert_default();
    }
    let problems = spec.problems();
    if problems.is_empty() {
        return Ok(spec);
    }
    Err(problems.into_iter().map(|problem| bad_description(problem.to_string())).collect())
}

fn read_spec(path: &Path) -> Result<SimSpec, Cause> {
    let text = fs::read_to_string(path).map_err(|error| {
        let message = format!("expected a description of devices in {}, but {error}", path.display());
        bad_description(message)
    })?;
    serde_yaml::from_str(&text).map_err(|error| {
        bad_description(format!("expected a description of devices in {}: {error}", path.display()))
    })
}

pub(super) fn bad_description(message: String) -> Cause {
    Cause::new(
        Class::Plan,
        "sim.bad_description",
        message,
        "correct it; `flashfleet schema plan` shows every key, under `sim`",
    )
}

pub(super) fn station(message: String, help: &str) -> Cause {
    Cause::new(Class::Station, "station.endpoint", message, help)
}

/// The signals that end the command.
pub(super) fn signals() -> Result<Signals, Vec<Cause>> {
    Signals::listen()
        .map_err(|error| vec![station(format!("cannot catch signals: {error}"), "close other programs")])
}

/// Opens every endpoint, prints them, and waits for the end.
async fn serve(args: &SimArgs, specs: &[SimSpec], out: &mut dyn Write) -> Result<(), Vec<Cause>> {
    if let Some(dir) = &args.link_dir {
        fs::create_dir_all(dir).map_err(|error| {
            let message = format!("expected to make the folder {}, but {error}", dir.display());
            vec![station(message, "give a folder that can be written in `--link-dir`")]
        })?;
    }
    let mut endpoints = Vec::new();
    for spec in specs {
        let fleet = Fleet::new(spec).map_err(|problem| vec![bad_description(problem.to_string())])?;
        for index in 0..fleet.len() {
            let name = spec.device_name(index);
            let kind = kind(args, spec, &name, endpoints.len());
            let endpoint = kind.and_then(|kind| fleet.serve(index, kind)).map_err(|error| {
                let message = format!("expected to open an endpoint for {name}, but {error}");
                vec![station(message, "choose another `--port`, `--host` or `--link-dir`, or fewer devices")]
            })?;
            endpoints.push((name, endpoint));
        }
    }
    let signals = signals()?;
    // Whoever reads the addresses may have seen enough: a closed pipe is no failure.
    let _ = print(args, &endpoints, out);
    wait(args.time, signals).await;
    Ok(())
}

/// What the device with this name, the `number`th of all from 0, is put behind.
fn kind(args: &SimArgs, spec: &SimSpec, name: &str, number: usize) -> io::Result<EndpointKind> {
    let default = match spec.transport {
        SimTransport::Serial => Kind::Pty,
        SimTransport::Udp => Kind::Udp,
        SimTransport::Ble => Kind::Radio,
    };
    let socket = || {
        let offset = u16::try_from(number).ok().filter(|_| args.port != 0).unwrap_or(0);
        let port = args.port.checked_add(offset).ok_or(io::ErrorKind::AddrNotAvailable)?;
        Ok::<_, io::Error>(SocketAddr::new(args.host, port))
    };
    Ok(match args.kind.unwrap_or(default) {
        Kind::Pty => EndpointKind::Pty { link: args.link_dir.as_ref().map(|dir| dir.join(name)) },
        Kind::Udp => EndpointKind::Udp(socket()?),
        Kind::Tcp => EndpointKind::Tcp(socket()?),
        Kind::Radio => EndpointKind::Radio(socket()?),
    })
}

fn print(args: &SimArgs, endpoints: &[(String, Endpoint)], out: &mut dyn Write) -> io::Result<()> {
    for (name, endpoint) in endpoints {
        let address = endpoint.address();
        if args.json {
            let link = endpoint.link();
            writeln!(out, "{}", json!({ "schema": SCHEMA, "name": name, "address": address, "link": link }))?;
        } else {
            writeln!(out, "{address}")?;
        }
    }
    out.flush()
}

/// Waits for a signal that ends the command, or the time.
pub(super) async fn wait(time: Option<Duration>, mut signals: Signals) {
    let over = async {
        match time {
            Some(time) => tokio::time::sleep(time).await,
            None => std::future::pending().await,
        }
    };
    tokio::select! {
        () = over => {}
        () = signals.next() => {}
    }
}
