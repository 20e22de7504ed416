//! A test line: a plan, simulated devices, one run in virtual time, and everything that it leaves.

use std::collections::HashMap;
use std::future::Future;
use std::io::BufReader;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use async_trait::async_trait;
use flashfleet::actors::{Run, RunOptions, Source};
use flashfleet::cause::Cause;
use flashfleet::image::{Image, ImageBuilder};
use flashfleet::plan::{Plan, Step, Target};
use flashfleet::report::log::{LogLine, LogReader};
use flashfleet::report::{Event, EventKind, Outcome, OutputPaths, Report, Verdict, prepare_outputs};
use flashfleet::sim::{DeviceHandle, FaultSpec, Fleet, SimSpec};
use flashfleet::transport::{Candidate, Connector};
use tokio::sync::mpsc;

/// Runs a future within an actix system whose clock is virtual: time passes only while nothing else can happen.
pub(crate) fn in_virtual_time<F: Future>(future: F) -> F::Output {
    let runtime = || {
        tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .start_paused(true)
            .build()
            .expect("a runtime")
    };
    actix::System::with_tokio_rt(runtime).block_on(future)
}

/// Version 2.0.0; simulated devices run 1.0.0.
pub(crate) fn new_image() -> Arc<Image> {
    static IMAGE: OnceLock<Arc<Image>> = OnceLock::new();
    let make = || {
        let payload: Vec<u8> = (0..12_000_u32).map(|n| n.to_le_bytes()[0] ^ 0x5a).collect();
        let bytes = ImageBuilder::new().version("2.0.0").payload(&payload).build();
        Arc::new(Image::from_bytes(bytes).expect("the builder makes valid images"))
    };
    Arc::clone(IMAGE.get_or_init(make))
}

pub(crate) fn upload() -> Step {
    Step::upload("app")
}

pub(crate) fn reset() -> Step {
    Step::reset()
}

/// The steps that a plan has where it names none.
pub(crate) fn default_steps() -> Vec<Step> {
    Step::update("app", &new_image().into())
}

/// Devices for the targets of a plan, whatever the targets' own selectors say.
pub(crate) struct Devices {
    pub(crate) by_target: HashMap<String, Vec<Candidate>>,
}

#[async_trait]
impl Source for Devices {
    async fn candidates(&self, target: &Target) -> Result<Vec<Candidate>, Cause> {
        Ok(self.by_target.get(&target.name).cloned().unwrap_or_default())
    }
}

pub(crate) fn candidate(connector: Arc<dyn Connector>) -> Candidate {
    Candidate::new(connector)
}

/// One line, ready to run.
pub(crate) struct Line {
    pub(crate) plan: Plan,
    pub(crate) devices: HashMap<String, Vec<Candidate>>,
    pub(crate) fleet: Option<Fleet>,
    pub(crate) options: RunOptions,
}

/// What a run left.
pub(crate) struct Finished {
    pub(crate) report: Report,
    pub(crate) outcome: Outcome,
    pub(crate) events: Vec<Event>,
}

impl Line {
    /// `spec.count` devices in target `line`. Within a runtime only.
    pub(crate) fn new(spec: &SimSpec) -> Self {
        let fleet = Fleet::new(spec).expect("a spec that can be simulated");
        let mut line = Self::of(fleet.connectors().into_iter().map(candidate).collect());
        line.fleet = Some(fleet);
        line
    }

    /// These devices in target `line`.
    pub(crate) fn of(candidates: Vec<Candidate>) -> Self {
        let mut target = Target::new("line", SimSpec::default().into(), default_steps());
        target.link.quiet = Duration::from_secs(1);
        let mut plan = Plan::new("test").with_image("app", new_image()).with_target(target);
        plan.path = "test.yaml".into();
        plan.sha256 = "00".repeat(32);
        plan.policy.deadline = Duration::from_secs(600);
        Self {
            plan,
            devices: HashMap::from([("line".to_owned(), candidates)]),
            fleet: None,
            options: RunOptions { run_id: "run".to_owned(), ..RunOptions::default() },
        }
    }

    pub(crate) fn device(&self, index: usize) -> DeviceHandle {
        self.fleet.as_ref().expect("a simulated line").device(index)
    }

    pub(crate) async fn run(&self) -> Finished {
        self.run_with(mpsc::unbounded_channel().1).await
    }

    /// Runs, and checks what must hold after every run, whatever happened.
    pub(crate) async fn run_with(&self, interrupts: mpsc::UnboundedReceiver<()>) -> Finished {
        let source = Arc::new(Devices { by_target: self.devices.clone() });
        self.run_from(source, interrupts).await
    }

    /// Like [`Self::run_with`], with devices from another source.
    pub(crate) async fn run_from(
        &self,
        source: Arc<dyn Source>,
        interrupts: mpsc::UnboundedReceiver<()>,
    ) -> Finished {
        let folder = tempfile::tempdir().expect("a folder");
        let journal = folder.path().join("journal.jsonl");
        let paths = OutputPaths { journal: Some(journal.clone()), ..OutputPaths::default() };
        let run = Run::new(self.plan.clone())
            .with_options(self.options.clone())
            .with_source(source)
            .with_outputs(prepare_outputs(&paths).expect("outputs"))
            .with_interrupts(interrupts)
            .run();
        // In virtual time: a run that never ends fails its test instead of hanging it.
        let day = Duration::from_secs(24 * 3600);
        let finished =
            tokio::time::timeout(day, run).await.expect("the run ends").expect("the reporter lives");
        let file = BufReader::new(std::fs::File::open(&journal).expect("the journal"));
        let events: Vec<Event> = LogReader::new(file)
            .map(|line| match line.expect("a sound journal") {
                LogLine::Event(event) => *event,
                other => panic!("unexpected line {other:?}"),
            })
            .collect();
        let finished = Finished { outcome: finished.outcome(), report: finished.report, events };
        finished.check_completeness();
        finished
    }
}

impl Finished {
    /// Every device that was found has exactly one verdict and is in the report exactly once; the report is a function
    /// of the journal.
    fn check_completeness(&self) {
        let found: Vec<_> = self.about(|kind| matches!(kind, EventKind::DeviceFound { .. }));
        let finished: Vec<_> = self.about(|kind| matches!(kind, EventKind::DeviceFinished { .. }));
        let mut reported: Vec<_> = self.report.devices.iter().map(|device| device.id.to_string()).collect();
        let (mut found, mut finished) = (found, finished);
        found.sort();
        finished.sort();
        reported.sort();
        assert_eq!(found, finished, "one verdict for each device that was found");
        assert_eq!(found, reported, "each device in the report once");
        let mut aggregate = flashfleet::report::Aggregate::new();
        self.events.iter().for_each(|event| aggregate.apply(event));
        assert_eq!(
            aggregate.report().to_json(),
            self.report.to_json(),
            "the report is made of the journal alone"
        );
    }

    fn about(&self, wanted: impl Fn(&EventKind) -> bool) -> Vec<String> {
        let of_device = |event: &Event| event.device.as_ref().map(ToString::to_string);
        self.events.iter().filter(|event| wanted(&event.kind)).filter_map(of_device).collect()
    }

    pub(crate) fn verdicts(&self) -> Vec<Verdict> {
        self.report.devices.iter().map(|device| device.verdict).collect()
    }

    pub(crate) fn code(&self, index: usize) -> String {
        self.report.devices[index].cause.as_ref().map_or_else(String::new, |cause| cause.code.to_string())
    }

    /// Most devices at work at one time.
    pub(crate) fn most_at_once(&self, of: impl Fn(&str) -> bool) -> usize {
        let (mut now, mut most) = (0_usize, 0);
        for event in &self.events {
            let Some(device) = event.device.as_ref().filter(|device| of(&device.0)) else { continue };
            let _ = device;
            match event.kind {
                EventKind::DeviceStarted { .. } => now += 1,
                EventKind::DeviceFinished { .. } => now = now.saturating_sub(1),
                _ => {}
            }
            most = most.max(now);
        }
        most
    }
}

/// One device with a fault.
pub(crate) fn faulty(fault: FaultSpec) -> SimSpec {
    SimSpec { fault, ..SimSpec::default() }
}
