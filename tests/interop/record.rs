//! Records what real servers answer into `tests/data/transcripts/`, for the simulator to be held against.
//!
//! `cargo test --test interop -- --ignored record` writes all of them again. `tests/data/transcripts/README.md`
//! describes the format.

use std::path::Path;
use std::time::Duration;

use ciborium::Value as Cbor;
use serde_json::{Value, json};

use crate::console::{Head, cbor};
use crate::error::{Context, Result};
use crate::fixtures::Server;
use crate::images::Image;
use crate::native::{SerialServer, UdpServer};
use crate::wire::Wire;

pub(crate) const READ: u8 = 0;
pub(crate) const WRITE: u8 = 2;
/// Version field of the header: first and second protocol version.
pub(crate) const V1: u8 = 0;
pub(crate) const V2: u8 = 1;
pub(crate) const OS: u16 = 0;
pub(crate) const IMAGE: u16 = 1;

/// How long an answer may take; an erase is within it.
pub(crate) const PATIENCE: Duration = Duration::from_secs(10);
/// How long silence must last to be called silence, where no answer is expected.
const SILENCE: Duration = Duration::from_millis(1500);
/// Within this a second answer to the same request would come.
const SECOND_ANSWER: Duration = Duration::from_millis(60);

/// One transcript in the making.
pub(crate) struct Recorder {
    name: &'static str,
    pub(crate) wire: Wire,
    facts: Value,
    images: Value,
    exchanges: Vec<Value>,
    sequence: u8,
}

impl Recorder {
    pub(crate) fn new(name: &'static str, wire: Wire, server: &Server) -> Self {
        let facts = json!({
            "artifact": server.artifact,
            "buf_size": server.buf_size,
            "buf_count": server.buf_count,
            "line_length_max": server.line_length_max,
            "groups": server.groups,
        });
        Self { name, wire, facts, images: json!({}), exchanges: Vec::new(), sequence: 0 }
    }

    /// Names an image that occurs in the transcript.
    pub(crate) fn note_image(&mut self, name: &str, image: &Image) {
        let [major, minor, low, high] = [20, 21, 22, 23].map(|at| image.bytes[at]);
        self.images[name] = json!({
            "hash": hex::encode(image.hash()),
            "file_sha256": hex::encode(image.file_sha256()),
            "size": image.bytes.len(),
            "version": format!("{major}.{minor}.{}", u16::from_le_bytes([low, high])),
            "head": hex::encode(&image.bytes[..32]),
            "tail": hex::encode(&image.bytes[image.bytes.len() - 40..]),
        });
    }

    /// Sends a whole message and records every answer.
    pub(crate) fn message(&mut self, note: &str, message: &[u8], patience: Duration) -> Result<Vec<Vec<u8>>> {
        self.wire.send(message)?;
        let mut responses = Vec::new();
        let mut wait = patience;
        while let Some(response) = self.wire.receive(wait)? {
            responses.push(response);
            wait = SECOND_ANSWER;
        }
        let shown: Vec<String> = responses.iter().map(hex::encode).collect();
        let mut exchange = json!({ "note": note, "request": hex::encode(message), "responses": shown });
        if responses.is_empty() {
            exchange["silent_for_ms"] = json!(patience.as_millis());
        }
        self.exchanges.push(exchange);
        Ok(responses)
    }

    /// The header of the next request.
    pub(crate) fn next(&mut self, op: u8, version: u8, group: u16, command: u8) -> Head {
        self.sequence = self.sequence.wrapping_add(1);
        Head { op, version, group, command, sequence: self.sequence }
    }

    /// A request that ought to be answered.
    pub(crate) fn ask(
        &mut self,
        note: &str,
        op: u8,
        version: u8,
        group: u16,
        command: u8,
        body: &[(&str, Cbor)],
    ) -> Result<()> {
        let message = self.next(op, version, group, command).message(&cbor(body));
        self.message(note, &message, PATIENCE).map(drop)
    }

    /// The same request in both protocol versions.
    pub(crate) fn both(
        &mut self,
        note: &str,
        op: u8,
        group: u16,
        command: u8,
        body: &[(&str, Cbor)],
    ) -> Result<()> {
        self.ask(&format!("{note}, version 1"), op, V1, group, command, body)?;
        self.ask(&format!("{note}, version 2"), op, V2, group, command, body)
    }

    /// A request that may well stay without an answer.
    pub(crate) fn maybe(&mut self, note: &str, message: &[u8]) -> Result<()> {
        self.message(note, message, SILENCE).map(drop)
    }

    /// An echo whose whole message has exactly `length` bytes.
    pub(crate) fn echo_of(&mut self, note: &str, length: usize) -> Result<()> {
        let head = self.next(WRITE, V2, OS, 0);
        let text = (0..=length)
            .rev()
            .map(|count| head.message(&cbor(&[("d", Cbor::from("x".repeat(count)))])))
            .find(|message| message.len() <= length);
        self.maybe(&format!("{note} ({length} bytes)"), &text.unwrap_or_default())
    }

    pub(crate) fn upload(&mut self, note: &str, version: u8, entries: &[(&str, Cbor)]) -> Result<()> {
        self.ask(note, WRITE, version, IMAGE, 1, entries)
    }

    pub(crate) fn event(&mut self, event: Value) {
        self.exchanges.push(event);
    }

    /// What every server has: the OS group, errors, limits.
    pub(crate) fn os_group(&mut self, largest: usize) -> Result<()> {
        self.both("echo", WRITE, OS, 0, &[("d", Cbor::from("hello"))])?;
        self.ask("echo of nothing", WRITE, V2, OS, 0, &[("d", Cbor::from(""))])?;
        self.both("echo without its text", WRITE, OS, 0, &[])?;
        self.both("echo of a number", WRITE, OS, 0, &[("d", Cbor::from(7))])?;
        self.ask("echo as a read", READ, V2, OS, 0, &[("d", Cbor::from("read"))])?;
        self.both("params", READ, OS, 6, &[])?;
        self.both("params as a write", WRITE, OS, 6, &[])?;
        self.both("bootloader info", READ, OS, 8, &[])?;
        self.both("bootloader info, mode", READ, OS, 8, &[("query", Cbor::from("mode"))])?;
        self.both("bootloader info, unknown query", READ, OS, 8, &[("query", Cbor::from("nothing"))])?;
        self.both("unknown group", READ, 60, 0, &[])?;
        self.both("unknown command", READ, OS, 99, &[])?;
        self.both("image list", READ, IMAGE, 0, &[])?;
        self.both("slot info", READ, IMAGE, 6, &[])?;
        self.both("statistics of an unknown group", READ, 2, 0, &[("name", Cbor::from("nothing"))])?;
        self.both("enumeration count", READ, 10, 0, &[])?;

        let unfinished = self.next(WRITE, V2, OS, 0).message(&[0xa1, 0x61, b'd', 0x65, b'h']);
        self.maybe("echo whose text is cut short", &unfinished)?;
        let no_cbor = self.next(WRITE, V2, OS, 0).message(&[0xff, 0xff]);
        self.maybe("echo whose body is no CBOR", &no_cbor)?;
        let no_body = self.next(WRITE, V2, OS, 0).message(&[]);
        self.maybe("echo without a body", &no_body)?;
        let mut longer = self.next(WRITE, V2, OS, 0).message(&cbor(&[("d", Cbor::from("hello"))]));
        longer.extend([0, 0]);
        self.maybe("echo with two bytes more than its header says", &longer)?;
        let mut shorter = self.next(WRITE, V2, OS, 0).message(&cbor(&[("d", Cbor::from("hello"))]));
        shorter[3] += 2;
        self.maybe("echo with two bytes less than its header says", &shorter)?;
        self.maybe("half a header", &[2, 0, 0, 0])?;
        let answer = self.next(3, V2, OS, 0).message(&cbor(&[("d", Cbor::from("hello"))]));
        self.maybe("an answer sent as a request", &answer)?;
        let third = self.next(WRITE, 2, OS, 0).message(&cbor(&[("d", Cbor::from("hello"))]));
        self.maybe("echo in protocol version 3", &third)?;
        let map = cbor(&[("d", Cbor::from("hello")), ("extra", Cbor::from(true))]);
        let extra = self.next(WRITE, V2, OS, 0).message(&map);
        self.maybe("echo with a key that it does not know", &extra)?;

        self.echo_of("the largest message", largest)?;
        self.echo_of("one byte too many", largest + 1)?;
        self.echo_of("far too many bytes", largest + 300)?;
        self.ask("echo after that", WRITE, V2, OS, 0, &[("d", Cbor::from("still there"))])
    }

    pub(crate) fn save(self) -> Result<()> {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/transcripts");
        std::fs::create_dir_all(&folder)?;
        let path = folder.join(format!("{}.json", self.name));
        // One exchange a line: short, and readable in a diff.
        let lines: Vec<String> = self.exchanges.iter().map(|exchange| format!("    {exchange}")).collect();
        let text = format!(
            "{{\n  \"format\": \"smp-transcript/1\",\n  \"server\": \"{}\",\n  \"facts\": {},\n  \"images\": {},\n  \"exchanges\": [\n{}\n  ]\n}}\n",
            self.name,
            self.facts,
            self.images,
            lines.join(",\n")
        );
        std::fs::write(&path, text).context(path.display())
    }
}

#[test]
#[ignore = "writes the transcripts again"]
fn record_native_serial() -> Result<()> {
    let servers = [
        ("native_serial", "serial"),
        ("native_buf96", "serial_buf96"),
        ("native_buf256", "serial_buf256"),
        ("native_buf512", "serial_buf512"),
        ("native_buf1024", "serial_buf1024"),
        ("native_buf2048", "serial_buf2048"),
        ("native_noparams", "serial_noparams"),
    ];
    for (name, config) in servers {
        let server = SerialServer::start(config)?;
        let mut recorder = Recorder::new(name, Wire::terminal(server.terminal())?, server.server);
        recorder.os_group(server.server.buf_size as usize - 4)?;
        recorder.save()?;
    }
    Ok(())
}

#[test]
#[ignore = "writes the transcripts again"]
fn record_udp() -> Result<()> {
    for (name, config) in [("udp", "udp"), ("udp6", "udp6")] {
        let server = UdpServer::start(config)?;
        let mut recorder = Recorder::new(name, Wire::udp(server.address())?, server.server);
        recorder.os_group(1500)?;
        recorder.save()?;
    }
    Ok(())
}
