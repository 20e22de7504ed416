//! What a plan calls an image: one image, or a package of several for one device. Which one goes where is asked here;
//! how it gets there is not.

use std::path::Path;
use std::sync::Arc;

use super::checked::Image;
use super::error::ImageError;
use super::key::PublicKey;
use super::load::FileKind;
use super::package::PackageInspection;
use super::zip_fault::{ZipFault, shown};

/// One image, or the images of a package. Never empty.
#[derive(Debug, Clone)]
pub struct ImageSet {
    members: Vec<Member>,
    source_sha256: [u8; 32],
}

/// One image of a set.
#[derive(Debug, Clone)]
pub struct Member {
    /// The image.
    pub image: Arc<Image>,
    /// The image number that the package gives it; `None` where it says none: whoever uploads it does.
    pub image_number: Option<u32>,
    /// The slot, 0 or 1, that it was built for: one of a pair for direct XIP, or one half of such a pair.
    pub slot: Option<u32>,
    /// Name of its file in the package, fit to be shown; `None` where it is a file of its own.
    pub file: Option<String>,
}

impl ImageSet {
    /// Reads and checks an image file ([`Image::load`]), or every image of a package.
    ///
    /// # Errors
    ///
    /// Those of [`Image::load`] and of [`PackageInspection::of`]; `image.zip_member_missing`,
    /// `image.zip_member_unreadable`, `image.zip_member_size`, `image.zip_member_version` and `image.zip_image_number`.
    /// The first one counts; each names the file and, where it is about one, the entry.
    pub fn load(path: &Path) -> Result<Self, ImageError> {
        if PackageInspection::is_package(path) {
            Self::of_package(PackageInspection::of(path)?)
        } else {
            Image::load(path).map(Self::from)
        }
    }

    /// The same from memory, as [`Image::from_file_content`] tells what it is.
    ///
    /// # Errors
    ///
    /// As for [`ImageSet::load`], but without a file's name.
    pub fn from_file_content(bytes: Vec<u8>) -> Result<Self, ImageError> {
        match FileKind::of_content(&bytes) {
            FileKind::Zip => Self::of_package(PackageInspection::of_bytes(&bytes)?),
            FileKind::IntelHex | FileKind::Binary => Image::from_file_content(bytes).map(Self::from),
        }
    }

    /// The set of a package.
    ///
    /// # Errors
    ///
    /// The first thing that is wrong with the package.
    pub fn of_package(package: PackageInspection) -> Result<Self, ImageError> {
        let members = package.members.into_iter().map(|(file, inspection)| {
            Ok(Member {
                image: Arc::new(inspection.image?),
                image_number: file.image_number,
                slot: file.slot,
                file: Some(shown(&file.file)),
            })
        });
        let members = members.collect::<Result<Vec<_>, ImageError>>()?;
        match package.fault {
            Some(error) => Err(error),
            None => Ok(Self { members, source_sha256: package.sha256 }),
        }
    }

    /// Its images, in the package's order.
    #[must_use]
    pub fn members(&self) -> &[Member] {
        &self.members
    }

    /// The image numbers that the package gives, each once, in its order. Empty for an image that has none of its own:
    /// it goes where it is told to.
    #[must_use]
    pub fn image_numbers(&self) -> Vec<u32> {
        if let [Member { image_number: None, .. }] = &self.members[..] {
            return Vec::new();
        }
        let mut numbers = Vec::new();
        for member in &self.members {
            let number = member.image_number.unwrap_or(0);
            if !numbers.contains(&number) {
                numbers.push(number);
            }
        }
        numbers
    }

    /// What there is for an image number: nothing, one image, or one for each slot.
    #[must_use]
    pub fn for_image(&self, number: u32) -> Vec<&Member> {
        let anywhere = self.image_numbers().is_empty();
        let fits = |member: &&Member| anywhere || member.image_number.unwrap_or(0) == number;
        self.members.iter().filter(fits).collect()
    }

    /// The image with a TLV hash.
    #[must_use]
    pub fn by_hash(&self, hash: &[u8]) -> Option<&Arc<Image>> {
        self.members.iter().map(|member| &member.image).find(|image| image.hash() == hash)
    }

    /// SHA-256 of the file that the set came from: what a plan's `sha256` pins.
    #[must_use]
    pub fn source_sha256(&self) -> &[u8; 32] {
        &self.source_sha256
    }

    /// Checks that every image is signed with a key.
    ///
    /// # Errors
    ///
    /// Those of [`Image::verify`]; the entry of a package is named.
    pub fn verify(&self, key: &PublicKey) -> Result<(), ImageError> {
        for member in &self.members {
            member.image.verify(key).map_err(|error| match &member.file {
                Some(file) => error.in_member(file),
                None => error,
            })?;
        }
        Ok(())
    }

    /// The one image that there is.
    pub(super) fn single(self) -> Result<Image, ImageError> {
        let names = self.members.iter().filter_map(|member| member.file.clone()).collect();
        let count = self.members.len();
        match <[Member; 1]>::try_from(self.members) {
            Ok([member]) => Ok(Arc::unwrap_or_clone(member.image)),
            Err(_) => Err(ZipFault::SeveralImages { count, names }.into()),
        }
    }
}

/// An image of its own.
impl From<Arc<Image>> for ImageSet {
    fn from(image: Arc<Image>) -> Self {
        let source_sha256 = *image.source_sha256();
        Self { members: vec![Member { image, image_number: None, slot: None, file: None }], source_sha256 }
    }
}

/// An image of its own.
impl From<Image> for ImageSet {
    fn from(image: Image) -> Self {
        Self::from(Arc::new(image))
    }
}
