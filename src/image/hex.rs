//! Intel HEX: records to regions of memory, and the one image in them. Nothing here opens files.

use std::io::{BufRead, Read};

use ihex::Record;
use sha2::{Digest, Sha256};

use super::checked::Origin;
use super::error::{Fault, ImageError};
use super::foreign::{Foreign, is_intel_hex};
use super::header::MAGIC;
use super::layout::Layout;
use super::load::{MAX_HEX_SIZE, MAX_IMAGE_SIZE, Source};
use super::trailer::Trailer;

/// Longest record, in characters: colon, then length, address, type, 255 bytes of data and checksum in two digits
/// each (Intel, Hexadecimal Object File Format, revision A), and a line end of two.
const MAX_LINE: u64 = 1 + 2 * (1 + 2 + 1 + 255 + 1) + 2;

/// Most regions that are told apart. Linkers and merge tools leave a handful.
const MAX_REGIONS: usize = 1024;

/// Most places that are looked at for an image. The magic stands in a bootloader's code too, and in images within
/// images, but not everywhere.
const MAX_CANDIDATES: usize = 64;

/// Slots begin on flash pages. None is smaller than this, in bytes, so images are looked for at its multiples only.
const SLOT_ALIGNMENT: u64 = 0x100;

/// How far a trailer's fields reach back from the end of a slot, in bytes: four fields and the magic, each in units of
/// at most 32 bytes (`BOOT_MAX_ALIGN`).
const TRAILER_REACH: u64 = 5 * 32;

/// What flash that was not written holds.
const ERASED: u8 = 0xff;

/// Bytes that follow each other in the device's memory.
#[derive(Debug, PartialEq, Eq)]
struct Region {
    start: u64,
    data: Vec<u8>,
}

impl Region {
    fn end(&self) -> u64 {
        self.start + self.data.len() as u64
    }
}

/// Reads Intel HEX and gives the one image in it, whose structure holds. Memory is bounded by [`MAX_IMAGE_SIZE`]: gaps
/// are not filled.
///
/// # Errors
///
/// `image.hex_syntax`, `image.hex_address`, `image.hex_overlap`, `image.hex_truncated`, `image.hex_scattered`,
/// `image.too_large` for the file; `image.hex_no_image`, `image.hex_several_images`, `image.hex_gap` for what is in
/// it; those of [`Layout::parse`] for the image, with its address.
pub(super) fn read(reader: impl BufRead) -> Result<Source, ImageError> {
    let (regions, sha256) = parse(reader)?;
    let (bytes, address, alone) = find(&regions)?;
    let trailer = trailer(&regions, address + bytes.len() as u64);
    let origin = Origin::IntelHex { address: u32::try_from(address).unwrap_or(u32::MAX), alone };
    Ok(Source { bytes, origin, sha256, trailer })
}

/// What the records say of addresses so far.
#[derive(Clone, Copy)]
enum Base {
    Linear(u64),
    Segment(u64),
}

fn parse(mut reader: impl BufRead) -> Result<(Vec<Region>, [u8; 32]), ImageError> {
    let mut regions: Vec<Region> = Vec::new();
    let mut base = Base::Linear(0);
    let mut ended = false;
    let (mut total, mut read) = (0_usize, 0_u64);
    let mut sha256 = Sha256::new();
    let mut line = Vec::new();
    let mut number = 0;
    loop {
        line.clear();
        let count = reader
            .by_ref()
            .take(MAX_LINE)
            .read_until(b'\n', &mut line)
            .map_err(|error| Fault::FileUnreadable { what: "Intel HEX", reason: error.to_string() })?;
        if count == 0 {
            break;
        }
        number += 1;
        read += count as u64;
        if read > MAX_HEX_SIZE {
            return Err(Fault::TooLarge { what: "Intel HEX", limit: MAX_HEX_SIZE, got: read }.into());
        }
        sha256.update(&line);
        if number == 1 && !is_intel_hex(&line) {
            let foreign = if line.starts_with(&MAGIC.to_le_bytes()) {
                Some(Foreign::McubootBinary)
            } else {
                Foreign::of_short(&line)
            };
            if let Some(foreign) = foreign.filter(|foreign| *foreign != Foreign::Text) {
                return Err(Fault::NotIntelHex(foreign).into());
            }
        }
        let text = line.trim_ascii();
        if text.is_empty() {
            continue;
        }
        let syntax = |reason: String| ImageError::from(Fault::HexSyntax { line: number, reason });
        if ended {
            return Err(syntax("expected nothing behind the end record".into()));
        }
        let text = str::from_utf8(text).map_err(|_| syntax("expected text, got other bytes".into()))?;
        match Record::from_record_string(text).map_err(|error| syntax(error.to_string()))? {
            Record::Data { offset, value } => {
                let address = address(base, offset, value.len()).ok_or(Fault::HexAddress {
                    line: number,
                    offset,
                    length: value.len(),
                })?;
                total += value.len();
                if total > MAX_IMAGE_SIZE {
                    let (limit, got) = (MAX_IMAGE_SIZE as u64, total as u64);
                    return Err(Fault::TooLarge { what: "data in Intel HEX", limit, got }.into());
                }
                let count = regions.len();
                match regions.last_mut() {
                    Some(last) if last.end() == address => last.data.extend_from_slice(&value),
                    _ if value.is_empty() => {}
                    _ if count == MAX_REGIONS => {
                        return Err(Fault::HexScattered { line: number, limit: MAX_REGIONS }.into());
                    }
                    _ => regions.push(Region { start: address, data: value }),
                }
            }
            Record::ExtendedLinearAddress(upper) => base = Base::Linear(u64::from(upper) << 16),
            Record::ExtendedSegmentAddress(segment) => base = Base::Segment(u64::from(segment) << 4),
            Record::EndOfFile => ended = true,
            // Where to start running: a device boots through its bootloader.
            Record::StartLinearAddress(_) | Record::StartSegmentAddress { .. } => {}
        }
    }
    if number == 0 {
        return Err(Fault::Empty.into());
    }
    if !ended {
        return Err(Fault::HexTruncated { lines: number }.into());
    }
    Ok((merge(regions)?, sha256.finalize().into()))
}

/// The address of a data record; none where it leaves the 32 bits, or wraps around within its segment.
fn address(base: Base, offset: u16, length: usize) -> Option<u64> {
    let (base, limit) = match base {
        Base::Linear(base) => (base, 1 << 32),
        Base::Segment(base) => (base, base + (1 << 16)),
    };
    let address = base + u64::from(offset);
    (address + length as u64 <= limit).then_some(address)
}

/// Sorts regions and joins those that touch.
fn merge(mut regions: Vec<Region>) -> Result<Vec<Region>, ImageError> {
    regions.sort_by_key(|region| region.start);
    let mut merged: Vec<Region> = Vec::with_capacity(regions.len());
    for region in regions {
        match merged.last_mut() {
            Some(last) if region.start < last.end() => {
                return Err(Fault::HexOverlap { address: region.start }.into());
            }
            Some(last) if region.start == last.end() => last.data.extend_from_slice(&region.data),
            _ => merged.push(region),
        }
    }
    Ok(merged)
}

/// The trailer at the end of what lies behind the image. imgtool writes only those bytes of it that are not erased.
fn trailer(regions: &[Region], image_end: u64) -> Option<Trailer> {
    let end = regions.last()?.end();
    let start = end.saturating_sub(TRAILER_REACH).max(image_end);
    let mut tail = vec![ERASED; usize::try_from(end.checked_sub(start)?).ok()?];
    for region in regions {
        let from = region.start.max(start);
        let skipped = usize::try_from(from.checked_sub(region.start)?).ok()?;
        let Some(data) = region.data.get(skipped..) else { continue };
        let at = usize::try_from(from - start).ok()?;
        if let Some(room) = tail.get_mut(at..at + data.len()) {
            room.copy_from_slice(data);
        }
    }
    Trailer::parse(&tail)
}

/// Finds the one image in the regions: its bytes, its address, and whether nothing else is there.
fn find(regions: &[Region]) -> Result<(Vec<u8>, u64, bool), ImageError> {
    let mut found: Vec<(&Region, usize, Layout)> = Vec::new();
    let mut failed: Option<ImageError> = None;
    let mut looked_at = 0;
    for (index, region) in regions.iter().enumerate() {
        let mut free_from = 0;
        for at in candidates(region) {
            // An image may carry others, for example for a second core: they are its firmware.
            if at < free_from {
                continue;
            }
            looked_at += 1;
            if looked_at > MAX_CANDIDATES {
                return Err(Fault::HexManyMagics { limit: MAX_CANDIDATES }.into());
            }
            match Layout::parse(region.data.get(at..).unwrap_or_default()) {
                Ok(layout) => {
                    free_from = at + layout.length;
                    found.push((region, at, layout));
                }
                // MCUboot's own code holds the magic too: another place may be the right one.
                Err(error) => {
                    let error = gap(error, region, regions.get(index + 1));
                    failed.get_or_insert_with(|| error.at_address(region.start + at as u64));
                }
            }
        }
    }
    match found.as_slice() {
        [(region, at, layout)] => {
            let address = region.start + *at as u64;
            let bytes = region.data.get(*at..*at + layout.length).unwrap_or_default().to_vec();
            let rest = region.data.len() - layout.length;
            let alone = regions.len() == 1 && rest == 0;
            Ok((bytes, address, alone))
        }
        [] => Err(failed.unwrap_or_else(|| no_image(regions))),
        several => {
            let images = several
                .iter()
                .map(|(region, at, layout)| (region.start + *at as u64, layout.header.version))
                .collect();
            Err(Fault::HexSeveralImages { images }.into())
        }
    }
}

/// Offsets in the region where a slot may begin and the magic of an image stands.
fn candidates(region: &Region) -> impl Iterator<Item = usize> {
    let first = region.start.next_multiple_of(SLOT_ALIGNMENT) - region.start;
    let step = usize::try_from(SLOT_ALIGNMENT).unwrap_or(usize::MAX);
    let aligned = (usize::try_from(first).unwrap_or(usize::MAX)..region.data.len()).step_by(step);
    let start = (first != 0).then_some(0);
    start
        .into_iter()
        .chain(aligned)
        .filter(|at| region.data.get(*at..).is_some_and(|rest| rest.starts_with(&MAGIC.to_le_bytes())))
}

/// An image that is cut short where its region ends, with another region behind it, has a gap in it.
fn gap(error: ImageError, region: &Region, next: Option<&Region>) -> ImageError {
    match (error.fault(), next) {
        (Fault::Truncated { .. }, Some(next)) => {
            Fault::HexGap { address: region.end(), length: next.start - region.end() }.into()
        }
        _ => error,
    }
}

fn no_image(regions: &[Region]) -> ImageError {
    // With one region the reason can be told as for a binary file.
    if let [region] = regions
        && let Err(error) = Layout::parse(&region.data)
    {
        return error.at_address(region.start);
    }
    let regions = regions.iter().map(|region| (region.start, region.end())).collect();
    Fault::HexNoImage { regions }.into()
}
