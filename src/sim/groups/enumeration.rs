//! Enumeration group, after Zephyr `grp/enum_mgmt/src/enum_mgmt.c`.

use ciborium::Value;

use super::{Answer, Body, Effects, Refused, SmpError};
use crate::sim::spec::SimSpec;
use crate::smp::{Op, group};

/// `ENUM_MGMT_ERR_INDEX_TOO_LARGE`.
const INDEX_TOO_LARGE: u32 = 4;
/// `MAX_MCUMGR_GROUPS`.
const MAX_GROUPS: u32 = 65_535;

/// A group's name and the number of its commands in Zephyr 4.4: the highest that was built in, plus one.
fn details(spec: &SimSpec, group: u16) -> Option<(&'static str, u64)> {
    Some(match group {
        group::OS => ("os mgmt", if spec.bootloader_info { 9 } else { 8 }),
        group::IMAGE => ("img mgmt", 7),
        group::STAT => ("stat mgmt", 2),
        group::SETTINGS => ("settings mgmt", 4),
        group::FS => ("fs mgmt", 5),
        group::SHELL => ("shell mgmt", 1),
        group::ENUM => ("enum mgmt", 4),
        group::ZEPHYR => ("zephyr basic mgmt", 1),
        _ => return None,
    })
}

/// A request to the enumeration group.
pub(in crate::sim) fn enumeration(
    spec: &SimSpec,
    (op, command): (Op, u8),
    payload: &[u8],
    answer: &mut Answer,
) -> Result<Effects, Refused> {
    match (op, command) {
        (Op::Read, 0) => answer.number("count", spec.groups.len() as u64),
        (Op::Read, 1) => {
            answer.list("groups");
            for &group in &spec.groups {
                answer.item_number(group.into());
            }
            answer.close();
        }
        (Op::Read, 2) => {
            let index = Body::read(payload)?.u32("index")?.unwrap_or(0);
            if index > MAX_GROUPS {
                return Err(SmpError::Invalid.into());
            }
            let Some(&group) = spec.groups.get(index as usize) else {
                return Err(Refused::Group { group: group::ENUM, rc: INDEX_TOO_LARGE, reason: None });
            };
            answer.number("group", group.into());
            if index as usize + 1 == spec.groups.len() {
                answer.bool("end", true);
            }
        }
        (Op::Read, 3) => {
            // What is no group is none that is there, and asks for all as little.
            let number =
                |value: &Value| Some(value.as_integer().and_then(|number| u16::try_from(number).ok()));
            let wanted = Body::read(payload)?.list("groups", number)?.unwrap_or_default();
            answer.list("groups");
            for &group in
                spec.groups.iter().filter(|group| wanted.is_empty() || wanted.contains(&Some(**group)))
            {
                answer.entry();
                answer.number("group", group.into());
                let (name, handlers) = details(spec, group).unwrap_or_default();
                answer.text("name", name);
                answer.number("handlers", handlers);
                answer.close();
            }
            answer.close();
        }
        _ => return Err(SmpError::NotSupported.into()),
    }
    Ok(Effects::default())
}
