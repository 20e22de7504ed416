//! Actors in trouble: a panic, a hang, an interrupt. One device's end is no other's.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use flashfleet::report::{Outcome, Verdict};
use flashfleet::sim::{FaultSpec, Fleet, SimSpec};
use flashfleet::transport::{Connector, Link, LinkError, LinkErrorKind, LinkProperties};
use tokio::sync::mpsc;
use tokio::time::Instant;

use super::line::{Line, candidate, in_virtual_time};

/// A way to a device that does not work.
#[derive(Debug, Clone, Copy)]
enum Broken {
    /// Panics while it is opened.
    Panics,
    /// Never opens.
    Hangs,
    /// Opens, and never answers.
    Mute,
    /// Opens, and takes no byte.
    Stuck,
    /// Opens, never answers, and never closes.
    Unclosable,
    /// Held by somebody else.
    Busy,
}

#[async_trait]
impl Connector for Broken {
    async fn connect(&self) -> Result<Box<dyn Link>, LinkError> {
        match self {
            Self::Panics => panic!("a defect on purpose"),
            Self::Hangs => std::future::pending().await,
            Self::Mute | Self::Stuck | Self::Unclosable => Ok(Box::new(Silence { broken: *self })),
            Self::Busy => {
                Err(LinkError::new(LinkErrorKind::Busy, "another process holds the port", "close it"))
            }
        }
    }

    fn address(&self) -> String {
        format!("serial:{self:?}")
    }
}

struct Silence {
    broken: Broken,
}

#[async_trait]
impl Link for Silence {
    async fn send(&mut self, _: &[u8]) -> Result<(), LinkError> {
        if matches!(self.broken, Broken::Stuck) {
            std::future::pending::<()>().await;
        }
        Ok(())
    }

    async fn recv(&mut self) -> Result<Vec<u8>, LinkError> {
        std::future::pending().await
    }

    fn properties(&self) -> LinkProperties {
        flashfleet::transport::MemoryLink::unlimited()
    }

    async fn close(self: Box<Self>) {
        if matches!(self.broken, Broken::Unclosable) {
            std::future::pending::<()>().await;
        }
    }
}

fn with_broken(broken: Broken) -> Line {
    let fleet = Fleet::new(&SimSpec { count: 3, ..SimSpec::default() }).expect("a fleet");
    let mut candidates: Vec<_> = fleet.connectors().into_iter().map(candidate).collect();
    candidates.insert(1, candidate(Arc::new(broken)));
    let mut line = Line::of(candidates);
    line.fleet = Some(fleet);
    line
}

#[test]
fn a_device_actor_that_panics_ends_in_a_verdict_and_leaves_the_others_alone() {
    in_virtual_time(async {
        let finished = with_broken(Broken::Panics).run().await;
        assert_eq!(finished.verdicts(), [Verdict::Passed, Verdict::Error, Verdict::Passed, Verdict::Passed]);
        assert_eq!(finished.code(1), "internal.device_panicked");
        assert_eq!(finished.report.devices[1].changed, None, "nobody knows");
        assert_eq!(finished.outcome, Outcome::Internal, "a panic is a defect, and the exit code says so");
    });
}

#[test]
fn a_device_that_hangs_ends_at_its_deadline() {
    in_virtual_time(async {
        let mut line = with_broken(Broken::Hangs);
        line.plan.policy.deadline = Duration::from_secs(60);
        let start = Instant::now();
        let finished = line.run().await;
        assert_eq!(finished.verdicts()[0], Verdict::Passed);
        assert_eq!(
            (finished.verdicts()[1], finished.code(1).as_str()),
            (Verdict::TimedOut, "device.deadline")
        );
        assert!(start.elapsed() <= Duration::from_secs(61), "{:?}", start.elapsed());
    });
}

#[test]
fn a_link_that_does_not_close_costs_nobody_their_verdict() {
    in_virtual_time(async {
        let mut line = with_broken(Broken::Unclosable);
        // In the middle of the first question, so that its link is still open.
        line.plan.policy.deadline = Duration::from_millis(9_500);
        let start = Instant::now();
        let finished = line.run().await;
        assert_eq!(
            (finished.verdicts()[1], finished.code(1).as_str()),
            (Verdict::TimedOut, "device.deadline")
        );
        assert_eq!(finished.report.summary.passed, 3);
        assert!(start.elapsed() < Duration::from_secs(12), "{:?}", start.elapsed());
    });
}

#[test]
fn a_line_that_takes_no_byte_is_an_error_of_the_link() {
    in_virtual_time(async {
        let finished = with_broken(Broken::Stuck).run().await;
        assert_eq!((finished.verdicts()[1], finished.code(1).as_str()), (Verdict::Error, "link.io"));
        assert_eq!(finished.report.summary.passed, 3);
    });
}

#[test]
fn a_port_without_an_smp_server_and_a_port_that_is_held_have_their_own_causes() {
    in_virtual_time(async {
        let finished = with_broken(Broken::Mute).run().await;
        assert_eq!((finished.verdicts()[1], finished.code(1).as_str()), (Verdict::Error, "link.no_answer"));
        assert_eq!(finished.report.devices[1].changed, Some(false));
        assert_eq!(finished.outcome, Outcome::NotPassed);
        let finished = with_broken(Broken::Busy).run().await;
        assert_eq!(
            (finished.verdicts()[1], finished.code(1).as_str()),
            (Verdict::Error, "station.port_busy")
        );
        assert_eq!(finished.outcome, Outcome::Station);
    });
}

#[test]
fn the_first_interrupt_lets_the_step_end_and_starts_no_further_device() {
    in_virtual_time(async {
        let mut line = Line::new(&SimSpec { count: 4, baud: Some(115_200), ..SimSpec::default() });
        line.plan.policy.parallel = Some(2);
        let (sender, receiver) = mpsc::unbounded_channel();
        tokio::spawn(async move {
            tokio::time::sleep(Duration::from_millis(800)).await;
            let _ = sender.send(());
            std::future::pending::<()>().await;
        });
        let finished = line.run_with(receiver).await;
        assert_eq!(finished.outcome, Outcome::Interrupted);
        assert_eq!(finished.verdicts(), [Verdict::Aborted; 4]);
        for index in 0..2 {
            let device = &finished.report.devices[index];
            assert_eq!(device.steps[0].verdict, Some(Verdict::Passed), "the upload was let end");
            assert_eq!(line.device(index).boots(), 0, "and nothing was begun after it");
            assert_eq!(device.changed, Some(true));
        }
        for index in 2..4 {
            assert_eq!(line.device(index).requests().len(), 0, "nobody came to device {index}");
            assert_eq!(finished.report.devices[index].changed, Some(false));
        }
    });
}

#[test]
fn the_second_interrupt_ends_at_once_and_everything_is_still_reported() {
    in_virtual_time(async {
        let line = Line::new(&SimSpec { count: 2, baud: Some(9_600), ..SimSpec::default() });
        let (sender, receiver) = mpsc::unbounded_channel();
        tokio::spawn(async move {
            for _ in 0..2 {
                tokio::time::sleep(Duration::from_millis(800)).await;
                let _ = sender.send(());
            }
            std::future::pending::<()>().await;
        });
        let start = Instant::now();
        let finished = line.run_with(receiver).await;
        assert_eq!(
            (finished.outcome, finished.verdicts()),
            (Outcome::Interrupted, vec![Verdict::Aborted; 2])
        );
        assert!(start.elapsed() < Duration::from_secs(3), "{:?}", start.elapsed());
        assert_eq!(finished.report.devices[0].steps[0].verdict, Some(Verdict::Aborted));
    });
}

#[test]
fn a_recovery_program_that_cannot_start_is_told_with_the_device_that_never_returned() {
    in_virtual_time(async {
        let mut line =
            Line::new(&super::line::faulty(FaultSpec { hang_on_test_boot: true, ..FaultSpec::default() }));
        line.plan.policy.recover = vec!["no-such-program-anywhere".to_owned()];
        let finished = line.run().await;
        assert_eq!(
            (finished.verdicts()[0], finished.code(0).as_str()),
            (Verdict::Failed, "device.never_returned")
        );
        let message = &finished.report.devices[0].cause.as_ref().expect("a cause").message;
        assert!(message.contains("step.program_not_started"), "{message}");
    });
}
