//! How much of an image fits one upload message, and what that makes of a link at best. Sizes only: what is sent when
//! is [`super::upload`]'s.

use super::HEADER_LEN;

/// Length of MCUboot's image header, in bytes (`struct image_header`). A server refuses a first chunk without all of it
/// (`IMG_MGMT_ERR_INVALID_IMAGE_HEADER`).
pub const IMAGE_HEADER_LEN: usize = 32;
/// Longest message that the header's 16-bit length can tell, in bytes.
pub const MAX_MESSAGE: usize = HEADER_LEN + u16::MAX as usize;
/// Length of a SHA-256, in bytes.
const SHA256_LEN: usize = 32;
/// The head of a map of at most 23 pairs (RFC 8949, 3.1).
const MAP_HEAD: usize = 1;
/// `true` or `false` (RFC 8949, 3.3).
const BOOL: usize = 1;

/// Bytes of the head of a CBOR item with this argument (RFC 8949, 3): an unsigned integer, or the length of a string.
const fn head(argument: usize) -> usize {
    match argument {
        0..=0x17 => 1,
        0x18..=0xff => 2,
        0x100..=0xffff => 3,
        0x1_0000..=0xffff_ffff => 5,
        _ => 9,
    }
}

/// Bytes of a text in CBOR.
const fn text(text: &str) -> usize {
    head(text.len()) + text.len()
}

/// Bytes of a byte string of `len` bytes in CBOR.
const fn byte_string(len: usize) -> usize {
    head(len) + len
}

/// Longest byte string that takes at most `budget` bytes in CBOR, and no more than a message can hold. Where the length's
/// own head grows, the last byte of `budget` cannot be used.
pub(crate) fn longest_byte_string(budget: usize) -> usize {
    let longest = |head: usize, max: usize| budget.checked_sub(head).map(|len| len.min(max));
    longest(3, 0xffff).max(longest(2, 0xff)).max(longest(1, 0x17)).unwrap_or(0)
}

/// The fields of an upload's messages, for counting their bytes (`smp_group_1.rst`, "Image upload request").
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Layout {
    /// Largest message, in bytes, header included.
    pub max_message: usize,
    /// Image number; not sent where it is 0.
    pub image_number: u32,
    /// Length of the whole file, in bytes.
    pub len: usize,
    /// Whether the first chunk carries the file's SHA-256.
    pub sha: bool,
    /// Whether the first chunk says `upgrade`.
    pub upgrade: bool,
}

impl Layout {
    /// Bytes of the message besides `data` and its key, for the chunk at `off`.
    fn fixed(&self, off: usize) -> usize {
        let mut bytes = HEADER_LEN + MAP_HEAD + text("off") + head(off) + text("data");
        if off == 0 {
            bytes += text("len") + head(self.len);
            if self.image_number != 0 {
                bytes += text("image") + head(self.image_number as usize);
            }
            if self.sha {
                bytes += text("sha") + byte_string(SHA256_LEN);
            }
            if self.upgrade {
                bytes += text("upgrade") + BOOL;
            }
        }
        bytes
    }

    /// Length of the message that carries `data_len` bytes from `off`, in bytes, header included.
    #[must_use]
    pub fn message_len(&self, off: usize, data_len: usize) -> usize {
        self.fixed(off) + byte_string(data_len)
    }

    /// Bytes of the file that fit a message at `off`; never beyond the file's end.
    #[must_use]
    pub fn data_len(&self, off: usize) -> usize {
        let budget = self.max_message.saturating_sub(self.fixed(off));
        longest_byte_string(budget).min(self.len.saturating_sub(off))
    }

    /// Bytes that the first chunk has to hold: the image header.
    #[must_use]
    pub fn first_needed(&self) -> usize {
        IMAGE_HEADER_LEN.min(self.len)
    }

    /// Smallest message, in bytes, that can start this upload.
    #[must_use]
    pub fn smallest_message(&self) -> usize {
        self.message_len(0, self.first_needed())
    }

    /// Whether the first chunk holds what it has to.
    #[must_use]
    pub fn fits(&self) -> bool {
        self.smallest_message() <= self.max_message
    }
}

/// The most bytes of an image per second that a wire can carry: `wire_bytes_per_s × data ÷ wire_len(message)`, where
/// `message` is a full upload message from the middle of the image and `data` the image bytes in it. What a server
/// sends back does not count: on a full-duplex line it goes the other way.
///
/// `wire_len` gives the bytes on the wire for a message of so many bytes. 0 where nothing fits.
#[must_use]
pub fn limit_bytes_per_s(
    wire_len: impl Fn(usize) -> usize,
    wire_bytes_per_s: f64,
    max_message: usize,
    image_len: usize,
) -> f64 {
    let layout = Layout { max_message, image_number: 0, len: usize::MAX, sha: false, upgrade: false };
    let off = (image_len / 2).max(1);
    let data = layout.data_len(off);
    let wire = wire_len(layout.message_len(off, data));
    if data == 0 || wire == 0 {
        return 0.0;
    }
    wire_bytes_per_s * to_f64(data) / to_f64(wire)
}

/// Exact for everything that fits a message.
fn to_f64(bytes: usize) -> f64 {
    u32::try_from(bytes).map_or(f64::INFINITY, f64::from)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::smp::RawRequest;
    use crate::smp::console;
    use crate::smp::message::image::UploadChunk;

    #[test]
    fn lengths_are_those_of_real_messages() {
        let sha = [0x5a; SHA256_LEN];
        for (off, image_number, sha256, upgrade) in [
            (0, 0, true, false),
            (0, 300, false, true),
            (23, 0, false, false),
            (24, 0, true, true),
            (70_000, 9, true, true),
        ] {
            for data_len in [0, 1, 23, 24, 255, 256, 1000, 65_000] {
                let len = 100_000;
                let layout = Layout { max_message: 0, image_number, len, sha: sha256, upgrade };
                let first = off == 0;
                let request = RawRequest::new(&UploadChunk {
                    image: (first && image_number != 0).then_some(image_number),
                    len: first.then_some(100_000),
                    off,
                    sha: (first && sha256).then_some(sha.as_slice()),
                    data: &vec![7; data_len],
                    upgrade: (first && upgrade).then_some(true),
                });
                let actual = request.expect("a request").message_len();
                assert_eq!(layout.message_len(off as usize, data_len), actual, "{off} {data_len} {layout:?}");
            }
        }
    }

    #[test]
    fn data_is_as_long_as_the_message_allows() {
        for max_message in 22..MAX_MESSAGE {
            let layout = Layout { max_message, image_number: 0, len: 1 << 20, sha: false, upgrade: false };
            let data_len = layout.data_len(1000);
            assert!(layout.message_len(1000, data_len) <= max_message);
            assert!(layout.message_len(1000, data_len + 1) > max_message, "{max_message}");
        }
        let layout = Layout { max_message: 10, image_number: 0, len: 1 << 20, sha: false, upgrade: false };
        assert_eq!(layout.data_len(1000), 0);
    }

    #[test]
    fn limit_is_the_share_of_image_bytes_in_a_full_frame() {
        // 115200 baud, 8N1, are 11520 bytes per second. A message of 380 bytes in the middle of the image has 8 bytes of
        // header, 1 of map, 4 + 3 of `off`, 5 + 3 of `data`, so 356 of the image. With length and CRC it is 384 bytes:
        // 4 lines of 93 bytes, 127 on the wire, and 12 bytes in a line of 19.
        let wire_len = |message| console::encoded_len(message, 128);
        let limit = limit_bytes_per_s(wire_len, 11_520.0, 380, 49_692);
        assert!((limit - 11_520.0 * 356.0 / 527.0).abs() < 1e-9, "{limit}");
        assert!(limit_bytes_per_s(wire_len, 11_520.0, 20, 49_692).abs() < 1e-9, "nothing fits");
    }
}
