//! One wire log per device, from the wire events that happen inside of a span with a field `device`. What is told, and
//! when, is the transports' business.

use std::collections::{HashMap, HashSet};
use std::fmt::{self, Write as _};
use std::fs::{File, OpenOptions};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, Weak};

use chrono::{SecondsFormat, Utc};
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Subscriber};
use tracing_subscriber::Layer;
use tracing_subscriber::filter::{LevelFilter, filter_fn};
use tracing_subscriber::layer::Context;
use tracing_subscriber::registry::LookupSpan;

use super::wire::TARGET;
use crate::cause::{Cause, Class};

/// The span field that names the device.
const DEVICE_FIELD: &str = "device";
/// Where events outside of every device go.
const NO_DEVICE: &str = "no-device";
/// Longest file name, in bytes, without its ending: file systems take 255.
const NAME_LIMIT: usize = 120;

/// A folder of wire logs.
#[derive(Debug, Clone)]
pub struct WireLog {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    folder: PathBuf,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// Every device seen so far.
    devices: HashMap<String, Device>,
    /// File names in use, in lower case: some file systems know no other.
    names: HashSet<String>,
    failure: Option<String>,
}

#[derive(Debug)]
struct Device {
    path: PathBuf,
    /// Open as long as one of the device's spans is.
    file: Weak<Mutex<File>>,
}

/// What a device's span carries.
struct Sink(Arc<Mutex<File>>);

impl WireLog {
    /// Makes the folder where it is missing and sees whether it can be written. Logs of an earlier run are overwritten.
    ///
    /// # Errors
    /// `station.cannot_write` with what the system says.
    pub fn create(folder: &Path) -> Result<Self, Cause> {
        let probe = || -> io::Result<()> {
            std::fs::create_dir_all(folder)?;
            tempfile::tempfile_in(folder).map(drop)
        };
        probe().map_err(|error| cannot_write(folder, &error.to_string()))?;
        let shared = Shared { folder: folder.to_owned(), state: Mutex::new(State::default()) };
        Ok(Self { shared: Arc::new(shared) })
    }

    /// The layer that writes. It looks at wire events and at spans with a field `device`, whatever other layers do.
    pub fn layer<S>(&self) -> impl Layer<S> + Send + Sync + 'static
    where
        S: Subscriber + for<'a> LookupSpan<'a>,
    {
        let wanted = filter_fn(|data| {
            if data.is_span() { data.fields().field(DEVICE_FIELD).is_some() } else { data.target() == TARGET }
        });
        WireLayer { shared: Arc::clone(&self.shared) }
            .with_filter(wanted.with_max_level_hint(LevelFilter::TRACE))
    }

    /// Why a log is not complete, if it is not: the first thing that could not be written.
    #[must_use]
    pub fn failure(&self) -> Option<Cause> {
        let state = self.shared.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.failure.as_deref().map(|failure| cannot_write(&self.shared.folder, failure))
    }
}

fn cannot_write(folder: &Path, why: &str) -> Cause {
    Cause::new(
        Class::Station,
        "station.cannot_write",
        format!("expected to write wire logs into {}, got: {why}", folder.display()),
        "name a folder that this user may write (`--trace DIR`), on a disk with room",
    )
}

impl Shared {
    /// The open log of `device`.
    fn open(&self, device: &str) -> Option<Arc<Mutex<File>>> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(file) = state.devices.get(device).and_then(|known| known.file.upgrade()) {
            return Some(file);
        }
        let (path, seen_before) = match state.devices.get(device) {
            Some(known) => (known.path.clone(), true),
            None => (self.folder.join(state.new_name(device)), false),
        };
        let mut options = OpenOptions::new();
        if seen_before {
            options.append(true);
        } else {
            options.write(true).truncate(true);
        }
        match options.create(true).open(&path) {
            Ok(file) => {
                let file = Arc::new(Mutex::new(file));
                state.devices.insert(device.to_owned(), Device { path, file: Arc::downgrade(&file) });
                Some(file)
            }
            Err(error) => {
                state.fail(&format!("{}: {error}", path.display()));
                None
            }
        }
    }

    fn write(&self, file: &Mutex<File>, line: &str) {
        // One write per line: what a killed process leaves behind is whole lines.
        let result = file.lock().unwrap_or_else(PoisonError::into_inner).write_all(line.as_bytes());
        if let Err(error) = result {
            self.state.lock().unwrap_or_else(PoisonError::into_inner).fail(&error.to_string());
        }
    }
}

impl State {
    fn fail(&mut self, why: &str) {
        self.failure.get_or_insert_with(|| why.to_owned());
    }

    /// A file name for `device` that no other device has.
    fn new_name(&mut self, device: &str) -> String {
        let safe = sanitise(device);
        let mut name = format!("{safe}.log");
        let mut number = 2;
        while !self.names.insert(name.to_ascii_lowercase()) {
            name = format!("{safe}-{number}.log");
            number += 1;
        }
        name
    }
}

/// A device's name as a file name: letters, digits, `.`, `_` and `-` stay, all else becomes `_`.
fn sanitise(device: &str) -> String {
    let safe = |c: char| if c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-') { c } else { '_' };
    let name: String = device.chars().map(safe).take(NAME_LIMIT).collect();
    match name.strip_prefix('.') {
        Some(rest) => format!("_{rest}"),
        None if name.is_empty() => "_".to_owned(),
        None => name,
    }
}

struct WireLayer {
    shared: Arc<Shared>,
}

impl<S> Layer<S> for WireLayer
where
    S: Subscriber + for<'a> LookupSpan<'a>,
{
    fn on_new_span(&self, attributes: &Attributes<'_>, id: &Id, context: Context<'_, S>) {
        let mut device = DeviceName::default();
        attributes.record(&mut device);
        self.attach(device, id, &context);
    }

    fn on_record(&self, id: &Id, values: &Record<'_>, context: Context<'_, S>) {
        let mut device = DeviceName::default();
        values.record(&mut device);
        self.attach(device, id, &context);
    }

    fn on_event(&self, event: &Event<'_>, context: Context<'_, S>) {
        let mut line = Line::default();
        event.record(&mut line);
        let text = line.finish();
        for span in context.event_scope(event).into_iter().flatten() {
            let file = span.extensions().get::<Sink>().map(|sink| Arc::clone(&sink.0));
            if let Some(file) = file {
                self.shared.write(&file, &text);
                return;
            }
        }
        if let Some(file) = self.shared.open(NO_DEVICE) {
            self.shared.write(&file, &text);
        }
    }
}

impl WireLayer {
    fn attach<S>(&self, device: DeviceName, id: &Id, context: &Context<'_, S>)
    where
        S: Subscriber + for<'a> LookupSpan<'a>,
    {
        if let (Some(device), Some(span)) = (device.0, context.span(id))
            && let Some(file) = self.shared.open(&device)
        {
            span.extensions_mut().replace(Sink(file));
        }
    }
}

/// Reads the field that names the device.
#[derive(Default)]
struct DeviceName(Option<String>);

impl Visit for DeviceName {
    fn record_str(&mut self, field: &Field, value: &str) {
        if field.name() == DEVICE_FIELD {
            self.0 = Some(value.to_owned());
        }
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        if field.name() == DEVICE_FIELD {
            self.0 = Some(format!("{value:?}"));
        }
    }
}

/// One line of the log: time, direction (`--` for remarks), link, and what went.
#[derive(Default)]
struct Line {
    direction: Option<String>,
    link: String,
    rest: String,
}

impl Line {
    fn finish(self) -> String {
        let at = Utc::now().to_rfc3339_opts(SecondsFormat::Micros, true);
        format!("{at} {} {}{}\n", self.direction.as_deref().unwrap_or("--"), self.link, self.rest)
    }
}

impl Visit for Line {
    fn record_str(&mut self, field: &Field, value: &str) {
        match field.name() {
            "link" => value.clone_into(&mut self.link),
            _ => self.record_debug(field, &format_args!("{value}")),
        }
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        match field.name() {
            "direction" => self.direction = Some(format!("{value:?}")),
            // Writing to a string does not fail.
            name => drop(write!(self.rest, " {name} {value:?}")),
        }
    }
}

#[cfg(test)]
mod tests {
    use tracing_subscriber::layer::SubscriberExt as _;

    use super::*;
    use crate::transport::wire::{self, Direction};

    fn read(folder: &Path, name: &str) -> String {
        std::fs::read_to_string(folder.join(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
    }

    /// The log without its times.
    fn untimed(log: &str) -> Vec<&str> {
        log.lines().map(|line| line.split_once(' ').unwrap().1).collect()
    }

    #[test]
    fn every_device_has_its_own_log() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("serial__dev_ttyACM0.log"), "of an earlier run\n").unwrap();
        let log = WireLog::create(folder.path()).unwrap();
        let subscriber = tracing_subscriber::registry().with(log.layer());
        tracing::subscriber::with_default(subscriber, || {
            let first = tracing::info_span!("device", device = %"serial:/dev/ttyACM0");
            first.in_scope(|| {
                wire::chunk(Direction::Sent, "serial:/dev/ttyACM0", b"\x06\x09AA==\n");
                // A span of another kind within hides nothing.
                tracing::info_span!("step", name = "upload").in_scope(|| {
                    wire::message(
                        Direction::Received,
                        "serial:/dev/ttyACM0",
                        &[0x09, 0, 0, 1, 0, 1, 7, 1, 0xa0],
                    );
                });
                tracing::info!("no wire event");
            });
            drop(first);
            tracing::info_span!("device", device = "udp:[::1]:1337")
                .in_scope(|| wire::note("udp:[::1]:1337", "opened"));
            let again = tracing::info_span!("device", device = %"serial:/dev/ttyACM0");
            again.in_scope(|| wire::note("serial:/dev/ttyACM0", "closed"));
            wire::note("tcp:rack1:4001", "nobody's");
        });
        assert_eq!(
            untimed(&read(folder.path(), "serial__dev_ttyACM0.log")),
            [
                r#"tx serial:/dev/ttyACM0 bytes "\x06\tAA==\n""#,
                "rx serial:/dev/ttyACM0 smp read-response v2 group=1 command=1 seq=7 length=1 a0",
                "-- serial:/dev/ttyACM0 note closed",
            ]
        );
        assert_eq!(untimed(&read(folder.path(), "udp____1__1337.log")), ["-- udp:[::1]:1337 note opened"]);
        assert_eq!(untimed(&read(folder.path(), "no-device.log")), ["-- tcp:rack1:4001 note nobody's"]);
        assert!(log.failure().is_none());
        let time = read(folder.path(), "no-device.log");
        assert!(chrono::DateTime::parse_from_rfc3339(time.split(' ').next().unwrap()).is_ok(), "{time}");
    }

    #[test]
    fn names_that_a_file_system_takes_for_one_are_kept_apart() {
        let mut state = State::default();
        assert_eq!(state.new_name("a/b"), "a_b.log");
        assert_eq!(state.new_name("A:B"), "A_B-2.log");
        assert_eq!(state.new_name(".."), "_..log");
        assert_eq!(state.new_name(""), "_.log");
        assert!(state.new_name(&"x".repeat(1000)).len() < 130);
    }

    #[test]
    fn a_folder_that_cannot_be_written_is_told_at_once() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("file");
        std::fs::write(&file, "").unwrap();
        let cause = WireLog::create(&file.join("logs")).unwrap_err();
        assert_eq!((cause.class, cause.code.as_ref()), (Class::Station, "station.cannot_write"));
        assert!(cause.message.contains("logs"), "{cause}");
    }

    #[test]
    fn a_log_that_breaks_off_is_told_at_the_end() {
        let folder = tempfile::tempdir().unwrap();
        let log = WireLog::create(folder.path()).unwrap();
        std::fs::create_dir(folder.path().join("a.log")).unwrap();
        tracing::subscriber::with_default(tracing_subscriber::registry().with(log.layer()), || {
            tracing::info_span!("device", device = "a").in_scope(|| wire::note("a", "opened"));
        });
        assert_eq!(log.failure().unwrap().code, "station.cannot_write");
    }
}
