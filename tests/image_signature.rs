//! Images that imgtool made and signed (`tests/data/images/generate.sh`): read whole, and verified with the key that
//! signed them only.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::fs;
use std::path::{Path, PathBuf};

use flashfleet::cause::Class;
use flashfleet::image::{
    Flags, HashKind, Image, ImageBuilder, ImageError, Origin, PublicKey, TLV_HEADER_SIZE, TlvType, Version,
};
use rstest::rstest;

fn path(name: &str) -> PathBuf {
    Path::new("tests/data/images").join(name)
}

fn image(name: &str) -> Image {
    Image::load(&path(name)).unwrap()
}

fn key(name: &str) -> PublicKey {
    PublicKey::load(&path(name)).unwrap()
}

/// The same image with its bytes changed by `edit`; the hash must still hold.
fn edited(name: &str, edit: impl FnOnce(&mut Vec<u8>)) -> Image {
    let mut bytes = fs::read(path(name)).unwrap();
    edit(&mut bytes);
    Image::from_bytes(bytes).unwrap()
}

fn code(result: Result<(), ImageError>) -> &'static str {
    result.map_or_else(|error| error.code(), |()| "ok")
}

const SIGNED: [(&str, &str, TlvType); 10] = [
    ("ecdsa-p256.bin", "ecdsa-p256.pub.pem", TlvType::ECDSA_SIG),
    ("ecdsa-p256-padded-signature.bin", "ecdsa-p256.pub.pem", TlvType::ECDSA_SIG),
    ("ecdsa-p256-full-key.bin", "ecdsa-p256.pub.pem", TlvType::ECDSA_SIG),
    ("ecdsa-p256-clear.bin", "ecdsa-p256.pub.pem", TlvType::ECDSA_SIG),
    ("ecdsa-p384.bin", "ecdsa-p384.pub.pem", TlvType::ECDSA_SIG),
    ("ed25519.bin", "ed25519.pub.pem", TlvType::ED25519),
    ("ed25519-sha512.bin", "ed25519.pub.pem", TlvType::ED25519),
    ("ed25519-pure.bin", "ed25519.pub.pem", TlvType::ED25519),
    ("rsa-2048.bin", "rsa-2048.pub.pem", TlvType::RSA2048_PSS),
    ("rsa-3072.bin", "rsa-3072.pub.pem", TlvType::RSA3072_PSS),
];

const KEYS: [&str; 6] = [
    "ecdsa-p256.pub.pem",
    "ecdsa-p384.pub.pem",
    "ed25519.pub.pem",
    "rsa-2048.pub.pem",
    "rsa-3072.pub.pem",
    "other.pub.pem",
];

#[test]
fn each_image_verifies_with_its_own_key_only() {
    for (name, own, _) in SIGNED {
        let image = image(name);
        assert!(image.hash_checked(), "{name}");
        for other in KEYS {
            let got = code(image.verify(&key(other)));
            let expected = match (own, other) {
                _ if own == other => "ok",
                // ECDSA_SIG does not say which curve: the hash does.
                ("ecdsa-p256.pub.pem", "ecdsa-p384.pub.pem")
                | ("ecdsa-p384.pub.pem", "ecdsa-p256.pub.pem" | "other.pub.pem") => "image.signature_hash",
                ("ecdsa-p256.pub.pem", "other.pub.pem") => "image.key_mismatch",
                _ => "image.signature_kind",
            };
            assert_eq!(got, expected, "{name} with {other}");
        }
    }
}

/// A bit in each byte of what names the key, and in bytes all over the signature, the last one included.
#[test]
fn no_changed_signature_or_key_verifies() {
    for (name, own, kind) in SIGNED {
        let key = key(own);
        let image = image(name);
        for (changed, expected) in [
            (kind, "image.signature_invalid"),
            (TlvType::KEYHASH, "image.key_mismatch"),
            (TlvType::PUBKEY, "image.key_mismatch"),
        ] {
            let Some(tlv) = image.layout().tlv(changed) else { continue };
            let step = if changed == kind { tlv.value.len() / 16 } else { 1 };
            for at in (0..tlv.value.len()).rev().step_by(step) {
                let at = tlv.offset + TLV_HEADER_SIZE + at;
                let changed = edited(name, |bytes| bytes[at] ^= 0x10);
                assert_eq!(code(changed.verify(&key)), expected, "{name}, byte {at:#x}");
            }
        }
    }
}

/// A signature that is true, but of another image.
#[test]
fn a_signature_of_another_image_does_not_verify() {
    for (name, own, kind) in SIGNED {
        let original = image(name);
        let kept: Vec<_> =
            original.layout().unprotected.iter().filter(|tlv| HashKind::of_tlv(tlv.kind).is_none()).collect();
        let mut builder = ImageBuilder::new().hash(original.image_hash().kind).payload(b"other firmware");
        if original.header().flags.is_encrypted() {
            builder = builder.flags(original.header().flags);
        }
        for tlv in &kept {
            builder = builder.tlv(tlv.kind, &tlv.value);
        }
        let error = Image::from_bytes(builder.build()).unwrap().verify(&key(own)).unwrap_err();
        assert_eq!((error.code(), error.class()), ("image.signature_invalid", Class::Image), "{name}");
        assert!(error.to_string().contains(&kind.to_string()), "{error}");
    }
}

#[test]
fn an_unsigned_image_is_not_signed() {
    for name in ["protected.bin", "padded.bin", "sha384.bin"] {
        assert_eq!(code(image(name).verify(&key("ecdsa-p256.pub.pem"))), "image.not_signed");
    }
}

/// MCUboot with a built-in key has no TLV that names it.
#[test]
fn a_signature_without_a_named_key_verifies() {
    let original = image("ecdsa-p256.bin");
    let signature = original.layout().tlv(TlvType::ECDSA_SIG).unwrap();
    let firmware = &original.bytes()[original.layout().payload()];
    let rebuilt =
        ImageBuilder::new().parsed_version(original.parsed_version()).header_size(0x20).payload(firmware);
    let unnamed =
        Image::from_bytes(rebuilt.clone().tlv(TlvType::ECDSA_SIG, &signature.value).build()).unwrap();
    assert_eq!(unnamed.hash(), original.hash());
    assert_eq!(code(unnamed.verify(&key("ecdsa-p256.pub.pem"))), "ok");
    assert_eq!(code(unnamed.verify(&key("other.pub.pem"))), "image.signature_invalid");

    // A second signature, of another key: either is enough, and the name goes with the one behind it.
    let twice = rebuilt
        .tlv(TlvType::KEYHASH, &[0x11; 32])
        .tlv(TlvType::ECDSA_SIG, &[0x22; 70])
        .tlv(TlvType::ECDSA_SIG, &signature.value);
    let twice = Image::from_bytes(twice.build()).unwrap();
    assert_eq!(code(twice.verify(&key("ecdsa-p256.pub.pem"))), "ok");
    assert_eq!(code(twice.verify(&key("other.pub.pem"))), "image.signature_invalid");
}

#[test]
fn an_encrypted_image_is_proven_by_its_hash() {
    let image = image("ecdsa-p256-encrypted.bin");
    assert!(image.header().flags.contains(Flags::ENCRYPTED_AES128));
    assert!(!image.hash_checked());
    assert_eq!(code(image.verify(&key("ecdsa-p256.pub.pem"))), "ok");

    let hash = image.image_hash().offset;
    let changed = edited("ecdsa-p256-encrypted.bin", |bytes| bytes[hash] ^= 1);
    assert_eq!(code(changed.verify(&key("ecdsa-p256.pub.pem"))), "image.signature_invalid");
}

#[test]
fn a_pure_signature_of_an_encrypted_image_cannot_be_checked() {
    let mut bytes = ImageBuilder::new()
        .header_size(32)
        .flags(Flags::ENCRYPTED_AES128)
        .tlv(TlvType::ENC_X25519, &[1; 80])
        .tlv(TlvType::SIG_PURE, &[1])
        .tlv(TlvType::ED25519, &[2; 64])
        .build();
    bytes[32] ^= 1;
    let image = Image::from_bytes(bytes).unwrap();
    assert_eq!(code(image.verify(&key("ed25519.pub.pem"))), "image.signature_uncheckable");
}

#[test]
fn everything_that_imgtool_writes_is_read() {
    let image = image("protected.bin");
    assert_eq!(image.parsed_version(), Version::new(1, 2, 3, 4));
    assert_eq!((image.header().flags, image.header().load_address), (Flags::ROM_FIXED, 0xc200));
    let meaning = |kind| image.layout().tlv(kind).unwrap().meaning();
    assert_eq!(meaning(TlvType::SEC_CNT).unwrap(), "513");
    assert_eq!(meaning(TlvType::DEPENDENCY).unwrap(), "image 1, version 2.3.4.5 or later");
    // `uuid5(NAMESPACE_DNS, "example.org")`.
    assert_eq!(meaning(TlvType::UUID_VID).unwrap(), "aad03681-8b63-5304-89e0-8ca8f49461b5");
    assert!(
        image.layout().tlv(TlvType::UUID_CID).is_some() && image.layout().tlv(TlvType::BOOT_RECORD).is_some()
    );
    assert_eq!(image.layout().tlv(TlvType(0x01a0)).unwrap().value, [0xab, 0xcd]);
    assert!(image.layout().protected.len() == 6 && image.layout().unprotected.len() == 1);
}

#[test]
fn imgtools_padding_is_dropped_from_both_forms() {
    let (binary, hex) = (image("padded.bin"), image("padded.hex"));
    assert_eq!(binary.bytes(), hex.bytes());
    assert_eq!(binary.bytes().len() + binary.padding(), 0x600);
    assert_eq!(hex.origin(), Origin::IntelHex { address: 0xc000, alone: false });
    assert_eq!(image("sha384.bin").image_hash().kind, HashKind::Sha384);
}

/// The builder writes what imgtool writes.
#[test]
fn the_builder_writes_the_same_bytes() {
    let original = image("sha384.bin");
    let built = ImageBuilder::new()
        .version("1.2.3+4")
        .header_size(0x20)
        .payload(&original.bytes()[original.layout().payload()])
        .hash(HashKind::Sha384)
        .build();
    assert_eq!(built, **original.bytes());
}

const P256_PRIVATE: &str = "-----BEGIN EC PRIVATE KEY-----\nMHcCAQEE\n-----END EC PRIVATE KEY-----\n";

#[rstest]
#[case::empty("", "image.key_invalid")]
#[case::noise("hello", "image.key_invalid")]
#[case::cut("-----BEGIN PUBLIC KEY-----\nMFkwEwYHKoZI", "image.key_invalid")]
#[case::no_key("-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n", "image.key_invalid")]
#[case::private(P256_PRIVATE, "image.key_private")]
#[case::certificate(
    "-----BEGIN CERTIFICATE-----\nMAA=\n-----END CERTIFICATE-----\n",
    "image.key_unsupported"
)]
// SubjectPublicKeyInfo of X25519 (RFC 8410, 1.3.101.110).
#[case::x25519(
    "-----BEGIN PUBLIC KEY-----\nMCowBQYDK2VuAyEAERERERERERERERERERERERERERERERERERERERERERE=\n-----END PUBLIC KEY-----\n",
    "image.key_unsupported"
)]
// SubjectPublicKeyInfo on secp256k1 (1.3.132.0.10).
#[case::secp256k1(
    "-----BEGIN PUBLIC KEY-----\nMFYwEAYHKoZIzj0CAQYFK4EEAAoDQgAEcw9HIFoCOONVXpKLQRFk+rHXq8zqj090\ntlSp4LQYtCWm3COwypMJRXoRo5jYoCTqtAQSxxA4rM13cX9FSJICug==\n-----END PUBLIC KEY-----\n",
    "image.key_unsupported"
)]
#[case::rsa_1024(
    "-----BEGIN PUBLIC KEY-----\nMIGfMA0GCSqGSIb3DQEBAQUAA4GNADCBiQKBgQCrLEUaiZrVfyCxa6VzvocC7sZc\neHRwxggCJHW5uCRG7FOhSIEx8uGCJj92zcdSklCgv/zpN6zhnFsbjelqmh99CfT2\nahZbTuSrNcNrQVsCyEXcAwR8/l+idWKFnfvNVvCWU40tSdg1qZ4XfuFuRPZqCChG\nMq9wSqHUTiaoh29eRQIDAQAB\n-----END PUBLIC KEY-----\n",
    "image.key_unsupported"
)]
fn what_is_no_public_key(#[case] text: &str, #[case] expected: &str) {
    let error = PublicKey::from_pem(text).unwrap_err();
    assert_eq!((error.code(), error.class()), (expected, Class::Plan), "{error}");
    assert!(!error.help().is_empty());
}

/// The other form of RSA keys in PEM.
#[test]
fn an_rsa_key_in_pkcs1() {
    let text = "-----BEGIN RSA PUBLIC KEY-----\nMIIBCgKCAQEA2e05yGoKcwp2zQxU8KPu2AbW6iAjJnrWW5Of1pUN3clTvxAmP8j8\nWLeN+vpNp7gU6+5tpxn+uP3v00XpE6+cTw1a/2e9WM2h1WwUbvGOTugz4Qcc26mD\nkhcZB1wLdI9ZEaqjVGUvs57l9lGeqq5N0gaToAoCaBLt1pMgKG0GOJXZ9qtDBTI6\n5kG2VFUEl1Po/5Jq0zsa+JAWlxnaKH0j8eD56C9TAbc82ikppYFmpwUL2NouABGW\ncdog7b1kaTe1PLt5/XS4YnIW2Dh29aPAztlPBt63LobMG6kVsWzMjN8Z5y7GwTpr\ntk2t6UTNpUV5GWHDj6brd18W5CQYmvgsowIDAQAB\n-----END RSA PUBLIC KEY-----\n";
    assert_eq!(code(image("rsa-2048.bin").verify(&PublicKey::from_pem(text).unwrap())), "ok");
}

#[test]
fn key_files_that_cannot_be_read() {
    let error = PublicKey::load(Path::new("missing.pem")).unwrap_err();
    assert_eq!(error.code(), "image.file_missing");
    assert!(error.to_string().contains("public key"), "{error}");
    assert_eq!(PublicKey::load(Path::new("tests")).unwrap_err().code(), "image.not_a_file");
    assert_eq!(PublicKey::load(&path("rsa-2048.bin")).unwrap_err().code(), "image.key_invalid");
    let huge = tempfile::NamedTempFile::new().unwrap();
    huge.as_file().set_len(1 << 20).unwrap();
    let error = PublicKey::load(huge.path()).unwrap_err();
    assert_eq!(error.code(), "image.too_large");
    assert!(error.help().contains("public key"), "{}", error.help());
    // Line ends of another system.
    let text = fs::read_to_string(path("ed25519.pub.pem")).unwrap().replace('\n', "\r\n");
    assert_eq!(PublicKey::from_pem(&text).unwrap().to_string(), "Ed25519");
}
