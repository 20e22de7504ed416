//! Bluetooth devices flashed like wired ones, on the real BlueZ: found by their names, several at once, over two adapters.

use std::time::Instant;

use flashfleet::sim::{BleSpec, FaultSpec, SimSpec, SimTransport};

use crate::ble_air::{Air, named};
use crate::error::Result;
use crate::images::Image;
use crate::station::Station;
use crate::truth::{assert_kept, assert_untouched};
use crate::vm::Lab;

/// What the devices are to run.
pub(crate) fn new_image() -> Image {
    Image::filler(6 * 1024, 2, 0)
}

/// Devices that advertise as `NAME-1` and so on. Buffers as Nordic's samples have them for Bluetooth.
pub(crate) fn spec(name: &str, count: usize, ble: BleSpec) -> SimSpec {
    SimSpec {
        count,
        transport: SimTransport::Ble,
        name: name.to_owned(),
        buf_size: 2475,
        boot_ms: 1500,
        swap_ms: 500,
        ble,
        ..SimSpec::default()
    }
}

/// The default steps on what matches, of which there have to be so many.
pub(crate) fn plan(pattern: &str, expect: &str) -> String {
    format!(
        "version: 1
name: beacons
images: {{ app: {{ file: new.bin }} }}
targets:
  - name: beacons
    match: {{ ble: \"{pattern}\" }}
    link: {{ quiet: 1s, return_within: 30s }}
    discover: 30s
    expect: {expect}
policy: {{ attempts: 2, per_adapter: 4, deadline: 4m }}
"
    )
}

#[test]
fn ble_eight_of_ten_in_one_run_and_two_walk_away_in_mid_upload() -> Result<()> {
    let lab = Lab::take()?;
    let station = Station::new(&lab)?;
    station.file("new.bin", new_image().bytes)?;
    let leaves = |number, vanish_ms| FaultSpec {
        only: vec![number],
        vanish_at_byte: Some(3000),
        vanish_ms,
        ..FaultSpec::default()
    };
    // The third comes back after five seconds, the sixth never does.
    let beacons = SimSpec {
        faults: vec![leaves(3, Some(5000)), leaves(6, None)],
        ..spec("Beacon", 8, BleSpec { reassembly: true, ..BleSpec::default() })
    };
    let others = BleSpec { address: "F0:F1:F2:00:01:01".to_owned(), ..BleSpec::default() };
    let air = Air::new(&lab, 2, &[beacons, spec("Other", 2, others)])?;
    let before = air.device(0, 0).running().unwrap().hash;

    let listed = station.flashfleet("list --ble 5 --json")?.success()?;
    for number in 1..=8 {
        assert!(listed.contains(&format!("\"Beacon-{number}\"")), "{listed}");
        assert!(listed.contains(&format!("F0:F1:F2:00:00:{number:02X}")), "{listed}");
    }

    let start = Instant::now();
    let run = station.run("beacons", &plan("beacon-[0-9]+", "8"), "--trace trace")?;
    println!("8 peripherals on 2 adapters in {:.1} s", start.elapsed().as_secs_f64());
    assert_eq!(run.code, 100, "{run}");
    assert_eq!(run.devices().len(), 8, "{run}");
    let adapters = air.connections();
    println!("{adapters:#?}");
    assert_eq!(adapters.len(), 2, "both adapters carry devices");
    // As many as the plan's `per_adapter`.
    assert!(adapters.values().all(|connections| connections.most <= 4), "{adapters:#?}");
    for index in 0..8 {
        let device = air.device(0, index);
        let reported = named(&run, device.name())?;
        assert_eq!(reported["address"], format!("ble:{}", device.ble_address()), "{reported:#}");
        if index == 5 {
            let code = reported["cause"]["code"].as_str().unwrap_or_default().to_owned();
            assert!(code.starts_with("link."), "{reported:#}");
            assert_untouched(reported, &device, &before, "error", &code);
            continue;
        }
        assert_kept(reported, &device, &before, &new_image());
        assert_eq!(reported["attempts"], if index == 2 { 2 } else { 1 }, "{reported:#}");
        // One reset for the test boot, one after the confirm; and coming back is a boot too.
        assert_eq!(device.boots(), if index == 2 { 3 } else { 2 }, "{reported:#}");
    }
    for index in 0..2 {
        let device = air.device(1, index);
        assert_eq!((device.boots(), device.bytes_written()), (0, 0), "{} is none of them", device.name());
        assert_eq!(device.request_count(0, 0), 0, "{} was not asked for an echo", device.name());
    }
    Ok(())
}
