//! The exit codes: a documented contract, in this one file.

use std::process::ExitCode;

use crate::cause::{Cause, Class};
use crate::report::Outcome;

/// How the program ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    /// Every device passed; for other commands: done.
    Passed,
    /// A defect of flashfleet.
    Internal,
    /// Usage, or a plan or image that is not valid.
    Usage,
    /// No device matched, or fewer or more than `expect`.
    NoMatch,
    /// At least one device did not pass.
    NotPassed,
    /// A port, adapter, file or folder that this machine could not use.
    Station,
    /// Stopped by the plan's `stop_after` or a canary.
    Stopped,
    /// Interrupted.
    Interrupted,
}

impl Exit {
    /// The number.
    #[must_use]
    pub fn code(self) -> u8 {
        match self {
            Self::Passed => 0,
            Self::Internal => 1,
            Self::Usage => 2,
            Self::NoMatch => 4,
            Self::NotPassed => 100,
            Self::Station => 102,
            Self::Stopped => 103,
            Self::Interrupted => 130,
        }
    }

    /// The exit that goes with a cause which ends a whole command.
    #[must_use]
    pub fn of_cause(cause: &Cause) -> Self {
        match cause.class {
            _ if cause.code == "device.not_found" => Self::NoMatch,
            // The file may well be sound: it is the device that does not take it.
            Class::Image if cause.code.starts_with("smp.") => Self::NotPassed,
            Class::Plan | Class::Image => Self::Usage,
            Class::Station => Self::Station,
            Class::Device | Class::Link => Self::NotPassed,
            Class::Internal => Self::Internal,
        }
    }
}

impl From<Outcome> for Exit {
    fn from(outcome: Outcome) -> Self {
        match outcome {
            Outcome::Passed => Self::Passed,
            Outcome::NotPassed => Self::NotPassed,
            Outcome::NoMatch => Self::NoMatch,
            Outcome::Stopped => Self::Stopped,
            Outcome::Interrupted | Outcome::CutShort => Self::Interrupted,
            Outcome::Station => Self::Station,
            Outcome::Internal => Self::Internal,
        }
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit.code())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_codes_are_those_of_the_contract() {
        let of_class = |class| Exit::of_cause(&Cause::new(class, "x", "x", "x")).code();
        for (class, code) in [
            (Class::Plan, 2),
            (Class::Image, 2),
            (Class::Station, 102),
            (Class::Device, 100),
            (Class::Link, 100),
            (Class::Internal, 1),
        ] {
            assert_eq!(of_class(class), code, "{class}");
        }
        let not_found = Cause::new(Class::Link, "device.not_found", "x", "x");
        assert_eq!(Exit::of_cause(&not_found).code(), 4, "no device matched");
        let refused = Cause::new(Class::Image, "smp.img_mgmt.current_version_is_newer", "x", "x");
        assert_eq!(Exit::of_cause(&refused).code(), 100, "the device's no");
        for (outcome, code) in [
            (Outcome::Passed, 0),
            (Outcome::NotPassed, 100),
            (Outcome::NoMatch, 4),
            (Outcome::Stopped, 103),
            (Outcome::Station, 102),
            (Outcome::CutShort, 130),
            (Outcome::Interrupted, 130),
            (Outcome::Internal, 1),
        ] {
            assert_eq!(Exit::from(outcome).code(), code, "{outcome}");
        }
    }

    #[test]
    fn where_several_apply_the_first_of_the_contracts_order_speaks() {
        let order = [
            Outcome::Internal,
            Outcome::Interrupted,
            Outcome::Station,
            Outcome::Stopped,
            Outcome::NoMatch,
            Outcome::NotPassed,
            Outcome::Passed,
        ];
        assert_eq!(order.map(|outcome| Exit::from(outcome).code()), [1, 130, 102, 103, 4, 100, 0]);
        for (rank, &first) in order.iter().enumerate() {
            for &later in &order[rank..] {
                assert_eq!((first.worst(later), later.worst(first)), (first, first), "{first} and {later}");
            }
        }
    }
}
