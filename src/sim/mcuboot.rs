//! MCUboot that moves images: what it does with the slots at a boot, and the marks that the application leaves for it. Behaviour after
//! `boot/bootutil/src/bootutil_public.c` and `loader.c`.

use super::firmware::Behaviour;
use super::flash::{Flag, Flash, Magic, Trailer};
use super::spec::BootMode;

/// What the trailers ask for (`BOOT_SWAP_TYPE_*`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum SwapType {
    /// Boot what is in the primary slot.
    None,
    /// Swap, and go back at the next boot unless confirmed.
    Test,
    /// Swap for good.
    Perm,
    /// Go back.
    Revert,
}

/// What a boot came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Boot {
    /// How the image that was started behaves; without one MCUboot stays put for ever.
    pub(super) started: Option<Behaviour>,
    /// Whether slots were swapped or copied.
    pub(super) swapped: bool,
}

/// Why the application could not mark an image (`boot_set_next`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum MarkError {
    /// `BOOT_EBADIMAGE`: the secondary trailer is spoiled; the slot has been erased.
    BadImage,
    /// `BOOT_EBADVECT`: the primary trailer is spoiled.
    BadVector,
}

impl Flash {
    fn trailers(&self) -> (Trailer, Trailer) {
        let [primary, secondary] = &self.slots;
        (primary.trailer(self.slot_size), secondary.trailer(self.slot_size))
    }

    /// `boot_swap_type_multi`, with its table, where the bootloader moves images.
    pub(super) fn swap_type(&self) -> SwapType {
        if self.mode.runs_in_place() {
            return SwapType::None;
        }
        let (primary, secondary) = self.trailers();
        match (secondary.magic, secondary.image_ok) {
            (Magic::Good, Flag::Unset) => return SwapType::Test,
            (Magic::Good, Flag::Set) => return SwapType::Perm,
            _ => {}
        }
        let on_test = Trailer { magic: Magic::Good, image_ok: Flag::Unset, copy_done: Flag::Set };
        if primary == on_test && secondary.magic == Magic::Unset {
            return SwapType::Revert;
        }
        SwapType::None
    }

    /// The application's mark on a slot: the running one is confirmed, the other one set for the next boot
    /// (`boot_set_next`).
    pub(super) fn mark(&mut self, slot: usize, confirm: bool) -> Result<(), MarkError> {
        let is_active = slot == self.active;
        let size = self.slot_size;
        let Some(slot) = self.slots.get_mut(slot) else { return Ok(()) };
        let trailer = slot.trailer(size);
        match trailer.magic {
            Magic::Good if is_active && trailer.image_ok == Flag::Unset => {
                slot.set_trailer(Trailer { image_ok: Flag::Set, ..trailer });
                Ok(())
            }
            Magic::Unset if !is_active => {
                let image_ok = if confirm { Flag::Set } else { trailer.image_ok };
                slot.set_trailer(Trailer { magic: Magic::Good, image_ok, ..trailer });
                Ok(())
            }
            Magic::Good | Magic::Unset => Ok(()),
            Magic::Bad if is_active => Err(MarkError::BadVector),
            Magic::Bad => {
                slot.erase();
                Err(MarkError::BadImage)
            }
        }
    }

    /// One boot of MCUboot.
    pub(super) fn boot(&mut self, no_downgrade: bool) -> Boot {
        if self.mode.runs_in_place() {
            return self.boot_highest();
        }
        let mut swapped = self.mode != BootMode::Single && self.update(no_downgrade);
        for further in self.further_mut() {
            swapped |= further.update(no_downgrade);
        }
        Boot { swapped, ..self.boot_without_update() }
    }

    /// One boot of a bootloader that leaves a pending image pending.
    pub(super) fn boot_without_update(&mut self) -> Boot {
        let kind = self.hash;
        let Some(slot) = self.slots.get_mut(self.active) else {
            return Boot { started: None, swapped: false };
        };
        let checked = slot.check(kind);
        // What runs is the first image; all of them must be valid.
        let complete = self.further_mut().all(|further| further.boot_without_update().started.is_some());
        Boot { started: (checked.valid && complete).then_some(checked.behaviour), swapped: false }
    }

    /// Does what the trailers ask for, where the image in the secondary slot is fit for it.
    fn update(&mut self, no_downgrade: bool) -> bool {
        let asked = self.swap_type();
        if asked == SwapType::None {
            return false;
        }
        if self.info(1).is_err() {
            return false;
        }
        if !self.is_acceptable(asked, no_downgrade) {
            // The image is erased so that it is not tried again, and the running one marked so that nothing reverts.
            let (primary, _) = self.trailers();
            let [first, second] = &mut self.slots;
            second.erase();
            if self.mode != BootMode::Overwrite {
                first.set_trailer(Trailer { image_ok: Flag::Set, ..primary });
            }
            return false;
        }
        let [first, second] = &mut self.slots;
        if self.mode == BootMode::Overwrite {
            // Header and trailer of the secondary slot are erased, so that it is not tried again.
            *first = second.take();
            first.set_trailer(Trailer::default());
            return true;
        }
        std::mem::swap(first, second);
        let image_ok = if asked == SwapType::Test { Flag::Unset } else { Flag::Set };
        first.set_trailer(Trailer { magic: Magic::Good, image_ok, copy_done: Flag::Set });
        first.set_shifted(false);
        second.set_trailer(Trailer::default());
        // A swap by offset leaves the old image at the slot's start; going back moves it one page in again.
        second.set_shifted(self.mode == BootMode::SwapOffset && asked == SwapType::Revert);
        true
    }

    fn is_acceptable(&mut self, asked: SwapType, no_downgrade: bool) -> bool {
        let valid = self.slots[1].check(self.hash).valid;
        let (Ok(old), Ok(new)) = (self.info(0), self.info(1)) else { return valid };
        let downgrade = asked != SwapType::Revert && old.version.is_newer_than(new.version);
        valid && !(no_downgrade && downgrade)
    }
}

#[cfg(test)]
mod tests {
    use super::super::content::Shelf;
    use super::super::firmware::{ImageHash, Place, Version, build_image};
    use super::*;

    const SIZE: u32 = 64 * 1024;

    fn image(version: &str) -> Vec<u8> {
        build_image(version.parse().unwrap(), version.as_bytes(), ImageHash::Sha256, Place::Anywhere)
    }

    fn flash(mode: BootMode) -> Flash {
        let mut flash = Flash::new(mode, SIZE, ImageHash::Sha256, image("1.0.0"), &Shelf::default());
        flash.slots[1].start_image(mode == BootMode::SwapOffset);
        flash.slots[1].append(&image("2.0.0"));
        flash
    }

    /// Versions that Zephyr lists in both slots.
    fn listed(flash: &Flash) -> (Option<String>, Option<String>) {
        let version = |slot| flash.info(slot).ok().map(|info| info.version.to_string());
        (version(0), version(1))
    }

    fn versions(first: &str, second: &str) -> (Option<String>, Option<String>) {
        let version = |text: &str| (!text.is_empty()).then(|| text.to_owned());
        (version(first), version(second))
    }

    #[test]
    fn a_test_image_reverts_unless_confirmed() {
        for mode in [BootMode::SwapScratch, BootMode::SwapMove, BootMode::SwapOffset] {
            let mut flash = flash(mode);
            assert_eq!(flash.swap_type(), SwapType::None);
            flash.mark(1, false).unwrap();
            assert_eq!(flash.swap_type(), SwapType::Test);
            assert!(flash.boot(false).swapped);
            assert_eq!(flash.swap_type(), SwapType::Revert);
            assert_eq!(listed(&flash), versions("2.0.0", "1.0.0"), "{mode:?}");
            assert!(flash.boot(false).swapped);
            assert_eq!(flash.swap_type(), SwapType::None);
            assert_eq!(listed(&flash), versions("1.0.0", "2.0.0"), "{mode:?}");
            assert!(!flash.boot(false).swapped, "it stays");
        }
    }

    #[test]
    fn a_confirmed_image_stays_and_by_offset_the_old_one_is_not_listed() {
        for (mode, other) in
            [(BootMode::SwapScratch, "1.0.0"), (BootMode::SwapMove, "1.0.0"), (BootMode::SwapOffset, "")]
        {
            let mut flash = flash(mode);
            flash.mark(1, false).unwrap();
            flash.boot(false);
            flash.mark(0, true).unwrap();
            assert_eq!(flash.swap_type(), SwapType::None);
            assert_eq!(listed(&flash), versions("2.0.0", other), "{mode:?}");
            assert!(!flash.boot(false).swapped);
            assert_eq!(listed(&flash), versions("2.0.0", other), "{mode:?}");
        }
    }

    #[test]
    fn a_permanent_image_stays_without_confirm() {
        let mut flash = flash(BootMode::SwapMove);
        flash.mark(1, true).unwrap();
        assert_eq!(flash.swap_type(), SwapType::Perm);
        assert!(flash.boot(false).swapped);
        assert_eq!(flash.swap_type(), SwapType::None);
        assert!(!flash.boot(false).swapped);
        assert_eq!(listed(&flash), versions("2.0.0", "1.0.0"));
    }

    #[test]
    fn overwriting_leaves_nothing_to_go_back_to() {
        let mut flash = flash(BootMode::Overwrite);
        flash.mark(1, false).unwrap();
        assert!(flash.boot(false).swapped);
        assert_eq!(listed(&flash), versions("2.0.0", ""));
        assert_eq!(flash.swap_type(), SwapType::None);
    }

    #[test]
    fn a_bad_image_is_erased_and_nothing_else_changes() {
        let mut flash = flash(BootMode::SwapMove);
        let mut bad = image("2.0.0");
        bad[33] ^= 1;
        flash.slots[1].erase();
        flash.slots[1].append(&bad);
        assert!(flash.info(1).is_ok(), "Zephyr lists it");
        flash.mark(1, false).unwrap();
        let boot = flash.boot(false);
        assert_eq!(boot, Boot { started: Some(Behaviour::Normal), swapped: false });
        assert_eq!(listed(&flash), versions("1.0.0", ""));
        assert_eq!(flash.swap_type(), SwapType::None);
    }

    #[test]
    fn a_bad_image_in_the_primary_slot_does_not_boot() {
        let mut bad = image("1.0.0");
        bad[33] ^= 1;
        let mut flash = Flash::new(BootMode::SwapMove, SIZE, ImageHash::Sha256, bad, &Shelf::default());
        assert_eq!(flash.boot(false).started, None);
    }

    #[test]
    fn a_downgrade_is_refused_where_the_bootloader_says_so() {
        let mut flash = flash(BootMode::SwapMove);
        flash.slots[1].erase();
        flash.slots[1].append(&build_image(Version::default(), b"old", ImageHash::Sha256, Place::Anywhere));
        let mut strict = flash.clone();
        flash.mark(1, false).unwrap();
        assert!(flash.boot(false).swapped);
        strict.mark(1, false).unwrap();
        assert!(!strict.boot(true).swapped);
        assert_eq!(listed(&strict), versions("1.0.0", ""));
    }

    #[test]
    fn an_image_that_reaches_into_the_trailer_cannot_be_marked() {
        let mut flash =
            Flash::new(BootMode::SwapMove, SIZE, ImageHash::Sha256, image("1.0.0"), &Shelf::default());
        let mut long = image("2.0.0");
        long.resize(SIZE as usize, 0);
        flash.slots[1].append(&long);
        assert_eq!(flash.mark(1, false), Err(MarkError::BadImage));
        assert!(flash.slots[1].is_empty(), "and is erased");
    }

    #[test]
    fn a_single_slot_never_swaps() {
        let mut flash = flash(BootMode::Single);
        flash.mark(1, true).unwrap();
        assert_eq!(flash.boot(false), Boot { started: Some(Behaviour::Normal), swapped: false });
    }
}
