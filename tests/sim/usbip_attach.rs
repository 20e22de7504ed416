//! The client that attaches boards, against files as `vhci_hcd` has them, and the commands.

use std::path::Path;
use std::time::Duration;

use flashfleet::sim::{AttachEvent, Attacher, Fleet, SimSpec, UsbBus, UsbSpec, UsbSpeed, Vhci};
use rstest::rstest;

/// Two controllers of two ports for each speed; those in `used` are in use, with devices called `usb-PORT`.
fn status(folder: &Path, used: &[u32]) {
    for controller in 0..2 {
        let mut text = "hub port sta spd dev      sockfd local_busid\n".to_owned();
        for port in 4 * controller..4 * controller + 4 {
            let hub = if port % 4 < 2 { "hs" } else { "ss" };
            let (state, device) =
                if used.contains(&port) { (6, format!("usb-{port}")) } else { (4, "0-0".to_owned()) };
            text += &format!("{hub}  {port:04} {state:03} 000 00000000 000000 {device}\n");
        }
        let name = if controller == 0 { "status".to_owned() } else { format!("status.{controller}") };
        std::fs::write(folder.join(name), text).unwrap();
    }
}

/// A controller whose files are in this folder, as those of its devices.
fn vhci(folder: &Path) -> Vhci {
    Vhci::at(folder, folder).unwrap()
}

fn ports(events: &[AttachEvent]) -> Vec<(&str, Option<u32>)> {
    events
        .iter()
        .map(|event| match event {
            AttachEvent::Attached { busid, port, .. } => (busid.as_str(), Some(*port)),
            AttachEvent::NoPort { busid } => (busid.as_str(), None),
            AttachEvent::Pulled { .. } => panic!("{event:?}"),
        })
        .collect()
}

#[tokio::test]
async fn boards_are_attached_and_come_back_to_their_ports() {
    let folder = tempfile::tempdir().unwrap();
    status(folder.path(), &[]);
    std::fs::write(folder.path().join("attach"), "").unwrap();
    let usb = UsbSpec { speed: UsbSpeed::High, ..UsbSpec::default() };
    let fleet = Fleet::new(&SimSpec { count: 5, usb: Some(usb), ..SimSpec::default() }).unwrap();
    let bus = UsbBus::listen("127.0.0.1:0".parse().unwrap()).unwrap();
    bus.add_fleet(&fleet).unwrap();
    let mut attacher = Attacher::new(bus.address().to_string(), vhci(folder.path()));

    let events = attacher.look().await.unwrap();
    let expected = [("1-1", Some(0)), ("1-2", Some(4)), ("1-3", Some(1)), ("1-4", Some(5)), ("1-5", None)];
    assert_eq!(ports(&events), expected, "spread over the hubs, and the fifth has no port");
    let line = std::fs::read_to_string(folder.path().join("attach")).unwrap();
    let words: Vec<&str> = line.split(' ').collect();
    assert_eq!((words[0], words[2], words[3], words.len()), ("5", "65540", "3", 4), "{line}");

    // No kernel holds the connections: the boards are free again as soon as they were attached.
    while (0..4).any(|index| bus.board(index).imported) {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    status(folder.path(), &[0, 1, 4, 5]);
    assert_eq!(attacher.look().await.unwrap(), [], "they wait for their ports, and the fifth was told of");
    status(folder.path(), &[0, 4, 5]);
    assert_eq!(
        ports(&attacher.look().await.unwrap()),
        [("1-3", Some(1))],
        "its own, which no other one takes"
    );

    // At the end what is attached is taken off.
    status(folder.path(), &[0, 1, 4]);
    attacher.detach_all();
    let detached = std::fs::read_to_string(folder.path().join("detach")).unwrap();
    assert!(["0", "1", "4"].contains(&detached.as_str()), "{detached}");
}

#[tokio::test]
async fn a_board_of_which_the_kernel_makes_no_device_is_pulled_out_and_attached_again() {
    let folder = tempfile::tempdir().unwrap();
    status(folder.path(), &[]);
    std::fs::write(folder.path().join("attach"), "").unwrap();
    let fleet =
        Fleet::new(&SimSpec { count: 2, usb: Some(UsbSpec::default()), ..SimSpec::default() }).unwrap();
    let bus = UsbBus::listen("127.0.0.1:0".parse().unwrap()).unwrap();
    bus.add_fleet(&fleet).unwrap();
    let mut attacher = Attacher::new(bus.address().to_string(), vhci(folder.path()));
    assert_eq!(ports(&attacher.look().await.unwrap()), [("1-1", Some(0)), ("1-2", Some(4))]);

    // Of the second one a device is made.
    status(folder.path(), &[0, 4]);
    std::fs::create_dir(folder.path().join("usb-4")).unwrap();
    std::fs::write(folder.path().join("usb-4/bConfigurationValue"), "1\n").unwrap();
    let later = async |seconds| {
        tokio::time::pause();
        tokio::time::advance(Duration::from_secs(seconds)).await;
        tokio::time::resume();
    };
    later(19).await;
    assert_eq!(attacher.look().await.unwrap(), []);
    later(1).await;
    let pulled = AttachEvent::Pulled { busid: "1-1".to_owned(), port: 0 };
    assert_eq!(attacher.look().await.unwrap(), [pulled]);
    assert_eq!(std::fs::read_to_string(folder.path().join("detach")).unwrap(), "0");
    while bus.board(0).imported {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    status(folder.path(), &[4]);
    assert_eq!(ports(&attacher.look().await.unwrap()), [("1-1", Some(0))]);
}

/// Else the kernel, which is busy, would find a board in the port as if none had ever left, and not set it up.
#[tokio::test]
async fn a_board_is_attached_again_once_the_kernel_has_seen_that_it_was_gone() {
    let folder = tempfile::tempdir().unwrap();
    status(folder.path(), &[]);
    std::fs::write(folder.path().join("attach"), "").unwrap();
    let fleet = Fleet::new(&SimSpec { usb: Some(UsbSpec::default()), ..SimSpec::default() }).unwrap();
    let bus = UsbBus::listen("127.0.0.1:0".parse().unwrap()).unwrap();
    bus.add_fleet(&fleet).unwrap();
    let mut attacher = Attacher::new(bus.address().to_string(), vhci(folder.path()));
    assert_eq!(ports(&attacher.look().await.unwrap()), [("1-1", Some(0))]);
    status(folder.path(), &[0]);
    let device = folder.path().join("usb-0");
    std::fs::create_dir(&device).unwrap();
    assert_eq!(attacher.look().await.unwrap(), []);
    while bus.board(0).imported {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    // The port is free, and its device still there.
    status(folder.path(), &[]);
    assert_eq!(attacher.look().await.unwrap(), []);
    std::fs::remove_dir(&device).unwrap();
    assert_eq!(ports(&attacher.look().await.unwrap()), [("1-1", Some(0))]);
}

#[tokio::test]
async fn a_server_that_is_not_there_is_told() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("attach"), "").unwrap();
    let bus = UsbBus::listen("127.0.0.1:0".parse().unwrap()).unwrap();
    let address = bus.address().to_string();
    let mut attacher = Attacher::new(address.clone(), vhci(folder.path()));
    assert_eq!(attacher.look().await.unwrap(), [], "an empty bus needs no ports");
    drop(bus);
    let cause = loop {
        // The server's end of it may take a moment.
        match attacher.look().await {
            Ok(_) => tokio::time::sleep(Duration::from_millis(5)).await,
            Err(cause) => break cause,
        }
    };
    assert_eq!(cause.code, "station.no_usbip_server");
    assert!(cause.message.contains(&address) && cause.help.contains("flashfleet sim --usbip"), "{cause:?}");
}

fn command(arguments: &[&str]) -> (Option<i32>, String, String) {
    let mut command = assert_cmd::Command::cargo_bin("flashfleet").unwrap();
    let output = command.arg("sim").args(arguments).args(["--for", "100ms"]).output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (output.status.code(), text(output.stdout), text(output.stderr))
}

#[test]
fn the_command_prints_its_boards() {
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| {
        let path = folder.path().join(name);
        std::fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let line = write("line.yaml", "{ name: line, count: 2, usb: { id: 1209:0001, serial_number: 'SN{n}' } }");
    let rack = write("rack.yaml", "{ name: rack, usb: { kind: cp210x, serial_number: '' } }");
    let (code, out, err) = command(&["--usbip", "127.0.0.1:0", "--spec", &line, "--spec", &rack]);
    assert_eq!((code, err.as_str()), (Some(0), ""));
    assert_eq!(out, "1-1 1209:0001 SN1\n1-2 1209:0001 SN2\n1-3 10c4:ea60 -\n");

    let (code, out, _) = command(&["--usbip", "127.0.0.1:0", "--json"]);
    assert_eq!(code, Some(0));
    let board: serde_json::Value = serde_json::from_str(&out).unwrap();
    let address = board["address"].as_str().unwrap();
    assert!(address.starts_with("usbip:127.0.0.1:") && address.ends_with("/1-1"), "{out}");
    assert_eq!((&board["schema"], &board["name"]), (&"flashfleet.sim/1".into(), &"device-1".into()));
    assert_eq!((&board["busid"], &board["id"]), (&"1-1".into(), &"2fe3:0004".into()));
    assert_eq!(board["serial_number"], "device-1");

    let (code, _, err) = command(&["--spec", &line, "--spec", &line]);
    assert_eq!(code, Some(2));
    assert!(err.contains("name: expected another one in each `--spec`, got \"line\" twice"), "{err}");
}

#[rstest]
#[case(&["--usbip", "localhost"], 2, "expected an address as 127.0.0.1")]
#[case(&["--usbip", "192.0.2.1:3240"], 102, "error[station.endpoint]: expected to listen at 192.0.2.1:3240")]
#[case(&["--usbip", "--kind", "udp"], 2, "cannot be used with")]
#[case(&["--attach", "a:b:c"], 2, "expected a host as testrack")]
#[case(&["--usbip", "127.0.0.1:0", "--attach", "rack"], 2, "expected `--attach` without a server beside `--usbip`")]
#[case(&["--attach", "--baud", "9600"], 2, "expected `--usbip` beside a description of devices")]
#[case(&["--attach", "--count", "2"], 2, "expected `--usbip` beside a description of devices")]
fn the_command_says_what_it_cannot_do(#[case] arguments: &[&str], #[case] exit: i32, #[case] text: &str) {
    let (code, out, err) = command(arguments);
    assert_eq!((code, out.as_str()), (Some(exit), ""), "{err}");
    assert!(err.contains(text), "{err}");
}

/// On a machine with `vhci_hcd` this would attach a board to it, so there it is not tried.
#[rstest]
#[case(&["--attach", "127.0.0.1:1"])]
#[case(&["--usbip", "127.0.0.1:0", "--attach"])]
fn without_the_virtual_host_controller_it_says_so(#[case] arguments: &[&str]) {
    if Path::new("/sys/devices/platform/vhci_hcd.0").exists() {
        return;
    }
    let (code, _, err) = command(arguments);
    assert_eq!(code, Some(102), "{err}");
    assert!(err.contains("error[station.no_vhci]") && err.contains("modprobe vhci-hcd"), "{err}");
}
