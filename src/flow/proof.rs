//! The proof of boot: what an image list says about the hash that must run. Pure comparison, no actions.

use crate::cause::{Cause, Class};
use crate::smp::message::image::ImageState;

use super::slots::{active, no_running_image, secondary};

/// What must run, by one image number.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Expected {
    /// Image number.
    pub image_number: u32,
    /// TLV hash.
    pub hash: Vec<u8>,
    /// Version in the image header, for messages.
    pub version: String,
}

/// What was seen to run, and must be found again after a reset.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Proven {
    /// What runs.
    pub expected: Expected,
    /// It was read back as confirmed, so it must stay so.
    pub confirmed: bool,
}

/// What a look after a boot shows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Proof {
    /// Exactly the expected hash runs.
    Runs {
        /// It stays after a reset.
        confirmed: bool,
    },
    /// The expected image still waits in the secondary slot.
    SwapPending,
    /// Something else runs.
    Other(Cause),
}

/// Compares what runs with what must.
pub(super) fn examine(state: &ImageState, expected: &Expected) -> Proof {
    let number = expected.image_number;
    let running = active(state, number).or_else(|| {
        // Images besides the one that executes are never marked active; their primary slot is what is in use.
        (number > 0)
            .then(|| state.images.iter().find(|slot| slot.image == number && slot.slot == 0))
            .flatten()
    });
    let Some(running) = running else {
        return Proof::Other(no_running_image(state, number));
    };
    let waiting = state.images.iter().any(|slot| {
        slot.image == number
            && slot.pending
            && !slot.active
            && slot.hash.as_deref() == Some(expected.hash.as_slice())
    });
    if waiting {
        return Proof::SwapPending;
    }
    if running.hash.as_deref() == Some(expected.hash.as_slice()) {
        return Proof::Runs { confirmed: running.confirmed };
    }
    let actual = running.hash.as_deref().map_or_else(|| "no hash".to_owned(), short_hash);
    let message = format!(
        "expected {} ({}) to run as image {number}, {} ({actual}) runs",
        expected.version,
        short_hash(&expected.hash),
        running.version
    );
    let in_secondary = secondary(state, number).and_then(|slot| slot.hash.as_deref());
    let help = if in_secondary == Some(expected.hash.as_slice()) {
        "the new image booted and did not stay, or could not boot: look at its boot log and at its watchdog"
    } else {
        "the bootloader refused the new image or swapped it back: check that it is signed with this device's key and \
         built for this device"
    };
    Proof::Other(Cause::new(Class::Image, "image.reverted", message, help))
}

/// The cause for an image that never left the secondary slot.
pub(super) fn swap_pending(expected: &Expected) -> Cause {
    Cause::new(
        Class::Device,
        "device.swap_pending",
        format!(
            "expected {} ({}) to run after the reset, it still waits in the secondary slot",
            expected.version,
            short_hash(&expected.hash)
        ),
        "the device answered without having rebooted into the bootloader: power-cycle it, or raise return_within",
    )
}

/// The cause for a confirm that was accepted and does not show.
pub(super) fn confirm_not_held(expected: &Expected) -> Cause {
    Cause::new(
        Class::Device,
        "image.confirm_not_held",
        format!(
            "expected {} ({}) to be confirmed, the device accepted it and shows it as not confirmed",
            expected.version,
            short_hash(&expected.hash)
        ),
        "look at the device's image list and at its flash: the image reverts at the next reset",
    )
}

/// The first bytes of a hash, enough for a person.
pub(super) fn short_hash(hash: &[u8]) -> String {
    let mut text = hex::encode(hash.get(..4).unwrap_or(hash));
    text.push('…');
    text
}
