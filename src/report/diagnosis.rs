//! Why an upload was as fast as it was: the figures as events carry them, and how they are told. What limits was decided
//! where it was measured; nothing here decides anything.

use std::collections::HashMap;

use serde::{Deserialize, Serialize};

use super::event::UploadFigures;
use super::model::Report;
use super::normalise::finite;
use super::text;

/// Most groups of devices of which the summary tells what limited their uploads.
const MAX_GROUPS: usize = 3;

/// The one thing that limits an upload.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum LimitedBy {
    /// Too little was measured, or nothing stands out.
    #[default]
    Unknown,
    /// The wire is busy nearly all the time.
    BaudRate,
    /// Each round trip carries little, as messages are short.
    BufferSize,
    /// Each round trip carries little, as few messages may be in flight.
    BufferCount,
    /// The same, as the plan says.
    Window,
    /// Each round trip carries no more than one Bluetooth write.
    Mtu,
    /// Round trips are long, and no setting that is known makes up for it.
    Latency,
    /// Erasing the slot takes at least half of the time.
    Erase,
    /// The device takes its time for each chunk.
    Device,
    /// The device, or a link whose speed is not known.
    LinkOrDevice,
    /// Waiting for what was lost.
    Loss,
}

impl LimitedBy {
    /// As the formats write it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Unknown => "unknown",
            Self::BaudRate => "baud_rate",
            Self::BufferSize => "buffer_size",
            Self::BufferCount => "buffer_count",
            Self::Window => "window",
            Self::Mtu => "mtu",
            Self::Latency => "latency",
            Self::Erase => "erase",
            Self::Device => "device",
            Self::LinkOrDevice => "link_or_device",
            Self::Loss => "loss",
        }
    }
}

/// A setting that would lift what limits.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Setting {
    /// A key of the plan, as `link.baud`, or a Kconfig symbol of the device's firmware.
    pub name: String,
    /// Its value.
    pub value: String,
    /// Bytes per second over the whole upload that it would give at most, with everything else as it was measured; `None`
    /// where that cannot be told.
    pub bytes_per_s: Option<f64>,
}

/// Why an upload was as fast as it was. Times are seconds; `None` where they were not measured.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(default)]
pub struct UploadDiagnosis {
    /// What limits.
    pub limited_by: LimitedBy,
    /// What would lift it, where a setting is known that does.
    pub setting: Option<Setting>,
    /// Bytes of the file per second between the first answer and the last: without the erase.
    pub streaming_bytes_per_s: Option<f64>,
    /// Time to the first answer, less a usual round trip: the erase of the slot, where the device makes one.
    pub erase_s: Option<f64>,
    /// Bytes of the file in one full chunk.
    pub chunk_bytes: u64,
    /// Chunks in flight most of the time.
    pub in_flight: u32,
    /// A chunk and its answer, with nothing else on the way.
    pub round_trip_s: Option<f64>,
    /// Of that, the chunk's time on the wire.
    pub wire_s: Option<f64>,
    /// Of that, what any request takes besides its bytes.
    pub latency_s: Option<f64>,
    /// How long the device is busy with one chunk.
    pub device_s: Option<f64>,
}

impl UploadDiagnosis {
    /// Every figure finite.
    pub(super) fn normalise(&mut self) {
        let Self {
            setting,
            streaming_bytes_per_s,
            erase_s,
            round_trip_s,
            wire_s,
            latency_s,
            device_s,
            limited_by: _,
            chunk_bytes: _,
            in_flight: _,
        } = self;
        let setting = setting.as_mut().map(|setting| &mut setting.bytes_per_s);
        let times = [streaming_bytes_per_s, erase_s, round_trip_s, wire_s, latency_s, device_s];
        for figure in times.into_iter().chain(setting) {
            *figure = figure.map(finite);
        }
    }

    /// `limited by …: why`; `None` where it is not known.
    fn told(&self, figures: &UploadFigures) -> Option<String> {
        let trips = |what: &str| {
            let trip = self.round_trip_s?;
            let most = f64::from(self.in_flight) * self.chunk_bytes as f64 / trip;
            Some(format!(
                "{what}: {} × {} bytes in a round trip of {} are at most {}",
                self.in_flight,
                self.chunk_bytes,
                text::seconds(trip),
                text::rate(most)
            ))
        };
        let chunk = |who: &str, seconds: f64| {
            format!("{who} takes {} for a chunk of {} bytes", text::seconds(seconds), self.chunk_bytes)
        };
        let why = match self.limited_by {
            LimitedBy::Unknown => return None,
            LimitedBy::BaudRate => "the baud rate: the wire is busy nearly all the time".to_owned(),
            LimitedBy::BufferSize => trips("the device's buffer size")?,
            LimitedBy::BufferCount => trips("the device's number of buffers")?,
            LimitedBy::Window => trips("the plan's window")?,
            LimitedBy::Mtu => trips("the MTU")?,
            LimitedBy::Latency => trips("latency")?,
            LimitedBy::Erase => format!(
                "the erase of the slot: {} of {}",
                text::seconds(self.erase_s?),
                text::seconds(figures.duration_s)
            ),
            LimitedBy::Device => format!("the device: {}", chunk("it", self.device_s?)),
            LimitedBy::LinkOrDevice => {
                let rate = self.streaming_bytes_per_s.filter(|rate| *rate > 0.0)?;
                format!("the link or the device: {}", chunk("it", self.chunk_bytes as f64 / rate))
            }
            LimitedBy::Loss => format!("losses: {} sent again", text::count(count(figures.resent), "chunk")),
        };
        Some(format!("limited by {why}"))
    }
}

impl Setting {
    /// `NAME=VALUE`.
    pub(super) fn assignment(&self) -> String {
        format!("{}={}", self.name, self.value)
    }
}

impl UploadFigures {
    /// What limited the upload and what would lift that, in one line; `None` where it is not known.
    pub(super) fn explained(&self) -> Option<String> {
        let diagnosis = self.diagnosis.as_ref()?;
        let mut line = text::rate(self.bytes_per_s);
        if let Some(limit) = self.link_limit_bytes_per_s.filter(|limit| *limit > 0.0) {
            let share = 100.0 * self.bytes_per_s / limit;
            line.push_str(&format!(" ({share:.0} % of the link's {})", text::rate(limit)));
        }
        line.push_str(": ");
        line.push_str(&diagnosis.told(self)?);
        if let Some(setting) = &diagnosis.setting {
            line.push_str(&format!("; {} would ", setting.assignment()));
            match setting.bytes_per_s {
                Some(rate) => line.push_str(&format!("give up to {}", text::rate(rate))),
                None => line.push_str("help"),
            }
        }
        Some(text::printable(&line))
    }
}

/// What limited the uploads: one line for all devices with the same answer, told of the slowest. The largest groups first.
pub(super) fn lines(report: &Report) -> Vec<String> {
    let mut groups: Vec<(usize, &UploadFigures)> = Vec::new();
    let mut index: HashMap<(LimitedBy, Option<String>), usize> = HashMap::new();
    for device in &report.devices {
        let uploads = device.images.iter().filter_map(|image| image.upload.as_ref());
        let Some(upload) = uploads.max_by_key(|upload| upload.bytes) else { continue };
        let Some(diagnosis) = upload.diagnosis.as_ref() else { continue };
        if upload.explained().is_none() {
            continue;
        }
        let key = (diagnosis.limited_by, diagnosis.setting.as_ref().map(Setting::assignment));
        let at = *index.entry(key).or_insert_with(|| {
            groups.push((0, upload));
            groups.len() - 1
        });
        if let Some((devices, slowest)) = groups.get_mut(at) {
            *devices += 1;
            if upload.bytes_per_s < slowest.bytes_per_s {
                *slowest = upload;
            }
        }
    }
    groups.sort_by_key(|(devices, _)| std::cmp::Reverse(*devices));
    let tell = |(devices, slowest): &(usize, &UploadFigures)| {
        let explained = slowest.explained()?;
        Some(match devices {
            1 => format!("  upload {explained}"),
            _ => format!("  uploads of {devices} devices, slowest {explained}"),
        })
    };
    groups.iter().take(MAX_GROUPS).filter_map(tell).collect()
}

fn count(number: u64) -> usize {
    usize::try_from(number).unwrap_or(usize::MAX)
}
