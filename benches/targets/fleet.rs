//! Ten thousand simulated devices in one run, as fast as it goes: what one exchange of a request and its answer costs, and
//! whether a device costs more where there are more of them.
//!
//! The process that is measured is this program again: it runs a plan on simulated devices as `flashfleet run` does, with a
//! journal and a JSON report, and then asks each device how many requests reached it. So its processor time has both ends of
//! every exchange in it, the client's and the simulated server's.

use std::path::Path;
use std::process::{Command, ExitCode};
use std::sync::Arc;

use async_trait::async_trait;
use flashfleet::actors::{Run, Source, in_system};
use flashfleet::cause::Cause;
use flashfleet::plan::{MatchKind, Target as PlanTarget};
use flashfleet::report::{Destination, Display, Outcome, OutputPaths, ProgressMode, prepare_outputs};
use flashfleet::sim::Fleet;
use flashfleet::transport::Candidate;

use crate::process::{Cost, Station, run as run_process};
use crate::table::{Figure, Table, Target};

/// What tells this program to be the one that is measured.
pub(crate) const CHILD: &str = "--fleet";

const DEVICES: usize = 10_000;
/// Instructions for each device are as many for 400, 1,600 and 8,000 (counted with cachegrind); what more of them cost in time is
/// memory that is not in a cache, 40 kB of each device. So what is linear shows where neither count fits into one.
const HALF: usize = DEVICES / 2;
const FEW: usize = 1000;
const PAYLOAD: usize = 32 * 1024;

pub(crate) fn run(table: &mut Table) -> Result<(), String> {
    let (few, _) = flash(FEW)?;
    let (half, _) = flash(HALF)?;
    let (all, exchanges) = flash(DEVICES)?;
    let microseconds = all.cpu.as_secs_f64() * 1e6 / exchanges as f64;
    table.add(Figure {
        what: "10,000 simulated devices: processor time per SMP exchange",
        target: Some(Target::AtMost(20.0)),
        measured: microseconds,
        unit: "µs",
        decimals: 1,
        how: format!(
            "{exchanges} exchanges, {PAYLOAD} bytes to each device, client and simulated server in one process: {}, {:.1} s \
             in all; {:.0} MB at most, {:.1} kB for each device beyond the first {FEW}",
            time_of(&all),
            all.wall.as_secs_f64(),
            all.peak as f64 / 1e6,
            all.peak.saturating_sub(few.peak) as f64 / 1e3 / (DEVICES - FEW) as f64,
        ),
    });
    let each = |cost: &Cost, devices: usize| cost.cpu.as_secs_f64() / devices as f64;
    table.add(Figure {
        what: "10,000 simulated devices against 5,000: processor time per device",
        target: Some(Target::AtMost(1.1)),
        measured: each(&all, DEVICES) / each(&half, HALF),
        unit: "",
        decimals: 2,
        how: format!("{} against {}", time_of(&all), time_of(&half)),
    });
    table.add(Figure {
        what: "the same against 1,000",
        target: None,
        measured: each(&all, DEVICES) / each(&few, FEW),
        unit: "",
        decimals: 2,
        how: format!("{} for {FEW}", time_of(&few)),
    });
    Ok(())
}

/// Processor time, and whose it was.
fn time_of(cost: &Cost) -> String {
    let (cpu, system) = (cost.cpu.as_secs_f64(), cost.system.as_secs_f64());
    format!("{cpu:.2} s of processor time ({:.2} user, {system:.2} system)", cpu - system)
}

/// Runs the child; gives what it cost and the number of requests that reached the devices.
fn flash(devices: usize) -> Result<(Cost, u64), String> {
    let station = Station::new("fleet", PAYLOAD)?;
    let plan = station.plan(&format!("{{ sim: {{ count: {devices} }} }}\n  expect: {devices}"), "")?;
    let program = std::env::current_exe().map_err(|error| format!("where am I? {error}"))?;
    let count = station.file("exchanges");
    let cost = run_process(Command::new(program).arg(CHILD).args([
        &plan,
        &station.file("journal.jsonl"),
        &station.file("report.json"),
        &count,
    ]))?;
    let exchanges = std::fs::read_to_string(&count).ok().and_then(|text| text.parse().ok());
    Ok((cost, exchanges.ok_or("the child told no number of exchanges")?))
}

/// The process that is measured: plan, journal, report, and where to write the number of exchanges.
pub(crate) fn child(arguments: &[String]) -> ExitCode {
    let [plan, journal, report, count] = arguments else { return ExitCode::from(2) };
    match run_fleet(Path::new(plan), Path::new(journal), Path::new(report)) {
        Ok(exchanges) if std::fs::write(count, exchanges.to_string()).is_ok() => ExitCode::SUCCESS,
        _ => ExitCode::FAILURE,
    }
}

fn run_fleet(plan: &Path, journal: &Path, report: &Path) -> Result<u64, String> {
    let plan = Arc::new(flashfleet::plan::load(plan).map_err(|error| error.to_string())?);
    let outputs = prepare_outputs(&OutputPaths {
        journal: Some(journal.to_owned()),
        json: Some(Destination::File(report.to_owned())),
        ..OutputPaths::default()
    })
    .map_err(|cause| cause.to_string())?;
    let display = Display::new(ProgressMode::None, true);
    in_system(async move {
        let MatchKind::Sim(spec) = &plan.targets[0].matcher.kind else {
            return Err("no simulated devices".to_owned());
        };
        let fleet = Arc::new(Fleet::new(spec).map_err(|error| error.to_string())?);
        let source = Arc::new(Simulated(Arc::clone(&fleet)));
        let run = Run::new(plan).with_source(source).with_outputs(outputs).with_display(display);
        let finished = run.run().await.map_err(|cause| cause.to_string())?;
        if finished.outcome() != Outcome::Passed {
            return Err(format!("the run ended with {}", finished.outcome()));
        }
        Ok((0..fleet.len()).map(|index| fleet.device(index).total_requests()).sum())
    })
}

/// Simulated devices that are asked afterwards.
struct Simulated(Arc<Fleet>);

#[async_trait]
impl Source for Simulated {
    async fn candidates(&self, _: &PlanTarget) -> Result<Vec<Candidate>, Cause> {
        Ok(self.0.connectors().into_iter().map(Candidate::new).collect())
    }
}
