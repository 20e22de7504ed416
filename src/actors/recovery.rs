//! What a worker does otherwise where a bootloader is expected to answer. What that means for a device is the flow's.

use std::time::Duration;

use crate::cause::Cause;
use crate::client::{Client, ClientError};
use crate::flow::Outcome;
use crate::plan::BOOT_MODE_BOOTLOADER;

use super::worker::{Expects, Worker};

impl Worker {
    /// A reset went out: from now on somebody else may answer.
    pub(super) fn expect_after_reset(&mut self, boot_mode: Option<u8>) {
        self.expects = match (boot_mode, self.expects) {
            (Some(BOOT_MODE_BOOTLOADER), _) => Expects::Bootloader,
            (_, Expects::Application) => Expects::Application,
            (_, Expects::Bootloader | Expects::Either) => Expects::Either,
        };
        if let Some(client) = self.client.as_mut() {
            client.expect_bootloader(self.expects == Expects::Bootloader);
        }
    }

    pub(super) async fn ask_console_echo(&mut self) -> Result<Outcome, Cause> {
        Ok(Outcome::ConsoleEcho(self.client().await?.knows_console_echo().await?))
    }
}

/// One question to whoever is expected: any answer shows that somebody is there.
pub(super) async fn question_of(
    client: &mut Client,
    expects: Expects,
    timeout: Duration,
) -> Result<(), ClientError> {
    match expects {
        Expects::Application => client.echo_once(timeout).await,
        Expects::Bootloader => client.hail(timeout).await,
        // Whoever does not boot stays in a bootloader that may not know an echo.
        Expects::Either => match client.echo_once(timeout).await {
            Err(ClientError::Unanswered(_)) => client.hail(timeout).await,
            answered => answered,
        },
    }
}
