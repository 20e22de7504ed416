//! The report (`flashfleet.report/1`): what a run comes to. How it is computed lives in `aggregate`, how it is shown
//! in `junit`, `html` and `summary`.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::event::{DeviceId, ImageOutcome, Outcome, StepDetail, Verdict};
use crate::cause::Cause;
use crate::identity::Identity;

/// The name of the format.
pub const REPORT_SCHEMA: &str = "flashfleet.report/1";

/// What is said of a device that passed without a confirmed image.
pub const ON_TEST: &str = "on test: reverts at the next reset";

/// One run, or several merged ones.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Report {
    /// [`REPORT_SCHEMA`].
    pub schema: String,
    /// The run as a whole.
    pub run: RunReport,
    /// Totals.
    pub summary: Summary,
    /// Targets that found fewer or more devices than they expect.
    #[serde(default)]
    pub targets_unmet: Vec<UnmetTarget>,
    /// Every device that was matched, in the order in which they were found.
    pub devices: Vec<DeviceReport>,
    /// What a person should know that decides nothing, damage of the event log included.
    #[serde(default)]
    pub notes: Vec<ReportNote>,
    /// Where this report is a merged one: the runs it is made of, by their start.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub runs: Vec<RunReport>,
}

/// The run as a whole.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct RunReport {
    /// Unique id; `null` where the log does not say, or several runs are merged.
    pub id: Option<String>,
    /// Name of the plan.
    pub plan: Option<String>,
    /// SHA-256 of the plan file, lower-case hex.
    pub plan_sha256: Option<String>,
    /// Version of flashfleet.
    pub tool_version: Option<String>,
    /// Name of the machine.
    pub host: Option<String>,
    /// When the first event was written.
    pub started_at: Option<DateTime<Utc>>,
    /// When the last event was written; `null` where the log is cut short.
    pub finished_at: Option<DateTime<Utc>>,
    /// Seconds from start to end; up to the last event where the log is cut short.
    pub duration_s: Option<f64>,
    /// How it ended.
    pub outcome: Outcome,
    /// The exit code that goes with it.
    pub exit_code: u8,
    /// Whether the event log ends before the run did.
    #[serde(default)]
    pub cut_short: bool,
    /// Why, where the run as a whole has a cause.
    #[serde(default)]
    pub cause: Option<Cause>,
}

/// Totals over all devices.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Summary {
    /// Devices that were matched: the sum of the five verdicts.
    pub devices: usize,
    /// Devices that passed.
    pub passed: usize,
    /// Devices that failed.
    pub failed: usize,
    /// Devices with verdict `error`.
    pub error: usize,
    /// Devices whose deadline passed.
    pub timed_out: usize,
    /// Devices with verdict `aborted`.
    pub aborted: usize,
    /// Of the passed ones, those where nothing had to be done.
    pub already_current: usize,
    /// Of the passed ones, those that revert at the next reset.
    #[serde(default)]
    pub on_test: usize,
    /// Of all, those whose verdict is an earlier run's.
    #[serde(default)]
    pub carried: usize,
    /// Bytes of image files that finished upload steps of this run sent, all attempts together.
    pub bytes: u64,
    /// `bytes` per second between the begin of the first upload step and the end of the last; `null` without uploads.
    pub bytes_per_s: Option<f64>,
}

impl Summary {
    /// Counts one device in.
    pub fn count(&mut self, device: &DeviceReport) {
        self.devices += 1;
        self.carried += usize::from(device.carried_from.is_some());
        match device.verdict {
            Verdict::Passed => {
                self.passed += 1;
                self.already_current += usize::from(device.changed == Some(false));
                self.on_test += usize::from(device.on_test);
            }
            Verdict::Failed => self.failed += 1,
            Verdict::Error => self.error += 1,
            Verdict::TimedOut => self.timed_out += 1,
            Verdict::Aborted => self.aborted += 1,
        }
    }
}

/// A target that found fewer or more devices than it expects.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct UnmetTarget {
    /// Name of the target.
    pub target: String,
    /// What the plan expects, in its own words.
    pub expected: String,
    /// How many there were.
    pub found: usize,
    /// What is missing.
    pub cause: Cause,
    /// Name of the plan, in merged reports.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub plan: Option<String>,
}

/// One device.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct DeviceReport {
    /// Unique within the report.
    pub id: DeviceId,
    /// Name of the plan, in merged reports.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub plan: Option<String>,
    /// Name of the target that matched it.
    pub target: String,
    /// Its address when it was matched.
    pub address: String,
    /// The place that names it on the line: fixture slot, else serial number, else address.
    pub slot: String,
    /// What else is known of it.
    pub identity: Identity,
    /// The one verdict.
    pub verdict: Verdict,
    /// Whether anything was written to it; `null` where it is not known.
    pub changed: Option<bool>,
    /// It passed, but what runs was not confirmed and reverts at the next reset.
    #[serde(default)]
    pub on_test: bool,
    /// Id of the earlier run that gave it its verdict, where this run went on with that one and did not find the device
    /// again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub carried_from: Option<String>,
    /// Why it did not pass.
    pub cause: Option<Cause>,
    /// How often it was tried; 0 where nobody came to it.
    pub attempts: u32,
    /// When work on it began.
    #[serde(default)]
    pub started_at: Option<DateTime<Utc>>,
    /// Seconds from first start to verdict.
    #[serde(default)]
    pub duration_s: Option<f64>,
    /// One entry per image number that the steps were about.
    pub images: Vec<ImageOutcome>,
    /// Every planned step in order, whether it was reached or not.
    pub steps: Vec<StepReport>,
}

impl DeviceReport {
    /// Target and slot: how people call the device.
    #[must_use]
    pub fn title(&self) -> String {
        format!("{} {}", self.target, self.slot)
    }

    /// The first step that did not pass, where there is one.
    #[must_use]
    pub fn failed_step(&self) -> Option<&StepReport> {
        self.steps.iter().find(|step| step.verdict.is_some_and(|verdict| verdict != Verdict::Passed))
    }

    /// Rate of all its uploads together, in bytes per second; `None` without uploads.
    #[must_use]
    pub fn bytes_per_s(&self) -> Option<f64> {
        let uploads = self.images.iter().filter_map(|image| image.upload.as_ref());
        let (bytes, seconds) = uploads.fold((0.0, 0.0), |(bytes, seconds), upload| {
            (bytes + upload.bytes as f64, seconds + upload.duration_s)
        });
        (seconds > 0.0).then(|| super::normalise::finite(bytes / seconds))
    }
}

/// One planned step of one device.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct StepReport {
    /// Its name, as planned.
    pub name: String,
    /// How it ended; `null` where it was not reached.
    pub verdict: Option<Verdict>,
    /// How often it was tried, over all attempts of the device; 0 where it was not reached.
    pub attempts: u32,
    /// When it began, the last time.
    pub started_at: Option<DateTime<Utc>>,
    /// Seconds it took, the last time.
    pub duration_s: Option<f64>,
    /// Why it did not pass.
    pub cause: Option<Cause>,
    /// The attempts that failed before the last one.
    #[serde(default)]
    pub retries: Vec<Retry>,
    /// What else there is to tell.
    #[serde(default)]
    pub detail: StepDetail,
}

/// An attempt of a step that failed and was followed by another.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Retry {
    /// Which one, from 1.
    pub attempt: u32,
    /// Why it failed.
    pub cause: Cause,
}

/// What a person should know that decides nothing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct ReportNote {
    /// Stable and dotted.
    pub code: String,
    /// What it is.
    pub message: String,
    /// The device that it is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub device: Option<DeviceId>,
}

impl Report {
    /// As JSON, indented, with a newline at the end.
    #[must_use]
    pub fn to_json(&self) -> String {
        // Serialising into a string fails only for maps with keys that are not strings, and there are none.
        let mut text = serde_json::to_string_pretty(self).unwrap_or_default();
        text.push('\n');
        text
    }

    /// The outcome that devices and targets alone come to, whatever the run says of itself.
    #[must_use]
    pub fn implied_outcome(&self) -> Outcome {
        implied_outcome(&self.devices, &self.targets_unmet)
    }
}

pub(super) fn implied_outcome(devices: &[DeviceReport], targets_unmet: &[UnmetTarget]) -> Outcome {
    let unmet = targets_unmet.iter().map(|unmet| Outcome::of_unmet(&unmet.cause));
    devices.iter().map(outcome_of).chain(unmet).fold(Outcome::Passed, Outcome::worst)
}

fn outcome_of(device: &DeviceReport) -> Outcome {
    let outcome = device.cause.as_ref().map_or(Outcome::NotPassed, Outcome::of_device);
    match device.verdict {
        Verdict::Passed => Outcome::Passed,
        // Nobody came to an aborted device, or a person called the work on it off: that is no trouble of the station.
        Verdict::Aborted if outcome != Outcome::Internal => Outcome::NotPassed,
        _ => outcome,
    }
}

/// JSON Schema of [`Report`].
#[must_use]
pub fn report_schema() -> Value {
    // Made of the types by a test, which sees to it that this is JSON.
    serde_json::from_str(include_str!("../schemas/report.json")).unwrap_or_default()
}

/// JSON Schema of one line of the event log.
#[must_use]
pub fn events_schema() -> Value {
    serde_json::from_str(include_str!("../schemas/events.json")).unwrap_or_default()
}
