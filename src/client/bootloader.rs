//! Talking to a bootloader: finding out which protocol version it speaks, and whether it is MCUboot's serial recovery that
//! answers. What that means for a device is not decided here.

use std::time::Duration;

use crate::smp::exchange::Policy;
use crate::smp::message::os::{ConsoleEcho, Echo};
use crate::smp::{RawRequest, Version};

use super::{Client, ClientError};

/// How long a question waits that some bootloaders leave without an answer, and which need not be answered.
const OPTIONAL: Duration = Duration::from_secs(1);

impl Client {
    /// From now on it is a bootloader that is expected to answer, or no longer. What was found out of the other one is
    /// forgotten.
    pub fn expect_bootloader(&mut self, bootloader: bool) {
        if self.conversation.bootloader != bootloader {
            self.conversation.bootloader = bootloader;
            self.conversation.version = Version::V2;
            self.forget_limits();
        }
    }

    /// Asks until something answers, each question once: the console echo command, which every recovery of MCUboot
    /// answers, in both protocol versions, as MCUboot before 2.0 drops version 2 without a word; then an echo. The version
    /// that was answered is kept.
    ///
    /// # Errors
    /// [`ClientError`]; where nothing is answered within `timeout` each, [`ClientError::Unanswered`].
    pub async fn hail(&mut self, timeout: Duration) -> Result<(), ClientError> {
        for version in [Version::V2, Version::V1] {
            self.conversation.version = version;
            match self.once(RawRequest::new(&ConsoleEcho {})?, timeout).await {
                Err(ClientError::Unanswered(_)) => {}
                answered => return answered,
            }
        }
        self.conversation.version = Version::V2;
        self.once(RawRequest::new(&Echo { d: "flashfleet".to_owned() })?, timeout).await
    }

    /// Any answer will do, also a refusal.
    async fn once(&mut self, request: RawRequest, timeout: Duration) -> Result<(), ClientError> {
        self.ask(request, Policy { timeout, retries: 0 }).await.map(|_answer| ())
    }

    /// Whether the device knows the console echo command, as MCUboot's recovery does and Zephyr's server does not. `None`
    /// where it does not answer that, in neither protocol version; the one that was answered is kept.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn knows_console_echo(&mut self) -> Result<Option<bool>, ClientError> {
        let before = self.conversation.version;
        for version in [before, if before == Version::V1 { Version::V2 } else { Version::V1 }] {
            self.conversation.version = version;
            match self.request_within(&ConsoleEcho {}, self.timeout().min(OPTIONAL)).await {
                Ok(_) => return Ok(Some(true)),
                Err(ClientError::Device { .. }) => return Ok(Some(false)),
                Err(ClientError::Unanswered(_)) => {}
                Err(error) => return Err(error),
            }
        }
        self.conversation.version = before;
        Ok(None)
    }

    /// The policy of a question that a bootloader need not answer.
    pub(super) fn optional(&self) -> Policy {
        let timeout = self.timeout();
        if self.conversation.bootloader {
            Policy { timeout: timeout.min(OPTIONAL), retries: self.options.retries.min(1) }
        } else {
            Policy { timeout, retries: self.options.retries }
        }
    }
}
