//! Whole processes: the program that is measured, and simulated devices in another one.

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use flashfleet::image::ImageBuilder;
use wait4::Wait4;

/// The program, once [`build`] was called.
pub(crate) const PROGRAM: &str = env!("CARGO_BIN_EXE_flashfleet");

/// Puts the program in place as `cargo build --release` makes it. `cargo bench` has made another one there: features that only
/// tests ask of a dependency are in that, half a megabyte of Unicode tables among them.
pub(crate) fn build() -> Result<(), String> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let manifest = concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml");
    let mut command = Command::new(cargo);
    command.args(["build", "--release", "--locked", "--bin", "flashfleet", "--manifest-path", manifest]);
    let status = command.status().map_err(|error| format!("cannot start cargo: {error}"))?;
    if status.success() { Ok(()) } else { Err(format!("cargo build --release: {status}")) }
}

/// Simulated devices in a process of their own, until dropped.
pub(crate) struct Simulator {
    child: Child,
    /// One per device, for example `serial:/dev/pts/5`.
    pub(crate) addresses: Vec<String>,
}

impl Simulator {
    /// Starts `flashfleet sim` with these options and waits until its devices can be reached.
    pub(crate) fn start(options: &[&str]) -> Result<Self, String> {
        let mut child = Command::new(PROGRAM)
            .arg("sim")
            .args(options)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .map_err(|error| format!("cannot start the simulator: {error}"))?;
        let count = options.iter().skip_while(|option| **option != "--count").nth(1);
        let count = count.and_then(|count| count.parse().ok()).unwrap_or(1);
        let out = child.stdout.take().map(BufReader::new);
        let lines = out.into_iter().flat_map(BufRead::lines).take(count);
        let addresses: Vec<String> = lines.map_while(Result::ok).collect();
        let simulator = Self { child, addresses };
        let found = simulator.addresses.len();
        if found < count {
            Err(format!("the simulator has {found} of {count} devices"))
        } else {
            Ok(simulator)
        }
    }

    /// Processor time that it has used so far.
    pub(crate) fn cpu(&self) -> Duration {
        cpu_of(self.child.id())
    }
}

impl Drop for Simulator {
    fn drop(&mut self) {
        // It may be gone already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Processor time of a running process, user and system; the clock of `/proc` ticks 100 times a second.
fn cpu_of(pid: u32) -> Duration {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    // The name of the program, in parentheses, may hold blanks. After it, `utime` and `stime` are the 12th and 13th field.
    let fields = stat.rsplit_once(')').map_or("", |(_, fields)| fields);
    let ticks: u64 = fields.split_whitespace().skip(11).take(2).filter_map(|n| n.parse::<u64>().ok()).sum();
    Duration::from_millis(ticks * 10)
}

/// What a process that has ended took.
#[derive(Debug)]
pub(crate) struct Cost {
    pub(crate) wall: Duration,
    /// Processor time, user and system.
    pub(crate) cpu: Duration,
    /// What of it the system took.
    pub(crate) system: Duration,
    /// Most memory that it held at once, in bytes.
    pub(crate) peak: u64,
    /// Most descriptors that it had open at once, looked at every 20 ms.
    pub(crate) descriptors: usize,
}

/// Runs a command to its end; it must succeed.
pub(crate) fn run(command: &mut Command) -> Result<Cost, String> {
    let start = Instant::now();
    let child = command.stdin(Stdio::null()).spawn().map_err(|error| format!("cannot start: {error}"))?;
    let pid = child.id();
    let (over, ended) = std::sync::mpsc::channel::<()>();
    let watch = std::thread::spawn(move || {
        let mut most = 0;
        while ended.recv_timeout(Duration::from_millis(20)).is_err_and(|error| error == TIMEOUT) {
            most = most.max(fs::read_dir(format!("/proc/{pid}/fd")).map_or(0, Iterator::count));
        }
        most
    });
    let waited = child.wait4();
    let wall = start.elapsed();
    drop(over);
    let descriptors = watch.join().unwrap_or(0);
    let used = waited.map_err(|error| format!("cannot wait: {error}"))?;
    if !used.status.success() {
        return Err(format!("it ended with {}", used.status));
    }
    let cpu = used.rusage.utime + used.rusage.stime;
    Ok(Cost { wall, cpu, system: used.rusage.stime, peak: used.rusage.maxrss, descriptors })
}

const TIMEOUT: std::sync::mpsc::RecvTimeoutError = std::sync::mpsc::RecvTimeoutError::Timeout;

/// A folder for one case, with an image to flash.
pub(crate) struct Station {
    folder: PathBuf,
}

impl Station {
    /// An empty folder, and in it `app.bin`, an image with this many bytes of payload.
    pub(crate) fn new(name: &str, payload: usize) -> Result<Self, String> {
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("targets").join(name);
        let payload: Vec<u8> = (0..payload).map(|n| n.to_le_bytes()[0]).collect();
        let image = ImageBuilder::new().version("2.0.0").payload(&payload).build();
        let made = match fs::remove_dir_all(&folder) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error),
            _ => fs::create_dir_all(&folder).and_then(|()| fs::write(folder.join("app.bin"), image)),
        };
        made.map_err(|error| format!("cannot write into {}: {error}", folder.display()))?;
        Ok(Self { folder })
    }

    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    /// A plan that uploads `app.bin`, boots it on trial, confirms and resets, written to a file.
    pub(crate) fn plan(&self, matcher: &str, policy: &str) -> Result<PathBuf, String> {
        let file = self.file("plan.yaml");
        let plan = format!(
            "version: 1\nname: bench\nimages: {{ app: {{ file: app.bin }} }}\ntargets:\n- name: bench\n  match: {matcher}\n  \
             steps: [{{ upload: app }}, test-boot, confirm, reset]\n{policy}"
        );
        fs::write(&file, plan).map_err(|error| format!("cannot write {}: {error}", file.display()))?;
        Ok(file)
    }

    /// Runs a plan with the program, as a station does: with a journal and a JSON report. Every device must pass.
    pub(crate) fn flash(&self, plan: &Path, options: &[&str], devices: usize) -> Result<Cost, String> {
        let report = self.file("report.json");
        let cost = run(Command::new(PROGRAM)
            .arg("run")
            .arg(plan)
            .args(["--progress", "none", "--quiet", "--journal"])
            .arg(self.file("journal.jsonl"))
            .arg("--json")
            .arg(&report)
            .args(options))?;
        let read = || -> Option<u64> {
            let report: serde_json::Value = serde_json::from_str(&fs::read_to_string(&report).ok()?).ok()?;
            report.get("summary")?.get("passed")?.as_u64()
        };
        match read() {
            Some(passed) if usize::try_from(passed).is_ok_and(|passed| passed == devices) => Ok(cost),
            passed => Err(format!("{} of {devices} devices passed", passed.unwrap_or(0))),
        }
    }
}
