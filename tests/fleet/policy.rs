//! What the plan's policy and its expectations allow, and what they hold back.

use std::sync::Arc;

use async_trait::async_trait;
use flashfleet::actors::Source;
use flashfleet::cause::{Cause, Class};
use flashfleet::identity::{Identity, UsbIdentity};
use flashfleet::plan::{Expect, StopAfter, Target};
use flashfleet::report::{EventKind, Outcome, Verdict};
use flashfleet::sim::{FaultSpec, Fleet, SimSpec};
use flashfleet::transport::{Candidate, Connector, Link, LinkError};
use tokio::sync::mpsc;

use super::line::{Line, candidate, in_virtual_time};

fn eight() -> Line {
    Line::new(&SimSpec { count: 8, ..SimSpec::default() })
}

#[test]
fn no_more_than_parallel_devices_are_at_work() {
    in_virtual_time(async {
        let mut line = eight();
        line.plan.policy.parallel = Some(3);
        let finished = line.run().await;
        assert_eq!((finished.outcome, finished.most_at_once(|_| true)), (Outcome::Passed, 3));
        line.options.parallel = Some(1);
        assert_eq!(line.run().await.most_at_once(|_| true), 1, "the command line wins");
        assert_eq!(eight().run().await.most_at_once(|_| true), 8, "unbounded by default");
    });
}

#[test]
fn no_more_than_per_hub_devices_are_at_work_behind_one_hub() {
    in_virtual_time(async {
        let mut line = eight();
        for (index, candidate) in line.devices.get_mut("line").expect("a target").iter_mut().enumerate() {
            let hub_path = Some(format!("1-{}.{}", index % 2, index));
            let usb =
                UsbIdentity { vid: 1, pid: 2, interface: None, serial_number: None, product: None, hub_path };
            candidate.identity = Identity { usb: Some(usb), ble: None };
        }
        line.plan.policy.per_hub = Some(2);
        let finished = line.run().await;
        assert_eq!(finished.outcome, Outcome::Passed);
        let even = |device: &str| device.ends_with(['1', '3', '5', '7']);
        assert_eq!(finished.most_at_once(even), 2);
        assert_eq!(finished.most_at_once(|_| true), 4, "two behind each of two hubs");
    });
}

#[test]
fn fewer_or_more_devices_than_expected_means_that_nothing_is_written() {
    for expect in [Expect { min: 9, max: Some(9) }, Expect { min: 1, max: Some(7) }] {
        in_virtual_time(async {
            let mut line = eight();
            line.plan.targets[0].expect = expect;
            let finished = line.run().await;
            assert_eq!(
                (finished.outcome, finished.verdicts()),
                (Outcome::NoMatch, vec![Verdict::Aborted; 8])
            );
            assert_eq!(finished.report.targets_unmet.len(), 1);
            assert!(
                (0..8)
                    .all(|index| line.device(index).bytes_written() == 0 && line.device(index).boots() == 0)
            );
        });
    }
}

/// A way to a device that takes this many descriptors while it is open.
#[derive(Debug)]
struct Greedy(Arc<dyn Connector>, usize);

#[async_trait]
impl Connector for Greedy {
    async fn connect(&self) -> Result<Box<dyn Link>, LinkError> {
        self.0.connect().await
    }

    fn address(&self) -> String {
        self.0.address()
    }

    fn descriptors(&self) -> usize {
        self.1
    }
}

#[test]
fn more_links_than_the_process_may_have_open_are_refused_before_anything_is_written() {
    let greedy = |claim, parallel| {
        let mut line = eight();
        for candidate in line.devices.get_mut("line").expect("a target") {
            // One of them is more than any system allows.
            candidate.connector = Arc::new(Greedy(Arc::clone(&candidate.connector), usize::MAX / 4));
            candidate.claim = claim;
        }
        line.plan.policy.parallel = parallel;
        line
    };
    in_virtual_time(async {
        for (claim, parallel) in [(true, None), (true, Some(1)), (false, Some(1))] {
            let line = greedy(claim, parallel);
            let finished = line.run().await;
            assert_eq!(finished.outcome, Outcome::Station, "{claim} {parallel:?}");
            assert_eq!(finished.verdicts(), vec![Verdict::Aborted; 8]);
            let codes: Vec<_> = finished
                .report
                .devices
                .iter()
                .filter_map(|device| device.cause.as_ref())
                .map(|cause| &*cause.code)
                .collect();
            assert_eq!(codes, ["station.too_many_links"; 8]);
            assert!((0..8).all(|index| line.device(index).bytes_written() == 0));
        }
        // As many as are open at once are counted, not all that there are.
        let half = flashfleet::transport::descriptor_limit().map_or(1, |limit| limit / 2);
        for (each, parallel) in [(1, None), (half, Some(1))] {
            let mut line = eight();
            for candidate in line.devices.get_mut("line").expect("a target") {
                candidate.connector = Arc::new(Greedy(Arc::clone(&candidate.connector), each));
            }
            line.plan.policy.parallel = parallel;
            assert_eq!(line.run().await.outcome, Outcome::Passed, "{each} {parallel:?}");
        }
    });
}

/// Where one target finds nothing, and nobody can look for another one's devices.
struct NobodyLooksFor(&'static str);

#[async_trait]
impl Source for NobodyLooksFor {
    async fn candidates(&self, target: &Target) -> Result<Vec<Candidate>, Cause> {
        if target.name != self.0 {
            return Ok(Vec::new());
        }
        let said = "expected the system's Bluetooth service, it cannot be reached";
        Err(Cause::new(Class::Station, "station.no_bluetooth", said, "start it"))
    }
}

#[test]
fn a_machine_that_cannot_look_speaks_before_a_target_without_devices_in_either_order() {
    for blind in ["first", "second"] {
        in_virtual_time(async {
            let mut line = Line::of(Vec::new());
            let target = line.plan.targets.remove(0);
            let named = |name: &str| Target { name: name.to_owned(), ..target.clone() };
            line.plan.targets = vec![named("first"), named("second")];
            let finished = line.run_from(Arc::new(NobodyLooksFor(blind)), mpsc::unbounded_channel().1).await;
            let run = &finished.report.run;
            assert_eq!((run.outcome, run.exit_code), (Outcome::Station, 102), "{blind}");
            assert_eq!(run.cause.as_ref().expect("a cause").code, "station.no_bluetooth", "{blind}");
            assert_eq!(finished.report.implied_outcome(), Outcome::Station, "{blind}");
            let unmet: Vec<_> = finished.report.targets_unmet.iter().map(|unmet| &*unmet.target).collect();
            assert_eq!(unmet, ["first", "second"]);
        });
    }
}

#[test]
fn what_answers_no_echo_is_not_matched_where_it_was_only_searched_for() {
    in_virtual_time(async {
        let mut line = Line::new(&SimSpec {
            count: 3,
            fault: FaultSpec { only: vec![2], lose: 1.0, ..FaultSpec::default() },
            ..SimSpec::default()
        });
        line.devices
            .get_mut("line")
            .expect("a target")
            .iter_mut()
            .for_each(|candidate| candidate.claim = false);
        let finished = line.run().await;
        assert_eq!((finished.outcome, finished.verdicts()), (Outcome::Passed, vec![Verdict::Passed; 2]));
        line.devices
            .get_mut("line")
            .expect("a target")
            .iter_mut()
            .for_each(|candidate| candidate.claim = true);
        let finished = line.run().await;
        assert_eq!(finished.verdicts()[1], Verdict::Error, "a claim that does not answer is in the report");
    });
}

#[test]
fn a_device_of_two_targets_gets_neithers_firmware() {
    in_virtual_time(async {
        let mut line = eight();
        let mut other = line.plan.targets[0].clone();
        other.name = "other".to_owned();
        line.plan.targets.push(other);
        let shared = line.devices["line"][3].clone();
        line.devices.insert("other".to_owned(), vec![shared]);
        let finished = line.run().await;
        let refused: Vec<_> =
            finished.report.devices.iter().filter(|device| device.verdict == Verdict::Error).collect();
        assert_eq!(refused.len(), 2, "once for each target");
        assert!(
            refused
                .iter()
                .all(|device| device.cause.as_ref().is_some_and(|c| c.code == "plan.device_in_two_targets"))
        );
        assert_eq!(line.device(3).bytes_written(), 0);
        assert_eq!(finished.report.summary.passed, 7);
    });
}

#[test]
fn the_rest_waits_for_the_canary_and_goes_on_when_it_passes() {
    in_virtual_time(async {
        let mut line = eight();
        line.plan.policy.canary = 2;
        let finished = line.run().await;
        assert_eq!(finished.outcome, Outcome::Passed);
        let mut done = 0;
        for event in &finished.events {
            match event.kind {
                EventKind::DeviceFinished { .. } => done += 1,
                EventKind::DeviceStarted { .. } => {
                    let index: usize = event
                        .device
                        .as_ref()
                        .and_then(|id| id.0.rsplit('-').next()?.parse().ok())
                        .expect("a number");
                    assert!(index <= 2 || done >= 2, "device {index} started after {done} had finished");
                }
                _ => {}
            }
        }
    });
}

#[test]
fn a_device_that_is_refused_before_it_starts_is_no_canary() {
    for canary in [1, 2] {
        in_virtual_time(async {
            let mut line = eight();
            let mut other = line.plan.targets[0].clone();
            other.name = "other".to_owned();
            line.plan.targets.push(other);
            let shared = line.devices["line"][0].clone();
            line.devices.insert("other".to_owned(), vec![shared]);
            line.plan.policy.canary = canary;
            let finished = line.run().await;
            assert_eq!(finished.report.summary.passed, 7, "{canary}");
            assert_eq!(finished.report.summary.error, 2, "the shared device, once for each target");
        });
    }
}

#[test]
fn devices_that_were_refused_before_they_started_do_not_stop_the_run() {
    in_virtual_time(async {
        let mut line = eight();
        let mut other = line.plan.targets[0].clone();
        other.name = "other".to_owned();
        line.plan.targets.push(other);
        let shared = line.devices["line"][0].clone();
        line.devices.insert("other".to_owned(), vec![shared]);
        line.plan.policy.parallel = Some(1);
        line.plan.policy.stop_after =
            Some(StopAfter { failures: Some(2), percent: Some(50.0), of_at_least: 2 });
        assert_eq!(line.run().await.report.summary.passed, 7);
    });
}

#[test]
fn a_share_counts_only_once_enough_devices_have_finished() {
    in_virtual_time(async {
        let fault = FaultSpec { only: vec![1], crash_on_test_boot: true, ..FaultSpec::default() };
        let mut line = Line::new(&SimSpec { count: 8, fault, ..SimSpec::default() });
        line.plan.policy.parallel = Some(1);
        line.plan.policy.stop_after = Some(StopAfter { failures: None, percent: Some(50.0), of_at_least: 4 });
        let finished = line.run().await;
        assert_eq!((finished.outcome, finished.report.summary.passed), (Outcome::NotPassed, 7));
    });
}

#[test]
fn a_canary_that_fails_stops_the_run_and_the_rest_is_untouched() {
    in_virtual_time(async {
        let fault = FaultSpec { only: vec![1], crash_on_test_boot: true, ..FaultSpec::default() };
        let mut line = Line::new(&SimSpec { count: 5, fault, ..SimSpec::default() });
        line.plan.policy.canary = 1;
        let finished = line.run().await;
        assert_eq!(finished.outcome, Outcome::Stopped);
        assert_eq!(finished.verdicts()[0], Verdict::Failed);
        assert_eq!(finished.verdicts()[1..], [Verdict::Aborted; 4]);
        assert_eq!(finished.code(1), "policy.canary_failed");
        assert!((1..5).all(|index| line.device(index).bytes_written() == 0));
    });
}

#[test]
fn a_device_that_fails_behind_the_canaries_does_not_stop_the_run() {
    in_virtual_time(async {
        let fault = FaultSpec { only: vec![3], crash_on_test_boot: true, ..FaultSpec::default() };
        let mut line = Line::new(&SimSpec { count: 6, fault, ..SimSpec::default() });
        line.plan.policy.canary = 2;
        line.plan.policy.parallel = Some(1);
        let finished = line.run().await;
        assert_eq!((finished.outcome, finished.report.summary.passed), (Outcome::NotPassed, 5));
    });
}

#[test]
fn stop_after_stops_by_count_and_by_share() {
    let rules = [
        StopAfter { failures: Some(2), percent: None, of_at_least: 0 },
        StopAfter { failures: None, percent: Some(50.0), of_at_least: 2 },
    ];
    for rule in rules {
        in_virtual_time(async {
            let fault = FaultSpec { only: vec![1, 2], crash_on_test_boot: true, ..FaultSpec::default() };
            let mut line = Line::new(&SimSpec { count: 8, fault, ..SimSpec::default() });
            line.plan.policy.parallel = Some(1);
            line.plan.policy.stop_after = Some(rule);
            let finished = line.run().await;
            assert_eq!(finished.outcome, Outcome::Stopped, "{rule:?}");
            assert_eq!(finished.verdicts()[..2], [Verdict::Failed; 2]);
            assert_eq!(finished.verdicts()[2..], [Verdict::Aborted; 6]);
        });
    }
}

#[test]
fn only_the_named_targets_are_run() {
    in_virtual_time(async {
        let fleet = Fleet::new(&SimSpec { count: 1, name: "second".to_owned(), ..SimSpec::default() })
            .expect("a fleet");
        let mut line = eight();
        let mut other = line.plan.targets[0].clone();
        other.name = "other".to_owned();
        line.plan.targets.push(other);
        line.devices.insert("other".to_owned(), fleet.connectors().into_iter().map(candidate).collect());
        line.options.only = vec!["other".to_owned()];
        let finished = line.run().await;
        assert_eq!(finished.report.devices.len(), 1);
        assert_eq!(line.device(0).bytes_written(), 0);
    });
}
