//! One look at the ports for all who wait: what it costs, what it notices, and that no board gets what is another's.
#![expect(clippy::unwrap_used, reason = "a failed helper is a failed test")]

use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use flashfleet::identity::UsbIdentity;
use flashfleet::plan::LinkOptions;
use flashfleet::transport::{
    Connector as _, Firmware, Link, LinkError, LinkErrorKind, MemoryConnector, MemoryLink, Port, PortWatch,
    Ports, SerialOptions, SystemPorts, UsbConnector, UsbFingerprint,
};
use tokio::time::{Instant, sleep, timeout};

/// Ports that a test moves about, and that count how often they are listed.
#[derive(Debug, Default)]
struct Moving(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    ports: Vec<Port>,
    stamp: u64,
    listings: usize,
    /// What there is from the next opening on.
    at_opening: Option<Vec<Port>>,
    opened: Vec<String>,
    stamps: usize,
    unlistable: bool,
    refused: usize,
    /// Ports are listed and do not open.
    refusing: bool,
}

impl Moving {
    fn new(ports: Vec<Port>) -> (Arc<Self>, Arc<PortWatch>) {
        let moving = Arc::new(Self(Mutex::new(State { ports, ..State::default() })));
        (Arc::clone(&moving), Arc::new(PortWatch::new(moving)))
    }

    fn set(&self, ports: Vec<Port>) {
        let mut state = self.0.lock().unwrap();
        state.ports = ports;
        state.stamp += 1;
    }

    fn listings(&self) -> usize {
        self.0.lock().unwrap().listings
    }
}

#[async_trait]
impl Ports for Moving {
    async fn ports(&self, _globs: &[glob::Pattern]) -> Result<Vec<Port>, LinkError> {
        // A list takes its time: meanwhile others ask for one.
        sleep(Duration::from_millis(10)).await;
        let mut state = self.0.lock().unwrap();
        state.listings += 1;
        if state.unlistable {
            return Err(LinkError::new(LinkErrorKind::Unavailable, "no /sys", "mount it"));
        }
        Ok(state.ports.clone())
    }

    fn stamp(&self) -> Option<u64> {
        let mut state = self.0.lock().unwrap();
        state.stamps += 1;
        Some(state.stamp)
    }

    async fn open(&self, name: &str, _options: &SerialOptions) -> Result<Box<dyn Link>, LinkError> {
        let mut state = self.0.lock().unwrap();
        if state.refusing {
            state.refused += 1;
            return Err(LinkError::new(LinkErrorKind::NotFound, "no such device", "wait"));
        }
        state.opened.push(name.to_owned());
        if let Some(ports) = state.at_opening.take() {
            state.ports = ports;
            state.stamp += 1;
        }
        Ok(Box::new(MemoryLink::pair(name, MemoryLink::unlimited()).0))
    }
}

fn board(path: &str, serial: &str) -> Port {
    let usb = UsbIdentity {
        vid: 0x2fe3,
        pid: 4,
        interface: Some(0),
        serial_number: Some(serial.to_owned()),
        product: None,
        hub_path: Some(format!("1-{serial}")),
    };
    Port::usb(path, usb)
}

fn connector(watch: &Arc<PortWatch>, port: &Port) -> UsbConnector {
    let seen = port.identity.usb.clone().unwrap();
    let print = UsbFingerprint { seen, aliases: Vec::new(), bootloader: None };
    let options = SerialOptions::from(&LinkOptions::default());
    UsbConnector::new(Arc::clone(watch), print, port.path.to_string_lossy(), None, options)
}

#[tokio::test(start_paused = true)]
async fn all_who_ask_share_one_list_until_something_changes() {
    let (ports, watch) = Moving::new(vec![board("/dev/ttyFAKE0", "1")]);
    let all = futures_util::future::join_all((0..120).map(|_| watch.listing())).await;
    assert!(all.iter().all(|listing| listing.as_ref().unwrap().ports.len() == 1));
    assert_eq!(ports.listings(), 1);
    assert_eq!(ports.0.lock().unwrap().stamps, 1, "nor does everyone look whether something changed");
    let generation = watch.listing().await.unwrap().generation;
    ports.set(Vec::new());
    sleep(Duration::from_millis(20)).await;
    let after = watch.listing().await.unwrap();
    assert!(after.ports.is_empty() && after.generation != generation);
    assert_eq!(ports.listings(), 2);
    // What a list tells may have been half set up: it is not believed for ever.
    sleep(Duration::from_secs(2)).await;
    assert_eq!(watch.listing().await.unwrap().generation, after.generation, "nothing changed");
    assert_eq!(ports.listings(), 3);
}

#[tokio::test(start_paused = true)]
async fn everyone_who_waits_is_woken_by_a_change_and_nobody_lists_meanwhile() {
    let (ports, watch) = Moving::new(Vec::new());
    let generation = watch.listing().await.unwrap().generation;
    let waiting = futures_util::future::join_all((0..120).map(|_| watch.changed(generation)));
    let change = async {
        sleep(Duration::from_millis(800)).await;
        ports.set(vec![board("/dev/ttyFAKE0", "1")]);
        Instant::now()
    };
    let ((), changed_at) = tokio::join!(async { waiting.await.into_iter().collect() }, change);
    assert!(changed_at.elapsed() <= Duration::from_millis(50), "{:?}", changed_at.elapsed());
    assert_eq!(ports.listings(), 2, "one at the beginning, one for all of them");
    // One who leaves while it was looking for all leaves the others with somebody who looks.
    let generation = watch.listing().await.unwrap().generation;
    let (first, second) = (watch.changed(generation), watch.changed(generation));
    let leave = timeout(Duration::from_millis(5), first);
    let change = async {
        sleep(Duration::from_millis(100)).await;
        ports.set(Vec::new());
    };
    let (left, woken, ()) = tokio::join!(leave, timeout(Duration::from_secs(1), second), change);
    assert!(left.is_err() && woken.is_ok());
}

/// What a list lacks may come without anything that tells of it, and a board may wait for it: there is a list a second at
/// the latest.
#[tokio::test(start_paused = true)]
async fn what_comes_without_a_sign_is_found_within_a_second() {
    let mut half = board("/dev/ttyFAKE0", "1");
    let whole = half.clone();
    let usb = half.identity.usb.as_mut().unwrap();
    (usb.serial_number, usb.hub_path) = (None, None);
    let (ports, watch) = Moving::new(vec![half]);
    let connector = connector(&watch, &whole);
    assert_eq!(connector.connect().await.err().unwrap().kind, LinkErrorKind::NotFound);
    ports.0.lock().unwrap().ports = vec![whole];
    let begin = Instant::now();
    while connector.connect().await.is_err() {
        connector.maybe_back().await;
    }
    assert!(begin.elapsed() <= Duration::from_millis(1100), "{:?}", begin.elapsed());
}

/// A line of boards that are away costs nothing but the looks at the ports, however long it lasts; a port that is listed and does
/// not open yet is tried again.
#[tokio::test(start_paused = true)]
async fn a_board_is_looked_for_again_where_ports_changed_or_its_port_did_not_open() {
    let (ports, watch) = Moving::new(vec![board("/dev/ttyFAKE0", "1")]);
    let away = connector(&watch, &board("/dev/ttyFAKE1", "2"));
    assert!(away.connect().await.is_err());
    assert!(timeout(Duration::from_secs(60), away.maybe_back()).await.is_err(), "nothing came or went");
    // The list is made for all, once a second as long as anybody waits.
    assert!(ports.listings() <= 62, "{}", ports.listings());

    // Others come and go, and it is not woken.
    let others = async {
        for round in 0..50 {
            sleep(Duration::from_millis(200)).await;
            ports.set(if round % 2 == 0 { Vec::new() } else { vec![board("/dev/ttyFAKE0", "1")] });
        }
    };
    assert!(
        timeout(Duration::from_secs(60), async { tokio::join!(away.maybe_back(), others) }).await.is_err()
    );
    let comes = async {
        sleep(Duration::from_secs(1)).await;
        ports.set(vec![board("/dev/ttyFAKE0", "1"), board("/dev/ttyFAKE1", "2")]);
        Instant::now()
    };
    let both = timeout(Duration::from_secs(60), async { tokio::join!(away.maybe_back(), comes) });
    let ((), came) = both.await.unwrap();
    assert!(came.elapsed() <= Duration::from_millis(50), "{:?}", came.elapsed());
    away.connect().await.unwrap().close().await;
    ports.set(vec![board("/dev/ttyFAKE0", "1")]);
    sleep(Duration::from_millis(20)).await;
    assert!(away.connect().await.is_err());

    ports.0.lock().unwrap().refusing = true;
    let there = connector(&watch, &board("/dev/ttyFAKE0", "1"));
    let tried = async {
        loop {
            assert!(there.connect().await.is_err());
            there.maybe_back().await;
        }
    };
    assert!(timeout(Duration::from_secs(10), tried).await.is_err());
    let refused = ports.0.lock().unwrap().refused;
    assert!((35..=41).contains(&refused), "{refused} times in 10 s");

    // What is expected of it decides which port is its own.
    away.expect(Firmware::Bootloader);
    timeout(Duration::from_secs(1), away.maybe_back()).await.unwrap();
}

/// A port that comes between the look that found nothing and the waiting for one.
#[tokio::test(start_paused = true)]
async fn a_port_that_came_before_the_waiting_began_is_no_reason_to_wait() {
    let whole = board("/dev/ttyFAKE0", "1");
    let (ports, watch) = Moving::new(Vec::new());
    let connector = connector(&watch, &whole);
    assert!(connector.connect().await.is_err());
    ports.set(vec![whole.clone()]);
    // Another one's look is the one that sees it.
    sleep(Duration::from_millis(30)).await;
    watch.listing().await.unwrap();
    let begin = Instant::now();
    connector.maybe_back().await;
    assert_eq!(begin.elapsed(), Duration::ZERO);
    connector.connect().await.unwrap();
}

/// Two boards come back with each other's names while both are waited for, in every order of coming and looking.
#[tokio::test(start_paused = true)]
async fn boards_that_swap_names_are_found_whoever_comes_first() {
    for first in [0, 1] {
        for (gap, looks) in [(0, false), (5, true), (19, true), (21, true), (40, false)] {
            let boards = [board("/dev/ttyFAKE0", "1"), board("/dev/ttyFAKE1", "2")];
            let back = [board("/dev/ttyFAKE1", "1"), board("/dev/ttyFAKE0", "2")];
            let (ports, watch) = Moving::new(boards.to_vec());
            let connectors = boards.each_ref().map(|board| connector(&watch, board));
            watch.listing().await.unwrap();
            ports.set(Vec::new());
            sleep(Duration::from_millis(20)).await;
            let returns = async |connector: &UsbConnector| {
                while connector.connect().await.is_err() {
                    connector.maybe_back().await;
                }
                connector.address()
            };
            let come = async {
                sleep(Duration::from_millis(300)).await;
                ports.set(vec![back[first].clone()]);
                sleep(Duration::from_millis(gap)).await;
                if looks {
                    watch.listing().await.unwrap();
                }
                ports.set(back.to_vec());
            };
            let both = futures_util::future::join3(returns(&connectors[0]), returns(&connectors[1]), come);
            let (one, other, ()) = timeout(Duration::from_millis(400), both).await.unwrap();
            assert_eq!((&*one, &*other), ("serial:/dev/ttyFAKE1", "serial:/dev/ttyFAKE0"), "{first} {gap}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_board_that_went_and_came_between_two_looks_is_a_change() {
    let (ports, watch) = Moving::new(vec![board("/dev/ttyFAKE0", "1")]);
    let before = watch.listing().await.unwrap();
    ports.set(vec![board("/dev/ttyFAKE0", "1")]);
    timeout(Duration::from_secs(1), watch.changed(before.generation)).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_port_that_became_anothers_while_it_was_opened_is_left_alone() {
    let (one, other) = (board("/dev/ttyFAKE0", "1"), board("/dev/ttyFAKE1", "2"));
    let (ports, watch) = Moving::new(vec![one.clone(), other.clone()]);
    let connector = connector(&watch, &one);
    // Both reset, and come back with each other's names, just when the first is opened.
    let swapped = vec![board("/dev/ttyFAKE0", "2"), board("/dev/ttyFAKE1", "1")];
    ports.0.lock().unwrap().at_opening = Some(swapped);
    let link = connector.connect().await.unwrap();
    assert_eq!(ports.0.lock().unwrap().opened, ["/dev/ttyFAKE0", "/dev/ttyFAKE1"]);
    assert_eq!(connector.address(), "serial:/dev/ttyFAKE1");
    link.close().await;
    // It went while it was opened, and another board has its name: nothing is left open.
    ports.0.lock().unwrap().at_opening = Some(vec![board("/dev/ttyFAKE1", "2")]);
    let error = connector.connect().await.err().unwrap();
    assert_eq!(error.kind, LinkErrorKind::NotFound);
}

#[tokio::test(start_paused = true)]
async fn boards_that_say_the_same_are_remembered_as_twins() {
    let twin = |path: &str, place: &str| {
        let mut port = board(path, "A");
        let usb = port.identity.usb.as_mut().unwrap();
        usb.hub_path = (place != "-").then(|| place.to_owned());
        port
    };
    for (first, second, are_twins) in
        [("1-1", "1-2", true), ("-", "-", true), ("1-1", "1-1", true), ("1-1", "", false)]
    {
        let mut all = vec![twin("/dev/ttyFAKE0", first)];
        all.extend((!second.is_empty()).then(|| twin("/dev/ttyFAKE1", second)));
        let (ports, watch) = Moving::new(all.clone());
        watch.listing().await.unwrap();
        ports.set(all[..1].to_vec());
        sleep(Duration::from_millis(20)).await;
        assert_eq!(watch.listing().await.unwrap().ports.len(), 1);
        let usb = all[0].identity.usb.as_ref().unwrap();
        assert_eq!(watch.twins(usb).is_some(), are_twins, "{first} {second}");
    }
    // The ports of one board are none.
    let mut log = board("/dev/ttyFAKE1", "A");
    log.identity.usb.as_mut().unwrap().interface = Some(2);
    let (_, watch) = Moving::new(vec![board("/dev/ttyFAKE0", "A"), log]);
    let listing = watch.listing().await.unwrap();
    assert!(watch.twins(listing.ports[0].identity.usb.as_ref().unwrap()).is_none());
}

#[tokio::test(start_paused = true)]
async fn ports_that_cannot_be_listed_are_not_asked_for_by_everyone() {
    let (ports, watch) = Moving::new(Vec::new());
    ports.0.lock().unwrap().unlistable = true;
    let all = futures_util::future::join_all((0..120).map(|_| watch.listing())).await;
    assert!(
        all.iter().all(|listing| matches!(listing, Err(error) if error.kind == LinkErrorKind::Unavailable))
    );
    assert_eq!(ports.listings(), 1);
    ports.0.lock().unwrap().unlistable = false;
    sleep(Duration::from_secs(1)).await;
    assert!(watch.listing().await.is_ok());
}

#[tokio::test(start_paused = true)]
async fn a_connector_without_anything_to_watch_looks_again_after_a_moment() {
    let begin = Instant::now();
    let connector = MemoryConnector::new("sim:one", MemoryLink::unlimited());
    connector.expect(Firmware::Bootloader);
    connector.maybe_back().await;
    let waited = begin.elapsed();
    assert!(waited >= Duration::from_millis(10) && waited <= Duration::from_millis(100), "{waited:?}");
}

#[cfg(target_os = "linux")]
#[test]
fn the_systems_stamp_is_the_same_while_nothing_changes() {
    let stamp = SystemPorts.stamp();
    assert!(stamp.is_some());
    assert_eq!(stamp, SystemPorts.stamp());
}
