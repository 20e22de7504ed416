//! New and bad firmware made from the stock images of the boards, without flashfleet's own image code.
//!
//! Layout: mcu-tools/mcuboot `docs/design.md`, "Image format". The stock image carries only a SHA-256 TLV, so
//! anyone can change it and hash it again.

use sha2::{Digest, Sha256};

use crate::error::{Result, RigError};
use crate::fixtures::fixtures;
use crate::qemu::segments;

/// Where slot 0 starts in the micro:bit's flash.
pub(crate) const SLOT_0: u32 = 0x8000;
/// Of the header and of the space before the vector table.
const HEADER: usize = 0x200;
const MAGIC: u32 = 0x96f3_b83d;
const OFFSET_LOAD_ADDRESS: usize = 4;
const OFFSET_IMAGE_SIZE: usize = 12;
const OFFSET_VERSION: usize = 20;
const TLV_INFO_MAGIC: u16 = 0x6907;
const TLV_SHA256: u16 = 0x10;
/// TLV info, TLV head, SHA-256.
const TRAILER: usize = 4 + 4 + 32;

/// An image file: header, body, hash TLV.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Image {
    pub(crate) bytes: Vec<u8>,
    /// Address of its first byte once it runs.
    base: u32,
}

impl Image {
    /// The image that the stock firmware has in slot 0.
    pub(crate) fn stock() -> Result<Self> {
        let fixtures = fixtures()?;
        let hex = fixtures.path(fixtures.server("qemu_cortex_m0", "serial")?)?;
        let all = segments(&hex)?;
        let found = all.into_iter().find(|(start, _)| *start == SLOT_0);
        let bytes =
            found.map(|(_, bytes)| bytes).ok_or_else(|| RigError::new("no image at 0x8000 of the hex"))?;
        Self { bytes, base: SLOT_0 }.of_one_hash()
    }

    /// The image of an MPS2's SMP server. MCUboot copies it into RAM.
    pub(crate) fn of_mps2(config: &str) -> Result<Self> {
        let fixtures = fixtures()?;
        let name = fixtures.server("mps2_an385", config)?.artifact.replace(".hex", ".signed.bin");
        let bytes = std::fs::read(fixtures.file(&name)?)?;
        let base = bytes.get(OFFSET_LOAD_ADDRESS..OFFSET_LOAD_ADDRESS + 4);
        let base = base.map_or(0, |base| u32::from_le_bytes(base.try_into().unwrap()));
        Self { bytes, base }.of_one_hash()
    }

    /// This image, if it is what the others are made of: header, body and one hash TLV.
    fn of_one_hash(self) -> Result<Self> {
        let magic = self.bytes.get(..4).map(|magic| u32::from_le_bytes(magic.try_into().unwrap()));
        if magic != Some(MAGIC) || self.bytes.len() != self.hashed_size() + TRAILER {
            return Err(RigError::new("the stock image is not header, body and one hash TLV"));
        }
        Ok(self)
    }

    /// The same firmware under another version.
    pub(crate) fn with_version(mut self, major: u8, minor: u8, revision: u16, build: u32) -> Self {
        self.bytes[OFFSET_VERSION] = major;
        self.bytes[OFFSET_VERSION + 1] = minor;
        self.bytes[OFFSET_VERSION + 2..OFFSET_VERSION + 4].copy_from_slice(&revision.to_le_bytes());
        self.bytes[OFFSET_VERSION + 4..OFFSET_VERSION + 8].copy_from_slice(&build.to_le_bytes());
        self.hashed_again()
    }

    /// Valid by its hash, but its first instructions ask for a system reset: it reverts.
    pub(crate) fn that_resets(self) -> Self {
        // ldr r0, =0xe000ed0c (AIRCR); ldr r1, =0x05fa0004 (key, SYSRESETREQ); str r1, [r0]; b .
        // Source: ARMv6-M Architecture Reference Manual, B3.2.6.
        let mut code = Vec::new();
        for half in [0x4801_u16, 0x4902, 0x6001, 0xe7fe] {
            code.extend(half.to_le_bytes());
        }
        for word in [0xe000_ed0c_u32, 0x05fa_0004] {
            code.extend(word.to_le_bytes());
        }
        self.starting_with(&code)
    }

    /// Valid by its hash, but it loops for ever in its first instruction: it never comes back.
    pub(crate) fn that_hangs(self) -> Self {
        self.starting_with(&0xe7fe_u16.to_le_bytes())
    }

    /// One bit of the body flipped and not hashed again: MCUboot refuses it.
    pub(crate) fn with_wrong_hash(mut self) -> Self {
        let middle = self.hashed_size() / 2;
        self.bytes[middle] ^= 1;
        self
    }

    /// The first `length` bytes only.
    pub(crate) fn truncated(mut self, length: usize) -> Self {
        self.bytes.truncate(length);
        self
    }

    /// An image with a valid header and hash whose body of `body` bytes is no program: for what comes before a
    /// swap only.
    pub(crate) fn filler(body: usize, major: u8, minor: u8) -> Self {
        let mut bytes = vec![0; HEADER];
        bytes[..4].copy_from_slice(&MAGIC.to_le_bytes());
        bytes[8..10].copy_from_slice(&u16::try_from(HEADER).unwrap().to_le_bytes());
        bytes[OFFSET_IMAGE_SIZE..OFFSET_IMAGE_SIZE + 4]
            .copy_from_slice(&u32::try_from(body).unwrap().to_le_bytes());
        bytes.extend((0..body).map(|index| u8::try_from(index % 251).unwrap()));
        bytes.extend(TLV_INFO_MAGIC.to_le_bytes());
        bytes.extend(u16::try_from(TRAILER).unwrap().to_le_bytes());
        bytes.extend(TLV_SHA256.to_le_bytes());
        bytes.extend(32_u16.to_le_bytes());
        bytes.extend([0; 32]);
        Self { bytes, base: SLOT_0 }.with_version(major, minor, 0, 0)
    }

    /// The hash in the TLV, which names the image in an image list.
    pub(crate) fn hash(&self) -> [u8; 32] {
        self.bytes[self.bytes.len() - 32..].try_into().unwrap()
    }

    /// SHA-256 of the whole file, which names the image in an upload.
    pub(crate) fn file_sha256(&self) -> [u8; 32] {
        Sha256::digest(&self.bytes).into()
    }

    /// Address of the reset handler's first instruction once the image lies where it runs.
    pub(crate) fn entry(&self) -> u32 {
        u32::from_le_bytes(self.bytes[HEADER + 4..HEADER + 8].try_into().unwrap()) & !1
    }

    /// Header and body, as the hash covers them.
    fn hashed_size(&self) -> usize {
        let size = self.bytes[OFFSET_IMAGE_SIZE..OFFSET_IMAGE_SIZE + 4].try_into().unwrap();
        HEADER + u32::from_le_bytes(size) as usize
    }

    fn starting_with(mut self, code: &[u8]) -> Self {
        // A word-aligned entry keeps the literals where the loads expect them; the vector's lowest bit says Thumb.
        let entry = (self.entry() + 3) & !3;
        self.bytes[HEADER + 4..HEADER + 8].copy_from_slice(&(entry | 1).to_le_bytes());
        let at = (entry - self.base) as usize;
        self.bytes[at..at + code.len()].copy_from_slice(code);
        self.hashed_again()
    }

    fn hashed_again(mut self) -> Self {
        let size = self.hashed_size();
        let hash = Sha256::digest(&self.bytes[..size]);
        let at = self.bytes.len() - 32;
        self.bytes[at..].copy_from_slice(&hash);
        self
    }
}
