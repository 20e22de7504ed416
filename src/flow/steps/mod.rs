//! One state machine per kind of step. Nothing about sequences of steps lives here.

mod bootloader;
mod confirm;
mod files;
mod leave;
mod once;
mod reboot;
mod recovery_upload;
mod reset;
mod settings;
mod simple;
mod test_boot;
mod turn;
mod upload;

pub(super) use bootloader::{EnterBootloaderStep, Planned};
pub(super) use files::{GetStep, PutStep};
pub(super) use leave::LeaveBootloaderStep;
pub(super) use once::{EraseStorageStep, ShellStep, SmpStep};
pub(super) use recovery_upload::RecoveryUploadStep;
pub(super) use settings::{SetTimeStep, SettingsStep};
pub(super) use simple::{DelayStep, EraseStep, RunStep, VerifyStep};
pub(super) use turn::{StepMachine, Turn};
pub(super) use {confirm::ConfirmStep, reset::ResetStep, test_boot::TestBootStep, upload::UploadStep};

use super::facts::Facts;
use super::{Action, Outcome};
use turn::unexpected;
