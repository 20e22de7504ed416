//! What every group's handlers say to the server besides their answers. No group lives here.

/// Errors of SMP itself (Zephyr `enum mcumgr_err_t`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u32)]
pub(in crate::sim) enum SmpError {
    /// `MGMT_ERR_EUNKNOWN`.
    Unknown = 1,
    /// `MGMT_ERR_ENOMEM`.
    NoMemory = 2,
    /// `MGMT_ERR_EINVAL`.
    Invalid = 3,
    /// `MGMT_ERR_ENOENT`.
    NoEntry = 5,
    /// `MGMT_ERR_EBADSTATE`.
    BadState = 6,
    /// `MGMT_ERR_EMSGSIZE`.
    MessageSize = 7,
    /// `MGMT_ERR_ENOTSUP`.
    NotSupported = 8,
    /// `MGMT_ERR_ECORRUPT`.
    Corrupt = 9,
    /// `MGMT_ERR_UNSUPPORTED_TOO_NEW`.
    TooNew = 13,
}

/// Why a handler did not do what was asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::sim) enum Refused {
    /// An error of SMP itself: `rc` in both protocol versions.
    Smp(u32),
    /// An error of the group: `err` in version 2, translated to `rc` in version 1, there with a reason.
    Group { group: u16, rc: u32, reason: Option<&'static str> },
    /// An error of the file group that says how much of the file is there: version 2 has it in `len`.
    Offset { rc: u32, len: u64 },
}

impl From<SmpError> for Refused {
    fn from(error: SmpError) -> Self {
        Self::Smp(error as u32)
    }
}

/// What a handler did besides answering.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(in crate::sim) struct Effects {
    /// Bytes of flash erased.
    pub(in crate::sim) erased: u64,
    /// Bytes of flash written.
    pub(in crate::sim) written: u64,
    /// The device is to reset.
    pub(in crate::sim) reset: bool,
    /// What to boot into, retained over the reset.
    pub(in crate::sim) boot_mode: Option<u8>,
    /// The last chunk of an upload was written.
    pub(in crate::sim) upload_done: bool,
}
