//! One run from beginning to end: starts the actors and waits for them. Everything else is theirs.

use std::sync::Arc;

use actix::prelude::*;
use tokio::sync::{mpsc, oneshot};

use crate::cause::{Cause, Class};
use crate::exit::Exit;
use crate::plan::Plan;
use crate::report::{EarlierRun, EventKind, Finished, Outcome, ReporterCore, SCHEMA};

use super::clock::Clock;
use super::discovery::{Found, Scout, Survey, TargetSurvey, unmet};
use super::progress::Uploads;
use super::reporter::{Close, Implied, Reporter, Tell};
use super::scheduler::{Ended, Interrupt, Scheduler};
use super::source::Source;
use super::worker::seconds;
use super::written::WrittenFiles;

/// What the command line adds to the plan.
#[derive(Debug, Clone, Default)]
pub struct RunOptions {
    /// Unique id of the run.
    pub run_id: String,
    /// Names of the targets to run; all where it is empty.
    pub only: Vec<String>,
    /// Devices at once, instead of the plan's.
    pub parallel: Option<usize>,
    /// The run that this one goes on with.
    pub earlier: Arc<EarlierRun>,
}

/// Interrupts of a run: each message is one, the first for gently, the second for now.
pub type Interrupts = mpsc::UnboundedReceiver<()>;

/// Runs a future in an actix system of its own, on this thread.
pub fn in_system<F: Future>(future: F) -> F::Output {
    System::new().block_on(future)
}

/// Runs a plan to its end. `None` where the reporter itself broke.
pub(super) async fn run(
    plan: Arc<Plan>,
    options: RunOptions,
    source: Arc<dyn Source>,
    core: ReporterCore,
    mut interrupts: Interrupts,
) -> Option<Finished> {
    let clock = Clock::start();
    let reporter = Reporter::new(core, clock).start();
    let tell = |kind| reporter.do_send(Tell { device: None, at: clock.wall(clock.now()), kind });
    tell(EventKind::RunStarted {
        schema: SCHEMA.to_owned(),
        run_id: options.run_id.clone(),
        plan: plan.name.clone(),
        // A plan that was made in memory has no file.
        plan_sha256: (!plan.sha256.is_empty()).then(|| plan.sha256.clone()),
        tool_version: env!("CARGO_PKG_VERSION").to_owned(),
        host: gethostname::gethostname().to_string_lossy().into_owned(),
    });
    let targets = selected(&plan, &options.only);
    let scout = Scout {
        attempts: plan.policy.attempts,
        ask_all: false,
        plan: Arc::clone(&plan),
        source,
        reporter: reporter.clone(),
        clock,
        written: WrittenFiles::default(),
        uploads: Uploads::default(),
        earlier: options.earlier,
    };
    let (done, mut ended) = oneshot::channel();
    let scheduler = Scheduler::new(scout, targets, options.parallel, done).start();
    let mut listening = true;
    let ended = loop {
        tokio::select! {
            ended = &mut ended => break ended,
            interrupt = interrupts.recv(), if listening => match interrupt {
                Some(()) => scheduler.do_send(Interrupt),
                None => listening = false,
            },
        }
    };
    let Ended { outcome, cause } = ended.unwrap_or_else(|_| Ended {
        outcome: Outcome::Internal,
        cause: Some(Cause::new(
            Class::Internal,
            "internal.scheduler_panicked",
            "expected the scheduler to end the run, it panicked",
            "this is a defect of flashfleet: please report it with the journal",
        )),
    });
    let implied = reporter.send(Implied).await.unwrap_or(Outcome::Internal);
    let outcome = outcome.worst(implied);
    tell(EventKind::RunFinished {
        outcome,
        exit_code: Exit::from(outcome).code(),
        cause,
        duration_s: seconds(clock.now()),
    });
    reporter.send(Close).await.ok().flatten()
}

/// Looks for every device of a plan and does nothing to any. Must be called within an actix system.
pub async fn survey(
    plan: Arc<Plan>,
    options: RunOptions,
    source: Arc<dyn Source>,
    core: ReporterCore,
) -> Survey {
    let clock = Clock::start();
    let reporter = Reporter::new(core, clock).start();
    let scout = Scout {
        attempts: 1,
        ask_all: true,
        plan: Arc::clone(&plan),
        source,
        reporter: reporter.clone(),
        clock,
        written: WrittenFiles::default(),
        uploads: Uploads::default(),
        earlier: Arc::clone(&options.earlier),
    };
    let mut targets = Vec::new();
    for index in selected(&plan, &options.only) {
        let devices = scout.clone().discover(index).await;
        let Some(target) = plan.targets.get(index) else { continue };
        let unmet = unmet(target, &devices);
        let notes = devices.remarks.into_iter().map(|remark| remark.message).collect();
        let found: Vec<Found> = devices.devices.into_iter().map(|manned| manned.found).collect();
        targets.push(TargetSurvey { target: target.name.clone(), found, unmet, notes });
    }
    // Nothing was told to it; but an actor that is dropped before it has started would start while it is dropped.
    let _ = reporter.send(Implied).await;
    Survey { targets }
}

fn selected(plan: &Plan, only: &[String]) -> Vec<usize> {
    plan.targets
        .iter()
        .enumerate()
        .filter(|(_, target)| only.is_empty() || only.contains(&target.name))
        .map(|(index, _)| index)
        .collect()
}
