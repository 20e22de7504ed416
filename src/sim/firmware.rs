//! Images for simulated devices: what Zephyr and MCUboot read of one in flash, and payloads that say how the firmware
//! behaves once it is booted. Nothing here knows of slots.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256, Sha384, Sha512};

/// First word of an MCUboot image (`mcuboot/docs/design.md`, "Image format", `IMAGE_MAGIC`), little endian.
pub(super) const IMAGE_MAGIC: u32 = 0x96f3_b83d;
/// Length of the image header's fields, in bytes (`struct image_header`).
pub(super) const IMAGE_HEADER_LEN: usize = 32;
/// `IMAGE_TLV_INFO_MAGIC`: starts the unprotected TLVs.
const TLV_INFO_MAGIC: u16 = 0x6907;
/// `IMAGE_TLV_PROT_INFO_MAGIC`: starts the protected TLVs.
const TLV_PROT_INFO_MAGIC: u16 = 0x6908;
/// `IMAGE_F_NON_BOOTABLE`.
const FLAG_NON_BOOTABLE: u32 = 0x10;
/// `IMAGE_F_RAM_LOAD`: copied to its load address and run there.
pub(super) const FLAG_RAM_LOAD: u32 = 0x20;
/// `IMAGE_F_ROM_FIXED`: its load address is the one in flash that it is linked for.
pub(super) const FLAG_ROM_FIXED: u32 = 0x100;
/// Length of `struct image_tlv_info` and of `struct image_tlv`, in bytes.
const TLV_LEN: usize = 4;
/// Starts the marker in a payload that says how the firmware behaves; the name and a newline follow.
const MARKER: &[u8] = b"flashfleet-sim-firmware: ";

/// The hash by which a device's bootloader and server know images: they are built for one of them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum ImageHash {
    /// SHA-256, TLV 0x10 (`IMAGE_TLV_SHA256`).
    #[default]
    Sha256,
    /// SHA-384, TLV 0x11 (`IMAGE_TLV_SHA384`).
    Sha384,
    /// SHA-512, TLV 0x12 (`IMAGE_TLV_SHA512`).
    Sha512,
}

impl ImageHash {
    fn tlv(self) -> u16 {
        match self {
            Self::Sha256 => 0x10,
            Self::Sha384 => 0x11,
            Self::Sha512 => 0x12,
        }
    }

    /// Length in bytes.
    pub(super) fn len(self) -> usize {
        match self {
            Self::Sha256 => 32,
            Self::Sha384 => 48,
            Self::Sha512 => 64,
        }
    }

    fn of(self, bytes: &[u8]) -> Vec<u8> {
        match self {
            Self::Sha256 => Sha256::digest(bytes).to_vec(),
            Self::Sha384 => Sha384::digest(bytes).to_vec(),
            Self::Sha512 => Sha512::digest(bytes).to_vec(),
        }
    }
}

/// How a firmware behaves once MCUboot has started it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub enum Behaviour {
    /// Comes up with an SMP server.
    #[default]
    Normal,
    /// Asks for a system reset in its first instructions.
    Resets,
    /// Loops for ever; only its reset line helps.
    Hangs,
    /// Comes up and prints, but has no SMP server.
    Mute,
}

impl Behaviour {
    /// The name in the marker.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Normal => "normal",
            Self::Resets => "resets",
            Self::Hangs => "hangs",
            Self::Mute => "mute",
        }
    }

    /// Bytes to put anywhere into an image's payload, so that simulated devices behave so when they boot it.
    #[must_use]
    pub fn marker(self) -> Vec<u8> {
        let mut marker = MARKER.to_vec();
        marker.extend_from_slice(self.name().as_bytes());
        marker.push(b'\n');
        marker
    }

    /// What the first marker in `image` says; without one it is [`Behaviour::Normal`].
    pub(super) fn of(image: &[u8]) -> Self {
        let Some(at) = image.windows(MARKER.len()).position(|window| window == MARKER) else {
            return Self::Normal;
        };
        let rest = image.get(at + MARKER.len()..).unwrap_or_default();
        let name = rest.split(|&byte| byte == b'\n').next().unwrap_or_default();
        [Self::Resets, Self::Hangs, Self::Mute]
            .into_iter()
            .find(|behaviour| behaviour.name().as_bytes() == name)
            .unwrap_or_default()
    }
}

/// A version as the image header holds it. Ordered as Zephyr and MCUboot compare: without the build number.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct Version {
    /// Major.
    pub major: u8,
    /// Minor.
    pub minor: u8,
    /// Revision.
    pub revision: u16,
    /// Build number.
    pub build: u32,
}

impl Version {
    /// Whether this version is newer than `other`; the build number does not count
    /// (`img_mgmt_vercmp` without `CONFIG_MCUMGR_GRP_IMG_VERSION_CMP_USE_BUILD_NUMBER`).
    pub(super) fn is_newer_than(self, other: Self) -> bool {
        (self.major, self.minor, self.revision) > (other.major, other.minor, other.revision)
    }
}

impl fmt::Display for Version {
    /// As Zephyr writes it: the build number only where it is not 0, after a point.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}", self.major, self.minor, self.revision)?;
        if self.build != 0 {
            write!(f, ".{}", self.build)?;
        }
        Ok(())
    }
}

impl FromStr for Version {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let wrong = || format!("expected a version as 1.2.3 or 1.2.3.4, got {text:?}");
        let (numbers, build) = match text.split_once('+') {
            Some((numbers, build)) => (numbers, Some(build)),
            None => (text, None),
        };
        let mut parts = numbers.split('.');
        let mut next = || parts.next();
        let major = next().and_then(|part| part.parse().ok()).ok_or_else(wrong)?;
        let minor = next().and_then(|part| part.parse().ok()).ok_or_else(wrong)?;
        let revision = next().and_then(|part| part.parse().ok()).ok_or_else(wrong)?;
        let build = match build.or_else(&mut next) {
            Some(part) => part.parse().map_err(|_| wrong())?,
            None => 0,
        };
        if next().is_some() {
            return Err(wrong());
        }
        Ok(Self { major, minor, revision, build })
    }
}

/// Where an image is made to run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Place {
    /// Where it lies; nothing checks that.
    Anywhere,
    /// At this address of the RAM.
    Ram(u32),
    /// At this address of the flash.
    #[cfg_attr(not(test), expect(dead_code, reason = "devices run their first image wherever it lies"))]
    Rom(u32),
}

/// A whole image: header, payload, hash TLV; not signed.
pub(super) fn build_image(version: Version, payload: &[u8], kind: ImageHash, place: Place) -> Vec<u8> {
    let (load_address, flags) = match place {
        Place::Anywhere => (0, 0),
        Place::Ram(address) => (address, FLAG_RAM_LOAD),
        Place::Rom(address) => (address, FLAG_ROM_FIXED),
    };
    let length = u32::try_from(payload.len()).unwrap_or(u32::MAX);
    let mut image = Vec::with_capacity(IMAGE_HEADER_LEN + payload.len() + 2 * TLV_LEN + 32);
    image.extend_from_slice(&IMAGE_MAGIC.to_le_bytes());
    image.extend_from_slice(&load_address.to_le_bytes()); // ih_load_addr
    image.extend_from_slice(&[32, 0]); // ih_hdr_size
    image.extend_from_slice(&[0; 2]); // ih_protect_tlv_size
    image.extend_from_slice(&length.to_le_bytes()); // ih_img_size
    image.extend_from_slice(&flags.to_le_bytes()); // ih_flags
    image.extend_from_slice(&[version.major, version.minor]);
    image.extend_from_slice(&version.revision.to_le_bytes());
    image.extend_from_slice(&version.build.to_le_bytes());
    image.extend_from_slice(&[0; 4]); // _pad1
    image.extend_from_slice(payload);
    let hash = kind.of(&image);
    let short = |len: usize| u16::try_from(len).unwrap_or(u16::MAX).to_le_bytes();
    image.extend_from_slice(&TLV_INFO_MAGIC.to_le_bytes());
    image.extend_from_slice(&short(2 * TLV_LEN + hash.len())); // it_tlv_tot: both headers and the hash
    image.extend_from_slice(&kind.tlv().to_le_bytes());
    image.extend_from_slice(&short(hash.len()));
    image.extend_from_slice(&hash);
    image
}

/// What MCUboot reads of an image before it looks at the rest (`boot_read_image_headers`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Header {
    pub(super) version: Version,
    pub(super) flags: u32,
    pub(super) load_address: u32,
}

impl Header {
    /// The header in the first bytes of a slot.
    pub(super) fn read(flash: &[u8]) -> Option<Self> {
        if u32_at(flash, 0)? != IMAGE_MAGIC {
            return None;
        }
        let &[major, minor] = flash.get(20..)?.first_chunk()?;
        Some(Self {
            version: Version { major, minor, revision: u16_at(flash, 22)?, build: u32_at(flash, 24)? },
            flags: u32_at(flash, 16)?,
            load_address: u32_at(flash, 4)?,
        })
    }
}

/// What Zephyr reads of an image in flash (`img_mgmt_read_info`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct ImageInfo {
    pub(super) version: Version,
    pub(super) hash: Vec<u8>,
    pub(super) bootable: bool,
    /// Length of what the hash covers: header, payload and protected TLVs.
    hashed_len: usize,
}

/// Why Zephyr sees no image (`enum img_mgmt_err_code_t`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum NoImage {
    /// The slot begins with erased flash.
    Empty,
    /// Something is there, but it is no whole image.
    Broken,
}

fn u16_at(flash: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_le_bytes(*flash.get(at..)?.first_chunk()?))
}

fn u32_at(flash: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_le_bytes(*flash.get(at..)?.first_chunk()?))
}

/// Reads header and TLVs as Zephyr does, without checking the content. `flash` is what was written to the slot; beyond
/// it is erased flash.
pub(super) fn read_info(flash: &[u8], kind: ImageHash) -> Result<ImageInfo, NoImage> {
    if flash.iter().take(4).all(|&byte| byte == 0xff) {
        return Err(NoImage::Empty);
    }
    parse(flash, kind).ok_or(NoImage::Broken)
}

fn parse(flash: &[u8], kind: ImageHash) -> Option<ImageInfo> {
    let Header { version, flags, .. } = Header::read(flash)?;
    let header_len = usize::from(u16_at(flash, 8)?);
    let payload_len = usize::try_from(u32_at(flash, 12)?).ok()?;
    let mut at = header_len.checked_add(payload_len)?;
    if u16_at(flash, at)? == TLV_PROT_INFO_MAGIC {
        at = at.checked_add(usize::from(u16_at(flash, at + 2)?))?;
    }
    let hashed_len = at;
    if u16_at(flash, at)? != TLV_INFO_MAGIC {
        return None;
    }
    let end = at + usize::from(u16_at(flash, at + 2)?);
    at += TLV_LEN;
    let mut hash = None;
    while at + TLV_LEN <= end {
        let (tlv, len) = (u16_at(flash, at)?, usize::from(u16_at(flash, at + 2)?));
        at += TLV_LEN;
        if tlv == kind.tlv() && len == kind.len() {
            if hash.is_some() || at + len > end {
                return None;
            }
            hash = Some(flash.get(at..at + len)?.to_vec());
        }
        at += len;
    }
    Some(ImageInfo { version, hash: hash?, bootable: flags & FLAG_NON_BOOTABLE == 0, hashed_len })
}

/// MCUboot's check before it boots or swaps: the hash TLV is that of the content. Signatures are not simulated.
pub(super) fn validates(flash: &[u8], kind: ImageHash) -> bool {
    let Ok(info) = read_info(flash, kind) else { return false };
    info.bootable && flash.get(..info.hashed_len).is_some_and(|hashed| kind.of(hashed) == info.hash)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_built_image_reads_back() {
        let image = build_image("1.2.3.4".parse().unwrap(), b"payload", ImageHash::Sha256, Place::Anywhere);
        let info = read_info(&image, ImageHash::Sha256).unwrap();
        assert_eq!(info.version.to_string(), "1.2.3.4");
        assert!(info.bootable);
        assert!(validates(&image, ImageHash::Sha256));
    }

    #[test]
    fn an_image_with_another_hash_is_none() {
        let kinds = [ImageHash::Sha256, ImageHash::Sha384, ImageHash::Sha512];
        for kind in kinds {
            let image = build_image(Version::default(), b"payload", kind, Place::Anywhere);
            assert!(validates(&image, kind));
            for other in kinds.into_iter().filter(|other| *other != kind) {
                assert_eq!(read_info(&image, other), Err(NoImage::Broken));
            }
        }
    }

    #[test]
    fn a_changed_byte_is_seen_by_mcuboot_and_not_by_zephyr() {
        let mut image = build_image(Version::default(), b"payload", ImageHash::Sha256, Place::Anywhere);
        image[IMAGE_HEADER_LEN] ^= 1;
        assert!(read_info(&image, ImageHash::Sha256).is_ok());
        assert!(!validates(&image, ImageHash::Sha256));
    }

    #[test]
    fn no_prefix_of_an_image_is_an_image() {
        let image = build_image(Version::default(), b"payload", ImageHash::Sha256, Place::Anywhere);
        for len in 0..image.len() {
            assert!(read_info(&image[..len], ImageHash::Sha256).is_err(), "{len} bytes");
        }
    }

    #[test]
    fn versions_parse_print_and_compare_without_build() {
        for text in ["", "1", "1.2", "1.2.x", "256.0.0", "1.2.3.4.5"] {
            assert!(text.parse::<Version>().is_err(), "{text}");
        }
        let version: Version = "1.2.3+4".parse().unwrap();
        assert_eq!(version.to_string(), "1.2.3.4");
        let newer_build: Version = "1.2.3.5".parse().unwrap();
        assert!(!newer_build.is_newer_than(version));
        assert!("1.2.4".parse::<Version>().unwrap().is_newer_than(version));
    }

    #[test]
    fn markers_are_found_and_unknown_ones_are_normal() {
        for behaviour in [Behaviour::Normal, Behaviour::Resets, Behaviour::Hangs, Behaviour::Mute] {
            let mut payload = vec![7; 100];
            payload.extend(behaviour.marker());
            assert_eq!(
                Behaviour::of(&build_image(Version::default(), &payload, ImageHash::Sha256, Place::Anywhere)),
                behaviour
            );
        }
        assert_eq!(Behaviour::of(b"flashfleet-sim-firmware: dances\n"), Behaviour::Normal);
    }
}
