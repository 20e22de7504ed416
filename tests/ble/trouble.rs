//! What goes wrong: every kind with its own code and the next thing to do, and nothing that hangs.

use std::sync::Arc;
use std::time::Duration;

use flashfleet::cause::{Cause, Class};
use flashfleet::plan::LinkOptions;
use flashfleet::transport::ble::{SMP_SERVICE, adapter_off, no_daemon, not_paired};
use flashfleet::transport::{Address, Connector, Discovery, Link, LinkErrorKind};

use super::air::{Air, Does, timed};

const A: &str = "F0:00:00:00:00:01";

async fn fails(air: &Air) -> Cause {
    let connector = air.connector(&air.hub(), A);
    connector.connect().await.err().expect("an error").into()
}

fn with_device() -> Air {
    let air = Air::new(&["hci0"]);
    air.device(A, "Beacon-01");
    air
}

#[tokio::test(start_paused = true)]
async fn a_machine_without_bluetooth_is_station_trouble() {
    let air = with_device();
    air.next_of_machine("adapters", Does::Fail(no_daemon("no such file")));
    let cause = fails(&air).await;
    assert_eq!((cause.class, cause.code.as_ref()), (Class::Station, "station.no_bluetooth"));
    assert!(cause.help.contains("systemctl start dbus bluetooth"), "{}", cause.help);

    air.state().adapters.clear();
    let cause = fails(&air).await;
    assert_eq!((cause.class, cause.code.as_ref()), (Class::Station, "station.no_adapter"));

    let air = with_device();
    air.state().adapters.get_mut("hci0").unwrap().off = true;
    let cause = fails(&air).await;
    assert_eq!((cause.class, cause.code.as_ref()), (Class::Station, "station.adapter_off"));
    assert!(cause.help.contains("bluetoothctl power on"), "{}", cause.help);
    let discovery = Discovery::new().with_central(Arc::new(air));
    let address: Address = "ble:Beacon-01".parse().unwrap();
    let cause = discovery.find(&address, &LinkOptions::default()).await.unwrap_err();
    assert_eq!(cause.code, "station.adapter_off");
}

#[tokio::test(start_paused = true)]
async fn an_adapter_that_is_switched_off_meanwhile_says_so() {
    let air = with_device();
    let connector = air.connector(&air.hub(), A);
    let mut link = connector.connect().await.unwrap();
    air.state().adapters.get_mut("hci0").unwrap().off = true;
    air.lose(A, adapter_off("hci0"));
    assert_eq!(link.recv().await.unwrap_err().kind, LinkErrorKind::AdapterOff);
    drop(link);
    let (error, took) = timed(connector.connect()).await;
    assert_eq!(error.err().unwrap().kind, LinkErrorKind::AdapterOff);
    assert!(took < Duration::from_secs(1), "{took:?}");
    air.state().adapters.get_mut("hci0").unwrap().off = false;
    assert!(connector.connect().await.is_ok());
}

#[tokio::test(start_paused = true)]
async fn a_device_without_the_service_is_told_from_one_without_the_characteristic() {
    let air = with_device();
    air.with(A, |device| device.gatt.services[0].uuid = uuid::Uuid::from_u128(0x1800));
    let cause = fails(&air).await;
    assert_eq!((cause.class, cause.code.as_ref()), (Class::Device, "device.no_smp_service"));
    assert!(cause.message.contains(&SMP_SERVICE.to_string()), "{cause}");
    assert_eq!(air.count(A, "connect"), 1, "that does not change by trying again");
    assert!(!air.with(A, |device| device.connected));

    let air = with_device();
    air.with(A, |device| device.gatt.services[0].characteristics.clear());
    assert!(fails(&air).await.message.contains("characteristic"));

    let air = with_device();
    air.with(A, |device| device.gatt.services[0].characteristics[0].notify = false);
    let cause = fails(&air).await;
    assert_eq!(cause.code, "device.no_smp_service");
    assert!(cause.message.contains("does not notify"), "{cause}");

    // Nothing at all is a discovery that was cut off.
    let air = with_device();
    air.with(A, |device| device.gatt.services.clear());
    assert_eq!(fails(&air).await.code, "link.unreachable");
    assert_eq!(air.count(A, "connect"), 3);
}

#[tokio::test(start_paused = true)]
async fn a_device_that_wants_a_bond_says_how_to_make_one() {
    let air = with_device();
    air.next(A, "subscribe", Does::Fail(not_paired(&format!("ble:{A}"), "Not paired")));
    let cause = fails(&air).await;
    assert_eq!((cause.class, cause.code.as_ref()), (Class::Device, "device.pairing_required"));
    assert!(cause.help.contains(&format!("pair {A}`")), "{}", cause.help);
    assert_eq!(air.count(A, "connect"), 1);
}

#[tokio::test(start_paused = true)]
async fn no_call_that_hangs_hangs_the_run() {
    use LinkErrorKind::{PairingRequired, Unavailable, Unreachable};
    type Comes<'a> = Result<(), (LinkErrorKind, &'a str)>;
    let calls: [(&str, Comes<'_>, u64); 9] = [
        // The system's own trouble is none of the device's: no second try.
        ("adapters", Err((Unavailable, "list its Bluetooth adapters")), 10),
        ("is_powered", Err((Unavailable, "tell whether the adapter is on")), 10),
        ("start_scan", Err((Unavailable, "start a scan")), 10),
        ("heard", Err((Unavailable, "tell what it hears")), 10),
        ("peripheral", Err((Unavailable, "find the peripheral")), 10),
        // Three tries, each as long as the call's own limit, and pauses of 3 s in all; a little listening.
        ("connect", Err((Unreachable, "connect the device")), 3 * 20),
        ("discover", Err((Unreachable, "read the device's services")), 3 * 10),
        // No second try: whoever answered the discovery and not this wants a bond.
        ("subscribe", Err((PairingRequired, "was not confirmed within 10 s")), 10),
        // Nobody needs the end of a scan, but its adapter is not used meanwhile.
        ("stop_scan", Ok(()), 10),
    ];
    for (call, expected, within) in calls {
        let air = with_device();
        for _ in 0..9 {
            match call {
                "connect" | "discover" | "subscribe" => air.next(A, call, Does::Hang),
                _ => air.next_of_machine(call, Does::Hang),
            }
        }
        let connector = air.connector(&air.hub(), A);
        let (result, took) = timed(connector.connect()).await;
        match (result, expected) {
            (Ok(_), Ok(())) => {}
            (Err(error), Err((kind, what))) => {
                assert_eq!(error.kind, kind, "{call}");
                assert!(error.message.contains(what), "{call}: {error}");
            }
            (result, _) => panic!("{call}: {:?}", result.map(drop)),
        }
        let within = Duration::from_secs(within);
        assert!(within <= took && took < within + Duration::from_secs(8), "{call}: {took:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_write_that_hangs_is_an_error_and_so_is_what_follows() {
    let air = with_device();
    let mut link = air.connector(&air.hub(), A).connect().await.unwrap();
    air.next(A, "write", Does::Hang);
    let (error, took) = timed(link.send(&[2, 0, 0, 1, 0, 0, 0, 0, 0xa0])).await;
    assert_eq!((error.unwrap_err().kind, took), (LinkErrorKind::Io, Duration::from_secs(10)));
    assert!(link.send(&[0; 9]).await.is_err());
}

#[tokio::test(start_paused = true)]
async fn a_disconnect_that_hangs_keeps_nobody() {
    let air = with_device();
    let connector = air.connector(&air.hub(), A);
    let link: Box<dyn Link> = connector.connect().await.unwrap();
    air.next(A, "disconnect", Does::Hang);
    let ((), took) = timed(link.close()).await;
    assert!(took <= Duration::from_secs(3), "{took:?}");
    air.with(A, |device| device.connected = false);
    let (link, took) = timed(connector.connect()).await;
    assert!(link.is_ok());
    assert!(took < Duration::from_secs(5), "{took:?}");
}
