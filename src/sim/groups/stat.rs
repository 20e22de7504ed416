//! Statistics group, after Zephyr `grp/stat_mgmt/src/stat_mgmt.c`.

use super::{Answer, Body, Effects, Refused, SmpError};
use crate::sim::spec::SimSpec;
use crate::smp::{Op, group};

/// `STAT_MGMT_ERR_INVALID_STAT_NAME`: the statistics asked for do not exist.
const INVALID_STAT_NAME: u32 = 3;

/// Longest name that is still looked for, in bytes, plus one (Zephyr `CONFIG_MCUMGR_GRP_STAT_MAX_NAME_LEN`).
const NAME_LEN: usize = 32;

/// A request to the statistics group. The one field of every statistics is how many requests the server has seen.
pub(in crate::sim) fn statistics(
    spec: &SimSpec,
    requests: u64,
    (op, command): (Op, u8),
    payload: &[u8],
    answer: &mut Answer,
) -> Result<Effects, Refused> {
    match (op, command) {
        (Op::Read, 0) => {
            let name = Body::read(payload)?.text("name")?.unwrap_or_default();
            if name.is_empty() || name.len() >= NAME_LEN {
                return Err(SmpError::Invalid.into());
            }
            if !spec.statistics.contains(&name) {
                return Err(Refused::Group { group: group::STAT, rc: INVALID_STAT_NAME, reason: None });
            }
            answer.text("name", &name);
            answer.map("fields");
            answer.number("requests", requests);
            answer.close();
            Ok(Effects::default())
        }
        (Op::Read, 1) => {
            if spec.legacy_rc {
                answer.number("rc", 0);
            }
            answer.list("stat_list");
            for name in &spec.statistics {
                answer.item_text(name);
            }
            answer.close();
            Ok(Effects::default())
        }
        _ => Err(SmpError::NotSupported.into()),
    }
}
