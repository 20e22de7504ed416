//! Drives an image upload over a client. How an upload goes is decided in `smp::upload`.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use crate::report::UploadFigures;
use crate::smp::RawRequest;
use crate::smp::chunk::limit_bytes_per_s;
use crate::smp::exchange::{Policy, Ticket};
use crate::smp::message::image::{ImageState, ListImages};
use crate::smp::upload::{
    Action, ChunkId, ListOutcome, Timeouts, Upload, UploadConfig, UploadError, UploadStats,
};

use super::long_messages::too_small;
use super::{Client, ClientError, ServerLimits};

/// What to upload where.
#[derive(Debug, Clone, Copy, Default)]
pub struct UploadRequest {
    /// Image number.
    pub image_number: u32,
    /// Let the server refuse a version that is not newer.
    pub upgrade_only: bool,
}

/// What came of an upload.
#[derive(Debug, Clone)]
pub struct Uploaded {
    /// The figures.
    pub figures: UploadFigures,
    /// What a person should know.
    pub notes: Vec<String>,
}

impl Client {
    /// Uploads a file whose SHA-256 is `sha256` and whose TLV hash is `tlv_hash`. `progress` is called with the bytes that
    /// the device has, and those in all.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn upload(
        &mut self,
        bytes: Arc<[u8]>,
        sha256: [u8; 32],
        tlv_hash: &[u8],
        request: UploadRequest,
        mut progress: impl FnMut(u64, u64) + Send,
    ) -> Result<Uploaded, ClientError> {
        let limits = self.limits().await?;
        let config = self.upload_config(limits, request);
        let len = bytes.len();
        let mut upload = Upload::new(bytes, sha256, config).map_err(|error| self.explain(error))?;
        let mut tickets: HashMap<Ticket, ChunkId> = HashMap::new();
        let stats = loop {
            let now = self.conversation.now();
            match upload.poll(now) {
                Action::Send(chunk) => {
                    let ticket = self.conversation.exchange.submit(now, chunk.request, chunk.policy);
                    tickets.insert(ticket, chunk.id);
                }
                Action::Cancel(id) => {
                    if let Some((&ticket, _)) = tickets.iter().find(|(_, chunk)| **chunk == id) {
                        self.conversation.exchange.cancel(now, ticket);
                        tickets.remove(&ticket);
                    }
                }
                Action::LookAtList => {
                    let outcome = self.look_for(request.image_number, tlv_hash).await?;
                    upload.handle_list(self.conversation.now(), outcome);
                }
                Action::Wait(until) => {
                    if let Some((ticket, outcome)) = self.drive_some(until).await?
                        && let Some(id) = tickets.remove(&ticket)
                    {
                        upload.handle_outcome(self.conversation.now(), id, outcome);
                        progress(to_u64(upload.progress().offset), to_u64(len));
                    }
                }
                Action::Done(stats) => break stats,
                Action::Failed(error) => return Err(error.into()),
            }
        };
        Ok(Uploaded { figures: self.figures(request, limits, &stats, len), notes: notes(limits, &stats) })
    }

    fn upload_config(&self, limits: ServerLimits, request: UploadRequest) -> UploadConfig {
        let wire = self.wire_time();
        let base = Timeouts::default();
        let timeouts = Timeouts {
            first: base.first + wire,
            middle: self.options.timeout.unwrap_or(base.middle + wire),
            last: base.last + wire,
        };
        UploadConfig {
            image_number: request.image_number,
            upgrade_only: request.upgrade_only,
            shrink_to: limits.fallback.filter(|&smaller| smaller < limits.max_message),
            window: self.window(limits),
            retries: self.options.retries,
            timeouts,
            ..UploadConfig::new(limits.max_message)
        }
    }

    /// Where a first chunk does not fit, whose limit it is: the server's buffers, or its small packets.
    fn explain(&self, error: UploadError) -> ClientError {
        match (&error, self.write_len()) {
            (&UploadError::BufferTooSmall { max_message, needed }, Some(write_len)) if max_message == write_len => {
                too_small(needed, write_len).into()
            }
            _ => error.into(),
        }
    }

    /// Requests in flight: as the plan says, but never more than the server's buffers are proven to take.
    fn window(&self, limits: ServerLimits) -> usize {
        let wanted = self.options.window.unwrap_or(1);
        let most = limits.buffers.map_or(1, |count| count.saturating_sub(1)).max(1);
        usize::try_from(wanted.clamp(1, most)).unwrap_or(1)
    }

    /// Whether a slot that is not running holds the image; a lost answer is no trouble here.
    async fn look_for(&mut self, image_number: u32, tlv_hash: &[u8]) -> Result<ListOutcome, ClientError> {
        let policy = Policy { timeout: self.timeout(), retries: self.options.retries };
        match self.ask(RawRequest::new(&ListImages {})?, policy).await {
            Ok(answer) => Ok(match answer.decode::<ListImages>() {
                Ok(state) => seen(&state, image_number, tlv_hash),
                Err(_) => ListOutcome::Unknown,
            }),
            Err(ClientError::Unanswered(error)) => Ok(ListOutcome::Failed(error)),
            Err(error) => Err(error),
        }
    }

    fn figures(
        &self,
        request: UploadRequest,
        limits: ServerLimits,
        stats: &UploadStats,
        len: usize,
    ) -> UploadFigures {
        let properties = self.properties();
        let message = stats.shrunk_to.unwrap_or(limits.max_message);
        UploadFigures {
            image_number: request.image_number,
            bytes: to_u64(stats.bytes),
            duration_s: stats.duration.as_secs_f64(),
            bytes_per_s: rate(stats.bytes, stats.duration),
            window: u32::try_from(stats.window).unwrap_or(u32::MAX),
            frame_bytes: to_u64(stats.largest_message),
            resent: stats.resent_chunks,
            link_limit_bytes_per_s: properties
                .wire_bytes_per_s
                .map(|wire| limit_bytes_per_s(|n| properties.framing.wire_len(n), wire, message, len)),
        }
    }
}

fn seen(state: &ImageState, image_number: u32, tlv_hash: &[u8]) -> ListOutcome {
    let mut others = state.images.iter().filter(|slot| slot.image == image_number && !slot.active).peekable();
    if others.peek().is_some_and(|slot| slot.hash.is_none()) {
        return ListOutcome::Unknown;
    }
    if others.any(|slot| slot.hash.as_deref() == Some(tlv_hash)) {
        ListOutcome::Present
    } else {
        ListOutcome::Absent
    }
}

fn notes(limits: ServerLimits, stats: &UploadStats) -> Vec<String> {
    let mut notes = Vec::new();
    if limits.guessed {
        notes.push(format!(
            "the server does not tell its buffers: messages of {} bytes were sent; set link.buffer to send larger ones",
            limits.max_message
        ));
    }
    if let Some(size) = stats.shrunk_to {
        notes.push(format!("the first chunk met silence and was sent again in a message of {size} bytes"));
    }
    if let Some(offset) = stats.resumed_at {
        notes.push(format!("resumed at byte {offset} of an earlier upload"));
    }
    if !stats.sha_sent {
        notes.push(
            "the first chunk had no room for the file's SHA-256: an upload that breaks off starts over"
                .to_owned(),
        );
    }
    if stats.seen_in_list {
        notes.push("the last answer was lost: the image list shows that the upload is complete".to_owned());
    }
    notes
}

/// Bytes per second; 0 where no time passed.
fn rate(bytes: usize, time: Duration) -> f64 {
    let seconds = time.as_secs_f64();
    if seconds <= 0.0 {
        return 0.0;
    }
    f64::from(u32::try_from(bytes).unwrap_or(u32::MAX)) / seconds
}

fn to_u64(value: usize) -> u64 {
    u64::try_from(value).unwrap_or(u64::MAX)
}
