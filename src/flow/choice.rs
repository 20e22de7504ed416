//! Which image of a plan's entry a device gets: the one, or the one that was built for the slot that does not run.
//! Pure look-up, no actions.

use std::sync::Arc;

use crate::cause::{Cause, Class};
use crate::image::{Image, Member};
use crate::smp::message::image::{ImageState, SlotInfoResponse};

use super::slots::{active, no_running_image};

/// The image for an image number out of `members`, those that the plan's entry has for it. With direct XIP each slot has
/// its own: what runs already is taken where it is one of them, else the one for the slot that does not run.
///
/// # Errors
/// `device.no_running_image`; `image.wrong_slot` where there is none for that slot; `internal.no_image`.
pub(super) fn choose(members: &[Member], state: &ImageState, image_number: u32) -> Result<Arc<Image>, Cause> {
    let Some(first) = members.first() else { return Err(no_image(image_number)) };
    if members.len() == 1 && first.slot.is_none() {
        return Ok(Arc::clone(&first.image));
    }
    let running = active(state, image_number).ok_or_else(|| no_running_image(state, image_number))?;
    let runs = members.iter().find(|member| Some(member.image.hash()) == running.hash.as_deref());
    let fits = |member: &&Member| member.slot.is_none_or(|slot| slot != running.slot);
    match runs.or_else(|| members.iter().find(fits)) {
        Some(member) => Ok(Arc::clone(&member.image)),
        None => {
            let message = format!(
                "expected an image {image_number} that was built for the slot that does not run, the package has one for \
                 slot {}, which does",
                running.slot
            );
            let help = "build the package with an image for each slot, as direct XIP needs it";
            Err(Cause::new(Class::Image, "image.wrong_slot", message, help))
        }
    }
}

/// The image that goes into the primary slot out of `members`, those that the plan's entry has for an image number.
///
/// # Errors
/// `image.wrong_slot` where none was built for that slot; `internal.no_image`.
pub(super) fn choose_primary(members: &[Member], image_number: u32) -> Result<Arc<Image>, Cause> {
    if members.is_empty() {
        return Err(no_image(image_number));
    }
    match members.iter().find(|member| member.slot.is_none_or(|slot| slot == 0)) {
        Some(member) => Ok(Arc::clone(&member.image)),
        None => Err(Cause::new(
            Class::Image,
            "image.wrong_slot",
            format!(
                "expected an image {image_number} that was built for the primary slot, the package has none"
            ),
            "build the package with an image for each slot, as direct XIP needs it",
        )),
    }
}

/// The cause where a device says which images it has, and one of those that the plan uploads is not among them. Asked
/// before the first of them is written.
pub(super) fn missing(slots: &SlotInfoResponse, wanted: impl IntoIterator<Item = u32>) -> Option<Cause> {
    let has = |number: u32| slots.images.iter().any(|image| image.image == number);
    let number = wanted.into_iter().find(|number| !slots.images.is_empty() && !has(*number))?;
    let images = slots.images.iter().map(|image| image.image.to_string()).collect::<Vec<_>>().join(", ");
    Some(Cause::new(
        Class::Device,
        "device.no_such_image",
        format!("expected the device to have an image {number}, its image numbers are {images}"),
        "give a package that was built for this device, or say with `image_number` which of its images is meant",
    ))
}

fn no_image(image_number: u32) -> Cause {
    Cause::new(
        Class::Internal,
        "internal.no_image",
        format!("expected the plan to hold something for image {image_number}, it does not"),
        "this is a defect of flashfleet: the plan should have been refused",
    )
}
