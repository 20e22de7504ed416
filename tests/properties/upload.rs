//! The upload over links that lose, delay, double and reorder, to a server with few buffers that takes its time: it ends,
//! it never has more at the server than the server has room for, and what it says is true.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use flashfleet::smp::exchange::{Exchange, ExchangeConfig, Ticket};
use flashfleet::smp::message::image::ListImages;
use flashfleet::smp::upload::{Action, ChunkId, ListOutcome, Upload, UploadConfig};
use flashfleet::smp::{Header, RawRequest, Time, group};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;
use serde::Deserialize;

/// What becomes of a message on its way.
#[derive(Debug, Clone, Copy, Default)]
struct Fate {
    lost: bool,
    twice: bool,
    delay_ms: u64,
}

#[derive(Debug, Deserialize)]
struct Chunk {
    off: usize,
    #[serde(default)]
    len: Option<usize>,
    #[serde(default, with = "serde_bytes")]
    sha: Option<Vec<u8>>,
    #[serde(with = "serde_bytes")]
    data: Vec<u8>,
}

/// Zephyr's image upload: one upload, resumed by `sha`, forgotten when it is complete.
#[derive(Debug, Default)]
struct Server {
    upload: Option<(usize, usize, Vec<u8>)>,
    flash: Vec<u8>,
    complete: bool,
    completions: u32,
}

impl Server {
    fn offset(&mut self, chunk: &Chunk) -> usize {
        if chunk.off == 0 {
            let sha = chunk.sha.clone().unwrap_or_default();
            if let Some((off, _, known)) = &self.upload
                && !sha.is_empty()
                && *known == sha
            {
                return *off;
            }
            self.upload = Some((0, chunk.len.expect("the first chunk tells the length"), sha));
            self.flash.clear();
            self.complete = false;
        }
        let Some((off, len, _)) = &mut self.upload else { return 0 };
        if chunk.off != *off {
            return *off;
        }
        self.flash.extend_from_slice(&chunk.data);
        *off += chunk.data.len();
        let now = *off;
        if now == *len {
            self.complete = true;
            self.completions += 1;
            self.upload = None;
        }
        now
    }
}

#[derive(Debug)]
enum Event {
    ToServer(Vec<u8>),
    Served(Vec<u8>),
    ToClient(Vec<u8>),
}

/// A link and what is at its other end, in virtual time.
struct World {
    now: Time,
    events: BTreeMap<(Time, u64), Event>,
    count: u64,
    server: Server,
    queue: VecDeque<Vec<u8>>,
    busy: bool,
    /// Messages that are not lost and not handled.
    unhandled: usize,
    most_unhandled: usize,
    /// Chunks that were sent, those of them none of whose bytes were new, and messages lost in either direction.
    chunks: u64,
    resent: u64,
    lost: u64,
    /// The second of them by the upload's own figures, once it is done.
    told_resent: Option<u64>,
    fates: Box<dyn Iterator<Item = Fate>>,
    services: Box<dyn Iterator<Item = u64>>,
    /// Offsets to tell instead of the true one.
    lies: Box<dyn Iterator<Item = Option<usize>>>,
}

impl World {
    fn at(&mut self, delay_ms: u64, event: Event) {
        self.count += 1;
        self.events.insert((self.now + Duration::from_millis(delay_ms), self.count), event);
    }

    fn send(&mut self, message: &[u8]) {
        let fate = self.fates.next().unwrap_or_default();
        self.lost += u64::from(fate.lost);
        if fate.lost {
            return;
        }
        for _ in 0..=u8::from(fate.twice) {
            self.unhandled += 1;
            self.at(fate.delay_ms, Event::ToServer(message.to_vec()));
        }
        self.most_unhandled = self.most_unhandled.max(self.unhandled);
    }

    fn serve_next(&mut self) {
        if !self.busy
            && let Some(message) = self.queue.pop_front()
        {
            self.busy = true;
            let time = self.services.next().unwrap_or_default();
            self.at(time, Event::Served(message));
        }
    }

    /// Lets the next thing happen; gives a message that reached the client.
    fn step(&mut self) -> Option<Vec<u8>> {
        let ((at, _), event) = self.events.pop_first()?;
        self.now = self.now.max(at);
        match event {
            Event::ToClient(message) => return Some(message),
            Event::ToServer(message) => self.queue.push_back(message),
            Event::Served(message) => {
                self.busy = false;
                self.unhandled -= 1;
                let answer = self.answer(&message);
                let fate = self.fates.next().unwrap_or_default();
                self.lost += u64::from(fate.lost);
                for _ in 0..if fate.lost { 0 } else { 1 + usize::from(fate.twice) } {
                    self.at(fate.delay_ms, Event::ToClient(answer.clone()));
                }
            }
        }
        self.serve_next();
        None
    }

    fn answer(&mut self, message: &[u8]) -> Vec<u8> {
        let (header, payload) = Header::split(message).expect("a whole message");
        let mut body = Vec::new();
        if (header.group, header.command) == (group::IMAGE, 1) {
            let chunk: Chunk = ciborium::from_reader(payload).expect("an upload request");
            let offset = self.server.offset(&chunk);
            let offset = self.lies.next().flatten().unwrap_or(offset);
            let body_of = ciborium::Value::Map(vec![("off".into(), (offset as u64).into())]);
            ciborium::into_writer(&body_of, &mut body).expect("a map");
        } else {
            body.extend_from_slice(if self.server.complete { b"\xa1\x61c\xf5" } else { b"\xa1\x61c\xf4" });
        }
        let length = u16::try_from(body.len()).expect("a short answer");
        let header = Header { op: header.op.response(), length, ..header };
        [header.encode().as_slice(), &body].concat()
    }
}

/// What a ticket stands for.
enum Asked {
    Chunk(ChunkId),
    List,
}

/// Drives an upload to its end; says whether it was done.
fn drive(image: &Arc<[u8]>, config: UploadConfig, world: &mut World) -> Result<bool, TestCaseError> {
    let max_message = config.max_message;
    let mut upload = Upload::new(Arc::clone(image), [7; 32], config).expect("an upload");
    let mut exchange = Exchange::new(ExchangeConfig::default());
    let mut tickets: HashMap<Ticket, Asked> = HashMap::new();
    // Where the last chunk ended, and the first byte that was never sent.
    let (mut last_end, mut fresh) = (0, 0);
    for _ in 0..100_000 {
        let until = loop {
            let now = world.now;
            let ticket_of = |tickets: &HashMap<Ticket, Asked>, id| {
                tickets
                    .iter()
                    .find(|(_, asked)| matches!(asked, Asked::Chunk(other) if *other == id))
                    .map(|(t, _)| *t)
            };
            match upload.poll(now) {
                Action::Send(chunk) => {
                    prop_assert!(chunk.len > 0 && chunk.offset + chunk.len <= image.len());
                    prop_assert!(chunk.request.message_len() <= max_message);
                    // What the server wants next, or what follows what was sent.
                    let wanted = upload.progress().offset;
                    prop_assert!(
                        [wanted, last_end].contains(&chunk.offset),
                        "{} is neither {wanted} nor {last_end}",
                        chunk.offset
                    );
                    last_end = chunk.offset + chunk.len;
                    world.chunks += 1;
                    world.resent += u64::from(last_end <= fresh);
                    fresh = fresh.max(last_end);
                    tickets.insert(exchange.submit(now, chunk.request, chunk.policy), Asked::Chunk(chunk.id));
                }
                Action::Cancel(id) => {
                    // Its outcome may have come together with the one that made it useless.
                    if let Some(ticket) = ticket_of(&tickets, id) {
                        exchange.cancel(now, ticket);
                        tickets.remove(&ticket);
                    }
                }
                Action::LookAtList(policy) => {
                    let list = RawRequest::new(&ListImages {}).expect("a request");
                    tickets.insert(exchange.submit(now, list, policy), Asked::List);
                }
                Action::Wait(until) => break until,
                Action::Done(stats) => {
                    prop_assert!(stats.bytes <= image.len());
                    prop_assert_eq!(upload.progress().offset, image.len());
                    prop_assert_eq!(stats.chunks, world.chunks);
                    world.told_resent = Some(stats.resent_chunks);
                    return Ok(true);
                }
                Action::Failed(_) => return Ok(false),
            }
        };
        while let Some(message) = exchange.poll_transmit(world.now) {
            world.send(&message);
        }
        let next = world.events.keys().next().map(|(at, _)| *at);
        let timer = exchange.next_timeout().into_iter().chain(until).min();
        match (next, timer) {
            (Some(event), timer) if timer.is_none_or(|timer| event <= timer) => {
                if let Some(message) = world.step() {
                    exchange.handle_message(world.now, &message);
                }
            }
            (_, Some(timer)) => {
                world.now = world.now.max(timer);
                exchange.handle_timeout(world.now);
            }
            (_, None) => return Err(TestCaseError::fail("it waits for nothing")),
        }
        while let Some((ticket, outcome)) = exchange.poll_outcome() {
            match tickets.remove(&ticket) {
                Some(Asked::Chunk(id)) => upload.handle_outcome(world.now, id, outcome),
                Some(Asked::List) => {
                    let outcome = match outcome {
                        Ok(answer) if answer.payload.ends_with(&[0xf5]) => ListOutcome::Present,
                        Ok(_) => ListOutcome::Absent,
                        Err(error) => ListOutcome::Failed(error),
                    };
                    upload.handle_list(world.now, outcome);
                }
                None => {}
            }
        }
        prop_assert!(world.now < Duration::from_secs(24 * 3600), "it does not end");
    }
    Err(TestCaseError::fail("it does not end"))
}

fn image(len: usize) -> Arc<[u8]> {
    (0..len).map(|index| (index * 31 + index / 251).to_le_bytes()[0]).collect()
}

fn world(fates: Vec<Fate>, services: Vec<u64>, lies: Vec<Option<usize>>) -> World {
    World {
        now: Duration::ZERO,
        events: BTreeMap::new(),
        count: 0,
        server: Server::default(),
        queue: VecDeque::new(),
        busy: false,
        unhandled: 0,
        most_unhandled: 0,
        chunks: 0,
        resent: 0,
        lost: 0,
        told_resent: None,
        fates: Box::new(fates.into_iter().cycle()),
        services: Box::new(services.into_iter().cycle()),
        lies: Box::new(lies.into_iter().cycle()),
    }
}

/// A window that is found out or given, and buffers for it.
fn config(max_message: usize, window: usize, spare: usize, adaptive: bool) -> UploadConfig {
    UploadConfig { window, adaptive, sendings: window + spare, ..UploadConfig::new(max_message) }
}

/// How long the server takes for a message: mostly next to nothing, sometimes almost the proven time.
fn services() -> impl Strategy<Value = Vec<u64>> {
    vec(prop_oneof![8 => 0_u64..5, 2 => 5_u64..500, 1 => 500_u64..2300], 1..30)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() })]

    /// Serial lines and TCP: nothing overtakes. Not even a server that is slow, where repeats are in vain, ever has more
    /// than it has buffers for.
    #[test]
    fn server_in_order_is_never_given_more_than_it_has_room_for(
        len in 1_usize..20_000,
        max_message in 96_usize..600,
        (window, spare, adaptive) in (1_usize..5, 0_usize..2, any::<bool>()),
        delay_ms in 0_u64..60,
        losses in vec(prop::bool::weighted(0.07), 1..60),
        services in services(),
    ) {
        let image = image(len);
        let fates = losses.into_iter().map(|lost| Fate { lost, twice: false, delay_ms }).collect();
        let mut world = world(fates, services, vec![None]);
        let done = drive(&image, config(max_message, window, spare, adaptive), &mut world)?;
        prop_assert!(world.most_unhandled <= window + spare, "{} of {}", world.most_unhandled, window + spare);
        // Not the other way round: where every look is lost too, nobody answered, and that is what it says.
        prop_assert!(!done || world.server.complete);
        if done {
            prop_assert_eq!(world.server.flash.as_slice(), &*image);
        }
    }

    /// A server that is as fast as round trips say: each loss costs what was in flight with it, and nothing goes twice
    /// without one.
    #[test]
    fn nothing_goes_twice_without_a_loss(
        len in 1_usize..20_000,
        max_message in 96_usize..600,
        (window, spare, adaptive) in (1_usize..5, 0_usize..2, any::<bool>()),
        delay_ms in 0_u64..60,
        losses in vec(prop::bool::weighted(0.03), 1..200),
        services in vec(0_u64..5, 1..30),
    ) {
        let image = image(len);
        let fates = losses.into_iter().map(|lost| Fate { lost, twice: false, delay_ms }).collect();
        let mut world = world(fates, services, vec![None]);
        drive(&image, config(max_message, window, spare, adaptive), &mut world)?;
        let most = world.lost * window as u64;
        prop_assert!(world.resent <= most, "{} again for {} lost", world.resent, world.lost);
        prop_assert!(world.told_resent.is_none_or(|told| told == world.resent));
    }

    /// Networks: anything overtakes anything, and comes twice.
    #[test]
    fn what_is_done_over_a_network_is_there(
        len in 1_usize..20_000,
        max_message in 96_usize..600,
        (window, spare, adaptive) in (1_usize..5, 0_usize..2, any::<bool>()),
        fates in vec(
            (prop::bool::weighted(0.07), prop::bool::weighted(0.1), prop_oneof![4 => Just(5_u64), 1 => 0_u64..700])
                .prop_map(|(lost, twice, delay_ms)| Fate { lost, twice, delay_ms }),
            1..80,
        ),
        services in services(),
    ) {
        let image = image(len);
        let mut world = world(fates, services, vec![None]);
        let done = drive(&image, config(max_message, window, spare, adaptive), &mut world)?;
        // A first chunk that comes once more afterwards starts another upload: nobody can help that.
        prop_assert!(!done || world.server.completions > 0);
    }

    /// Servers that say another offset than the true one: it ends, and sends nothing that is not in the file.
    #[test]
    fn lies_end(
        len in 1_usize..5_000,
        (window, spare, adaptive) in (1_usize..5, 0_usize..2, any::<bool>()),
        losses in vec(prop::bool::weighted(0.05), 1..40),
        lies in vec(prop_oneof![6 => Just(None), 1 => (0_usize..6_000).prop_map(Some)], 1..40),
        delay_ms in select(vec![0_u64, 20]),
    ) {
        let fates = losses.into_iter().map(|lost| Fate { lost, twice: false, delay_ms }).collect();
        let mut world = world(fates, vec![1], lies);
        drive(&image(len), config(256, window, spare, adaptive), &mut world)?;
        prop_assert!(world.most_unhandled <= window + spare);
    }
}
