//! The upload itself, as a machine: it says what to send and takes what came back. No I/O and no clock.
//!
//! It follows whatever offset the server answers, since only the server knows what it wrote: forwards is the resume of
//! an earlier upload, short of a chunk's end is a server that writes in its flash's units, the chunk's own start is
//! a chunk that was not taken, 0 is a server that lost its state and wants every field of the first chunk again.
//!
//! It ends: offsets that do not advance, go back or start again are each counted against a limit, a chunk is repeated
//! as often as its policy says, and between those the offset grows towards the file's end.

use std::collections::VecDeque;
use std::sync::Arc;

use super::types::{
    Action, ChunkId, ChunkRequest, ListOutcome, Progress, UploadConfig, UploadError, UploadStats,
};
use crate::smp::chunk::{Layout, MAX_MESSAGE};
use crate::smp::errors::{DeviceError, ResponseError};
use crate::smp::exchange::{ExchangeError, Policy};
use crate::smp::message::image::{UploadChunk, UploadResponse};
use crate::smp::message::{DecodeError, EncodeError};
use crate::smp::{Answer, RawRequest, RequestId, Time};

/// A chunk that was sent and is not answered.
#[derive(Debug)]
struct InFlight {
    id: ChunkId,
    start: usize,
    end: usize,
}

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

/// The upload of one image. See [`Action`] for how to drive it.
#[derive(Debug)]
pub struct Upload {
    bytes: Arc<[u8]>,
    sha256: [u8; 32],
    config: UploadConfig,
    layout: Layout,
    state: State,
    /// What the server wants next, as far as it told: it has everything before.
    acked: usize,
    /// What is sent next.
    next: usize,
    /// The server took a chunk, so their length is not at fault.
    taken: bool,
    /// In the order of sending.
    in_flight: Vec<InFlight>,
    cancelled: VecDeque<ChunkId>,
    next_id: u64,
    /// Chunks in flight at most; falls when the server is out of buffers.
    window: usize,
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
            bytes,
            sha256,
            window: config.window.max(1),
            config,
            layout,
            state: State::Running,
            acked: 0,
            next: 0,
            taken: false,
            in_flight: Vec::new(),
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

    /// What to do next. Call it until it says [`Action::Wait`], [`Action::LookAtList`], [`Action::Done`] or
    /// [`Action::Failed`], after every outcome and when the time that it gave has come.
    pub fn poll(&mut self, now: Time) -> Action {
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
            State::Done => return Action::Done(self.stats.clone()),
            State::Failed(error) => return Action::Failed(error.clone()),
            State::Looking(_) => return Action::LookAtList,
            State::Running | State::Pausing(_) => {}
        }
        if self.in_flight.is_empty() {
            self.next = self.acked;
        }
        // Until the first chunk is answered nothing else can be sent: the answer says where to go on.
        let window = if self.acked == 0 { 1 } else { self.window };
        if self.in_flight.len() >= window || self.next >= self.bytes.len() {
            return Action::Wait(None);
        }
        match self.send_next(now) {
            Ok(chunk) => Action::Send(chunk),
            Err(error) => {
                self.fail(error);
                self.poll(now)
            }
        }
    }

    /// Takes what became of a chunk. Chunks that were cancelled are ignored.
    pub fn handle_outcome(&mut self, now: Time, id: ChunkId, outcome: Result<Answer, ExchangeError>) {
        let Some(index) = self.in_flight.iter().position(|chunk| chunk.id == id) else { return };
        let chunk = self.in_flight.remove(index);
        match outcome {
            Ok(answer) => {
                self.stats.resent_chunks += u64::from(answer.sends.saturating_sub(1));
                let response = answer.decode::<UploadChunk<'_>>();
                self.note_answer(now, response.is_ok());
                match response {
                    Ok(response) => self.handle_response(&chunk, &response),
                    Err(error) => self.handle_refusal(now, &chunk, error),
                }
            }
            Err(error) => self.handle_silence(&chunk, error),
        }
    }

    /// Takes what the image list says, after [`Action::LookAtList`].
    pub fn handle_list(&mut self, now: Time, outcome: ListOutcome) {
        let State::Looking(look) = self.state.clone() else { return };
        match (outcome, look) {
            (ListOutcome::Present, _) => {
                self.note_answer(now, true);
                self.stats.seen_in_list = true;
                self.finish();
            }
            (ListOutcome::Failed(error), _) => self.fail_unanswered(self.acked, error),
            (ListOutcome::Absent | ListOutcome::Unknown, Look::Silence(error)) => {
                self.looks += 1;
                if self.looks > self.config.limits.looks {
                    self.fail_unanswered(self.acked, error);
                } else {
                    self.state = State::Running;
                    self.go_to(self.acked);
                }
            }
            (ListOutcome::Absent | ListOutcome::Unknown, Look::Forgotten) => self.restart(),
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
        let data = self.bytes.get(offset..end).unwrap_or_default();
        let request = self.request(offset, data)?;
        let id = ChunkId(self.next_id);
        self.next_id += 1;
        let first = offset == 0;
        let last = end == self.bytes.len();
        let (timeout, retries) = if self.may_shrink() {
            // A message that is too long meets silence however often it is sent.
            (self.config.timeouts.first, 0)
        } else if first {
            (self.config.timeouts.first, self.config.retries)
        } else if last {
            // Once more; after that the image list knows better.
            (self.config.timeouts.last, self.config.retries.min(1))
        } else {
            (self.config.timeouts.middle, self.config.retries)
        };
        let len = data.len();
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
        self.in_flight.push(InFlight { id, start: offset, end });
        self.stats.window = self.stats.window.max(self.in_flight.len());
        self.next = end;
        Ok(ChunkRequest { id, request, policy: Policy { timeout, retries }, offset, len })
    }

    fn request(&self, offset: usize, data: &[u8]) -> Result<RawRequest, EncodeError> {
        let number = |value: usize| u32::try_from(value).map_err(|_| EncodeError::TooLong(value));
        let first = offset == 0;
        let chunk = UploadChunk {
            image: (first && self.config.image_number != 0).then_some(self.config.image_number),
            len: if first { Some(number(self.bytes.len())?) } else { None },
            off: number(offset)?,
            sha: (first && self.layout.sha).then_some(self.sha256.as_slice()),
            data,
            upgrade: (first && self.layout.upgrade).then_some(true),
        };
        Ok(RawRequest::new(&chunk)?.with_version(self.config.version))
    }

    fn handle_response(&mut self, chunk: &InFlight, response: &UploadResponse) {
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
            self.advance(offset);
        } else if offset == self.acked {
            self.stall(None);
        } else if offset == 0 && chunk.end == len {
            self.look(Look::Forgotten);
        } else if offset == 0 {
            self.restart();
        } else {
            self.regressions += 1;
            if self.regressions > self.config.limits.regressions {
                let (from, times) = (self.acked, self.regressions);
                return self.fail(UploadError::WentBack { from, to: offset, times });
            }
            self.acked = offset;
            self.go_to(offset);
        }
    }

    /// The server has everything before `offset`. Chunks in flight that lie there need no answer any more; the rest stay
    /// in flight where they go on from there.
    fn advance(&mut self, offset: usize) {
        self.acked = offset;
        self.taken = true;
        self.stalls = 0;
        self.busy = 0;
        let (done, open): (Vec<_>, Vec<_>) = self.in_flight.drain(..).partition(|chunk| chunk.end <= offset);
        self.cancelled.extend(done.iter().map(|chunk| chunk.id));
        self.in_flight = open;
        let goes_on_at = self.in_flight.first().map_or(self.next, |chunk| chunk.start);
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
        if let ExchangeError::NoAnswer { sends, .. } = error {
            self.stats.resent_chunks += u64::from(sends.saturating_sub(1));
            if self.may_shrink() {
                return self.shrink();
            }
            if chunk.end == self.bytes.len() {
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
        self.window = (self.window - 1).max(1);
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
        self.cancel_in_flight();
    }

    fn cancel_in_flight(&mut self) {
        self.cancelled.extend(self.in_flight.drain(..).map(|chunk| chunk.id));
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

/// The layout of an upload's messages, without the SHA-256 where the image header does not fit beside it.
fn layout(config: &UploadConfig, len: usize, max_message: usize) -> Result<Layout, UploadError> {
    let with_sha = Layout {
        max_message: max_message.min(MAX_MESSAGE),
        image_number: config.image_number,
        len,
        sha: config.send_sha,
        upgrade: config.upgrade_only,
    };
    if with_sha.fits() {
        return Ok(with_sha);
    }
    let layout = Layout { sha: false, ..with_sha };
    if layout.fits() {
        return Ok(layout);
    }
    Err(UploadError::BufferTooSmall { max_message, needed: layout.smallest_message() })
}

/// Ranges of bytes that were sent, for counting each byte once.
#[derive(Debug, Default)]
struct Ranges(Vec<(usize, usize)>);

impl Ranges {
    /// Adds a range; says how many of its bytes are new.
    fn add(&mut self, mut start: usize, mut end: usize) -> usize {
        let len = end - start;
        let mut known = 0;
        self.0.retain(|&(from, to)| {
            if to < start || from > end {
                return true;
            }
            known += to.min(end).saturating_sub(from.max(start));
            start = start.min(from);
            end = end.max(to);
            false
        });
        self.0.push((start, end));
        len - known
    }
}
