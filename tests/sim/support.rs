//! A plain client for tests of the simulator: one request, one answer, nothing sent twice.

use std::time::Duration;

use flashfleet::smp::message::image::UploadChunk;
use flashfleet::smp::message::os::Reset;
use flashfleet::smp::message::{DecodeError, Request, decode_response, encode_body};
use flashfleet::smp::{Header, Version};
use flashfleet::transport::{Connector, Link, LinkError};

/// A link with a sequence number and a protocol version.
pub(crate) struct Client {
    pub(crate) link: Box<dyn Link>,
    pub(crate) version: Version,
    pub(crate) timeout: Duration,
    sequence: u8,
}

impl Client {
    pub(crate) async fn open(connector: &dyn Connector) -> Self {
        Self::new(connector.connect().await.expect("the device is there"))
    }

    pub(crate) fn new(link: Box<dyn Link>) -> Self {
        Self { link, version: Version::V2, timeout: Duration::from_secs(5), sequence: 0 }
    }

    /// The whole message for a request, with the next sequence number.
    pub(crate) fn message<R: Request>(&mut self, request: &R) -> Vec<u8> {
        self.sequence = self.sequence.wrapping_add(1);
        let body = encode_body(request).unwrap();
        let header = Header {
            op: R::OP,
            version: self.version,
            flags: 0,
            length: u16::try_from(body.len()).unwrap(),
            group: R::GROUP,
            sequence: self.sequence,
            command: R::COMMAND,
        };
        [&header.encode()[..], &body].concat()
    }

    /// Sends a request and waits for its answer; `None` where nothing comes in time.
    pub(crate) async fn ask<R: Request>(&mut self, request: &R) -> Option<Result<R::Response, DecodeError>> {
        let message = self.message(request);
        self.link.send(&message).await.expect("the link is up");
        let answer = self.recv().await?.expect("the link is up");
        let (header, payload) = Header::split(&answer).unwrap();
        assert_eq!((header.op, header.sequence), (R::OP.response(), self.sequence));
        assert_eq!((header.group, header.command), (R::GROUP, R::COMMAND));
        Some(decode_response(payload))
    }

    /// Sends a request that must be answered with success.
    pub(crate) async fn get<R: Request>(&mut self, request: &R) -> R::Response {
        self.ask(request).await.expect("an answer").expect("a success")
    }

    /// Sends a request that must be refused; gives group and code.
    pub(crate) async fn refused<R: Request>(&mut self, request: &R) -> (Option<u16>, i64)
    where
        R::Response: std::fmt::Debug,
    {
        match self.ask(request).await.expect("an answer") {
            Err(DecodeError::Device(error)) => (error.group, error.rc),
            other => panic!("expected an error of the device, got {other:?}"),
        }
    }

    /// The next message, or `None` after the timeout.
    pub(crate) async fn recv(&mut self) -> Option<Result<Vec<u8>, LinkError>> {
        tokio::time::timeout(self.timeout, self.link.recv()).await.ok()
    }
}

/// An MCUboot image: header, payload, hash TLV. Written here once more, so that the simulator's own reading of images is
/// held against something.
pub(crate) fn image(version: (u8, u8, u16), payload: &[u8]) -> Vec<u8> {
    use sha2::{Digest, Sha256};
    let mut image = vec![0; 32];
    image[0..4].copy_from_slice(&0x96f3_b83d_u32.to_le_bytes());
    image[8..10].copy_from_slice(&32_u16.to_le_bytes());
    image[12..16].copy_from_slice(&u32::try_from(payload.len()).unwrap().to_le_bytes());
    (image[20], image[21]) = (version.0, version.1);
    image[22..24].copy_from_slice(&version.2.to_le_bytes());
    image.extend_from_slice(payload);
    let hash = Sha256::digest(&image);
    image.extend_from_slice(&[0x07, 0x69, 40, 0, 0x10, 0, 32, 0]);
    image.extend_from_slice(&hash);
    image
}

/// The TLV hash at the end of [`image`].
pub(crate) fn hash_of(image: &[u8]) -> Vec<u8> {
    image[image.len() - 32..].to_vec()
}

/// Uploads in chunks of 128 bytes; every answer must be the offset of the next.
pub(crate) async fn upload(client: &mut Client, image: &[u8]) {
    for (index, data) in image.chunks(128).enumerate() {
        let off = u32::try_from(index * 128).unwrap();
        let answer = client.get(&chunk(image, off, data.len())).await;
        assert_eq!(answer.off, Some(u64::from(off) + data.len() as u64));
    }
}

/// One chunk of an image, with the length of the whole where it is the first.
pub(crate) fn chunk(image: &[u8], off: u32, len: usize) -> UploadChunk<'_> {
    let data = &image[off as usize..off as usize + len];
    let len = (off == 0).then(|| u32::try_from(image.len()).unwrap());
    UploadChunk { off, len, data, ..UploadChunk::default() }
}

/// Asks for a reset, and waits until the device can be back.
pub(crate) async fn reset(client: &mut Client) {
    client.get(&Reset::default()).await;
    tokio::time::sleep(Duration::from_secs(1)).await;
}
