//! `run --resume`: which earlier run is gone on with, and whether that may be. What becomes of its devices is not here.

use std::io::Write;
use std::path::{Path, PathBuf};

use crate::cause::{Cause, Class};
use crate::plan::{Plan, Step};
use crate::report::{EarlierDevice, EarlierRun};

/// The run to go on with: of the journal named, else of the one that the new run would replace, else the newest of this
/// plan. A journal that would be replaced is copied first.
///
/// # Errors
/// `plan.nothing_to_resume`, `plan.resumed_another_plan`, `plan.resumed_other_images`, and what reading a journal gives.
pub(super) fn earlier(
    plan: &Plan,
    named: Option<&Path>,
    new: Option<&Path>,
    err: &mut dyn Write,
) -> Result<EarlierRun, Cause> {
    let replaced = new.filter(|path| path.exists());
    let (path, earlier) = match named.or(replaced) {
        Some(path) => (path.to_owned(), EarlierRun::read(path)?),
        None => EarlierRun::newest_of(&plan.sha256)?,
    };
    may_go_on(plan, &path, &earlier)?;
    if let Some(replaced) = replaced {
        let kept = keep(replaced)?;
        let _ = writeln!(err, "the earlier journal is kept as {}", kept.display());
    }
    let open = earlier.devices().iter().filter(|device| !device.passed()).count();
    let run = earlier.id().unwrap_or("without an id");
    let _ = writeln!(
        err,
        "going on with run {run}, of which {open} of {} devices did not pass ({})",
        earlier.devices().len(),
        path.display()
    );
    Ok(earlier)
}

fn may_go_on(plan: &Plan, path: &Path, earlier: &EarlierRun) -> Result<(), Cause> {
    let name = path.display();
    if earlier.plan_sha256() != Some(&plan.sha256) {
        return Err(Cause::new(
            Class::Plan,
            "plan.resumed_another_plan",
            format!(
                "expected {name} to be of the plan with the SHA-256 {}, it is of {}",
                plan.sha256,
                earlier.plan_sha256().unwrap_or("an unknown one")
            ),
            "a plan that was changed is another one: run it without --resume; what runs already is not written again",
        ));
    }
    if earlier.is_complete() {
        return Err(Cause::new(
            Class::Plan,
            "plan.nothing_to_resume",
            format!(
                "expected a run with work left, but in {name} each of {} devices passed",
                earlier.devices().len()
            ),
            "run without --resume for other devices",
        ));
    }
    match earlier.devices().iter().find(|device| device.passed() && !runs_this(plan, device)) {
        None => Ok(()),
        Some(device) => Err(Cause::new(
            Class::Plan,
            "plan.resumed_other_images",
            format!(
                "expected the images that {name} was about, but {} passed with one that is none of the plan's now",
                device.report.address
            ),
            "an image file was changed since: run without --resume, so that every device gets the new one",
        )),
    }
}

/// Whether what a device was left with is what the plan's images are now.
fn runs_this(plan: &Plan, device: &EarlierDevice) -> bool {
    let Some(target) = plan.targets.iter().find(|target| target.name == device.report.target) else {
        return false;
    };
    device.report.images.iter().all(|outcome| {
        let mut uploads = target.steps.iter().filter_map(|step| match step {
            Step::Upload { image, image_number, .. } if *image_number == outcome.image_number => Some(image),
            _ => None,
        });
        let hash = outcome.after.as_ref().and_then(|after| hex::decode(after.hash.as_ref()?).ok());
        match (uploads.next_back(), hash) {
            (None, _) => true,
            (Some(image), Some(hash)) => {
                plan.images.get(image).is_some_and(|image| image.by_hash(&hash).is_some())
            }
            (Some(_), None) => false,
        }
    })
}

/// Copies a journal beside itself, under a name that is free.
fn keep(journal: &Path) -> Result<PathBuf, Cause> {
    let name = |number: u32| {
        let mut name = journal.as_os_str().to_owned();
        name.push(format!(".{number}"));
        PathBuf::from(name)
    };
    let copy = || {
        let free = (1..=u32::MAX).map(name).find(|path| !path.exists()).unwrap_or_else(|| name(u32::MAX));
        std::fs::copy(journal, &free).map(|_| free)
    };
    copy().map_err(|error| {
        Cause::new(
            Class::Station,
            "station.output_unwritable",
            format!("expected to be able to copy {} before it is replaced: {error}", journal.display()),
            "name another file with --journal",
        )
    })
}
