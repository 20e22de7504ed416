//! One reset and the wait for the device's return, shared by every step that reboots. Knows nothing about images.

use crate::cause::{Cause, Class};
use crate::report::Departure;
use crate::smp::Time;

use super::{Action, Facts, Outcome};

/// What a reboot wants next.
#[derive(Debug)]
pub(super) enum RebootTurn {
    /// Do this.
    Do(Action),
    /// The device answers again.
    Back {
        /// How it was seen to leave.
        left: Departure,
        /// Whether the reset's answer came.
        answered: bool,
    },
    /// It does not, or the reset was refused.
    Broke(Cause),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    Start,
    ResetSent,
    Awaiting,
    Recovering,
}

/// One reset, never sent twice.
#[derive(Debug)]
pub(super) struct Reboot {
    force: bool,
    boot_mode: Option<u8>,
    phase: Phase,
    /// The reset went out: from now on another one may do harm.
    sent: bool,
    answered: bool,
    recovered: bool,
    /// How it was seen to leave.
    left: Departure,
    /// When the device must answer at the latest.
    until: Time,
}

impl Reboot {
    pub(super) fn new(force: bool, boot_mode: Option<u8>) -> Self {
        Self {
            force,
            boot_mode,
            phase: Phase::Start,
            sent: false,
            answered: false,
            recovered: false,
            left: Departure::None,
            until: Time::ZERO,
        }
    }

    /// How the device was seen to leave so far.
    pub(super) fn left(&self) -> Departure {
        self.left
    }

    /// Whether the reset went out. One that the device refused, or that no link could carry, did not.
    pub(super) fn is_sent(&self) -> bool {
        self.sent
    }

    /// Waits once more for as long as the device may take, for another attempt after a reset that went out.
    pub(super) fn wait_anew(&mut self, facts: &Facts, now: Time) -> RebootTurn {
        self.until = now + facts.return_within;
        self.wait_again(facts, now)
    }

    /// Goes on waiting, for a device that answered and then fell silent: it left late.
    pub(super) fn wait_again(&mut self, facts: &Facts, now: Time) -> RebootTurn {
        self.phase = Phase::Awaiting;
        let within = self.until.saturating_sub(now);
        RebootTurn::Do(Action::AwaitReturn { quiet: facts.quiet.min(within), within })
    }

    /// Whether the time for the device's return is over.
    pub(super) fn is_over(&self, now: Time) -> bool {
        now >= self.until
    }

    pub(super) fn next(&mut self, facts: &mut Facts, now: Time, outcome: Option<Outcome>) -> RebootTurn {
        match (self.phase, outcome) {
            (Phase::Start, None) => {
                self.phase = Phase::ResetSent;
                facts.forget_state();
                RebootTurn::Do(Action::Reset { force: self.force, boot_mode: self.boot_mode })
            }
            (Phase::ResetSent, Some(Outcome::ResetSent { answered })) => {
                self.sent = true;
                self.answered = answered;
                facts.changed = true;
                self.until = now + facts.return_within;
                self.phase = Phase::Awaiting;
                RebootTurn::Do(Action::AwaitReturn { quiet: facts.quiet, within: facts.return_within })
            }
            (Phase::Awaiting, Some(Outcome::Returned { left })) => {
                self.note_left(left);
                RebootTurn::Back { left: self.left, answered: self.answered }
            }
            (Phase::Awaiting, Some(Outcome::NeverReturned { left, .. }))
                if facts.can_recover && !self.recovered =>
            {
                self.note_left(left);
                self.recovered = true;
                self.phase = Phase::Recovering;
                RebootTurn::Do(Action::Recover)
            }
            (Phase::Recovering, Some(Outcome::Done)) => {
                self.phase = Phase::Awaiting;
                self.until = now + facts.return_within;
                RebootTurn::Do(Action::AwaitReturn { quiet: facts.quiet, within: facts.return_within })
            }
            (Phase::Awaiting, Some(Outcome::NeverReturned { left, seen })) => {
                self.note_left(left);
                let mut cause = self.never_returned(facts);
                if let Some(seen) = seen {
                    cause.message = format!("{}; at last: {seen}", cause.message);
                }
                RebootTurn::Broke(cause)
            }
            // Trying again would start from a device that is known not to answer.
            (Phase::Recovering, Some(Outcome::Failed(trouble))) => {
                let mut cause = self.never_returned(facts);
                cause.message = format!("{}; the recovery program failed: {trouble}", cause.message);
                RebootTurn::Broke(cause)
            }
            (_, Some(Outcome::Failed(cause))) => RebootTurn::Broke(cause),
            (_, outcome) => RebootTurn::Broke(Cause::new(
                Class::Internal,
                "internal.unexpected_outcome",
                format!("a reboot got an outcome that it did not ask for: {outcome:?}"),
                "this is a defect of flashfleet: please report it with the journal",
            )),
        }
    }

    /// A device that was once seen to leave has left, whatever a later wait saw.
    pub(super) fn note_left(&mut self, left: Departure) {
        if self.left == Departure::None {
            self.left = left;
        }
    }

    fn never_returned(&self, facts: &Facts) -> Cause {
        let seen = match self.left {
            Departure::Gone => "it went away",
            Departure::Silent => "it fell silent",
            Departure::None => "it was never seen to leave",
        };
        let after = if self.recovered { ", not even after the recovery program" } else { "" };
        Cause::new(
            Class::Device,
            "device.never_returned",
            format!(
                "expected the device to answer within {} of its reset, {seen} and it did not come back{after}",
                humantime::format_duration(facts.return_within)
            ),
            "power-cycle the device: where the new image was on test, the old one comes back; then look at the new image's \
             boot log. A device that only boots slowly needs a longer return_within, one that wedges needs a longer quiet",
        )
    }
}
