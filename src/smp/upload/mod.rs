//! Uploading one image: which bytes go next, what an answer means, when it is over.

mod flight;
mod machine;
mod parts;
mod rtt;
mod types;
mod waiting;
mod window;

pub use machine::Upload;
pub use rtt::RoundTrips;
pub use types::{
    Action, ChunkId, ChunkRequest, Limits, LinkMemory, ListOutcome, Progress, Timeouts, UploadConfig,
    UploadError, UploadStats,
};
pub use window::WindowMemory;

#[cfg(test)]
mod fake;
#[cfg(test)]
mod steps;
#[cfg(test)]
mod tests;
