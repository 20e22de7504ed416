//! Where the real SMP servers come from: the source distribution of smpclient, fetched once into `.cache/`.
//!
//! It carries prebuilt Zephyr servers, which are checked against its SHA256SUMS and never committed here.
//! Only fetching and naming lives here; starting is in `qemu.rs` and `native.rs`.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Mutex, OnceLock};

use serde::Deserialize;
use sha2::{Digest, Sha256};

use crate::error::{Context, Result, RigError};

/// The release that the measured facts and the transcripts belong to.
const SMPCLIENT: &str = "7.3.0";
/// SHA-256 of its source distribution: what SHA256SUMS inside says is worth no more than the archive it lies in.
const ARCHIVE_SHA256: &str = "86aa4bc1c621805d97f449793a4077f049aa88a98a1e916bf59423d072bd2a3b";

/// One server of the set, as its manifest.json describes it.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct Server {
    /// File name of the program or firmware.
    pub(crate) artifact: String,
    /// `native_sim`, `qemu_cortex_m0`, `mps2_an385`.
    pub(crate) target: String,
    /// Name of the build configuration, such as `serial_buf256`.
    pub(crate) config: String,
    /// SMP buffer, bytes, as OS command 6 reports it.
    pub(crate) buf_size: u32,
    /// Number of those buffers.
    pub(crate) buf_count: u32,
    /// Longest line of console framing, bytes.
    pub(crate) line_length_max: Option<u32>,
    /// SMP groups that were built in.
    pub(crate) groups: Vec<String>,
    /// How it is talked to: `serial`, `serial_raw`, `udp`, `shell`, `bt`.
    pub(crate) transport: String,
    /// `ipv4` or `ipv6` for UDP servers.
    pub(crate) ip_family: Option<String>,
}

/// The unpacked set of servers.
#[derive(Debug)]
pub(crate) struct Fixtures {
    folder: PathBuf,
    servers: Vec<Server>,
    sums: HashMap<String, String>,
    checked: Mutex<HashMap<String, PathBuf>>,
}

/// The set of servers, fetched at the first call of a run.
pub(crate) fn fixtures() -> Result<&'static Fixtures> {
    static FIXTURES: OnceLock<std::result::Result<Fixtures, String>> = OnceLock::new();
    FIXTURES
        .get_or_init(|| Fixtures::fetch().map_err(|error| error.to_string()))
        .as_ref()
        .map_err(RigError::new)
}

/// The project's git-ignored folder for what was fetched.
pub(crate) fn cache() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(".cache")
}

impl Fixtures {
    fn fetch() -> Result<Self> {
        let cache = cache().join("fixtures");
        let unpacked = cache.join(format!("smpclient-{SMPCLIENT}"));
        let folder = unpacked.join("tests/fixtures/smp-server");
        if !folder.join("manifest.json").is_file() {
            std::fs::create_dir_all(&cache).context(cache.display())?;
            let archive = cache.join(format!("smpclient-{SMPCLIENT}.tar.gz"));
            if !archive.is_file() {
                let package = format!("smpclient=={SMPCLIENT}");
                // Only smpclient itself as source: pip builds a source distribution's metadata, and the tools for
                // that may come ready made.
                let mut pip = Command::new(python()?);
                pip.args(["-m", "pip", "download", "--quiet", "--no-deps", "--no-binary", "smpclient"]);
                run(pip.arg("--dest").arg(&cache).arg(package), "is the package index reachable?")?;
            }
            check(&archive, ARCHIVE_SHA256)?;
            // Unpacked beside its place and then moved, so that a run cut short leaves no half of it.
            let fresh = tempfile::tempdir_in(&cache).context(cache.display())?;
            run(
                Command::new("tar").arg("xzf").arg(&archive).arg("-C").arg(fresh.path()),
                "apt-get install -y tar gzip",
            )?;
            let _ = std::fs::remove_dir_all(&unpacked);
            let from = fresh.path().join(format!("smpclient-{SMPCLIENT}"));
            std::fs::rename(&from, &unpacked).context(unpacked.display())?;
        }
        let text = read_text(&folder.join("SHA256SUMS"))?;
        let sums = text
            .lines()
            .filter_map(|line| line.split_once(char::is_whitespace))
            .map(|(sum, name)| (name.trim().to_owned(), sum.to_owned()))
            .collect();
        let servers =
            serde_json::from_str(&read_text(&folder.join("manifest.json"))?).context("manifest.json")?;
        Ok(Self { folder, servers, sums, checked: Mutex::default() })
    }

    /// The server of `target` and `config`, for example `native_sim` and `serial_buf96`.
    pub(crate) fn server(&self, target: &str, config: &str) -> Result<&Server> {
        self.servers.iter().find(|server| server.target == target && server.config == config).ok_or_else(
            || {
                RigError::new(format!(
                    "smpclient {SMPCLIENT} has no server {config} for {target} in its manifest.json"
                ))
            },
        )
    }

    /// Every server that the manifest describes.
    pub(crate) fn servers(&self) -> &[Server] {
        &self.servers
    }

    /// Whether the server itself is in the source distribution: its manifest describes more than it carries.
    pub(crate) fn carries(&self, server: &Server) -> bool {
        self.folder.join(&server.artifact).is_file()
    }

    /// The file of a server, checked against SHA256SUMS.
    pub(crate) fn path(&self, server: &Server) -> Result<PathBuf> {
        self.file(&server.artifact)
    }

    /// A file of the set by name, checked against SHA256SUMS.
    pub(crate) fn file(&self, name: &str) -> Result<PathBuf> {
        let mut checked = self.checked.lock().unwrap();
        if let Some(path) = checked.get(name) {
            return Ok(path.clone());
        }
        let path = self.folder.join(name);
        let expected = self.sums.get(name);
        check(&path, expected.ok_or_else(|| RigError::new(format!("SHA256SUMS does not list {name}")))?)?;
        checked.insert(name.to_owned(), path.clone());
        Ok(path)
    }
}

/// Compares a file with the SHA-256 that it ought to have.
fn check(path: &Path, expected: &str) -> Result<()> {
    let sum = hex::encode(Sha256::digest(std::fs::read(path).context(path.display())?));
    if sum == expected {
        return Ok(());
    }
    let message = format!("{}: expected SHA-256 {expected}, found {sum}", path.display());
    Err(RigError::new(message).help("remove .cache/fixtures and run again"))
}

/// The Python of a virtual environment that holds smpclient, made at the first call of a run.
pub(crate) fn python() -> Result<&'static Path> {
    static PYTHON: OnceLock<std::result::Result<PathBuf, String>> = OnceLock::new();
    let smpclient = format!("smpclient=={SMPCLIENT}");
    let python = PYTHON.get_or_init(|| {
        virtual_environment("venv", &[&smpclient, "pyserial", "intelhex"]).map_err(|error| error.to_string())
    });
    python.as_deref().map_err(RigError::new)
}

/// The Python of a virtual environment in `.cache/` with these packages, the first one with its version: it is made
/// anew where the version differs.
pub(crate) fn virtual_environment(name: &str, packages: &[&str]) -> Result<PathBuf> {
    let venv = cache().join(name);
    let python = venv.join("bin/python");
    let done = venv.join(format!("{}.installed", packages[0]));
    if !done.is_file() {
        let help = "apt-get install -y python3-venv";
        run(Command::new("python3").args(["-m", "venv", "--clear"]).arg(&venv), help)?;
        run(Command::new(&python).args(["-m", "pip", "install", "--quiet"]).args(packages), help)?;
        std::fs::write(&done, "").context(done.display())?;
    }
    Ok(python)
}

/// Fails with `help` where a program that the rig needs is missing.
pub(crate) fn require(program: &str, help: &str) -> Result<()> {
    let found = std::env::var_os("PATH")
        .is_some_and(|path| std::env::split_paths(&path).any(|folder| folder.join(program).is_file()));
    if found { Ok(()) } else { Err(RigError::new(format!("{program} is not installed")).help(help)) }
}

/// Runs a command to its end; anything but success is an error that holds what it printed.
pub(crate) fn run(command: &mut Command, help: &str) -> Result<String> {
    let output = command
        .output()
        .map_err(|error| RigError::new(format!("cannot run {command:?}: {error}")).help(help))?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    let text = [output.stdout, output.stderr].concat();
    Err(RigError::new(format!("{command:?}: {}\n{}", output.status, String::from_utf8_lossy(&text)))
        .help(help))
}

fn read_text(path: &Path) -> Result<String> {
    std::fs::read_to_string(path).context(path.display())
}
