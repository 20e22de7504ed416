//! Which files of this machine were written for which device in a run. Nothing is written here.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use crate::cause::{Cause, Class};
use crate::report::DeviceId;

/// The files of a run; clones share them.
#[derive(Debug, Clone, Default)]
pub(super) struct WrittenFiles(Arc<Mutex<HashMap<PathBuf, (DeviceId, String)>>>);

impl WrittenFiles {
    /// Keeps `path` for one device, which may write it as often as it likes.
    ///
    /// # Errors
    /// `plan.shared_file` where another device has it: two boards may say the same of themselves.
    pub(super) fn claim(&self, path: &Path, id: &DeviceId, address: &str) -> Result<(), Cause> {
        let mut files = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let (owner, of) = files.entry(path.to_owned()).or_insert_with(|| (id.clone(), address.to_owned()));
        if owner == id {
            return Ok(());
        }
        Err(Cause::new(
            Class::Plan,
            "plan.shared_file",
            format!("expected a file for each device, {} is that of {of} in this run", path.display()),
            "two devices give the same name: put `{hub_path}`, `{address}` or `{target}` into it",
        ))
    }
}
