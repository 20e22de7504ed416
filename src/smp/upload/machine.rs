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

use std::collections::VecDeque;
use std::sync::Arc;

use bytes::Bytes;

use super::flight::{Flights, InFlight};
use super::parts::{Ranges, layout};
use super::types::{
    Action, ChunkId, ChunkRequest, LinkMemory, ListOutcome, Progress, UploadConfig, UploadError, UploadStats,
};
use super::waiting::{Due, Situation, Waiting};
use super::window::Window;
use crate::smp::chunk::Layout;
use crate::smp::errors::{DeviceError, ResponseError};
use crate::smp::exchange::{ExchangeError, Policy};
use crate::smp::message::image::{UploadChunk, UploadResponse};
use crate::smp::message::{DecodeError, EncodeError};
use crate::smp::{Answer, RawRequest, RequestId, Time};

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
        match self.send_next(now) {
            Ok(chunk) => Action::Send(chunk),
            Err(error) => {
                self.fail(error);
                self.poll(now)
            }
        }
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
                let response = answer.decode::<UploadChunk<'_>>();
                if chunk.void {
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

    fn send_next(&mut self, now: Time) -> Result<ChunkRequest, UploadError> {
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
            first_sent: now,
            last_sent: now,
            sends: 1,
            regular: 0,
            early: 0,
            void: false,
        };
        let within = self.waiting.proven(&chunk, self.bytes.len());
        self.flights.sent(Some(id), now, within);
        self.flights.chunks.push(chunk);
        self.stats.window = self.stats.window.max(self.flights.chunks.len());
        self.next = end;
        Ok(ChunkRequest { id, request, policy: self.waiting.patience(within), within, offset, len })
    }

    /// Sends the oldest chunk again. What was sent after it is not answered either: it goes again in its turn.
    fn repeat(&mut self, now: Time, id: ChunkId, regular: bool) -> Action {
        self.window.lost();
        self.flights.void_all(Some(id));
        let len = self.bytes.len();
        let Some(chunk) = self.flights.get_mut(id) else { return Action::Wait(None) };
        chunk.sends += 1;
        chunk.last_sent = now;
        *(if regular { &mut chunk.regular } else { &mut chunk.early }) += 1;
        self.next = chunk.end;
        let within = self.waiting.proven(chunk, len);
        self.waiting.repeated();
        self.flights.sent(Some(id), now, within);
        self.stats.resent_chunks += 1;
        self.stats.chunks += 1;
        Action::Repeat(id)
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

    /// The answer to a chunk of no use tells at most that the server got further than it seemed.
    fn handle_void(&mut self, now: Time, response: Option<UploadResponse>) {
        let Some(response) = response.filter(|_| self.state == State::Running) else { return };
        let offset = response.off.and_then(|offset| usize::try_from(offset).ok());
        let Some(offset) = offset.filter(|offset| *offset > self.acked && *offset <= self.bytes.len()) else {
            return;
        };
        if response.matches == Some(false) {
            return self.fail(UploadError::Mismatch);
        }
        self.note_answer(now, true);
        if offset == self.bytes.len() {
            self.finish();
        } else {
            self.advance(now, offset);
        }
    }

    fn handle_response(&mut self, now: Time, chunk: &InFlight, response: &UploadResponse) {
        let len = self.bytes.len();
        if response.matches.is_some() {
            self.stats.matched = response.matches;
        }
        if response.matches == Some(false) {
            return self.fail(UploadError::Mismatch);
        }
        // A success without an offset says nothing of what was written.
        let Some(offset) = response.off else { return self.stall(None) };
        let Some(offset) = usize::try_from(offset).ok().filter(|offset| *offset <= len) else {
            return self.fail(UploadError::OffsetBeyondEnd { offset, len });
        };
        if offset == len {
            return self.finish();
        }
        if offset > self.acked {
            if self.acked == 0 && offset > chunk.end {
                self.stats.resumed_at = Some(offset);
            }
            self.advance(now, offset);
        } else if offset == self.acked || (chunk.acked.max(1)..self.acked).contains(&offset) {
            // Also what was true when the chunk was sent: its answer was overtaken.
            self.window.lost();
            self.stall(None);
        } else if offset == 0 && self.last_sent {
            self.look(Look::Forgotten);
        } else if offset == 0 {
            self.restart();
        } else {
            self.regressions += 1;
            if self.regressions > self.config.limits.regressions {
                let (from, times) = (self.acked, self.regressions);
                return self.fail(UploadError::WentBack { from, to: offset, times });
            }
            self.window.lost();
            self.acked = offset;
            self.go_to(offset);
        }
    }

    /// The server has everything before `offset`. Chunks in flight that lie there need no answer any more; the rest stay
    /// in flight where they go on from there.
    fn advance(&mut self, now: Time, offset: usize) {
        let first = self.acked == 0;
        self.acked = offset;
        self.taken = true;
        self.stalls = 0;
        self.busy = 0;
        self.waiting.progressed();
        for chunk in self.flights.chunks.iter_mut().filter(|chunk| chunk.end <= offset) {
            chunk.void = true;
        }
        let goes_on_at = self.flights.oldest().map_or(self.next, |chunk| chunk.start);
        if first {
            self.window.begin(now);
        } else if goes_on_at == offset {
            self.window.answered(now);
        } else if self.flights.oldest().is_some() {
            self.window.lost();
        }
        if goes_on_at != offset {
            self.go_to(offset);
        }
    }

    fn handle_refusal(&mut self, now: Time, chunk: &InFlight, error: ResponseError) {
        match error.source {
            // Servers that cut a message that is too long, as over UDP, say that it is damaged.
            DecodeError::Device(device) if device.is_corrupt() && self.may_shrink() => self.shrink(),
            DecodeError::Device(device) if device.is_busy() => self.pause(now, chunk, device),
            DecodeError::Device(error) => {
                let request = RequestId::of::<UploadChunk<'_>>();
                self.fail(UploadError::Device { request, offset: chunk.start, error });
            }
            DecodeError::Malformed(_) | DecodeError::Trailing { .. } => self.stall(Some(error)),
        }
    }

    fn handle_silence(&mut self, chunk: &InFlight, error: ExchangeError) {
        if let ExchangeError::NoAnswer { .. } = error {
            if self.may_shrink() {
                return self.shrink();
            }
            // Also where an earlier chunk is silent: the answers to all of the last ones may be lost.
            if chunk.end == self.bytes.len() || self.last_sent {
                return self.look(Look::Silence(error));
            }
        }
        self.fail_unanswered(chunk.start, error);
    }

    /// Whether trouble may still be blamed on the length of the chunk, which is the first one then.
    fn may_shrink(&self) -> bool {
        !self.taken
            && self.stats.shrunk_to.is_none()
            && self.config.shrink_to.is_some_and(|smaller| smaller < self.layout.max_message)
    }

    fn shrink(&mut self) {
        let Some(smaller) = self.config.shrink_to else { return };
        match layout(&self.config, self.bytes.len(), smaller) {
            Ok(layout) => {
                self.layout = layout;
                self.stats.shrunk_to = Some(smaller);
                self.go_to(0);
            }
            Err(error) => self.fail(error),
        }
    }

    /// The server took nothing of a chunk: send it again, so many times.
    fn stall(&mut self, malformed: Option<ResponseError>) {
        self.stalls += 1;
        if self.stalls > self.config.limits.stalls {
            let (offset, len, times) = (self.acked, self.bytes.len(), self.stalls);
            return self.fail(
                malformed.map_or(UploadError::NoProgress { offset, len, times }, UploadError::Malformed),
            );
        }
        self.go_to(self.acked);
    }

    /// The server cannot take a chunk now: send it again later, and fewer at once.
    fn pause(&mut self, now: Time, chunk: &InFlight, error: DeviceError) {
        self.busy += 1;
        if self.busy > self.config.limits.busy {
            let request = RequestId::of::<UploadChunk<'_>>();
            return self.fail(UploadError::Device { request, offset: chunk.start, error });
        }
        self.window.no_memory();
        let factor = 1_u32 << (self.busy - 1).min(4);
        self.state = State::Pausing(now.saturating_add(self.config.limits.busy_pause.saturating_mul(factor)));
        self.go_to(self.acked);
    }

    fn restart(&mut self) {
        self.stats.restarts += 1;
        if self.stats.restarts > self.config.limits.restarts {
            return self.fail(UploadError::Restarted { times: self.stats.restarts });
        }
        self.acked = 0;
        self.last_sent = false;
        self.state = State::Running;
        self.go_to(0);
    }

    fn look(&mut self, look: Look) {
        self.cancel_in_flight();
        self.state = State::Looking(look);
    }

    /// Goes on from there; what is in flight is of no use any more.
    fn go_to(&mut self, offset: usize) {
        self.next = offset;
        self.flights.void_all(None);
    }

    fn cancel_in_flight(&mut self) {
        self.cancelled.extend(self.flights.chunks.drain(..).map(|chunk| chunk.id));
    }

    fn finish(&mut self) {
        self.acked = self.bytes.len();
        self.cancel_in_flight();
        self.state = State::Done;
    }

    fn fail(&mut self, error: UploadError) {
        self.cancel_in_flight();
        self.state = State::Failed(error);
    }

    fn fail_unanswered(&mut self, offset: usize, error: ExchangeError) {
        self.fail(UploadError::Unanswered { offset, len: self.bytes.len(), error });
    }

    fn note_answer(&mut self, now: Time, success: bool) {
        let since = |then: Option<Time>| now.saturating_sub(then.unwrap_or(now));
        self.stats.duration = since(self.first_sent);
        if success && self.first_success.is_none() {
            self.first_success = Some(now);
            self.stats.erase = self.stats.duration;
        }
        self.stats.streaming = since(self.first_success);
    }
}
