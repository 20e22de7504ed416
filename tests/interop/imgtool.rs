//! Images that imgtool makes, and what imgtool itself says of them: MCUboot's own tool, fetched from PyPI into
//! `.cache/`. Uses nothing of flashfleet.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use serde::Deserialize;
use tempfile::TempDir;

use crate::error::{Context, Result, RigError};
use crate::fixtures::{cache, run};

/// The release whose dump the tests read.
const IMGTOOL: &str = "2.5.0";
/// Bytes of firmware: enough to be worth compressing.
const FIRMWARE: usize = 6000;

/// Kinds of signing keys.
pub(crate) const SIGNING: [&str; 5] = ["rsa-2048", "rsa-3072", "ecdsa-p256", "ecdsa-p384", "ed25519"];
/// Keys that images are encrypted for: name and kind.
const ENCRYPTION: [(&str, &str); 3] =
    [("for-rsa", "rsa-2048"), ("for-ec", "ecdsa-p256"), ("for-x25519", "x25519")];

/// What imgtool's `dumpinfo` says.
#[derive(Debug, Deserialize)]
pub(crate) struct Dump {
    pub(crate) header: Header,
    pub(crate) tlv_area: Tlvs,
    pub(crate) trailer: Trailer,
}

#[derive(Debug, Deserialize)]
pub(crate) struct Header {
    pub(crate) load_addr: u64,
    pub(crate) hdr_size: u64,
    pub(crate) protected_tlv_size: u64,
    pub(crate) img_size: u64,
    pub(crate) flags: u64,
    /// As `1.2.3+4`.
    pub(crate) version: String,
}

#[derive(Debug, Deserialize)]
pub(crate) struct Tlvs {
    pub(crate) tlvs_prot: Vec<Tlv>,
    pub(crate) tlv_hdr: Area,
    pub(crate) tlvs: Vec<Tlv>,
}

#[derive(Debug, Deserialize)]
pub(crate) struct Area {
    pub(crate) tlv_tot: u64,
}

#[derive(Debug, Deserialize)]
pub(crate) struct Tlv {
    #[serde(rename = "type")]
    pub(crate) kind: u64,
    pub(crate) type_name: String,
    pub(crate) len: u64,
    /// In hex.
    pub(crate) data: String,
}

/// Empty where the image has none.
#[derive(Debug, Deserialize)]
pub(crate) struct Trailer {
    pub(crate) image_ok: Option<u64>,
    pub(crate) copy_done: Option<u64>,
    pub(crate) swap_info: Option<u64>,
    pub(crate) swap_size: Option<u64>,
}

/// A folder with keys, and firmware to sign.
#[derive(Debug)]
pub(crate) struct Imgtool {
    folder: TempDir,
}

impl Imgtool {
    /// Makes keys of the kinds `signing`, each with another one `other-…`, and where `encryption` says so those that
    /// images are encrypted for.
    pub(crate) fn new(signing: &[&'static str], encryption: bool) -> Result<Self> {
        let imgtool = Self { folder: tempfile::Builder::new().prefix("imgtool-").tempdir()? };
        let signing =
            signing.iter().flat_map(|kind| [((*kind).to_owned(), *kind), (format!("other-{kind}"), *kind)]);
        let encryption =
            ENCRYPTION.iter().filter(|_| encryption).map(|(name, kind)| ((*name).to_owned(), *kind));
        for (name, kind) in signing.chain(encryption) {
            let (key, public) = (imgtool.path(&format!("{name}.pem")), imgtool.public(&name));
            call(&["keygen", "--type", kind, "--key"], &[&key])?;
            call(&["getpub", "--encoding", "pem", "--key"], &[&key, Path::new("--output"), &public])?;
        }
        // Code and tables repeat themselves, and so does this.
        let firmware: Vec<u8> =
            (0..FIRMWARE).map(|index| u8::try_from(index * index % 251 % 16).unwrap()).collect();
        let path = imgtool.path("firmware.bin");
        std::fs::write(&path, firmware).context(path.display())?;
        Ok(imgtool)
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// The public half of a key.
    pub(crate) fn public(&self, key: &str) -> PathBuf {
        self.path(&format!("{key}.pub.pem"))
    }

    /// Signs the firmware with a key, if one is named, as version 1.2.3+4; in `options`, `for-…` is an encryption key.
    pub(crate) fn sign(&self, name: &str, key: Option<&str>, options: &[&str]) -> Result<PathBuf> {
        let image = self.path(name);
        let mut words: Vec<String> = [
            "sign",
            "--version",
            "1.2.3+4",
            "--header-size",
            "0x200",
            "--pad-header",
            "--slot-size",
            "0x8000",
        ]
        .map(str::to_owned)
        .to_vec();
        if let Some(key) = key {
            words.extend(["--key".to_owned(), self.path(&format!("{key}.pem")).display().to_string()]);
        }
        words.extend(options.iter().map(|word| match word.starts_with("for-") {
            true => self.public(word).display().to_string(),
            false => (*word).to_owned(),
        }));
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        call(&words, &[&self.path("firmware.bin"), &image])?;
        Ok(image)
    }

    /// What imgtool reads in an image.
    pub(crate) fn dump(&self, image: &Path) -> Result<Dump> {
        let text = call(&["dumpinfo", "--format", "json"], &[image])?;
        serde_json::from_str(&text).context(&text)
    }

    /// Whether imgtool finds that an image is signed with a key, or without one, that its hash holds.
    pub(crate) fn verifies(&self, image: &Path, key: Option<&str>) -> Result<bool> {
        let mut command = Command::new(program()?);
        command.arg("verify");
        if let Some(key) = key {
            command.arg("--key").arg(self.public(key));
        }
        let output = command.arg(image).output()?;
        Ok(output.status.success())
    }
}

fn call(words: &[&str], paths: &[&Path]) -> Result<String> {
    run(Command::new(program()?).args(words).args(paths), "look at what imgtool says")
}

/// The program, fetched at the first call of a run.
fn program() -> Result<&'static Path> {
    static PROGRAM: OnceLock<std::result::Result<PathBuf, String>> = OnceLock::new();
    let program = PROGRAM.get_or_init(|| fetch().map_err(|error| error.to_string()));
    program.as_deref().map_err(RigError::new)
}

fn fetch() -> Result<PathBuf> {
    let venv = cache().join("imgtool");
    let done = venv.join(format!("imgtool-{IMGTOOL}.installed"));
    if !done.is_file() {
        let help = "apt-get install -y python3-venv";
        run(Command::new("python3").args(["-m", "venv", "--clear"]).arg(&venv), help)?;
        let package = format!("imgtool=={IMGTOOL}");
        let mut pip = Command::new(venv.join("bin/python"));
        run(pip.args(["-m", "pip", "install", "--quiet", &package]), "is the package index reachable?")?;
        std::fs::write(&done, "").context(done.display())?;
    }
    Ok(venv.join("bin/imgtool"))
}
