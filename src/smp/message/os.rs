//! Operating system group (`smp_groups/smp_group_0.rst`): requests and answers.

use serde::{Deserialize, Serialize};

use super::{Repeat, Request};
use crate::smp::{Op, group};

/// Echo: the device sends the text back (command 0).
#[derive(Debug, Clone, Serialize)]
pub struct Echo {
    /// The text.
    pub d: String,
}

/// Answer to [`Echo`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EchoResponse {
    /// The text, sent back.
    pub r: String,
}

impl Request for Echo {
    const OP: Op = Op::Write;
    const GROUP: u16 = group::OS;
    const COMMAND: u8 = 0;
    type Response = EchoResponse;
}

/// System reset (command 5). The answer comes first, the reset about 250 ms later.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Reset {
    /// Reset even where the application would refuse. Zephyr's server reads a boolean and takes an integer, which
    /// `smp_group_0.rst` asks for, as if nothing had been sent (`os_mgmt.c`, `os_mgmt_reset`).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub force: Option<bool>,
    /// What to boot into: 0 normal, 1 bootloader (`smp_group_0.rst`, "System reset").
    #[serde(skip_serializing_if = "Option::is_none")]
    pub boot_mode: Option<u8>,
}

/// An answer without fields.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Empty {}

impl Request for Reset {
    const OP: Op = Op::Write;
    const GROUP: u16 = group::OS;
    const COMMAND: u8 = 5;
    const REPEAT: Repeat = Repeat::Once;
    type Response = Empty;
}

/// MCUmgr parameters (command 6): the server's buffers.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Params {}

/// Answer to [`Params`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ParamsResponse {
    /// Size of one buffer (netbuf), in bytes. On console framing the packet's length and CRC count too.
    pub buf_size: u32,
    /// Number of buffers.
    pub buf_count: u32,
}

impl Request for Params {
    const OP: Op = Op::Read;
    const GROUP: u16 = group::OS;
    const COMMAND: u8 = 6;
    type Response = ParamsResponse;
}

/// Bootloader information (command 8).
#[derive(Debug, Clone, Default, Serialize)]
pub struct BootloaderInfo {
    /// What to ask, for example `mode`; without it the bootloader's name is asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub query: Option<String>,
}

/// Answer to [`BootloaderInfo`].
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct BootloaderInfoResponse {
    /// The bootloader's name, for example `MCUboot`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bootloader: Option<String>,
    /// MCUboot's mode, see `smp_group_0.rst`, "MCUboot mode".
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mode: Option<i32>,
    /// MCUboot will not boot an older version.
    #[serde(default, rename = "no-downgrade", skip_serializing_if = "Option::is_none")]
    pub no_downgrade: Option<bool>,
}

impl Request for BootloaderInfo {
    const OP: Op = Op::Read;
    const GROUP: u16 = group::OS;
    const COMMAND: u8 = 8;
    type Response = BootloaderInfoResponse;
}
