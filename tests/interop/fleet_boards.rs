//! Whole fleets of real boards: a new version is put on each, proven, kept, and kept again.

use std::os::unix::fs::symlink;
use std::time::Duration;

use crate::error::Result;
use crate::fleet_run::{Run, Station, step};
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

/// Updates the boards by `plan`, and shows that it holds: by smpclient, over the reset line, and by the same run again.
fn update_and_keep(station: &Station, plan: &str, boards: &[Board], devices: &[Device]) -> Result<()> {
    let (old, new) = (Image::stock()?, new_image()?);
    let trace = station.path("trace").to_string_lossy().into_owned();
    let run = station.run("first", plan, &["--trace", &trace])?;
    assert_updated(&run, devices, &old, &new)?;
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
        assert_eq!(reported["images"][0]["upload"], serde_json::Value::Null, "{reported:#}");
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
    let terminals = boards.iter().map(|board| Terminal::to(board.address())).collect::<Result<Vec<_>>>()?;
    let devices: Vec<Device> =
        terminals.iter().map(|terminal| Device::Terminal(terminal.path().to_owned())).collect();
    // Half of them are searched for by a glob on links, as udev makes them; the others are named.
    let station = station()?;
    let (searched, named) = terminals.split_at(FLEET / 2);
    for (index, terminal) in searched.iter().enumerate() {
        symlink(terminal.path(), station.path(&format!("usb-{index}-jig")))?;
    }
    // Links that a glob finds and that lead to no port.
    std::fs::write(station.path("usb-8-jig"), "")?;
    symlink(station.path("nowhere"), station.path("usb-9-jig"))?;
    let named: Vec<String> =
        named.iter().map(|terminal| format!("\"{}\"", terminal.path().display())).collect();
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

    let list = station.list("list", &plan)?;
    for (index, device) in devices.iter().enumerate() {
        let ports = list["ports"].as_array().into_iter().flatten();
        let port = ports.clone().find(|port| port["address"] == device.to_string().as_str());
        let opinions = port.and_then(|port| port["targets"].as_array()).into_iter().flatten();
        let matching: Vec<_> =
            opinions.filter(|opinion| opinion["matches"] == true).map(|opinion| &opinion["target"]).collect();
        assert_eq!(matching, [if index < FLEET / 2 { "jigs" } else { "benches" }], "{device}: {list:#}");
    }
    let matching: Vec<_> =
        list["targets"].as_array().into_iter().flatten().map(|target| &target["matching"]).collect();
    assert_eq!(matching, [FLEET / 2, FLEET / 2], "{list:#}");

    update_and_keep(&station, &plan, &boards, &devices)
}
