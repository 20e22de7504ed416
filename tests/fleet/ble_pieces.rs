//! Messages of several writes over Bluetooth of which one is lost. Nothing marks where a message begins: a server that misses a
//! part takes what comes next for it. What a device runs in the end must be the image all the same, soon and at once.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use flashfleet::image::{Image, ImageBuilder};
use flashfleet::report::Verdict;
use flashfleet::sim::{BleSpec, FaultSpec, LostWrite, SimSpec, SimTransport};
use flashfleet::smp::HEADER_LEN;
use flashfleet::transport::{Connector, Link, LinkError, LinkProperties};

use super::line::{Finished, Line, candidate, in_virtual_time};

/// Chunks of the image below, and writes of the first two: 2475 bytes, 244 in the first and 243 in the others.
const CHUNKS: u64 = 3;
const WRITES: u64 = 11;

/// One device with buffers as Nordic's samples have them for Bluetooth.
fn spec(lost: Vec<LostWrite>) -> SimSpec {
    SimSpec {
        transport: SimTransport::Ble,
        buf_size: 2475,
        ble: BleSpec { reassembly: true, ..BleSpec::default() },
        fault: FaultSpec { lose_write: lost, ..FaultSpec::default() },
        ..SimSpec::default()
    }
}

fn of_chunk(nth: u64, write: u64) -> LostWrite {
    LostWrite { group: 1, command: 1, nth, write, and_all_after: false }
}

/// An image in whose bytes a server that is out of step sees headers.
fn image() -> Arc<Image> {
    let payload: Vec<u8> = (0..6 * 1024_u16).map(|n| (n % 251).to_le_bytes()[0]).collect();
    let bytes = ImageBuilder::new().version("2.0.0").payload(&payload).build();
    Arc::new(Image::from_bytes(bytes).expect("the builder makes valid images"))
}

/// Flashes the device of this line; gives how long it took to upload. It must pass at once, and run the image.
async fn flash(mut line: Line, case: &str) -> Duration {
    flash_line(&mut line, case).await.1
}

async fn flash_line(line: &mut Line, case: &str) -> (Finished, Duration) {
    line.plan.images = [("app".to_owned(), Arc::new(image().into()))].into();
    let finished = line.run().await;
    let reported = &finished.report.devices[0];
    assert_eq!((reported.verdict, reported.attempts), (Verdict::Passed, 1), "{case}: {}", finished.code(0));
    let truth = line.device(0).running().expect("it runs");
    assert!(truth.confirmed && truth.hash == image().hash(), "{case}");
    assert_eq!(line.device(0).boots(), 2, "{case}");
    let upload = reported.steps.iter().find(|step| step.name == "upload app").expect("the step");
    let took = Duration::from_secs_f64(upload.duration_s.expect("it was done"));
    (finished, took)
}

#[test]
fn no_lost_write_of_a_chunk_harms_the_image_or_stalls_the_upload() {
    for (nth, write) in (1..=CHUNKS).flat_map(|nth| (1..=WRITES).map(move |write| (nth, write))) {
        let case = format!("write {write} of chunk {nth}");
        let took =
            in_virtual_time(async { flash(Line::new(&spec(vec![of_chunk(nth, write)])), &case).await });
        // The first chunk is asked for again after five seconds, as it may be erasing; the others by their round trips.
        let most = if nth == 1 { 6 } else { 4 };
        assert!(took < Duration::from_secs(most), "{case}: {took:?}");
    }
}

/// The connection holds, and nothing arrives over it any more.
#[test]
fn a_connection_that_stalls_is_left_for_another_one() {
    for nth in 1..=CHUNKS {
        let case = format!("from chunk {nth} on");
        let lost = LostWrite { and_all_after: true, ..of_chunk(nth, 2) };
        let took = in_virtual_time(async { flash(Line::new(&spec(vec![lost])), &case).await });
        assert!(took < Duration::from_secs(15), "{case}: {took:?}");
    }
}

/// Whether long messages arrive is found out anew over the next link. Where they are the end of that one too, none are sent.
#[test]
fn a_device_whose_connections_stall_again_and_again_gets_one_write_a_message() {
    in_virtual_time(async {
        let stall = |nth| LostWrite { and_all_after: true, ..of_chunk(nth, 2) };
        let mut line = Line::new(&spec(vec![stall(1), stall(2)]));
        let (finished, _) = flash_line(&mut line, "twice").await;
        let told = finished.report.devices[0].steps[0].detail.notes.iter();
        assert!(told.into_iter().any(|note| note.starts_with("2 times the link")));
        let requests = line.device(0).requests();
        let lengths = |group, command| {
            let seen = requests.iter().filter(move |seen| (seen.group, seen.command) == (group, command));
            seen.map(|seen| usize::from(seen.length) + HEADER_LEN).collect::<Vec<_>>()
        };
        let chunks = lengths(1, 1);
        assert!(chunks.len() > 20 && chunks.iter().all(|len| *len <= 244), "{chunks:?}");
        assert_eq!(lengths(0, 0).into_iter().filter(|len| *len > 244).count(), 2, "a longer echo each");
    });
}

/// Links over which a device does not drop the part of a message that it holds: a server unlike Zephyr's.
#[derive(Debug)]
struct Stubborn {
    inner: Arc<dyn Connector>,
    links: Arc<AtomicUsize>,
}

struct StubbornLink(Box<dyn Link>);

#[async_trait]
impl Connector for Stubborn {
    async fn connect(&self) -> Result<Box<dyn Link>, LinkError> {
        self.links.fetch_add(1, Ordering::Relaxed);
        Ok(Box::new(StubbornLink(self.inner.connect().await?)))
    }

    fn address(&self) -> String {
        self.inner.address()
    }
}

#[async_trait]
impl Link for StubbornLink {
    async fn send(&mut self, message: &[u8]) -> Result<(), LinkError> {
        self.0.send(message).await
    }

    async fn recv(&mut self) -> Result<Vec<u8>, LinkError> {
        self.0.recv().await
    }

    fn properties(&self) -> LinkProperties {
        self.0.properties()
    }

    async fn close(self: Box<Self>) {
        self.0.close().await;
    }
}

/// There the writes alone keep the image whole, and another link is what helps.
#[test]
fn a_server_that_does_not_forget_is_reached_over_another_link() {
    let mut most_links = 0;
    for (nth, write) in (1..=CHUNKS).flat_map(|nth| (1..=WRITES).map(move |write| (nth, write))) {
        let case = format!("write {write} of chunk {nth}");
        let links = Arc::<AtomicUsize>::default();
        let took = in_virtual_time(async {
            let mut line = Line::new(&spec(vec![of_chunk(nth, write)]));
            let inner = line.fleet.as_ref().expect("a fleet").connectors().remove(0);
            let stubborn = Stubborn { inner, links: Arc::clone(&links) };
            line.devices.insert("line".to_owned(), vec![candidate(Arc::new(stubborn))]);
            flash(line, &case).await
        });
        // The proven times: 40 s for the first chunk, 20 s for the last.
        let most = if nth == 1 { 60 } else { 30 };
        assert!(took < Duration::from_secs(most), "{case}: {took:?}");
        most_links = most_links.max(links.load(Ordering::Relaxed));
    }
    // One to begin with, one after each of two resets, and the one that helped.
    assert_eq!(most_links, 4);
}
