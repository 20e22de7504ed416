//! Packages: archives with `manifest.json`, right ones and every wrong one, up to any bytes whatever.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use flashfleet::image::{
    Flags, Image, ImageBuilder, ImageError, ImageSet, MAX_IMAGE_SIZE, PackageInspection, PublicKey, TlvType,
};
use proptest::prelude::*;
use rstest::{fixture, rstest};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use tempfile::TempDir;
use zip::CompressionMethod;

#[path = "common/package.rs"]
mod package;

use package::{pack, pack_with};

#[fixture]
fn folder() -> TempDir {
    TempDir::new().unwrap()
}

fn image(version: &str) -> Vec<u8> {
    ImageBuilder::new().version(version).header_size(32).payload(version.as_bytes()).build()
}

fn manifest(files: &Value) -> Vec<u8> {
    json!({"format-version": 0, "name": "line 7", "files": files}).to_string().into_bytes()
}

/// Two images as nRF Connect SDK packs them for two cores.
fn two() -> Vec<u8> {
    let (app, net) = (image("2.4.0+7"), image("1.0.3"));
    let files = json!([
        {"file": "app.bin", "type": "application", "board": "nrf5340dk", "image_index": "0", "size": app.len(),
         "version_MCUBOOT": "2.4.0+7"},
        {"file": "net.bin", "image_index": "1", "size": net.len(), "version": "1"},
    ]);
    pack(&[("manifest.json", &manifest(&files)), ("app.bin", &app), ("net.bin", &net)])
}

fn load(bytes: &[u8]) -> Result<ImageSet, ImageError> {
    ImageSet::of_package(PackageInspection::of_bytes(bytes)?)
}

/// One image and what the manifest says of it besides the name.
fn one(more: Value, content: &[u8]) -> Vec<u8> {
    let mut file = json!({"file": "app.bin"});
    file.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    pack(&[("app.bin", content), ("manifest.json", &manifest(&json!([file])))])
}

fn write(folder: &TempDir, name: &str, content: &[u8]) -> PathBuf {
    let path = folder.path().join(name);
    fs::write(&path, content).unwrap();
    path
}

#[rstest]
fn every_image_is_read_with_its_number(folder: TempDir) {
    let bytes = two();
    let set = ImageSet::load(&write(&folder, "dfu.zip", &bytes)).unwrap();
    let [app, net] = set.members() else { panic!("{set:?}") };
    assert_eq!(
        (app.image.version(), app.image_number, app.file.as_deref()),
        ("2.4.0.7", Some(0), Some("app.bin"))
    );
    assert_eq!((net.image.version(), net.image_number, net.slot), ("1.0.3", Some(1), None));
    assert_eq!(set.image_numbers(), [0, 1]);
    assert_eq!(set.for_image(1).len(), 1);
    assert!(set.for_image(2).is_empty());
    assert_eq!(
        set.source_sha256().as_slice(),
        Sha256::digest(&bytes).as_slice(),
        "the archive is what is pinned"
    );
    assert_eq!(set.by_hash(net.image.hash()).unwrap().version(), "1.0.3");
    assert!(set.by_hash(&[0; 32]).is_none());
}

#[test]
fn deflated_entries_are_read_as_stored_ones() {
    let app = ImageBuilder::new().version("2.0.0").payload(&[5; 50_000]).build();
    let entries: [(&str, &[u8]); 2] =
        [("manifest.json", &manifest(&json!([{"file": "app.bin"}]))), ("app.bin", &app)];
    let deflated = pack_with(CompressionMethod::Deflated, &entries);
    assert!(deflated.len() < 5_000);
    assert_eq!(load(&deflated).unwrap().members()[0].image.bytes()[..], app);
}

#[test]
fn an_image_without_a_number_goes_where_it_is_told_to() {
    let set = load(&one(json!({}), &image("2.0.0"))).unwrap();
    assert!(set.image_numbers().is_empty());
    assert_eq!(set.for_image(3).len(), 1);
    let set = load(&one(json!({"image_index": 0}), &image("2.0.0"))).unwrap();
    assert_eq!(set.image_numbers(), [0]);
    assert!(set.for_image(3).is_empty());
}

#[test]
fn a_pair_is_one_image_number_with_two_slots() {
    let (first, second) = (image("2.0.0"), image("2.0.1"));
    let files = json!([
        {"file": "a", "image_index": "0", "slot": "0", "version_MCUBOOT+XIP": "2.0.0"},
        {"file": "b", "image_index": "0", "slot": "1", "version_MCUBOOT+XIP": "2.0.1"},
    ]);
    let set = load(&pack(&[("a", &first), ("b", &second), ("manifest.json", &manifest(&files))])).unwrap();
    assert_eq!(set.image_numbers(), [0]);
    let slots: Vec<_> = set.for_image(0).iter().map(|member| member.slot).collect();
    assert_eq!(slots, [Some(0), Some(1)]);
}

#[rstest]
fn a_package_of_one_image_is_an_image_file_too(folder: TempDir) {
    let app = image("2.0.0");
    let path = write(&folder, "one.zip", &one(json!({"image_index": 1}), &app));
    assert_eq!(Image::load(&path).unwrap().bytes()[..], app);
    let error = Image::load(&write(&folder, "two.zip", &two())).unwrap_err();
    assert_eq!(error.code(), "image.zip_several_images");
    assert!(
        error.to_string().ends_with("two.zip: expected one image, got a package of 2: `app.bin`, `net.bin`")
    );
}

#[test]
fn an_intel_hex_file_in_a_package_is_read() {
    let app = fs::read("tests/data/images/padded.hex").unwrap();
    let files = manifest(&json!([{"file": "app.hex"}]));
    let set = load(&pack(&[("app.hex", &app), ("manifest.json", &files)])).unwrap();
    let same = Image::load(Path::new("tests/data/images/padded.hex")).unwrap();
    assert_eq!(set.members()[0].image.hash(), same.hash());
}

#[test]
fn every_image_must_be_signed_by_the_key() {
    let data = |name: &str| Path::new("tests/data/images").join(name);
    let signed = fs::read(data("ed25519.bin")).unwrap();
    let key = PublicKey::load(&data("ed25519.pub.pem")).unwrap();
    load(&one(json!({}), &signed)).unwrap().verify(&key).unwrap();
    let files = manifest(&json!([{"file": "a", "image_index": 0}, {"file": "b", "image_index": 1}]));
    let set = load(&pack(&[("a", &signed), ("b", &image("1.0.0")), ("manifest.json", &files)])).unwrap();
    let error = set.verify(&key).unwrap_err();
    assert_eq!((error.code(), error.to_string().starts_with("b: ")), ("image.not_signed", true), "{error}");
}

/// The entry in the message where the fault is about one.
#[rstest]
#[case::size(one(json!({"size": 5}), &image("2.0.0")), "image.zip_member_size", "app.bin: expected 5 bytes")]
#[case::version(
    one(json!({"version_MCUBOOT": "2.0.1"}), &image("2.0.0")),
    "image.zip_member_version",
    "app.bin: expected version 2.0.1 as the manifest says, got 2.0.0"
)]
#[case::no_image(one(json!({}), b"\x7fELF and more than thirty-two bytes"), "image.foreign", "app.bin: expected the magic")]
#[case::empty_image(one(json!({}), b""), "image.empty", "app.bin: ")]
#[case::archive_in_archive(one(json!({}), &two()), "image.foreign", "app.bin: expected the magic")]
#[case::cut_image(one(json!({}), &image("2.0.0")[..50]), "image.truncated", "app.bin: ")]
#[case::other_type(one(json!({"type": "mcuboot"}), &image("2.0.0")), "image.zip_unsupported", "MCUboot itself")]
#[case::manifest_is_no_json(pack(&[("manifest.json", b"{")]), "image.zip_manifest_invalid", "manifest.json: ")]
#[case::no_manifest(pack(&[("app.bin", b"1")]), "image.zip_manifest_missing", "got `app.bin`")]
#[case::nested(pack(&[("dfu/manifest.json", b"{}")]), "image.zip_manifest_missing", "dfu/manifest.json")]
#[case::empty_archive(pack(&[]), "image.zip_manifest_missing", "an empty archive")]
#[case::empty_file(Vec::new(), "image.empty", "an empty file")]
#[case::an_image(image("2.0.0"), "image.not_zip", "a binary MCUboot image")]
#[case::text(b"this is no archive".to_vec(), "image.not_zip", "text")]
#[case::cut(two()[..300].to_vec(), "image.zip_malformed", "expected a ZIP archive, but")]
#[case::missing(pack(&[("manifest.json", &manifest(&json!([{"file": "../app.bin"}])))]), "image.zip_member_missing", "../app.bin: ")]
fn each_fault_has_its_code_and_its_entry(#[case] bytes: Vec<u8>, #[case] code: &str, #[case] says: &str) {
    let error = load(&bytes).unwrap_err();
    assert_eq!(error.code(), code, "{error}");
    assert!(error.to_string().contains(says), "{error}");
    assert!(!error.help().is_empty());
}

#[rstest]
#[case::no_slots(json!(null), json!(null))]
#[case::one_slot(json!(1), json!(null))]
#[case::same_slot(json!(1), json!(1))]
fn two_files_for_one_image_need_different_slots(#[case] first: Value, #[case] second: Value) {
    let files = json!([{"file": "a", "image_index": 0, "slot": first}, {"file": "b", "slot": second}]);
    let bytes = pack(&[("a", &image("1.0.0")), ("b", &image("2.0.0")), ("manifest.json", &manifest(&files))]);
    let error = load(&bytes).unwrap_err();
    assert_eq!(error.code(), "image.zip_image_number");
    assert!(error.to_string().contains("image 0") && error.to_string().contains("`a` and `b`"), "{error}");
}

/// Names are only looked up: whatever they are, nothing outside the archive is read or written.
#[rstest]
fn names_that_point_elsewhere_are_only_names(folder: TempDir) {
    let app = image("2.0.0");
    for name in ["../app.bin", "/etc/passwd", "C:\\app.bin", "a\\..\\b", "…/ä.bin"] {
        let bytes = pack(&[(name, &app), ("manifest.json", &manifest(&json!([{"file": name}])))]);
        let set = ImageSet::load(&write(&folder, "dfu.zip", &bytes)).unwrap();
        assert_eq!(set.members()[0].image.bytes()[..], app, "{name}");
    }
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    // A name in which nothing is spelt as in the manifest is another name.
    let bytes = pack(&[("App.bin", &app), ("manifest.json", &manifest(&json!([{"file": "app.bin"}])))]);
    assert_eq!(load(&bytes).unwrap_err().code(), "image.zip_member_missing");
    let bytes = pack(&[("./app.bin", &app), ("manifest.json", &manifest(&json!([{"file": "app.bin"}])))]);
    assert_eq!(load(&bytes).unwrap_err().code(), "image.zip_member_missing");
}

/// Places of the directory's entries.
fn directory(bytes: &[u8]) -> Vec<usize> {
    (0..bytes.len() - 4).filter(|at| bytes[*at..].starts_with(b"PK\x01\x02")).collect()
}

#[test]
fn archives_that_no_build_makes_are_refused() {
    let app = image("2.0.0");
    let files = manifest(&json!([{"file": "a.bin"}]));
    let good = pack(&[("a.bin", &app), ("b.bin", &app), ("manifest.json", &files)]);
    load(&good).unwrap();

    let text = |bytes: &[u8]| bytes.windows(5).filter(|name| *name == b"b.bin").count();
    assert_eq!(text(&good), 2);
    let mut doubled = good.clone();
    for at in 0..doubled.len() - 5 {
        if doubled[at..].starts_with(b"b.bin") {
            doubled[at] = b'a';
        }
    }
    assert_eq!(load(&doubled).unwrap_err().code(), "image.zip_duplicate_name");

    // Offset of the local header: bytes 42 to 45 of an entry.
    let mut overlapping = good.clone();
    let entries = directory(&good);
    let first = overlapping[entries[0] + 42..entries[0] + 46].to_vec();
    overlapping[entries[1] + 42..entries[1] + 46].copy_from_slice(&first);
    assert_eq!(load(&overlapping).unwrap_err().code(), "image.zip_overlap");

    // Bit 0 of the flags, bytes 8 and 9: encrypted.
    let mut encrypted = good.clone();
    encrypted[entries[0] + 8] |= 1;
    let error = load(&encrypted).unwrap_err();
    assert_eq!(error.code(), "image.zip_member_unreadable");
    assert!(error.to_string().starts_with("a.bin: "), "{error}");

    // Compression method, bytes 10 and 11: LZMA.
    let mut method = good.clone();
    method[entries[0] + 10] = 14;
    assert_eq!(load(&method).unwrap_err().code(), "image.zip_member_unreadable");

    // The checksum does not hold.
    let mut changed = good;
    let at = changed.windows(4).position(|bytes| bytes == [0x3d, 0xb8, 0xf3, 0x96]).unwrap();
    changed[at + 40] ^= 1;
    let error = load(&changed).unwrap_err();
    assert_eq!(error.code(), "image.zip_member_unreadable");

    let names: Vec<String> = (0..257).map(|index| format!("{index}")).collect();
    let many: Vec<(&str, &[u8])> = names.iter().map(|name| (name.as_str(), &b""[..])).collect();
    let error = load(&pack(&many)).unwrap_err();
    assert_eq!(error.code(), "image.zip_entries");
    assert!(error.to_string().contains("at most 256 entries in the archive, got 257"), "{error}");
}

#[rstest]
fn what_unpacks_to_too_much_is_given_up(folder: TempDir) {
    let files = |names: &[&str]| {
        let files: Vec<_> =
            names.iter().enumerate().map(|(n, name)| json!({"file": name, "image_index": n})).collect();
        manifest(&json!(files))
    };
    let deflated = |entries: &[(&str, &[u8])]| pack_with(CompressionMethod::Deflated, entries);
    let zeros = vec![0; MAX_IMAGE_SIZE + 1];

    let bomb = deflated(&[("manifest.json", &files(&["a"])), ("a", &zeros)]);
    assert!(bomb.len() < 1 << 20);
    let error = ImageSet::load(&write(&folder, "bomb.zip", &bomb)).unwrap_err();
    assert_eq!(error.code(), "image.too_large");
    assert!(error.to_string().contains("bomb.zip: a: expected at most"), "{error}");

    // One that lies about its size: bytes 24 to 27 of the directory's entry.
    let mut lying = bomb.clone();
    let entry = directory(&bomb)[1];
    lying[entry + 24..entry + 28].copy_from_slice(&10_u32.to_le_bytes());
    let started = Instant::now();
    let error = load(&lying).unwrap_err();
    assert!(["image.too_large", "image.zip_member_unreadable"].contains(&error.code()), "{error}");
    assert!(started.elapsed() < Duration::from_secs(20));

    // Each is small enough, all of them are not.
    let half = ImageBuilder::new().payload(&zeros[..MAX_IMAGE_SIZE / 2]).build();
    let together = deflated(&[("manifest.json", &files(&["a", "b"])), ("a", &half), ("b", &half)]);
    let error = load(&together).unwrap_err();
    assert_eq!(error.code(), "image.too_large");
    assert!(error.to_string().starts_with("b: "), "{error}");

    let manifest = deflated(&[("manifest.json", &zeros[..1 << 20])]);
    let error = load(&manifest).unwrap_err();
    assert_eq!(
        (error.code(), error.to_string().contains("262144 bytes of the manifest")),
        ("image.too_large", true),
        "{error}"
    );
}

#[test]
fn what_an_image_needs_and_is_stays_known() {
    let app = ImageBuilder::new()
        .protected_tlv(TlvType::SEC_CNT, &[9, 0, 0, 0])
        // MCUboot looks for these among the protected ones only.
        .tlv(TlvType::SEC_CNT, &[8, 0, 0, 0])
        .tlv(TlvType::DEPENDENCY, &[2, 0, 0, 0, 9, 0, 0, 0, 0, 0, 0, 0])
        .protected_tlv(TlvType::DEPENDENCY, &[1, 0, 0, 0, 3, 0, 0, 0, 0, 0, 0, 0])
        .flags(Flags::COMPRESSED_LZMA2 | Flags::COMPRESSED_ARM_THUMB)
        .build();
    let set = load(&one(json!({}), &app)).unwrap();
    let layout = set.members()[0].image.layout();
    assert_eq!(layout.security_counter(), Some(9));
    assert_eq!(
        layout.dependencies().map(|it| it.to_string()).collect::<Vec<_>>(),
        ["image 1, version 3.0.0 or later"]
    );
    assert!(layout.header.flags.is_compressed() && !layout.header.flags.is_encrypted());
}

proptest! {
    #[test]
    fn any_bytes(bytes in prop::collection::vec(any::<u8>(), 0..400), zip in any::<bool>()) {
        let bytes = if zip { [b"PK\x03\x04", &bytes[..], b"PK\x05\x06"].concat() } else { bytes };
        prop_assert!(load(&bytes).is_err());
    }

    /// A right package with a few bytes changed, cut or doubled: it is refused, or it is still the images that it was.
    #[test]
    fn any_edit(at in 0..2000_usize, edit in prop::collection::vec(any::<u8>(), 0..4), remove in 0..4_usize) {
        let mut bytes = two();
        let hashes: Vec<Vec<u8>> =
            load(&bytes).unwrap().members().iter().map(|member| member.image.hash().to_vec()).collect();
        let at = at % bytes.len();
        let until = (at + remove).min(bytes.len());
        bytes.splice(at..until, edit);
        if let Ok(set) = load(&bytes) {
            for member in set.members() {
                prop_assert!(hashes.iter().any(|hash| hash == member.image.hash()));
            }
        }
    }

    /// Any JSON as manifest.
    #[test]
    fn any_manifest(
        file in "[a-z.]{0,8}",
        values in prop::collection::vec(
            (
                prop::sample::select(vec![
                    "file", "image_index", "image", "slot", "size", "board", "type", "load_address", "modtime",
                    "version_MCUBOOT", "slot_index_primary",
                ]),
                prop_oneof![
                    any::<i64>().prop_map(|n| json!(n)),
                    any::<f64>().prop_map(|n| json!(n)),
                    ".{0,12}".prop_map(|text| json!(text)),
                    Just(json!(null)), Just(json!([{}])), Just(json!(true)),
                ],
            ),
            0..6,
        ),
        count in 0..4_usize,
    ) {
        let mut entry = json!({"file": file});
        entry.as_object_mut().unwrap().extend(values.into_iter().map(|(key, value)| (key.to_owned(), value)));
        let bytes = pack(&[("app.bin", &image("1.0.0")), ("manifest.json", &manifest(&json!(vec![entry; count])))]);
        if let Err(error) = load(&bytes) {
            let text = error.to_string();
            prop_assert!(!text.contains(char::is_control) && text.len() < 600, "{}", text);
        }
    }

    #[test]
    fn any_bytes_as_manifest(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let error = load(&pack(&[("manifest.json", &bytes)])).unwrap_err();
        prop_assert!(error.to_string().starts_with("manifest.json: "));
    }
}
