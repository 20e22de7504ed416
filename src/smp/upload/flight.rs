//! What is on its way: chunks that are not answered, and messages that may still lie in the server's buffers. Bookkeeping
//! only.
//!
//! A server handles the messages of one link in the order in which they came, and answers each. So an answer tells that
//! everything sent before has left its buffers, was it answered or lost. Of what was not, nothing is known until the time
//! for its answer is over.

use std::time::Duration;

use super::types::ChunkId;
use crate::smp::Time;

/// A chunk that was sent, once, and is not answered. What is sent again is another one.
#[derive(Debug, Clone)]
pub(super) struct InFlight {
    pub(super) id: ChunkId,
    pub(super) start: usize,
    pub(super) end: usize,
    /// What the server was known to have when it was sent.
    pub(super) acked: usize,
    /// When its bytes were sent first.
    pub(super) first_sent: Time,
    /// When it was sent.
    pub(super) last_sent: Time,
    /// Sendings of its bytes until one was answered, this one included.
    pub(super) sends: u32,
    /// Sent again because the proven time was over.
    pub(super) regular: u32,
    /// Sent again, or looked for in the image list, because a measured time was over.
    pub(super) early: u32,
    /// Its bytes are sent in another chunk: its answer matters only for telling that it left the server's buffers, unless
    /// it is an earlier sending of the very chunk that is waited for.
    pub(super) void: bool,
    /// Nothing else was on its way when it was sent.
    pub(super) alone: bool,
}

impl InFlight {
    /// Nothing was in the server's buffers when it was sent, or only what met silence.
    pub(super) fn waits_for_no_other(&self) -> bool {
        self.alone || self.sends > 1
    }
}

/// A message that may lie in the server's buffers.
#[derive(Debug)]
struct Sending {
    /// `None` for a look at the image list.
    id: Option<ChunkId>,
    sent: Time,
    /// The proven time for its answer, once it is its turn.
    within: Duration,
    /// Not there any more from then on, whatever comes.
    until: Time,
}

/// Everything that is on its way.
#[derive(Debug, Default)]
pub(super) struct Flights {
    /// In the order of their first sending.
    pub(super) chunks: Vec<InFlight>,
    /// In the order of sending.
    sendings: Vec<Sending>,
}

impl Flights {
    /// A message is sent that is answered `within` this time once it is its turn; `None` is a look at the image list.
    pub(super) fn sent(&mut self, id: Option<ChunkId>, now: Time, within: Duration) {
        self.sendings.push(Sending { id, sent: now, within, until: Time::ZERO });
        let turn = self.sendings.iter().map(|sending| sending.until).max().unwrap_or_default().max(now);
        if let Some(sending) = self.sendings.last_mut() {
            sending.until = turn.saturating_add(within);
        }
    }

    /// A message was answered: it, and everything before, is out of the server's buffers. What came after has its turn now,
    /// one after the other, whether their answers get through or not.
    pub(super) fn answered(&mut self, id: Option<ChunkId>, now: Time) {
        if let Some(first) = self.sendings.iter().position(|sending| sending.id == id) {
            self.sendings.drain(..=first);
        }
        let mut turn = now;
        for sending in &mut self.sendings {
            sending.until = turn.max(sending.sent).saturating_add(sending.within);
            turn = sending.until;
        }
    }

    /// Forgets what is over by now. Gives the chunks of no use of which no answer can be expected any more. Earlier sendings
    /// of what is waited for are of use however late they are answered.
    pub(super) fn expire(&mut self, now: Time) -> Vec<ChunkId> {
        self.sendings.retain(|sending| sending.until > now);
        let wanted = self.oldest().filter(|oldest| oldest.sends > 1).map(|oldest| oldest.start);
        let (lost, open): (Vec<_>, Vec<_>) = self.chunks.drain(..).partition(|chunk| {
            chunk.void && Some(chunk.start) != wanted && !may_be_answered(&self.sendings, chunk.id)
        });
        self.chunks = open;
        lost.into_iter().map(|chunk| chunk.id).collect()
    }

    /// Whether this is an earlier sending of what is waited for.
    pub(super) fn is_earlier_sending(&self, chunk: &InFlight) -> bool {
        chunk.void && self.oldest().is_some_and(|oldest| oldest.sends > 1 && oldest.start == chunk.start)
    }

    /// Whether the server may have this chunk in its buffers; otherwise it, or its answer, was lost.
    pub(super) fn may_be_answered(&self, id: ChunkId) -> bool {
        may_be_answered(&self.sendings, id)
    }

    /// Messages that may lie in the server's buffers.
    pub(super) fn sendings(&self) -> usize {
        self.sendings.len()
    }

    /// Chunks in flight, but for earlier sendings of others.
    pub(super) fn ahead(&self) -> usize {
        self.chunks.iter().filter(|chunk| !self.is_earlier_sending(chunk)).count()
    }

    /// When the next of them is over.
    pub(super) fn next_expiry(&self) -> Option<Time> {
        self.sendings.iter().map(|sending| sending.until).min()
    }

    /// The oldest chunk whose answer matters.
    pub(super) fn oldest(&self) -> Option<&InFlight> {
        self.chunks.iter().find(|chunk| !chunk.void)
    }

    /// Chunks that the window has to count, and when one of no use is overdue next: it counts only until then.
    pub(super) fn open(&self, now: Time, overdue: Duration) -> (usize, Option<Time>) {
        let ends = |chunk: &InFlight| chunk.last_sent.saturating_add(overdue);
        let count = self.chunks.iter().filter(|chunk| !chunk.void || ends(chunk) > now).count();
        let next = self.chunks.iter().filter(|chunk| chunk.void).map(ends).filter(|end| *end > now).min();
        (count, next)
    }

    /// Whether nothing is in flight whose answer matters.
    pub(super) fn is_idle(&self) -> bool {
        self.oldest().is_none()
    }

    pub(super) fn get_mut(&mut self, id: ChunkId) -> Option<&mut InFlight> {
        self.chunks.iter_mut().find(|chunk| chunk.id == id)
    }

    pub(super) fn remove(&mut self, id: ChunkId) -> Option<InFlight> {
        let index = self.chunks.iter().position(|chunk| chunk.id == id)?;
        Some(self.chunks.remove(index))
    }

    /// Everything is sent in other chunks from now on.
    pub(super) fn void_all(&mut self) {
        self.chunks.iter_mut().for_each(|chunk| chunk.void = true);
    }
}

fn may_be_answered(sendings: &[Sending], id: ChunkId) -> bool {
    sendings.iter().any(|sending| sending.id == Some(id))
}
