//! The hash of an image: which kind, over what, and whether it holds.

use std::fmt;

use sha2::{Digest, Sha256, Sha384, Sha512};

use super::tlv::TlvType;

/// The hash functions that MCUboot knows for images.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum HashKind {
    /// SHA-256.
    Sha256,
    /// SHA-384.
    Sha384,
    /// SHA-512.
    Sha512,
}

impl HashKind {
    /// The kind of a hash TLV.
    #[must_use]
    pub fn of_tlv(kind: TlvType) -> Option<Self> {
        match kind {
            TlvType::SHA256 => Some(Self::Sha256),
            TlvType::SHA384 => Some(Self::Sha384),
            TlvType::SHA512 => Some(Self::Sha512),
            _ => None,
        }
    }

    /// The TLV that carries it.
    #[must_use]
    pub fn tlv(self) -> TlvType {
        match self {
            Self::Sha256 => TlvType::SHA256,
            Self::Sha384 => TlvType::SHA384,
            Self::Sha512 => TlvType::SHA512,
        }
    }

    /// Length of the hash, in bytes.
    #[must_use]
    pub fn size(self) -> usize {
        match self {
            Self::Sha256 => 32,
            Self::Sha384 => 48,
            Self::Sha512 => 64,
        }
    }

    /// The hash of `data`.
    #[must_use]
    pub fn digest(self, data: &[u8]) -> Vec<u8> {
        match self {
            Self::Sha256 => Sha256::digest(data).to_vec(),
            Self::Sha384 => Sha384::digest(data).to_vec(),
            Self::Sha512 => Sha512::digest(data).to_vec(),
        }
    }
}

impl fmt::Display for HashKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Sha256 => "SHA-256",
            Self::Sha384 => "SHA-384",
            Self::Sha512 => "SHA-512",
        })
    }
}

/// The hash TLV of an image: what a device shows as `hash`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImageHash {
    /// Which hash.
    pub kind: HashKind,
    /// Its bytes.
    pub value: Vec<u8>,
    /// Offset of the value in the image, in bytes.
    pub offset: usize,
}

/// Whether the hash TLV holds for the content.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HashCheck {
    /// The content hashes to it.
    Holds,
    /// The content hashes to something else.
    Mismatch {
        /// What the content hashes to.
        computed: Vec<u8>,
    },
    /// The firmware is encrypted, and the hash is that of the plain firmware: only the device can tell.
    Encrypted,
}
