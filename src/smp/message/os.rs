//! Operating system group (`smp_groups/smp_group_0.rst`): requests and answers.
//!
//! ```
//! use flashfleet::smp::message::os::{
//!     ApplicationInfo, BootloaderInfo, Echo, GetDateTime, Params, Reset, SetDateTime, TaskStatistics,
//! };
//!
//! # use flashfleet::{cause::Cause, client::Client, sim::{Fleet, SimSpec}};
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Cause> {
//! # let fleet = Fleet::new(&SimSpec::default()).expect("a device");
//! # let link = fleet.connector(0).connect().await?;
//! let mut client = Client::over(link);
//! let answer = client.request(&Echo { d: "hello".to_owned() }).await?;
//! assert_eq!(answer.r, "hello");
//!
//! let tasks = client.request(&TaskStatistics {}).await?.tasks;
//! let work = tasks.get("sysworkq").expect("Zephyr's work queue");
//! assert_eq!((work.stack_used_bytes(), work.stack_size_bytes()), (Some(232), Some(1024)));
//!
//! client.request(&SetDateTime { datetime: "2026-11-25T20:52:29".to_owned() }).await?;
//! assert_eq!(client.request(&GetDateTime {}).await?.datetime, "2026-11-25T20:52:29");
//!
//! let buffers = client.request(&Params {}).await?;
//! assert_eq!((buffers.buf_size, buffers.buf_count), (384, 4));
//!
//! let kernel = client.request(&ApplicationInfo { format: Some("sv".to_owned()) }).await?;
//! assert_eq!(kernel.output, "Zephyr 4.4.0");
//!
//! let bootloader = client.request(&BootloaderInfo::default()).await?;
//! assert_eq!(bootloader.bootloader.as_deref(), Some("MCUboot"));
//!
//! // Answered first, done a moment later.
//! client.request(&Reset::default()).await?;
//! # Ok(())
//! # }
//! ```

use ciborium::Value;
use serde::de::{Deserializer, Error};
use serde::{Deserialize, Serialize};

use super::{Entries, Repeat, Request};
use crate::smp::{Op, group};

/// Echo: the device sends the text back (command 0).
#[derive(Debug, Clone, Serialize)]
pub struct Echo {
    /// The text.
    pub d: String,
}

/// Answer to [`Echo`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EchoResponse {
    /// The text, sent back.
    pub r: String,
}

impl Request for Echo {
    const OP: Op = Op::Write;
    const GROUP: u16 = group::OS;
    const COMMAND: u8 = 0;
    type Response = EchoResponse;
}

/// System reset (command 5). The answer comes first, the reset about 250 ms later.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Reset {
    /// Reset even where the application would refuse. Zephyr's server reads a boolean and takes an integer, which
    /// `smp_group_0.rst` asks for, as if nothing had been sent (`os_mgmt.c`, `os_mgmt_reset`).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub force: Option<bool>,
    /// What to boot into: 0 normal, 1 bootloader (`smp_group_0.rst`, "System reset").
    #[serde(skip_serializing_if = "Option::is_none")]
    pub boot_mode: Option<u8>,
}

/// An answer without fields.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Empty {}

impl Request for Reset {
    const OP: Op = Op::Write;
    const GROUP: u16 = group::OS;
    const COMMAND: u8 = 5;
    const REPEAT: Repeat = Repeat::Once;
    type Response = Empty;
}

/// MCUmgr parameters (command 6): the server's buffers.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Params {}

/// Answer to [`Params`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ParamsResponse {
    /// Size of one buffer (netbuf), in bytes. On console framing the packet's length and CRC count too.
    pub buf_size: u32,
    /// Number of buffers.
    pub buf_count: u32,
}

impl Request for Params {
    const OP: Op = Op::Read;
    const GROUP: u16 = group::OS;
    const COMMAND: u8 = 6;
    type Response = ParamsResponse;
}

/// Bootloader information (command 8).
#[derive(Debug, Clone, Default, Serialize)]
pub struct BootloaderInfo {
    /// What to ask, for example `mode`; without it the bootloader's name is asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub query: Option<String>,
}

/// Answer to [`BootloaderInfo`].
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct BootloaderInfoResponse {
    /// The bootloader's name, for example `MCUboot`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bootloader: Option<String>,
    /// MCUboot's mode, see `smp_group_0.rst`, "MCUboot mode".
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mode: Option<i32>,
    /// MCUboot will not boot an older version.
    #[serde(default, rename = "no-downgrade", skip_serializing_if = "Option::is_none")]
    pub no_downgrade: Option<bool>,
}

impl Request for BootloaderInfo {
    const OP: Op = Op::Read;
    const GROUP: u16 = group::OS;
    const COMMAND: u8 = 8;
    type Response = BootloaderInfoResponse;
}

/// Console echo control (command 1), asked without changing anything. Zephyr's server does not have it. MCUboot's serial
/// recovery answers it with success, whatever it asks, in every version (`boot_serial.c`, `NMGR_ID_CONS_ECHO_CTRL`): that
/// tells one from the other.
#[derive(Debug, Clone, Default, Serialize)]
pub struct ConsoleEcho {}

impl Request for ConsoleEcho {
    const OP: Op = Op::Read;
    const GROUP: u16 = group::OS;
    const COMMAND: u8 = 1;
    type Response = Empty;
}

/// Task statistics (command 2).
#[derive(Debug, Clone, Default, Serialize)]
pub struct TaskStatistics {}

/// Answer to [`TaskStatistics`].
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TaskStatisticsResponse {
    /// Every task by name; several may share one.
    pub tasks: Entries<Task>,
}

/// One task (Zephyr: thread). Fields that the server does not keep are not sent, or 0.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Task {
    /// Priority as sent; see [`Self::priority`].
    pub prio: i64,
    /// Number of the task.
    pub tid: u64,
    /// Bits of Zephyr's `thread_state` (`kernel_structs.h`, `_THREAD_*`).
    pub state: u64,
    /// Stack used at most, in words; see [`Self::stack_used_bytes`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stkuse: Option<u64>,
    /// Size of the stack, in words; see [`Self::stack_size_bytes`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stksiz: Option<u64>,
    /// Context switches; 0 on Zephyr.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cswcnt: Option<u64>,
    /// Time that it ran, in the server's ticks; cycles on Zephyr.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub runtime: Option<u64>,
    /// 0 on Zephyr.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_checkin: Option<u64>,
    /// 0 on Zephyr.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_checkin: Option<u64>,
}

impl Task {
    /// Bytes of the word in which the stack's figures count (`smp_group_0.rst`, "Task statistics response": "in case
    /// of Zephyr this is number of 4 byte words").
    pub const STACK_WORD: u64 = 4;

    /// The priority with its sign. Zephyr's priorities below 0 are those of cooperative threads, and without
    /// `CONFIG_MCUMGR_GRP_OS_TASKSTAT_SIGNED_PRIORITY` they are sent as 32 bits without a sign.
    #[must_use]
    pub fn priority(&self) -> i64 {
        match u32::try_from(self.prio) {
            Ok(bits) => i64::from(bits.cast_signed()),
            Err(_) => self.prio,
        }
    }

    /// Stack used at most, in bytes.
    #[must_use]
    pub fn stack_used_bytes(&self) -> Option<u64> {
        self.stkuse.map(|words| words.saturating_mul(Self::STACK_WORD))
    }

    /// Size of the stack, in bytes.
    #[must_use]
    pub fn stack_size_bytes(&self) -> Option<u64> {
        self.stksiz.map(|words| words.saturating_mul(Self::STACK_WORD))
    }
}

impl Request for TaskStatistics {
    const OP: Op = Op::Read;
    const GROUP: u16 = group::OS;
    const COMMAND: u8 = 2;
    type Response = TaskStatisticsResponse;
}

/// Memory pool statistics (command 3). Zephyr's server does not have it.
#[derive(Debug, Clone, Default, Serialize)]
pub struct MemoryPools {}

/// Answer to [`MemoryPools`]: every pool by name. Besides the pools lying directly in the answer, as the specification
/// has them, they are found under `mpools`, where Mynewt's servers put them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct MemoryPoolsResponse {
    /// The pools.
    pub pools: Entries<MemoryPool>,
}

/// One memory pool.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct MemoryPool {
    /// Size of a block, in bytes.
    pub blksiz: u64,
    /// Number of blocks.
    pub nblks: u64,
    /// Number of free blocks. The specification calls it `nfree` and `nrfree`; both are read.
    #[serde(alias = "nrfree")]
    pub nfree: u64,
    /// Lowest number of free blocks so far.
    pub min: u64,
}

impl<'de> Deserialize<'de> for MemoryPoolsResponse {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let fields = Entries::<Value>::deserialize(deserializer)?;
        // What is no map is no pool: `rc` stands beside them.
        let maps = |entries: Entries<Value>| entries.0.into_iter().filter(|(_, value)| value.is_map());
        let pools = match fields.get("mpools") {
            Some(pools) => pools.deserialized::<Entries<Value>>().map_err(D::Error::custom)?,
            None => fields,
        };
        let read =
            |(name, value): (String, Value)| Ok((name, value.deserialized().map_err(D::Error::custom)?));
        Ok(Self { pools: Entries(maps(pools).map(read).collect::<Result<_, _>>()?) })
    }
}

impl Request for MemoryPools {
    const OP: Op = Op::Read;
    const GROUP: u16 = group::OS;
    const COMMAND: u8 = 3;
    type Response = MemoryPoolsResponse;
}

/// Date-time get (command 4, read).
#[derive(Debug, Clone, Default, Serialize)]
pub struct GetDateTime {}

/// Answer to [`GetDateTime`].
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct DateTimeResponse {
    /// `yyyy-MM-dd'T'HH:mm:ss.SSSSSSZZZZZ` in the specification. Zephyr leaves out the zone, and the fraction too unless
    /// built with `CONFIG_MCUMGR_GRP_OS_DATETIME_MS`; then it is the number of milliseconds without leading zeros:
    /// `12:00:00.5` is 5 ms past (`os_mgmt.c`, `os_mgmt_datetime_read`).
    pub datetime: String,
}

impl Request for GetDateTime {
    const OP: Op = Op::Read;
    const GROUP: u16 = group::OS;
    const COMMAND: u8 = 4;
    type Response = DateTimeResponse;
}

/// Date-time set (command 4, write).
#[derive(Debug, Clone, Default, Serialize)]
pub struct SetDateTime {
    /// `yyyy-MM-dd'T'HH:mm:ss`. Zephyr takes no notice of a zone, and refuses a fraction above 999 where it reads one at
    /// all: milliseconds are the most that every server takes.
    pub datetime: String,
}

impl Request for SetDateTime {
    const OP: Op = Op::Write;
    const GROUP: u16 = group::OS;
    const COMMAND: u8 = 4;
    type Response = Empty;
}

/// OS/application information (command 7), as `uname` tells it.
#[derive(Debug, Clone, Default, Serialize)]
pub struct ApplicationInfo {
    /// What to tell, one letter each: `s` kernel name, `n` node name, `r` kernel release, `v` kernel version, `b` date and
    /// time of the build, `m` machine, `p` processor, `i` hardware platform, `o` operating system, `a` all of them. The
    /// server tells them in this order. Without any it tells the kernel's name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub format: Option<String>,
}

/// Answer to [`ApplicationInfo`].
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ApplicationInfoResponse {
    /// What was asked for, with blanks between; a part may hold blanks itself.
    pub output: String,
}

impl Request for ApplicationInfo {
    const OP: Op = Op::Read;
    const GROUP: u16 = group::OS;
    const COMMAND: u8 = 7;
    type Response = ApplicationInfoResponse;
}
