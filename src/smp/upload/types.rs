//! What goes into an upload and what comes out of it. No behaviour.

use std::time::Duration;

use super::pace::Pace;
use super::rtt::RoundTrips;
use super::window::WindowMemory;
use crate::cause::{Cause, Class};
use crate::smp::errors::{DeviceError, ResponseError};
use crate::smp::exchange::{ExchangeError, Policy};
use crate::smp::message::EncodeError;
use crate::smp::{RawRequest, RequestId, Time, Version};

/// How an image is uploaded.
#[derive(Debug, Clone)]
pub struct UploadConfig {
    /// Image number; with direct upload the slot's `upload_image_id`.
    pub image_number: u32,
    /// Largest message that the server and the link take, in bytes, SMP header included.
    pub max_message: usize,
    /// Where `max_message` is a guess: what to try, once, if the first chunk meets silence, which is how servers answer
    /// a message that is too long.
    pub shrink_to: Option<usize>,
    /// Chunks in flight at most; at least 1 is taken. The first chunk always goes alone.
    pub window: usize,
    /// Start with one chunk in flight and find out what pays; otherwise `window` are in flight from the second chunk on.
    /// Either way there are fewer after trouble.
    pub adaptive: bool,
    /// Messages that may lie in the server's buffers at once: chunks, their repeats and looks at the image list. At least
    /// `window`. A chunk is sent again early, after a measured time, only where this leaves room for the repeat: the first
    /// sending may only be slow. After the proven time it is taken for lost.
    pub sendings: usize,
    /// What an earlier upload over the same link has shown.
    pub memory: LinkMemory,
    /// Let the server refuse a version that is not newer.
    pub upgrade_only: bool,
    /// Send the file's SHA-256, so that an upload that broke off is resumed. Left out where it does not fit.
    pub send_sha: bool,
    /// How long to wait for answers.
    pub timeouts: Timeouts,
    /// Sendings of a chunk after the first, when no answer comes. Early ones do not count.
    pub retries: u32,
    /// Protocol version of the requests.
    pub version: Version,
    /// How much trouble to take from a server.
    pub limits: Limits,
}

impl UploadConfig {
    /// The usual way to upload image 0 in messages of at most `max_message` bytes, SMP header included.
    #[must_use]
    pub fn new(max_message: usize) -> Self {
        Self {
            image_number: 0,
            max_message,
            shrink_to: None,
            window: 1,
            adaptive: false,
            sendings: 1,
            memory: LinkMemory::default(),
            upgrade_only: false,
            send_sha: true,
            timeouts: Timeouts::default(),
            retries: 3,
            version: Version::V2,
            limits: Limits::default(),
        }
    }
}

/// What a link has shown of itself. Keep it with the link, also over reconnects.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct LinkMemory {
    /// How many chunks in flight held.
    pub window: Option<WindowMemory>,
    /// How long answers take.
    pub round_trips: RoundTrips,
    /// Largest message after silence forced smaller ones, in bytes.
    pub max_message: Option<usize>,
}

/// How long to wait for the answer to a chunk. The defaults are proven in the field.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timeouts {
    /// To the first: the server may erase the whole slot before it answers.
    pub first: Duration,
    /// To those between.
    pub middle: Duration,
    /// To the last: the server may check the whole image before it answers.
    pub last: Duration,
    /// Do not wait so long where the link's round trips say that an answer is overdue: send again, or look at the image
    /// list for the last chunk, and go on waiting. Nothing is given up earlier.
    pub measured: bool,
}

impl Default for Timeouts {
    fn default() -> Self {
        Self {
            first: Duration::from_secs(40),
            middle: Duration::from_millis(2500),
            last: Duration::from_secs(20),
            measured: true,
        }
    }
}

/// How much trouble an upload takes before it fails. They are what makes it end whatever a server answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Answers in a row that do not get further.
    pub stalls: u32,
    /// Times that the server wants to go back, without starting again, in the whole upload.
    pub regressions: u32,
    /// Times that the server wants to start again, in the whole upload.
    pub restarts: u32,
    /// Answers in a row that say busy or out of memory.
    pub busy: u32,
    /// Pause after the first answer that says so; it doubles up to sixteenfold.
    pub busy_pause: Duration,
    /// Times that the last chunk may go unanswered and the image list not show the image.
    pub looks: u32,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            stalls: 8,
            regressions: 8,
            restarts: 3,
            busy: 8,
            busy_pause: Duration::from_millis(250),
            looks: 2,
        }
    }
}

/// Names one sending of one chunk. Never given twice by the same upload.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ChunkId(pub(super) u64);

/// A chunk to send.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChunkRequest {
    /// For handing back what became of it.
    pub id: ChunkId,
    /// The request.
    pub request: RawRequest,
    /// How long its answer counts. The upload itself says when to send it again.
    pub policy: Policy,
    /// How long the server may work on it, by what the field has proven.
    pub within: Duration,
    /// Where its data lies in the file, in bytes.
    pub offset: usize,
    /// Length of its data, in bytes.
    pub len: usize,
    /// It was sent before and met silence. It is a request of its own all the same: its answer tells which sending was
    /// answered, and that everything sent before has left the server's buffers.
    pub again: bool,
}

/// What an upload wants done next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// Submit this request and hand back its outcome with [`super::Upload::handle_outcome`].
    Send(ChunkRequest),
    /// Cancel the request of this chunk, if it is not over: its outcome is no longer wanted.
    Cancel(ChunkId),
    /// Read the image list and tell with [`super::Upload::handle_list`] whether the image is there: the last answer is
    /// overdue, or the server forgot the upload after the last chunk. Outcomes of chunks that come meanwhile still count.
    LookAtList(Policy),
    /// Nothing until an outcome comes in or, where one is given, this time has come.
    Wait(Option<Time>),
    /// The server has the whole image.
    Done(UploadStats),
    /// It is over without success.
    Failed(UploadError),
}

/// What the image list says of the image being uploaded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ListOutcome {
    /// A slot that is not running holds an image with its hash.
    Present,
    /// None does.
    Absent,
    /// The list does not tell: the server said no, or sends no hashes.
    Unknown,
    /// No answer came.
    Failed(ExchangeError),
}

/// How far an upload is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Progress {
    /// Offset up to which the server has the file, in bytes.
    pub offset: usize,
    /// Length of the file, in bytes.
    pub len: usize,
}

/// What an upload took.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct UploadStats {
    /// Bytes of the file that were sent, each counted once however often it went. Less than the file where an earlier
    /// upload was resumed.
    pub bytes: usize,
    /// Those of them that were first sent after the first success.
    pub streamed_bytes: usize,
    /// From the first sending to the last answer.
    pub duration: Duration,
    /// From the first success to the last answer: without the erasing of the slot.
    pub streaming: Duration,
    /// From the first sending to the first success: mostly the erasing of the slot.
    pub erase: Duration,
    /// Chunks sent, the first time or again.
    pub chunks: u64,
    /// Chunks that were sent again.
    pub resent_chunks: u64,
    /// Of these, the first one: the server may only have been erasing.
    pub resent_first: u64,
    /// Largest message sent, in bytes, header included.
    pub largest_message: usize,
    /// Most chunks in flight at once.
    pub window: usize,
    /// Times that the server made the upload start again.
    pub restarts: u32,
    /// Offset at which the server resumed an earlier upload, in bytes.
    pub resumed_at: Option<usize>,
    /// Whether the first chunk carried the file's SHA-256.
    pub sha_sent: bool,
    /// What the server said of the file's SHA-256, where it checks it.
    pub matched: Option<bool>,
    /// The end was seen in the image list, not in an answer.
    pub seen_in_list: bool,
    /// Largest message after shrinking, in bytes, where silence forced it.
    pub shrunk_to: Option<usize>,
    /// How fast answers came.
    pub pace: Pace,
}

/// Why an upload ended without success.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum UploadError {
    /// The file has no bytes.
    #[error("expected an image to upload, got an empty file")]
    Empty,
    /// The file is longer than an offset can tell.
    #[error("expected an image of at most 4294967295 bytes, got {0}")]
    TooLarge(usize),
    /// The image header does not fit the first chunk.
    #[error(
        "expected room for messages of at least {needed} bytes, so that the first one holds the image header, the \
         device takes {max_message}"
    )]
    BufferTooSmall {
        /// Largest message, in bytes.
        max_message: usize,
        /// Smallest that would do, in bytes.
        needed: usize,
    },
    /// A chunk could not be put into a message.
    #[error(transparent)]
    Encode(#[from] EncodeError),
    /// The device said no.
    #[error("expected success of {request} at offset {offset}, the device answered with {error}")]
    Device {
        /// What was asked.
        request: RequestId,
        /// Where the chunk lies in the file, in bytes.
        offset: usize,
        /// What the device said.
        error: DeviceError,
    },
    /// Answers that could not be read, as often as the limits allow.
    #[error(transparent)]
    Malformed(ResponseError),
    /// No answer, as often as the policy allows.
    #[error("at offset {offset} of {len}: {error}")]
    Unanswered {
        /// Where the chunk lies in the file, in bytes.
        offset: usize,
        /// Length of the file, in bytes.
        len: usize,
        /// What was tried.
        error: ExchangeError,
    },
    /// The server checked the file's SHA-256, and it is another.
    #[error("expected the device to hold the file that was sent, it says that their SHA-256 differ")]
    Mismatch,
    /// The server wants bytes that do not exist.
    #[error("expected the device to want an offset of at most {len}, it wants {offset}")]
    OffsetBeyondEnd {
        /// What it wants, in bytes.
        offset: u64,
        /// Length of the file, in bytes.
        len: usize,
    },
    /// Answer after answer, and the server gets no further.
    #[error("expected the device to get beyond offset {offset} of {len}, it did not in {times} answers")]
    NoProgress {
        /// Where it stays, in bytes.
        offset: usize,
        /// Length of the file, in bytes.
        len: usize,
        /// Answers in a row.
        times: u32,
    },
    /// The server wanted to go back too often.
    #[error("expected the device to move on from offset {from}, it went back to {to}, for the {times}. time")]
    WentBack {
        /// Where it was, in bytes.
        from: usize,
        /// Where it wants to go, in bytes.
        to: usize,
        /// How often it went back.
        times: u32,
    },
    /// The server wanted to start again too often.
    #[error("expected the device to take the whole image, it started again {times} times")]
    Restarted {
        /// How often.
        times: u32,
    },
}

impl From<UploadError> for Cause {
    fn from(error: UploadError) -> Self {
        let message = error.to_string();
        match error {
            UploadError::Empty => Self::new(
                Class::Image,
                "image.empty",
                message,
                "build and sign the image again, and check the path in the plan",
            ),
            UploadError::TooLarge(_) => Self::new(
                Class::Image,
                "image.too_large",
                message,
                "check that the plan names the image, not a disk or an archive",
            ),
            UploadError::BufferTooSmall { .. } => Self::new(
                Class::Device,
                "device.buffer_too_small",
                message,
                "raise CONFIG_MCUMGR_TRANSPORT_NETBUF_SIZE in the device's firmware, or `buffer` in the target's \
                 link where the plan sets it",
            ),
            UploadError::Encode(_) => Self::new(
                Class::Internal,
                "internal.encode",
                message,
                "this is a defect of flashfleet: please report it",
            ),
            UploadError::Device { error, .. } => {
                Self::new(error.class(), error.code(), message, error.help())
            }
            UploadError::Malformed(error) => Self::from(error),
            UploadError::Unanswered { error, .. } => Self { message, ..Self::from(error) },
            UploadError::Mismatch => Self::new(
                Class::Image,
                "image.upload_mismatch",
                message,
                "upload it again; if it stays, check the device's flash and the link",
            ),
            UploadError::OffsetBeyondEnd { .. } => Self::new(
                Class::Device,
                "device.upload_offset",
                message,
                "another client may be uploading another image to this device: stop it, reset the device, and try \
                 again",
            ),
            UploadError::NoProgress { .. } => {
                Self::new(Class::Device, "device.upload_stalled", message, RESET_AND_RETRY)
            }
            UploadError::WentBack { .. } => {
                Self::new(Class::Device, "device.upload_went_back", message, RESET_AND_RETRY)
            }
            UploadError::Restarted { .. } => {
                Self::new(Class::Device, "device.upload_restarted", message, RESET_AND_RETRY)
            }
        }
    }
}

const RESET_AND_RETRY: &str = "check that the device does not restart by itself and that no other client is uploading \
                               to it, reset it, and try again";
