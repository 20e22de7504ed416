//! Shell group (`smp_groups/smp_group_9.rst`): requests and answers.

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
