//! What flashfleet reads in images that imgtool made, against what imgtool reads in them.

use std::path::Path;
use std::process::Command;

use serde_json::Value;

use crate::error::{Context, Result};
use crate::imgtool::{Dump, Imgtool, SIGNING, Tlv};

/// One image: name of its file, signing key, options of `imgtool sign`.
type Made = (String, Option<&'static str>, &'static [&'static str]);

/// Every kind of image.
const OPTIONS: [(&str, Option<&str>, &[&str]); 29] = [
    ("unsigned", None, &[]),
    ("unsigned-sha384", None, &["--sha", "384"]),
    ("unsigned-sha512", None, &["--sha", "512"]),
    ("sha512", Some("ed25519"), &["--sha", "512"]),
    ("pure", Some("ed25519"), &["--pure"]),
    ("full-key", Some("ecdsa-p256"), &["--public-key-format", "full"]),
    ("full-key-rsa", Some("rsa-2048"), &["--public-key-format", "full"]),
    ("padded-signature", Some("ecdsa-p256"), &["--pad-sig"]),
    ("rom-fixed", Some("ecdsa-p256"), &["--rom-fixed", "0xc000"]),
    ("ram-load", Some("ecdsa-p256"), &["--load-addr", "0x20000000"]),
    ("non-bootable", Some("ecdsa-p256"), &["--non-bootable"]),
    ("dependencies", Some("ecdsa-p256"), &["--dependencies", "(1, 2.3.4+5), (2, 0.0.1)"]),
    (
        "protected",
        Some("ecdsa-p384"),
        &[
            "--security-counter",
            "513",
            "--dependencies",
            "(1, 2.3.4)",
            "--boot-record",
            "app",
            "--vid",
            "example.org",
            "--cid",
            "sensor",
            "--custom-tlv",
            "0x01a0",
            "0xabcd",
            "--custom-tlv",
            "0x02a0",
            "text",
        ],
    ),
    ("counter-of-version", Some("rsa-3072"), &["--security-counter", "auto"]),
    ("for-rsa", Some("rsa-2048"), &["--encrypt", "for-rsa"]),
    ("for-ec", Some("ecdsa-p256"), &["--encrypt", "for-ec"]),
    ("for-ec-256", Some("ecdsa-p256"), &["--encrypt", "for-ec", "--encrypt-keylen", "256"]),
    ("for-x25519", Some("ed25519"), &["--encrypt", "for-x25519"]),
    ("for-x25519-512", Some("ed25519"), &["--encrypt", "for-x25519", "--hmac-sha", "512", "--sha", "512"]),
    ("clear", Some("ecdsa-p256"), &["--encrypt", "for-ec", "--clear"]),
    ("lzma2", Some("ecdsa-p256"), &["--compression", "lzma2"]),
    ("lzma2-thumb", Some("ed25519"), &["--compression", "lzma2armthumb"]),
    ("lzma2-encrypted", Some("ed25519"), &["--compression", "lzma2", "--encrypt", "for-x25519"]),
    ("pad", Some("ed25519"), &["--pad"]),
    ("test", Some("ed25519"), &["--test"]),
    ("confirm", None, &["--confirm"]),
    ("confirm-16", None, &["--confirm", "--align", "16", "--max-align", "16"]),
    ("confirm-32", None, &["--confirm", "--align", "32", "--max-align", "32"]),
    ("confirm-erased-0", None, &["--confirm", "--erased-val", "0"]),
];

fn all() -> Vec<Made> {
    let plain = SIGNING.iter().map(|kind| (format!("{kind}.bin"), Some(*kind), &[][..]));
    let hex = [
        ("signed.hex".to_owned(), Some("ecdsa-p256"), &["--hex-addr", "0xc000"][..]),
        ("pad.hex".to_owned(), Some("ed25519"), &["--hex-addr", "0xc000", "--pad"][..]),
        (
            "confirm.hex".to_owned(),
            None,
            &["--hex-addr", "0", "--confirm", "--align", "32", "--max-align", "32"][..],
        ),
    ];
    let with = OPTIONS.iter().map(|(name, key, options)| (format!("{name}.bin"), *key, *options));
    plain.chain(hex).chain(with).collect()
}

/// `flashfleet image --json` of one file, and its exit code.
fn flashfleet(image: &Path, key: Option<&Path>) -> Result<(i32, Value)> {
    let mut command = Command::new(env!("CARGO_BIN_EXE_flashfleet"));
    command.args(["image", "--json"]).arg(image);
    if let Some(key) = key {
        command.arg("--verify-key").arg(key);
    }
    let output = command.output()?;
    let document: Value =
        serde_json::from_slice(&output.stdout).context(String::from_utf8_lossy(&output.stderr))?;
    Ok((output.status.code().unwrap_or(-1), document["files"][0].clone()))
}

/// imgtool's names leave out what MCUboot's have more.
fn same_name(ours: &Value, theirs: &str) -> bool {
    let plain = |text: &str| text.replace('_', "");
    match ours.as_str() {
        Some(name) => plain(name).starts_with(&plain(theirs)),
        None => theirs == "UNKNOWN",
    }
}

fn compare_tlvs(name: &str, area: &str, ours: &Value, theirs: &[Tlv]) {
    let ours: Vec<&Value> =
        ours["tlvs"].as_array().unwrap().iter().filter(|tlv| tlv["area"] == area).collect();
    assert_eq!(ours.len(), theirs.len(), "{name}, {area}");
    for (ours, theirs) in ours.into_iter().zip(theirs) {
        assert_eq!(
            (&ours["type"], &ours["size"]),
            (&theirs.kind.into(), &theirs.len.into()),
            "{name}, {area}"
        );
        assert_eq!(ours["value"], theirs.data, "{name}: {}", theirs.type_name);
        assert!(
            same_name(&ours["name"], &theirs.type_name),
            "{name}: {} is {}",
            ours["name"],
            theirs.type_name
        );
    }
}

fn compare(name: &str, ours: &Value, theirs: &Dump) {
    let header = &ours["header"];
    for (key, value) in [
        ("load_address", theirs.header.load_addr),
        ("header_size", theirs.header.hdr_size),
        ("protected_tlv_size", theirs.header.protected_tlv_size),
        ("image_size", theirs.header.img_size),
        ("flags", theirs.header.flags),
    ] {
        assert_eq!(header[key], value, "{name}: {key}");
    }
    // `1.2.3.4` here, `1.2.3+4` there.
    assert_eq!(ours["version"].as_str().unwrap(), theirs.header.version.replace('+', "."), "{name}");
    assert_eq!(ours["areas"]["unprotected"], theirs.tlv_area.tlv_hdr.tlv_tot, "{name}");
    compare_tlvs(name, "protected", ours, &theirs.tlv_area.tlvs_prot);
    compare_tlvs(name, "unprotected", ours, &theirs.tlv_area.tlvs);
    let trailer = &ours["trailer"];
    for (key, value) in [
        ("image_ok", theirs.trailer.image_ok),
        ("copy_done", theirs.trailer.copy_done),
        ("swap_info", theirs.trailer.swap_info),
        ("swap_size", theirs.trailer.swap_size),
    ] {
        assert_eq!(trailer.get(key).and_then(Value::as_u64), value, "{name}: {key} in {trailer}");
    }
}

#[test]
fn what_flashfleet_reads_is_what_imgtool_reads() -> Result<()> {
    let imgtool = Imgtool::new(&SIGNING, true)?;
    let made = all();
    for (name, key, options) in &made {
        let image = imgtool.sign(name, *key, options)?;
        let theirs = imgtool.dump(&image)?;
        let public = key.map(|key| imgtool.public(key));
        let (code, ours) = flashfleet(&image, public.as_deref())?;
        compare(name, &ours, &theirs);

        // The hash of an encrypted image is that of the plain one: imgtool calls it wrong, flashfleet does not claim to
        // know. `--clear` leaves the firmware plain.
        let encrypted = options.contains(&"--encrypt") && !options.contains(&"--clear");
        assert_eq!(imgtool.verifies(&image, *key)?, !encrypted, "{name}");
        assert_eq!(ours["hash"]["check"], if encrypted { "unchecked" } else { "ok" }, "{name}");
        let signature = if key.is_some() { "ok" } else { "unchecked" };
        assert_eq!((code, &ours["signature"]["check"]), (0, &signature.into()), "{name}: {}", ours["cause"]);

        let flags = ours["header"]["flag_names"].to_string();
        assert_eq!(
            flags.contains("ENCRYPTED_AES"),
            encrypted || options.contains(&"--clear"),
            "{name}: {flags}"
        );
        assert_eq!(flags.contains("COMPRESSED_LZMA2"), options.contains(&"--compression"), "{name}: {flags}");

        // Another key of the same kind.
        let Some(key) = key else { continue };
        let other = format!("other-{key}");
        assert!(!imgtool.verifies(&image, Some(&other))?, "{name}");
        let (code, ours) = flashfleet(&image, Some(&imgtool.public(&other)))?;
        assert_eq!((code, &ours["signature"]["check"]), (2, &"failed".into()), "{name}");
        assert_eq!(ours["cause"]["code"], "image.key_mismatch", "{name}");
    }
    Ok(())
}

#[test]
fn a_key_of_another_kind_is_refused_as_imgtool_refuses_it() -> Result<()> {
    let imgtool = Imgtool::new(&SIGNING, false)?;
    for kind in SIGNING {
        let image = imgtool.sign(&format!("{kind}.bin"), Some(kind), &[])?;
        for key in SIGNING {
            assert_eq!(imgtool.verifies(&image, Some(key))?, key == kind, "{kind} with {key}");
            let (code, ours) = flashfleet(&image, Some(&imgtool.public(key)))?;
            assert_eq!(code == 0, key == kind, "{kind} with {key}: {}", ours["cause"]);
            let told = ours["cause"]["code"].as_str();
            let expected = (key != kind).then_some(match (kind, key) {
                // Both are in an ECDSA_SIG TLV; the hash tells them apart.
                ("ecdsa-p256", "ecdsa-p384") | ("ecdsa-p384", "ecdsa-p256") => "image.signature_hash",
                _ => "image.signature_kind",
            });
            assert_eq!(told, expected, "{kind} with {key}");
        }
    }
    Ok(())
}

#[test]
fn dependencies_and_counters_mean_what_imgtool_was_given() -> Result<()> {
    let imgtool = Imgtool::new(&["ecdsa-p256"], false)?;
    let options = ["--dependencies", "(1, 2.3.4+5), (2, 0.0.1)", "--security-counter", "513"];
    let image = imgtool.sign("needs.bin", Some("ecdsa-p256"), &options)?;
    let (_, ours) = flashfleet(&image, None)?;
    let needs = serde_json::json!([
        {"image_number": 1, "slot": "active", "version": "2.3.4.5"},
        {"image_number": 2, "slot": "active", "version": "0.0.1"},
    ]);
    assert_eq!((&ours["dependencies"], &ours["security_counter"]), (&needs, &513.into()));
    Ok(())
}

/// One class of bytes: where in the image, and what the change makes of it.
struct Tampered {
    what: &'static str,
    at: usize,
    /// Whether imgtool notices too.
    imgtool: bool,
    code: &'static str,
}

#[test]
fn every_class_of_bytes_is_refused_when_it_is_changed_and_each_with_its_own_error() -> Result<()> {
    let imgtool = Imgtool::new(&["ecdsa-p256"], false)?;
    let image = imgtool.sign("good.bin", Some("ecdsa-p256"), &["--security-counter", "7"])?;
    let dump = imgtool.dump(&image)?;
    let good = std::fs::read(&image)?;
    let protected = usize::try_from(dump.header.hdr_size + dump.header.img_size).unwrap();
    let area = protected + usize::try_from(dump.header.protected_tlv_size).unwrap();
    // Offset of each TLV's head: imgtool writes hash, key hash, signature.
    let mut offset = area + 4;
    let mut of = |kind: &str| {
        let at = offset;
        let tlv = dump.tlv_area.tlvs.iter().find(|tlv| tlv.type_name == kind).unwrap();
        offset += 4 + usize::try_from(tlv.len).unwrap();
        at
    };
    let (hash, key_hash, signature) = (of("SHA256"), of("KEYHASH"), of("ECDSASIG"));
    assert_eq!(offset, good.len(), "the order of the TLVs is another one");

    let classes = [
        Tampered { what: "magic", at: 1, imgtool: true, code: "image.bad_magic" },
        Tampered { what: "load address", at: 4, imgtool: true, code: "image.hash_mismatch" },
        Tampered { what: "header size", at: 8, imgtool: true, code: "image.tlv_missing" },
        Tampered { what: "protected TLV size", at: 10, imgtool: true, code: "image.protected_tlv_size" },
        Tampered { what: "firmware size", at: 12, imgtool: true, code: "image.tlv_missing" },
        Tampered { what: "flags", at: 16, imgtool: true, code: "image.hash_mismatch" },
        Tampered { what: "version", at: 20, imgtool: true, code: "image.hash_mismatch" },
        Tampered { what: "header padding", at: 0x100, imgtool: true, code: "image.hash_mismatch" },
        Tampered { what: "firmware", at: 0x400, imgtool: true, code: "image.hash_mismatch" },
        Tampered { what: "protected TLV magic", at: protected, imgtool: true, code: "image.tlv_missing" },
        Tampered {
            what: "protected TLV length",
            at: protected + 6,
            imgtool: true,
            code: "image.tlv_malformed",
        },
        Tampered {
            what: "protected TLV value",
            at: protected + 8,
            imgtool: true,
            code: "image.hash_mismatch",
        },
        Tampered { what: "TLV magic", at: area, imgtool: true, code: "image.tlv_missing" },
        Tampered { what: "TLV area length", at: area + 3, imgtool: true, code: "image.truncated" },
        Tampered { what: "hash type", at: hash, imgtool: true, code: "image.hash_length" },
        Tampered { what: "hash", at: hash + 4, imgtool: true, code: "image.hash_mismatch" },
        // imgtool does not look at the key hash; MCUboot finds its key by it.
        Tampered { what: "key hash", at: key_hash + 4, imgtool: false, code: "image.key_mismatch" },
        Tampered { what: "signature type", at: signature, imgtool: true, code: "image.signature_kind" },
        Tampered { what: "signature", at: signature + 20, imgtool: true, code: "image.signature_invalid" },
    ];
    let key = imgtool.public("ecdsa-p256");
    let path = imgtool.path("changed.bin");
    for Tampered { what, at, imgtool: notices, code } in classes {
        let mut changed = good.clone();
        changed[at] ^= 1;
        std::fs::write(&path, changed)?;
        let (exit, ours) = flashfleet(&path, Some(&key))?;
        assert_eq!((exit, &ours["cause"]["code"]), (2, &code.into()), "{what}: {}", ours["cause"]);
        assert_eq!(imgtool.verifies(&path, Some("ecdsa-p256"))?, !notices, "{what}");
    }
    let cases = [
        ("cut", good[..good.len() - 1].to_vec(), "image.truncated"),
        ("longer", [&good[..], b"more"].concat(), "image.trailing_bytes"),
        ("empty", Vec::new(), "image.empty"),
    ];
    for (what, bytes, code) in cases {
        std::fs::write(&path, bytes)?;
        let (exit, ours) = flashfleet(&path, Some(&key))?;
        assert_eq!((exit, &ours["cause"]["code"]), (2, &code.into()), "{what}: {}", ours["cause"]);
    }
    Ok(())
}
