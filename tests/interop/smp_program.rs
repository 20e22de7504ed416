//! Runs `flashfleet smp` on one device, as a person does. What the answers ought to be is the tests'.

use std::fmt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;
use tempfile::TempDir;

use crate::error::{Context, Result, RigError};

/// A command that is not over by then hangs.
const LIMIT: Duration = Duration::from_secs(120);
/// How often it is looked whether it is over.
const LOOK: Duration = Duration::from_millis(5);

/// A folder to work in and a device to talk to.
#[derive(Debug)]
pub(crate) struct Bench {
    /// As on the command line, for example `udp:10.0.0.2`.
    device: String,
    folder: TempDir,
    options: Vec<String>,
}

/// What the program said, and how it ended.
#[derive(Debug)]
pub(crate) struct Said {
    pub(crate) exit: i32,
    pub(crate) out: String,
    pub(crate) err: String,
    pub(crate) took: Duration,
}

impl Bench {
    pub(crate) fn new(device: impl fmt::Display) -> Result<Self> {
        let folder = tempfile::Builder::new().prefix("bench-").tempdir()?;
        Ok(Self { device: device.to_string(), folder, options: Vec::new() })
    }

    /// The same bench, with these options for every command.
    pub(crate) fn with(mut self, options: &[&str]) -> Self {
        self.options.extend(options.iter().map(|option| (*option).to_owned()));
        self
    }

    pub(crate) fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Puts a file into the folder.
    pub(crate) fn file(&self, name: &str, content: &[u8]) -> Result<()> {
        std::fs::write(self.folder().join(name), content).context(name)
    }

    /// A file of the folder.
    pub(crate) fn content(&self, name: &str) -> Result<Vec<u8>> {
        std::fs::read(self.folder().join(name)).context(name)
    }

    /// `flashfleet smp DEVICE …`, to its end.
    pub(crate) fn smp(&self, arguments: &[&str]) -> Result<Said> {
        self.smp_until(arguments, || false)
    }

    /// The same, interrupted once, as Ctrl-C does it, when `impatient` says so.
    pub(crate) fn smp_until(&self, arguments: &[&str], impatient: impl Fn() -> bool) -> Result<Said> {
        let begun = Instant::now();
        let mut child = Command::new(env!("CARGO_BIN_EXE_flashfleet"))
            .args(["smp", &self.device])
            .args(&self.options)
            .args(arguments)
            .current_dir(self.folder())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .context("flashfleet")?;
        let mut interrupts = 1;
        loop {
            if interrupts > 0 && impatient() {
                interrupts -= 1;
                crate::fixtures::run(Command::new("kill").args(["-INT", &child.id().to_string()]), "")?;
            }
            if child.try_wait()?.is_some() {
                break;
            }
            if begun.elapsed() > LIMIT {
                child.kill()?;
                return Err(RigError::new(format!("flashfleet smp {arguments:?} did not end by itself")));
            }
            std::thread::sleep(LOOK);
        }
        let output = child.wait_with_output()?;
        let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
        let Some(exit) = output.status.code() else {
            return Err(RigError::new(format!("flashfleet smp {arguments:?}: {}", output.status)));
        };
        Ok(Said { exit, out: text(output.stdout), err: text(output.stderr), took: begun.elapsed() })
    }

    /// What a command that succeeds tells people.
    pub(crate) fn text(&self, arguments: &[&str]) -> Result<String> {
        let said = self.smp(arguments)?;
        if (said.exit, said.err.as_str()) != (0, "") {
            return Err(RigError::new(format!("{arguments:?} on {}: {said:#?}", self.device)));
        }
        Ok(said.out)
    }

    /// The result of a command that succeeds, as it tells programs.
    pub(crate) fn json(&self, arguments: &[&str]) -> Result<Value> {
        let said = self.smp(&[&["--json"], arguments].concat())?;
        if (said.exit, said.err.as_str()) != (0, "") {
            return Err(RigError::new(format!("{arguments:?} on {}: {said:#?}", self.device)));
        }
        said.result()
    }
}

impl Said {
    /// The error within the JSON that was printed.
    pub(crate) fn error(&self) -> Option<Value> {
        let mut document: Value = serde_json::from_str(&self.out).ok()?;
        document["result"].is_null().then(|| document["error"].take())
    }

    /// The result within the JSON that was printed.
    pub(crate) fn result(&self) -> Result<Value> {
        let mut document: Value = serde_json::from_str(&self.out).context(format!("{self:#?}"))?;
        if document["schema"] != "flashfleet.smp/1" {
            return Err(RigError::new(format!("expected the JSON of `smp --json`, got {document:#}")));
        }
        Ok(document["result"].take())
    }

    /// Whether it is the device's no under this code, to people and, with `--json`, to programs.
    pub(crate) fn refuses(&self, code: &str) -> bool {
        self.exit == 100
            && (self.out.is_empty() || self.error().is_some_and(|error| error["code"] == code))
            && self.err.starts_with(&format!("error[{code}]: "))
            && self.err.contains("\n  help: ")
    }
}
