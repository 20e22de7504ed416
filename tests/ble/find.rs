//! Which devices are found, by whom, and how one is found again.

use std::sync::Arc;
use std::time::Duration;

use flashfleet::cause::{Cause, Class};
use flashfleet::plan::{Expect, LinkOptions, MatchKind, Pattern, Target};
use flashfleet::transport::{Address, Candidate, Connector, Discovery, LinkErrorKind};
use tokio::time::sleep;

use super::air::{Air, Does, timed};

const A: &str = "F0:00:00:00:00:01";
const B: &str = "F0:00:00:00:00:02";
const C: &str = "F0:00:00:00:00:03";

fn target(patterns: &[&str], expect: Expect) -> Target {
    let kind = MatchKind::Ble(patterns.iter().map(|text| Pattern::new(text).expect("a pattern")).collect());
    Target { expect, ..Target::new("beacons", kind.into(), Vec::new()) }
}

fn some() -> Expect {
    Expect { min: 1, max: None }
}

fn discovery(air: &Air) -> Discovery {
    Discovery::new().with_central(Arc::new(air.clone()))
}

fn addresses(found: &[Candidate]) -> Vec<&str> {
    found.iter().map(|candidate| candidate.address.as_str()).collect()
}

async fn find(discovery: &Discovery, address: &str) -> Result<Candidate, Cause> {
    let address = address.parse::<Address>().expect("an address");
    let found = discovery.find(&address, &LinkOptions::default()).await?;
    assert_eq!(found.len(), 1);
    Ok(found[0].clone())
}

#[tokio::test(start_paused = true)]
async fn devices_are_found_by_name_whether_they_advertise_smp_or_not() {
    let air = Air::new(&["hci0"]);
    air.device(A, "Beacon-01");
    air.device(B, "Beacon-02");
    air.device(C, "Kettle");
    air.with(B, |device| device.smp = false);
    let found = discovery(&air).discover(&target(&["Beacon-[0-9]{2}"], some())).await.unwrap();
    assert_eq!(addresses(&found), [format!("ble:{A}"), format!("ble:{B}")]);
    assert!(found.iter().all(|candidate| !candidate.claim));
    let identity = found[0].identity.ble.as_ref().unwrap();
    assert_eq!((identity.name.as_deref(), identity.address.as_str()), (Some("Beacon-01"), A));
}

#[tokio::test(start_paused = true)]
async fn an_open_search_takes_its_whole_time_and_a_counted_one_only_as_long_as_it_needs() {
    let air = Air::new(&["hci0"]);
    air.device(A, "Beacon-01");
    air.device(B, "Beacon-02");
    let (found, took) =
        timed(async { discovery(&air).discover(&target(&["Beacon-.*"], some())).await }).await;
    assert_eq!((found.unwrap().len(), took), (2, Duration::from_secs(10)));
    let two = Expect { min: 2, max: Some(2) };
    let discovery = discovery(&air);
    let (found, took) = timed(discovery.discover(&target(&["Beacon-.*"], two))).await;
    assert_eq!(found.unwrap().len(), 2);
    assert!(took < Duration::from_secs(1), "{took:?}");
    // Looked for again, there is no more time than there was.
    sleep(Duration::from_secs(10)).await;
    let three = Expect { min: 3, max: Some(3) };
    let (_, took) = timed(discovery.discover(&target(&["Beacon-.*"], three))).await;
    assert_eq!(took, Duration::ZERO);
}

#[tokio::test(start_paused = true)]
async fn one_scan_serves_all_targets() {
    let air = Air::new(&["hci0"]);
    air.device(A, "Beacon-01");
    air.device(B, "Lamp-02");
    let discovery = discovery(&air);
    let lamps = Target { name: "lamps".to_owned(), ..target(&["Lamp-.*"], some()) };
    let beacons = target(&["Beacon-.*"], some());
    let ((beacons, lamps), took) =
        timed(async { tokio::join!(discovery.discover(&beacons), discovery.discover(&lamps)) }).await;
    assert_eq!((beacons.unwrap().len(), lamps.unwrap().len()), (1, 1));
    assert!(took < Duration::from_secs(14), "{took:?}");
    assert_eq!(air.state().wrong, [""; 0]);
}

#[tokio::test(start_paused = true)]
async fn an_address_is_a_claim_heard_or_not() {
    let air = Air::new(&["hci0"]);
    air.device(A, "Beacon-01");
    let found = discovery(&air)
        .discover(&target(&[&A.to_lowercase(), B], Expect { min: 2, max: Some(2) }))
        .await
        .unwrap();
    assert_eq!(addresses(&found), [format!("ble:{A}"), format!("ble:{B}")]);
    assert!(found.iter().all(|candidate| candidate.claim));
    assert!(found[0].connector.connect().await.is_ok());
    let error = found[1].connector.connect().await.err().unwrap();
    assert_eq!(error.kind, LinkErrorKind::NotFound);
}

#[tokio::test(start_paused = true)]
async fn a_device_that_several_adapters_hear_is_one_device_of_the_nearest_adapter() {
    let air = Air::new(&["hci0", "hci1"]);
    air.device(A, "Beacon-01");
    air.with(A, |device| *device.heard_by.get_mut("hci0").unwrap() = -80);
    let found = discovery(&air).discover(&target(&["Beacon-.*"], some())).await.unwrap();
    assert_eq!(addresses(&found), [format!("ble:{A}")]);
    assert_eq!(found[0].connector.adapter().as_deref(), Some("hci1"));
    // About equally near: the one with fewer devices.
    let air = Air::new(&["hci0", "hci1"]);
    for n in 0..6 {
        let address = format!("F0:00:00:00:00:{n:02X}");
        air.device(&address, &format!("Beacon-{n}"));
        air.with(&address, |device| *device.heard_by.get_mut("hci1").unwrap() = -55);
    }
    let found = discovery(&air).discover(&target(&["Beacon-.*"], some())).await.unwrap();
    let on_first = found.iter().filter(|one| one.connector.adapter().as_deref() == Some("hci0")).count();
    assert_eq!((found.len(), on_first), (6, 3));
}

#[tokio::test(start_paused = true)]
async fn a_person_names_one_device() {
    let air = Air::new(&["hci0"]);
    air.device(A, "Beacon-01");
    air.device(B, "Twin");
    air.device(C, "Twin");
    let discovery = discovery(&air);
    let found = find(&discovery, "ble:Beacon-01").await.unwrap();
    assert_eq!((found.address.as_str(), found.claim), (&*format!("ble:{A}"), true));
    let error = find(&discovery, "ble:Twin").await.unwrap_err();
    assert_eq!(error.code, "device.several");
    assert!(error.message.contains(B) && error.message.contains(C), "{error}");
    assert!(find(&discovery, &format!("ble:{C}")).await.is_ok());
    assert!(find(&discovery, &format!("ble:{}", C.to_lowercase())).await.is_ok());
    let error = find(&discovery, "ble:Beacon").await.unwrap_err();
    assert_eq!((error.code.as_ref(), error.class), ("device.not_found", Class::Link));
}

#[tokio::test(start_paused = true)]
async fn a_device_is_found_again_when_it_is_back() {
    let air = Air::new(&["hci0"]);
    air.device(A, "Beacon-01");
    let connector = air.connector(&air.hub(), A);
    let link = connector.connect().await.unwrap();
    air.leave(A);
    drop(link);
    let (error, took) = timed(connector.connect()).await;
    assert_eq!(error.err().unwrap().kind, LinkErrorKind::NotFound);
    assert!(took <= Duration::from_secs(11), "{took:?}");
    let back = async {
        sleep(Duration::from_secs(4)).await;
        air.with(A, |device| device.advertises = true);
    };
    let ((link, took), ()) = tokio::join!(timed(connector.connect()), back);
    assert!(link.is_ok());
    assert!(took < Duration::from_secs(6), "{took:?}");
}

/// A device that was connected once, left, and what is heard afterwards.
async fn back_as(air: &Air, by_name: bool, others: &[(&str, &str)]) -> (Result<(), LinkErrorKind>, String) {
    air.device(A, "Beacon-01");
    let hub = air.hub();
    let connector = if by_name {
        air.connector(&hub, A)
    } else {
        let auto = flashfleet::plan::Auto::Auto;
        flashfleet::transport::ble::BleConnector::new(hub, A, Some("Beacon-01".to_owned()), false, auto)
    };
    let link = connector.connect().await.expect("a link");
    sleep(Duration::from_secs(1)).await;
    air.leave(A);
    others.iter().for_each(|(address, name)| air.device(address, name));
    drop(link);
    let result = connector.connect().await.map(drop).map_err(|error| error.kind);
    (result, connector.address())
}

#[tokio::test(start_paused = true)]
async fn a_device_that_has_another_address_after_its_reset_is_known_by_its_name() {
    let air = Air::new(&["hci0"]);
    let (result, address) = back_as(&air, true, &[(B, "Beacon-01"), (C, "Beacon-02")]).await;
    assert_eq!((result, address), (Ok(()), format!("ble:{B}")));
    assert_eq!(air.count(C, "connect"), 0);
}

#[tokio::test(start_paused = true)]
async fn two_devices_of_the_name_that_come_back_are_ambiguous() {
    let air = Air::new(&["hci0"]);
    let (result, address) = back_as(&air, true, &[(B, "Beacon-01"), (C, "Beacon-01")]).await;
    assert_eq!((result, address), (Err(LinkErrorKind::Ambiguous), format!("ble:{A}")));
    assert_eq!(air.count(B, "connect") + air.count(C, "connect"), 0);
}

#[tokio::test(start_paused = true)]
async fn a_device_that_is_known_by_its_address_keeps_it() {
    let air = Air::new(&["hci0"]);
    let (result, _) = back_as(&air, false, &[(B, "Beacon-01")]).await;
    assert_eq!(result, Err(LinkErrorKind::NotFound));
}

#[tokio::test(start_paused = true)]
async fn who_was_there_all_the_time_is_not_the_one_who_left() {
    let air = Air::new(&["hci0"]);
    air.device(A, "Beacon-01");
    air.device(B, "Beacon-01");
    let hub = air.hub();
    // The other one is heard, and no device of the run.
    let connector = air.connector(&hub, A);
    let link = connector.connect().await.unwrap();
    air.leave(A);
    drop(link);
    assert_eq!(connector.connect().await.err().unwrap().kind, LinkErrorKind::NotFound);
    assert_eq!(air.count(B, "connect"), 0);
}

#[tokio::test(start_paused = true)]
async fn a_name_that_devices_of_the_run_share_proves_nothing() {
    let air = Air::new(&["hci0"]);
    air.device(A, "Beacon-01");
    air.device(B, "Beacon-01");
    let hub = air.hub();
    let (connector, _other) = (air.connector(&hub, A), air.connector(&hub, B));
    let link = connector.connect().await.unwrap();
    sleep(Duration::from_secs(1)).await;
    air.leave(A);
    air.device(C, "Beacon-01");
    drop(link);
    let error = connector.connect().await.err().unwrap();
    assert_eq!(error.kind, LinkErrorKind::NotFound);
    assert!(error.message.contains("several devices of this run are called `Beacon-01`"), "{error}");
    assert_eq!(air.count(C, "connect"), 0);
}

#[tokio::test(start_paused = true)]
async fn a_device_that_is_late_under_its_old_address_is_preferred() {
    let air = Air::new(&["hci0"]);
    air.device(A, "Beacon-01");
    let connector = air.connector(&air.hub(), A);
    let link = connector.connect().await.unwrap();
    sleep(Duration::from_secs(1)).await;
    air.leave(A);
    air.device(B, "Beacon-01");
    drop(link);
    let back = async {
        sleep(Duration::from_secs(2)).await;
        air.with(A, |device| device.advertises = true);
    };
    let (link, ()) = tokio::join!(connector.connect(), back);
    assert!(link.is_ok());
    assert_eq!((connector.address(), air.count(B, "connect")), (format!("ble:{A}"), 0));
}

#[tokio::test(start_paused = true)]
async fn an_adapter_in_trouble_does_not_hide_what_another_one_hears() {
    let air = Air::new(&["hci0", "hci1"]);
    air.device(A, "Beacon-01");
    air.state().adapters.get_mut("hci0").unwrap().off = true;
    let found = discovery(&air).discover(&target(&["Beacon-.*"], some())).await.unwrap();
    assert_eq!(found[0].connector.adapter().as_deref(), Some("hci1"));
}

#[tokio::test(start_paused = true)]
async fn a_bluetooth_service_that_hangs_is_trouble_of_this_machine_whatever_it_is_asked() {
    for call in ["adapters", "is_powered", "start_scan", "heard", "stop_scan"] {
        let air = Air::new(&["hci0"]);
        air.device(A, "Beacon-01");
        let hang = || air.next_of_machine(call, Does::Hang);
        hang();
        let error = discovery(&air).discover(&target(&["Beacon-.*"], some())).await.unwrap_err();
        assert_eq!((error.code.as_ref(), error.class), ("station.unavailable", Class::Station), "{call}");
        if call != "stop_scan" {
            hang();
            let error = find(&discovery(&air), "ble:Beacon-01").await.unwrap_err();
            assert_eq!(error.code, "station.unavailable", "{call}");
        }
    }
    let air = Air::new(&["hci0"]);
    air.next_of_machine("adapters", Does::Hang);
    let (error, took) = timed(find(&discovery(&air), "ble:Beacon-01")).await;
    assert_eq!((error.is_err(), took), (true, Duration::from_secs(10)));
}
