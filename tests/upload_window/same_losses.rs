//! Upload by upload, the window found out against one chunk in flight, where each chunk and each answer is lost as often in
//! both. And what single losses cost with as many in flight as the server has room for.

use std::fmt::Write as _;
use std::time::Duration;

use flashfleet::sim::{SimSpec, SimTransport};

use super::fates::Fates;
use super::seeds::links;
use super::{Run, run_through};

/// So much slower than with one chunk in flight an upload may be.
const MOST: f64 = 1.05;

/// Two uploads with the same losses.
struct Pair {
    name: String,
    one: Run,
    auto: Run,
    /// Of the time with the window found out, what was spent waiting for the server's buffers.
    waits: Duration,
}

impl Pair {
    fn new(name: &str, spec: &SimSpec, size: usize, seed: u64, lose: f64) -> Self {
        let fates = Fates::dice(seed, lose, spec.buf_size);
        let one = run_through(spec, size, Some(1), fates.clone());
        let auto = run_through(spec, size, None, fates);
        let waits = auto.record.waits_for_buffers(spec.buf_count as usize - 1);
        Self { name: format!("{name}, lose {lose}, seed {seed}"), one, auto, waits }
    }

    fn ratio(&self) -> f64 {
        self.auto.took.as_secs_f64() / self.one.took.as_secs_f64()
    }

    /// The same without the waits for buffers.
    fn ratio_without_waits(&self) -> f64 {
        (self.auto.took - self.waits).as_secs_f64() / self.one.took.as_secs_f64()
    }

    fn timelines(&self) -> String {
        let Self { name, one, auto, .. } = self;
        format!(
            "{name}\none chunk in flight, {:?}:\n{}\nthe window found out, {:?}:\n{}",
            one.took,
            one.record.timeline(),
            auto.took,
            auto.record.timeline()
        )
    }
}

/// Serial lines, and networks with latency.
fn all_links() -> impl Iterator<Item = (String, SimSpec, usize)> {
    let networks = [(5, 512), (20, 1024), (60, 1400)].into_iter().map(|(latency_ms, buf_size)| {
        let spec = SimSpec { transport: SimTransport::Udp, latency_ms, buf_size, ..SimSpec::default() };
        (format!("UDP, {latency_ms} ms, {buf_size} bytes"), spec, 120 * (buf_size as usize - 30))
    });
    links().chain(networks)
}

/// Each upload, not only their sum. What may take longer is a wait until the proven time for an answer is over, because
/// everything that the server has buffers for went unanswered: more must not be sent then, with one in flight or several,
/// and several can be lost in less time. Those are counted.
#[test]
fn no_upload_is_slower_than_with_one_chunk_in_flight() {
    let (mut one, mut auto, mut uploads, mut waited) = (Duration::ZERO, Duration::ZERO, 0, 0);
    for (index, (name, spec, size)) in all_links().enumerate() {
        for lose in [0.01, 0.05] {
            let seed = 3_000_000 + index as u64;
            let pair = Pair::new(&name, &spec, size * 2 / 3, seed, lose);
            assert!(pair.auto.record.lost() <= pair.one.record.lost(), "{}", pair.name);
            let ratio = pair.ratio_without_waits();
            assert!(ratio <= MOST, "{ratio:.3} times: {}", pair.timelines());
            one += pair.one.took;
            auto += pair.auto.took;
            uploads += 1;
            waited += u32::from(!pair.waits.is_zero());
        }
    }
    let sums = auto.as_secs_f64() / one.as_secs_f64();
    assert!(sums < 0.9, "{sums:.3}");
    assert!(waited * 10 <= uploads, "{waited} of {uploads} waited for buffers");
}

/// Writes a table, and the timelines of what is slower, into `target/tmp/same-losses/`: takes minutes. `SEEDS` is how many
/// for each link and share, `FROM` the first of them.
#[test]
#[ignore = "a measurement, which takes minutes: run it after a change of the upload"]
fn over_many_fates() {
    let number = |name: &str, or| std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(or);
    let (count, first): (u64, u64) = (number("SEEDS", 20), number("FROM", 7_000_000));
    let folder = std::path::Path::new(env!("CARGO_TARGET_TMPDIR")).join("same-losses");
    std::fs::create_dir_all(&folder).expect("a folder");
    let (mut table, mut all, mut beyond, mut waited) = (String::new(), Vec::new(), 0, 0);
    for (name, spec, size) in all_links() {
        for lose in [0.01, 0.05] {
            for seed in first..first + count {
                let pair = Pair::new(&name, &spec, size, seed, lose);
                let (ratio, without) = (pair.ratio(), pair.ratio_without_waits());
                all.push(ratio);
                waited += u32::from(!pair.waits.is_zero());
                beyond += u32::from(without > MOST);
                if ratio > MOST {
                    let line = format!("{ratio:.3}, {without:.3} without waits for buffers: {}", pair.name);
                    writeln!(table, "{line}").expect("text");
                    let file = pair.name.replace([' ', ',', '/'], "-");
                    std::fs::write(folder.join(file), pair.timelines()).expect("a timeline");
                }
            }
        }
    }
    all.sort_by(f64::total_cmp);
    let at = |percent: usize| all[(all.len() - 1) * percent / 100];
    writeln!(
        table,
        "{} uploads from seed {first} on: {:.3} {:.3} {:.3} (half, 99 %, most); {} slower by more than 5 %, {beyond} of them \
         without the waits for buffers; {waited} waited for buffers",
        all.len(),
        at(50),
        at(99),
        at(100),
        all.iter().filter(|ratio| **ratio > MOST).count()
    )
    .expect("text");
    std::fs::write(folder.join("table.txt"), &table).expect("a table");
    assert_eq!(beyond, 0, "{table}");
}

/// What these losses cost, in milliseconds, on a line of 1 Mbaud with 20 ms each way and three chunks in flight: answers
/// come every 15 ms, and take 46 ms.
fn cost(requests: &'static [u64], answers: &'static [u64]) -> u128 {
    const CHUNK: u64 = 356;
    const FIRST: u64 = 313;
    let spec = SimSpec { baud: Some(1_000_000), latency_ms: 20, write_kib_us: 1000, ..SimSpec::default() };
    let with = |requests, answers| {
        let chunk = |off: u64| if off == 0 { 0 } else { 1 + (off - FIRST) / CHUNK };
        run_through(&spec, 32 * 1024, None, Fates::these(requests, answers, chunk, spec.buf_size))
    };
    let (quiet, lossy) = (with(&[], &[]), with(requests, answers));
    assert_eq!(lossy.record.lost(), requests.len() + answers.len(), "{}", lossy.record.timeline());
    (lossy.took - quiet.took).as_millis()
}

#[test]
fn losses_show_in_the_next_answer_where_one_comes() {
    const INTERVAL: u128 = 15;
    const TRIP: u128 = 46;
    // A later answer tells what a lost one would have.
    assert!(cost(&[], &[40]) <= INTERVAL);
    assert!(cost(&[], &[40, 41]) <= INTERVAL);
    // The answer to the next chunk says that one is missing: the others that are in flight are in vain.
    assert!(cost(&[40], &[]) <= TRIP + INTERVAL);
    assert!(cost(&[40, 41], &[]) <= TRIP + INTERVAL);
    assert!(
        cost(&[41], &[40]) <= TRIP + INTERVAL,
        "the answer after both says that the second one is missing"
    );
    assert!(cost(&[40], &[41]) <= TRIP + INTERVAL);
}

/// Nothing tells whether the server has them still, so nothing more is sent until the proven time is over.
#[test]
fn everything_in_flight_lost_costs_the_proven_time() {
    for (requests, answers) in [(&[40, 41, 42][..], &[][..]), (&[], &[40, 41, 42])] {
        let cost = cost(requests, answers);
        assert!((2500..2600).contains(&cost), "{cost}");
    }
}
