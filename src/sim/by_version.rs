//! MCUboot where images run where they lie, or are copied to RAM: which of two slots boots, and what is erased on the way.
//! Behaviour after `boot/bootutil/src/loader.c`, built with `MCUBOOT_DIRECT_XIP`, `MCUBOOT_DIRECT_XIP_REVERT` or
//! `MCUBOOT_RAM_LOAD`; RAM load was compared with a real one (`tests/data/transcripts/mps2_ram_load_*.json`).

use super::firmware::{FLAG_RAM_LOAD, FLAG_ROM_FIXED, Header};
use super::flash::{Flag, Flash, Magic, Trailer};
use super::mcuboot::Boot;
use super::spec::BootMode;

impl Flash {
    /// One boot (`context_boot_go`, `boot_load_and_validate_images`): the highest version first, and of equal ones the
    /// first slot; what cannot boot is passed over or erased.
    pub(super) fn boot_highest(&mut self) -> Boot {
        let mut left = [0, 1].map(|slot| self.header(slot));
        loop {
            let highest = match left {
                [Some(first), Some(second)] => usize::from(second.version.is_newer_than(first.version)),
                [Some(_), None] => 0,
                [None, Some(_)] => 1,
                [None, None] => return Boot { started: None, swapped: false },
            };
            let Some(header) = left.get_mut(highest).and_then(Option::take) else { continue };
            if self.mode != BootMode::RamLoad && !self.is_at_home(highest, header) {
                continue;
            }
            let usable = match self.mode {
                BootMode::DirectXipWithRevert => self.select(highest),
                BootMode::RamLoad => header.flags & FLAG_RAM_LOAD != 0,
                _ => true,
            };
            let kind = self.hash;
            let Some(slot) = self.slots.get_mut(highest) else { continue };
            let checked = slot.check(kind);
            if usable && checked.valid {
                self.active = highest;
                return Boot { started: Some(checked.behaviour), swapped: false };
            }
            slot.erase();
        }
    }

    /// Whether an image that is linked for an address of the flash lies there (`boot_rom_address_check`).
    pub(super) fn is_at_home(&self, slot: usize, header: Header) -> bool {
        header.flags & FLAG_ROM_FIXED == 0 || header.load_address == self.address(slot)
    }

    /// Marks the image in a slot as tried; `false` for one that is not marked to be booted, or was tried before and not
    /// confirmed (`boot_select_or_erase`).
    fn select(&mut self, slot: usize) -> bool {
        let size = self.slot_size;
        let Some(slot) = self.slots.get_mut(slot) else { return false };
        let trailer = slot.trailer(size);
        let tried = trailer.copy_done == Flag::Set && trailer.image_ok != Flag::Set;
        if trailer.magic != Magic::Good || tried {
            return false;
        }
        slot.set_trailer(Trailer { copy_done: Flag::Set, ..trailer });
        true
    }
}

#[cfg(test)]
mod tests {
    use super::super::content::Shelf;
    use super::super::firmware::{Behaviour, ImageHash, Place, build_image};
    use super::*;

    const SIZE: u32 = 64 * 1024;

    fn image(version: &str, place: Place) -> Vec<u8> {
        build_image(version.parse().unwrap(), version.as_bytes(), ImageHash::Sha256, place)
    }

    fn place(mode: BootMode) -> Place {
        if mode == BootMode::RamLoad { Place::Ram(0x2000_0000) } else { Place::Anywhere }
    }

    /// 1.0.0 runs from the first slot, another image is in the second.
    fn flash(mode: BootMode, second: &[u8]) -> Flash {
        let mut flash =
            Flash::new(mode, SIZE, ImageHash::Sha256, image("1.0.0", place(mode)), &Shelf::default());
        flash.slots[1].append(second);
        flash
    }

    const BOTH: [BootMode; 2] = [BootMode::DirectXip, BootMode::RamLoad];

    #[test]
    fn the_higher_version_boots_and_stays() {
        for mode in BOTH {
            let mut flash = flash(mode, &image("2.0.0", place(mode)));
            assert_eq!(flash.boot(false).started, Some(Behaviour::Normal));
            assert_eq!(flash.active, 1, "{mode:?}");
            flash.boot(false);
            assert_eq!(flash.active, 1, "{mode:?}");
            assert!(flash.info(0).is_ok(), "the old one is kept");
        }
    }

    #[test]
    fn of_equal_versions_the_first_slot_boots_and_a_lower_one_never() {
        for version in ["1.0.0.9", "0.9.0"] {
            let mut flash = flash(BootMode::DirectXip, &image(version, Place::Anywhere));
            flash.active = 1;
            flash.boot(false);
            assert_eq!(flash.active, 0, "{version}");
        }
    }

    #[test]
    fn a_damaged_image_is_erased_and_the_other_boots() {
        for mode in BOTH {
            let mut bad = image("2.0.0", place(mode));
            bad[33] ^= 1;
            let mut flash = flash(mode, &bad);
            assert_eq!(flash.boot(false).started, Some(Behaviour::Normal));
            assert_eq!(flash.active, 0);
            assert!(flash.slots[1].is_empty(), "{mode:?}");
        }
    }

    #[test]
    fn half_an_upload_is_erased() {
        let whole = image("2.0.0", Place::Anywhere);
        let mut flash = flash(BootMode::DirectXip, &whole[..40]);
        flash.boot(false);
        assert!(flash.active == 0 && flash.slots[1].is_empty());
    }

    #[test]
    fn ram_load_erases_what_is_not_for_ram() {
        let mut flash = flash(BootMode::RamLoad, &image("2.0.0", Place::Anywhere));
        flash.boot(false);
        assert!(flash.active == 0 && flash.slots[1].is_empty());
    }

    #[test]
    fn direct_xip_passes_over_what_is_linked_for_the_other_slot() {
        let [first, second] = [0, 1].map(|slot| flash(BootMode::DirectXip, &[]).address(slot));
        for (address, active) in [(first, 0), (second, 1)] {
            let mut flash = flash(BootMode::DirectXip, &image("2.0.0", Place::Rom(address)));
            flash.boot(false);
            assert_eq!(flash.active, active);
            assert!(!flash.slots[1].is_empty(), "it is not erased");
        }
    }

    #[test]
    fn without_any_image_that_boots_nothing_does() {
        let mut flash = flash(BootMode::RamLoad, &[]);
        flash.slots[0].erase();
        assert_eq!(flash.boot(false).started, None);
    }

    #[test]
    fn with_revert_a_marked_image_boots_once_and_is_erased_unless_confirmed() {
        for confirm in [false, true] {
            let mut flash = flash(BootMode::DirectXipWithRevert, &image("2.0.0", Place::Anywhere));
            flash.mark(1, false).unwrap();
            flash.boot(false);
            assert_eq!(flash.active, 1);
            if confirm {
                flash.mark(1, true).unwrap();
            }
            flash.boot(false);
            assert_eq!(flash.active, usize::from(confirm));
            assert_eq!(flash.slots[1].is_empty(), !confirm);
            assert!(flash.info(0).is_ok());
        }
    }

    #[test]
    fn with_revert_a_higher_version_without_a_mark_is_erased() {
        let mut flash = flash(BootMode::DirectXipWithRevert, &image("2.0.0", Place::Anywhere));
        flash.boot(false);
        assert!(flash.active == 0 && flash.slots[1].is_empty());
    }
}
