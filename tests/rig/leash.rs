//! Child processes that cannot outlive the test run: not even when it is killed.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};

use tempfile::TempDir;

use crate::error::{Context, Result, RigError};

/// The shell waits for its standard input to end, which the kernel brings about however the test process
/// dies, and then kills the server. It does not hold the server's output open, whose end tells that the server is over.
const KEEPER: &str = r#""$@" </dev/null & server=$!; exec >/dev/null 2>&1; read -r _
kill -KILL "$server" 2>/dev/null; wait "$server"
[ -z "$LEASH_FOLDER" ] || rm -rf "$LEASH_FOLDER""#;

/// A server process, killed when this is dropped.
#[derive(Debug)]
pub(crate) struct Leash {
    name: String,
    child: Child,
    leash: Option<ChildStdin>,
    output: Arc<Output>,
}

#[derive(Debug, Default)]
struct Output {
    lines: Mutex<Vec<String>>,
    changed: Condvar,
    ended: AtomicUsize,
}

impl Leash {
    /// Starts `program` with `arguments` in `folder`; standard output and error are collected.
    pub(crate) fn start(program: &str, arguments: &[String], folder: &Path) -> Result<Self> {
        Self::start_and_leave(program, arguments, folder, "")
    }

    /// The same; `folder` goes with the process, also where the test process ends without dropping this, as it does with
    /// what it keeps for all tests.
    pub(crate) fn start_owning(program: &str, arguments: &[String], folder: TempDir) -> Result<Self> {
        let folder = folder.keep();
        Self::start_and_leave(program, arguments, &folder, &folder.to_string_lossy())
    }

    fn start_and_leave(program: &str, arguments: &[String], folder: &Path, leave: &str) -> Result<Self> {
        let mut child = Command::new("sh")
            .args(["-c", KEEPER, "keeper", program])
            .args(arguments)
            .env("LEASH_FOLDER", leave)
            .current_dir(folder)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .context(format!("cannot start {program}"))?;
        let leash = child.stdin.take();
        let output = Arc::new(Output::default());
        let readers: [Option<Box<dyn std::io::Read + Send>>; 2] = [
            child.stdout.take().map(|stream| Box::new(stream) as Box<dyn std::io::Read + Send>),
            child.stderr.take().map(|stream| Box::new(stream) as Box<dyn std::io::Read + Send>),
        ];
        for stream in readers.into_iter().flatten() {
            let output = Arc::clone(&output);
            std::thread::spawn(move || {
                for line in BufReader::new(stream).split(b'\n').map_while(std::result::Result::ok) {
                    output.lines.lock().unwrap().push(String::from_utf8_lossy(&line).into_owned());
                    output.changed.notify_all();
                }
                output.ended.fetch_add(1, Ordering::SeqCst);
            });
        }
        Ok(Self { name: program.to_owned(), child, leash, output })
    }

    /// Waits until `pick` takes a line of what the process printed.
    pub(crate) fn wait_for_line<T>(
        &self,
        what: &str,
        within: Duration,
        pick: impl Fn(&str) -> Option<T>,
    ) -> Result<T> {
        let until = Instant::now() + within;
        let mut lines = self.output.lines.lock().unwrap();
        loop {
            if let Some(found) = lines.iter().find_map(|line| pick(line)) {
                return Ok(found);
            }
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(RigError::new(format!(
                    "{} printed no {what} within {} s, but:\n{}",
                    self.name,
                    within.as_secs(),
                    lines.join("\n")
                )));
            }
            lines = self.output.changed.wait_timeout(lines, left).unwrap().0;
        }
    }

    /// Whether the process has ended by itself: both of its outputs have.
    pub(crate) fn is_over(&self) -> bool {
        self.output.ended.load(Ordering::SeqCst) == 2
    }

    /// Everything the process has printed so far, for error messages.
    pub(crate) fn printed(&self) -> String {
        self.output.lines.lock().unwrap().join("\n")
    }
}

impl Drop for Leash {
    fn drop(&mut self) {
        drop(self.leash.take());
        let _ = self.child.wait();
    }
}
