//! Damage: no bytes whatever crash the reader, and no changed image passes for another one.

use std::fs;

use flashfleet::image::{Flags, HashCheck, Image, ImageBuilder, Layout, TlvType};
use proptest::prelude::*;

/// A small image with every part there is.
fn whole() -> Vec<u8> {
    ImageBuilder::new()
        .version("1.2.3.4")
        .header_size(40)
        .payload(b"0123456789abcdef")
        .protected_tlv(TlvType::SEC_CNT, &[7, 0, 0, 0])
        .tlv(TlvType::KEYHASH, &[0x11; 32])
        .tlv(TlvType::ECDSA_SIG, &[0x22; 70])
        .build()
}

/// Every byte set to every other value. What the hash covers must be refused; the rest may pass only where the image
/// that would run is the same, and what passes is known by place.
#[test]
fn every_changed_byte_is_refused_or_changes_nothing_that_runs() {
    let original = whole();
    let image = Image::from_bytes(original.clone()).unwrap();
    let layout = image.layout();
    let keyhash = layout.tlv(TlvType::KEYHASH).unwrap().offset;

    for at in 0..original.len() {
        for value in (0..=u8::MAX).filter(|value| *value != original[at]) {
            let mut bytes = original.clone();
            bytes[at] = value;
            let Ok(changed) = Image::from_bytes(bytes) else { continue };
            assert!(at >= keyhash, "byte {at} as {value:#04x} passes");
            assert_eq!(changed.hash(), image.hash());
            assert_eq!(changed.header(), image.header());
            assert_eq!(changed.bytes()[..layout.hashed_length], original[..layout.hashed_length]);
            assert_ne!(changed.file_sha256(), image.file_sha256());
        }
    }
}

/// The same for an encrypted image, of which only the structure can be checked: it must never be called checked.
#[test]
fn no_change_makes_an_encrypted_image_pass_for_a_checked_one() {
    let mut original = ImageBuilder::new()
        .header_size(32)
        .payload(b"0123456789abcdef")
        .flags(Flags::ENCRYPTED_AES128)
        .tlv(TlvType::ENC_KW, &[0x11; 24])
        .build();
    original[32..48].fill(0x5a);
    for at in 0..original.len() {
        for bit in 0..8 {
            let mut bytes = original.clone();
            bytes[at] ^= 1 << bit;
            if let Ok(changed) = Image::from_bytes(bytes) {
                assert!(!changed.hash_checked(), "bit {bit} of byte {at}");
            }
        }
    }
}

#[test]
fn every_shorter_image_is_refused_as_truncated() {
    let bytes = whole();
    for length in 0..bytes.len() {
        let error = Image::from_bytes(bytes[..length].to_vec()).unwrap_err();
        let code = if length == 0 { "image.empty" } else { "image.truncated" };
        assert_eq!(error.code(), code, "{length} bytes: {error}");
        assert!(error.help().contains("again"), "{error}");
    }
}

#[test]
fn each_structural_fault_has_its_code() {
    let bytes = whole();
    let layout = Layout::parse(&bytes).unwrap();
    let protected = layout.payload().end;
    let area = layout.hashed_length;
    let cases: [(&str, Vec<(usize, u8)>); 7] = [
        ("image.tlv_missing", vec![(protected, 0x07)]),
        ("image.tlv_missing", vec![(area, 0x08)]),
        ("image.protected_tlv_size", vec![(10, 13)]),
        ("image.tlv_malformed", vec![(protected + 6, 3)]),
        ("image.hash_missing", vec![(area + 4, 0x13)]),
        ("image.hash_length", vec![(area + 4, 0x11)]),
        // The key hash's TLV becomes a second hash.
        ("image.hash_ambiguous", vec![(area + 4 + 36, 0x10)]),
    ];
    for (code, changes) in cases {
        let mut changed = bytes.clone();
        for (at, value) in changes {
            changed[at] = value;
        }
        assert_eq!(Image::from_bytes(changed).unwrap_err().code(), code);
    }
    // A hash in the area that it covers is none: it could not cover itself, and no device reads it.
    let covered = ImageBuilder::new().without_hash().protected_tlv(TlvType::SHA256, &[0; 32]).build();
    assert_eq!(Image::from_bytes(covered).unwrap_err().code(), "image.hash_missing");
    let none = ImageBuilder::new().without_hash().build();
    assert_eq!(Image::from_bytes(none).unwrap_err().code(), "image.hash_missing");
}

proptest! {
    #[test]
    fn any_bytes(bytes in prop::collection::vec(any::<u8>(), 0..600)) {
        let _ = Layout::parse(&bytes).map(|layout| layout.check_hash(&bytes));
        prop_assert!(Image::from_bytes(bytes).is_err());
    }

    /// A true magic, and everything after it at will.
    #[test]
    fn any_bytes_behind_the_magic(bytes in prop::collection::vec(any::<u8>(), 0..200), small in 0..80_u8) {
        let mut image = vec![0x3d, 0xb8, 0xf3, 0x96];
        image.extend_from_slice(&bytes);
        if image.len() > 18 {
            // Sizes that fit, so that the TLV areas are reached.
            image[8..12].copy_from_slice(&[32, 0, small & 1, 0]);
            image[12..16].copy_from_slice(&[small, 0, 0, 0]);
        }
        prop_assert!(Image::from_bytes(image).is_err());
    }

    /// A whole image with any part overwritten, cut or doubled: if it passes, its hash holds.
    #[test]
    fn any_edit(at in 0..300_usize, edit in prop::collection::vec(any::<u8>(), 0..8), remove in 0..8_usize) {
        let mut bytes = whole();
        let at = at.min(bytes.len());
        let until = (at + remove).min(bytes.len());
        bytes.splice(at..until, edit);
        if let Ok(image) = Image::from_bytes(bytes) {
            prop_assert_eq!(image.layout().check_hash(image.bytes()).unwrap(), HashCheck::Holds);
            prop_assert!(image.hash_checked());
        }
    }

    #[test]
    fn what_is_built_is_read(
        payload in prop::collection::vec(any::<u8>(), 1..500),
        (major, minor, revision, build) in any::<(u8, u8, u16, u32)>(),
        header_size in 32..1000_u16,
        protected in prop::collection::vec((0xa0..0x100_u16, prop::collection::vec(any::<u8>(), 0..20)), 0..4),
    ) {
        let version = flashfleet::image::Version::new(major, minor, revision, build);
        let mut builder = ImageBuilder::new().parsed_version(version).header_size(header_size).payload(&payload);
        for (kind, value) in &protected {
            builder = builder.protected_tlv(TlvType(*kind), value);
        }
        let image = Image::from_bytes(builder.build()).unwrap();
        prop_assert_eq!(image.parsed_version(), version);
        prop_assert_eq!(&image.bytes()[image.layout().payload()], &payload[..]);
        let read: Vec<_> = image.layout().protected.iter().map(|tlv| (tlv.kind.0, tlv.value.clone())).collect();
        prop_assert_eq!(read, protected);
    }

    /// Text that looks like Intel HEX, whatever it says, is read or refused.
    #[test]
    fn any_intel_hex(lines in prop::collection::vec("(:[0-9A-F]{8,30}|:0[0-4]0000040000FA|.{0,20})", 0..20)) {
        let file = tempfile::Builder::new().suffix(".hex").tempfile().unwrap();
        fs::write(file.path(), lines.join("\n")).unwrap();
        let error = Image::load(file.path()).unwrap_err();
        prop_assert!(error.code().starts_with("image."));
    }
}
