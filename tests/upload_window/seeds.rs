//! The window found out against one chunk in flight, over dice that nothing was tuned on.

use std::fmt::Write as _;

use super::{Duration, FaultSpec, SimSpec, faults, run};

/// Seeds that were never looked at while the window's constants were chosen: those were 1 to 6.
const FRESH: u64 = 1_000_000;

/// Links and servers: bits per second, milliseconds each way, bytes of a buffer, chunks, microseconds to write 1024 bytes.
pub(crate) fn links() -> impl Iterator<Item = (String, SimSpec, usize)> {
    let paced = [115_200, 1_000_000].into_iter().flat_map(|baud| {
        [0, 5, 20, 60].into_iter().flat_map(move |latency_ms| {
            [384, 1024, 2048].into_iter().map(move |buf_size| (baud, latency_ms, buf_size, 1000))
        })
    });
    // Servers that lose lines while they write, so that no window above one holds.
    let overrun = [(115_200, 0, 2048, 30_000), (1_000_000, 0, 384, 10_000), (1_000_000, 20, 1024, 10_000)];
    paced.chain(overrun).map(|(baud, latency_ms, buf_size, write_kib_us)| {
        let spec = SimSpec { baud: Some(baud), latency_ms, buf_size, write_kib_us, ..SimSpec::default() };
        let name = format!("{baud} baud, {latency_ms} ms, {buf_size} bytes, {write_kib_us} us/KiB");
        (name, spec, 120 * (buf_size as usize - 30))
    })
}

/// How long each seed's upload takes with one in flight, and with the window found out.
fn times(
    spec: &SimSpec,
    size: usize,
    fault: &FaultSpec,
    seeds: std::ops::Range<u64>,
) -> Vec<(Duration, Duration)> {
    seeds
        .map(|seed| {
            let spec = SimSpec { fault: FaultSpec { seed, ..fault.clone() }, ..spec.clone() };
            (run(&spec, size, Some(1)).took, run(&spec, size, None).took)
        })
        .collect()
}

/// All seeds' time with the window found out, for each second with one in flight.
fn ratio(times: &[(Duration, Duration)]) -> f64 {
    let sum =
        |of: fn(&(Duration, Duration)) -> Duration| times.iter().map(of).sum::<Duration>().as_secs_f64();
    sum(|times| times.1) / sum(|times| times.0)
}

#[test]
fn on_fresh_dice_it_is_never_slower_either() {
    // Every fourth link, so that it takes seconds: each of them, and all kinds of trouble, are in the other test.
    for (index, (name, spec, size)) in links().step_by(4).enumerate() {
        let fault = faults().nth(index % 4).expect("four kinds");
        let first = FRESH + 100 * index as u64;
        let ratio = ratio(&times(&spec, size * 2 / 3, &fault, first..first + 4));
        assert!(ratio <= 1.05, "{name}, {fault:?}: {ratio:.3}");
    }
}

/// Writes a table into `target/tmp/upload-seeds.txt`: takes minutes. `SEEDS` is how many for each link and trouble.
#[test]
#[ignore = "a measurement, which takes minutes: run it after a change of the window"]
fn over_many_dice() {
    let count = std::env::var("SEEDS").ok().and_then(|count| count.parse().ok()).unwrap_or(60);
    let mut table =
        format!("{count} seeds each; time with the window found out, by that with one in flight\n");
    let mut worst: f64 = 0.0;
    for (name, spec, size) in links() {
        for fault in faults() {
            let times = times(&spec, size, &fault, 2 * FRESH..2 * FRESH + count);
            let mut each: Vec<f64> = times.iter().map(|times| ratio(std::slice::from_ref(times))).collect();
            each.sort_by(f64::total_cmp);
            let at = |percent: usize| each[(each.len() - 1) * percent / 100];
            let slower = each.iter().filter(|ratio| **ratio > 1.05).count();
            let six = times.chunks(6).map(ratio).fold(0.0, f64::max);
            let all = ratio(&times);
            worst = worst.max(all);
            writeln!(
                table,
                "{name}, lose {:.2}, corrupt {:.2}: all {all:.3}, sixes at most {six:.3}, each {:.3} {:.3} {:.3} {:.3} \
                 (half, 90 %, 99 %, most), {slower} slower by more than 5 %",
                fault.lose, fault.corrupt, at(50), at(90), at(99), at(100)
            )
            .expect("text");
        }
    }
    let file = std::path::Path::new(env!("CARGO_TARGET_TMPDIR")).join("upload-seeds.txt");
    std::fs::write(&file, &table).expect("a table");
    assert!(worst <= 1.05, "{}: {worst:.3}", file.display());
}
