//! The words between the flow and whoever acts for it.

use std::time::Duration;

use crate::cause::Cause;
use crate::report::{Departure, ImageOutcome, StepDetail, UploadFigures, Verdict};
use crate::smp::Time;
use crate::smp::message::image::{ImageState, SlotInfoResponse};

/// One thing to do to the device, or for it. A link is opened first where none is open.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// Read the image list. Answered by [`Outcome::State`].
    ReadState,
    /// Ask the bootloader for its mode. Answered by [`Outcome::Mode`].
    ReadMode,
    /// Ask for the slots' sizes. Answered by [`Outcome::Slots`].
    ReadSlots,
    /// Put an image of the plan into the secondary slot. Answered by [`Outcome::Uploaded`].
    Upload {
        /// Name of the image in the plan.
        image: String,
        /// Image number.
        image_number: u32,
        /// Let the server refuse a version that is not newer.
        upgrade_only: bool,
    },
    /// Set the image with this TLV hash to be tested at the next reset. Answered by [`Outcome::State`].
    MarkForTest {
        /// TLV hash.
        hash: Vec<u8>,
    },
    /// Make the image with this TLV hash permanent; it is the running one. Answered by [`Outcome::State`].
    Confirm {
        /// TLV hash.
        hash: Vec<u8>,
    },
    /// Erase a slot. Answered by [`Outcome::Done`].
    Erase {
        /// The slot.
        slot: u32,
    },
    /// Send one reset, never a second one. Answered by [`Outcome::ResetSent`] as soon as anything may have gone out, and
    /// by [`Outcome::Failed`] only where the device refused or no link could be opened: then nothing was reset.
    Reset {
        /// Reset even where the application would refuse.
        force: bool,
        /// What to boot into.
        boot_mode: Option<u8>,
    },
    /// Keep silent for `quiet`, then ask until `within` has passed since the reset. Answered by [`Outcome::Returned`]
    /// or [`Outcome::NeverReturned`].
    AwaitReturn {
        /// Silence after the reset, and again after each question that was not answered.
        quiet: Duration,
        /// How long the device may take.
        within: Duration,
    },
    /// Have a text sent back. Answered by [`Outcome::Echoed`].
    Echo {
        /// The text.
        text: String,
    },
    /// Wait. Answered by [`Outcome::Done`].
    Wait(Duration),
    /// Run a program on this machine. Answered by [`Outcome::ProgramEnded`].
    RunProgram {
        /// The program.
        program: String,
        /// Its arguments.
        arguments: Vec<String>,
    },
    /// Run the plan's recovery program for this device. Answered by [`Outcome::Done`].
    Recover,
}

/// What came of an [`Action`].
#[derive(Debug, Clone, PartialEq)]
pub enum Outcome {
    /// The image list.
    State(ImageState),
    /// The bootloader's mode; `None` where the device does not tell.
    Mode(Option<i32>),
    /// The slots; `None` where the device does not tell.
    Slots(Option<SlotInfoResponse>),
    /// The whole file is on the device.
    Uploaded {
        /// The figures.
        figures: UploadFigures,
        /// What a person should know.
        notes: Vec<String>,
    },
    /// The reset went out once.
    ResetSent {
        /// Whether its answer came.
        answered: bool,
    },
    /// The device answers.
    Returned {
        /// How it was seen to leave.
        left: Departure,
    },
    /// The device did not answer in time.
    NeverReturned {
        /// How it was seen to leave.
        left: Departure,
        /// What was seen of it at last, where no link could be opened.
        seen: Option<String>,
    },
    /// The text that came back.
    Echoed(String),
    /// The program ended.
    ProgramEnded {
        /// Its exit code; `None` where a signal ended it.
        code: Option<i32>,
        /// The end of what it printed.
        output: String,
    },
    /// It is done.
    Done,
    /// It did not work.
    Failed(Cause),
}

/// What the flow wants next.
#[derive(Debug, Clone, PartialEq)]
pub enum Directive {
    /// Do this, then hand in its outcome.
    Perform(Action),
    /// Tell this, then ask again.
    Tell(FlowEvent),
    /// All is said; asking again gives the same.
    Finished(DeviceResult),
}

/// What happened, with time as the flow knows it.
#[derive(Debug, Clone, PartialEq)]
pub enum FlowEvent {
    /// A step begins.
    StepStarted {
        /// Position in the planned steps, from 0.
        step: usize,
        /// Its name.
        name: String,
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
    StepEnded(Box<StepEnded>),
}

/// A step that ended.
#[derive(Debug, Clone, PartialEq)]
pub struct StepEnded {
    /// Position in the planned steps, from 0.
    pub step: usize,
    /// Its name.
    pub name: String,
    /// How it ended.
    pub verdict: Verdict,
    /// How often it was tried.
    pub attempts: u32,
    /// When it began.
    pub started: Time,
    /// When it ended.
    pub ended: Time,
    /// Why it did not pass.
    pub cause: Option<Cause>,
    /// What else there is to tell.
    pub detail: StepDetail,
}

/// The device's end.
#[derive(Debug, Clone, PartialEq)]
pub struct DeviceResult {
    /// The one verdict.
    pub verdict: Verdict,
    /// Whether anything was written to it.
    pub changed: bool,
    /// Why it did not pass.
    pub cause: Option<Cause>,
    /// How often it was tried.
    pub attempts: u32,
    /// One entry per image number that the steps were about.
    pub images: Vec<ImageOutcome>,
    /// What runs was not confirmed: reverts at the next reset.
    pub on_test: bool,
}

impl Verdict {
    /// The verdict that goes with a cause: the device's own no is a failure, everything else an error.
    #[must_use]
    pub fn of_cause(cause: &Cause) -> Self {
        use crate::cause::Class;
        match cause.class {
            Class::Device | Class::Image => Self::Failed,
            Class::Link | Class::Station | Class::Plan | Class::Internal => Self::Error,
        }
    }
}
