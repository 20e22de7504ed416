//! `flashfleet sim --usbip` and `--attach`: simulated devices as boards on USB, and the client that attaches boards to this
//! machine. What is common to all simulated devices lives in `sim.rs`.

use std::future::pending;
use std::io::{self, Write};
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use serde_json::json;

use super::sim::{SCHEMA, SimArgs, bad_description, signals, station, wait};
use crate::cause::Cause;
use crate::sim::{AttachEvent, Attacher, Fleet, SimSpec, USBIP_PORT, UsbBus, Vhci};

/// How often the client asks at most which boards are there: a board is attached again this soon after it came back.
const LOOK_EVERY: Duration = Duration::from_millis(50);
/// How often it asks a server that does not answer any more.
const LOOK_AGAIN: Duration = Duration::from_millis(500);

/// Where `--usbip` listens: an address, with or without a port.
pub(super) fn parse_listen(text: &str) -> Result<SocketAddr, String> {
    let with_port = text.parse::<SocketAddr>().ok();
    let address = with_port.or(text.parse::<IpAddr>().ok().map(|ip| SocketAddr::new(ip, USBIP_PORT)));
    address.ok_or_else(|| format!("expected an address as 127.0.0.1 or 127.0.0.1:{USBIP_PORT}"))
}

/// The server that `--attach` means: a name or an address, with or without a port.
pub(super) fn parse_server(text: &str) -> Result<String, String> {
    if let Ok(address) = parse_listen(text) {
        return Ok(address.to_string());
    }
    let (host, port) =
        text.rsplit_once(':').map_or((text, Some(USBIP_PORT)), |(host, port)| (host, port.parse().ok()));
    let named = !host.is_empty() && !host.contains([':', '/', ' ']);
    port.filter(|_| named)
        .map(|port| format!("{host}:{port}"))
        .ok_or_else(|| format!("expected a host as testrack or testrack:{USBIP_PORT}"))
}

/// Puts the devices on a bus, prints them, and serves until the end.
pub(super) async fn serve(
    args: &SimArgs,
    specs: &[SimSpec],
    address: SocketAddr,
    out: &mut dyn Write,
    err: &mut dyn Write,
) -> Result<(), Vec<Cause>> {
    let bus = UsbBus::listen(address).map_err(|error| {
        let message = format!("expected to listen at {address} for USB/IP, but {error}");
        vec![station(
            message,
            "choose another address or port in `--usbip`, or stop the server that is there",
        )]
    })?;
    let mut names = Vec::new();
    for spec in specs {
        let fleet = Fleet::new(spec).map_err(|problem| vec![bad_description(problem.to_string())])?;
        bus.add_fleet(&fleet).map_err(|problem| vec![bad_description(problem.to_string())])?;
        names.extend((0..fleet.len()).map(|index| spec.device_name(index)));
    }
    // Before the boards are printed, so that a signal sent by whoever reads them is not missed.
    let signals = signals()?;
    // Whoever reads the boards may have seen enough: a closed pipe is no failure.
    let _ = print(args, &bus, &names, out);
    let client = async {
        match args.attach {
            Some(_) => keep_attached(args, bus.address().to_string(), out, err).await,
            None => pending().await,
        }
    };
    tokio::select! {
        result = client => result.map_err(|cause| vec![cause]),
        () = wait(args.time, signals) => Ok(()),
    }
}

fn print(args: &SimArgs, bus: &UsbBus, names: &[String], out: &mut dyn Write) -> io::Result<()> {
    for (index, name) in names.iter().enumerate() {
        let board = bus.board(index);
        let (busid, id, serial) = (board.busid, board.id, board.serial_number);
        if args.json {
            let address = format!("usbip:{}/{busid}", bus.address());
            let line = json!({
                "schema": SCHEMA, "name": name, "address": address, "busid": busid, "id": id, "serial_number": serial,
            });
            writeln!(out, "{line}")?;
        } else {
            writeln!(out, "{busid} {id} {}", serial.as_deref().unwrap_or("-"))?;
        }
    }
    out.flush()
}

/// Attaches the boards of another server until the end.
pub(super) async fn attach(
    args: &SimArgs,
    server: Option<&str>,
    out: &mut dyn Write,
    err: &mut dyn Write,
) -> Result<(), Vec<Cause>> {
    let server = server.map_or_else(|| format!("127.0.0.1:{USBIP_PORT}"), str::to_owned);
    let signals = signals()?;
    tokio::select! {
        result = keep_attached(args, server, out, err) => result.map_err(|cause| vec![cause]),
        () = wait(args.time, signals) => Ok(()),
    }
}

/// An [`Attacher`] that takes everything off at its end.
struct Attached(Attacher);

impl Drop for Attached {
    fn drop(&mut self) {
        self.0.detach_all();
    }
}

/// Attaches boards, and attaches them again, without an end.
async fn keep_attached(
    args: &SimArgs,
    server: String,
    out: &mut dyn Write,
    err: &mut dyn Write,
) -> Result<(), Cause> {
    let mut attached = Attached(Attacher::new(server, Vhci::system()?));
    let mut answers = Answers::Never;
    loop {
        let looked = attached.0.look().await;
        if let Ok(events) = &looked {
            // Whoever reads this may have seen enough.
            let _ = events.iter().try_for_each(|event| tell(args, event, out));
        }
        let pause = answers.after(looked.err(), err)?;
        tokio::time::sleep(pause).await;
    }
}

/// Whether the server answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Answers {
    /// Not since the start.
    Never,
    Yes,
    /// Not any more; that was told.
    NoMore,
}

impl Answers {
    /// How long to wait until the next look, after one that went well or did not. A server that answered once may come
    /// back: it is waited for, and whoever waits is told so once.
    fn after(&mut self, trouble: Option<Cause>, err: &mut dyn Write) -> Result<Duration, Cause> {
        let Some(cause) = trouble else {
            *self = Self::Yes;
            return Ok(LOOK_EVERY);
        };
        if *self == Self::Never || cause.code != "station.no_usbip_server" {
            return Err(cause);
        }
        if *self == Self::Yes {
            // Nothing can be done where standard error is gone.
            let _ = writeln!(err, "waiting for the server to come back: {}", cause.message);
        }
        *self = Self::NoMore;
        Ok(LOOK_AGAIN)
    }
}

fn tell(args: &SimArgs, event: &AttachEvent, out: &mut dyn Write) -> io::Result<()> {
    match event {
        AttachEvent::Attached { busid, id, port } if args.json => {
            let line =
                json!({ "schema": SCHEMA, "event": "attached", "busid": busid, "id": id, "port": port });
            writeln!(out, "{line}")?;
        }
        AttachEvent::Pulled { busid, port } if args.json => {
            let line = json!({ "schema": SCHEMA, "event": "pulled", "busid": busid, "port": port });
            writeln!(out, "{line}")?;
        }
        AttachEvent::NoPort { busid } if args.json => {
            writeln!(out, "{}", json!({ "schema": SCHEMA, "event": "no_port", "busid": busid }))?;
        }
        AttachEvent::Attached { busid, id, port } => writeln!(out, "{busid} {id} at vhci port {port}")?,
        AttachEvent::Pulled { busid, port } => {
            writeln!(out, "{busid} pulled from vhci port {port}: the kernel made no device of it")?;
        }
        AttachEvent::NoPort { busid } => writeln!(out, "{busid} not attached: every vhci port is in use")?,
    }
    out.flush()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cause::Class;

    #[test]
    fn a_server_that_is_gone_is_waited_for_and_that_is_told_once_each_time() {
        let trouble =
            |code: &'static str| Some(Cause::new(Class::Station, code, "no server at rack", "start it"));
        let gone = || trouble("station.no_usbip_server");
        let (mut answers, mut err) = (Answers::Never, Vec::new());
        assert!(answers.after(gone(), &mut err).is_err(), "one that never answered is a slip");
        assert_eq!(answers.after(None, &mut err), Ok(LOOK_EVERY));
        assert_eq!(err, b"");
        let told = "waiting for the server to come back: no server at rack\n";
        for times in 1..=2 {
            for _ in 0..3 {
                assert_eq!(answers.after(gone(), &mut err), Ok(LOOK_AGAIN));
            }
            assert_eq!(String::from_utf8_lossy(&err), told.repeat(times));
            assert_eq!(answers.after(None, &mut err), Ok(LOOK_EVERY));
        }
        assert!(answers.after(trouble("station.no_vhci"), &mut err).is_err());
    }

    #[test]
    fn addresses_may_leave_the_port_out() {
        let listen = |text: &str| parse_listen(text).map(|address| address.to_string());
        assert_eq!(listen("127.0.0.1").as_deref(), Ok("127.0.0.1:3240"));
        assert_eq!(listen("[::1]:0").as_deref(), Ok("[::1]:0"));
        assert_eq!(listen("::1").as_deref(), Ok("[::1]:3240"));
        assert!(listen("localhost").is_err());
        assert_eq!(parse_server("10.0.2.2").as_deref(), Ok("10.0.2.2:3240"));
        assert_eq!(parse_server("rack").as_deref(), Ok("rack:3240"));
        assert_eq!(parse_server("rack:4000").as_deref(), Ok("rack:4000"));
        for bad in ["", ":1", "rack:", "rack:99999", "a:b:1", "tcp:rack:1", "usb ip"] {
            assert!(parse_server(bad).is_err(), "{bad}");
        }
    }
}
