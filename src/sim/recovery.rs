//! MCUboot's serial recovery: the few commands that it has, after `boot/boot_serial/src/boot_serial.c`. When the bootloader
//! stays in it is decided in `device/boot.rs`.

use std::ops::RangeInclusive;

use serde::{Deserialize, Serialize};

use super::fault::FaultSpec;
use super::flash::Flash;
use super::groups::{Answer, Body, Effects, SmpError};
use super::mcuboot::SwapType;
use super::server::{RawHeader, Reply, Server, error_payload};
use super::spec::{SimSpec, SpecError};
use crate::smp::{HEADER_LEN, Version, group};

/// Bytes of a message: at least the header and the image header; at most what the 16-bit length of a packet tells.
const BUF_SIZE: RangeInclusive<u32> = 128..=65_535;
/// Line buffers.
const LINE_BUFFERS: RangeInclusive<usize> = 1..=1024;
/// Bytes.
const WRITE_ALIGN: RangeInclusive<u32> = 1..=4096;

/// MCUboot's serial recovery, and what it was built with.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields, default)]
pub struct RecoverySpec {
    /// The device is in its recovery at first, as with a held button.
    pub starts: bool,
    /// A reset with `boot_mode` 1 leads there (Zephyr `CONFIG_RETENTION_BOOT_MODE`, MCUboot `BOOT_SERIAL_BOOT_MODE`).
    pub boot_mode: bool,
    /// It stays there where it has no image that it may boot (`BOOT_SERIAL_NO_APPLICATION`); otherwise it hangs.
    pub no_application: bool,
    /// It tells its buffers (`MCUBOOT_BOOT_MGMT_MCUMGR_PARAMS`).
    pub params: bool,
    /// It has the echo command (`MCUBOOT_BOOT_MGMT_ECHO`).
    pub echo: bool,
    /// Its image list has hashes (`MCUBOOT_SERIAL_IMG_GRP_HASH`).
    pub hash: bool,
    /// Its image list has states, and an image can be marked (`MCUBOOT_SERIAL_IMG_GRP_IMAGE_STATE`).
    pub image_state: bool,
    /// It tells its slots (`MCUBOOT_SERIAL_IMG_GRP_SLOT_INFO`).
    pub slot_info: bool,
    /// An upload names its slot: 1 is the primary one, 2 the secondary one (`MCUBOOT_SERIAL_DIRECT_IMAGE_UPLOAD`).
    pub direct_upload: bool,
    /// It is older than MCUboot 2.0: it drops requests of protocol version 2, and commands that it does not know, without a
    /// word.
    pub legacy: bool,
    /// Longest message, in bytes, with length and CRC (`MCUBOOT_SERIAL_MAX_RECEIVE_SIZE`).
    pub buf_size: u32,
    /// Lines that it can hold (`BOOT_LINE_BUFS`).
    pub line_buffers: usize,
    /// Chunks are cut to a multiple of so many bytes, the last one excepted (`flash_area_align`).
    pub write_align: u32,
}

impl Default for RecoverySpec {
    fn default() -> Self {
        Self {
            starts: false,
            boot_mode: true,
            no_application: true,
            params: true,
            echo: false,
            hash: true,
            image_state: false,
            slot_info: false,
            direct_upload: false,
            legacy: false,
            buf_size: 1024,
            line_buffers: 8,
            write_align: 4,
        }
    }
}

impl RecoverySpec {
    /// What about it cannot be simulated.
    pub(super) fn problems(&self, problems: &mut Vec<SpecError>) {
        let mut require = |holds: bool, field: &'static str, message: String| {
            if !holds {
                problems.push(SpecError { field, message });
            }
        };
        let range = |unit: &str, low: String, high: String, actual: String| {
            format!("expected {unit} from {low} to {high}, got {actual}")
        };
        let bytes = |range_of: RangeInclusive<u32>, actual: u32| {
            range("bytes", range_of.start().to_string(), range_of.end().to_string(), actual.to_string())
        };
        require(BUF_SIZE.contains(&self.buf_size), "recovery.buf_size", bytes(BUF_SIZE, self.buf_size));
        require(
            WRITE_ALIGN.contains(&self.write_align),
            "recovery.write_align",
            bytes(WRITE_ALIGN, self.write_align),
        );
        let (low, high) = (LINE_BUFFERS.start().to_string(), LINE_BUFFERS.end().to_string());
        require(
            LINE_BUFFERS.contains(&self.line_buffers),
            "recovery.line_buffers",
            range("lines", low, high, self.line_buffers.to_string()),
        );
    }

    /// The device while it is in its recovery: other buffers than its application has.
    pub(super) fn over(&self, spec: &SimSpec) -> SimSpec {
        SimSpec {
            buf_size: self.buf_size,
            // It takes one line after the other, and handles a command before it takes the next.
            buf_count: u32::from(u16::MAX),
            line_buffers: self.line_buffers,
            ..spec.clone()
        }
    }
}

/// What the recovery remembers of an upload, until a reset (`bs_upload`).
#[derive(Debug, Default)]
pub(super) struct RecoveryUpload {
    /// The slot that is written.
    slot: usize,
    /// Length of the whole file, in bytes.
    size: u64,
    /// Offset of the next chunk, in bytes.
    offset: u64,
}

impl Server {
    /// Handles the one request in a message.
    pub(super) fn handle_in_recovery(
        &mut self,
        (spec, fault): (&SimSpec, &FaultSpec),
        recovery: &RecoverySpec,
        flash: &mut Flash,
        message: &[u8],
    ) -> Vec<Reply> {
        let Some(header) = RawHeader::read(message) else { return Vec::new() };
        let payload = message.get(HEADER_LEN..).unwrap_or_default();
        if header.request_op().is_none() || usize::from(header.length) < payload.len() {
            return Vec::new();
        }
        if recovery.legacy && header.version != Version::V1 as u8 {
            return Vec::new();
        }
        let nth = self.count(header);
        let refusal = fault.refuse.iter().find(|refusal| refusal.applies(header.group, header.command, nth));
        let mut answer = Answer::new();
        let outcome = match refusal {
            Some(refusal) => Err(refusal.rc),
            None => {
                let request = (header.op, header.group, header.command);
                self.recovery_command((spec, recovery), flash, request, payload, &mut answer)
            }
        };
        let not_supported = SmpError::NotSupported as u32;
        if recovery.legacy && refusal.is_none() && outcome == Err(not_supported) {
            return Vec::new();
        }
        let (payload, effects) = match outcome {
            Ok(effects) => (answer.finish(), effects),
            Err(rc) => (error_payload(rc, None), Effects::default()),
        };
        let message = header.answer(&payload);
        vec![Reply { message, group: header.group, command: header.command, nth, effects }]
    }

    /// One command; the error is `rc`.
    fn recovery_command(
        &mut self,
        (spec, recovery): (&SimSpec, &RecoverySpec),
        flash: &mut Flash,
        (op, group, command): (u8, u16, u8),
        payload: &[u8],
        answer: &mut Answer,
    ) -> Result<Effects, u32> {
        let not_supported = SmpError::NotSupported as u32;
        let invalid = SmpError::Invalid as u32;
        match (group, command) {
            (group::OS, 0) if recovery.echo => {
                let text = Body::read(payload).and_then(|body| body.text("d"));
                answer.text("r", &text.ok().flatten().ok_or(invalid)?);
            }
            (group::OS, 1) => answer.number("rc", 0),
            (group::OS, 5) => {
                answer.number("rc", 0);
                return Ok(Effects { reset: true, ..Effects::default() });
            }
            (group::OS, 6) if recovery.params => {
                answer.number("buf_size", recovery.buf_size.into());
                answer.number("buf_count", 1);
            }
            (group::IMAGE, 0) if op == 0 => list(recovery, flash, answer),
            (group::IMAGE, 0) if recovery.image_state => set_state(recovery, flash, payload, answer)?,
            (group::IMAGE, 1) => {
                return self.recovery_upload(recovery, flash, payload, answer).map_err(|error| error as u32);
            }
            (group::IMAGE, 6) if recovery.slot_info => slots(spec, recovery, flash, answer),
            _ => return Err(not_supported),
        }
        Ok(Effects::default())
    }

    /// `bs_upload`: a chunk at 0 always starts over and erases the whole slot.
    fn recovery_upload(
        &mut self,
        recovery: &RecoverySpec,
        flash: &mut Flash,
        payload: &[u8],
        answer: &mut Answer,
    ) -> Result<Effects, SmpError> {
        let body = Body::read(payload)?;
        let data = body.bytes("data")?.ok_or(SmpError::Invalid)?;
        let offset = body.u64("off")?.ok_or(SmpError::Invalid)?;
        let mut effects = Effects::default();
        let upload = &mut self.recovery;
        if offset == 0 {
            let number = body.u32("image")?.unwrap_or(0);
            upload.slot = match (number, recovery.direct_upload) {
                (0, _) | (1, true) => 0,
                (2, true) if flash.slot_count() == 2 => 1,
                // A number that stands for no slot.
                _ => return Err(SmpError::Invalid),
            };
            upload.size = body.u64("len")?.unwrap_or(u64::MAX);
            upload.offset = 0;
            if upload.size > u64::from(flash.slot_size) {
                return Err(SmpError::Invalid);
            }
            effects.erased = u64::from(flash.slot_size);
            flash.clear(upload.slot);
        } else if offset == upload.offset && offset + data.len() as u64 > upload.size {
            return Err(SmpError::Invalid);
        }
        if offset == upload.offset {
            let align = recovery.write_align.max(1) as usize;
            let last = upload.offset + data.len() as u64 == upload.size;
            let keep = if last { data.len() } else { data.len() / align * align };
            let written = data.get(..keep).unwrap_or_default();
            flash.append(upload.slot, written);
            upload.offset += keep as u64;
            effects.written = keep as u64;
            effects.upload_done = keep > 0 && upload.offset == upload.size;
        }
        answer.number("rc", 0);
        answer.number("off", upload.offset);
        Ok(effects)
    }
}

/// `bs_list`: only images that MCUboot would boot.
fn list(recovery: &RecoverySpec, flash: &mut Flash, answer: &mut Answer) {
    let swap = flash.swap_type();
    answer.list("images");
    for slot in 0..flash.slot_count() {
        let Ok(info) = flash.info(slot) else { continue };
        if !flash.is_valid(slot) {
            continue;
        }
        answer.entry();
        if recovery.image_state {
            let (confirmed, pending, permanent) = match (swap, slot) {
                (SwapType::None | SwapType::Test | SwapType::Perm, 0) | (SwapType::Revert, 1) => {
                    (true, false, false)
                }
                (SwapType::Test, _) => (false, true, false),
                (SwapType::Perm, _) => (false, true, true),
                _ => (false, false, false),
            };
            let flags = [
                ("bootable", info.bootable),
                ("confirmed", confirmed),
                ("pending", pending),
                ("permanent", permanent),
            ];
            flags.into_iter().filter(|(_, set)| *set).for_each(|(name, _)| answer.bool(name, true));
        }
        answer.number("slot", slot as u64);
        if recovery.hash {
            answer.bytes("hash", &info.hash);
        }
        answer.text("version", &info.version.to_string());
        answer.close();
    }
    answer.close();
}

/// `bs_set`.
fn set_state(
    recovery: &RecoverySpec,
    flash: &mut Flash,
    payload: &[u8],
    answer: &mut Answer,
) -> Result<(), u32> {
    let (invalid, bad_state) = (SmpError::Invalid as u32, SmpError::BadState as u32);
    let body = Body::read(payload).map_err(|error| error as u32)?;
    let hash =
        body.bytes("hash").map_err(|error| error as u32)?.filter(|_| recovery.hash).unwrap_or_default();
    let confirm = body.bool("confirm").map_err(|error| error as u32)?.unwrap_or(false);
    if !hash.is_empty() && hash.len() != flash.hash.len() {
        return Err(invalid);
    }
    let slot = if hash.is_empty() {
        0
    } else {
        let slots = 0..flash.slot_count();
        let holds = |&slot: &usize| flash.info(slot).is_ok_and(|info| info.hash == hash);
        slots.into_iter().find(holds).ok_or(SmpError::NoEntry as u32)?
    };
    match (flash.swap_type(), slot) {
        (_, 0) if !confirm => return Err(invalid),
        (SwapType::Test | SwapType::Perm, _) | (SwapType::Revert, 1) => return Err(bad_state),
        _ => {}
    }
    flash.mark(slot, confirm).map_err(|_| SmpError::Unknown as u32)?;
    list(recovery, flash, answer);
    Ok(())
}

/// `bs_slot_info`.
fn slots(spec: &SimSpec, recovery: &RecoverySpec, flash: &Flash, answer: &mut Answer) {
    answer.list("images");
    answer.entry();
    answer.number("image", 0);
    answer.list("slots");
    for slot in 0..flash.slot_count() {
        answer.entry();
        answer.number("slot", slot as u64);
        answer.number("size", spec.slot_size.into());
        match (recovery.direct_upload, slot) {
            (true, slot) => answer.number("upload_image_id", slot as u64 + 1),
            (false, 0) => answer.number("upload_image_id", 0),
            (false, _) => {}
        }
        answer.close();
    }
    answer.close();
    answer.close();
    answer.close();
}
