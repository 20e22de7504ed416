//! MCUboot images.

use std::sync::Arc;

/// One MCUboot image, read and checked. (Skeleton: fields are private in the finished module.)
#[derive(Debug, Clone)]
pub struct Image {
    bytes: Arc<[u8]>,
    hash: Vec<u8>,
    file_sha256: [u8; 32],
    version: String,
}

impl Image {
    /// The bytes to upload.
    #[must_use]
    pub fn bytes(&self) -> &Arc<[u8]> {
        &self.bytes
    }

    /// The TLV hash: what the device shows as `hash`.
    #[must_use]
    pub fn hash(&self) -> &[u8] {
        &self.hash
    }

    /// SHA-256 of all bytes: what an upload sends as `sha`.
    #[must_use]
    pub fn file_sha256(&self) -> &[u8; 32] {
        &self.file_sha256
    }

    /// Version in the header, as `major.minor.revision[.build]`.
    #[must_use]
    pub fn version(&self) -> &str {
        &self.version
    }
}

/// (Skeleton, finished in its own branch.)
#[derive(Debug)]
pub struct Version(semver::Version);
impl Version {
    /// Skeleton.
    pub fn satisfies(&self, _: &semver::VersionReq) -> bool {
        false
    }
}
impl std::str::FromStr for Version {
    type Err = semver::Error;
    fn from_str(s: &str) -> Result<Self, Self::Err> {
        s.parse().map(Self)
    }
}
