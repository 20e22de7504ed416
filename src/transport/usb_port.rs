//! The port of a USB board, opened by what the board is. Which of the ports that is, is decided by its fingerprint.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use tokio::time::timeout;

use super::link::{Connector, Firmware, Link, LinkError};
use super::open_error::advise;
use super::ports::Port;
use super::serial::SerialOptions;
use super::usb::UsbFingerprint;
use super::watch::PortWatch;
use crate::identity::UsbIdentity;

/// How long to wait for a port that is listed and does not open yet: nothing tells when it will. Where the board has no port,
/// the list of ports tells of all that could change that.
const LOOK_ANYWAY: Duration = Duration::from_millis(250);

/// Opens a USB board's port by what the board is.
#[derive(Debug)]
pub struct UsbConnector {
    watch: Arc<PortWatch>,
    fingerprint: UsbFingerprint,
    options: SerialOptions,
    /// The name that the plan gives it: it stays, whatever the port is called.
    link: Option<String>,
    /// The port that it had last.
    path: Mutex<String>,
    expected: Mutex<Firmware>,
    /// The list of ports that was looked at last.
    looked_at: AtomicU64,
    /// The board had no port in it.
    away: AtomicBool,
}

impl UsbConnector {
    /// For the board of `fingerprint`, which was at `path`. `link` is the name that people know it by, where that is not
    /// the port's own.
    pub fn new(
        watch: Arc<PortWatch>,
        fingerprint: UsbFingerprint,
        path: impl Into<String>,
        link: Option<String>,
        options: SerialOptions,
    ) -> Self {
        Self {
            watch,
            fingerprint,
            options,
            link,
            path: Mutex::new(path.into()),
            expected: Mutex::default(),
            looked_at: AtomicU64::new(0),
            away: AtomicBool::new(false),
        }
    }
}

#[async_trait]
impl Connector for UsbConnector {
    async fn connect(&self) -> Result<Box<dyn Link>, LinkError> {
        let seen = &self.fingerprint.seen;
        let expected = *self.expected.lock().unwrap_or_else(PoisonError::into_inner);
        self.away.store(false, Ordering::Relaxed);
        let opened = self.watch.open(&self.options, |listing| {
            self.looked_at.store(listing.generation, Ordering::Relaxed);
            let found = self.fingerprint.locate(&listing.ports, expected, self.watch.twins(seen).as_ref());
            self.away.store(found.is_err(), Ordering::Relaxed);
            let port = found?;
            let mut path = self.path.lock().unwrap_or_else(PoisonError::into_inner);
            *path = port.path.to_string_lossy().into_owned();
            Ok(port)
        });
        let (_, link) = opened.await.map_err(|error| advise(error, seen))?;
        Ok(link)
    }

    fn descriptors(&self) -> usize {
        1
    }

    fn address(&self) -> String {
        match &self.link {
            Some(link) => format!("serial:{link}"),
            None => format!("serial:{}", self.path.lock().unwrap_or_else(PoisonError::into_inner)),
        }
    }

    async fn maybe_back(&self) {
        let mut generation = self.looked_at.load(Ordering::Relaxed);
        if !self.away.load(Ordering::Relaxed) {
            // However the waiting ends, it is time to look.
            let _ = timeout(LOOK_ANYWAY, self.watch.changed(generation)).await;
            return;
        }
        loop {
            self.watch.changed(generation).await;
            match self.watch.listing().await {
                // Of a line of boards that come back at once nearly every change is about others.
                Ok(listing) if !self.fingerprint.may_be_among(&listing.ports) => {
                    generation = listing.generation
                }
                _ => return,
            }
        }
    }

    fn expect(&self, firmware: Firmware) {
        // What was not the board's port may be it now.
        self.away.store(false, Ordering::Relaxed);
        self.options.memory.expect(firmware);
        *self.expected.lock().unwrap_or_else(PoisonError::into_inner) = firmware;
    }
}

/// What tells whether two ports are ways to one device: for a board on USB its place, or where the system does not know
/// it what the board says of itself; else the port.
///
/// The ports of a UART bridge are apart: each may have a device of its own.
#[must_use]
pub fn device_key(port: &Port) -> String {
    let path = port.path.to_string_lossy();
    let is_bridge = path.contains("ttyUSB") || path.contains("usbserial");
    match port.identity.usb.as_ref().filter(|_| !is_bridge) {
        Some(UsbIdentity { hub_path: Some(place), .. }) => format!("usb:{place}"),
        Some(UsbIdentity { vid, pid, serial_number: Some(serial), interface: Some(_), .. }) => {
            format!("usb:{vid:04x}:{pid:04x}:{serial}")
        }
        _ => path.into_owned(),
    }
}
