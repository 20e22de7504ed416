//! A file on this machine that is being received: it gets its name when it is whole. Where it comes from is the caller's.

use std::fs;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use tempfile::NamedTempFile;

use crate::cause::{Cause, Class};

/// A file that is not whole yet. Dropped, it leaves nothing behind.
#[derive(Debug)]
pub struct ReceivedFile {
    file: NamedTempFile,
    path: PathBuf,
}

impl ReceivedFile {
    /// Begins a file that will be called `path`, in a folder that there is.
    ///
    /// # Errors
    /// `station.cannot_write`.
    pub fn begin(path: &Path) -> Result<Self, Cause> {
        let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let file = tempfile::Builder::new()
            .prefix(".flashfleet-")
            .tempfile_in(folder)
            .map_err(|error| cannot_write(path, &error))?;
        Ok(Self { file, path: path.to_owned() })
    }

    /// Adds `data` at its end.
    ///
    /// # Errors
    /// What the system says.
    pub fn write(&mut self, data: &[u8]) -> io::Result<()> {
        self.file.write_all(data)
    }

    /// Gives the whole file its name, and the rights that a new file has here. A file of that name is replaced.
    ///
    /// # Errors
    /// `station.cannot_write`.
    pub fn keep(self) -> Result<(), Cause> {
        let Self { file, path } = self;
        keep(file, &path).map_err(|error| cannot_write(&path, &error))
    }
}

fn keep(file: NamedTempFile, path: &Path) -> io::Result<()> {
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt as _;
        let mode = match fs::metadata(path) {
            Ok(known) => known.permissions().mode() & 0o777,
            Err(_) => 0o644,
        };
        file.as_file().set_permissions(fs::Permissions::from_mode(mode))?;
    }
    file.persist(path).map(|_| ()).map_err(|error| error.error)
}

fn cannot_write(path: &Path, error: &io::Error) -> Cause {
    let message = format!("expected to write {}, but {error}", path.display());
    Cause::new(Class::Station, "station.cannot_write", message, "check the path, its rights and the disk")
}
