//! How every command says what is wrong: one form for causes, one for plans.

use std::io::{IsTerminal as _, Write};

use crate::cause::Cause;
use crate::plan::Diagnostics;

/// Writes a cause: its code, what was expected and what came, and the next thing to do.
pub(super) fn say(err: &mut dyn Write, cause: &Cause) {
    // Nothing can be done where standard error is gone.
    let _ = writeln!(err, "error[{}]: {}\n  help: {}", cause.code, cause.message, cause.help);
}

/// Writes everything that is wrong with a plan.
pub(super) fn show_plan_errors(err: &mut dyn Write, diagnostics: &Diagnostics) {
    let styled = std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none();
    let _ = writeln!(err, "{}", diagnostics.render(styled).trim_end());
}
