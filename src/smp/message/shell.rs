//! Shell group (`smp_groups/smp_group_9.rst`): requests and answers.
//!
//! ```
//! use flashfleet::smp::message::Repeat;
//!
//! # use flashfleet::{cause::Cause, client::Client, sim::{Fleet, SimSpec}, smp::group};
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Cause> {
//! # let fleet = Fleet::new(&SimSpec { groups: vec![group::SHELL], ..SimSpec::default() }).expect("a device");
//! # let link = fleet.connector(0).connect().await?;
//! let mut client = Client::over(link);
//! let command = ["kernel", "version"].map(str::to_owned).to_vec();
//! let said = client.shell(command, Repeat::Once, None).await?;
//! assert_eq!((said.o.trim(), said.ret), ("Zephyr version 4.4.0", 0));
//! # Ok(())
//! # }
//! ```

use serde::{Deserialize, Serialize};

use super::{Repeat, Request};
use crate::smp::{Op, group};

/// Shell command line execute (command 0).
#[derive(Debug, Clone, Default, Serialize)]
pub struct ShellCommand {
    /// The command and its arguments. The server joins them with blanks: an argument with blanks needs the shell's own
    /// quotes.
    pub argv: Vec<String>,
}

/// Answer to [`ShellCommand`].
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ShellOutput {
    /// What the command printed.
    #[serde(default)]
    pub o: String,
    /// What the command returned, 0 for success and a negative errno for failure. Servers from before this field, and
    /// those built with `CONFIG_MCUMGR_GRP_SHELL_LEGACY_RC_RETURN_CODE`, say it in `rc`.
    #[serde(default)]
    pub ret: i32,
}

impl Request for ShellCommand {
    const OP: Op = Op::Write;
    const GROUP: u16 = group::SHELL;
    const COMMAND: u8 = 0;
    /// A command may do anything; whether twice is harmless only the caller knows.
    const REPEAT: Repeat = Repeat::Once;
    type Response = ShellOutput;
}
