//! The image header: `struct image_header` of MCUboot's `image.h`. Nothing here reads beyond it.

use std::fmt;

use super::error::{Fault, ImageError};
use super::foreign::Foreign;
use super::version::Version;

/// `IMAGE_MAGIC`.
pub const MAGIC: u32 = 0x96f3_b83d;

/// `IMAGE_MAGIC_V1`: the format before 2017, which has no TLV info header.
pub(super) const MAGIC_V1: u32 = 0x96f3_b83c;

/// `IMAGE_HEADER_SIZE`: length of the header's fields, in bytes. `hdr_size` may be larger: padding follows.
pub const HEADER_SIZE: usize = 32;

/// The header of an image.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Header {
    /// `ih_load_addr`: where a RAM-load image runs, or where a ROM-fixed image was linked for; else 0.
    pub load_address: u32,
    /// `ih_hdr_size`: length of the header with its padding, in bytes.
    pub header_size: u16,
    /// `ih_protect_tlv_size`: length of the protected TLV area with its info header, in bytes; 0 where there is none.
    pub protected_tlv_size: u16,
    /// `ih_img_size`: length of the firmware between header and TLVs, in bytes.
    pub image_size: u32,
    /// `ih_flags`.
    pub flags: Flags,
    /// `ih_ver`.
    pub version: Version,
}

impl Header {
    /// Reads and checks the header at the start of an image.
    ///
    /// # Errors
    ///
    /// `image.empty`, `image.truncated`, `image.foreign`, `image.unsigned` and `image.bad_magic` where this is no
    /// MCUboot image; `image.header_invalid` where MCUboot would refuse the fields.
    pub fn parse(bytes: &[u8]) -> Result<Self, ImageError> {
        if bytes.is_empty() {
            return Err(Fault::Empty.into());
        }
        let Some(fields) = bytes.first_chunk::<HEADER_SIZE>() else {
            // A short file of another kind is better called by its name than 'truncated'.
            let magic = MAGIC.to_le_bytes();
            let begins_right = bytes.iter().zip(magic).all(|(byte, magic)| *byte == magic);
            if let Some(foreign) = Foreign::of_short(bytes).filter(|_| !begins_right) {
                return Err(Fault::Foreign(foreign).into());
            }
            return Err(Fault::Truncated {
                what: "the image header",
                offset: 0,
                needed: HEADER_SIZE as u64,
                length: bytes.len() as u64,
            }
            .into());
        };
        let u32_at =
            |at: usize| u32::from_le_bytes([fields[at], fields[at + 1], fields[at + 2], fields[at + 3]]);
        let u16_at = |at: usize| u16::from_le_bytes([fields[at], fields[at + 1]]);

        let magic = u32_at(0);
        if magic != MAGIC {
            return Err(match Foreign::of(bytes) {
                Some(Foreign::Unsigned(why)) => Fault::Unsigned(why),
                Some(foreign) => Fault::Foreign(foreign),
                None => Fault::BadMagic { got: magic },
            }
            .into());
        }
        let header = Self {
            load_address: u32_at(4),
            header_size: u16_at(8),
            protected_tlv_size: u16_at(10),
            image_size: u32_at(12),
            flags: Flags(u32_at(16)),
            version: Version::from_bytes([
                fields[20], fields[21], fields[22], fields[23], fields[24], fields[25], fields[26],
                fields[27],
            ]),
        };
        header.check()?;
        Ok(header)
    }

    /// What MCUboot checks in `boot_check_header_valid`, and that there is something to run.
    fn check(&self) -> Result<(), ImageError> {
        let invalid = |offset, field, expected: String, got: String| {
            Err(Fault::HeaderInvalid { offset, field, expected, got }.into())
        };
        if usize::from(self.header_size) < HEADER_SIZE {
            return invalid(
                8,
                "header size",
                format!("at least {HEADER_SIZE}"),
                self.header_size.to_string(),
            );
        }
        if self.image_size == 0 {
            return invalid(12, "image size", "at least 1 byte".into(), "0".into());
        }
        for (one, other) in [
            (Flags::ENCRYPTED_AES128, Flags::ENCRYPTED_AES256),
            (Flags::COMPRESSED_LZMA1, Flags::COMPRESSED_LZMA2),
        ] {
            if self.flags.contains(one) && self.flags.contains(other) {
                return invalid(
                    16,
                    "flags",
                    format!("one of {one} and {other} at most"),
                    self.flags.to_string(),
                );
            }
        }
        Ok(())
    }

    /// Offset of the firmware, in bytes.
    #[must_use]
    pub fn payload_offset(&self) -> u64 {
        u64::from(self.header_size)
    }

    /// Offset of the first TLV area, in bytes.
    #[must_use]
    pub fn tlv_offset(&self) -> u64 {
        self.payload_offset() + u64::from(self.image_size)
    }

    /// The header's 32 bytes, without padding.
    #[must_use]
    pub fn to_bytes(&self) -> [u8; HEADER_SIZE] {
        let mut bytes = [0; HEADER_SIZE];
        bytes[0..4].copy_from_slice(&MAGIC.to_le_bytes());
        bytes[4..8].copy_from_slice(&self.load_address.to_le_bytes());
        bytes[8..10].copy_from_slice(&self.header_size.to_le_bytes());
        bytes[10..12].copy_from_slice(&self.protected_tlv_size.to_le_bytes());
        bytes[12..16].copy_from_slice(&self.image_size.to_le_bytes());
        bytes[16..20].copy_from_slice(&self.flags.0.to_le_bytes());
        bytes[20..28].copy_from_slice(&self.version.to_bytes());
        bytes
    }
}

/// `ih_flags`: `IMAGE_F_*` of MCUboot's `image.h`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct Flags(pub u32);

impl Flags {
    /// Position independent (`IMAGE_F_PIC`; MCUboot does not use it).
    pub const PIC: Self = Self(0x0001);
    /// The firmware is encrypted with AES-128-CTR.
    pub const ENCRYPTED_AES128: Self = Self(0x0004);
    /// The firmware is encrypted with AES-256-CTR.
    pub const ENCRYPTED_AES256: Self = Self(0x0008);
    /// Not to be run by itself.
    pub const NON_BOOTABLE: Self = Self(0x0010);
    /// Copied to `load_address` and run there.
    pub const RAM_LOAD: Self = Self(0x0020);
    /// `load_address` is the flash address the firmware was linked for.
    pub const ROM_FIXED: Self = Self(0x0100);
    /// The firmware is compressed with LZMA1.
    pub const COMPRESSED_LZMA1: Self = Self(0x0200);
    /// The firmware is compressed with LZMA2.
    pub const COMPRESSED_LZMA2: Self = Self(0x0400);
    /// The compressed firmware went through the ARM Thumb filter.
    pub const COMPRESSED_ARM_THUMB: Self = Self(0x0800);

    const NAMES: [(Self, &'static str); 9] = [
        (Self::PIC, "PIC"),
        (Self::ENCRYPTED_AES128, "ENCRYPTED_AES128"),
        (Self::ENCRYPTED_AES256, "ENCRYPTED_AES256"),
        (Self::NON_BOOTABLE, "NON_BOOTABLE"),
        (Self::RAM_LOAD, "RAM_LOAD"),
        (Self::ROM_FIXED, "ROM_FIXED"),
        (Self::COMPRESSED_LZMA1, "COMPRESSED_LZMA1"),
        (Self::COMPRESSED_LZMA2, "COMPRESSED_LZMA2"),
        (Self::COMPRESSED_ARM_THUMB, "COMPRESSED_ARM_THUMB"),
    ];

    /// Whether every flag of `other` is set.
    #[must_use]
    pub const fn contains(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }

    /// Whether the firmware is encrypted.
    #[must_use]
    pub const fn is_encrypted(self) -> bool {
        self.contains(Self::ENCRYPTED_AES128) || self.contains(Self::ENCRYPTED_AES256)
    }

    /// Whether the firmware is compressed.
    #[must_use]
    pub const fn is_compressed(self) -> bool {
        self.contains(Self::COMPRESSED_LZMA1) || self.contains(Self::COMPRESSED_LZMA2)
    }

    /// The names of the set flags, in bit order; bits without a name as one hexadecimal number at the end.
    #[must_use]
    pub fn names(self) -> Vec<String> {
        let mut rest = self.0;
        let mut names = Vec::new();
        for (flag, name) in Self::NAMES {
            if self.contains(flag) {
                names.push(name.to_owned());
                rest &= !flag.0;
            }
        }
        if rest != 0 {
            names.push(format!("{rest:#x}"));
        }
        names
    }
}

impl std::ops::BitOr for Flags {
    type Output = Self;

    fn bitor(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

/// Names joined by ` | `, or `none`.
impl fmt::Display for Flags {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0 == 0 { f.write_str("none") } else { f.write_str(&self.names().join(" | ")) }
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    /// Written out by hand from `struct image_header`: every field differs from every other.
    const GOLDEN: [u8; HEADER_SIZE] = [
        0x3d, 0xb8, 0xf3, 0x96, // magic
        0x00, 0x80, 0x00, 0x20, // load address
        0x00, 0x02, // header size
        0x14, 0x00, // protected TLV size
        0x78, 0x56, 0x01, 0x00, // image size
        0x20, 0x00, 0x00, 0x00, // flags
        0x01, 0x02, 0x03, 0x00, 0x04, 0x00, 0x00, 0x00, // version
        0x00, 0x00, 0x00, 0x00, // padding
    ];

    fn header() -> Header {
        Header {
            load_address: 0x2000_8000,
            header_size: 0x200,
            protected_tlv_size: 0x14,
            image_size: 0x1_5678,
            flags: Flags::RAM_LOAD,
            version: Version::new(1, 2, 3, 4),
        }
    }

    #[test]
    fn golden_bytes_both_ways() {
        assert_eq!(header().to_bytes(), GOLDEN);
        assert_eq!(Header::parse(&GOLDEN).unwrap(), header());
        assert_eq!(header().tlv_offset(), 0x1_5878);
    }

    #[rstest]
    #[case::header_size(Header { header_size: 31, ..header() }, "header size")]
    #[case::image_size(Header { image_size: 0, ..header() }, "image size")]
    #[case::two_ciphers(Header { flags: Flags(0x0c), ..header() }, "ENCRYPTED_AES128")]
    #[case::two_compressions(Header { flags: Flags(0x600), ..header() }, "COMPRESSED_LZMA1")]
    fn refuses_fields_that_mcuboot_refuses(#[case] header: Header, #[case] says: &str) {
        let error = Header::parse(&header.to_bytes()).unwrap_err();
        assert_eq!(error.code(), "image.header_invalid");
        assert!(error.to_string().contains(says), "{error}");
    }

    #[test]
    fn flags_by_name() {
        assert_eq!(Flags(0).to_string(), "none");
        assert_eq!(Flags(0x0000_0d3d).names().len(), 9 - 1);
        assert_eq!((Flags::RAM_LOAD | Flags(0x8000_0002)).to_string(), "RAM_LOAD | 0x80000002");
    }

    #[test]
    fn short_headers_say_what_is_missing() {
        for length in 1..HEADER_SIZE {
            let error = Header::parse(&GOLDEN[..length]).unwrap_err();
            assert_eq!(error.code(), "image.truncated", "{length} bytes");
            assert!(error.to_string().contains(&length.to_string()), "{error}");
        }
        assert_eq!(Header::parse(&[]).unwrap_err().code(), "image.empty");
    }
}
