//! Application and firmware image group (`smp_groups/smp_group_1.rst`): requests and answers.
//!
//! ```
//! use flashfleet::client::UploadRequest;
//! use flashfleet::image::{Image, ImageBuilder};
//! use flashfleet::smp::message::image::{ListImages, SetState, SlotInfo};
//!
//! # use flashfleet::{cause::Cause, client::Client, sim::{Fleet, SimSpec}};
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Cause> {
//! # let fleet = Fleet::new(&SimSpec::default()).expect("a device");
//! # let link = fleet.connector(0).connect().await?;
//! let mut client = Client::over(link);
//! let running = &client.request(&ListImages {}).await?.images[0];
//! assert!(running.active && running.confirmed);
//! assert_eq!(running.version, "1.0.0");
//!
//! let slots = &client.request(&SlotInfo {}).await?.images[0].slots;
//! assert_eq!(slots[1].size, Some(512 * 1024));
//!
//! // With a file: `Image::load(path)`.
//! let image = Image::from_bytes(ImageBuilder::new().version("2.0.0").payload(&[0x5a; 4000]).build())?;
//! let (file, sha256) = (image.bytes().clone(), *image.file_sha256());
//! let uploaded = client.upload(file, sha256, image.hash(), UploadRequest::default(), |_done, _total| ()).await?;
//! assert_eq!(uploaded.figures.bytes, image.bytes().len() as u64);
//!
//! let test = SetState { hash: Some(image.hash().to_vec()), confirm: false };
//! let marked = &client.request(&test).await?.images[1];
//! assert_eq!((marked.version.as_str(), marked.pending), ("2.0.0", true));
//! # Ok(())
//! # }
//! ```

use serde::{Deserialize, Serialize};

use super::Request;
use super::os::Empty;
use crate::smp::{Op, group};

/// Get state of images (command 0, read).
#[derive(Debug, Clone, Default, Serialize)]
pub struct ListImages {}

/// Set state of an image (command 0, write). Without `hash` and with `confirm` it means the running image.
#[derive(Debug, Clone, Default, Serialize)]
pub struct SetState {
    /// The TLV hash of the image.
    #[serde(skip_serializing_if = "Option::is_none", with = "serde_bytes")]
    pub hash: Option<Vec<u8>>,
    /// Make it permanent; otherwise mark it for test.
    pub confirm: bool,
}

/// Answer to [`ListImages`] and [`SetState`].
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ImageState {
    /// One entry per slot that holds an image.
    #[serde(default)]
    pub images: Vec<ImageSlot>,
    /// Split status, unused since Zephyr has no split images.
    #[serde(default, rename = "splitStatus", skip_serializing_if = "Option::is_none")]
    pub split_status: Option<i64>,
}

/// One slot of [`ImageState`]. Flags that are not sent are false.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ImageSlot {
    /// Image number, 0 where it is not sent.
    #[serde(default)]
    pub image: u32,
    /// 0 primary, 1 secondary.
    pub slot: u32,
    /// Version of the image, as text.
    #[serde(default)]
    pub version: String,
    /// TLV hash; not sent where the bootloader keeps none.
    #[serde(default, with = "serde_bytes", skip_serializing_if = "Option::is_none")]
    pub hash: Option<Vec<u8>>,
    /// MCUboot can boot it.
    #[serde(default)]
    pub bootable: bool,
    /// Set to be swapped in at the next reset.
    #[serde(default)]
    pub pending: bool,
    /// Stays after a reset.
    #[serde(default)]
    pub confirmed: bool,
    /// Running now.
    #[serde(default)]
    pub active: bool,
    /// Set to stay at the next swap.
    #[serde(default)]
    pub permanent: bool,
    /// Compressed in its slot.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub compressed: bool,
}

impl Request for ListImages {
    const OP: Op = Op::Read;
    const GROUP: u16 = group::IMAGE;
    const COMMAND: u8 = 0;
    type Response = ImageState;
}

impl Request for SetState {
    const OP: Op = Op::Write;
    const GROUP: u16 = group::IMAGE;
    const COMMAND: u8 = 0;
    type Response = ImageState;
}

/// Image upload (command 1): one chunk. The fields beside `off` and `data` go into the first chunk only.
#[derive(Debug, Clone, Default, Serialize)]
pub struct UploadChunk<'a> {
    /// Image number; 0 where it is not sent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub image: Option<u32>,
    /// Length of the whole file, in bytes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub len: Option<u32>,
    /// Offset of `data` in the file, in bytes.
    pub off: u32,
    /// SHA-256 of the whole file.
    #[serde(skip_serializing_if = "Option::is_none", with = "serde_bytes")]
    pub sha: Option<&'a [u8]>,
    /// The bytes.
    #[serde(with = "serde_bytes")]
    pub data: &'a [u8],
    /// Refuse a version that is not newer.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub upgrade: Option<bool>,
}

/// Answer to [`UploadChunk`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct UploadResponse {
    /// The offset that the server wants next, in bytes; not sent by some servers together with an error.
    #[serde(default)]
    pub off: Option<u64>,
    /// In the last answer of servers that check the file: whether its SHA-256 is `sha`.
    #[serde(default, rename = "match", skip_serializing_if = "Option::is_none")]
    pub matches: Option<bool>,
}

impl UploadChunk<'_> {
    /// Bytes that `upgrade` takes after `data`: its key, and a truth value (RFC 8949, 3.3).
    pub(crate) const UPGRADE_LEN: usize = 1 + "upgrade".len() + 1;
}

impl Request for UploadChunk<'_> {
    const OP: Op = Op::Write;
    const GROUP: u16 = group::IMAGE;
    const COMMAND: u8 = 1;
    type Response = UploadResponse;
}

/// Image erase (command 5).
#[derive(Debug, Clone, Default, Serialize)]
pub struct Erase {
    /// The slot, counted over all images; the server erases the one that is not running where it is not sent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub slot: Option<u32>,
}

impl Request for Erase {
    const OP: Op = Op::Write;
    const GROUP: u16 = group::IMAGE;
    const COMMAND: u8 = 5;
    type Response = Empty;
}

/// Slot info (command 6, read).
#[derive(Debug, Clone, Default, Serialize)]
pub struct SlotInfo {}

/// Answer to [`SlotInfo`].
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SlotInfoResponse {
    /// One entry per image.
    #[serde(default)]
    pub images: Vec<SlotInfoImage>,
}

/// One image of [`SlotInfoResponse`].
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SlotInfoImage {
    /// Image number.
    #[serde(default)]
    pub image: u32,
    /// Its slots.
    #[serde(default)]
    pub slots: Vec<SlotInfoSlot>,
    /// Largest image that MCUboot would swap, in bytes; needs its shared data.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_image_size: Option<u64>,
}

/// One slot of [`SlotInfoImage`].
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SlotInfoSlot {
    /// 0 primary, 1 secondary.
    pub slot: u32,
    /// Size of the slot, in bytes; not sent where it could not be read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub size: Option<u64>,
    /// Why the slot could not be read: a negative errno of the server's; not sent where it could.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rc: Option<i64>,
    /// Image number to upload to for this slot; not sent for a slot that takes no upload.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub upload_image_id: Option<u32>,
}

impl Request for SlotInfo {
    const OP: Op = Op::Read;
    const GROUP: u16 = group::IMAGE;
    const COMMAND: u8 = 6;
    type Response = SlotInfoResponse;
}
