//! QEMU's machine protocol (QMP): reset line, registers, memory, and a count of the guest's resets.
//!
//! Source: QEMU manual, "QEMU QMP Reference Manual".

use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc::{Receiver, channel};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::error::{Context, Result, RigError};

/// A connection to QEMU's monitor.
#[derive(Debug)]
pub(crate) struct Qmp {
    io: Mutex<(UnixStream, Receiver<Value>)>,
    resets: Arc<AtomicU32>,
}

impl Qmp {
    /// Takes over a fresh connection.
    pub(crate) fn over(stream: UnixStream) -> Result<Self> {
        let reader = BufReader::new(stream.try_clone()?);
        let (sender, answers) = channel();
        let resets = Arc::new(AtomicU32::new(0));
        let counter = Arc::clone(&resets);
        std::thread::spawn(move || {
            for line in reader.lines().map_while(std::result::Result::ok) {
                let Ok(message) = serde_json::from_str::<Value>(&line) else { continue };
                if message["event"] == "RESET" {
                    counter.fetch_add(1, Ordering::SeqCst);
                } else if message.get("return").is_some() || message.get("error").is_some() {
                    let _ = sender.send(message);
                }
            }
        });
        let qmp = Self { io: Mutex::new((stream, answers)), resets };
        qmp.execute("qmp_capabilities", json!({}))?;
        Ok(qmp)
    }

    /// Runs one command and gives what it returns.
    pub(crate) fn execute(&self, command: &str, arguments: Value) -> Result<Value> {
        let mut io = self.io.lock().unwrap();
        let line = format!("{}\n", json!({ "execute": command, "arguments": arguments }));
        io.0.write_all(line.as_bytes()).context("QEMU monitor")?;
        let mut answer =
            io.1.recv_timeout(Duration::from_secs(10))
                .context(format!("QEMU monitor gave no answer to {command}"))?;
        match answer.get("error") {
            Some(error) => Err(RigError::new(format!("QEMU monitor: {command}: {error}"))),
            None => Ok(answer["return"].take()),
        }
    }

    /// Runs one command of the human monitor.
    pub(crate) fn human(&self, line: &str) -> Result<String> {
        let answer = self.execute("human-monitor-command", json!({ "command-line": line }))?;
        Ok(answer.as_str().unwrap_or_default().to_owned())
    }

    /// How often the machine was reset, by itself or from outside.
    pub(crate) fn resets(&self) -> u32 {
        self.resets.load(Ordering::SeqCst)
    }

    /// Waits until the machine was reset `count` times in all.
    pub(crate) fn wait_resets(&self, count: u32, within: Duration) -> Result<()> {
        let until = Instant::now() + within;
        while self.resets() < count {
            if Instant::now() > until {
                let resets = self.resets();
                return Err(RigError::new(format!(
                    "expected {count} resets of the machine, counted {resets}"
                )));
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        Ok(())
    }
}
