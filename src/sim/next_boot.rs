//! What the application's server makes of slots and trailers: which slot boots next, and which may be written. After Zephyr
//! `grp/img_mgmt/src/img_mgmt_state.c`.

use super::flash::{Flag, Flash, Magic};
use super::mcuboot::SwapType;
use super::spec::BootMode;

/// What the next reset will start (`enum img_mgmt_next_boot_type`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum NextBoot {
    Normal,
    Test,
    Revert,
}

/// What a trailer says with direct XIP and revert (`read_directxip_state`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum XipState {
    Unset,
    Once,
    Revert,
    Forever,
}

impl Flash {
    /// The slot that runs after the next reset, and how (`img_mgmt_get_next_boot_slot`).
    pub(super) fn next_boot(&self) -> (usize, NextBoot) {
        let (active, other) = (self.active, 1 - self.active.min(1));
        match self.mode {
            BootMode::DirectXip if self.is_newer(other) => (other, NextBoot::Normal),
            // The server does not tell what a RAM load bootloader will choose.
            BootMode::DirectXip | BootMode::RamLoad => (active, NextBoot::Normal),
            BootMode::DirectXipWithRevert => self.next_xip_with_revert(active, other),
            _ => match self.swap_type() {
                SwapType::None => (0, NextBoot::Normal),
                SwapType::Perm => (1, NextBoot::Normal),
                SwapType::Test => (1, NextBoot::Test),
                SwapType::Revert => (1, NextBoot::Revert),
            },
        }
    }

    fn next_xip_with_revert(&self, active: usize, other: usize) -> (usize, NextBoot) {
        if self.info(active).is_err() || self.info(other).is_err() {
            return (active, NextBoot::Normal);
        }
        match (self.xip_state(active), self.xip_state(other)) {
            (XipState::Revert, _) => (other, NextBoot::Revert),
            (XipState::Once, XipState::Unset) => (active, NextBoot::Test),
            (_, XipState::Forever) if self.is_newer(other) => (other, NextBoot::Normal),
            (_, XipState::Once) if self.is_newer(other) => (other, NextBoot::Test),
            _ => (active, NextBoot::Normal),
        }
    }

    fn xip_state(&self, slot: usize) -> XipState {
        let Some(slot) = self.slots.get(slot) else { return XipState::Unset };
        let trailer = slot.trailer(self.slot_size);
        match (trailer.magic, trailer.image_ok, trailer.copy_done) {
            (Magic::Good, Flag::Set, _) => XipState::Forever,
            (Magic::Good, _, Flag::Set) => XipState::Revert,
            (Magic::Good, _, _) => XipState::Once,
            _ => XipState::Unset,
        }
    }

    /// Whether a slot holds a higher version than the one that runs.
    fn is_newer(&self, slot: usize) -> bool {
        match (self.info(self.active), self.info(slot)) {
            (Ok(active), Ok(other)) => other.version.is_newer_than(active.version),
            _ => false,
        }
    }

    /// Whether a slot may not be erased or uploaded to (`img_mgmt_slot_in_use`).
    pub(super) fn in_use(&self, slot: usize, allow_erase_pending: bool) -> bool {
        let (next, how) = self.next_boot();
        if self.mode != BootMode::DirectXip {
            if slot == next && how == NextBoot::Revert {
                return true;
            }
            let pending =
                (slot == next && how == NextBoot::Test) || (next != self.active && how == NextBoot::Normal);
            if pending && !allow_erase_pending {
                return true;
            }
        }
        slot == self.active
    }

    /// The slot that an upload goes to (`img_mgmt_get_unused_slot_area_id`).
    pub(super) fn free_slot(&self, allow_erase_pending: bool) -> Option<usize> {
        (0..2).find(|&slot| self.slot_count() == 2 && !self.in_use(slot, allow_erase_pending))
    }
}
