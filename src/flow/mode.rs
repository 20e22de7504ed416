//! MCUboot's modes, and what each allows (`smp_group_0.rst`, "MCUboot mode").

use std::fmt;

/// How the bootloader puts a new image into use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BootMode {
    /// 0: one slot, no update by the bootloader.
    SingleSlot,
    /// 1, 3, 9: swap with scratch, move or offset; test and revert.
    Swap,
    /// 2: the secondary slot overwrites the primary one; no revert.
    OverwriteOnly,
    /// 4: runs from either slot, the higher version; no revert.
    DirectXip,
    /// 5: runs from either slot, with test and revert.
    DirectXipWithRevert,
    /// 6, 8: copied to RAM; no test, no confirm.
    RamLoad,
    /// 7: a firmware loader updates the one slot.
    FirmwareLoader,
    /// A number of later versions.
    Unknown(i32),
}

impl BootMode {
    /// The mode behind a number.
    #[must_use]
    pub fn from_number(mode: i32) -> Self {
        match mode {
            0 => Self::SingleSlot,
            1 | 3 | 9 => Self::Swap,
            2 => Self::OverwriteOnly,
            4 => Self::DirectXip,
            5 => Self::DirectXipWithRevert,
            6 | 8 => Self::RamLoad,
            7 => Self::FirmwareLoader,
            other => Self::Unknown(other),
        }
    }

    /// Whether upload, test-boot and confirm can be proven with the swap procedure. Direct XIP with revert looks the same
    /// from outside: what runs, what is set for test and what it would revert to, only that nothing is moved.
    #[must_use]
    pub fn is_supported(self) -> bool {
        matches!(self, Self::Swap | Self::OverwriteOnly | Self::DirectXipWithRevert)
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
