//! Everything that can be wrong with a package: an archive with `manifest.json`. Nothing here finds faults.

use super::foreign::Foreign;
use super::version::Version;

/// Longest piece of text out of an archive that a message repeats, in characters.
const MAX_SHOWN: usize = 80;

/// What can be wrong with a package. Sizes are in bytes. Names are fit to be shown: what a terminal would obey is escaped.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[expect(missing_docs, reason = "the message of each variant says what it and its fields are")]
pub enum ZipFault {
    #[error("expected a ZIP archive, as the file's name says, got {}", .0.describe())]
    NotZip(Foreign),
    #[error("expected a ZIP archive, but {reason}")]
    Malformed { reason: String },
    #[error("expected at most {limit} entries in the archive, got {got}")]
    Entries { limit: usize, got: usize },
    #[error("expected each name once in the archive, got one of them twice")]
    DuplicateName,
    #[error("expected every entry of the archive to have its own bytes, got entries that overlap")]
    Overlap,
    #[error("expected `manifest.json` in the archive, got {}", listed(.names))]
    ManifestMissing { names: Vec<String> },
    #[error("expected the manifest of a package with MCUboot images, but {reason}")]
    Manifest { reason: String },
    #[error("expected a package with MCUboot images, got {what}")]
    Unsupported { what: String },
    #[error("expected the archive to hold the file that its manifest names, got no such entry")]
    MemberMissing,
    #[error("expected to unpack it, but {reason}")]
    MemberUnreadable { reason: String },
    #[error("expected {manifest} bytes as the manifest says, got {got}")]
    MemberSize { manifest: u64, got: u64 },
    #[error("expected version {manifest} as the manifest says, got {got} in the image header")]
    MemberVersion { manifest: String, got: Version },
    #[error(
        "expected one file for image {number}, or one for each of its slots, got `{first}` and `{second}` with no \
         slots to tell them apart"
    )]
    ImageNumber { number: u32, first: String, second: String },
    #[error("expected one image, got a package of {count}: {}", listed(.names))]
    SeveralImages { count: usize, names: Vec<String> },
}

impl ZipFault {
    /// The stable code.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            Self::NotZip(_) => "image.not_zip",
            Self::Malformed { .. } => "image.zip_malformed",
            Self::Entries { .. } => "image.zip_entries",
            Self::DuplicateName => "image.zip_duplicate_name",
            Self::Overlap => "image.zip_overlap",
            Self::ManifestMissing { .. } => "image.zip_manifest_missing",
            Self::Manifest { .. } => "image.zip_manifest_invalid",
            Self::Unsupported { .. } => "image.zip_unsupported",
            Self::MemberMissing => "image.zip_member_missing",
            Self::MemberUnreadable { .. } => "image.zip_member_unreadable",
            Self::MemberSize { .. } => "image.zip_member_size",
            Self::MemberVersion { .. } => "image.zip_member_version",
            Self::ImageNumber { .. } => "image.zip_image_number",
            Self::SeveralImages { .. } => "image.zip_several_images",
        }
    }

    /// The next thing to do.
    #[must_use]
    pub fn help(&self) -> String {
        match self {
            Self::NotZip(_) => "give an image a name that ends in .bin or .hex, or give the package".into(),
            Self::Malformed { .. } | Self::MemberUnreadable { .. } => {
                "build the package again, or copy or download it again".into()
            }
            Self::Entries { .. } | Self::DuplicateName | Self::Overlap => {
                "do not use this archive: no build makes such a package; get it again from where it was built".into()
            }
            Self::ManifestMissing { names } => match names.iter().find(|name| name.ends_with("/manifest.json")) {
                Some(nested) => {
                    format!("pack the files themselves and not the folder around them: `{nested}` is not at the top")
                }
                None => "give the package that the build made, for example `dfu_application.zip`, or the .bin in it".into(),
            },
            Self::Manifest { .. } | Self::ImageNumber { .. } => {
                "build the package again, or unpack it and give the .bin in it".into()
            }
            Self::Unsupported { .. } => {
                "give the package for MCUboot, for example `dfu_application.zip` of nRF Connect SDK".into()
            }
            Self::MemberMissing | Self::MemberSize { .. } | Self::MemberVersion { .. } => {
                "build the package again: its manifest is of another build, or something was replaced in it".into()
            }
            Self::SeveralImages { .. } => {
                "use it in a plan, which uploads each to its image number, or unpack it and give one .bin".into()
            }
        }
    }
}

/// Text out of an archive, fit to stand in a message: on one line and not too long.
pub(super) fn shown(text: &str) -> String {
    let mut out: String = text.chars().take(MAX_SHOWN).flat_map(char::escape_debug).collect();
    if text.chars().nth(MAX_SHOWN).is_some() {
        out.push('…');
    }
    out
}

/// Names as a message lists them.
fn listed(names: &[String]) -> String {
    const LISTED: usize = 6;
    if names.is_empty() {
        return "an empty archive".into();
    }
    let mut text = names.iter().take(LISTED).map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ");
    if names.len() > LISTED {
        text.push_str(&format!(" and {} more", names.len() - LISTED));
    }
    text
}
