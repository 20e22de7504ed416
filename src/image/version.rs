//! The version in an image header: text form, order, requirements. Nothing here knows the rest of the image.

use std::cmp::Ordering;
use std::fmt;
use std::str::FromStr;

/// Version of an image: `struct image_version` of MCUboot's `image.h`.
///
/// The order takes the build number last, as MCUboot does when it is built with
/// `MCUBOOT_VERSION_CMP_USE_BUILD_NUMBER` (Zephyr's `MCUMGR_GRP_IMG_VERSION_CMP_USE_BUILD_NUMBER`). Without that
/// option both leave the build number out: see [`Version::cmp_without_build`].
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Version {
    /// `iv_major`.
    pub major: u8,
    /// `iv_minor`.
    pub minor: u8,
    /// `iv_revision`.
    pub revision: u16,
    /// `iv_build_num`.
    pub build: u32,
}

impl Version {
    /// Length in an image header, in bytes.
    pub const SIZE: usize = 8;

    /// A version from its parts.
    #[must_use]
    pub const fn new(major: u8, minor: u8, revision: u16, build: u32) -> Self {
        Self { major, minor, revision, build }
    }

    /// From the bytes of an image header: major, minor, revision (little-endian), build (little-endian).
    #[must_use]
    pub const fn from_bytes(bytes: [u8; Self::SIZE]) -> Self {
        let [major, minor, r0, r1, b0, b1, b2, b3] = bytes;
        Self::new(major, minor, u16::from_le_bytes([r0, r1]), u32::from_le_bytes([b0, b1, b2, b3]))
    }

    /// The bytes of an image header.
    #[must_use]
    pub const fn to_bytes(self) -> [u8; Self::SIZE] {
        let [r0, r1] = self.revision.to_le_bytes();
        let [b0, b1, b2, b3] = self.build.to_le_bytes();
        [self.major, self.minor, r0, r1, b0, b1, b2, b3]
    }

    /// Compares as MCUboot and Zephyr do by default: the build number does not count.
    #[must_use]
    pub fn cmp_without_build(&self, other: &Self) -> Ordering {
        (self.major, self.minor, self.revision).cmp(&(other.major, other.minor, other.revision))
    }

    /// Whether the version satisfies a requirement such as `>=2.4.0`. The build number does not count, as in
    /// Semantic Versioning. A bare `2.4.0` means `^2.4.0`: from 2.4.0 up to, but not, 3.0.0.
    #[must_use]
    pub fn satisfies(&self, requirement: &semver::VersionReq) -> bool {
        requirement.matches(&semver::Version::new(
            u64::from(self.major),
            u64::from(self.minor),
            u64::from(self.revision),
        ))
    }
}

/// As SMP servers print it (Zephyr's `img_mgmt_ver_str`): `1.2.3`, and `1.2.3.4` where the build number is not 0.
impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}", self.major, self.minor, self.revision)?;
        if self.build != 0 { write!(f, ".{}", self.build) } else { Ok(()) }
    }
}

/// A text that is no image version.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "expected a version major.minor.revision, with .build or +build at most \
     (numbers up to 255, 255, 65535, 4294967295), got `{text}`"
)]
pub struct ParseVersionError {
    /// The text.
    pub text: String,
}

/// Reads what SMP servers print (`1.2.3`, `1.2.3.4`) and what imgtool takes (`1.2.3+4`, and `1` or `1.2` with the
/// rest 0).
impl FromStr for Version {
    type Err = ParseVersionError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        parse(text).ok_or_else(|| ParseVersionError { text: text.to_owned() })
    }
}

fn parse(text: &str) -> Option<Version> {
    let (release, plus_build) = match text.split_once('+') {
        Some((release, build)) => (release, Some(build)),
        None => (text, None),
    };
    let mut parts = release.split('.');
    let major = number(parts.next()?)?;
    let minor = parts.next().map_or(Some(0), number)?;
    let third = parts.next();
    let revision = third.map_or(Some(0), number)?;
    let build = match (parts.next(), plus_build) {
        (Some(build), None) => number(build)?,
        (None, Some(build)) if third.is_some() => number(build)?,
        (None, None) => 0,
        _ => return None,
    };
    if parts.next().is_some() {
        return None;
    }
    Some(Version { major, minor, revision, build })
}

/// A decimal number without sign and without leading zeros.
fn number<T: FromStr>(text: &str) -> Option<T> {
    let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    (digits && (text.len() == 1 || !text.starts_with('0'))).then(|| text.parse().ok()).flatten()
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case(Version::new(1, 2, 3, 0), "1.2.3")]
    #[case(Version::new(1, 2, 3, 4), "1.2.3.4")]
    #[case(Version::new(255, 255, u16::MAX, u32::MAX), "255.255.65535.4294967295")]
    #[case(Version::new(0, 0, 0, 1), "0.0.0.1")]
    fn prints_as_servers_do_and_reads_it_back(#[case] version: Version, #[case] text: &str) {
        assert_eq!(version.to_string(), text);
        assert_eq!(text.parse(), Ok(version));
    }

    #[rstest]
    #[case("1.2.3+4", Version::new(1, 2, 3, 4))]
    #[case("1.2", Version::new(1, 2, 0, 0))]
    #[case("7", Version::new(7, 0, 0, 0))]
    fn reads_what_imgtool_takes(#[case] text: &str, #[case] version: Version) {
        assert_eq!(text.parse(), Ok(version));
    }

    #[rstest]
    #[case("")]
    #[case("v1.2.3")]
    #[case("1..3")]
    #[case("1.2.3.")]
    #[case("1.2.3.4.5")]
    #[case("1.2.3.4+5")]
    #[case("1.2+5")]
    #[case("1.2.3+")]
    #[case("01.2.3")]
    #[case("-1.2.3")]
    #[case("+1.2.3")]
    #[case("256.0.0")]
    #[case("0.256.0")]
    #[case("0.0.65536")]
    #[case("0.0.0.4294967296")]
    #[case("1.2.3-rc1")]
    fn refuses_other_text(#[case] text: &str) {
        let error = text.parse::<Version>().unwrap_err();
        assert!(error.to_string().contains(&format!("`{text}`")), "{error}");
    }

    #[test]
    fn bytes_are_those_of_the_header() {
        let version = Version::new(1, 2, 0x0403, 0x0807_0605);
        assert_eq!(version.to_bytes(), [1, 2, 3, 4, 5, 6, 7, 8]);
        assert_eq!(Version::from_bytes([1, 2, 3, 4, 5, 6, 7, 8]), version);
    }

    #[test]
    fn order_is_numeric_and_takes_the_build_last() {
        let ordered = ["0.9.9", "0.10.0", "1.0.0", "1.0.0.1", "1.0.0.10", "1.0.1", "2.0.0"];
        let versions: Vec<Version> = ordered.iter().map(|text| text.parse().unwrap()).collect();
        assert!(versions.is_sorted_by(|a, b| a < b));
        assert_eq!(versions[2].cmp_without_build(&versions[4]), Ordering::Equal);
        assert_eq!(versions[4].cmp_without_build(&versions[5]), Ordering::Less);
    }

    #[rstest]
    #[case(">=2.4.0", "2.4.0", true)]
    #[case(">=2.4.0", "2.3.65535.9", false)]
    #[case(">=2.4.0", "10.0.0", true)]
    #[case("=2.4.0", "2.4.0.7", true)]
    #[case("2.4.0", "3.0.0", false)]
    #[case(">=1.0.0, <2.0.0", "1.255.0", true)]
    fn requirements(#[case] requirement: &str, #[case] version: &str, #[case] holds: bool) {
        let version: Version = version.parse().unwrap();
        assert_eq!(version.satisfies(&requirement.parse().unwrap()), holds);
    }
}
