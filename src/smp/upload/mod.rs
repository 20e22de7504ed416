//! Uploading one image: which bytes go next, what an answer means, when it is over.

mod diagnosis;
mod flight;
mod machine;
mod pace;
mod parts;
mod rtt;
mod types;
mod waiting;
mod window;

pub use diagnosis::{Bottleneck, Change, Conditions, Diagnosis, MessageBound, Remedy, WindowBound, diagnose};
pub use machine::Upload;
pub use pace::{Pace, Stretch};
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
