//! Discovery over a list of ports that does not exist.
#![expect(clippy::unwrap_used, reason = "a failed helper is a failed test")]

use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use flashfleet::cause::Class;
use flashfleet::identity::UsbIdentity;
use flashfleet::plan::{LinkOptions, MatchKind, Pattern, Target, UdpTarget};
use flashfleet::transport::{
    Address, Candidate, Discovery, Firmware, LinkError, LinkErrorKind, MAX_ADDRESSES, Port, Ports,
};

/// Ports that a test plugs in and out.
#[derive(Debug, Default)]
struct FakePorts(Mutex<Vec<Port>>, AtomicU64);

impl FakePorts {
    fn discovery(ports: Vec<Port>) -> (Arc<Self>, Discovery) {
        let fake = Arc::new(Self(Mutex::new(ports), AtomicU64::new(0)));
        (Arc::clone(&fake), Discovery::with_ports(fake))
    }

    fn set(&self, ports: Vec<Port>) {
        *self.0.lock().unwrap() = ports;
        self.1.fetch_add(1, Ordering::Relaxed);
    }
}

#[async_trait]
impl Ports for FakePorts {
    async fn ports(&self, _globs: &[glob::Pattern]) -> Result<Vec<Port>, LinkError> {
        Ok(self.0.lock().unwrap().clone())
    }

    fn stamp(&self) -> Option<u64> {
        Some(self.1.load(Ordering::Relaxed))
    }
}

/// A system that cannot list its ports.
#[derive(Debug)]
struct NoPorts;

#[async_trait]
impl Ports for NoPorts {
    async fn ports(&self, _globs: &[glob::Pattern]) -> Result<Vec<Port>, LinkError> {
        Err(LinkError::new(LinkErrorKind::Unavailable, "no /sys", "mount it"))
    }
}

fn usb(path: &str, pid: u16, interface: u8, serial_number: &str, hub_path: &str) -> Port {
    let usb = UsbIdentity {
        vid: 0x2fe3,
        pid,
        interface: Some(interface),
        serial_number: Some(serial_number.to_owned()),
        product: Some("Jig".to_owned()),
        hub_path: Some(hub_path.to_owned()),
    };
    Port::usb(path, usb)
}

fn target(kind: MatchKind) -> Target {
    Target::new("sensors", kind.into(), Vec::new())
}

fn pattern(text: &str) -> Pattern {
    Pattern::new(text).unwrap()
}

fn addresses(found: &[Candidate]) -> Vec<&str> {
    found.iter().map(|candidate| candidate.address.as_str()).collect()
}

/// Where a connector goes by now: it fails, as the port does not exist, and says which one it tried.
async fn tries(candidate: &Candidate) -> (LinkErrorKind, String) {
    // Ports are looked at fifty times a second at most.
    tokio::time::sleep(Duration::from_millis(30)).await;
    let error = candidate.connector.connect().await.err().unwrap();
    (error.kind, candidate.connector.address())
}

#[tokio::test]
async fn usb_devices_are_searched_for_and_followed() {
    let (ports, discovery) = FakePorts::discovery(vec![
        usb("/dev/ttyFAKE0", 4, 0, "A", "1-1"),
        usb("/dev/ttyFAKE1", 4, 2, "A", "1-1"),
        usb("/dev/ttyFAKE2", 4, 0, "B", "1-2"),
        usb("/dev/ttyFAKE3", 5, 0, "C", "1-3"),
        Port::plain("/dev/ttyFAKE4"),
    ]);
    let mut sensors = target(MatchKind::Usb(vec![pattern("2FE3:0004(:0)?")]));
    sensors.matcher.bootloader_usb = Some(pattern("2fe3:0100"));
    let found = discovery.discover(&sensors).await.unwrap();
    assert_eq!(addresses(&found), ["serial:/dev/ttyFAKE0", "serial:/dev/ttyFAKE2"]);
    assert!(found.iter().all(|candidate| !candidate.claim));
    assert_eq!(found[1].identity.slot_name(), Some("1-2"));

    // The boards come back with each other's names, one of them in its bootloader.
    ports.set(vec![usb("/dev/ttyFAKE0", 4, 0, "B", "1-2"), usb("/dev/ttyFAKE7", 0x100, 0, "?", "1-1")]);
    assert_eq!(tries(&found[1]).await, (LinkErrorKind::NotFound, "serial:/dev/ttyFAKE0".to_owned()));
    assert_eq!(tries(&found[0]).await.1, "serial:/dev/ttyFAKE0", "a bootloader is not the application");
    found[0].connector.expect(Firmware::Bootloader);
    assert_eq!(tries(&found[0]).await, (LinkErrorKind::NotFound, "serial:/dev/ttyFAKE7".to_owned()));
    assert_eq!(addresses(&discovery.discover(&sensors).await.unwrap()), ["serial:/dev/ttyFAKE0"]);
    let waiting = discovery.in_bootloader(&sensors).await.unwrap();
    assert_eq!(
        waiting.iter().map(|port| port.path.clone()).collect::<Vec<_>>(),
        ["/dev/ttyFAKE7"].map(PathBuf::from)
    );

    sensors.matcher.hub_path = Some(pattern("1-2"));
    assert_eq!(addresses(&discovery.discover(&sensors).await.unwrap()), ["serial:/dev/ttyFAKE0"]);
}

#[tokio::test]
async fn a_port_glob_follows_usb_devices_too_and_shows_the_name_that_the_plan_uses() {
    let mut linked = usb("/dev/ttyFAKE0", 4, 0, "A", "1-1");
    linked.links.push("/dev/serial/by-path/fake-jig".into());
    let (ports, discovery) = FakePorts::discovery(vec![linked, usb("/dev/ttyFAKE1", 4, 0, "B", "1-2")]);
    let globs = |texts: &[&str]| {
        MatchKind::Port(texts.iter().map(|text| glob::Pattern::new(text).unwrap()).collect())
    };

    let by_path = discovery.discover(&target(globs(&["/dev/serial/by-path/*"]))).await.unwrap();
    assert_eq!(addresses(&by_path), ["serial:/dev/serial/by-path/fake-jig"]);
    assert_eq!(by_path[0].key, "usb:1-1", "the same device, whatever its name");

    let by_name =
        discovery.discover(&target(globs(&["/dev/ttyFAKE*", "/dev/serial/by-path/*"]))).await.unwrap();
    assert_eq!(addresses(&by_name), ["serial:/dev/ttyFAKE0", "serial:/dev/ttyFAKE1"], "each device once");
    ports.set(vec![usb("/dev/ttyFAKE9", 4, 0, "B", "1-2")]);
    assert_eq!(tries(&by_name[1]).await.1, "serial:/dev/ttyFAKE9");

    // A star stops at a slash, as it does in the file system.
    assert!(discovery.discover(&target(globs(&["/dev*"]))).await.unwrap().is_empty());
}

#[tokio::test]
async fn udp_hosts_are_claims_ranges_are_searches_and_each_address_counts_once() {
    let (_, discovery) = FakePorts::discovery(Vec::new());
    let range = |first: &str, last: &str, port| UdpTarget::Range {
        first: first.parse().unwrap(),
        last: last.parse().unwrap(),
        port,
    };
    let host = |host: &str, port| UdpTarget::Host { host: host.to_owned(), port };
    let entries = vec![
        range("10.0.0.254", "10.0.1.1", 1337),
        host("10.0.0.255", 1337),
        host("gw.local", 1338),
        host("gw.local", 1338),
        range("2001:db8::ffff", "2001:db8::1:0", 1337),
        host("2001:DB8:0::1:0", 1337),
    ];
    let found = discovery.discover(&target(MatchKind::Udp(entries))).await.unwrap();
    let shown: Vec<(&str, bool)> = found.iter().map(|one| (one.address.as_str(), one.claim)).collect();
    assert_eq!(
        shown,
        [
            ("udp:10.0.0.255:1337", true),
            ("udp:gw.local:1338", true),
            ("udp:[2001:db8::1:0]:1337", true),
            ("udp:10.0.0.254:1337", false),
            ("udp:10.0.1.0:1337", false),
            ("udp:10.0.1.1:1337", false),
            ("udp:[2001:db8::ffff]:1337", false),
        ]
    );
}

#[tokio::test]
async fn ranges_are_bounded() {
    let (_, discovery) = FakePorts::discovery(Vec::new());
    let udp = |entries| target(MatchKind::Udp(entries));
    let range = |first: &str, last: &str| UdpTarget::Range {
        first: first.parse().unwrap(),
        last: last.parse().unwrap(),
        port: 1337,
    };
    let most = discovery.discover(&udp(vec![range("10.0.0.0", "10.0.15.255")])).await.unwrap();
    assert_eq!(most.len(), MAX_ADDRESSES);
    for entries in [
        vec![range("10.0.0.0", "10.0.16.0")],
        vec![range("10.0.0.0", "10.0.15.255"), range("10.1.0.0", "10.1.0.0")],
        vec![range("::", "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff")],
        vec![range("0.0.0.0", "255.255.255.255")],
    ] {
        let cause = discovery.discover(&udp(entries.clone())).await.unwrap_err();
        assert_eq!(
            (cause.class, cause.code.as_ref()),
            (Class::Plan, "plan.too_many_addresses"),
            "{entries:?}"
        );
    }
    for entry in [range("10.0.0.2", "10.0.0.1"), range("10.0.0.2", "::1")] {
        let cause = discovery.discover(&udp(vec![entry])).await.unwrap_err();
        assert_eq!((cause.class, cause.code.as_ref()), (Class::Plan, "plan.bad_address"));
    }
}

#[tokio::test]
async fn a_name_that_does_not_resolve_is_that_device_s_trouble_alone() {
    let (_, discovery) = FakePorts::discovery(Vec::new());
    let nowhere = "x".repeat(64);
    let tcp = target(MatchKind::Tcp(vec![format!("{nowhere}:4001"), "127.0.0.1:1".to_owned()]));
    let found = discovery.discover(&tcp).await.unwrap();
    assert_eq!(found.len(), 2);
    assert!(found.iter().all(|candidate| candidate.claim));
    let udp = target(MatchKind::Udp(vec![UdpTarget::Host { host: nowhere.clone(), port: 1337 }]));
    let found = [found, discovery.discover(&udp).await.unwrap()].concat();
    for candidate in &found {
        assert_eq!(tries(candidate).await.0, LinkErrorKind::Unreachable);
    }
}

#[tokio::test]
async fn a_machine_that_lists_no_ports_is_station_trouble() {
    let discovery = Discovery::with_ports(Arc::new(NoPorts));
    let cause = discovery.discover(&target(MatchKind::Usb(vec![pattern(".*")]))).await.unwrap_err();
    assert_eq!((cause.class, cause.code.as_ref()), (Class::Station, "station.unavailable"));
    // A port that is named needs no list.
    let named =
        discovery.find(&"serial:/dev/ttyFAKE0".parse().unwrap(), &LinkOptions::default()).await.unwrap();
    assert_eq!(tries(&named[0]).await.0, LinkErrorKind::NotFound);
}

#[tokio::test]
async fn a_selector_must_mean_one_device() {
    let (ports, discovery) = FakePorts::discovery(vec![
        usb("/dev/ttyFAKE0", 4, 0, "A", "1-1"),
        usb("/dev/ttyFAKE1", 4, 0, "B", "1-2"),
        usb("/dev/ttyFAKE2", 5, 2, "B", "1-2"),
    ]);
    let link = LinkOptions::default();
    let find = |text: &str| {
        let (address, discovery, link) = (text.parse::<Address>().unwrap(), discovery.clone(), link.clone());
        async move { discovery.find(&address, &link).await }
    };
    let one = find("usb:2fe3:0005:2").await.unwrap();
    assert_eq!((addresses(&one), one[0].claim), (vec!["serial:/dev/ttyFAKE2"], true));
    let cause = find("usb:2fe3:0004").await.unwrap_err();
    assert_eq!((cause.class, cause.code.as_ref()), (Class::Plan, "device.several"));
    assert!(
        cause.message.contains("serial:/dev/ttyFAKE0 (2fe3:0004:0, serial number A), serial:/dev/ttyFAKE1"),
        "{cause}"
    );
    assert_eq!(find("usb:1915:.*").await.unwrap_err().code, "device.not_found");

    // A port that is named by its own name is followed as well.
    let named = find("serial:/dev/ttyFAKE0").await.unwrap();
    ports.set(vec![usb("/dev/ttyFAKE5", 4, 0, "A", "1-1")]);
    assert_eq!(tries(&named[0]).await.1, "serial:/dev/ttyFAKE5");
}

#[tokio::test]
async fn the_ports_of_one_board_are_one_device_and_the_lowest_interface_comes_first() {
    let without_place = |path: &str, interface, serial_number: Option<&str>| {
        let mut port = usb(path, 4, interface, "", "");
        let usb = port.identity.usb.as_mut().unwrap();
        (usb.hub_path, usb.serial_number) = (None, serial_number.map(str::to_owned));
        port
    };
    let find = async |ports: Vec<Port>| {
        let address: Address = "usb:2fe3:0004".parse().unwrap();
        FakePorts::discovery(ports).1.find(&address, &LinkOptions::default()).await
    };
    // In one place.
    let board = vec![usb("/dev/ttyFAKE0", 4, 2, "A", "1-1"), usb("/dev/ttyFAKE1", 4, 0, "A", "1-1")];
    let found = find(board.clone()).await.unwrap();
    assert_eq!(addresses(&found), ["serial:/dev/ttyFAKE1", "serial:/dev/ttyFAKE0"]);
    assert!(found.iter().all(|one| one.claim && one.key == "usb:1-1"), "a run takes them for one board");
    // Or with one serial number, where the system does not know the place.
    let ports = |interfaces: [u8; 2], serial| {
        vec![
            without_place("/dev/ttyFAKE0", interfaces[0], serial),
            without_place("/dev/ttyFAKE1", interfaces[1], serial),
        ]
    };
    assert_eq!(find(ports([0, 2], Some("A"))).await.unwrap().len(), 2);

    // The same interface twice, no serial number, a bridge, or a port of another board: several.
    let bridge = [usb("/dev/ttyUSB98", 4, 0, "A", "1-1"), usb("/dev/ttyUSB99", 4, 1, "A", "1-1")];
    let another = [board, vec![usb("/dev/ttyFAKE2", 4, 0, "B", "1-2")]].concat();
    for ports in [ports([0, 0], Some("A")), ports([0, 2], None), bridge.to_vec(), another] {
        let error = find(ports.clone()).await.unwrap_err();
        assert_eq!(error.code, "device.several", "{ports:?}");
        assert!(ports.iter().all(|port| error.message.contains(&port.path.display().to_string())), "{error}");
    }
}

/// Ports that must not be asked for.
#[derive(Debug)]
struct Untouched;

#[async_trait]
impl Ports for Untouched {
    async fn ports(&self, _globs: &[glob::Pattern]) -> Result<Vec<Port>, LinkError> {
        panic!("the ports were listed")
    }

    fn stamp(&self) -> Option<u64> {
        panic!("the ports were looked at")
    }
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn a_pseudo_terminal_is_opened_without_a_look_at_the_ports() {
    let pair = nix::pty::openpty(None, None).unwrap();
    let path = nix::unistd::ttyname(&pair.slave).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let link = folder.path().join("jig");
    std::os::unix::fs::symlink(&path, &link).unwrap();
    let address = Address::Serial(link.to_string_lossy().into_owned());
    let discovery = Discovery::with_ports(Arc::new(Untouched));
    let found = discovery.find(&address, &LinkOptions::default()).await.unwrap();
    assert_eq!(addresses(&found), [address.to_string()]);
    assert_eq!(found[0].key, path.to_string_lossy(), "by the terminal, whatever its name");
    assert!(found[0].claim);
}
