//! The copy of the journal that `--events` asks for, written by a thread of its own: whoever reads a pipe may take its
//! time, and devices must not wait with it. The journal itself is written where the events happen (`log.rs`).

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::time::Duration;

use super::event::{Event, EventKind};
use super::log::LogWriter;
use crate::cause::{Cause, Class};

/// Events that may wait for the reader before progress is left out. The others always wait: a run has a bounded number
/// of them.
const PROGRESS_BACKLOG: usize = 1024;

/// How long the end of a run waits for a reader that takes nothing.
const PATIENCE: Duration = Duration::from_secs(10);

/// A log that is written in the background.
#[derive(Debug)]
pub struct LogCopy {
    name: String,
    events: Sender<Event>,
    waiting: Arc<AtomicUsize>,
    /// What the thread had to say when it ended.
    ended: Receiver<Result<(), Cause>>,
}

impl LogCopy {
    /// Hands `writer` to a thread of its own.
    ///
    /// # Errors
    /// `station.log_write_failed` where this machine starts no thread.
    pub fn start(mut writer: LogWriter) -> Result<Self, Cause> {
        let name = writer.name().to_owned();
        let (events, queue) = mpsc::channel::<Event>();
        let (end, ended) = mpsc::channel();
        let waiting = Arc::new(AtomicUsize::new(0));
        let taken = Arc::clone(&waiting);
        let work = move || {
            let written = queue.iter().try_for_each(|event| {
                let written = writer.write(&event);
                taken.fetch_sub(1, Ordering::Relaxed);
                written
            });
            // The run may have ended without waiting.
            let _ = end.send(written);
        };
        std::thread::Builder::new()
            .name("events".to_owned())
            .spawn(work)
            .map_err(|error| trouble(&name, &error.to_string()))?;
        Ok(Self { name, events, waiting, ended })
    }

    /// Hands on one event. Progress is left out while the reader is far behind.
    ///
    /// # Errors
    /// Why an earlier event could not be written. Nothing more is written after that: a reader that went away stays
    /// away.
    pub fn write(&self, event: &Event) -> Result<(), Cause> {
        let behind = self.waiting.load(Ordering::Relaxed) >= PROGRESS_BACKLOG;
        if behind && matches!(event.kind, EventKind::Progress { .. }) {
            return Ok(());
        }
        self.waiting.fetch_add(1, Ordering::Relaxed);
        self.events.send(event.clone()).or_else(|_| self.outcome(PATIENCE))
    }

    /// Waits until everything is written, as long as the reader takes anything at all.
    ///
    /// # Errors
    /// Why an event could not be written, or that nobody took them.
    pub fn finish(self) -> Result<(), Cause> {
        self.finish_within(PATIENCE)
    }

    fn finish_within(self, patience: Duration) -> Result<(), Cause> {
        let Self { name, events, waiting, ended } = self;
        drop(events);
        let mut left = waiting.load(Ordering::Relaxed);
        loop {
            match ended.recv_timeout(patience) {
                Ok(written) => return written,
                Err(RecvTimeoutError::Disconnected) => return Err(trouble(&name, "its thread broke")),
                Err(RecvTimeoutError::Timeout) => {
                    let still = waiting.load(Ordering::Relaxed);
                    if still == left {
                        let message = format!("its reader took nothing for {patience:?}; {still} events wait");
                        return Err(trouble(&name, &message));
                    }
                    left = still;
                }
            }
        }
    }

    fn outcome(&self, patience: Duration) -> Result<(), Cause> {
        self.ended.recv_timeout(patience).unwrap_or_else(|_| Err(trouble(&self.name, "its thread broke")))
    }
}

fn trouble(name: &str, what: &str) -> Cause {
    Cause::new(
        Class::Station,
        "station.log_write_failed",
        format!("expected to write an event to {name}: {what}"),
        "check the program that reads it, or name a file with --events; the journal has every event",
    )
}

#[cfg(test)]
mod tests {
    use std::io::{self, Read, Write};
    use std::sync::{Condvar, Mutex};

    use chrono::DateTime;

    use super::*;
    use crate::report::DeviceId;

    /// A pipe that takes bytes only while it is open.
    #[derive(Clone, Default)]
    struct Pipe(Arc<(Mutex<(bool, Vec<u8>)>, Condvar)>);

    impl Pipe {
        fn open(&self) {
            self.0.0.lock().unwrap().0 = true;
            self.0.1.notify_all();
        }

        fn lines(&self) -> Vec<String> {
            String::from_utf8(self.0.0.lock().unwrap().1.clone()).unwrap().lines().map(str::to_owned).collect()
        }
    }

    impl Write for Pipe {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let mut state = self.0.1.wait_while(self.0.0.lock().unwrap(), |state| !state.0).unwrap();
            state.1.extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn event(seq: u64, kind: EventKind) -> Event {
        let device = matches!(kind, EventKind::Progress { .. }).then(|| DeviceId("a/b".to_owned()));
        Event { seq, at: DateTime::UNIX_EPOCH, device, kind }
    }

    fn note(seq: u64) -> Event {
        event(seq, EventKind::Note { code: "a.note".to_owned(), message: String::new() })
    }

    fn progress(seq: u64) -> Event {
        event(seq, EventKind::Progress { step: 0, done: 1, total: 2 })
    }

    #[test]
    fn a_reader_that_takes_its_time_delays_nobody_and_loses_only_progress() {
        let pipe = Pipe::default();
        let copy = LogCopy::start(LogWriter::to(Box::new(pipe.clone()), "pipe".to_owned())).unwrap();
        let total = 3 * PROGRESS_BACKLOG as u64;
        for seq in 0..total {
            // With every progress event waiting for the reader this would not end.
            assert_eq!(copy.write(&progress(2 * seq)), Ok(()));
            assert_eq!(copy.write(&note(2 * seq + 1)), Ok(()));
        }
        pipe.open();
        assert_eq!(copy.finish(), Ok(()));
        let lines = pipe.lines();
        let notes = lines.iter().filter(|line| line.contains("a.note")).count() as u64;
        let progress = lines.len() as u64 - notes;
        assert_eq!(notes, total);
        assert!(progress > 0 && progress <= PROGRESS_BACKLOG as u64, "{progress}");
    }

    #[test]
    fn a_reader_that_takes_nothing_does_not_hold_the_end_of_the_run() {
        let pipe = Pipe::default();
        let copy = LogCopy::start(LogWriter::to(Box::new(pipe.clone()), "pipe".to_owned())).unwrap();
        assert_eq!(copy.write(&note(0)), Ok(()));
        let cause = copy.finish_within(Duration::from_millis(20)).unwrap_err();
        assert_eq!(cause.code, "station.log_write_failed");
        assert!(cause.message.contains("took nothing for 20ms; 1 events wait"), "{cause}");
        pipe.open();
    }

    #[test]
    fn a_reader_that_went_away_is_told_with_the_next_event() {
        let (reader, writer) = io::pipe().unwrap();
        let copy = LogCopy::start(LogWriter::to(Box::new(writer), "pipe".to_owned())).unwrap();
        let mut reader = io::BufReader::new(reader);
        assert_eq!(copy.write(&note(0)), Ok(()));
        let mut first = [0];
        reader.read_exact(&mut first).unwrap();
        drop(reader);
        let cause = (1..).find_map(|seq| copy.write(&note(seq)).err()).unwrap();
        assert_eq!(cause.code, "station.log_write_failed");
        assert!(cause.message.contains("pipe"), "{cause}");
    }
}
