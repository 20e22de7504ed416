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
        Self {
            limit,
            ceiling,
            adaptive,
            size: known.map_or(if adaptive { 1 } else { limit }, |known| known.size.clamp(1, limit)),
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
        if self.stretch.answers >= count(self.size) {
            self.judge(now, now.saturating_sub(since) / self.stretch.answers);
        }
    }

    /// Answers came every `interval`: grow, stay, or go back.
    fn judge(&mut self, now: Time, interval: Duration) {
        if let Some(below) = self.below {
            if !is_better(interval, below) {
                if self.stretch.answers >= LONG {
                    // It does not pay.
                    self.doubt = self.doubt.saturating_mul(2).clamp(UNLIKELY, PATIENT);
                    self.resize(self.size - 1);
                    self.above = Some(interval);
                }
                return;
            }
            self.below = None;
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
        let needed = if waits { self.needed().max(UNLIKELY) } else { self.needed() };
        if self.size < self.limit && self.good >= needed {
            self.below = Some(interval);
            self.resize(self.size + 1);
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
            self.resize(self.size - 1);
        } else {
            self.patience = self.patience.min(CAREFUL);
            self.stretch = Stretch::after(self.size);
        }
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

fn count(size: usize) -> u32 {
    u32::try_from(size).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A link with this many milliseconds between answers at the window's size.
    struct Link<F: Fn(usize) -> u64> {
        now: Time,
        interval: F,
    }

    impl<F: Fn(usize) -> u64> Link<F> {
        fn new(interval: F) -> Self {
            Self { now: Duration::ZERO, interval }
        }

        /// So many answers in order; gives the largest size among them.
        fn answers(&mut self, window: &mut Window, times: u32) -> usize {
            let mut most = window.size();
            for _ in 0..times {
                self.now += Duration::from_millis((self.interval)(window.size()));
                window.answered(self.now);
                most = most.max(window.size());
            }
            most
        }
    }

    fn new_window(limit: usize) -> Window {
        let mut window = Window::new(limit, true, None);
        window.begin(Duration::ZERO);
        assert_eq!(window.size(), 1);
        window
    }

    #[test]
    fn grows_at_once_where_the_link_waits() {
        let mut window = new_window(4);
        let mut link = Link::new(|size| 120 / size as u64);
        link.answers(&mut window, 1);
        assert_eq!(window.size(), 2, "one answer is enough");
        link.answers(&mut window, 12);
        assert_eq!(window.size(), 4);
        assert_eq!(link.answers(&mut window, 1000), 4, "never beyond the limit");
    }

    #[test]
    fn stays_where_the_wire_is_full() {
        let mut window = new_window(8);
        let mut link = Link::new(|size| if size == 1 { 100 } else { 93 });
        assert_eq!(link.answers(&mut window, UNLIKELY - 10), 2, "3 cannot be faster");
        // Tried all the same, seldom, and left again.
        assert_eq!(link.answers(&mut window, 2 * UNLIKELY), 3);
        link.answers(&mut window, 2 * LONG);
        assert_eq!(window.size(), 2);
    }

    #[test]
    fn what_does_not_pay_is_left_and_seldom_tried_again() {
        let mut window = new_window(4);
        let mut link = Link::new(|_| 100);
        assert_eq!(link.answers(&mut window, LONG + 2), 2);
        assert_eq!(window.size(), 1);
        assert_eq!(link.answers(&mut window, UNLIKELY - 2), 1);
        assert_eq!(link.answers(&mut window, 4), 2);
    }

    #[test]
    fn lucky_moment_does_not_stand_against_many_answers() {
        let mut window = new_window(2);
        // The only answer to one chunk alone came in 90 ms. They usually take 100, and 93 with two in flight.
        Link::new(|_| 90).answers(&mut window, 1);
        let mut link =
            Link { now: Duration::from_millis(90), interval: |size| if size == 1 { 100 } else { 93 } };
        link.answers(&mut window, LONG + 2);
        assert_eq!(window.size(), 1);
        link.answers(&mut window, LONG + 2);
        assert_eq!(window.size(), 2);
        link.answers(&mut window, 500);
        assert_eq!(window.size(), 2);
    }

    #[test]
    fn window_that_loses_at_once_is_not_tried_again_soon() {
        let mut window = new_window(4);
        let mut link = Link::new(|size| 100 / size as u64);
        let mut tries = 0;
        for _ in 0..1000 {
            link.answers(&mut window, 1);
            if window.size() > 1 {
                tries += 1;
                link.answers(&mut window, 1);
                window.lost();
                assert_eq!(window.size(), 1);
            }
        }
        assert_eq!(tries, 2, "at the first and once more within 1000");
    }

    #[test]
    fn link_that_loses_as_much_with_one_in_flight_keeps_its_window() {
        let mut window = new_window(3);
        let mut link = Link::new(|size| 120 / size as u64);
        let mut sizes = 0;
        for _ in 0..100 {
            link.answers(&mut window, 10);
            window.lost();
            sizes += window.size();
        }
        assert!(sizes > 250, "{sizes}: nearly always at 3");
    }

    #[test]
    fn memory_of_the_server_is_a_limit_for_good_and_its_buffers_are_not() {
        let mut window = new_window(4);
        let mut link = Link::new(|size| 120 / size as u64);
        link.answers(&mut window, 50);
        window.no_memory();
        assert_eq!(link.answers(&mut window, 2000), 3);
        let mut next = Window::new(4, true, Some(window.memory()));
        assert_eq!((next.size(), link.answers(&mut next, 2000)), (3, 3));
        let mut few = Window::new(1, true, Some(window.memory()));
        assert_eq!(link.answers(&mut few, 100), 1);
        // One buffer was not for want of memory: another firmware may have more.
        let mut next = Window::new(2, true, Some(Window::new(1, true, None).memory()));
        assert_eq!(link.answers(&mut next, 100), 2);
    }

    #[test]
    fn fixed_window_is_there_at_once_and_falls_back_too() {
        let mut window = Window::new(3, false, None);
        assert_eq!(window.size(), 3);
        window.lost();
        assert_eq!(window.size(), 2);
        let mut link = Link::new(|_| 100);
        assert_eq!(link.answers(&mut window, BLAMED), 3, "whether it pays is not asked");
    }
}
