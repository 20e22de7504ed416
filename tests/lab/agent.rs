//! Scripts in the guest, from out here: any number at once, over the virtio port that `guest/agent.py` serves.

use std::collections::HashMap;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use serde::Deserialize;
use serde_json::json;

use crate::error::{Context, Result, RigError};

/// Lines of the console that an error shows: a kernel that dies says why in its last ones.
const CONSOLE_TAIL: usize = 30;
/// A killed script is gone at once; the guest may be busy.
const KILLED: Duration = Duration::from_secs(10);

/// The channel to the guest's agent.
#[derive(Debug)]
pub(crate) struct Agent {
    stream: Mutex<UnixStream>,
    jobs: Mutex<HashMap<u64, Sender<Said>>>,
    next: AtomicU64,
    gone: AtomicBool,
    console: PathBuf,
}

/// One line from the agent.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Said {
    id: u64,
    uptime: Option<f64>,
    out: String,
    err: String,
    status: Option<i32>,
    cpu: f64,
    peak_kib: u64,
}

/// A script that runs in the guest; killed when this is dropped.
#[derive(Debug)]
pub(crate) struct Job {
    agent: Arc<Agent>,
    id: u64,
    script: String,
    said: Receiver<Said>,
    ended: Ended,
    over: bool,
}

/// A script that ended, and what it printed.
#[derive(Clone, Debug, Default)]
pub(crate) struct Ended {
    /// The exit code, or minus the signal that ended it.
    pub(crate) status: i32,
    /// Standard output.
    pub(crate) out: String,
    /// Standard error.
    pub(crate) err: String,
    /// Processor time of its processes, in the guest's seconds.
    pub(crate) cpu: Duration,
    /// Largest resident set of any of its processes, KiB.
    pub(crate) peak_kib: u64,
}

impl Agent {
    /// Takes over the channel, and waits for the agent to be ready. `console` is where the guest's console is written.
    pub(crate) fn over(stream: UnixStream, console: PathBuf, within: Duration) -> Result<Arc<Self>> {
        let reader = stream.try_clone()?;
        let (sender, hello) = channel();
        let agent = Arc::new(Self {
            stream: Mutex::new(stream),
            jobs: Mutex::new(HashMap::from([(0, sender)])),
            next: AtomicU64::new(1),
            gone: AtomicBool::new(false),
            console,
        });
        let listener = Arc::clone(&agent);
        std::thread::spawn(move || listener.listen(reader));
        match hello.recv_timeout(within) {
            Ok(said) => {
                println!("guest: ready {:.1} s after its start", said.uptime.unwrap_or_default());
                Ok(agent)
            }
            Err(_) => Err(agent.dead("the guest did not get ready")),
        }
    }

    /// Whether the guest is no more.
    pub(crate) fn is_gone(&self) -> bool {
        self.gone.load(Ordering::SeqCst)
    }

    /// Starts a bash script.
    pub(crate) fn start(self: &Arc<Self>, script: &str) -> Result<Job> {
        let id = self.next.fetch_add(1, Ordering::SeqCst);
        let (sender, said) = channel();
        self.jobs.lock().unwrap().insert(id, sender);
        self.send(&json!({ "id": id, "script": script }))?;
        let script = script.to_owned();
        Ok(Job { agent: Arc::clone(self), id, script, said, ended: Ended::default(), over: false })
    }

    fn send(&self, message: &serde_json::Value) -> Result<()> {
        let line = format!("{message}\n");
        self.stream.lock().unwrap().write_all(line.as_bytes()).map_err(|_| self.dead("the guest is gone"))
    }

    fn listen(&self, stream: UnixStream) {
        for line in BufReader::new(stream).lines().map_while(std::result::Result::ok) {
            let Ok(said) = serde_json::from_str::<Said>(&line) else {
                println!("guest: not from its agent: {line}");
                continue;
            };
            let mut jobs = self.jobs.lock().unwrap();
            let id = said.id;
            let last = said.status.is_some() || said.uptime.is_some();
            if let Some(job) = jobs.get(&id) {
                let _ = job.send(said);
            }
            if last {
                jobs.remove(&id);
            }
        }
        self.gone.store(true, Ordering::SeqCst);
        // Whoever waits sees the end of its channel.
        self.jobs.lock().unwrap().clear();
    }

    fn dead(&self, what: &str) -> RigError {
        RigError::new(format!("{what}; its console's end:\n{}", tail(&self.console)))
    }
}

impl Job {
    /// Waits for its end; after `limit` it is killed and an error tells what it had printed.
    pub(crate) fn wait(mut self, limit: Duration) -> Result<Ended> {
        let until = Instant::now() + limit;
        while !self.over {
            self.hear(until, "did not end")?;
        }
        Ok(self.ended.clone())
    }

    /// Waits until a whole line of its standard output holds `text`, and gives that line.
    pub(crate) fn wait_for_line(&mut self, text: &str, limit: Duration) -> Result<String> {
        let until = Instant::now() + limit;
        loop {
            let whole = self.ended.out.rsplit_once('\n').map_or("", |(whole, _)| whole);
            if let Some(line) = whole.lines().find(|line| line.contains(text)) {
                return Ok(line.to_owned());
            }
            if self.over {
                return Err(self.trouble(&format!("ended before it printed {text:?}")));
            }
            self.hear(until, &format!("did not print {text:?}"))?;
        }
    }

    /// Whether it has ended; takes in what it printed so far.
    pub(crate) fn is_over(&mut self) -> Result<bool> {
        while !self.over {
            match self.said.try_recv() {
                Ok(said) => self.take(said),
                Err(std::sync::mpsc::TryRecvError::Empty) => return Ok(false),
                Err(std::sync::mpsc::TryRecvError::Disconnected) => {
                    return Err(self.agent.dead("the guest is gone"));
                }
            }
        }
        Ok(true)
    }

    /// What it has printed so far to standard output, as far as it was taken in.
    pub(crate) fn so_far(&self) -> &str {
        &self.ended.out
    }

    /// Sends a signal to every process of the script.
    pub(crate) fn signal(&self, signal: nix::sys::signal::Signal) -> Result<()> {
        self.agent.send(&json!({ "id": self.id, "signal": signal as i32 }))
    }

    fn hear(&mut self, until: Instant, trouble: &str) -> Result<()> {
        match self.said.recv_timeout(until.saturating_duration_since(Instant::now())) {
            Ok(said) => {
                self.take(said);
                Ok(())
            }
            Err(RecvTimeoutError::Timeout) => Err(self.trouble(trouble)),
            Err(RecvTimeoutError::Disconnected) => Err(self.agent.dead("the guest is gone")),
        }
    }

    fn take(&mut self, said: Said) {
        for line in said.err.lines() {
            println!("guest: {line}");
        }
        self.ended.out += &said.out;
        self.ended.err += &said.err;
        if let Some(status) = said.status {
            self.ended.status = status;
            self.ended.cpu = Duration::from_secs_f64(said.cpu);
            self.ended.peak_kib = said.peak_kib;
            self.over = true;
        }
    }

    fn trouble(&self, what: &str) -> RigError {
        let Self { script, ended: Ended { out, err, .. }, .. } = self;
        RigError::new(format!("in the guest, `{script}` {what}\n{out}\n{err}"))
    }
}

impl Drop for Job {
    fn drop(&mut self) {
        if self.over || self.agent.is_gone() {
            return;
        }
        let _ = self.signal(nix::sys::signal::Signal::SIGKILL);
        let until = Instant::now() + KILLED;
        while !self.over && self.hear(until, "does not die").is_ok() {}
    }
}

impl Ended {
    /// Standard output, where the exit code is 0.
    pub(crate) fn success(self) -> Result<String> {
        if self.status == 0 {
            return Ok(self.out);
        }
        Err(RigError::new(format!("in the guest: status {}\n{}\n{}", self.status, self.out, self.err)))
    }
}

/// The last lines of a file.
fn tail(path: &Path) -> String {
    let text = std::fs::read(path).context(path.display());
    let text =
        text.map_or_else(|error| error.to_string(), |text| String::from_utf8_lossy(&text).into_owned());
    let lines: Vec<_> = text.lines().collect();
    lines[lines.len().saturating_sub(CONSOLE_TAIL)..].join("\n")
}
