//! Settings group (`smp_groups/smp_group_3.rst`): requests and answers. What the bytes of a value mean is the
//! application's: the protocol has no types for them.
//!
//! ```
//! use flashfleet::smp::message::settings::{CommitSettings, ReadSetting, SaveSettings, WriteSetting};
//!
//! # use flashfleet::{cause::Cause, client::Client, sim::{Fleet, SimSpec}, smp::group};
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Cause> {
//! # let fleet = Fleet::new(&SimSpec { groups: vec![group::SETTINGS], ..SimSpec::default() }).expect("a device");
//! # let link = fleet.connector(0).connect().await?;
//! let mut client = Client::over(link);
//! client.request(&WriteSetting { name: "net/ip".to_owned(), val: vec![10, 0, 0, 7] }).await?;
//! client.request(&CommitSettings {}).await?;
//! client.request(&SaveSettings::default()).await?;
//!
//! let ip = client.request(&ReadSetting { name: "net/ip".to_owned(), max_size: None }).await?;
//! assert_eq!(ip.val, [10, 0, 0, 7]);
//! # Ok(())
//! # }
//! ```

use serde::{Deserialize, Serialize};

use super::Request;
use super::os::Empty;
use crate::smp::{Op, group};

/// Read setting (command 0, read): the value that the application uses now.
#[derive(Debug, Clone, Default, Serialize)]
pub struct ReadSetting {
    /// Name of the setting, for example `id/serial`.
    pub name: String,
    /// Most bytes to send back.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_size: Option<u32>,
}

/// Answer to [`ReadSetting`].
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SettingValue {
    /// The value, as the application keeps it.
    #[serde(with = "serde_bytes")]
    pub val: Vec<u8>,
    /// Most bytes that the server sends, where more were asked for: the value may be longer than `val`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_size: Option<u32>,
}

impl Request for ReadSetting {
    const OP: Op = Op::Read;
    const GROUP: u16 = group::SETTINGS;
    const COMMAND: u8 = 0;
    type Response = SettingValue;
}

/// Write setting (command 0, write): handed to the application; not stored until [`SaveSettings`].
#[derive(Debug, Clone, Default, Serialize)]
pub struct WriteSetting {
    /// Name of the setting.
    pub name: String,
    /// The value, as the application keeps it.
    #[serde(with = "serde_bytes")]
    pub val: Vec<u8>,
}

impl Request for WriteSetting {
    const OP: Op = Op::Write;
    const GROUP: u16 = group::SETTINGS;
    const COMMAND: u8 = 0;
    type Response = Empty;
}

/// Delete setting (command 1): from the storage.
#[derive(Debug, Clone, Default, Serialize)]
pub struct DeleteSetting {
    /// Name of the setting.
    pub name: String,
}

impl Request for DeleteSetting {
    const OP: Op = Op::Write;
    const GROUP: u16 = group::SETTINGS;
    const COMMAND: u8 = 1;
    type Response = Empty;
}

/// Commit settings (command 2): apply what was written and not yet applied.
#[derive(Debug, Clone, Default, Serialize)]
pub struct CommitSettings {}

impl Request for CommitSettings {
    const OP: Op = Op::Write;
    const GROUP: u16 = group::SETTINGS;
    const COMMAND: u8 = 2;
    type Response = Empty;
}

/// Load settings (command 3, read): from the storage into the application.
#[derive(Debug, Clone, Default, Serialize)]
pub struct LoadSettings {}

impl Request for LoadSettings {
    const OP: Op = Op::Read;
    const GROUP: u16 = group::SETTINGS;
    const COMMAND: u8 = 3;
    type Response = Empty;
}

/// Save settings (command 3, write): from the application into the storage.
#[derive(Debug, Clone, Default, Serialize)]
pub struct SaveSettings {
    /// Save this part of the tree alone. Servers from before this field save everything.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
}

impl Request for SaveSettings {
    const OP: Op = Op::Write;
    const GROUP: u16 = group::SETTINGS;
    const COMMAND: u8 = 3;
    type Response = Empty;
}
