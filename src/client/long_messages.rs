//! Messages that are longer than one write, on links where the server may or may not put writes together (GATT: in Zephyr
//! `CONFIG_MCUMGR_TRANSPORT_BT_REASSEMBLY`). A longer echo shows it; until then, and where none comes back, every message
//! goes in one write.

use crate::smp::exchange::Policy;
use crate::smp::message::os::Echo;
use crate::smp::{HEADER_LEN, RawRequest};
use crate::transport::{Framing, LinkError, LinkErrorKind};

use super::{Client, ClientError};

/// Bytes of an echo's payload besides its text and the text's length: a map of one, the key `d`.
const ECHO_FRAME: usize = 3;

impl Client {
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
        // Two bytes more than a write, as the text's length may take one byte less than thought.
        let len = wanted.min(2 * write_len).max(write_len + 2);
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
