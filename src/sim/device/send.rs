//! What a simulated device sends, and what the faults make of it on the way.

use std::time::Duration;

use super::Device;
use crate::sim::server::Reply;
use crate::sim::spec::SimTransport;
use crate::sim::uart::tx_lines;
use crate::smp::{HEADER_LEN, Time};

/// Lines or datagrams that wait for a host which does not read; of more the oldest are lost, as in a driver's buffer.
const OUTPUTS_KEPT: usize = 256;

impl Device {
    /// Sends an answer, as far as the faults let it and it is `heard`; gives the time at which it has left the device.
    pub(super) fn send(&mut self, reply: Reply, heard: bool) -> Time {
        let Reply { mut message, group, command, nth, effects } = reply;
        let mut lost = self
            .fault
            .lose_answer
            .iter()
            .any(|answer| answer.group == group && answer.command == command && answer.nth == nth);
        if effects.reset {
            self.reset_answers += 1;
            lost |= self.fault.lose_reset_answer && self.reset_answers == 1;
            if !self.fault.ignore_reset {
                self.boot_mode = effects.boot_mode;
                self.reset_at = Some(self.now + Duration::from_millis(self.spec.reset_ms));
            }
        }
        if effects.upload_done {
            self.uploads += 1;
            lost |= self.fault.lose_last_upload_answer && self.uploads == 1;
        }
        lost |= self.dice.throw(self.fault.lose);
        let corrupt = self.dice.throw(self.fault.corrupt);
        let copies = if self.dice.throw(self.fault.duplicate) { 2 } else { 1 };
        let late = self.dice.throw(self.fault.delay);
        let late = Duration::from_millis(if late { self.fault.delay_ms } else { 0 });
        if lost || !heard {
            return self.now;
        }
        let mut until = self.now;
        match self.spec.transport {
            SimTransport::Udp => {
                if corrupt {
                    self.flip_a_bit(&mut message);
                }
                for _ in 1..copies {
                    self.output(self.now + late, message.clone());
                }
                self.output(self.now + late, message);
            }
            SimTransport::Ble => {
                if corrupt {
                    self.flip_a_bit(&mut message);
                }
                for _ in 0..copies {
                    for value in self.notifications(&message) {
                        self.output(self.now + late, value);
                    }
                }
            }
            SimTransport::Serial => {
                if self.dice.throw(self.fault.chatter) {
                    until = self.send_text("[00:00:01.234,000] <inf> app: a line of log\r\n", late);
                }
                let mut lines = tx_lines(&message, self.spec.framing);
                if corrupt && let Some(line) = lines.first_mut() {
                    self.flip_a_bit(line);
                }
                for _ in 1..copies {
                    for line in &lines {
                        until = self.send_line(line.clone(), late);
                    }
                }
                for line in lines {
                    until = self.send_line(line, late);
                }
            }
        }
        until
    }

    fn send_text(&mut self, text: &str, late: Duration) -> Time {
        self.send_line(text.as_bytes().to_vec(), late)
    }

    fn send_line(&mut self, line: Vec<u8>, late: Duration) -> Time {
        let done = self.to_host.carry(self.now, line.len(), self.spec.baud);
        self.output(done + late, line);
        done
    }

    fn output(&mut self, at: Time, bytes: Vec<u8>) {
        let at = at + Duration::from_millis(self.spec.latency_ms);
        if self.outputs.len() >= OUTPUTS_KEPT {
            self.outputs.pop_front();
        }
        // Nearly always it is the last one.
        let before = self.outputs.iter().rposition(|(other, _)| *other <= at).map_or(0, |last| last + 1);
        self.outputs.insert(before, (at, bytes));
    }

    pub(super) fn flip_a_bit(&mut self, bytes: &mut [u8]) {
        // Behind the header, so that the answer still looks like the one that is waited for.
        let skip = if bytes.len() > HEADER_LEN { HEADER_LEN } else { 0 };
        let at = skip + self.dice.below(bytes.len() - skip);
        let bit = self.dice.below(8);
        if let Some(byte) = bytes.get_mut(at) {
            *byte ^= 1 << bit;
        }
    }

    pub(super) fn log(&mut self, text: &str) {
        if self.spec.boot_log && self.spec.transport == SimTransport::Serial && self.is_present() {
            self.send_text(text, Duration::ZERO);
        }
    }
}
