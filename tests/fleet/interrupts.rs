//! Interrupts where they are least welcome: while devices are looked for, and while the first chunk is on its way.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use flashfleet::actors::Source;
use flashfleet::cause::Cause;
use flashfleet::image::ImageBuilder;
use flashfleet::plan::{Expect, StopAfter, Target};
use flashfleet::report::{EventKind, Outcome, Verdict};
use flashfleet::sim::{FaultSpec, Refusal, SimSpec};
use flashfleet::transport::Candidate;
use tokio::sync::mpsc;
use tokio::time::Instant;

use super::line::{Line, faulty, in_virtual_time};

/// Interrupts at these times.
fn interrupts(times: Vec<Duration>) -> mpsc::UnboundedReceiver<()> {
    let (sender, receiver) = mpsc::unbounded_channel();
    tokio::spawn(async move {
        let start = Instant::now();
        for time in times {
            tokio::time::sleep_until(start + time).await;
            let _ = sender.send(());
        }
        std::future::pending::<()>().await;
    });
    receiver
}

#[test]
fn an_interrupt_while_devices_are_looked_for_ends_the_run_at_once() {
    in_virtual_time(async {
        let mut line = Line::new(&SimSpec { count: 2, ..SimSpec::default() });
        line.plan.targets[0].expect = Expect { min: 3, max: None };
        let start = Instant::now();
        let finished = line.run_with(interrupts(vec![Duration::from_secs(1)])).await;
        assert_eq!(finished.outcome, Outcome::Interrupted);
        assert!(start.elapsed() < Duration::from_secs(2), "{:?}", start.elapsed());
        assert!((0..2).all(|index| line.device(index).requests().is_empty()), "nobody was asked anything");
    });
}

/// Sends an interrupt while it looks, and has found everything so many turns of the runtime later.
struct Interrupting {
    candidates: Vec<Candidate>,
    interrupt: mpsc::UnboundedSender<()>,
    turns: usize,
}

#[async_trait]
impl Source for Interrupting {
    async fn candidates(&self, _: &Target) -> Result<Vec<Candidate>, Cause> {
        let _ = self.interrupt.send(());
        for _ in 0..self.turns {
            tokio::task::yield_now().await;
        }
        Ok(self.candidates.clone())
    }
}

#[test]
fn an_interrupt_in_the_moment_in_which_the_last_device_is_found_starts_nobody_behind_its_back() {
    for turns in 0..16 {
        in_virtual_time(async {
            let line = Line::new(&SimSpec { count: 2, ..SimSpec::default() });
            let (interrupt, receiver) = mpsc::unbounded_channel();
            let candidates = line.devices["line"].clone();
            let source = Arc::new(Interrupting { candidates, interrupt, turns });
            let finished = line.run_from(source, receiver).await;
            assert_eq!(finished.outcome, Outcome::Interrupted, "{turns}");
            let asked = (0..2).map(|index| line.device(index).requests().len()).collect::<Vec<_>>();
            // Whoever was started before the interrupt is in the report; nobody is started after it.
            tokio::time::sleep(Duration::from_secs(60)).await;
            let later = (0..2).map(|index| line.device(index).requests().len()).collect::<Vec<_>>();
            assert_eq!(asked, later, "{turns}: the run is over");
            if finished.report.devices.is_empty() {
                assert_eq!(later, [0, 0], "{turns}");
            }
        });
    }
}

#[test]
fn a_first_chunk_that_was_cut_off_may_have_changed_the_device() {
    in_virtual_time(async {
        let line = Line::new(&faulty(FaultSpec { slow_erase_ms: 20_000, ..FaultSpec::default() }));
        let old = ImageBuilder::new().version("0.9.0").payload(&[1; 9_000]).build();
        line.device(0).program(1, &old);
        let times = [5, 6].map(Duration::from_secs).to_vec();
        let finished = line.run_with(interrupts(times)).await;
        assert_eq!(finished.verdicts(), [Verdict::Aborted]);
        assert_eq!(line.device(0).request_count(1, 1), 1, "the slot is being erased");
        assert_eq!(finished.report.devices[0].changed, Some(true));
        let ended = finished.events.iter().find_map(|event| match &event.kind {
            EventKind::StepFinished(step) => Some((step.step, step.verdict)),
            _ => None,
        });
        assert_eq!(ended, Some((0, Verdict::Aborted)), "the step that was cut off ends in the log");
    });
}

#[test]
fn an_interrupt_after_the_policy_stopped_the_run_is_still_an_interrupt() {
    in_virtual_time(async {
        let refuse = Refusal { group: 1, command: 1, rc: 2, of_group: true, from: 1, times: None };
        let broken = FaultSpec { only: vec![1], refuse: vec![refuse], ..FaultSpec::default() };
        let slow = FaultSpec { only: vec![2], slow_boot_ms: 20_000, ..FaultSpec::default() };
        let spec = SimSpec { count: 3, fault: broken, faults: vec![slow], ..SimSpec::default() };
        let mut line = Line::new(&spec);
        line.plan.policy.parallel = Some(2);
        line.plan.policy.stop_after = Some(StopAfter { failures: Some(1), percent: None, of_at_least: 1 });
        let finished = line.run_with(interrupts(vec![Duration::from_secs(15)])).await;
        assert_eq!(finished.outcome, Outcome::Interrupted);
        let codes: Vec<_> = (0..3).map(|index| finished.code(index)).collect();
        assert_eq!(finished.verdicts(), [Verdict::Failed, Verdict::Aborted, Verdict::Aborted], "{codes:?}");
        assert_eq!(codes[1..], ["run.interrupted", "policy.stopped"]);
    });
}
