//! Whether an image is signed with a key, as MCUboot's `bootutil_img_validate` asks it.

use p256::ecdsa::signature::hazmat::PrehashVerifier;

use super::checked::Image;
use super::error::{Fault, ImageError};
use super::hash::HashKind;
use super::key::{Key, PublicKey};
use super::tlv::{Tlv, TlvType};

impl Image {
    /// Checks that the image is signed with a key.
    ///
    /// The signature covers the image's hash, or with a SIG_PURE TLV the image itself. Where a KEYHASH or PUBKEY TLV
    /// stands before a signature it must be this key's. An image may have several signatures: one must hold. For
    /// encrypted images the hash TLV is what is proven: see [`Image::hash_checked`].
    ///
    /// # Errors
    ///
    /// `image.not_signed`; `image.signature_kind` where the signatures are of other kinds than the key;
    /// `image.signature_hash` where the key does not go with the image's hash; `image.key_mismatch` where another key
    /// signed; `image.signature_invalid`; `image.signature_uncheckable` for a pure signature of an encrypted image.
    pub fn verify(&self, key: &PublicKey) -> Result<(), ImageError> {
        let tlvs = &self.layout().unprotected;
        let kind = key.signature_tlv();
        let kinds: Vec<TlvType> =
            tlvs.iter().map(|tlv| tlv.kind).filter(|kind| kind.is_signature()).collect();
        if kinds.is_empty() {
            return Err(Fault::NotSigned.into());
        }
        if !kinds.contains(&kind) {
            return Err(Fault::SignatureKind { key: key.to_string(), expected: kind, got: kinds }.into());
        }
        let hash = self.image_hash();
        if let Some(expected) = key.required_hash()
            && expected != hash.kind
        {
            return Err(Fault::SignatureHash { key: key.to_string(), expected, got: hash.kind }.into());
        }
        // Only Ed25519 has another form for it: the others hash the image themselves, and that is the image's hash.
        let pure = matches!(key.key, Key::Ed25519(_)) && tlvs.iter().any(|tlv| tlv.kind == TlvType::SIG_PURE);
        if pure && !self.hash_checked() {
            return Err(Fault::SignatureUncheckable.into());
        }
        let message = if pure {
            self.bytes().get(..self.layout().hashed_length).unwrap_or_default()
        } else {
            hash.value.as_slice()
        };

        let mut failed: Option<Fault> = None;
        let mut names_other: Option<Fault> = None;
        for tlv in tlvs {
            match tlv.kind {
                TlvType::KEYHASH => names_other = mismatch(tlv, hash.kind.digest(&key.encoded)),
                TlvType::PUBKEY => names_other = mismatch(tlv, key.encoded.clone()),
                // The key that was named goes with the one signature behind it.
                of if of.is_signature() => match names_other.take() {
                    Some(fault) if of == kind => failed = failed.or(Some(fault)),
                    None if of == kind && key.accepts(message, &tlv.value) => return Ok(()),
                    None if of == kind => {
                        failed =
                            Some(Fault::SignatureInvalid { key: key.to_string(), kind, offset: tlv.offset });
                    }
                    _ => {}
                },
                _ => {}
            }
        }
        Err(failed.unwrap_or(Fault::NotSigned).into())
    }
}

/// The fault where a TLV names another key.
fn mismatch(tlv: &Tlv, expected: Vec<u8>) -> Option<Fault> {
    (tlv.value != expected).then(|| Fault::KeyMismatch {
        tlv: tlv.kind,
        offset: tlv.offset,
        expected,
        got: tlv.value.clone(),
    })
}

impl PublicKey {
    /// The TLV that holds a signature of this kind of key.
    fn signature_tlv(&self) -> TlvType {
        match self.key {
            Key::P256(_) | Key::P384(_) => TlvType::ECDSA_SIG,
            Key::Ed25519(_) => TlvType::ED25519,
            Key::Rsa { bits: 2048, .. } => TlvType::RSA2048_PSS,
            Key::Rsa { .. } => TlvType::RSA3072_PSS,
        }
    }

    /// The image hash that goes with it: ECDSA and RSA sign the hash as their own. Ed25519 takes each as a message.
    fn required_hash(&self) -> Option<HashKind> {
        match self.key {
            Key::P256(_) | Key::Rsa { .. } => Some(HashKind::Sha256),
            Key::P384(_) => Some(HashKind::Sha384),
            Key::Ed25519(_) => None,
        }
    }

    /// Whether `signature` is one of this key over `message`: a digest, except for Ed25519.
    fn accepts(&self, message: &[u8], signature: &[u8]) -> bool {
        match &self.key {
            Key::P256(key) => unpadded(signature)
                .and_then(|der| p256::ecdsa::Signature::from_der(der).ok())
                .is_some_and(|signature| key.verify_prehash(message, &signature).is_ok()),
            Key::P384(key) => unpadded(signature)
                .and_then(|der| p384::ecdsa::Signature::from_der(der).ok())
                .is_some_and(|signature| key.verify_prehash(message, &signature).is_ok()),
            Key::Ed25519(key) => ed25519_dalek::Signature::from_slice(signature)
                .is_ok_and(|signature| key.verify_strict(message, &signature).is_ok()),
            Key::Rsa { key, bits } => {
                signature.len() * 8 == *bits
                    && rsa::pss::Signature::try_from(signature)
                        .is_ok_and(|signature| key.verify_prehash(message, &signature).is_ok())
            }
        }
    }
}

/// An ECDSA signature in DER, without the zeros that `imgtool sign --pad-sig` puts behind it for old bootloaders. All
/// signatures up to P-384 have the short form of the length, in one byte.
fn unpadded(signature: &[u8]) -> Option<&[u8]> {
    let length = usize::from(*signature.get(1)?);
    let (der, padding) = signature.split_at_checked(2 + length)?;
    (length < 0x80 && padding.iter().all(|byte| *byte == 0)).then_some(der)
}
