//! Who answers: the application, or MCUboot's serial recovery. It matters before an upload, which the application puts into
//! the secondary slot and the recovery into the primary one.
//!
//! | image list | console echo command (OS group, 1) | who answers |
//! | --- | --- | --- |
//! | a slot is active | anything | the application: the recovery runs nothing and marks no slot as active |
//! | none is, or there is no list | known | the recovery: it takes the command in every version, and Zephyr's server in none |
//! | none is, or there is no list | not known, or not answered | cannot be told |
//!
//! The parameters (OS group, 6) tell nothing: newer recoveries and most applications have them, others do not; nor does the
//! bootloader information (OS group, 8), which the recovery and many applications lack.

use crate::cause::{Cause, Class};
use crate::smp::message::image::ImageState;

use super::proof::short_hash;
use super::{Action, Outcome};

/// Who answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Answerer {
    /// MCUboot's serial recovery.
    Recovery,
    /// The application.
    Application,
    /// Either of them, or another bootloader.
    Unknown,
}

impl Answerer {
    /// What a report says of it where it was to be a bootloader.
    pub(super) fn note(self) -> Option<&'static str> {
        match self {
            Self::Recovery => Some("MCUboot's serial recovery answers"),
            Self::Unknown => Some(
                "nothing proves that a bootloader answers: it does not know the console echo command, which MCUboot's serial \
                 recovery knows, and it lists no running image",
            ),
            Self::Application => None,
        }
    }
}

/// What an inquiry wants next.
#[derive(Debug)]
pub(super) enum Inquired {
    /// Do this.
    Do(Action),
    /// This is who answers, and its image list where it has one.
    Told(Answerer, Option<ImageState>),
    /// Nobody does, or an action failed.
    Broke(Cause),
}

/// Two questions that tell who answers.
#[derive(Debug)]
pub(super) struct Inquiry {
    knows_echo: Option<Option<bool>>,
}

impl Inquiry {
    /// Begins one, with its first question.
    pub(super) fn begin() -> (Self, Action) {
        (Self { knows_echo: None }, Action::AskConsoleEcho)
    }

    /// Takes an answer; `None` for an outcome that no question has.
    pub(super) fn next(&mut self, outcome: Option<Outcome>) -> Option<Inquired> {
        let told = |state: Option<ImageState>| {
            let answerer = tell(self.knows_echo.flatten(), state.as_ref());
            Inquired::Told(answerer, state)
        };
        Some(match (self.knows_echo, outcome?) {
            (None, Outcome::ConsoleEcho(knows)) => {
                self.knows_echo = Some(knows);
                Inquired::Do(Action::ReadState)
            }
            (Some(_), Outcome::State(state)) => told(Some(state)),
            // Whoever refuses to list images answers all the same.
            (Some(_), Outcome::Failed(cause)) if cause.class == Class::Device => told(None),
            (_, Outcome::Failed(cause)) => Inquired::Broke(cause),
            _ => return None,
        })
    }
}

fn tell(knows_echo: Option<bool>, state: Option<&ImageState>) -> Answerer {
    if state.is_some_and(|state| state.images.iter().any(|slot| slot.active)) {
        Answerer::Application
    } else if knows_echo == Some(true) {
        Answerer::Recovery
    } else {
        Answerer::Unknown
    }
}

/// The cause where an application answers that should have gone; `state` is its image list.
pub(super) fn not_in_bootloader(state: Option<&ImageState>, after_reset: bool) -> Cause {
    let running = state.and_then(|state| state.images.iter().find(|slot| slot.active));
    let running = running.map_or_else(String::new, |slot| {
        let hash = slot.hash.as_deref().map_or_else(|| "no hash".to_owned(), short_hash);
        format!(", which is {} ({hash})", slot.version)
    });
    let (when, help) = if after_reset {
        (
            "after the reset into it",
            "its application or its MCUboot takes no boot mode: build them with CONFIG_RETENTION_BOOT_MODE and \
             CONFIG_BOOT_SERIAL_BOOT_MODE, or get the board into its bootloader by its button and say `starts_in: bootloader`",
        )
    } else {
        (
            "before an image is written into the primary slot",
            "get it into its bootloader (its button, or `- reset: { boot_mode: bootloader }`), or update it through its \
             application: leave out `starts_in`",
        )
    };
    Cause::new(
        Class::Device,
        "device.not_in_bootloader",
        format!("expected the bootloader to answer {when}, the application answers{running}"),
        help,
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::smp::message::image::ImageSlot;

    #[test]
    fn only_what_tells_one_from_the_other_counts() {
        let list = |active| ImageState {
            images: vec![ImageSlot { active, ..ImageSlot::default() }],
            split_status: None,
        };
        for (knows, state, answerer) in [
            (Some(true), Some(list(false)), Answerer::Recovery),
            (Some(true), Some(ImageState::default()), Answerer::Recovery),
            (Some(true), None, Answerer::Recovery),
            (Some(true), Some(list(true)), Answerer::Application),
            (Some(false), Some(list(true)), Answerer::Application),
            (None, Some(list(true)), Answerer::Application),
            (Some(false), Some(list(false)), Answerer::Unknown),
            (Some(false), None, Answerer::Unknown),
            (None, None, Answerer::Unknown),
        ] {
            assert_eq!(tell(knows, state.as_ref()), answerer, "{knows:?} {state:?}");
        }
    }
}
