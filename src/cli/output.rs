//! What commands write for programs, and what happens where nobody reads it.

use std::io::Write;

use serde_json::Value;

use super::diagnose::say;
use crate::cause::{Cause, Class};
use crate::exit::Exit;

/// Writes one JSON document and gives `exit`, or says that it could not be written.
pub(super) fn print_json(out: &mut dyn Write, err: &mut dyn Write, document: &Value, exit: Exit) -> Exit {
    match writeln!(out, "{document:#}").and_then(|()| out.flush()) {
        Ok(()) => exit,
        Err(error) => {
            let message = format!("expected to write to standard output, but {error}");
            let help = "check the disk, or the program that reads it";
            say(err, &Cause::new(Class::Station, "station.output", message, help));
            Exit::Station
        }
    }
}
