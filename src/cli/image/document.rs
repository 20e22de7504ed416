//! The listing of images for programs. What is in it is found elsewhere.

use std::io::{self, Write};

use serde::Serialize;

use super::{Checked, InPackage, Listing, signatures};
use crate::cause::Cause;
use crate::image::{Area, Dependency, DependencySlot, HashCheck, Image, Layout, Origin, Tlv, Trailer};

/// The schema's name.
const SCHEMA: &str = "flashfleet.image/1";

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
    /// Where it stands in the package that the file is.
    member: Option<MemberView>,
    valid: bool,
    cause: Option<Cause>,
    version: Option<String>,
    header: Option<HeaderView>,
    hash: Option<HashView>,
    signature: Option<SignatureView>,
    areas: Option<AreasView>,
    tlvs: Vec<TlvView>,
    dependencies: Vec<DependencyView>,
    security_counter: Option<u32>,
    trailer: Option<TrailerView>,
    upload: Option<UploadView>,
    source: Option<SourceView>,
}

/// What the manifest says, `null` where it says nothing, and the package's own name and SHA-256.
#[derive(Serialize)]
struct MemberView {
    name: String,
    image_number: u32,
    slot: Option<u32>,
    #[serde(rename = "type")]
    kind: Option<String>,
    board: Option<String>,
    soc: Option<String>,
    load_address: Option<u64>,
    slot_index_primary: Option<u32>,
    slot_index_secondary: Option<u32>,
    size: Option<u64>,
    version: Option<String>,
    modified: Option<u64>,
    package: Option<String>,
    package_sha256: String,
}

/// Sizes of the TLV areas with their headers; 0 where there is none.
#[derive(Serialize)]
struct AreasView {
    protected: usize,
    unprotected: usize,
}

#[derive(Serialize)]
struct DependencyView {
    image_number: u32,
    slot: String,
    version: String,
}

#[derive(Serialize)]
struct TrailerView {
    confirmed: bool,
    max_align: usize,
    image_ok: u8,
    copy_done: u8,
    swap_info: u8,
    swap_size: u32,
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

pub(super) fn write(listing: &Listing<'_>, out: &mut dyn Write) -> io::Result<()> {
    let files = listing.files.iter().map(view).collect();
    let document = Document { schema: SCHEMA, cause: listing.cause.clone(), files };
    serde_json::to_writer_pretty(&mut *out, &document)?;
    writeln!(out)
}

fn view(Checked { path, member, image: file, signature, cause }: &Checked<'_>) -> FileView {
    let layout = file.layout.as_ref();
    let image = file.image.as_ref().ok();
    FileView {
        file: path.display().to_string(),
        member: member.as_ref().map(member_view),
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
        areas: layout.map(|layout| AreasView {
            protected: layout.protected_size(),
            unprotected: layout.unprotected_size(),
        }),
        dependencies: layout.map(dependency_views).unwrap_or_default(),
        security_counter: layout.and_then(Layout::security_counter),
        trailer: file.trailer.as_ref().map(trailer_view),
        tlvs: layout.map(|layout| layout.tlvs().map(tlv_view).collect()).unwrap_or_default(),
        upload: image
            .map(|image| UploadView { size: image.bytes().len(), sha256: hex::encode(image.file_sha256()) }),
        source: image.map(source_view),
    }
}

fn member_view(InPackage { file, package, sha256 }: &InPackage) -> MemberView {
    MemberView {
        name: file.file.clone(),
        image_number: file.image_number.unwrap_or(0),
        slot: file.slot,
        kind: file.kind.clone(),
        board: file.board.clone(),
        soc: file.soc.clone(),
        load_address: file.load_address,
        slot_index_primary: file.slot_index_primary,
        slot_index_secondary: file.slot_index_secondary,
        size: file.size,
        version: file.version.clone(),
        modified: file.modified,
        package: package.clone(),
        package_sha256: hex::encode(sha256),
    }
}

fn dependency_views(layout: &Layout) -> Vec<DependencyView> {
    let view = |dependency: Dependency| DependencyView {
        image_number: dependency.image_number,
        slot: match dependency.slot {
            DependencySlot::Active => "active".into(),
            DependencySlot::Primary => "primary".into(),
            DependencySlot::Secondary => "secondary".into(),
            DependencySlot::Unknown(slot) => slot.to_string(),
        },
        version: dependency.version.to_string(),
    };
    layout.dependencies().map(view).collect()
}

fn trailer_view(trailer: &Trailer) -> TrailerView {
    TrailerView {
        confirmed: trailer.is_confirmed(),
        max_align: trailer.max_align,
        image_ok: trailer.image_ok,
        copy_done: trailer.copy_done,
        swap_info: trailer.swap_info,
        swap_size: trailer.swap_size,
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
