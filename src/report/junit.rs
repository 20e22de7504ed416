//! JUnit XML from a report. Layout and names only: every verdict is made elsewhere.
//!
//! What the common readers do decides the layout. Jenkins drops a suite whose name came before, GitLab a case whose
//! class name and name came before: names are unique. GitLab shows only an element's text, others only its `message`
//! attribute: both are filled. Suites are not nested and every suite and case has a `time`, as dorny/test-reporter
//! needs both. No `file` attribute: devices are no source files, and readers would look for one.
//!
//! | report | JUnit |
//! | --- | --- |
//! | run | `testsuites` |
//! | device | `testsuite`, named like its cases' `classname`, with `properties` |
//! | planned step | `testcase`; `skipped` with the reason where it was not reached |
//! | device that did not pass though no step says so (no connection, deadline, panic) | `testcase` `device` |
//! | target that found too few or too many devices | `testsuite` `plan.target` with the `testcase` `expect` |
//! | run that did not pass for a reason of its own | `testsuite` `plan` with the `testcase` `run` |

use std::time::Duration;

use quick_junit::{NonSuccessKind, Property, TestCase, TestCaseStatus, TestRerun, TestSuite, XmlString};

use super::diagnosis::{LimitedBy, Setting};
use super::event::{ImageView, Outcome, UploadFigures, Verdict};
use super::model::{DeviceReport, ON_TEST, Report, StepReport, UnmetTarget};
use super::names;
use crate::cause::Cause;

/// The report as JUnit XML.
#[must_use]
pub fn to_junit(report: &Report) -> String {
    let mut junit = quick_junit::Report::new(xml(report.run.plan.as_deref().unwrap_or("flashfleet")));
    junit.time = Some(duration(report.run.duration_s));
    junit.timestamp = report.run.started_at.map(Into::into);
    let mut suites: Vec<TestSuite> =
        report.targets_unmet.iter().map(|unmet| target_suite(report, unmet)).collect();
    for (device, name) in report.devices.iter().zip(names::class_names(report)) {
        suites.push(device_suite(device, &name));
    }
    let told = suites.iter().any(|suite| suite.failures + suite.errors > 0);
    suites.extend(run_suite(report, told));
    // Several targets of one name come from merged reports.
    let suite_names = suites.iter().map(|suite| suite.name.as_str().to_owned()).collect();
    for (mut suite, name) in suites.into_iter().zip(names::number_doubles(suite_names)) {
        if suite.name.as_str() != name {
            suite.name = xml(&name);
            suite.test_cases.iter_mut().for_each(|case| case.classname = Some(xml(&name)));
        }
        junit.add_test_suite(suite);
    }
    // Serialising into memory cannot fail: every string is UTF-8, and no writer is involved.
    junit.to_string().unwrap_or_default()
}

/// One suite per device.
fn device_suite(device: &DeviceReport, class: &str) -> TestSuite {
    let mut suite = TestSuite::new(xml(class));
    suite.time = Some(duration(device.duration_s));
    suite.timestamp = device.started_at.map(Into::into);
    properties(device).into_iter().for_each(|(name, value)| {
        suite.add_property(Property::new(xml(&name), xml(&value)));
    });
    let step_names =
        names::number_doubles(device.steps.iter().map(|step| names::clean(&step.name)).collect());
    for (step, name) in device.steps.iter().zip(&step_names) {
        suite.add_test_case(step_case(device, step, name, class));
    }
    if !shows_verdict(&suite, device) {
        let mut taken = step_names;
        taken.push("device".to_owned());
        let name = names::number_doubles(taken).pop().unwrap_or_default();
        let status = status(device, Some(device.verdict), device.cause.as_ref());
        let mut case = case(&name, class, status);
        case.time = Some(duration(device.duration_s));
        suite.add_test_case(case);
    }
    if device.on_test {
        suite.set_system_out(ON_TEST);
    }
    suite
}

/// Whether the cases so far tell how the device ended.
fn shows_verdict(suite: &TestSuite, device: &DeviceReport) -> bool {
    match status(device, Some(device.verdict), None) {
        TestCaseStatus::Success { .. } => !suite.test_cases.is_empty(),
        TestCaseStatus::NonSuccess { .. } => suite.failures + suite.errors > 0,
        TestCaseStatus::Skipped { .. } => device.failed_step().is_some(),
    }
}

fn step_case(device: &DeviceReport, step: &StepReport, name: &str, class: &str) -> TestCase {
    let status = match step.verdict {
        Some(verdict) => {
            let mut status = status(device, Some(verdict), step.cause.as_ref().or(device.cause.as_ref()));
            step.retries.iter().for_each(|retry| {
                status.add_rerun(rerun(&retry.cause));
            });
            status
        }
        None => skipped(&not_reached(device)),
    };
    let mut case = case(name, class, status);
    case.time = Some(duration(step.duration_s));
    case.timestamp = step.started_at.map(Into::into);
    let detail = &step.detail;
    let out: Vec<&str> =
        detail.skipped.iter().chain(&detail.notes).chain(&detail.output).map(String::as_str).collect();
    if !out.is_empty() {
        case.system_out = Some(xml(&out.join("\n")));
    }
    case
}

/// Why a step was not reached.
fn not_reached(device: &DeviceReport) -> String {
    let verdict = device.verdict;
    match (device.failed_step(), &device.cause) {
        (Some(failed), _) => format!("not reached: step '{}' {}", failed.name, ended(failed.verdict)),
        (None, Some(cause)) => format!("not reached: the device {}: {cause}", ended(Some(verdict))),
        (None, None) => format!("not reached: the device {}", ended(Some(verdict))),
    }
}

fn ended(verdict: Option<Verdict>) -> &'static str {
    match verdict {
        Some(Verdict::Passed) => "passed",
        Some(Verdict::Failed) => "failed",
        Some(Verdict::Error) => "ended with an error",
        Some(Verdict::TimedOut) => "timed out",
        Some(Verdict::Aborted) => "was aborted",
        None => "was not reached",
    }
}

/// The verdict table: `failed` is a failure, `error` and `timed_out` are errors, `aborted` is skipped where nothing
/// was written to the device, else an error.
fn status(device: &DeviceReport, verdict: Option<Verdict>, cause: Option<&Cause>) -> TestCaseStatus {
    let kind = match verdict {
        Some(Verdict::Passed) => return TestCaseStatus::success(),
        Some(Verdict::Aborted) if device.changed == Some(false) => None,
        Some(Verdict::Failed) => Some(NonSuccessKind::Failure),
        Some(Verdict::Error | Verdict::TimedOut | Verdict::Aborted) => Some(NonSuccessKind::Error),
        None => None,
    };
    let mut status = kind.map_or_else(TestCaseStatus::skipped, TestCaseStatus::non_success);
    match cause {
        Some(cause) => tell(&mut status, cause, Some(device)),
        None => {
            let message = format!("{} without a cause", ended(verdict));
            status.set_message(xml(&message)).set_description(xml(&message));
        }
    }
    status
}

/// Cause in the attribute and, with its help, in the body.
fn tell(status: &mut TestCaseStatus, cause: &Cause, device: Option<&DeviceReport>) {
    let mut body = format!("{cause}\nhelp: {}", cause.help);
    if let Some(device) = device {
        body.push_str(&format!("\ndevice: {} at {}", device.title(), device.address));
    }
    status.set_message(xml(&cause.to_string())).set_type(xml(&cause.code)).set_description(xml(&body));
}

/// An attempt that was followed by another: `flakyFailure` where that one passed, else `rerunFailure`.
fn rerun(cause: &Cause) -> TestRerun {
    let mut rerun = TestRerun::new(NonSuccessKind::Failure);
    rerun.set_message(xml(&cause.to_string())).set_type(xml(&cause.code));
    rerun.set_description(xml(&format!("{cause}\nhelp: {}", cause.help)));
    rerun
}

fn skipped(reason: &str) -> TestCaseStatus {
    let mut status = TestCaseStatus::skipped();
    status.set_message(xml(reason)).set_description(xml(reason));
    status
}

fn target_suite(report: &Report, unmet: &UnmetTarget) -> TestSuite {
    let plan = unmet.plan.as_deref().or(report.run.plan.as_deref()).unwrap_or("unknown");
    let name = names::join(&[plan, &unmet.target]);
    let mut status = TestCaseStatus::non_success(NonSuccessKind::Error);
    tell(&mut status, &unmet.cause, None);
    single_case_suite(&name, "expect", status)
}

/// The run itself, where it has a cause of its own or nothing else would tell that it did not pass.
fn run_suite(report: &Report, told: bool) -> Option<TestSuite> {
    let run = &report.run;
    let passed = run.outcome == Outcome::Passed;
    if run.cause.is_none() && (passed || told) {
        return None;
    }
    let mut status =
        if passed { TestCaseStatus::success() } else { TestCaseStatus::non_success(NonSuccessKind::Error) };
    match &run.cause {
        Some(cause) => tell(&mut status, cause, None),
        None => {
            let message = format!("the run ended: {} (exit code {})", run.outcome, run.exit_code);
            status.set_message(xml(&message)).set_description(xml(&message));
        }
    }
    let name = names::join(&[run.plan.as_deref().unwrap_or("unknown")]);
    Some(single_case_suite(&name, "run", status))
}

fn single_case_suite(name: &str, case_name: &str, status: TestCaseStatus) -> TestSuite {
    let mut suite = TestSuite::new(xml(name));
    suite.time = Some(Duration::ZERO);
    let mut case = case(case_name, name, status);
    case.time = Some(Duration::ZERO);
    suite.add_test_case(case);
    suite
}

fn case(name: &str, class: &str, status: TestCaseStatus) -> TestCase {
    let mut case = TestCase::new(xml(name), status);
    case.set_classname(xml(class));
    case
}

/// What is known of the device: only what is known.
fn properties(device: &DeviceReport) -> Vec<(String, String)> {
    let usb = device.identity.usb.as_ref();
    let ble = device.identity.ble.as_ref();
    let named = [
        ("address", Some(device.address.clone())),
        ("usb", usb.map(crate::identity::UsbIdentity::id)),
        ("serial_number", usb.and_then(|usb| usb.serial_number.clone())),
        ("product", usb.and_then(|usb| usb.product.clone())),
        ("hub_path", usb.and_then(|usb| usb.hub_path.clone())),
        ("ble_name", ble.and_then(|ble| ble.name.clone())),
        ("ble_address", ble.map(|ble| ble.address.clone())),
        ("verdict", Some(device.verdict.as_str().to_owned())),
        ("changed", device.changed.map(|changed| changed.to_string())),
        ("on_test", device.on_test.then(|| ON_TEST.to_owned())),
        ("carried_from", device.carried_from.clone()),
        ("attempts", Some(device.attempts.to_string())),
        ("bytes_per_s", device.bytes_per_s().map(|rate| format!("{rate:.0}"))),
    ];
    let mut properties: Vec<(String, String)> =
        named.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?))).collect();
    for image in &device.images {
        properties
            .extend(image.upload.iter().flat_map(|upload| upload_properties(image.image_number, upload)));
        for (when, view) in [("before", &image.before), ("after", &image.after)] {
            if let Some(view) = view {
                properties.push((format!("image_{}_{when}", image.image_number), image_text(view)));
            }
        }
    }
    properties
}

/// What limited an upload: only what is known.
fn upload_properties(image_number: u32, upload: &UploadFigures) -> Vec<(String, String)> {
    let diagnosis = upload.diagnosis.as_ref().filter(|diagnosis| diagnosis.limited_by != LimitedBy::Unknown);
    let setting = diagnosis.and_then(|diagnosis| diagnosis.setting.as_ref());
    let rate = |rate: Option<f64>| rate.map(|rate| format!("{rate:.0}"));
    let named = [
        ("link_limit_bytes_per_s", rate(upload.link_limit_bytes_per_s)),
        ("limited_by", diagnosis.map(|diagnosis| diagnosis.limited_by.as_str().to_owned())),
        ("setting", setting.map(Setting::assignment)),
        ("setting_bytes_per_s", rate(setting.and_then(|setting| setting.bytes_per_s))),
    ];
    let name = |name: &str| format!("image_{image_number}_upload_{name}");
    named.into_iter().filter_map(|(key, value)| Some((name(key), value?))).collect()
}

fn image_text(view: &ImageView) -> String {
    match &view.hash {
        Some(hash) => format!("{} {hash}", view.version),
        None => view.version.clone(),
    }
}

/// Seconds as JUnit wants them; 0 where they are not known, as some readers show NaN otherwise.
fn duration(seconds: Option<f64>) -> Duration {
    Duration::try_from_secs_f64(super::normalise::finite(seconds.unwrap_or(0.0))).unwrap_or_default()
}

/// Text that XML 1.0 can carry. The crate drops control characters and terminal sequences, tabs among them, but not
/// the two noncharacters that XML forbids (XML 1.0, section 2.2).
pub(super) fn xml(text: &str) -> XmlString {
    XmlString::new(text.replace('\t', "    ").replace(['\u{fffe}', '\u{ffff}'], "\u{fffd}"))
}
