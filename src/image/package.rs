//! A package taken apart: its manifest, and each image that the manifest names. What is wrong with one image does not
//! hide the others.

use std::path::Path;

use sha2::{Digest, Sha256};

use super::archive::{Archive, MAX_ZIP_SIZE};
use super::error::ImageError;
use super::hex;
use super::load::{FileKind, Inspection, MAX_IMAGE_SIZE, Source, read_whole};
use super::manifest::{MAX_MANIFEST_SIZE, Manifest, ManifestFile};
use super::version::Version;
use super::zip_fault::{ZipFault, shown};

/// Name of the manifest in the archive.
const MANIFEST: &str = "manifest.json";

/// What can be said of a package, even where it is not fit for use.
#[derive(Debug, Clone)]
pub struct PackageInspection {
    /// The manifest.
    pub manifest: Manifest,
    /// SHA-256 of the archive: what a plan's `sha256` pins.
    pub sha256: [u8; 32],
    /// Each file that the manifest names, in its order.
    pub members: Vec<(ManifestFile, Inspection)>,
    /// What is wrong with the package although each of its images is right.
    pub fault: Option<ImageError>,
}

impl PackageInspection {
    /// Whether the content of a file begins as that of a package.
    #[must_use]
    pub fn is_package_content(bytes: &[u8]) -> bool {
        FileKind::of_content(bytes) == FileKind::Zip
    }

    /// Whether the name of a file says that it is a package.
    #[must_use]
    pub fn is_package(path: &Path) -> bool {
        FileKind::of(path) == FileKind::Zip
    }

    /// Reads a package. The errors of its images name the file and the entry.
    ///
    /// # Errors
    ///
    /// What is wrong with the archive or its manifest, with the file's name: `image.file_missing`,
    /// `image.file_unreadable`, `image.not_a_file`, `image.too_large`, `image.empty`, `image.not_zip`, and those of
    /// [`ZipFault`].
    pub fn of(path: &Path) -> Result<Self, ImageError> {
        read_whole(path, MAX_ZIP_SIZE, "an archive")
            .and_then(|bytes| Self::of_bytes(&bytes))
            .map(|package| package.in_file(path))
            .map_err(|error| error.in_file(path))
    }

    /// The same from memory.
    ///
    /// # Errors
    ///
    /// As for [`PackageInspection::of`], but without a file's name.
    pub fn of_bytes(bytes: &[u8]) -> Result<Self, ImageError> {
        let mut archive = Archive::open(bytes)?;
        let manifest = archive
            .read(MANIFEST, MAX_MANIFEST_SIZE, "the manifest")
            .map_err(|error| error.in_member(MANIFEST))?
            .ok_or_else(|| ZipFault::ManifestMissing { names: archive.names() })?;
        let manifest = Manifest::parse(&manifest).map_err(|error| error.in_member(MANIFEST))?;
        let members: Vec<_> = manifest
            .files
            .iter()
            .map(|file| {
                let inspection = inspect(&mut archive, file);
                let image = inspection.image.map_err(|error| error.in_member(&file.file));
                (file.clone(), Inspection { image, ..inspection })
            })
            .collect();
        let fault = check_numbers(&manifest.files).err();
        Ok(Self { manifest, sha256: Sha256::digest(bytes).into(), members, fault })
    }

    fn in_file(self, path: &Path) -> Self {
        let members = self.members.into_iter().map(|(file, inspection)| {
            let image = inspection.image.map_err(|error| error.in_file(path));
            (file, Inspection { image, ..inspection })
        });
        Self {
            members: members.collect(),
            fault: self.fault.map(|error| error.in_file(path)),
            manifest: self.manifest,
            sha256: self.sha256,
        }
    }
}

/// Unpacks one file and checks it against what the manifest says of it.
fn inspect(archive: &mut Archive<'_>, file: &ManifestFile) -> Inspection {
    let bytes = match archive.read(&file.file, MAX_IMAGE_SIZE as u64, "a package's images") {
        Ok(Some(bytes)) => bytes,
        Ok(None) => return Inspection::failed(ZipFault::MemberMissing.into()),
        Err(error) => return Inspection::failed(error),
    };
    let got = bytes.len() as u64;
    if let Some(manifest) = file.size.filter(|size| *size != got) {
        return Inspection::failed(ZipFault::MemberSize { manifest, got }.into());
    }
    let source = match FileKind::of(Path::new(&file.file)) {
        FileKind::IntelHex => match hex::read(bytes.as_slice()) {
            Ok(source) => source,
            Err(error) => return Inspection::failed(error),
        },
        // An archive in an archive is told by its first bytes.
        FileKind::Binary | FileKind::Zip => Source::binary(bytes),
    };
    let mut inspection = Inspection::of_source(source);
    if let (Ok(image), Some(manifest)) = (&inspection.image, &file.version)
        && let Ok(version) = manifest.parse::<Version>()
        && version != image.parsed_version()
    {
        let got = image.parsed_version();
        inspection.image = Err(ZipFault::MemberVersion { manifest: version.to_string(), got }.into());
    }
    inspection
}

/// Each image number stands once, or twice with different slots.
fn check_numbers(files: &[ManifestFile]) -> Result<(), ImageError> {
    for (index, file) in files.iter().enumerate() {
        let number = file.image_number.unwrap_or(0);
        let same = |other: &&ManifestFile| other.image_number.unwrap_or(0) == number;
        for other in files.iter().take(index).filter(same) {
            if file.slot.is_none() || other.slot.is_none() || file.slot == other.slot {
                let (first, second) = (shown(&other.file), shown(&file.file));
                return Err(ZipFault::ImageNumber { number, first, second }.into());
            }
        }
    }
    Ok(())
}
