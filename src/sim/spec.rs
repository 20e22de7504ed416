//! How a simulated device is described, in a plan (`match: { sim: … }`) and on the command line. No behaviour.

use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A number of equal simulated devices.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct SimSpec {
    /// How many.
    pub count: usize,
    /// Bits per second of the paced link; `null` is as fast as it goes.
    pub baud: Option<u32>,
    /// Time a message takes each way, besides pacing, in milliseconds.
    pub latency_ms: u64,
    /// Size of one buffer (netbuf), in bytes.
    pub buf_size: u32,
    /// Number of buffers.
    pub buf_count: u32,
    /// Time from reset to the first answer, in milliseconds.
    pub boot_ms: u64,
    /// Version of the image that runs at first.
    pub version: String,
    /// Size of each slot, in bytes.
    pub slot_size: u32,
    /// What goes wrong.
    pub fault: FaultSpec,
}

impl Default for SimSpec {
    fn default() -> Self {
        Self {
            count: 1,
            baud: None,
            latency_ms: 0,
            buf_size: 384,
            buf_count: 4,
            boot_ms: 400,
            version: "1.0.0".to_owned(),
            slot_size: 512 * 1024,
            fault: FaultSpec::default(),
        }
    }
}

/// What goes wrong on a simulated device.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct FaultSpec {
    /// Share of messages lost, in each direction, from 0 to 1.
    pub lose: f64,
    /// Share of messages corrupted, in each direction, from 0 to 1.
    pub corrupt: f64,
}

impl SimSpec {
    /// Time from reset to the first answer.
    #[must_use]
    pub fn boot(&self) -> Duration {
        Duration::from_millis(self.boot_ms)
    }
}
