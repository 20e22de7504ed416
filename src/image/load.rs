//! Images from files: what kind a file is, how large it may be, and what is wrong with it.

use std::fs::{self, File};
use std::io::{BufReader, ErrorKind, Read};
use std::path::Path;

use sha2::{Digest, Sha256};

use super::checked::{Image, Origin};
use super::error::{Fault, ImageError};
use super::hash::HashCheck;
use super::hex;
use super::layout::Layout;
use super::set::ImageSet;
use super::trailer::Trailer;

/// Largest image, in bytes. Slots of devices that speak SMP are a few MiB at most.
pub const MAX_IMAGE_SIZE: usize = 64 << 20;

/// Largest Intel HEX file, in bytes: an image of [`MAX_IMAGE_SIZE`] in records of 16 bytes takes 45 characters for
/// each.
pub const MAX_HEX_SIZE: u64 = 3 * MAX_IMAGE_SIZE as u64;

impl Image {
    /// Reads and checks the image in a file. A name that ends in `.hex` or `.ihex` means Intel HEX, in which the one
    /// image is looked for; one that ends in `.zip` a package, which must be of one image; every other one means a
    /// binary image.
    ///
    /// # Errors
    ///
    /// Each names the file. For the file: `image.file_missing`, `image.file_unreadable`, `image.not_a_file`,
    /// `image.too_large`. For packages: those of [`ImageSet::load`], and `image.zip_several_images`. For Intel HEX: `image.not_intel_hex`, `image.hex_syntax`,
    /// `image.hex_truncated`, `image.hex_address`, `image.hex_overlap`, `image.hex_scattered`, `image.hex_gap`,
    /// `image.hex_no_image`, `image.hex_several_images`. For the image: those of [`Image::from_bytes`].
    pub fn load(path: &Path) -> Result<Self, ImageError> {
        match FileKind::of(path) {
            FileKind::Zip => ImageSet::load(path)?.single().map_err(|error| error.in_file(path)),
            FileKind::IntelHex | FileKind::Binary => {
                read(path).and_then(Self::from_source).map_err(|error| error.in_file(path))
            }
        }
    }
}

impl Image {
    /// The same from memory. What kind of file it is, its first bytes tell: an archive begins with `PK`, Intel HEX with a
    /// colon, and an image with neither.
    ///
    /// # Errors
    ///
    /// As for [`Image::load`], but without a file's name.
    pub fn from_file_content(bytes: Vec<u8>) -> Result<Self, ImageError> {
        match FileKind::of_content(&bytes) {
            FileKind::Zip => ImageSet::from_file_content(bytes)?.single(),
            FileKind::IntelHex => Self::from_source(hex::read(&bytes[..])?),
            FileKind::Binary => Self::from_bytes(bytes),
        }
    }
}

/// What can be said of an image file even where the image is not fit for use.
#[derive(Debug, Clone)]
pub struct Inspection {
    /// The image's parts, where its structure holds.
    pub layout: Option<Layout>,
    /// Whether the hash TLV holds, where there is one.
    pub hash_check: Option<HashCheck>,
    /// The trailer behind the image, where there is one.
    pub trailer: Option<Trailer>,
    /// The image, or the first thing that is wrong with it.
    pub image: Result<Image, ImageError>,
}

impl Inspection {
    /// Reads a file as [`Image::load`] does, and keeps what is known of it beside the error. For packages see
    /// [`PackageInspection`](super::PackageInspection).
    #[must_use]
    pub fn of(path: &Path) -> Self {
        let inspection = match read(path) {
            Ok(source) => Self::of_source(source),
            Err(error) => Self::failed(error),
        };
        Self { image: inspection.image.map_err(|error| error.in_file(path)), ..inspection }
    }

    pub(super) fn of_source(source: Source) -> Self {
        let layout = Layout::parse(&source.bytes).ok();
        let hash_check = layout.as_ref().and_then(|layout| layout.check_hash(&source.bytes).ok());
        let behind = layout.as_ref().and_then(|layout| source.bytes.get(layout.length..));
        let trailer = source.trailer.or_else(|| behind.and_then(Trailer::parse));
        Self { layout, hash_check, trailer, image: Image::from_source(source) }
    }

    /// The same from memory, of an image or Intel HEX, as their first bytes tell.
    #[must_use]
    pub fn of_file_content(bytes: Vec<u8>) -> Self {
        match FileKind::of_content(&bytes) {
            FileKind::IntelHex => hex::read(&bytes[..]).map_or_else(Self::failed, Self::of_source),
            FileKind::Binary | FileKind::Zip => Self::of_source(Source::binary(bytes)),
        }
    }

    /// Nothing is known but the error.
    #[must_use]
    pub fn failed(error: ImageError) -> Self {
        Self { layout: None, hash_check: None, trailer: None, image: Err(error) }
    }
}

/// The bytes that may be an image, and what they come from.
#[derive(Debug)]
pub(super) struct Source {
    pub(super) bytes: Vec<u8>,
    pub(super) origin: Origin,
    /// SHA-256 of the file.
    pub(super) sha256: [u8; 32],
    /// A trailer that is not among the bytes.
    pub(super) trailer: Option<Trailer>,
}

impl Source {
    pub(super) fn binary(bytes: Vec<u8>) -> Self {
        Self { sha256: Sha256::digest(&bytes).into(), origin: Origin::Binary, bytes, trailer: None }
    }
}

fn read(path: &Path) -> Result<Source, ImageError> {
    match FileKind::of(path) {
        FileKind::IntelHex => hex::read(BufReader::new(open(path, MAX_HEX_SIZE, "Intel HEX")?)),
        // An archive that is read as an image is told by its first bytes.
        FileKind::Binary | FileKind::Zip => {
            Ok(Source::binary(read_whole(path, MAX_IMAGE_SIZE as u64, "an image")?))
        }
    }
}

/// What the name of a file says of its content.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum FileKind {
    /// The image itself.
    Binary,
    /// Intel HEX.
    IntelHex,
    /// An archive with `manifest.json`.
    Zip,
}

impl FileKind {
    pub(super) fn of(path: &Path) -> Self {
        let extension = path.extension().unwrap_or_default().to_ascii_lowercase();
        match extension.to_str() {
            Some("hex" | "ihex") => Self::IntelHex,
            Some("zip") => Self::Zip,
            _ => Self::Binary,
        }
    }
}

impl FileKind {
    /// What the content of a file says of itself.
    pub(super) fn of_content(bytes: &[u8]) -> Self {
        match bytes {
            // The signature of a local file header (PKWARE APPNOTE 4.3.7).
            [b'P', b'K', 3, 4, ..] => Self::Zip,
            [b':', ..] => Self::IntelHex,
            _ => Self::Binary,
        }
    }
}

/// All bytes of a file of at most `limit` bytes.
pub(super) fn read_whole(path: &Path, limit: u64, what: &'static str) -> Result<Vec<u8>, ImageError> {
    let mut bytes = Vec::new();
    // The file may grow while it is read.
    open(path, limit, what)?
        .take(limit + 1)
        .read_to_end(&mut bytes)
        .map_err(|error| unreadable(what, &error))?;
    let got = bytes.len() as u64;
    if got > limit {
        return Err(Fault::TooLarge { what, limit, got }.into());
    }
    Ok(bytes)
}

/// Opens a regular file of at most `limit` bytes. Others are not opened at all: a pipe would block, a device never
/// end.
pub(super) fn open(path: &Path, limit: u64, what: &'static str) -> Result<File, ImageError> {
    let metadata = fs::metadata(path).map_err(|error| unreadable(what, &error))?;
    if !metadata.is_file() {
        let got = if metadata.is_dir() { "a directory" } else { "a device, pipe or socket" };
        return Err(Fault::NotAFile { what, got }.into());
    }
    if metadata.len() > limit {
        return Err(Fault::TooLarge { what, limit, got: metadata.len() }.into());
    }
    File::open(path).map_err(|error| unreadable(what, &error))
}

fn unreadable(what: &'static str, error: &std::io::Error) -> ImageError {
    // `NotADirectory`: a part of the path is a file, so there is no such file either.
    match error.kind() {
        ErrorKind::NotFound | ErrorKind::NotADirectory => Fault::FileMissing { what }.into(),
        _ => Fault::FileUnreadable { what, reason: error.to_string() }.into(),
    }
}
