//! Drives an image upload over a client. How an upload goes is decided in `smp::upload`.

use std::sync::Arc;
use std::time::Duration;

use crate::report::UploadFigures;
use crate::smp::chunk::limit_bytes_per_s;
use crate::smp::exchange::{ExchangeError, Ticket};
use crate::smp::message::image::{ImageSlot, ImageState, ListImages};
use crate::smp::upload::{
    Action, ChunkId, ListOutcome, Timeouts, Upload, UploadConfig, UploadError, UploadStats,
};
use crate::smp::{Answer, RawRequest};
use crate::transport::Framing;

use super::long_messages::too_small;
use super::{Client, ClientError, ServerLimits};

/// Requests in flight whatever a server says of its buffers: half the sequence numbers would do, but no link needs so many.
const MOST_IN_FLIGHT: usize = 64;

/// What a ticket stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Asked {
    Chunk(ChunkId),
    List,
}

/// What is in flight, and what each ticket stands for: a few at once.
#[derive(Debug, Default)]
struct Tickets(Vec<(Ticket, Asked)>);

impl Tickets {
    fn insert(&mut self, ticket: Ticket, asked: Asked) {
        self.0.push((ticket, asked));
    }

    fn remove(&mut self, ticket: Ticket) -> Option<Asked> {
        let index = self.0.iter().position(|(other, _)| *other == ticket)?;
        Some(self.0.swap_remove(index).1)
    }

    fn of_chunk(&self, id: ChunkId) -> Option<Ticket> {
        self.0.iter().find(|(_, asked)| *asked == Asked::Chunk(id)).map(|(ticket, _)| *ticket)
    }
}

/// What to upload where.
#[derive(Debug, Clone, Copy, Default)]
pub struct UploadRequest {
    /// Image number; in a bootloader what it wants to be told for the slot.
    pub image_number: u32,
    /// The image number whose primary slot a bootloader is to write, which does not resume an upload. `None` for the
    /// secondary slot of `image_number`, by the application.
    pub primary_of: Option<u32>,
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
        let mut tickets = Tickets::default();
        let ended = self.drive_upload(&mut upload, &mut tickets, request, tlv_hash, &mut progress).await;
        // What is still in flight is not waited for, however it ended.
        let now = self.conversation.now();
        for (ticket, _) in tickets.0 {
            self.conversation.exchange.cancel(now, ticket);
        }
        self.conversation.link = upload.memory();
        if ended.is_err() {
            self.doubt(upload.stats().largest_message);
        }
        let stats = ended?;
        let notes = notes(limits, &stats, request.primary_of.is_some());
        Ok(Uploaded { figures: self.figures(request, limits, &stats, len), notes })
    }

    async fn drive_upload(
        &mut self,
        upload: &mut Upload,
        tickets: &mut Tickets,
        request: UploadRequest,
        tlv_hash: &[u8],
        progress: &mut (impl FnMut(u64, u64) + Send),
    ) -> Result<UploadStats, ClientError> {
        loop {
            let now = self.conversation.now();
            match upload.poll(now) {
                Action::Send(chunk) => {
                    self.pieces.patience = Some(chunk.within);
                    if chunk.again {
                        self.doubt(chunk.request.message_len());
                    }
                    let sent = self.in_protocol(chunk.request);
                    let ticket = self.conversation.exchange.submit(now, sent, chunk.policy);
                    tickets.insert(ticket, Asked::Chunk(chunk.id));
                }
                Action::Cancel(id) => {
                    if let Some(ticket) = tickets.of_chunk(id) {
                        self.conversation.exchange.cancel(now, ticket);
                        tickets.remove(ticket);
                    }
                }
                Action::LookAtList(policy) => {
                    // The chunk that it is looked for was not answered.
                    self.doubt(upload.stats().largest_message);
                    let list = self.in_protocol(RawRequest::new(&ListImages {})?);
                    tickets.insert(self.conversation.exchange.submit(now, list, policy), Asked::List);
                }
                Action::Wait(until) => {
                    let Some((ticket, outcome)) = self.drive_some(until).await? else { continue };
                    let now = self.conversation.now();
                    match tickets.remove(ticket) {
                        Some(Asked::Chunk(id)) => {
                            upload.handle_outcome(now, id, outcome);
                            let at = upload.progress();
                            progress(to_u64(at.offset), to_u64(at.len));
                        }
                        Some(Asked::List) => {
                            upload.handle_list(now, list_outcome(outcome, request, tlv_hash));
                        }
                        None => {}
                    }
                }
                Action::Done(stats) => return Ok(stats),
                Action::Failed(error) => return Err(error.into()),
            }
        }
    }

    fn upload_config(&self, limits: ServerLimits, request: UploadRequest) -> UploadConfig {
        let wire = self.wire_time();
        let base = Timeouts::default();
        let timeouts = Timeouts {
            first: base.first + wire,
            middle: self.options.timeout.unwrap_or(base.middle.max(self.least_silence()) + wire),
            last: base.last + wire,
            measured: self.options.timeout.is_none() && self.least_silence().is_zero(),
        };
        let held = self.conversation.link;
        // Where the size is the plan's word, what an upload before this one found out counts.
        let known = held.max_message.filter(|_| limits.fallback.is_some());
        let max_message = known.map_or(limits.max_message, |known| known.min(limits.max_message));
        UploadConfig {
            image_number: request.image_number,
            upgrade_only: request.upgrade_only,
            shrink_to: limits.fallback.filter(|&smaller| smaller < max_message),
            window: self.window(limits),
            adaptive: self.options.window.is_none(),
            sendings: self.sendings(limits),
            memory: held,
            // Recovery knows no SHA-256 and erases the slot at each first chunk: one that is only slow must not go twice.
            send_sha: request.primary_of.is_none(),
            retries: self.options.retries,
            timeouts,
            ..UploadConfig::new(max_message)
        }
    }

    /// Where a first chunk does not fit, whose limit it is: the server's buffers, or its small packets.
    fn explain(&self, error: UploadError) -> ClientError {
        match (&error, self.write_len()) {
            (&UploadError::BufferTooSmall { max_message, needed }, Some(write_len))
                if max_message == write_len =>
            {
                too_small(needed, write_len).into()
            }
            _ => error.into(),
        }
    }

    /// Requests in flight at most: as the plan says, but never more than the server's buffers are proven to take. One,
    /// where the server does not tell its buffers.
    pub(super) fn window(&self, limits: ServerLimits) -> usize {
        let most = usable_buffers(limits);
        let wanted = self.options.window.map_or(most, |wanted| usize::try_from(wanted).unwrap_or(most));
        wanted.clamp(1, most)
    }

    /// Messages that may lie in the server's buffers while one of them is overdue.
    fn sendings(&self, limits: ServerLimits) -> usize {
        let most = usable_buffers(limits);
        match self.properties().framing {
            // A server without a free buffer drops a datagram; one with a UART may fall over.
            Framing::Datagram => most.max(2),
            Framing::Console { .. } | Framing::Raw | Framing::Cobs | Framing::Gatt { .. } => most,
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
            image_number: request.primary_of.unwrap_or(request.image_number),
            bytes: to_u64(stats.bytes),
            duration_s: stats.duration.as_secs_f64(),
            bytes_per_s: rate(stats.bytes, stats.duration),
            window: u32::try_from(stats.window).unwrap_or(u32::MAX),
            frame_bytes: to_u64(stats.largest_message),
            resent: stats.resent_chunks,
            link_limit_bytes_per_s: properties
                .wire_bytes_per_s
                .map(|wire| limit_bytes_per_s(|n| properties.framing.wire_len(n), wire, message, len)),
            diagnosis: Some(Box::new(self.diagnosis(limits, stats, len))),
        }
    }
}

/// One buffer stays for the answer.
pub(super) fn usable_buffers(limits: ServerLimits) -> usize {
    let count = limits.buffers.map_or(1, |count| count.saturating_sub(1));
    usize::try_from(count).unwrap_or(usize::MAX).clamp(1, MOST_IN_FLIGHT)
}

/// Whether the slot that was written holds the image; a lost answer is no trouble here.
fn list_outcome(
    outcome: Result<Answer, ExchangeError>,
    request: UploadRequest,
    tlv_hash: &[u8],
) -> ListOutcome {
    match outcome {
        Ok(answer) => match answer.decode::<ListImages>() {
            Ok(state) => seen(&state, request, tlv_hash),
            Err(_) => ListOutcome::Unknown,
        },
        Err(error) => ListOutcome::Failed(error),
    }
}

fn seen(state: &ImageState, request: UploadRequest, tlv_hash: &[u8]) -> ListOutcome {
    let UploadRequest { image_number, primary_of, .. } = request;
    let meant = |slot: &&ImageSlot| match primary_of {
        Some(image_number) => slot.image == image_number && slot.slot == 0,
        None => slot.image == image_number && !slot.active,
    };
    let mut others = state.images.iter().filter(meant).peekable();
    if others.peek().is_some_and(|slot| slot.hash.is_none()) {
        return ListOutcome::Unknown;
    }
    if others.any(|slot| slot.hash.as_deref() == Some(tlv_hash)) {
        ListOutcome::Present
    } else {
        ListOutcome::Absent
    }
}

fn notes(limits: ServerLimits, stats: &UploadStats, in_bootloader: bool) -> Vec<String> {
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
    if !stats.sha_sent && !in_bootloader {
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
