//! Enumeration group (`smp_groups/smp_group_10.rst`): requests and answers.
//!
//! ```
//! use flashfleet::smp::group;
//! use flashfleet::smp::message::enumeration::{CountGroups, GroupDetails, ListGroups};
//!
//! # use flashfleet::{cause::Cause, client::Client, sim::{Fleet, SimSpec}};
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Cause> {
//! # let fleet = Fleet::new(&SimSpec::default()).expect("a device");
//! # let link = fleet.connector(0).connect().await?;
//! let mut client = Client::over(link);
//! assert_eq!(client.request(&CountGroups {}).await?.count, 4);
//! let groups = client.request(&ListGroups {}).await?.groups;
//! assert_eq!(groups, [group::OS, group::IMAGE, group::STAT, group::ENUM]);
//!
//! let details = client.request(&GroupDetails { groups: Some(vec![group::OS]) }).await?.groups;
//! assert_eq!(details[0].name.as_deref(), Some("os mgmt"));
//! # Ok(())
//! # }
//! ```

use serde::{Deserialize, Serialize};

use super::Request;
use crate::smp::{Op, group};

/// Count of supported groups (command 0, read).
#[derive(Debug, Clone, Default, Serialize)]
pub struct CountGroups {}

/// Answer to [`CountGroups`].
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct GroupCount {
    /// Number of groups.
    pub count: u32,
}

impl Request for CountGroups {
    const OP: Op = Op::Read;
    const GROUP: u16 = group::ENUM;
    const COMMAND: u8 = 0;
    type Response = GroupCount;
}

/// List supported groups (command 1, read).
#[derive(Debug, Clone, Default, Serialize)]
pub struct ListGroups {}

/// Answer to [`ListGroups`].
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct GroupList {
    /// Numbers of the groups.
    pub groups: Vec<u16>,
}

impl Request for ListGroups {
    const OP: Op = Op::Read;
    const GROUP: u16 = group::ENUM;
    const COMMAND: u8 = 1;
    type Response = GroupList;
}

/// Fetch single group ID (command 2, read).
#[derive(Debug, Clone, Default, Serialize)]
pub struct SingleGroup {
    /// Which group, counted from 0; the first where it is not sent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub index: Option<u32>,
}

/// Answer to [`SingleGroup`].
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SingleGroupResponse {
    /// Number of the group.
    pub group: u16,
    /// It is the last one.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub end: bool,
}

impl Request for SingleGroup {
    const OP: Op = Op::Read;
    const GROUP: u16 = group::ENUM;
    const COMMAND: u8 = 2;
    type Response = SingleGroupResponse;
}

/// Details on supported groups (command 3, read).
#[derive(Debug, Clone, Default, Serialize)]
pub struct GroupDetails {
    /// Of these groups alone; of all where it is not sent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub groups: Option<Vec<u16>>,
}

/// Answer to [`GroupDetails`].
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct GroupDetailsResponse {
    /// One entry per group.
    pub groups: Vec<GroupDetail>,
}

/// One group of [`GroupDetailsResponse`].
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct GroupDetail {
    /// Number of the group.
    pub group: u16,
    /// Its name, where the server keeps it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Number of its commands, where the server keeps it; the highest command's number plus one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub handlers: Option<u32>,
}

impl Request for GroupDetails {
    const OP: Op = Op::Read;
    const GROUP: u16 = group::ENUM;
    const COMMAND: u8 = 3;
    type Response = GroupDetailsResponse;
}
