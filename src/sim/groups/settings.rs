//! Settings and Zephyr basic groups, after Zephyr `grp/settings_mgmt/src/settings_mgmt.c` and `grp/zephyr_basic`. The
//! application takes every name.

use std::collections::BTreeMap;

use super::{Answer, Body, Effects, Refused, SmpError};
use crate::smp::{Op, group};

/// Longest name, in bytes, that is still refused (Zephyr `CONFIG_MCUMGR_GRP_SETTINGS_NAME_LEN`).
const NAME_LEN: usize = 32;
/// Most bytes of a value that are sent (Zephyr `CONFIG_MCUMGR_GRP_SETTINGS_VALUE_LEN`).
const VALUE_LEN: usize = 32;
/// Most settings: a device has no more memory than that.
const MOST: usize = 256;
/// Size of the storage partition, in bytes.
const STORAGE: u64 = 16 * 1024;
/// `SETTINGS_MGMT_ERR_UNKNOWN`.
const UNKNOWN: u32 = 1;
/// `SETTINGS_MGMT_ERR_KEY_TOO_LONG`.
const KEY_TOO_LONG: u32 = 2;
/// `SETTINGS_MGMT_ERR_KEY_NOT_FOUND`.
const KEY_NOT_FOUND: u32 = 3;

type Values = BTreeMap<String, Vec<u8>>;

/// The settings in the application's memory and in the storage.
#[derive(Debug, Default)]
pub(in crate::sim) struct Settings {
    current: Values,
    stored: Values,
}

fn refused(rc: u32) -> Refused {
    Refused::Group { group: group::SETTINGS, rc, reason: None }
}

fn name(body: &Body) -> Result<String, Refused> {
    match body.text("name")? {
        Some(name) if name.len() >= NAME_LEN => Err(refused(KEY_TOO_LONG)),
        Some(name) if !name.is_empty() => Ok(name),
        _ => Err(SmpError::Invalid.into()),
    }
}

/// Whether `name` is `root` or lies below it.
fn is_below(name: &str, root: &str) -> bool {
    name.strip_prefix(root).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

impl Settings {
    /// A reset: the application starts with what is stored.
    pub(in crate::sim) fn restart(&mut self) {
        self.current = self.stored.clone();
    }

    /// A request to the settings group.
    pub(in crate::sim) fn handle(
        &mut self,
        (op, command): (Op, u8),
        payload: &[u8],
        answer: &mut Answer,
    ) -> Result<Effects, Refused> {
        match (op, command) {
            (Op::Read, 0) => self.read(&Body::read(payload)?, answer)?,
            (Op::Write, 0) => {
                let body = Body::read(payload)?;
                let (name, value) = (name(&body)?, body.bytes("val")?.unwrap_or_default());
                if self.current.len() >= MOST && !self.current.contains_key(&name) {
                    return Err(refused(UNKNOWN));
                }
                self.current.insert(name, value);
            }
            (Op::Write, 1) => {
                self.stored.remove(&name(&Body::read(payload)?)?);
            }
            (Op::Write, 2) => {}
            (Op::Read, 3) => self.current.extend(self.stored.clone()),
            (Op::Write, 3) => {
                let root = Body::read(payload)?.text("name")?;
                let saved = self.current.iter().filter(|(name, _)| match &root {
                    Some(root) => is_below(name, root),
                    None => true,
                });
                self.stored.extend(saved.map(|(name, value)| (name.clone(), value.clone())));
            }
            _ => return Err(SmpError::NotSupported.into()),
        }
        Ok(Effects::default())
    }

    fn read(&self, body: &Body, answer: &mut Answer) -> Result<(), Refused> {
        let name = name(body)?;
        let wanted = body.u32("max_size")?.map_or(VALUE_LEN, |size| size as usize);
        let value = self.current.get(&name).ok_or(refused(KEY_NOT_FOUND))?;
        answer.bytes("val", value.get(..wanted.min(VALUE_LEN)).unwrap_or(value));
        if wanted > VALUE_LEN {
            answer.number("max_size", VALUE_LEN as u64);
        }
        Ok(())
    }

    /// A request to the Zephyr basic group. The application keeps what it has in memory.
    pub(in crate::sim) fn basic(&mut self, (op, command): (Op, u8)) -> Result<Effects, Refused> {
        match (op, command) {
            (Op::Write, 0) => {
                self.stored.clear();
                Ok(Effects { erased: STORAGE, ..Effects::default() })
            }
            _ => Err(SmpError::NotSupported.into()),
        }
    }
}
