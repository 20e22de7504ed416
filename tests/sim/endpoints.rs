//! Simulated devices behind real endpoints, reached through the same transports as real devices. In real time, and so with
//! devices that boot fast.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use crate::support::{Client, hash_of, image, upload};
use flashfleet::plan::{Auto, LinkOptions};
use flashfleet::sim::{Endpoint, EndpointKind, FaultSpec, Fleet, SimSpec, SimTransport};
use flashfleet::smp::message::image::{ListImages, SetState};
use flashfleet::smp::message::os::{Echo, Reset};
use flashfleet::transport::{
    Address, Connector, LinkErrorKind, SerialConnector, SerialOptions, TcpConnector, UdpConnector, UdpHub,
};
use rstest::rstest;
use tokio::io::AsyncReadExt;
use tokio::time::sleep;

fn quick() -> SimSpec {
    SimSpec {
        boot_ms: 50,
        reset_ms: 20,
        process_us: 0,
        erase_page_us: 0,
        write_kib_us: 0,
        ..SimSpec::default()
    }
}

/// The transport's connector for an endpoint's address.
fn connector(address: &str) -> Box<dyn Connector> {
    match address.parse().unwrap() {
        Address::Serial(path) => {
            Box::new(SerialConnector::new(path, SerialOptions::from(&LinkOptions::default())))
        }
        Address::Tcp(place) => Box::new(TcpConnector::new(place, &LinkOptions::default())),
        Address::Udp(place) => Box::new(UdpConnector::new(Arc::new(UdpHub::new()), place, Auto::Auto)),
        other => panic!("no endpoint has the address {other}"),
    }
}

fn echo(text: &str) -> Echo {
    Echo { d: text.to_owned() }
}

async fn close(client: Client) {
    client.link.close().await;
}

/// Opens a link; a port that was just closed may take a moment.
async fn open(endpoint: &Endpoint) -> Client {
    let connector = connector(&endpoint.address());
    for _ in 0..100 {
        match connector.connect().await {
            Ok(link) => return Client::new(link),
            Err(error) if error.kind == LinkErrorKind::Busy => sleep(Duration::from_millis(10)).await,
            Err(error) => panic!("{}: {error}", endpoint.address()),
        }
    }
    panic!("{} stays busy", endpoint.address());
}

fn local(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

#[rstest]
#[case(SimTransport::Serial, EndpointKind::Pty { link: None })]
#[case(SimTransport::Serial, EndpointKind::Tcp(local("127.0.0.1:0")))]
#[case(SimTransport::Udp, EndpointKind::Udp(local("127.0.0.1:0")))]
#[case(SimTransport::Udp, EndpointKind::Udp(local("[::1]:0")))]
#[tokio::test]
async fn a_whole_update_through(#[case] transport: SimTransport, #[case] kind: EndpointKind) {
    let fleet = Fleet::new(&SimSpec { transport, ..quick() }).unwrap();
    let endpoint = fleet.serve(0, kind).unwrap();
    let device = fleet.device(0);
    let new = image((2, 0, 0), &[7; 3000]);

    let mut client = open(&endpoint).await;
    upload(&mut client, &new).await;
    client.get(&SetState { hash: Some(hash_of(&new)), confirm: false }).await;
    client.get(&Reset::default()).await;
    close(client).await;
    sleep(Duration::from_millis(200)).await;

    let mut client = open(&endpoint).await;
    assert_eq!(client.get(&ListImages {}).await.images[0].version, "2.0.0");
    client.get(&SetState { hash: None, confirm: true }).await;
    client.get(&Reset::default()).await;
    sleep(Duration::from_millis(200)).await;
    assert_eq!(client.get(&ListImages {}).await.images[0].hash, Some(hash_of(&new)));
    assert_eq!(device.boots(), 2);
    assert!(device.running().unwrap().confirmed);
}

#[tokio::test]
async fn a_terminal_goes_with_its_device_and_comes_back_under_the_same_link() {
    let folder = tempfile::tempdir().unwrap();
    let link = folder.path().join("device-1");
    let fleet = Fleet::new(&quick()).unwrap();
    let endpoint = fleet.serve(0, EndpointKind::Pty { link: Some(link.clone()) }).unwrap();
    assert_eq!(
        std::fs::read_link(&link).unwrap(),
        std::path::Path::new(&endpoint.address()["serial:".len()..])
    );

    let through_link = connector(&format!("serial:{}", link.display()));
    let mut client = Client::open(&*through_link).await;
    client.get(&echo("before")).await;
    fleet.device(0).unplug(None);
    assert_eq!(client.recv().await.unwrap().unwrap_err().kind, LinkErrorKind::Disconnected);
    close(client).await;
    assert_eq!(endpoint.address(), "");
    assert!(!link.is_symlink());
    fleet.device(0).plug();
    while !link.is_symlink() {
        sleep(Duration::from_millis(5)).await;
    }
    sleep(Duration::from_millis(100)).await;
    let mut client = Client::open(&*through_link).await;
    client.get(&echo("after")).await;
    assert_eq!(fleet.device(0).boots(), 1);

    drop(endpoint);
    assert!(!link.is_symlink(), "nothing is left behind");
}

#[tokio::test]
async fn a_link_does_not_replace_a_file() {
    let folder = tempfile::tempdir().unwrap();
    let link = folder.path().join("device-1");
    std::fs::write(&link, "precious").unwrap();
    let fleet = Fleet::new(&quick()).unwrap();
    assert!(fleet.serve(0, EndpointKind::Pty { link: Some(link.clone()) }).is_err());
    assert_eq!(std::fs::read_to_string(&link).unwrap(), "precious");
}

/// What a device says while nobody has its terminal open is lost, as on a wire.
#[tokio::test]
async fn nobody_hears_what_is_said_to_a_closed_terminal() {
    let fleet = Fleet::new(&quick()).unwrap();
    let endpoint = fleet.serve(0, EndpointKind::Pty { link: None }).unwrap();
    let mut client = open(&endpoint).await;
    client.get(&Reset::default()).await;
    close(client).await;
    sleep(Duration::from_millis(200)).await;
    assert_eq!(fleet.device(0).boots(), 1, "and its boot log went nowhere");
    let path = endpoint.address()["serial:".len()..].to_owned();
    let mut port = serialport::new(path, 115_200).timeout(Duration::from_millis(100)).open().unwrap();
    let mut heard = [0; 1];
    assert!(std::io::Read::read(&mut port, &mut heard).is_err());
}

#[tokio::test]
async fn a_serial_server_takes_one_client_at_a_time() {
    let fleet = Fleet::new(&quick()).unwrap();
    let endpoint = fleet.serve(0, EndpointKind::Tcp(local("127.0.0.1:0"))).unwrap();
    let mut first = open(&endpoint).await;
    first.get(&echo("first")).await;
    let place = endpoint.address()["tcp:".len()..].to_owned();
    let mut second = tokio::net::TcpStream::connect(place).await.unwrap();
    assert_eq!(second.read(&mut [0; 1]).await.unwrap(), 0, "closed at once");
    first.get(&echo("still")).await;
    close(first).await;
    sleep(Duration::from_millis(50)).await;
    open(&endpoint).await.get(&echo("next")).await;
}

/// Behind a serial server the line goes silent where the device vanishes; the connection stays.
#[tokio::test]
async fn a_serial_server_outlives_its_device() {
    let fault = FaultSpec { vanish_at_byte: Some(1), vanish_ms: Some(200), ..FaultSpec::default() };
    let fleet = Fleet::new(&SimSpec { fault, ..quick() }).unwrap();
    let endpoint = fleet.serve(0, EndpointKind::Tcp(local("127.0.0.1:0"))).unwrap();
    let mut client = open(&endpoint).await;
    client.timeout = Duration::from_millis(100);
    let new = image((2, 0, 0), &[7; 300]);
    assert!(client.ask(&crate::support::chunk(&new, 0, 128)).await.is_none());
    sleep(Duration::from_millis(300)).await;
    client.get(&echo("back")).await;
}

/// 20 echoes of a paced device take at least as long as their bytes.
#[tokio::test]
async fn endpoints_are_paced() {
    let fleet = Fleet::new(&SimSpec { baud: Some(115_200), ..quick() }).unwrap();
    let endpoint = fleet.serve(0, EndpointKind::Tcp(local("127.0.0.1:0"))).unwrap();
    let mut client = open(&endpoint).await;
    let text = "x".repeat(100);
    let bytes = 2 * flashfleet::smp::console::encoded_len(client.message(&echo(&text)).len(), 128) * 20;
    let start = std::time::Instant::now();
    for _ in 0..20 {
        client.get(&echo(&text)).await;
    }
    let least = Duration::from_secs_f64(bytes as f64 * 10.0 / 115_200.0);
    assert!(start.elapsed() >= least, "{:?} < {least:?}", start.elapsed());
}

#[test]
fn the_command_prints_addresses_and_ends() {
    let folder = tempfile::tempdir().unwrap();
    let run = |arguments: &[&str]| {
        let mut command = assert_cmd::Command::cargo_bin("flashfleet").unwrap();
        let output = command.arg("sim").args(arguments).args(["--for", "100ms"]).output().unwrap();
        (
            output.status.code(),
            String::from_utf8(output.stdout).unwrap(),
            String::from_utf8(output.stderr).unwrap(),
        )
    };
    let links = folder.path().to_str().unwrap();
    let (code, out, err) = run(&["--count", "2", "--link-dir", links]);
    assert_eq!((code, err.as_str()), (Some(0), ""));
    assert_eq!(out.lines().count(), 2);
    assert!(out.lines().all(|line| line.starts_with("serial:/dev/")), "{out}");
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0, "links are removed at the end");

    let (code, out, _) = run(&["--kind", "udp", "--host", "::1", "--json", "--image-version", "3.2.1"]);
    assert_eq!(code, Some(0));
    let line: serde_json::Value = serde_json::from_str(&out).unwrap();
    assert_eq!(line["schema"], "flashfleet.sim/1");
    assert_eq!(line["name"], "device-1");
    assert!(line["address"].as_str().unwrap().starts_with("udp:[::1]:"), "{out}");

    let spec = folder.path().join("spec.yaml");
    std::fs::write(&spec, "{ count: 3, transport: udp, name: sensor }").unwrap();
    let (code, out, _) = run(&["--spec", spec.to_str().unwrap(), "--count", "1"]);
    assert_eq!((code, out.lines().count()), (Some(0), 1), "options override the description");
    assert!(out.starts_with("udp:127.0.0.1:"), "{out}");
}

#[rstest]
#[case(&["--count", "0"], 2, "sim.bad_description", "count: expected a number from 1 to 10000, got 0")]
#[case(&["--fault", "{ loose: 1 }"], 2, "sim.bad_description", "unknown field `loose`")]
#[case(&["--fault", "{ lose: 2 }"], 2, "sim.bad_description", "fault.lose: expected a share from 0 to 1, got 2")]
#[case(&["--image-version", "new"], 2, "sim.bad_description", "expected a version as 1.2.3")]
#[case(&["--spec", "/no/such/file"], 2, "sim.bad_description", "/no/such/file")]
#[case(&["--kind", "udp", "--host", "192.0.2.1"], 102, "station.endpoint", "endpoint for device-1")]
#[case(&["--kind", "tcp", "--port", "65535", "--count", "2"], 102, "station.endpoint", "endpoint for device-2")]
#[case(&["--link-dir", "/dev/null/links"], 102, "station.endpoint", "/dev/null/links")]
fn the_command_says_what_it_cannot_do(
    #[case] arguments: &[&str],
    #[case] exit: i32,
    #[case] code: &str,
    #[case] text: &str,
) {
    let mut command = assert_cmd::Command::cargo_bin("flashfleet").unwrap();
    let output = command.arg("sim").args(arguments).args(["--for", "1ms"]).output().unwrap();
    let err = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(exit), "{err}");
    assert!(err.contains(&format!("error[{code}]")) && err.contains(text) && err.contains("help: "), "{err}");
    assert_eq!(output.stdout, b"");
}

/// An interrupt, and a request to terminate, are the regular end.
#[rstest]
#[case(nix::sys::signal::Signal::SIGINT)]
#[case(nix::sys::signal::Signal::SIGTERM)]
fn the_command_ends_when_interrupted(#[case] signal: nix::sys::signal::Signal) {
    use std::io::BufRead;
    let program = assert_cmd::cargo::cargo_bin("flashfleet");
    let mut child = std::process::Command::new(program)
        .args(["sim", "--kind", "tcp"])
        .stdout(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    let mut line = String::new();
    std::io::BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
    assert!(line.starts_with("tcp:127.0.0.1:"), "{line}");
    let pid = nix::unistd::Pid::from_raw(i32::try_from(child.id()).unwrap());
    nix::sys::signal::kill(pid, signal).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(0));
}
