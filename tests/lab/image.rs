//! The guest's image: built by `build.sh` into `.cache/lab/`, again whenever that script changes.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use sha2::{Digest, Sha256};

use crate::error::{Context, Result, RigError};
use crate::fixtures::{cache, run};

const BUILD: &str = include_str!("build.sh");

/// Programs that the lab runs on this machine, and the Debian packages that bring them.
const PROGRAMS: [(&str, &str); 10] = [
    ("qemu-system-x86_64", "qemu-system-x86 seabios ipxe-qemu"),
    ("qemu-system-arm", "qemu-system-arm"),
    ("mmdebstrap", "mmdebstrap"),
    ("dpkg-deb", "dpkg"),
    ("busybox", "busybox-static"),
    ("cpio", "cpio"),
    ("gzip", "gzip"),
    ("mke2fs", "e2fsprogs"),
    ("chroot", "coreutils"),
    ("python3", "python3 python3-venv"),
];

/// What the guest boots from.
#[derive(Debug)]
pub(crate) struct Image {
    /// The kernel, uncompressed.
    pub(crate) kernel: PathBuf,
    /// The initramfs, which mounts the root.
    pub(crate) initrd: PathBuf,
    /// The root file system, which is only ever read.
    pub(crate) root: PathBuf,
}

/// The image, built at the first call of a run where there is none for this recipe.
pub(crate) fn image() -> Result<&'static Image> {
    static IMAGE: OnceLock<std::result::Result<Image, String>> = OnceLock::new();
    IMAGE.get_or_init(|| build().map_err(|error| error.to_string())).as_ref().map_err(RigError::new)
}

fn build() -> Result<Image> {
    require_programs()?;
    let all = cache().join("lab");
    let folder = all.join(hex::encode(&Sha256::digest(BUILD)[..8]));
    let image = Image {
        kernel: folder.join("vmlinux"),
        initrd: folder.join("initrd.gz"),
        root: folder.join("root.img"),
    };
    // The script puts this file in its place last.
    if !image.root.is_file() {
        if !nix::unistd::geteuid().is_root() {
            return Err(RigError::new("the lab's image is built by root only").help("run it as root"));
        }
        // Those of earlier recipes.
        let _ = std::fs::remove_dir_all(&all);
        std::fs::create_dir_all(&all).context(all.display())?;
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/lab/build.sh");
        run(Command::new(script).arg(&folder), "are Debian's package archives reachable?")?;
    }
    Ok(image)
}

/// Names everything that is missing at once.
fn require_programs() -> Result<()> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    // Where an administrator's programs are, which is not in everybody's PATH.
    let folders: Vec<_> = std::env::split_paths(&path).chain(["/usr/sbin".into(), "/sbin".into()]).collect();
    let missing: Vec<_> = PROGRAMS
        .iter()
        .filter(|(program, _)| !folders.iter().any(|folder| folder.join(program).is_file()))
        .collect();
    if missing.is_empty() {
        return Ok(());
    }
    let names: Vec<_> = missing.iter().map(|(program, _)| *program).collect();
    let packages: Vec<_> = missing.iter().map(|(_, package)| *package).collect();
    Err(RigError::new(format!("the lab needs programs that are not installed: {}", names.join(", ")))
        .help(format!("apt-get install -y --no-install-recommends {}", packages.join(" "))))
}
