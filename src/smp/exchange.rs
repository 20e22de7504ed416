//! Requests in flight: which answer belongs to which request, what is sent again and when, what is dropped. No I/O,
//! no clock, and no knowledge of what the payloads mean.
//!
//! A repeat is the same message with the same sequence number. So a late answer to the first sending still counts, and
//! the answer to the repeat that then comes as well is dropped. A number whose request may still be answered is not
//! given to another request for [`ExchangeConfig::linger`] after its last sending. One whose request was answered is
//! not given for 127 further requests or a second, since networks double messages. One that the server has passed is not
//! given for six seconds, since networks delay them: a server handles messages in the order in which they come, so the answer to
//! something that was sent later tells that no other to this one is to come. Otherwise a link that loses a few messages
//! each second would have all numbers wait. If all 256 are in one of those states, the next request waits for one.
//!
//! Keep one exchange for one device, also over reconnects: it knows which answers can still arrive.

use std::collections::VecDeque;
use std::time::Duration;

use super::message::Repeat;
use super::{Answer, Header, Op, RawRequest, RequestId, Time};
use crate::cause::{Cause, Class};

/// How long a network may keep a copy of an answer that came.
const COPY_LIFETIME: Duration = Duration::from_secs(1);
/// How long a network may keep an answer that later ones overtake.
const OVERTAKEN_LIFETIME: Duration = Duration::from_secs(6);
/// So many requests later a copy is not waited for: half of all numbers.
const COPY_REQUESTS: u64 = 128;

/// How an exchange treats sequence numbers.
#[derive(Debug, Clone, Copy)]
pub struct ExchangeConfig {
    /// The first sequence number. A random one keeps answers to an earlier conversation apart from this one's.
    pub first_sequence: u8,
    /// How long after its last sending a request may still be answered. Each request's own timeout is the least.
    pub linger: Duration,
}

impl Default for ExchangeConfig {
    fn default() -> Self {
        Self { first_sequence: 0, linger: Duration::from_secs(30) }
    }
}

/// How long to wait for an answer, and how often to ask again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Policy {
    /// Time to wait for an answer after each sending.
    pub timeout: Duration,
    /// Sendings after the first. [`Repeat::Once`] requests go once whatever this says.
    pub retries: u32,
}

/// Names one submitted request. Never given twice by the same exchange.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ticket(u64);

/// Why a request got no answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ExchangeError {
    /// Sent as often as its policy allows, and no answer came.
    #[error("expected an answer to {request}, got none to {sends} sendings in {:.1} s", waited.as_secs_f64())]
    NoAnswer {
        /// What was asked.
        request: RequestId,
        /// How often it was sent.
        sends: u32,
        /// Time from the first sending.
        waited: Duration,
    },
    /// A [`Repeat::Once`] request was sent, and no answer came. The device may have done it or not: look.
    #[error("expected an answer to {request}, got none to its one sending in {:.1} s", waited.as_secs_f64())]
    Unanswered {
        /// What was asked.
        request: RequestId,
        /// Time from the sending.
        waited: Duration,
    },
    /// The link went away first. Where `sends` is not 0 the device may have done it or not.
    #[error("expected an answer to {request}, the link went away after {sends} sendings")]
    LinkLost {
        /// What was asked.
        request: RequestId,
        /// How often it was sent.
        sends: u32,
    },
}

impl From<ExchangeError> for Cause {
    fn from(error: ExchangeError) -> Self {
        let (code, help) = match error {
            ExchangeError::NoAnswer { .. } => (
                "link.no_answer",
                "check power, cable, speed and that the device's firmware runs an SMP server on this port; raise \
                 `timeout` or `retries` in the target's link if it is only slow",
            ),
            ExchangeError::Unanswered { .. } => (
                "link.unanswered",
                "the request was not sent again because doing it twice may do harm: look at the device's state \
                 before the next try",
            ),
            ExchangeError::LinkLost { .. } => {
                ("link.disconnected", "check the cable, the hub and the device's power, then try again")
            }
        };
        Self::new(Class::Link, code, error.to_string(), help)
    }
}

/// What became of a message that came in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Received {
    /// It answers a request in flight.
    Answer,
    /// It answers a request that is over: a duplicate, or too late.
    Late,
    /// It answers nothing that was asked: another client's, or our own message sent back.
    Foreign,
    /// It is no SMP message.
    Malformed,
}

/// What was sent and what came in.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ExchangeStats {
    /// Messages sent, repeats included.
    pub sent: u64,
    /// Messages sent again.
    pub repeated: u64,
    /// Requests answered.
    pub answered: u64,
    /// Requests that ended without an answer.
    pub unanswered: u64,
    /// Messages that answered a request that was over.
    pub late: u64,
    /// Messages that answered nothing that was asked.
    pub foreign: u64,
    /// Messages that were no SMP messages.
    pub malformed: u64,
}

/// A request in flight.
#[derive(Debug)]
struct Flight {
    ticket: Ticket,
    request: RawRequest,
    policy: Policy,
    /// `None` until it was sent.
    sequence: Option<u8>,
    sends: u32,
    first_sent: Time,
    last_sent: Time,
    /// Which of all messages its first sending was, and its last one.
    first_message: u64,
    last_message: u64,
    /// To be sent now, for the first time or again.
    due: bool,
}

impl Flight {
    /// When it has waited long enough; `None` while it waits to be sent.
    fn deadline(&self) -> Option<Time> {
        (!self.due).then(|| self.last_sent.saturating_add(self.policy.timeout))
    }
}

/// A request that is over, but to which an answer may still come.
#[derive(Debug)]
struct Retired {
    sequence: u8,
    request: RequestId,
    /// Which of all messages its last sending was.
    last_message: u64,
    until: Time,
    /// The request that may have the number whatever the time, counted from the first; `u64::MAX` where the time alone
    /// counts.
    until_request: u64,
}

impl Retired {
    fn is_over(&self, now: Time, next_request: u64) -> bool {
        self.until <= now || self.until_request <= next_request
    }
}

/// Sequence numbers that no request may have.
#[derive(Debug, Default)]
struct Taken([u64; 4]);

impl Taken {
    fn bit(sequence: u8) -> (usize, u64) {
        (usize::from(sequence >> 6), 1 << (sequence & 63))
    }

    fn set(&mut self, sequence: u8, taken: bool) {
        let (word, bit) = Self::bit(sequence);
        if let Some(word) = self.0.get_mut(word) {
            *word = if taken { *word | bit } else { *word & !bit };
        }
    }

    fn has(&self, sequence: u8) -> bool {
        let (word, bit) = Self::bit(sequence);
        self.0.get(word).is_some_and(|word| word & bit != 0)
    }
}

/// The requests of one client to one device.
#[derive(Debug)]
pub struct Exchange {
    config: ExchangeConfig,
    next_ticket: u64,
    next_sequence: u8,
    /// Requests sent, repeats not counted.
    requests: u64,
    /// In the order of submission.
    flights: Vec<Flight>,
    /// Answered requests, which the network may bring copies of: in the order in which they are forgotten.
    answered: VecDeque<Retired>,
    /// Requests that may be answered yet.
    unanswered: Vec<Retired>,
    /// The numbers of all of these.
    taken: Taken,
    outcomes: VecDeque<(Ticket, Result<Answer, ExchangeError>)>,
    stats: ExchangeStats,
}

impl Exchange {
    /// An exchange with nothing in flight.
    #[must_use]
    pub fn new(config: ExchangeConfig) -> Self {
        Self {
            config,
            next_ticket: 0,
            next_sequence: config.first_sequence,
            requests: 0,
            flights: Vec::new(),
            answered: VecDeque::new(),
            unanswered: Vec::new(),
            taken: Taken::default(),
            outcomes: VecDeque::new(),
            stats: ExchangeStats::default(),
        }
    }

    /// Takes a request; [`Exchange::poll_transmit`] gives its message, [`Exchange::poll_outcome`] what became of it.
    /// Its time starts when its message is taken.
    pub fn submit(&mut self, now: Time, request: RawRequest, policy: Policy) -> Ticket {
        let ticket = Ticket(self.next_ticket);
        self.next_ticket += 1;
        self.flights.push(Flight {
            ticket,
            request,
            policy,
            sequence: None,
            sends: 0,
            first_sent: now,
            last_sent: now,
            first_message: 0,
            last_message: 0,
            due: true,
        });
        ticket
    }

    /// The next message to send, whole, if there is one. Send it: its time starts now.
    pub fn poll_transmit(&mut self, now: Time) -> Option<Vec<u8>> {
        if !self.flights.iter().any(|flight| flight.due) {
            return None;
        }
        self.forget_retired(now);
        let free = self.free_sequence();
        let index = self
            .flights
            .iter()
            .position(|flight| flight.due && (flight.sequence.is_some() || free.is_some()))?;
        let flight = self.flights.get_mut(index)?;
        let sequence = flight.sequence.or(free)?;
        self.stats.sent += 1;
        flight.last_message = self.stats.sent;
        if flight.sends == 0 {
            flight.first_sent = now;
            flight.first_message = self.stats.sent;
            self.next_sequence = sequence.wrapping_add(1);
            self.requests += 1;
        } else {
            self.stats.repeated += 1;
        }
        flight.sequence = Some(sequence);
        self.taken.set(sequence, true);
        flight.sends += 1;
        flight.last_sent = now;
        flight.due = false;
        Some(flight.request.encode(sequence))
    }

    /// Takes a whole message that came in. What is not an answer to a request in flight is counted and dropped.
    pub fn handle_message(&mut self, now: Time, message: &[u8]) -> Received {
        let Ok((header, payload)) = Header::split(message) else {
            self.stats.malformed += 1;
            return Received::Malformed;
        };
        // Its own group, command and operation must fit too: a number alone comes around every 256 requests.
        let answers = |sequence: Option<u8>, request: RequestId| {
            sequence == Some(header.sequence)
                && header.op == request.op.response()
                && header.group == request.group
                && header.command == request.command
        };
        if matches!(header.op, Op::ReadResponse | Op::WriteResponse) {
            if let Some(index) =
                self.flights.iter().position(|flight| answers(flight.sequence, flight.request.id()))
            {
                let flight = self.flights.remove(index);
                let answer = Answer {
                    request: flight.request.id(),
                    version: header.version,
                    payload: payload.to_vec(),
                    rtt: now.saturating_sub(flight.first_sent),
                    sends: flight.sends,
                };
                self.stats.answered += 1;
                self.retire(now, &flight, 1);
                self.pass(now, flight.first_message);
                self.outcomes.push_back((flight.ticket, Ok(answer)));
                return Received::Answer;
            }
            // Its number stays taken: this may be a copy of the answer that came, and another one still on its way.
            if self.retired().any(|retired| answers(Some(retired.sequence), retired.request)) {
                self.stats.late += 1;
                return Received::Late;
            }
        }
        self.stats.foreign += 1;
        Received::Foreign
    }

    /// When [`Exchange::handle_timeout`] or [`Exchange::poll_transmit`] has something to do next, if no message comes
    /// in before; `None` while nothing is in flight.
    #[must_use]
    pub fn next_timeout(&self) -> Option<Time> {
        let deadline = self.flights.iter().filter_map(Flight::deadline).min();
        let waits = self.flights.iter().any(|flight| flight.due && flight.sequence.is_none());
        let number = if waits { self.retired().map(|retired| retired.until).min() } else { None };
        deadline.into_iter().chain(number).min()
    }

    /// Ends the waiting of requests whose time is over: they are sent again or end without an answer.
    pub fn handle_timeout(&mut self, now: Time) {
        self.forget_retired(now);
        let mut index = 0;
        while let Some(flight) = self.flights.get_mut(index) {
            if flight.deadline().is_none_or(|deadline| deadline > now) {
                index += 1;
                continue;
            }
            if flight.request.repeat() == Repeat::Safe && flight.sends <= flight.policy.retries {
                flight.due = true;
                index += 1;
                continue;
            }
            let flight = self.flights.remove(index);
            let request = flight.request.id();
            let waited = now.saturating_sub(flight.first_sent);
            let error = match flight.request.repeat() {
                Repeat::Safe => ExchangeError::NoAnswer { request, sends: flight.sends, waited },
                Repeat::Once => ExchangeError::Unanswered { request, waited },
            };
            self.stats.unanswered += 1;
            self.retire(now, &flight, 0);
            self.outcomes.push_back((flight.ticket, Err(error)));
        }
    }

    /// The next request that is over, and how it ended, in the order in which they ended.
    pub fn poll_outcome(&mut self) -> Option<(Ticket, Result<Answer, ExchangeError>)> {
        self.outcomes.pop_front()
    }

    /// Sends a request again now, whatever its policy says, and waits anew: its answer is overdue. Says whether it is in
    /// flight and may be sent twice.
    pub fn repeat(&mut self, ticket: Ticket) -> bool {
        let flight = self
            .flights
            .iter_mut()
            .find(|flight| flight.ticket == ticket && flight.request.repeat() == Repeat::Safe);
        flight.map(|flight| flight.due = true).is_some()
    }

    /// Forgets a request: it is not sent again, has no outcome, and an answer to it is dropped. Says whether it was
    /// still in flight.
    pub fn cancel(&mut self, now: Time, ticket: Ticket) -> bool {
        self.outcomes.retain(|(other, _)| *other != ticket);
        let Some(index) = self.flights.iter().position(|flight| flight.ticket == ticket) else {
            return false;
        };
        let flight = self.flights.remove(index);
        self.retire(now, &flight, 0);
        true
    }

    /// The link is gone: every request in flight ends with [`ExchangeError::LinkLost`]. Their numbers stay taken, since
    /// answers may come over the next link.
    pub fn reset(&mut self, now: Time) {
        for flight in std::mem::take(&mut self.flights) {
            let error = ExchangeError::LinkLost { request: flight.request.id(), sends: flight.sends };
            self.stats.unanswered += 1;
            self.retire(now, &flight, 0);
            self.outcomes.push_back((flight.ticket, Err(error)));
        }
    }

    /// Requests that are neither answered nor given up.
    #[must_use]
    pub fn in_flight(&self) -> usize {
        self.flights.len()
    }

    /// What was sent and what came in so far.
    #[must_use]
    pub fn stats(&self) -> ExchangeStats {
        self.stats
    }

    fn retired(&self) -> impl Iterator<Item = &Retired> {
        self.answered.iter().chain(&self.unanswered)
    }

    /// Keeps the number of a request that is over for as long as another answer to it may come.
    fn retire(&mut self, now: Time, flight: &Flight, answers: u32) {
        let Some(sequence) = flight.sequence else { return };
        let (request, last_message) = (flight.request.id(), flight.last_message);
        if flight.sends > answers {
            let until = flight.last_sent.saturating_add(self.config.linger.max(flight.policy.timeout));
            self.unanswered.push(Retired { sequence, request, last_message, until, until_request: u64::MAX });
        } else {
            let until = now.saturating_add(COPY_LIFETIME);
            let until_request = self.requests.saturating_add(COPY_REQUESTS);
            self.answered.push_back(Retired { sequence, request, last_message, until, until_request });
        }
    }

    /// The server has come to this message: what was sent before is not answered any more, but answers may be under way.
    fn pass(&mut self, now: Time, message: u64) {
        let until = now.saturating_add(OVERTAKEN_LIFETIME);
        for passed in self.unanswered.iter_mut().filter(|retired| retired.last_message < message) {
            passed.until = passed.until.min(until);
        }
    }

    fn forget_retired(&mut self, now: Time) {
        let next = self.requests.saturating_add(1);
        let taken = &mut self.taken;
        while let Some(retired) = self.answered.front().filter(|retired| retired.is_over(now, next)) {
            taken.set(retired.sequence, false);
            self.answered.pop_front();
        }
        self.unanswered.retain(|retired| {
            let over = retired.is_over(now, next);
            if over {
                taken.set(retired.sequence, false);
            }
            !over
        });
    }

    /// The next number in turn that no answer can be confused over.
    fn free_sequence(&self) -> Option<u8> {
        let mut numbers = (0..=u8::MAX).map(|step| self.next_sequence.wrapping_add(step));
        numbers.find(|sequence| !self.taken.has(*sequence))
    }
}

#[cfg(test)]
mod tests;
