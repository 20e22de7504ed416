//! Runs flashfleet itself, as its users do, and reads what it reports. What the devices really hold is not asked
//! here: that is for `readback.rs`, which is not flashfleet.

use std::io::Read;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;
use tempfile::TempDir;

use crate::error::{Context, Result, RigError};
use crate::images::Image;
pub(crate) use crate::report::{Run, step};

/// A run that is not over by then hangs. Every plan here is over in a third of it, on a machine of two slow cores.
const RUN_LIMIT: Duration = Duration::from_secs(300);
/// How often it is looked whether flashfleet is done.
const LOOK: Duration = Duration::from_millis(50);

/// The folder that a person would work in: images, plans, reports.
#[derive(Debug)]
pub(crate) struct Station {
    folder: TempDir,
}

/// What a program printed, and its exit code.
struct Ended {
    code: i32,
    out: String,
    err: String,
}

impl Station {
    pub(crate) fn new() -> Result<Self> {
        Ok(Self { folder: tempfile::Builder::new().prefix("station-").tempdir()? })
    }

    /// A path in the folder.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Puts an image into the folder.
    pub(crate) fn image(&self, name: &str, image: &Image) -> Result<()> {
        std::fs::write(self.path(name), &image.bytes).context(name)
    }

    /// Puts a plan into the folder.
    pub(crate) fn plan(&self, name: &str, text: &str) -> Result<PathBuf> {
        let path = self.path(&format!("{name}.yaml"));
        std::fs::write(&path, text).context(path.display())?;
        Ok(path)
    }

    /// `flashfleet run` of a plan with `options`, and what it reports. Reports are named after the plan, and have to be
    /// whole: the report's exit code is the program's, and JUnit has one case per planned step of each device.
    pub(crate) fn run(&self, name: &str, plan: &str, options: &[&str]) -> Result<Run> {
        self.run_interrupted(name, plan, options, || false)
    }

    /// The same, but interrupted twice, as an impatient person does, once `impatient` says so.
    pub(crate) fn run_interrupted(
        &self,
        name: &str,
        plan: &str,
        options: &[&str],
        impatient: impl Fn() -> bool,
    ) -> Result<Run> {
        let plan = self.plan(name, plan)?;
        let file = |ending: &str| self.path(&format!("{name}.{ending}")).to_string_lossy().into_owned();
        let (json, junit, journal) = (file("json"), file("xml"), file("jsonl"));
        let mut arguments = vec!["run".to_owned(), plan.to_string_lossy().into_owned()];
        for (option, value) in [
            ("--json", &json),
            ("--junit", &junit),
            ("--journal", &journal),
            ("--progress", &"none".to_owned()),
        ] {
            arguments.extend([option.to_owned(), value.clone()]);
        }
        arguments.extend(options.iter().map(|option| (*option).to_owned()));
        let ended = flashfleet(&arguments, impatient)?;
        let report = std::fs::read_to_string(&json).context(format!("{json}; it said:\n{}", ended.err))?;
        Run::new(ended.code, &report, std::fs::read_to_string(&junit).context(junit)?, ended.err)
    }

    /// `flashfleet update` of a device with `options`, and what it reports.
    pub(crate) fn update(&self, device: &str, image: &str, options: &[&str]) -> Result<Run> {
        let file = |ending: &str| self.path(&format!("update.{ending}")).to_string_lossy().into_owned();
        let (json, junit) = (file("json"), file("xml"));
        let image = self.path(image).to_string_lossy().into_owned();
        let mut arguments =
            vec!["update", device, &image, "--json", &json, "--junit", &junit, "--progress", "none"];
        arguments.extend(options);
        let arguments: Vec<_> = arguments.into_iter().map(str::to_owned).collect();
        let ended = flashfleet(&arguments, || false)?;
        let report = std::fs::read_to_string(&json).context(format!("{json}; it said:\n{}", ended.err))?;
        Run::new(ended.code, &report, std::fs::read_to_string(&junit).context(junit)?, ended.err)
    }

    /// `flashfleet list --json` of a plan.
    pub(crate) fn list(&self, name: &str, plan: &str) -> Result<Value> {
        let plan = self.plan(name, plan)?;
        let arguments = ["list".to_owned(), "--json".to_owned(), plan.to_string_lossy().into_owned()];
        let ended = flashfleet(&arguments, || false)?;
        if ended.code != 0 {
            return Err(RigError::new(format!("flashfleet list: exit code {}\n{}", ended.code, ended.err)));
        }
        serde_json::from_str(&ended.out).context(format!("flashfleet list said {}", ended.out))
    }
}

/// Runs flashfleet to its end; interrupts it twice once `impatient` says so.
fn flashfleet(arguments: &[String], impatient: impl Fn() -> bool) -> Result<Ended> {
    let mut child = Command::new(env!("CARGO_BIN_EXE_flashfleet"))
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .context("flashfleet")?;
    let (mut stdout, mut stderr) = (child.stdout.take().unwrap(), child.stderr.take().unwrap());
    let out = std::thread::spawn(move || read_all(&mut stdout));
    let err = std::thread::spawn(move || read_all(&mut stderr));
    let until = Instant::now() + RUN_LIMIT;
    let mut interrupts = 2;
    let status = loop {
        if interrupts > 0 && impatient() {
            interrupts -= 1;
            crate::fixtures::run(Command::new("kill").args(["-INT", &child.id().to_string()]), "")?;
        }
        match child.try_wait()? {
            Some(status) => break Some(status),
            None if Instant::now() > until => {
                child.kill()?;
                child.wait()?;
                break None;
            }
            None => std::thread::sleep(LOOK),
        }
    };
    let (out, err) = (out.join().unwrap(), err.join().unwrap());
    match status.and_then(|status| status.code()) {
        Some(code) => Ok(Ended { code, out, err }),
        None => Err(RigError::new(format!("flashfleet {arguments:?} did not end by itself\n{out}\n{err}"))),
    }
}

fn read_all(stream: &mut impl Read) -> String {
    let mut bytes = Vec::new();
    let _ = stream.read_to_end(&mut bytes);
    String::from_utf8_lossy(&bytes).into_owned()
}
