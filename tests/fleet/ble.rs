//! Whole runs over Bluetooth: flashfleet's own BLE transport, and simulated peripherals on adapters in memory.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use flashfleet::actors::RealSource;
use flashfleet::plan::{Expect, MatchKind, Pattern};
use flashfleet::report::{Outcome, Verdict};
use flashfleet::sim::{Air, BlePermission, BleService, BleSpec, FaultSpec, Fleet, SimSpec, SimTransport};
use flashfleet::transport::Discovery;
use flashfleet::transport::ble::Central;
use tokio::sync::mpsc;

use super::line::{Finished, Line, in_virtual_time, new_image};

fn spec(count: usize, ble: BleSpec) -> SimSpec {
    SimSpec { count, transport: SimTransport::Ble, ble, swap_ms: 2000, ..SimSpec::default() }
}

#[test]
fn eight_peripherals_of_each_kind_run_the_new_image_confirmed() {
    for (mtu, reassembly) in [(247, false), (247, true), (498, false), (23, true)] {
        for new_address_at_boot in [false, true] {
            let ble = BleSpec { mtu, reassembly, new_address_at_boot, ..BleSpec::default() };
            in_virtual_time(async {
                let line = Line::new(&spec(8, ble.clone()));
                let finished = line.run().await;
                let causes: Vec<_> = (0..8).map(|device| finished.code(device)).collect();
                assert_eq!(finished.verdicts(), [Verdict::Passed; 8], "{ble:?}: {causes:?}");
                for index in 0..8 {
                    let truth = line.device(index).running().expect("it runs");
                    assert!(truth.confirmed && truth.hash == new_image().hash(), "device {index}, {ble:?}");
                    assert_eq!(line.device(index).boots(), 2);
                }
            });
        }
    }
}

/// The longest chunks are those that the server is known to take: one write each, or whole buffers.
#[test]
fn whole_buffers_are_filled_where_the_server_puts_writes_together() {
    let frame = |reassembly| {
        in_virtual_time(async {
            let line = Line::new(&spec(1, BleSpec { mtu: 100, reassembly, ..BleSpec::default() }));
            let finished = line.run().await;
            assert_eq!(finished.outcome, Outcome::Passed);
            let requests = line.device(0).requests();
            requests.iter().filter(|seen| (seen.group, seen.command) == (1, 1)).map(|seen| seen.length).max()
        })
    };
    assert!(frame(false).unwrap() <= 97 - 8, "{:?}", frame(false));
    assert!(frame(true).unwrap() > 384 - 8 - 8, "{:?}", frame(true));
}

#[test]
fn a_peripheral_that_walks_away_is_waited_for_and_one_that_stays_away_is_told() {
    in_virtual_time(async {
        let leaves = |only, vanish_ms| FaultSpec {
            only: vec![only],
            vanish_at_byte: Some(5000),
            vanish_ms,
            ..FaultSpec::default()
        };
        let faults = vec![leaves(2, Some(3000)), leaves(3, None)];
        let mut line = Line::new(&SimSpec { faults, ..spec(4, BleSpec::default()) });
        line.plan.policy.attempts = 3;
        let finished = line.run().await;
        use Verdict::{Error, Passed};
        assert_eq!(finished.verdicts(), [Passed, Passed, Error, Passed]);
        assert_eq!(finished.report.devices[1].attempts, 2);
        assert!(finished.code(2).starts_with("link."), "{}", finished.code(2));
        assert_eq!(line.device(1).running().unwrap().version, "2.0.0");
        assert_eq!(line.device(2).running().unwrap().version, "1.0.0");
    });
}

#[test]
fn each_trouble_of_a_peripheral_has_its_own_code() {
    let of = |spec: SimSpec| {
        in_virtual_time(async {
            let line = Line::new(&spec);
            let finished = line.run().await;
            assert_eq!(line.device(0).running().unwrap().version, "1.0.0");
            assert_eq!(line.device(0).bytes_written(), 0);
            (finished.verdicts()[0], finished.code(0))
        })
    };
    let other = BleSpec { service: BleService::Other, ..BleSpec::default() };
    assert_eq!(of(spec(1, other)), (Verdict::Failed, "device.no_smp_service".to_owned()));
    let locked = BleSpec { permission: BlePermission::Authenticated, ..BleSpec::default() };
    assert_eq!(of(spec(1, locked)), (Verdict::Failed, "device.pairing_required".to_owned()));
    let narrow = BleSpec { mtu: 23, ..BleSpec::default() };
    assert_eq!(of(spec(1, narrow)).1, "link.mtu_too_small");
    let silent = FaultSpec { lose: 1.0, ..FaultSpec::default() };
    let silent = SimSpec { fault: silent, ..spec(1, BleSpec::default()) };
    assert_eq!(of(silent), (Verdict::Error, "link.no_answer".to_owned()));
}

/// Peripherals in the reach of adapters that a test holds, found by their names.
struct Reach {
    air: Arc<Air>,
    fleet: Fleet,
    line: Line,
}

impl Reach {
    fn new(adapters: usize, spec: &SimSpec) -> Self {
        let (air, fleet) = (Air::new(adapters), Fleet::new(spec).expect("a spec that can be simulated"));
        air.add(&fleet);
        let mut line = Line::of(Vec::new());
        let target = &mut line.plan.targets[0];
        target.matcher.kind = MatchKind::Ble(vec![Pattern::new("device-[0-9]+").expect("a pattern")]);
        target.expect = Expect { min: spec.count, max: Some(spec.count) };
        Self { air, fleet, line }
    }

    async fn run(&self) -> Finished {
        let discovery = Discovery::new().with_central(Arc::clone(&self.air) as Arc<dyn Central>);
        let source = Arc::new(RealSource::with_discovery(discovery));
        self.line.run_from(source, mpsc::unbounded_channel().1).await
    }

    /// Verdict and code of the device with this index.
    fn of(&self, finished: &Finished, index: usize) -> (Verdict, String) {
        let address = format!("ble:{}", self.fleet.device(index).ble_address());
        let position = finished.report.devices.iter().position(|device| device.address == address);
        let position = position.unwrap_or_else(|| panic!("{address} is not in the report"));
        (finished.verdicts()[position], finished.code(position))
    }
}

#[test]
fn a_bonded_peripheral_is_let_in() {
    in_virtual_time(async {
        let ble = BleSpec { permission: BlePermission::Encrypted, ..BleSpec::default() };
        let reach = Reach::new(1, &spec(2, ble));
        reach.air.bond(&reach.fleet.device(1).ble_address());
        let finished = reach.run().await;
        assert_eq!(reach.of(&finished, 0), (Verdict::Failed, "device.pairing_required".to_owned()));
        assert_eq!(reach.of(&finished, 1).0, Verdict::Passed);
        assert_eq!(reach.fleet.device(1).running().unwrap().version, "2.0.0");
    });
}

#[test]
fn an_adapter_that_is_switched_off_in_mid_transfer_is_trouble_of_the_station() {
    in_virtual_time(async {
        let reach = Reach::new(1, &spec(2, BleSpec::default()));
        let (one, other) = (reach.fleet.device(0), reach.fleet.device(1));
        let air = Arc::clone(&reach.air);
        let switched = tokio::spawn(async move {
            while one.bytes_written() < 3000 || other.bytes_written() < 3000 {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
            air.power(0, false);
        });
        let finished = reach.run().await;
        switched.await.unwrap();
        for index in 0..2 {
            let off = (Verdict::Error, "station.adapter_off".to_owned());
            assert_eq!(reach.of(&finished, index), off);
            let device = reach.fleet.device(index);
            assert_eq!((device.running().unwrap().version.as_str(), device.is_pending()), ("1.0.0", false));
        }
        assert_eq!(finished.report.run.exit_code, 102);
    });
}

#[test]
fn an_adapter_that_is_off_all_the_time_is_trouble_of_the_station() {
    in_virtual_time(async {
        let reach = Reach::new(1, &spec(1, BleSpec::default()));
        reach.air.power(0, false);
        let finished = reach.run().await;
        let run = &finished.report.run;
        assert_eq!(
            (run.exit_code, &*run.cause.as_ref().expect("a cause").code),
            (102, "station.adapter_off")
        );
    });
}

/// An adapter that is switched off as soon as a device is being connected, after it was heard.
#[test]
fn an_adapter_that_is_switched_off_between_the_scan_and_the_echo_is_trouble_of_the_station() {
    for most in [Some(2), None] {
        in_virtual_time(async {
            let mut reach = Reach::new(1, &spec(2, BleSpec::default()));
            reach.line.plan.targets[0].expect = Expect { min: 2, max: most };
            let devices = [reach.fleet.device(0), reach.fleet.device(1)];
            let air = Arc::clone(&reach.air);
            let switched = tokio::spawn(async move {
                while !devices.iter().any(|device| device.is_connected()) {
                    tokio::time::sleep(Duration::from_millis(1)).await;
                }
                air.power(0, false);
            });
            let finished = reach.run().await;
            switched.await.unwrap();
            assert_eq!(finished.report.run.exit_code, 102, "{most:?}: {:?}", finished.report.run.cause);
            for index in 0..2 {
                let off = (Verdict::Error, "station.adapter_off".to_owned());
                assert_eq!(reach.of(&finished, index), off, "{most:?}");
                assert_eq!(reach.fleet.device(index).bytes_written(), 0);
            }
        });
    }
}

/// A device that wants a bond is heard, asked, and not heard again when another one is at last: it was there.
#[test]
fn a_peripheral_that_was_asked_and_is_not_heard_again_stays_in_the_report() {
    in_virtual_time(async {
        let locked = BleSpec { permission: BlePermission::Authenticated, ..BleSpec::default() };
        let mut reach = Reach::new(1, &spec(1, locked));
        let other = |name: &str, address: &str, lose| {
            let ble = BleSpec { address: address.to_owned(), ..BleSpec::default() };
            let fault = FaultSpec { lose, ..FaultSpec::default() };
            let other = SimSpec { name: name.to_owned(), fault, ..spec(1, ble) };
            let other = Fleet::new(&other).expect("a spec that can be simulated");
            reach.air.add(&other);
            other
        };
        // With it as many are heard as are expected, and it never answers: so there is another look, and another.
        let _mute = other("mute", "F0:F1:F2:00:01:01", 1.0);
        let late = other("late", "F0:F1:F2:00:02:01", 0.0);
        late.device(0).unplug(Some(Duration::from_secs(25)));
        let target = &mut reach.line.plan.targets[0];
        target.matcher.kind = MatchKind::Ble(vec![Pattern::new("(device|mute|late)-1").expect("a pattern")]);
        target.discover = Duration::from_secs(60);
        target.expect = Expect { min: 2, max: Some(2) };
        let asked = reach.fleet.device(0);
        let leaves = tokio::spawn(async move {
            tokio::time::sleep(Duration::from_secs(2)).await;
            // It is back by the time that it is its turn.
            asked.unplug(Some(Duration::from_secs(28)));
        });
        let finished = reach.run().await;
        leaves.await.unwrap();
        assert_eq!(finished.report.targets_unmet.len(), 0, "{:?}", finished.report.targets_unmet);
        assert_eq!(finished.report.devices.len(), 2);
        assert_eq!(reach.of(&finished, 0), (Verdict::Failed, "device.pairing_required".to_owned()));
        assert!(late.device(0).running().is_some_and(|running| running.version == "2.0.0"));
    });
}

/// Nobody is in reach yet when the adapter is switched off, at any moment of the search.
#[test]
fn an_adapter_that_is_switched_off_during_the_scan_is_trouble_of_the_station() {
    for after_ms in [0, 1, 100, 700, 2_500, 9_000] {
        in_virtual_time(async {
            let reach = Reach::new(1, &spec(1, BleSpec::default()));
            reach.fleet.device(0).unplug(None);
            let air = Arc::clone(&reach.air);
            let switched = tokio::spawn(async move {
                tokio::time::sleep(Duration::from_millis(after_ms)).await;
                air.power(0, false);
            });
            let finished = reach.run().await;
            switched.await.unwrap();
            let run = &finished.report.run;
            let code = run.cause.as_ref().map_or("none", |cause| &cause.code);
            assert_eq!((run.exit_code, code), (102, "station.adapter_off"), "after {after_ms} ms");
        });
    }
}

/// Several adapters share the work, and no more than `per_adapter` devices are connected to one.
#[test]
fn adapters_share_the_devices_up_to_their_limit() {
    in_virtual_time(async {
        let mut reach = Reach::new(2, &spec(8, BleSpec::default()));
        reach.line.plan.policy.per_adapter = 2;
        let devices: Vec<_> = (0..8).map(|index| reach.fleet.device(index)).collect();
        let most = Arc::new(AtomicUsize::new(0));
        let seen = Arc::clone(&most);
        let watch = tokio::spawn(async move {
            loop {
                let connected = devices.iter().filter(|device| device.is_connected()).count();
                seen.fetch_max(connected, Ordering::Relaxed);
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        });
        let finished = reach.run().await;
        watch.abort();
        assert_eq!(finished.verdicts(), [Verdict::Passed; 8]);
        assert_eq!(most.load(Ordering::Relaxed), 4, "two on each of two");
    });
}
