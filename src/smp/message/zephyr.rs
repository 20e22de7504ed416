//! Zephyr basic group (`smp_groups/smp_group_63.rst`): requests and answers.

use serde::Serialize;

use super::Request;
use super::os::Empty;
use crate::smp::{Op, group};

/// Erase storage (command 0): the whole flash partition `storage_partition`, settings included. The application that
/// runs keeps what it has in memory until it is reset.
#[derive(Debug, Clone, Default, Serialize)]
pub struct EraseStorage {}

impl Request for EraseStorage {
    const OP: Op = Op::Write;
    const GROUP: u16 = group::ZEPHYR;
    const COMMAND: u8 = 0;
    type Response = Empty;
}
