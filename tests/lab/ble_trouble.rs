//! What goes wrong with Bluetooth, on the real BlueZ: each has its own error, or is recovered from; nothing hangs.

use std::time::{Duration, Instant};

use flashfleet::sim::{BlePermission, BleService, BleSpec};

use crate::agent::Ended;
use crate::ble_air::{Air, named};
use crate::ble_fleet::{new_image, plan, spec};
use crate::error::Result;
use crate::images::Image;
use crate::station::Station;
use crate::truth::{assert_kept, assert_untouched};
use crate::vm::Lab;

/// BlueZ without an adapter starts within a second.
const STARTED: Duration = Duration::from_secs(60);

fn station(lab: &Lab) -> Result<Station<'_>> {
    let station = Station::new(lab)?;
    station.file("new.bin", new_image().bytes)?;
    Ok(station)
}

/// Exit code 102, the code of the cause, and a line that says what to do.
fn assert_station_trouble(ended: &Ended, code: &str, help: &str) {
    assert_eq!(ended.status, 102, "{ended:#?}");
    for wanted in [code, "help:", help] {
        assert!(ended.err.contains(wanted), "no {wanted:?} in\n{}", ended.err);
    }
}

#[test]
fn ble_no_service_and_no_adapter_are_trouble_of_the_station() -> Result<()> {
    let lab = Lab::take()?;
    let station = station(&lab)?;
    station.file("none.yaml", plan("beacon.*", "1").replace("discover: 30s", "discover: 3s"))?;
    lab.run("rm -rf /run/dbus")?;
    for command in ["list --ble 3", "run none.yaml --progress none"] {
        assert_station_trouble(&station.flashfleet(command)?, "station.no_bluetooth", "bluetooth");
    }
    let mut bluez = lab.start("exec /lab/bluez.sh")?;
    bluez.wait_for_line("ready", STARTED)?;
    for command in ["list --ble 3", "run none.yaml --progress none"] {
        assert_station_trouble(&station.flashfleet(command)?, "station.no_adapter", "plug one in");
    }
    Ok(())
}

#[test]
fn ble_adapter_switched_off_in_mid_transfer() -> Result<()> {
    let lab = Lab::take()?;
    let station = station(&lab)?;
    // One that takes far longer than switching off does.
    let long = Image::filler(64 * 1024, 2, 0).bytes;
    station.file("new.bin", &long)?;
    let air = Air::new(&lab, 1, &[spec("Beacon", 2, BleSpec::default())])?;
    let before = air.device(0, 0).running().unwrap().hash;
    let running = station.start("off", &plan("beacon-[0-9]+", "2"), "")?;
    let until = Instant::now() + Duration::from_secs(120);
    while (0..2).any(|index| air.device(0, index).bytes_written() < 1000) {
        assert!(Instant::now() < until, "nothing was written");
        std::thread::sleep(Duration::from_millis(5));
    }
    lab.run("bluetoothctl power off")?;
    let run = running.wait()?;
    assert_eq!(run.code, 102, "{run}");
    for index in 0..2 {
        let device = air.device(0, index);
        assert!(!device.is_pending() && device.bytes_written() < long.len() as u64, "not in mid-transfer");
        assert_untouched(named(&run, device.name())?, &device, &before, "error", "station.adapter_off");
    }
    Ok(())
}

/// Named by its address it is a device that fails; found by its name it is no device of ours.
#[test]
fn ble_no_smp_server() -> Result<()> {
    let lab = Lab::take()?;
    let station = station(&lab)?;
    let other = BleSpec { service: BleService::Other, ..BleSpec::default() };
    let air = Air::new(&lab, 1, &[spec("Beacon", 1, other)])?;
    let device = air.device(0, 0);
    let before = device.running().unwrap().hash;
    let run = station.run("claimed", &plan(&device.ble_address(), "1"), "")?;
    assert_eq!(run.code, 100, "{run}");
    let reported = run.device(format!("ble:{}", device.ble_address()))?;
    assert_untouched(reported, &device, &before, "failed", "device.no_smp_service");
    let plan = plan("beacon-1", "1").replace("discover: 30s", "discover: 8s");
    let run = station.run("searched", &plan, "")?;
    assert_eq!((run.code, run.devices().len()), (4, 0), "{run}");
    Ok(())
}

#[test]
fn ble_pairing_is_asked_for_and_a_bond_lets_in() -> Result<()> {
    let lab = Lab::take()?;
    let station = station(&lab)?;
    let locked = BleSpec { permission: BlePermission::Authenticated, ..BleSpec::default() };
    let air = Air::new(&lab, 1, &[spec("Beacon", 1, locked)])?;
    let device = air.device(0, 0);
    let before = device.running().unwrap().hash;
    let run = station.run("unknown", &plan("beacon-1", "1"), "")?;
    let reported = named(&run, "Beacon-1")?;
    assert_untouched(reported, &device, &before, "failed", "device.pairing_required");
    let help = reported["cause"]["help"].as_str().unwrap_or_default();
    assert!(help.contains(&format!("pair {}", device.ble_address())), "{reported:#}");
    assert_eq!((run.code, device.bytes_written()), (100, 0), "{run}");

    lab.start(&format!("exec python3 /lab/pair.py {}", device.ble_address()))?
        .wait(Duration::from_secs(60))?
        .success()?;
    let run = station.run("bonded", &plan("beacon-1", "1"), "")?;
    assert_eq!(run.code, 0, "{run}");
    assert_kept(named(&run, "Beacon-1")?, &device, &before, &new_image());
    Ok(())
}

/// One write takes 20 bytes then: enough for a server that puts writes together, and for no upload otherwise.
#[test]
fn ble_smallest_mtu() -> Result<()> {
    let lab = Lab::take()?;
    let station = station(&lab)?;
    let narrow = |reassembly, address: &str| BleSpec {
        mtu: 23,
        reassembly,
        address: address.to_owned(),
        ..BleSpec::default()
    };
    let air = Air::new(
        &lab,
        1,
        &[
            spec("Whole", 1, narrow(true, "F0:F1:F2:00:00:01")),
            spec("Split", 1, narrow(false, "F0:F1:F2:00:01:01")),
        ],
    )?;
    let (whole, split) = (air.device(0, 0), air.device(1, 0));
    let before = whole.running().unwrap().hash;
    let run = station.run("narrow", &plan("(whole|split)-1", "2"), "")?;
    assert_kept(named(&run, "Whole-1")?, &whole, &before, &new_image());
    assert_untouched(named(&run, "Split-1")?, &split, &before, "failed", "link.mtu_too_small");
    assert_eq!((run.code, split.bytes_written()), (100, 0), "{run}");
    Ok(())
}

#[test]
fn ble_another_address_after_each_reset() -> Result<()> {
    let lab = Lab::take()?;
    let station = station(&lab)?;
    let moving = BleSpec { new_address_at_boot: true, ..BleSpec::default() };
    let air = Air::new(&lab, 1, &[spec("Beacon", 2, moving)])?;
    let before = air.device(0, 0).running().unwrap().hash;
    let first: Vec<_> = (0..2).map(|index| air.device(0, index).ble_address()).collect();
    let run = station.run("moving", &plan("beacon-[0-9]", "2"), "")?;
    assert_eq!(run.code, 0, "{run}");
    for (index, address) in first.into_iter().enumerate() {
        let device = air.device(0, index);
        assert_ne!(device.ble_address(), address);
        assert_kept(named(&run, device.name())?, &device, &before, &new_image());
    }
    Ok(())
}
