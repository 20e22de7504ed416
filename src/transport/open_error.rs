//! Why a serial port could not be opened, and what a person can do about it. Nothing is opened here.

#[cfg(target_os = "linux")]
use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::Path;
#[cfg(target_os = "linux")]
use std::path::PathBuf;
use std::sync::Arc;
#[cfg(target_os = "linux")]
use std::sync::{Mutex, PoisonError};
#[cfg(target_os = "linux")]
use std::time::{Duration, Instant};

use super::link::{LinkError, LinkErrorKind};
#[cfg(target_os = "linux")]
use super::serial::real_name;
use crate::identity::UsbIdentity;

/// Says why a port could not be opened.
pub(super) fn open_error(path: &str, error: &serialport::Error) -> LinkError {
    use serialport::ErrorKind as Kind;
    let source = io::Error::from(error.clone());
    let (kind, message, help) = match error.kind() {
        Kind::NoDevice if Path::new(path).exists() || !cfg!(unix) => {
            let holder = holder(path);
            let by = holder.as_deref().unwrap_or("another process, which only its owner or root can name");
            (
                LinkErrorKind::Busy,
                format!("expected {path} to be free, but it is held by {by}"),
                "close that program (a terminal, ModemManager, a second flashfleet), then run again"
                    .to_owned(),
            )
        }
        Kind::Io(io::ErrorKind::PermissionDenied) => {
            (LinkErrorKind::Denied, format!("this user may not open {path}: {error}"), denied_help(path))
        }
        Kind::NoDevice | Kind::Io(io::ErrorKind::NotFound) => (
            LinkErrorKind::NotFound,
            format!("expected a serial port at {path}, found nothing there"),
            "check that the device is plugged in and powered; `flashfleet list` shows what there is"
                .to_owned(),
        ),
        _ if is_absent(error) => (
            LinkErrorKind::NotFound,
            format!("expected a device behind {path}, found none: {error}"),
            "check that the device is plugged in and powered; `flashfleet list` shows what there is"
                .to_owned(),
        ),
        _ if is_no_port(error) => (
            LinkErrorKind::Unavailable,
            format!("expected a serial port at {path}, found something else: {error}"),
            "`flashfleet list` shows the ports of this machine".to_owned(),
        ),
        _ => (
            LinkErrorKind::Io,
            format!("cannot open {path}: {error}"),
            "unplug the device and plug it in again, then look at the kernel's log".to_owned(),
        ),
    };
    LinkError { kind, message, help, source: Some(Arc::new(source)) }
}

/// Whether the system said what it says of things that are no terminals. The `serialport` crate keeps the text of such
/// an error and not its number.
#[cfg(unix)]
fn is_no_port(error: &serialport::Error) -> bool {
    use nix::errno::Errno;
    [Errno::ENOTTY, Errno::EISDIR, Errno::EINVAL, Errno::ELOOP, Errno::ENOTDIR]
        .iter()
        .any(|errno| errno.desc() == error.description)
}

#[cfg(not(unix))]
fn is_no_port(_error: &serialport::Error) -> bool {
    false
}

/// Whether the system said what it says of a port whose device is gone or was never there (`/dev/ttyS7`).
#[cfg(unix)]
fn is_absent(error: &serialport::Error) -> bool {
    use nix::errno::Errno;
    [Errno::ENXIO, Errno::ENODEV, Errno::EIO].iter().any(|errno| errno.desc() == error.description)
}

#[cfg(not(unix))]
fn is_absent(_error: &serialport::Error) -> bool {
    false
}

/// Adds to an error of opening what the ids of the device behind the port make possible to say: the udev rule to write.
pub(super) fn advise(mut error: LinkError, usb: &UsbIdentity) -> LinkError {
    let rule = |what: &str| {
        format!(
            "`SUBSYSTEM==\"tty\", ATTRS{{idVendor}}==\"{:04x}\", ATTRS{{idProduct}}==\"{:04x}\", {what}` in \
             /etc/udev/rules.d/70-flashfleet.rules, then `sudo udevadm control --reload` and plug the device in again",
            usb.vid, usb.pid
        )
    };
    if !cfg!(target_os = "linux") {
        return error;
    }
    match error.kind {
        LinkErrorKind::Denied => {
            error.help = format!("{}; the rule: {}", error.help, rule("GROUP=\"dialout\", MODE=\"0660\""));
        }
        LinkErrorKind::Busy if error.message.contains("ModemManager") => {
            error.help = format!(
                "ModemManager takes the device for a modem: {}",
                rule("ENV{ID_MM_DEVICE_IGNORE}=\"1\"")
            );
        }
        _ => {}
    }
    error
}

/// Who has which file in `/dev` open, as far as this user may see.
#[cfg(target_os = "linux")]
type Holders = BTreeMap<PathBuf, Vec<String>>;

/// The latest look through the processes, and which ports it was asked about.
///
/// A look takes milliseconds, and a line of boards whose ports are all held asks many times a second.
#[cfg(target_os = "linux")]
static LOOK: Mutex<Option<(Instant, Holders, BTreeSet<PathBuf>)>> = Mutex::new(None);

/// How long a look is believed about ports that it was asked about.
#[cfg(target_os = "linux")]
const BELIEVED: Duration = Duration::from_secs(1);

/// The processes that have `path` open, as far as this user may see.
#[cfg(target_os = "linux")]
fn holder(path: &str) -> Option<String> {
    let path = real_name(path);
    let mut latest = LOOK.lock().unwrap_or_else(PoisonError::into_inner);
    let is_known =
        latest.as_ref().is_some_and(|(at, _, asked)| at.elapsed() < BELIEVED && asked.contains(&path));
    if !is_known {
        let mut asked = latest.take().map(|(_, _, asked)| asked).unwrap_or_default();
        asked.insert(path.clone());
        *latest = Some((Instant::now(), holders(), asked));
    }
    let (_, holders, _) = latest.as_ref()?;
    holders.get(&path).map(|holders| holders.join(", "))
}

#[cfg(target_os = "linux")]
fn holders() -> Holders {
    let mut all = Holders::new();
    for process in std::fs::read_dir("/proc").into_iter().flatten().flatten() {
        let name = process.file_name();
        let Some(pid) = name.to_str().and_then(|name| name.parse::<u32>().ok()) else { continue };
        let Ok(files) = std::fs::read_dir(process.path().join("fd")) else { continue };
        let mut held: Vec<PathBuf> = files
            .flatten()
            .filter_map(|file| std::fs::read_link(file.path()).ok())
            .filter(|target| target.starts_with("/dev/"))
            .collect();
        held.sort();
        held.dedup();
        if held.is_empty() {
            continue;
        }
        let command = std::fs::read_to_string(process.path().join("comm")).unwrap_or_default();
        let who = if pid == std::process::id() {
            "this process".to_owned()
        } else {
            format!("{} (process {pid})", command.trim())
        };
        for path in held {
            all.entry(path).or_default().push(who.clone());
        }
    }
    all.values_mut().for_each(|holders| holders.sort());
    all
}

#[cfg(not(target_os = "linux"))]
fn holder(_path: &str) -> Option<String> {
    None
}

#[cfg(unix)]
fn denied_help(path: &str) -> String {
    use std::os::unix::fs::MetadataExt as _;
    let group = std::fs::metadata(path).ok().and_then(|data| {
        let group = nix::unistd::Group::from_gid(nix::unistd::Gid::from_raw(data.gid())).ok().flatten()?;
        // Group root would open far more than ports.
        (data.gid() != 0).then_some(group.name)
    });
    match group {
        Some(group) => format!(
            "add the user to the group that owns the port: `sudo usermod -aG {group} $USER`, then log in again; or \
             write a udev rule for the device"
        ),
        None => {
            "write a udev rule that gives the port to the group `dialout`, and add the user to it".to_owned()
        }
    }
}

#[cfg(not(unix))]
fn denied_help(_path: &str) -> String {
    "close other programs that use the port".to_owned()
}

#[cfg(all(test, unix))]
mod tests {
    use super::*;

    #[test]
    fn a_port_that_is_forbidden_names_the_group_that_may() {
        use std::os::unix::fs::MetadataExt as _;
        let group = |path| {
            nix::unistd::Group::from_gid(std::fs::metadata(path).unwrap().gid().into()).unwrap().unwrap()
        };
        let denied = serialport::Error::new(serialport::ErrorKind::Io(io::ErrorKind::PermissionDenied), "no");
        // The controlling terminal's device belongs to a group of its own on every system; root's files do not.
        let error = open_error("/dev/tty", &denied);
        assert_eq!(error.kind, LinkErrorKind::Denied);
        let expected = match group("/dev/tty").name.as_str() {
            "root" => "dialout".to_owned(),
            name => format!("usermod -aG {name} "),
        };
        assert!(error.help.contains(&expected), "{}", error.help);
        assert!(open_error("/", &denied).help.contains("`dialout`"));
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn the_udev_rule_to_write_has_the_devices_ids() {
        let usb = UsbIdentity {
            vid: 0x2fe3,
            pid: 4,
            interface: Some(0),
            serial_number: None,
            product: None,
            hub_path: None,
        };
        let error = |kind, message: &str| advise(LinkError::new(kind, message, "close it"), &usb).help;
        let denied = error(LinkErrorKind::Denied, "no");
        let rule = r#"SUBSYSTEM=="tty", ATTRS{idVendor}=="2fe3", ATTRS{idProduct}=="0004", "#;
        assert!(
            denied.starts_with("close it; ") && denied.contains(rule) && denied.contains("dialout"),
            "{denied}"
        );
        let held = error(LinkErrorKind::Busy, "held by ModemManager (process 17)");
        assert!(held.contains(rule) && held.contains("ID_MM_DEVICE_IGNORE"), "{held}");
        assert_eq!(error(LinkErrorKind::Busy, "held by screen (process 17)"), "close it");
        assert_eq!(error(LinkErrorKind::NotFound, "away"), "close it");
    }
}
