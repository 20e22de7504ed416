//! The table of slot states: what to do before an image can go into the secondary slot. Pure look-up, no actions.
//!
//! | running image | secondary slot | decision |
//! | --- | --- | --- |
//! | wanted, confirmed | nothing pending | already current |
//! | wanted, confirmed | another image pending | settle: a reset would replace it |
//! | wanted, on test | anything | running on test: only confirm is missing |
//! | other, on test | anything | settle: the slot is needed for the revert and cannot be written |
//! | other, confirmed | wanted, pending | marked already |
//! | other, confirmed | wanted | there already |
//! | other, confirmed | another image pending | settle: a pending slot cannot be written |
//! | other, confirmed | anything else, or nothing | upload |
//! | none | anything | refused: nothing says what runs |
//! | without a hash | anything | refused: nothing could be proven |
//!
//! To settle is to reset and look again: a test reverts, a pending image is swapped in and then reverts. The flow bounds how
//! often.

use crate::cause::{Cause, Class};
use crate::smp::message::image::{ImageSlot, ImageState};

/// What to do before an upload.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SlotDecision {
    /// The wanted image runs and stays.
    AlreadyCurrent,
    /// The wanted image runs, but reverts at the next reset.
    RunningOnTest,
    /// The wanted image is in the secondary slot and set to be swapped in.
    AlreadyPending,
    /// The wanted image is in the secondary slot.
    AlreadyThere,
    /// The secondary slot can be written.
    Upload,
    /// Reset and look again.
    Settle(&'static str),
}

/// The running image of an image number.
#[must_use]
pub(super) fn active(state: &ImageState, image_number: u32) -> Option<&ImageSlot> {
    state.images.iter().find(|slot| slot.image == image_number && slot.active)
}

/// The primary slot of an image number, which is what a bootloader boots; `None` where it is empty or not listed.
#[must_use]
pub(super) fn primary(state: &ImageState, image_number: u32) -> Option<&ImageSlot> {
    state.images.iter().find(|slot| slot.image == image_number && slot.slot == 0)
}

/// The slot of an image number that is not running; `None` where it is empty or not listed.
#[must_use]
pub(super) fn secondary(state: &ImageState, image_number: u32) -> Option<&ImageSlot> {
    state.images.iter().find(|slot| slot.image == image_number && !slot.active)
}

/// Looks `state` up in the table above.
///
/// # Errors
/// `device.no_running_image`, `device.no_image_hash`, `image.not_bootable`.
pub fn decide(state: &ImageState, image_number: u32, wanted: &[u8]) -> Result<SlotDecision, Cause> {
    // Only the image that runs the code is marked active in devices with several images; for the others the
    // primary slot is what is in use.
    let (running, other) = match active(state, image_number) {
        Some(running) => (running, secondary(state, image_number)),
        None if image_number > 0 => {
            let find = |wanted_slot| {
                state.images.iter().find(|slot| slot.image == image_number && slot.slot == wanted_slot)
            };
            match (find(0), find(1)) {
                (Some(primary), other) => (primary, other),
                (None, _) => return Ok(SlotDecision::Upload),
            }
        }
        None => return Err(no_running_image(state, image_number)),
    };
    let Some(running_hash) = running.hash.as_deref() else {
        return Err(Cause::new(
            Class::Device,
            "device.no_image_hash",
            format!("expected a hash of the running image {image_number}, the device gives none"),
            "nothing can be proven on this device; enable the image hash in its firmware (MCUmgr image group)",
        ));
    };
    let runs_wanted = running_hash == wanted;
    let pending = other.is_some_and(|slot| slot.pending);
    let other_is_wanted = other.and_then(|slot| slot.hash.as_deref()) == Some(wanted);
    if runs_wanted {
        return Ok(match (is_confirmed(running, other), pending) {
            (true, false) => SlotDecision::AlreadyCurrent,
            (true, true) => {
                SlotDecision::Settle("another image is pending and would replace the running one")
            }
            (false, _) => SlotDecision::RunningOnTest,
        });
    }
    if !is_confirmed(running, other) {
        return Ok(SlotDecision::Settle("another image is on test and keeps the secondary slot"));
    }
    if other_is_wanted {
        if other.is_some_and(|slot| !slot.bootable) {
            return Err(Cause::new(
                Class::Image,
                "image.not_bootable",
                "expected a bootable image in the secondary slot, the device marks it as not bootable",
                "build the image without the non-bootable flag",
            ));
        }
        return Ok(if pending { SlotDecision::AlreadyPending } else { SlotDecision::AlreadyThere });
    }
    if pending {
        return Ok(SlotDecision::Settle("another image is pending and keeps the secondary slot"));
    }
    Ok(SlotDecision::Upload)
}

/// Whether the image in use stays after a reset. A slot that is not running and still confirmed is what the running one
/// reverts to.
fn is_confirmed(running: &ImageSlot, other: Option<&ImageSlot>) -> bool {
    running.confirmed && !other.is_some_and(|slot| slot.confirmed)
}

/// The refusal for a device that does not say what runs.
pub(super) fn no_running_image(state: &ImageState, image_number: u32) -> Cause {
    Cause::new(
        Class::Device,
        "device.no_running_image",
        format!(
            "expected one slot of image {image_number} to be active, the device lists {} and none of them is",
            state.images.len()
        ),
        "the device may be in its bootloader: reset it into its application and run again",
    )
}
