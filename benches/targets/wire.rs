//! How much of the wire an upload uses.
//!
//! The limit is that of `smp::chunk::limit_bytes_per_s`: baud / 10 × image bytes ÷ wire bytes of a full frame; with latency
//! also what the server's buffers allow: one less than it has, each for a round trip over the wire and back. The erase
//! before the first answer does not count.

use std::sync::Arc;
use std::time::Instant;

use flashfleet::actors::in_system;
use flashfleet::client::{Client, ClientOptions, Conversation, UploadRequest};
use flashfleet::image::{Image, ImageBuilder};
use flashfleet::sim::{Fleet, SimSpec};
use flashfleet::smp::chunk::Layout;
use flashfleet::smp::console;

use crate::table::{Figure, Table, Target};

fn image(size: usize) -> Arc<Image> {
    let payload: Vec<u8> = (0..size).map(|n| n.to_le_bytes()[0]).collect();
    Arc::new(
        Image::from_bytes(ImageBuilder::new().version("2.0.0").payload(&payload).build()).expect("an image"),
    )
}

/// The sizes of the server's buffers, in bytes.
const BUFFERS: [u32; 3] = [384, 1024, 2048];

pub(crate) fn run(table: &mut Table) -> Result<(), String> {
    for (latency_ms, target) in [(0, 0.97), (20, 0.95)] {
        for (baud, size) in [(115_200_u32, 32 * 1024), (1_000_000, 256 * 1024)] {
            let shares = BUFFERS.map(|buf_size| share(baud, latency_ms, buf_size, size));
            let least = shares.iter().map(|share| share.share).fold(f64::INFINITY, f64::min);
            let each = shares.iter().zip(BUFFERS).map(|(share, buf_size)| {
                format!("{buf_size}: {:.3}, {:.0} of {:.0} bytes/s", share.share, share.rate, share.limit)
            });
            let each: Vec<String> = each.collect();
            let latency = if latency_ms == 0 { String::new() } else { format!(", {latency_ms} ms each way") };
            table.add(Figure {
                what: &format!("share of the limit, {baud} baud{latency}"),
                target: Some(Target::AtLeast(target)),
                measured: least,
                unit: "",
                decimals: 3,
                how: format!("least of 4 buffers of {}", each.join("; ")),
            });
        }
    }
    Ok(())
}

/// What one upload made of its link.
struct Share {
    rate: f64,
    limit: f64,
    share: f64,
}

/// The most image bytes per second that the server's buffers allow, as far as the link goes.
fn limit_of_buffers(spec: &SimSpec, baud: u32) -> f64 {
    let wire = f64::from(baud) / 10.0;
    let max_message = spec.buf_size as usize - console::PACKET_OVERHEAD;
    let layout = Layout { max_message, image_number: 0, len: 1 << 20, sha: false, upgrade: false };
    let data = layout.data_len(70_000);
    let seconds = |message| console::encoded_len(message, spec.line_length) as f64 / wire;
    // The answer: header, map, `off` and a number of five bytes.
    let (there, back) = (seconds(layout.message_len(70_000, data)), seconds(8 + 1 + 4 + 5));
    let trip = there + back + 2.0 * spec.latency_ms as f64 / 1000.0;
    data as f64 * f64::from(spec.buf_count - 1) / trip
}

/// One upload over a paced link.
fn share(baud: u32, latency_ms: u64, buf_size: u32, size: usize) -> Share {
    let image = image(size);
    let spec = SimSpec { baud: Some(baud), buf_size, latency_ms, ..SimSpec::default() };
    let of_buffers = limit_of_buffers(&spec, baud);
    let (rate, figures) = in_system(async move {
        let fleet = Fleet::new(&spec).expect("a fleet");
        let link = fleet.connector(0).connect().await.expect("a link");
        let mut client = Client::new(link, ClientOptions::default(), Conversation::default());
        client.limits().await.expect("limits");
        // The first answer comes after the erase: the clock of the share starts there.
        let mut first = None;
        let mut progress = |done: u64, _total: u64| {
            first.get_or_insert((Instant::now(), done));
        };
        let uploaded = client
            .upload(
                Arc::clone(image.bytes()),
                *image.file_sha256(),
                image.hash(),
                UploadRequest::default(),
                &mut progress,
            )
            .await
            .expect("an upload");
        let (start, done) = first.expect("a first answer");
        let rest = uploaded.figures.bytes - done;
        (rest as f64 / start.elapsed().as_secs_f64(), uploaded.figures)
    });
    let limit = figures.link_limit_bytes_per_s.expect("a limit").min(of_buffers);
    Share { rate, limit, share: rate / limit }
}
