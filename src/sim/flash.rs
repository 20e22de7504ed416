//! The flash of a simulated device: two slots of bytes and their MCUboot trailers. What the bytes mean to the bootloader
//! lives in `mcuboot.rs`.

use super::content::{Content, Shelf};
use super::firmware::{
    Behaviour, FLAG_RAM_LOAD, Header, ImageHash, ImageInfo, NoImage, read_info, validates,
};
use super::mcuboot::SwapType;
use super::spec::BootMode;

/// Size of the erase unit, in bytes.
pub(super) const PAGE: u32 = 4096;
/// Length of a trailer's magic at the end of its slot, in bytes (`BOOT_MAGIC_SZ`).
const MAGIC_LEN: usize = 16;
/// Length of each flag below the magic, in bytes (`BOOT_MAX_ALIGN`).
const FLAG_LEN: usize = 8;
/// Address of the first slot; the second one follows it.
const FIRST_SLOT: u32 = 0x1_0000;

/// A trailer's magic, decoded (`BOOT_MAGIC_*`).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) enum Magic {
    #[default]
    Unset,
    Good,
    Bad,
}

/// A trailer's flag, decoded (`BOOT_FLAG_*`).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) enum Flag {
    #[default]
    Unset,
    Set,
    Bad,
}

/// The end of a slot, where bootloader and application talk (`mcuboot/docs/design.md`, "Image trailer").
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Trailer {
    pub(super) magic: Magic,
    pub(super) image_ok: Flag,
    pub(super) copy_done: Flag,
}

/// One slot. Erased flash is not stored.
#[derive(Debug, Clone, Default)]
pub(super) struct Slot {
    /// What was written from the image's start on; beyond it is erased flash.
    data: Content,
    /// Where what other devices were given is found.
    shelf: Shelf,
    /// The image starts one page into the slot, where swap-by-offset expects a new one.
    shifted: bool,
    trailer: Trailer,
    /// What MCUboot and the firmware make of the content; forgotten with every write.
    checked: Option<Checked>,
}

/// What a boot finds in a slot. Firmware that resets at once boots thousands of times in an hour: it is looked at once.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Checked {
    /// MCUboot starts the image.
    pub(super) valid: bool,
    /// How it behaves then.
    pub(super) behaviour: Behaviour,
}

impl Slot {
    /// An erased slot of a device whose fleet shares this shelf.
    fn on(shelf: &Shelf) -> Self {
        Self { shelf: shelf.clone(), ..Self::default() }
    }

    /// Reads the image's bytes, as far as they were written.
    pub(super) fn read<T>(&self, read: impl FnOnce(&[u8]) -> T) -> T {
        self.data.read(read)
    }

    /// Bytes that were written since the slot was erased.
    pub(super) fn len(&self) -> usize {
        self.data.len()
    }

    /// Whether the whole slot is erased.
    pub(super) fn is_empty(&self) -> bool {
        self.data.is_empty() && self.trailer == Trailer::default()
    }

    pub(super) fn erase(&mut self) {
        self.take();
    }

    /// Takes everything out of the slot, which is erased then.
    pub(super) fn take(&mut self) -> Self {
        let erased = Self::on(&self.shelf);
        std::mem::replace(self, erased)
    }

    /// The trailer as it reads: an image so long that it reaches into it spoils it.
    pub(super) fn trailer(&self, slot_size: u32) -> Trailer {
        let size = slot_size as usize;
        let mut trailer = self.trailer;
        if self.data.len() > size - MAGIC_LEN {
            trailer.magic = Magic::Bad;
        }
        if self.data.len() > size - MAGIC_LEN - FLAG_LEN {
            trailer.image_ok = Flag::Bad;
        }
        if self.data.len() > size - MAGIC_LEN - 2 * FLAG_LEN {
            trailer.copy_done = Flag::Bad;
        }
        trailer
    }

    pub(super) fn set_trailer(&mut self, trailer: Trailer) {
        self.trailer = trailer;
    }

    /// Starts a new image in an erased slot.
    pub(super) fn start_image(&mut self, shifted: bool) {
        self.shifted = shifted;
    }

    /// What a boot finds here.
    pub(super) fn check(&mut self, kind: ImageHash) -> Checked {
        let check = |data: &[u8]| Checked { valid: validates(data, kind), behaviour: Behaviour::of(data) };
        *self.checked.get_or_insert_with(|| self.data.check(kind, check))
    }

    /// Writes at the end of what was written.
    pub(super) fn append(&mut self, bytes: &[u8]) {
        self.checked = None;
        self.data.append(bytes, &self.shelf);
    }

    pub(super) fn is_shifted(&self) -> bool {
        self.shifted
    }

    pub(super) fn set_shifted(&mut self, shifted: bool) {
        self.shifted = shifted;
    }
}

/// Both slots of an image number; that of image 0 holds those of the others too.
#[derive(Debug, Clone)]
pub(super) struct Flash {
    pub(super) slots: [Slot; 2],
    pub(super) slot_size: u32,
    pub(super) mode: BootMode,
    pub(super) hash: ImageHash,
    /// The slot whose image was started last: the first one where the bootloader moves images.
    pub(super) active: usize,
    /// Bytes ever written by uploads.
    pub(super) written: u64,
    /// Hash of the image that ran first.
    first: Option<Vec<u8>>,
    /// Those of image 1 and so on.
    further: Vec<Flash>,
}

impl Flash {
    /// The flash of a device whose fleet shares `shelf`.
    pub(super) fn new(
        mode: BootMode,
        slot_size: u32,
        hash: ImageHash,
        image: Vec<u8>,
        shelf: &Shelf,
    ) -> Self {
        let first = read_info(&image, hash).ok().map(|info| info.hash);
        let slots = [Slot::on(shelf), Slot::on(shelf)];
        let mut flash =
            Self { slots, slot_size, mode, hash, active: 0, written: 0, first, further: Vec::new() };
        flash.program(0, &image);
        flash
    }

    /// Adds another image number, with what runs of it.
    pub(super) fn add_image(&mut self, image: Vec<u8>) {
        let [first, _] = &self.slots;
        self.further.push(Self::new(self.mode, self.slot_size, self.hash, image, &first.shelf));
    }

    /// How many images the device has.
    pub(super) fn image_count(&self) -> usize {
        1 + self.further.len()
    }

    /// The slots of an image number.
    pub(super) fn image(&self, number: usize) -> Option<&Self> {
        match number.checked_sub(1) {
            None => Some(self),
            Some(further) => self.further.get(further),
        }
    }

    /// The slots of an image number.
    pub(super) fn image_mut(&mut self, number: usize) -> Option<&mut Self> {
        match number.checked_sub(1) {
            None => Some(self),
            Some(further) => self.further.get_mut(further),
        }
    }

    /// The slots of image 1 and so on.
    pub(super) fn further_mut(&mut self) -> impl Iterator<Item = &mut Self> {
        self.further.iter_mut()
    }

    /// Address of a slot's first byte.
    pub(super) fn address(&self, slot: usize) -> u32 {
        let behind = if slot == 0 { 0 } else { self.slot_size };
        FIRST_SLOT + behind
    }

    /// The image header in a slot.
    pub(super) fn header(&self, slot: usize) -> Option<Header> {
        self.slots.get(slot).and_then(|slot| slot.read(Header::read))
    }

    /// Whether another image than the first one runs.
    pub(super) fn is_updated(&self) -> bool {
        self.info(self.active).ok().map(|info| info.hash) != self.first
    }

    /// Writes an image as a programmer does: the slot is erased first. Where only what is marked boots, it is marked to
    /// stay (`imgtool sign --pad --confirm`).
    pub(super) fn program(&mut self, slot: usize, image: &[u8]) {
        if let (number @ 1.., slot) = (slot / 2, slot % 2) {
            return self.image_mut(number).map_or((), |further| further.program(slot, image));
        }
        let shifted = slot == 1 && self.mode == BootMode::SwapOffset;
        if let Some(slot) = self.slots.get_mut(slot) {
            slot.erase();
            slot.start_image(shifted);
            slot.append(image);
            if self.mode == BootMode::DirectXipWithRevert {
                let marked = Trailer { magic: Magic::Good, image_ok: Flag::Set, copy_done: Flag::Set };
                slot.set_trailer(marked);
            }
        }
    }

    /// Erases a whole slot, its trailer included, for an image that starts where it has to.
    pub(super) fn clear(&mut self, slot: usize) {
        self.program(slot, &[]);
    }

    /// Writes at the end of what was written into a slot.
    pub(super) fn append(&mut self, slot: usize, bytes: &[u8]) {
        if let Some(slot) = self.slots.get_mut(slot) {
            slot.append(bytes);
            self.written += bytes.len() as u64;
        }
    }

    /// Whether MCUboot would boot the image in a slot.
    pub(super) fn is_valid(&mut self, slot: usize) -> bool {
        let hash = self.hash;
        let for_ram = |header: Header| header.flags & FLAG_RAM_LOAD != 0;
        if self.mode == BootMode::RamLoad && !self.header(slot).is_some_and(for_ram) {
            return false;
        }
        self.slots.get_mut(slot).is_some_and(|slot| slot.check(hash).valid)
    }

    /// Number of slots that the application can see.
    pub(super) fn slot_count(&self) -> usize {
        if self.mode == BootMode::Single { 1 } else { 2 }
    }

    /// Where Zephyr looks for the image in the secondary slot: one page in for swap by offset, except for the image that
    /// a revert would bring back (`boot_get_image_start_offset`).
    pub(super) fn expects_shifted(&self) -> bool {
        self.mode == BootMode::SwapOffset && self.swap_type() != SwapType::Revert
    }

    /// What Zephyr sees in a slot.
    pub(super) fn info(&self, slot: usize) -> Result<ImageInfo, NoImage> {
        let found = self.slots.get(slot).filter(|_| slot < self.slot_count()).ok_or(NoImage::Empty)?;
        if slot == 1 && found.is_shifted() != self.expects_shifted() {
            return Err(NoImage::Empty);
        }
        found.read(|data| read_info(data, self.hash))
    }
}
