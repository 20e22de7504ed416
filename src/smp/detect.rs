//! Which framing a device at the end of a stream speaks, found out by asking it in each, one after the other. What is sent
//! harms none that speaks another, nor a person's shell. No ports and no clock here: time is an argument.
//!
//! Each question is the same request: the server's parameters (OS group, command 6), read, in protocol version 1. Every
//! server answers it, those that do not have it with an error, and it changes nothing. What a wrong guess does:
//!
//! - Console framing comes first, as most devices speak it and their shells know its marker. A raw server reads its text as
//!   headers of eight bytes, each an operation that is none or a length of more than 11 kB, and drops them; filling brings it
//!   back into step. A COBS server drops it at the next zero.
//! - A raw message looks to a console server like half a line without a marker, which a newline ends before the next question
//!   in console framing. A shell gets no printable character and no end of line: control characters that move its cursor.
//! - A COBS frame holds neither a newline nor a printable character. `07 00` before it and `00` behind it make of it two
//!   headers that a raw server drops.
//!
//! MCUboot's raw recovery drops with a header that is none whatever else it has read with it, so how much the filling has to
//! fill depends on how bytes reach it. Most often the first raw question finds it in step. Where it does not, the second
//! comes after [`raw::SILENCE`], when it has dropped everything.

use std::time::Duration;

use super::{Header, Op, Time, cobs, console, group, raw};

/// How messages are wrapped in a stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Encoding {
    /// Base64 lines with a CRC ([`super::console`]).
    Console,
    /// As they are ([`super::raw`]).
    Raw,
    /// Without zeros, with a CRC ([`super::cobs`]).
    Cobs,
}

impl Encoding {
    /// Every encoding, in the order in which devices are asked.
    pub const ALL: [Self; 3] = [Self::Console, Self::Raw, Self::Cobs];

    /// As plans and reports write it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Console => "console",
            Self::Raw => "raw",
            Self::Cobs => "cobs",
        }
    }
}

/// How long an answer may take: a message of this size both ways at 9600 baud takes 75 ms, serial servers add their share.
const ANSWER: Duration = Duration::from_millis(450);
/// How far the first raw question keeps away from the filling before it, so that a server does not read both at once.
const APART: Duration = Duration::from_millis(100);
/// How long all questions take, the last answer included.
pub const ROUND: Duration = Duration::from_millis(6 * 450 + 100 + 3200);
/// What fills: the operation of no header, and no character for a shell.
const FILLING: u8 = 0x07;

/// The question: read, version 1, one byte of payload, OS group, command 6, an empty map. The sequence number is none that
/// a shell or a console takes for a character, and its CRC holds none either.
const QUESTION: [u8; 9] = [0x00, 0x00, 0x00, 0x01, 0x00, 0x00, SEQUENCE, 0x06, 0xa0];
const SEQUENCE: u8 = 0xc5;
/// Ends half a line, and is a header that is none.
const END_OF_LINE: [u8; 8] = [FILLING, FILLING, FILLING, FILLING, FILLING, FILLING, FILLING, b'\n'];
/// Makes a header that is none of the first half of a COBS frame.
const COBS_BEFORE: [u8; 2] = [FILLING, cobs::DELIMITER];
const COBS_BEHIND: [u8; 1] = [cobs::DELIMITER];
/// Longest console line of a question; all of it fits one line of every server.
const LINE_LENGTH: usize = console::DEFAULT_LINE_LENGTH;

/// What was found out.
#[derive(Debug)]
pub struct Found {
    /// What the device speaks.
    pub encoding: Encoding,
    /// What came behind its answer.
    pub rest: Vec<u8>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Step {
    /// Ask in this encoding.
    Ask(Encoding),
    /// Bring a raw server into step, and then be silent for so long.
    Fill(Duration),
    /// Nothing more until the next round.
    Rest,
}

/// Asks a device in each framing, a round at a time.
#[derive(Debug)]
pub struct Detector {
    step: Step,
    /// When the step is due; `None` where no round is under way.
    due: Option<Time>,
    /// Everything has been asked once in this round.
    again: bool,
    /// Bytes sent since a raw server was last in step.
    sent: usize,
    /// A console server has half a line of something.
    half_line: bool,
    console: console::Decoder,
    raw: raw::Decoder,
    cobs: cobs::Decoder,
}

impl Default for Detector {
    fn default() -> Self {
        Self::new()
    }
}

impl Detector {
    /// A detector that has asked nothing yet.
    #[must_use]
    pub fn new() -> Self {
        Self {
            step: Step::Rest,
            due: None,
            again: false,
            sent: 0,
            half_line: false,
            console: console::Decoder::new(),
            raw: raw::Decoder::new(),
            cobs: cobs::Decoder::new(),
        }
    }

    /// Starts a round of questions, unless one is under way. `half_line` says that something may have been sent that a
    /// console server takes for the beginning of a line.
    pub fn start(&mut self, now: Time, half_line: bool) {
        self.half_line |= half_line;
        if self.due.is_none() {
            self.step = Step::Ask(Encoding::Console);
            self.due = Some(now);
            self.again = false;
            self.sent = 0;
        }
    }

    /// When [`Self::poll_transmit`] has something to do.
    #[must_use]
    pub fn next_timeout(&self) -> Option<Time> {
        self.due
    }

    /// What is to be sent at `now`.
    pub fn poll_transmit(&mut self, now: Time) -> Option<Vec<u8>> {
        if self.due.is_some_and(|due| due <= now) {
            let step = self.step;
            let (bytes, next, wait) = match step {
                Step::Ask(Encoding::Console) => {
                    let mut bytes = Vec::new();
                    if std::mem::take(&mut self.half_line) {
                        bytes.extend(END_OF_LINE);
                    }
                    bytes.extend(console::encode(&QUESTION, LINE_LENGTH));
                    (bytes, Step::Fill(if self.again { raw::SILENCE } else { APART }), ANSWER)
                }
                Step::Fill(silence) => {
                    let filled = (self.sent + super::HEADER_LEN).next_multiple_of(super::HEADER_LEN);
                    (vec![FILLING; filled - self.sent], Step::Ask(Encoding::Raw), silence)
                }
                Step::Ask(Encoding::Raw) => (QUESTION.to_vec(), Step::Ask(Encoding::Cobs), ANSWER),
                Step::Ask(Encoding::Cobs) => {
                    let bytes = [&COBS_BEFORE[..], &cobs::encode(&QUESTION), &COBS_BEHIND].concat();
                    (bytes, if self.again { Step::Rest } else { Step::Ask(Encoding::Console) }, ANSWER)
                }
                Step::Rest => {
                    self.due = None;
                    return None;
                }
            };
            self.half_line |= step != Step::Ask(Encoding::Console);
            // A raw server that is in step and did not answer its question is none.
            self.sent = if step == Step::Ask(Encoding::Raw) { 0 } else { self.sent + bytes.len() };
            self.again |= step == Step::Ask(Encoding::Cobs);
            self.step = next;
            self.due = Some(now + wait);
            return Some(bytes);
        }
        None
    }

    /// Takes what came from the device at `now`; tells what it speaks once it has answered.
    pub fn push(&mut self, now: Time, bytes: &[u8]) -> Option<Found> {
        for (at, byte) in bytes.iter().enumerate() {
            let byte = std::slice::from_ref(byte);
            let encoding = [
                (Encoding::Console, self.console.push(byte)),
                (Encoding::Raw, self.raw.push(now, byte)),
                (Encoding::Cobs, self.cobs.push(byte)),
            ]
            .into_iter()
            .find(|(_, messages)| messages.iter().any(|message| is_answer(message)))
            .map(|(encoding, _)| encoding);
            if let Some(encoding) = encoding {
                let rest = bytes.get(at + 1..).unwrap_or_default().to_vec();
                return Some(Found { encoding, rest });
            }
        }
        None
    }

    /// Whether a console server may have half a line of something.
    #[must_use]
    pub fn half_line(&self) -> bool {
        self.half_line
    }
}

/// Whether a message answers the question.
fn is_answer(message: &[u8]) -> bool {
    let ours = [QUESTION[6], QUESTION[7]];
    Header::split(message).is_ok_and(|(header, _)| {
        header.op == Op::ReadResponse
            && header.group == group::OS
            && [header.sequence, header.command] == ours
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(ms: u64) -> Time {
        Duration::from_millis(ms)
    }

    /// What a round sends, and when.
    fn round(detector: &mut Detector, now: Time) -> Vec<(Time, Vec<u8>)> {
        detector.start(now, false);
        let mut sent = Vec::new();
        while let Some(due) = detector.next_timeout() {
            sent.extend(detector.poll_transmit(due).map(|bytes| (due, bytes)));
        }
        sent
    }

    fn questions() -> Vec<Vec<u8>> {
        round(&mut Detector::new(), at(0)).into_iter().map(|(_, bytes)| bytes).collect()
    }

    #[test]
    fn a_round_asks_twice_in_each_framing_and_then_rests() {
        let mut detector = Detector::new();
        let sent = round(&mut detector, at(1000));
        let bytes: Vec<_> = sent.iter().map(|(_, bytes)| bytes.as_slice()).collect();
        let times: Vec<_> = sent.iter().map(|(at, _)| at.as_millis()).collect();
        let console = b"\x07\x07\x07\x07\x07\x07\x07\n\x06\x09AAsAAAABAADFBqCX6w==\n";
        let raw = [0, 0, 0, 1, 0, 0, 0xc5, 6, 0xa0];
        let cobs = [7, 0, 1, 1, 1, 2, 1, 1, 6, 0xc5, 6, 0xa0, 0x97, 0xeb, 0, 0];
        assert_eq!(bytes[..4], [&console[8..], &[7; 9], &raw, &cobs]);
        // The half line is ended first.
        assert_eq!(bytes[4..], [&console[..], &[7; 9], &raw, &cobs]);
        assert_eq!(times, [1000, 1450, 1550, 2000, 2450, 2900, 6100, 6550]);
        assert_eq!(detector.next_timeout(), None);
        let next = round(&mut detector, at(9000));
        assert_eq!((next.len(), next[0].1.as_slice()), (8, &console[..]));
    }

    #[test]
    fn a_round_takes_as_long_as_it_says() {
        let mut detector = Detector::new();
        let (last, _) = round(&mut detector, at(0)).pop().unwrap();
        assert_eq!(last + ANSWER, ROUND);
    }

    #[test]
    fn no_question_but_a_framed_one_types_anything_into_a_shell() {
        for bytes in questions().iter().filter(|bytes| !bytes.ends_with(b"\n")) {
            for byte in bytes {
                let moves_or_nothing = [0x00, 0x01, 0x02, 0x05, 0x06, 0x07];
                assert!(moves_or_nothing.contains(byte) || *byte >= 0x80, "{byte:#04x} in {bytes:x?}");
            }
        }
    }

    #[test]
    fn a_raw_server_in_step_stays_in_step_and_gets_the_raw_question_alone() {
        // Zephyr `mcumgr_serial_process_frag`: a header of an operation from 4, or a length beyond the buffer, is dropped.
        let mut held = Vec::new();
        let mut got = Vec::new();
        for byte in questions().concat() {
            held.push(byte);
            let Some(length) = held.get(2..4).map(|l| 8 + usize::from(u16::from_be_bytes([l[0], l[1]])))
            else {
                continue;
            };
            if held.len() >= 8 && (held[0] & 7 >= 4 || length > 9000) {
                held.clear();
            } else if held.len() == length {
                got.push(std::mem::take(&mut held));
            }
        }
        assert_eq!(got, [QUESTION, QUESTION]);
        assert!(held.is_empty(), "{held:x?}");
    }

    #[test]
    fn the_answer_tells_in_any_framing_and_through_noise() {
        let answer = [0x01, 0, 0, 1, 0, 0, SEQUENCE, 6, 0xa0];
        for encoding in Encoding::ALL {
            let frame = match encoding {
                Encoding::Console => console::encode(&answer, LINE_LENGTH),
                Encoding::Raw => answer.to_vec(),
                Encoding::Cobs => [&[0][..], &cobs::encode(&answer)].concat(),
            };
            let mut detector = Detector::new();
            detector.start(at(0), false);
            assert!(detector.push(at(1), b"*** Booting ***\r\nuart:~$ ").is_none());
            let found = detector.push(at(2), &[frame, b"more".to_vec()].concat()).unwrap();
            assert_eq!((found.encoding, found.rest.as_slice()), (encoding, &b"more"[..]));
        }
    }

    #[test]
    fn an_answer_to_something_else_tells_nothing() {
        let mut detector = Detector::new();
        detector.start(at(0), false);
        for message in [[0x01, 0, 0, 1, 0, 0, 7, 6, 0xa0], [0x00, 0, 0, 1, 0, 0, SEQUENCE, 6, 0xa0]] {
            assert!(detector.push(at(1), &message).is_none());
            assert!(detector.push(at(1), &console::encode(&message, 128)).is_none());
        }
    }
}
