//! Files of this machine: reading what a `put` sends, and whether each device that a `get` reads from has files of its own
//! here. Of those only what is wrong for certain is told; two devices that say they have the same serial number are found
//! out in the run.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read as _};
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

use super::model::{MatchKind, Target, UdpTarget};
use super::policy::placeholders;
use super::problems::{Problems, excerpt};
use super::step::{LocalFile, Step};
use super::targets::PlacedTarget;

/// Largest file to put, in bytes: more than the file systems of the parts that this is for hold.
const MAX_FILE: u64 = 64 << 20;

/// Reads a file to put.
///
/// # Errors
/// What the system says; and where it is no file, such as a folder or a pipe, or has more than 64 MiB.
pub fn read_file(path: &Path) -> io::Result<Arc<[u8]>> {
    // Opening a pipe would wait for whoever writes into it.
    if !path.metadata()?.is_file() {
        return Err(io::Error::other("it is no file"));
    }
    let mut bytes = Vec::new();
    // One byte more than allowed tells a file that is too large, whatever its length says.
    File::open(path)?.take(MAX_FILE + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > MAX_FILE {
        return Err(io::Error::other(format!("it has more than {MAX_FILE} bytes")));
    }
    Ok(bytes.into())
}

/// Checks the files of every `get`, and the names of those of every `put`.
pub(super) fn check(problems: &Problems<'_>, targets: &[PlacedTarget]) {
    let mut taken: BTreeMap<String, (&str, &Range<usize>)> = BTreeMap::new();
    for placed in targets {
        let target = &placed.target;
        let several = may_match_several(target);
        for (step, at) in target.steps.iter().zip(&placed.steps_at) {
            if let Step::Get { file, .. } | Step::Put { file, .. } = step
                && let Some(name) = never_known(target, file)
            {
                let message = format!(
                    "`{{{name}}}` is of USB devices, and target `{}` matches others",
                    excerpt(&target.name)
                );
                problems.add("plan.name_not_known", at, message, "use `{address}`");
                continue;
            }
            let Step::Get { file, .. } = step else { continue };
            if several && !is_of_device(file) {
                let message = format!(
                    "`{}` is one file, and target `{}` may match several devices: each would overwrite it",
                    excerpt(&file.name),
                    excerpt(&target.name)
                );
                let help = "put `{address}`, or for USB `{serial_number}` or `{hub_path}`, into the name, or say `expect: 1`";
                problems.add("plan.shared_file", at, message, help);
                continue;
            }
            let path = file.folder.join(file.name.replace("{target}", &target.name));
            let key = path.to_string_lossy().into_owned();
            let Some((first, first_at)) = taken.insert(key, (&target.name, at)) else { continue };
            // Devices of two targets are told apart by what is of a device.
            if first == target.name || !is_of_device(file) {
                let line = problems.line(first_at.start);
                let message = format!("the `get` in line {line} writes to `{}` already", excerpt(&file.name));
                let help = "give each `get` a file of its own, for example with `{target}` in its name";
                problems.add("plan.shared_file", at, message, help);
            }
        }
    }
}

/// A placeholder that stands for nothing on any device of the target.
fn never_known<'f>(target: &Target, file: &'f LocalFile) -> Option<&'f str> {
    let may_be_usb = matches!(target.matcher.kind, MatchKind::Usb(_) | MatchKind::Port(_));
    let mut of_usb =
        placeholders(&file.name).filter(|name| matches!(*name, "serial_number" | "hub_path" | "usb_id"));
    if may_be_usb { None } else { of_usb.next() }
}

fn is_of_device(file: &LocalFile) -> bool {
    placeholders(&file.name).any(|name| LocalFile::OF_DEVICE.contains(&name))
}

/// Whether more than one device may be matched, going by the plan alone.
fn may_match_several(target: &Target) -> bool {
    let names_one = match &target.matcher.kind {
        MatchKind::Port(globs) => match &globs[..] {
            [glob] => !glob.as_str().contains(['*', '?', '[']),
            _ => false,
        },
        MatchKind::Udp(entries) => matches!(entries[..], [UdpTarget::Host { .. }]),
        MatchKind::Tcp(places) => places.len() == 1,
        MatchKind::Sim(spec) => spec.count == 1,
        MatchKind::Usb(_) | MatchKind::Ble(_) => false,
    };
    target.expect.max != Some(1) && !names_one
}
