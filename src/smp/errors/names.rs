//! Names of error numbers, per group (Zephyr `include/zephyr/mgmt/mcumgr/mgmt/mgmt_defines.h` and
//! `grp/*/`, enumerators in lower case without their prefix). No advice here.

use crate::smp::group;

/// `enum mcumgr_err_t`: errors of SMP itself, and every error in protocol version 1.
const MGMT: &[&str] = &[
    "ok",
    "unknown",
    "no_memory",
    "invalid_value",
    "timeout",
    "no_entry",
    "bad_state",
    "message_too_large",
    "not_supported",
    "corrupt",
    "busy",
    "access_denied",
    "unsupported_too_old",
    "unsupported_too_new",
];

/// `enum os_mgmt_err_code_t`.
const OS: &[&str] = &[
    "ok",
    "unknown",
    "invalid_format",
    "query_yields_no_answer",
    "rtc_not_set",
    "rtc_command_failed",
    "query_response_value_not_valid",
];

/// `enum img_mgmt_err_code_t`.
const IMAGE: &[&str] = &[
    "ok",
    "unknown",
    "flash_config_query_fail",
    "no_image",
    "no_tlvs",
    "invalid_tlv",
    "tlv_multiple_hashes_found",
    "tlv_invalid_size",
    "hash_not_found",
    "no_free_slot",
    "flash_open_failed",
    "flash_read_failed",
    "flash_write_failed",
    "flash_erase_failed",
    "invalid_slot",
    "no_free_memory",
    "flash_context_already_set",
    "flash_context_not_set",
    "flash_area_device_null",
    "invalid_page_offset",
    "invalid_offset",
    "invalid_length",
    "invalid_image_header",
    "invalid_image_header_magic",
    "invalid_hash",
    "invalid_flash_address",
    "version_get_failed",
    "current_version_is_newer",
    "image_already_pending",
    "invalid_image_vector_table",
    "invalid_image_too_large",
    "invalid_image_data_overrun",
    "image_confirmation_denied",
    "image_setting_test_to_active_denied",
    "active_slot_not_known",
];

/// `enum stat_mgmt_err_code_t`.
const STAT: &[&str] =
    &["ok", "unknown", "invalid_group", "invalid_stat_name", "invalid_stat_size", "walk_aborted"];

/// `enum settings_mgmt_ret_code_t`.
const SETTINGS: &[&str] = &[
    "ok",
    "unknown",
    "key_too_long",
    "key_not_found",
    "read_not_supported",
    "root_key_not_found",
    "write_not_supported",
    "delete_not_supported",
    "save_not_supported",
];

/// `enum fs_mgmt_err_code_t`.
const FS: &[&str] = &[
    "ok",
    "unknown",
    "file_invalid_name",
    "file_not_found",
    "file_is_directory",
    "file_open_failed",
    "file_seek_failed",
    "file_read_failed",
    "file_truncate_failed",
    "file_delete_failed",
    "file_write_failed",
    "file_offset_not_valid",
    "file_offset_larger_than_file",
    "checksum_hash_not_found",
    "mount_point_not_found",
    "read_only_filesystem",
    "file_empty",
];

/// `enum shell_mgmt_err_code_t`.
const SHELL: &[&str] = &["ok", "unknown", "command_too_long", "empty_command"];

/// `enum enum_mgmt_err_code_t`.
const ENUM: &[&str] =
    &["ok", "unknown", "too_many_group_entries", "insufficient_heap_for_entries", "index_too_large"];

/// `enum zephyr_basic_group_err_code_t`.
const ZEPHYR: &[&str] =
    &["ok", "unknown", "flash_open_failed", "flash_config_query_fail", "flash_erase_failed"];

/// A group's name in error codes, as in Zephyr's sources; `None` for groups without numbers of their own.
#[must_use]
pub fn group_name(group: u16) -> Option<&'static str> {
    table(Some(group)).map(|(name, _)| name)
}

/// The name of error `rc`. `group` is the group whose numbering it follows, `None` for SMP itself. `None` for numbers
/// that Zephyr does not know.
#[must_use]
pub fn error_name(group: Option<u16>, rc: i64) -> Option<&'static str> {
    let (_, names) = table(group)?;
    usize::try_from(rc).ok().and_then(|rc| names.get(rc)).copied()
}

fn table(group: Option<u16>) -> Option<(&'static str, &'static [&'static str])> {
    Some(match group {
        None => ("mgmt", MGMT),
        Some(group::OS) => ("os_mgmt", OS),
        Some(group::IMAGE) => ("img_mgmt", IMAGE),
        Some(group::STAT) => ("stat_mgmt", STAT),
        Some(group::SETTINGS) => ("settings_mgmt", SETTINGS),
        Some(group::FS) => ("fs_mgmt", FS),
        Some(group::SHELL) => ("shell_mgmt", SHELL),
        Some(group::ENUM) => ("enum_mgmt", ENUM),
        Some(group::ZEPHYR) => ("zephyr_basic", ZEPHYR),
        Some(_) => return None,
    })
}
