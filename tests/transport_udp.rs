//! Several devices over one UDP socket, on the loopback interface.
#![expect(clippy::unwrap_used, reason = "a failed helper is a failed test")]

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use flashfleet::plan::Auto;
use flashfleet::transport::{
    Connector, HostPort, Link, LinkErrorKind, MAX_MESSAGE_V4, MAX_MESSAGE_V6, UdpConnector, UdpHub,
};
use rstest::rstest;
use tokio::net::UdpSocket;
use tokio::time::timeout;

/// How long something that must not come is waited for.
const NEVER: Duration = Duration::from_millis(50);
/// How long something that must come may take.
const SOON: Duration = Duration::from_secs(5);

/// A device: a socket that answers when the test says so.
struct Device {
    socket: UdpSocket,
}

impl Device {
    async fn new(host: &str) -> Self {
        Self { socket: UdpSocket::bind((host, 0)).await.unwrap() }
    }

    fn connector(&self, hub: &Arc<UdpHub>) -> UdpConnector {
        let address = self.socket.local_addr().unwrap();
        let place = HostPort { host: address.ip().to_string(), port: address.port() };
        UdpConnector::new(Arc::clone(hub), place, Auto::Auto)
    }

    async fn link(&self, hub: &Arc<UdpHub>) -> Box<dyn Link> {
        self.connector(hub).connect().await.unwrap()
    }

    async fn recv(&self) -> (Vec<u8>, SocketAddr) {
        let mut buffer = vec![0; 4096];
        let (length, from) = timeout(SOON, self.socket.recv_from(&mut buffer)).await.unwrap().unwrap();
        buffer.truncate(length);
        (buffer, from)
    }

    /// Tells the device where the client is.
    async fn client(&self, link: &mut Box<dyn Link>) -> SocketAddr {
        link.send(&answer(0, 1)).await.unwrap();
        self.recv().await.1
    }
}

/// A read response, version 2, of `length` bytes of payload.
fn answer(sequence: u8, length: u16) -> Vec<u8> {
    let [high, low] = length.to_be_bytes();
    let mut message = vec![0x09, 0, high, low, 0, 0, sequence, 0];
    message.resize(8 + usize::from(length), sequence);
    message
}

async fn recv(link: &mut Box<dyn Link>) -> Vec<u8> {
    timeout(SOON, link.recv()).await.expect("no answer").unwrap()
}

#[rstest]
#[case::v4("127.0.0.1")]
#[case::v6("::1")]
#[tokio::test]
async fn many_devices_share_one_socket_and_each_gets_its_own_answers(#[case] host: &str) {
    let hub = Arc::new(UdpHub::new());
    let mut devices = Vec::new();
    for _ in 0..8 {
        let device = Device::new(host).await;
        let link = device.link(&hub).await;
        devices.push((device, link));
    }
    let mut sources = Vec::new();
    for (sequence, (device, link)) in (1..).zip(&mut devices) {
        link.send(&answer(sequence, 4)).await.unwrap();
        let (message, from) = device.recv().await;
        assert_eq!(message, answer(sequence, 4));
        sources.push(from);
    }
    assert!(sources.iter().all(|source| source == &sources[0]), "several sockets: {sources:?}");
    // Answers in another order than the requests.
    for (sequence, (device, _)) in (1..=8).zip(&devices).rev() {
        device.socket.send_to(&answer(sequence, 9), sources[0]).await.unwrap();
    }
    for (sequence, (_, link)) in (1..).zip(&mut devices) {
        assert_eq!(recv(link).await, answer(sequence, 9));
        assert!(timeout(NEVER, link.recv()).await.is_err(), "an answer of another device");
    }
}

#[tokio::test]
async fn a_datagram_from_elsewhere_is_ignored() {
    let hub = Arc::new(UdpHub::new());
    let device = Device::new("127.0.0.1").await;
    let mut link = device.link(&hub).await;
    let client = device.client(&mut link).await;
    let stranger = Device::new("127.0.0.1").await;
    stranger.socket.send_to(&answer(66, 4), client).await.unwrap();
    assert!(timeout(NEVER, link.recv()).await.is_err());
    device.socket.send_to(&answer(1, 4), client).await.unwrap();
    assert_eq!(recv(&mut link).await, answer(1, 4));
}

#[tokio::test]
async fn an_answer_over_several_datagrams_is_put_together() {
    let hub = Arc::new(UdpHub::new());
    let device = Device::new("127.0.0.1").await;
    let mut link = device.link(&hub).await;
    let client = device.client(&mut link).await;
    let long = answer(5, 3000);
    // The first piece ends within the header.
    for piece in [&long[..3], &long[3..1000], &long[1000..2500], &long[2500..]] {
        assert!(timeout(NEVER, link.recv()).await.is_err(), "not complete yet");
        device.socket.send_to(piece, client).await.unwrap();
    }
    assert_eq!(recv(&mut link).await, long);
}

#[tokio::test]
async fn a_lost_piece_costs_one_message_and_no_more() {
    let hub = Arc::new(UdpHub::new());
    let device = Device::new("127.0.0.1").await;
    let mut link = device.link(&hub).await;
    let client = device.client(&mut link).await;
    let (first, second) = (answer(1, 2000), answer(2, 2000));
    // A rest is lost, then a whole answer comes.
    device.socket.send_to(&first[..1400], client).await.unwrap();
    device.socket.send_to(&answer(3, 10), client).await.unwrap();
    assert_eq!(recv(&mut link).await, answer(3, 10));
    // A rest is lost, then the pieces of another answer come: too much in all, so the second stands alone.
    device.socket.send_to(&first[..1400], client).await.unwrap();
    device.socket.send_to(&second[..1400], client).await.unwrap();
    device.socket.send_to(&second[1400..], client).await.unwrap();
    assert_eq!(recv(&mut link).await, second);
    // Garbage is no beginning.
    device.socket.send_to(&[0xff; 40], client).await.unwrap();
    device.socket.send_to(&answer(4, 10), client).await.unwrap();
    assert_eq!(recv(&mut link).await, answer(4, 10));
    // Nor is more than the header promises.
    let mut longer = answer(5, 10);
    longer.push(0);
    device.socket.send_to(&longer, client).await.unwrap();
    device.socket.send_to(&answer(6, 10), client).await.unwrap();
    assert_eq!(recv(&mut link).await, answer(6, 10));
}

#[tokio::test]
async fn what_nobody_takes_is_bounded_and_harms_no_other_device() {
    let hub = Arc::new(UdpHub::new());
    let (flooder, quiet) = (Device::new("127.0.0.1").await, Device::new("127.0.0.1").await);
    let mut flooded = flooder.link(&hub).await;
    let mut other = quiet.link(&hub).await;
    let client = flooder.client(&mut flooded).await;
    for _ in 0..500 {
        flooder.socket.send_to(&answer(1, 4), client).await.unwrap();
        tokio::task::yield_now().await;
    }
    quiet.socket.send_to(&answer(2, 4), client).await.unwrap();
    assert_eq!(recv(&mut other).await, answer(2, 4));
    let mut kept = 0;
    while timeout(NEVER, flooded.recv()).await.is_ok() {
        kept += 1;
    }
    assert!((1..=64).contains(&kept), "{kept} kept");
    flooder.socket.send_to(&answer(3, 4), client).await.unwrap();
    assert_eq!(recv(&mut flooded).await, answer(3, 4), "and the link goes on");
}

#[tokio::test]
async fn one_device_has_one_link_at_a_time() {
    let hub = Arc::new(UdpHub::new());
    // Another device keeps the socket open all the time.
    let other = Device::new("127.0.0.1").await;
    let _other_link = other.link(&hub).await;
    let device = Device::new("127.0.0.1").await;
    let mut first = device.link(&hub).await;
    let client = device.client(&mut first).await;
    let error = device.connector(&hub).connect().await.err().unwrap();
    assert_eq!(error.kind, LinkErrorKind::Busy);
    first.close().await;
    let mut second = device.link(&hub).await;
    assert_eq!(device.client(&mut second).await, client, "still the same socket");
    device.socket.send_to(&answer(1, 4), client).await.unwrap();
    assert_eq!(recv(&mut second).await, answer(1, 4));
}

#[rstest]
#[case::v4("127.0.0.1", MAX_MESSAGE_V4)]
#[case::v6("::1", MAX_MESSAGE_V6)]
#[tokio::test]
async fn the_largest_message_fits_one_frame_of_ethernet(#[case] host: &str, #[case] most: usize) {
    let hub = Arc::new(UdpHub::new());
    let device = Device::new(host).await;
    let mut link = device.link(&hub).await;
    assert_eq!(link.properties().max_message, most);
    link.send(&vec![7; most]).await.unwrap();
    assert_eq!(device.recv().await.0.len(), most);
    assert_eq!(link.send(&vec![7; most + 1]).await.unwrap_err().kind, LinkErrorKind::TooLong);
}

#[tokio::test]
async fn the_plan_may_ask_for_smaller_datagrams_only() {
    for (mtu, most) in [(500, 500), (9000, MAX_MESSAGE_V4)] {
        let place = HostPort { host: "127.0.0.1".to_owned(), port: 9 };
        let connector = UdpConnector::new(Arc::new(UdpHub::new()), place, Auto::Fixed(mtu));
        assert_eq!(connector.connect().await.unwrap().properties().max_message, most);
    }
}

#[tokio::test]
async fn a_host_where_nobody_listens_is_silent() {
    let hub = Arc::new(UdpHub::new());
    let nobody = Device::new("127.0.0.1").await;
    let connector = nobody.connector(&hub);
    drop(nobody);
    let device = Device::new("127.0.0.1").await;
    let mut silent = connector.connect().await.unwrap();
    let mut link = device.link(&hub).await;
    for _ in 0..3 {
        silent.send(&answer(1, 1)).await.unwrap();
        assert!(timeout(NEVER, silent.recv()).await.is_err());
    }
    // Nor does it disturb the others on the socket.
    let client = device.client(&mut link).await;
    device.socket.send_to(&answer(2, 1), client).await.unwrap();
    assert_eq!(recv(&mut link).await, answer(2, 1));
}
