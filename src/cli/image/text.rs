//! The listing of images for people. What is in it is found elsewhere.

use std::io::{self, Write};

use super::{Checked, InPackage, Listing, signatures};
use crate::cause::Cause;
use crate::image::{Area, Flags, HashCheck, Header, Image, Layout, Origin, PublicKey};

/// The listing goes to `out`, errors to `err`.
pub(super) fn write(listing: &Listing<'_>, out: &mut dyn Write, err: &mut dyn Write) -> io::Result<()> {
    if let Some(cause) = &listing.cause {
        write_cause(cause, err)?;
    }
    for (index, file) in listing.files.iter().enumerate() {
        if index > 0 {
            writeln!(out)?;
        }
        image(file, listing.key.as_ref(), out)?;
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

fn image(checked: &Checked<'_>, key: Option<&PublicKey>, out: &mut dyn Write) -> io::Result<()> {
    let Checked { member, image: file, signature, .. } = checked;
    let Some(layout) = &file.layout else {
        return writeln!(out, "{}: no valid image", checked.name());
    };
    let header = &layout.header;
    writeln!(out, "{}: version {}", checked.name(), header.version)?;
    let mut row = |name: &str, value: String| writeln!(out, "  {name:<13}{value}");
    if let Some(member) = member {
        row("package", package(member))?;
    }
    row("header", format!("{} bytes, load address {:#010x}", header.header_size, header.load_address))?;
    row("firmware", firmware(header))?;
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
    if let Some(trailer) = &file.trailer {
        row("trailer", trailer.to_string())?;
    }
    for dependency in layout.dependencies() {
        row("needs", dependency.to_string())?;
    }
    for area in [Area::Protected, Area::Unprotected] {
        let (heading, size, tlvs) = match area {
            Area::Protected => ("protected TLVs", layout.protected_size(), &layout.protected),
            Area::Unprotected => ("TLVs", layout.unprotected_size(), &layout.unprotected),
        };
        if !tlvs.is_empty() {
            writeln!(out, "  {heading}, {size} bytes")?;
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

/// Where the image goes, and what the package says that it is for.
fn package(InPackage { file, package, .. }: &InPackage) -> String {
    let mut parts = vec![format!("image {}", file.image_number.unwrap_or(0))];
    let mut add = |name: &str, value: Option<String>| {
        parts.extend(value.map(|value| format!("{name} {}", value.escape_debug())));
    };
    add("slot", file.slot.map(|slot| slot.to_string()));
    add("type", file.kind.clone());
    add("board", file.board.clone());
    add("SoC", file.soc.clone());
    add("at", file.load_address.map(|address| format!("{address:#010x}")));
    add("of", package.clone());
    parts.join(", ")
}

fn firmware(header: &Header) -> String {
    let flags = header.flags;
    let mut text = format!("{} bytes", header.image_size);
    if flags.is_encrypted() {
        let bits = if flags.contains(Flags::ENCRYPTED_AES256) { 256 } else { 128 };
        text.push_str(&format!(", encrypted (AES-{bits}-CTR)"));
    }
    if flags.is_compressed() {
        let kind = if flags.contains(Flags::COMPRESSED_LZMA2) { "LZMA2" } else { "LZMA1" };
        let filter = if flags.contains(Flags::COMPRESSED_ARM_THUMB) { " with ARM Thumb filter" } else { "" };
        text.push_str(&format!(", compressed ({kind}{filter})"));
    }
    text
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
