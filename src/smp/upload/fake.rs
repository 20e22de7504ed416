//! For tests: a server that takes uploads as real ones do, and a link to it that loses what it is told to lose.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use serde::Deserialize;
use sha2::{Digest, Sha256};

use super::{Action, ChunkId, ListOutcome, Upload, UploadConfig, UploadError, UploadStats};
use crate::smp::exchange::{Exchange, ExchangeConfig, Ticket};
use crate::smp::{Header, Time};

/// One upload request, as a server reads it.
#[derive(Debug, Clone, Deserialize)]
pub(super) struct Chunk {
    #[serde(default)]
    pub(super) image: u32,
    #[serde(default)]
    pub(super) len: Option<usize>,
    pub(super) off: usize,
    #[serde(default, with = "serde_bytes")]
    pub(super) sha: Option<Vec<u8>>,
    #[serde(with = "serde_bytes")]
    pub(super) data: Vec<u8>,
    #[serde(default)]
    pub(super) upgrade: bool,
}

/// How a server writes and forgets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// Zephyr's `img_mgmt.c`: resumes by `sha`, forgets the upload when it is complete.
    Zephyr,
    /// MCUboot's `boot_serial.c`: no `sha`, writes in units of this many bytes, keeps the offset when it is complete.
    Recovery(usize),
}

/// A server with one slot to upload to.
#[derive(Debug)]
pub(super) struct Server {
    pub(super) kind: Kind,
    /// Longer messages meet silence.
    pub(super) max_message: usize,
    /// Offset, length and `sha` of the upload under way.
    pub(super) upload: Option<(usize, usize, Vec<u8>)>,
    /// What was written.
    pub(super) flash: Vec<u8>,
    /// The whole image was written since the last start.
    pub(super) complete: bool,
    /// Payloads to answer with instead, by the number of the request.
    pub(super) instead: BTreeMap<usize, Vec<u8>>,
    /// Every request that it handled.
    pub(super) requests: Vec<Chunk>,
    /// Lengths of their messages, in bytes.
    pub(super) lengths: Vec<usize>,
}

impl Server {
    pub(super) fn new(kind: Kind) -> Self {
        Self {
            kind,
            max_message: usize::MAX,
            upload: None,
            flash: Vec::new(),
            complete: false,
            instead: BTreeMap::new(),
            requests: Vec::new(),
            lengths: Vec::new(),
        }
    }

    /// The answer to one message, header included; `None` for a message that is too long.
    pub(super) fn handle(&mut self, message: &[u8]) -> Option<Vec<u8>> {
        if message.len() > self.max_message {
            return None;
        }
        let (header, payload) = Header::split(message).expect("a whole message");
        let chunk: Chunk = ciborium::from_reader(payload).expect("an upload request");
        let number = self.requests.len();
        self.requests.push(chunk.clone());
        self.lengths.push(message.len());
        let body = self.instead.get(&number).cloned().unwrap_or_else(|| self.take(&chunk));
        let length = u16::try_from(body.len()).expect("a short answer");
        let header = Header { op: header.op.response(), length, ..header };
        Some([header.encode().as_slice(), &body].concat())
    }

    fn take(&mut self, chunk: &Chunk) -> Vec<u8> {
        if chunk.off == 0 {
            let sha = chunk.sha.clone().unwrap_or_default();
            let Some(len) = chunk.len else { return group_error(21) };
            if chunk.data.len() < 32.min(len) {
                return group_error(22);
            }
            match &self.upload {
                Some((off, _, known)) if self.kind == Kind::Zephyr && !sha.is_empty() && *known == sha => {
                    return offset(*off);
                }
                _ => {}
            }
            self.upload = Some((0, len, sha));
            self.flash.clear();
            self.complete = false;
        }
        let Some((off, len, _)) = &mut self.upload else { return offset(0) };
        if chunk.off != *off {
            return offset(*off);
        }
        if *off + chunk.data.len() > *len {
            return group_error(31);
        }
        let mut taken = chunk.data.len();
        if let Kind::Recovery(unit) = self.kind
            && *off + taken < *len
        {
            taken -= taken % unit;
        }
        self.flash.extend_from_slice(&chunk.data[..taken]);
        *off += taken;
        let now = *off;
        if now == *len {
            self.complete = true;
            if self.kind == Kind::Zephyr {
                self.upload = None;
            }
        }
        offset(now)
    }
}

/// `{"off": offset}`, with the `rc: 0` that recovery adds.
pub(super) fn offset(offset: usize) -> Vec<u8> {
    map(&[("rc", 0.into()), ("off", (offset as u64).into())])
}

/// `{"err": {"group": 1, "rc": rc}}`.
pub(super) fn group_error(rc: u8) -> Vec<u8> {
    let err = vec![("group".into(), 1.into()), ("rc".into(), rc.into())];
    map(&[("err", ciborium::Value::Map(err))])
}

/// `{"rc": rc}`.
pub(super) fn smp_error(rc: u8) -> Vec<u8> {
    map(&[("rc", rc.into())])
}

pub(super) fn map(fields: &[(&str, ciborium::Value)]) -> Vec<u8> {
    let fields = fields.iter().map(|(name, value)| ((*name).into(), value.clone())).collect();
    let mut out = Vec::new();
    ciborium::into_writer(&ciborium::Value::Map(fields), &mut out).expect("a map");
    out
}

/// An image of `len` bytes that are all different enough to tell a shift.
pub(super) fn image(len: usize) -> Arc<[u8]> {
    (0..len).map(|index| (index * 31 + index / 251).to_le_bytes()[0]).collect()
}

pub(super) fn upload(image: &Arc<[u8]>, config: UploadConfig) -> Result<Upload, UploadError> {
    Upload::new(Arc::clone(image), Sha256::digest(image).into(), config)
}

/// Which way a message goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Way {
    Request,
    Answer,
}

/// One upload over one link, in virtual time. Messages take no time.
pub(super) struct Bench {
    pub(super) server: Server,
    pub(super) now: Time,
    pub(super) exchange: Exchange,
    /// Says of the n-th message that way whether it is lost; numbers count from 0.
    pub(super) lose: Box<dyn FnMut(Way, usize) -> bool>,
    /// What the image list says; by default what is true.
    pub(super) list: Option<ListOutcome>,
    pub(super) looks: u32,
    /// When each chunk was sent.
    pub(super) sent_at: Vec<Time>,
}

impl Bench {
    pub(super) fn new(server: Server) -> Self {
        Self {
            server,
            now: Duration::ZERO,
            exchange: Exchange::new(ExchangeConfig::default()),
            lose: Box::new(|_, _| false),
            list: None,
            looks: 0,
            sent_at: Vec::new(),
        }
    }

    pub(super) fn losing(server: Server, lose: impl FnMut(Way, usize) -> bool + 'static) -> Self {
        Self { lose: Box::new(lose), ..Self::new(server) }
    }

    /// Drives the upload to its end.
    pub(super) fn run(&mut self, upload: &mut Upload) -> Result<UploadStats, UploadError> {
        let mut tickets: BTreeMap<Ticket, ChunkId> = BTreeMap::new();
        let (mut requests, mut answers) = (0, 0);
        for _ in 0..100_000 {
            let until = loop {
                match upload.poll(self.now) {
                    Action::Send(chunk) => {
                        self.sent_at.push(self.now);
                        tickets.insert(self.exchange.submit(self.now, chunk.request, chunk.policy), chunk.id);
                    }
                    Action::Cancel(id) => {
                        let ticket =
                            tickets.iter().find(|(_, other)| **other == id).map(|(ticket, _)| *ticket);
                        self.exchange.cancel(self.now, ticket.expect("a chunk that was sent"));
                    }
                    Action::LookAtList(_) => {
                        self.looks += 1;
                        let truth =
                            if self.server.complete { ListOutcome::Present } else { ListOutcome::Absent };
                        upload.handle_list(self.now, self.list.clone().unwrap_or(truth));
                    }
                    Action::Wait(until) => break until,
                    Action::Done(stats) => return Ok(stats),
                    Action::Failed(error) => return Err(error),
                }
            };
            let mut replies = VecDeque::new();
            while let Some(message) = self.exchange.poll_transmit(self.now) {
                requests += 1;
                if !(self.lose)(Way::Request, requests - 1) {
                    replies.extend(self.server.handle(&message));
                }
            }
            let idle = replies.is_empty();
            for reply in replies {
                answers += 1;
                if !(self.lose)(Way::Answer, answers - 1) {
                    self.exchange.handle_message(self.now, &reply);
                }
            }
            if idle {
                let next = self.exchange.next_timeout().into_iter().chain(until).min();
                self.now = self.now.max(next.expect("something to wait for"));
                self.exchange.handle_timeout(self.now);
            }
            while let Some((ticket, outcome)) = self.exchange.poll_outcome() {
                upload.handle_outcome(self.now, tickets[&ticket], outcome);
            }
        }
        panic!("the upload did not end");
    }
}
