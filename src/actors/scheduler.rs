//! The scheduler actor: which device starts when, and when the run is over. It decides; devices do, the reporter tells.

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use actix::prelude::*;
use tokio::sync::oneshot;

use crate::cause::{Cause, Class};
use crate::flow::{DeviceResult, planned_steps};
use crate::plan::{Plan, Target};
use crate::report::{DeviceId, EventKind, Outcome, Verdict};
use crate::smp::Time;
use crate::transport::{descriptor_limit, enough_descriptors};

use super::boards::{Remark, hub};
use super::device::{Device, Halt, Run};
use super::discovery::{Scout, TargetDevices, unmet};
use super::reporter::Tell;
use super::worker::{Stop, interrupted, seconds};

/// How much later than a device's own deadline the scheduler gives it up, should its actor be stuck.
const GRACE: Duration = Duration::from_secs(5);

/// A person wants the run to end: once for gently, twice for now.
#[derive(Debug, Clone, Copy, Message)]
#[rtype(result = "()")]
pub(super) struct Interrupt;

/// A device's actor is done with it.
///
/// A message, and no future of the scheduler's own: an actor's context polls all of its futures whenever one of them moves,
/// so that a fleet would cost the square of its size.
#[derive(Debug, Message)]
#[rtype(result = "()")]
struct Finished {
    index: usize,
    result: DeviceResult,
}

/// How the run ended.
#[derive(Debug, Clone)]
pub(super) struct Ended {
    /// What the schedule alone comes to; the verdicts may make it worse.
    pub outcome: Outcome,
    pub cause: Option<Cause>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Waiting,
    Running,
    Done,
}

/// Devices that were started; those that were refused before are not among them.
#[derive(Debug, Clone, Copy, Default)]
struct Counts {
    started: usize,
    finished: usize,
    passed: usize,
}

struct Entry {
    id: DeviceId,
    key: String,
    addr: Addr<Device>,
    /// The hub that it is plugged into, where that is known.
    hub: Option<String>,
    /// The Bluetooth adapter that it shares with others.
    adapter: Option<String>,
    state: State,
    started: Option<Time>,
}

/// Starts devices as the plan's policy allows, and keeps every verdict.
pub(super) struct Scheduler {
    scout: Scout,
    targets: Vec<usize>,
    parallel: usize,
    surveys_due: usize,
    surveyed: Vec<TargetDevices>,
    entries: Vec<Entry>,
    waiting: VecDeque<usize>,
    running: usize,
    /// Of the devices that were started.
    counts: Counts,
    hubs: HashMap<String, usize>,
    adapters: HashMap<String, usize>,
    stop: Stop,
    /// Why no further device is started.
    closed: Option<(Outcome, Cause)>,
    done: Option<oneshot::Sender<Ended>>,
}

impl Scheduler {
    pub(super) fn new(
        scout: Scout,
        targets: Vec<usize>,
        parallel: Option<usize>,
        done: oneshot::Sender<Ended>,
    ) -> Self {
        let parallel = parallel.or(scout.plan.policy.parallel).unwrap_or(usize::MAX).max(1);
        Self {
            scout,
            targets,
            parallel,
            surveys_due: 0,
            surveyed: Vec::new(),
            entries: Vec::new(),
            waiting: VecDeque::new(),
            running: 0,
            counts: Counts::default(),
            hubs: HashMap::new(),
            adapters: HashMap::new(),
            stop: Stop::No,
            closed: None,
            done: Some(done),
        }
    }

    fn plan(&self) -> &Plan {
        &self.scout.plan
    }

    fn tell(&self, device: Option<&DeviceId>, kind: EventKind) {
        let clock = self.scout.clock;
        self.scout.reporter.do_send(Tell { device: device.cloned(), at: clock.wall(clock.now()), kind });
    }

    /// All targets have been looked for: tells what was found and starts, or refuses to.
    fn matched(&mut self, ctx: &mut Context<Self>) {
        let plan = Arc::clone(&self.scout.plan);
        let mut surveyed = std::mem::take(&mut self.surveyed);
        surveyed.sort_by_key(|survey| survey.target);
        let mut closed: Option<(Outcome, Cause)> = None;
        let mut seen_again = HashSet::new();
        let mut owners: HashMap<String, Vec<String>> = HashMap::new();
        for survey in &surveyed {
            let Some(target) = plan.targets.get(survey.target) else { continue };
            for manned in &survey.devices {
                let owners = owners.entry(manned.found.key.clone()).or_default();
                if !owners.contains(&target.name) {
                    owners.push(target.name.clone());
                }
            }
        }
        if let Err(cause) = self.enough_descriptors(&surveyed) {
            closed = Some((Outcome::Station, cause));
        }
        for survey in surveyed {
            let Some(target) = plan.targets.get(survey.target) else { continue };
            let unmet = unmet(target, &survey);
            let found = survey.count();
            seen_again.extend(survey.earlier.seen_again.iter().copied());
            for manned in survey.devices {
                self.add(target, manned);
            }
            for Remark { code, message } in survey.remarks {
                let message = format!("target {}: {message}", target.name);
                self.tell(None, EventKind::Note { code: code.to_owned(), message });
            }
            if let Some(cause) = unmet {
                self.tell(
                    None,
                    EventKind::TargetUnmet {
                        target: target.name.clone(),
                        expected: target.expect.to_string(),
                        found,
                        cause: cause.clone(),
                    },
                );
                // Where nobody could look, nobody knows what is there: that speaks for the run, in whatever order.
                let outcome = Outcome::of_unmet(&cause);
                if closed.as_ref().is_none_or(|(first, _)| first.worst(outcome) != *first) {
                    closed = Some((outcome, cause));
                }
            }
        }
        self.carry_over(&seen_again);
        if let Some((outcome, cause)) = closed {
            self.close(outcome, cause);
        }
        self.refuse_shared(&owners);
        self.advance(ctx);
    }

    /// Devices of the earlier run that were not found again keep what they have, whichever targets this run is about.
    fn carry_over(&mut self, seen_again: &HashSet<usize>) {
        let passed = self.scout.carry_over(seen_again);
        self.counts.started += passed;
        self.counts.finished += passed;
        self.counts.passed += passed;
    }

    /// Whether this process may have all the links open that the run will have open at once. Said before anything is written,
    /// not by one device after the other.
    fn enough_descriptors(&self, surveyed: &[TargetDevices]) -> Result<(), Cause> {
        let links = || {
            surveyed
                .iter()
                .flat_map(|survey| &survey.devices)
                .map(|manned| (manned.is_open, manned.descriptors))
        };
        let open = links().filter(|(is_open, _)| *is_open).map(|(_, count)| count);
        let others = links().filter(|(is_open, count)| !is_open && *count > 0).map(|(_, count)| count);
        let needed = open.chain(others.take(self.parallel)).fold(0, usize::saturating_add);
        enough_descriptors(needed, descriptor_limit())
    }

    fn add(&mut self, target: &Target, manned: super::discovery::Manned) {
        self.tell(
            Some(&manned.id),
            EventKind::DeviceFound {
                target: target.name.clone(),
                address: manned.found.address.clone(),
                identity: manned.found.identity.clone(),
                steps: planned_steps(&target.steps),
                carried_from: None,
            },
        );
        let index = self.entries.len();
        self.entries.push(Entry {
            id: manned.id,
            key: manned.found.key,
            addr: manned.addr,
            hub: hub(&manned.found.identity),
            adapter: manned.adapter,
            state: State::Waiting,
            started: None,
        });
        self.waiting.push_back(index);
    }

    /// A device that two targets match gets neither's firmware.
    fn refuse_shared(&mut self, owners: &HashMap<String, Vec<String>>) {
        for index in std::mem::take(&mut self.waiting) {
            let shared = self
                .entries
                .get(index)
                .and_then(|entry| owners.get(&entry.key))
                .filter(|owners| owners.len() > 1);
            match shared {
                None => self.waiting.push_back(index),
                Some(owners) => {
                    let cause = Cause::new(
                        Class::Plan,
                        "plan.device_in_two_targets",
                        format!("expected one target to match the device, {} do", owners.join(" and ")),
                        "make the targets' match narrower: `flashfleet list PLAN` shows what each one matches",
                    );
                    self.finish_unstarted(index, Verdict::Error, cause);
                }
            }
        }
    }

    /// Starts what may start; ends the run where nothing is left.
    fn advance(&mut self, ctx: &mut Context<Self>) {
        if let Some((_, cause)) = self.closed.clone() {
            for index in std::mem::take(&mut self.waiting) {
                self.finish_unstarted(index, Verdict::Aborted, cause.clone());
            }
        }
        while self.running < self.limit() {
            let Some(position) = self.waiting.iter().position(|&index| self.has_room(index)) else {
                break;
            };
            let Some(index) = self.waiting.remove(position) else { break };
            self.start(index, ctx);
        }
        if self.running == 0 && self.waiting.is_empty() {
            self.end(ctx);
        }
    }

    /// How many may run at once: only the canaries until they have passed.
    fn limit(&self) -> usize {
        let canary = self.plan().policy.canary;
        // Devices that were refused before they started are no canaries.
        if self.counts.passed < canary {
            return self.parallel.min(self.running + canary.saturating_sub(self.counts.started));
        }
        self.parallel
    }

    /// Whether what the device shares with others, its hub and its adapter, carries one more.
    fn has_room(&self, index: usize) -> bool {
        let Some(entry) = self.entries.get(index) else { return true };
        let policy = &self.plan().policy;
        let fits = |shared: &Option<String>, running: &HashMap<String, usize>, limit: Option<usize>| {
            let running = shared.as_ref().and_then(|name| running.get(name)).copied().unwrap_or(0);
            shared.is_none() || limit.is_none_or(|limit| running < limit.max(1))
        };
        fits(&entry.hub, &self.hubs, policy.per_hub)
            && fits(&entry.adapter, &self.adapters, Some(policy.per_adapter))
    }

    fn start(&mut self, index: usize, ctx: &mut Context<Self>) {
        let clock = self.scout.clock;
        let deadline = self.plan().policy.deadline;
        let Some(entry) = self.entries.get_mut(index) else { return };
        let now = clock.now();
        entry.state = State::Running;
        entry.started = Some(now);
        let (id, addr) = (entry.id.clone(), entry.addr.clone());
        let (hub, adapter) = (entry.hub.clone(), entry.adapter.clone());
        self.running += 1;
        self.counts.started += 1;
        for (shared, running) in [(hub, &mut self.hubs), (adapter, &mut self.adapters)] {
            if let Some(name) = shared {
                *running.entry(name).or_insert(0) += 1;
            }
        }
        self.tell(Some(&id), EventKind::DeviceStarted { attempt: 1 });
        let end = clock.instant(now) + deadline;
        let answer = tokio::time::timeout_at(end + GRACE, addr.send(Run { deadline: end }));
        let scheduler = ctx.address();
        tokio::task::spawn_local(async move {
            let result = match answer.await {
                Ok(Ok(Some(result))) => result,
                Ok(Ok(None)) => {
                    broken("internal.device_busy", "the device's actor was busy with another run")
                }
                Ok(Err(_)) => broken("internal.device_panicked", "the device's actor panicked"),
                Err(_) => broken("internal.device_stuck", "the device's actor did not obey its deadline"),
            };
            scheduler.do_send(Finished { index, result });
        });
    }

    fn finished(&mut self, index: usize, result: DeviceResult, ctx: &mut Context<Self>) {
        let started = self.entries.get(index).and_then(|entry| entry.started);
        self.conclude(index, result, started);
        self.running -= 1;
        let shared = self.entries.get(index).map(|entry| (entry.hub.clone(), entry.adapter.clone()));
        let (hub, adapter) = shared.unwrap_or_default();
        for (shared, running) in [(hub, &mut self.hubs), (adapter, &mut self.adapters)] {
            if let Some(count) = shared.and_then(|name| running.get_mut(&name)) {
                *count = count.saturating_sub(1);
            }
        }
        self.check_policy();
        self.advance(ctx);
    }

    fn finish_unstarted(&mut self, index: usize, verdict: Verdict, cause: Cause) {
        let result = DeviceResult {
            verdict,
            changed: false,
            cause: Some(cause),
            attempts: 0,
            images: Vec::new(),
            on_test: false,
        };
        self.conclude(index, result, None);
    }

    /// The device's one verdict.
    fn conclude(&mut self, index: usize, result: DeviceResult, started: Option<Time>) {
        let now = self.scout.clock.now();
        let Some(entry) = self.entries.get_mut(index) else { return };
        if entry.state == State::Done {
            return;
        }
        entry.state = State::Done;
        if started.is_some() {
            self.counts.finished += 1;
            self.counts.passed += usize::from(result.verdict == Verdict::Passed);
        }
        let id = entry.id.clone();
        let panicked = result.cause.as_ref().is_some_and(|cause| cause.class == Class::Internal);
        self.tell(
            Some(&id),
            EventKind::DeviceFinished {
                verdict: result.verdict,
                changed: (!panicked || result.changed).then_some(result.changed),
                cause: result.cause,
                attempts: result.attempts,
                images: result.images,
                on_test: result.on_test && result.verdict == Verdict::Passed,
                duration_s: started.map_or(0.0, |started| seconds(now.saturating_sub(started))),
            },
        );
    }

    /// Whether the verdicts so far mean that no further device is to be started.
    fn check_policy(&mut self) {
        if self.closed.is_some() {
            return;
        }
        let policy = &self.scout.plan.policy;
        let Counts { finished, passed, .. } = self.counts;
        let bad = finished - passed;
        if policy.canary > 0 && bad > 0 && passed < policy.canary {
            let cause = Cause::new(
                Class::Plan,
                "policy.canary_failed",
                format!("expected every canary (the first {}) to pass, {bad} did not", policy.canary),
                "look at the canary's cause before the rest of the devices get this firmware",
            );
            self.close(Outcome::Stopped, cause);
            return;
        }
        let Some(stop_after) = policy.stop_after else { return };
        #[expect(clippy::cast_precision_loss, reason = "counts of devices are far below 2^52")]
        let percent = 100.0 * bad as f64 / finished.max(1) as f64;
        let by_count = stop_after.failures.is_some_and(|limit| bad >= limit.max(1));
        let by_share =
            stop_after.percent.is_some_and(|limit| finished >= stop_after.of_at_least && percent >= limit);
        if bad > 0 && (by_count || by_share) {
            let cause = Cause::new(
                Class::Plan,
                "policy.stopped",
                format!("{bad} of {finished} finished devices did not pass: stopped by stop_after"),
                "look at the causes; raise policy.stop_after only where they are known",
            );
            self.close(Outcome::Stopped, cause);
        }
    }

    fn close(&mut self, outcome: Outcome, cause: Cause) {
        self.closed.get_or_insert((outcome, cause));
    }

    /// Everything has its verdict.
    fn end(&mut self, ctx: &mut Context<Self>) {
        let Some(done) = self.done.take() else { return };
        let ended = match self.closed.take() {
            _ if self.stop > Stop::No => Ended { outcome: Outcome::Interrupted, cause: Some(interrupted()) },
            Some((outcome, cause)) => Ended { outcome, cause: Some(cause) },
            None => Ended { outcome: Outcome::Passed, cause: None },
        };
        // Nobody waits any more only where the whole process is ending.
        let _ = done.send(ended);
        ctx.stop();
    }
}

impl Actor for Scheduler {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        self.surveys_due = self.targets.len();
        if self.targets.is_empty() {
            self.end(ctx);
        }
        for target in self.targets.clone() {
            let scout = self.scout.clone();
            ctx.spawn(scout.discover(target).into_actor(self).map(|survey, act, ctx| {
                act.surveyed.push(survey);
                act.surveys_due -= 1;
                if act.surveys_due == 0 {
                    act.matched(ctx);
                }
            }));
        }
    }
}

impl Handler<Finished> for Scheduler {
    type Result = ();

    fn handle(&mut self, Finished { index, result }: Finished, ctx: &mut Self::Context) {
        self.finished(index, result, ctx);
    }
}

impl Handler<Interrupt> for Scheduler {
    type Result = ();

    fn handle(&mut self, _: Interrupt, ctx: &mut Self::Context) {
        self.stop = if self.stop == Stop::No { Stop::AfterStep } else { Stop::Now };
        self.close(Outcome::Interrupted, interrupted());
        let (code, message) = match self.stop {
            Stop::Now => ("run.stopping_now", "interrupted again: stopping at once"),
            _ => (
                "run.stopping",
                "interrupted: running devices finish the step they are in, no further one is started; once more stops at once",
            ),
        };
        self.tell(None, EventKind::Note { code: code.to_owned(), message: message.to_owned() });
        for entry in self.entries.iter().filter(|entry| entry.state == State::Running) {
            entry.addr.do_send(Halt(self.stop));
        }
        if self.surveys_due > 0 {
            // Nothing has been written to anything: there is no safe step to wait for.
            self.carry_over(&HashSet::new());
            self.end(ctx);
        } else {
            self.advance(ctx);
        }
    }
}

/// A verdict for a device whose actor could not give one. Whether something was written is not known.
fn broken(code: &'static str, what: &str) -> DeviceResult {
    DeviceResult {
        verdict: Verdict::Error,
        changed: false,
        cause: Some(Cause::new(
            Class::Internal,
            code,
            format!("expected a verdict from the device, but {what}"),
            "this is a defect of flashfleet: please report it with the journal; run the plan again for this device",
        )),
        attempts: 1,
        images: Vec::new(),
        on_test: false,
    }
}
