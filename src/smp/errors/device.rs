//! The device's no, and what to do about it.

use std::borrow::Cow;
use std::fmt;

use super::names::{error_name, group_name};
use crate::cause::{Cause, Class};
use crate::smp::message::DecodeError;
use crate::smp::{RequestId, group};

/// Numbers of `enum mcumgr_err_t` that this crate acts on (`mgmt_defines.h`).
mod mgmt {
    pub(super) const NO_MEMORY: i64 = 2;
    pub(super) const INVALID_VALUE: i64 = 3;
    pub(super) const NO_ENTRY: i64 = 5;
    pub(super) const BAD_STATE: i64 = 6;
    pub(super) const MESSAGE_TOO_LARGE: i64 = 7;
    pub(super) const NOT_SUPPORTED: i64 = 8;
    pub(super) const CORRUPT: i64 = 9;
    pub(super) const BUSY: i64 = 10;
    pub(super) const ACCESS_DENIED: i64 = 11;
    pub(super) const TOO_OLD: i64 = 12;
    pub(super) const TOO_NEW: i64 = 13;
}

/// Longest part of a device's own text that goes into a message, in characters.
const REASON_LIMIT: usize = 120;

/// The device's no.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeviceError {
    /// The group whose numbering `rc` follows; `None` for the errors of SMP itself, and for all of version 1.
    pub group: Option<u16>,
    /// The number, never 0.
    pub rc: i64,
    /// The reason that some servers add (`rsn`).
    pub reason: Option<String>,
}

impl DeviceError {
    /// The name that the specification gives the number; `None` for numbers that it does not know.
    #[must_use]
    pub fn name(&self) -> Option<&'static str> {
        error_name(self.group, self.rc)
    }

    /// Stable and dotted: `smp.img_mgmt.flash_erase_failed` for errors of a group, `smp.mgmt.bad_state` for errors of
    /// SMP itself and of version 1, `smp.group64.rc3` for what has no name.
    #[must_use]
    pub fn code(&self) -> String {
        let group = match self.group {
            None => Cow::Borrowed("mgmt"),
            Some(group) => {
                group_name(group).map_or_else(|| Cow::Owned(format!("group{group}")), Cow::Borrowed)
            }
        };
        match self.name() {
            Some(name) => format!("smp.{group}.{name}"),
            None => format!("smp.{group}.rc{}", self.rc),
        }
    }

    /// The device cannot take this now, and may take it later: `MGMT_ERR_ENOMEM` (its buffers are full) or
    /// `MGMT_ERR_EBUSY`.
    #[must_use]
    pub fn is_busy(&self) -> bool {
        self.group.is_none() && matches!(self.rc, mgmt::NO_MEMORY | mgmt::BUSY)
    }

    /// The device found the message damaged or cut short: `MGMT_ERR_ECORRUPT`.
    #[must_use]
    pub fn is_corrupt(&self) -> bool {
        self.group.is_none() && self.rc == mgmt::CORRUPT
    }

    /// The device does not know the command at all, so another way has to be found: `MGMT_ERR_ENOTSUP`.
    #[must_use]
    pub fn is_not_supported(&self) -> bool {
        self.group.is_none() && self.rc == mgmt::NOT_SUPPORTED
    }

    /// Who has to act.
    #[must_use]
    pub fn class(&self) -> Class {
        if self.image_reason().is_some() {
            return Class::Image;
        }
        match (self.group, self.name()) {
            (
                Some(group::IMAGE),
                Some(
                    "no_tlvs"
                    | "invalid_tlv"
                    | "tlv_multiple_hashes_found"
                    | "tlv_invalid_size"
                    | "invalid_image_header"
                    | "invalid_image_header_magic"
                    | "invalid_flash_address"
                    | "current_version_is_newer"
                    | "invalid_image_vector_table"
                    | "invalid_image_too_large",
                ),
            ) => Class::Image,
            _ => Class::Device,
        }
    }

    /// The next thing to do.
    #[must_use]
    pub fn help(&self) -> &'static str {
        if let Some(help) = self.image_reason() {
            return help;
        }
        match self.group {
            None => mgmt_help(self.rc),
            Some(group::IMAGE) => self.name().map_or(LOOK_UP, image_help),
            Some(_) => self.name().map_or(LOOK_UP, group_help),
        }
    }

    /// What went wrong with `request`, as every report tells it.
    #[must_use]
    pub fn to_cause(&self, request: RequestId) -> Cause {
        Cause::new(
            self.class(),
            self.code(),
            format!("expected success of {request}, the device answered with {self}{}", self.lacks(request)),
            self.help(),
        )
    }

    /// A server says the same of a command that it lacks and of a group: which one it was belongs to the message.
    fn lacks(&self, request: RequestId) -> String {
        // Every server has the one, and what can be done with images depends on the bootloader too.
        if !self.is_not_supported() || matches!(request.group, group::OS | group::IMAGE) {
            return String::new();
        }
        let group = request.group;
        match group_name(group) {
            Some(name) => format!("; it lacks this command, or all of group {group} ({name})"),
            None => format!("; it lacks this command, or all of group {group}"),
        }
    }

    /// Version 1 has one number for many faults of an image; the server's own words tell them apart
    /// (`img_mgmt.c`, `img_mgmt_err_str_*`).
    fn image_reason(&self) -> Option<&'static str> {
        if self.group.is_some() {
            return None;
        }
        match self.reason.as_deref()? {
            "downgrade" => Some(image_help("current_version_is_newer")),
            "magic mismatch" => Some(image_help("invalid_image_header_magic")),
            "img too large" => Some(image_help("invalid_image_too_large")),
            "img addr mismatch" => Some(image_help("invalid_flash_address")),
            _ => None,
        }
    }
}

/// For example `error 13 of the image group (flash_erase_failed)`.
impl fmt::Display for DeviceError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.group {
            None => write!(f, "SMP error {}", self.rc)?,
            Some(group) => match group_name(group) {
                Some(name) => write!(f, "error {} of group {group} ({name})", self.rc)?,
                None => write!(f, "error {} of group {group}", self.rc)?,
            },
        }
        match self.name() {
            Some(name) => write!(f, ": {name}")?,
            None => f.write_str(", which has no name in the specification")?,
        }
        if let Some(reason) = &self.reason {
            let text: String = reason.chars().filter(|c| !c.is_control()).take(REASON_LIMIT).collect();
            write!(f, ", saying \"{text}\"")?;
        }
        Ok(())
    }
}

const LOOK_UP: &str = "look the number up in the documentation of the device's firmware";

fn mgmt_help(rc: i64) -> &'static str {
    match rc {
        mgmt::NO_MEMORY => {
            "the device's buffers are full or too small: lower `window` or `buffer` in the target's link"
        }
        mgmt::INVALID_VALUE => {
            "the device does not take one of the values: check them; for an image its number, its hash and the slot"
        }
        mgmt::NO_ENTRY => {
            "what was asked for is not on the device: check its name, for an image its hash and slot"
        }
        mgmt::BAD_STATE => {
            "another update is pending or not confirmed: reset the device, look at its image list, and try again"
        }
        mgmt::MESSAGE_TOO_LARGE => {
            "the answer is more than the device's firmware sets aside for it: raise CONFIG_MCUMGR_TRANSPORT_NETBUF_SIZE there, \
             or ask for less"
        }
        mgmt::NOT_SUPPORTED => {
            "the device's firmware lacks this command or its bootloader mode forbids it: enable the command's \
             group in the firmware, or leave the step out"
        }
        mgmt::CORRUPT => {
            "the request was damaged on the way, or the answer does not fit the device's buffer: check cable, speed and \
             flow control, or ask for less"
        }
        mgmt::BUSY => {
            "the device is busy or its application refuses for now: try again later, or use `force` for a reset"
        }
        mgmt::ACCESS_DENIED => {
            "the application on the device refuses this: unlock it there, or check its access rules"
        }
        mgmt::TOO_OLD | mgmt::TOO_NEW => {
            "the device speaks another version of SMP: send requests in the one that it knows (`smp --protocol`)"
        }
        _ => LOOK_UP,
    }
}

fn image_help(name: &str) -> &'static str {
    match name {
        "no_image" => "the slot is empty: upload the image first",
        "no_tlvs" | "invalid_tlv" | "tlv_multiple_hashes_found" | "tlv_invalid_size" => {
            "the image in the slot is not sound: sign it again with imgtool and upload it again"
        }
        "hash_not_found" => {
            "no slot holds an image with this hash: look at the image list and upload the image again"
        }
        "no_free_slot" => {
            "the device keeps the other slot, mostly to go back to it: confirm the running image or reset the device, \
             then try again"
        }
        "flash_open_failed" | "flash_read_failed" | "flash_write_failed" | "flash_erase_failed" => {
            "the device's flash does not work as expected: try once more; if it stays, the flash or its \
             partition table is at fault"
        }
        "invalid_slot" => "the device has no such slot: check `image_number` and `slot`",
        "no_free_memory" => "the device ran out of memory: reset it and try again",
        "invalid_image_header" | "invalid_image_header_magic" => {
            "the file is not an MCUboot image for this device: use the file that imgtool signed"
        }
        "invalid_flash_address" => {
            "the image is linked for the other slot: with direct XIP use the build for the slot that is not running"
        }
        "current_version_is_newer" => {
            "the device runs this version or a newer one: raise the image's version, or leave out `upgrade_only`"
        }
        "image_already_pending" => {
            "an update is already waiting for a reset: reset the device, look at its image list, and try again"
        }
        "invalid_image_vector_table" => {
            "the image's vector table is not in this slot: build the image for this board and slot"
        }
        "invalid_image_too_large" => {
            "the image does not fit the slot: make it smaller, or check that it was built for this board"
        }
        "image_confirmation_denied" => {
            "only the running image can be confirmed on this device: test-boot the image first"
        }
        "image_setting_test_to_active_denied" => "the image is running already: there is nothing to test",
        "unknown" => "look at the device's log; if it tells nothing, reset the device and try again",
        _ => LOOK_UP,
    }
}

fn group_help(name: &str) -> &'static str {
    match name {
        "file_not_found" | "key_not_found" | "root_key_not_found" | "invalid_group" | "invalid_stat_name" => {
            "check the name: the device has none like it"
        }
        "file_offset_not_valid" => "the file on the device changed meanwhile: close it and start again",
        "mount_point_not_found" | "read_only_filesystem" => {
            "check the path: its file system is not mounted or takes no writes"
        }
        "file_write_failed" => {
            "the file system is probably full: make room on the device, or put a smaller file. A file that is replaced \
             takes its room until the new one is closed"
        }
        "file_empty" => "the file has no bytes, and servers take no hash of nothing",
        "file_offset_larger_than_file" => "begin before the file's end: `fs status` tells its length",
        "file_is_directory" => "give the path of a file",
        "checksum_hash_not_found" => "`fs hash-types` tells what the device has",
        "index_too_large" => "`enum count` tells how many groups the device has; the first has index 0",
        "key_too_long" => {
            "shorten the name, or raise CONFIG_MCUMGR_GRP_SETTINGS_NAME_LEN in the device's firmware"
        }
        "read_not_supported" | "write_not_supported" | "delete_not_supported" | "save_not_supported" => {
            "the device's firmware has no way to do this with its settings: enable it there"
        }
        "invalid_format" => "use the letters of `os info --help`",
        "query_yields_no_answer" => "the bootloader does not know this query: `mode` is what MCUboot answers",
        "rtc_not_set" => "set the device's clock first",
        "command_too_long" => "shorten the command, or raise the shell's limits in the device's firmware",
        _ => LOOK_UP,
    }
}

/// An answer that is not the success that was asked for.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("expected success of {request}: {source}")]
pub struct ResponseError {
    /// What was asked.
    pub request: RequestId,
    /// What came.
    pub source: DecodeError,
}

impl ResponseError {
    /// The device's own error, where that is what came.
    #[must_use]
    pub fn device(&self) -> Option<&DeviceError> {
        match &self.source {
            DecodeError::Device(error) => Some(error),
            DecodeError::Malformed(_) | DecodeError::Trailing { .. } => None,
        }
    }
}

impl From<ResponseError> for Cause {
    fn from(error: ResponseError) -> Self {
        match &error.source {
            DecodeError::Device(device) => device.to_cause(error.request),
            DecodeError::Malformed(_) | DecodeError::Trailing { .. } => Self::new(
                Class::Device,
                "smp.malformed_answer",
                error.to_string(),
                "record the conversation with `--trace` and compare it with the documentation of the device's \
                 firmware",
            ),
        }
    }
}
