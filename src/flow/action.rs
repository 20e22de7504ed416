//! The words between the flow and whoever acts for it.

use std::time::Duration;

use serde_json::Value as Json;

use crate::cause::Cause;
use crate::plan::LocalFile;
use crate::report::{Departure, ImageOutcome, StepDetail, UploadFigures, Verdict};
use crate::smp::message::image::{ImageState, SlotInfoResponse};
use crate::smp::{RequestId, Time};

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
        /// TLV hash of the one that is meant: a package has several.
        hash: Vec<u8>,
        /// Image number.
        image_number: u32,
        /// Let the server refuse a version that is not newer.
        upgrade_only: bool,
    },
    /// Have the bootloader write an image of the plan into the primary slot. Answered by [`Outcome::Uploaded`].
    UploadToPrimary {
        /// Name of the image in the plan.
        image: String,
        /// TLV hash of the one that is meant.
        hash: Vec<u8>,
        /// Image number.
        image_number: u32,
        /// What the bootloader is told for that image's primary slot.
        upload_id: u32,
    },
    /// Ask whether the device knows the console echo command, as MCUboot's recovery does and Zephyr's server does not.
    /// Answered by [`Outcome::ConsoleEcho`].
    AskConsoleEcho,
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
    /// Set the image with this TLV hash to be booted at the next reset and to stay, though it never ran. Answered by
    /// [`Outcome::State`].
    MarkToStay {
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
    /// Run a command in the device's shell, never a second time. Answered by [`Outcome::Printed`], by
    /// [`Outcome::MayHaveHappened`] once anything may have gone out, and by [`Outcome::Failed`] only where nothing ran.
    Shell {
        /// The command line.
        command: String,
        /// How long it may run.
        timeout: Option<Duration>,
    },
    /// Compare a file on the device with one of this machine. Answered by [`Outcome::Compared`].
    CompareFile {
        /// This machine's.
        file: LocalFile,
        /// The device's.
        to: String,
    },
    /// Write a file to the device and compare what is there. Answered by [`Outcome::FilePut`].
    PutFile {
        /// This machine's.
        file: LocalFile,
        /// The device's.
        to: String,
    },
    /// Read a file from the device. Answered by [`Outcome::FileGot`].
    GetFile {
        /// The device's.
        from: String,
        /// This machine's.
        file: LocalFile,
    },
    /// Something about settings. Answered by [`Outcome::Setting`] where it reads, else by [`Outcome::Done`].
    Setting(SettingAction),
    /// Set the device's clock to this machine's time. Answered by [`Outcome::Done`].
    SetTime,
    /// Read the device's clock. Answered by [`Outcome::Clock`].
    ReadTime,
    /// Erase the storage, never a second time. Answered as [`Action::Shell`] is, by [`Outcome::Done`] where all went well.
    EraseStorage,
    /// Any SMP command; a write is never sent a second time. Answered as [`Action::Shell`] is, by [`Outcome::Answered`]
    /// where an answer came, whatever it says.
    Smp {
        /// Operation, group and command.
        request: RequestId,
        /// What it carries, in CBOR.
        payload: Vec<u8>,
    },
}

/// One request about settings.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SettingAction {
    /// Delete one from the storage.
    Delete(String),
    /// Hand a value to the application.
    Write {
        /// Name of the setting.
        name: String,
        /// The value.
        value: Vec<u8>,
    },
    /// Have the application apply what was written.
    Commit,
    /// Save everything to the storage.
    Save,
    /// Read the value that the application uses now.
    Read {
        /// Name of the setting.
        name: String,
        /// Most bytes to read.
        most: u32,
    },
}

/// What came of an [`Action`].
#[derive(Debug, Clone, PartialEq)]
pub enum Outcome {
    /// The image list.
    State(ImageState),
    /// What the device says of its bootloader.
    Mode {
        /// Its mode; `None` where the device does not tell.
        mode: Option<i32>,
        /// It refuses older versions.
        no_downgrade: bool,
    },
    /// The slots; `None` where the device does not tell.
    Slots(Option<SlotInfoResponse>),
    /// Whether the device knows the console echo command; `None` where it does not answer that.
    ConsoleEcho(Option<bool>),
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
    /// What a shell command came to.
    Printed {
        /// What it printed, without colours.
        output: String,
        /// What it returned; 0 is success.
        returned: i32,
    },
    /// The hash by which the two files were found to be the same; `None` where they differ, or where that cannot be
    /// told.
    Compared(Option<String>),
    /// The file is on the device.
    FilePut {
        /// Its length, in bytes.
        bytes: u64,
        /// How often the transfer went on or began again.
        resumed: u32,
        /// The hash by which it was compared; `None` where the device has none.
        checked: Option<String>,
    },
    /// The file is on this machine.
    FileGot {
        /// Its length, in bytes.
        bytes: u64,
        /// Where it is.
        path: String,
    },
    /// The value of a setting.
    Setting {
        /// As many bytes of it as were asked for, or as the device gives.
        value: Vec<u8>,
        /// Most bytes that the device gives, where it says so.
        most: Option<u32>,
    },
    /// The device's clock.
    Clock {
        /// What it says.
        device: String,
        /// What this machine's says, in UTC.
        machine: String,
        /// How far they are apart; `None` where the device's cannot be read as a time.
        apart: Option<Duration>,
    },
    /// The answer to any SMP command.
    Answered {
        /// What it says, byte strings as `{"$bytes": "HEX"}`.
        answer: Json,
        /// Why it is a no, where it is one.
        refusal: Option<Cause>,
    },
    /// It was sent, nothing tells whether it was done, and it must not be sent a second time.
    MayHaveHappened(Cause),
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
