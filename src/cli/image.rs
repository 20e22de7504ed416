//! `flashfleet image`: shows image files and checks them. What is right or wrong is decided in [`crate::image`].

mod document;
mod text;

use std::io::{self, Write};
use std::path::{Path, PathBuf};

use super::Exit;
use super::stdin::{self, is_stdin};
use crate::cause::Cause;
use crate::image::{Fault, ImageError, Inspection, Layout, ManifestFile, PackageInspection, PublicKey};

/// Arguments of `flashfleet image`.
#[derive(Debug, clap::Args)]
pub struct ImageArgs {
    /// MCUboot images: .bin, Intel HEX where the name ends in .hex, packages with manifest.json where it ends in .zip.
    #[arg(required = true, value_name = "FILE")]
    pub files: Vec<PathBuf>,
    /// Check that the signatures are of this public key (PEM).
    #[arg(long, value_name = "KEY")]
    pub verify_key: Option<PathBuf>,
    /// Write one JSON document instead of text.
    #[arg(long)]
    pub json: bool,
}

/// One image, and whether its signature holds.
struct Checked<'a> {
    path: &'a Path,
    /// Where it stands in a package.
    member: Option<InPackage>,
    image: Inspection,
    /// None where no key was given or it could not be read.
    signature: Option<bool>,
    cause: Option<Cause>,
}

/// What a package says of one of its images, and of itself.
struct InPackage {
    file: ManifestFile,
    package: Option<String>,
    sha256: [u8; 32],
}

impl<'a> Checked<'a> {
    /// Every image of a file: one, or those of a package.
    fn all(path: &'a Path, key: Option<&PublicKey>) -> Vec<Self> {
        if is_stdin(path) {
            let bytes = match stdin::bytes() {
                Ok(bytes) => bytes,
                Err(cause) => {
                    return vec![Self {
                        cause: Some(cause),
                        ..Self::failed(path, ImageError::from(Fault::Empty))
                    }];
                }
            };
            if !PackageInspection::is_package_content(&bytes) {
                let mut image = Inspection::of_file_content(bytes);
                image.image = image.image.map_err(|error| error.in_file(path));
                return vec![Self::new(path, None, image, key)];
            }
            return Self::of_package(path, PackageInspection::of_bytes(&bytes), key);
        }
        if !PackageInspection::is_package(path) {
            return vec![Self::new(path, None, Inspection::of(path), key)];
        }
        Self::of_package(path, PackageInspection::of(path), key)
    }

    fn of_package(
        path: &'a Path,
        package: Result<PackageInspection, ImageError>,
        key: Option<&PublicKey>,
    ) -> Vec<Self> {
        let package = match package {
            Ok(package) => package,
            Err(error) => return vec![Self::failed(path, error.in_file(path))],
        };
        let PackageInspection { manifest, sha256, members, fault } = package;
        let images = members.into_iter().map(|(file, image)| {
            let member = InPackage { file, package: manifest.name.clone(), sha256 };
            Self::new(path, Some(member), image, key)
        });
        // What is wrong with the whole comes first.
        fault.map(|error| Self::failed(path, error)).into_iter().chain(images).collect()
    }

    fn new(path: &'a Path, member: Option<InPackage>, image: Inspection, key: Option<&PublicKey>) -> Self {
        let (signature, error) = match (&image.image, key) {
            (Err(error), _) => (None, Some(error.clone())),
            (Ok(_), None) => (None, None),
            (Ok(checked), Some(key)) => match checked.verify(key) {
                Ok(()) => (Some(true), None),
                Err(error) => {
                    let error = match &member {
                        Some(member) => error.in_member(&member.file.file),
                        None => error,
                    };
                    (Some(false), Some(error.in_file(path)))
                }
            },
        };
        Self { path, member, image, signature, cause: error.map(Cause::from) }
    }

    fn failed(path: &'a Path, error: ImageError) -> Self {
        Self::new(path, None, Inspection::failed(error), None)
    }

    /// What it is called in a listing.
    fn name(&self) -> String {
        match &self.member {
            Some(member) => format!("{}, {}", self.path.display(), member.file.file.escape_debug()),
            None => self.path.display().to_string(),
        }
    }
}

/// Everything that was asked for.
struct Listing<'a> {
    /// Why the key could not be used.
    cause: Option<Cause>,
    key: Option<PublicKey>,
    files: Vec<Checked<'a>>,
}

/// Shows every file, the wrong ones too as far as they can be read, and what is wrong with them. The listing goes to
/// `out`, errors to `err`, with `--json` both into the document.
pub(super) fn run(args: &ImageArgs, out: &mut dyn Write, err: &mut dyn Write) -> Exit {
    let (key, cause) = match args.verify_key.as_deref().map(PublicKey::load) {
        None => (None, None),
        Some(Ok(key)) => (Some(key), None),
        Some(Err(error)) => (None, Some(Cause::from(error))),
    };
    let files = args.files.iter().flat_map(|file| Checked::all(file, key.as_ref())).collect();
    let listing = Listing { cause, key, files };

    // What a person must mend comes before what the machine could not do.
    let causes = listing.cause.iter().chain(listing.files.iter().filter_map(|file| file.cause.as_ref()));
    let exits = causes.map(Exit::of_cause);
    let exit = exits.fold(Exit::Passed, |worst, exit| if worst == Exit::Usage { worst } else { exit });

    let written = if args.json { document::write(&listing, out) } else { text::write(&listing, out, err) };
    match written.and_then(|()| out.flush()) {
        Ok(()) => exit,
        // The reader has seen enough.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => exit,
        Err(error) => {
            // Where standard error fails too there is nobody to tell.
            let _ = writeln!(err, "error[station.output]: expected to write the listing, but {error}");
            let _ = writeln!(err, "  help: check the disk or the program that reads it");
            Exit::Station
        }
    }
}

/// The kinds of signature there are.
fn signatures(layout: &Layout) -> Vec<String> {
    let signatures = layout.unprotected.iter().filter(|tlv| tlv.kind.is_signature());
    signatures.map(|tlv| tlv.kind.to_string()).collect()
}
