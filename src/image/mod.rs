//! MCUboot images: read from a file, taken apart, and checked before anything is sent to a device.
//!
//! The format is MCUboot's (`docs/design.md` and `boot/bootutil/include/bootutil/image.h` there):
//! a header, the firmware, an optional protected TLV area, an unprotected TLV area. All numbers are little-endian.
//! Packages are ZIP archives of such images with a `manifest.json`, as nRF Connect SDK builds them.

mod archive;
pub mod builder;
mod checked;
mod dependency;
mod error;
mod foreign;
mod hash;
mod header;
mod hex;
mod key;
mod layout;
mod load;
mod manifest;
mod package;
mod set;
mod signature;
mod tlv;
mod trailer;
mod version;
mod zip_fault;

pub use archive::MAX_ZIP_SIZE;
pub use builder::ImageBuilder;
pub use checked::{Image, Origin};
pub use dependency::{Dependency, DependencySlot};
pub use error::{Fault, ImageError};
pub use foreign::Foreign;
pub use hash::{HashCheck, HashKind, ImageHash};
pub use header::{Flags, HEADER_SIZE, Header, MAGIC};
pub use key::PublicKey;
pub use layout::{Area, Layout};
pub use load::{Inspection, MAX_HEX_SIZE, MAX_IMAGE_SIZE};
pub use manifest::{Manifest, ManifestFile};
pub use package::PackageInspection;
pub use set::{ImageSet, Member};
pub use tlv::{PROTECTED_TLV_MAGIC, TLV_HEADER_SIZE, TLV_INFO_SIZE, TLV_MAGIC, Tlv, TlvType};
pub use trailer::Trailer;
pub use version::{ParseVersionError, Version};
pub use zip_fault::ZipFault;
