//! One device's SMP conversation over a link: drives the protocol of `smp` with tokio's clock. Knows no actors, no plans
//! and no steps.

mod alarm;
mod bootloader;
mod connect;
mod conversation;
mod diagnosis;
mod error;
mod files;
mod long_messages;
mod options;
mod received;
mod shell;
mod upload;

pub use conversation::{Client, Conversation, ServerLimits};
pub use error::ClientError;
pub use files::{FileError, FilePut};
pub use options::ClientOptions;
pub use received::ReceivedFile;
pub use upload::{UploadRequest, Uploaded};
