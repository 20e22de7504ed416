//! The proof of boot: what an image list says about the hash that must run. Pure comparison, no actions.

use crate::cause::{Cause, Class};
use crate::image::Image;
use crate::report::Departure;
use crate::smp::message::image::ImageState;

use super::BootMode;
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

impl Expected {
    /// An image as it must run by this number.
    pub(super) fn of(image_number: u32, image: &Image) -> Self {
        Self { image_number, hash: image.hash().to_vec(), version: image.version().to_owned() }
    }
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
    /// The expected image still waits in the slot that does not run.
    SwapPending,
    /// Something else runs.
    Other(Cause),
}

/// Compares what runs with what must.
pub(super) fn examine(state: &ImageState, expected: &Expected, mode: Option<BootMode>) -> Proof {
    let number = expected.image_number;
    let by_version = mode.is_some_and(BootMode::is_by_version);
    let running = active(state, number).or_else(|| {
        // Images besides the one that executes are never marked active; their primary slot is what is in use.
        (number > 0)
            .then(|| state.images.iter().find(|slot| slot.image == number && slot.slot == 0))
            .flatten()
    });
    let Some(running) = running else {
        return Proof::Other(no_running_image(state, number));
    };
    let runs = running.hash.as_deref() == Some(expected.hash.as_slice());
    let waiting = state.images.iter().any(|slot| {
        slot.image == number
            && (slot.pending || by_version)
            && !slot.active
            && slot.hash.as_deref() == Some(expected.hash.as_slice())
    });
    // Where nothing is marked, what runs is what counts.
    if waiting && !(runs && by_version) {
        return Proof::SwapPending;
    }
    if runs {
        return Proof::Runs { confirmed: running.confirmed };
    }
    let actual = running.hash.as_deref().map_or_else(|| "no hash".to_owned(), short_hash);
    let message = format!(
        "expected {} ({}) to run as image {number}, {} ({actual}) runs",
        expected.version,
        short_hash(&expected.hash),
        running.version
    );
    if mode.is_some_and(|mode| !mode.reverts()) {
        let help = "the bootloader refused the new image and erased it: check that it is not damaged, signed with this \
                    device's key and built for this device";
        return Proof::Other(Cause::new(Class::Image, "image.not_booted", message, help));
    }
    let in_secondary = secondary(state, number).and_then(|slot| slot.hash.as_deref());
    let help = if in_secondary == Some(expected.hash.as_slice()) {
        "the new image booted and did not stay, or could not boot: look at its boot log and at its watchdog"
    } else {
        "the bootloader refused the new image or swapped it back: check that it is signed with this device's key and \
         built for this device"
    };
    Proof::Other(Cause::new(Class::Image, "image.reverted", message, help))
}

/// The cause for an image that never left the slot that does not run.
pub(super) fn swap_pending(expected: &Expected, mode: Option<BootMode>, left: Departure) -> Cause {
    if let Some(mode) = mode.filter(|mode| mode.is_by_version()) {
        let or = if left == Departure::None {
            ", or the device, which was not seen to leave, never rebooted"
        } else {
            ""
        };
        return Cause::new(
            Class::Image,
            "image.not_booted",
            format!(
                "expected {} ({}) to run after the reset, it is in its slot, and the bootloader ({mode}) did not choose it{or}",
                expected.version,
                short_hash(&expected.hash)
            ),
            "check that its version is higher than that of the running one, and that it is linked for the slot that it is in",
        );
    }
    Cause::new(
        Class::Device,
        "device.swap_pending",
        format!(
            "expected {} ({}) to run after the reset, it still waits in the slot that does not run",
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
