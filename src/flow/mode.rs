//! MCUboot's modes, what each allows, and which one a device is taken to have (`smp_group_0.rst`, "MCUboot mode", and
//! `enum mcuboot_mode` of MCUboot's `boot_status.h`, which goes further).

use std::fmt;

use crate::cause::{Cause, Class};
use crate::plan::{Auto, Bootloader};

/// How the bootloader puts a new image into use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BootMode {
    /// 0, 8: one slot, no update by the application.
    SingleSlot,
    /// 1, 3, 9: swap with scratch, move or offset; test and revert.
    Swap,
    /// 2: the secondary slot overwrites the primary one; no revert.
    OverwriteOnly,
    /// 4: runs from either slot, the higher version; no test, no confirm, no revert.
    DirectXip,
    /// 5: runs from either slot, the higher version of those that are marked, with test and revert.
    DirectXipWithRevert,
    /// 6: the higher version is copied to RAM; no test, no confirm, no revert.
    RamLoad,
    /// 7: a firmware loader updates the one slot.
    FirmwareLoader,
    /// A number of later versions.
    Unknown(i32),
}

impl BootMode {
    /// The mode behind a number; `None` for a negative one, by which Zephyr says that it has no number for the mode: that
    /// of RAM load, for one (`os_mgmt.c`, `BOOTLOADER_MODE`).
    #[must_use]
    pub fn from_number(mode: i32) -> Option<Self> {
        Some(match mode {
            ..0 => return None,
            0 | 8 => Self::SingleSlot,
            1 | 3 | 9 => Self::Swap,
            2 => Self::OverwriteOnly,
            4 => Self::DirectXip,
            5 => Self::DirectXipWithRevert,
            6 => Self::RamLoad,
            7 => Self::FirmwareLoader,
            other => Self::Unknown(other),
        })
    }

    /// Whether an update over the application's SMP server can be proven in this mode.
    #[must_use]
    pub fn is_supported(self) -> bool {
        !matches!(self, Self::SingleSlot | Self::FirmwareLoader | Self::Unknown(_))
    }

    /// Whether the image of the highest version boots, without a mark, a test or a confirm.
    #[must_use]
    pub fn is_by_version(self) -> bool {
        matches!(self, Self::DirectXip | Self::RamLoad)
    }

    /// Whether an image that was not confirmed gives way to the old one at the next reset.
    #[must_use]
    pub fn reverts(self) -> bool {
        matches!(self, Self::Swap | Self::DirectXipWithRevert)
    }

    /// What a boot that was seen does not prove in this mode, for the report.
    pub(super) fn unproven(self) -> Option<&'static str> {
        match self {
            Self::OverwriteOnly => Some(
                "overwrite only: the bootloader checks the new image before it overwrites the old one, and nothing goes \
                 back to the old one if the new one does not work",
            ),
            Self::DirectXip => Some(
                "direct XIP without revert: the bootloader erases an image that is damaged and passes over one that was \
                 linked for the other slot; any other of the highest version it boots at every reset, whether it works or not",
            ),
            Self::RamLoad => Some(
                "RAM load: the bootloader erases an image that is damaged or cannot be loaded; any other of the highest \
                 version it boots at every reset, whether it works or not",
            ),
            _ => None,
        }
    }
}

impl From<Bootloader> for BootMode {
    fn from(told: Bootloader) -> Self {
        match told {
            Bootloader::Swap => Self::Swap,
            Bootloader::OverwriteOnly => Self::OverwriteOnly,
            Bootloader::DirectXip => Self::DirectXip,
            Bootloader::DirectXipWithRevert => Self::DirectXipWithRevert,
            Bootloader::RamLoad => Self::RamLoad,
        }
    }
}

impl fmt::Display for BootMode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::SingleSlot => f.write_str("single slot"),
            Self::Swap => f.write_str("swap"),
            Self::OverwriteOnly => f.write_str("overwrite only"),
            Self::DirectXip => f.write_str("direct XIP"),
            Self::DirectXipWithRevert => f.write_str("direct XIP with revert"),
            Self::RamLoad => f.write_str("RAM load"),
            Self::FirmwareLoader => f.write_str("firmware loader"),
            Self::Unknown(number) => write!(f, "unknown mode {number}"),
        }
    }
}

/// The mode of a device: what it says, or else what the plan says. `None` where neither does; then the flow goes by the
/// swap procedure, and what the device shows of it.
///
/// # Errors
/// `device.mode_not_supported`, `device.other_mode`.
pub(super) fn settle(told: Option<i32>, plan: Auto<Bootloader>) -> Result<Option<BootMode>, Cause> {
    let planned = match plan {
        Auto::Auto => None,
        Auto::Fixed(told) => Some(BootMode::from(told)),
    };
    let Some(mode) = told.and_then(BootMode::from_number) else { return Ok(planned) };
    if !mode.is_supported() {
        return Err(not_supported(mode));
    }
    match planned {
        Some(planned) if planned != mode => Err(Cause::new(
            Class::Device,
            "device.other_mode",
            format!("expected a bootloader with {planned}, as the plan says, the device says: {mode}"),
            "correct `bootloader` in the plan, or leave it out: this device tells its mode",
        )),
        _ => Ok(Some(mode)),
    }
}

fn not_supported(mode: BootMode) -> Cause {
    let help = match mode {
        BootMode::Unknown(_) => "this mode is newer than this version of flashfleet: look for a later one",
        _ => {
            "the application cannot update itself in this mode: reset the device into its bootloader \
             (`reset: { boot_mode: bootloader }`) and upload there"
        }
    };
    Cause::new(
        Class::Device,
        "device.mode_not_supported",
        format!("expected a bootloader that takes updates from the application, this one says: {mode}"),
        help,
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_device_is_asked_first_and_the_plan_fills_in() {
        let ram = Auto::Fixed(Bootloader::RamLoad);
        for silent in [None, Some(-1)] {
            assert_eq!(settle(silent, Auto::Auto), Ok(None));
            assert_eq!(settle(silent, ram), Ok(Some(BootMode::RamLoad)));
        }
        assert_eq!(settle(Some(6), ram), Ok(Some(BootMode::RamLoad)));
        assert_eq!(settle(Some(4), Auto::Auto), Ok(Some(BootMode::DirectXip)));
        assert_eq!(settle(Some(3), ram).unwrap_err().code, "device.other_mode");
        for number in [0, 7, 8, 42] {
            assert_eq!(settle(Some(number), Auto::Auto).unwrap_err().code, "device.mode_not_supported");
        }
    }
}
