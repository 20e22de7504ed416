//! Shell group, after Zephyr `grp/shell_mgmt/src/shell_mgmt.c`, and a shell with few commands.

use ciborium::Value;

use super::{Answer, Body, Effects, Refused, SmpError};
use crate::smp::{Op, group};

/// Longest command line, in bytes (Zephyr `CONFIG_SHELL_CMD_BUFF_SIZE`).
const LINE: usize = 256;
/// `SHELL_MGMT_ERR_COMMAND_TOO_LONG`.
const COMMAND_TOO_LONG: u32 = 2;
/// `SHELL_MGMT_ERR_EMPTY_COMMAND`.
const EMPTY_COMMAND: u32 = 3;
/// What Zephyr's shell returns for a command that does not exist.
const ENOEXEC: i32 = 8;

/// A request to the shell group.
pub(in crate::sim) fn shell(
    (op, command): (Op, u8),
    payload: &[u8],
    answer: &mut Answer,
) -> Result<Effects, Refused> {
    if (op, command) != (Op::Write, 0) {
        return Err(SmpError::NotSupported.into());
    }
    let text = |value: &Value| value.as_text().map(str::to_owned);
    let argv = Body::read(payload)?.list("argv", text)?.ok_or(SmpError::Invalid)?;
    let refused = |rc| Refused::Group { group: group::SHELL, rc, reason: None };
    if argv.is_empty() {
        return Err(refused(EMPTY_COMMAND));
    }
    let line = argv.join(" ");
    if line.len() >= LINE {
        return Err(refused(COMMAND_TOO_LONG));
    }
    let (output, code) = execute(&line);
    answer.text("o", &output);
    answer.signed("ret", code);
    Ok(Effects::default())
}

/// What a command prints and returns. The shell begins with an empty line, and complains in red.
fn execute(line: &str) -> (String, i32) {
    let (command, rest) = line.split_once(' ').unwrap_or((line, ""));
    match (command, rest) {
        ("echo", rest) => (format!("\r\n{rest}\r\n"), 0),
        ("kernel", "version") => ("\r\nZephyr version 4.4.0\r\n".to_owned(), 0),
        ("selftest", "") => ("\r\nPASS\r\n".to_owned(), 0),
        ("", _) => ("\r\n".to_owned(), -ENOEXEC),
        (command, _) => (format!("\r\n\x1b[1;31m{command}: command not found\r\n\x1b[m"), -ENOEXEC),
    }
}
