//! What somebody without boards does: `flashfleet sim --usbip` and a plan, all on one machine; and its boards with the
//! system's own USB/IP client.

use std::time::Duration;

use flashfleet::sim::{SimSpec, UsbKind, UsbSpec};
use nix::sys::signal::Signal;

use crate::bench::Bench;
use crate::error::Result;
use crate::images::Image;
use crate::station::Station;
use crate::truth::{assert_kept, reported};
use crate::vm::Lab;

const SHORT: Duration = Duration::from_secs(60);

fn new_image() -> Image {
    Image::filler(3 * 1024, 2, 0)
}

fn plan(usb: &str, count: usize) -> String {
    format!(
        "version: 1
name: tried
images: {{ app: {{ file: new.bin }} }}
targets:
  - name: boards
    match: {{ usb: \"{usb}\" }}
    link: {{ quiet: 1s }}
    discover: 20s
    expect: {count}
policy: {{ deadline: 2m }}
"
    )
}

#[test]
fn usb_plan_is_tried_on_one_machine_that_has_no_boards() -> Result<()> {
    let lab = Lab::take()?;
    // No board of this process: an empty bus waits until those of earlier scenarios are gone.
    let (station, bench) = (Station::new(&lab)?, Bench::new(&lab)?);
    station.file("new.bin", new_image().bytes)?;
    station.file(
        "boards.yaml",
        "count: 3\nboot_ms: 1000\nusb: { id: \"1209:0001\", serial_number: \"TRY{n}\" }\n",
    )?;
    let simulator = station.start_flashfleet("sim --usbip --spec boards.yaml --attach")?;
    let ports = bench.wait_ports(3)?;
    assert!(ports.iter().all(|port| port.id == "1209:0001:0" && port.driver == "cdc_acm"), "{ports:#?}");
    let run = station.run("tried", &plan("1209:0001", 3), "")?;
    assert_eq!((run.code, &run.report["summary"]["passed"]), (0, &3.into()), "{run}");
    let again = station.run("again", &plan("1209:0001", 3), "")?;
    assert_eq!((again.code, &again.report["summary"]["already_current"]), (0, &3.into()), "{again}");
    // Whoever stops it finds no board left behind.
    simulator.signal(Signal::SIGINT)?;
    let ended = simulator.wait(SHORT)?;
    println!("{}", ended.out);
    assert_eq!(ended.status, 0, "{}", ended.err);
    bench.wait_ports(0)?;
    Ok(())
}

#[test]
fn usb_boards_are_attached_by_the_systems_own_client() -> Result<()> {
    let lab = Lab::take()?;
    let (station, bench) = (Station::new(&lab)?, Bench::new(&lab)?);
    station.file("new.bin", new_image().bytes)?;
    let usb = UsbSpec { kind: UsbKind::Cp210x, serial_number: "TOOL{n}".to_owned(), ..UsbSpec::default() };
    let boards = bench.boards(&SimSpec { count: 2, boot_ms: 1000, usb: Some(usb), ..SimSpec::default() })?;
    let old: Vec<_> = boards.devices().map(|board| board.running().unwrap().hash).collect();
    let usbip = format!("usbip --tcp-port {}", bench.bus.address().port());
    let listed = lab.run(&format!("{usbip} list --remote 10.0.2.2"))?;
    println!("{listed}");
    for number in boards.numbers.clone() {
        let busid = bench.bus.board(number).busid;
        assert!(listed.contains(&format!("{busid}:")) && listed.contains("(10c4:ea60)"), "{listed}");
        lab.run(&format!("{usbip} attach --remote 10.0.2.2 --busid {busid}"))?;
    }
    let ports = bench.wait_ports(2)?;
    assert!(ports.iter().all(|port| port.driver == "cp210x"), "{ports:#?}");
    // A converter stays on the bus while the board behind it boots, so that nobody has to attach it again.
    let run = station.run("tool", &plan("10c4:ea60", 2), "")?;
    assert_eq!(run.code, 0, "{run}");
    for ((index, board), old) in boards.devices().enumerate().zip(&old) {
        assert_kept(reported(&run, &format!("TOOL{}", index + 1))?, &board, old, &new_image());
    }
    assert_eq!(bench.ports()?, ports);
    Ok(())
}
