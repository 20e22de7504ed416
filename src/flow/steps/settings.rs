//! The steps settings and set-time: what was written is read back.

use std::collections::VecDeque;
use std::time::Duration;

use crate::cause::{Cause, Class};
use crate::flow::SettingAction;
use crate::plan::Settings;
use crate::report::StepDetail;
use crate::smp::Time;

use super::{Action, Facts, Outcome, StepMachine, Turn, unexpected};

/// How far a clock that was just set may be off: seconds are the finest that every device keeps, and the time is on its way
/// for a while.
const CLOCK_TOLERANCE: Duration = Duration::from_secs(5);

/// Most bytes of a value in a message.
const SHOWN: usize = 32;

/// Deletes, writes, commits, saves, and reads every written value back.
#[derive(Debug)]
pub(in crate::flow) struct SettingsStep {
    settings: Settings,
    waiting: VecDeque<SettingAction>,
    /// What was asked for last.
    current: Option<SettingAction>,
    notes: Vec<String>,
}

impl SettingsStep {
    pub(in crate::flow) fn new(settings: Settings) -> Self {
        let mut step = Self { settings, waiting: VecDeque::new(), current: None, notes: Vec::new() };
        step.retry();
        step
    }

    /// Everything to be asked, in order.
    fn all(&self) -> VecDeque<SettingAction> {
        let Settings { delete, set, commit, save } = &self.settings;
        let write = |(name, value): &(String, Vec<u8>)| SettingAction::Write {
            name: name.clone(),
            value: value.clone(),
        };
        // One byte more than was written shows a value that is longer.
        let read = |(name, value): &(String, Vec<u8>)| SettingAction::Read {
            name: name.clone(),
            most: u32::try_from(value.len()).unwrap_or(u32::MAX).saturating_add(1),
        };
        delete
            .iter()
            .cloned()
            .map(SettingAction::Delete)
            .chain(set.iter().map(write))
            .chain(commit.then_some(SettingAction::Commit))
            .chain(save.then_some(SettingAction::Save))
            .chain(set.iter().map(read))
            .collect()
    }

    fn next_action(&mut self) -> Turn {
        self.current = self.waiting.pop_front();
        match self.current.clone() {
            Some(action) => Turn::Do(Action::Setting(action)),
            None => {
                if !self.settings.delete.is_empty() {
                    let note = "the device says that it deleted what was to be deleted; no command reads the storage back";
                    self.notes.push(note.to_owned());
                }
                Turn::held(StepDetail { notes: std::mem::take(&mut self.notes), ..StepDetail::default() })
            }
        }
    }

    /// Compares what was read with what was written.
    fn check(&mut self, name: &str, actual: &[u8], most: Option<u32>) -> Result<(), Cause> {
        let written = self.settings.set.iter().find(|(written, _)| written == name);
        let expected = written.map(|(_, value)| value.as_slice()).unwrap_or_default();
        if actual == expected {
            return Ok(());
        }
        // The device gives less of a value than it keeps.
        let is_cut = most.is_some_and(|most| usize::try_from(most).is_ok_and(|most| most == actual.len()));
        if is_cut && actual.len() < expected.len() && expected.starts_with(actual) {
            self.notes.push(format!(
                "of {name} the device gives {} of {} bytes back, and those are right",
                actual.len(),
                expected.len()
            ));
            return Ok(());
        }
        Err(Cause::new(
            Class::Device,
            "settings.differs",
            format!(
                "expected {name} to be {} after it was set, the device says {}",
                show(expected),
                show(actual)
            ),
            "the application took the value and uses another: look at how it keeps this setting (`text`, `hex`, `u32` …)",
        ))
    }
}

/// A value as text where it is text, else in hexadecimal.
fn show(value: &[u8]) -> String {
    let printable = |text: &&str| !text.is_empty() && !text.chars().any(char::is_control);
    match std::str::from_utf8(value).ok().filter(printable) {
        Some(text) if value.len() <= SHOWN => format!("{text:?}"),
        _ if value.is_empty() => "empty".to_owned(),
        _ if value.len() <= SHOWN => format!("hex {}", hex::encode(value)),
        _ => format!("hex {}… ({} bytes)", hex::encode(value.get(..SHOWN).unwrap_or(value)), value.len()),
    }
}

/// Whether a refusal says that the device cannot do this at all, in both protocol versions.
fn is_not_supported(cause: &Cause, group_code: &str) -> bool {
    cause.code == group_code || cause.code == "smp.mgmt.not_supported"
}

impl StepMachine for SettingsStep {
    fn next(&mut self, facts: &mut Facts, _now: Time, outcome: Option<Outcome>) -> Turn {
        match (self.current.take(), outcome) {
            (None, None) => self.next_action(),
            (Some(SettingAction::Read { name, .. }), Some(Outcome::Setting { value, most })) => {
                match self.check(&name, &value, most) {
                    Ok(()) => self.next_action(),
                    Err(cause) => Turn::broke(cause),
                }
            }
            (Some(SettingAction::Read { name, .. }), Some(Outcome::Failed(cause)))
                if is_not_supported(&cause, "smp.settings_mgmt.read_not_supported") =>
            {
                self.notes.push(format!("{name} was written and could not be read back: {}", cause.message));
                self.next_action()
            }
            // What is not there need not be deleted.
            (Some(SettingAction::Delete(name)), Some(Outcome::Failed(cause)))
                if cause.code == "smp.settings_mgmt.key_not_found" =>
            {
                self.notes.push(format!("{name} was not there"));
                self.next_action()
            }
            (Some(action), Some(Outcome::Done)) if !matches!(action, SettingAction::Read { .. }) => {
                facts.changed = true;
                self.next_action()
            }
            (Some(_), Some(Outcome::Failed(cause))) => Turn::broke(cause),
            (_, outcome) => unexpected("settings", outcome.as_ref()),
        }
    }

    fn retry(&mut self) {
        // Every one of them does the same the second time.
        self.waiting = self.all();
        self.current = None;
        self.notes.clear();
    }
}

/// Sets the device's clock, and reads it back.
#[derive(Debug)]
pub(in crate::flow) struct SetTimeStep {
    is_set: bool,
}

impl SetTimeStep {
    pub(in crate::flow) fn new() -> Self {
        Self { is_set: false }
    }
}

impl StepMachine for SetTimeStep {
    fn next(&mut self, facts: &mut Facts, _now: Time, outcome: Option<Outcome>) -> Turn {
        match outcome {
            None => Turn::Do(Action::SetTime),
            Some(Outcome::Done) if !self.is_set => {
                self.is_set = true;
                facts.changed = true;
                Turn::Do(Action::ReadTime)
            }
            Some(Outcome::Clock { device, machine, apart }) if self.is_set => match apart {
                Some(apart) if apart <= CLOCK_TOLERANCE => {
                    let note = format!("the device's clock says {device}, this machine's {machine}");
                    Turn::held(StepDetail { notes: vec![note], ..StepDetail::default() })
                }
                Some(apart) => Turn::broke(Cause::new(
                    Class::Device,
                    "device.clock_off",
                    format!(
                        "expected the device's clock within {} s of {machine} after it was set, it says {device}: \
                         {:.0} s away",
                        CLOCK_TOLERANCE.as_secs(),
                        apart.as_secs_f64()
                    ),
                    "the device took the time and does not keep it: look at its real-time clock and its battery",
                )),
                None => Turn::broke(Cause::new(
                    Class::Device,
                    "device.clock_unreadable",
                    format!("expected a date and time such as {machine}, the device says {device:?}"),
                    "look at how the device's firmware tells its time",
                )),
            },
            Some(Outcome::Failed(cause)) if self.is_set && is_not_supported(&cause, "") => {
                let note = format!("the clock was set and could not be read back: {}", cause.message);
                Turn::held(StepDetail { notes: vec![note], ..StepDetail::default() })
            }
            Some(Outcome::Failed(cause)) => Turn::broke(cause),
            Some(outcome) => unexpected("set-time", Some(&outcome)),
        }
    }

    fn retry(&mut self) {
        self.is_set = false;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_shown_as_people_read_them() {
        assert_eq!(show(b"abc"), "\"abc\"");
        assert_eq!(show(b""), "empty");
        assert_eq!(show(&[0, 255]), "hex 00ff");
        assert_eq!(show(b"a\0"), "hex 6100");
        assert!(show(&[b'a'; 100]).ends_with("(100 bytes)"));
    }
}
