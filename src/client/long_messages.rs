//! Messages that are longer than one write, on links where the server may or may not put writes together (GATT: in Zephyr
//! `CONFIG_MCUMGR_TRANSPORT_BT_REASSEMBLY`). A longer echo shows it; until then, and where none comes back, every message
//! goes in one write.
//!
//! Nothing marks where a message begins. A server that missed one of its writes takes what comes next for the rest: a repeat
//! completes the first sending, with its own header in the middle of the data, or everything is swallowed from then on.
//! So before anything else is said after silence, the server is made to forget what it holds; where that does not help,
//! the link is of no use, and another one is opened.

use std::time::Duration;

use crate::smp::exchange::Policy;
use crate::smp::message::os::Echo;
use crate::smp::{HEADER_LEN, RawRequest, Time};
use crate::transport::{Framing, LinkError, LinkErrorKind};

use super::{Client, ClientError};

/// Bytes of an echo's payload besides its text and the text's length: a map of one, the key `d`.
const ECHO_FRAME: usize = 3;

/// So many links of no use later, long messages are not for this device, whatever a longer echo says.
const STUCK_LINKS: u32 = 2;

/// Where the server is with messages of several writes.
#[derive(Debug, Default)]
pub(super) struct Pieces {
    /// One was not answered: the server may hold a part of it.
    in_doubt: bool,
    /// When it was made to forget that, if it has not answered since.
    pub(super) forgot_at: Option<Time>,
    /// How long the server may be silent after that, busy with what it was asked; `None` for as long as it is asked again.
    pub(super) patience: Option<Duration>,
    /// It was made to forget, and stays silent: nothing is to be had over this link.
    is_stuck: bool,
}

impl Client {
    /// Whether the link is of no use any more, where another one may be: over it, a message of several writes went wrong and
    /// nothing is answered since.
    #[must_use]
    pub fn is_stuck(&self) -> bool {
        self.pieces.is_stuck
    }

    /// A message of this length met silence.
    pub(super) fn doubt(&mut self, len: usize) {
        self.pieces.in_doubt |= self.write_len().is_some_and(|write_len| len > write_len);
    }

    /// Has the server forget a part of a message that it may hold, before a message of this length is sent.
    pub(super) async fn before_sending(&mut self, len: usize, is_repeat: bool) -> Result<(), LinkError> {
        if is_repeat {
            self.doubt(len);
        }
        if !self.pieces.in_doubt {
            return Ok(());
        }
        let now = self.conversation.now();
        let forgot_at = *self.pieces.forgot_at.get_or_insert(now);
        let silent_for = now.saturating_sub(forgot_at);
        if !silent_for.is_zero() && self.pieces.patience.is_some_and(|patience| silent_for >= patience) {
            return Err(self.stuck(silent()));
        }
        match self.link.forget_parts().await {
            Ok(()) => {
                self.pieces.in_doubt = false;
                Ok(())
            }
            // The device went, and its link with it.
            Err(error) if error.kind == LinkErrorKind::Disconnected => Err(error),
            Err(error) => Err(self.stuck(error)),
        }
    }

    /// Over the next link it is found out anew whether long messages arrive; once that went wrong too, none are sent.
    fn stuck(&mut self, error: LinkError) -> LinkError {
        self.pieces.is_stuck = true;
        self.conversation.stuck_links += 1;
        self.conversation.reassembles = (self.conversation.stuck_links >= STUCK_LINKS).then_some(false);
        tracing::debug!(%error, links = self.conversation.stuck_links, "the link is of no use");
        error
    }

    /// Bytes that fit one write, where that matters.
    pub(super) fn write_len(&self) -> Option<usize> {
        match self.properties().framing {
            Framing::Gatt { write_len } => Some(write_len),
            Framing::Console { .. } | Framing::Raw | Framing::Cobs | Framing::Datagram => None,
        }
    }

    /// The longest message that may be sent, of those of at most `wanted` bytes. Finds out whether the server puts writes
    /// together where that is not known: it costs an echo, and one time to wait for it where none comes.
    pub(super) async fn longest(&mut self, wanted: usize) -> Result<usize, ClientError> {
        let Some(write_len) = self.write_len().filter(|write_len| wanted > *write_len) else {
            return Ok(wanted);
        };
        let proven = match self.conversation.reassembles {
            Some(known) => known,
            None => self.prove(write_len, wanted).await?,
        };
        Ok(if proven { wanted } else { write_len })
    }

    /// Refuses a message that would not arrive.
    pub(super) async fn must_fit(&mut self, len: usize) -> Result<(), ClientError> {
        let most = self.longest(len).await?;
        if len > most { Err(too_small(len, most).into()) } else { Ok(()) }
    }

    /// One echo in two writes, or as many bytes as `wanted`.
    async fn prove(&mut self, write_len: usize, wanted: usize) -> Result<bool, ClientError> {
        // The second write is a byte shorter than the first; two bytes more than a write, as the text's length may take one
        // byte less than thought.
        let len = wanted.min(2 * write_len - 1).max(write_len + 2);
        let room = len - HEADER_LEN - ECHO_FRAME;
        // CBOR tells lengths below 24 in one byte, below 256 in two, others in three (RFC 8949, 3).
        let text = "x".repeat(match room {
            0..=24 => room - 1,
            25..=257 => room - 2,
            _ => room - 3,
        });
        // A server that the attempt throws off is not asked again.
        self.conversation.reassembles = Some(false);
        let policy = Policy { timeout: self.timeout(), retries: 0 };
        let request = RawRequest::new(&Echo { d: text.clone() })?;
        let proven = match self.ask_anyway(request, policy).await {
            Ok(answer) => answer.decode::<Echo>().is_ok_and(|echo| echo.r == text),
            // Silence, as Zephyr drops a first write that is shorter than its header says.
            Err(ClientError::Unanswered(_)) => false,
            Err(error) => return Err(error),
        };
        tracing::debug!(proven, len, "messages of several writes");
        self.conversation.reassembles = Some(proven);
        Ok(proven)
    }

    /// Another firmware may be running: what the last one was able to do is found out anew. What it was not is not, as that
    /// costs the time to wait for an answer.
    pub(super) fn forget_proof(&mut self) {
        if self.conversation.reassembles == Some(true) {
            self.conversation.reassembles = None;
        }
    }
}

/// The trouble with a server that was made to forget the part of a message that it held, and stays silent.
fn silent() -> LinkError {
    LinkError::new(
        LinkErrorKind::Io,
        "expected an answer once the device had been told to drop a message of which a write was lost, it stays silent",
        "bring the device nearer; set `mtu: 23` in the target's link to have shorter writes",
    )
}

/// The trouble with a message of `needed` bytes where a write takes `write_len`.
pub(super) fn too_small(needed: usize, write_len: usize) -> LinkError {
    LinkError::new(
        LinkErrorKind::MtuTooSmall,
        format!(
            "expected room for a message of {needed} bytes, one write takes {write_len} (MTU {}) and the device does not put \
             several together",
            write_len + 3
        ),
        "build the firmware with CONFIG_MCUMGR_TRANSPORT_BT_REASSEMBLY=y, or with a larger CONFIG_BT_L2CAP_TX_MTU and \
         CONFIG_BT_BUF_ACL_RX_SIZE",
    )
}
