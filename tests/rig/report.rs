//! What a run of flashfleet reports: exit code, JSON report, JUnit report. How it is run is each rig's own.

use std::fmt::Display;

use serde_json::Value;

use crate::error::{Context, Result, RigError};

/// A run that ended.
#[derive(Debug)]
pub(crate) struct Run {
    /// The exit code.
    pub(crate) code: i32,
    /// The JSON report.
    pub(crate) report: Value,
    /// The JUnit report.
    pub(crate) junit: String,
    /// What was said to people.
    pub(crate) said: String,
}

impl Run {
    /// From what a run left. Its reports have to be whole: the exit code in the report is the program's, and JUnit has
    /// one case per planned step of each device.
    pub(crate) fn new(code: i32, report: &str, junit: String, said: String) -> Result<Self> {
        let report = serde_json::from_str(report).context(format!("JSON report; it said:\n{said}"))?;
        let run = Self { code, report, junit, said };
        run.check_whole()?;
        Ok(run)
    }

    /// The device with this address, for example `tcp:127.0.0.1:4001`.
    pub(crate) fn device(&self, address: impl Display) -> Result<&Value> {
        let address = address.to_string();
        let mut found = self.devices().iter().filter(|device| device["address"] == address.as_str());
        match (found.next(), found.next()) {
            (Some(device), None) => Ok(device),
            _ => Err(RigError::new(format!("expected one device at {address}\n{self}"))),
        }
    }

    /// Every device of the report.
    pub(crate) fn devices(&self) -> &[Value] {
        self.report["devices"].as_array().map_or(&[], Vec::as_slice)
    }

    fn check_whole(&self) -> Result<()> {
        if self.report["run"]["exit_code"] != self.code {
            return Err(RigError::new(format!("the report has another exit code than the program\n{self}")));
        }
        let junit = roxmltree::Document::parse(&self.junit).context("JUnit report")?;
        let tags =
            |name: &'static str| junit.descendants().filter(move |node| node.has_tag_name(name)).count();
        let steps: usize =
            self.devices().iter().filter_map(|device| device["steps"].as_array()).map(Vec::len).sum();
        // What is wrong with the run as a whole is a suite of its own, and so is each target that was not met.
        let unmet = self.report["targets_unmet"].as_array().map_or(0, Vec::len);
        let whole = usize::from(!self.report["run"]["cause"].is_null()) + unmet;
        // What ended a device before or between its steps is a case of its own.
        let beside = self.devices().iter().filter(|device| !shows_in_a_step(device)).count();
        if (tags("testsuite"), tags("testcase")) != (self.devices().len() + whole, steps + beside + whole) {
            let junit = &self.junit;
            return Err(RigError::new(format!("JUnit and JSON report differ\n{self}\n{junit}")));
        }
        Ok(())
    }
}

/// Everything that helps to understand why a test failed.
impl Display for Run {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "exit code {}\n{}\n{:#}", self.code, self.said, self.report)
    }
}

/// Whether a device passed, or one of its steps did not.
fn shows_in_a_step(device: &Value) -> bool {
    let mut verdicts = device["steps"].as_array().into_iter().flatten().map(|step| &step["verdict"]);
    device["verdict"] == "passed" || verdicts.any(|verdict| !verdict.is_null() && verdict != "passed")
}

/// The step of a device's report with this name.
pub(crate) fn step<'a>(device: &'a Value, name: &str) -> Result<&'a Value> {
    let steps = device["steps"].as_array().into_iter().flatten();
    steps
        .into_iter()
        .find(|step| step["name"] == name)
        .ok_or_else(|| RigError::new(format!("expected a step {name} in {device:#}")))
}
