//! A model of one board with two slots, and a walk of a flow over it.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use flashfleet::cause::{Cause, Class};
use flashfleet::flow::{
    Action, DeviceResult, Directive, Flow, FlowConfig, FlowEvent, Outcome, SettingAction, StepEnded,
};
use flashfleet::image::{Image, ImageBuilder, ImageSet};
use flashfleet::plan::{Auto, Step};
use flashfleet::report::{Departure, UploadFigures};
use flashfleet::smp::message::image::{ImageSlot, ImageState, SlotInfoImage, SlotInfoResponse, SlotInfoSlot};

/// What the bootloader does with a pending image.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Boot {
    /// Swaps it in.
    Swaps,
    /// Swaps it in, it crashes, and the old one is back.
    Reverts,
    /// Never comes back.
    Hangs,
    /// Resets later than anybody expects: at the n-th look.
    Late(u32),
}

/// One board.
#[derive(Debug, Clone)]
pub(crate) struct Board {
    pub(crate) primary: ImageSlot,
    pub(crate) secondary: Option<ImageSlot>,
    pub(crate) boot: Boot,
    pub(crate) mode: Option<i32>,
    pub(crate) no_downgrade: bool,
    pub(crate) slot_size: Option<u64>,
    pub(crate) left: Departure,
    /// Whether a reset's answer comes, one entry per reset; `true` afterwards.
    pub(crate) reset_answers: VecDeque<bool>,
    /// Whether a reset takes effect, one entry per reset; `true` afterwards.
    pub(crate) reset_acts: VecDeque<bool>,
    /// Outcomes that are given instead of the board's own, by the name of the action.
    pub(crate) instead: Vec<(&'static str, Outcome)>,
    /// A confirm is accepted and forgotten.
    pub(crate) forgets_confirm: bool,
    /// A confirmed image goes away at the next reset all the same.
    pub(crate) loses_confirmed: bool,
    /// A confirmed image runs on after the next reset, but is not confirmed any more.
    pub(crate) unconfirms: bool,
    /// An upload is accepted and does not arrive.
    pub(crate) drops_uploads: bool,
    /// The link breaks at this reading of the image list, counted from 0.
    pub(crate) break_read: Option<usize>,
    pub(crate) resets: u32,
    pub(crate) actions: Vec<Action>,
    pub(crate) late: Option<u32>,
    pub(crate) image: Arc<Image>,
    /// It is in its bootloader.
    pub(crate) in_recovery: bool,
    /// A reset into the bootloader leads there.
    pub(crate) takes_boot_mode: bool,
    /// What its bootloader answers to the console echo command.
    pub(crate) knows_echo: Option<bool>,
    /// A reset out of the bootloader leads to the application.
    pub(crate) boots: bool,
}

/// The image that tests upload.
pub(crate) fn new_image() -> Arc<Image> {
    let bytes = ImageBuilder::new().version("2.0.0").payload(&[7; 64]).build();
    Arc::new(Image::from_bytes(bytes).expect("the builder makes valid images"))
}

/// Another image of the same plan, named `other`.
pub(crate) fn other_image() -> Arc<Image> {
    let bytes = ImageBuilder::new().version("3.0.0").payload(&[8; 64]).build();
    Arc::new(Image::from_bytes(bytes).expect("the builder makes valid images"))
}

pub(crate) fn slot(number: u32, version: &str, hash: &[u8]) -> ImageSlot {
    ImageSlot {
        slot: number,
        version: version.to_owned(),
        hash: Some(hash.to_vec()),
        bootable: true,
        ..ImageSlot::default()
    }
}

impl Board {
    /// Version 1.0.0, confirmed, nothing in the secondary slot.
    pub(crate) fn new() -> Self {
        Self {
            primary: ImageSlot { active: true, confirmed: true, ..slot(0, "1.0.0", &[1; 32]) },
            secondary: None,
            boot: Boot::Swaps,
            mode: Some(3),
            no_downgrade: false,
            slot_size: Some(100_000),
            left: Departure::Silent,
            reset_answers: VecDeque::new(),
            reset_acts: VecDeque::new(),
            instead: Vec::new(),
            forgets_confirm: false,
            loses_confirmed: false,
            unconfirms: false,
            drops_uploads: false,
            break_read: None,
            resets: 0,
            actions: Vec::new(),
            late: None,
            image: new_image(),
            in_recovery: false,
            takes_boot_mode: true,
            knows_echo: Some(true),
            boots: true,
        }
    }

    pub(crate) fn state(&self) -> ImageState {
        let mut images = vec![self.primary.clone()];
        if self.in_recovery {
            // The recovery runs nothing, and this one tells no states.
            images = vec![ImageSlot { active: false, confirmed: false, ..self.primary.clone() }];
        }
        images.extend(self.secondary.clone());
        ImageState { images, split_status: None }
    }

    fn swap(&mut self) {
        let Some(new) = self.secondary.take() else { return };
        let old = std::mem::replace(&mut self.primary, new);
        let on_test = !self.primary.permanent;
        self.primary = ImageSlot {
            slot: 0,
            active: true,
            pending: false,
            permanent: false,
            confirmed: !on_test,
            ..self.primary.clone()
        };
        self.secondary =
            Some(ImageSlot { slot: 1, active: false, confirmed: on_test, pending: false, ..old });
    }

    fn reboot(&mut self) {
        self.resets += 1;
        if self.unconfirms && self.primary.confirmed {
            self.primary.confirmed = self.resets == 1;
            if self.resets > 1 {
                return;
            }
        }
        let pending = self.secondary.as_ref().is_some_and(|slot| slot.pending);
        if pending {
            match self.boot {
                Boot::Swaps => self.swap(),
                Boot::Reverts => {
                    if let Some(slot) = self.secondary.as_mut() {
                        slot.pending = false;
                    }
                }
                Boot::Hangs => {}
                Boot::Late(looks) => self.late = Some(looks),
            }
        } else if !self.primary.confirmed || self.loses_confirmed {
            // A revert is a swap that stays.
            if let Some(slot) = self.secondary.as_mut() {
                slot.permanent = true;
            }
            self.swap();
        }
    }

    fn look(&mut self) -> ImageState {
        if let Some(looks) = self.late.as_mut() {
            if *looks == 0 {
                self.late = None;
                self.swap();
            } else {
                *looks -= 1;
            }
        }
        self.state()
    }

    pub(crate) fn name(action: &Action) -> &'static str {
        match action {
            Action::ReadState => "read",
            Action::ReadMode => "mode",
            Action::ReadSlots => "slots",
            Action::Upload { .. } => "upload",
            Action::UploadToPrimary { .. } => "upload-to-primary",
            Action::AskConsoleEcho => "who",
            Action::MarkForTest { .. } => "mark",
            Action::Confirm { .. } => "confirm",
            Action::Erase { .. } => "erase",
            Action::Reset { .. } => "reset",
            Action::AwaitReturn { .. } => "await",
            Action::Echo { .. } => "echo",
            Action::Wait(_) => "wait",
            Action::RunProgram { .. } => "run",
            Action::Recover => "recover",
            Action::MarkToStay { .. } => "mark-to-stay",
            Action::Shell { .. } => "shell",
            Action::CompareFile { .. } => "compare",
            Action::PutFile { .. } => "put",
            Action::GetFile { .. } => "get",
            Action::Setting(SettingAction::Delete(_)) => "delete",
            Action::Setting(SettingAction::Write { .. }) => "write",
            Action::Setting(SettingAction::Commit) => "commit",
            Action::Setting(SettingAction::Save) => "save",
            Action::Setting(SettingAction::Read { .. }) => "read-setting",
            Action::SetTime => "set-time",
            Action::ReadTime => "read-time",
            Action::EraseStorage => "erase-storage",
            Action::Smp { .. } => "smp",
        }
    }

    /// The names of the actions so far, one word each.
    pub(crate) fn trail(&self) -> String {
        self.actions.iter().map(Self::name).collect::<Vec<_>>().join(" ")
    }

    /// Does what the action says, as this board would.
    pub(crate) fn act(&mut self, action: &Action) -> Outcome {
        let reads = self.actions.iter().filter(|done| **done == Action::ReadState).count();
        self.actions.push(action.clone());
        if *action == Action::ReadState && self.break_read == Some(reads) {
            return link_failure();
        }
        let name = Self::name(action);
        if let Some(position) = self.instead.iter().position(|(wanted, _)| *wanted == name) {
            return self.instead.remove(position).1;
        }
        match action {
            Action::ReadState => Outcome::State(self.look()),
            Action::ReadMode => Outcome::Mode { mode: self.mode, no_downgrade: self.no_downgrade },
            Action::ReadSlots => Outcome::Slots(self.slot_size.map(|size| SlotInfoResponse {
                images: vec![SlotInfoImage {
                    slots: vec![
                        SlotInfoSlot { slot: 0, size: Some(size), ..SlotInfoSlot::default() },
                        SlotInfoSlot {
                            slot: 1,
                            size: Some(size),
                            upload_image_id: Some(0),
                            ..SlotInfoSlot::default()
                        },
                    ],
                    ..SlotInfoImage::default()
                }],
            })),
            Action::Upload { image, .. } => {
                let image = if image == "other" { other_image() } else { Arc::clone(&self.image) };
                if !self.drops_uploads {
                    self.secondary = Some(slot(1, image.version(), image.hash()));
                }
                Outcome::Uploaded { figures: figures(), notes: Vec::new() }
            }
            Action::UploadToPrimary { .. } => {
                assert!(self.in_recovery, "only a bootloader writes the primary slot");
                if !self.drops_uploads {
                    self.primary = slot(0, self.image.version(), self.image.hash());
                }
                Outcome::Uploaded { figures: figures(), notes: Vec::new() }
            }
            Action::AskConsoleEcho => {
                Outcome::ConsoleEcho(if self.in_recovery { self.knows_echo } else { Some(false) })
            }
            Action::MarkForTest { hash } => {
                if let Some(slot) = self.secondary.as_mut().filter(|slot| slot.hash.as_ref() == Some(hash)) {
                    slot.pending = true;
                }
                Outcome::State(self.state())
            }
            Action::MarkToStay { hash } => {
                if let Some(slot) = self.secondary.as_mut().filter(|slot| slot.hash.as_ref() == Some(hash)) {
                    slot.pending = true;
                    slot.permanent = !self.forgets_confirm;
                }
                if self.primary.hash.as_ref() == Some(hash) {
                    self.primary.confirmed = true;
                }
                Outcome::State(self.state())
            }
            Action::Confirm { hash } => {
                assert_eq!(
                    self.primary.hash.as_ref(),
                    Some(hash),
                    "only the running image is ever confirmed"
                );
                if !self.forgets_confirm {
                    self.primary.confirmed = true;
                    if let Some(slot) = self.secondary.as_mut() {
                        slot.confirmed = false;
                    }
                }
                Outcome::State(self.state())
            }
            Action::Erase { .. } => {
                self.secondary = None;
                Outcome::Done
            }
            Action::Reset { boot_mode, .. } if self.in_recovery || *boot_mode == Some(1) => {
                self.resets += 1;
                let stays = self.in_recovery && !self.boots;
                self.in_recovery = stays || (!self.in_recovery && self.takes_boot_mode);
                (self.primary.active, self.primary.confirmed) = (true, true);
                Outcome::ResetSent { answered: self.reset_answers.pop_front().unwrap_or(true) }
            }
            Action::Reset { .. } => {
                let answered = self.reset_answers.pop_front().unwrap_or(true);
                if self.reset_acts.pop_front().unwrap_or(true) {
                    self.reboot();
                }
                Outcome::ResetSent { answered }
            }
            Action::AwaitReturn { .. } => {
                if self.boot == Boot::Hangs && self.secondary.as_ref().is_some_and(|slot| slot.pending) {
                    Outcome::NeverReturned { left: self.left, seen: None }
                } else {
                    Outcome::Returned { left: self.left }
                }
            }
            Action::Echo { text } => Outcome::Echoed(text.clone()),
            Action::Recover => {
                // Power-cycled: the bootloader gives up on the pending image.
                if let Some(slot) = self.secondary.as_mut() {
                    slot.pending = false;
                }
                Outcome::Done
            }
            Action::Wait(_) | Action::SetTime | Action::EraseStorage => Outcome::Done,
            Action::Shell { .. } => Outcome::Printed { output: "PASS\r\n".to_owned(), returned: 0 },
            Action::CompareFile { .. } => Outcome::Compared(None),
            Action::PutFile { .. } => {
                Outcome::FilePut { bytes: 5, resumed: 0, checked: Some("crc32".to_owned()) }
            }
            Action::GetFile { .. } => Outcome::FileGot { bytes: 5, path: "a.txt".to_owned() },
            Action::Setting(SettingAction::Read { .. }) => {
                Outcome::Setting { value: b"x".to_vec(), most: None }
            }
            Action::Setting(_) => Outcome::Done,
            Action::ReadTime => Outcome::Clock {
                device: "2026-11-25T12:00:00".to_owned(),
                machine: "2026-11-25T12:00:01".to_owned(),
                apart: Some(Duration::from_secs(1)),
            },
            Action::Smp { .. } => {
                Outcome::Answered { answer: serde_json::json!({ "n": 1, "s": "x" }), refusal: None }
            }
            Action::RunProgram { .. } => Outcome::ProgramEnded { code: Some(0), output: String::new() },
        }
    }
}

pub(crate) fn figures() -> UploadFigures {
    UploadFigures {
        image_number: 0,
        bytes: 1,
        duration_s: 1.0,
        bytes_per_s: 1.0,
        window: 1,
        frame_bytes: 1,
        resent: 0,
        link_limit_bytes_per_s: None,
        diagnosis: None,
    }
}

pub(crate) fn upload() -> Step {
    Step::Upload { image: "app".to_owned(), image_number: 0, upgrade_only: false, force: false }
}

pub(crate) fn reset() -> Step {
    Step::Reset { force: false, boot_mode: None }
}

/// The steps that a plan has where it names none.
pub(crate) fn default_steps() -> Vec<Step> {
    vec![upload(), Step::TestBoot, Step::Confirm, reset()]
}

pub(crate) fn set(image: Arc<Image>) -> Arc<ImageSet> {
    Arc::new(ImageSet::from(image))
}

pub(crate) fn config(steps: Vec<Step>) -> FlowConfig {
    FlowConfig {
        steps,
        images: BTreeMap::from([
            ("app".to_owned(), set(new_image())),
            ("other".to_owned(), set(other_image())),
        ]),
        quiet: Duration::from_secs(1),
        return_within: Duration::from_secs(30),
        attempts: 1,
        can_recover: false,
        starts_in_bootloader: false,
        bootloader: Auto::Auto,
    }
}

/// Everything that a walk leaves.
#[derive(Debug)]
pub(crate) struct Walk {
    pub(crate) result: DeviceResult,
    pub(crate) ended: Vec<StepEnded>,
    pub(crate) retried: u32,
}

impl Walk {
    pub(crate) fn code(&self) -> &str {
        self.result.cause.as_ref().map_or("", |cause| cause.code.as_ref())
    }
}

/// Walks a flow over the board. Every action takes a tenth of a second, a wait as long as it says.
pub(crate) fn walk(board: &mut Board, config: &FlowConfig) -> Walk {
    walk_by(|action| board.act(action), config)
}

/// The same with whatever acts for the device.
pub(crate) fn walk_by(mut act: impl FnMut(&Action) -> Outcome, config: &FlowConfig) -> Walk {
    let mut flow = Flow::new(config);
    let mut now = Duration::ZERO;
    let (mut ended, mut retried) = (Vec::new(), 0);
    for _ in 0..2_000 {
        match flow.next(now) {
            Directive::Perform(action) => {
                now += if let Action::Wait(time) = action { time } else { Duration::from_millis(100) };
                flow.handle(act(&action));
            }
            Directive::Tell(FlowEvent::StepEnded(step)) => ended.push(*step),
            Directive::Tell(FlowEvent::StepRetried { .. }) => retried += 1,
            Directive::Tell(FlowEvent::StepStarted { .. }) => {}
            Directive::Finished(result) => return Walk { result, ended, retried },
        }
    }
    panic!("the flow did not end");
}

/// Walks the default steps.
pub(crate) fn walk_default(board: &mut Board) -> Walk {
    walk(board, &config(default_steps()))
}

pub(crate) fn link_failure() -> Outcome {
    Outcome::Failed(Cause::new(Class::Link, "link.no_answer", "expected an answer", "look"))
}
