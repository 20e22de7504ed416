//! An MCUboot image from a stranger: header, TLVs, trailer, signature. A hash that does not hold is put right, so that what
//! comes behind it is reached.

#![no_main]

use std::sync::LazyLock;

use flashfleet::cause::Cause;
use flashfleet::image::{HashCheck, Image, Inspection, Layout, PublicKey};
use libfuzzer_sys::fuzz_target;

static KEYS: LazyLock<Vec<PublicKey>> = LazyLock::new(|| {
    [
        include_str!("../../data/images/ecdsa-p256.pub.pem"),
        include_str!("../../data/images/ecdsa-p384.pub.pem"),
        include_str!("../../data/images/ed25519.pub.pem"),
        include_str!("../../data/images/rsa-2048.pub.pem"),
    ]
    .into_iter()
    .map(|pem| PublicKey::from_pem(pem).expect("a key"))
    .collect()
});

fuzz_target!(|data: &[u8]| {
    let mut bytes = data.to_vec();
    if let Ok(layout) = Layout::parse(&bytes) {
        for (_, tlv) in layout.tlvs() {
            let _ = format!("{tlv:?} {}", tlv.kind);
        }
        let _ = (layout.dependencies().count(), layout.security_counter(), layout.payload());
        if let (Ok(hash), Ok(HashCheck::Mismatch { computed })) = (layout.hash(), layout.check_hash(&bytes)) {
            bytes[hash.offset..hash.offset + computed.len()].copy_from_slice(&computed);
        }
    }
    let inspection = Inspection::of_file_content(bytes.clone());
    let _ = format!("{inspection:?}");
    match Image::from_bytes(bytes.clone()) {
        Ok(image) => {
            // What is uploaded is the image itself, and reads as it did.
            let uploaded = Image::from_bytes(image.bytes().to_vec()).expect("an image once more");
            assert_eq!(uploaded.hash(), image.hash());
            assert_eq!(uploaded.padding(), 0);
            assert!(bytes.starts_with(image.bytes()));
            for key in KEYS.iter() {
                // No key of ours has signed it, unless it is a seed.
                let _ = image.verify(key).map_err(|error| Cause::from(error).to_string());
            }
        }
        Err(error) => {
            let cause = Cause::from(error);
            assert!(cause.code.starts_with("image.") && !cause.help.is_empty(), "{cause:?}");
        }
    }
});
