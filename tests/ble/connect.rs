//! How connections come about: in turns, in several tries, and let go whatever happens.

use std::time::Duration;

use flashfleet::client::{Client, ClientOptions, Conversation};
use flashfleet::transport::{Connector, LinkError, LinkErrorKind};
use futures_util::future::join_all;
use tokio::time::{Instant, sleep, timeout};

use super::air::{Air, CONNECT_TAKES, Does, timed};

const A: &str = "F0:00:00:00:00:01";
const B: &str = "F0:00:00:00:00:02";

fn flaky() -> Does {
    Does::Fail(LinkError::new(LinkErrorKind::Io, "service discovery timed out", "try again"))
}

#[tokio::test(start_paused = true)]
async fn a_device_is_found_connected_and_answers() {
    let air = Air::new(&["hci0"]);
    air.device(A, "Beacon-01");
    let hub = air.hub();
    let connector = air.connector(&hub, A);
    let link = connector.connect().await.unwrap();
    assert!(!link.properties().survives_reset);
    let mut client = Client::new(link, ClientOptions::default(), Conversation::default());
    assert_eq!(client.echo("hello".to_owned()).await.unwrap(), "hello");
    client.close().await;
    assert!(!air.with(A, |device| device.connected));
    assert_eq!(connector.address(), format!("ble:{A}"));
}

#[tokio::test(start_paused = true)]
async fn one_adapter_connects_one_device_at_a_time_and_two_adapters_two() {
    let air = Air::new(&["hci0", "hci1"]);
    let addresses: Vec<String> = (0..8).map(|n| format!("F0:00:00:00:00:{n:02X}")).collect();
    addresses.iter().for_each(|address| air.device(address, &format!("Beacon-{address}")));
    let hub = air.hub();
    let connectors: Vec<_> = addresses.iter().map(|address| air.connector(&hub, address)).collect();
    let (links, took) = timed(join_all(connectors.iter().map(Connector::connect))).await;
    assert!(links.iter().all(Result::is_ok));
    let state = air.state();
    assert_eq!(state.wrong, [""; 0], "one thing at a time");
    assert_eq!(state.most_connecting, 2, "two adapters at once");
    for adapter in ["hci0", "hci1"] {
        let own = state.order.iter().filter(|(name, _)| name == adapter).count();
        assert_eq!(own, 4, "{adapter} got its share: {:?}", state.order);
    }
    // Four connections one after the other, and a moment of listening.
    assert!(took < 4 * CONNECT_TAKES + Duration::from_secs(2), "{took:?}");
}

#[tokio::test(start_paused = true)]
async fn a_connection_that_does_not_come_about_is_tried_again() {
    for call in ["connect", "discover", "subscribe"] {
        let air = Air::new(&["hci0"]);
        air.device(A, "Beacon-01");
        air.next(A, call, flaky());
        air.next(A, call, if call == "subscribe" { flaky() } else { Does::Hang });
        let connector = air.connector(&air.hub(), A);
        assert!(connector.connect().await.is_ok(), "{call}");
        assert_eq!(air.count(A, "connect"), 3, "{call}");
        assert_eq!(air.count(A, "disconnect"), 2, "every failure of {call} is cleaned up");
    }
}

#[tokio::test(start_paused = true)]
async fn three_failures_are_an_error_that_tells_the_last_one() {
    let air = Air::new(&["hci0"]);
    air.device(A, "Beacon-01");
    (0..3).for_each(|_| air.next(A, "connect", flaky()));
    let error = air.connector(&air.hub(), A).connect().await.err().unwrap();
    assert_eq!(error.kind, LinkErrorKind::Unreachable);
    assert!(
        error.message.contains("in 3 tries, the last one failed: service discovery timed out"),
        "{error}"
    );
    assert_eq!(air.count(A, "connect"), 3);
}

#[tokio::test(start_paused = true)]
async fn who_does_not_wait_any_more_leaves_no_connection_and_no_turn_behind() {
    let air = Air::new(&["hci0"]);
    air.device(A, "Beacon-01");
    air.device(B, "Beacon-02");
    let hub = air.hub();
    let (first, second) = (air.connector(&hub, A), air.connector(&hub, B));
    air.next(A, "connect", Does::Hang);
    assert!(timeout(Duration::from_secs(2), first.connect()).await.is_err());
    let (link, took) = timed(second.connect()).await;
    assert!(link.is_ok());
    assert!(took < Duration::from_secs(3), "{took:?}");
    assert_eq!(air.count(A, "disconnect"), 1);
    assert_eq!(air.state().wrong, [""; 0]);
    // Neither does who goes away while it is only listened.
    air.leave(A);
    assert!(timeout(Duration::from_millis(600), first.connect()).await.is_err());
    drop(link);
    sleep(Duration::from_secs(1)).await;
    assert!(second.connect().await.is_ok());
    assert_eq!(air.state().wrong, [""; 0]);
}

#[tokio::test(start_paused = true)]
async fn a_device_has_one_link_at_a_time() {
    let air = Air::new(&["hci0"]);
    air.device(A, "Beacon-01");
    let hub = air.hub();
    let (one, other) = (air.connector(&hub, A), air.connector(&hub, A));
    let link = one.connect().await.unwrap();
    let error = other.connect().await.err().unwrap();
    assert_eq!(error.kind, LinkErrorKind::Busy);
    link.close().await;
    assert!(other.connect().await.is_ok());
}

#[tokio::test(start_paused = true)]
async fn a_dropped_link_lets_the_device_go() {
    let air = Air::new(&["hci0"]);
    air.device(A, "Beacon-01");
    let connector = air.connector(&air.hub(), A);
    drop(connector.connect().await.unwrap());
    sleep(Duration::from_millis(1)).await;
    assert!(!air.with(A, |device| device.connected));
    assert!(connector.connect().await.is_ok());
}

#[tokio::test(start_paused = true)]
async fn a_connection_that_is_lost_ends_the_wait_at_once() {
    let air = Air::new(&["hci0"]);
    air.device(A, "Beacon-01");
    let mut link = air.connector(&air.hub(), A).connect().await.unwrap();
    let begin = Instant::now();
    let leaving = async {
        sleep(Duration::from_secs(1)).await;
        air.leave(A);
    };
    let (received, ()) = tokio::join!(link.recv(), leaving);
    assert_eq!(received.unwrap_err().kind, LinkErrorKind::Disconnected);
    assert_eq!(begin.elapsed(), Duration::from_secs(1));
    assert_eq!(link.send(&[0; 9]).await.unwrap_err().kind, LinkErrorKind::Disconnected);
    assert_eq!(link.recv().await.unwrap_err().kind, LinkErrorKind::Disconnected);
    assert_eq!(air.count(A, "write"), 0, "nothing goes to a device that is gone");
}
