//! The adaptive window in virtual time: how much of a link it uses, and against a window of one on the same device, over
//! the same link, with the same dice.

use std::sync::Arc;
use std::time::Duration;

use flashfleet::client::{Client, ClientOptions, Conversation, UploadRequest, Uploaded};
use flashfleet::image::{Image, ImageBuilder};
use flashfleet::sim::{DeviceHandle, FaultSpec, Fleet, NthAnswer, Power, SimSpec, SimTransport};
use flashfleet::smp::chunk::Layout;
use flashfleet::smp::console;
use tokio::time::Instant;

#[path = "upload_window/fates.rs"]
mod fates;
#[path = "upload_window/same_losses.rs"]
mod same_losses;
#[path = "upload_window/seeds.rs"]
mod seeds;

use fates::{FatefulLink, Fates, Record};

fn image(size: usize) -> Arc<Image> {
    let payload: Vec<u8> = (0..size).map(|n| n.to_le_bytes()[0] ^ n.to_le_bytes()[1]).collect();
    let bytes = ImageBuilder::new().version("2.0.0").payload(&payload).build();
    Arc::new(Image::from_bytes(bytes).expect("the builder makes valid images"))
}

/// One upload.
struct Run {
    took: Duration,
    /// Image bytes per second from the first answer to the last.
    rate: f64,
    uploaded: Uploaded,
    device: DeviceHandle,
    conversation: Conversation,
    record: Record,
}

fn in_virtual_time<F: Future>(future: F) -> F::Output {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .start_paused(true)
        .build()
        .expect("a runtime");
    runtime.block_on(future)
}

/// Uploads an image, and checks what must hold after every upload.
async fn upload(fleet: &Fleet, image: &Image, window: Option<u32>, conversation: Conversation) -> Run {
    upload_through(fleet, image, window, conversation, None).await
}

/// The same, where messages meet these fates.
async fn upload_through(
    fleet: &Fleet,
    image: &Image,
    window: Option<u32>,
    conversation: Conversation,
    fates: Option<Fates>,
) -> Run {
    let link = fleet.connector(0).connect().await.expect("a link");
    let (link, record) = FatefulLink::around(link, fates);
    let options = ClientOptions { window, retries: 10, ..ClientOptions::default() };
    let mut client = Client::new(link, options, conversation);
    client.limits().await.expect("limits");
    let start = Instant::now();
    let mut first = None;
    let uploaded = client
        .upload(
            Arc::clone(image.bytes()),
            *image.file_sha256(),
            image.hash(),
            UploadRequest::default(),
            |done, _| {
                first.get_or_insert((Instant::now(), done));
            },
        )
        .await
        .expect("an upload");
    let took = start.elapsed();
    let (since, done) = first.expect("an answer");
    let rest = u32::try_from(uploaded.figures.bytes - done).expect("a small image");
    let rate = f64::from(rest) / since.elapsed().as_secs_f64().max(1e-9);
    let device = fleet.device(0);
    assert_eq!(device.power(), Power::Running, "the server did not crash");
    assert_eq!(device.boots(), 0);
    assert_eq!(device.slot(1).hash.as_deref(), Some(image.hash()), "what was sent is there");
    Run { took, rate, uploaded, device, conversation: client.close().await, record }
}

fn run(spec: &SimSpec, size: usize, window: Option<u32>) -> Run {
    in_virtual_time(async {
        let fleet = Fleet::new(spec).expect("a fleet");
        upload(&fleet, &image(size), window, Conversation::default()).await
    })
}

fn run_through(spec: &SimSpec, size: usize, window: Option<u32>, fates: Fates) -> Run {
    in_virtual_time(async {
        let fleet = Fleet::new(spec).expect("a fleet");
        upload_through(&fleet, &image(size), window, Conversation::default(), Some(fates)).await
    })
}

/// The most that a link carries with `window` chunks in flight, in image bytes per second: the wire's limit, or that of the
/// round trip without any time in the device.
fn limit(spec: &SimSpec, window: u32) -> f64 {
    let wire = f64::from(spec.baud.expect("a paced link")) / 10.0;
    let max_message = spec.buf_size as usize - console::PACKET_OVERHEAD;
    let layout = Layout { max_message, image_number: 0, len: 1 << 20, sha: false, upgrade: false };
    let data = layout.data_len(70_000);
    let seconds = |message| console::encoded_len(message, 128) as f64 / wire;
    // {"off": …} of 5 bytes
    let (there, back) = (seconds(layout.message_len(70_000, data)), seconds(8 + 1 + 4 + 5));
    let latency = 2.0 * Duration::from_millis(spec.latency_ms).as_secs_f64();
    data as f64 / there.max((there + back + latency) / f64::from(window))
}

#[test]
fn a_console_is_filled() {
    for latency_ms in [0, 20] {
        for (baud, size) in [(115_200, 48 * 1024), (1_000_000, 256 * 1024)] {
            for buf_size in [384, 1024, 2048] {
                let spec = SimSpec { baud: Some(baud), buf_size, latency_ms, ..SimSpec::default() };
                let run = run(&spec, size, None);
                let share = run.rate / limit(&spec, spec.buf_count - 1);
                let least = if latency_ms == 0 { 0.97 } else { 0.95 };
                assert!(share >= least && share <= 1.01, "{baud} {buf_size} {latency_ms} ms: {share:.3}");
                assert_eq!((run.uploaded.figures.resent, run.device.line_overruns()), (0, 0));
            }
        }
    }
}

/// How long uploads take with the window found out, against one chunk in flight: sums over the same seeds. And whether
/// any of them had more than one in flight, and lost lines.
fn against_one(spec: &SimSpec, size: usize, fault: &FaultSpec) -> f64 {
    let (mut one, mut auto) = (Duration::ZERO, Duration::ZERO);
    for seed in 1..=6 {
        let spec = SimSpec { fault: FaultSpec { seed, ..fault.clone() }, ..spec.clone() };
        one += run(&spec, size, Some(1)).took;
        auto += run(&spec, size, None).took;
    }
    auto.as_secs_f64() / one.as_secs_f64()
}

fn faults() -> impl Iterator<Item = FaultSpec> {
    [0.01, 0.05].into_iter().flat_map(|share| {
        [
            FaultSpec { lose: share, ..FaultSpec::default() },
            FaultSpec { corrupt: share, ..FaultSpec::default() },
        ]
    })
}

#[test]
fn trouble_on_the_link_costs_less_than_with_one_in_flight() {
    for (baud, latency_ms, buf_size, size, most) in
        [(115_200, 0, 384, 32, 0.95), (115_200, 20, 384, 32, 0.75), (1_000_000, 20, 2048, 96, 0.85)]
    {
        let spec = SimSpec { baud: Some(baud), latency_ms, buf_size, ..SimSpec::default() };
        for fault in faults() {
            let ratio = against_one(&spec, size * 1024, &fault);
            assert!(ratio < most, "{baud} {buf_size} {latency_ms} ms {fault:?}: {ratio:.3}");
        }
    }
}

/// Whatever comes while the flash is written is lost beyond two lines: no window above one holds.
#[test]
fn server_that_loses_lines_while_it_writes_costs_little() {
    for (baud, latency_ms, buf_size, write_kib_us) in [
        (Some(115_200), 0, 2048, 30_000),
        (Some(1_000_000), 0, 384, 10_000),
        (Some(1_000_000), 20, 1024, 10_000),
        (None, 0, 384, 1000),
    ] {
        let spec = SimSpec { baud, latency_ms, buf_size, write_kib_us, ..SimSpec::default() };
        // Finding out costs about two chunks: there must be enough of them for that to be little.
        let size = if buf_size == 384 { 48 } else { buf_size as usize / 12 } * 1024;
        let quiet = run(&spec, size, None);
        assert!(quiet.device.line_overruns() > 0, "a case that does not overrun shows nothing");
        for fault in faults().chain([FaultSpec::default()]) {
            let ratio = against_one(&spec, size, &fault);
            assert!(ratio <= 1.05, "{baud:?} {buf_size} {latency_ms} ms {fault:?}: {ratio:.3}");
        }
    }
}

#[test]
fn what_held_is_remembered_over_links() {
    in_virtual_time(async {
        let spec = SimSpec { baud: Some(115_200), latency_ms: 20, ..SimSpec::default() };
        let fleet = Fleet::new(&spec).expect("a fleet");
        let first = upload(&fleet, &image(16 * 1024), None, Conversation::default()).await;
        let second = upload(&fleet, &image(17 * 1024), None, first.conversation).await;
        assert_eq!((first.uploaded.figures.window, second.uploaded.figures.window), (3, 3));
        assert!(second.rate > first.rate, "{} {}: no finding out", first.rate, second.rate);

        // The server loses what comes while it writes: what was found out once is not tried again at once.
        let spec = SimSpec { baud: Some(1_000_000), write_kib_us: 10_000, ..SimSpec::default() };
        let fleet = Fleet::new(&spec).expect("a fleet");
        let first = upload(&fleet, &image(16 * 1024), None, Conversation::default()).await;
        let overruns = first.device.line_overruns();
        assert!(overruns > 0);
        let second = upload(&fleet, &image(15 * 1024), None, first.conversation).await;
        assert_eq!((second.uploaded.figures.window, second.device.line_overruns()), (1, overruns));
    });
}

#[test]
fn buffer_that_was_too_large_is_tried_once() {
    in_virtual_time(async {
        let fleet = Fleet::new(&SimSpec { baud: Some(115_200), ..SimSpec::default() }).expect("a fleet");
        let mut conversation = Conversation::default();
        for (size, silence) in [(4096, true), (5000, false)] {
            let link = fleet.connector(0).connect().await.expect("a link");
            let options = ClientOptions { buffer: Some(2048), ..ClientOptions::default() };
            let mut client = Client::new(link, options, conversation);
            let image = image(size);
            let request = UploadRequest::default();
            let start = Instant::now();
            let bytes = Arc::clone(image.bytes());
            let uploaded = client.upload(bytes, *image.file_sha256(), image.hash(), request, |_, _| {}).await;
            let notes = uploaded.expect("an upload").notes;
            assert_eq!(start.elapsed() > Duration::from_secs(40), silence);
            assert_eq!(notes.iter().any(|note| note.contains("met silence")), silence, "{notes:?}");
            conversation = client.close().await;
        }
    });
}

#[test]
fn server_that_does_not_tell_its_buffers_gets_one_at_a_time() {
    let spec = SimSpec { baud: Some(115_200), latency_ms: 20, params: false, ..SimSpec::default() };
    for window in [None, Some(3)] {
        assert_eq!(run(&spec, 8 * 1024, window).uploaded.figures.window, 1);
    }
}

#[test]
fn two_buffers_take_one_at_a_time() {
    for transport in [SimTransport::Udp, SimTransport::Serial] {
        let fault = FaultSpec { seed: 3, lose: 0.05, ..FaultSpec::default() };
        let spec =
            SimSpec { transport, buf_count: 2, latency_ms: 20, fault, udp_mtu: 1500, ..SimSpec::default() };
        assert_eq!(run(&spec, 32 * 1024, None).uploaded.figures.window, 1);
    }
}

#[test]
fn datagrams_are_several_in_flight() {
    let spec = SimSpec { transport: SimTransport::Udp, latency_ms: 20, ..SimSpec::default() };
    let (one, auto) = (run(&spec, 64 * 1024, Some(1)), run(&spec, 64 * 1024, None));
    let ratio = auto.took.as_secs_f64() / one.took.as_secs_f64();
    assert_eq!(auto.uploaded.figures.window, 3);
    assert!(ratio < 0.4, "{ratio:.3}");
    // A datagram that was changed does not get through its checksum.
    for lose in [0.01, 0.05] {
        let fault = FaultSpec { lose, duplicate: lose, delay: lose, delay_ms: 70, ..FaultSpec::default() };
        let ratio = against_one(&spec, 48 * 1024, &fault);
        assert!(ratio < 0.7, "{fault:?}: {ratio:.3}");
    }
}

#[test]
fn overdue_last_answer_is_looked_up_long_before_its_time_is_over() {
    let fault = FaultSpec { lose_last_upload_answer: true, ..FaultSpec::default() };
    let spec = SimSpec { baud: Some(115_200), fault, ..SimSpec::default() };
    for window in [None, Some(1)] {
        let run = run(&spec, 16 * 1024, window);
        assert!(run.took < Duration::from_secs(4), "{:?}, of which 2.4 s are the wire's", run.took);
        assert!(run.uploaded.notes.iter().any(|note| note.contains("the last answer was lost")));
    }
}

#[test]
fn slow_answer_to_the_last_chunk_is_waited_for() {
    // A look in between is answered after the chunk, by a server that checks the image first.
    let spec = SimSpec { baud: Some(115_200), write_kib_us: 3_000_000, ..SimSpec::default() };
    let run = run(&spec, 600, None);
    assert!(!run.uploaded.notes.iter().any(|note| note.contains("lost")), "{:?}", run.uploaded.notes);
}

#[test]
fn lost_chunk_is_sent_again_after_a_measured_time() {
    let lost = NthAnswer { group: 1, command: 1, nth: 20 };
    let fault = FaultSpec { lose_answer: vec![lost], ..FaultSpec::default() };
    let quiet = SimSpec { baud: Some(115_200), ..SimSpec::default() };
    let spec = SimSpec { fault, ..quiet.clone() };
    let more = run(&spec, 16 * 1024, Some(1)).took - run(&quiet, 16 * 1024, Some(1)).took;
    assert!(more < Duration::from_millis(450), "{more:?} instead of 2.5 s");
}

/// Answers come after the proven time for one, so each chunk goes again before its answer is there.
#[test]
fn late_answer_counts_though_its_chunk_went_again() {
    let spec = SimSpec { baud: Some(115_200), latency_ms: 1400, ..SimSpec::default() };
    for window in [None, Some(1)] {
        let run = run(&spec, 4 * 1024, window);
        // Only until the link is known.
        assert!((1..=3).contains(&run.uploaded.figures.resent), "{}", run.record.timeline());
    }
}

#[test]
fn lost_first_chunk_does_not_cost_the_time_of_the_slowest_erase() {
    for answer_lost in [false, true] {
        let lost = NthAnswer { group: 1, command: 1, nth: 1 };
        let fault = FaultSpec {
            lose_answer: if answer_lost { vec![lost] } else { Vec::new() },
            ..FaultSpec::default()
        };
        let spec = SimSpec { baud: Some(115_200), fault, ..SimSpec::default() };
        let took = run(&spec, 4 * 1024, None).took;
        let extra = if answer_lost { 5 } else { 0 };
        assert!((extra..extra + 1).contains(&took.as_secs()), "{took:?}");
    }
}
