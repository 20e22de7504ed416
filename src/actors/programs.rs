//! Programs that a plan runs on this machine: `run` steps and `recover`. Knows nothing about devices but their names.

use std::process::Stdio;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::process::{Child, Command};

use crate::cause::{Cause, Class};

/// How much of what a program printed is kept: its end.
const OUTPUT_KEPT: usize = 8 * 1024;

/// How long the output of a program that has ended is read on: what it left running in the background may hold the
/// pipes open for ever.
const OUTPUT_WITHIN: Duration = Duration::from_secs(1);

/// Names the device to a program: `FLASHFLEET_<NAME>` in its environment, `{name}` in its arguments.
#[derive(Debug, Clone, Default)]
pub(super) struct Names(Vec<(&'static str, String)>);

impl Names {
    pub(super) fn push(&mut self, name: &'static str, value: impl Into<String>) {
        self.0.push((name, value.into()));
    }

    /// Gives a name that there is another value.
    pub(super) fn set(&mut self, name: &'static str, value: impl Into<String>) {
        if let Some((_, old)) = self.0.iter_mut().find(|(known, _)| *known == name) {
            *old = value.into();
        }
    }

    fn fill(&self, text: &str) -> String {
        self.0.iter().fold(text.to_owned(), |text, (name, value)| text.replace(&format!("{{{name}}}"), value))
    }
}

/// How a program ended.
#[derive(Debug)]
pub(super) struct Ended {
    /// `None` where a signal ended it.
    pub code: Option<i32>,
    /// The end of what it printed, both streams.
    pub output: String,
}

/// Runs a program to its end; it and what it started are killed where the caller stops waiting.
///
/// # Errors
/// `step.program_not_started`.
pub(super) async fn run(program: &str, arguments: &[String], names: &Names) -> Result<Ended, Cause> {
    let environment =
        names.0.iter().map(|(name, value)| (format!("FLASHFLEET_{}", name.to_ascii_uppercase()), value));
    let mut command = Command::new(names.fill(program));
    // A group of its own: an interrupt at the terminal is for flashfleet, which lets the step end.
    #[cfg(unix)]
    command.process_group(0);
    let child = command
        .args(arguments.iter().map(|argument| names.fill(argument)))
        .envs(environment)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .map_err(|error| {
            Cause::new(
                Class::Station,
                "step.program_not_started",
                format!("expected to start {program:?}: {error}"),
                "check that the program exists, is executable and is on PATH",
            )
        })?;
    let mut group = Group(child);
    let child = &mut group.0;
    let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
    let (mut out, mut err) = (Vec::new(), Vec::new());
    let status = {
        let reading = async { tokio::join!(tail(stdout, &mut out), tail(stderr, &mut err)) };
        let waiting = child.wait();
        tokio::pin!(reading, waiting);
        tokio::select! {
            _ = &mut reading => waiting.await,
            status = &mut waiting => {
                // What it left in the background may go on; it is not waited for.
                let _ = tokio::time::timeout(OUTPUT_WITHIN, reading).await;
                status
            }
        }
    };
    let status = status.map_err(|error| {
        Cause::new(
            Class::Station,
            "step.program_lost",
            format!("expected {program:?} to end with an exit code: {error}"),
            "run the program by hand",
        )
    })?;
    let (mut output, err) = (text(&out), text(&err));
    if !err.is_empty() && !output.is_empty() && !output.ends_with('\n') {
        output.push('\n');
    }
    output.push_str(&err);
    Ok(Ended { code: status.code(), output })
}

/// A program and everything that it started; killed where it is dropped before the program has ended.
struct Group(Child);

impl Drop for Group {
    fn drop(&mut self) {
        // The program itself is killed by `kill_on_drop`. Its id is gone once it was waited for.
        #[cfg(unix)]
        if let Some(id) = self.0.id().and_then(|id| i32::try_from(id).ok()) {
            // The group may be gone already.
            let _ =
                nix::sys::signal::killpg(nix::unistd::Pid::from_raw(id), nix::sys::signal::Signal::SIGKILL);
        }
    }
}

/// Keeps the end of a stream, in bounded memory.
async fn tail(stream: Option<impl AsyncRead + Unpin>, kept: &mut Vec<u8>) {
    let Some(mut stream) = stream else { return };
    let mut chunk = [0_u8; 4096];
    while let Ok(count @ 1..) = stream.read(&mut chunk).await {
        kept.extend_from_slice(chunk.get(..count).unwrap_or_default());
        if kept.len() > 2 * OUTPUT_KEPT {
            kept.drain(..kept.len() - OUTPUT_KEPT);
        }
    }
}

fn text(kept: &[u8]) -> String {
    let start = kept.len().saturating_sub(OUTPUT_KEPT);
    String::from_utf8_lossy(kept.get(start..).unwrap_or_default()).into_owned()
}
