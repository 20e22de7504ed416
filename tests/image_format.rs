//! The image format, through the public interface: built images read back, and every damaged one is refused.

use flashfleet::image::{Flags, HashKind, Image, ImageBuilder, Layout, TlvType, Version};
use rstest::rstest;
use sha2::{Digest, Sha256};

const PAYLOAD: &[u8] = b"0123456789abcdef";

fn builder() -> ImageBuilder {
    ImageBuilder::new().version("1.2.3.4").header_size(32).payload(PAYLOAD)
}

fn code(bytes: &[u8]) -> &'static str {
    Image::from_bytes(bytes.to_vec()).map_or_else(|error| error.code(), |_| "ok")
}

/// The whole image by hand, so that builder and reader cannot agree on a wrong layout.
#[test]
fn golden_image() {
    let mut golden = vec![
        0x3d, 0xb8, 0xf3, 0x96, 0, 0, 0, 0, 32, 0, 12, 0, 16, 0, 0, 0, // magic, load address, sizes
        0, 0, 0, 0, 1, 2, 3, 0, 4, 0, 0, 0, 0, 0, 0, 0, // flags, version, padding
    ];
    golden.extend_from_slice(PAYLOAD);
    golden.extend_from_slice(&[0x08, 0x69, 12, 0, 0x50, 0, 4, 0, 7, 0, 0, 0]); // protected: SEC_CNT 7
    let hash = Sha256::digest(&golden);
    golden.extend_from_slice(&[0x07, 0x69, 40, 0, 0x10, 0, 32, 0]);
    golden.extend_from_slice(&hash);

    let built = builder().protected_tlv(TlvType::SEC_CNT, &[7, 0, 0, 0]).build();
    assert_eq!(built, golden);

    let image = Image::from_bytes(golden.clone()).unwrap();
    assert_eq!(**image.bytes(), *golden);
    assert_eq!(image.hash(), hash.as_slice());
    assert_eq!(image.file_sha256().as_slice(), Sha256::digest(&golden).as_slice());
    assert_eq!(image.source_sha256(), image.file_sha256());
    assert_eq!(image.version(), "1.2.3.4");
    assert_eq!(image.parsed_version(), Version::new(1, 2, 3, 4));
    assert!(image.hash_checked());
    assert_eq!(&golden[image.layout().payload()], PAYLOAD);
    assert_eq!(image.layout().length, golden.len());
}

#[rstest]
#[case(HashKind::Sha256, 32)]
#[case(HashKind::Sha384, 48)]
#[case(HashKind::Sha512, 64)]
fn every_hash_is_checked(#[case] kind: HashKind, #[case] length: usize) {
    let bytes = builder().hash(kind).build();
    let image = Image::from_bytes(bytes.clone()).unwrap();
    assert_eq!(image.image_hash().kind, kind);
    assert_eq!(image.hash().len(), length);

    let mut changed = bytes;
    changed[40] ^= 1;
    assert_eq!(code(&changed), "image.hash_mismatch");
}

#[test]
fn an_encrypted_image_is_kept_but_not_called_checked() {
    let encrypted = builder().flags(Flags::ENCRYPTED_AES128).tlv(TlvType::ENC_EC256, &[1; 113]);
    let mut bytes = encrypted.clone().build();
    assert!(Image::from_bytes(bytes.clone()).unwrap().hash_checked(), "`imgtool sign --clear`");
    bytes[32..48].fill(0x5a);
    assert!(!Image::from_bytes(bytes).unwrap().hash_checked());
    assert_eq!(code(&builder().flags(Flags::ENCRYPTED_AES128).build()), "image.encryption_key_missing");
}

#[test]
fn a_slot_is_taken_apart_whatever_follows_the_image() {
    let image = builder().build();
    let mut slot = image.clone();
    slot.extend_from_slice(&[0x33; 100]);
    assert_eq!(Layout::parse(&slot).unwrap(), Layout::parse(&image).unwrap());
    assert_eq!(code(&slot), "image.trailing_bytes");
}
