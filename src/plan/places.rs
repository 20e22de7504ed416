//! Where the device is at each step, as its resets take it there, and what cannot be done in its bootloader. The order of
//! steps is checked in `rules`.

use std::ops::Range;

use super::problems::Problems;
use super::step::{BOOT_MODE_BOOTLOADER, Step};
use crate::transport::Firmware;

/// Where a device is before a step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Place {
    /// In its application.
    Application,
    /// In its bootloader, which writes the primary slot.
    Bootloader,
    /// In a boot mode that only the device knows.
    OtherMode,
}

impl From<Firmware> for Place {
    fn from(firmware: Firmware) -> Self {
        match firmware {
            Firmware::Application => Self::Application,
            Firmware::Bootloader => Self::Bootloader,
        }
    }
}

impl Place {
    /// Where it is after `step`.
    pub(super) fn after(self, step: &Step) -> Self {
        match step {
            Step::Reset { boot_mode: None, .. } => Self::Application,
            Step::Reset { boot_mode: Some(BOOT_MODE_BOOTLOADER), .. } => Self::Bootloader,
            Step::Reset { .. } => Self::OtherMode,
            // A program can do anything with a boot mode that only the device knows.
            Step::Run { .. } if self == Self::OtherMode => Self::Application,
            _ => self,
        }
    }
}

/// Steps that cannot be done where the device is.
pub(super) fn check(problems: &Problems<'_>, steps: &[(Step, Range<usize>)], starts_in: Firmware) {
    let mut place = Place::from(starts_in);
    for (index, (step, at)) in steps.iter().enumerate() {
        let complain = |message: &str, help: &str| problems.add("plan.step_order", at, message, help);
        match (place, step) {
            (Place::OtherMode, Step::Upload { .. } | Step::TestBoot | Step::Confirm | Step::Erase { .. }) => {
                complain(
                    "the device was reset into another boot mode, where images are not handled",
                    "put `- reset` before it; a `run` step can call a program that works in this mode",
                )
            }
            (Place::Bootloader, Step::TestBoot) => complain(
                "there is no test boot in the bootloader: what it writes into the primary slot runs at the next reset, and \
                 nothing brings the old image back",
                "put `- reset` instead: after it exactly the uploaded image must run",
            ),
            (Place::Bootloader, Step::Confirm) => complain(
                "there is nothing to confirm in the bootloader: what it writes into the primary slot stays",
                "take it out",
            ),
            (Place::Bootloader, Step::Upload { upgrade_only: true, .. }) => complain(
                "the bootloader compares no versions: `upgrade_only` means nothing there",
                "take it out; a `verify` of the version before the reset into the bootloader does the same",
            ),
            (Place::Bootloader, Step::Reset { boot_mode: Some(_), .. }) => complain(
                "the device is in its bootloader, which takes no boot mode: a reset starts the application",
                "take it out, or put `- reset` before it",
            ),
            (Place::Bootloader, Step::Upload { .. }) if !is_left(steps.get(index..).unwrap_or_default()) => {
                complain(
                    "the device stays in its bootloader: nothing shows whether it boots what is uploaded here",
                    "put `- reset` after it",
                )
            }
            _ => {}
        }
        place = place.after(step);
    }
}

fn is_left(steps: &[(Step, Range<usize>)]) -> bool {
    steps.iter().any(|(step, _)| matches!(step, Step::Reset { boot_mode: None, .. }))
}
