//! One image, read and checked: the only form in which the rest of the program handles firmware.

use std::sync::Arc;

use sha2::{Digest, Sha256};

use super::error::{Fault, ImageError};
use super::hash::{HashCheck, ImageHash};
use super::header::Header;
use super::layout::Layout;
use super::load::Source;
use super::trailer::split_magic;
use super::version::Version;

/// One MCUboot image whose structure and hash hold.
#[derive(Debug, Clone)]
pub struct Image {
    bytes: Arc<[u8]>,
    layout: Layout,
    hash: ImageHash,
    hash_checked: bool,
    version: String,
    file_sha256: [u8; 32],
    source_sha256: [u8; 32],
    padding: usize,
    origin: Origin,
}

/// What kind of file an image comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Origin {
    /// The image itself.
    Binary,
    /// Intel HEX.
    IntelHex {
        /// Where the image lies.
        address: u32,
        /// Whether nothing else is in the file.
        alone: bool,
    },
}

impl Image {
    /// Checks an image that fills `bytes`, but for the padding and trailer that `imgtool sign --pad` puts behind it.
    /// The padding is dropped: its trailer would mark the slot as pending, or even as confirmed, the moment it is
    /// uploaded.
    ///
    /// # Errors
    ///
    /// Those of [`Layout::parse`] and [`Layout::hash`]; `image.hash_mismatch`; `image.trailing_bytes` where something
    /// follows the image that is no padding.
    pub fn from_bytes(bytes: Vec<u8>) -> Result<Self, ImageError> {
        Self::from_source(Source::binary(bytes))
    }

    pub(super) fn from_source(source: Source) -> Result<Self, ImageError> {
        let origin = source.origin;
        let image = Self::check(source);
        match origin {
            Origin::Binary => image,
            Origin::IntelHex { address, .. } => image.map_err(|error| error.at_address(u64::from(address))),
        }
    }

    fn check(Source { bytes, origin, sha256: source_sha256, .. }: Source) -> Result<Self, ImageError> {
        let layout = Layout::parse(&bytes)?;
        let hash = layout.hash()?;
        let hash_checked = match layout.check_hash(&bytes)? {
            HashCheck::Holds => true,
            HashCheck::Encrypted => false,
            HashCheck::Mismatch { computed } => {
                return Err(Fault::HashMismatch {
                    kind: hash.kind,
                    length: layout.hashed_length,
                    offset: hash.offset,
                    expected: hash.value,
                    computed,
                }
                .into());
            }
        };
        let (image, rest) = bytes.split_at(layout.length.min(bytes.len()));
        if !is_padding(rest) {
            return Err(Fault::TrailingBytes { offset: layout.length, count: rest.len() }.into());
        }
        Ok(Self {
            bytes: image.into(),
            version: layout.header.version.to_string(),
            file_sha256: Sha256::digest(image).into(),
            source_sha256,
            padding: rest.len(),
            origin,
            hash,
            hash_checked,
            layout,
        })
    }

    /// The bytes to upload.
    #[must_use]
    pub fn bytes(&self) -> &Arc<[u8]> {
        &self.bytes
    }

    /// The TLV hash: what the device shows as `hash`.
    #[must_use]
    pub fn hash(&self) -> &[u8] {
        &self.hash.value
    }

    /// The TLV hash with its kind.
    #[must_use]
    pub fn image_hash(&self) -> &ImageHash {
        &self.hash
    }

    /// Whether the hash was checked against the content. False only for encrypted images, whose hash is that of the
    /// plain firmware: the hash cannot be checked without the key.
    #[must_use]
    pub fn hash_checked(&self) -> bool {
        self.hash_checked
    }

    /// SHA-256 of [`Image::bytes`]: what an upload sends as `sha`.
    #[must_use]
    pub fn file_sha256(&self) -> &[u8; 32] {
        &self.file_sha256
    }

    /// SHA-256 of the file that the image came from: what a plan's `sha256` pins. Differs from
    /// [`Image::file_sha256`] for Intel HEX files and for padded images.
    #[must_use]
    pub fn source_sha256(&self) -> &[u8; 32] {
        &self.source_sha256
    }

    /// Version in the header, as `major.minor.revision[.build]`.
    #[must_use]
    pub fn version(&self) -> &str {
        &self.version
    }

    /// Version in the header.
    #[must_use]
    pub fn parsed_version(&self) -> Version {
        self.layout.header.version
    }

    /// The header.
    #[must_use]
    pub fn header(&self) -> &Header {
        &self.layout.header
    }

    /// Header, TLVs, and where they lie.
    #[must_use]
    pub fn layout(&self) -> &Layout {
        &self.layout
    }

    /// How much padding and trailer was dropped behind the image, in bytes.
    #[must_use]
    pub fn padding(&self) -> usize {
        self.padding
    }

    /// What kind of file it comes from.
    #[must_use]
    pub fn origin(&self) -> Origin {
        self.origin
    }
}

/// Whether these are the bytes of erased flash, with or without a trailer at their end.
fn is_padding(bytes: &[u8]) -> bool {
    let erased = match bytes.first() {
        None => return true,
        Some(erased @ (0x00 | 0xff)) => *erased,
        Some(_) => return false,
    };
    let body = match split_magic(bytes) {
        Some((body, _)) => body,
        None => return bytes.iter().all(|byte| *byte == erased),
    };
    // `--confirm` sets one byte of the trailer, `image_ok`, to 1.
    body.iter().filter(|byte| **byte != erased).all(|byte| *byte == 0x01)
        && body.iter().filter(|byte| **byte == 0x01).count() <= 1
}
