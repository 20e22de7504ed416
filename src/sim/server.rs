//! The simulated SMP server: from a whole message to its answers, after Zephyr `subsys/mgmt/mcumgr/smp/src/smp.c`. Pure: no
//! time, no buffers, no faults of the link.

use std::collections::VecDeque;

use super::fault::{FaultSpec, Refusal};
use super::flash::Flash;
use super::groups::{
    Answer, Clock, Effects, Files, ImageGroup, Refused, Settings, SmpError, enumeration, os, shell,
    statistics,
};
use super::recovery::RecoveryUpload;
use super::spec::SimSpec;
use crate::smp::{HEADER_LEN, Header, Op, Version, group};

/// Requests that are remembered for tests.
const SEEN_KEPT: usize = 16_384;

/// A request that the server has seen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SeenRequest {
    /// Read or write; `None` for an operation that is no request.
    pub op: Option<Op>,
    /// Management group.
    pub group: u16,
    /// Command within the group.
    pub command: u8,
    /// Sequence number.
    pub sequence: u8,
    /// Length of the payload as the header says, in bytes.
    pub length: u16,
}

/// One answer, and what it is the answer to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Reply {
    /// The whole message.
    pub(super) message: Vec<u8>,
    pub(super) group: u16,
    pub(super) command: u8,
    /// Which answer to this group and command this is, from 1.
    pub(super) nth: u64,
    pub(super) effects: Effects,
}

/// The server's memory, which a reset clears; clock, stored settings and closed files outlive it. The counters are the
/// simulation's own and stay.
#[derive(Debug, Default)]
pub(super) struct Server {
    image: ImageGroup,
    clock: Clock,
    settings: Settings,
    files: Files,
    pub(super) recovery: RecoveryUpload,
    /// Of each group and command that was asked for: a few.
    counts: Vec<((u16, u8), u64)>,
    seen: VecDeque<SeenRequest>,
}

/// The header as it came, whatever its version and operation.
#[derive(Debug, Clone, Copy)]
pub(super) struct RawHeader {
    pub(super) op: u8,
    pub(super) version: u8,
    pub(super) length: u16,
    pub(super) group: u16,
    sequence: u8,
    pub(super) command: u8,
}

impl RawHeader {
    pub(super) fn read(bytes: &[u8]) -> Option<Self> {
        let &[first, _, l0, l1, g0, g1, sequence, command] = bytes.first_chunk::<HEADER_LEN>()?;
        Some(Self {
            op: first & 0x07,
            version: (first >> 3) & 0x03,
            length: u16::from_be_bytes([l0, l1]),
            group: u16::from_be_bytes([g0, g1]),
            sequence,
            command,
        })
    }

    /// The request's operation; `None` for everything that is no request.
    pub(super) fn request_op(self) -> Option<Op> {
        match self.op {
            0 => Some(Op::Read),
            2 => Some(Op::Write),
            _ => None,
        }
    }

    /// A message that answers this one. Zephyr answers everything but a read as a write.
    pub(super) fn answer(self, payload: &[u8]) -> Vec<u8> {
        let header = Header {
            op: if self.op == 0 { Op::ReadResponse } else { Op::WriteResponse },
            version: if self.version == 0 { Version::V1 } else { Version::V2 },
            flags: 0,
            length: u16::try_from(payload.len()).unwrap_or(u16::MAX),
            group: self.group,
            sequence: self.sequence,
            command: self.command,
        };
        [&header.encode()[..], payload].concat()
    }
}

/// An SMP error and, in protocol version 1, the reason for it.
#[derive(Debug, Clone, Copy)]
struct Failure {
    rc: u32,
    reason: Option<&'static str>,
}

/// The answer to an SMP error.
pub(super) fn error_payload(rc: u32, reason: Option<&str>) -> Vec<u8> {
    let mut answer = Answer::new();
    answer.number("rc", rc.into());
    if let Some(reason) = reason {
        answer.text("rsn", reason);
    }
    answer.finish()
}

/// The answer in protocol version 2 to an error of a group (`smp_add_cmd_err`).
/// The file group adds `len` to some.
fn group_error_payload(group: u16, rc: u32, len: Option<u64>) -> Vec<u8> {
    let mut answer = Answer::new();
    answer.map("err");
    answer.number("group", group.into());
    answer.number("rc", rc.into());
    answer.close();
    if let Some(len) = len {
        answer.number("len", len);
    }
    answer.finish()
}

/// The SMP error that protocol version 1 gets for an error of a group (`img_mgmt_translate_error_code` and its like).
fn translate(group: u16, rc: u32) -> u32 {
    let translated = match (group, rc) {
        (group::OS, 2) | (group::STAT, 4) | (group::SETTINGS, 2) => SmpError::Invalid,
        (group::FS, 2 | 13) | (group::SHELL, 2 | 3) | (group::ENUM, 2) => SmpError::Invalid,
        (group::OS, 3 | 4) | (group::STAT, 2 | 3) | (group::IMAGE, 3 | 4) => SmpError::NoEntry,
        (group::SETTINGS, 3 | 4) | (group::FS, 3 | 14) => SmpError::NoEntry,
        (group::IMAGE, 9 | 27 | 28) => SmpError::BadState,
        (group::IMAGE, 15) => SmpError::NoMemory,
        (group::IMAGE, 14 | 19..=22 | 24 | 25) => SmpError::Invalid,
        _ => SmpError::Unknown,
    };
    translated as u32
}

impl Server {
    /// What a reset does to the server.
    pub(super) fn restart(&mut self) {
        self.image = ImageGroup::default();
        self.recovery = RecoveryUpload::default();
        self.settings.restart();
        self.files.restart();
    }

    /// A file's content, as written at its last close.
    pub(super) fn file(&self, path: &str) -> Option<Vec<u8>> {
        self.files.content(path).map(<[u8]>::to_vec)
    }

    /// The latest requests, at most [`SEEN_KEPT`], oldest first.
    pub(super) fn seen(&self) -> Vec<SeenRequest> {
        self.seen.iter().cloned().collect()
    }

    /// How many requests of this group and command came since the device was made.
    pub(super) fn requests(&self, group: u16, command: u8) -> u64 {
        self.counts.iter().find(|(of, _)| *of == (group, command)).map_or(0, |(_, count)| *count)
    }

    /// How many requests came since the device was made.
    pub(super) fn total_requests(&self) -> u64 {
        self.counts.iter().map(|(_, count)| count).sum()
    }

    /// Handles every request in one message, as far as the first that fails.
    pub(super) fn handle(
        &mut self,
        (spec, fault): (&SimSpec, &FaultSpec),
        flash: &mut Flash,
        message: &[u8],
    ) -> Vec<Reply> {
        let mut replies = Vec::new();
        let mut rest = message;
        // What is too short for a header ends the message without an answer.
        while let Some(header) = RawHeader::read(rest) {
            let nth = self.count(header);
            rest = rest.get(HEADER_LEN..).unwrap_or_default();
            let length = usize::from(header.length);
            let outcome = match rest.get(..length) {
                Some(payload) => self.handle_one((spec, fault), flash, (header, nth), payload),
                None => Err(Failure { rc: SmpError::Corrupt as u32, reason: None }),
            };
            let failed = outcome.is_err();
            let (payload, effects) = outcome
                .unwrap_or_else(|failure| (error_payload(failure.rc, failure.reason), Effects::default()));
            let message = header.answer(&payload);
            replies.push(Reply { message, group: header.group, command: header.command, nth, effects });
            if failed {
                break;
            }
            rest = rest.get(length..).unwrap_or_default();
        }
        replies
    }

    /// Handles one request. An error of a group is a success to SMP version 2, and a failure to version 1.
    fn handle_one(
        &mut self,
        (spec, fault): (&SimSpec, &FaultSpec),
        flash: &mut Flash,
        (header, nth): (RawHeader, u64),
        payload: &[u8],
    ) -> Result<(Vec<u8>, Effects), Failure> {
        let fail = |error: SmpError| Failure { rc: error as u32, reason: None };
        if header.version > Version::V2 as u8 {
            return Err(fail(SmpError::TooNew));
        }
        let op = header.request_op().ok_or(fail(SmpError::NotSupported))?;
        let mut answer = Answer::new();
        let refusal = fault.refuse.iter().find(|refusal| refusal.applies(header.group, header.command, nth));
        let outcome = match refusal {
            Some(Refusal { rc, of_group: true, .. }) => {
                Err(Refused::Group { group: header.group, rc: *rc, reason: None })
            }
            Some(Refusal { rc, .. }) => Err(Refused::Smp(*rc)),
            None => self.dispatch((spec, fault), flash, (op, header), payload, &mut answer),
        };
        let (payload, effects) = match outcome {
            Ok(effects) => (answer.finish(), effects),
            Err(Refused::Smp(rc)) => return Err(Failure { rc, reason: None }),
            Err(Refused::Group { group, rc, reason }) if header.version == Version::V1 as u8 => {
                let reason = reason.filter(|_| spec.verbose_errors);
                return Err(Failure { rc: translate(group, rc), reason });
            }
            Err(Refused::Group { group, rc, .. }) => {
                (group_error_payload(group, rc, None), Effects::default())
            }
            Err(Refused::Offset { rc, .. }) if header.version == Version::V1 as u8 => {
                return Err(Failure { rc: translate(group::FS, rc), reason: None });
            }
            Err(Refused::Offset { rc, len }) => {
                (group_error_payload(group::FS, rc, Some(len)), Effects::default())
            }
        };
        if HEADER_LEN + payload.len() > spec.buf_size as usize {
            // `enum_mgmt.c` knows one error for everything.
            let error = if header.group == group::ENUM { SmpError::Corrupt } else { SmpError::MessageSize };
            return Err(fail(error));
        }
        Ok((payload, effects))
    }

    fn dispatch(
        &mut self,
        (spec, fault): (&SimSpec, &FaultSpec),
        flash: &mut Flash,
        (op, header): (Op, RawHeader),
        payload: &[u8],
        answer: &mut Answer,
    ) -> Result<Effects, Refused> {
        let request = (op, header.command);
        match header.group {
            group if !spec.groups.contains(&group) => Err(SmpError::NotSupported.into()),
            group::OS => os(spec, &mut self.clock, request, payload, answer),
            group::IMAGE => self.image.handle((spec, fault), flash, request, payload, answer),
            group::STAT => statistics(spec, self.total_requests(), request, payload, answer),
            group::SETTINGS => self.settings.handle(request, payload, answer),
            group::FS => self.files.handle(spec, request, payload, answer),
            group::SHELL => shell(request, payload, answer),
            group::ENUM => enumeration(spec, request, payload, answer),
            group::ZEPHYR => self.settings.basic(request),
            _ => Err(SmpError::NotSupported.into()),
        }
    }

    /// The answer where no buffer is left for one: nothing is done (`MGMT_ERR_ENOMEM`).
    pub(super) fn out_of_memory(&mut self, message: &[u8]) -> Vec<Reply> {
        let Some(header) = RawHeader::read(message) else { return Vec::new() };
        let nth = self.count(header);
        let message = header.answer(&error_payload(SmpError::NoMemory as u32, None));
        let effects = Effects::default();
        vec![Reply { message, group: header.group, command: header.command, nth, effects }]
    }

    pub(super) fn count(&mut self, header: RawHeader) -> u64 {
        if self.seen.len() == SEEN_KEPT {
            self.seen.pop_front();
        }
        self.seen.push_back(SeenRequest {
            op: header.request_op(),
            group: header.group,
            command: header.command,
            sequence: header.sequence,
            length: header.length,
        });
        let of = (header.group, header.command);
        if let Some((_, count)) = self.counts.iter_mut().find(|(other, _)| *other == of) {
            *count += 1;
            return *count;
        }
        self.counts.push((of, 1));
        1
    }
}
