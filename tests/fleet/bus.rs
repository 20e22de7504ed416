//! A USB bus that does not exist, in virtual time: simulated boards behind serial ports whose names go to whoever comes first,
//! as Linux gives them.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use flashfleet::actors::{InBootloader, Source};
use flashfleet::cause::Cause;
use flashfleet::identity::UsbIdentity;
use flashfleet::plan::Target;
use flashfleet::sim::{DeviceHandle, Fleet, Power, SimSpec};
use flashfleet::transport::{
    Address, Candidate, Connector, Discovery, Link, LinkError, LinkErrorKind, LinkProperties, MemoryLink,
    Port, Ports, SerialOptions,
};
use tokio::time::{Instant, sleep};

pub(crate) const VID: u16 = 0x2fe3;
pub(crate) const APPLICATION: u16 = 0x0004;
pub(crate) const BOOTLOADER: u16 = 0x0100;

/// What a board shows of itself.
#[derive(Debug, Clone)]
pub(crate) struct Shows {
    pub(crate) serial_number: Option<String>,
    pub(crate) hub_path: Option<String>,
    /// Interfaces with a port.
    pub(crate) interfaces: Vec<u8>,
    /// Those of them that answer SMP; the others are a log.
    pub(crate) smp: Vec<u8>,
    /// From when to when after it left the board is in its bootloader, under ids of its own.
    pub(crate) bootloader: Option<(Duration, Duration)>,
    /// How its ports refuse to be opened, and for how long after they came; `None` is for good.
    pub(crate) refuses: Option<(LinkErrorKind, Option<Duration>)>,
    /// Refuses only from this boot on.
    pub(crate) refuses_from_boot: u64,
    /// Name of a link that leads to its first port.
    pub(crate) link: Option<String>,
}

impl Shows {
    /// Board `index`: eight to a hub, with a serial number of its own.
    pub(crate) fn board(index: usize) -> Self {
        Self {
            serial_number: Some(format!("FF{index:02}")),
            hub_path: Some(format!("1-{}.{}", 1 + index / 8, 1 + index % 8)),
            interfaces: vec![0],
            smp: vec![0],
            bootloader: None,
            refuses: None,
            refuses_from_boot: 0,
            link: None,
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    Away,
    Bootloader,
    Application,
}

struct Board {
    shows: Shows,
    device: DeviceHandle,
    connector: Arc<dyn Connector>,
    /// Another device, which answers for this one's bootloader.
    bootloader: Arc<dyn Connector>,
    phase: Phase,
    boots: u64,
    /// Number of each port's name.
    names: Vec<usize>,
    /// Since when its ports are there.
    since: Instant,
    /// When it was reset or unplugged.
    left: Instant,
    was_asked: bool,
}

/// The bus.
pub(crate) struct Bus {
    boards: Mutex<Vec<Board>>,
    /// What a bootloader hears is heard by these.
    bootloaders: Fleet,
    fleet: Fleet,
    changes: Mutex<u64>,
    listings: Mutex<usize>,
    asked: Mutex<Vec<Asked>>,
}

/// A board was sent something for the first time since its port came.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Asked {
    pub(crate) index: usize,
    pub(crate) boots: u64,
    pub(crate) after: Duration,
}

impl std::fmt::Debug for Bus {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Bus").finish_non_exhaustive()
    }
}

impl Bus {
    /// `spec.count` boards, whose ports vanish when they reset.
    pub(crate) fn new(spec: &SimSpec, shows: impl Fn(usize) -> Shows) -> Arc<Self> {
        let spec = SimSpec { vanishes_in_reset: true, boot_log: false, ..spec.clone() };
        let fleet = Fleet::new(&spec).expect("boards that can be simulated");
        let bootloaders = Fleet::new(&SimSpec { count: spec.count, ..SimSpec::default() }).expect("boards");
        let boards = (0..fleet.len()).map(|index| Board {
            shows: shows(index),
            device: fleet.device(index),
            connector: fleet.connector(index),
            bootloader: bootloaders.connector(index),
            phase: Phase::Away,
            boots: 0,
            names: Vec::new(),
            since: Instant::now(),
            left: Instant::now(),
            was_asked: false,
        });
        let bus = Arc::new(Self {
            boards: Mutex::new(boards.collect()),
            bootloaders,
            fleet,
            changes: Mutex::default(),
            listings: Mutex::default(),
            asked: Mutex::default(),
        });
        bus.settle();
        let watched = Arc::downgrade(&bus);
        tokio::spawn(async move {
            while let Some(bus) = watched.upgrade() {
                bus.settle();
                drop(bus);
                sleep(Duration::from_millis(5)).await;
            }
        });
        bus
    }

    pub(crate) fn device(&self, index: usize) -> DeviceHandle {
        self.fleet.device(index)
    }

    /// Requests that reached a board's bootloader.
    pub(crate) fn asked_in_bootloader(&self, index: usize) -> usize {
        self.bootloaders.device(index).requests().len()
    }

    /// How often all ports were listed.
    pub(crate) fn listings(&self) -> usize {
        *self.listings.lock().expect("nobody panicked")
    }

    /// When each board was sent something for the first time, at each of its boots.
    pub(crate) fn asked(&self) -> Vec<Asked> {
        self.asked.lock().expect("nobody panicked").clone()
    }

    pub(crate) fn port_of(&self, index: usize) -> String {
        format!("/dev/ttyACM{}", self.boards.lock().expect("nobody panicked")[index].names[0])
    }

    /// A run's source of devices, that looks at this bus as it would at the system's.
    pub(crate) fn source(self: &Arc<Self>) -> Arc<dyn Source> {
        Arc::new(BusSource(Discovery::with_ports(Arc::new(Plugged(Arc::clone(self))))))
    }

    /// The same for one device that a person named.
    pub(crate) fn named(self: &Arc<Self>, address: &str) -> Arc<dyn Source> {
        let discovery = Discovery::with_ports(Arc::new(Plugged(Arc::clone(self))));
        Arc::new(NamedSource(discovery, address.parse().expect("an address")))
    }

    /// Gives and takes away names. Boards that come back at the same time do so in an order of their own, so that they get
    /// each other's names.
    fn settle(&self) {
        let mut boards = self.boards.lock().expect("nobody panicked");
        let now = Instant::now();
        let mut coming = Vec::new();
        for (index, board) in boards.iter_mut().enumerate() {
            let boots = board.device.boots();
            if boots != board.boots {
                board.left = now;
            }
            let away = now - board.left;
            let phase = match (board.device.power(), board.shows.bootloader) {
                (Power::Running | Power::Mute, _) => Phase::Application,
                (Power::Recovery, _) => Phase::Bootloader,
                (Power::Booting | Power::Stuck, Some((from, until))) if from <= away && away < until => {
                    Phase::Bootloader
                }
                _ => Phase::Away,
            };
            if (phase, boots) != (board.phase, board.boots) {
                board.names.clear();
                (board.phase, board.boots, board.since, board.was_asked) = (phase, boots, now, false);
                *self.changes.lock().expect("nobody panicked") += 1;
                if phase != Phase::Away {
                    coming.push(index);
                }
            }
        }
        let mut taken: BTreeSet<usize> = boards.iter().flat_map(|board| board.names.clone()).collect();
        coming.sort_by_key(|&index| if boards[index].boots == 0 { index } else { usize::MAX - index });
        for index in coming {
            let ports = if boards[index].phase == Phase::Bootloader {
                1
            } else {
                boards[index].shows.interfaces.len()
            };
            for _ in 0..ports {
                let free = (0..).find(|number| !taken.contains(number)).expect("a free name");
                taken.insert(free);
                boards[index].names.push(free);
            }
        }
    }

    fn ports(&self) -> Vec<Port> {
        let boards = self.boards.lock().expect("nobody panicked");
        let mut ports: Vec<Port> = boards.iter().flat_map(Board::ports).collect();
        ports.sort_by(|one, other| one.path.cmp(&other.path));
        ports
    }
}

impl Board {
    fn in_recovery(&self) -> bool {
        self.device.power() == Power::Recovery
    }

    fn ports(&self) -> Vec<Port> {
        let (pid, interfaces) = match self.phase {
            Phase::Away => return Vec::new(),
            Phase::Bootloader => (BOOTLOADER, vec![0]),
            Phase::Application => (APPLICATION, self.shows.interfaces.clone()),
        };
        let port = |(number, interface): (&usize, &u8)| {
            let usb = UsbIdentity {
                vid: VID,
                pid,
                interface: Some(*interface),
                // MCUboot's own USB has no serial number unless it is given one.
                serial_number: self.shows.serial_number.clone().filter(|_| !self.in_recovery()),
                product: Some("Jig".to_owned()),
                hub_path: self.shows.hub_path.clone(),
            };
            Port::usb(format!("/dev/ttyACM{number}"), usb)
        };
        let mut ports: Vec<Port> = self.names.iter().zip(&interfaces).map(port).collect();
        ports[0].links.extend(self.shows.link.iter().map(Into::into));
        ports
    }
}

/// The bus, as the system shows it.
#[derive(Debug)]
struct Plugged(Arc<Bus>);

#[async_trait]
impl Ports for Plugged {
    async fn ports(&self, _globs: &[glob::Pattern]) -> Result<Vec<Port>, LinkError> {
        *self.0.listings.lock().expect("nobody panicked") += 1;
        Ok(self.0.ports())
    }

    fn stamp(&self) -> Option<u64> {
        Some(*self.0.changes.lock().expect("nobody panicked"))
    }

    async fn open(&self, name: &str, _options: &SerialOptions) -> Result<Box<dyn Link>, LinkError> {
        let (index, connector) = {
            let boards = self.0.boards.lock().expect("nobody panicked");
            let found = boards.iter().enumerate().find_map(|(index, board)| {
                let ports = board.ports();
                let port = ports.iter().find(|port| port.path.to_string_lossy() == name)?;
                Some((index, board, port.identity.usb.clone()?.interface?))
            });
            let Some((index, board, interface)) = found else {
                return Err(LinkError::new(
                    LinkErrorKind::NotFound,
                    format!("nothing at {name}"),
                    "plug it in",
                ));
            };
            if let Some((kind, time)) = board.shows.refuses
                && time.is_none_or(|time| board.since.elapsed() < time)
                && board.boots >= board.shows.refuses_from_boot
            {
                return Err(LinkError::new(kind, format!("{name} refuses"), "wait"));
            }
            let connector = match board.phase {
                Phase::Bootloader if board.in_recovery() => Some(Arc::clone(&board.connector)),
                Phase::Bootloader => Some(Arc::clone(&board.bootloader)),
                _ if board.shows.smp.first() == Some(&interface) => Some(Arc::clone(&board.connector)),
                // It answers as well; who of the board that is makes no difference.
                _ if board.shows.smp.contains(&interface) => Some(Arc::clone(&board.bootloader)),
                _ => None,
            };
            (index, connector)
        };
        match connector {
            Some(connector) => {
                let inner = connector.connect().await?;
                Ok(Box::new(Timed { inner, bus: Arc::clone(&self.0), index }))
            }
            None => Ok(Box::new(Log)),
        }
    }
}

/// A link that notes when it was used first.
struct Timed {
    inner: Box<dyn Link>,
    bus: Arc<Bus>,
    index: usize,
}

#[async_trait]
impl Link for Timed {
    async fn send(&mut self, message: &[u8]) -> Result<(), LinkError> {
        if let Some(board) = self.bus.boards.lock().expect("nobody panicked").get_mut(self.index)
            && !std::mem::replace(&mut board.was_asked, true)
        {
            let asked = Asked { index: self.index, boots: board.boots, after: board.since.elapsed() };
            self.bus.asked.lock().expect("nobody panicked").push(asked);
        }
        self.inner.send(message).await
    }

    async fn recv(&mut self) -> Result<Vec<u8>, LinkError> {
        self.inner.recv().await
    }

    fn properties(&self) -> LinkProperties {
        self.inner.properties()
    }

    async fn close(self: Box<Self>) {
        self.inner.close().await;
    }
}

/// A port where nobody listens.
struct Log;

#[async_trait]
impl Link for Log {
    async fn send(&mut self, _: &[u8]) -> Result<(), LinkError> {
        Ok(())
    }

    async fn recv(&mut self) -> Result<Vec<u8>, LinkError> {
        std::future::pending().await
    }

    fn properties(&self) -> LinkProperties {
        MemoryLink::unlimited()
    }

    async fn close(self: Box<Self>) {}
}

struct BusSource(Discovery);

/// What `flashfleet update` looks with.
struct NamedSource(Discovery, Address);

#[async_trait]
impl Source for NamedSource {
    async fn candidates(&self, target: &Target) -> Result<Vec<Candidate>, Cause> {
        self.0.find(&self.1, &target.link).await
    }
}

#[async_trait]
impl Source for BusSource {
    async fn candidates(&self, target: &Target) -> Result<Vec<Candidate>, Cause> {
        self.0.discover(target).await
    }

    async fn in_bootloader(&self, target: &Target) -> Vec<InBootloader> {
        let ports = self.0.in_bootloader(target).await.expect("a bus lists its ports");
        ports.iter().map(InBootloader::from).collect()
    }
}
