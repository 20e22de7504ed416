//! What `-v` and `--trace` turn on. Nothing else logs.

use std::path::Path;

use tracing::Level;
use tracing_subscriber::filter::filter_fn;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;
use tracing_subscriber::{Layer as _, fmt};

use crate::cause::Cause;
use crate::transport::{WIRE_TARGET, WireLog};

/// Starts logging to standard error, and the wire log where a folder is given.
///
/// # Errors
/// `station.cannot_write` for the folder.
pub(super) fn start(verbose: u8, quiet: bool, trace: Option<&Path>) -> Result<Option<WireLog>, Cause> {
    let level = match (quiet, verbose) {
        (true, _) => Level::ERROR,
        (false, 0) => Level::WARN,
        (false, 1) => Level::INFO,
        (false, 2) => Level::DEBUG,
        (false, _) => Level::TRACE,
    };
    let wire_log = trace.map(WireLog::create).transpose()?;
    let text =
        fmt::layer().with_writer(std::io::stderr).with_ansi(console::colors_enabled_stderr()).with_filter(
            filter_fn(move |meta| *meta.level() <= level && meta.target() != WIRE_TARGET)
                // So that what nobody asked for costs one comparison.
                .with_max_level_hint(level),
        );
    let registry = tracing_subscriber::registry().with(text);
    // A second subscriber in one process (tests) changes nothing.
    let _ = match &wire_log {
        Some(log) => registry.with(log.layer()).try_init(),
        None => registry.try_init(),
    };
    Ok(wire_log)
}
