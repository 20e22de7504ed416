//! Programs that a plan runs on this machine: `run` steps and `recover`. Knows nothing about devices but their names.

use std::process::Stdio;

use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::process::Command;

use crate::cause::{Cause, Class};

/// How much of what a program printed is kept: its end.
const OUTPUT_KEPT: usize = 8 * 1024;

/// Names the device to a program: `FLASHFLEET_<NAME>` in its environment, `{name}` in its arguments.
#[derive(Debug, Clone, Default)]
pub(super) struct Names(Vec<(&'static str, String)>);

impl Names {
    pub(super) fn push(&mut self, name: &'static str, value: impl Into<String>) {
        self.0.push((name, value.into()));
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

/// Runs a program to its end; it is killed where the caller stops waiting.
///
/// # Errors
/// `step.program_not_started`.
pub(super) async fn run(program: &str, arguments: &[String], names: &Names) -> Result<Ended, Cause> {
    let environment =
        names.0.iter().map(|(name, value)| (format!("FLASHFLEET_{}", name.to_ascii_uppercase()), value));
    let mut child = Command::new(names.fill(program))
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
    let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
    let (out, err, status) = tokio::join!(tail(stdout), tail(stderr), child.wait());
    let status = status.map_err(|error| {
        Cause::new(
            Class::Station,
            "step.program_lost",
            format!("expected {program:?} to end with an exit code: {error}"),
            "run the program by hand",
        )
    })?;
    let mut output = out;
    if !err.is_empty() && !output.is_empty() && !output.ends_with('\n') {
        output.push('\n');
    }
    output.push_str(&err);
    Ok(Ended { code: status.code(), output })
}

/// The end of a stream, in bounded memory.
async fn tail(stream: Option<impl AsyncRead + Unpin>) -> String {
    let Some(mut stream) = stream else { return String::new() };
    let mut kept: Vec<u8> = Vec::new();
    let mut chunk = [0_u8; 4096];
    while let Ok(count @ 1..) = stream.read(&mut chunk).await {
        kept.extend_from_slice(chunk.get(..count).unwrap_or_default());
        if kept.len() > 2 * OUTPUT_KEPT {
            kept.drain(..kept.len() - OUTPUT_KEPT);
        }
    }
    let start = kept.len().saturating_sub(OUTPUT_KEPT);
    String::from_utf8_lossy(kept.get(start..).unwrap_or_default()).into_owned()
}
