//! The `flashfleet` program: everything is in the library.

use std::process::ExitCode;

fn main() -> ExitCode {
    flashfleet::cli::main()
}
