//! The event log on disk: one JSON object per line. Writing and reading; what the events mean lives elsewhere.
//!
//! The writer hands every event to the system in one write before it returns, so nothing that was reported is lost
//! when flashfleet dies. A crash of the machine can cost what was written since the last sync: at most
//! [`SYNC_EVERY_S`] seconds of a run that goes on, nothing of one that ended. Either way the last line may be cut: the
//! reader tells and goes on.

use std::fmt;
use std::fs::File;
use std::io::{self, BufRead, ErrorKind, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::JoinHandle;

use chrono::{DateTime, TimeDelta, Utc};
use etcetera::BaseStrategy;

use super::event::{Event, EventKind, SCHEMA};
use crate::cause::{Cause, Class};

/// Longest line that is read, in bytes. Events are kept far below it.
pub const MAX_LINE: usize = 4 * 1024 * 1024;

/// Room that is kept from line to line, in bytes: few are longer.
const LINE_KEPT: usize = 16 * 1024;

/// At most this many seconds of events are not yet on the disk itself.
pub const SYNC_EVERY_S: i64 = 5;

/// Where events are written: the journal, or a copy of it.
pub struct LogWriter {
    out: Box<dyn Write + Send>,
    name: String,
    disk: Option<Disk>,
    /// The line under way: its room is used again.
    line: Vec<u8>,
    /// The last write failed and may have left half a line.
    torn: bool,
    failed: bool,
}

impl fmt::Debug for LogWriter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LogWriter")
            .field("name", &self.name)
            .field("failed", &self.failed)
            .finish_non_exhaustive()
    }
}

impl LogWriter {
    /// Writes to a file, which is created or emptied; missing folders are made.
    ///
    /// # Errors
    /// `station.output_unwritable`.
    pub fn create(path: &Path) -> Result<Self, Cause> {
        let open = || {
            if let Some(folder) = path.parent().filter(|folder| !folder.as_os_str().is_empty()) {
                std::fs::create_dir_all(folder)?;
            }
            let file = File::create(path)?;
            Ok((file.try_clone()?, file))
        };
        let (file, out) = open().map_err(|error| unwritable(path, &error))?;
        Ok(Self { disk: Some(Disk::new(file)), ..Self::to(Box::new(out), path.display().to_string()) })
    }

    /// Writes to standard output.
    #[must_use]
    pub fn stdout() -> Self {
        Self::to(Box::new(io::stdout()), "standard output".to_owned())
    }

    pub(super) fn to(out: Box<dyn Write + Send>, name: String) -> Self {
        Self { out, name, disk: None, line: Vec::new(), torn: false, failed: false }
    }

    /// Where it writes, for people.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Whether any write failed.
    #[must_use]
    pub fn has_failed(&self) -> bool {
        self.failed
    }

    /// Writes one event as one line, in one write.
    ///
    /// # Errors
    /// `station.disk_full` or `station.log_write_failed`. The writer stays usable: a later event starts a line of its
    /// own.
    pub fn write(&mut self, event: &Event) -> Result<(), Cause> {
        let written = self.write_line(event);
        self.torn = written.is_err();
        let synced = match &mut self.disk {
            Some(disk) if written.is_ok() => disk.written(event),
            _ => Ok(()),
        };
        written.and(synced).map_err(|error| {
            self.failed = true;
            write_failed(&self.name, &error)
        })
    }

    fn write_line(&mut self, event: &Event) -> io::Result<()> {
        let line = &mut self.line;
        line.clear();
        line.shrink_to(LINE_KEPT);
        if self.torn {
            line.push(b'\n');
        }
        serde_json::to_writer(&mut *line, event)?;
        line.push(b'\n');
        self.out.write_all(line)?;
        self.out.flush()
    }
}

/// Brings what was written to the disk itself. Waiting for a disk takes long on some stations, and devices must not
/// wait with it: it happens on a thread of its own, but for the last time.
#[derive(Debug)]
struct Disk {
    file: Arc<File>,
    synced_at: Option<DateTime<Utc>>,
    running: Option<JoinHandle<io::Result<()>>>,
}

impl Disk {
    fn new(file: File) -> Self {
        Self { file: Arc::new(file), synced_at: None, running: None }
    }

    fn written(&mut self, event: &Event) -> io::Result<()> {
        if matches!(event.kind, EventKind::RunFinished { .. }) {
            return self.result_so_far().and(sync(&self.file));
        }
        let since = self.synced_at.get_or_insert(event.at);
        let busy = self.running.as_ref().is_some_and(|running| !running.is_finished());
        if busy || event.at - *since < TimeDelta::seconds(SYNC_EVERY_S) {
            return Ok(());
        }
        *since = event.at;
        let result = self.result_so_far();
        let file = Arc::clone(&self.file);
        self.running =
            Some(std::thread::Builder::new().name("journal".to_owned()).spawn(move || sync(&file))?);
        result
    }

    /// How the last sync ended; waits for it.
    fn result_so_far(&mut self) -> io::Result<()> {
        // A thread that panicked has nothing to say about the disk.
        self.running.take().and_then(|running| running.join().ok()).unwrap_or(Ok(()))
    }
}

/// Brings a file to the disk. Pipes and terminals have none.
fn sync(file: &File) -> io::Result<()> {
    match file.sync_data() {
        Err(error) if matches!(error.kind(), ErrorKind::InvalidInput | ErrorKind::Unsupported) => Ok(()),
        other => other,
    }
}

fn write_failed(name: &str, error: &io::Error) -> Cause {
    match error.kind() {
        ErrorKind::StorageFull | ErrorKind::QuotaExceeded => Cause::new(
            Class::Station,
            "station.disk_full",
            format!("expected to write an event to {name}, but its disk is full"),
            "make room, or name another place with --journal or --events",
        ),
        _ => Cause::new(
            Class::Station,
            "station.log_write_failed",
            format!("expected to write an event to {name}: {error}"),
            "check the disk or the program that reads it, or name another place with --journal or --events",
        ),
    }
}

pub(super) fn unwritable(path: &Path, error: &io::Error) -> Cause {
    Cause::new(
        Class::Station,
        "station.output_unwritable",
        format!("expected to be able to write {}: {error}", path.display()),
        "name a file in a folder that exists or can be made, and that this user may write to",
    )
}

/// Where the journal of a run lies if nobody says otherwise: `flashfleet/journals` in the user's state folder
/// (`XDG_STATE_HOME`, `~/.local/state` by default; the data folder on systems that know no state folder).
///
/// # Errors
/// `station.no_home` where the system does not say where the user's folders are.
pub fn default_journal_path(run_id: &str, started_at: DateTime<Utc>) -> Result<PathBuf, Cause> {
    Ok(journals_folder()?.join(journal_name(run_id, started_at)))
}

/// The folder that journals lie in if nobody says otherwise.
///
/// # Errors
/// `station.no_home`.
pub(super) fn journals_folder() -> Result<PathBuf, Cause> {
    let strategy = etcetera::choose_base_strategy().map_err(|error| {
        Cause::new(
            Class::Station,
            "station.no_home",
            format!("expected a home folder for the run's journal: {error}"),
            "set HOME or XDG_STATE_HOME, or name a file with --journal",
        )
    })?;
    let state = strategy.state_dir().unwrap_or_else(|| strategy.data_dir());
    Ok(state.join("flashfleet").join("journals"))
}

fn journal_name(run_id: &str, started_at: DateTime<Utc>) -> String {
    let id: String =
        run_id.chars().map(|c| if c.is_ascii_alphanumeric() || c == '-' { c } else { '_' }).collect();
    format!("{}-{id}.jsonl", started_at.format("%Y-%m-%dT%H%M%SZ"))
}

/// Reads an event log line by line, whatever is in it, in bounded memory.
#[derive(Debug)]
pub struct LogReader<R> {
    input: R,
    line: u64,
    done: bool,
}

/// One line of a log.
#[derive(Debug, Clone, PartialEq)]
pub enum LogLine {
    /// An event.
    Event(Box<Event>),
    /// A line that is no event of this format, and why.
    Defect {
        /// Stable and dotted.
        code: &'static str,
        /// Names the line.
        message: String,
    },
}

/// Why a log cannot be read on.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// The system could not read it.
    #[error("line {line}: {source}")]
    Io {
        /// The line, from 1.
        line: u64,
        /// What the system said.
        source: io::Error,
    },
    /// It is written in a format that this version does not know.
    #[error("line {line}: expected the format '{SCHEMA}', the log says '{found}'")]
    Schema {
        /// The line, from 1.
        line: u64,
        /// What it says.
        found: String,
    },
}

impl<R: BufRead> LogReader<R> {
    /// Starts at the first line.
    pub fn new(input: R) -> Self {
        Self { input, line: 0, done: false }
    }

    /// The line that was read last, from 1.
    #[must_use]
    pub fn line(&self) -> u64 {
        self.line
    }

    fn read(&mut self) -> Result<Option<LogLine>, LogError> {
        loop {
            self.line += 1;
            let raw =
                read_line(&mut self.input).map_err(|source| LogError::Io { line: self.line, source })?;
            let line = match raw {
                RawLine::End => return Ok(None),
                RawLine::TooLong => {
                    let message = format!("line {} is longer than {MAX_LINE} bytes", self.line);
                    return Ok(Some(LogLine::Defect { code: "log.line_too_long", message }));
                }
                RawLine::Line(line) => line,
            };
            if !line.bytes.iter().all(u8::is_ascii_whitespace) {
                return self.parse(&line).map(Some);
            }
        }
    }

    fn parse(&self, line: &Line) -> Result<LogLine, LogError> {
        let number = self.line;
        match serde_json::from_slice::<Event>(&line.bytes) {
            Ok(event) => match &event.kind {
                EventKind::RunStarted { schema, .. } if schema != SCHEMA => {
                    Err(LogError::Schema { line: number, found: schema.clone() })
                }
                _ => Ok(LogLine::Event(Box::new(event))),
            },
            Err(error) if !line.complete && (error.is_eof() || error.is_syntax()) => Ok(LogLine::Defect {
                code: "log.cut_line",
                message: format!("line {number} is cut off: the log ends in the middle of it"),
            }),
            Err(error) => Ok(LogLine::Defect {
                code: "log.bad_line",
                message: format!("line {number} is no event: {}", without_line(&error)),
            }),
        }
    }
}

/// What a JSON parser said, without the line that it counts itself, which is always the first.
fn without_line(error: &serde_json::Error) -> String {
    error.to_string().replace(" at line 1 column ", " at column ")
}

impl<R: BufRead> Iterator for LogReader<R> {
    type Item = Result<LogLine, LogError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.done {
            return None;
        }
        let next = self.read();
        self.done = !matches!(next, Ok(Some(_)));
        next.transpose()
    }
}

#[derive(Debug)]
struct Line {
    bytes: Vec<u8>,
    /// It ends with a newline.
    complete: bool,
}

enum RawLine {
    Line(Line),
    TooLong,
    End,
}

/// One line of at most [`MAX_LINE`] bytes; a longer one is read over.
fn read_line(input: &mut impl BufRead) -> io::Result<RawLine> {
    let mut bytes = Vec::new();
    let mut too_long = false;
    loop {
        let buffer = match input.fill_buf() {
            Ok(buffer) => buffer,
            Err(error) if error.kind() == ErrorKind::Interrupted => continue,
            Err(error) => return Err(error),
        };
        if buffer.is_empty() {
            return Ok(match (too_long, bytes.is_empty()) {
                (true, _) => RawLine::TooLong,
                (false, true) => RawLine::End,
                (false, false) => RawLine::Line(Line { bytes, complete: false }),
            });
        }
        let newline = buffer.iter().position(|byte| *byte == b'\n');
        let part = newline.map_or(buffer, |at| &buffer[..at]);
        too_long |= bytes.len() + part.len() > MAX_LINE;
        if too_long {
            bytes = Vec::new();
        } else {
            bytes.extend_from_slice(part);
        }
        let used = newline.map_or(buffer.len(), |at| at + 1);
        input.consume(used);
        if newline.is_some() {
            return Ok(if too_long {
                RawLine::TooLong
            } else {
                RawLine::Line(Line { bytes, complete: true })
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;

    /// A disk with room for so many bytes.
    #[derive(Clone, Default)]
    struct Full(Arc<Mutex<(Vec<u8>, usize)>>);

    impl Write for Full {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let mut inner = self.0.lock().unwrap();
            let (written, room) = &mut *inner;
            let fits = room.saturating_sub(written.len()).min(bytes.len());
            written.extend_from_slice(&bytes[..fits]);
            if fits == 0 { Err(ErrorKind::StorageFull.into()) } else { Ok(fits) }
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn half_a_line_on_a_full_disk_does_not_harm_what_follows_once_there_is_room() {
        let disk = Full::default();
        disk.0.lock().unwrap().1 = 100;
        let mut writer = LogWriter::to(Box::new(disk.clone()), "disk".to_owned());
        let event = |seq| Event {
            seq,
            at: DateTime::UNIX_EPOCH,
            device: None,
            kind: EventKind::Note { code: "a.note".to_owned(), message: "of some length".to_owned() },
        };
        assert_eq!(writer.write(&event(0)), Ok(()));
        assert_eq!(writer.write(&event(1)).unwrap_err().code, "station.disk_full");
        disk.0.lock().unwrap().1 = 1000;
        assert_eq!(writer.write(&event(2)), Ok(()));
        let written = disk.0.lock().unwrap().0.clone();
        let lines: Vec<LogLine> = LogReader::new(&written[..]).map(Result::unwrap).collect();
        assert!(matches!(&lines[1], LogLine::Defect { code: "log.bad_line", .. }), "{lines:?}");
        assert_eq!(lines[0], LogLine::Event(Box::new(event(0))));
        assert_eq!(lines[2], LogLine::Event(Box::new(event(2))));
    }

    #[test]
    fn journals_are_named_by_date_and_run() {
        let at = DateTime::from_timestamp(1_793_692_800, 0).unwrap();
        assert_eq!(journal_name("0199-a/../b", at), "2026-11-03T080000Z-0199-a____b.jsonl");
    }

    #[test]
    fn lines_end_where_they_end_whatever_the_buffer() {
        let text = b"one\n\ntwo\r\nthree";
        for capacity in 1..8 {
            let mut input = io::BufReader::with_capacity(capacity, &text[..]);
            let mut lines = Vec::new();
            while let RawLine::Line(line) = read_line(&mut input).unwrap() {
                lines.push((line.bytes, line.complete));
            }
            let expected: [(&[u8], bool); 4] =
                [(b"one", true), (b"", true), (b"two\r", true), (b"three", false)];
            assert!(lines.iter().map(|(bytes, complete)| (&bytes[..], *complete)).eq(expected), "{lines:?}");
        }
    }
}
