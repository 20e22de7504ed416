//! The receiving side of a simulated device without console framing: bare messages after Zephyr
//! `subsys/mgmt/mcumgr/transport/src/smp_raw_uart.c` and the raw half of `serial_util.c`, and COBS frames as MCUboot's
//! recovery takes them. No ports here: time is an argument.

use std::time::Duration;

use super::spec::{SimFraming, SimSpec};
use crate::smp::{HEADER_LEN, Time, cobs};

/// Operations that a header can hold (`MGMT_OP_COUNT`).
const OPERATIONS: u8 = 4;

/// What has come of a message.
#[derive(Debug, Default)]
pub(super) struct BareReceiver {
    bytes: Vec<u8>,
    /// When the first of them came.
    since: Time,
    cobs: cobs::Decoder,
}

impl BareReceiver {
    /// Bytes arrive; gives the messages that they complete.
    pub(super) fn arrive(&mut self, now: Time, bytes: &[u8], spec: &SimSpec) -> Vec<Vec<u8>> {
        let limit = spec.buf_size as usize;
        if spec.framing == SimFraming::Cobs {
            return self.cobs.push(bytes).into_iter().filter(|message| message.len() <= limit).collect();
        }
        bytes.iter().filter_map(|byte| self.take(now, *byte, limit, spec.input_timeout_ms)).collect()
    }

    /// The server looks at each byte as it comes, and only then at whether it has waited too long for it: the time counts
    /// from the first byte of a message.
    fn take(&mut self, now: Time, byte: u8, limit: usize, timeout_ms: u64) -> Option<Vec<u8>> {
        let overdue = timeout_ms > 0 && now >= self.since + Duration::from_millis(timeout_ms);
        if overdue || self.bytes.is_empty() {
            self.bytes.clear();
            self.since = now;
        }
        self.bytes.push(byte);
        let &[first, _, high, low, _, _, _, _, ..] = self.bytes.as_slice() else { return None };
        let length = HEADER_LEN + usize::from(u16::from_be_bytes([high, low]));
        if length > limit || first & 0x07 >= OPERATIONS {
            // No header: nothing says where the next one begins, so the next byte does.
            self.bytes.clear();
            return None;
        }
        (self.bytes.len() == length).then(|| std::mem::take(&mut self.bytes))
    }
}
