//! Whole fleets of real boards: a new version is put on each, proven, kept, and kept again.

use std::os::unix::fs::symlink;
use std::path::Path;
use std::time::Duration;

use serde_json::Value;

use crate::error::Result;
use crate::fleet_run::{Run, Station, step};
use crate::fleet_trace;
use crate::images::Image;
use crate::qemu::Board;
use crate::readback::{Device, SlotState};
use crate::terminal::Terminal;

/// How many boards are flashed at once.
const FLEET: usize = 8;
/// A board that was reset by its line listens again well within this, whatever else the machine does.
const BOOT: Duration = Duration::from_secs(60);

/// What the boards are to run.
fn new_image() -> Result<Image> {
    Ok(Image::stock()?.with_version(1, 2, 3, 0))
}

/// A folder with the new image.
fn station() -> Result<Station> {
    let station = Station::new()?;
    station.image("new.bin", &new_image()?)?;
    Ok(station)
}

/// The default steps on every device of `targets`, one YAML list entry each.
fn plan(targets: &str) -> String {
    format!(
        "version: 1
name: boards
images: {{ app: {{ file: new.bin }} }}
targets:
{targets}
policy: {{ deadline: 4m }}
"
    )
}

/// What every board says, asked at the same time.
fn images(devices: &[Device]) -> Result<Vec<Vec<SlotState>>> {
    std::thread::scope(|scope| {
        let reads: Vec<_> = devices.iter().map(|device| scope.spawn(|| device.images())).collect();
        reads.into_iter().map(|read| read.join().unwrap()).collect()
    })
}

/// Fails where not each board runs `image` for good, as it says to a client that is not flashfleet.
fn assert_kept(devices: &[Device], image: &Image) -> Result<Vec<Vec<SlotState>>> {
    let all = images(devices)?;
    for (device, slots) in devices.iter().zip(&all) {
        let active: Vec<_> = slots.iter().filter(|slot| slot.active).collect();
        assert!(active.len() == 1 && active[0].holds(image) && active[0].confirmed, "{device}: {slots:?}");
        assert!(!slots.iter().any(|slot| slot.pending), "{device}: {slots:?}");
    }
    Ok(all)
}

/// Fails where the run did not put `new` in the place of `old` on every device.
fn assert_updated(run: &Run, devices: &[Device], old: &Image, new: &Image) -> Result<()> {
    assert_eq!(run.code, 0, "{run}");
    let summary = &run.report["summary"];
    assert_eq!(
        (&summary["devices"], &summary["passed"]),
        (&devices.len().into(), &devices.len().into()),
        "{run}"
    );
    for device in devices {
        let reported = run.device(device)?;
        assert_eq!(
            (&reported["verdict"], &reported["changed"]),
            (&"passed".into(), &true.into()),
            "{reported:#}"
        );
        assert_eq!(reported["on_test"], false, "{reported:#}");
        let image = &reported["images"][0];
        assert_eq!(image["before"]["hash"], hex::encode(old.hash()), "{reported:#}");
        assert_eq!(image["after"]["hash"], hex::encode(new.hash()), "{reported:#}");
        assert_eq!(image["after"]["version"], "1.2.3", "{reported:#}");
        assert_eq!(image["after"]["confirmed"], true, "{reported:#}");
        assert_eq!(image["upload"]["bytes"], new.bytes.len(), "{reported:#}");
        // What the board takes and not a byte less: its buffer of 384 without length and CRC.
        assert_eq!(image["upload"]["frame_bytes"], 380, "{reported:#}");
        for name in ["upload app", "test-boot", "confirm", "reset"] {
            assert_eq!(step(reported, name)?["verdict"], "passed", "{reported:#}");
        }
    }
    Ok(())
}

/// Fails where the wire logs are not one per device, each with what went over its wire.
fn assert_traced(folder: &Path, devices: &[Device], new: &Image) -> Result<()> {
    let logs = fleet_trace::read(folder)?;
    assert_eq!(logs.len(), devices.len());
    for device in devices {
        let log = logs.iter().find(|log| log.link == device.to_string());
        let log = log.unwrap_or_else(|| panic!("no wire log of {device} among {}", logs.len()));
        assert!(log.uploaded() == new.bytes, "{device}: the log shows another file than was uploaded");
        assert_eq!(log.requests(2, 0, 5), 2, "{device}: resets");
        // Every request was answered, apart from those that were sent again.
        assert!(log.received.len() <= log.sent.len() && !log.received.is_empty(), "{device}");
    }
    Ok(())
}

/// Updates the boards by `plan`, and shows that it holds: by smpclient, over the reset line, and by the same run again.
fn update_and_keep(station: &Station, plan: &str, boards: &[Board], devices: &[Device]) -> Result<()> {
    let (old, new) = (Image::stock()?, new_image()?);
    let trace = station.path("trace");
    let run = station.run("first", plan, &["--trace", &trace.to_string_lossy()])?;
    assert_updated(&run, devices, &old, &new)?;
    assert_traced(&trace, devices, &new)?;
    for board in boards {
        // One for the test boot, one after the confirm, and none besides.
        assert_eq!(board.resets(), 2);
        // The silence after each reset was kept until a firmware listened.
        assert_eq!(board.uart().unheard(), 0);
    }
    assert_kept(devices, &new)?;

    boards.iter().try_for_each(Board::pull_reset_line)?;
    boards.iter().try_for_each(|board| board.wait_listening(BOOT))?;
    let kept = assert_kept(devices, &new)?;

    let again = station.run("again", plan, &[])?;
    assert_eq!(again.code, 0, "{again}");
    assert_eq!(again.report["summary"]["already_current"], devices.len(), "{again}");
    for device in devices {
        let reported = again.device(device)?;
        assert_eq!(
            (&reported["verdict"], &reported["changed"]),
            (&"passed".into(), &false.into()),
            "{reported:#}"
        );
        assert_eq!(reported["images"][0]["upload"], Value::Null, "{reported:#}");
    }
    assert_eq!(images(devices)?, kept);
    for board in boards {
        assert_eq!(board.resets(), 3, "two by the first run, one by the reset line");
    }
    Ok(())
}

#[test]
fn fleet_eight_boards_over_tcp_are_updated_and_stay_so() -> Result<()> {
    let boards = Board::fleet(FLEET)?;
    let devices: Vec<Device> = boards.iter().map(|board| Device::Tcp(board.address())).collect();
    let addresses: Vec<String> = boards.iter().map(|board| format!("\"{}\"", board.address())).collect();
    let targets = format!(
        "  - name: racks
    match: {{ tcp: [{}] }}
    link: {{ quiet: 2s, return_within: 60s }}
    expect: {FLEET}",
        addresses.join(", ")
    );
    update_and_keep(&station()?, &plan(&targets), &boards, &devices)
}

#[test]
fn fleet_eight_boards_over_pseudo_terminals_are_updated_and_stay_so() -> Result<()> {
    let boards = Board::fleet(FLEET)?;
    let terminals = boards.iter().map(|board| Terminal::to(board.uart())).collect::<Result<Vec<_>>>()?;
    let station = station()?;
    // Half of them are searched for by a glob on links such as udev makes; the others are named.
    let mut devices = Vec::new();
    for (index, terminal) in terminals.iter().enumerate() {
        let link = station.path(&format!("usb-{index}-jig"));
        if index < FLEET / 2 {
            symlink(terminal.path(), &link)?;
            devices.push(Device::Terminal(link));
        } else {
            devices.push(Device::Terminal(terminal.path().to_owned()));
        }
    }
    // Links that a glob finds and that lead to no port.
    std::fs::write(station.path("usb-8-jig"), "")?;
    symlink(station.path("nowhere"), station.path("usb-9-jig"))?;
    let named: Vec<String> =
        terminals[FLEET / 2..].iter().map(|terminal| format!("\"{}\"", terminal.path().display())).collect();
    let plan = plan(&format!(
        "  - name: jigs
    match: {{ port: \"{}\" }}
    link: &link {{ quiet: 2s, return_within: 60s }}
    expect: {half}
  - name: benches
    match: {{ port: [{}] }}
    link: *link
    expect: {half}",
        station.path("usb-*-jig").display(),
        named.join(", "),
        half = FLEET / 2
    ));

    assert_listed(&station.list("list", &plan)?, &terminals);
    update_and_keep(&station, &plan, &boards, &devices)
}

/// Fails where `flashfleet list` does not say of each terminal which target it belongs to.
fn assert_listed(list: &Value, terminals: &[Terminal]) {
    let array = |value: &Value| value.as_array().cloned().unwrap_or_default();
    for (index, terminal) in terminals.iter().enumerate() {
        let address = format!("serial:{}", terminal.path().display());
        let port = array(&list["ports"]).into_iter().find(|port| port["address"] == address.as_str());
        let opinions = array(&port.unwrap_or_default()["targets"]);
        let (matching, other): (Vec<_>, Vec<_>) =
            opinions.iter().partition(|opinion| opinion["matches"] == true);
        let expected = if index < FLEET / 2 { ("jigs", "benches") } else { ("benches", "jigs") };
        assert!(matching.len() == 1 && matching[0]["target"] == expected.0, "{address}: {list:#}");
        assert!(other.len() == 1 && other[0]["target"] == expected.1, "{address}: {list:#}");
        assert_eq!(other[0]["mismatches"][0]["key"], "port", "{address}: {list:#}");
    }
    for target in array(&list["targets"]) {
        assert_eq!((&target["listed"], &target["matching"]), (&true.into(), &(FLEET / 2).into()), "{list:#}");
    }
}
