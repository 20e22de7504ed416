//! ZIP archives, read in memory and within limits: nothing is ever extracted to disk, names are only looked up. What
//! the entries mean is decided elsewhere.

use std::io::{Cursor, Read};

use zip::ZipArchive;
use zip::result::ZipError;

use super::error::{Fault, ImageError};
use super::foreign::Foreign;
use super::header::MAGIC;
use super::load::MAX_IMAGE_SIZE;
use super::zip_fault::{ZipFault, shown};

/// Largest archive, in bytes: what it may hold, stored without compression, and room for its directory.
pub const MAX_ZIP_SIZE: u64 = MAX_IMAGE_SIZE as u64 + (1 << 20);

/// Most entries of an archive. Packages have a handful.
const MAX_ENTRIES: usize = 256;

/// Begins each entry of an archive's directory: the central file header signature (PKWARE, .ZIP File Format
/// Specification, 4.3.12).
const ENTRY: &[u8] = b"PK\x01\x02";

/// An archive in memory.
pub(super) struct Archive<'b> {
    zip: ZipArchive<Cursor<&'b [u8]>>,
    /// How much may still be unpacked, in bytes, over all entries.
    left: u64,
}

impl<'b> Archive<'b> {
    /// Reads the directory of an archive.
    ///
    /// # Errors
    ///
    /// `image.empty`, `image.not_zip`, `image.zip_malformed`; `image.zip_entries`, `image.zip_duplicate_name` and
    /// `image.zip_overlap` for archives that no build makes.
    pub(super) fn open(bytes: &'b [u8]) -> Result<Self, ImageError> {
        if bytes.is_empty() {
            return Err(Fault::Empty.into());
        }
        // Other files are better called by their name.
        let foreign = match bytes.starts_with(&MAGIC.to_le_bytes()) {
            true => Some(Foreign::McubootBinary),
            false => Foreign::of_short(bytes),
        };
        if let Some(foreign) = foreign.filter(|foreign| *foreign != Foreign::Zip) {
            return Err(ZipFault::NotZip(foreign).into());
        }
        // Counted before a directory is read into memory, wherever it may be.
        let entries = bytes.windows(ENTRY.len()).filter(|bytes| *bytes == ENTRY).count();
        if entries > MAX_ENTRIES {
            return Err(ZipFault::Entries { limit: MAX_ENTRIES, got: entries }.into());
        }
        let mut zip = ZipArchive::new(Cursor::new(bytes)).map_err(malformed)?;
        if zip.has_duplicate_names() {
            return Err(ZipFault::DuplicateName.into());
        }
        if zip.has_overlapping_entries().map_err(malformed)? {
            return Err(ZipFault::Overlap.into());
        }
        Ok(Self { zip, left: MAX_IMAGE_SIZE as u64 })
    }

    /// Names of the entries, fit to be shown.
    pub(super) fn names(&self) -> Vec<String> {
        self.zip.file_names_raw().map(|name| shown(&String::from_utf8_lossy(name))).collect()
    }

    /// Unpacks the entry of exactly this name; `None` where there is none. At most `limit` bytes, and no more than is
    /// left for the whole archive.
    ///
    /// # Errors
    ///
    /// `image.too_large`, whatever size the archive claims; `image.zip_member_unreadable` where it cannot be unpacked
    /// or its checksum does not hold.
    pub(super) fn read(
        &mut self,
        name: &str,
        limit: u64,
        what: &'static str,
    ) -> Result<Option<Vec<u8>>, ImageError> {
        let Some(index) = self.zip.index_for_name_raw(name.as_bytes()) else { return Ok(None) };
        let entry = self.zip.by_index(index).map_err(|error| unreadable(error.to_string()))?;
        if entry.is_dir() || entry.is_symlink() {
            return Err(unreadable("it is no file".to_owned()));
        }
        let limit = limit.min(self.left);
        // The size that the directory states is no more than a statement: what is unpacked is counted.
        let mut bytes = Vec::new();
        entry.take(limit + 1).read_to_end(&mut bytes).map_err(|error| unreadable(error.to_string()))?;
        let got = bytes.len() as u64;
        if got > limit {
            return Err(Fault::TooLarge { what, limit, got }.into());
        }
        self.left -= got;
        Ok(Some(bytes))
    }
}

#[expect(clippy::needless_pass_by_value, reason = "it is what `map_err` gives")]
fn malformed(error: ZipError) -> ImageError {
    ZipFault::Malformed { reason: shown(&error.to_string()) }.into()
}

fn unreadable(reason: String) -> ImageError {
    ZipFault::MemberUnreadable { reason: shown(&reason) }.into()
}
