//! An image taken apart: header, firmware, TLV areas. Structure only: see [`Image`](super::Image) for one whose
//! content is checked too.

use std::fmt;
use std::ops::Range;

use super::dependency::Dependency;
use super::error::{Fault, ImageError};
use super::hash::{HashCheck, HashKind, ImageHash};
use super::header::Header;
use super::tlv::{PROTECTED_TLV_MAGIC, TLV_MAGIC, Tlv, TlvType, parse_area};

/// One of the two TLV areas.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Area {
    /// Covered by hash and signature.
    Protected,
    /// Not covered: holds hash and signature themselves.
    Unprotected,
}

impl Area {
    /// The magic that it starts with.
    #[must_use]
    pub fn magic(self) -> u16 {
        match self {
            Self::Protected => PROTECTED_TLV_MAGIC,
            Self::Unprotected => TLV_MAGIC,
        }
    }

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Protected => "the protected TLV area",
            Self::Unprotected => "the TLV area",
        }
    }

    pub(super) fn info_name(self) -> &'static str {
        match self {
            Self::Protected => "the header of the protected TLV area",
            Self::Unprotected => "the header of the TLV area",
        }
    }
}

impl fmt::Display for Area {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Where everything lies in an image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Layout {
    /// The header.
    pub header: Header,
    /// TLVs that hash and signature cover.
    pub protected: Vec<Tlv>,
    /// TLVs that they do not cover.
    pub unprotected: Vec<Tlv>,
    /// Length of what the hash covers (header, firmware, protected TLVs), in bytes.
    pub hashed_length: usize,
    /// Length of the whole image, in bytes. What follows in a file or slot does not belong to it.
    pub length: usize,
}

impl Layout {
    /// Takes the image at the start of `bytes` apart. What follows it is not looked at, so this reads a slot's
    /// content as well as a file. Follows MCUboot's `bootutil_tlv_iter_begin` and is stricter where that would read
    /// beyond an area.
    ///
    /// # Errors
    ///
    /// Those of [`Header::parse`]; `image.truncated` where a part goes beyond the end; `image.tlv_missing`,
    /// `image.tlv_malformed` and `image.protected_tlv_size` for the TLV areas; `image.encryption_key_missing` for an
    /// encrypted image that carries no key.
    pub fn parse(bytes: &[u8]) -> Result<Self, ImageError> {
        let header = Header::parse(bytes)?;
        let length = bytes.len() as u64;
        let firmware_end = header.tlv_offset();
        if firmware_end > length {
            let offset = header.payload_offset();
            let needed = u64::from(header.image_size);
            return Err(Fault::Truncated { what: "the firmware", offset, needed, length }.into());
        }
        // Fits: not above the length of a slice.
        let start = usize::try_from(firmware_end).unwrap_or(usize::MAX);

        let (protected, hashed_length) = if header.protected_tlv_size == 0 {
            (Vec::new(), start)
        } else {
            parse_area(bytes, start, Area::Protected)?
        };
        let protected_size = hashed_length - start;
        if protected_size != usize::from(header.protected_tlv_size) {
            return Err(Fault::ProtectedTlvSize {
                offset: start + 2,
                header: header.protected_tlv_size,
                area: protected_size,
            }
            .into());
        }
        let (unprotected, length) = parse_area(bytes, hashed_length, Area::Unprotected)?;

        let layout = Self { header, protected, unprotected, hashed_length, length };
        if header.flags.is_encrypted() && !layout.tlvs().any(|(_, tlv)| tlv.kind.is_encryption_key()) {
            return Err(Fault::EncryptionKeyMissing.into());
        }
        Ok(layout)
    }

    /// Every TLV in the order of the image, with its area.
    pub fn tlvs(&self) -> impl Iterator<Item = (Area, &Tlv)> {
        let protected = self.protected.iter().map(|tlv| (Area::Protected, tlv));
        protected.chain(self.unprotected.iter().map(|tlv| (Area::Unprotected, tlv)))
    }

    /// Where the firmware lies.
    #[must_use]
    pub fn payload(&self) -> Range<usize> {
        let start = usize::from(self.header.header_size);
        start..start + usize::try_from(self.header.image_size).unwrap_or(usize::MAX - start)
    }

    /// The hash TLV. Only the unprotected area counts, as for Zephyr's `img_mgmt_read_info`: the hash covers the
    /// protected one.
    ///
    /// # Errors
    ///
    /// `image.hash_missing`; `image.hash_ambiguous` where there are several; `image.hash_length`.
    pub fn hash(&self) -> Result<ImageHash, ImageError> {
        let mut found: Option<(HashKind, &Tlv)> = None;
        for tlv in &self.unprotected {
            let Some(kind) = HashKind::of_tlv(tlv.kind) else { continue };
            if let Some((_, first)) = found {
                return Err(Fault::HashAmbiguous { first: first.offset, second: tlv.offset }.into());
            }
            found = Some((kind, tlv));
        }
        let Some((kind, tlv)) = found else {
            return Err(Fault::HashMissing { offset: self.hashed_length }.into());
        };
        if tlv.value.len() != kind.size() {
            return Err(Fault::HashLength { kind, offset: tlv.offset, got: tlv.value.len() }.into());
        }
        let offset = tlv.offset + super::tlv::TLV_HEADER_SIZE;
        Ok(ImageHash { kind, value: tlv.value.clone(), offset })
    }

    /// Whether the hash TLV holds for `bytes`, the image that was taken apart.
    ///
    /// imgtool hashes before it encrypts, so the hash of an encrypted image is not that of its bytes, unless it was
    /// made with `--clear`. Compressed images are hashed as they are.
    ///
    /// # Errors
    ///
    /// Those of [`Layout::hash`].
    pub fn check_hash(&self, bytes: &[u8]) -> Result<HashCheck, ImageError> {
        let hash = self.hash()?;
        let computed = hash.kind.digest(bytes.get(..self.hashed_length).unwrap_or(bytes));
        Ok(if computed == hash.value {
            HashCheck::Holds
        } else if self.header.flags.is_encrypted() {
            HashCheck::Encrypted
        } else {
            HashCheck::Mismatch { computed }
        })
    }

    /// Length of the protected TLV area with its header, in bytes; 0 where there is none.
    #[must_use]
    pub fn protected_size(&self) -> usize {
        usize::from(self.header.protected_tlv_size)
    }

    /// Length of the unprotected TLV area with its header, in bytes.
    #[must_use]
    pub fn unprotected_size(&self) -> usize {
        self.length - self.hashed_length
    }

    /// What the image needs of other images. MCUboot looks for it in the protected TLV area only
    /// (`boot_verify_slot_dependencies`).
    pub fn dependencies(&self) -> impl Iterator<Item = Dependency> {
        let tlvs = self.protected.iter().filter(|tlv| tlv.kind == TlvType::DEPENDENCY);
        tlvs.filter_map(|tlv| Dependency::parse(&tlv.value))
    }

    /// The security counter: MCUboot refuses an image whose counter is lower than the device's.
    #[must_use]
    pub fn security_counter(&self) -> Option<u32> {
        let tlv = self.protected.iter().find(|tlv| tlv.kind == TlvType::SEC_CNT)?;
        tlv.value.as_slice().try_into().ok().map(u32::from_le_bytes)
    }

    /// The first TLV of a type, protected ones first.
    #[must_use]
    pub fn tlv(&self, kind: TlvType) -> Option<&Tlv> {
        self.tlvs().map(|(_, tlv)| tlv).find(|tlv| tlv.kind == kind)
    }
}
