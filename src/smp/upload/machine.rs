//! The upload itself, as a machine: it says what to send and takes what came back. No I/O and no clock.
//!
//! It follows whatever offset the server answers, since only the server knows what it wrote: forwards is the resume of
//! an earlier upload, short of a chunk's end is a server that writes in its flash's units, the chunk's own start is
//! a chunk that was not taken, 0 is a server that lost its state and wants every field of the first chunk again.
//!
//! Chunks that lie beyond one that was lost are of no use any more, but they are on their way: they count as in flight
//! until they are answered, so that a server never gets more than it has buffers for.
//!
//! It ends: offsets that do not advance, go back or start again are each counted against a limit, a chunk is repeated
//! as often as the configuration says, and between those the offset grows towards the file's end.
//!
//! Here is what is sent when; what answers and silence mean lies below.

use std::collections::VecDeque;
use std::sync::Arc;

use bytes::Bytes;

use super::flight::{Flights, InFlight};
use super::pace::Meter;
use super::parts::{Ranges, layout};
use super::types::{
    Action, ChunkId, ChunkRequest, LinkMemory, ListOutcome, Progress, UploadConfig, UploadError, UploadStats,
};
use super::waiting::{Due, Situation, Waiting};
use super::window::Window;
use crate::smp::chunk::Layout;
use crate::smp::exchange::{ExchangeError, Policy};
use crate::smp::message::EncodeError;
use crate::smp::message::image::UploadChunk;
use crate::smp::{Answer, RawRequest, Time};

mod answers;

/// Why the image list is looked at.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Look {
    /// The last chunk was not answered.
    Silence(ExchangeError),
    /// The last chunk was answered with offset 0: done and forgotten, or forgotten only.
    Forgotten,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum State {
    Running,
    /// Until then nothing is sent: the server is busy.
    Pausing(Time),
    Looking(Look),
    Done,
    Failed(UploadError),
}

/// A request for the image list.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum List {
    /// None is under way.
    Idle,
    /// One is, while the last chunk may still be answered.
    Early,
    /// One is, and nothing else.
    Asked,
}

/// The upload of one image. See [`Action`] for how to drive it.
#[derive(Debug)]
pub struct Upload {
    /// The whole image: chunks in flight are slices of it.
    bytes: Bytes,
    sha256: [u8; 32],
    config: UploadConfig,
    layout: Layout,
    state: State,
    list: List,
    /// What the server wants next, as far as it told: it has everything before.
    acked: usize,
    /// What is sent next.
    next: usize,
    /// The server took a chunk, so their length is not at fault.
    taken: bool,
    /// The last byte was sent: the server may be done and have forgotten the upload.
    last_sent: bool,
    flights: Flights,
    cancelled: VecDeque<ChunkId>,
    next_id: u64,
    window: Window,
    waiting: Waiting,
    stalls: u32,
    regressions: u32,
    busy: u32,
    looks: u32,
    first_sent: Option<Time>,
    first_success: Option<Time>,
    sent: Ranges,
    meter: Meter,
    stats: UploadStats,
}

impl Upload {
    /// An upload of `bytes`, whose SHA-256 is `sha256`.
    ///
    /// # Errors
    /// [`UploadError::Empty`], [`UploadError::TooLarge`]; [`UploadError::BufferTooSmall`] where the image header does
    /// not fit the first chunk even without the SHA-256.
    pub fn new(bytes: Arc<[u8]>, sha256: [u8; 32], config: UploadConfig) -> Result<Self, UploadError> {
        if bytes.is_empty() {
            return Err(UploadError::Empty);
        }
        if u32::try_from(bytes.len()).is_err() {
            return Err(UploadError::TooLarge(bytes.len()));
        }
        let layout = layout(&config, bytes.len(), config.max_message)?;
        Ok(Self {
            bytes: Bytes::from_owner(bytes),
            sha256,
            window: Window::new(config.window, config.adaptive, config.memory.window),
            waiting: Waiting::new(&config),
            config,
            layout,
            state: State::Running,
            list: List::Idle,
            acked: 0,
            next: 0,
            taken: false,
            last_sent: false,
            flights: Flights::default(),
            cancelled: VecDeque::new(),
            next_id: 0,
            stalls: 0,
            regressions: 0,
            busy: 0,
            looks: 0,
            first_sent: None,
            first_success: None,
            sent: Ranges::default(),
            meter: Meter::default(),
            stats: UploadStats::default(),
        })
    }

    /// What to do next. Call it until it says [`Action::Wait`], [`Action::Done`] or [`Action::Failed`], after every
    /// outcome and when the time that it gave has come.
    pub fn poll(&mut self, now: Time) -> Action {
        self.cancelled.extend(self.flights.expire(now));
        if let Some(id) = self.cancelled.pop_front() {
            return Action::Cancel(id);
        }
        if let State::Pausing(until) = self.state {
            if now < until {
                return Action::Wait(Some(until));
            }
            self.state = State::Running;
        }
        match &self.state {
            State::Done => Action::Done(self.stats.clone()),
            State::Failed(error) => Action::Failed(error.clone()),
            State::Looking(_) if self.list == List::Idle => self.ask_list(now, List::Asked),
            State::Looking(_) => Action::Wait(None),
            State::Running | State::Pausing(_) => self.poll_running(now),
        }
    }

    fn poll_running(&mut self, now: Time) -> Action {
        if self.flights.is_idle() {
            self.next = self.acked;
        }
        let until = match self.due(now) {
            Due::Nothing => None,
            Due::At(time) => Some(time),
            Due::Repeat { id, regular } => return self.repeat(now, id, regular),
            Due::Look(id) => {
                if let Some(chunk) = self.flights.get_mut(id) {
                    chunk.early += 1;
                }
                return self.ask_list(now, List::Early);
            }
            Due::GiveUp(id) => {
                if let Some(chunk) = self.flights.remove(id) {
                    self.cancelled.push_back(id);
                    let error = self.waiting.no_answer(now, &chunk);
                    self.handle_silence(&chunk, error);
                }
                return self.poll(now);
            }
        };
        // Until the first chunk is answered nothing else can be sent: the answer says where to go on. Nor while it is not
        // known whether anything arrives.
        let probing = self.flights.oldest().is_some_and(|chunk| chunk.sends > 1);
        let window = if self.acked == 0 || probing { 1 } else { self.window.size() };
        let (open, drained) = self.flights.open(now, self.waiting.overdue());
        let full = open >= window || self.flights.sendings() >= self.waiting.sendings();
        if full || self.next >= self.bytes.len() {
            return Action::Wait(until.into_iter().chain(drained).min());
        }
        self.send_next(now, None)
    }

    /// What time makes of the chunks in flight.
    fn due(&self, now: Time) -> Due {
        let Some(oldest) = self.flights.oldest() else {
            return self.flights.next_expiry().map_or(Due::Nothing, Due::At);
        };
        let situation = Situation {
            only_once: self.may_shrink(),
            looking: self.list != List::Idle,
            resumable: self.layout.sha,
        };
        self.waiting.due(now, oldest, self.bytes.len(), situation, &self.flights)
    }

    /// Takes what became of a chunk. Chunks that were cancelled are ignored.
    pub fn handle_outcome(&mut self, now: Time, id: ChunkId, outcome: Result<Answer, ExchangeError>) {
        let Some(chunk) = self.flights.remove(id) else { return };
        match outcome {
            Ok(answer) => {
                self.flights.answered(Some(id), now);
                self.waiting.answered(now, &chunk, self.bytes.len());
                if chunk.alone && chunk.sends == 1 && chunk.start != 0 && chunk.end != self.bytes.len() {
                    self.stats.pace.went_alone(now.saturating_sub(chunk.first_sent));
                }
                let response = answer.decode::<UploadChunk<'_>>();
                if chunk.void && !self.flights.is_earlier_sending(&chunk) {
                    return self.handle_void(now, response.ok());
                }
                self.note_answer(now, response.is_ok());
                match response {
                    Ok(response) => self.handle_response(now, &chunk, &response),
                    Err(error) => self.handle_refusal(now, &chunk, error),
                }
            }
            Err(ExchangeError::NoAnswer { .. }) if chunk.void => {}
            Err(error) => self.handle_silence(&chunk, error),
        }
    }

    /// Takes what the image list says, after [`Action::LookAtList`].
    pub fn handle_list(&mut self, now: Time, outcome: ListOutcome) {
        let list = std::mem::replace(&mut self.list, List::Idle);
        if list == List::Idle {
            return;
        }
        if !matches!(outcome, ListOutcome::Failed(_)) {
            self.flights.answered(None, now);
        }
        let look = match &self.state {
            State::Looking(look) => Some(look.clone()),
            State::Done | State::Failed(_) => return,
            State::Running | State::Pausing(_) => None,
        };
        match (outcome, look) {
            (ListOutcome::Present, _) => {
                self.note_answer(now, true);
                self.stats.seen_in_list = true;
                self.finish();
            }
            (ListOutcome::Failed(ExchangeError::NoAnswer { .. }), _) if list == List::Early => {}
            (ListOutcome::Failed(error), _) => self.fail_unanswered(self.acked, error),
            (ListOutcome::Absent | ListOutcome::Unknown, Some(Look::Silence(error))) => {
                self.looks += 1;
                if self.looks > self.config.limits.looks {
                    self.fail_unanswered(self.acked, error);
                } else {
                    self.state = State::Running;
                    self.go_to(self.acked);
                }
            }
            (ListOutcome::Absent | ListOutcome::Unknown, Some(Look::Forgotten)) => self.restart(),
            // The server answered what came after the chunk, so the chunk or its answer was lost.
            (ListOutcome::Absent | ListOutcome::Unknown, None) => self.waiting.was_lost(),
        }
    }

    /// What this link has shown, for the next upload over it.
    #[must_use]
    pub fn memory(&self) -> LinkMemory {
        LinkMemory {
            window: Some(self.window.memory()),
            round_trips: self.waiting.round_trips(),
            max_message: self.stats.shrunk_to.or(self.config.memory.max_message),
        }
    }

    /// How far it is.
    #[must_use]
    pub fn progress(&self) -> Progress {
        Progress { offset: self.acked, len: self.bytes.len() }
    }

    /// What it took so far.
    #[must_use]
    pub fn stats(&self) -> &UploadStats {
        &self.stats
    }

    /// Sends the oldest chunk again. What was sent after it is not answered either: it goes again in its turn.
    fn repeat(&mut self, now: Time, id: ChunkId, regular: bool) -> Action {
        self.window.lost();
        self.meter.disturbed();
        self.flights.void_all();
        self.waiting.repeated();
        let Some(before) = self.flights.get_mut(id) else { return Action::Wait(None) };
        let mut before = before.clone();
        *(if regular { &mut before.regular } else { &mut before.early }) += 1;
        self.next = before.start;
        self.stats.resent_first += u64::from(before.start == 0);
        self.send_next(now, Some(&before))
    }

    fn send_next(&mut self, now: Time, before: Option<&InFlight>) -> Action {
        match self.next_chunk(now, before) {
            Ok(chunk) => Action::Send(chunk),
            Err(error) => {
                self.fail(error);
                self.poll(now)
            }
        }
    }

    /// What comes next, or again where it met silence `before`.
    fn next_chunk(&mut self, now: Time, before: Option<&InFlight>) -> Result<ChunkRequest, UploadError> {
        let offset = self.next;
        let end = offset + self.layout.data_len(offset);
        let end = end.min(self.bytes.len());
        let data = self.bytes.slice(offset.min(end)..end);
        let len = data.len();
        let request = self.request(offset, data)?;
        let id = ChunkId(self.next_id);
        self.next_id += 1;
        let first = offset == 0;
        self.first_sent.get_or_insert(now);
        let new_bytes = self.sent.add(offset, end);
        self.stats.bytes += new_bytes;
        if self.first_success.is_some() {
            self.stats.streamed_bytes += new_bytes;
        }
        self.stats.resent_chunks += u64::from(new_bytes == 0);
        self.stats.chunks += 1;
        self.stats.largest_message = self.stats.largest_message.max(request.message_len());
        self.stats.sha_sent |= first && self.layout.sha;
        self.last_sent |= end == self.bytes.len();
        let chunk = InFlight {
            id,
            start: offset,
            end,
            acked: self.acked,
            first_sent: before.map_or(now, |before| before.first_sent),
            last_sent: now,
            sends: before.map_or(1, |before| before.sends + 1),
            regular: before.map_or(0, |before| before.regular),
            early: before.map_or(0, |before| before.early),
            void: false,
            alone: self.flights.sendings() == 0,
        };
        let within = self.waiting.proven(&chunk, self.bytes.len());
        self.flights.sent(Some(id), now, within);
        self.flights.chunks.push(chunk);
        self.stats.window = self.stats.window.max(self.flights.ahead());
        self.next = end;
        let (policy, again) = (self.waiting.patience(within), before.is_some());
        Ok(ChunkRequest { id, request, policy, within, offset, len, again })
    }

    fn ask_list(&mut self, now: Time, list: List) -> Action {
        self.list = list;
        let proven = self.config.timeouts.middle;
        self.flights.sent(None, now, proven);
        Action::LookAtList(match list {
            // Once: the chunk may be in the server's buffers yet. If it is lost there is another look later.
            List::Early => Policy { timeout: self.waiting.overdue(), retries: 0 },
            // What is in the server's buffers before it has its turn first, each with its own time.
            List::Idle | List::Asked => {
                let turns = u32::try_from(self.flights.sendings()).unwrap_or(u32::MAX);
                Policy { timeout: proven.saturating_mul(turns), retries: self.config.retries }
            }
        })
    }

    fn request(&self, offset: usize, data: Bytes) -> Result<RawRequest, EncodeError> {
        let number = |value: usize| u32::try_from(value).map_err(|_| EncodeError::TooLong(value));
        let first = offset == 0;
        let chunk = UploadChunk {
            image: (first && self.config.image_number != 0).then_some(self.config.image_number),
            len: if first { Some(number(self.bytes.len())?) } else { None },
            off: number(offset)?,
            sha: (first && self.layout.sha).then_some(self.sha256.as_slice()),
            data: &[],
            upgrade: (first && self.layout.upgrade).then_some(true),
        };
        let after = if chunk.upgrade.is_some() { UploadChunk::UPGRADE_LEN } else { 0 };
        RawRequest::new(&chunk)?.with_version(self.config.version).with_shared(after, data)
    }
}
