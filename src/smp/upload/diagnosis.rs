//! Why an upload took as long as it did: what limits it, the one setting that would lift it, and by how much. A pure
//! function of what was measured; it guesses nothing: where too little was measured it says so.
//!
//! A chunk's round trip is its bytes on the wire, the answer's, what any request takes (the *quick trip*: latency, and the
//! server's work on a request that does nothing), and the handling of its data. With `n` chunks in flight answers come
//! every `round trip ÷ n`, but no faster than the slowest part that takes one at a time: the wire, or the server, which
//! handles a message and sends its answer before it looks at the next (Zephyr `smp_process_request_packet`).

use super::pace::Stretch;
use super::types::UploadStats;
use crate::smp::HEADER_LEN;
use crate::smp::chunk::Layout;

mod model;
mod types;

use model::Model;
pub use types::{Bottleneck, Change, Conditions, Diagnosis, MessageBound, Remedy, WindowBound};

/// Answers that it takes to tell a pace.
const ENOUGH: u32 = 8;
/// The wire limits where it is busy for this share of the time.
const BUSY: f64 = 0.9;
/// Answers come so much later than the round trip alone would have them, where something takes one at a time. More is
/// asked for where as many as possible were in flight, as the window itself has not judged there.
const QUEUED: f64 = 1.05;
const QUEUED_AT_LIMIT: f64 = 1.15;
/// A change is worth telling where it is faster by this share.
const GAIN: f64 = 1.1;
/// A smaller value does where it is worth so much of the largest.
const NEARLY: f64 = 0.95;
/// Erasing, or losses, are what limits from this share of the time on.
const ERASE_SHARE: f64 = 0.5;
const LOSS_SHARE: f64 = 0.3;
/// Bytes of the answer to a chunk: header, map, `off` and an offset of up to four bytes (RFC 8949, 3).
const ANSWER_LEN: usize = HEADER_LEN + 1 + 4 + 5;
/// Buffer sizes to propose, in bytes: Zephyr's default for UDP is the largest.
const BUFFER_SIZES: [usize; 3] = [512, 1024, 2048];
/// Most buffers to propose: twice Zephyr's default.
const MOST_BUFFERS: usize = 8;
/// The baud rate to propose: the fastest of the usual ones that USB bridges and microcontrollers have in common.
const FAST_BAUD: u32 = 921_600;
/// Bits on the wire for one byte: start, eight data, stop.
const BITS_PER_BYTE: f64 = 10.0;

/// Says why the upload took as long as it did.
#[must_use]
pub fn diagnose(stats: &UploadStats, conditions: &Conditions<'_>) -> Diagnosis {
    let mut diagnosis = Diagnosis {
        streaming_bytes_per_s: ratio(to_f64(stats.streamed_bytes), stats.streaming.as_secs_f64()),
        chunk_bytes: conditions.chunk(conditions.max_message).0,
        in_flight: stats.window,
        ..Diagnosis::default()
    };
    let Some(seen) = Seen::new(stats, conditions) else { return diagnosis };
    seen.describe(&mut diagnosis);
    let (limited_by, remedy) = seen.judge();
    diagnosis.limited_by = limited_by;
    diagnosis.remedy = remedy;
    diagnosis
}

impl Conditions<'_> {
    /// Bytes of the file in a full message of the middle, and its bytes on the wire.
    fn chunk(&self, max_message: usize) -> (usize, usize) {
        let layout = Layout { max_message, image_number: 0, len: usize::MAX, sha: false, upgrade: false };
        let off = (self.file_len / 2).max(1);
        let data = layout.data_len(off);
        (data, (self.wire_len)(layout.message_len(off, data)))
    }
}

/// What was measured, as far as it is enough.
#[derive(Debug)]
struct Seen<'a> {
    stats: &'a UploadStats,
    conditions: &'a Conditions<'a>,
    /// Where most of the time was spent.
    steady: Stretch,
    model: Model,
    /// The speed of the wire, where it is what the answers' pace allows.
    wire: Option<f64>,
    /// Answers came no faster, however many chunks were in flight.
    queued: bool,
    /// The round trip was measured, not only what it is at most.
    trip_known: bool,
    /// Answers came so many times slower than the model has them: gaps on the wire, a busy machine.
    slower: f64,
    /// Seconds of the streaming that remain.
    rest: f64,
}

impl<'a> Seen<'a> {
    fn new(stats: &'a UploadStats, conditions: &'a Conditions<'a>) -> Option<Self> {
        let enough = |stretch: &&Stretch| stretch.answers >= ENOUGH && !stretch.time.is_zero();
        let told = || stats.pace.stretches.iter().filter(enough);
        let steady = *told().max_by_key(|stretch| stretch.time)?;
        let deep = *told().max_by_key(|stretch| stretch.in_flight)?;
        // With n in flight, n intervals are a round trip and what a chunk waits for others.
        let alone = stats.pace.round_trip();
        let trip = told()
            .map(|stretch| interval(stretch) * to_f64(stretch.in_flight))
            .fold(alone.map_or(f64::INFINITY, |trip| trip.as_secs_f64()), f64::min);
        let (chunk, wire_len) = conditions.chunk(conditions.max_message);
        let seconds = |wire: f64, len: usize| to_f64(len) / wire;
        // Faster than the wire: then it is none.
        let holds = |wire: &f64| seconds(*wire, wire_len) <= interval(&steady) * QUEUED;
        let wire = conditions.wire_bytes_per_s.filter(|wire| *wire > 0.0).filter(holds);
        let on_wire = |len| wire.map_or(0.0, |wire| seconds(wire, len));
        let (request, answer) = (on_wire(wire_len), on_wire((conditions.wire_len)(ANSWER_LEN)));
        let besides = (trip - request - answer).max(0.0);
        let quick = conditions.quick_trip?.as_secs_f64().min(besides);
        let handling = besides - quick;
        // So many times later than the round trip alone would have them.
        let late = interval(&deep) * to_f64(deep.in_flight) / trip;
        let margin = if deep.in_flight < conditions.window { QUEUED } else { QUEUED_AT_LIMIT };
        let queued = deep.in_flight > 1 && late > margin;
        // Then the server's own time for a message is known too, where it is not the wire that is waited for.
        let served = deep.in_flight > 1 && late > QUEUED && request < BUSY * interval(&steady);
        let serial = if served { (interval(&deep) - handling - answer).max(0.0) } else { 0.0 };
        let data = to_f64(steady.bytes) / f64::from(steady.answers);
        if chunk == 0 || data <= 0.0 {
            return None;
        }
        let window = to_f64(steady.in_flight.max(1));
        let model = Model { data, request, answer, quick, handling, serial, window };
        let slower = interval(&steady) / model.interval();
        let explained = slower * model.time(to_f64(stats.streamed_bytes) / data);
        let rest = (stats.streaming.as_secs_f64() - explained).max(0.0);
        let trip_known = alone.is_some();
        Some(Self { stats, conditions, steady, model, wire, queued, trip_known, slower, rest })
    }

    fn describe(&self, diagnosis: &mut Diagnosis) {
        let Self { model, .. } = self;
        diagnosis.in_flight = self.steady.in_flight;
        diagnosis.erase_s = Some(self.erase());
        diagnosis.wire_s = self.wire.map(|_| model.request);
        if !self.trip_known {
            return;
        }
        diagnosis.round_trip_s = Some(model.trip());
        diagnosis.latency_s = Some((model.quick - model.serial).max(0.0));
        diagnosis.device_s = self.wire.map(|_| model.serial + model.handling);
    }

    fn erase(&self) -> f64 {
        (self.stats.erase.as_secs_f64() - self.model.trip()).max(0.0)
    }

    fn judge(&self) -> (Bottleneck, Option<Remedy>) {
        let (streaming, whole) = (self.stats.streaming.as_secs_f64(), self.stats.duration.as_secs_f64());
        let lossy = self.stats.resent_chunks > self.stats.resent_first;
        let chunks = to_f64(self.stats.streamed_bytes) / self.model.data;
        if lossy && streaming - chunks * interval(&self.steady) >= LOSS_SHARE * streaming {
            return (Bottleneck::Loss, None);
        }
        if self.erase() >= ERASE_SHARE * whole {
            return (Bottleneck::Erase, self.worth(Change::EraseProgressively, self.erasing_beside()));
        }
        let model = self.model;
        if model.request >= BUSY * interval(&self.steady) {
            return (Bottleneck::BaudRate, self.faster_wire());
        }
        if !self.trip_known {
            return (Bottleneck::Unknown, None);
        }
        let full = self.steady.in_flight >= self.conditions.window;
        let busy = if self.wire.is_some() { Bottleneck::Device } else { Bottleneck::LinkOrDevice };
        if self.queued {
            // Less of what any message takes, where messages are longer.
            return (busy, self.longer_messages().map(|(_, remedy)| remedy));
        }
        if !full {
            return (if lossy { Bottleneck::Loss } else { Bottleneck::Unknown }, None);
        }
        let rate = |remedy: &Remedy| remedy.bytes_per_s.unwrap_or(f64::INFINITY);
        let more = [self.more_in_flight(), self.longer_messages()].into_iter().flatten();
        // Of equals the first one, which needs less memory.
        let best = more.reduce(|a, b| if rate(&b.1) > rate(&a.1) { b } else { a });
        if let Some((limited_by, remedy)) = best {
            return (limited_by, Some(remedy));
        }
        let most = model.request.max(model.quick).max(model.handling);
        if model.quick >= most {
            (Bottleneck::Latency, self.shorter_interval())
        } else if model.request >= most {
            (Bottleneck::BaudRate, self.faster_wire())
        } else {
            (busy, None)
        }
    }

    /// Bytes per second over the whole upload with another way for its chunks.
    fn rate(&self, model: &Model) -> f64 {
        let chunks = to_f64(self.stats.streamed_bytes) / model.data;
        let first = self.stats.duration.saturating_sub(self.stats.streaming).as_secs_f64();
        let first = (first - self.model.trip()).max(0.0) + model.trip();
        ratio(to_f64(self.stats.bytes), first + self.rest + self.slower * model.time(chunks)).unwrap_or(0.0)
    }

    fn with_message(&self, max_message: usize) -> Model {
        let (chunk, wire_len) = self.conditions.chunk(max_message);
        let data = to_f64(chunk).max(1.0);
        let request = self.wire.map_or(0.0, |wire| to_f64(wire_len) / wire);
        Model { data, request, handling: self.model.handling * data / self.model.data, ..self.model }
    }

    /// A change, where it is worth telling.
    fn worth(&self, change: Change, bytes_per_s: f64) -> Option<Remedy> {
        let now = ratio(to_f64(self.stats.bytes), self.stats.duration.as_secs_f64())?;
        (bytes_per_s >= now * GAIN).then_some(Remedy { change, bytes_per_s: Some(bytes_per_s) })
    }

    /// The least of several values that is worth about as much as the best.
    fn least(&self, tries: impl Iterator<Item = (Change, Model)>) -> Option<Remedy> {
        let tries: Vec<_> = tries.map(|(change, model)| (change, self.rate(&model))).collect();
        let best = tries.iter().map(|(_, rate)| *rate).fold(0.0, f64::max);
        let (change, rate) = tries.into_iter().find(|(_, rate)| *rate >= best * NEARLY)?;
        self.worth(change, rate)
    }

    fn more_in_flight(&self) -> Option<(Bottleneck, Remedy)> {
        let window = self.conditions.window;
        match self.conditions.window_bound {
            WindowBound::Buffers { most } => {
                let tries = (window + 2..=MOST_BUFFERS.min(most.saturating_add(1)))
                    .map(|count| (Change::BufferCount(count), self.model.with_window(count - 1)));
                Some((Bottleneck::BufferCount, self.least(tries)?))
            }
            WindowBound::Plan { most } => {
                let rate = self.rate(&self.model.with_window(most));
                Some((Bottleneck::Window, self.worth(Change::PlanWindow, rate)?))
            }
            WindowBound::Untold => {
                // How many there are is not known, but that waiting for each answer costs is.
                self.worth(Change::TellBuffers, self.rate(&self.model.with_window(MOST_BUFFERS - 1)))?;
                let remedy = Remedy { change: Change::TellBuffers, bytes_per_s: None };
                Some((Bottleneck::BufferCount, remedy))
            }
        }
    }

    fn longer_messages(&self) -> Option<(Bottleneck, Remedy)> {
        let window = self.conditions.window;
        let now = self.conditions.max_message;
        let with = |message: usize| self.with_message(message).with_window(window);
        match self.conditions.message_bound {
            MessageBound::Buffers { overhead, most } => {
                let longer = |size: &usize| size.saturating_sub(overhead) > now && now < most;
                let tries = BUFFER_SIZES
                    .into_iter()
                    .filter(longer)
                    .map(|size| (Change::BufferSize(size), with(size.saturating_sub(overhead).min(most))));
                Some((Bottleneck::BufferSize, self.least(tries)?))
            }
            MessageBound::Plan { most } => {
                Some((Bottleneck::BufferSize, self.worth(Change::PlanBuffer, self.rate(&with(most)))?))
            }
            MessageBound::Write { most } => {
                Some((Bottleneck::Mtu, self.worth(Change::Reassembly, self.rate(&with(most)))?))
            }
            MessageBound::Untold | MessageBound::Link => None,
        }
    }

    fn faster_wire(&self) -> Option<Remedy> {
        let baud = self.wire? * BITS_PER_BYTE;
        let model = self.model.with_wire(f64::from(FAST_BAUD) / baud).with_window(self.conditions.window);
        self.worth(Change::Baud(FAST_BAUD), self.rate(&model))
    }

    /// On a radio the round trip is a matter of the connection interval; elsewhere nothing is known of it.
    fn shorter_interval(&self) -> Option<Remedy> {
        self.conditions.radio.then_some(Remedy { change: Change::ConnectionInterval, bytes_per_s: None })
    }

    /// Bytes per second if the slot were erased page by page while chunks come in: the erase costs what the server had no
    /// time for between chunks. Nothing is won where one chunk is in flight, as the link waits for the server anyway.
    fn erasing_beside(&self) -> f64 {
        let chunks = to_f64(self.stats.streamed_bytes) / self.model.data;
        let idle = chunks * (interval(&self.steady) - self.model.service()).max(0.0);
        let idle = if self.steady.in_flight > 1 { idle } else { 0.0 };
        let whole = self.stats.duration.as_secs_f64() - self.erase().min(idle);
        ratio(to_f64(self.stats.bytes), whole).unwrap_or(0.0)
    }
}

/// Seconds from one answer to the next.
fn interval(stretch: &Stretch) -> f64 {
    stretch.time.as_secs_f64() / f64::from(stretch.answers.max(1))
}

fn ratio(bytes: f64, seconds: f64) -> Option<f64> {
    (seconds > 0.0).then(|| bytes / seconds)
}

/// Exact for everything that a file can have.
fn to_f64(bytes: usize) -> f64 {
    u32::try_from(bytes).map_or(f64::INFINITY, f64::from)
}

#[cfg(test)]
mod tests;
