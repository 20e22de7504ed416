//! From an address to a conversation. What may be found at an address is asked of `transport`.

use std::time::Duration;

use super::{Client, ClientOptions, Conversation};
use crate::cause::{Cause, Class};
use crate::plan::LinkOptions;
use crate::transport::{Address, Candidate, Discovery, Link};

/// How long each port of a board with several has to answer, where the link's options do not say.
const ANSWER_WITHIN: Duration = Duration::from_secs(1);

impl Client {
    /// A conversation with a device whose link is open, with defaults for everything.
    #[must_use]
    pub fn over(link: Box<dyn Link>) -> Self {
        Self::new(link, ClientOptions::default(), Conversation::default())
    }

    /// Finds the device that an address names, and opens it. A board on USB with several ports is sent an echo on each,
    /// from the lowest interface up, until one answers.
    ///
    /// # Errors
    /// Those of [`Discovery::find`] and [`Client::open`].
    pub async fn connect(address: &Address, link: &LinkOptions) -> Result<Self, Cause> {
        Self::open(&Discovery::new().find(address, link).await?, &ClientOptions::from(link)).await
    }

    /// Opens one device: its one port, which hears nothing yet, or of several the first that answers an echo.
    ///
    /// # Errors
    /// Why the one port cannot be opened; of several, what is wrong with the first, where none answers. Without any,
    /// `device.not_found`.
    pub async fn open(ports: &[Candidate], options: &ClientOptions) -> Result<Self, Cause> {
        let within = options.timeout.unwrap_or(ANSWER_WITHIN) + options.settle;
        let mut trouble = None;
        for port in ports {
            let tried = async {
                let connection = port.connector.connect().await.map_err(Cause::from)?;
                let mut client = Self::new(connection, options.clone(), Conversation::default());
                if ports.len() > 1
                    && let Err(silent) = client.echo_once(within).await
                {
                    client.close().await;
                    return Err(silent.into());
                }
                Ok::<_, Cause>(client)
            };
            match tried.await {
                Ok(client) => return Ok(client),
                Err(cause) => trouble = trouble.or(Some(cause)),
            }
        }
        Err(trouble.unwrap_or_else(|| {
            Cause::new(
                Class::Link,
                "device.not_found",
                "expected a device, found none",
                "look for it with `flashfleet list`",
            )
        }))
    }
}
