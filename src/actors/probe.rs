//! Asks one device for an echo before anything is done to it, and tells what that shows. What is done with it is decided
//! elsewhere.

use std::time::Duration;

use tokio::time::timeout;

use crate::cause::Cause;
use crate::client::ClientError;
use crate::transport::{LinkError, LinkErrorKind};

use super::recovery::question_of;
use super::worker::Worker;

/// How long opening a port may take that was only found by searching: no deadline runs yet, and one port that hangs must
/// not hold up the whole run.
const PROBE_OPEN_WITHIN: Duration = Duration::from_secs(15);

/// What asking a device for an echo shows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Probed {
    /// It answers.
    Answers,
    /// It does not.
    Silent,
    /// It could not be asked, and why: this machine does not let us at its port, its adapter is off, it wants a bond, or
    /// nothing tells it from another board.
    Blocked(Cause),
}

impl Probed {
    /// Whether it could not be asked.
    #[must_use]
    pub fn is_blocked(&self) -> bool {
        matches!(self, Self::Blocked(_))
    }
}

impl Worker {
    /// Whether the device answers an echo. The link of one that does stays open, where no other device needs it.
    pub(super) async fn probe(&mut self) -> Probed {
        match self.probe_once().await {
            // Whether the device went or the adapter that it shares with others shows when it is opened again.
            Asked::Lost if self.way.is_shared() => self.probe_once().await.into(),
            asked => asked.into(),
        }
    }

    async fn probe_once(&mut self) -> Asked {
        let question = self.question();
        let expects = self.expects;
        let shared = self.way.is_shared();
        let opened = if shared {
            self.client().await
        } else {
            match timeout(PROBE_OPEN_WITHIN, self.client()).await {
                Ok(opened) => opened,
                Err(_elapsed) => return Asked::Shows(Probed::Silent),
            }
        };
        let asked = match opened {
            Ok(client) => match question_of(client, expects, question).await {
                // A link that others need is not kept while the device waits for its turn.
                Ok(()) if shared => Asked::Shows(Probed::Answers),
                Ok(()) => return Asked::Shows(Probed::Answers),
                Err(ClientError::Link(error)) => Asked::failed(error),
                Err(_) => Asked::Shows(Probed::Silent),
            },
            Err(error) => Asked::failed(error),
        };
        self.disconnect().await;
        asked
    }
}

/// What one try to ask a device comes to.
enum Asked {
    Shows(Probed),
    /// A link that was there broke.
    Lost,
}

impl Asked {
    fn failed(error: LinkError) -> Self {
        match error.kind {
            // Boards that cannot be told apart count as found, too: each gets that as its verdict.
            kind if is_of_this_machine(kind) => Self::Shows(Probed::Blocked(error.into())),
            LinkErrorKind::Disconnected => Self::Lost,
            _ => Self::Shows(Probed::Silent),
        }
    }
}

impl From<Asked> for Probed {
    fn from(asked: Asked) -> Self {
        match asked {
            Asked::Shows(probed) => probed,
            Asked::Lost => Self::Silent,
        }
    }
}

/// Whether an error says that this machine or this user is not let in or cannot ask, and nothing of whether the device is
/// there and answers.
pub(super) fn is_of_this_machine(kind: LinkErrorKind) -> bool {
    use LinkErrorKind::{
        AdapterOff, Ambiguous, Busy, Denied, NoAdapter, NoBluetooth, PairingRequired, Unavailable,
    };
    matches!(
        kind,
        Busy | Denied | Unavailable | NoBluetooth | NoAdapter | AdapterOff | Ambiguous | PairingRequired
    )
}
