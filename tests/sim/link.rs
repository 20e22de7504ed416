//! The simulated link and what is behind it: pacing, buffers, line buffers, reset and boot. Links in memory, in virtual
//! time.

use std::time::Duration;

use crate::support::{Client, chunk, hash_of, image, reset, upload};
use flashfleet::sim::{Fleet, OnCrash, Power, SimSpec, SimTransport};
use flashfleet::smp::console::encoded_len;
use flashfleet::smp::message::image::SetState;
use flashfleet::smp::message::os::{Echo, Reset};
use flashfleet::smp::{Header, group};
use flashfleet::transport::LinkErrorKind;
use rstest::rstest;
use tokio::time::{Instant, sleep};

async fn device(spec: SimSpec) -> (Fleet, Client) {
    let fleet = Fleet::new(&spec).unwrap();
    let client = Client::open(&*fleet.connector(0)).await;
    (fleet, client)
}

fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

fn echo(len: usize) -> Echo {
    Echo { d: "x".repeat(len) }
}

/// One echo takes both messages' time on the wire, the server's, and twice the latency.
#[rstest]
#[case(115_200, 0)]
#[case(9_600, 0)]
#[case(1_000_000, 20)]
#[tokio::test(start_paused = true)]
async fn messages_take_their_time_on_the_wire(#[case] baud: u32, #[case] latency_ms: u64) {
    let spec = SimSpec { baud: Some(baud), latency_ms, process_us: 500, ..SimSpec::default() };
    let (_fleet, mut client) = device(spec).await;
    let request = client.message(&echo(300)).len();
    // The answer is as long, and one byte longer for its map of indefinite length.
    let bytes = encoded_len(request, 128) + encoded_len(request + 1, 127);
    let expected = Duration::from_secs_f64(bytes as f64 * 10.0 / f64::from(baud)) + ms(2 * latency_ms);
    let start = Instant::now();
    client.get(&echo(300)).await;
    let actual = start.elapsed();
    let low = expected + Duration::from_micros(500);
    assert!((low..low + ms(2)).contains(&actual), "expected {low:?}, got {actual:?}");
}

/// The grain of the timers does not add up: a hundred echoes take a hundred times one, within one grain.
#[tokio::test(start_paused = true)]
async fn pacing_does_not_drift() {
    let spec = SimSpec { baud: Some(1_000_000), process_us: 0, ..SimSpec::default() };
    let (_fleet, mut client) = device(spec).await;
    let request = client.message(&echo(20)).len();
    let bytes = encoded_len(request, 128) + encoded_len(request + 1, 127);
    let expected = Duration::from_secs_f64(bytes as f64 * 10.0 / 1_000_000.0) * 100;
    let start = Instant::now();
    for _ in 0..100 {
        client.get(&echo(20)).await;
    }
    let actual = start.elapsed();
    assert!(actual >= expected && actual < expected + ms(2), "expected {expected:?}, got {actual:?}");
}

/// Both directions at once: while the device sends one answer, it receives the next request.
#[tokio::test(start_paused = true)]
async fn the_wire_is_full_duplex() {
    let (_fleet, mut client) =
        device(SimSpec { baud: Some(115_200), process_us: 0, ..SimSpec::default() }).await;
    let first = client.message(&echo(300));
    let second = client.message(&echo(300));
    let start = Instant::now();
    client.link.send(&first).await.unwrap();
    client.link.send(&second).await.unwrap();
    client.recv().await.unwrap().unwrap();
    client.recv().await.unwrap().unwrap();
    let one_way = Duration::from_secs_f64(encoded_len(first.len(), 128) as f64 * 10.0 / 115_200.0);
    let actual = start.elapsed();
    assert!(actual > one_way * 3 && actual < one_way * 3 + ms(5), "3 × {one_way:?}, got {actual:?}");
}

#[tokio::test(start_paused = true)]
async fn erasing_and_writing_take_their_time() {
    let spec =
        SimSpec { erase_page_us: 100_000, write_kib_us: 1_024_000, process_us: 0, ..SimSpec::default() };
    let (_fleet, mut client) = device(spec).await;
    let new = image((2, 0, 0), &[7; 9_000]);
    let time = async |client: &mut Client, off: u32| {
        let start = Instant::now();
        client.get(&chunk(&new, off, 100)).await;
        start.elapsed()
    };
    assert_eq!(time(&mut client, 0).await, ms(100), "100 bytes at 1 ms each; the slot is empty");
    assert_eq!(time(&mut client, 100).await, ms(100));
    // From the start again: three pages of image and one of trailer.
    assert_eq!(time(&mut client, 0).await, ms(400 + 100));
}

/// Sends `count` echoes at once; gives the error codes (0 for a success) of the answers, by sequence.
async fn burst(client: &mut Client, count: usize) -> Vec<(u8, u64)> {
    for _ in 0..count {
        let message = client.message(&echo(3));
        client.link.send(&message).await.unwrap();
    }
    let mut answers = Vec::new();
    while let Some(answer) = client.recv().await {
        let answer = answer.unwrap();
        let header = Header::decode(&answer).unwrap();
        let rc = if answer[8..].starts_with(b"\xbf\x62rc") { u64::from(answer[12]) } else { 0 };
        answers.push((header.sequence, rc));
    }
    answers
}

/// Four buffers: three requests in flight are safe, the fourth finds no buffer for its answer, the fifth none at all.
#[tokio::test(start_paused = true)]
async fn requests_beyond_the_buffers_fail_then_crash_a_serial_server() {
    let (fleet, mut client) = device(SimSpec { buf_count: 4, ..SimSpec::default() }).await;
    assert_eq!(burst(&mut client, 3).await, [(1, 0), (2, 0), (3, 0)]);
    assert_eq!(burst(&mut client, 4).await, [(4, 0), (5, 0), (6, 0), (7, 2)]);
    assert_eq!(fleet.device(0).power(), Power::Running);
    assert_eq!(burst(&mut client, 5).await, []);
    assert_eq!(fleet.device(0).power(), Power::Stuck);
    fleet.device(0).reset_line();
    sleep(ms(500)).await;
    assert_eq!(burst(&mut client, 1).await, [(13, 0)]);
}

#[tokio::test(start_paused = true)]
async fn firmware_may_reset_where_it_crashes() {
    let (fleet, mut client) =
        device(SimSpec { buf_count: 2, on_crash: OnCrash::Reset, ..SimSpec::default() }).await;
    assert_eq!(burst(&mut client, 3).await, []);
    assert_eq!((fleet.device(0).power(), fleet.device(0).boots()), (Power::Running, 1));
}

#[tokio::test(start_paused = true)]
async fn datagrams_beyond_the_buffers_are_dropped_silently() {
    let spec = SimSpec { transport: SimTransport::Udp, buf_count: 2, ..SimSpec::default() };
    let (fleet, mut client) = device(spec).await;
    assert_eq!(burst(&mut client, 3).await, [(1, 0)]);
    assert_eq!(burst(&mut client, 1).await, [(4, 0)]);
    assert_eq!(fleet.device(0).power(), Power::Running);
}

/// Lines that come while flash is written find two buffers, and no third.
#[tokio::test(start_paused = true)]
async fn lines_overrun_while_flash_is_written() {
    let spec = SimSpec { baud: Some(115_200), write_kib_us: 1_000_000, ..SimSpec::default() };
    let (fleet, mut client) = device(spec).await;
    let new = image((2, 0, 0), &[7; 2_000]);
    let write = client.message(&chunk(&new, 0, 300));
    client.link.send(&write).await.unwrap();
    // Two lines wait in their buffers until the flash is written, and are answered then.
    let two_lines = client.message(&echo(150));
    client.link.send(&two_lines).await.unwrap();
    assert_eq!(client.recv().await.unwrap().unwrap()[6], 1);
    assert_eq!(client.recv().await.unwrap().unwrap()[6], 2);
    assert_eq!(fleet.device(0).line_overruns(), 0);
    // Of four the last two are lost, and the message with them.
    let write = client.message(&chunk(&new, 300, 300));
    client.link.send(&write).await.unwrap();
    let four_lines = client.message(&echo(330));
    client.link.send(&four_lines).await.unwrap();
    assert_eq!(client.recv().await.unwrap().unwrap()[6], 3);
    assert!(client.recv().await.is_none());
    assert_eq!(fleet.device(0).line_overruns(), 2);
    // Nothing of it is left in the way.
    client.get(&echo(330)).await;
}

/// A server that takes 5 ms for a line loses lines that come at once, and none that come at 115200 bits per second.
#[rstest]
#[case(None, false)]
#[case(Some(115_200), true)]
#[tokio::test(start_paused = true)]
async fn lines_overrun_where_they_come_faster_than_they_are_taken(
    #[case] baud: Option<u32>,
    #[case] answered: bool,
) {
    let (fleet, mut client) = device(SimSpec { baud, line_us: 5_000, ..SimSpec::default() }).await;
    assert_eq!(client.ask(&echo(340)).await.is_some(), answered);
    assert_eq!(fleet.device(0).line_overruns() == 0, answered);
}

#[tokio::test(start_paused = true)]
async fn a_reset_is_answered_first_and_acts_later() {
    let (fleet, mut client) = device(SimSpec { boot_ms: 400, ..SimSpec::default() }).await;
    client.timeout = ms(20);
    client.get(&Reset::default()).await;
    sleep(ms(200)).await;
    assert!(client.ask(&echo(1)).await.is_some(), "a false 'back up'");
    assert_eq!(fleet.device(0).boots(), 0);
    sleep(ms(60)).await;
    assert_eq!((fleet.device(0).boots(), fleet.device(0).power()), (1, Power::Booting));
    assert!(client.ask(&echo(1)).await.is_none(), "deaf while it boots");
    sleep(ms(380)).await;
    assert!(client.ask(&echo(1)).await.is_some());
    assert_eq!(fleet.device(0).boots(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_second_reset_during_a_test_boot_reverts() {
    let (fleet, mut client) = device(SimSpec::default()).await;
    let new = image((2, 0, 0), &[7; 300]);
    upload(&mut client, &new).await;
    client.get(&SetState { hash: Some(hash_of(&new)), confirm: false }).await;
    reset(&mut client).await;
    assert_eq!(fleet.device(0).running().unwrap().version, "2.0.0");
    reset(&mut client).await;
    assert_eq!(fleet.device(0).running().unwrap().version, "1.0.0");
}

#[tokio::test(start_paused = true)]
async fn a_port_opens_once() {
    let fleet = Fleet::new(&SimSpec::default()).unwrap();
    let connector = fleet.connector(0);
    let link = connector.connect().await.unwrap();
    assert_eq!(connector.connect().await.err().unwrap().kind, LinkErrorKind::Busy);
    link.close().await;
    let mut client = Client::open(&*connector).await;
    client.get(&echo(1)).await;
}

#[tokio::test(start_paused = true)]
async fn a_device_that_vanishes_ends_its_link_and_is_not_found_until_it_is_back() {
    let fleet = Fleet::new(&SimSpec::default()).unwrap();
    let (connector, device) = (fleet.connector(0), fleet.device(0));
    let mut client = Client::open(&*connector).await;
    let waiting = async { client.link.recv().await.unwrap_err().kind };
    let unplugging = async {
        sleep(ms(10)).await;
        device.unplug(Some(ms(1000)));
    };
    let (kind, ()) = tokio::join!(waiting, unplugging);
    assert_eq!(kind, LinkErrorKind::Disconnected);
    let message = client.message(&echo(1));
    assert_eq!(client.link.send(&message).await.unwrap_err().kind, LinkErrorKind::Disconnected);
    drop(client);
    assert_eq!(connector.connect().await.err().unwrap().kind, LinkErrorKind::NotFound);
    sleep(ms(1500)).await;
    let mut client = Client::open(&*connector).await;
    client.get(&echo(1)).await;
    assert_eq!(device.boots(), 1, "it was plugged in again, and booted");
}

#[tokio::test(start_paused = true)]
async fn a_native_usb_port_vanishes_in_a_reset() {
    let fleet = Fleet::new(&SimSpec { vanishes_in_reset: true, ..SimSpec::default() }).unwrap();
    let connector = fleet.connector(0);
    let mut client = Client::open(&*connector).await;
    assert!(!client.link.properties().survives_reset);
    client.get(&Reset::default()).await;
    assert_eq!(client.recv().await.unwrap().unwrap_err().kind, LinkErrorKind::Disconnected);
    drop(client);
    assert_eq!(connector.connect().await.err().unwrap().kind, LinkErrorKind::NotFound);
    sleep(ms(500)).await;
    Client::open(&*connector).await.get(&echo(1)).await;
}

#[tokio::test(start_paused = true)]
async fn opening_a_port_may_reset_the_board_and_so_revert_a_test() {
    let (fleet, mut client) = device(SimSpec { reset_on_open: true, ..SimSpec::default() }).await;
    sleep(ms(500)).await;
    let new = image((2, 0, 0), &[7; 300]);
    upload(&mut client, &new).await;
    client.get(&SetState { hash: Some(hash_of(&new)), confirm: false }).await;
    reset(&mut client).await;
    assert_eq!(fleet.device(0).running().unwrap().version, "2.0.0");
    drop(client);
    let _client = Client::open(&*fleet.connector(0)).await;
    sleep(ms(500)).await;
    assert_eq!(fleet.device(0).running().unwrap().version, "1.0.0");
}

/// A receive that is given up loses nothing, wherever it is given up.
#[tokio::test(start_paused = true)]
async fn receiving_is_cancel_safe() {
    let (_fleet, mut client) =
        device(SimSpec { baud: Some(9_600), process_us: 0, ..SimSpec::default() }).await;
    let message = client.message(&echo(100));
    client.link.send(&message).await.unwrap();
    let mut given_up = 0;
    let answer = loop {
        match tokio::time::timeout(ms(1), client.link.recv()).await {
            Ok(answer) => break answer.unwrap(),
            Err(_) => given_up += 1,
        }
    };
    assert_eq!(Header::decode(&answer).unwrap().sequence, 1);
    assert!(given_up > 100, "{given_up}");
}

#[tokio::test(start_paused = true)]
async fn what_was_sent_to_a_closed_port_is_gone() {
    let fleet = Fleet::new(&SimSpec::default()).unwrap();
    let connector = fleet.connector(0);
    let mut client = Client::open(&*connector).await;
    let message = client.message(&echo(1));
    client.link.send(&message).await.unwrap();
    drop(client);
    sleep(ms(100)).await;
    let mut client = Client::open(&*connector).await;
    assert!(client.recv().await.is_none());
    assert_eq!(fleet.device(0).request_count(group::OS, 0), 1, "it was handled all the same");
}

#[tokio::test(start_paused = true)]
async fn a_thousand_devices_are_one_as_the_other() {
    let fleet = Fleet::new(&SimSpec { count: 1000, baud: Some(115_200), ..SimSpec::default() }).unwrap();
    let start = Instant::now();
    let echoes = fleet.connectors().into_iter().map(|connector| async move {
        let mut client = Client::open(&*connector).await;
        client.get(&echo(100)).await;
        start.elapsed()
    });
    let times = futures_util::future::join_all(echoes).await;
    assert_eq!(times.len(), 1000);
    assert!(times.iter().all(|time| *time == times[0]));
    assert_eq!(fleet.connector(999).address(), "sim:device-1000");
}
