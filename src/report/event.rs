//! The event log's vocabulary (`flashfleet.events/1`). Nothing here knows how devices are driven.

use std::fmt;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use super::diagnosis::UploadDiagnosis;
use crate::cause::{Cause, Class};
use crate::identity::Identity;

/// The name of the format, in the first event.
pub const SCHEMA: &str = "flashfleet.events/1";

/// Names one device within one run; the scheduler gives it, unique and stable within the log.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(transparent)]
pub struct DeviceId(pub String);

impl fmt::Display for DeviceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// How a device, or one step of it, ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// Every step held, and the proof was read back from the device.
    Passed,
    /// The device said no, or verification failed.
    Failed,
    /// The link, the station or the tool failed before the device could say.
    Error,
    /// The device's deadline passed.
    TimedOut,
    /// Interrupted, or stopped by the plan's policy.
    Aborted,
}

impl Verdict {
    /// As the formats write it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Passed => "passed",
            Self::Failed => "failed",
            Self::Error => "error",
            Self::TimedOut => "timed_out",
            Self::Aborted => "aborted",
        }
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.as_str().replace('_', " "))
    }
}

/// How the whole run ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// Every device passed.
    Passed,
    /// At least one device did not pass.
    NotPassed,
    /// No device matched, or fewer or more than expected.
    NoMatch,
    /// Stopped by the plan's `stop_after` or a canary.
    Stopped,
    /// Interrupted by a person or a signal.
    Interrupted,
    /// This machine could not do its part.
    Station,
    /// A defect of flashfleet.
    Internal,
    /// The event log ends before the run did.
    CutShort,
}

impl Outcome {
    /// Which of two outcomes speaks for both: where several exit codes apply, the first of 1, 130, 102, 103, 4, 100.
    #[must_use]
    pub fn worst(self, other: Self) -> Self {
        if other.severity() > self.severity() { other } else { self }
    }

    /// What a device that could not pass for this cause makes of a run.
    #[must_use]
    pub fn of_device(cause: &Cause) -> Self {
        match cause.class {
            Class::Internal => Self::Internal,
            Class::Station => Self::Station,
            Class::Plan | Class::Image | Class::Device | Class::Link => Self::NotPassed,
        }
    }

    /// What a target without the devices that it expects makes of a run: where this machine could not look, nobody knows
    /// what is there.
    #[must_use]
    pub fn of_unmet(cause: &Cause) -> Self {
        if cause.class == Class::Station { Self::Station } else { Self::NoMatch }
    }

    fn severity(self) -> u8 {
        match self {
            Self::Passed => 0,
            Self::NotPassed => 1,
            Self::NoMatch => 2,
            Self::Stopped => 3,
            Self::Station => 4,
            Self::CutShort => 5,
            Self::Interrupted => 6,
            Self::Internal => 7,
        }
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Passed => "passed",
            Self::NotPassed => "not passed",
            Self::NoMatch => "not the expected devices",
            Self::Stopped => "stopped by the plan's policy",
            Self::Interrupted => "interrupted",
            Self::Station => "station trouble",
            Self::Internal => "internal error",
            Self::CutShort => "cut short",
        })
    }
}

/// One line of the event log.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Event {
    /// Position in the log: 0, 1, 2 … without gaps; given by the reporter alone.
    pub seq: u64,
    /// When it happened.
    pub at: DateTime<Utc>,
    /// The device that it is about; `None` for the run itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub device: Option<DeviceId>,
    /// What happened.
    #[serde(flatten)]
    pub kind: EventKind,
}

/// What happened. On the wire `type` names it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum EventKind {
    /// Always first.
    RunStarted {
        /// [`SCHEMA`].
        schema: String,
        /// Unique id of the run.
        run_id: String,
        /// Name of the plan.
        plan: String,
        /// SHA-256 of the plan file, lower-case hex; `None` where the run had no plan file.
        plan_sha256: Option<String>,
        /// Version of flashfleet.
        tool_version: String,
        /// Name of this machine.
        host: String,
    },
    /// A device was matched. From here on it must end with a verdict.
    DeviceFound {
        /// Name of the target that matched it.
        target: String,
        /// Its address when it was matched.
        address: String,
        /// What else is known of it.
        identity: Identity,
        /// Every step planned for it, in order.
        steps: Vec<PlannedStep>,
        /// Id of the run that gave it its verdict, where that was an earlier one which this run goes on with.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        carried_from: Option<String>,
    },
    /// A target found fewer or more devices than it expects.
    TargetUnmet {
        /// Name of the target.
        target: String,
        /// What the plan expects, in its own words.
        expected: String,
        /// How many there are.
        found: usize,
        /// Says what is missing.
        cause: Cause,
    },
    /// Work on a device begins; again with `attempt: 2` where it is tried again.
    DeviceStarted {
        /// 1 for the first attempt.
        attempt: u32,
    },
    /// A step begins.
    StepStarted {
        /// Position in the planned steps, from 0.
        step: usize,
        /// Its name, as planned.
        name: String,
    },
    /// How far a long step is. The only event that may be thinned out; no report is made of it.
    Progress {
        /// Position in the planned steps, from 0.
        step: usize,
        /// Bytes done.
        done: u64,
        /// Bytes in all.
        total: u64,
    },
    /// A step is tried again.
    StepRetried {
        /// Position in the planned steps, from 0.
        step: usize,
        /// The attempt that failed, from 1.
        attempt: u32,
        /// Why.
        cause: Cause,
    },
    /// A step ended.
    StepFinished(StepFinished),
    /// The device's one verdict.
    DeviceFinished {
        /// The verdict.
        verdict: Verdict,
        /// Whether anything was written to it; `None` where it is not known.
        changed: Option<bool>,
        /// Why it did not pass.
        cause: Option<Cause>,
        /// How often it was tried.
        attempts: u32,
        /// One entry per image number that the steps were about.
        images: Vec<ImageOutcome>,
        /// Passed, but what runs was not confirmed: reverts at the next reset.
        on_test: bool,
        /// Seconds from first start to verdict.
        duration_s: f64,
    },
    /// Something a person should know that decides nothing.
    Note {
        /// Stable and dotted.
        code: String,
        /// What it is.
        message: String,
    },
    /// Always last.
    RunFinished {
        /// How the run ended.
        outcome: Outcome,
        /// The exit code that goes with it.
        exit_code: u8,
        /// Why, where the run as a whole has a cause.
        cause: Option<Cause>,
        /// Seconds from start to end.
        duration_s: f64,
    },
}

/// A step as planned: reported whether it was reached or not.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct PlannedStep {
    /// Unique within the device and stable from run to run, for example `upload app` or `reset #2`.
    pub name: String,
}

/// One finished step, with every figure that reports need.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct StepFinished {
    /// Position in the planned steps, from 0.
    pub step: usize,
    /// Its name, as planned.
    pub name: String,
    /// How it ended.
    pub verdict: Verdict,
    /// How often it was tried.
    pub attempts: u32,
    /// When it began.
    pub started_at: DateTime<Utc>,
    /// Seconds it took.
    pub duration_s: f64,
    /// Why it did not pass.
    pub cause: Option<Cause>,
    /// What else there is to tell.
    pub detail: StepDetail,
}

/// What else there is to tell of a step; everything is optional.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(default)]
pub struct StepDetail {
    /// There was nothing to do, and why.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub skipped: Option<String>,
    /// The figures of an upload.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub upload: Option<UploadFigures>,
    /// What runs after the step, where it was read.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub running: Option<ImageView>,
    /// How the device was seen to leave in a reset.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub left: Option<Departure>,
    /// What a program or a command printed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub output: Option<String>,
    /// What a person should know that decides nothing.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub notes: Vec<String>,
}

/// How a device was seen to leave when it was reset.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum Departure {
    /// Its port or connection vanished.
    Gone,
    /// It did not answer for a while.
    Silent,
    /// Nothing showed that it left.
    None,
}

/// The figures of one upload.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct UploadFigures {
    /// Image number.
    pub image_number: u32,
    /// Bytes of the file that were sent, each counted once.
    pub bytes: u64,
    /// Seconds from first request to last answer.
    pub duration_s: f64,
    /// Bytes per second over all of it.
    pub bytes_per_s: f64,
    /// Requests in flight, at most.
    pub window: u32,
    /// Largest message that was sent, in bytes.
    pub frame_bytes: u64,
    /// Chunks that were sent again.
    pub resent: u64,
    /// What the wire could carry at best, in bytes of the file per second; `None` where it is not known.
    pub link_limit_bytes_per_s: Option<f64>,
    /// What limited it, as far as that was measured.
    #[serde(default)]
    pub diagnosis: Option<Box<UploadDiagnosis>>,
}

/// One image as a device shows it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct ImageView {
    /// Version, as the device writes it.
    pub version: String,
    /// TLV hash in lower-case hex; `None` where the device gives none.
    pub hash: Option<String>,
    /// Running.
    pub active: bool,
    /// Stays after a reset.
    pub confirmed: bool,
}

/// One image number of a device, before and after.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct ImageOutcome {
    /// Image number.
    pub image_number: u32,
    /// What ran before; `None` where it was never read.
    pub before: Option<ImageView>,
    /// What ran when it was last read; `None` where it was never read after.
    pub after: Option<ImageView>,
    /// The upload's figures; `None` where nothing was uploaded.
    pub upload: Option<UploadFigures>,
}
