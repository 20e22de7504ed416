//! Everything that can be wrong with an image or its file, with code, class and help. Nothing here finds faults.

use std::path::{Path, PathBuf};

use super::foreign::Foreign;
use super::hash::HashKind;
use super::header::{HEADER_SIZE, MAGIC};
use super::layout::Area;
use super::tlv::TlvType;
use super::version::Version;
use super::zip_fault::{ZipFault, shown};
use crate::cause::{Cause, Class};

/// A fault, with the file it is in where one is known.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}{fault}", .file.as_ref().map(|file| format!("{}: ", file.display())).unwrap_or_default())]
pub struct ImageError {
    file: Option<PathBuf>,
    // Boxed: errors travel in every `Result` of this module.
    fault: Box<Fault>,
}

impl ImageError {
    /// What is wrong, without the file's name.
    #[must_use]
    pub fn fault(&self) -> &Fault {
        &self.fault
    }

    /// The file.
    #[must_use]
    pub fn file(&self) -> Option<&Path> {
        self.file.as_deref()
    }

    /// Names the file.
    #[must_use]
    pub fn in_file(self, file: &Path) -> Self {
        Self { file: Some(file.to_owned()), ..self }
    }

    /// Names the file of a package that has the fault.
    #[must_use]
    pub fn in_member(self, name: &str) -> Self {
        Self { fault: Box::new(Fault::InZip { member: shown(name), fault: self.fault }), file: self.file }
    }

    /// Says where in an Intel HEX file the image lies that has the fault.
    pub(super) fn at_address(self, address: u64) -> Self {
        match *self.fault {
            // These speak of addresses already.
            Fault::HexGap { .. } | Fault::InHex { .. } => self,
            fault => {
                Self { fault: Box::new(Fault::InHex { address, fault: Box::new(fault) }), file: self.file }
            }
        }
    }

    /// The stable code.
    #[must_use]
    pub fn code(&self) -> &'static str {
        self.fault.code()
    }

    /// Who has to act.
    #[must_use]
    pub fn class(&self) -> Class {
        self.fault.class()
    }

    /// The next thing to do.
    #[must_use]
    pub fn help(&self) -> String {
        self.fault.help()
    }
}

impl From<Fault> for ImageError {
    fn from(fault: Fault) -> Self {
        Self { file: None, fault: Box::new(fault) }
    }
}

impl From<ZipFault> for ImageError {
    fn from(fault: ZipFault) -> Self {
        Fault::Zip(fault).into()
    }
}

impl From<ImageError> for Cause {
    fn from(error: ImageError) -> Self {
        Self::new(error.class(), error.code(), error.to_string(), error.help())
    }
}

/// What can be wrong. Offsets, lengths and counts are in bytes, offsets from the start of the image.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[expect(missing_docs, reason = "the message of each variant says what it and its fields are")]
pub enum Fault {
    #[error("expected an MCUboot image, got an empty file")]
    Empty,
    #[error(
        "expected {needed} bytes of {what} at offset {offset:#x}, but the image ends after {length} bytes"
    )]
    Truncated { what: &'static str, offset: u64, needed: u64, length: u64 },
    #[error("expected the magic {MAGIC:#010x} of an MCUboot image at offset 0, got {}", .0.describe())]
    Foreign(Foreign),
    #[error("expected the magic {MAGIC:#010x} of an MCUboot image at offset 0, got {}", Foreign::Unsigned(.0).describe())]
    Unsigned(&'static str),
    #[error("expected the magic {MAGIC:#010x} of an MCUboot image at offset 0, got {got:#010x}")]
    BadMagic { got: u32 },
    #[error("expected {field} in the image header at offset {offset:#x} to be {expected}, got {got}")]
    HeaderInvalid { offset: usize, field: &'static str, expected: String, got: String },
    #[error("expected {area} with magic {:#06x} at offset {offset:#x}, got {got:#06x}", .area.magic())]
    TlvMissing { area: Area, offset: usize, got: u16 },
    #[error("{area} is malformed at offset {offset:#x}: {reason}")]
    TlvMalformed { area: Area, offset: usize, reason: String },
    #[error(
        "expected a protected TLV area of {header} bytes as the header says, got {area} at offset {offset:#x}"
    )]
    ProtectedTlvSize { offset: usize, header: u16, area: usize },
    #[error("expected a TLV with the image key, as the flags say that the image is encrypted, got none")]
    EncryptionKeyMissing,
    #[error("expected a SHA256, SHA384 or SHA512 TLV in the TLV area at offset {offset:#x}, got none")]
    HashMissing { offset: usize },
    #[error("expected one hash TLV, got one at offset {first:#x} and one at offset {second:#x}")]
    HashAmbiguous { first: usize, second: usize },
    #[error("expected {} bytes of {kind} in the hash TLV at offset {offset:#x}, got {got}", .kind.size())]
    HashLength { kind: HashKind, offset: usize, got: usize },
    #[error(
        "expected the first {length} bytes to have the {kind} {} that stands at offset {offset:#x}, got {}",
        hex::encode(.expected), hex::encode(.computed)
    )]
    HashMismatch { kind: HashKind, length: usize, offset: usize, expected: Vec<u8>, computed: Vec<u8> },
    #[error("expected the image to end at offset {offset:#x}, got {count} more bytes that are no padding")]
    TrailingBytes { offset: usize, count: usize },

    #[error("expected a file with {what}, got no such file")]
    FileMissing { what: &'static str },
    #[error("expected to read {what}, but {reason}")]
    FileUnreadable { what: &'static str, reason: String },
    #[error("expected a file with {what}, got {got}")]
    NotAFile { what: &'static str, got: &'static str },
    #[error("expected at most {limit} bytes of {what}, got {got}")]
    TooLarge { what: &'static str, limit: u64, got: u64 },
    #[error(transparent)]
    Zip(ZipFault),
    #[error("{member}: {fault}")]
    InZip { member: String, fault: Box<Fault> },

    #[error("expected Intel HEX, as the file's name says, got {}", .0.describe())]
    NotIntelHex(Foreign),
    #[error("expected an Intel HEX record in line {line}: {reason}")]
    HexSyntax { line: usize, reason: String },
    #[error("expected an end record (:00000001FF) in the Intel HEX file, but it ends after line {lines}")]
    HexTruncated { lines: usize },
    #[error(
        "expected {length} bytes at offset {offset:#x} in line {line} to stay within 32 address bits and their segment"
    )]
    HexAddress { line: usize, offset: u16, length: usize },
    #[error("expected each address once in the Intel HEX file, got {address:#010x} twice")]
    HexOverlap { address: u64 },
    #[error("expected at most {limit} separate regions in the Intel HEX file, got more in line {line}")]
    HexScattered { line: usize, limit: usize },
    #[error("expected the image to go on at address {address:#010x}, got a gap of {length} bytes")]
    HexGap { address: u64, length: u64 },
    #[error("expected an MCUboot image in the Intel HEX file, got none in {}", ranges(.regions))]
    HexNoImage { regions: Vec<(u64, u64)> },
    #[error("expected one MCUboot image in the Intel HEX file, got {}", versions(.images))]
    HexSeveralImages { images: Vec<(u64, Version)> },
    #[error("expected one MCUboot image in the Intel HEX file, got its magic in more than {limit} places")]
    HexManyMagics { limit: usize },
    #[error("image at address {address:#010x}: {fault}")]
    InHex { address: u64, fault: Box<Fault> },

    #[error("expected a public key in PEM, but {reason}")]
    KeyInvalid { reason: String },
    #[error("expected a public key, got `{label}`")]
    KeyPrivate { label: String },
    #[error("expected an ECDSA P-256 or P-384, Ed25519, RSA 2048 or RSA 3072 public key, got {got}")]
    KeyUnsupported { got: String },
    #[error("expected a signed image, got one without a signature TLV")]
    NotSigned,
    #[error("expected a signature of the {key} key in a {expected} TLV, got {}", join(.got))]
    SignatureKind { key: String, expected: TlvType, got: Vec<TlvType> },
    #[error("expected an image with a {expected} hash for the {key} key, got {got}")]
    SignatureHash { key: String, expected: HashKind, got: HashKind },
    #[error("expected {tlv} at offset {offset:#x} to be {}, got {}", hex::encode(.expected), hex::encode(.got))]
    KeyMismatch { tlv: TlvType, offset: usize, expected: Vec<u8>, got: Vec<u8> },
    #[error(
        "expected the {kind} TLV at offset {offset:#x} to be a signature of the {key} key, but it does not verify"
    )]
    SignatureInvalid { key: String, kind: TlvType, offset: usize },
    #[error(
        "expected a signature that can be checked, got one that covers the plain firmware of an encrypted image"
    )]
    SignatureUncheckable,
}

/// How many places a message lists.
const LISTED: usize = 8;

fn ranges(regions: &[(u64, u64)]) -> String {
    if regions.is_empty() {
        return "a file without data".into();
    }
    list(regions.iter().map(|(start, end)| format!("{start:#010x} to {:#010x}", end.saturating_sub(1))))
}

fn versions(images: &[(u64, Version)]) -> String {
    list(images.iter().map(|(address, version)| format!("{version} at {address:#010x}")))
}

fn join(kinds: &[TlvType]) -> String {
    list(kinds.iter().map(TlvType::to_string))
}

fn list(items: impl ExactSizeIterator<Item = String>) -> String {
    let more = items.len().saturating_sub(LISTED);
    let mut text = items.take(LISTED).collect::<Vec<_>>().join(", ");
    if more > 0 {
        text.push_str(&format!(" and {more} more"));
    }
    text
}

impl Fault {
    /// The stable code.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            Self::Empty => "image.empty",
            Self::Truncated { .. } => "image.truncated",
            Self::Foreign(_) => "image.foreign",
            Self::Unsigned(_) => "image.unsigned",
            Self::BadMagic { .. } => "image.bad_magic",
            Self::HeaderInvalid { .. } => "image.header_invalid",
            Self::TlvMissing { .. } => "image.tlv_missing",
            Self::TlvMalformed { .. } => "image.tlv_malformed",
            Self::ProtectedTlvSize { .. } => "image.protected_tlv_size",
            Self::EncryptionKeyMissing => "image.encryption_key_missing",
            Self::HashMissing { .. } => "image.hash_missing",
            Self::HashAmbiguous { .. } => "image.hash_ambiguous",
            Self::HashLength { .. } => "image.hash_length",
            Self::HashMismatch { .. } => "image.hash_mismatch",
            Self::TrailingBytes { .. } => "image.trailing_bytes",
            Self::FileMissing { .. } => "image.file_missing",
            Self::FileUnreadable { .. } => "image.file_unreadable",
            Self::NotAFile { .. } => "image.not_a_file",
            Self::TooLarge { .. } => "image.too_large",
            Self::Zip(fault) => fault.code(),
            Self::InZip { fault, .. } => fault.code(),
            Self::NotIntelHex(_) => "image.not_intel_hex",
            Self::HexSyntax { .. } => "image.hex_syntax",
            Self::HexTruncated { .. } => "image.hex_truncated",
            Self::HexAddress { .. } => "image.hex_address",
            Self::HexOverlap { .. } => "image.hex_overlap",
            Self::HexScattered { .. } => "image.hex_scattered",
            Self::HexGap { .. } => "image.hex_gap",
            Self::HexNoImage { .. } => "image.hex_no_image",
            Self::HexSeveralImages { .. } | Self::HexManyMagics { .. } => "image.hex_several_images",
            Self::InHex { fault, .. } => fault.code(),
            Self::KeyInvalid { .. } => "image.key_invalid",
            Self::KeyPrivate { .. } => "image.key_private",
            Self::KeyUnsupported { .. } => "image.key_unsupported",
            Self::NotSigned => "image.not_signed",
            Self::SignatureKind { .. } => "image.signature_kind",
            Self::SignatureHash { .. } => "image.signature_hash",
            Self::KeyMismatch { .. } => "image.key_mismatch",
            Self::SignatureInvalid { .. } => "image.signature_invalid",
            Self::SignatureUncheckable => "image.signature_uncheckable",
        }
    }

    /// Who has to act.
    #[must_use]
    pub fn class(&self) -> Class {
        match self {
            // The name that was given is wrong.
            Self::FileMissing { .. }
            | Self::NotAFile { .. }
            | Self::KeyInvalid { .. }
            | Self::KeyPrivate { .. }
            | Self::KeyUnsupported { .. } => Class::Plan,
            Self::FileUnreadable { .. } => Class::Station,
            Self::InHex { fault, .. } | Self::InZip { fault, .. } => fault.class(),
            _ => Class::Image,
        }
    }

    /// The next thing to do.
    #[must_use]
    pub fn help(&self) -> String {
        match self {
            Self::Empty => "build and sign the firmware again; the file holds nothing".into(),
            Self::Truncated { .. } => {
                "copy or download the file again, or sign the firmware again; the end is missing".into()
            }
            Self::Foreign(foreign) => foreign.help().into(),
            Self::Unsigned(why) => Foreign::Unsigned(why).help().into(),
            Self::BadMagic { .. } => {
                "give the file that `imgtool sign` wrote, for example `zephyr.signed.bin`".into()
            }
            Self::HeaderInvalid { field: "header size", .. } => {
                format!("sign the firmware again with a `--header-size` of at least {HEADER_SIZE}")
            }
            Self::TrailingBytes { offset, .. } => {
                format!("cut the file after {offset} bytes, or give the file that `imgtool sign` wrote")
            }
            Self::HeaderInvalid { .. }
            | Self::TlvMissing { .. }
            | Self::TlvMalformed { .. }
            | Self::ProtectedTlvSize { .. }
            | Self::EncryptionKeyMissing
            | Self::HashMissing { .. }
            | Self::HashAmbiguous { .. }
            | Self::HashLength { .. } => {
                "sign the firmware again with a current imgtool; MCUboot would not boot this image".into()
            }
            Self::FileMissing { .. } => "check the path; in a plan it is relative to the plan's folder".into(),
            Self::FileUnreadable { .. } => "check the file's permissions and the disk".into(),
            Self::NotAFile { .. } => "name the file itself".into(),
            Self::TooLarge { what: "a public key", .. } => "give the PEM file with the public key".into(),
            Self::TooLarge { .. } => {
                "give the signed firmware image, not a dump of a whole flash or disk".into()
            }
            Self::Zip(fault) => fault.help(),
            Self::InZip { fault, .. } => fault.help(),
            Self::NotIntelHex(foreign) => foreign.help().into(),
            Self::HexSyntax { .. } | Self::HexTruncated { .. } | Self::HexAddress { .. } => {
                "copy or build the file again, or give the .bin beside it".into()
            }
            Self::HexOverlap { .. } | Self::HexScattered { .. } | Self::HexGap { .. } => {
                "give the file that `imgtool sign` wrote, for example `zephyr.signed.hex` or `.bin`".into()
            }
            Self::HexNoImage { .. } => {
                "give the signed application, for example `zephyr.signed.hex`, not the bootloader".into()
            }
            Self::HexSeveralImages { .. } | Self::HexManyMagics { .. } => {
                "give the signed image to upload by itself, for example `zephyr.signed.hex` or `.bin`".into()
            }
            Self::InHex { fault, .. } => fault.help(),
            Self::KeyInvalid { .. } | Self::KeyPrivate { .. } => {
                "write the public key with `imgtool getpub --key KEY.pem --encoding pem --output KEY.pub.pem`".into()
            }
            Self::KeyUnsupported { .. } => "give the key that the image was signed with by imgtool".into(),
            Self::NotSigned => "sign the image with `imgtool sign --key`, or leave out the key".into(),
            Self::SignatureKind { .. } | Self::SignatureHash { .. } | Self::KeyMismatch { .. } => {
                "give the public key of the key that signed the image, or sign the image with the right key".into()
            }
            Self::SignatureInvalid { .. } => {
                "do not use this image: sign the firmware again, or get the image again from where it was signed".into()
            }
            Self::SignatureUncheckable => "check the image before it is encrypted, or leave out the key".into(),
            Self::HashMismatch { .. } => {
                "build and sign the firmware again, or copy the file again; its content was changed".into()
            }
        }
    }
}
