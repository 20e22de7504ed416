//! Files that a run leaves: checked before any device is touched, written whole or not at all. What is in them is
//! made elsewhere.

use std::convert::Infallible;
use std::ffi::OsStr;
use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind, Write};
use std::path::{Path, PathBuf};
use std::str::FromStr;

use super::copy::LogCopy;
use super::log::{LogWriter, unwritable};
use super::model::Report;
use crate::cause::{Cause, Class};

/// A file, or `-` for standard output.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Destination {
    /// Standard output.
    Stdout,
    /// A file.
    File(PathBuf),
}

impl FromStr for Destination {
    type Err = Infallible;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Ok(if text == "-" { Self::Stdout } else { Self::File(text.into()) })
    }
}

/// What a run is asked to leave.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct OutputPaths {
    /// JSON report.
    pub json: Option<Destination>,
    /// JUnit XML.
    pub junit: Option<Destination>,
    /// HTML page.
    pub html: Option<Destination>,
    /// The journal.
    pub journal: Option<PathBuf>,
    /// A copy of the journal.
    pub events: Option<Destination>,
    /// Folder for wire logs.
    pub trace: Option<PathBuf>,
}

/// Outputs that were found to be writable.
#[derive(Debug, Default)]
pub struct Outputs {
    reports: Vec<(Format, Destination)>,
    /// The journal, open.
    pub journal: Option<LogWriter>,
    /// The copy of the journal, open.
    pub events: Option<LogCopy>,
}

/// What is made of a report.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// [`Report::to_json`].
    Json,
    /// [`to_junit`](super::to_junit).
    Junit,
    /// [`to_html`](super::to_html).
    Html,
}

impl Format {
    fn render(self, report: &Report) -> String {
        match self {
            Self::Json => report.to_json(),
            Self::Junit => super::to_junit(report),
            Self::Html => super::to_html(report),
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Json => "JSON report",
            Self::Junit => "JUnit report",
            Self::Html => "HTML report",
        }
    }
}

/// Finds out whether everything that is asked for can be written, makes missing folders, and opens the logs. Call it
/// before any device is touched. Existing reports are left as they are until there is a new one.
///
/// # Errors
/// `station.output_unwritable`, naming the first path that cannot be written; `plan.output_named_twice`.
pub fn prepare_outputs(paths: &OutputPaths) -> Result<Outputs, Cause> {
    let OutputPaths { json, junit, html, journal, events, trace } = paths;
    let mut seen: Vec<Destination> = Vec::new();
    let mut reports = Vec::new();
    for (format, destination) in [(Format::Json, json), (Format::Junit, junit), (Format::Html, html)] {
        let Some(destination) = destination else { continue };
        if let Destination::File(path) = destination {
            check_file(path).map_err(|error| unwritable(path, &error))?;
        }
        once(&mut seen, destination)?;
        reports.push((format, destination.clone()));
    }
    if let Some(folder) = trace {
        fs::create_dir_all(folder)
            .and_then(|()| probe(folder))
            .map_err(|error| unwritable(folder, &error))?;
    }
    for log in journal.clone().map(Destination::File).iter().chain(events) {
        if let Destination::File(path) = log {
            check_file(path).map_err(|error| unwritable(path, &error))?;
        }
        once(&mut seen, log)?;
    }
    // Opened last: opening empties a file, and nothing may be lost where another path is refused.
    let journal = journal.as_deref().map(LogWriter::create).transpose()?;
    let events = match events {
        Some(Destination::File(path)) => Some(LogCopy::start(LogWriter::create(path)?)?),
        Some(Destination::Stdout) => Some(LogCopy::start(LogWriter::stdout())?),
        None => None,
    };
    Ok(Outputs { reports, journal, events })
}

/// Refuses a destination that another output has already.
fn once(seen: &mut Vec<Destination>, destination: &Destination) -> Result<(), Cause> {
    let resolved = match destination {
        Destination::Stdout => Destination::Stdout,
        Destination::File(path) => Destination::File(resolve(path)),
    };
    if seen.contains(&resolved) {
        let name = match destination {
            Destination::Stdout => "standard output".to_owned(),
            Destination::File(path) => path.display().to_string(),
        };
        return Err(Cause::new(
            Class::Plan,
            "plan.output_named_twice",
            format!("expected one output per file, but {name} is named for two"),
            "name another file for one of them",
        ));
    }
    seen.push(resolved);
    Ok(())
}

/// The file that a path leads to: links followed, as far as it exists.
fn resolve(path: &Path) -> PathBuf {
    if let Ok(real) = fs::canonicalize(path) {
        return real;
    }
    match (fs::canonicalize(folder_of(path)), path.file_name()) {
        (Ok(folder), Some(name)) => folder.join(name),
        _ => path.to_owned(),
    }
}

fn folder_of(path: &Path) -> &Path {
    path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// Whether a file could be written here, without changing it.
fn check_file(path: &Path) -> io::Result<()> {
    if path.file_name().is_none() {
        return Err(io::Error::new(ErrorKind::InvalidInput, "it names no file"));
    }
    match fs::metadata(path) {
        Ok(there) if there.is_dir() => Err(io::Error::new(ErrorKind::IsADirectory, "it is a folder")),
        Ok(there) if !there.is_file() => Ok(()),
        Ok(_) => probe(folder_of(&resolve(path))),
        Err(error) if error.kind() == ErrorKind::NotFound => {
            fs::create_dir_all(folder_of(path))?;
            probe(folder_of(path))
        }
        Err(error) => Err(error),
    }
}

/// Whether files can be made in a folder.
fn probe(folder: &Path) -> io::Result<()> {
    tempfile::Builder::new().prefix(".flashfleet-").tempfile_in(folder).map(drop)
}

impl Outputs {
    /// Writes every report that was asked for. One that cannot be written does not keep the others from being written.
    ///
    /// # Errors
    /// One `station.output_unwritable` per report that could not be written.
    pub fn write_reports(&self, report: &Report, stdout: &mut dyn Write) -> Vec<Cause> {
        let write = |(format, destination): &(Format, Destination), stdout: &mut dyn Write| match destination
        {
            Destination::Stdout => stdout
                .write_all(format.render(report).as_bytes())
                .and_then(|()| stdout.flush())
                .map_err(|error| unwritable(Path::new("standard output"), &error)),
            Destination::File(path) => write_atomically(path, format.render(report).as_bytes()),
        };
        self.reports.iter().filter_map(|output| write(output, stdout).err()).collect()
    }

    /// What is written where, for people: name and path of each report file.
    pub fn report_files(&self) -> impl Iterator<Item = (&'static str, &Path)> {
        self.reports.iter().filter_map(|(format, destination)| match destination {
            Destination::Stdout => None,
            Destination::File(path) => Some((format.name(), path.as_path())),
        })
    }
}

/// Puts a file in place whole: written beside it, brought to the disk, then renamed. A reader sees the old content or
/// the new one, never a part. Devices and pipes are written to as they are.
///
/// # Errors
/// `station.output_unwritable`; the old content stays.
pub fn write_atomically(path: &Path, content: &[u8]) -> Result<(), Cause> {
    try_write(path, content).map_err(|error| unwritable(path, &error))
}

fn try_write(path: &Path, content: &[u8]) -> io::Result<()> {
    if fs::metadata(path).is_ok_and(|there| !there.is_file() && !there.is_dir()) {
        return OpenOptions::new().write(true).open(path)?.write_all(content);
    }
    // A link stays a link: what it leads to is replaced.
    let path = resolve(path);
    let folder = folder_of(&path);
    fs::create_dir_all(folder)?;
    let prefix = [".", path.file_name().and_then(OsStr::to_str).unwrap_or("report"), "."].concat();
    let mut builder = tempfile::Builder::new();
    builder.prefix(&prefix).suffix(".tmp");
    // Like any other file: readable for others as far as the umask allows, not private as temporary files are.
    #[cfg(unix)]
    builder.permissions(std::os::unix::fs::PermissionsExt::from_mode(0o666));
    let mut file = builder.tempfile_in(folder)?;
    file.write_all(content)?;
    file.as_file().sync_all()?;
    file.persist(&path)?;
    // The rename itself is on the disk once the folder is; not every system lets folders be opened.
    let _ = File::open(folder).and_then(|folder| folder.sync_all());
    Ok(())
}
