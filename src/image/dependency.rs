//! What an image needs of another image of the same device. Whether a device has it is asked in the flow.

use std::fmt;

use super::version::Version;

/// `struct image_dependency` of MCUboot's `image.h`: the value of a DEPENDENCY TLV.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Dependency {
    /// `image_id`: the other image's number.
    pub image_number: u32,
    /// `slot`: which of its images is meant.
    pub slot: DependencySlot,
    /// `image_min_version`: its lowest version.
    pub version: Version,
}

/// `VERSION_DEP_SLOT_*` of MCUboot's `image.h`. Only direct XIP and RAM load look at it; images of other builds have 0
/// there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DependencySlot {
    /// 0: whichever runs.
    Active,
    /// 1: the one in the primary slot.
    Primary,
    /// 2: the one in the secondary slot.
    Secondary,
    /// A number of later versions.
    Unknown(u8),
}

impl Dependency {
    /// Length, in bytes: image number (1), slot (1), reserved (2), version (8).
    pub const SIZE: usize = 4 + Version::SIZE;

    /// Reads the value of a DEPENDENCY TLV; `None` where it has another length.
    #[must_use]
    pub fn parse(value: &[u8]) -> Option<Self> {
        let &[image, slot, _, _, ref version @ ..] = value else { return None };
        let version = Version::from_bytes(version.try_into().ok()?);
        let slot = match slot {
            0 => DependencySlot::Active,
            1 => DependencySlot::Primary,
            2 => DependencySlot::Secondary,
            other => DependencySlot::Unknown(other),
        };
        Some(Self { image_number: u32::from(image), slot, version })
    }
}

/// For example `image 1, version 2.3.4 or later`.
impl fmt::Display for Dependency {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "image {}", self.image_number)?;
        match self.slot {
            DependencySlot::Active => {}
            DependencySlot::Primary => f.write_str(" in its primary slot")?,
            DependencySlot::Secondary => f.write_str(" in its secondary slot")?,
            DependencySlot::Unknown(slot) => write!(f, " in slot kind {slot}")?,
        }
        write!(f, ", version {} or later", self.version)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn golden_bytes() {
        let value = [1, 0, 0, 0, 2, 3, 4, 0, 5, 0, 0, 0];
        let dependency = Dependency::parse(&value).unwrap();
        assert_eq!(dependency.image_number, 1);
        assert_eq!(dependency.version, Version::new(2, 3, 4, 5));
        assert_eq!(dependency.to_string(), "image 1, version 2.3.4.5 or later");
        for (slot, text) in [(1, "primary slot"), (2, "secondary slot"), (3, "slot kind 3")] {
            let mut value = value;
            value[1] = slot;
            assert!(Dependency::parse(&value).unwrap().to_string().contains(text), "{slot}");
        }
        for length in (0..12).chain([13]) {
            assert_eq!(Dependency::parse(&vec![0; length]), None, "{length} bytes");
        }
    }
}
