//! Simulated BLE peripherals at their characteristic, one write and one notification at a time. In virtual time.

use std::time::Duration;

use crate::support::{chunk, hash_of, image};
use flashfleet::sim::{BleSpec, FaultSpec, Fleet, GattClient, Power, SimSpec, SimTransport};
use flashfleet::smp::message::decode_response;
use flashfleet::smp::message::os::{Echo, Reset};
use flashfleet::smp::message::{DecodeError, Request, image::SetState};
use flashfleet::smp::{Header, RawRequest};
use tokio::time::{sleep, timeout};

fn ms(time: u64) -> Duration {
    Duration::from_millis(time)
}

fn spec(ble: BleSpec) -> SimSpec {
    SimSpec { transport: SimTransport::Ble, ble, ..SimSpec::default() }
}

fn echo(len: usize) -> Echo {
    Echo { d: "e".repeat(len) }
}

fn message<R: Request>(request: &R, sequence: u8) -> Vec<u8> {
    RawRequest::new(request).unwrap().encode(sequence)
}

/// One notification; `None` where none comes within a second.
async fn notified(central: &GattClient) -> Option<Vec<u8>> {
    timeout(ms(1000), central.notified()).await.ok().map(|value| value.expect("still connected"))
}

/// A whole answer, and the length of each notification that it came in; `None` where none comes.
async fn answer(central: &GattClient) -> Option<(Vec<u8>, Vec<usize>)> {
    let mut whole = notified(central).await?;
    let mut lengths = vec![whole.len()];
    while whole.len() < 8 + usize::from(u16::from_be_bytes([whole[2], whole[3]])) {
        let value = notified(central).await.expect("the rest of an answer");
        lengths.push(value.len());
        whole.extend(value);
    }
    Some((whole, lengths))
}

/// The error code of the next answer, 0 for a success; `None` where none comes.
async fn rc_of_answer<R: Request>(central: &GattClient) -> Option<i64>
where
    R::Response: std::fmt::Debug,
{
    let (whole, _) = answer(central).await?;
    match decode_response::<R::Response>(Header::split(&whole).unwrap().1) {
        Ok(_) => Some(0),
        Err(DecodeError::Device(error)) => Some(error.rc),
        Err(error) => panic!("{error}"),
    }
}

fn connect(fleet: &Fleet, mtu: u16) -> GattClient {
    let central = fleet.gatt(0, mtu).expect("the device advertises");
    central.subscribe(true);
    central
}

fn one(spec: &SimSpec) -> (Fleet, GattClient) {
    let fleet = Fleet::new(spec).unwrap();
    let central = connect(&fleet, 517);
    (fleet, central)
}

#[tokio::test(start_paused = true)]
async fn answers_come_in_notifications_of_the_mtu_less_three() {
    for (offered, asked, agreed) in
        [(247, 517, 247), (498, 517, 498), (247, 100, 100), (23, 517, 23), (247, 5, 23)]
    {
        let fleet =
            Fleet::new(&spec(BleSpec { mtu: offered, reassembly: true, ..BleSpec::default() })).unwrap();
        let central = connect(&fleet, asked);
        assert_eq!(central.mtu(), agreed);
        for value in message(&echo(300), 1).chunks(usize::from(agreed) - 3) {
            central.write(value);
        }
        let (whole, lengths) = answer(&central).await.unwrap();
        let (last, others) = lengths.split_last().unwrap();
        assert!(others.iter().all(|&len| len == usize::from(agreed) - 3), "{lengths:?}");
        assert!(*last <= usize::from(agreed) - 3, "{lengths:?}");
        let echoed =
            decode_response::<<Echo as Request>::Response>(Header::split(&whole).unwrap().1).unwrap();
        assert_eq!(echoed.r, "e".repeat(300));
    }
}

/// Zephyr handles the first write as a message that is cut short, and what follows as another message.
#[tokio::test(start_paused = true)]
async fn without_reassembly_a_message_in_two_writes_is_none() {
    let (fleet, central) = one(&spec(BleSpec::default()));
    let whole = message(&echo(100), 1);
    central.write(&whole[..60]);
    assert_eq!(rc_of_answer::<Echo>(&central).await, Some(9));
    central.write(&whole[60..]);
    while notified(&central).await.is_some() {}
    let seen = fleet.device(0).requests();
    assert_eq!(
        (seen[0].group, seen[0].command, seen[0].length),
        (0, 0, u16::try_from(whole.len() - 8).unwrap())
    );
    assert_ne!(seen[1].group, 0, "'eeeeeeee' was read as a header");
    central.write(&whole);
    assert_eq!(rc_of_answer::<Echo>(&central).await, Some(0));
}

#[tokio::test(start_paused = true)]
async fn a_write_longer_than_a_buffer_is_dropped() {
    for reassembly in [false, true] {
        let spec = SimSpec { buf_size: 128, ..spec(BleSpec { reassembly, ..BleSpec::default() }) };
        let (fleet, central) = one(&spec);
        let fits = message(&echo(128 - message(&echo(0), 1).len() - 1), 1);
        let over = message(&echo(128 - message(&echo(0), 1).len()), 2);
        assert_eq!((fits.len(), over.len()), (128, 129));
        central.write(&over);
        assert_eq!(rc_of_answer::<Echo>(&central).await, None);
        assert_eq!(fleet.device(0).request_count(0, 0), 0);
        central.write(&fits);
        assert_eq!(rc_of_answer::<Echo>(&central).await, Some(7), "handled: the answer is a byte too long");
    }
}

#[tokio::test(start_paused = true)]
async fn nobody_hears_what_nobody_subscribed_to() {
    let fleet = Fleet::new(&spec(BleSpec::default())).unwrap();
    let central = fleet.gatt(0, 247).unwrap();
    central.write(&message(&echo(3), 1));
    assert_eq!(notified(&central).await, None);
    assert_eq!(fleet.device(0).request_count(0, 0), 1);
    central.subscribe(true);
    central.write(&message(&echo(3), 2));
    assert_eq!(rc_of_answer::<Echo>(&central).await, Some(0));
    central.subscribe(false);
    central.write(&message(&echo(3), 3));
    assert_eq!(notified(&central).await, None);
}

#[tokio::test(start_paused = true)]
async fn half_a_message_goes_with_its_connection_or_its_subscription() {
    let fleet = Fleet::new(&spec(BleSpec { reassembly: true, ..BleSpec::default() })).unwrap();
    let whole = message(&echo(100), 1);
    let central = connect(&fleet, 247);
    central.write(&whole[..60]);
    sleep(ms(10)).await;
    drop(central);
    let central = connect(&fleet, 247);
    central.write(&whole);
    assert_eq!(rc_of_answer::<Echo>(&central).await, Some(0), "not the second part of the first");
    central.write(&whole[..60]);
    sleep(ms(10)).await;
    central.subscribe(false);
    central.subscribe(true);
    central.write(&whole);
    assert_eq!(rc_of_answer::<Echo>(&central).await, Some(0));
}

#[tokio::test(start_paused = true)]
async fn one_central_at_a_time() {
    let (fleet, central) = one(&spec(BleSpec::default()));
    assert!(fleet.device(0).is_connected());
    assert!(fleet.gatt(0, 247).is_none());
    drop(central);
    assert!(!fleet.device(0).is_connected());
    assert!(fleet.gatt(0, 247).is_some());
    let serial = Fleet::new(&SimSpec::default()).unwrap();
    assert!(serial.gatt(0, 247).is_none(), "a serial device has no radio");
}

/// What was asked for is done, also where nobody is there any more to be told; and nobody else is told.
#[tokio::test(start_paused = true)]
async fn a_request_outlives_its_connection_and_its_answer_does_not() {
    let (fleet, central) = one(&SimSpec { process_us: 5_000, ..spec(BleSpec::default()) });
    central.write(&message(&Reset::default(), 1));
    central.write(&message(&echo(3), 2));
    sleep(ms(2)).await;
    drop(central);
    let central = connect(&fleet, 247);
    assert_eq!(timeout(ms(200), central.notified()).await.ok(), None);
    assert_eq!(fleet.device(0).request_count(0, 0), 0, "the echo still lay in the queue");
    assert_eq!(central.notified().await, None, "the reset took the connection");
    assert_eq!(fleet.device(0).boots(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_reset_takes_the_connection_and_silence_lasts_until_it_has_booted() {
    let ble = BleSpec { new_address_at_boot: true, ..BleSpec::default() };
    let (fleet, central) = one(&SimSpec { boot_ms: 400, swap_ms: 3000, reset_ms: 250, ..spec(ble) });
    let device = fleet.device(0);
    let new = image((2, 0, 0), b"new");
    central.write(&message(&chunk(&new, 0, new.len()), 1));
    assert!(answer(&central).await.is_some());
    let test = SetState { hash: Some(hash_of(&new)), confirm: false };
    central.write(&message(&test, 2));
    assert_eq!(rc_of_answer::<SetState>(&central).await, Some(0));
    assert_eq!(device.ble_address(), "F0:F1:F2:00:00:01");
    central.write(&message(&Reset::default(), 3));
    assert_eq!(rc_of_answer::<Reset>(&central).await, Some(0));
    sleep(ms(240)).await;
    assert!(central.is_connected());
    sleep(ms(20)).await;
    assert!(!central.is_connected());
    assert_eq!(central.notified().await, None);
    sleep(ms(3380)).await;
    assert!(fleet.gatt(0, 247).is_none(), "it swaps and boots");
    sleep(ms(20)).await;
    assert!(fleet.gatt(0, 247).is_some());
    assert_eq!(device.running().unwrap().version, "2.0.0");
    assert_eq!(device.ble_address(), "F0:F1:F2:00:00:02");
}

/// Writes without response that find no buffer are lost, and crash nothing.
#[tokio::test(start_paused = true)]
async fn requests_beyond_the_buffers_are_refused_then_lost() {
    for reassembly in [false, true] {
        let spec = SimSpec { buf_count: 4, ..spec(BleSpec { reassembly, ..BleSpec::default() }) };
        let (fleet, central) = one(&spec);
        for sequence in 0..6 {
            central.write(&message(&echo(3), sequence));
        }
        let mut answers = Vec::new();
        while let Some(rc) = rc_of_answer::<Echo>(&central).await {
            answers.push(rc);
        }
        assert_eq!(answers, [0, 0, 0, 2], "reassembly: {reassembly}");
        assert_eq!(fleet.device(0).power(), Power::Running);
    }
}

#[tokio::test(start_paused = true)]
async fn a_device_that_walks_away_takes_its_connection_and_comes_back() {
    let fault = FaultSpec { vanish_at_byte: Some(150), vanish_ms: Some(2000), ..FaultSpec::default() };
    let (fleet, central) = one(&SimSpec { fault, ..spec(BleSpec::default()) });
    let new = image((2, 0, 0), &[7; 300]);
    central.write(&message(&chunk(&new, 0, 128), 1));
    assert!(answer(&central).await.is_some());
    central.write(&message(&chunk(&new, 128, 128), 2));
    assert_eq!(central.notified().await, None);
    assert_eq!(fleet.device(0).power(), Power::Away);
    sleep(ms(2350)).await;
    assert!(fleet.gatt(0, 247).is_none(), "back, and booting");
    sleep(ms(100)).await;
    assert!(fleet.gatt(0, 247).is_some());
}

#[tokio::test(start_paused = true)]
async fn a_device_that_hangs_is_off_the_air() {
    let fault = FaultSpec { hang_at_byte: Some(1), ..FaultSpec::default() };
    let (fleet, central) = one(&SimSpec { fault, ..spec(BleSpec::default()) });
    let new = image((2, 0, 0), &[7; 300]);
    central.write(&message(&chunk(&new, 0, 128), 1));
    assert_eq!(central.notified().await, None);
    assert_eq!(fleet.device(0).power(), Power::Stuck);
    assert!(!fleet.device(0).is_present());
}
