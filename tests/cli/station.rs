//! A station: a folder with a plan and an image, a device that counts what it hears, and the program.

use std::net::UdpSocket;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use flashfleet::image::ImageBuilder;
use serde_json::Value;
use tempfile::TempDir;

/// A device on the network that hears everything and says nothing.
pub(crate) struct Witness {
    socket: UdpSocket,
}

impl Witness {
    pub(crate) fn new() -> Self {
        let socket = UdpSocket::bind("127.0.0.1:0").expect("a socket");
        socket.set_nonblocking(true).expect("a socket that does not block");
        Self { socket }
    }

    pub(crate) fn address(&self) -> String {
        self.socket.local_addr().expect("an address").to_string()
    }

    /// Everything heard since the last call.
    pub(crate) fn heard(&self) -> Vec<Vec<u8>> {
        let mut buffer = [0; 4096];
        std::iter::from_fn(|| self.socket.recv(&mut buffer).ok().map(|length| buffer[..length].to_vec()))
            .collect()
    }
}

/// What the program said.
pub(crate) struct Said {
    pub(crate) exit: i32,
    pub(crate) out: String,
    pub(crate) err: String,
}

impl From<Output> for Said {
    fn from(output: Output) -> Self {
        Self {
            exit: output.status.code().expect("an exit code, not a signal"),
            out: String::from_utf8(output.stdout).expect("text"),
            err: String::from_utf8(output.stderr).expect("text"),
        }
    }
}

pub(crate) struct Station {
    folder: TempDir,
}

impl Station {
    /// A folder with `app.bin`, version 2.0.0.
    pub(crate) fn new() -> Self {
        let station = Self { folder: tempfile::tempdir().expect("a folder") };
        station.write("app.bin", &image());
        station
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub(crate) fn write(&self, name: &str, content: &[u8]) {
        std::fs::write(self.path(name), content).expect("a file");
    }

    pub(crate) fn plan(&self, text: &str) {
        self.write("plan.yaml", text.as_bytes());
    }

    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        self.started_by(Command::new(env!("CARGO_BIN_EXE_flashfleet")), arguments)
    }

    /// The program with hang-ups turned on, as a terminal starts it, or off, as `nohup` does: whoever runs the tests may
    /// have done either.
    pub(crate) fn command_with_hang_ups(&self, on: bool, arguments: &[&str]) -> Command {
        let mut env = Command::new("env");
        env.arg(if on { "--default-signal=HUP" } else { "--ignore-signal=HUP" });
        env.arg(env!("CARGO_BIN_EXE_flashfleet"));
        self.started_by(env, arguments)
    }

    fn started_by(&self, mut command: Command, arguments: &[&str]) -> Command {
        // The journal goes into the folder, not into the home of whoever runs the tests.
        command.args(arguments).current_dir(self.folder.path()).env("XDG_STATE_HOME", self.folder.path());
        command.env("NO_COLOR", "1");
        command
    }

    pub(crate) fn say(&self, arguments: &[&str]) -> Said {
        self.command(arguments).output().expect("the program runs").into()
    }

    /// `flashfleet run plan.yaml --json report.json`, with what it said and its report, where it left one.
    pub(crate) fn run(&self, arguments: &[&str]) -> (Said, Option<Value>) {
        let all = [&["run", "plan.yaml", "--json", "report.json", "--progress", "none"], arguments].concat();
        let said = self.say(&all);
        let report = read_json(&self.path("report.json"));
        (said, report)
    }
}

pub(crate) fn image() -> Vec<u8> {
    ImageBuilder::new().version("2.0.0").payload(&[0x5a; 3000]).build()
}

pub(crate) fn read_json(path: &Path) -> Option<Value> {
    let text = std::fs::read_to_string(path).ok()?;
    Some(serde_json::from_str(&text).expect("JSON"))
}

/// Verdict and code of a device of a report.
pub(crate) fn verdict(report: &Value, index: usize) -> (String, String) {
    let device = &report["devices"][index];
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    (text(&device["verdict"]), text(&device["cause"]["code"]))
}
