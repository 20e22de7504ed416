//! Modes in which MCUboot boots the image of the highest version (direct XIP, RAM load): which of two images wins, and what
//! to do before an upload. Pure comparison, no actions.
//!
//! | running image | other slot | decision |
//! | --- | --- | --- |
//! | wanted | nothing that would win | already current |
//! | wanted | an image that would win at the next reset | clear that slot |
//! | other | wanted, which wins | there already |
//! | other | anything, and the wanted one would win | upload |
//! | other | anything, and the wanted one would not win | refused: it would never boot |
//!
//! Of equal versions the one in slot 0 wins; whether build numbers count is a build option of the bootloader that no
//! device tells (`boot/bootutil/src/loader.c`, `find_slot_with_highest_version`; `MCUBOOT_VERSION_CMP_USE_BUILD_NUMBER`).

use std::cmp::Ordering;

use crate::cause::{Cause, Class};
use crate::image::{Flags, Image, Version};
use crate::smp::message::image::{ImageSlot, ImageState};

use super::BootMode;
use super::slots::{active, no_running_image, secondary};

/// Whether a new image wins against the one that runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Contest {
    /// It boots.
    Wins,
    /// It never boots.
    Loses,
    /// That depends on whether the bootloader compares build numbers.
    Depends,
}

/// What to do before an upload.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum VersionDecision {
    /// The wanted image runs, and stays.
    AlreadyCurrent,
    /// The wanted image waits for the next reset.
    AlreadyThere(Option<String>),
    /// The slot that does not run can be written; the note is for the report.
    Upload(Option<String>),
    /// The wanted image runs, and the one in this slot would boot at the next reset.
    Clear(ImageSlot),
}

/// Compares an image in `slot` with the one that runs in the other.
pub(super) fn contest(new: Version, slot: u32, running: Version) -> Contest {
    let tie = slot == 0;
    let without_build = match new.cmp_without_build(&running) {
        Ordering::Greater => return Contest::Wins,
        Ordering::Less => return Contest::Loses,
        Ordering::Equal => tie,
    };
    let with_build = match new.cmp(&running) {
        Ordering::Greater => true,
        Ordering::Less => false,
        Ordering::Equal => tie,
    };
    match (without_build, with_build) {
        (true, true) => Contest::Wins,
        (false, false) => Contest::Loses,
        _ => Contest::Depends,
    }
}

/// Looks `state` up in the table above.
///
/// # Errors
/// `device.no_running_image`, `image.never_boots`, `image.not_for_ram`.
pub(super) fn decide_by_version(
    state: &ImageState,
    image_number: u32,
    image: &Image,
    mode: BootMode,
) -> Result<VersionDecision, Cause> {
    let running = active(state, image_number).ok_or_else(|| no_running_image(state, image_number))?;
    let other = secondary(state, image_number);
    if running.hash.as_deref() == Some(image.hash()) {
        let wins = |other: &&ImageSlot| {
            other
                .version
                .parse()
                .is_ok_and(|version| contest(version, other.slot, image.parsed_version()) == Contest::Wins)
        };
        return Ok(match other.filter(wins) {
            Some(other) => VersionDecision::Clear(other.clone()),
            None => VersionDecision::AlreadyCurrent,
        });
    }
    if mode == BootMode::RamLoad && !image.header().flags.contains(Flags::RAM_LOAD) {
        return Err(Cause::new(
            Class::Image,
            "image.not_for_ram",
            format!("expected an image that is made to be copied to RAM, {} is not", image.version()),
            "sign it with `imgtool sign --load-addr ADDRESS`: the bootloader erases any other",
        ));
    }
    let note = must_win(image, running, mode)?;
    let there = other.is_some_and(|slot| slot.hash.as_deref() == Some(image.hash()));
    Ok(if there { VersionDecision::AlreadyThere(note) } else { VersionDecision::Upload(note) })
}

/// That `image` will boot from the slot that does not run. Gives what could not be known.
///
/// # Errors
/// `image.never_boots`.
pub(super) fn must_win(image: &Image, running: &ImageSlot, mode: BootMode) -> Result<Option<String>, Cause> {
    let Ok(runs) = running.version.parse::<Version>() else {
        return Ok(Some(format!(
            "the device does not tell which version it runs ({:?}): whether the new one is higher was not checked",
            running.version
        )));
    };
    // Zephyr shows an equal version as not pending, and so it could not be proven to be set for test.
    let slot = if mode == BootMode::DirectXipWithRevert { 1 } else { u32::from(running.slot == 0) };
    match contest(image.parsed_version(), slot, runs) {
        Contest::Wins => Ok(None),
        Contest::Depends => Ok(Some(format!(
            "{} and {}, which runs, differ in their build numbers only: which one boots depends on whether the bootloader \
             compares those",
            image.version(),
            running.version
        ))),
        Contest::Loses => Err(Cause::new(
            Class::Image,
            "image.never_boots",
            format!(
                "expected a version higher than {}, which runs, got {}",
                running.version,
                image.version()
            ),
            format!(
                "the bootloader boots the image of the highest version ({mode}): give the image a higher one; to go back to \
                 an older one, upload it through the bootloader's recovery"
            ),
        )),
    }
}

/// The refusal of an image that is made to be copied to RAM, by a device of which nobody says that its bootloader does so.
///
/// # Errors
/// `device.mode_unknown`.
pub(super) fn known_or_plain(image: &Image) -> Result<(), Cause> {
    if !image.header().flags.contains(Flags::RAM_LOAD) {
        return Ok(());
    }
    Err(Cause::new(
        Class::Device,
        "device.mode_unknown",
        "expected the device to tell its bootloader's mode, it does not, and the image is made to be copied to RAM, where \
         the usual test boot does not exist",
        "say `bootloader: ram-load` in the plan's target (`--bootloader ram-load` of `flashfleet update`)",
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_higher_version_wins_and_of_equal_ones_the_first_slot() {
        let contest =
            |new: &str, slot, running: &str| contest(new.parse().unwrap(), slot, running.parse().unwrap());
        for (new, slot, running, expected) in [
            ("2.0.0", 0, "1.9.9", Contest::Wins),
            ("2.0.0", 1, "1.9.9", Contest::Wins),
            ("1.9.9", 0, "2.0.0", Contest::Loses),
            ("1.9.9.9", 1, "2.0.0", Contest::Loses),
            ("2.0.0", 1, "2.0.0", Contest::Loses),
            ("2.0.0", 0, "2.0.0", Contest::Wins),
            ("2.0.0.7", 1, "2.0.0", Contest::Depends),
            ("2.0.0", 1, "2.0.0.7", Contest::Loses),
            ("2.0.0.7", 0, "2.0.0", Contest::Wins),
            ("2.0.0", 0, "2.0.0.7", Contest::Depends),
        ] {
            assert_eq!(contest(new, slot, running), expected, "{new} in slot {slot} against {running}");
        }
    }
}
