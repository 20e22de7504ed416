//! How messages are wrapped in a stream: the framing that the plan says, or that the device is found to speak. What is found
//! is kept per device and firmware. Nothing is read or written here: time is an argument.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use super::link::{Firmware, Framing, LinkProperties};
use crate::plan::FramingChoice;
use crate::smp::detect::{Detector, Encoding};
use crate::smp::{Time, cobs, console, raw};

/// Messages kept while the device is asked what it speaks; the oldest go first.
const HELD: usize = 4;
/// A device that answered none of this many messages …
const UNANSWERED: u32 = 3;
/// … for this long may speak another framing by now: it is asked again.
const UNANSWERED_FOR: Duration = Duration::from_secs(5);
/// Largest message, in bytes, that raw servers take whose buffers are not known: the default of Zephyr's
/// `CONFIG_MCUMGR_TRANSPORT_UART_MTU`, within every default of a buffer.
const SAFE_MESSAGE: usize = 256;
/// Bytes that a paced link hands over at once where no line ends: MCUboot's fragments (`CONFIG_BOOT_MAX_LINE_INPUT_LEN`).
const PIECE: usize = 128;

/// What one device was found to speak, kept over its resets and over the links to it: for its application and for its
/// bootloader, as these may differ. Clones share it.
#[derive(Debug, Clone, Default)]
pub struct FramingMemory(Arc<Mutex<Remembered>>);

#[derive(Debug, Default)]
struct Remembered {
    expected: Firmware,
    application: Option<Encoding>,
    bootloader: Option<Encoding>,
}

impl Remembered {
    fn of(&mut self, firmware: Firmware) -> &mut Option<Encoding> {
        match firmware {
            Firmware::Application => &mut self.application,
            Firmware::Bootloader => &mut self.bootloader,
        }
    }
}

impl FramingMemory {
    /// What the device is expected to run from now on.
    pub fn expect(&self, firmware: Firmware) {
        self.with(|remembered| remembered.expected = firmware);
    }

    /// What the firmware that is expected now was found to speak.
    #[must_use]
    pub fn known(&self) -> Option<Encoding> {
        self.with(|remembered| *remembered.of(remembered.expected))
    }

    fn expected(&self) -> Firmware {
        self.with(|remembered| remembered.expected)
    }

    fn keep(&self, firmware: Firmware, encoding: Option<Encoding>) {
        self.with(|remembered| *remembered.of(firmware) = encoding);
    }

    fn with<T>(&self, act: impl FnOnce(&mut Remembered) -> T) -> T {
        act(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// The framing in use, and what is under way from the device.
#[derive(Debug)]
enum Codec {
    Console(console::Decoder),
    Raw(raw::Decoder),
    Cobs(cobs::Decoder),
    /// It is being found out.
    Asking(Box<Detector>),
}

impl Codec {
    fn of(encoding: Encoding) -> Self {
        match encoding {
            Encoding::Console => Self::Console(console::Decoder::new()),
            Encoding::Raw => Self::Raw(raw::Decoder::new()),
            Encoding::Cobs => Self::Cobs(cobs::Decoder::new()),
        }
    }

    fn encoding(&self) -> Option<Encoding> {
        match self {
            Self::Console(_) => Some(Encoding::Console),
            Self::Raw(_) => Some(Encoding::Raw),
            Self::Cobs(_) => Some(Encoding::Cobs),
            Self::Asking(_) => None,
        }
    }
}

/// How messages are wrapped in one stream.
#[derive(Debug)]
pub(crate) struct StreamFraming {
    /// Bytes of the longest console line, marker and newline included.
    line_length: usize,
    /// What every server takes in lines of that length: asked for with each message, and not quickly found out.
    safe_in_lines: usize,
    codec: Codec,
    /// Where the framing is found out: what is known of the device, and the firmware that `codec` is for.
    auto: Option<(FramingMemory, Firmware)>,
    /// What was to be sent while the device was being asked.
    held: VecDeque<Vec<u8>>,
    /// Messages sent since the last one came, and when the first of them went.
    unanswered: u32,
    unanswered_since: Time,
    /// A console server has half a line of something.
    half_line: bool,
}

impl StreamFraming {
    /// The framing that `choice` says, with console lines of at most `line_length` bytes, marker and newline included. What
    /// is found out is kept in `memory`.
    pub(crate) fn new(choice: FramingChoice, line_length: usize, memory: &FramingMemory) -> Self {
        match choice {
            FramingChoice::Console => Self::fixed(Encoding::Console, line_length),
            FramingChoice::Raw => Self::fixed(Encoding::Raw, line_length),
            FramingChoice::Cobs => Self::fixed(Encoding::Cobs, line_length),
            FramingChoice::Auto => {
                let auto = Some((memory.clone(), memory.expected()));
                Self { codec: asking_or(memory.known()), auto, ..Self::fixed(Encoding::Console, line_length) }
            }
        }
    }

    /// One framing, with console lines of at most `line_length` bytes, marker and newline included.
    pub(crate) fn fixed(encoding: Encoding, line_length: usize) -> Self {
        Self {
            line_length,
            safe_in_lines: safe_console_message(line_length),
            codec: Codec::of(encoding),
            auto: None,
            held: VecDeque::new(),
            unanswered: 0,
            unanswered_since: Time::ZERO,
            half_line: false,
        }
    }

    /// The framed message; `None` where the device has to be asked first: the message is kept. `after_cut` says that the
    /// frame before it was left unfinished on the wire.
    pub(crate) fn encode(&mut self, now: Time, message: &[u8], after_cut: bool) -> Option<Vec<u8>> {
        self.think_again(now);
        if let Codec::Asking(detector) = &mut self.codec {
            detector.start(now, after_cut || self.half_line);
            // A message that is sent again is the same one.
            if !self.held.iter().any(|held| held == message) {
                self.held.push_back(message.to_vec());
            }
            if self.held.len() > HELD {
                self.held.pop_front();
            }
            return None;
        }
        if self.unanswered == 0 {
            self.unanswered_since = now;
        }
        self.unanswered = self.unanswered.saturating_add(1);
        let mut out = Vec::new();
        match &self.codec {
            Codec::Console(_) => {
                if after_cut || std::mem::take(&mut self.half_line) {
                    // Ends the line that the device has half of; else it would swallow the marker that follows.
                    out.push(b'\n');
                }
                let lines = console::encode(message, self.line_length);
                if out.is_empty() {
                    return Some(lines);
                }
                out.extend(lines);
            }
            Codec::Cobs(_) => {
                if after_cut {
                    out.push(cobs::DELIMITER);
                }
                out.extend(cobs::encode(message));
            }
            Codec::Raw(_) | Codec::Asking(_) => out.extend_from_slice(message),
        }
        Some(out)
    }

    /// Another firmware may speak another framing, and so may one that has long answered nothing.
    fn think_again(&mut self, now: Time) {
        let Some((memory, firmware)) = &mut self.auto else { return };
        let expected = memory.expected();
        if expected != *firmware {
            *firmware = expected;
            self.half_line |= self.codec.encoding() != Some(Encoding::Console);
            self.codec = asking_or(memory.known());
            self.unanswered = 0;
        } else if self.unanswered >= UNANSWERED && now >= self.unanswered_since + UNANSWERED_FOR {
            memory.keep(*firmware, None);
            self.half_line |= self.codec.encoding() != Some(Encoding::Console);
            self.codec = asking_or(None);
            self.unanswered = 0;
        }
    }

    /// Takes bytes that came at `now`, gives the messages that they complete.
    pub(crate) fn push(&mut self, now: Time, bytes: &[u8]) -> Vec<Vec<u8>> {
        let messages = match &mut self.codec {
            Codec::Console(decoder) => decoder.push(bytes),
            Codec::Raw(decoder) => decoder.push(now, bytes),
            Codec::Cobs(decoder) => decoder.push(bytes),
            Codec::Asking(detector) => match detector.push(now, bytes) {
                Some(found) => {
                    self.half_line = detector.half_line();
                    self.codec = Codec::of(found.encoding);
                    if let Some((memory, firmware)) = &self.auto {
                        memory.keep(*firmware, Some(found.encoding));
                    }
                    self.push(now, &found.rest)
                }
                None => Vec::new(),
            },
        };
        if !messages.is_empty() {
            self.unanswered = 0;
        }
        messages
    }

    /// Gives up on a message that does not end; gives those behind it.
    pub(crate) fn handle_timeout(&mut self, now: Time) -> Vec<Vec<u8>> {
        match &mut self.codec {
            Codec::Raw(decoder) => decoder.handle_timeout(now),
            Codec::Console(_) | Codec::Cobs(_) | Codec::Asking(_) => Vec::new(),
        }
    }

    /// A question that is due, while it is being found out what the device speaks.
    pub(crate) fn poll_question(&mut self, now: Time) -> Option<Vec<u8>> {
        match &mut self.codec {
            Codec::Asking(detector) => detector.poll_transmit(now),
            Codec::Console(_) | Codec::Raw(_) | Codec::Cobs(_) => None,
        }
    }

    /// A message that waited until it was found out what the device speaks.
    pub(crate) fn poll_held(&mut self) -> Option<Vec<u8>> {
        if matches!(self.codec, Codec::Asking(_)) { None } else { self.held.pop_front() }
    }

    /// When [`Self::handle_timeout`] or [`Self::poll_question`] has something to do.
    pub(crate) fn next_timeout(&self) -> Option<Time> {
        match &self.codec {
            Codec::Raw(decoder) => decoder.next_timeout(),
            Codec::Asking(detector) => detector.next_timeout(),
            Codec::Console(_) | Codec::Cobs(_) => None,
        }
    }

    /// What the device speaks, once that is known.
    pub(crate) fn encoding(&self) -> Option<Encoding> {
        self.codec.encoding()
    }

    /// How long nothing may be sent after a message that was cut short: no mark says where the next one begins.
    pub(crate) fn silence_after_cut(&self) -> Duration {
        match self.codec {
            Codec::Raw(_) => raw::SILENCE,
            Codec::Console(_) | Codec::Cobs(_) | Codec::Asking(_) => Duration::ZERO,
        }
    }

    /// Length of the first part of what is left of a frame: a paced link lets time pass after each. A line, or what a driver
    /// hands over at once.
    pub(crate) fn piece_len(&self, rest: &[u8]) -> usize {
        match self.codec {
            Codec::Console(_) => {
                rest.iter().position(|byte| *byte == b'\n').map_or(rest.len(), |end| end + 1)
            }
            Codec::Raw(_) | Codec::Cobs(_) | Codec::Asking(_) => rest.len().min(PIECE),
        }
    }

    /// Forgets what is under way from the device.
    pub(crate) fn reset(&mut self) {
        match &mut self.codec {
            Codec::Console(decoder) => decoder.reset(),
            Codec::Raw(decoder) => decoder.reset(),
            Codec::Cobs(decoder) => decoder.reset(),
            Codec::Asking(_) => {}
        }
    }

    /// What the link can carry, for a stream of `wire_bytes_per_s`. Until it is known what the device speaks: the least that
    /// any framing carries.
    pub(crate) fn properties(&self, wire_bytes_per_s: Option<f64>, survives_reset: bool) -> LinkProperties {
        let (safe_message, max_message, buffer_overhead, framing) = match self.codec {
            Codec::Console(_) | Codec::Asking(_) => (
                self.safe_in_lines,
                console::MAX_MESSAGE,
                console::PACKET_OVERHEAD,
                Framing::Console { line_length: self.line_length },
            ),
            Codec::Raw(_) => (SAFE_MESSAGE, raw::MAX_MESSAGE, 0, Framing::Raw),
            Codec::Cobs(_) => (SAFE_MESSAGE, cobs::MAX_MESSAGE, cobs::BUFFER_OVERHEAD, Framing::Cobs),
        };
        LinkProperties {
            safe_message,
            max_message,
            buffer_overhead,
            wire_bytes_per_s,
            framing,
            survives_reset,
        }
    }
}

fn asking_or(known: Option<Encoding>) -> Codec {
    known.map_or_else(|| Codec::Asking(Box::default()), Codec::of)
}

/// The longest message in two full lines: Zephyr's UART driver has two line buffers unless configured otherwise
/// (`CONFIG_UART_MCUMGR_RX_BUF_COUNT`), and MCUboot's recovery takes several lines as well.
pub(super) fn safe_console_message(line_length: usize) -> usize {
    let lines = 2 * line_length.max(8);
    (1..=lines).rev().find(|len| console::encoded_len(*len, line_length) <= lines).unwrap_or(1)
}
