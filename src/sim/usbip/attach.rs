//! The client: attaches the boards of a server to this machine's virtual host controller, and attaches them again when
//! they come back after a reset. The protocol has nothing to wait for, so it asks for the list again and again.

use std::collections::BTreeMap;
use std::io;
use std::time::Duration;

use bytes::BytesMut;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout};

use super::protocol::{Broken, DeviceRecord, OpRequest, take_devlist, take_import};
use super::spec::UsbId;
use super::unmade::Unmade;
use super::vhci::{Choice, Port, Vhci, choose};
use crate::cause::{Cause, Class};

/// How long a server may take for an answer.
const ANSWER: Duration = Duration::from_secs(10);
/// How long a board waits for the port that it had; then it takes another one. A kernel that is busy may need seconds to
/// let a port go, and shows what was in it until then: in another port the board would look like its own twin.
const PLACE: Duration = Duration::from_secs(20);
/// `USB_SPEED_SUPER` of `enum usb_device_speed`.
const SPEED_SUPER: u32 = 5;

/// Something that the client has done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AttachEvent {
    /// A board was attached.
    Attached {
        /// Its place on the server's bus.
        busid: String,
        /// Vendor and product id.
        id: UsbId,
        /// Port of the virtual host controller.
        port: u32,
    },
    /// The kernel made no device of a board: it was pulled out, and is attached again.
    Pulled {
        /// Its place on the server's bus.
        busid: String,
        /// Port of the virtual host controller.
        port: u32,
    },
    /// There is no port for a board; told once.
    NoPort {
        /// Its place on the server's bus.
        busid: String,
    },
}

/// Where a board was attached.
#[derive(Debug, Clone, Copy)]
struct Place {
    port: Option<u32>,
    /// Since when it waits for it.
    waits_since: Option<Instant>,
}

/// Attaches the boards of one server.
#[derive(Debug)]
pub struct Attacher {
    server: String,
    vhci: Vhci,
    /// The connection for lists, where the server kept it open.
    connection: Option<TcpStream>,
    places: BTreeMap<String, Place>,
    unmade: Unmade,
    /// What the devices in the ports are called, as far as there were any.
    devices: BTreeMap<u32, String>,
}

/// Why an answer did not come.
#[derive(Debug, thiserror::Error)]
enum NoAnswer {
    #[error(transparent)]
    Io(#[from] io::Error),
    #[error(transparent)]
    Broken(#[from] Broken),
}

impl Attacher {
    /// For the server at `server`, as `HOST:PORT`.
    #[must_use]
    pub fn new(server: impl Into<String>, vhci: Vhci) -> Self {
        let (places, devices) = (BTreeMap::new(), BTreeMap::new());
        Self { server: server.into(), vhci, connection: None, places, unmade: Unmade::default(), devices }
    }

    /// Looks once, attaches what is there to be attached, and pulls out what the kernel has given up on. Where nothing has changed since, a server of flashfleet
    /// answers after a second only, else at once.
    ///
    /// # Errors
    /// Where the server does not answer, or this machine does not let boards be attached.
    pub async fn look(&mut self) -> Result<Vec<AttachEvent>, Cause> {
        let mut events = self.pull_unmade()?;
        let records = self.list().await?;
        if records.is_empty() {
            return Ok(events);
        }
        let mut ports = self.ports()?;
        let mut left_over = false;
        for record in records {
            let place = self.places.get(&record.busid).copied();
            let waits = place.and_then(|place| place.waits_since);
            let patient = waits.is_none_or(|since| since.elapsed() < PLACE);
            let had = place.and_then(|place| place.port).filter(|_| patient);
            let kept = self.places.values().filter_map(|place| place.port).collect();
            let port = match choose(&ports, record.speed >= SPEED_SUPER, had, &kept) {
                Choice::Take(port) => port,
                Choice::Wait => {
                    let since = waits.unwrap_or_else(Instant::now);
                    self.places.insert(record.busid, Place { port: had, waits_since: Some(since) });
                    left_over = true;
                    continue;
                }
                Choice::Full => {
                    // A board without a place has been told of.
                    if place.is_none() {
                        let none = Place { port: None, waits_since: None };
                        self.places.insert(record.busid.clone(), none);
                        events.push(AttachEvent::NoPort { busid: record.busid });
                    }
                    continue;
                }
            };
            // The board may have left again since the list was made.
            let Some((record, connection)) = self.import(&record.busid).await? else {
                left_over = true;
                continue;
            };
            if self.attach(port, &connection, &record)? {
                if let Some(taken) = ports.iter_mut().find(|it| it.number == port) {
                    taken.free = false;
                }
                self.unmade.attached(port, Instant::now());
                let attached = Place { port: Some(port), waits_since: None };
                self.places.insert(record.busid.clone(), attached);
                events.push(AttachEvent::Attached { busid: record.busid, id: record.id, port });
            } else {
                left_over = true;
            }
        }
        if left_over {
            // The same list is news then; on a new connection it is told at once.
            self.connection = None;
        }
        Ok(events)
    }

    /// Pulls out boards of which the kernel made no device. The server offers them again then.
    fn pull_unmade(&mut self) -> Result<Vec<AttachEvent>, Cause> {
        if self.unmade.is_empty() {
            return Ok(Vec::new());
        }
        let ports = self.ports()?;
        let overdue = self.unmade.overdue(&ports, |port| self.vhci.has_device(port), Instant::now());
        let mut events = Vec::new();
        for port in overdue {
            if let Err(error) = self.vhci.detach(port) {
                // It may have gone by itself just now.
                tracing::debug!(port, %error, "a board was not taken off");
                continue;
            }
            let there = self.places.iter().find(|(_, place)| place.port == Some(port));
            events.extend(there.map(|(busid, _)| AttachEvent::Pulled { busid: busid.clone(), port }));
        }
        Ok(events)
    }

    /// Takes off everything that was attached, as far as the system lets it.
    pub fn detach_all(&mut self) {
        let in_use: Vec<u32> = self
            .ports()
            .unwrap_or_default()
            .iter()
            .filter(|port| !port.free)
            .map(|port| port.number)
            .collect();
        for place in std::mem::take(&mut self.places).into_values() {
            if let Some(port) = place.port.filter(|port| in_use.contains(port)) {
                // It may have gone by itself.
                let _ = self.vhci.detach(port);
            }
        }
    }

    /// The ports as they are. One from which a board has gone is free once the kernel has seen that: with another board in it
    /// by then, it would take that for the one that it knows, and never set it up (`vhci_hcd` leaves a port enabled, and
    /// `hub_port_connect_change` goes on with the device of a port that is).
    fn ports(&mut self) -> Result<Vec<Port>, Cause> {
        let mut ports = self.vhci.ports().map_err(|error| {
            let message = format!("expected to read the ports of vhci_hcd, but {error}");
            Cause::new(Class::Station, "station.vhci", message, "load the module again: `modprobe vhci-hcd`")
        })?;
        for port in &mut ports {
            if let Some(device) = &port.device {
                self.devices.insert(port.number, device.clone());
            }
            let gone = port.free && self.devices.get(&port.number).is_some_and(|it| self.vhci.is_there(it));
            port.free &= !gone;
        }
        Ok(ports)
    }

    /// Whether the kernel took it: a port may have been taken by somebody else.
    fn attach(
        &self,
        port: u32,
        connection: &std::net::TcpStream,
        record: &DeviceRecord,
    ) -> Result<bool, Cause> {
        match self.vhci.attach(port, connection, record.devid(), record.speed) {
            Ok(()) => Ok(true),
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
                let message = format!("expected to attach a board to port {port} of vhci_hcd, but {error}");
                Err(Cause::new(Class::Station, "station.vhci", message, "run it as root"))
            }
            Err(error) => {
                tracing::debug!(port, %error, "a board was not attached");
                Ok(false)
            }
        }
    }

    /// The boards that are there to be imported.
    async fn list(&mut self) -> Result<Vec<DeviceRecord>, Cause> {
        // A server may close the connection after each answer.
        if let Some(mut kept) = self.connection.take()
            && let Ok(list) = ask(&mut kept, &OpRequest::DevList, take_devlist).await
        {
            self.connection = Some(kept);
            return Ok(list);
        }
        let mut fresh = self.connect().await?;
        let list =
            ask(&mut fresh, &OpRequest::DevList, take_devlist).await.map_err(|why| self.silent(&why))?;
        self.connection = Some(fresh);
        Ok(list)
    }

    /// Imports a board; `None` where it cannot be had now.
    async fn import(&self, busid: &str) -> Result<Option<(DeviceRecord, std::net::TcpStream)>, Cause> {
        let mut stream = self.connect().await?;
        let request = OpRequest::Import(busid.to_owned());
        let record = ask(&mut stream, &request, take_import).await.map_err(|why| self.silent(&why))?;
        let connection = stream.into_std().and_then(|stream| {
            stream.set_nonblocking(false)?;
            Ok(stream)
        });
        Ok(record.zip(Some(connection.map_err(|error| self.silent(&error.into()))?)))
    }

    async fn connect(&self) -> Result<TcpStream, Cause> {
        let connected = timeout(ANSWER, TcpStream::connect(&self.server)).await;
        let stream = connected.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()));
        let stream = stream.map_err(|error| self.silent(&error.into()))?;
        let _ = stream.set_nodelay(true);
        let keepalive = socket2::TcpKeepalive::new().with_time(ANSWER).with_interval(ANSWER);
        let _ = socket2::SockRef::from(&stream).set_tcp_keepalive(&keepalive);
        Ok(stream)
    }

    fn silent(&self, why: &NoAnswer) -> Cause {
        let message = format!("expected a USB/IP server at {}, but {why}", self.server);
        let help = "start one there: `flashfleet sim --usbip`, or another server of USB/IP 1.1.1";
        Cause::new(Class::Station, "station.no_usbip_server", message, help)
    }
}

/// Sends a request and waits for what answers it.
async fn ask<T>(
    stream: &mut TcpStream,
    request: &OpRequest,
    take: impl Fn(&mut BytesMut) -> Result<Option<T>, Broken>,
) -> Result<T, NoAnswer> {
    let answer = async {
        stream.write_all(&request.encode()).await?;
        let mut input = BytesMut::new();
        loop {
            if let Some(answer) = take(&mut input)? {
                return Ok(answer);
            }
            if stream.read_buf(&mut input).await? == 0 {
                return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into());
            }
        }
    };
    timeout(ANSWER, answer).await.unwrap_or_else(|_| Err(io::Error::from(io::ErrorKind::TimedOut).into()))
}
