//! `flashfleet image`, as a program: what it prints where, and its exit code.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Output;

use assert_cmd::Command;
use flashfleet::image::{Flags, Image, ImageBuilder, TlvType};
use rstest::{fixture, rstest};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use tempfile::TempDir;

#[path = "common/package.rs"]
mod package;

#[fixture]
fn folder() -> TempDir {
    TempDir::new().unwrap()
}

fn builder() -> ImageBuilder {
    ImageBuilder::new()
        .version("1.2.3.4")
        .header_size(32)
        .payload(&[0x5a; 16])
        .protected_tlv(TlvType::SEC_CNT, &[7, 0, 0, 0])
        .tlv(TlvType(0x01a0), &[0xab, 0xcd])
}

fn write(folder: &TempDir, name: &str, content: &[u8]) -> PathBuf {
    let path = folder.path().join(name);
    fs::write(&path, content).unwrap();
    path
}

/// Runs the command; gives exit code, standard output, standard error.
fn image(arguments: &[&dyn AsRef<std::ffi::OsStr>]) -> (i32, String, String) {
    let mut command = Command::cargo_bin("flashfleet").unwrap();
    let Output { status, stdout, stderr } = command.arg("image").args(arguments).output().unwrap();
    (status.code().unwrap(), String::from_utf8(stdout).unwrap(), String::from_utf8(stderr).unwrap())
}

fn document(arguments: &[&dyn AsRef<std::ffi::OsStr>]) -> (i32, Value) {
    let mut all: Vec<&dyn AsRef<std::ffi::OsStr>> = vec![&"--json"];
    all.extend_from_slice(arguments);
    let (exit, out, err) = image(&all);
    assert_eq!(err, "");
    (exit, serde_json::from_str(&out).unwrap())
}

#[rstest]
fn a_good_image_is_shown_whole(folder: TempDir) {
    let bytes = builder().build();
    let path = write(&folder, "app.bin", &bytes);
    let hash = hex::encode(Image::from_bytes(bytes).unwrap().hash());
    let (exit, out, err) = image(&[&path]);
    assert_eq!((exit, err.as_str()), (0, ""));
    for part in [
        "version 1.2.3.4",
        "32 bytes, load address 0x00000000",
        "16 bytes\n",
        "flags        none",
        "signature    none",
        &format!("SHA-256 {hash}"),
        "hash check   ok",
        "0x000034 SEC_CNT               4 bytes  7",
        "0x000040 SHA256               32 bytes",
        "0x000064 0x01a0                2 bytes  abcd",
    ] {
        assert!(out.contains(part), "{part:?} is missing in\n{out}");
    }
}

#[rstest]
fn json_says_the_same(folder: TempDir) {
    let bytes = builder().flags(Flags::ROM_FIXED).load_address(0xc200).build();
    let path = write(&folder, "app.bin", &bytes);
    let image = Image::from_bytes(bytes).unwrap();
    let hash = hex::encode(image.hash());
    let sha256 = hex::encode(image.file_sha256());
    let (exit, document) = document(&[&path]);
    assert_eq!(exit, 0);
    let unprotected = |offset, kind, name: Value, value: &str| {
        json!({"area": "unprotected", "offset": offset, "type": kind, "name": name, "size": value.len() / 2,
               "value": value, "meaning": null})
    };
    let expected = json!({
        "schema": "flashfleet.image/1",
        "cause": null,
        "files": [{
            "file": path, "member": null, "valid": true, "cause": null, "version": "1.2.3.4",
            "header": {"load_address": 0xc200, "header_size": 32, "protected_tlv_size": 12, "image_size": 16,
                       "flags": 0x100, "flag_names": ["ROM_FIXED"]},
            "hash": {"kind": "SHA-256", "value": hash, "check": "ok", "computed": null},
            "signature": {"kinds": [], "check": "unchecked"},
            "areas": {"protected": 12, "unprotected": 46}, "dependencies": [], "security_counter": 7, "trailer": null,
            "tlvs": [
                {"area": "protected", "offset": 52, "type": 0x50, "name": "SEC_CNT", "size": 4,
                 "value": "07000000", "meaning": "7"},
                unprotected(64, 0x10, json!("SHA256"), &hash),
                unprotected(100, 0x01a0, Value::Null, "abcd"),
            ],
            "upload": {"size": 106, "sha256": sha256},
            "source": {"form": "binary", "sha256": sha256, "address": null, "padding": 0},
        }],
    });
    assert_eq!(document, expected);
}

#[rstest]
fn every_file_is_reported_even_if_one_is_bad(folder: TempDir) {
    let good = write(&folder, "good.bin", &builder().build());
    let mut bytes = builder().build();
    bytes[40] ^= 1;
    let changed = write(&folder, "changed.bin", &bytes);
    let elf = write(&folder, "app.elf", b"\x7fELF");
    let missing = folder.path().join("missing.bin");

    let (exit, out, err) = image(&[&changed, &elf, &missing, &good]);
    assert_eq!(exit, 2);
    let name = |path: &Path| path.display().to_string();
    for path in [&changed, &good] {
        assert!(out.contains(&format!("{}: version 1.2.3.4", name(path))), "{out}");
    }
    assert!(out.contains("hash check   MISMATCH"), "{out}");
    for (path, code) in
        [(&changed, "image.hash_mismatch"), (&elf, "image.foreign"), (&missing, "image.file_missing")]
    {
        assert!(err.contains(&format!("error[{code}]: {}", name(path))), "{err}");
    }
    assert_eq!(err.matches("\n  help: ").count(), 3, "{err}");

    let (exit, document) = document(&[&changed, &good, &missing]);
    assert_eq!(exit, 2);
    let of = |index: usize, pointer: &str| document["files"][index].pointer(pointer).cloned().unwrap();
    assert_eq!(of(0, "/valid"), false);
    assert_eq!(of(0, "/cause/code"), "image.hash_mismatch");
    assert_eq!(of(0, "/hash/check"), "mismatch");
    assert_eq!(of(0, "/version"), "1.2.3.4");
    assert_eq!(of(1, "/valid"), true);
    assert_eq!(of(2, "/cause/class"), "plan");
    assert_eq!(of(2, "/header"), Value::Null);
}

#[rstest]
fn an_encrypted_image_is_not_called_checked(folder: TempDir) {
    let mut bytes = ImageBuilder::new()
        .header_size(32)
        .flags(Flags::ENCRYPTED_AES256)
        .tlv(TlvType::ENC_X25519, &[1; 80])
        .build();
    bytes[32] ^= 1;
    let path = write(&folder, "app.bin", &bytes);
    let (exit, out, _) = image(&[&path]);
    assert_eq!(exit, 0);
    assert!(out.contains("hash check   cannot be checked: the firmware is encrypted"), "{out}");
    assert_eq!(document(&[&path]).1["files"][0]["hash"]["check"], "unchecked");
}

#[test]
fn the_signature_is_checked_with_a_key() {
    let data = Path::new("tests/data/images");
    let (signed, key, other) =
        (data.join("ecdsa-p256.bin"), data.join("ecdsa-p256.pub.pem"), data.join("other.pub.pem"));

    let (exit, out, _) = image(&[&signed]);
    assert_eq!(exit, 0);
    assert!(out.contains("signature    ECDSA_SIG, not checked"), "{out}");

    let (exit, out, err) = image(&[&signed, &"--verify-key", &key]);
    assert_eq!((exit, err.as_str()), (0, ""));
    assert!(out.contains("signature    ok, by the ECDSA P-256 key"), "{out}");
    let (_, ok) = document(&[&signed, &"--verify-key", &key]);
    assert_eq!(ok["files"][0]["signature"], json!({"kinds": ["ECDSA_SIG"], "check": "ok"}));
    assert_eq!(ok["files"][0]["valid"], true);

    let (exit, out, err) = image(&[&signed, &"--verify-key", &other]);
    assert_eq!(exit, 2);
    assert!(out.contains("hash check   ok") && out.contains("signature    NOT by this key"), "{out}");
    assert!(err.starts_with("error[image.key_mismatch]: tests/data/images/ecdsa-p256.bin: "), "{err}");
    let (exit, bad) = document(&[&signed, &"--verify-key", &other]);
    assert_eq!(exit, 2);
    assert_eq!(bad["files"][0]["signature"]["check"], "failed");
    assert_eq!(bad["files"][0]["valid"], false);
    assert_eq!(bad["files"][0]["cause"]["code"], "image.key_mismatch");
}

#[test]
fn a_key_that_cannot_be_used_is_no_pass() {
    let signed = Path::new("tests/data/images/ecdsa-p256.bin");
    let (exit, out, err) = image(&[&signed, &"--verify-key", &signed]);
    assert_eq!(exit, 2);
    assert!(out.contains("signature    ECDSA_SIG, not checked"), "{out}");
    assert!(err.starts_with("error[image.key_invalid]: "), "{err}");
    let (exit, document) = document(&[&signed, &"--verify-key", &"missing.pem"]);
    assert_eq!(exit, 2);
    assert_eq!(document["cause"]["code"], "image.file_missing");
    assert_eq!(document["files"][0]["signature"]["check"], "unchecked");
}

#[rstest]
fn each_image_of_a_package_is_shown(folder: TempDir) {
    let app = builder().protected_tlv(TlvType::DEPENDENCY, &[1, 0, 0, 0, 3, 0, 0, 0, 0, 0, 0, 0]).build();
    let flags = Flags::ENCRYPTED_AES256 | Flags::COMPRESSED_LZMA2 | Flags::COMPRESSED_ARM_THUMB;
    let net = builder().flags(flags).tlv(TlvType::ENC_KW, &[1; 24]).build();
    let manifest = json!({"name": "line 7", "files": [
        {"file": "app.bin", "image_index": "0", "board": "nrf5340dk", "soc": "nRF5340", "load_address": 0xc000},
        {"file": "net.bin", "image_index": "1", "slot": "3", "type": "application"},
        {"file": "gone.bin", "image_index": "2"},
    ]});
    let manifest = manifest.to_string();
    let bytes =
        package::pack(&[("manifest.json", manifest.as_bytes()), ("app.bin", &app), ("net.bin", &net)]);
    let path = write(&folder, "dfu.zip", &bytes);

    let (exit, out, err) = image(&[&path]);
    assert_eq!(exit, 2);
    let name = path.display();
    assert_eq!(
        err.lines().next().unwrap(),
        format!(
            "error[image.zip_member_missing]: {name}: gone.bin: expected the archive to hold the file that its manifest \
             names, got no such entry"
        )
    );
    for part in [
        &format!("{name}, app.bin: version 1.2.3.4\n"),
        "package      image 0, board nrf5340dk, SoC nRF5340, at 0x0000c000, of line 7\n",
        "needs        image 1, version 3.0.0 or later\n",
        &format!("{name}, net.bin: version 1.2.3.4\n"),
        "package      image 1, slot 1, type application, of line 7\n",
        "firmware     16 bytes, encrypted (AES-256-CTR), compressed (LZMA2 with ARM Thumb filter)\n",
        &format!("{name}, gone.bin: no valid image\n"),
    ] {
        assert!(out.contains(part), "{part:?} is missing in\n{out}");
    }

    let (exit, document) = document(&[&path]);
    assert_eq!(exit, 2);
    let of = |index: usize, pointer: &str| document["files"][index].pointer(pointer).cloned().unwrap();
    assert_eq!(document["files"].as_array().unwrap().len(), 3);
    assert_eq!(of(0, "/member/name"), "app.bin");
    assert_eq!((of(0, "/member/image_number"), of(0, "/member/load_address")), (json!(0), json!(0xc000)));
    assert_eq!(of(0, "/dependencies"), json!([{"image_number": 1, "slot": "active", "version": "3.0.0"}]));
    assert_eq!(of(0, "/member/package_sha256"), hex::encode(Sha256::digest(&bytes)));
    assert_eq!((of(1, "/valid"), of(1, "/member/slot")), (json!(true), json!(1)));
    assert_eq!((of(2, "/valid"), of(2, "/cause/code")), (json!(false), json!("image.zip_member_missing")));
}

#[rstest]
fn what_is_wrong_with_a_package_as_a_whole_is_told_beside_its_images(folder: TempDir) {
    let (one, two) = (builder().build(), builder().version("2.0.0").build());
    let manifest = json!({"files": [{"file": "a.bin"}, {"file": "b.bin"}]}).to_string();
    let bytes = package::pack(&[("manifest.json", manifest.as_bytes()), ("a.bin", &one), ("b.bin", &two)]);
    let path = write(&folder, "dfu.zip", &bytes);
    let (exit, out, err) = image(&[&path]);
    assert_eq!(exit, 2);
    assert!(err.starts_with("error[image.zip_image_number]: "), "{err}");
    assert!(out.contains("a.bin: version 1.2.3.4") && out.contains("b.bin: version 2.0.0"), "{out}");

    let broken = write(&folder, "broken.zip", b"PK\x03\x04");
    let (exit, out, err) = image(&[&broken]);
    assert_eq!((exit, out), (2, format!("{}: no valid image\n", broken.display())));
    assert!(err.starts_with("error[image.zip_malformed]: "), "{err}");
}

#[test]
fn the_trailer_is_shown() {
    // The same in both forms, although Intel HEX has only what is written of it.
    for name in ["padded.bin", "padded.hex"] {
        the_trailer_of(&Path::new("tests/data/images").join(name));
    }
    let (_, out, _) = image(&[&"tests/data/images/ed25519.bin"]);
    assert!(!out.contains("trailer"), "{out}");
}

fn the_trailer_of(padded: &Path) {
    let (exit, out, _) = image(&[&padded]);
    assert_eq!(exit, 0);
    let line = "trailer      confirmed, image_ok 0x01, copy_done 0xff, swap_info 0xff, swap_size 0xffffffff, writes of 8 bytes";
    assert!(out.contains(line), "{out}");
    let trailer = json!({"confirmed": true, "max_align": 8, "image_ok": 1, "copy_done": 255, "swap_info": 255,
                         "swap_size": 0xffff_ffff_u32});
    assert_eq!(document(&[&padded]).1["files"][0]["trailer"], trailer);
}

#[rstest]
fn standard_input_is_read_as_a_file_of_the_same_content(folder: TempDir) {
    let bytes = builder().build();
    let manifest = br#"{"files": [{"file": "a.bin", "image_index": "0"}]}"#;
    let package = package::pack(&[("manifest.json", manifest), ("a.bin", &bytes)]);
    let hex = fs::read("tests/data/images/padded.hex").unwrap();
    let cut = &bytes[..bytes.len() - 1];
    for (name, content, valid) in [
        ("app.bin", &bytes[..], true),
        ("app.hex", &hex, true),
        ("app.zip", &package, true),
        ("cut.bin", cut, false),
        ("empty.bin", b"", false),
    ] {
        let mut command = Command::cargo_bin("flashfleet").unwrap();
        let output = command.args(["image", "--json", "-"]).write_stdin(content).output().unwrap();
        let (exit, of_file) = document(&[&write(&folder, name, content)]);
        assert_eq!((output.status.code(), exit == 0), (Some(exit), valid), "{name}");
        let from_input: Value = serde_json::from_slice(&output.stdout).unwrap();
        let (said, mut wanted) = (&from_input["files"][0], of_file["files"][0].clone());
        wanted["file"] = json!("-");
        if !valid {
            let message = of_file["files"][0]["cause"]["message"].as_str().unwrap();
            wanted["cause"]["message"] = json!(format!("-{}", &message[message.find(": ").unwrap()..]));
        }
        assert_eq!(*said, wanted, "{name}");
    }
}

#[cfg(target_os = "linux")]
#[rstest]
fn a_full_disk_is_station_trouble(folder: TempDir) {
    let path = write(&folder, "app.bin", &builder().build());
    let full = fs::File::options().write(true).open("/dev/full").unwrap();
    let mut command = std::process::Command::new(assert_cmd::cargo::cargo_bin("flashfleet"));
    let output = command.arg("image").arg(path).stdout(full).output().unwrap();
    assert_eq!(output.status.code(), Some(102));
    assert!(String::from_utf8(output.stderr).unwrap().starts_with("error[station.output]: "));
}

#[test]
fn no_file_is_a_usage_error() {
    let (exit, _, err) = image(&[]);
    assert_eq!(exit, 2);
    assert!(err.contains("FILE"), "{err}");
}
