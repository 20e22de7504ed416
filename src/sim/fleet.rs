//! A number of simulated devices in memory, and what is true of each of them whatever the wire says.

use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::Instant;

use super::content::Shelf;
use super::device::{Device, Power};
use super::endpoint::{Endpoint, EndpointKind};
use super::flash::Slot;
use super::gatt::{self, AirConnector, GattClient};
use super::memory::MemoryConnector;
use super::next_boot::NextBoot;
use super::server::SeenRequest;
use super::spec::{SimSpec, SimTransport, SpecError};
use crate::smp::Time;
use crate::transport::Connector;
use crate::transport::ble::BleHub;

/// One device, shared by its links and handles.
#[derive(Debug)]
pub(super) struct Cell {
    pub(super) name: String,
    device: Mutex<Device>,
    /// Rung when something happened to the device that no timer announced.
    pub(super) changed: Notify,
    /// Time zero of the device.
    pub(super) epoch: Instant,
    /// Whether a link is open: a serial port is opened by one at a time.
    pub(super) open: std::sync::atomic::AtomicBool,
}

impl Cell {
    pub(super) fn device(&self) -> MutexGuard<'_, Device> {
        // A device whose user panicked is still a device.
        self.device.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn now(&self) -> Time {
        self.epoch.elapsed()
    }

    /// The host has opened the device's port.
    pub(super) fn opened(&self) {
        let now = self.now();
        let mut device = self.device();
        if device.spec().reset_on_open {
            device.reset_line(now);
        }
    }
}

/// Simulated devices in memory. Their clock is tokio's: under a paused clock they run in virtual time.
#[derive(Debug)]
pub struct Fleet {
    cells: Vec<Arc<Cell>>,
    /// The Bluetooth that BLE devices are reached by.
    hub: OnceLock<Arc<BleHub>>,
}

impl Fleet {
    /// Devices as described. Must be called within a tokio runtime, whose clock they use.
    ///
    /// # Errors
    /// The first thing in `spec` that cannot be simulated; [`SimSpec::problems`] gives all of them.
    pub fn new(spec: &SimSpec) -> Result<Self, SpecError> {
        if let Some(problem) = spec.problems().into_iter().next() {
            return Err(problem);
        }
        let spec = Arc::new(spec.clone());
        let epoch = Instant::now();
        let shelf = Shelf::default();
        let cell = |index| {
            Arc::new(Cell {
                name: spec.device_name(index),
                device: Mutex::new(Device::of_fleet(&spec, index, &shelf)),
                changed: Notify::new(),
                epoch,
                open: std::sync::atomic::AtomicBool::new(false),
            })
        };
        Ok(Self { cells: (0..spec.count).map(cell).collect(), hub: OnceLock::new() })
    }

    /// Number of devices.
    #[must_use]
    pub fn len(&self) -> usize {
        self.cells.len()
    }

    pub(super) fn cells(&self) -> &[Arc<Cell>] {
        &self.cells
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.cells.is_empty()
    }

    /// The truth about a device, by its index from 0.
    ///
    /// # Panics
    /// Where there is no such device.
    #[must_use]
    pub fn device(&self, index: usize) -> DeviceHandle {
        DeviceHandle { cell: Arc::clone(&self.cells[index]) }
    }

    /// How to reach a device, by its index from 0. Its address is `sim:NAME`.
    ///
    /// # Panics
    /// Where there is no such device.
    #[must_use]
    pub fn connector(&self, index: usize) -> Arc<dyn Connector> {
        let cell = &self.cells[index];
        let device = cell.device();
        let spec = device.spec();
        if spec.transport != SimTransport::Ble {
            return Arc::new(MemoryConnector::new(Arc::clone(cell)));
        }
        let hub = self.hub.get_or_init(|| gatt::hub(&self.cells));
        let name = spec.ble.name_of(&cell.name, index);
        Arc::new(AirConnector::new(hub, &cell.name, device.ble_address(), name, spec.ble.has_own_names()))
    }

    /// Connects a BLE central to a device, by its index from 0, and agrees on an MTU of at most `mtu` bytes; `None` where
    /// the device does not advertise: no BLE device, connected already, away or booting.
    ///
    /// # Panics
    /// Where there is no such device.
    #[must_use]
    pub fn gatt(&self, index: usize, mtu: u16) -> Option<GattClient> {
        GattClient::connect(&self.cells[index], mtu)
    }

    /// Puts a device, by its index from 0, behind a real endpoint. Its clock must not be paused.
    ///
    /// # Errors
    /// What the system says of it: no more terminals, an address in use, a link that cannot be made.
    ///
    /// # Panics
    /// Where there is no such device.
    pub fn serve(&self, index: usize, kind: EndpointKind) -> std::io::Result<Endpoint> {
        let cell = Arc::clone(&self.cells[index]);
        match kind {
            #[cfg(unix)]
            EndpointKind::Pty { link } => super::pty::serve(cell, link),
            #[cfg(not(unix))]
            EndpointKind::Pty { .. } => Err(std::io::ErrorKind::Unsupported.into()),
            EndpointKind::Udp(address) => super::udp::serve(cell, address),
            EndpointKind::Tcp(address) => super::tcp::serve(cell, address),
            EndpointKind::Radio(address) => gatt::serve(cell, address),
        }
    }

    /// How to reach each device, in order.
    #[must_use]
    pub fn connectors(&self) -> Vec<Arc<dyn Connector>> {
        (0..self.len()).map(|index| self.connector(index)).collect()
    }
}

/// The image that runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Running {
    /// Version in its header.
    pub version: String,
    /// Its TLV hash.
    pub hash: Vec<u8>,
    /// Whether it stays after a reset.
    pub confirmed: bool,
}

/// What is in a slot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SlotTruth {
    /// Version in the image's header; `None` where the server sees no whole image.
    pub version: Option<String>,
    /// TLV hash.
    pub hash: Option<Vec<u8>>,
    /// Bytes written since the slot was erased.
    pub bytes: usize,
}

/// What is true of one device, and hands to pull its cables.
#[derive(Debug, Clone)]
pub struct DeviceHandle {
    cell: Arc<Cell>,
}

impl DeviceHandle {
    /// The device, brought up to now.
    fn device(&self) -> MutexGuard<'_, Device> {
        let mut device = self.cell.device();
        device.advance(self.cell.now());
        device
    }

    /// `device-1` and so on.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.cell.name
    }

    /// What the device is doing.
    #[must_use]
    pub fn power(&self) -> Power {
        self.device().power()
    }

    /// The image that runs, or ran last; `None` where it is no whole image.
    #[must_use]
    pub fn running(&self) -> Option<Running> {
        self.running_image(0)
    }

    /// The same of an image number.
    #[must_use]
    pub fn running_image(&self, number: usize) -> Option<Running> {
        let device = self.device();
        let image = device.flash().image(number)?;
        let info = image.info(image.active).ok()?;
        let confirmed = image.next_boot().1 != NextBoot::Revert;
        Some(Running { version: info.version.to_string(), hash: info.hash, confirmed })
    }

    /// What is in a slot, 0 or 1; 2 and 3 are those of image 1, and so on.
    #[must_use]
    pub fn slot(&self, slot: usize) -> SlotTruth {
        let device = self.device();
        let (image, slot) = (device.flash().image(slot / 2), slot % 2);
        let info = image.and_then(|image| image.info(slot).ok());
        SlotTruth {
            version: info.as_ref().map(|info| info.version.to_string()),
            hash: info.map(|info| info.hash),
            bytes: image.and_then(|image| image.slots.get(slot)).map_or(0, Slot::len),
        }
    }

    /// Whether the server shows an image as waiting for the next reset.
    #[must_use]
    pub fn is_pending(&self) -> bool {
        let device = self.device();
        let (next, how) = device.flash().next_boot();
        next != device.flash().active && how != NextBoot::Revert
    }

    /// Boots since the device was made, not counting the one before.
    #[must_use]
    pub fn boots(&self) -> u64 {
        self.device().boots()
    }

    /// Bytes that uploads wrote to flash.
    #[must_use]
    pub fn bytes_written(&self) -> u64 {
        self.device().flash().written
    }

    /// The latest requests that reached the server, oldest first.
    #[must_use]
    pub fn requests(&self) -> Vec<SeenRequest> {
        self.device().server().seen()
    }

    /// The content of a file on the device, as written at its last close; `None` where there is none.
    #[must_use]
    pub fn file(&self, path: &str) -> Option<Vec<u8>> {
        self.device().server().file(path)
    }

    /// How many requests of this group and command reached the server.
    #[must_use]
    pub fn request_count(&self, group: u16, command: u8) -> u64 {
        self.device().server().requests(group, command)
    }

    /// How many requests of any kind reached the server.
    #[must_use]
    pub fn total_requests(&self) -> u64 {
        self.device().server().total_requests()
    }

    /// Lines that the server lost for want of a buffer.
    #[must_use]
    pub fn line_overruns(&self) -> u64 {
        self.device().overruns()
    }

    /// Whether the host sees the device's port.
    #[must_use]
    pub fn is_present(&self) -> bool {
        self.device().is_present()
    }

    /// Whether a BLE central is connected.
    #[must_use]
    pub fn is_connected(&self) -> bool {
        self.device().is_connected()
    }

    /// The device's BLE address now.
    #[must_use]
    pub fn ble_address(&self) -> String {
        self.device().ble_address()
    }

    /// Pulls the reset line.
    pub fn reset_line(&self) {
        self.cell.device().reset_line(self.cell.now());
        self.cell.changed.notify_waiters();
    }

    /// Unplugs the device, for a time or for ever.
    pub fn unplug(&self, time: Option<Duration>) {
        let now = self.cell.now();
        self.cell.device().unplug(now, time.map(|time| now + time));
        self.cell.changed.notify_waiters();
    }

    /// Plugs the device in again.
    pub fn plug(&self) {
        self.cell.device().plug(self.cell.now());
        self.cell.changed.notify_waiters();
    }

    /// Puts an image into a slot, 0 or 1, as a programmer would: the slot is erased first, and nothing is pending.
    pub fn program(&self, slot: usize, image: &[u8]) {
        self.device().flash_mut().program(slot, image);
    }
}
