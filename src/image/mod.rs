//! MCUboot images: read from a file, taken apart, and checked before anything is sent to a device.
//!
//! The format is MCUboot's (`docs/design.md` and `boot/bootutil/include/bootutil/image.h` there):
//! a header, the firmware, an optional protected TLV area, an unprotected TLV area. All numbers are little-endian.

pub mod builder;
mod checked;
mod error;
mod foreign;
mod hash;
mod header;
mod hex;
mod key;
mod layout;
mod load;
mod signature;
mod tlv;
mod version;

pub use builder::ImageBuilder;
pub use checked::{Image, Origin};
pub use error::{Fault, ImageError};
pub use foreign::Foreign;
pub use hash::{HashCheck, HashKind, ImageHash};
pub use header::{Flags, HEADER_SIZE, Header, MAGIC};
pub use key::PublicKey;
pub use layout::{Area, Layout};
pub use load::{Inspection, MAX_HEX_SIZE, MAX_IMAGE_SIZE};
pub use tlv::{PROTECTED_TLV_MAGIC, TLV_HEADER_SIZE, TLV_INFO_SIZE, TLV_MAGIC, Tlv, TlvType};
pub use version::{ParseVersionError, Version};
