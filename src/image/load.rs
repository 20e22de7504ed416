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

/// Largest image, in bytes. Slots of devices that speak SMP are a few MiB at most.
pub const MAX_IMAGE_SIZE: usize = 64 << 20;

/// Largest Intel HEX file, in bytes: an image of [`MAX_IMAGE_SIZE`] in records of 16 bytes takes 45 characters for
/// each.
pub const MAX_HEX_SIZE: u64 = 3 * MAX_IMAGE_SIZE as u64;

impl Image {
    /// Reads and checks the image in a file. A name that ends in `.hex` or `.ihex` means Intel HEX, in which the one
    /// image is looked for; every other one means a binary image.
    ///
    /// # Errors
    ///
    /// Each names the file. For the file: `image.file_missing`, `image.file_unreadable`, `image.not_a_file`,
    /// `image.too_large`, `image.zip_not_supported`. For Intel HEX: `image.not_intel_hex`, `image.hex_syntax`,
    /// `image.hex_truncated`, `image.hex_address`, `image.hex_overlap`, `image.hex_scattered`, `image.hex_gap`,
    /// `image.hex_no_image`, `image.hex_several_images`. For the image: those of [`Image::from_bytes`].
    pub fn load(path: &Path) -> Result<Self, ImageError> {
        read(path).and_then(Self::from_source).map_err(|error| error.in_file(path))
    }
}

/// What can be said of an image file even where the image is not fit for use.
#[derive(Debug, Clone)]
pub struct Inspection {
    /// The image's parts, where its structure holds.
    pub layout: Option<Layout>,
    /// Whether the hash TLV holds, where there is one.
    pub hash_check: Option<HashCheck>,
    /// The image, or the first thing that is wrong with it.
    pub image: Result<Image, ImageError>,
}

impl Inspection {
    /// Reads a file as [`Image::load`] does, and keeps what is known of it beside the error.
    #[must_use]
    pub fn of(path: &Path) -> Self {
        let source = match read(path) {
            Ok(source) => source,
            Err(error) => return Self { layout: None, hash_check: None, image: Err(error.in_file(path)) },
        };
        let layout = Layout::parse(&source.bytes).ok();
        let hash_check = layout.as_ref().and_then(|layout| layout.check_hash(&source.bytes).ok());
        let image = Image::from_source(source).map_err(|error| error.in_file(path));
        Self { layout, hash_check, image }
    }
}

/// The bytes that may be an image, and what they come from.
#[derive(Debug)]
pub(super) struct Source {
    pub(super) bytes: Vec<u8>,
    pub(super) origin: Origin,
    /// SHA-256 of the file.
    pub(super) sha256: [u8; 32],
}

impl Source {
    pub(super) fn binary(bytes: Vec<u8>) -> Self {
        Self { sha256: Sha256::digest(&bytes).into(), origin: Origin::Binary, bytes }
    }
}

fn read(path: &Path) -> Result<Source, ImageError> {
    match FileKind::of(path) {
        FileKind::Zip => {
            // A missing file is missing first of all.
            open(path, u64::MAX, "an archive")?;
            Err(Fault::ZipNotSupported.into())
        }
        FileKind::IntelHex => hex::read(BufReader::new(open(path, MAX_HEX_SIZE, "Intel HEX")?)),
        FileKind::Binary => Ok(Source::binary(read_binary(path)?)),
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

/// All bytes of a file of at most [`MAX_IMAGE_SIZE`].
pub(super) fn read_binary(path: &Path) -> Result<Vec<u8>, ImageError> {
    let limit = MAX_IMAGE_SIZE as u64;
    let mut bytes = Vec::new();
    // The file may grow while it is read.
    open(path, limit, "an image")?
        .take(limit + 1)
        .read_to_end(&mut bytes)
        .map_err(|error| unreadable("an image", &error))?;
    let got = bytes.len() as u64;
    if got > limit {
        return Err(Fault::TooLarge { what: "an image", limit, got }.into());
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
