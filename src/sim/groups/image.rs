//! Image group without upload: list, state write, erase, slot info, after Zephyr `grp/img_mgmt/src/img_mgmt_state.c` and
//! `img_mgmt.c`.

use super::upload::Upload;
use super::{Answer, Body, Effects, Refused, SmpError};
use crate::sim::fault::FaultSpec;
use crate::sim::firmware::ImageInfo;
use crate::sim::flash::Flash;
use crate::sim::mcuboot::MarkError;
use crate::sim::next_boot::NextBoot;
use crate::sim::spec::{BootMode, SimSpec};
use crate::smp::{Op, group};

/// Errors of the image group (Zephyr `enum img_mgmt_err_code_t`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u32)]
pub(in crate::sim) enum ImageError {
    /// `IMG_MGMT_ERR_HASH_NOT_FOUND`.
    HashNotFound = 8,
    /// `IMG_MGMT_ERR_NO_FREE_SLOT`.
    NoFreeSlot = 9,
    /// `IMG_MGMT_ERR_FLASH_OPEN_FAILED`.
    FlashOpenFailed = 10,
    /// `IMG_MGMT_ERR_INVALID_OFFSET`.
    InvalidOffset = 20,
    /// `IMG_MGMT_ERR_INVALID_LENGTH`.
    InvalidLength = 21,
    /// `IMG_MGMT_ERR_INVALID_IMAGE_HEADER`.
    InvalidImageHeader = 22,
    /// `IMG_MGMT_ERR_INVALID_IMAGE_HEADER_MAGIC`.
    InvalidImageHeaderMagic = 23,
    /// `IMG_MGMT_ERR_INVALID_HASH`.
    InvalidHash = 24,
    /// `IMG_MGMT_ERR_INVALID_FLASH_ADDRESS`.
    InvalidFlashAddress = 25,
    /// `IMG_MGMT_ERR_VERSION_GET_FAILED`.
    VersionGetFailed = 26,
    /// `IMG_MGMT_ERR_CURRENT_VERSION_IS_NEWER`.
    CurrentVersionIsNewer = 27,
    /// `IMG_MGMT_ERR_IMAGE_ALREADY_PENDING`.
    ImageAlreadyPending = 28,
    /// `IMG_MGMT_ERR_INVALID_IMAGE_VECTOR_TABLE`.
    InvalidImageVectorTable = 29,
    /// `IMG_MGMT_ERR_INVALID_IMAGE_TOO_LARGE`.
    TooLarge = 30,
    /// `IMG_MGMT_ERR_INVALID_IMAGE_DATA_OVERRUN`.
    DataOverrun = 31,
    /// `IMG_MGMT_ERR_IMAGE_CONFIRMATION_DENIED`.
    ConfirmationDenied = 32,
    /// `IMG_MGMT_ERR_IMAGE_SETTING_TEST_TO_ACTIVE_DENIED`.
    TestToActiveDenied = 33,
}

impl ImageError {
    pub(super) fn because(self, reason: &'static str) -> Refused {
        Refused::Group { group: group::IMAGE, rc: self as u32, reason: Some(reason) }
    }
}

impl From<ImageError> for Refused {
    fn from(error: ImageError) -> Self {
        Self::Group { group: group::IMAGE, rc: error as u32, reason: None }
    }
}

/// The image group and its memory, which a reset clears.
#[derive(Debug, Default)]
pub(in crate::sim) struct ImageGroup {
    upload: Upload,
}

impl ImageGroup {
    /// A request to the image group.
    pub(in crate::sim) fn handle(
        &mut self,
        (spec, fault): (&SimSpec, &FaultSpec),
        flash: &mut Flash,
        (op, command): (Op, u8),
        payload: &[u8],
        answer: &mut Answer,
    ) -> Result<Effects, Refused> {
        match (op, command) {
            (Op::Read, 0) => {
                list(flash, fault, answer);
                Ok(Effects::default())
            }
            // Without marks the command is not there.
            (Op::Write, 0) if matches!(spec.mode, BootMode::DirectXip | BootMode::RamLoad) => {
                Err(SmpError::NotSupported.into())
            }
            (Op::Write, 0) => write_state((spec, fault), flash, &Body::read(payload)?, answer),
            (Op::Write, 1) => self.upload.handle((spec, fault), flash, &Body::read(payload)?, answer),
            (Op::Write, 5) => self.erase(spec, flash, &Body::read(payload)?, answer),
            (Op::Read, 6) => {
                slot_info(flash, answer);
                Ok(Effects::default())
            }
            _ => Err(SmpError::NotSupported.into()),
        }
    }

    fn erase(
        &mut self,
        spec: &SimSpec,
        flash: &mut Flash,
        body: &Body,
        answer: &mut Answer,
    ) -> Result<Effects, Refused> {
        let wanted = body.u32("slot")?.map_or(usize::from(flash.active == 0), |slot| slot as usize);
        // Slots are numbered through all images: two each.
        let (number, slot) = (wanted / 2, wanted % 2);
        let found = flash.image_mut(number).filter(|image| slot < image.slot_count());
        // A slot without a whole image is erased whatever its trailer says.
        let in_use = |image: &Flash| image.info(slot).is_ok() && image.in_use(slot, spec.allow_erase_pending);
        if found.as_deref().is_some_and(in_use) {
            return Err(ImageError::NoFreeSlot.into());
        }
        self.upload.forget();
        let slot_size = u64::from(spec.slot_size);
        let Some(found) = found.and_then(|image| image.slots.get_mut(slot)) else {
            return Err(ImageError::FlashOpenFailed.into());
        };
        let erased = if found.is_empty() { 0 } else { slot_size };
        found.erase();
        if spec.legacy_rc {
            answer.number("rc", 0);
        }
        Ok(Effects { erased, ..Effects::default() })
    }
}

fn list(flash: &Flash, fault: &FaultSpec, answer: &mut Answer) {
    let count = flash.image_count();
    answer.list("images");
    for (number, image) in (0..count).filter_map(|number| Some((number, flash.image(number)?))) {
        let (next, how) = image.next_boot();
        let moves = next != image.active;
        for slot in 0..image.slot_count() {
            let Ok(info) = image.info(slot) else { continue };
            let active = slot == image.active;
            let pending = !active && moves && how != NextBoot::Revert;
            let confirmed = if active { how != NextBoot::Revert } else { moves && how == NextBoot::Revert };
            answer.entry();
            if count > 1 {
                answer.number("image", number as u64);
            }
            answer.number("slot", slot as u64);
            answer.text("version", &info.version.to_string());
            answer.bytes("hash", &shown_hash(&info, image, slot, fault));
            answer.bool("bootable", info.bootable);
            answer.bool("pending", pending);
            answer.bool("confirmed", confirmed);
            answer.bool("active", active);
            answer.bool("permanent", pending && how == NextBoot::Normal);
            answer.close();
        }
    }
    answer.close();
    answer.number("splitStatus", 0);
}

/// The hash as it is listed: with the fault `wrong_hash` another one for an image that came by an update.
fn shown_hash(info: &ImageInfo, flash: &Flash, slot: usize, fault: &FaultSpec) -> Vec<u8> {
    let mut hash = info.hash.clone();
    if fault.wrong_hash
        && slot == flash.active
        && flash.is_updated()
        && let Some(byte) = hash.first_mut()
    {
        *byte ^= 0xff;
    }
    hash
}

fn write_state(
    (spec, fault): (&SimSpec, &FaultSpec),
    flash: &mut Flash,
    body: &Body,
    answer: &mut Answer,
) -> Result<Effects, Refused> {
    let hash = body.bytes("hash")?.unwrap_or_default();
    let confirm = body.bool("confirm")?.unwrap_or(false);
    let (number, slot) = match hash.len() {
        0 if confirm => (0, flash.active),
        len if len == flash.hash.len() => find(flash, &hash).ok_or(ImageError::HashNotFound)?,
        _ => return Err(ImageError::InvalidHash.into()),
    };
    let image = flash.image_mut(number).ok_or(ImageError::HashNotFound)?;
    // Only the image that executes is confirmed, unless the server is built for more.
    if confirm && number > 0 && slot == image.active && !spec.confirm_other_images {
        return Err(ImageError::ConfirmationDenied.into());
    }
    set_next_boot(image, fault, slot, confirm)?;
    list(flash, fault, answer);
    Ok(Effects::default())
}

/// Image number and slot of the image with this hash.
fn find(flash: &Flash, hash: &[u8]) -> Option<(usize, usize)> {
    let slots = |number| (0..flash.slot_count()).map(move |slot| (number, slot));
    (0..flash.image_count()).flat_map(slots).find(|&(number, slot)| {
        flash.image(number).and_then(|image| image.info(slot).ok()).is_some_and(|info| info.hash == hash)
    })
}

/// `img_mgmt_set_next_boot_slot`.
fn set_next_boot(flash: &mut Flash, fault: &FaultSpec, slot: usize, confirm: bool) -> Result<(), ImageError> {
    let active = flash.active;
    if !confirm && slot == active {
        return Err(ImageError::TestToActiveDenied);
    }
    let (next, how) = flash.next_boot();
    match how {
        // There the server asks nothing further.
        _ if flash.mode == BootMode::DirectXipWithRevert => {}
        NextBoot::Test if !confirm && slot == next => return Ok(()),
        NextBoot::Test => return Err(ImageError::ImageAlreadyPending),
        NextBoot::Normal if confirm && slot == next => return Ok(()),
        NextBoot::Normal if next != active => return Err(ImageError::ImageAlreadyPending),
        NextBoot::Revert if confirm && slot == next => return Ok(()),
        NextBoot::Revert if !confirm => return Err(ImageError::ImageAlreadyPending),
        NextBoot::Normal | NextBoot::Revert => {}
    }
    if fault.forget_confirm && slot == active {
        return Ok(());
    }
    flash.mark(slot, confirm).map_err(|error| match error {
        MarkError::BadImage => ImageError::InvalidImageHeaderMagic,
        MarkError::BadVector => ImageError::InvalidImageVectorTable,
    })
}

fn slot_info(flash: &Flash, answer: &mut Answer) {
    answer.list("images");
    for (number, image) in (0..flash.image_count()).filter_map(|number| Some((number, flash.image(number)?)))
    {
        answer.entry();
        answer.number("image", number as u64);
        answer.list("slots");
        for slot in 0..image.slot_count() {
            answer.entry();
            answer.number("slot", slot as u64);
            answer.number("size", image.slot_size.into());
            if slot != image.active {
                answer.number("upload_image_id", number as u64);
            }
            answer.close();
        }
        answer.close();
        answer.close();
    }
    answer.close();
}
