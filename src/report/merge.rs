//! Several reports as one: for stations that work on the same order, or a run and the one that mended its failures.

use std::collections::HashSet;

use super::event::{DeviceId, Outcome};
use super::model::{DeviceReport, REPORT_SCHEMA, Report, ReportNote, RunReport, Summary};
use super::names::number_doubles;
use crate::exit::Exit;

/// One report of several, by the start of their runs; `None` of none. A single one stays as it is.
///
/// Every device of every run stays, with the name of its plan, and an id that its run's id precedes; the outcome is the
/// worst. Of several reports of one run (a log and the report that was made of it) the first one that is not cut short
/// counts.
#[must_use]
pub fn merge(reports: Vec<Report>) -> Option<Report> {
    let mut reports = distinct(reports);
    if reports.len() < 2 {
        return reports.pop();
    }
    reports.sort_by_key(|report| report.run.started_at);
    let runs: Vec<RunReport> = reports.iter().flat_map(runs_of).collect();
    let ids: HashSet<String> = runs.iter().filter_map(|run| run.id.clone()).collect();
    let mut merged = Report {
        schema: REPORT_SCHEMA.to_owned(),
        run: run_of(&runs),
        summary: sent(&reports),
        targets_unmet: Vec::new(),
        devices: Vec::new(),
        notes: Vec::new(),
        runs,
    };
    for (at, report) in reports.into_iter().enumerate() {
        let prefix = report.run.id.clone().unwrap_or_else(|| format!("run {}", at + 1));
        let plan = report.run.plan.clone();
        let renamed = |id: DeviceId| DeviceId(format!("{prefix}/{id}"));
        merged.targets_unmet.extend(report.targets_unmet.into_iter().map(|mut unmet| {
            unmet.plan = unmet.plan.or_else(|| plan.clone());
            unmet
        }));
        // What a run carried over is told by the run that it is of, where that one is here, too.
        let is_told =
            |device: &DeviceReport| device.carried_from.as_ref().is_some_and(|run| ids.contains(run));
        let own = report.devices.into_iter().filter(|device| !is_told(device));
        merged.devices.extend(own.map(|mut device| {
            device.id = renamed(device.id);
            device.plan = device.plan.or_else(|| plan.clone());
            device
        }));
        merged.notes.extend(
            report.notes.into_iter().map(|note| ReportNote { device: note.device.map(renamed), ..note }),
        );
    }
    let ids = number_doubles(merged.devices.iter().map(|device| device.id.0.clone()).collect());
    for (device, id) in merged.devices.iter_mut().zip(ids) {
        device.id = DeviceId(id);
    }
    merged.devices.iter().for_each(|device| merged.summary.count(device));
    Some(merged)
}

/// One report per run.
fn distinct(reports: Vec<Report>) -> Vec<Report> {
    let mut kept: Vec<Report> = Vec::new();
    for report in reports {
        let same = kept.iter_mut().find(|other| other.run.id.is_some() && other.run.id == report.run.id);
        match same {
            Some(other) if other.run.cut_short && !report.run.cut_short => *other = report,
            Some(_) => {}
            None => kept.push(report),
        }
    }
    kept
}

fn runs_of(report: &Report) -> Vec<RunReport> {
    if report.runs.is_empty() { vec![report.run.clone()] } else { report.runs.clone() }
}

fn run_of(runs: &[RunReport]) -> RunReport {
    let started_at = runs.iter().filter_map(|run| run.started_at).min();
    let finished_at = runs
        .iter()
        .map(|run| run.finished_at)
        .collect::<Option<Vec<_>>>()
        .and_then(|ends| ends.into_iter().max());
    let outcome = runs.iter().map(|run| run.outcome).fold(Outcome::Passed, Outcome::worst);
    RunReport {
        id: None,
        plan: joined(runs.iter().filter_map(|run| run.plan.as_deref())),
        plan_sha256: common(runs.iter().map(|run| run.plan_sha256.as_deref())),
        tool_version: joined(runs.iter().filter_map(|run| run.tool_version.as_deref())),
        host: joined(runs.iter().filter_map(|run| run.host.as_deref())),
        started_at,
        finished_at,
        duration_s: started_at.zip(finished_at).map(|(start, end)| (end - start).as_seconds_f64().max(0.0)),
        outcome,
        exit_code: Exit::from(outcome).code(),
        cut_short: runs.iter().any(|run| run.cut_short),
        cause: runs.iter().filter(|run| run.outcome == outcome).find_map(|run| run.cause.clone()),
    }
}

/// What all runs sent, and how fast.
fn sent(reports: &[Report]) -> Summary {
    let mut total = Summary::default();
    let mut seconds = 0.0;
    for report in reports {
        total.bytes = total.bytes.saturating_add(report.summary.bytes);
        if let Some(rate) = report.summary.bytes_per_s.filter(|rate| *rate > 0.0) {
            seconds += report.summary.bytes as f64 / rate;
        }
    }
    total.bytes_per_s = (seconds > 0.0).then(|| super::normalise::finite(total.bytes as f64 / seconds));
    total
}

/// The different ones, in their order.
fn joined<'a>(values: impl Iterator<Item = &'a str>) -> Option<String> {
    let mut seen = HashSet::new();
    let distinct: Vec<&str> = values.filter(|value| seen.insert(*value)).collect();
    (!distinct.is_empty()).then(|| distinct.join(" + "))
}

/// What all have in common.
fn common<'a>(mut values: impl Iterator<Item = Option<&'a str>>) -> Option<String> {
    let first = values.next().flatten()?;
    values.all(|value| value == Some(first)).then(|| first.to_owned())
}
