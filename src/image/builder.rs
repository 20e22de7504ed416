//! Makes unsigned MCUboot images: for tests, benches and simulated devices, which need firmware and have no imgtool.

use super::hash::HashKind;
use super::header::{Flags, Header};
use super::tlv::{PROTECTED_TLV_MAGIC, TLV_INFO_SIZE, TLV_MAGIC, Tlv, TlvType};
use super::version::Version;

/// Length of header and padding that Zephyr uses by default (`ROM_START_OFFSET` with MCUboot), in bytes.
const DEFAULT_HEADER_SIZE: u16 = 0x200;

/// Builds an image as `imgtool sign` without a key would.
///
/// ```
/// use flashfleet::image::{Image, ImageBuilder};
///
/// let bytes = ImageBuilder::new().version("1.2.3").payload(b"firmware").build();
/// let image = Image::from_bytes(bytes)?;
/// assert_eq!(image.version(), "1.2.3");
/// # Ok::<(), flashfleet::image::ImageError>(())
/// ```
#[derive(Debug, Clone)]
pub struct ImageBuilder {
    version: Version,
    header_size: u16,
    load_address: u32,
    flags: Flags,
    payload: Vec<u8>,
    hash: Option<HashKind>,
    protected: Vec<(TlvType, Vec<u8>)>,
    unprotected: Vec<(TlvType, Vec<u8>)>,
}

impl Default for ImageBuilder {
    fn default() -> Self {
        Self::new()
    }
}

impl ImageBuilder {
    /// Version 0.0.0, a header of 0x200 bytes, four bytes of firmware, SHA-256, no flags, no further TLVs.
    #[must_use]
    pub fn new() -> Self {
        Self {
            version: Version::default(),
            header_size: DEFAULT_HEADER_SIZE,
            load_address: 0,
            flags: Flags::default(),
            payload: vec![0; 4],
            hash: Some(HashKind::Sha256),
            protected: Vec::new(),
            unprotected: Vec::new(),
        }
    }

    /// The version, from a text that is known to be one.
    ///
    /// # Panics
    ///
    /// Where it is none: text from outside goes through [`Version`] and [`ImageBuilder::parsed_version`].
    #[must_use]
    pub fn version(self, text: &str) -> Self {
        match text.parse() {
            Ok(version) => self.parsed_version(version),
            Err(error) => panic!("{error}"),
        }
    }

    /// The version.
    #[must_use]
    pub fn parsed_version(self, version: Version) -> Self {
        Self { version, ..self }
    }

    /// The firmware. An empty one makes an image that is refused, as MCUboot could not boot it.
    #[must_use]
    pub fn payload(self, payload: &[u8]) -> Self {
        Self { payload: payload.to_vec(), ..self }
    }

    /// Length of the header with its padding, in bytes; less than 32 makes an image that is refused.
    #[must_use]
    pub fn header_size(self, header_size: u16) -> Self {
        Self { header_size, ..self }
    }

    /// The load address. The flags say what it means.
    #[must_use]
    pub fn load_address(self, load_address: u32) -> Self {
        Self { load_address, ..self }
    }

    /// The flags. They are only written down: nothing is encrypted or compressed.
    #[must_use]
    pub fn flags(self, flags: Flags) -> Self {
        Self { flags, ..self }
    }

    /// The hash TLV's kind.
    #[must_use]
    pub fn hash(self, kind: HashKind) -> Self {
        Self { hash: Some(kind), ..self }
    }

    /// No hash TLV: such an image is refused everywhere.
    #[must_use]
    pub fn without_hash(self) -> Self {
        Self { hash: None, ..self }
    }

    /// One more TLV that the hash covers.
    #[must_use]
    pub fn protected_tlv(mut self, kind: TlvType, value: &[u8]) -> Self {
        self.protected.push((kind, value.to_vec()));
        self
    }

    /// One more TLV behind the hash TLV.
    #[must_use]
    pub fn tlv(mut self, kind: TlvType, value: &[u8]) -> Self {
        self.unprotected.push((kind, value.to_vec()));
        self
    }

    /// The image.
    ///
    /// # Panics
    ///
    /// Where a TLV area exceeds 65535 bytes or the firmware 4 GiB: the fields cannot say it.
    #[must_use]
    pub fn build(self) -> Vec<u8> {
        let protected = area(PROTECTED_TLV_MAGIC, &self.protected);
        let header = Header {
            load_address: self.load_address,
            header_size: self.header_size,
            protected_tlv_size: length_u16(protected.len()),
            image_size: u32::try_from(self.payload.len()).expect("firmware below 4 GiB"),
            flags: self.flags,
            version: self.version,
        };
        let mut image = header.to_bytes().to_vec();
        image.resize(usize::from(self.header_size), 0);
        image.extend_from_slice(&self.payload);
        image.extend_from_slice(&protected);

        let hash = self.hash.map(|kind| (kind.tlv(), kind.digest(&image)));
        let unprotected: Vec<_> = hash.into_iter().chain(self.unprotected).collect();
        let unprotected = area(TLV_MAGIC, &unprotected);
        if unprotected.is_empty() {
            // Without any TLV there is still the area's header: MCUboot requires it.
            image.extend_from_slice(&TLV_MAGIC.to_le_bytes());
            image.extend_from_slice(&length_u16(TLV_INFO_SIZE).to_le_bytes());
        }
        image.extend_from_slice(&unprotected);
        image
    }
}

/// A TLV area; nothing where there are no TLVs.
fn area(magic: u16, tlvs: &[(TlvType, Vec<u8>)]) -> Vec<u8> {
    let body: Vec<u8> = tlvs.iter().flat_map(|(kind, value)| Tlv::to_bytes(*kind, value)).collect();
    if body.is_empty() {
        return body;
    }
    let mut area = magic.to_le_bytes().to_vec();
    area.extend_from_slice(&length_u16(body.len() + TLV_INFO_SIZE).to_le_bytes());
    area.extend_from_slice(&body);
    area
}

fn length_u16(length: usize) -> u16 {
    u16::try_from(length).expect("a TLV area below 64 KiB")
}
