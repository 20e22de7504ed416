//! Zephyr basic group (`smp_groups/smp_group_63.rst`): requests and answers.
//!
//! ```
//! use flashfleet::client::ClientError;
//! use flashfleet::smp::message::os::Reset;
//! use flashfleet::smp::message::settings::{ReadSetting, SaveSettings, WriteSetting};
//! use flashfleet::smp::message::zephyr::EraseStorage;
//!
//! # use flashfleet::{cause::Cause, client::Client, sim::{Fleet, SimSpec}, smp::group};
//! # #[tokio::main(flavor = "current_thread", start_paused = true)]
//! # async fn main() -> Result<(), Cause> {
//! # let fleet = Fleet::new(&SimSpec { groups: vec![group::OS, group::SETTINGS, group::ZEPHYR], ..SimSpec::default() }).expect("a device");
//! # let link = fleet.connector(0).connect().await?;
//! let mut client = Client::over(link);
//! client.request(&WriteSetting { name: "id/sn".to_owned(), val: b"0042".to_vec() }).await?;
//! client.request(&SaveSettings::default()).await?;
//! client.request(&EraseStorage {}).await?;
//!
//! // What an application has read already it keeps until it starts again.
//! client.request(&Reset::default()).await?;
//! tokio::time::sleep(std::time::Duration::from_secs(2)).await;
//!
//! let gone = client.request(&ReadSetting { name: "id/sn".to_owned(), max_size: None }).await;
//! let Err(ClientError::Device { error, .. }) = gone else { panic!("the setting is still there") };
//! assert_eq!(error.code(), "smp.settings_mgmt.key_not_found");
//! # Ok(())
//! # }
//! ```

use serde::Serialize;

use super::Request;
use super::os::Empty;
use crate::smp::{Op, group};

/// Erase storage (command 0): the whole flash partition `storage_partition`, settings included. The application that
/// runs keeps what it has in memory until it is reset.
#[derive(Debug, Clone, Default, Serialize)]
pub struct EraseStorage {}

impl Request for EraseStorage {
    const OP: Op = Op::Write;
    const GROUP: u16 = group::ZEPHYR;
    const COMMAND: u8 = 0;
    type Response = Empty;
}
