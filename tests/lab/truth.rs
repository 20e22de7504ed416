//! What a report claims of a board, held against what the board knows of itself.

use flashfleet::sim::DeviceHandle;
use serde_json::Value;

use crate::error::{Result, RigError};
use crate::images::Image;
use crate::report::Run;

/// The device of a report with this USB serial number.
pub(crate) fn reported<'run>(run: &'run Run, serial_number: &str) -> Result<&'run Value> {
    let has = |device: &&Value| device["identity"]["usb"]["serial_number"] == serial_number;
    let mut found = run.devices().iter().filter(has);
    match (found.next(), found.next()) {
        (Some(device), None) => Ok(device),
        _ => Err(RigError::new(format!("expected one device with serial number {serial_number}\n{run}"))),
    }
}

/// Fails unless the board runs `image` for good and the report says so, with what ran `before`.
pub(crate) fn assert_kept(reported: &Value, board: &DeviceHandle, before: &[u8], image: &Image) {
    let name = board.name();
    let running = board.running().unwrap_or_else(|| panic!("{name} does not run\n{reported:#}"));
    assert_eq!(
        hex::encode(&running.hash),
        hex::encode(image.hash()),
        "{name} runs {running:?}\n{reported:#}"
    );
    assert!(running.confirmed && !board.is_pending(), "{name}: {running:?}\n{reported:#}");
    assert_eq!(
        (&reported["verdict"], &reported["changed"]),
        (&"passed".into(), &true.into()),
        "{reported:#}"
    );
    let told = &reported["images"][0];
    assert_eq!(told["before"]["hash"], hex::encode(before), "{reported:#}");
    assert_eq!(told["after"]["hash"], hex::encode(image.hash()), "{reported:#}");
    assert_eq!(told["after"]["version"], running.version, "{reported:#}");
    assert_eq!(told["after"]["confirmed"], true, "{reported:#}");
    assert_eq!(told["upload"]["bytes"], image.bytes.len(), "{reported:#}");
}

/// Fails unless the board runs what it ran `before`, confirmed, and the report gives it another verdict than passed:
/// `verdict`, with a cause of this code.
pub(crate) fn assert_untouched(
    reported: &Value,
    board: &DeviceHandle,
    before: &[u8],
    verdict: &str,
    code: &str,
) {
    if let Some(running) = board.running() {
        assert!(running.hash == before && running.confirmed, "{}: {running:?}\n{reported:#}", board.name());
    }
    assert_eq!(
        (&reported["verdict"], &reported["cause"]["code"]),
        (&verdict.into(), &code.into()),
        "{reported:#}"
    );
}
