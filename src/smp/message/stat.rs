//! Statistics group (`smp_groups/smp_group_2.rst`): requests and answers.
//!
//! ```
//! use flashfleet::smp::message::stat::{ListStatistics, ShowStatistics};
//!
//! # use flashfleet::{cause::Cause, client::Client, sim::{Fleet, SimSpec}};
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Cause> {
//! # let fleet = Fleet::new(&SimSpec { statistics: vec!["smp".to_owned()], ..SimSpec::default() }).expect("a device");
//! # let link = fleet.connector(0).connect().await?;
//! let mut client = Client::over(link);
//! assert_eq!(client.request(&ListStatistics {}).await?.stat_list, ["smp"]);
//! let smp = client.request(&ShowStatistics { name: "smp".to_owned() }).await?;
//! assert_eq!(smp.fields.get("requests"), Some(&2));
//! # Ok(())
//! # }
//! ```

use serde::{Deserialize, Serialize};

use super::{Entries, Request};
use crate::smp::{Op, group};

/// Statistics: group data (command 0, read).
#[derive(Debug, Clone, Serialize)]
pub struct ShowStatistics {
    /// Name of the statistics, one of [`ListStatistics`].
    pub name: String,
}

/// Answer to [`ShowStatistics`].
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Statistics {
    /// Name of the statistics, sent back.
    #[serde(default)]
    pub name: String,
    /// Every entry with its count; the unit is the application's.
    #[serde(default)]
    pub fields: Entries<u64>,
}

impl Request for ShowStatistics {
    const OP: Op = Op::Read;
    const GROUP: u16 = group::STAT;
    const COMMAND: u8 = 0;
    type Response = Statistics;
}

/// Statistics: list of groups (command 1, read).
#[derive(Debug, Clone, Default, Serialize)]
pub struct ListStatistics {}

/// Answer to [`ListStatistics`].
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct StatisticsList {
    /// Names of the statistics; empty where the device has none.
    pub stat_list: Vec<String>,
}

impl Request for ListStatistics {
    const OP: Op = Op::Read;
    const GROUP: u16 = group::STAT;
    const COMMAND: u8 = 1;
    type Response = StatisticsList;
}
