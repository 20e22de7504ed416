//! The Bluetooth of one run: which adapters there are, what they hear, and whose turn it is. How one device is found and
//! opened is told in `locate` and `connector`.
//!
//! An adapter does one thing at a time: it listens, or it connects one device. Scanning while a connection comes about
//! makes both unreliable, and so does connecting several devices at once ("service discovery timed out" for one in two to
//! eight). Transfers over open connections go on meanwhile. Everybody profits from what anybody hears, so listening for
//! many devices takes no longer than listening for one.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use tokio::sync::{OwnedMutexGuard, watch};
use tokio::time::{Instant, sleep};

use super::super::link::LinkError;
use super::central::{Adapter, Advertisement, Central};
use super::errors::{adapter_off, asked, no_adapter};

/// How long an adapter listens before others get their turn: several times the longest usual advertising interval (1 s).
const BURST: Duration = Duration::from_secs(3);
/// How often a listening adapter is asked for what it heard.
const POLL: Duration = Duration::from_millis(250);
/// How long what was heard counts as being there. BlueZ itself forgets a device after 30 s.
pub(super) const FRESH: Duration = Duration::from_secs(10);
/// How long the table keeps what is not heard any more: addresses that change all the time must not fill it.
const KEEP: Duration = Duration::from_secs(120);
/// Signal strengths that differ by less than this, in dB, say nothing about who is nearer: a hand over the antenna makes
/// as much.
const RSSI_CLOSE: i16 = 10;

/// One peripheral as one adapter heard it.
#[derive(Debug, Clone)]
pub struct Sighting {
    /// What it says of itself.
    pub seen: Advertisement,
    /// The adapter that heard it.
    pub adapter: String,
    /// When its address was first heard in this run.
    pub first: Instant,
    /// When it was last heard.
    pub last: Instant,
}

impl Sighting {
    /// Whether it was heard just now.
    pub(super) fn is_fresh(&self) -> bool {
        self.last.elapsed() < FRESH
    }

    fn strength(&self) -> i16 {
        self.seen.rssi.unwrap_or(i16::MIN)
    }
}

/// The Bluetooth of one run.
#[derive(Debug)]
pub struct BleHub {
    central: Arc<dyn Central>,
    radios: Mutex<BTreeMap<String, Arc<Radio>>>,
    book: Mutex<Book>,
    /// Counts what was heard, for those who wait for something.
    news: watch::Sender<u64>,
}

/// What the run knows of its devices, by address.
#[derive(Debug, Default)]
struct Book {
    /// What was heard, by address and adapter.
    heard: HashMap<(String, String), Sighting>,
    /// The adapter that each device was given.
    assigned: HashMap<String, String>,
    /// The names of the devices that the run is about.
    known: HashMap<String, Option<String>>,
    /// Devices with an open link of this run: they do not advertise.
    linked: HashSet<String>,
    /// One link per device at a time.
    doors: HashMap<String, Arc<tokio::sync::Mutex<()>>>,
    /// When a target was first looked for.
    looks: HashMap<String, Instant>,
}

/// One adapter and whose turn it is.
#[derive(Debug)]
pub(super) struct Radio {
    pub(super) adapter: Arc<dyn Adapter>,
    pub(super) turn: Arc<tokio::sync::Mutex<()>>,
    /// How long it has listened in all.
    listened: Arc<Mutex<Duration>>,
}

impl Radio {
    pub(super) fn name(&self) -> &str {
        self.adapter.name()
    }

    pub(super) async fn must_be_on(&self) -> Result<(), LinkError> {
        let ask = asked("tell whether the adapter is on", self.adapter.is_powered());
        if ask.await? { Ok(()) } else { Err(adapter_off(self.name())) }
    }

    fn listened(&self) -> Duration {
        *lock(&self.listened)
    }
}

/// A scan that ends, whatever becomes of those who wanted it.
struct Scan {
    adapter: Arc<dyn Adapter>,
    turn: Option<OwnedMutexGuard<()>>,
}

impl Scan {
    async fn stop(mut self) -> Result<(), LinkError> {
        let _turn = self.turn.take();
        asked("end a scan", self.adapter.stop_scan()).await
    }
}

impl Drop for Scan {
    fn drop(&mut self) {
        let Some(turn) = self.turn.take() else { return };
        // Without a runtime the process is ending, and its scans with it.
        let Ok(runtime) = tokio::runtime::Handle::try_current() else { return };
        let adapter = Arc::clone(&self.adapter);
        runtime.spawn(async move {
            // Nobody waits for it any more, and the next one to scan will see the trouble.
            let _ = asked("end a scan", adapter.stop_scan()).await;
            drop(turn);
        });
    }
}

impl BleHub {
    /// With the radio behind `central`.
    #[must_use]
    pub fn new(central: Arc<dyn Central>) -> Self {
        Self { central, radios: Mutex::default(), book: Mutex::default(), news: watch::Sender::new(0) }
    }

    fn book(&self) -> MutexGuard<'_, Book> {
        lock(&self.book)
    }

    /// Every adapter that is there.
    ///
    /// # Errors
    /// No Bluetooth service, no adapter.
    pub(super) async fn radios(&self) -> Result<Vec<Arc<Radio>>, LinkError> {
        let adapters = asked("list its Bluetooth adapters", self.central.adapters()).await?;
        if adapters.is_empty() {
            return Err(no_adapter());
        }
        let mut radios = lock(&self.radios);
        let mut here = BTreeMap::new();
        for adapter in adapters {
            // The turn outlives the system's handle of the adapter.
            let (turn, listened) = radios
                .get(adapter.name())
                .map_or_else(Default::default, |old| (Arc::clone(&old.turn), Arc::clone(&old.listened)));
            here.insert(adapter.name().to_owned(), Arc::new(Radio { adapter, turn, listened }));
        }
        *radios = here;
        Ok(radios.values().cloned().collect())
    }

    /// Listens until `done` says something, each of `radios` for `within`; what others listen counts. `None` where `done`
    /// never said anything.
    ///
    /// # Errors
    /// Where no adapter listens; where only some do not, the others count.
    pub(super) async fn listen<T>(
        &self,
        radios: &[Arc<Radio>],
        within: Duration,
        mut done: impl FnMut() -> Option<T>,
    ) -> Result<Option<T>, LinkError> {
        let mut news = self.news.subscribe();
        let mut scans: FuturesUnordered<_> = radios.iter().map(|radio| self.scan(radio, within)).collect();
        let mut listening = 0;
        let mut trouble = None;
        loop {
            if let Some(found) = done() {
                return Ok(Some(found));
            }
            tokio::select! {
                biased;
                // The hub holds the sender, so this never fails.
                _ = news.changed() => {}
                ended = scans.next() => match ended {
                    Some(Ok(())) => listening += 1,
                    Some(Err(error)) => { trouble.get_or_insert(error); }
                    None => break,
                },
            }
        }
        match trouble {
            Some(error) if listening == 0 => Err(error),
            _ => Ok(None),
        }
    }

    /// Listens with one adapter, in turns with whoever else wants it.
    async fn scan(&self, radio: &Arc<Radio>, within: Duration) -> Result<(), LinkError> {
        let until = radio.listened() + within;
        loop {
            let turn = Arc::clone(&radio.turn).lock_owned().await;
            let left = until.saturating_sub(radio.listened());
            if left.is_zero() {
                // Also where there was no time to listen: an adapter that is off has not heard that nobody is there.
                return radio.must_be_on().await;
            }
            self.burst(radio, turn, left.min(BURST)).await?;
        }
    }

    async fn burst(
        &self,
        radio: &Arc<Radio>,
        turn: OwnedMutexGuard<()>,
        within: Duration,
    ) -> Result<(), LinkError> {
        radio.must_be_on().await?;
        let scan = Scan { adapter: Arc::clone(&radio.adapter), turn: Some(turn) };
        asked("start a scan", radio.adapter.start_scan()).await?;
        let begin = Instant::now();
        let mut counted = Duration::ZERO;
        while counted < within {
            sleep((within - counted).min(POLL)).await;
            let heard = asked("tell what it hears", radio.adapter.heard()).await?;
            // A system that is slow to answer listens all the same.
            let listened = begin.elapsed();
            *lock(&radio.listened) += listened - counted;
            counted = listened;
            self.note(radio.name(), heard);
        }
        scan.stop().await
    }

    fn note(&self, adapter: &str, heard: Vec<Advertisement>) {
        let now = Instant::now();
        let mut book = self.book();
        for seen in heard {
            // It does not advertise: the system only tells that it is connected.
            if book.linked.contains(&seen.address) {
                continue;
            }
            let first = book.first_heard(&seen.address).unwrap_or(now);
            let key = (seen.address.clone(), adapter.to_owned());
            // A name comes in a packet of its own, and not every time.
            let name =
                seen.name.clone().or_else(|| book.heard.get(&key).and_then(|old| old.seen.name.clone()));
            let seen = Advertisement { name, ..seen };
            book.heard.insert(key, Sighting { seen, adapter: adapter.to_owned(), first, last: now });
        }
        book.heard.retain(|_, sighting| sighting.last.elapsed() < KEEP);
        drop(book);
        self.news.send_modify(|count| *count = count.wrapping_add(1));
    }

    /// Every device that was heard just now, each once, by the adapter that is to carry it.
    pub(super) fn fresh(&self) -> Vec<Sighting> {
        let book = self.book();
        let mut by_address: BTreeMap<&str, &Sighting> = BTreeMap::new();
        for sighting in book.heard.values().filter(|sighting| sighting.is_fresh()) {
            let best = by_address.entry(&sighting.seen.address).or_insert(sighting);
            let assigned = book.assigned.get(&sighting.seen.address);
            let rank = |sighting: &Sighting| {
                (
                    assigned == Some(&sighting.adapter),
                    sighting.strength(),
                    std::cmp::Reverse(sighting.adapter.clone()),
                )
            };
            if rank(sighting) > rank(best) {
                *best = sighting;
            }
        }
        by_address.into_values().cloned().collect()
    }

    /// Everything that was heard within the time that the table keeps it, by every adapter.
    pub(super) fn everything(&self) -> Vec<Sighting> {
        let mut all: Vec<Sighting> = self.book().heard.values().cloned().collect();
        all.sort_by(|a, b| (&a.seen.address, &a.adapter).cmp(&(&b.seen.address, &b.adapter)));
        all
    }

    /// The adapter that carries a device: of those that hear it about equally well, the one with the fewest. Once chosen
    /// it stays, as long as it is there.
    pub(super) fn assign(&self, address: &str) -> Option<String> {
        let radios: HashSet<String> = lock(&self.radios).keys().cloned().collect();
        let mut book = self.book();
        if let Some(adapter) = book.assigned.get(address).filter(|adapter| radios.contains(*adapter)) {
            return Some(adapter.clone());
        }
        let heard: Vec<&Sighting> = book
            .heard
            .values()
            .filter(|sighting| sighting.seen.address == address && radios.contains(&sighting.adapter))
            .filter(|sighting| sighting.is_fresh())
            .collect();
        let strongest = heard.iter().map(|sighting| sighting.strength()).max()?;
        let load = |adapter: &str| book.assigned.values().filter(|other| *other == adapter).count();
        let adapter = heard
            .iter()
            .filter(|sighting| sighting.strength() >= strongest.saturating_sub(RSSI_CLOSE))
            .min_by_key(|sighting| (load(&sighting.adapter), sighting.adapter.clone()))?
            .adapter
            .clone();
        book.assigned.insert(address.to_owned(), adapter.clone());
        Some(adapter)
    }

    /// The adapter of a device, where it was given one.
    pub(super) fn assigned(&self, address: &str) -> Option<String> {
        self.book().assigned.get(address).cloned()
    }

    /// The run is about this device.
    pub(super) fn know(&self, address: &str, name: Option<&str>) {
        self.book().known.insert(address.to_owned(), name.map(str::to_owned));
    }

    /// Whether the run is about a device with this address.
    pub(super) fn is_known(&self, address: &str) -> bool {
        self.book().known.contains_key(address)
    }

    /// Whether another device of the run has this name too.
    pub(super) fn is_shared(&self, name: &str, address: &str) -> bool {
        self.book().known.iter().any(|(other, known)| other != address && known.as_deref() == Some(name))
    }

    /// The device goes on under another address.
    pub(super) fn moved(&self, from: &str, to: &str) {
        let mut book = self.book();
        let name = book.known.remove(from).flatten();
        book.known.insert(to.to_owned(), name);
        book.assigned.remove(from);
    }

    /// The door that only one link of a device goes through.
    pub(super) fn door(&self, address: &str) -> Arc<tokio::sync::Mutex<()>> {
        Arc::clone(self.book().doors.entry(address.to_owned()).or_default())
    }

    /// The device has a link now, or none any more. What was heard of it before counts no longer.
    pub(super) fn set_linked(&self, address: &str, linked: bool) {
        let mut book = self.book();
        book.heard.retain(|(other, _), _| other != address);
        if linked {
            book.linked.insert(address.to_owned());
        } else {
            book.linked.remove(address);
        }
    }

    /// How much of a target's time to look for it is left; it runs from the first look.
    pub(super) fn time_left(&self, target: &str, within: Duration) -> Duration {
        let begin = *self.book().looks.entry(target.to_owned()).or_insert_with(Instant::now);
        within.saturating_sub(begin.elapsed())
    }
}

impl Book {
    fn first_heard(&self, address: &str) -> Option<Instant> {
        self.heard
            .values()
            .filter(|sighting| sighting.seen.address == address)
            .map(|sighting| sighting.first)
            .min()
    }
}

pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
