//! Uploading one image: which bytes go next, what an answer means, when it is over.

mod machine;
mod types;

pub use machine::Upload;
pub use types::{
    Action, ChunkId, ChunkRequest, Limits, ListOutcome, Progress, Timeouts, UploadConfig, UploadError,
    UploadStats,
};

#[cfg(test)]
mod fake;
#[cfg(test)]
mod steps;
#[cfg(test)]
mod tests;
