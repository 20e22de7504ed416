//! What is known of one device so far. Steps read and write it; it decides nothing.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use crate::image::ImageSet;
use crate::report::{ImageOutcome, ImageView, UploadFigures};
use crate::smp::message::image::{ImageSlot, ImageState};

use super::proof::{Expected, Proven};
use super::slots::active;
use super::{BootMode, FlowConfig};
use crate::plan::{Auto, Bootloader};

/// Where the device is, as far as the steps took it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Place {
    /// In its application.
    Application,
    /// In its bootloader.
    Bootloader,
    /// In its application, although the plan wants it in its bootloader: nothing is to be done there.
    NotNeeded,
}

/// What is known of one device.
#[derive(Debug)]
pub(super) struct Facts {
    /// Images of the plan by name.
    pub images: BTreeMap<String, Arc<ImageSet>>,
    /// Silence after a reset.
    pub quiet: Duration,
    /// How long the device may take to come back.
    pub return_within: Duration,
    /// Whether the plan has a recovery program.
    pub can_recover: bool,
    /// The bootloader's mode, where the plan says it.
    pub planned_mode: Auto<Bootloader>,
    /// The image list when it was last read, and nothing has changed it since.
    pub state: Option<ImageState>,
    /// The bootloader's mode; outer `None` while it was not asked, inner `None` where neither device nor plan tell.
    pub mode: Option<Option<BootMode>>,
    /// Whether the device says that its bootloader refuses older versions.
    pub refuses_older: bool,
    /// What must run, by image number: set by an upload step.
    pub expected: BTreeMap<u32, Expected>,
    /// What a later reset must find again, by image number: what a test boot or a confirm proved.
    pub proven: BTreeMap<u32, Proven>,
    /// Whether anything was written to the device.
    pub changed: bool,
    /// Resets spent on settling slots.
    pub settling_resets: u32,
    /// Where it is.
    pub place: Place,
    records: BTreeMap<u32, Record>,
}

#[derive(Debug, Default)]
struct Record {
    before: Option<ImageView>,
    after: Option<ImageView>,
    upload: Option<UploadFigures>,
}

impl Facts {
    pub(super) fn new(config: &FlowConfig) -> Self {
        Self {
            images: config.images.clone(),
            quiet: config.quiet,
            return_within: config.return_within,
            can_recover: config.can_recover,
            planned_mode: config.bootloader,
            state: None,
            mode: None,
            refuses_older: false,
            expected: BTreeMap::new(),
            proven: BTreeMap::new(),
            changed: false,
            settling_resets: 0,
            place: if config.starts_in_bootloader { Place::Bootloader } else { Place::Application },
            records: BTreeMap::new(),
        }
    }

    /// Everything that is expected was seen to run, and to be confirmed where `confirmed` says so.
    pub(super) fn prove(&mut self, confirmed: bool) {
        for (&image_number, expected) in &self.expected {
            let earlier = self.proven.get(&image_number).filter(|proven| proven.expected == *expected);
            let confirmed = confirmed || earlier.is_some_and(|proven| proven.confirmed);
            self.proven.insert(image_number, Proven { expected: expected.clone(), confirmed });
        }
    }

    /// The bootloader's mode, as far as it is known.
    pub(super) fn boot_mode(&self) -> Option<BootMode> {
        self.mode.flatten()
    }

    /// Whether an image that was not confirmed gives way to the old one; so it is taken to be where nobody says the mode.
    pub(super) fn reverts(&self) -> bool {
        self.boot_mode().is_none_or(BootMode::reverts)
    }

    /// Takes an image list that was read: the first one tells what ran before.
    pub(super) fn note_state(&mut self, state: ImageState) {
        for slot in state.images.iter().filter(|slot| slot.active) {
            let record = self.records.entry(slot.image).or_default();
            if record.before.is_none() {
                record.before = Some(view(slot));
            }
            record.after = Some(view(slot));
        }
        self.state = Some(state);
    }

    /// Takes what a bootloader has in the primary slot, where nothing is known of what ran before.
    pub(super) fn note_before(&mut self, image_number: u32, slot: Option<&ImageSlot>) {
        let record = self.records.entry(image_number).or_default();
        if record.before.is_none() {
            record.before = slot.map(view);
        }
    }

    /// Forgets what runs: something happened that may have changed it.
    pub(super) fn forget_state(&mut self) {
        self.state = None;
        for record in self.records.values_mut() {
            record.after = None;
        }
    }

    pub(super) fn note_upload(&mut self, figures: UploadFigures) {
        let record = self.records.entry(figures.image_number).or_default();
        record.upload = Some(figures);
    }

    /// What the running image of an image number looks like, where it was read.
    pub(super) fn running(&self, image_number: u32) -> Option<ImageView> {
        self.state.as_ref().and_then(|state| active(state, image_number)).map(view)
    }

    /// The image number that a report of the running image is about.
    pub(super) fn main_image(&self) -> u32 {
        self.expected.keys().next().copied().unwrap_or(0)
    }

    /// Whether what runs now reverts at the next reset.
    pub(super) fn on_test(&self) -> bool {
        let reverts = self.reverts();
        self.state.as_ref().filter(|_| reverts).is_some_and(|state| {
            self.expected.values().any(|expected| {
                active(state, expected.image_number).is_some_and(|slot| {
                    !slot.confirmed && slot.hash.as_deref() == Some(expected.hash.as_slice())
                })
            })
        })
    }

    /// One entry per image number that was seen.
    pub(super) fn outcomes(&self) -> Vec<ImageOutcome> {
        self.records
            .iter()
            .map(|(&image_number, record)| ImageOutcome {
                image_number,
                before: record.before.clone(),
                after: record.after.clone(),
                upload: record.upload.clone(),
            })
            .collect()
    }
}

fn view(slot: &ImageSlot) -> ImageView {
    ImageView {
        version: slot.version.clone(),
        hash: slot.hash.as_deref().map(hex::encode),
        active: slot.active,
        confirmed: slot.confirmed,
    }
}
