//! OS group, statistics and enumeration, after Zephyr `grp/os_mgmt/src/os_mgmt.c`, `grp/stat_mgmt` and `grp/enum_mgmt`.

use super::{Answer, Body, Effects, Refused, SmpError};
use crate::sim::spec::SimSpec;
use crate::smp::{Op, group};

/// `OS_MGMT_ERR_QUERY_YIELDS_NO_ANSWER`.
const QUERY_YIELDS_NO_ANSWER: u32 = 3;
/// `STAT_MGMT_ERR_INVALID_STAT_NAME`: the statistics asked for do not exist.
const INVALID_STAT_NAME: u32 = 3;

/// A request to the OS group.
pub(in crate::sim) fn os(
    spec: &SimSpec,
    (op, command): (Op, u8),
    payload: &[u8],
    answer: &mut Answer,
) -> Result<Effects, Refused> {
    match (op, command) {
        (Op::Read | Op::Write, 0) => {
            let text = Body::read(payload)?.text("d")?.unwrap_or_default();
            answer.text("r", &text);
        }
        // A core command: what cannot be read is ignored. Where to boot into (`boot_mode`) is not simulated.
        (Op::Write, 5) => return Ok(Effects { reset: true, ..Effects::default() }),
        (Op::Read, 6) if spec.params => {
            answer.number("buf_size", spec.buf_size.into());
            answer.number("buf_count", spec.buf_count.into());
        }
        (Op::Read, 8) if spec.bootloader_info => {
            let query = Body::read(payload)?.text("query")?;
            match query.as_deref() {
                None => answer.text("bootloader", "MCUboot"),
                Some("mode") => {
                    answer.number("mode", spec.mode.number().into());
                    if spec.no_downgrade {
                        answer.bool("no-downgrade", true);
                    }
                }
                // The group's number, but given as an error of SMP itself, in both protocol versions.
                Some(_) => return Err(Refused::Smp(QUERY_YIELDS_NO_ANSWER)),
            }
        }
        _ => return Err(SmpError::NotSupported.into()),
    }
    Ok(Effects::default())
}

/// A request to the statistics group: there are no statistics.
pub(in crate::sim) fn statistics(
    (op, command): (Op, u8),
    payload: &[u8],
    answer: &mut Answer,
) -> Result<Effects, Refused> {
    match (op, command) {
        (Op::Read, 0) => {
            Body::read(payload)?.text("name")?;
            Err(Refused::Group { group: group::STAT, rc: INVALID_STAT_NAME, reason: None })
        }
        (Op::Read, 1) => {
            answer.number("rc", 0);
            answer.list("stat_list");
            answer.close();
            Ok(Effects::default())
        }
        _ => Err(SmpError::NotSupported.into()),
    }
}

/// A request to the enumeration group: the count alone is simulated.
pub(in crate::sim) fn enumeration(
    spec: &SimSpec,
    (op, command): (Op, u8),
    answer: &mut Answer,
) -> Result<Effects, Refused> {
    match (op, command) {
        (Op::Read, 0) => {
            answer.number("count", spec.groups.len() as u64);
            Ok(Effects::default())
        }
        _ => Err(SmpError::NotSupported.into()),
    }
}
