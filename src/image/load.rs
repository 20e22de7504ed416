//! Images from files: what kind a file is, how large it may be, and what is wrong with it.

use std::fs::{self, File};
use std::io::{BufReader, ErrorKind, Read};
use std::path::Path;

use super::checked::Image;
use super::error::{Fault, ImageError};
use super::hex;

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
        load(path).map_err(|error| error.in_file(path))
    }
}

fn load(path: &Path) -> Result<Image, ImageError> {
    match FileKind::of(path) {
        FileKind::Zip => {
            // A missing file is missing first of all.
            open(path, u64::MAX, "archive")?;
            Err(Fault::ZipNotSupported.into())
        }
        FileKind::IntelHex => hex::read(BufReader::new(open(path, MAX_HEX_SIZE, "Intel HEX")?)),
        FileKind::Binary => Image::from_bytes(read_binary(path)?),
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
    open(path, limit, "image")?.take(limit + 1).read_to_end(&mut bytes).map_err(unreadable)?;
    let got = bytes.len() as u64;
    if got > limit {
        return Err(Fault::TooLarge { what: "image", limit, got }.into());
    }
    Ok(bytes)
}

/// Opens a regular file of at most `limit` bytes. Others are not opened at all: a pipe would block, a device never
/// end.
pub(super) fn open(path: &Path, limit: u64, what: &'static str) -> Result<File, ImageError> {
    let metadata = fs::metadata(path).map_err(unreadable)?;
    if !metadata.is_file() {
        let got = if metadata.is_dir() { "a directory" } else { "a device, pipe or socket" };
        return Err(Fault::NotAFile { got }.into());
    }
    if metadata.len() > limit {
        return Err(Fault::TooLarge { what, limit, got: metadata.len() }.into());
    }
    File::open(path).map_err(unreadable)
}

#[expect(clippy::needless_pass_by_value, reason = "for map_err")]
fn unreadable(error: std::io::Error) -> ImageError {
    // `NotADirectory`: a part of the path is a file, so there is no such file either.
    match error.kind() {
        ErrorKind::NotFound | ErrorKind::NotADirectory => Fault::FileMissing.into(),
        _ => Fault::FileUnreadable { reason: error.to_string() }.into(),
    }
}
