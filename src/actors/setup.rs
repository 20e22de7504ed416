//! A run, put together piece by piece. How it goes is not here.

use std::sync::Arc;

use tokio::sync::mpsc;

use super::run::{Interrupts, RunOptions, in_system, run};
use super::source::{RealSource, Source};
use crate::cause::{Cause, Class};
use crate::plan::Plan;
use crate::report::{Display, Finished, Outputs, ReporterCore};

/// A run of a plan: on this machine's ports, sockets and adapters, showing nothing, writing nothing and never
/// interrupted, unless something else is said.
///
/// ```
/// use flashfleet::actors::Run;
/// use flashfleet::image::{Image, ImageBuilder, ImageSet};
/// use flashfleet::plan::{Plan, Step, Target};
/// use flashfleet::sim::SimSpec;
///
/// let bytes = ImageBuilder::new().version("2.0.0").payload(b"firmware").build();
/// let image = ImageSet::from(Image::from_bytes(bytes)?);
/// let simulated = SimSpec { count: 3, ..SimSpec::default() };
/// let mut target = Target::new("boards", simulated.into(), Step::update("app", &image));
/// # target.link.quiet = std::time::Duration::from_millis(100);
/// let report = Run::new(Plan::new("line").with_image("app", image).with_target(target)).run_blocking()?.report;
///
/// assert_eq!(report.summary.passed, 3);
/// let after = report.devices[0].images[0].after.as_ref();
/// assert_eq!(after.map(|after| after.version.as_str()), Some("2.0.0"));
/// # Ok::<(), flashfleet::cause::Cause>(())
/// ```
pub struct Run {
    plan: Arc<Plan>,
    options: RunOptions,
    source: Arc<dyn Source>,
    outputs: Outputs,
    display: Display,
    interrupts: Interrupts,
}

impl std::fmt::Debug for Run {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Run")
            .field("plan", &self.plan)
            .field("options", &self.options)
            .finish_non_exhaustive()
    }
}

impl Run {
    /// A run of `plan`, with an id of its own.
    #[must_use]
    pub fn new(plan: impl Into<Arc<Plan>>) -> Self {
        let (_nobody, interrupts) = mpsc::unbounded_channel();
        Self {
            plan: plan.into(),
            options: RunOptions { run_id: uuid::Uuid::now_v7().to_string(), ..RunOptions::default() },
            source: Arc::new(RealSource::new()),
            outputs: Outputs::default(),
            display: Display::hidden(),
            interrupts,
        }
    }

    /// The same with other options.
    #[must_use]
    pub fn with_options(self, options: RunOptions) -> Self {
        Self { options, ..self }
    }

    /// The same with devices from `source`.
    #[must_use]
    pub fn with_source(self, source: Arc<dyn Source>) -> Self {
        Self { source, ..self }
    }

    /// The same with reports and logs; see [`prepare_outputs`](crate::report::prepare_outputs).
    #[must_use]
    pub fn with_outputs(self, outputs: Outputs) -> Self {
        Self { outputs, ..self }
    }

    /// The same on a display.
    #[must_use]
    pub fn with_display(self, display: Display) -> Self {
        Self { display, ..self }
    }

    /// The same, ended early by whoever holds the other end.
    #[must_use]
    pub fn with_interrupts(self, interrupts: Interrupts) -> Self {
        Self { interrupts, ..self }
    }

    /// Runs to the end. Must be called within an actix system. That devices did not pass is no error: the report says
    /// so, with one verdict for each.
    ///
    /// # Errors
    /// `internal.reporter_panicked`, where there is no report.
    pub async fn run(self) -> Result<Finished, Cause> {
        let core = ReporterCore::new(self.outputs, self.display);
        run(self.plan, self.options, self.source, core, self.interrupts).await.ok_or_else(|| {
            Cause::new(
                Class::Internal,
                "internal.reporter_panicked",
                "expected a report, the reporter panicked",
                "this is a defect of flashfleet: please report it; the journal holds what happened until then",
            )
        })
    }

    /// Like [`Self::run`], in an actix system of its own on this thread. Must not be called within a tokio runtime.
    ///
    /// # Errors
    /// As [`Self::run`].
    pub fn run_blocking(self) -> Result<Finished, Cause> {
        in_system(self.run())
    }
}
