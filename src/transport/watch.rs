//! One look at the ports for all who wait for one. A line of 120 boards that all reboot at once would else list all ports of
//! the machine 120 times over, many times a second. What a port is, and whose, is not decided here.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use tokio::sync::{Mutex, watch};
use tokio::time::{Instant, sleep};

use super::link::{Link, LinkError};
use super::ports::{Port, Ports};
use super::serial::SerialOptions;
use crate::identity::UsbIdentity;

/// How often somebody looks whether ports came or went, while anybody waits. A look is one reading of `/dev`.
const LOOK: Duration = Duration::from_millis(20);
/// How long a list of ports is believed where nothing came or went: the list may have been made while a device was only
/// half set up.
const BELIEVED: Duration = Duration::from_secs(1);
/// The same where the system cannot tell cheaply whether anything came or went, so that looking means listing.
const BELIEVED_UNSTAMPED: Duration = Duration::from_millis(250);

/// The ports at one moment.
#[derive(Debug)]
pub struct Listing {
    /// Sorted by path.
    pub ports: Vec<Port>,
    /// Counts the lists that differ.
    pub generation: u64,
    stamp: Option<u64>,
    at: Instant,
}

impl Listing {
    fn is_believed(&self) -> bool {
        let believed = if self.stamp.is_some() { BELIEVED } else { BELIEVED_UNSTAMPED };
        self.at.elapsed() < believed
    }
}

/// Boards of which nothing that they say of themselves tells one from another.
pub type Twins = (PathBuf, PathBuf);

/// What a board says of itself: ids and serial number.
type Says = (u16, u16, Option<String>);

/// Shares the list of ports among all who need it, and wakes those who wait for a port.
#[derive(Debug)]
pub struct PortWatch {
    ports: Arc<dyn Ports>,
    latest: Mutex<Latest>,
    generation: watch::Sender<u64>,
    /// Whoever has it looks, for all.
    lead: Mutex<()>,
    /// Boards that were there at the same time and say the same of themselves, by what they say.
    twins: std::sync::Mutex<HashMap<Says, Twins>>,
}

/// What the last looks showed.
#[derive(Debug, Default)]
struct Latest {
    listed: Option<Result<Arc<Listing>, Failed>>,
    /// When somebody looked whether ports came or went.
    looked: Option<Instant>,
}

#[derive(Debug, Clone)]
struct Failed {
    error: LinkError,
    at: Instant,
}

impl PortWatch {
    /// Watches these ports; only while somebody waits.
    #[must_use]
    pub fn new(ports: Arc<dyn Ports>) -> Self {
        Self {
            ports,
            latest: Mutex::default(),
            generation: watch::Sender::new(0),
            lead: Mutex::new(()),
            twins: std::sync::Mutex::default(),
        }
    }

    /// The ports as they are, or were 20 ms ago at most. Callers that come while somebody lists them share that list, and
    /// so do those that come later, until a port comes or goes.
    ///
    /// # Errors
    /// Where the system lists no ports.
    pub async fn listing(&self) -> Result<Arc<Listing>, LinkError> {
        self.look(LOOK).await
    }

    /// The ports as they were when somebody looked, no longer than `ago`.
    async fn look(&self, ago: Duration) -> Result<Arc<Listing>, LinkError> {
        let mut latest = self.latest.lock().await;
        match &latest.listed {
            Some(Ok(listing))
                if listing.is_believed() && latest.looked.is_some_and(|looked| looked.elapsed() < ago) =>
            {
                return Ok(Arc::clone(listing));
            }
            Some(Err(failed)) if failed.at.elapsed() < BELIEVED_UNSTAMPED => {
                return Err(failed.error.clone());
            }
            _ => {}
        }
        // Taken before the list is made: what changes meanwhile is found by the next look.
        let stamp = self.ports.stamp();
        latest.looked = Some(Instant::now());
        if let Some(Ok(listing)) = &latest.listed
            && listing.stamp == stamp
            && listing.is_believed()
        {
            return Ok(Arc::clone(listing));
        }
        let ports = match self.ports.ports(&[]).await {
            Ok(ports) => ports,
            Err(error) => {
                latest.listed = Some(Err(Failed { error: error.clone(), at: Instant::now() }));
                return Err(error);
            }
        };
        self.note_twins(&ports);
        let generation = match &latest.listed {
            Some(Ok(old)) if old.stamp == stamp && old.ports == ports => old.generation,
            _ => self.generation.borrow().wrapping_add(1),
        };
        let listing = Arc::new(Listing { ports, generation, stamp, at: Instant::now() });
        latest.listed = Some(Ok(Arc::clone(&listing)));
        self.generation.send_if_modified(|current| std::mem::replace(current, generation) != generation);
        Ok(listing)
    }

    /// Waits until the ports are others than in the list of this `generation`.
    pub async fn changed(&self, generation: u64) {
        let mut now = self.generation.subscribe();
        while *now.borrow_and_update() == generation {
            tokio::select! {
                biased;
                changed = now.changed() => if changed.is_err() { return },
                _lead = self.lead.lock() => {
                    sleep(LOOK).await;
                    // Ports that cannot be listed have not changed.
                    let _ = self.look(Duration::ZERO).await;
                }
            }
        }
    }

    /// Opens the port that `find` picks. The name of a port that goes is given to the next one that comes; so what was
    /// opened is looked at once more, as an open port keeps its name.
    ///
    /// # Errors
    /// Those of `find`, and why the port does not open.
    pub async fn open(
        &self,
        options: &SerialOptions,
        find: impl for<'a> Fn(&'a Listing) -> Result<&'a Port, LinkError> + Send + Sync,
    ) -> Result<(String, Box<dyn Link>), LinkError> {
        let mut listing = self.listing().await?;
        loop {
            let path = find(&listing)?.path.to_string_lossy().into_owned();
            let link = self.ports.open(&path, options).await?;
            let after = self.look(Duration::ZERO).await?;
            if after.generation == listing.generation || find(&after)?.path.to_string_lossy() == path {
                return Ok((path, link));
            }
            link.close().await;
            listing = after;
        }
    }

    /// Two ports of different boards that say the same of themselves as `usb`, if there ever were such at one time.
    #[must_use]
    pub fn twins(&self, usb: &UsbIdentity) -> Option<Twins> {
        self.twins.lock().unwrap_or_else(PoisonError::into_inner).get(&says(usb)).cloned()
    }

    fn note_twins(&self, ports: &[Port]) {
        let mut seen: HashMap<Says, Vec<(&Port, &UsbIdentity)>> = HashMap::new();
        for port in ports {
            let Some(usb) = &port.identity.usb else { continue };
            seen.entry(says(usb)).or_default().push((port, usb));
        }
        let mut twins = self.twins.lock().unwrap_or_else(PoisonError::into_inner);
        for (says, boards) in seen {
            let Some(((first, usb), others)) = boards.split_first() else { continue };
            let twin = others.iter().find(|(_, other)| are_apart(usb, other));
            if let Some((second, _)) = twin {
                twins.entry(says).or_insert_with(|| (first.path.clone(), second.path.clone()));
            }
        }
    }
}

fn says(usb: &UsbIdentity) -> Says {
    (usb.vid, usb.pid, usb.serial_number.clone())
}

/// Whether two ports that say the same of themselves belong to two boards: the ports of one board are in one place, and
/// each has an interface of its own.
fn are_apart(one: &UsbIdentity, other: &UsbIdentity) -> bool {
    one.hub_path != other.hub_path || one.interface == other.interface
}
