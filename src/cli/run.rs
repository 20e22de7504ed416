//! `flashfleet run PLAN`: from arguments to a run, and from its end to an exit code.

use std::io::Write;
use std::path::PathBuf;
use std::sync::Arc;

use chrono::Utc;
use clap::Args;
use tokio::sync::mpsc;

use super::diagnose::{say, show_plan_errors};
use super::logging;
use super::resume;
use super::signals::Signals;

use crate::actors::{Found, Interrupts, Probed, RealSource, Run, RunOptions, Source, Survey};
use crate::cause::{Cause, Class};
use crate::exit::Exit;
use crate::flow::planned_steps;
use crate::plan::Plan;
use crate::report::log::default_journal_path;
use crate::report::{
    Destination, Display, EarlierRun, Outcome, OutputPaths, Outputs, ProgressMode, ReporterCore,
    prepare_outputs,
};
use crate::transport::raise_descriptor_limit;

/// Match devices, flash them concurrently, report.
#[derive(Debug, Args)]
pub struct RunArgs {
    /// The plan.
    pub plan: PathBuf,
    /// Run only this target; may be given several times.
    #[arg(long, value_name = "TARGET")]
    pub only: Vec<String>,
    /// Devices at once, instead of the plan's.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub parallel: Option<u32>,
    /// Go on with an earlier run of this plan: the one of this journal, else of `--journal`, else the newest. What is here is
    /// looked at again, and written only where it must be; what is not here any more keeps its verdict.
    #[arg(long, value_name = "JOURNAL", num_args = 0..=1, require_equals = true)]
    pub resume: Option<Option<PathBuf>>,
    /// Find the devices and print what would be done to each; write to none.
    #[arg(long, conflicts_with_all = ["resume", "json", "junit", "html", "events", "journal", "trace"])]
    pub dry_run: bool,
    /// What it writes and shows.
    #[command(flatten)]
    pub outputs: OutputArgs,
}

/// What a run writes and shows.
#[derive(Debug, Args)]
pub struct OutputArgs {
    /// Write the JSON report to this file, `-` for standard output.
    #[arg(long, value_name = "FILE")]
    pub json: Option<Destination>,
    /// Write the JUnit report to this file.
    #[arg(long, value_name = "FILE")]
    pub junit: Option<Destination>,
    /// Write the HTML report to this file.
    #[arg(long, value_name = "FILE")]
    pub html: Option<Destination>,
    /// Write events as JSON lines as they happen, `-` for standard output.
    #[arg(long, value_name = "FILE|-")]
    pub events: Option<Destination>,
    /// How progress is shown.
    #[arg(long, value_enum, default_value_t)]
    pub progress: ProgressMode,
    /// Where the journal is kept, instead of the user's state folder.
    #[arg(long, value_name = "FILE")]
    pub journal: Option<PathBuf>,
    /// Write one wire log per device into this folder.
    #[arg(long, value_name = "DIR")]
    pub trace: Option<PathBuf>,
    /// Say more; twice for everything.
    #[arg(short, long, action = clap::ArgAction::Count)]
    pub verbose: u8,
    /// Say nothing but errors.
    #[arg(short, long, conflicts_with = "verbose")]
    pub quiet: bool,
}

/// Runs the command.
pub fn run(args: &RunArgs, out: &mut dyn Write, err: &mut dyn Write) -> Exit {
    let plan = match crate::plan::load(&args.plan) {
        Ok(plan) => Arc::new(plan),
        Err(diagnostics) => {
            show_plan_errors(err, &diagnostics);
            return Exit::Usage;
        }
    };
    if let Err(cause) = known_targets(&plan, &args.only) {
        say(err, &cause);
        return Exit::Usage;
    }
    let earlier = match &args.resume {
        Some(journal) => resume::earlier(&plan, journal.as_deref(), args.outputs.journal.as_deref(), err),
        None => Ok(EarlierRun::default()),
    };
    let earlier = match earlier {
        Ok(earlier) => Arc::new(earlier),
        Err(cause) => {
            say(err, &cause);
            return Exit::of_cause(&cause);
        }
    };
    let options = RunOptions {
        run_id: uuid::Uuid::now_v7().to_string(),
        only: args.only.clone(),
        parallel: args.parallel.and_then(|count| usize::try_from(count).ok()),
        earlier,
    };
    if args.dry_run {
        return dry_run(&plan, options, Arc::new(RealSource::new()), out, err);
    }
    execute(plan, options, Arc::new(RealSource::new()), &args.outputs, err)
}

/// A whole run: from a valid plan to reports and an exit code.
pub(super) fn execute(
    plan: Arc<Plan>,
    options: RunOptions,
    source: Arc<dyn Source>,
    args: &OutputArgs,
    err: &mut dyn Write,
) -> Exit {
    let outputs = match outputs(args, &options.run_id) {
        Ok(outputs) => outputs,
        Err(cause) => {
            say(err, &cause);
            return Exit::of_cause(&cause);
        }
    };
    let wire_log = match logging::start(args.verbose, args.quiet, args.trace.as_deref()) {
        Ok(wire_log) => wire_log,
        Err(cause) => {
            say(err, &cause);
            return Exit::of_cause(&cause);
        }
    };
    raise_descriptor_limit();
    let finished = crate::actors::in_system(async {
        Run::new(plan)
            .with_options(options)
            .with_source(source)
            .with_outputs(outputs)
            .with_display(Display::new(args.progress, args.quiet))
            .with_interrupts(interrupts())
            .run()
            .await
    });
    let finished = match finished {
        Ok(finished) => finished,
        Err(cause) => {
            say(err, &cause);
            return Exit::of_cause(&cause);
        }
    };
    let outcome = match wire_log.and_then(|log| log.failure()) {
        Some(cause) => {
            say(err, &cause);
            finished.outcome().worst(Outcome::Station)
        }
        None => finished.outcome(),
    };
    Exit::from(outcome)
}

fn outputs(args: &OutputArgs, run_id: &str) -> Result<Outputs, Cause> {
    let journal = match &args.journal {
        Some(path) => path.clone(),
        None => default_journal_path(run_id, Utc::now())?,
    };
    prepare_outputs(&OutputPaths {
        json: args.json.clone(),
        junit: args.junit.clone(),
        html: args.html.clone(),
        journal: Some(journal),
        events: args.events.clone(),
        trace: args.trace.clone(),
    })
}

fn known_targets(plan: &Plan, only: &[String]) -> Result<(), Cause> {
    let names = || plan.targets.iter().map(|target| target.name.as_str());
    match only.iter().find(|name| !names().any(|known| known == name.as_str())) {
        None => Ok(()),
        Some(unknown) => Err(Cause::new(
            Class::Plan,
            "cli.unknown_target",
            format!("expected --only to name a target of the plan, got {unknown}"),
            format!("the plan's targets are: {}", names().collect::<Vec<_>>().join(", ")),
        )),
    }
}

/// Each signal that asks the program to end is one message.
fn interrupts() -> Interrupts {
    let (sender, receiver) = mpsc::unbounded_channel();
    tokio::task::spawn_local(async move {
        // Without signals the run is the same, and cannot be ended gently.
        let Ok(mut signals) = Signals::listen_with_hang_up() else { return };
        loop {
            signals.next().await;
            if sender.send(()).is_err() {
                return;
            }
        }
    });
    receiver
}

fn dry_run(
    plan: &Arc<Plan>,
    options: RunOptions,
    source: Arc<dyn Source>,
    out: &mut dyn Write,
    err: &mut dyn Write,
) -> Exit {
    let core = ReporterCore::new(Outputs::default(), Display::hidden());
    raise_descriptor_limit();
    let survey = crate::actors::in_system(crate::actors::survey(Arc::clone(plan), options, source, core));
    if let Err(error) = print_survey(plan, &survey, out) {
        // A reader that went away, as with `| head`, has seen what it wanted.
        tracing::debug!(%error, "standard output is closed");
    }
    let mut outcome = Outcome::Passed;
    for surveyed in &survey.targets {
        for found in &surveyed.found {
            outcome = outcome.worst(promise(&survey, found));
        }
        if let Some(cause) = &surveyed.unmet {
            say(err, cause);
            outcome = outcome.worst(Outcome::of_unmet(cause));
        }
    }
    Exit::from(outcome)
}

/// What a run would come to for a device, as far as is known.
fn promise(survey: &Survey, found: &Found) -> Outcome {
    match &found.probed {
        _ if !survey.others(found).is_empty() => Outcome::NotPassed,
        Probed::Answers => Outcome::Passed,
        Probed::Silent => Outcome::NotPassed,
        Probed::Blocked(cause) => Outcome::of_device(cause),
    }
}

fn print_survey(plan: &Plan, survey: &Survey, out: &mut dyn Write) -> std::io::Result<()> {
    for surveyed in &survey.targets {
        let Some(target) = plan.targets.iter().find(|target| target.name == surveyed.target) else {
            continue;
        };
        let steps: Vec<String> = planned_steps(&target.steps).into_iter().map(|step| step.name).collect();
        writeln!(
            out,
            "target {}: {} devices, expected {}",
            target.name,
            surveyed.found.len(),
            target.expect
        )?;
        for found in &surveyed.found {
            let slot = found.identity.slot_name().map_or_else(String::new, |slot| format!(" ({slot})"));
            let others = survey.others(found);
            let plan = match &found.probed {
                _ if !others.is_empty() => {
                    format!(
                        "refused, as {} matches it, too: make the targets' match narrower",
                        others.join(" and ")
                    )
                }
                Probed::Answers => steps.join(", "),
                Probed::Silent => "does not answer".to_owned(),
                Probed::Blocked(cause) => {
                    format!("cannot be asked: {} [{}]\n    help: {}", cause.message, cause.code, cause.help)
                }
            };
            writeln!(out, "  {}{slot}: {plan}", found.address)?;
        }
        for note in &surveyed.notes {
            writeln!(out, "  note: {note}")?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sim::{Air, BlePermission, BleSpec, Fleet, SimSpec, SimTransport};
    use crate::transport::Discovery;

    /// A dry run over the peripherals of one adapter.
    fn dry(permission: BlePermission, adapter_on: bool) -> (Exit, String, String) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("plan.yaml");
        let text = "version: 1\nname: air\nimages: { app: { file: app.bin } }\n\
                    targets: [{ name: line, match: { ble: \"device-1\" }, discover: 2s, expect: 1 }]\n";
        std::fs::write(&path, text).unwrap();
        let image = crate::image::ImageBuilder::new().version("2.0.0").payload(&[0x5a; 3000]).build();
        std::fs::write(folder.path().join("app.bin"), image).unwrap();
        let plan = Arc::new(crate::plan::load(&path).unwrap());
        let ble = BleSpec { permission, ..BleSpec::default() };
        let spec = SimSpec { transport: SimTransport::Ble, ble, ..SimSpec::default() };
        let (mut out, mut err) = (Vec::new(), Vec::new());
        let (air, fleet) = (Air::new(1), Fleet::new(&spec).unwrap());
        air.add(&fleet);
        air.power(0, adapter_on);
        let source = Arc::new(RealSource::with_discovery(Discovery::new().with_central(air)));
        let exit = dry_run(&plan, RunOptions::default(), source, &mut out, &mut err);
        (exit, String::from_utf8(out).unwrap(), String::from_utf8(err).unwrap())
    }

    #[test]
    fn a_dry_run_tells_what_a_run_would_come_to_for_a_peripheral_and_why() {
        let (exit, out, err) = dry(BlePermission::Open, true);
        assert_eq!((exit, &*err), (Exit::Passed, ""), "{out}");
        let (exit, out, err) = dry(BlePermission::Authenticated, true);
        assert_eq!((exit, &*err), (Exit::NotPassed, ""), "{out}");
        assert!(out.contains("[device.pairing_required]") && out.contains("help: bond this"), "{out}");
        let (exit, out, err) = dry(BlePermission::Open, false);
        assert_eq!(exit, Exit::Station, "{out}");
        assert!(err.contains("station.adapter_off"), "{err}");
    }
}
