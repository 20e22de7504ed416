//! Whether a device has what an image needs of its other images. MCUboot asks that at the next boot, and silently leaves
//! the new image where it is; asked before the upload, nothing is written in vain. Pure comparison, no actions.

use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::sync::Arc;

use crate::cause::{Cause, Class};
use crate::image::{Dependency, DependencySlot, Image, ImageSet, Version};
use crate::plan::Step;
use crate::smp::message::image::ImageState;

use super::slots::active;

/// The versions, by image number, that the steps put on a device until it boots what the step at `index` uploads.
pub(super) fn accompanying(
    steps: &[Step],
    index: usize,
    images: &BTreeMap<String, Arc<ImageSet>>,
) -> BTreeMap<u32, Version> {
    let boots = |step: &Step| matches!(step, Step::TestBoot | Step::Activate { .. } | Step::Reset { .. });
    let end = steps.iter().skip(index).position(boots).map_or(steps.len(), |position| index + position);
    let mut versions = BTreeMap::new();
    for step in steps.iter().take(end) {
        let Step::Upload { image, image_number, .. } = step else { continue };
        let members = images.get(image).map(|set| set.for_image(*image_number)).unwrap_or_default();
        if let Some(version) = members.iter().map(|member| member.image.parsed_version()).min() {
            versions.insert(*image_number, version);
        }
    }
    versions
}

/// Compares what `image` needs with what the plan puts beside it, and else with what the device runs. Gives what could
/// not be known.
///
/// # Errors
/// `image.dependency_not_met`.
pub(super) fn check(
    image: &Image,
    accompanying: &BTreeMap<u32, Version>,
    state: &ImageState,
) -> Result<Vec<String>, Cause> {
    let mut notes = Vec::new();
    for dependency in image.layout().dependencies() {
        if dependency.slot != DependencySlot::Active {
            notes.push(format!("that the device has what the image needs ({dependency}) was not checked"));
            continue;
        }
        let number = dependency.image_number;
        let (version, whence) = match accompanying.get(&number) {
            Some(version) => (Some(*version), "the plan puts"),
            None => (running(state, number), "the device runs"),
        };
        let Some(version) = version else {
            notes.push(format!(
                "the device does not tell which image {number} it runs: whether it is what the new image needs \
                 ({dependency}) could not be checked"
            ));
            continue;
        };
        // MCUboot leaves the build number out, unless it is built to compare it.
        match version.cmp_without_build(&dependency.version) {
            Ordering::Less => return Err(not_met(image, &dependency, version, whence)),
            Ordering::Equal if version.build < dependency.version.build => notes.push(format!(
                "the image needs {dependency}, and {whence} {version}: that is enough only where the bootloader does \
                 not compare build numbers"
            )),
            Ordering::Equal | Ordering::Greater => {}
        }
    }
    Ok(notes)
}

/// The version that an image number runs, where the device lists it.
fn running(state: &ImageState, number: u32) -> Option<Version> {
    // Images besides the one that executes are not marked active by every server; their primary slot is in use.
    let primary = || state.images.iter().find(|slot| slot.image == number && slot.slot == 0);
    active(state, number).or_else(primary)?.version.parse().ok()
}

fn not_met(image: &Image, dependency: &Dependency, version: Version, whence: &str) -> Cause {
    let number = dependency.image_number;
    Cause::new(
        Class::Image,
        "image.dependency_not_met",
        format!(
            "expected image {number} to have version {} or later, as version {} needs it, {whence} {version}",
            dependency.version,
            image.version()
        ),
        format!("the bootloader would not boot it: update image {number} first, or in the same package"),
    )
}
