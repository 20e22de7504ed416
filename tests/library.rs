//! The ways into the library: opening a device, and plans made in memory. What goes on behind them has its own tests.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::sync::Arc;

use flashfleet::client::{Client, ClientOptions};
use flashfleet::image::{Image, ImageBuilder, ImageSet};
use flashfleet::plan::{Match, MatchKind, Plan, Step, Target, UdpTarget, parse};
use flashfleet::sim::{Fleet, SimSpec};
use flashfleet::transport::{
    Address, Candidate, Connector, LinkError, LinkErrorKind, MemoryConnector, MemoryLink,
};

/// One of several ports of a board.
fn port(connector: Arc<dyn Connector>) -> Candidate {
    Candidate { key: "usb:1-1".to_owned(), ..Candidate::new(connector) }
}

fn memory(address: &str) -> Arc<MemoryConnector> {
    Arc::new(MemoryConnector::new(address, MemoryLink::unlimited()))
}

#[tokio::test(start_paused = true)]
async fn of_several_ports_the_first_that_answers_is_used() {
    let fleet = Fleet::new(&SimSpec::default()).unwrap();
    let (held, silent) = (memory("held"), memory("silent"));
    held.refuse(LinkError::new(LinkErrorKind::Busy, "held", "let go"));
    let _listens = silent.prepare();
    let ports = [port(held), port(silent), port(fleet.connector(0))];
    let mut client = Client::open(&ports, &ClientOptions::default()).await.unwrap();
    assert_eq!(client.echo("hi".to_owned()).await.unwrap(), "hi");
}

#[tokio::test(start_paused = true)]
async fn where_no_port_answers_the_first_one_s_trouble_is_told() {
    let (silent, held) = (memory("silent"), memory("held"));
    let _listens = silent.prepare();
    held.refuse(LinkError::new(LinkErrorKind::Busy, "held", "let go"));
    let cause = Client::open(&[port(silent), port(held)], &ClientOptions::default()).await.unwrap_err();
    assert_eq!(cause.code, "link.no_answer");
    let cause = Client::open(&[], &ClientOptions::default()).await.unwrap_err();
    assert_eq!(cause.code, "device.not_found");
}

#[tokio::test(start_paused = true)]
async fn a_device_with_one_port_hears_nothing_but_the_command() {
    let silent = memory("silent");
    let mut peer = silent.prepare();
    let client = Client::open(&[port(silent)], &ClientOptions::default()).await.unwrap();
    client.close().await;
    assert!(peer.recv().await.is_none());
}

fn kind(address: &str) -> MatchKind {
    Match::try_from(address.parse::<Address>().unwrap()).unwrap().kind
}

#[test]
fn an_address_means_the_same_device_in_a_plan() {
    let MatchKind::Port(globs) = kind("serial:/dev/tty[0]*") else { panic!("a port") };
    assert!(globs[0].matches("/dev/tty[0]*") && !globs[0].matches("/dev/tty0x"));
    let MatchKind::Usb(patterns) = kind("usb:2fe3:000[45]") else { panic!("a USB pattern") };
    assert_eq!(patterns[0].as_str(), "2fe3:000[45]");
    let MatchKind::Ble(names) = kind("ble:Beacon.1") else { panic!("a name") };
    assert!(names[0].matches("beacon.1") && !names[0].matches("Beacon-1"));
    let MatchKind::Udp(places) = kind("udp:10.0.0.1") else { panic!("a host") };
    assert_eq!(places, [UdpTarget::Host { host: "10.0.0.1".to_owned(), port: 1337 }]);
    let MatchKind::Tcp(places) = kind("tcp:[::1]:4001") else { panic!("a server") };
    assert_eq!(places, ["[::1]:4001"]);
    let cause = Match::try_from("sim:x".parse::<Address>().unwrap()).unwrap_err();
    assert_eq!(cause.code, "cli.not_supported");
}

/// Whoever moves from a file to the library, or back, gets the same plan.
#[test]
fn a_plan_made_in_memory_is_the_one_that_a_file_describes() {
    let folder = tempfile::tempdir().unwrap();
    let bytes = ImageBuilder::new().version("2.0.0").payload(&[0x5a; 64]).build();
    std::fs::write(folder.path().join("app.bin"), &bytes).unwrap();
    let text = "version: 1\nname: line\nimages: { app: { file: app.bin } }\n\
                targets: [{ name: boards, match: { usb: \"2fe3:0004\" } }]\n";
    let file = parse(text, &folder.path().join("plan.yaml")).unwrap();

    let image = ImageSet::from(Image::from_bytes(bytes).unwrap());
    let target = Target::new("boards", kind("usb:2fe3:0004").into(), Step::update("app", &image));
    let made = Plan::new("line").with_image("app", image).with_target(target);

    // Only a file has a place and a hash.
    let of_file = Plan { path: made.path.clone(), sha256: made.sha256.clone(), ..file };
    assert_eq!(format!("{made:?}"), format!("{of_file:?}"));
}
