//! What an upload's measurements are put beside to tell what limited it: what link, server and plan allow. The judgement is
//! `smp::upload::diagnose`'s.

use std::time::Duration;

use crate::report::{LimitedBy, Setting, UploadDiagnosis};
use crate::smp::upload::{
    Bottleneck, Conditions, Diagnosis, MessageBound, UploadStats, WindowBound, diagnose,
};
use crate::smp::{Answer, HEADER_LEN};
use crate::transport::Framing;

use super::upload::usable_buffers;
use super::{Client, ServerLimits};

impl Client {
    /// A request of `request_len` bytes was answered: the quickest tells what any request takes besides its bytes.
    pub(super) fn note_trip(&mut self, request_len: usize, answer: &Answer) {
        if answer.sends != 1 {
            return;
        }
        let properties = self.properties();
        let bytes = properties.framing.wire_len(request_len)
            + properties.framing.wire_len(HEADER_LEN + answer.payload.len());
        let wire = properties.wire_bytes_per_s.filter(|rate| *rate >= 1.0).map_or(Duration::ZERO, |rate| {
            Duration::from_secs_f64(f64::from(u32::try_from(bytes).unwrap_or(u32::MAX)) / rate)
        });
        let trip = answer.rtt.saturating_sub(wire);
        self.quick_trip = Some(self.quick_trip.map_or(trip, |quickest| quickest.min(trip)));
    }

    /// How long a small question may wait for its answer, by what was measured: a few of the quickest trips there were.
    #[must_use]
    pub fn measured_timeout(&self) -> Option<Duration> {
        Some(self.quick_trip?.saturating_mul(4).saturating_add(self.wire_time()))
    }

    /// What limited an upload of a file of `file_len` bytes.
    pub(super) fn diagnosis(
        &self,
        limits: ServerLimits,
        stats: &UploadStats,
        file_len: usize,
    ) -> UploadDiagnosis {
        let properties = self.properties();
        let max_message = stats.shrunk_to.unwrap_or(limits.max_message);
        let most = usable_buffers(limits);
        let window = self.window(limits);
        let window_bound = match limits.buffers {
            _ if window < most => WindowBound::Plan { most },
            Some(_) => WindowBound::Buffers { most: self.options.window.map_or(usize::MAX, to_usize) },
            None => WindowBound::Untold,
        };
        told(&diagnose(
            stats,
            &Conditions {
                file_len,
                max_message,
                message_bound: self.message_bound(max_message),
                window,
                window_bound,
                wire_bytes_per_s: properties.wire_bytes_per_s,
                wire_len: &|len| properties.framing.wire_len(len),
                quick_trip: self.quick_trip,
                radio: self.write_len().is_some(),
            },
        ))
    }

    /// What keeps messages from being longer than `max_message`.
    fn message_bound(&self, max_message: usize) -> MessageBound {
        let properties = self.properties();
        match (properties.framing, self.told_message) {
            (_, Some(most)) if self.options.buffer.is_some() && max_message < most => {
                MessageBound::Plan { most }
            }
            (Framing::Gatt { write_len }, Some(most)) if max_message == write_len && write_len < most => {
                MessageBound::Write { most }
            }
            (_, None) => MessageBound::Untold,
            _ if max_message >= properties.max_message => MessageBound::Link,
            _ => {
                let overhead = properties.buffer_overhead;
                let plan = self.options.buffer.map_or(usize::MAX, to_usize).saturating_sub(overhead);
                MessageBound::Buffers { overhead, most: properties.max_message.min(plan) }
            }
        }
    }
}

fn to_usize(number: u32) -> usize {
    usize::try_from(number).unwrap_or(usize::MAX)
}

/// As events tell it.
fn told(diagnosis: &Diagnosis) -> UploadDiagnosis {
    let setting = |remedy: &crate::smp::upload::Remedy| {
        let (name, value) = remedy.change.setting();
        Setting { name: name.to_owned(), value, bytes_per_s: remedy.bytes_per_s }
    };
    UploadDiagnosis {
        limited_by: limited_by(diagnosis.limited_by),
        setting: diagnosis.remedy.as_ref().map(setting),
        streaming_bytes_per_s: diagnosis.streaming_bytes_per_s,
        erase_s: diagnosis.erase_s,
        chunk_bytes: u64::try_from(diagnosis.chunk_bytes).unwrap_or(u64::MAX),
        in_flight: u32::try_from(diagnosis.in_flight).unwrap_or(u32::MAX),
        round_trip_s: diagnosis.round_trip_s,
        wire_s: diagnosis.wire_s,
        latency_s: diagnosis.latency_s,
        device_s: diagnosis.device_s,
    }
}

fn limited_by(bottleneck: Bottleneck) -> LimitedBy {
    match bottleneck {
        Bottleneck::Unknown => LimitedBy::Unknown,
        Bottleneck::BaudRate => LimitedBy::BaudRate,
        Bottleneck::BufferSize => LimitedBy::BufferSize,
        Bottleneck::BufferCount => LimitedBy::BufferCount,
        Bottleneck::Window => LimitedBy::Window,
        Bottleneck::Mtu => LimitedBy::Mtu,
        Bottleneck::Latency => LimitedBy::Latency,
        Bottleneck::Erase => LimitedBy::Erase,
        Bottleneck::Device => LimitedBy::Device,
        Bottleneck::LinkOrDevice => LimitedBy::LinkOrDevice,
        Bottleneck::Loss => LimitedBy::Loss,
    }
}
