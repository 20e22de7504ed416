//! The diagnosis against made-up worlds, whose uploads are computed by the laws that it assumes: it must name what was put
//! in, and what it foretells must be what the changed world gives.

use std::time::Duration;

use proptest::prelude::*;

use super::*;
use crate::smp::console;

/// What is said to be waited for by less than [`QUEUED`] is not said, and so makes the rest seem that much slower.
const SLIGHTLY: f64 = QUEUED * 1.01;

/// A link and a server.
#[derive(Debug, Clone, Copy)]
struct World {
    /// Bytes per second.
    wire: f64,
    /// The wire's speed is told.
    wire_known: bool,
    /// Seconds, both ways together.
    latency: f64,
    /// Seconds that the server takes for any request.
    fixed: f64,
    /// Seconds that it takes for each byte of a chunk.
    per_byte: f64,
    erase: f64,
    buf_size: usize,
    buf_count: usize,
    /// What the plan allows of them.
    window: usize,
    /// Seconds that pass without an answer, for something that was lost.
    lost: f64,
    len: usize,
}

/// 1 Mbaud to a quick server next door.
const WORLD: World = World {
    wire: 100_000.0,
    wire_known: true,
    latency: 0.0,
    fixed: 0.0005,
    per_byte: 1e-6,
    erase: 0.0,
    buf_size: 384,
    buf_count: 4,
    window: 64,
    lost: 0.0,
    len: 200_000,
};

impl World {
    fn window(&self) -> usize {
        self.window.min(self.buf_count - 1)
    }

    fn wire_len(message: usize) -> usize {
        console::encoded_len(message, 128)
    }

    fn conditions<'a>(&self, wire_len: &'a dyn Fn(usize) -> usize) -> Conditions<'a> {
        let most = self.buf_count - 1;
        Conditions {
            file_len: self.len,
            max_message: self.buf_size - 4,
            message_bound: MessageBound::Buffers { overhead: 4, most: 65_000 },
            window: self.window(),
            window_bound: if self.window < most {
                WindowBound::Plan { most }
            } else {
                WindowBound::Buffers { most: self.window }
            },
            wire_bytes_per_s: self.wire_known.then_some(self.wire),
            wire_len,
            quick_trip: Some(Duration::from_secs_f64(self.latency + self.fixed)),
            radio: false,
        }
    }

    /// Bytes of a chunk, its seconds on the wire, and the answer's.
    fn chunk(&self) -> (usize, f64, f64) {
        let (data, wire_len) = self.conditions(&Self::wire_len).chunk(self.buf_size - 4);
        (data, to_f64(wire_len) / self.wire, to_f64(Self::wire_len(ANSWER_LEN)) / self.wire)
    }

    fn trip(&self) -> f64 {
        let (data, request, answer) = self.chunk();
        request + answer + self.latency + self.fixed + self.per_byte * to_f64(data)
    }

    fn interval(&self, in_flight: usize) -> f64 {
        let (data, request, answer) = self.chunk();
        let server = self.fixed + self.per_byte * to_f64(data) + answer;
        (self.trip() / to_f64(in_flight)).max(request).max(server)
    }

    /// An upload as it goes there. The window grows by one for as long as it pays.
    fn upload(&self) -> UploadStats {
        let mut stats = UploadStats { bytes: self.len, window: 1, ..UploadStats::default() };
        let (data, ..) = self.chunk();
        stats.pace.went_alone(Duration::from_secs_f64(self.trip()));
        let (mut left, mut size, mut time) = (to_f64(self.len - data) / to_f64(data), 1, 0.0);
        while left > 0.0 {
            let pays = self.interval(size + 1) * 1.01 <= self.interval(size);
            let last = size == self.window();
            let here = if last || !pays { left } else { left.min(to_f64(2 * size - 1)) };
            let answers = here as usize / size * size;
            if answers > 0 {
                let spent = Duration::from_secs_f64(self.interval(size) * to_f64(answers));
                stats.pace.add(stretch(size, answers, answers * data, spent));
            }
            time += self.interval(size) * here;
            stats.window = size;
            left -= here;
            if !pays && !last {
                // It was tried all the same.
                let spent = Duration::from_secs_f64(self.interval(size + 1) * 16.0 * to_f64(size + 1));
                let answers = 16 * (size + 1);
                stats.pace.add(stretch(size + 1, answers, answers * data, spent));
            }
            size += 1;
        }
        stats.chunks = (self.len / data) as u64;
        stats.resent_chunks = u64::from(self.lost > 0.0);
        stats.streamed_bytes = self.len - data;
        stats.erase = Duration::from_secs_f64(self.erase + self.trip());
        stats.streaming = Duration::from_secs_f64(time + self.lost);
        stats.duration = stats.erase + stats.streaming;
        stats
    }

    fn rate(&self) -> f64 {
        to_f64(self.len) / self.upload().duration.as_secs_f64()
    }

    fn diagnose(&self) -> Diagnosis {
        diagnose(&self.upload(), &self.conditions(&Self::wire_len))
    }

    fn with(self, change: Change) -> Self {
        match change {
            Change::Baud(baud) => Self { wire: f64::from(baud) / BITS_PER_BYTE, ..self },
            Change::BufferSize(buf_size) => Self { buf_size, ..self },
            Change::BufferCount(buf_count) => Self { buf_count, ..self },
            Change::PlanWindow => Self { window: 64, ..self },
            _ => panic!("{change:?} is nothing that such a world has"),
        }
    }
}

fn stretch(in_flight: usize, answers: usize, bytes: usize, time: Duration) -> Stretch {
    Stretch { in_flight, answers: u32::try_from(answers).expect("few answers"), bytes, time }
}

/// What limits, what would lift it, and how near the changed world comes to what was foretold.
fn told(world: World) -> (Bottleneck, Option<Change>, f64) {
    let Diagnosis { limited_by, remedy, .. } = world.diagnose();
    let foretold = remedy.and_then(|remedy| Some((remedy.change, remedy.bytes_per_s?)));
    let ratio = foretold.map_or(1.0, |(change, rate)| world.with(change).rate() / rate);
    (limited_by, remedy.map(|remedy| remedy.change), ratio)
}

#[test]
fn each_bottleneck_is_named_with_what_lifts_it() {
    use Bottleneck::*;
    let far = World { latency: 0.04, ..WORLD };
    let cases = [
        (World { wire: 11_520.0, ..WORLD }, BaudRate, Some(Change::Baud(921_600))),
        (far, BufferSize, Some(Change::BufferSize(2048))),
        (World { buf_size: 2048, buf_count: 2, ..far }, BufferCount, Some(Change::BufferCount(4))),
        (World { buf_size: 2048, window: 1, ..far }, Window, Some(Change::PlanWindow)),
        (World { buf_size: 2048, buf_count: 8, latency: 2.0, ..WORLD }, Latency, None),
        (World { fixed: 0.05, ..WORLD }, Device, Some(Change::BufferSize(2048))),
        (World { per_byte: 1e-4, ..WORLD }, Device, None),
        (World { per_byte: 3e-4, buf_count: 2, ..WORLD }, Device, None),
        (World { wire: 1_000.0, wire_known: false, buf_size: 2048, ..WORLD }, LinkOrDevice, None),
        (World { lost: 5.0, ..WORLD }, Loss, None),
        (World { wire: 92_160.0, ..WORLD }, BaudRate, None),
    ];
    for (world, limited_by, change) in cases {
        let told = told(world);
        assert_eq!((told.0, told.1), (limited_by, change), "{world:?}: {:?}", world.diagnose());
        assert!((0.98..1.01).contains(&told.2), "{world:?}: {} of what was foretold", told.2);
    }
}

#[test]
fn erase_is_named_from_half_of_the_time_on_and_progressive_erasing_hides_no_more_than_the_wire_leaves() {
    let world = World { wire: 11_520.0, erase: 40.0, ..WORLD };
    let diagnosis = world.diagnose();
    assert_eq!(diagnosis.limited_by, Bottleneck::Erase);
    assert!((diagnosis.erase_s.expect("a time") - 40.0).abs() < 1e-3);
    let remedy = diagnosis.remedy.expect("a remedy");
    assert_eq!(remedy.change, Change::EraseProgressively);
    // 562 chunks, each of which keeps the server busy for 3.9 ms: 0.9 ms for itself, and 3 ms of sending the answer.
    let most = 200_000.0 / (40.0 + 2.2);
    assert!((remedy.bytes_per_s.expect("a rate") / most - 1.0).abs() < 0.01, "{remedy:?} against {most}");
    let alone = World { buf_count: 2, ..world }.diagnose();
    assert_eq!((alone.limited_by, alone.remedy), (Bottleneck::Erase, None), "nothing goes on meanwhile");
    let shorter = World { erase: 20.0, ..world }.diagnose();
    assert_eq!(shorter.limited_by, Bottleneck::BaudRate);
}

#[test]
fn parts_of_a_round_trip_are_told_apart() {
    let world = World { latency: 0.04, fixed: 0.03, per_byte: 2e-5, ..WORLD };
    let diagnosis = world.diagnose();
    let (data, request, _) = world.chunk();
    let near = |told: Option<f64>, actual: f64| {
        assert!((told.expect("a time") - actual).abs() < 2e-4, "{told:?} is not {actual}: {diagnosis:?}");
    };
    assert_eq!(diagnosis.limited_by, Bottleneck::Device, "three at once wait for the server");
    near(diagnosis.round_trip_s, world.trip());
    near(diagnosis.wire_s, request);
    near(diagnosis.latency_s, 0.04);
    near(diagnosis.device_s, 0.03 + 2e-5 * to_f64(data));
    // With one in flight the server's work on any request looks like latency.
    let alone = World { buf_count: 2, ..world }.diagnose();
    near(alone.latency_s, 0.07);
    near(alone.device_s, 2e-5 * to_f64(data));
}

#[test]
fn where_too_little_was_measured_nothing_is_claimed() {
    let far = World { latency: 0.04, ..WORLD };
    let conditions = far.conditions(&World::wire_len);
    let limited_by = |stats: &UploadStats, conditions: &Conditions<'_>| {
        let diagnosis = diagnose(stats, conditions);
        assert!(diagnosis.limited_by != Bottleneck::Unknown || diagnosis.remedy.is_none());
        diagnosis.limited_by
    };
    let stats = far.upload();
    assert_eq!(limited_by(&stats, &conditions), Bottleneck::BufferSize);
    assert_eq!(limited_by(&UploadStats::default(), &conditions), Bottleneck::Unknown);
    assert_eq!(limited_by(&stats, &Conditions { quick_trip: None, ..conditions }), Bottleneck::Unknown);
    let few = World { len: 2_500, ..far }.upload();
    assert_eq!(limited_by(&few, &conditions), Bottleneck::Unknown, "seven chunks");
    // No chunk went alone: whether they wait for each other cannot be told.
    let mut crowded = stats.clone();
    crowded.pace = Default::default();
    stats.pace.stretches.iter().for_each(|stretch| crowded.pace.add(*stretch));
    assert_eq!(limited_by(&crowded, &conditions), Bottleneck::Unknown);
    // A window that might have grown, had there been more chunks.
    assert_eq!(limited_by(&stats, &Conditions { window: 5, ..conditions }), Bottleneck::Unknown);
    // The same with a loss: it is what kept it small.
    let lossy = UploadStats { resent_chunks: 2, ..stats.clone() };
    assert_eq!(limited_by(&lossy, &Conditions { window: 5, ..conditions }), Bottleneck::Loss);
    let erasing = UploadStats { resent_first: 2, ..lossy };
    assert_eq!(limited_by(&erasing, &Conditions { window: 5, ..conditions }), Bottleneck::Unknown);
}

#[test]
fn line_that_is_faster_than_its_baud_rate_has_none() {
    let fast = World { latency: 0.04, ..WORLD };
    let conditions = Conditions { wire_bytes_per_s: Some(11_520.0), ..fast.conditions(&World::wire_len) };
    let diagnosis = diagnose(&fast.upload(), &conditions);
    assert_eq!((diagnosis.wire_s, diagnosis.limited_by), (None, Bottleneck::BufferSize));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]
    /// In any world: what is foretold is what the changed world gives, or more than that where the server's work on any
    /// request could not be told from latency; and it is always worth the change.
    #[test]
    fn what_is_foretold_holds_in_any_world(
        wire in 1_000.0..200_000.0_f64,
        latency in 0.0..0.5_f64,
        fixed in 0.0..0.05_f64,
        per_byte in 0.0..5e-5_f64,
        erase in 0.0..5.0_f64,
        buf_size in 96_usize..3000,
        buf_count in 2_usize..10,
        window in 1_usize..10,
    ) {
        let world =
            World { wire, latency, fixed, per_byte, erase, buf_size, buf_count, window, ..WORLD };
        let diagnosis = world.diagnose();
        if let Some(Remedy { change, bytes_per_s: Some(rate) }) = diagnosis.remedy
            && change != Change::EraseProgressively
        {
            let after = world.with(change).rate();
            prop_assert!(rate >= GAIN * world.rate() * 0.999, "{change:?} for {rate} instead of {}", world.rate());
            prop_assert!(after <= rate * SLIGHTLY, "{change:?}: foretold {rate}, is {after}: {diagnosis:?}");
            let exact = World { fixed: 0.0, ..world };
            if let Some(Remedy { change, bytes_per_s: Some(rate) }) = exact.diagnose().remedy
                && change != Change::EraseProgressively
            {
                let after = exact.with(change).rate();
                prop_assert!((0.97..=SLIGHTLY).contains(&(after / rate)), "{change:?}: foretold {rate}, is {after}");
            }
        }
    }

    /// Whatever was measured, however odd.
    #[test]
    fn no_measurement_makes_it_panic(
        stretches in prop::collection::vec((0_usize..70, 0_u32..u32::MAX, 0_usize..usize::MAX, 0_u64..u64::MAX), 0..5),
        alone in prop::option::of(0_u64..u64::MAX),
        (bytes, streamed, streaming, erase) in (any::<usize>(), any::<usize>(), any::<u64>(), any::<u64>()),
        (max_message, window, wire) in (any::<usize>(), any::<usize>(), any::<f64>()),
        quick in prop::option::of(any::<u64>()),
    ) {
        let mut stats = UploadStats {
            bytes,
            streamed_bytes: streamed,
            streaming: Duration::from_nanos(streaming),
            erase: Duration::from_nanos(erase),
            duration: Duration::from_nanos(streaming).saturating_add(Duration::from_nanos(erase)),
            ..UploadStats::default()
        };
        if let Some(alone) = alone {
            stats.pace.went_alone(Duration::from_nanos(alone));
        }
        for (in_flight, answers, bytes, time) in stretches {
            stats.pace.add(Stretch { in_flight, answers, bytes, time: Duration::from_nanos(time) });
        }
        let wire_len = |message: usize| message;
        let conditions = Conditions {
            file_len: bytes,
            max_message,
            window,
            wire_bytes_per_s: Some(wire),
            quick_trip: quick.map(Duration::from_nanos),
            ..WORLD.conditions(&wire_len)
        };
        let _ = diagnose(&stats, &conditions);
    }
}
