//! What the display has to remember of the run: names, what runs, how far. Draws nothing.

use std::collections::HashMap;

use chrono::{DateTime, Utc};

use crate::report::event::{DeviceId, Event, EventKind, Verdict};
use crate::report::text::printable;

/// The run as the display knows it.
#[derive(Debug, Default)]
pub(super) struct Tracker {
    titles: HashMap<DeviceId, String>,
    running: HashMap<DeviceId, Running>,
    pub(super) found: usize,
    pub(super) finished: usize,
    pub(super) not_passed: usize,
    /// Bytes that progress told of, over all devices.
    pub(super) moved: u64,
}

/// One device that is being worked on.
#[derive(Debug, Clone, Default)]
pub(super) struct Running {
    pub(super) title: String,
    pub(super) step: String,
    /// The last step that did not pass.
    pub(super) failed_step: Option<String>,
    pub(super) done: u64,
    pub(super) total: u64,
    pub(super) since: Option<DateTime<Utc>>,
}

impl Tracker {
    /// Counts an event in; for a device's last one gives what was known of it.
    pub(super) fn on(&mut self, event: &Event) -> Option<Running> {
        if let (EventKind::DeviceFound { target, address, identity, .. }, Some(id)) =
            (&event.kind, &event.device)
        {
            let title = format!("{target} {}", identity.slot_name().unwrap_or(address));
            self.found += usize::from(self.titles.insert(id.clone(), printable(&title)).is_none());
            return None;
        }
        let id = event.device.as_ref()?;
        match &event.kind {
            EventKind::DeviceStarted { .. } => {
                let title = self.title(id);
                let running = self.running.entry(id.clone()).or_default();
                *running = Running { title, since: running.since.or(Some(event.at)), ..Running::default() };
            }
            EventKind::StepStarted { name, .. } => {
                if let Some(running) = self.running.get_mut(id) {
                    running.step = printable(name);
                    (running.done, running.total) = (0, 0);
                }
            }
            EventKind::StepFinished(step) if step.verdict != Verdict::Passed => {
                if let Some(running) = self.running.get_mut(id) {
                    running.failed_step = Some(printable(&step.name));
                }
            }
            EventKind::DeviceFinished { verdict, .. } => {
                self.finished += 1;
                self.not_passed += usize::from(*verdict != Verdict::Passed);
                let title = self.title(id);
                return Some(self.running.remove(id).unwrap_or(Running { title, ..Running::default() }));
            }
            _ => {}
        }
        None
    }

    pub(super) fn progress(&mut self, id: &DeviceId, done: u64, total: u64) {
        if let Some(running) = self.running.get_mut(id) {
            self.moved = self.moved.saturating_add(done.saturating_sub(running.done));
            (running.done, running.total) = (done, total);
        }
    }

    pub(super) fn running(&self) -> usize {
        self.running.len()
    }

    pub(super) fn get(&self, id: &DeviceId) -> Option<&Running> {
        self.running.get(id)
    }

    fn title(&self, id: &DeviceId) -> String {
        self.titles.get(id).cloned().unwrap_or_else(|| printable(&id.0))
    }
}
