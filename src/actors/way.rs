//! The way to one device: opens it, waits where that can help, and notes where the device came back under another name.
//! What is said over the link is not known here.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, sleep, timeout_at};

use crate::transport::{Connector, Firmware, Link, LinkError, LinkErrorKind};

/// Silence that every device gets after it left: some parts wedge for ever if bytes arrive while they boot.
pub(super) const LEAST_QUIET: Duration = Duration::from_millis(500);
/// How long a port that refuses is tried again: access rights are set, and modem daemons let go, a moment after it
/// appears. The same for a port that was listed a moment ago and is not there.
pub(super) const OPEN_WITHIN: Duration = Duration::from_secs(5);
/// Pause between two tries to open a port that refuses.
const OPEN_PAUSE: Duration = Duration::from_millis(100);

/// The way to one device.
#[derive(Debug)]
pub(super) struct Way {
    connector: Arc<dyn Connector>,
    /// How long a device that went away may take to come back.
    return_within: Duration,
    /// What it was called when it was open last.
    address: String,
    was_open: bool,
    /// Since when the device is away: a link broke, or a port that was open before is not there.
    gone: Option<Instant>,
    notes: Vec<String>,
}

impl Way {
    /// The way to a device that was found at `address`.
    pub(super) fn new(connector: Arc<dyn Connector>, return_within: Duration) -> Self {
        let address = connector.address();
        Self { connector, return_within, address, was_open: false, gone: None, notes: Vec::new() }
    }

    /// Its name by now.
    pub(super) fn address(&self) -> &str {
        &self.address
    }

    /// What a person should know of where it was, since it was asked last.
    pub(super) fn take_notes(&mut self) -> Vec<String> {
        std::mem::take(&mut self.notes)
    }

    /// Whether the link is one of few that this machine can hold at once.
    pub(super) fn is_shared(&self) -> bool {
        self.connector.adapter().is_some()
    }

    /// Tells what the device runs from now on.
    pub(super) fn expect(&self, firmware: Firmware) {
        self.connector.expect(firmware);
    }

    /// A link broke because the device went.
    pub(super) fn note_gone(&mut self) {
        self.gone.get_or_insert_with(Instant::now);
    }

    /// A link was closed while the device was there, as far as is known.
    pub(super) fn note_closed(&mut self) {
        self.gone = None;
    }

    /// Whether the device went, and nobody has seen it since.
    pub(super) fn is_gone(&self) -> bool {
        self.gone.is_some()
    }

    /// Opens a link, or tells at once why not.
    pub(super) async fn open_now(&mut self) -> Result<Box<dyn Link>, LinkError> {
        let opened = self.connector.connect().await;
        match &opened {
            Ok(_) => {
                let address = self.connector.address();
                if address != self.address {
                    self.notes.push(format!("came back as {address} (was {})", self.address));
                    tracing::info!(was = %self.address, is = %address, "came back under another name");
                    self.address = address;
                }
                self.was_open = true;
                self.gone = None;
            }
            Err(error) if error.kind == LinkErrorKind::NotFound && self.was_open => self.note_gone(),
            Err(_) => {}
        }
        opened
    }

    /// Opens a link. A port that refuses is tried again for [`OPEN_WITHIN`]; a device that went away is waited for until
    /// it has been away for as long as it may take to return.
    pub(super) async fn open(&mut self) -> Result<Box<dyn Link>, LinkError> {
        let begun = Instant::now();
        let was_gone = self.is_gone();
        let mut refusing = Refusing::default();
        loop {
            let error = match self.open_now().await {
                Ok(link) => {
                    if was_gone {
                        // It was plugged in just now, and behind a UART bridge it may still boot.
                        sleep(LEAST_QUIET).await;
                    }
                    return Ok(link);
                }
                Err(error) => error,
            };
            match error.kind {
                LinkErrorKind::Busy | LinkErrorKind::Denied | LinkErrorKind::Io => {
                    refusing.again(error).await?
                }
                LinkErrorKind::NotFound => {
                    let until = self.gone.map_or(begun + OPEN_WITHIN, |gone| gone + self.return_within);
                    if Instant::now() >= until {
                        return Err(self.stayed_away(error));
                    }
                    self.maybe_back(until).await;
                }
                _ => return Err(error),
            }
        }
    }

    /// Waits until the device may be back, a moment at most, and not beyond `until`.
    pub(super) async fn maybe_back(&self, until: Instant) {
        // However the waiting ends, it is time to look.
        let _ = timeout_at(until, self.connector.maybe_back()).await;
    }

    fn stayed_away(&self, mut error: LinkError) -> LinkError {
        if let Some(gone) = self.gone {
            let seconds = gone.elapsed().as_secs();
            error.message = format!("{}; it went away {seconds} s ago and did not come back", error.message);
        }
        error
    }
}

/// A port that is there and does not let itself be opened.
#[derive(Debug, Default)]
pub(super) struct Refusing {
    since: Option<Instant>,
}

impl Refusing {
    /// Waits for a moment before the next try.
    ///
    /// # Errors
    /// The refusal itself, where it has lasted for [`OPEN_WITHIN`].
    pub(super) async fn again(&mut self, error: LinkError) -> Result<(), LinkError> {
        let now = Instant::now();
        if now >= *self.since.get_or_insert(now) + OPEN_WITHIN {
            return Err(error);
        }
        sleep(OPEN_PAUSE).await;
        Ok(())
    }
}
