//! `flashfleet image`: shows image files and checks them. What is right or wrong is decided in [`crate::image`].

use std::io::{self, Write};
use std::path::{Path, PathBuf};

use serde::Serialize;

use super::Exit;
use crate::cause::Cause;
use crate::image::{Area, HashCheck, Image, Inspection, Layout, Origin, PublicKey, Tlv};

/// What `--json` writes: the schema's name.
const SCHEMA: &str = "flashfleet.image/1";

/// Arguments of `flashfleet image`.
#[derive(Debug, clap::Args)]
pub struct ImageArgs {
    /// MCUboot images: .bin, or Intel HEX where the name ends in .hex.
    #[arg(required = true, value_name = "FILE")]
    pub files: Vec<PathBuf>,
    /// Check that the signature is of this public key (PEM).
    #[arg(long, value_name = "KEY")]
    pub verify_key: Option<PathBuf>,
    /// Write one JSON document instead of text.
    #[arg(long)]
    pub json: bool,
}

/// One file, and whether its signature holds.
struct Checked<'a> {
    path: &'a Path,
    file: Inspection,
    /// None where no key was given or it could not be read.
    signature: Option<bool>,
    cause: Option<Cause>,
}

impl<'a> Checked<'a> {
    fn new(path: &'a Path, key: Option<&PublicKey>) -> Self {
        let file = Inspection::of(path);
        let (signature, error) = match (&file.image, key) {
            (Err(error), _) => (None, Some(error.clone())),
            (Ok(_), None) => (None, None),
            (Ok(image), Some(key)) => match image.verify(key) {
                Ok(()) => (Some(true), None),
                Err(error) => (Some(false), Some(error.in_file(path))),
            },
        };
        Self { path, file, signature, cause: error.map(Cause::from) }
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
    let files = args.files.iter().map(|file| Checked::new(file, key.as_ref())).collect();
    let listing = Listing { cause, key, files };

    // What a person must mend comes before what the machine could not do.
    let causes = listing.cause.iter().chain(listing.files.iter().filter_map(|file| file.cause.as_ref()));
    let exits = causes.map(Exit::of_cause);
    let exit = exits.fold(Exit::Passed, |worst, exit| if worst == Exit::Usage { worst } else { exit });

    let written = if args.json { json(&listing, out) } else { text(&listing, out, err) };
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

fn text(listing: &Listing<'_>, out: &mut dyn Write, err: &mut dyn Write) -> io::Result<()> {
    if let Some(cause) = &listing.cause {
        write_cause(cause, err)?;
    }
    for (index, file) in listing.files.iter().enumerate() {
        if index > 0 {
            writeln!(out)?;
        }
        text_of_file(file, listing.key.as_ref(), out)?;
        if let Some(cause) = &file.cause {
            out.flush()?;
            write_cause(cause, err)?;
        }
    }
    Ok(())
}

/// An error as every command shows it.
fn write_cause(cause: &Cause, err: &mut dyn Write) -> io::Result<()> {
    writeln!(err, "error[{}]: {}", cause.code, cause.message)?;
    writeln!(err, "  help: {}", cause.help)
}

fn text_of_file(
    Checked { path, file, signature, .. }: &Checked<'_>,
    key: Option<&PublicKey>,
    out: &mut dyn Write,
) -> io::Result<()> {
    let Some(layout) = &file.layout else {
        return writeln!(out, "{}: no valid image", path.display());
    };
    let header = &layout.header;
    writeln!(out, "{}: version {}", path.display(), header.version)?;
    let mut row = |name: &str, value: String| writeln!(out, "  {name:<13}{value}");
    row("header", format!("{} bytes, load address {:#010x}", header.header_size, header.load_address))?;
    row("firmware", format!("{} bytes", header.image_size))?;
    row("flags", header.flags.to_string())?;
    if let Ok(hash) = layout.hash() {
        row("hash", format!("{} {}", hash.kind, hex::encode(&hash.value)))?;
    }
    row("hash check", hash_check(file.hash_check.as_ref()))?;
    row("signature", signature_check(layout, *signature, key))?;
    if let Ok(image) = &file.image {
        row(
            "upload",
            format!("{} bytes, SHA-256 {}", image.bytes().len(), hex::encode(image.file_sha256())),
        )?;
        row("file", origin(image))?;
    }
    for area in [Area::Protected, Area::Unprotected] {
        let tlvs = match area {
            Area::Protected => &layout.protected,
            Area::Unprotected => &layout.unprotected,
        };
        if !tlvs.is_empty() {
            let heading = if area == Area::Protected { "protected TLVs" } else { "TLVs" };
            writeln!(out, "  {heading}")?;
        }
        for tlv in tlvs {
            let value = tlv.meaning().unwrap_or_else(|| hex::encode(&tlv.value));
            writeln!(
                out,
                "    {:#08x} {:<18}{:>5} bytes  {value}",
                tlv.offset,
                tlv.kind.to_string(),
                tlv.value.len()
            )?;
        }
    }
    Ok(())
}

fn hash_check(check: Option<&HashCheck>) -> String {
    match check {
        Some(HashCheck::Holds) => "ok".into(),
        Some(HashCheck::Mismatch { computed }) => {
            format!("MISMATCH, the content has {}", hex::encode(computed))
        }
        Some(HashCheck::Encrypted) => "cannot be checked: the firmware is encrypted".into(),
        None => "no usable hash".into(),
    }
}

fn signature_check(layout: &Layout, check: Option<bool>, key: Option<&PublicKey>) -> String {
    let kinds = signatures(layout).join(", ");
    match (check, key) {
        (Some(true), Some(key)) => format!("ok, by the {key} key"),
        (Some(_), _) => "NOT by this key".into(),
        (None, _) if kinds.is_empty() => "none".into(),
        (None, _) => format!("{kinds}, not checked"),
    }
}

/// The kinds of signature there are.
fn signatures(layout: &Layout) -> Vec<String> {
    let signatures = layout.unprotected.iter().filter(|tlv| tlv.kind.is_signature());
    signatures.map(|tlv| tlv.kind.to_string()).collect()
}

fn origin(image: &Image) -> String {
    let sha256 = hex::encode(image.source_sha256());
    let form = match image.origin() {
        Origin::Binary => "binary".to_owned(),
        Origin::IntelHex { address, alone: true } => format!("Intel HEX at {address:#010x}"),
        Origin::IntelHex { address, alone: false } => {
            format!("Intel HEX at {address:#010x}, beside other data")
        }
    };
    let padding = match image.padding() {
        0 => String::new(),
        padding => format!(", {padding} bytes of padding not uploaded"),
    };
    format!("{form}{padding}, SHA-256 {sha256}")
}

/// The document that `--json` writes. Hashes and values are lower-case hexadecimal, sizes and offsets bytes.
#[derive(Serialize)]
struct Document {
    schema: &'static str,
    /// What is wrong with the key.
    cause: Option<Cause>,
    files: Vec<FileView>,
}

#[derive(Serialize)]
struct FileView {
    file: String,
    valid: bool,
    cause: Option<Cause>,
    version: Option<String>,
    header: Option<HeaderView>,
    hash: Option<HashView>,
    signature: Option<SignatureView>,
    tlvs: Vec<TlvView>,
    upload: Option<UploadView>,
    source: Option<SourceView>,
}

#[derive(Serialize)]
struct HeaderView {
    load_address: u32,
    header_size: u16,
    protected_tlv_size: u16,
    image_size: u32,
    flags: u32,
    flag_names: Vec<String>,
}

#[derive(Serialize)]
struct HashView {
    kind: String,
    value: String,
    check: &'static str,
    computed: Option<String>,
}

#[derive(Serialize)]
struct SignatureView {
    kinds: Vec<String>,
    check: &'static str,
}

#[derive(Serialize)]
struct TlvView {
    area: &'static str,
    offset: usize,
    #[serde(rename = "type")]
    kind: u16,
    name: Option<&'static str>,
    size: usize,
    value: String,
    meaning: Option<String>,
}

#[derive(Serialize)]
struct UploadView {
    size: usize,
    sha256: String,
}

#[derive(Serialize)]
struct SourceView {
    form: &'static str,
    sha256: String,
    address: Option<u32>,
    padding: usize,
}

fn json(listing: &Listing<'_>, out: &mut dyn Write) -> io::Result<()> {
    let files = listing.files.iter().map(view).collect();
    let document = Document { schema: SCHEMA, cause: listing.cause.clone(), files };
    serde_json::to_writer_pretty(&mut *out, &document)?;
    writeln!(out)
}

fn view(Checked { path, file, signature, cause }: &Checked<'_>) -> FileView {
    let layout = file.layout.as_ref();
    let image = file.image.as_ref().ok();
    FileView {
        file: path.display().to_string(),
        valid: cause.is_none(),
        cause: cause.clone(),
        version: layout.map(|layout| layout.header.version.to_string()),
        header: layout.map(header_view),
        hash: layout.and_then(|layout| hash_view(layout, file.hash_check.as_ref())),
        signature: layout.map(|layout| SignatureView {
            kinds: signatures(layout),
            check: match signature {
                Some(true) => "ok",
                Some(false) => "failed",
                None => "unchecked",
            },
        }),
        tlvs: layout.map(|layout| layout.tlvs().map(tlv_view).collect()).unwrap_or_default(),
        upload: image
            .map(|image| UploadView { size: image.bytes().len(), sha256: hex::encode(image.file_sha256()) }),
        source: image.map(source_view),
    }
}

fn header_view(layout: &Layout) -> HeaderView {
    let header = &layout.header;
    HeaderView {
        load_address: header.load_address,
        header_size: header.header_size,
        protected_tlv_size: header.protected_tlv_size,
        image_size: header.image_size,
        flags: header.flags.0,
        flag_names: header.flags.names(),
    }
}

fn hash_view(layout: &Layout, check: Option<&HashCheck>) -> Option<HashView> {
    let hash = layout.hash().ok()?;
    let (check, computed) = match check? {
        HashCheck::Holds => ("ok", None),
        HashCheck::Mismatch { computed } => ("mismatch", Some(hex::encode(computed))),
        HashCheck::Encrypted => ("unchecked", None),
    };
    Some(HashView { kind: hash.kind.to_string(), value: hex::encode(hash.value), check, computed })
}

fn tlv_view((area, tlv): (Area, &Tlv)) -> TlvView {
    TlvView {
        area: match area {
            Area::Protected => "protected",
            Area::Unprotected => "unprotected",
        },
        offset: tlv.offset,
        kind: tlv.kind.0,
        name: tlv.kind.name(),
        size: tlv.value.len(),
        value: hex::encode(&tlv.value),
        meaning: tlv.meaning(),
    }
}

fn source_view(image: &Image) -> SourceView {
    let (form, address) = match image.origin() {
        Origin::Binary => ("binary", None),
        Origin::IntelHex { address, .. } => ("intel_hex", Some(address)),
    };
    SourceView { form, sha256: hex::encode(image.source_sha256()), address, padding: image.padding() }
}
