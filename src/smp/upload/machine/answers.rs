//! What answers, refusals and silence make of the upload: how far it is, and what it tries next. When something is sent is
//! the parent's.

use super::super::flight::InFlight;
use super::super::parts::layout;
use super::super::types::UploadError;
use super::{Look, State, Upload};
use crate::smp::errors::{DeviceError, ResponseError};
use crate::smp::exchange::ExchangeError;
use crate::smp::message::DecodeError;
use crate::smp::message::image::{UploadChunk, UploadResponse};
use crate::smp::{RequestId, Time};

impl Upload {
    /// The answer to a chunk of no use tells at most that the server got further than it seemed.
    pub(super) fn handle_void(&mut self, now: Time, response: Option<UploadResponse>) {
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

    pub(super) fn handle_response(&mut self, now: Time, chunk: &InFlight, response: &UploadResponse) {
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
            self.meter.disturbed();
            self.acked = offset;
            self.go_to(offset);
        }
    }

    /// The server has everything before `offset`. Chunks in flight that lie there need no answer any more; the rest stay
    /// in flight where they go on from there.
    fn advance(&mut self, now: Time, offset: usize) {
        let first = self.acked == 0;
        let bytes = offset.saturating_sub(self.acked);
        self.acked = offset;
        self.taken = true;
        self.stalls = 0;
        self.busy = 0;
        self.waiting.progressed();
        for chunk in self.flights.chunks.iter_mut().filter(|chunk| chunk.end <= offset) {
            chunk.void = true;
        }
        let goes_on_at = self.flights.oldest().map_or(self.next, |chunk| chunk.start);
        // The answer is to something that was sent after it, so the server did not get what it wants next.
        let lost = self.flights.oldest().is_some_and(|chunk| !self.flights.may_be_answered(chunk.id));
        let in_order = goes_on_at == offset && !lost;
        if first {
            self.window.begin(now);
            self.meter.begin(now, self.window.size());
        } else if in_order {
            self.window.answered(now);
            self.meter.answered(now, bytes, self.window.size(), &mut self.stats.pace);
        } else if self.flights.oldest().is_some() {
            self.window.lost();
            self.meter.disturbed();
        } else {
            // A chunk alone that was taken in part.
            self.meter.answered(now, bytes, self.window.size(), &mut self.stats.pace);
        }
        if !in_order {
            self.go_to(offset);
        }
    }

    pub(super) fn handle_refusal(&mut self, now: Time, chunk: &InFlight, error: ResponseError) {
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

    pub(super) fn handle_silence(&mut self, chunk: &InFlight, error: ExchangeError) {
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
    pub(super) fn may_shrink(&self) -> bool {
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
        self.meter.disturbed();
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
        self.meter.disturbed();
        let factor = 1_u32 << (self.busy - 1).min(4);
        self.state = State::Pausing(now.saturating_add(self.config.limits.busy_pause.saturating_mul(factor)));
        self.go_to(self.acked);
    }

    pub(super) fn restart(&mut self) {
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
    pub(super) fn go_to(&mut self, offset: usize) {
        self.next = offset;
        self.flights.void_all();
    }

    fn cancel_in_flight(&mut self) {
        self.cancelled.extend(self.flights.chunks.drain(..).map(|chunk| chunk.id));
    }

    pub(super) fn finish(&mut self) {
        self.acked = self.bytes.len();
        self.cancel_in_flight();
        self.state = State::Done;
    }

    pub(super) fn fail(&mut self, error: UploadError) {
        self.cancel_in_flight();
        self.state = State::Failed(error);
    }

    pub(super) fn fail_unanswered(&mut self, offset: usize, error: ExchangeError) {
        self.fail(UploadError::Unanswered { offset, len: self.bytes.len(), error });
    }

    pub(super) fn note_answer(&mut self, now: Time, success: bool) {
        let since = |then: Option<Time>| now.saturating_sub(then.unwrap_or(now));
        self.stats.duration = since(self.first_sent);
        if success && self.first_success.is_none() {
            self.first_success = Some(now);
            self.stats.erase = self.stats.duration;
        }
        self.stats.streaming = since(self.first_success);
    }
}
