//! When an unanswered chunk is sent again, looked for in the image list, or given up. Decides times; what follows is the
//! upload's.
//!
//! Two clocks run. The proven one is what the field has shown to be enough for any server: sendings at its pace count as
//! the retries, and it alone gives up. The measured one, after the link's own round trips, puts repeats in between, as
//! long as the server's buffers have room for them should the device be slow and nothing be lost. Where round trips are
//! longer than what is proven, they move the proven clock too, up to a ceiling.

use std::time::Duration;

use super::flight::{Flights, InFlight};
use super::rtt::RoundTrips;
use super::types::{ChunkId, Timeouts, UploadConfig};
use crate::smp::exchange::{ExchangeError, Policy};
use crate::smp::message::image::UploadChunk;
use crate::smp::{RequestId, Time};

/// After this the image list is looked at for the last chunk, where the round trips do not ask for more: a server may
/// check the whole image before it answers.
const LOOK_AFTER: Duration = Duration::from_millis(500);
/// After this the first chunk is sent again, where nothing is lost by doing so: servers erase the slot before they answer,
/// most within this time.
const FIRST_AFTER: Duration = Duration::from_secs(5);
/// The longest time for one sending that round trips can ask for: what is proven for the slowest answer to a chunk besides
/// the first.
const CEILING: Duration = Duration::from_secs(20);
/// Early repeats, or looks, for one chunk; each waits twice as long as the one before.
const EARLY: u32 = 4;

/// What time makes of the oldest chunk in flight.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Due {
    /// Nothing is in flight.
    Nothing,
    /// Nothing before this time.
    At(Time),
    /// Send it again.
    Repeat {
        /// Which.
        id: ChunkId,
        /// Its proven time is over; otherwise a measured one.
        regular: bool,
    },
    /// Look whether the image list shows that it arrived.
    Look(ChunkId),
    /// It was sent as often as it may be.
    GiveUp(ChunkId),
}

/// What else matters for the oldest chunk in flight.
#[derive(Debug, Clone, Copy)]
pub(super) struct Situation {
    /// Its length may be at fault: it goes once.
    pub(super) only_once: bool,
    /// The image list is being asked for.
    pub(super) looking: bool,
    /// It may be the first as often as it likes: the server knows the file by its SHA-256.
    pub(super) resumable: bool,
}

/// The clocks of one upload.
#[derive(Debug)]
pub(super) struct Waiting {
    timeouts: Timeouts,
    retries: u32,
    sendings: usize,
    round_trips: RoundTrips,
    last_answer: Time,
    /// The last chunk is known to be lost, or its answer.
    lost: bool,
}

impl Waiting {
    pub(super) fn new(config: &UploadConfig) -> Self {
        Self {
            timeouts: config.timeouts,
            retries: config.retries,
            sendings: config.sendings.max(config.window).max(1),
            round_trips: config.memory.round_trips,
            last_answer: Time::ZERO,
            lost: false,
        }
    }

    /// Messages that may lie in the server's buffers.
    pub(super) fn sendings(&self) -> usize {
        self.sendings
    }

    pub(super) fn round_trips(&self) -> RoundTrips {
        self.round_trips
    }

    /// After this an answer in the middle of the file is not likely to come.
    pub(super) fn overdue(&self) -> Duration {
        let proven = self.or_measured(self.timeouts.middle);
        self.round_trips.timeout().map_or(proven, |measured| measured.min(proven))
    }

    /// The proven time for the answer to a chunk of a file of `len` bytes; longer where the link's round trips are.
    pub(super) fn proven(&self, chunk: &InFlight, len: usize) -> Duration {
        self.or_measured(if chunk.start == 0 {
            self.timeouts.first
        } else if chunk.end == len {
            self.timeouts.last
        } else {
            self.timeouts.middle
        })
    }

    /// A proven time, or what the round trips ask for where that is more.
    fn or_measured(&self, proven: Duration) -> Duration {
        let measured = self.round_trips.timeout().filter(|_| self.timeouts.measured);
        measured.map_or(proven, |measured| proven.max(measured.min(CEILING)))
    }

    /// How long the exchange keeps a request for whose answer `proven` is the time: longer than the upload does.
    pub(super) fn patience(&self, proven: Duration) -> Policy {
        Policy { timeout: proven.saturating_mul(self.retries.saturating_add(2)), retries: 0 }
    }

    /// A chunk was answered.
    pub(super) fn answered(&mut self, now: Time, chunk: &InFlight, len: usize) {
        self.last_answer = now;
        // The first and the last take as long as the flash does.
        if chunk.start != 0 && chunk.end != len {
            self.round_trips.sample(now.saturating_sub(chunk.last_sent), chunk.waits_for_no_other());
        }
    }

    /// The server got further.
    pub(super) fn progressed(&mut self) {
        self.lost = false;
    }

    /// The oldest chunk goes again at once.
    pub(super) fn was_lost(&mut self) {
        self.lost = true;
    }

    /// It went.
    pub(super) fn repeated(&mut self) {
        self.lost = false;
    }

    /// What time makes of `chunk`, the oldest in flight, of a file of `len` bytes.
    pub(super) fn due(
        &self,
        now: Time,
        chunk: &InFlight,
        len: usize,
        situation: Situation,
        flights: &Flights,
    ) -> Due {
        let proven = self.proven(chunk, len);
        let last = chunk.end == len && chunk.start != 0;
        let retries = match (situation.only_once, last) {
            // A message that is too long meets silence however often it is sent.
            (true, _) => 0,
            // Once more; after that the image list knows better.
            (_, true) => self.retries.min(1),
            _ => self.retries,
        };
        let begin = chunk.first_sent.max(self.last_answer);
        let regular = begin.saturating_add(proven.saturating_mul(chunk.regular.saturating_add(1)));
        if now >= regular && chunk.regular >= retries {
            return Due::GiveUp(chunk.id);
        }
        let room = flights.sendings() < self.sendings;
        if now >= regular && room {
            return Due::Repeat { id: chunk.id, regular: true };
        }
        if self.lost && last && room {
            return Due::Repeat { id: chunk.id, regular: false };
        }
        let early = self.early(chunk, last, situation).filter(|early| *early < regular);
        if let Some(early) = early.filter(|_| room) {
            if now < early {
                return Due::At(early);
            }
            return if last { Due::Look(chunk.id) } else { Due::Repeat { id: chunk.id, regular: false } };
        }
        // What may lie in the buffers may have left them by then.
        let expiry = flights.next_expiry().filter(|expiry| *expiry > now);
        let regular = Some(regular).filter(|regular| *regular > now);
        regular.into_iter().chain(expiry).min().map_or(Due::Nothing, Due::At)
    }

    /// When the answer to a chunk is overdue by what was measured.
    fn early(&self, chunk: &InFlight, last: bool, situation: Situation) -> Option<Time> {
        let Situation { only_once, looking, resumable } = situation;
        if !self.timeouts.measured || chunk.early >= EARLY || only_once || (looking && last) {
            return None;
        }
        let timeout = match self.round_trips.timeout() {
            _ if chunk.start == 0 => Some(FIRST_AFTER).filter(|_| resumable),
            measured if last => measured.map(|measured| measured.max(LOOK_AFTER)),
            _ if chunk.waits_for_no_other() => self.round_trips.timeout_alone(),
            measured => measured,
        };
        let since = chunk.last_sent.max(self.last_answer);
        Some(since.saturating_add(timeout?.saturating_mul(1 << chunk.early)))
    }

    /// That a chunk was sent in vain.
    pub(super) fn no_answer(&self, now: Time, chunk: &InFlight) -> ExchangeError {
        ExchangeError::NoAnswer {
            request: RequestId::of::<UploadChunk<'_>>(),
            sends: chunk.sends,
            waited: now.saturating_sub(chunk.first_sent),
        }
    }
}
