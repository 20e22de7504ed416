//! Losses that do not depend on how many chunks are in flight: each chunk, and the answer to each, is lost the same number of
//! times whoever sends it. Dice that are thrown for one message after the other cannot do that: what is sent in another
//! order meets other fates, and two uploads with the same seed have as little to do with each other as two with different
//! ones. Also a record of who sent what when.

use std::collections::HashMap;
use std::fmt::Write as _;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use flashfleet::smp::{Header, console};
use flashfleet::transport::{Link, LinkError, LinkProperties};
use tokio::time::Instant;

/// What a request is about: group, command, and the offset of a chunk.
pub(crate) type About = (u16, u8, Option<u64>);

/// The most sendings that are lost one after the other. More would say nothing of the window, but of giving up.
const MOST_LOSSES: u32 = 3;
/// Nothing is sent and nothing heard for longer than any measured time asks for.
const LONG_WAIT: Duration = Duration::from_secs(2);

/// How many times each message is lost before it arrives.
#[derive(Clone)]
pub(crate) struct Fates {
    /// Of a request about this, or of the answer to it.
    losses: Arc<dyn Fn(About, bool) -> u32 + Send + Sync>,
    /// Bytes of the server's buffers: what is lost on the way there is made too long for them.
    buf_size: u32,
}

impl Fates {
    /// Each message is lost with this share, in each direction.
    pub(crate) fn dice(seed: u64, lose: f64, buf_size: u32) -> Self {
        let losses = move |(group, command, off): About, answer: bool| {
            let mut word = seed;
            for part in [u64::from(group), u64::from(command), off.unwrap_or(u64::MAX), u64::from(answer)] {
                word = mixed(word ^ part);
            }
            // The upper 53 bits are a fraction that f64 holds exactly.
            let fraction = |word: u64| (word >> 11) as f64 / (1_u64 << 53) as f64;
            let is_lost = |time: &u32| fraction(mixed(word.wrapping_add(u64::from(*time)))) < lose;
            (0..MOST_LOSSES).find(|time| !is_lost(time)).unwrap_or(MOST_LOSSES)
        };
        Self { losses: Arc::new(losses), buf_size }
    }

    /// Of the chunks these, from 0, and the answers to these are lost once.
    pub(crate) fn these(
        requests: &'static [u64],
        answers: &'static [u64],
        chunk: impl Fn(u64) -> u64 + Send + Sync + 'static,
        buf_size: u32,
    ) -> Self {
        let losses = move |(_, _, off): About, answer: bool| {
            let lost = if answer { answers } else { requests };
            u32::from(off.is_some_and(|off| lost.contains(&chunk(off))))
        };
        Self { losses: Arc::new(losses), buf_size }
    }
}

/// One step of SplitMix64 (Steele, Lea and Flood, "Fast splittable pseudorandom number generators", 2014).
fn mixed(word: u64) -> u64 {
    let mut word = word.wrapping_add(0x9e37_79b9_7f4a_7c15);
    word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    word ^ (word >> 31)
}

/// A message at the client's end of the link.
#[derive(Debug, Clone, Copy)]
struct Event {
    at: Duration,
    sequence: u8,
    about: About,
    /// It is an answer, and names this offset.
    answer: Option<Option<u64>>,
    lost: bool,
}

#[derive(Debug, Default)]
struct State {
    lost: HashMap<(About, bool), u32>,
    events: Vec<Event>,
}

/// What happened on a link.
#[derive(Debug, Clone, Default)]
pub(crate) struct Record(Arc<Mutex<State>>);

impl Record {
    fn events(&self) -> Vec<Event> {
        self.0.lock().expect("no panic").events.clone()
    }

    /// Messages that were lost.
    pub(crate) fn lost(&self) -> usize {
        self.events().iter().filter(|event| event.lost).count()
    }

    /// Time in which nothing was sent, because `buffers` messages were unanswered: as long as they may lie in the server's
    /// buffers nothing more is sent, whatever was measured.
    pub(crate) fn waits_for_buffers(&self, buffers: usize) -> Duration {
        let events = self.events();
        let (mut open, mut waits) = (Vec::new(), Duration::ZERO);
        for (event, next) in events.iter().zip(events.iter().skip(1)) {
            match event.answer {
                None => open.push(event.sequence),
                Some(_) if event.lost => {}
                Some(_) => {
                    if let Some(index) = open.iter().position(|sequence| *sequence == event.sequence) {
                        open.drain(..=index);
                    }
                }
            }
            let gap = next.at - event.at;
            if gap >= LONG_WAIT && open.len() >= buffers {
                waits += gap;
            }
        }
        waits
    }

    /// For people: one line for each message.
    pub(crate) fn timeline(&self) -> String {
        let mut text = String::new();
        for Event { at, sequence, about: (group, command, off), answer, lost } in self.events() {
            let way = if answer.is_some() { "  <" } else { ">" };
            let (at, mark) = (at.as_secs_f64(), if lost { " LOST" } else { "" });
            let says = answer.flatten().map(|off| format!(": {off}")).unwrap_or_default();
            let off = off.map(|off| off.to_string()).unwrap_or_default();
            writeln!(text, "{at:8.3} {way} {group}/{command} #{sequence} {off}{says}{mark}").expect("text");
        }
        text
    }
}

/// A link whose messages meet their fates.
pub(crate) struct FatefulLink {
    link: Box<dyn Link>,
    fates: Option<Fates>,
    record: Record,
    start: Instant,
}

impl FatefulLink {
    /// The link around another, and the record of what happens on it.
    pub(crate) fn around(link: Box<dyn Link>, fates: Option<Fates>) -> (Box<dyn Link>, Record) {
        let record = Record::default();
        (Box::new(Self { link, fates, record: record.clone(), start: Instant::now() }), record)
    }

    /// Whether this message is lost.
    fn meets(&self, message: &[u8], answer: bool) -> bool {
        let Ok((Header { sequence, group, command, .. }, payload)) = Header::split(message) else {
            return false;
        };
        let off = offset(payload);
        let mut state = self.record.0.lock().expect("no panic");
        let asked = |event: &&Event| event.answer.is_none() && event.sequence == sequence;
        let about = match state.events.iter().rev().find(asked).filter(|_| answer) {
            Some(request) => request.about,
            None => (group, command, off),
        };
        let times = self.fates.as_ref().map_or(0, |fates| (fates.losses)(about, answer));
        let so_far = state.lost.entry((about, answer)).or_default();
        let lost = *so_far < times;
        *so_far += u32::from(lost);
        let answer = answer.then_some(off);
        state.events.push(Event { at: self.start.elapsed(), sequence, about, answer, lost });
        lost
    }
}

/// The offset that a message of the image group names.
fn offset(payload: &[u8]) -> Option<u64> {
    let value: ciborium::Value = ciborium::from_reader(payload).ok()?;
    let (_, off) = value.as_map()?.iter().find(|(key, _)| key.as_text() == Some("off"))?;
    off.as_integer()?.try_into().ok()
}

#[async_trait]
impl Link for FatefulLink {
    async fn send(&mut self, message: &[u8]) -> Result<(), LinkError> {
        if !self.meets(message, false) {
            return self.link.send(message).await;
        }
        let paced = self.link.properties().wire_bytes_per_s.is_some();
        let Some(fates) = self.fates.as_ref().filter(|_| paced) else { return Ok(()) };
        // It takes its time on the wire all the same, and is one byte too long for the server's buffers, which is silence.
        let too_long = fates.buf_size as usize - console::PACKET_OVERHEAD + 1;
        let mut message = message.to_vec();
        message.resize(message.len().max(too_long), 0);
        self.link.send(&message).await
    }

    async fn recv(&mut self) -> Result<Vec<u8>, LinkError> {
        loop {
            let message = self.link.recv().await?;
            if !self.meets(&message, true) {
                return Ok(message);
            }
        }
    }

    fn properties(&self) -> LinkProperties {
        self.link.properties()
    }

    async fn forget_parts(&mut self) -> Result<(), LinkError> {
        self.link.forget_parts().await
    }

    async fn close(self: Box<Self>) {
        self.link.close().await;
    }
}
