//! What the figures were taken on.

use std::fs;

/// One line: processor, cores, memory, system, load when the bench ended, date.
pub(crate) fn describe() -> String {
    let field = |file: &str, name: &str| {
        let text = fs::read_to_string(file).unwrap_or_default();
        let line = text.lines().find(|line| line.starts_with(name));
        line.and_then(|line| line.split_once(':')).map(|(_, value)| value.trim().to_owned())
    };
    let unknown = || "unknown".to_owned();
    let processor = field("/proc/cpuinfo", "model name").unwrap_or_else(unknown);
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    let memory = field("/proc/meminfo", "MemTotal")
        .and_then(|text| text.split_whitespace().next()?.parse::<u64>().ok())
        .map_or_else(unknown, |kib| format!("{} GiB", (kib + (1 << 19)) >> 20));
    let system = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_else(|_| unknown());
    let load = fs::read_to_string("/proc/loadavg").unwrap_or_else(|_| unknown());
    format!(
        "flashfleet {} on {processor}, {cores} processors, {memory} of memory, {} {}, load {} in the last minute, {}.\n",
        env!("CARGO_PKG_VERSION"),
        std::env::consts::OS,
        system.trim(),
        load.split_whitespace().next().unwrap_or_default(),
        chrono::Utc::now().format("%Y-%m-%d %H:%M UTC"),
    )
}
