//! Messages over GATT: pieces, and longer ones only where the server was found to take them.

use std::time::Duration;

use flashfleet::client::{Client, ClientError, ClientOptions, Conversation, UploadRequest};
use flashfleet::plan::Auto;
use flashfleet::smp::message::image::SetState;
use flashfleet::transport::ble::{BleConnector, disconnected};
use flashfleet::transport::{Connector, Framing, LinkErrorKind};

use super::air::{Air, Does, timed};

const A: &str = "F0:00:00:00:00:01";

async fn client(air: &Air) -> (Client, BleConnector) {
    let connector = air.connector(&air.hub(), A);
    let link = connector.connect().await.expect("a link");
    (Client::new(link, ClientOptions::default(), Conversation::default()), connector)
}

fn air(mtu: u16, reassembles: bool) -> Air {
    let air = Air::new(&["hci0"]);
    air.device(A, "Beacon-01");
    air.with(A, |device| {
        device.gatt.mtu = mtu;
        device.reassembles = reassembles;
    });
    air
}

#[tokio::test(start_paused = true)]
async fn messages_go_in_pieces_of_the_mtu_less_three() {
    let air = air(100, true);
    let (mut client, _) = client(&air).await;
    assert_eq!(client.properties().framing, Framing::Gatt { write_len: 97 });
    let text = "y".repeat(300);
    assert_eq!(client.echo(text.clone()).await.unwrap(), text);
    let writes = air.with(A, |device| device.writes.clone());
    // The proof in two writes, then 8 + 1 + 2 + 3 + 300 bytes. Only the first of each is a full one.
    assert_eq!(writes, [97, 96, 97, 96, 96, 25]);
}

#[tokio::test(start_paused = true)]
async fn answers_may_be_cut_anywhere() {
    for len in 1..=20 {
        let air = air(247, true);
        air.with(A, |device| device.notify_len = Some(len));
        let (mut client, _) = client(&air).await;
        assert_eq!(client.echo("z".repeat(60)).await.unwrap(), "z".repeat(60), "in pieces of {len}");
    }
}

#[tokio::test(start_paused = true)]
async fn garbage_between_answers_costs_nothing() {
    let air = air(247, true);
    let (mut client, _) = client(&air).await;
    for _ in 0..3 {
        air.notify(A, &[0xff; 30]);
        assert_eq!(client.echo("still here".to_owned()).await.unwrap(), "still here");
    }
}

#[tokio::test(start_paused = true)]
async fn half_an_answer_costs_one_time_to_wait() {
    let air = air(247, true);
    let (mut client, _) = client(&air).await;
    air.notify(A, &[0x09, 0, 0, 50, 0, 0, 9, 0, 1, 2, 3]);
    let (echo, took) = timed(client.echo("again".to_owned())).await;
    assert_eq!(echo.unwrap(), "again");
    assert!(took < Duration::from_secs(4), "{took:?}");
}

#[tokio::test(start_paused = true)]
async fn packets_are_filled_to_the_buffer_once_a_longer_echo_was_answered() {
    let air = air(247, true);
    let (mut client, _) = client(&air).await;
    assert_eq!(client.limits().await.unwrap().max_message, 1024);
    let writes = air.with(A, |device| device.writes.clone());
    assert_eq!(writes.len(), 3, "parameters, and an echo in two: {writes:?}");
    assert_eq!((writes[1], writes[2]), (244, 243));
    // Another firmware may not do it: asked again, and once only.
    client.forget_limits();
    air.with(A, |device| device.reassembles = false);
    assert_eq!(client.limits().await.unwrap().max_message, 244);
}

#[tokio::test(start_paused = true)]
async fn a_server_that_takes_one_write_a_message_costs_one_timeout_and_no_more() {
    let air = air(247, false);
    let (mut client, connector) = client(&air).await;
    let (limits, took) = timed(client.limits()).await;
    assert_eq!(limits.unwrap().max_message, 244);
    assert!(took > Duration::from_secs(2) && took < Duration::from_secs(3), "{took:?}");
    let written = air.with(A, |device| device.writes.len());
    // Over another link, and another firmware, nothing is asked again.
    let mut conversation = client.close().await;
    for _ in 0..2 {
        let link = connector.connect().await.unwrap();
        let mut client = Client::new(link, ClientOptions::default(), conversation);
        client.forget_limits();
        let (limits, took) = timed(client.limits()).await;
        assert_eq!((limits.unwrap().max_message, took), (244, Duration::ZERO));
        conversation = client.close().await;
    }
    assert_eq!(air.with(A, |device| device.writes.len()), written + 2, "parameters only");
}

#[tokio::test(start_paused = true)]
async fn the_smallest_mtu_works_where_the_server_puts_writes_together() {
    let air = air(23, true);
    let (mut client, _) = client(&air).await;
    assert!(client.echo_once(Duration::from_secs(1)).await.is_ok());
    assert_eq!(air.with(A, |device| device.writes.clone()).len(), 1, "the first sign of life is one write");
    assert_eq!(client.limits().await.unwrap().max_message, 1024);
    let text = "w".repeat(500);
    assert_eq!(client.echo(text.clone()).await.unwrap(), text);
    assert!(air.with(A, |device| device.writes.iter().all(|len| *len <= 20)));
}

#[tokio::test(start_paused = true)]
async fn the_smallest_mtu_without_it_has_an_error_of_its_own() {
    let air = air(23, false);
    let (mut client, _) = client(&air).await;
    assert!(client.echo_once(Duration::from_secs(1)).await.is_ok());
    let is_too_small = |error: ClientError| match error {
        ClientError::Link(error) => {
            assert_eq!(error.kind, LinkErrorKind::MtuTooSmall);
            assert!(error.message.contains("MTU 23"), "{error}");
            assert!(error.help.contains("CONFIG_MCUMGR_TRANSPORT_BT_REASSEMBLY"), "{}", error.help);
        }
        other => panic!("{other}"),
    };
    let image = vec![0; 4000];
    let request = UploadRequest::default();
    let upload = client.upload(image.into(), [0; 32], &[0; 32], request, |_, _| {}).await;
    is_too_small(upload.unwrap_err());
    let state = SetState { hash: Some(vec![0; 32]), confirm: false };
    is_too_small(client.request(&state).await.unwrap_err());
    assert!(air.with(A, |device| device.writes.iter().all(|len| *len <= 20)));
}

#[tokio::test(start_paused = true)]
async fn a_plan_may_ask_for_smaller_packets() {
    let air = air(247, true);
    let hub = air.hub();
    let connector = BleConnector::new(hub, A, None, false, Auto::Fixed(65));
    let link = connector.connect().await.unwrap();
    assert_eq!(link.properties().framing, Framing::Gatt { write_len: 62 });
}

#[tokio::test(start_paused = true)]
async fn a_device_that_never_answers_is_told() {
    let air = air(247, true);
    air.with(A, |device| device.mute = true);
    let (mut client, _) = client(&air).await;
    let (error, took) = timed(client.echo_once(Duration::from_secs(1))).await;
    assert!(matches!(error, Err(ClientError::Unanswered(_))));
    assert_eq!(took, Duration::from_secs(1));
}

/// What comes after silence would be taken for the rest of what was not answered.
#[tokio::test(start_paused = true)]
async fn the_device_drops_what_it_may_hold_before_anything_follows_an_unanswered_long_message() {
    let air = air(100, true);
    let (mut client, _) = client(&air).await;
    client.limits().await.unwrap();
    let resubscribed = || air.count(A, "resubscribe");
    client.echo_once(Duration::from_secs(1)).await.unwrap();
    assert_eq!(resubscribed(), 0, "nothing was lost");
    // Half a message is with the device: the repeat is not taken for its other half.
    air.with(A, |device| device.loses = Some(2));
    let text = "v".repeat(200);
    assert_eq!(client.echo(text.clone()).await.unwrap(), text);
    assert_eq!(resubscribed(), 1);
    // A short one that meets silence leaves nothing behind.
    air.with(A, |device| device.mute = true);
    assert!(client.echo_once(Duration::from_secs(1)).await.is_err());
    air.with(A, |device| device.mute = false);
    client.echo_once(Duration::from_secs(1)).await.unwrap();
    assert_eq!(resubscribed(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_proof_that_met_silence_leaves_nothing_behind() {
    let air = air(100, true);
    let (mut client, _) = client(&air).await;
    air.with(A, |device| device.loses = Some(3));
    assert_eq!(client.limits().await.unwrap().max_message, 97, "parameters, and half of the longer echo");
    client.echo_once(Duration::from_secs(1)).await.unwrap();
    assert_eq!(air.count(A, "resubscribe"), 1);
}

/// A device that does not even take the subscription is told of at once, and as what it is.
#[tokio::test(start_paused = true)]
async fn a_link_over_which_nothing_goes_any_more_is_told_to_be_stuck() {
    let air = air(100, true);
    let (mut client, _) = client(&air).await;
    client.limits().await.unwrap();
    assert!(!client.is_stuck());
    air.with(A, |device| device.mute = true);
    air.next(A, "resubscribe", Does::Hang);
    let (error, took) = timed(client.echo("u".repeat(200))).await;
    assert!(matches!(error, Err(ClientError::Link(error)) if error.kind == LinkErrorKind::Io));
    assert!(client.is_stuck() && client.is_broken());
    assert!(took < Duration::from_secs(8), "{took:?}");
    // A device that went is none of that.
    client.close().await;
    let (mut client, _) = self::client(&air).await;
    air.with(A, |device| device.mute = false);
    client.limits().await.unwrap();
    air.with(A, |device| device.mute = true);
    air.next(A, "resubscribe", Does::Fail(disconnected(A, "it left")));
    assert!(client.echo("u".repeat(200)).await.is_err());
    assert!(!client.is_stuck() && client.is_broken());
}
