//! TLV areas: `struct image_tlv_info` and `struct image_tlv` of MCUboot's `image.h`. What a TLV is for is decided
//! elsewhere.

use std::fmt;

use super::dependency::Dependency;
use super::error::{Fault, ImageError};
use super::layout::Area;

/// `IMAGE_TLV_INFO_MAGIC`: starts the unprotected area.
pub const TLV_MAGIC: u16 = 0x6907;

/// `IMAGE_TLV_PROT_INFO_MAGIC`: starts the protected area.
pub const PROTECTED_TLV_MAGIC: u16 = 0x6908;

/// Length of `struct image_tlv_info`, in bytes: magic (2), length of the area with this header (2).
pub const TLV_INFO_SIZE: usize = 4;

/// Length of `struct image_tlv`, in bytes: type (2), length of the value (2).
pub const TLV_HEADER_SIZE: usize = 4;

/// One TLV.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tlv {
    /// What it is.
    pub kind: TlvType,
    /// Offset of its header in the image, in bytes.
    pub offset: usize,
    /// Its value.
    pub value: Vec<u8>,
}

impl Tlv {
    /// What the value says, for the types whose values are numbers or versions.
    #[must_use]
    pub fn meaning(&self) -> Option<String> {
        match (self.kind, self.value.as_slice()) {
            (TlvType::SEC_CNT | TlvType::DECOMP_SIZE | TlvType::COMP_DEC_SIZE, &[a, b, c, d]) => {
                Some(u32::from_le_bytes([a, b, c, d]).to_string())
            }
            (TlvType::DEPENDENCY, value) => Dependency::parse(value).map(|dependency| dependency.to_string()),
            (TlvType::UUID_VID | TlvType::UUID_CID, value) => {
                uuid::Uuid::from_slice(value).ok().map(|uuid| uuid.to_string())
            }
            _ => None,
        }
    }

    /// Header and value, as they stand in the image. A value beyond 65535 bytes is cut there: the field has 16 bits.
    #[must_use]
    pub fn to_bytes(kind: TlvType, value: &[u8]) -> Vec<u8> {
        let length = u16::try_from(value.len()).unwrap_or(u16::MAX);
        let mut bytes = kind.0.to_le_bytes().to_vec();
        bytes.extend_from_slice(&length.to_le_bytes());
        bytes.extend_from_slice(&value[..usize::from(length)]);
        bytes
    }
}

/// One TLV area of `bytes`, which begins at `start`; gives the TLVs and the offset behind the area.
///
/// # Errors
///
/// `image.truncated` where the area goes beyond the end, `image.tlv_missing` where another magic stands there,
/// `image.tlv_malformed` where the TLVs do not fill the area exactly.
pub(super) fn parse_area(bytes: &[u8], start: usize, area: Area) -> Result<(Vec<Tlv>, usize), ImageError> {
    let truncated = |offset: usize, needed: usize, what| {
        ImageError::from(Fault::Truncated {
            what,
            offset: offset as u64,
            needed: needed as u64,
            length: bytes.len() as u64,
        })
    };
    let Some([m0, m1, l0, l1]) =
        bytes.get(start..).and_then(|rest| rest.first_chunk::<TLV_INFO_SIZE>()).copied()
    else {
        return Err(truncated(start, TLV_INFO_SIZE, area.info_name()));
    };
    let magic = u16::from_le_bytes([m0, m1]);
    if magic != area.magic() {
        return Err(Fault::TlvMissing { area, offset: start, got: magic }.into());
    }
    let length = usize::from(u16::from_le_bytes([l0, l1]));
    let malformed =
        |offset: usize, reason: String| ImageError::from(Fault::TlvMalformed { area, offset, reason });
    if length < TLV_INFO_SIZE {
        let reason =
            format!("expected the area to hold its own {TLV_INFO_SIZE} byte header, got length {length}");
        return Err(malformed(start + 2, reason));
    }
    let end = start + length;
    let Some(body) = bytes.get(start + TLV_INFO_SIZE..end) else {
        return Err(truncated(start, length, area.name()));
    };

    let mut tlvs = Vec::new();
    let mut rest = body;
    while !rest.is_empty() {
        let offset = end - rest.len();
        let Some(([t0, t1, l0, l1], after)) = rest.split_first_chunk::<TLV_HEADER_SIZE>() else {
            let reason = format!("expected a {TLV_HEADER_SIZE} byte TLV header, got {} bytes", rest.len());
            return Err(malformed(offset, reason));
        };
        let kind = TlvType(u16::from_le_bytes([*t0, *t1]));
        let length = usize::from(u16::from_le_bytes([*l0, *l1]));
        let Some((value, after)) = after.split_at_checked(length) else {
            let reason =
                format!("expected {length} bytes of {kind}, got {} until the area ends", after.len());
            return Err(malformed(offset, reason));
        };
        tlvs.push(Tlv { kind, offset, value: value.to_vec() });
        rest = after;
    }
    Ok((tlvs, end))
}

/// `it_type`. Types without a name in MCUboot stay numbers; 0x00a0 to 0xfffe with a low byte from 0xa0 are vendors'.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TlvType(pub u16);

impl TlvType {
    /// Hash of the public key.
    pub const KEYHASH: Self = Self(0x01);
    /// The public key itself.
    pub const PUBKEY: Self = Self(0x02);
    /// SHA-256 of header, firmware and protected TLVs.
    pub const SHA256: Self = Self(0x10);
    /// SHA-384 of the same.
    pub const SHA384: Self = Self(0x11);
    /// SHA-512 of the same.
    pub const SHA512: Self = Self(0x12);
    /// RSA 2048 PSS signature.
    pub const RSA2048_PSS: Self = Self(0x20);
    /// ECDSA P-224 signature; no longer made.
    pub const ECDSA224: Self = Self(0x21);
    /// ECDSA signature; P-256 or P-384, which the key tells.
    pub const ECDSA_SIG: Self = Self(0x22);
    /// RSA 3072 PSS signature.
    pub const RSA3072_PSS: Self = Self(0x23);
    /// Ed25519 signature.
    pub const ED25519: Self = Self(0x24);
    /// The signature covers the image itself and not its hash.
    pub const SIG_PURE: Self = Self(0x25);
    /// Image key, encrypted with RSA-OAEP 2048.
    pub const ENC_RSA2048: Self = Self(0x30);
    /// Image key, wrapped with AES-KW.
    pub const ENC_KW: Self = Self(0x31);
    /// Image key, encrypted with ECIES-P256.
    pub const ENC_EC256: Self = Self(0x32);
    /// Image key, encrypted with ECIES-X25519.
    pub const ENC_X25519: Self = Self(0x33);
    /// Image key, encrypted with ECIES-X25519 and HMAC-SHA512.
    pub const ENC_X25519_SHA512: Self = Self(0x34);
    /// Another image that this one needs, with its lowest version.
    pub const DEPENDENCY: Self = Self(0x40);
    /// Security counter, against downgrade.
    pub const SEC_CNT: Self = Self(0x50);
    /// Measured boot record, in CBOR.
    pub const BOOT_RECORD: Self = Self(0x60);
    /// Size of the firmware once decompressed.
    pub const DECOMP_SIZE: Self = Self(0x70);
    /// Hash of the image once decompressed.
    pub const DECOMP_SHA: Self = Self(0x71);
    /// Signature of the image once decompressed.
    pub const DECOMP_SIGNATURE: Self = Self(0x72);
    /// Size of the compressed firmware once decrypted.
    pub const COMP_DEC_SIZE: Self = Self(0x73);
    /// Vendor UUID (since MCUboot 2.3).
    pub const UUID_VID: Self = Self(0x74);
    /// Device class UUID (since MCUboot 2.3).
    pub const UUID_CID: Self = Self(0x75);

    const NAMES: [(Self, &'static str); 25] = [
        (Self::KEYHASH, "KEYHASH"),
        (Self::PUBKEY, "PUBKEY"),
        (Self::SHA256, "SHA256"),
        (Self::SHA384, "SHA384"),
        (Self::SHA512, "SHA512"),
        (Self::RSA2048_PSS, "RSA2048_PSS"),
        (Self::ECDSA224, "ECDSA224"),
        (Self::ECDSA_SIG, "ECDSA_SIG"),
        (Self::RSA3072_PSS, "RSA3072_PSS"),
        (Self::ED25519, "ED25519"),
        (Self::SIG_PURE, "SIG_PURE"),
        (Self::ENC_RSA2048, "ENC_RSA2048"),
        (Self::ENC_KW, "ENC_KW"),
        (Self::ENC_EC256, "ENC_EC256"),
        (Self::ENC_X25519, "ENC_X25519"),
        (Self::ENC_X25519_SHA512, "ENC_X25519_SHA512"),
        (Self::DEPENDENCY, "DEPENDENCY"),
        (Self::SEC_CNT, "SEC_CNT"),
        (Self::BOOT_RECORD, "BOOT_RECORD"),
        (Self::DECOMP_SIZE, "DECOMP_SIZE"),
        (Self::DECOMP_SHA, "DECOMP_SHA"),
        (Self::DECOMP_SIGNATURE, "DECOMP_SIGNATURE"),
        (Self::COMP_DEC_SIZE, "COMP_DEC_SIZE"),
        (Self::UUID_VID, "UUID_VID"),
        (Self::UUID_CID, "UUID_CID"),
    ];

    /// The name in `image.h` without `IMAGE_TLV_`, where it has one.
    #[must_use]
    pub fn name(self) -> Option<&'static str> {
        Self::NAMES.iter().find(|(kind, _)| *kind == self).map(|(_, name)| *name)
    }

    /// Whether the type is in a range that MCUboot leaves to vendors: low byte 0xa0 and up, except 0xffff.
    #[must_use]
    pub fn is_vendor(self) -> bool {
        self.0 & 0xff >= 0xa0 && self.0 != 0xffff
    }

    /// Whether it carries the key of an encrypted image.
    #[must_use]
    pub fn is_encryption_key(self) -> bool {
        matches!(
            self,
            Self::ENC_RSA2048 | Self::ENC_KW | Self::ENC_EC256 | Self::ENC_X25519 | Self::ENC_X25519_SHA512
        )
    }

    /// Whether it is a signature of the image.
    #[must_use]
    pub fn is_signature(self) -> bool {
        matches!(
            self,
            Self::RSA2048_PSS | Self::ECDSA224 | Self::ECDSA_SIG | Self::RSA3072_PSS | Self::ED25519
        )
    }
}

/// The name, or the number in hexadecimal.
impl fmt::Display for TlvType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.name() {
            Some(name) => f.write_str(name),
            None => write!(f, "{:#06x}", self.0),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// By hand: area of 4 + (4 + 2) + (4 + 0) = 14 bytes behind 3 bytes of something else.
    const AREA: [u8; 17] = [
        9, 9, 9, // before
        0x07, 0x69, 14, 0, // info
        0x50, 0, 2, 0, 0xaa, 0xbb, // SEC_CNT of two bytes
        0xa0, 0x01, 0, 0, // vendor type, empty
    ];

    #[test]
    fn golden_area() {
        let (tlvs, end) = parse_area(&AREA, 3, Area::Unprotected).unwrap();
        assert_eq!(end, 17);
        assert_eq!(
            tlvs,
            [
                Tlv { kind: TlvType::SEC_CNT, offset: 7, value: vec![0xaa, 0xbb] },
                Tlv { kind: TlvType(0x01a0), offset: 13, value: vec![] },
            ]
        );
        assert_eq!(Tlv::to_bytes(TlvType::SEC_CNT, &[0xaa, 0xbb]), AREA[7..13]);
    }

    #[test]
    fn every_cut_is_told_apart() {
        for length in 3..AREA.len() {
            let error = parse_area(&AREA[..length], 3, Area::Unprotected).unwrap_err();
            assert_eq!(error.code(), "image.truncated", "{length} bytes");
        }
        assert_eq!(parse_area(&AREA, 99, Area::Unprotected).unwrap_err().code(), "image.truncated");
    }

    #[test]
    fn an_area_that_its_tlvs_do_not_fill_is_malformed() {
        // 15 runs out of bytes instead.
        for length in [0, 3, 5, 9, 12, 13] {
            let mut area = AREA;
            area[5] = length;
            let error = parse_area(&area, 3, Area::Unprotected).unwrap_err();
            assert_eq!(error.code(), "image.tlv_malformed", "length {length}: {error}");
        }
    }

    #[test]
    fn another_magic_is_no_area() {
        let error = parse_area(&AREA, 3, Area::Protected).unwrap_err();
        assert_eq!(error.code(), "image.tlv_missing");
        assert!(error.to_string().contains("0x6908") && error.to_string().contains("0x6907"), "{error}");
    }

    #[test]
    fn meanings() {
        let meaning = |kind, value: &[u8]| Tlv { kind, offset: 0, value: value.to_vec() }.meaning();
        assert_eq!(meaning(TlvType::SEC_CNT, &[1, 2, 0, 0]).unwrap(), "513");
        assert_eq!(meaning(TlvType::SEC_CNT, &[1, 2, 0]), None);
        let dependency = [1, 0, 0, 0, 2, 3, 4, 0, 0, 0, 0, 0];
        assert_eq!(meaning(TlvType::DEPENDENCY, &dependency).unwrap(), "image 1, version 2.3.4 or later");
        assert_eq!(meaning(TlvType::DEPENDENCY, &dependency[..11]), None);
        assert_eq!(meaning(TlvType::UUID_VID, &[0x12; 16]).unwrap(), "12121212-1212-1212-1212-121212121212");
        assert_eq!(meaning(TlvType::SHA256, &[0; 32]), None);
    }

    #[test]
    fn names() {
        assert_eq!(TlvType(0x22).to_string(), "ECDSA_SIG");
        assert_eq!(TlvType(0x01a0).to_string(), "0x01a0");
        assert!(TlvType(0x01a0).is_vendor() && !TlvType(0x0150).is_vendor() && !TlvType(0xffff).is_vendor());
    }
}
