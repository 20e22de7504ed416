//! Public keys that images are signed with: read from PEM, and in the form in which MCUboot hashes them.

use std::fmt;
use std::io::Read;
use std::path::Path;

use ed25519_dalek::pkcs8::{DecodePublicKey, EncodePublicKey};
use p256::pkcs8::{Document, ObjectIdentifier, SubjectPublicKeyInfoRef};
use rsa::PublicKey as RsaPublicKey;
use rsa::pkcs1::{DecodeRsaPublicKey, EncodeRsaPublicKey};
use rsa::pss::VerifyingKey as RsaPssKey;
use rsa::traits::PublicKeyParts;
use sha2::Sha256;

use super::error::{Fault, ImageError};
use super::load::open;

/// Largest key file, in bytes. A 3072 bit RSA key in PEM has 625.
const MAX_KEY_SIZE: u64 = 64 << 10;

/// Object identifiers: RFC 5480 (elliptic curves), RFC 8410 (Ed25519), RFC 8017 (RSA).
const EC_PUBLIC_KEY: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.10045.2.1");
const CURVE_P256: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.10045.3.1.7");
const CURVE_P384: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.132.0.34");
const ED25519: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.101.112");
const RSA_ENCRYPTION: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.1.1");

/// A public key of a kind that MCUboot knows.
#[derive(Debug, Clone)]
pub struct PublicKey {
    pub(super) key: Key,
    /// What the KEYHASH TLV is the hash of, and what a PUBKEY TLV holds: SubjectPublicKeyInfo, for RSA PKCS#1 (both
    /// in DER), as imgtool's `get_public_bytes`.
    pub(super) encoded: Vec<u8>,
}

#[derive(Debug, Clone)]
pub(super) enum Key {
    P256(p256::ecdsa::VerifyingKey),
    P384(p384::ecdsa::VerifyingKey),
    Ed25519(ed25519_dalek::VerifyingKey),
    /// MCUboot's RSA signatures are PSS with SHA-256 and a salt as long as the hash.
    Rsa {
        key: RsaPssKey<Sha256>,
        bits: usize,
    },
}

impl PublicKey {
    /// Reads a key from a PEM file.
    ///
    /// # Errors
    ///
    /// Each names the file: `image.file_missing`, `image.file_unreadable`, `image.not_a_file`, `image.too_large`, and
    /// those of [`PublicKey::from_pem`].
    pub fn load(path: &Path) -> Result<Self, ImageError> {
        let load = || {
            let mut bytes = Vec::new();
            let file = open(path, MAX_KEY_SIZE, "a public key")?;
            file.take(MAX_KEY_SIZE)
                .read_to_end(&mut bytes)
                .map_err(|error| Fault::FileUnreadable { what: "a public key", reason: error.to_string() })?;
            match String::from_utf8(bytes) {
                Ok(text) => Self::from_pem(&text),
                Err(_) => Err(Fault::KeyInvalid { reason: "it is no text".into() }.into()),
            }
        };
        load().map_err(|error: ImageError| error.in_file(path))
    }

    /// Reads a key from PEM: `PUBLIC KEY` (RFC 7468) or `RSA PUBLIC KEY` (PKCS#1).
    ///
    /// # Errors
    ///
    /// `image.key_private` for a private key, `image.key_unsupported` for a kind that MCUboot does not know,
    /// `image.key_invalid` for everything else.
    pub fn from_pem(text: &str) -> Result<Self, ImageError> {
        // A private key is told before it is decoded: it may be encrypted.
        if let Some(label) = label(text)
            && label.ends_with("PRIVATE KEY")
        {
            return Err(Fault::KeyPrivate { label: label.to_owned() }.into());
        }
        let (label, document) = Document::from_pem(text).map_err(invalid)?;
        match label {
            "PUBLIC KEY" => Self::from_spki(document.as_bytes()),
            "RSA PUBLIC KEY" => {
                Self::rsa(RsaPublicKey::from_pkcs1_der(document.as_bytes()).map_err(invalid)?)
            }
            other => Err(Fault::KeyUnsupported { got: format!("`{other}` in PEM") }.into()),
        }
    }

    fn from_spki(der: &[u8]) -> Result<Self, ImageError> {
        let (algorithm, parameters) = {
            let info = SubjectPublicKeyInfoRef::try_from(der).map_err(invalid)?;
            let curve = info.algorithm.parameters.and_then(|any| any.decode_as::<ObjectIdentifier>().ok());
            (info.algorithm.oid, curve)
        };
        match (algorithm, parameters) {
            (EC_PUBLIC_KEY, Some(CURVE_P256)) => {
                let key = p256::ecdsa::VerifyingKey::from_public_key_der(der).map_err(invalid)?;
                Ok(Self { encoded: spki(&key)?, key: Key::P256(key) })
            }
            (EC_PUBLIC_KEY, Some(CURVE_P384)) => {
                let key = p384::ecdsa::VerifyingKey::from_public_key_der(der).map_err(invalid)?;
                Ok(Self { encoded: spki(&key)?, key: Key::P384(key) })
            }
            (ED25519, _) => {
                let key = ed25519_dalek::VerifyingKey::from_public_key_der(der).map_err(invalid)?;
                Ok(Self { encoded: spki(&key)?, key: Key::Ed25519(key) })
            }
            (RSA_ENCRYPTION, _) => Self::rsa(RsaPublicKey::from_public_key_der(der).map_err(invalid)?),
            (EC_PUBLIC_KEY, curve) => {
                let curve = curve.map_or_else(|| "without a name".into(), |oid| oid.to_string());
                Err(Fault::KeyUnsupported { got: format!("a key on the curve {curve}") }.into())
            }
            (other, _) => {
                Err(Fault::KeyUnsupported { got: format!("a key of the algorithm {other}") }.into())
            }
        }
    }

    fn rsa(key: RsaPublicKey) -> Result<Self, ImageError> {
        let bits = key.size() * 8;
        if !matches!(bits, 2048 | 3072) {
            return Err(Fault::KeyUnsupported { got: format!("an RSA key of {bits} bits") }.into());
        }
        let encoded = key.to_pkcs1_der().map_err(invalid)?.as_bytes().to_vec();
        Ok(Self { encoded, key: Key::Rsa { key: RsaPssKey::new(key), bits } })
    }
}

/// The kind of key, for messages.
impl fmt::Display for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.key {
            Key::P256(_) => f.write_str("ECDSA P-256"),
            Key::P384(_) => f.write_str("ECDSA P-384"),
            Key::Ed25519(_) => f.write_str("Ed25519"),
            Key::Rsa { bits, .. } => write!(f, "RSA {bits}"),
        }
    }
}

/// What stands between `-----BEGIN ` and `-----` in the first such line.
fn label(text: &str) -> Option<&str> {
    text.lines().find_map(|line| line.trim().strip_prefix("-----BEGIN ")?.strip_suffix("-----"))
}

fn spki(key: &impl EncodePublicKey) -> Result<Vec<u8>, ImageError> {
    Ok(key.to_public_key_der().map_err(invalid)?.as_bytes().to_vec())
}

fn invalid(error: impl fmt::Display) -> ImageError {
    Fault::KeyInvalid { reason: error.to_string() }.into()
}
