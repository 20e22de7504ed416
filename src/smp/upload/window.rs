//! How many chunks are in flight at once: grows while answers come in order and it pays, falls back on trouble. Decides a
//! number; what is sent and what trouble is are the upload's.
//!
//! A larger window pays in two ways: it hides the time between a chunk's last byte and its answer, and a lost chunk shows
//! in the answer to the next instead of in silence. It costs where a server drops what comes while it writes. So each size
//! is measured: the interval between answers tells whether the wire, or the server, is busy all the time.

use std::time::Duration;

use crate::smp::Time;

/// Answers in order before the window grows on a link that is new.
const EAGER: u32 = 1;
/// The same after trouble.
const CAREFUL: u32 = 12;
/// The same where it is not likely to pay.
const UNLIKELY: u32 = 64;
/// The same after losses that the window is to blame for. Finding out that it does not hold costs about two chunks.
const BLAMED: u32 = 128;
/// One loss in so many chunks is the window's fault for certain, if it is at all.
const CERTAIN_SHARE: u32 = 4;
/// So are this many losses.
const CERTAIN_LOSSES: u32 = 3;
/// The most, however often there was trouble.
const PATIENT: u32 = 1024;
/// How many times more after trouble that the window is to blame for.
const BACK_OFF: u32 = 16;
/// Chunks over which losses are remembered.
const MEMORY: u32 = 256;
/// Answers after which a size that does not pay is left.
const LONG: u32 = 16;
/// A larger window is worth its risk where answers come faster by this share, in percent.
const GAIN: u32 = 1;
/// Round trips vary: so much longer than alone, in percent, before one is said to have waited in a queue.
const QUEUE: u32 = 5;

/// What a link has shown to hold. Outlives an upload, for the next one over the same link.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WindowMemory {
    size: usize,
    patience: u32,
    alone: Losses,
    together: Losses,
    ceiling: Option<usize>,
}

/// Chunks and losses among them, of late.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Losses {
    chunks: u32,
    lost: u32,
}

impl Losses {
    fn add(&mut self, chunks: u32, lost: u32) {
        (self.chunks, self.lost) = (self.chunks + chunks, self.lost + lost);
        if self.chunks + self.lost > MEMORY {
            (self.chunks, self.lost) = (self.chunks / 2, self.lost / 2);
        }
    }

    /// Losses to expect in so many chunks, in thousandths, where links lose one chunk in fifty before anything is known.
    fn expected(self, chunks: u32) -> u64 {
        let (lost, of) = (u64::from(self.lost) * 1000 + 200, u64::from(self.chunks + self.lost) + 10);
        u64::from(chunks) * lost / of
    }
}

/// Intervals between answers at one size.
#[derive(Debug, Clone, Copy, Default)]
struct Stretch {
    /// Answers that still belong to another size.
    skip: u32,
    /// The answer before the first one that counts.
    since: Option<Time>,
    answers: u32,
}

impl Stretch {
    /// After the window changed: the chunks in flight at that moment are answered at another pace.
    fn after(size: usize) -> Self {
        Self { skip: count(size.saturating_sub(1)), ..Self::default() }
    }
}

/// The window of one upload.
#[derive(Debug)]
pub(super) struct Window {
    /// Most chunks in flight whatever is measured.
    limit: usize,
    /// Most that the server had memory for, where it said that it had none.
    ceiling: Option<usize>,
    /// Measures what pays; otherwise `limit` is taken at once.
    adaptive: bool,
    size: usize,
    /// What it was before it grew: that held.
    held: usize,
    /// Answers in order at this size, without trouble.
    good: u32,
    /// How many of them it takes to grow, after losses.
    patience: u32,
    /// The same where it did not pay.
    doubt: u32,
    stretch: Stretch,
    /// With one chunk in flight.
    losses_alone: Losses,
    /// With more.
    losses_together: Losses,
    /// Time from one answer to the next with a window of one: a round trip.
    alone: Option<Duration>,
    /// The same at the size below this one, where it was measured.
    below: Option<Duration>,
    /// The same at the size above this one, which did not seem to pay.
    above: Option<Duration>,
}

impl Window {
    pub(super) fn new(limit: usize, adaptive: bool, memory: Option<WindowMemory>) -> Self {
        let limit = limit.max(1);
        let known = memory.filter(|_| adaptive);
        let ceiling = known.and_then(|known| known.ceiling);
        let limit = ceiling.map_or(limit, |ceiling| limit.min(ceiling.max(1)));
        let size = known.map_or(if adaptive { 1 } else { limit }, |known| known.size.clamp(1, limit));
        Self {
            limit,
            ceiling,
            adaptive,
            size,
            held: size.saturating_sub(1).max(1),
            good: 0,
            patience: known.map_or(EAGER, |known| known.patience),
            doubt: 0,
            stretch: Stretch::default(),
            losses_alone: known.map_or_else(Losses::default, |known| known.alone),
            losses_together: known.map_or_else(Losses::default, |known| known.together),
            alone: None,
            below: None,
            above: None,
        }
    }

    /// What to start with next time.
    pub(super) fn memory(&self) -> WindowMemory {
        WindowMemory {
            size: self.size,
            patience: self.patience,
            alone: self.losses_alone,
            together: self.losses_together,
            ceiling: self.ceiling,
        }
    }

    /// Chunks that may be in flight.
    pub(super) fn size(&self) -> usize {
        self.size
    }

    /// From now on answers are measured: one came that has nothing to do with the size.
    pub(super) fn begin(&mut self, now: Time) {
        self.stretch = Stretch { since: Some(now), ..Stretch::default() };
    }

    /// A full chunk was answered as expected.
    pub(super) fn answered(&mut self, now: Time) {
        self.good = self.good.saturating_add(1);
        self.losses().add(1, 0);
        if !self.adaptive {
            if self.size < self.limit && self.good >= self.needed() {
                self.resize(self.size + 1);
            }
            return;
        }
        if let Some(left) = self.stretch.skip.checked_sub(1) {
            self.stretch.skip = left;
            if left == 0 {
                self.stretch.since = Some(now);
            }
            return;
        }
        let Some(since) = self.stretch.since else {
            self.stretch.since = Some(now);
            return;
        };
        self.stretch.answers += 1;
        if self.stretch.answers == 1 && self.doubles(now.saturating_sub(since)) {
            return;
        }
        if self.stretch.answers >= count(self.size) {
            self.judge(now, now.saturating_sub(since) / self.stretch.answers);
        }
    }

    /// The first two that were in flight together were answered this `gap` apart, which is what the slowest part of the way
    /// takes for one. On a link without trouble that shows how many fit the round trip, before a whole one is over: up to
    /// twice as many at once.
    fn doubles(&mut self, gap: Duration) -> bool {
        let Some(alone) = self.alone.filter(|_| self.size == 2 && self.below.is_some()) else { return false };
        let fit = (3..=self.limit.min(4)).rev().find(|size| gap.saturating_mul(count(*size)) <= alone);
        let Some(size) = fit.filter(|_| self.patience == EAGER && self.doubt == 0) else { return false };
        self.grow(size);
        self.below = Some(alone / 2);
        true
    }

    /// Answers came every `interval`: grow, stay, or go back.
    fn judge(&mut self, now: Time, interval: Duration) {
        if let Some(below) = self.below {
            if !is_better(interval, below) {
                if self.stretch.answers >= LONG {
                    // It does not pay.
                    self.doubt = self.doubt.saturating_mul(2).clamp(UNLIKELY, PATIENT);
                    self.resize(self.smaller());
                    self.above = Some(interval);
                }
                return;
            }
            self.below = None;
            // What would do as well, where it grew by more than one.
            let enough = self.alone.map_or(self.size, |alone| quotient(alone, interval));
            if self.held < enough && enough < self.size {
                return self.resize(enough);
            }
        }
        if let Some(above) = self.above {
            if self.stretch.answers < LONG {
                return;
            }
            // What this size was said to do before may have been a lucky moment of a busy machine.
            self.above = None;
            if is_better(above, interval) {
                self.doubt = 0;
                self.good = self.good.max(self.needed());
            }
        }
        if self.size == 1 {
            self.alone = Some(interval);
        }
        // Where chunks wait for each other already, more of them only wait longer; but measurements err, so seldom.
        let waits = self.size > 1
            && self.alone.is_some_and(|alone| {
                interval.saturating_mul(count(self.size)).saturating_mul(100)
                    > alone.saturating_mul(100 + QUEUE)
            });
        let needed = match (waits, self.is_lossy()) {
            (false, _) => Some(self.needed()),
            (true, false) => Some(self.needed().max(UNLIKELY)),
            // There each more in flight costs: all that came after a loss was sent in vain.
            (true, true) => None,
        };
        if self.size < self.limit && needed.is_some_and(|needed| self.good >= needed) {
            self.grow(self.size + 1);
            self.below = Some(interval);
        } else {
            self.begin(now);
        }
    }

    /// A chunk was lost, or its answer. Fewer at once, where it looks as if the window were to blame: more is lost with
    /// several chunks in flight than with one.
    pub(super) fn lost(&mut self) {
        let single = self.size == 1;
        self.losses().add(0, 1);
        if single {
            // With nothing else in flight the link alone is to blame. What came before still counts.
            self.stretch = Stretch::default();
        } else if self.is_to_blame() {
            let Losses { chunks, lost } = self.losses_together;
            // One loss among many may be bad luck; one at once, or one after the other, is not.
            let certain = lost * CERTAIN_SHARE >= chunks + lost || lost >= CERTAIN_LOSSES;
            self.patience = if certain {
                self.patience.saturating_mul(BACK_OFF).clamp(BLAMED, PATIENT)
            } else {
                self.patience.max(CAREFUL)
            };
            self.resize(if certain { self.smaller() } else { self.size - 1 });
        } else {
            self.patience = self.patience.min(CAREFUL);
            self.stretch = Stretch::after(self.size);
        }
    }

    fn grow(&mut self, size: usize) {
        self.held = self.size;
        self.resize(size);
    }

    /// What it falls back to where a size does not hold, or does not pay.
    fn smaller(&self) -> usize {
        self.held.min(self.size.saturating_sub(1)).max(1)
    }

    /// Whether anything was lost of late.
    fn is_lossy(&self) -> bool {
        self.losses_alone.lost + self.losses_together.lost > 0
    }

    /// Whether more is lost with several chunks in flight than with one.
    fn is_to_blame(&self) -> bool {
        let Losses { chunks, lost } = self.losses_together;
        u64::from(lost) * 1000 > 2 * self.losses_alone.expected(chunks + lost)
    }

    /// Answers in order that it takes to grow. Where the link has shown meanwhile that it loses as much with one chunk in
    /// flight, a verdict on the window does not hold.
    fn needed(&self) -> u32 {
        let patience = if self.is_to_blame() { self.patience } else { self.patience.min(CAREFUL) };
        patience.max(self.doubt)
    }

    /// The server is out of buffers: that many never again.
    pub(super) fn no_memory(&mut self) {
        let held = self.size.saturating_sub(1).max(1);
        self.limit = self.limit.min(held);
        self.ceiling = Some(self.limit);
        self.resize(held);
    }

    fn losses(&mut self) -> &mut Losses {
        if self.size == 1 { &mut self.losses_alone } else { &mut self.losses_together }
    }

    fn resize(&mut self, size: usize) {
        if size <= self.size {
            self.below = None;
        }
        self.good = 0;
        self.above = None;
        self.stretch = Stretch::after(size);
        self.size = size;
    }
}

/// Whether answers every `interval` are worth more chunks in flight than answers every `before`.
fn is_better(interval: Duration, before: Duration) -> bool {
    interval.saturating_mul(100 + GAIN) <= before.saturating_mul(100)
}

/// How often `part` goes into `whole`, rounded up.
fn quotient(whole: Duration, part: Duration) -> usize {
    let times = whole.as_nanos().div_ceil(part.as_nanos().max(1));
    usize::try_from(times).unwrap_or(usize::MAX)
}

fn count(size: usize) -> u32 {
    u32::try_from(size).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests;
