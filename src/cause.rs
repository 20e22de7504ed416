//! Why something did not work, in the one form that every report, exit code and message uses.
//!
//! Only the vocabulary lives here; each module makes its own causes.

use std::borrow::Cow;
use std::fmt;

use serde::{Deserialize, Serialize};

/// Who has to act on a cause.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum Class {
    /// The device said no, or did not do what it was told.
    Device,
    /// The image is not fit for the device, or was refused or reverted.
    Image,
    /// The conversation with the device broke.
    Link,
    /// This machine: a port, an adapter, a file, a folder.
    Station,
    /// The plan, or what it says of the devices.
    Plan,
    /// A defect of flashfleet.
    Internal,
}

impl Class {
    /// Whether another attempt on the same device can help: only where the device was not the one that said no.
    #[must_use]
    pub fn is_retryable(self) -> bool {
        matches!(self, Self::Link | Self::Station)
    }
}

impl fmt::Display for Class {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Device => "device",
            Self::Image => "image",
            Self::Link => "link",
            Self::Station => "station",
            Self::Plan => "plan",
            Self::Internal => "internal",
        })
    }
}

/// One cause: a stable code for programs, a message with expected and actual, and the next thing to do.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[error("{message} [{code}]")]
pub struct Cause {
    /// Who has to act.
    pub class: Class,
    /// Stable and dotted, for example `image.reverted` or `smp.img_mgmt.flash_erase_failed`.
    pub code: Cow<'static, str>,
    /// Lower-case; says what was expected and what came.
    pub message: String,
    /// The next thing to do.
    pub help: String,
}

impl Cause {
    /// A cause from its parts.
    pub fn new(
        class: Class,
        code: impl Into<Cow<'static, str>>,
        message: impl Into<String>,
        help: impl Into<String>,
    ) -> Self {
        Self { class, code: code.into(), message: message.into(), help: help.into() }
    }
}
