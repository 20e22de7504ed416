//! Image upload, after Zephyr `img_mgmt_upload` (`img_mgmt.c`) and `img_mgmt_upload_inspect` (`zephyr_img_mgmt.c`).

use sha2::{Digest, Sha256};

use super::image::ImageError;
use super::{Answer, Body, Effects, Refused};
use crate::sim::fault::FaultSpec;
use crate::sim::firmware::{Header, IMAGE_HEADER_LEN};
use crate::sim::flash::{Flash, PAGE, Slot};
use crate::sim::spec::{BootMode, SimSpec};

/// Longest `sha` that the server takes, in bytes (`IMG_MGMT_DATA_SHA_LEN`).
const SHA_LEN: usize = 32;

/// The upload under way, if any (`struct img_mgmt_state`).
#[derive(Debug, Default)]
pub(super) struct Upload {
    active: bool,
    /// Offset of the next chunk, in bytes.
    offset: u32,
    /// Length of the whole file, in bytes.
    size: u32,
    /// Image number and slot that it goes to.
    image: usize,
    slot: usize,
    sha: Vec<u8>,
}

impl Upload {
    /// Back to no upload (`img_mgmt_reset_upload`).
    pub(super) fn forget(&mut self) {
        *self = Self::default();
    }

    /// One chunk.
    pub(super) fn handle(
        &mut self,
        (spec, fault): (&SimSpec, &FaultSpec),
        flash: &mut Flash,
        body: &Body,
        answer: &mut Answer,
    ) -> Result<Effects, Refused> {
        let number = body.u32("image")?.map_or(0, |number| number as usize);
        let request = Chunk {
            // A server with one image does not look at its number.
            image: if flash.image_count() > 1 { number } else { 0 },
            offset: body.u32("off")?,
            size: body.u32("len")?,
            sha: body.bytes("sha")?.unwrap_or_default(),
            data: body.bytes("data")?.unwrap_or_default(),
            upgrade: body.bool("upgrade")?.unwrap_or(false),
        };
        let effects = self.write(spec, flash, request).inspect_err(|_| self.forget())?;
        if spec.legacy_rc {
            answer.number("rc", 0);
        }
        answer.number("off", self.offset.into());
        if effects.upload_done {
            if spec.image_check {
                answer.bool("match", self.matches(flash) && !fault.upload_mismatch);
            }
            self.forget();
        }
        Ok(effects)
    }

    fn matches(&self, flash: &Flash) -> bool {
        let slot = flash.image(self.image).and_then(|image| image.slots.get(self.slot));
        let is_it = |data: &[u8]| {
            data.get(..self.size as usize).is_some_and(|whole| Sha256::digest(whole)[..] == self.sha)
        };
        slot.is_some_and(|slot| slot.read(is_it))
    }

    /// Where the upload under way goes.
    fn target<'f>(&self, flash: &'f mut Flash) -> Option<&'f mut Slot> {
        flash.image_mut(self.image).and_then(|image| image.slots.get_mut(self.slot))
    }

    fn write(&mut self, spec: &SimSpec, flash: &mut Flash, mut chunk: Chunk) -> Result<Effects, Refused> {
        let offset = chunk.offset.ok_or(ImageError::InvalidOffset.because("header malformed"))?;
        let mut effects = Effects::default();
        if offset == 0 {
            let Some((size, slot)) = chunk.check_first(spec, flash, self)? else { return Ok(effects) };
            let sha = std::mem::take(&mut chunk.sha);
            *self = Self { active: true, offset: 0, size, image: chunk.image, slot, sha };
            if spec.image_check && self.sha.len() == SHA_LEN && self.matches(flash) {
                self.offset = size;
                effects.upload_done = true;
                return Ok(effects);
            }
            if let Some(slot) = self.target(flash) {
                effects.erased = erase_for(slot, size);
                slot.start_image(spec.mode == BootMode::SwapOffset);
            }
        } else if offset != self.offset {
            return Ok(effects);
        } else if u64::from(offset) + chunk.data.len() as u64 > u64::from(self.size) {
            return Err(ImageError::DataOverrun.because("data overrun"));
        }
        let end = u64::from(self.offset) + chunk.data.len() as u64;
        if end != u64::from(self.size) {
            let align = spec.write_align as usize;
            chunk.data.truncate(chunk.data.len() / align * align);
        }
        if let Some(slot) = self.target(flash) {
            slot.append(&chunk.data);
        }
        flash.written += chunk.data.len() as u64;
        effects.written = chunk.data.len() as u64;
        self.offset += u32::try_from(chunk.data.len()).unwrap_or(0);
        effects.upload_done = !chunk.data.is_empty() && self.offset == self.size;
        Ok(effects)
    }
}

/// Erases what an image of `size` bytes needs, as far as anything is there; gives the bytes erased.
fn erase_for(slot: &mut Slot, size: u32) -> u64 {
    if slot.is_empty() {
        return 0;
    }
    slot.erase();
    // The pages of the image, and the one with the trailer.
    u64::from(size.div_ceil(PAGE) + 1) * u64::from(PAGE)
}

/// One chunk as it was sent.
struct Chunk {
    image: usize,
    offset: Option<u32>,
    size: Option<u32>,
    sha: Vec<u8>,
    data: Vec<u8>,
    upgrade: bool,
}

impl Chunk {
    /// Checks a first chunk, in Zephyr's order. Gives the length of the file and its slot, or `None` where the
    /// upload under way goes on.
    fn check_first(
        &self,
        spec: &SimSpec,
        flash: &Flash,
        running: &Upload,
    ) -> Result<Option<(u32, usize)>, Refused> {
        let malformed = "header malformed";
        let Some(header) = self.data.first_chunk::<IMAGE_HEADER_LEN>() else {
            return Err(ImageError::InvalidImageHeader.because(malformed));
        };
        let size = self.size.ok_or(ImageError::InvalidLength.because(malformed))?;
        let Some(header) = Header::read(header) else {
            return Err(ImageError::InvalidImageHeaderMagic.because("magic mismatch"));
        };
        if self.sha.len() > SHA_LEN {
            return Err(ImageError::InvalidHash.into());
        }
        if running.active && !self.sha.is_empty() && self.sha == running.sha {
            return Ok(None);
        }
        let free = flash.image(self.image).and_then(|image| image.free_slot(spec.allow_erase_pending));
        let slot = free.ok_or(ImageError::NoFreeSlot.because("no slot"))?;
        if size > flash.slot_size {
            return Err(ImageError::TooLarge.because("img too large"));
        }
        let in_place = matches!(spec.mode, BootMode::DirectXip | BootMode::DirectXipWithRevert);
        if in_place && spec.reject_mismatched_slot && !flash.is_at_home(slot, header) {
            return Err(ImageError::InvalidFlashAddress.because("img addr mismatch"));
        }
        if self.upgrade {
            let current = flash.info(flash.active).map_err(|_| ImageError::VersionGetFailed)?.version;
            if !header.version.is_newer_than(current) {
                return Err(ImageError::CurrentVersionIsNewer.because("downgrade"));
            }
        }
        Ok(Some((size, slot)))
    }
}
