//! Requests and answers over one link. What is asked, and why, is the caller's.

use std::time::Duration;

use tokio::time::Instant;

use crate::smp::exchange::{Exchange, ExchangeConfig, ExchangeError, Policy, Received, Ticket};
use crate::smp::message::Request;
use crate::smp::message::os::{Echo, Params};
use crate::smp::upload::LinkMemory;
use crate::smp::{Answer, HEADER_LEN, RawRequest, Time, Version, raw};
use crate::transport::{Framing, Link, LinkError, LinkErrorKind};

use super::alarm::Alarm;
use super::long_messages::Pieces;
use super::{ClientError, ClientOptions};

/// How long a request waits for its answer: what the field has proven for a chunk of an upload.
const DEFAULT_TIMEOUT: Duration = Duration::from_millis(2500);

/// How long a message may take to go out, besides its time on the wire.
const SEND_WITHIN: Duration = Duration::from_secs(10);

/// How long a GATT connection takes for one write or notification at worst: the longest connection interval that Linux
/// asks for by itself (40 units of 1.25 ms; `le_conn_max_interval` in `net/bluetooth/hci_core.c`).
const SLOW_INTERVAL: Duration = Duration::from_millis(50);

/// How many messages are taken in although the time of a request is over: one of them may be its answer.
const HEARD_LATE: u32 = 64;

/// What outlives a link: which answers may still arrive, and what the server was found to take. Keep one per device, also over reconnects.
#[derive(Debug)]
pub struct Conversation {
    pub(super) exchange: Exchange,
    /// What uploads over this device's links have shown.
    pub(super) link: LinkMemory,
    epoch: Instant,
    echoes: u64,
    /// Whether the server puts several writes together to one message; `None` until it is found out.
    pub(super) reassembles: Option<bool>,
    /// Whether it is a bootloader that is expected to answer.
    pub(super) bootloader: bool,
    /// Protocol version of the requests: version 1 only to bootloaders that do not know the other.
    pub(super) version: Version,
    /// Links that were of no use any more after a message of several writes.
    pub(super) stuck_links: u32,
}

impl Default for Conversation {
    fn default() -> Self {
        let exchange =
            Exchange::new(ExchangeConfig { first_sequence: rand::random(), ..ExchangeConfig::default() });
        Self {
            exchange,
            link: LinkMemory::default(),
            epoch: Instant::now(),
            echoes: 0,
            reassembles: None,
            bootloader: false,
            version: Version::V2,
            stuck_links: 0,
        }
    }
}

impl Conversation {
    pub(super) fn now(&self) -> Time {
        self.epoch.elapsed()
    }
}

/// What the server takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ServerLimits {
    /// Largest message in bytes, SMP header included.
    pub max_message: usize,
    /// Smaller, where `max_message` is somebody's word and not the server's.
    pub fallback: Option<usize>,
    /// The server's number of buffers; `None` where it does not tell.
    pub buffers: Option<u32>,
    /// The server does not tell its buffers, and the plan does not either.
    pub guessed: bool,
}

/// One device's conversation over one open link.
pub struct Client {
    pub(super) link: Box<dyn Link>,
    pub(super) conversation: Conversation,
    pub(super) options: ClientOptions,
    limits: Option<ServerLimits>,
    /// Largest message in bytes by the server's own word, where it tells.
    pub(super) told_message: Option<usize>,
    /// The shortest time that any request took besides its and its answer's bytes on the wire.
    pub(super) quick_trip: Option<Duration>,
    /// The link broke.
    broken: bool,
    pub(super) pieces: Pieces,
    /// When an answer is overdue.
    alarm: Alarm,
}

impl std::fmt::Debug for Client {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Client")
            .field("options", &self.options)
            .field("limits", &self.limits)
            .finish_non_exhaustive()
    }
}

impl Client {
    /// A conversation over `link`; goes on with what an earlier link to the same device left.
    #[must_use]
    pub fn new(link: Box<dyn Link>, options: ClientOptions, conversation: Conversation) -> Self {
        Self {
            link,
            conversation,
            options,
            limits: None,
            told_message: None,
            quick_trip: None,
            broken: false,
            pieces: Pieces::default(),
            alarm: Alarm::default(),
        }
    }

    /// Asks, and asks again where the request may be sent twice.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn request<R: Request>(&mut self, request: &R) -> Result<R::Response, ClientError> {
        self.request_within(request, self.timeout()).await
    }

    /// Like [`Self::request`], with another time to wait for each answer.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn request_within<R: Request>(
        &mut self,
        request: &R,
        timeout: Duration,
    ) -> Result<R::Response, ClientError> {
        let policy = Policy { timeout, retries: self.options.retries };
        let answer = self.ask(RawRequest::new(request)?, policy).await?;
        Ok(answer.decode::<R>()?)
    }

    /// Has `text` sent back.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn echo(&mut self, text: String) -> Result<String, ClientError> {
        Ok(self.request(&Echo { d: text }).await?.r)
    }

    /// One echo, sent once, with a text of its own: shows that the device answers now.
    ///
    /// # Errors
    /// [`ClientError`]; no answer within `timeout` is [`ClientError::Unanswered`].
    pub async fn echo_once(&mut self, timeout: Duration) -> Result<(), ClientError> {
        self.conversation.echoes += 1;
        let mut text = format!("flashfleet {}", self.conversation.echoes);
        // It must fit the smallest write there is: whether the server takes more is nothing that this echo is to tell.
        if self.write_len().is_some_and(|write_len| HEADER_LEN + 4 + text.len() > write_len) {
            text = self.conversation.echoes.to_string();
        }
        let policy = Policy { timeout, retries: 0 };
        let answer = self.ask(RawRequest::new(&Echo { d: text.clone() })?, policy).await?;
        match answer.decode::<Echo>() {
            Ok(response) if response.r == text => Ok(()),
            Ok(_) => Err(ClientError::Link(LinkError::new(
                LinkErrorKind::Io,
                "expected the echo that was sent, another text came back",
                "the device or the link changes what is sent: check cable and baud rate",
            ))),
            // A server that refuses, as one without the echo command, is a server that answers.
            Err(error) if error.device().is_some() => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    /// Listens without saying anything; returns only when the link breaks. Cancel safe.
    pub async fn listen(&mut self) -> LinkError {
        loop {
            match self.link.recv().await {
                Ok(message) => {
                    let now = self.conversation.now();
                    self.conversation.exchange.handle_message(now, &message);
                }
                Err(error) => {
                    self.broken = true;
                    return error;
                }
            }
        }
    }

    /// What the server takes; asked for once.
    ///
    /// # Errors
    /// [`ClientError`], but not where the server does not have the command: then safe defaults hold.
    pub async fn limits(&mut self) -> Result<ServerLimits, ClientError> {
        if let Some(limits) = self.limits {
            return Ok(limits);
        }
        let told = match self.ask(RawRequest::new(&Params {})?, self.optional()).await {
            Ok(answer) => answer.decode::<Params>().map_err(ClientError::from),
            Err(error) => Err(error),
        };
        // After the answer: what a message costs may be known only now.
        let properties = self.link.properties();
        let usable = |buffer: u32| {
            let buffer = usize::try_from(buffer).unwrap_or(usize::MAX);
            buffer.saturating_sub(properties.buffer_overhead).min(properties.max_message)
        };
        self.told_message = told.as_ref().ok().map(|params| usable(params.buf_size));
        let limits = match told {
            Ok(params) => ServerLimits {
                max_message: usable(self.options.buffer.unwrap_or(params.buf_size)),
                fallback: self.options.buffer.map(|_| usable(params.buf_size)),
                buffers: Some(params.buf_count),
                guessed: false,
            },
            // MCUboot's recovery and some applications do not have the command.
            Err(error) if self.lacks(&error) => ServerLimits {
                max_message: self.options.buffer.map_or(properties.safe_message, usable),
                fallback: self.options.buffer.map(|_| properties.safe_message),
                buffers: None,
                guessed: self.options.buffer.is_none(),
            },
            Err(error) => return Err(error),
        };
        let max_message = self.longest(limits.max_message).await?;
        let limits = ServerLimits {
            max_message,
            fallback: limits.fallback.map(|fallback| fallback.min(max_message)),
            ..limits
        };
        tracing::debug!(?limits, "server limits");
        self.limits = Some(limits);
        Ok(limits)
    }

    /// Whether an error says that the server does not have what was asked for. Old bootloaders say nothing at all.
    pub(super) fn lacks(&self, error: &ClientError) -> bool {
        match error {
            ClientError::Device { .. } => true,
            ClientError::Unanswered(_) => self.conversation.bootloader,
            _ => false,
        }
    }

    /// Whether the server takes a message of `length` bytes: servers drop what is longer than their buffers.
    ///
    /// # Errors
    /// [`ClientError::TooLong`] where it does not, and what [`Self::limits`] gives.
    pub async fn fits(&mut self, length: usize) -> Result<(), ClientError> {
        // What every server takes is not worth a question.
        if length <= self.link.properties().safe_message {
            return Ok(());
        }
        let most = self.limits().await?.max_message;
        if length > most { Err(ClientError::TooLong { length, most }) } else { Ok(()) }
    }

    /// Asks for the server's limits anew: another firmware may be running.
    pub fn forget_limits(&mut self) {
        self.limits = None;
        self.conversation.link.max_message = None;
        self.forget_proof();
    }

    /// What the link can carry.
    #[must_use]
    pub fn properties(&self) -> crate::transport::LinkProperties {
        self.link.properties()
    }

    /// Whether the link broke: nothing more will come over it.
    #[must_use]
    pub fn is_broken(&self) -> bool {
        self.broken
    }

    /// How the device is talked to.
    #[must_use]
    pub fn options(&self) -> &ClientOptions {
        &self.options
    }

    /// Closes the link; what outlives it is for the next one.
    pub async fn close(mut self) -> Conversation {
        let now = self.conversation.now();
        self.conversation.exchange.reset(now);
        // Nobody waits for what was in flight.
        while self.conversation.exchange.poll_outcome().is_some() {}
        self.link.close().await;
        self.conversation
    }

    /// Time to wait for an answer: at least as long as a full message takes on the wire both ways.
    pub(super) fn timeout(&self) -> Duration {
        self.options.timeout.unwrap_or(DEFAULT_TIMEOUT.max(self.least_silence()) + self.wire_time())
    }

    /// How long there has to be silence before a message is sent again.
    pub(super) fn least_silence(&self) -> Duration {
        match self.link.properties().framing {
            // A server that lost a byte takes what comes for the rest of its message, until it gives that up.
            Framing::Raw => raw::SILENCE,
            Framing::Console { .. } | Framing::Cobs | Framing::Datagram | Framing::Gatt { .. } => {
                Duration::ZERO
            }
        }
    }

    /// Time that a full request and its answer take on the wire; nothing where its speed is not known.
    pub(super) fn wire_time(&self) -> Duration {
        let properties = self.link.properties();
        if let Framing::Gatt { write_len } = properties.framing {
            let message = self.limits.map_or(properties.safe_message, |limits| limits.max_message);
            let writes = u32::try_from(message.div_ceil(write_len.max(1))).unwrap_or(u32::MAX);
            return SLOW_INTERVAL.saturating_mul(writes.saturating_mul(2));
        }
        let Some(rate) = properties.wire_bytes_per_s.filter(|rate| *rate >= 1.0) else {
            return Duration::ZERO;
        };
        let message = self.limits.map_or(properties.safe_message, |limits| limits.max_message);
        let bytes = u32::try_from(2 * properties.framing.wire_len(message)).unwrap_or(u32::MAX);
        Duration::from_secs_f64(f64::from(bytes) / rate)
    }

    /// Asks once and waits for the end of it.
    pub(super) async fn ask(&mut self, request: RawRequest, policy: Policy) -> Result<Answer, ClientError> {
        self.must_fit(request.message_len()).await?;
        self.ask_anyway(request, policy).await
    }

    /// The same, whatever the server is known to take.
    pub(super) async fn ask_anyway(
        &mut self,
        request: RawRequest,
        policy: Policy,
    ) -> Result<Answer, ClientError> {
        let len = request.message_len();
        self.pieces.patience = None;
        let now = self.conversation.now();
        let ticket = self.conversation.exchange.submit(now, self.in_protocol(request), policy);
        loop {
            let (done, outcome) = self.drive(None).await?;
            if done == ticket {
                match &outcome {
                    Ok(answer) => self.note_trip(len, answer),
                    Err(_) => self.doubt(len),
                }
                return outcome.map_err(ClientError::Unanswered);
            }
        }
    }

    /// The request in the version that was chosen for all of them, or that a bootloader was found to understand.
    pub(super) fn in_protocol(&self, request: RawRequest) -> RawRequest {
        match (self.options.protocol, self.conversation.version) {
            (Version::V1, _) | (_, Version::V1) => request.with_version(Version::V1),
            // A request may have been made in version 1 on purpose.
            (Version::V2, Version::V2) => request,
        }
    }

    /// Sends what is due and takes in what comes, until one request is over or `until` has come (then
    /// [`DriveError::Elapsed`]).
    async fn drive_until(
        &mut self,
        until: Option<Time>,
    ) -> Result<(Ticket, Result<Answer, ExchangeError>), DriveError> {
        // An answer that is there counts, also where its time has just passed; a device that never stops talking does not
        // keep requests from ending.
        let mut heard_late = 0;
        loop {
            let mut repeats = self.conversation.exchange.stats().repeated;
            while let Some(message) = self.conversation.exchange.poll_transmit(self.conversation.now()) {
                let repeated = self.conversation.exchange.stats().repeated;
                let is_repeat = std::mem::replace(&mut repeats, repeated) < repeated;
                self.before_sending(message.len(), is_repeat).await.map_err(DriveError::Link)?;
                // A wire that takes no byte (flow control, a stuck adapter) must not hold the device for ever.
                let limit = SEND_WITHIN + self.wire_time();
                match tokio::time::timeout(limit, self.link.send(&message)).await {
                    Ok(sent) => sent.map_err(DriveError::Link)?,
                    Err(_elapsed) => return Err(DriveError::Link(stuck(limit))),
                }
            }
            if let Some(outcome) = self.conversation.exchange.poll_outcome() {
                return Ok(outcome);
            }
            let timeout = self.conversation.exchange.next_timeout();
            let wake = [timeout, until].into_iter().flatten().min();
            let epoch = self.conversation.epoch;
            tokio::select! {
                biased;
                message = self.link.recv() => {
                    let message = message.map_err(DriveError::Link)?;
                    let now = self.conversation.now();
                    if self.conversation.exchange.handle_message(now, &message) == Received::Answer {
                        self.pieces.forgot_at = None;
                    }
                    if wake.is_some_and(|wake| wake <= now) {
                        heard_late += 1;
                    }
                    if heard_late > HEARD_LATE {
                        heard_late = 0;
                        self.conversation.exchange.handle_timeout(now);
                        if until.is_some_and(|until| until <= now) {
                            return Err(DriveError::Elapsed);
                        }
                    }
                }
                () = self.alarm.rings(epoch + wake.unwrap_or_default()), if wake.is_some() => {
                    let now = self.conversation.now();
                    if timeout.is_some_and(|timeout| timeout <= now) {
                        self.conversation.exchange.handle_timeout(now);
                    } else if until.is_some_and(|until| until <= now) {
                        return Err(DriveError::Elapsed);
                    }
                }
            }
        }
    }

    /// The next request that is over; `None` where `until` came first.
    pub(super) async fn drive_some(
        &mut self,
        until: Option<Time>,
    ) -> Result<Option<(Ticket, Result<Answer, ExchangeError>)>, ClientError> {
        match self.drive_until(until).await {
            Ok(outcome) => Ok(Some(outcome)),
            Err(DriveError::Elapsed) => Ok(None),
            Err(DriveError::Link(error)) => {
                self.broken = true;
                Err(error.into())
            }
        }
    }

    async fn drive(
        &mut self,
        until: Option<Time>,
    ) -> Result<(Ticket, Result<Answer, ExchangeError>), ClientError> {
        loop {
            if let Some(outcome) = self.drive_some(until).await? {
                return Ok(outcome);
            }
        }
    }
}

fn stuck(limit: Duration) -> LinkError {
    LinkError::new(
        LinkErrorKind::Io,
        format!("expected the link to take a message within {limit:?}, it took no byte"),
        "check flow_control and the adapter: something holds the line",
    )
}

enum DriveError {
    Elapsed,
    Link(LinkError),
}
