//! A simulated device behind its radio's socket: what a radio is told, and what becomes of what it tells. In real time,
//! and so with devices that boot fast.

use std::time::Duration;

use flashfleet::sim::{
    Advertisement, BlePermission, BleService, BleSpec, Endpoint, EndpointKind, Fleet, FromRadio, SimSpec,
    SimTransport, ToRadio,
};
use flashfleet::smp::RawRequest;
use flashfleet::smp::message::os::{Echo, Reset};
use flashfleet::transport::ble::SMP_SERVICE;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;
use tokio::time::timeout;

/// Something that did not come by then does not come.
const SOON: Duration = Duration::from_secs(10);

fn device(ble: BleSpec) -> (Fleet, Endpoint) {
    let spec = SimSpec {
        transport: SimTransport::Ble,
        boot_ms: 50,
        reset_ms: 20,
        process_us: 0,
        ble,
        ..SimSpec::default()
    };
    let fleet = Fleet::new(&spec).unwrap();
    let endpoint = fleet.serve(0, EndpointKind::Radio("127.0.0.1:0".parse().unwrap())).unwrap();
    (fleet, endpoint)
}

struct Radio(BufReader<TcpStream>);

impl Radio {
    async fn open(endpoint: &Endpoint) -> Self {
        let address = endpoint.address();
        let stream = TcpStream::connect(address.strip_prefix("radio:").unwrap()).await.unwrap();
        Self(BufReader::new(stream))
    }

    async fn say(&mut self, line: &FromRadio) {
        self.say_text(&(serde_json::to_string(line).unwrap() + "\n")).await;
    }

    async fn say_text(&mut self, text: &str) {
        self.0.get_mut().write_all(text.as_bytes()).await.unwrap();
    }

    /// The next line; `None` where the device has closed the connection.
    async fn hear(&mut self) -> Option<ToRadio> {
        let mut line = String::new();
        let count = timeout(SOON, self.0.read_line(&mut line)).await.expect("something").unwrap_or(0);
        (count > 0).then(|| serde_json::from_str(&line).unwrap())
    }

    async fn advertisement(&mut self) -> Advertisement {
        match self.hear().await {
            Some(ToRadio::Advertise(advertisement)) => advertisement,
            other => panic!("expected an advertisement, got {other:?}"),
        }
    }

    /// A central that is ready to write.
    async fn connect(&mut self, mtu: u16) {
        self.say(&FromRadio::Connected).await;
        self.say(&FromRadio::Mtu(mtu)).await;
        self.say(&FromRadio::Subscribed(true)).await;
    }

    async fn write<R: flashfleet::smp::message::Request>(&mut self, request: &R) {
        let message = RawRequest::new(request).unwrap().encode(1);
        self.say(&FromRadio::Write(message)).await;
    }

    async fn notified(&mut self) -> Vec<u8> {
        match self.hear().await {
            Some(ToRadio::Notify(value)) => value,
            other => panic!("expected a notification, got {other:?}"),
        }
    }
}

#[tokio::test]
async fn a_radio_is_told_what_to_advertise_and_carries_values() {
    let ble = BleSpec {
        name: "SMP-%d".to_owned(),
        mtu: 100,
        permission: BlePermission::Authenticated,
        advertise_service: false,
        ..BleSpec::default()
    };
    let (fleet, endpoint) = device(ble);
    let mut radio = Radio::open(&endpoint).await;
    let told = radio.advertisement().await;
    assert_eq!(told.address, "F0:F1:F2:00:00:01");
    assert_eq!(told.name.as_deref(), Some("SMP-1"));
    assert_eq!((told.mtu, told.permission), (100, BlePermission::Authenticated));
    assert_eq!((told.service, told.advertise_service), (SMP_SERVICE, false));
    radio.connect(50).await;
    radio.write(&Echo { d: "hello".to_owned() }).await;
    assert!(radio.notified().await.windows(5).any(|word| word == b"hello"));
    assert!(fleet.device(0).is_connected());
    // 47 bytes fit into one notification at this MTU.
    radio.write(&Echo { d: "e".repeat(60) }).await;
    assert_eq!(radio.notified().await.len(), 47);
    assert_eq!(radio.notified().await.len(), 8 + 5 + 60 + 1 - 47);
    radio.say(&FromRadio::Disconnected).await;
    assert_eq!(radio.advertisement().await, told);
    assert!(!fleet.device(0).is_connected());
}

#[tokio::test]
async fn a_reset_drops_the_central_and_the_device_comes_back_under_another_address() {
    let (fleet, endpoint) = device(BleSpec { new_address_at_boot: true, ..BleSpec::default() });
    let mut radio = Radio::open(&endpoint).await;
    let before = radio.advertisement().await;
    radio.connect(247).await;
    radio.write(&Reset::default()).await;
    radio.notified().await;
    assert_eq!(radio.hear().await, Some(ToRadio::Silence));
    radio.say(&FromRadio::Disconnected).await;
    let mut after = radio.advertisement().await;
    assert_ne!(after.address, before.address);
    after.address.clone_from(&before.address);
    assert_eq!(after, before, "nothing else changed");
    assert_eq!(fleet.device(0).boots(), 1);
}

#[tokio::test]
async fn a_radio_that_connects_to_a_device_that_just_left_is_told_to_drop_it() {
    let (fleet, endpoint) = device(BleSpec::default());
    let mut radio = Radio::open(&endpoint).await;
    radio.advertisement().await;
    fleet.device(0).unplug(None);
    assert_eq!(radio.hear().await, Some(ToRadio::Silence));
    radio.connect(247).await;
    assert_eq!(radio.hear().await, Some(ToRadio::Silence), "told once more");
    assert!(!fleet.device(0).is_connected());
    radio.say(&FromRadio::Disconnected).await;
    fleet.device(0).plug();
    radio.advertisement().await;
}

#[tokio::test]
async fn a_device_without_an_smp_server_shows_another_service() {
    let (_fleet, endpoint) = device(BleSpec { service: BleService::Other, ..BleSpec::default() });
    let told = Radio::open(&endpoint).await.advertisement().await;
    assert_ne!(told.service, SMP_SERVICE);
}

/// A radio that goes takes its central with it; one that says what no radio says is closed; both times another may come.
#[tokio::test]
async fn a_radio_may_go_and_another_come() {
    let (fleet, endpoint) = device(BleSpec::default());
    let mut radio = Radio::open(&endpoint).await;
    radio.advertisement().await;
    radio.connect(247).await;
    radio.write(&Echo { d: "hello".to_owned() }).await;
    radio.notified().await;
    drop(radio);
    for nonsense in ["{\"write\":5}\n", "no JSON\n", "{\"write\":\"?\"}\n", &"x".repeat(5000)] {
        let mut radio = Radio::open(&endpoint).await;
        radio.advertisement().await;
        radio.connect(247).await;
        radio.say_text(nonsense).await;
        assert_eq!(radio.hear().await, None, "{nonsense:.20}");
    }
    let mut radio = Radio::open(&endpoint).await;
    radio.advertisement().await;
    assert!(!fleet.device(0).is_connected());
}
