//! Simulated boards on USB, seen by a USB/IP client. In real time, and so with devices that boot fast.

use std::net::SocketAddr;
use std::ops::Range;
use std::time::Duration;

use crate::support::{Client, hash_of, image, upload};
use crate::usbip_client::{Imported, Listed, STALL, UNLINKED, list, list_on, list_until};
use flashfleet::sim::{
    BootloaderSpec, FaultSpec, Fleet, OtherFunctions, Power, SimSpec, UpdatedSpec, UsbBus, UsbId, UsbKind,
    UsbSpec, UsbSpeed,
};
use flashfleet::smp::message::image::{ListImages, SetState};
use flashfleet::smp::message::os::{Echo, Reset};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::{Instant, sleep, timeout};

/// Data endpoints of the first functions.
const ACM: u32 = 2;
const CP210X: u32 = 1;

fn spec(usb: UsbSpec) -> SimSpec {
    let quick = SimSpec {
        boot_ms: 100,
        reset_ms: 20,
        process_us: 0,
        erase_page_us: 0,
        write_kib_us: 0,
        ..SimSpec::default()
    };
    SimSpec { boot_log: false, usb: Some(usb), ..quick }
}

fn bus_of(spec: &SimSpec) -> (Fleet, UsbBus, SocketAddr) {
    let fleet = Fleet::new(spec).unwrap();
    let bus = UsbBus::listen("127.0.0.1:0".parse().unwrap()).unwrap();
    assert_eq!(bus.add_fleet(&fleet).unwrap(), Range { start: 0, end: fleet.len() });
    let address = bus.address();
    (fleet, bus, address)
}

fn echo(text: &str) -> Echo {
    Echo { d: text.to_owned() }
}

/// A client of the SMP server behind a board.
async fn open(server: SocketAddr, busid: &str, endpoint: u32) -> Client {
    Client::new(Box::new(Imported::configured(server, busid).await.port(endpoint)))
}

async fn until(what: impl Fn() -> bool) {
    let wait = async {
        while !what() {
            sleep(Duration::from_millis(5)).await;
        }
    };
    timeout(Duration::from_secs(10), wait).await.expect("it happens in time");
}

fn busids(listed: &[Listed]) -> Vec<&str> {
    listed.iter().map(|it| it.busid.as_str()).collect()
}

#[tokio::test]
async fn boards_are_listed_imported_once_and_answer() {
    let usb = UsbSpec { serial_number: "FF{n}".to_owned(), speed: UsbSpeed::High, ..UsbSpec::default() };
    let (_fleet, bus, server) = bus_of(&SimSpec { count: 2, ..spec(usb) });
    let mut lists = TcpStream::connect(server).await.unwrap();
    let listed = list_on(&mut lists).await;
    let expected = Listed {
        busid: "1-1".to_owned(),
        vid: 0x2fe3,
        pid: 4,
        speed: 3,
        interfaces: vec![[2, 2, 0], [10, 0, 0]],
    };
    assert_eq!(listed[0], expected);
    assert_eq!(busids(&listed), ["1-1", "1-2"]);

    let mut board = Imported::configured(server, "1-2").await;
    assert_eq!(board.string(1).await.as_deref(), Some("flashfleet"));
    assert_eq!(board.string(2).await.as_deref(), Some("Simulated board"));
    assert_eq!(board.string(3).await.as_deref(), Some("FF2"));
    assert_eq!(board.control([0x80, 6, 0, 1, 0, 0, 64, 0], &[]).await.data[8..12], [0xe3, 0x2f, 4, 0]);
    assert_eq!(board.control([0x80, 6, 0, 6, 0, 0, 10, 0], &[]).await.status, STALL);
    // The connection for lists is still good.
    assert_eq!(busids(&list_on(&mut lists).await), ["1-1"], "an imported board is not offered");
    assert!(Imported::new(server, "1-2").await.is_none());
    assert!(Imported::new(server, "1-3").await.is_none());
    let state = bus.board(1);
    assert_eq!((state.on_bus, state.imported, state.enumerations), (true, true, 1));
    assert_eq!((state.busid.as_str(), state.serial_number.as_deref()), ("1-2", Some("FF2")));

    let mut client = Client::new(Box::new(board.port(ACM)));
    assert_eq!(client.get(&echo("hello")).await.r, "hello");
    drop(client);
    until(|| !bus.board(1).imported).await;
    assert_eq!(open(server, "1-2", ACM).await.get(&echo("again")).await.r, "again");
    assert_eq!(bus.board(1).enumerations, 2);
}

#[tokio::test]
async fn a_native_board_leaves_in_a_reset_and_comes_back_another_one() {
    let updated = Some(UpdatedSpec {
        serial_number: Some("NEW".to_owned()),
        id: Some("2fe3:0005".parse().unwrap()),
        ..UpdatedSpec::default()
    });
    let (fleet, bus, server) = bus_of(&spec(UsbSpec { updated, ..UsbSpec::default() }));
    let new = image((2, 0, 0), &[7; 3000]);
    let mut client = open(server, "1-1", ACM).await;
    upload(&mut client, &new).await;
    client.get(&SetState { hash: Some(hash_of(&new)), confirm: false }).await;
    client.get(&Reset::default()).await;
    assert!(client.recv().await.unwrap().is_err(), "the board leaves");
    let left = Instant::now();
    let state = bus.board(0);
    assert_eq!((state.on_bus, state.imported), (false, false));
    assert_eq!(state.id.pid, 4, "as it was");
    assert_eq!(list(server).await, []);
    assert!(Imported::new(server, "1-1").await.is_none());

    let back = list_until(server, |all| !all.is_empty()).await;
    assert!(left.elapsed() >= Duration::from_millis(80), "{:?}", left.elapsed());
    assert_eq!((back[0].busid.as_str(), back[0].pid), ("1-1", 5));
    let mut board = Imported::configured(server, "1-1").await;
    assert_eq!(board.string(3).await.as_deref(), Some("NEW"));
    let mut client = Client::new(Box::new(board.port(ACM)));
    assert_eq!(client.get(&ListImages {}).await.images[0].hash, Some(hash_of(&new)));
    assert_eq!((bus.board(0).enumerations, fleet.device(0).boots()), (2, 1));
}

#[tokio::test]
async fn a_bootloader_shows_itself_for_its_time() {
    let id: UsbId = "2fe3:0100".parse().unwrap();
    let bootloader = Some(BootloaderSpec {
        id,
        ms: 300,
        serial_number: Some(String::new()),
        product: Some("DFU".to_owned()),
    });
    let (fleet, bus, server) = bus_of(&spec(UsbSpec { bootloader, functions: 2, ..UsbSpec::default() }));
    let mut client = open(server, "1-1", ACM).await;
    client.get(&Reset::default()).await;
    assert!(client.recv().await.unwrap().is_err());
    let left = Instant::now();
    let listed = list_until(server, |all| !all.is_empty()).await;
    assert!(left.elapsed() < Duration::from_millis(200), "{:?}", left.elapsed());
    assert_eq!((listed[0].pid, listed[0].interfaces.len()), (0x0100, 2));
    let mut board = Imported::configured(server, "1-1").await;
    assert_eq!((board.string(2).await.as_deref(), board.string(3).await), (Some("DFU"), None));
    assert_eq!(bus.board(0).serial_number, None);
    board.send(ACM, b"anybody?\n").await;
    board.ask(ACM).await;
    assert_eq!(board.returned().await.unwrap().data, b"", "taken");
    board.gone().await;
    assert!(left.elapsed() >= Duration::from_millis(250), "{:?}", left.elapsed());
    assert_eq!(fleet.device(0).power(), Power::Booting);
    assert_eq!(list_until(server, |all| !all.is_empty()).await[0].pid, 4);
    assert!(left.elapsed() >= Duration::from_millis(350), "it boots after it: {:?}", left.elapsed());
    open(server, "1-1", ACM).await.get(&echo("application")).await;
    assert_eq!(bus.board(0).enumerations, 3);
}

#[tokio::test]
async fn a_bridge_chip_stays_while_the_device_behind_it_resets() {
    let usb = UsbSpec { kind: UsbKind::Cp210x, ..UsbSpec::default() };
    let (fleet, bus, server) = bus_of(&SimSpec { boot_log: true, ..spec(usb) });
    assert_eq!(list(server).await[0].interfaces, [[0xff, 0, 0]]);
    fleet.device(0).reset_line();
    sleep(Duration::from_millis(150)).await;
    let mut board = Imported::configured(server, "1-1").await;
    board.ask(CP210X).await;
    assert!(board.is_silent_for(Duration::from_millis(50)).await, "what was said before is lost");
    fleet.device(0).reset_line();
    let heard = board.returned().await.unwrap().data;
    assert!(heard.starts_with(b"*** Booting MCUboot"), "{}", heard.escape_ascii());
    drop(board);
    until(|| !bus.board(0).imported).await;
    sleep(Duration::from_millis(150)).await;
    let mut client = open(server, "1-1", CP210X).await;
    client.get(&Reset::default()).await;
    sleep(Duration::from_millis(200)).await;
    client.get(&echo("same link")).await;
    let state = bus.board(0);
    assert_eq!((state.enumerations, state.id.to_string().as_str()), (2, "10c4:ea60"));
    assert_eq!(fleet.device(0).boots(), 3);
}

#[tokio::test]
async fn a_board_that_is_pulled_is_gone_in_mid_transfer() {
    let fault = FaultSpec { vanish_at_byte: Some(300), vanish_ms: Some(100), ..FaultSpec::default() };
    let (fleet, bus, server) = bus_of(&SimSpec { fault, count: 2, ..spec(UsbSpec::default()) });
    let mut board = Imported::configured(server, "1-2").await;
    board.ask(ACM).await;
    bus.unplug(1);
    board.gone().await;
    let state = bus.board(1);
    assert_eq!((state.on_bus, state.imported, fleet.device(1).power()), (false, false, Power::Away));
    assert_eq!(busids(&list(server).await), ["1-1"]);
    bus.plug(1);
    let plugged = Instant::now();
    assert_eq!(busids(&list_until(server, |all| all.len() == 2).await), ["1-1", "1-2"]);
    assert!(plugged.elapsed() >= Duration::from_millis(80), "it boots first");
    open(server, "1-2", ACM).await.get(&echo("back")).await;

    // As a fault of the device, in mid-upload.
    let mut client = open(server, "1-1", ACM).await;
    let new = image((2, 0, 0), &[7; 600]);
    for off in [0, 128] {
        client.get(&crate::support::chunk(&new, off, 128)).await;
    }
    let message = client.message(&crate::support::chunk(&new, 256, 128));
    client.link.send(&message).await.unwrap();
    assert!(client.recv().await.unwrap().is_err());
    list_until(server, |all| busids(all) == ["1-1", "1-2"] || busids(all) == ["1-1"]).await;
    open(server, "1-1", ACM).await.get(&echo("back")).await;
}

#[tokio::test]
async fn firmware_that_hangs_leaves_its_board_on_the_bus() {
    let fault = FaultSpec { hang_at_byte: Some(1), ..FaultSpec::default() };
    let (fleet, bus, server) = bus_of(&SimSpec { fault, ..spec(UsbSpec::default()) });
    let mut client = open(server, "1-1", ACM).await;
    client.timeout = Duration::from_millis(200);
    let new = image((2, 0, 0), &[7; 300]);
    assert!(client.ask(&crate::support::chunk(&new, 0, 128)).await.is_none());
    assert_eq!(fleet.device(0).power(), Power::Stuck);
    assert!(bus.board(0).on_bus && bus.board(0).imported);
    fleet.device(0).reset_line();
    assert!(client.recv().await.unwrap().is_err(), "the reset line takes it off");
    list_until(server, |all| !all.is_empty()).await;
}

#[tokio::test]
async fn one_of_two_ports_talks_smp_and_the_other_one_logs() {
    let two = UsbSpec { functions: 2, smp_function: 1, ..UsbSpec::default() };
    let silent = UsbSpec { others: OtherFunctions::Silent, ..two.clone() };
    let bus = UsbBus::listen("127.0.0.1:0".parse().unwrap()).unwrap();
    let fleet = Fleet::new(&SimSpec { count: 2, ..spec(two.clone()) }).unwrap();
    assert_eq!((bus.add(&fleet, 0, two).unwrap(), bus.add(&fleet, 1, silent).unwrap()), (0, 1));
    let server = bus.address();
    assert_eq!(list(server).await[0].interfaces, [[2, 2, 0], [10, 0, 0]].repeat(2));
    for (busid, logs) in [("1-1", true), ("1-2", false)] {
        let mut client = open(server, busid, 4).await;
        client.get(&echo("second port")).await;
        drop(client);
        until(|| !bus.board(0).imported && !bus.board(1).imported).await;
        let mut board = Imported::configured(server, busid).await;
        board.ask(2).await;
        let sent = board.send(2, b"\x06\x09garbage\n").await;
        assert_eq!(board.returned().await.unwrap().seqnum, sent, "it is taken, and nothing comes of it");
        assert_eq!(board.is_silent_for(Duration::from_millis(1200)).await, !logs);
        if logs {
            let line = String::from_utf8(board.returned().await.unwrap().data).unwrap();
            assert!(line.contains("<inf> app: alive\r\n"), "{line}");
        }
    }
}

#[tokio::test]
async fn dtr_resets_a_board_where_it_is_wired_so() {
    for reset_on_open in [false, true] {
        let (fleet, _bus, server) = bus_of(&SimSpec { reset_on_open, ..spec(UsbSpec::default()) });
        let mut board = Imported::configured(server, "1-1").await;
        let lines = |value| [0x21, 0x22, value, 0, 0, 0, 0, 0];
        assert_eq!(board.control(lines(2), &[]).await.status, 0);
        assert_eq!(fleet.device(0).boots(), 0, "RTS alone");
        let setup = lines(3);
        board.submit((0, false), 0, setup, &[]).await;
        if reset_on_open {
            let start = Instant::now();
            board.gone().await;
            assert!(start.elapsed() < Duration::from_millis(80), "at once, not when it has booted");
        } else {
            assert_eq!(board.returned().await.unwrap().status, 0);
        }
        assert_eq!(fleet.device(0).boots(), u64::from(reset_on_open));
    }
}

#[tokio::test]
async fn a_slow_line_holds_transfers_back() {
    let (_fleet, _bus, server) = bus_of(&SimSpec { baud: Some(115_200), ..spec(UsbSpec::default()) });
    let mut board = Imported::configured(server, "1-1").await;
    // 4 KiB take 0.36 s on the wire, and 1 KiB may wait in the device.
    let start = Instant::now();
    for _ in 0..8 {
        board.send(ACM, &[b'x'; 512]).await;
    }
    for number in 0..8 {
        let returned = board.returned().await.unwrap();
        assert_eq!((returned.status, returned.length), (0, 512));
        if number == 0 {
            assert!(start.elapsed() < Duration::from_millis(200), "{:?}", start.elapsed());
        }
    }
    assert!(start.elapsed() >= Duration::from_millis(200), "{:?}", start.elapsed());
}

#[tokio::test]
async fn transfers_wait_and_can_be_taken_back() {
    let (_fleet, _bus, server) = bus_of(&spec(UsbSpec::default()));
    let mut board = Imported::configured(server, "1-1").await;
    let notification = board.ask(1).await;
    let bytes = board.ask(ACM).await;
    assert!(board.is_silent_for(Duration::from_millis(100)).await);
    let taken_back = board.unlink(bytes).await;
    let returned = board.returned().await.unwrap();
    assert_eq!((returned.seqnum, returned.status), (taken_back, UNLINKED));
    let again = board.unlink(bytes).await;
    let returned = board.returned().await.unwrap();
    assert_eq!((returned.seqnum, returned.status), (again, 0));
    assert!(board.under_way.contains_key(&notification));
    board.under_way.remove(&bytes);
    // What comes next goes to the next transfer.
    let mut client = Client::new(Box::new(board.port(ACM)));
    client.get(&echo("next")).await;
}

#[tokio::test]
async fn a_board_appears_late() {
    let (_fleet, bus, server) = bus_of(&spec(UsbSpec { appears_after_ms: 200, ..UsbSpec::default() }));
    let start = Instant::now();
    assert_eq!(list(server).await, []);
    let state = bus.board(0);
    assert_eq!((state.on_bus, state.serial_number.as_deref()), (false, Some("device-1")));
    list_until(server, |all| !all.is_empty()).await;
    assert!(start.elapsed() >= Duration::from_millis(150), "{:?}", start.elapsed());
}

/// The line of a bridge leads to a serial server: both ways, at the rate that the host sets, and on after the server was
/// away.
#[tokio::test]
async fn a_bridge_carries_its_line_to_a_serial_server() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let place = listener.local_addr().unwrap();
    let bus = UsbBus::listen("127.0.0.1:0".parse().unwrap()).unwrap();
    let usb = UsbSpec { kind: UsbKind::Cp210x, bridge: Some(format!("tcp:{place}")), ..UsbSpec::default() };
    assert!(bus.add_bridge(UsbSpec::default()).is_err(), "a bridge leads somewhere");
    assert_eq!(bus.add_bridge(usb).unwrap(), 0);
    let (mut line, _) = listener.accept().await.unwrap();
    line.write_all(b"nobody hears this").await.unwrap();
    sleep(Duration::from_millis(50)).await;

    let mut board = Imported::configured(bus.address(), "1-1").await;
    assert_eq!(board.string(3).await.as_deref(), Some("bridge-1"));
    let baud = |bits: u32| bits.to_le_bytes();
    board.control([0x41, 0x1e, 0, 0, 0, 0, 4, 0], &baud(57_600)).await;
    board.ask(CP210X).await;
    line.write_all(b"to the host").await.unwrap();
    assert_eq!(board.returned().await.unwrap().data, b"to the host");
    // 2304 bytes are 0.4 s at this rate.
    let start = Instant::now();
    for _ in 0..9 {
        board.send(CP210X, &[b'y'; 256]).await;
    }
    let mut heard = vec![0; 2304];
    line.read_exact(&mut heard).await.unwrap();
    assert!(heard.iter().all(|&byte| byte == b'y'));
    let took = start.elapsed();
    assert!(took >= Duration::from_millis(350), "{took:?}");
    for _ in 0..9 {
        assert_eq!(board.returned().await.unwrap().length, 256);
    }

    drop(line);
    let (mut line, _) = timeout(Duration::from_secs(5), listener.accept()).await.unwrap().unwrap();
    board.ask(CP210X).await;
    line.write_all(b"again").await.unwrap();
    assert_eq!(board.returned().await.unwrap().data, b"again", "the board stayed");

    bus.unplug(0);
    board.gone().await;
    assert_eq!((list(bus.address()).await, bus.board(0).on_bus), (vec![], false));
    bus.plug(0);
    Imported::configured(bus.address(), "1-1").await;
}

/// On a connection that is kept the next list comes when it is another one, or after a second.
#[tokio::test]
async fn a_client_that_asks_again_is_told_when_something_changes() {
    let (_fleet, bus, server) = bus_of(&SimSpec { count: 2, ..spec(UsbSpec::default()) });
    let mut lists = TcpStream::connect(server).await.unwrap();
    assert_eq!(list_on(&mut lists).await.len(), 2);
    let start = Instant::now();
    let (listed, ()) = tokio::join!(list_on(&mut lists), async {
        sleep(Duration::from_millis(200)).await;
        bus.unplug(0);
    });
    assert_eq!(busids(&listed), ["1-2"]);
    assert!((200..900).contains(&start.elapsed().as_millis()), "{:?}", start.elapsed());
    let start = Instant::now();
    assert_eq!(busids(&list_on(&mut lists).await), ["1-2"]);
    assert!(start.elapsed() >= Duration::from_secs(1), "{:?}", start.elapsed());
    assert_eq!(list(server).await.len(), 1, "who asks for the first time is answered at once");
}

/// Whatever a client sends: its connection is closed, its board free again, and others do not notice.
#[tokio::test]
async fn what_is_no_usbip_is_let_go() {
    let (_fleet, bus, server) = bus_of(&spec(UsbSpec::default()));
    for garbage in [&b"GET / HTTP/1.1\r\n\r\n"[..], &[1, 6, 0x80, 5, 0, 0, 0, 0], &[0xff; 4096]] {
        let mut stream = TcpStream::connect(server).await.unwrap();
        stream.write_all(garbage).await.unwrap();
        let end = timeout(Duration::from_secs(5), stream.read(&mut [0; 16])).await.expect("it is closed");
        assert!(!matches!(end, Ok(1..)), "{end:?}");
    }
    let mut half = TcpStream::connect(server).await.unwrap();
    half.write_all(&[1, 0x11, 0x80]).await.unwrap();

    let urb = |words: [u32; 10]| {
        let mut bytes: Vec<u8> = words.iter().flat_map(|word| word.to_be_bytes()).collect();
        bytes.extend_from_slice(&[0; 8]);
        bytes
    };
    for request in [
        urb([7, 1, 0x1_0001, 0, 0, 0, 0, 0, u32::MAX, 0]), // no such command
        urb([1, 1, 0x1_0001, 9, 0, 0, 0, 0, u32::MAX, 0]), // no such direction
        urb([1, 1, 0x1_0001, 0, 99, 0, 0, 0, u32::MAX, 0]), // no such endpoint
        urb([1, 1, 0x1_0001, 0, 2, 0, u32::MAX, 0, u32::MAX, 0]), // 4 GiB
        urb([1, 1, 0x1_0001, 1, 2, 0, 64, 0, 1000, 0]),    // isochronous
        urb([1, 1, 0x1_0002, 1, 2, 0, 64, 0, u32::MAX, 0]), // another device
        urb([1, 1, 0x1_0001, 1, 1, 0, 64, 0, u32::MAX, 0]).repeat(1100), // more than a host can have
    ] {
        until(|| !bus.board(0).imported).await;
        let mut board = Imported::configured(server, "1-1").await;
        let _ = board.stream.write_all(&request).await;
        board.under_way.extend((1..2000).map(|seqnum| (seqnum, true)));
        board.gone().await;
    }
    until(|| !bus.board(0).imported).await;
    open(server, "1-1", ACM).await.get(&echo("still there")).await;
}

/// A client that asks and never reads is not asked what else it wants: the server's memory stays bounded.
#[tokio::test]
async fn a_client_that_does_not_read_is_not_served_without_end() {
    let (_fleet, bus, server) = bus_of(&SimSpec { count: 2, ..spec(UsbSpec::default()) });
    let board = Imported::configured(server, "1-1").await;
    let mut request: Vec<u8> =
        [1, 5, 0x1_0001, 1, 0, 0, 255, 0, u32::MAX, 0_u32].iter().flat_map(|it| it.to_be_bytes()).collect();
    request.extend_from_slice(&[0x80, 6, 0, 2, 0, 0, 255, 0]);
    let many = request.repeat(1000);
    let flood = async {
        let mut sent = 0;
        loop {
            board.stream.writable().await.unwrap();
            match board.stream.try_write(&many) {
                Ok(count) => sent += count,
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {}
                Err(error) => panic!("{error}"),
            }
            assert!(sent < 64 * 1024 * 1024, "no end of it");
        }
    };
    assert!(timeout(Duration::from_millis(500), flood).await.is_err(), "it goes on until it is stopped");
    // Then nothing more is taken.
    let stopped = timeout(Duration::from_millis(300), board.stream.writable()).await;
    assert!(stopped.is_err(), "the server still reads");
    open(server, "1-2", ACM).await.get(&echo("not noticed")).await;
    bus.unplug(0);
    until(|| !bus.board(0).imported).await;
}

#[test]
fn descriptions_that_cannot_be_are_told() {
    let problems = |text: &str| {
        let spec: SimSpec = serde_yaml::from_str(text).unwrap();
        spec.problems().into_iter().map(|problem| problem.field).collect::<Vec<_>>()
    };
    assert_eq!(problems("{ usb: { id: 2fe3:0004, bootloader: { id: '2fe3:0100', ms: 500 } } }"), [""; 0]);
    assert_eq!(problems("{ transport: udp, usb: {} }"), ["transport"]);
    assert_eq!(problems("{ usb: { kind: cp210x, updated: { product: x } } }"), ["usb.updated"]);
    // A board of another kind than its device boots as.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let bus = UsbBus::listen("127.0.0.1:0".parse().unwrap()).unwrap();
        let plain = Fleet::new(&SimSpec::default()).unwrap();
        assert_eq!(bus.add_fleet(&plain).unwrap_err().field, "usb.kind");
        let native = Fleet::new(&spec(UsbSpec::default())).unwrap();
        let bridge = UsbSpec { kind: UsbKind::Cp210x, ..UsbSpec::default() };
        assert_eq!(bus.add(&native, 0, bridge).unwrap_err().field, "usb.kind");
        let id = UsbKind::CdcAcm.usual_id();
        let bootloader = Some(BootloaderSpec { id, ms: 5, serial_number: None, product: None });
        let waiting = UsbSpec { bootloader, ..UsbSpec::default() };
        assert_eq!(bus.add(&native, 0, waiting).unwrap_err().field, "usb.bootloader");
        assert!(bus.is_empty());
    });
    let wrong = serde_yaml::from_str::<SimSpec>("{ usb: { id: 2fe3 } }").unwrap_err().to_string();
    assert!(wrong.contains("expected a USB id as 2fe3:0004"), "{wrong}");
}
