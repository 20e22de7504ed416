//! What commands write for programs, and what happens where nobody reads it.

use std::io::{ErrorKind, Write};

use serde_json::Value;

use super::diagnose::say;
use crate::cause::{Cause, Class};
use crate::exit::Exit;

/// Writes one JSON document and gives `exit`, or says that it could not be written.
pub(super) fn print_json(out: &mut dyn Write, err: &mut dyn Write, document: &Value, exit: Exit) -> Exit {
    print(out, err, format!("{document:#}\n").as_bytes(), exit)
}

/// Writes a whole text and gives `exit`, or says that it could not be written.
pub(super) fn print(out: &mut dyn Write, err: &mut dyn Write, text: &[u8], exit: Exit) -> Exit {
    match out.write_all(text).and_then(|()| out.flush()) {
        Ok(()) => exit,
        // A reader that went away, as with `| head`, has seen what it wanted.
        Err(error) if error.kind() == ErrorKind::BrokenPipe => exit,
        Err(error) => {
            let message = format!("expected to write to standard output, but {error}");
            let help = "check the disk, or the program that reads it";
            say(err, &Cause::new(Class::Station, "station.output", message, help));
            Exit::Station
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A standard output that fails in one way.
    struct Failing(ErrorKind);

    impl Write for Failing {
        fn write(&mut self, _: &[u8]) -> std::io::Result<usize> {
            Err(self.0.into())
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_reader_that_went_away_is_no_trouble_and_a_full_disk_is() {
        let print = |kind| {
            let mut err = Vec::new();
            let exit = print_json(&mut Failing(kind), &mut err, &Value::Null, Exit::Passed);
            (exit, String::from_utf8(err).unwrap())
        };
        assert_eq!(print(ErrorKind::BrokenPipe), (Exit::Passed, String::new()));
        let (exit, told) = print(ErrorKind::StorageFull);
        assert_eq!(exit, Exit::Station);
        assert!(told.contains("station.output"), "{told}");
    }
}
