//! Files that are no MCUboot image, told by their first bytes, so that a message can name them.

use super::header::{MAGIC, MAGIC_V1};

/// What a file is that is no MCUboot image.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Foreign {
    /// Firmware before `imgtool sign`; the text says how that shows.
    Unsigned(&'static str),
    /// An image with the old header.
    HeaderV1,
    /// An image with big-endian fields.
    BigEndian,
    /// Erased flash.
    Erased,
    /// A binary image, where another form was expected.
    McubootBinary,
    /// An ELF executable.
    Elf,
    /// Intel HEX.
    IntelHex,
    /// Motorola S-records.
    SRecord,
    /// UF2.
    Uf2,
    /// A ZIP archive.
    Zip,
    /// A compressed file; the text names the format.
    Compressed(&'static str),
    /// A PEM file: a key or certificate.
    Pem,
    /// A web page, as failed downloads leave it.
    Html,
    /// A Git LFS pointer.
    GitLfs,
    /// Other text.
    Text,
}

/// Magic bytes at the start of a file. Sources: each format's own specification.
const SIGNATURES: [(&[u8], Foreign); 15] = [
    (&MAGIC_V1.to_le_bytes(), Foreign::HeaderV1),
    (&MAGIC.to_be_bytes(), Foreign::BigEndian),
    (b"\x7fELF", Foreign::Elf),
    (b"UF2\n", Foreign::Uf2),
    (b"PK\x03\x04", Foreign::Zip),
    (b"PK\x05\x06", Foreign::Zip),
    (b"\x1f\x8b", Foreign::Compressed("gzip")),
    (b"\xfd7zXZ\x00", Foreign::Compressed("xz")),
    (b"BZh", Foreign::Compressed("bzip2")),
    (b"\x28\xb5\x2f\xfd", Foreign::Compressed("zstd")),
    (b"\x04\x22\x4d\x18", Foreign::Compressed("lz4")),
    (b"7z\xbc\xaf\x27\x1c", Foreign::Compressed("7-Zip")),
    (b"-----BEGIN ", Foreign::Pem),
    (b"\xef\xbb\xbf", Foreign::Text),
    (b"version https://git-lfs", Foreign::GitLfs),
];

/// How many bytes of a file decide whether it is text.
const TEXT_PROBE: usize = 64;

impl Foreign {
    /// What `bytes` are, as far as their start tells; at least a header's length of them.
    #[must_use]
    pub fn of(bytes: &[u8]) -> Option<Self> {
        Self::of_short(bytes).or_else(|| Self::unsigned(bytes))
    }

    /// The same for a file that may be too short for guesses on firmware.
    #[must_use]
    pub fn of_short(bytes: &[u8]) -> Option<Self> {
        if let Some((_, kind)) = SIGNATURES.iter().find(|(start, _)| bytes.starts_with(start)) {
            return Some(*kind);
        }
        if is_intel_hex(bytes) {
            return Some(Self::IntelHex);
        }
        if let [b'S', b'0'..=b'9', digit, ..] = bytes
            && digit.is_ascii_hexdigit()
        {
            return Some(Self::SRecord);
        }
        let probe = &bytes[..bytes.len().min(TEXT_PROBE)];
        let text = !probe.is_empty()
            && probe.iter().all(|byte| byte.is_ascii_graphic() || byte.is_ascii_whitespace());
        if !text {
            return None;
        }
        let lower = probe.to_ascii_lowercase();
        let html =
            [b"<!doctype".as_slice(), b"<html"].iter().any(|start| lower.trim_ascii().starts_with(start));
        Some(if html { Self::Html } else { Self::Text })
    }

    /// Firmware without a header: a Cortex-M vector table at the start, or behind the room that was left for a header.
    fn unsigned(bytes: &[u8]) -> Option<Self> {
        let start = bytes.get(..32)?;
        if start.iter().all(|byte| *byte == 0xff) {
            return Some(Self::Erased);
        }
        if start.iter().all(|byte| *byte == 0) {
            return Some(Self::Unsigned("the room for the header holds zeros"));
        }
        let word = |at: usize| u32::from_le_bytes([start[at], start[at + 1], start[at + 2], start[at + 3]]);
        let (stack, reset) = (word(0), word(4));
        // Armv7-M architecture: the stack pointer lies in SRAM (0x20000000 to 0x3fffffff) and is aligned to words,
        // the reset vector in code (below 0x20000000) and is odd, for Thumb.
        let vectors = (0x2000_0000..0x4000_0000).contains(&stack)
            && stack.is_multiple_of(4)
            && reset & 1 == 1
            && reset < 0x2000_0000;
        vectors.then_some(Self::Unsigned("it starts with a Cortex-M vector table"))
    }

    /// What it is, for a message.
    #[must_use]
    pub fn describe(self) -> String {
        match self {
            Self::Unsigned(why) => format!("firmware that was not signed with imgtool ({why})"),
            Self::HeaderV1 => "an image with MCUboot's version 1 header".into(),
            Self::BigEndian => "an image with a big-endian header".into(),
            Self::Erased => "erased flash (0xff)".into(),
            Self::McubootBinary => "a binary MCUboot image".into(),
            Self::Elf => "an ELF executable".into(),
            Self::IntelHex => "an Intel HEX file".into(),
            Self::SRecord => "a Motorola S-record file".into(),
            Self::Uf2 => "a UF2 file".into(),
            Self::Zip => "a ZIP archive".into(),
            Self::Compressed(format) => format!("a {format} file"),
            Self::Pem => "a PEM file (a key or a certificate)".into(),
            Self::Html => "a web page".into(),
            Self::GitLfs => "a Git LFS pointer".into(),
            Self::Text => "text".into(),
        }
    }

    /// What to do instead.
    #[must_use]
    pub fn help(self) -> &'static str {
        match self {
            Self::Unsigned(_) => "give the signed image: `zephyr.signed.bin`, or what `imgtool sign` wrote",
            Self::HeaderV1 => "sign the firmware again with a current imgtool",
            Self::BigEndian => "sign the firmware again with `imgtool sign --endian little`",
            Self::Erased => "give the file that `imgtool sign` wrote, not a dump of an empty slot",
            Self::McubootBinary => "give the file a name that ends in .bin",
            Self::Elf | Self::SRecord | Self::Uf2 => {
                "give the signed image beside it: `zephyr.signed.bin` or `.hex`"
            }
            Self::IntelHex => "give the file a name that ends in .hex, or give the .bin beside it",
            Self::Zip => "unpack it and give the .bin inside",
            Self::Compressed(_) => "unpack it first",
            Self::Pem => "give the image here, and the key as `verify_key` or `--verify-key`",
            Self::Html => "download the file again; the server answered with a page",
            Self::GitLfs => "fetch the file itself: `git lfs pull`",
            Self::Text => "give the file that `imgtool sign` wrote",
        }
    }
}

/// Whether `bytes` start with an Intel HEX record: a colon, then at least eight hexadecimal digits.
pub(super) fn is_intel_hex(bytes: &[u8]) -> bool {
    matches!(bytes.first_chunk::<9>(), Some([b':', digits @ ..]) if digits.iter().all(u8::is_ascii_hexdigit))
}
