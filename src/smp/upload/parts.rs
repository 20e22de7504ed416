//! Small parts of the upload: how its messages are laid out, and which bytes were sent.

use super::types::{UploadConfig, UploadError};
use crate::smp::chunk::{Layout, MAX_MESSAGE};

/// The layout of an upload's messages, without the SHA-256 where the image header does not fit beside it.
pub(super) fn layout(config: &UploadConfig, len: usize, max_message: usize) -> Result<Layout, UploadError> {
    let with_sha = Layout {
        max_message: max_message.min(MAX_MESSAGE),
        image_number: config.image_number,
        len,
        sha: config.send_sha,
        upgrade: config.upgrade_only,
    };
    if with_sha.fits() {
        return Ok(with_sha);
    }
    let layout = Layout { sha: false, ..with_sha };
    if layout.fits() {
        return Ok(layout);
    }
    Err(UploadError::BufferTooSmall { max_message, needed: layout.smallest_message() })
}

/// Ranges of bytes that were sent, for counting each byte once.
#[derive(Debug, Default)]
pub(super) struct Ranges(Vec<(usize, usize)>);

impl Ranges {
    /// Adds a range; says how many of its bytes are new.
    pub(super) fn add(&mut self, mut start: usize, mut end: usize) -> usize {
        let len = end - start;
        let mut known = 0;
        self.0.retain(|&(from, to)| {
            if to < start || from > end {
                return true;
            }
            known += to.min(end).saturating_sub(from.max(start));
            start = start.min(from);
            end = end.max(to);
            false
        });
        self.0.push((start, end));
        len - known
    }
}
