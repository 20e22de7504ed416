//! flashfleet in the guest, run as its users run it, in a folder that both sides see.

use std::path::PathBuf;
use std::time::Duration;

use tempfile::TempDir;

use crate::agent::{Ended, Job};
use crate::error::{Context, Result};
use crate::report::Run;
use crate::vm::Lab;

/// A run that is not over by then hangs. Every plan here is over in a third of it, on a machine of two slow cores.
const RUN_LIMIT: Duration = Duration::from_secs(300);

/// A program starts well within this.
const SHORT: Duration = Duration::from_secs(60);

/// Characters of a line of a wire log that are shown: time, header and a few bytes.
const SHOWN: usize = 180;

/// The folder that a person in the guest would work in: images, plans, reports.
#[derive(Debug)]
pub(crate) struct Station<'lab> {
    lab: &'lab Lab,
    /// Out here.
    folder: TempDir,
    /// Its path in the guest.
    inside: String,
}

/// What helps to understand why a scenario failed: the wire logs of runs with `--trace trace`.
impl Drop for Station<'_> {
    fn drop(&mut self) {
        let Ok(logs) = std::fs::read_dir(self.folder.path().join("trace")) else { return };
        for log in logs.flatten().filter(|_| std::thread::panicking()) {
            println!("{}", log.path().display());
            let text = std::fs::read_to_string(log.path()).unwrap_or_default();
            text.lines().for_each(|line| println!("{}", line.chars().take(SHOWN).collect::<String>()));
        }
    }
}

/// A run in the guest that goes on.
#[derive(Debug)]
pub(crate) struct Running {
    /// The script that runs it.
    pub(crate) job: Job,
    name: String,
    folder: PathBuf,
}

impl<'lab> Station<'lab> {
    pub(crate) fn new(lab: &'lab Lab) -> Result<Self> {
        let folder = tempfile::Builder::new().prefix("work-").tempdir_in(lab.station())?;
        // Some scenarios are not run by root in the guest.
        std::fs::set_permissions(folder.path(), std::os::unix::fs::PermissionsExt::from_mode(0o777))?;
        let name = folder.path().file_name().unwrap_or_default().to_string_lossy().into_owned();
        Ok(Self { lab, folder, inside: format!("/station/{name}") })
    }

    /// Puts a file into the folder.
    pub(crate) fn file(&self, name: &str, content: impl AsRef<[u8]>) -> Result<()> {
        std::fs::write(self.folder.path().join(name), content).context(name)
    }

    /// What is in a file of the folder.
    pub(crate) fn read(&self, name: &str) -> Result<String> {
        std::fs::read_to_string(self.folder.path().join(name)).context(name)
    }

    /// Runs `flashfleet ARGUMENTS`, as bash reads them, to its end.
    pub(crate) fn flashfleet(&self, arguments: &str) -> Result<Ended> {
        self.start_flashfleet(arguments)?.wait(RUN_LIMIT)
    }

    /// Starts `flashfleet ARGUMENTS`.
    pub(crate) fn start_flashfleet(&self, arguments: &str) -> Result<Job> {
        self.lab.start(&format!("cd {}; exec flashfleet {arguments}", self.inside))
    }

    /// `flashfleet run` of a plan with `options`, and what it reports.
    pub(crate) fn run(&self, name: &str, plan: &str, options: &str) -> Result<Run> {
        self.start(name, plan, options)?.wait()
    }

    /// Starts such a run.
    pub(crate) fn start(&self, name: &str, plan: &str, options: &str) -> Result<Running> {
        self.start_by("exec", name, plan, options)
    }

    /// Starts such a run by a command that takes another one as its arguments, such as `setpriv`.
    pub(crate) fn start_by(&self, starter: &str, name: &str, plan: &str, options: &str) -> Result<Running> {
        self.file(&format!("{name}.yaml"), plan)?;
        let outputs = format!("--json {name}.json --junit {name}.xml --journal {name}.jsonl");
        let job = self.lab.start(&format!(
            "cd {}; echo $$; {starter} flashfleet run {name}.yaml {outputs} --progress none {options}",
            self.inside
        ))?;
        Ok(Running { job, name: name.to_owned(), folder: self.folder.path().to_owned() })
    }
}

impl Running {
    /// flashfleet's process, in the guest.
    pub(crate) fn pid(&mut self) -> Result<String> {
        self.job.wait_for_line("", SHORT)
    }

    /// Waits for the end of the run.
    pub(crate) fn wait(self) -> Result<Run> {
        Ok(self.wait_with_cost()?.0)
    }

    /// The same, with what it cost.
    pub(crate) fn wait_with_cost(self) -> Result<(Run, Ended)> {
        let ended = self.job.wait(RUN_LIMIT)?;
        let read = |ending: &str| {
            let path = self.folder.join(format!("{}.{ending}", self.name));
            std::fs::read_to_string(&path).context(format!("{}; it said:\n{}", path.display(), ended.err))
        };
        let (report, junit) = (read("json")?, read("xml")?);
        Ok((Run::new(ended.status, &report, junit, ended.err.clone())?, ended))
    }
}
