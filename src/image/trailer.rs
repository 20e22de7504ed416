//! The trailer that `imgtool sign --pad` puts behind an image: what MCUboot would take from it. It is shown and never
//! uploaded.

use std::fmt;

/// `boot_img_magic` of MCUboot (`bootutil_misc.c`): the end of a trailer where flash writes align to 8 bytes.
const MAGIC: [u8; 16] =
    [0x77, 0xc2, 0x95, 0xf3, 0x60, 0xd2, 0xef, 0x7f, 0x35, 0x52, 0x50, 0x0f, 0x2c, 0xb6, 0x79, 0x80];

/// The end of a trailer where they align to more: two bytes of alignment come before it.
const MAGIC_ALIGNED: [u8; 14] =
    [0x2d, 0xe1, 0x5d, 0x29, 0x41, 0x0b, 0x8d, 0x77, 0x67, 0x9c, 0x11, 0x0f, 0x1f, 0x8a];

/// `BOOT_MAGIC_SZ`, in bytes: alignment and magic.
const MAGIC_SIZE: usize = 16;

/// The trailer of a slot: MCUboot's `docs/design.md`, "Image trailer". Each field stands in as many bytes as flash
/// writes align to, and only its first bytes count.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Trailer {
    /// What flash writes align to, in bytes.
    pub max_align: usize,
    /// `image_ok`: 1 where the image is confirmed.
    pub image_ok: u8,
    /// `copy_done`: 1 where a swap to this slot is complete.
    pub copy_done: u8,
    /// `swap_info`: swap type (low four bits) and image number.
    pub swap_info: u8,
    /// `swap_size`: how much of the slots takes part in a swap, in bytes; erased where none was begun.
    pub swap_size: u32,
}

impl Trailer {
    /// The trailer at the end of what lies behind an image; `None` where there is no magic, or no room for the fields.
    #[must_use]
    pub fn parse(behind: &[u8]) -> Option<Self> {
        let (before, max_align) = split_magic(behind)?;
        // The magic takes up whole units of writing.
        let padding = MAGIC_SIZE.checked_next_multiple_of(max_align)? - MAGIC_SIZE;
        let field = |index: usize| {
            let start = before.len().checked_sub(padding.checked_add(index.checked_mul(max_align)?)?)?;
            before.get(start..)
        };
        Some(Self {
            max_align,
            image_ok: *field(1)?.first()?,
            copy_done: *field(2)?.first()?,
            swap_info: *field(3)?.first()?,
            swap_size: u32::from_le_bytes(*field(4)?.first_chunk()?),
        })
    }

    /// Whether MCUboot would take the image in this slot as confirmed, and not as one to be tested.
    #[must_use]
    pub fn is_confirmed(&self) -> bool {
        self.image_ok == 1
    }
}

/// What it would have MCUboot do.
impl fmt::Display for Trailer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.is_confirmed() { "confirmed" } else { "set for test" })?;
        write!(
            f,
            ", image_ok {:#04x}, copy_done {:#04x}, swap_info {:#04x}, swap_size {:#x}, writes of {} bytes",
            self.image_ok, self.copy_done, self.swap_info, self.swap_size, self.max_align
        )
    }
}

/// Splits the magic off the end: what comes before it, and the alignment that it says.
pub(super) fn split_magic(bytes: &[u8]) -> Option<(&[u8], usize)> {
    if let Some(before) = bytes.strip_suffix(&MAGIC) {
        return Some((before, 8));
    }
    let (before, align) = bytes.strip_suffix(&MAGIC_ALIGNED)?.split_last_chunk::<2>()?;
    let align = usize::from(u16::from_le_bytes(*align));
    // `BOOT_MAX_ALIGN` is 8, 16 or 32 in every build of MCUboot; a power of two in any case.
    align.is_power_of_two().then_some((before, align))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Fields of eight bytes each: swap_size, swap_info, copy_done, image_ok; then the magic.
    #[test]
    fn golden_trailer() {
        let mut bytes = vec![0xff; 40];
        bytes.extend([[0x44, 0x33, 0x22, 0x11], [0xff; 4]].concat());
        for value in [0x12, 0x03, 0x01] {
            bytes.extend([value, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff]);
        }
        bytes.extend(MAGIC);
        let trailer = Trailer::parse(&bytes).unwrap();
        let expected =
            Trailer { max_align: 8, image_ok: 1, copy_done: 3, swap_info: 0x12, swap_size: 0x1122_3344 };
        assert_eq!(trailer, expected);
        assert!(trailer.is_confirmed() && trailer.to_string().starts_with("confirmed, "), "{trailer}");
        assert_eq!(Trailer::parse(&bytes[40..]), Some(expected));
        for cut in 41..bytes.len() {
            assert_eq!(Trailer::parse(&bytes[cut..]), None, "from {cut}");
        }
        assert_eq!(Trailer::parse(&bytes[..bytes.len() - 1]), None);
    }

    #[test]
    fn other_alignments_move_the_fields() {
        for align in [16_usize, 32] {
            let mut bytes = vec![0xff; 200];
            let padding = align.max(16) - 16;
            let at = bytes.len() - padding - align;
            bytes[at] = 1;
            bytes.extend(u16::try_from(align).unwrap().to_le_bytes());
            bytes.extend(MAGIC_ALIGNED);
            let trailer = Trailer::parse(&bytes).unwrap();
            assert_eq!((trailer.max_align, trailer.image_ok, trailer.copy_done), (align, 1, 0xff), "{align}");
        }
        let odd = [&[0xff; 200][..], &[24, 0], &MAGIC_ALIGNED].concat();
        assert_eq!(Trailer::parse(&odd), None);
    }
}
