//! How much of the wire an upload uses, and what a fleet costs against one device. Prints ratios from one run on one
//! machine; nothing here passes or fails.
//!
//! The limit is that of `smp::chunk::limit_bytes_per_s`: baud / 10 × image bytes ÷ wire bytes of a full frame; with latency
//! also what the server's buffers allow: one less than it has, each for a round trip over the wire and back. The erase
//! before the first answer does not count.
#![expect(clippy::print_stdout, reason = "the table is what a bench is for")]

use std::sync::Arc;
use std::time::{Duration, Instant};

use flashfleet::actors::{Run, in_system};
use flashfleet::client::{Client, ClientOptions, Conversation, UploadRequest};
use flashfleet::image::{Image, ImageBuilder, ImageSet};
use flashfleet::plan::{Expect, Plan, Step, Target};
use flashfleet::report::Outcome;
use flashfleet::sim::{Fleet, SimSpec};
use flashfleet::smp::chunk::Layout;
use flashfleet::smp::console;

fn image(size: usize) -> Arc<Image> {
    let payload: Vec<u8> = (0..size).map(|n| n.to_le_bytes()[0]).collect();
    Arc::new(
        Image::from_bytes(ImageBuilder::new().version("2.0.0").payload(&payload).build()).expect("an image"),
    )
}

fn main() {
    println!("| link | each way | buffers | image | in flight | rate | limit | share |");
    println!("| --- | --- | --- | --- | --- | --- | --- | --- |");
    for latency_ms in [0, 20] {
        for (baud, size) in [(115_200_u32, 64 * 1024), (1_000_000, 256 * 1024)] {
            for buf_size in [384, 1024, 2048] {
                for window in [Some(1), None] {
                    share(baud, latency_ms, buf_size, size, window);
                }
            }
        }
    }
    println!();
    println!("| devices | wall time | against one |");
    println!("| --- | --- | --- |");
    let one = fleet(1);
    println!("| 1 | {:.2} s | 1.00 |", one.as_secs_f64());
    let many = fleet(64);
    println!("| 64 | {:.2} s | {:.2} |", many.as_secs_f64(), many.as_secs_f64() / one.as_secs_f64());
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

/// One upload over a paced link, with so many chunks in flight or as many as pay.
fn share(baud: u32, latency_ms: u64, buf_size: u32, size: usize, window: Option<u32>) {
    let image = image(size);
    let spec = SimSpec { baud: Some(baud), buf_size, latency_ms, ..SimSpec::default() };
    let of_buffers = limit_of_buffers(&spec, baud);
    let buf_count = spec.buf_count;
    let (rate, figures) = in_system(async move {
        let fleet = Fleet::new(&spec).expect("a fleet");
        let link = fleet.connector(0).connect().await.expect("a link");
        let options = ClientOptions { window, ..ClientOptions::default() };
        let mut client = Client::new(link, options, Conversation::default());
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
    println!(
        "| {baud} baud | {latency_ms} ms | {buf_count} of {buf_size} | {size} | {}, at most {} | {rate:.0} B/s | \
         {limit:.0} B/s | {:.3} |",
        window.map_or("auto".to_owned(), |window| window.to_string()),
        figures.window,
        rate / limit
    );
}

/// A whole run of `count` devices at 115200 baud: upload, test boot, confirm, reset.
fn fleet(count: usize) -> Duration {
    let image = ImageSet::from(image(32 * 1024));
    let spec = SimSpec { count, baud: Some(115_200), ..SimSpec::default() };
    let target = Target {
        expect: Expect { min: count, max: Some(count) },
        ..Target::new("bench", spec.into(), Step::update("app", &image))
    };
    let plan = Plan::new("bench").with_image("app", image).with_target(target);
    let start = Instant::now();
    let finished = Run::new(plan).run_blocking().expect("a report");
    assert_eq!(finished.outcome(), Outcome::Passed, "a bench of a run that fails measures nothing");
    start.elapsed()
}
