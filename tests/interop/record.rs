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
use crate::fixtures::{Server, fixtures};
use crate::images::Image;
use crate::native::{SerialServer, UdpServer};
use crate::qemu::Board;
use crate::wire::Wire;

const READ: u8 = 0;
const WRITE: u8 = 2;
/// Version field of the header: first and second protocol version.
const V1: u8 = 0;
const V2: u8 = 1;
const OS: u16 = 0;
const IMAGE: u16 = 1;

/// How long an answer may take; an erase is within it.
const PATIENCE: Duration = Duration::from_secs(10);
/// How long silence must last to be called silence, where no answer is expected.
const SILENCE: Duration = Duration::from_millis(1500);
/// Within this a second answer to the same request would come.
const SECOND_ANSWER: Duration = Duration::from_millis(60);
/// Body bytes of an upload chunk: the message stays below three lines, as the micro:bit has little memory.
const CHUNK: usize = 128;

struct Recorder {
    name: &'static str,
    wire: Wire,
    facts: Value,
    images: Value,
    exchanges: Vec<Value>,
    sequence: u8,
}

impl Recorder {
    fn new(name: &'static str, wire: Wire, server: &Server) -> Self {
        let facts = json!({
            "artifact": server.artifact,
            "buf_size": server.buf_size,
            "buf_count": server.buf_count,
            "line_length_max": server.line_length_max,
            "groups": server.groups,
        });
        Self { name, wire, facts, images: json!({}), exchanges: Vec::new(), sequence: 0 }
    }

    fn note_image(&mut self, name: &str, image: &Image) {
        let version = &image.bytes[20..28];
        self.images[name] = json!({
            "hash": hex::encode(image.hash()),
            "file_sha256": hex::encode(image.file_sha256()),
            "size": image.bytes.len(),
            "version": format!("{}.{}.{}", version[0], version[1], u16::from_le_bytes([version[2], version[3]])),
            "head": hex::encode(&image.bytes[..32]),
            "tail": hex::encode(&image.bytes[image.bytes.len() - 40..]),
        });
    }

    /// Sends a whole message and records every answer.
    fn message(&mut self, note: &str, message: &[u8], patience: Duration) -> Result<Vec<Vec<u8>>> {
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
        eprintln!(
            "{}: {note}: {}",
            self.name,
            responses.iter().map(|r| show(r)).collect::<Vec<_>>().join(" | ")
        );
        self.exchanges.push(exchange);
        Ok(responses)
    }

    fn next(&mut self, op: u8, version: u8, group: u16, command: u8) -> Head {
        self.sequence = self.sequence.wrapping_add(1);
        Head { op, version, group, command, sequence: self.sequence }
    }

    /// A request that ought to be answered.
    fn ask(
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
    fn both(&mut self, note: &str, op: u8, group: u16, command: u8, body: &[(&str, Cbor)]) -> Result<()> {
        self.ask(&format!("{note}, version 1"), op, V1, group, command, body)?;
        self.ask(&format!("{note}, version 2"), op, V2, group, command, body)
    }

    /// A request that may well stay without an answer.
    fn maybe(&mut self, note: &str, message: &[u8]) -> Result<()> {
        self.message(note, message, SILENCE).map(drop)
    }

    /// An echo whose whole message has exactly `length` bytes.
    fn echo_of(&mut self, note: &str, length: usize) -> Result<()> {
        let head = self.next(WRITE, V2, OS, 0);
        let text = (0..=length)
            .rev()
            .map(|count| head.message(&cbor(&[("d", Cbor::from("x".repeat(count)))])))
            .find(|message| message.len() <= length);
        self.maybe(&format!("{note} ({length} bytes)"), &text.unwrap_or_default())
    }

    fn upload(&mut self, note: &str, version: u8, entries: &[(&str, Cbor)]) -> Result<()> {
        self.ask(note, WRITE, version, IMAGE, 1, entries)
    }

    fn event(&mut self, event: Value) {
        self.exchanges.push(event);
    }

    /// What every server has: the OS group, errors, limits.
    fn os_group(&mut self, largest: usize) -> Result<()> {
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

    fn save(self) -> Result<()> {
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

fn show(message: &[u8]) -> String {
    match crate::console::body(message) {
        Some(body) => format!("{:?}", body).chars().take(400).collect(),
        None => hex::encode(message),
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

fn board_recorder(name: &'static str, board: &Board) -> Result<Recorder> {
    let fixtures = fixtures()?;
    let server = fixtures.server("qemu_cortex_m0", "serial")?;
    let mut recorder = Recorder::new(name, Wire::tcp(board.address())?, server);
    recorder.note_image("stock", &Image::stock()?);
    Ok(recorder)
}

#[test]
#[ignore = "writes the transcripts again"]
fn record_microbit_os() -> Result<()> {
    let board = Board::microbit()?;
    let mut recorder = board_recorder("microbit_os", &board)?;
    recorder.os_group(380)?;
    recorder.save()
}

/// Everything about an upload short of a swap, with an image too small to hold a program.
#[test]
#[ignore = "writes the transcripts again"]
fn record_microbit_upload() -> Result<()> {
    let board = Board::microbit()?;
    let mut recorder = board_recorder("microbit_upload", &board)?;
    let r = &mut recorder;
    let image = Image::filler(600, 2, 0);
    let other = Image::filler(604, 3, 0);
    r.note_image("filler", &image);
    r.note_image("other", &other);
    let sha = |image: &Image| ("sha", Cbor::Bytes(image.file_sha256().to_vec()));
    let len = |image: &Image| ("len", Cbor::from(image.bytes.len() as u64));
    let off = |offset: usize| ("off", Cbor::from(offset as u64));
    let data = |image: &Image, from: usize, to: usize| {
        ("data", Cbor::Bytes(image.bytes[from..to.min(image.bytes.len())].to_vec()))
    };
    let first = |image: &Image| vec![data(image, 0, CHUNK), len(image), off(0), sha(image)];

    r.both("state write of an unknown hash", WRITE, IMAGE, 0, &[("hash", Cbor::Bytes(vec![7; 32]))])?;
    r.both("state write without a hash, without confirm", WRITE, IMAGE, 0, &[])?;
    r.both("state write of a short hash", WRITE, IMAGE, 0, &[("hash", Cbor::Bytes(vec![7; 5]))])?;
    r.both(
        "state write for test of the running, confirmed image",
        WRITE,
        IMAGE,
        0,
        &[("hash", Cbor::Bytes(Image::stock()?.hash().to_vec())), ("confirm", Cbor::from(false))],
    )?;
    r.both(
        "confirm of the running image, already confirmed",
        WRITE,
        IMAGE,
        0,
        &[("confirm", Cbor::from(true))],
    )?;
    r.both("erase of an empty slot", WRITE, IMAGE, 5, &[])?;
    r.both("erase of slot 0", WRITE, IMAGE, 5, &[("slot", Cbor::from(0))])?;
    r.both("erase of slot 9", WRITE, IMAGE, 5, &[("slot", Cbor::from(9))])?;
    r.both("erase as a read", READ, IMAGE, 5, &[])?;

    for version in [V1, V2] {
        let name = if version == V1 { "version 1" } else { "version 2" };
        r.upload(
            &format!("upload at offset {CHUNK} before any first chunk, {name}"),
            version,
            &[data(&image, CHUNK, 2 * CHUNK), off(CHUNK)],
        )?;
        r.upload(
            &format!("first chunk too short for the header, {name}"),
            version,
            &[data(&image, 0, 20), len(&image), off(0), sha(&image)],
        )?;
        r.upload(
            &format!("first chunk without a length, {name}"),
            version,
            &[data(&image, 0, CHUNK), off(0), sha(&image)],
        )?;
        r.upload(
            &format!("first chunk without an offset, {name}"),
            version,
            &[data(&image, 0, CHUNK), len(&image), sha(&image)],
        )?;
        r.upload(&format!("first chunk without data, {name}"), version, &[len(&image), off(0), sha(&image)])?;
        r.upload(
            &format!("first chunk that is no image, {name}"),
            version,
            &[("data", Cbor::Bytes(vec![0x55; CHUNK])), len(&image), off(0), sha(&image)],
        )?;
        r.upload(
            &format!("larger than the slot, {name}"),
            version,
            &[data(&image, 0, CHUNK), ("len", Cbor::from(1_000_000)), off(0), sha(&image)],
        )?;
        r.upload(
            &format!("image number 1, {name}"),
            version,
            &[data(&image, 0, CHUNK), len(&image), off(0), sha(&image), ("image", Cbor::from(1))],
        )?;
        r.upload(
            &format!("SHA too long, {name}"),
            version,
            &[data(&image, 0, CHUNK), len(&image), off(0), ("sha", Cbor::Bytes(vec![1; 40]))],
        )?;
    }

    r.upload("first chunk", V2, &first(&image))?;
    r.ask("image list in mid-upload", READ, V2, IMAGE, 0, &[])?;
    r.upload("second chunk", V2, &[data(&image, CHUNK, 2 * CHUNK), off(CHUNK)])?;
    r.upload("second chunk once more", V2, &[data(&image, CHUNK, 2 * CHUNK), off(CHUNK)])?;
    r.upload("a chunk at an offset too far", V2, &[data(&image, 4 * CHUNK, 5 * CHUNK), off(4 * CHUNK)])?;
    r.upload(
        "a chunk at an offset too far, version 1",
        V1,
        &[data(&image, 4 * CHUNK, 5 * CHUNK), off(4 * CHUNK)],
    )?;
    r.upload("a chunk at an odd offset", V2, &[data(&image, 7, 7 + CHUNK), off(7)])?;
    r.upload("offset 0 with the same SHA: goes on", V2, &first(&image))?;
    r.upload(
        "third chunk, of an odd length",
        V2,
        &[data(&image, 2 * CHUNK, 2 * CHUNK + 101), off(2 * CHUNK)],
    )?;
    r.upload("offset 0 with the same SHA once more", V2, &first(&image))?;
    r.upload("offset 0 with another SHA: starts over", V2, &first(&other))?;
    r.upload("offset 0 without a SHA: starts over", V2, &[data(&image, 0, CHUNK), len(&image), off(0)])?;
    r.upload("second chunk after that", V2, &[data(&image, CHUNK, 2 * CHUNK), off(CHUNK)])?;
    r.upload("offset 0 with the SHA that had been left out", V2, &first(&image))?;

    let mut at = CHUNK;
    let size = image.bytes.len();
    while at + CHUNK < size {
        r.upload("a middle chunk", V2, &[data(&image, at, at + CHUNK), off(at)])?;
        at += CHUNK;
    }
    r.upload("last chunk", V2, &[data(&image, at, size), off(at)])?;
    r.upload("last chunk once more: its answer was lost", V2, &[data(&image, at, size), off(at)])?;
    r.upload("last chunk once more, version 1", V1, &[data(&image, at, size), off(at)])?;
    r.upload("a chunk before the last", V2, &[data(&image, at - CHUNK, at), off(at - CHUNK)])?;
    r.upload("nothing at the end", V2, &[data(&image, size, size), off(size)])?;
    r.both("image list after the upload", READ, IMAGE, 0, &[])?;
    r.both("slot info after the upload", READ, IMAGE, 6, &[])?;
    r.upload("offset 0 with the same SHA after the end", V2, &first(&image))?;
    r.both("image list after that", READ, IMAGE, 0, &[])?;
    r.upload("second chunk after that", V2, &[data(&image, CHUNK, 2 * CHUNK), off(CHUNK)])?;
    let mut at = 2 * CHUNK;
    while at < size {
        r.upload("the rest after that", V2, &[data(&image, at, at + CHUNK), off(at)])?;
        at += CHUNK;
    }
    r.both("image list after the second upload", READ, IMAGE, 0, &[])?;
    r.ask("erase", WRITE, V2, IMAGE, 5, &[])?;
    r.both("image list after the erase", READ, IMAGE, 0, &[])?;

    // A new version is refused only on request.
    let old = Image::filler(600, 0, 0);
    r.note_image("old", &old);
    let mut entries = first(&old);
    entries.push(("upgrade", Cbor::from(true)));
    r.upload("upgrade only, of the version that runs, version 1", V1, &entries)?;
    r.upload("upgrade only, of the version that runs", V2, &entries)?;
    recorder.save()
}

impl Recorder {
    /// A whole image; the middle is left out of the transcript.
    fn upload_all(&mut self, name: &str, image: &Image) -> Result<()> {
        let size = image.bytes.len();
        let (mut at, mut skipped_from, mut skipped) = (0, 0, 0);
        while at < size {
            let to = (at + CHUNK).min(size);
            let mut entries = vec![("data", Cbor::Bytes(image.bytes[at..to].to_vec()))];
            if at == 0 {
                entries.push(("len", Cbor::from(size as u64)));
            }
            entries.push(("off", Cbor::from(at as u64)));
            if at == 0 {
                entries.push(("sha", Cbor::Bytes(image.file_sha256().to_vec())));
            }
            let shown = at < 2 * CHUNK || to + 2 * CHUNK >= size;
            if shown && skipped > 0 {
                self.event(json!({
                    "note": "chunks left out of the transcript; each was answered with the offset of the next",
                    "upload": { "image": name, "from": skipped_from, "to": at, "chunk": CHUNK, "requests": skipped },
                }));
                skipped = 0;
            }
            if shown {
                self.upload("a chunk", V2, &entries)?;
            } else {
                let message = self.next(WRITE, V2, IMAGE, 1).message(&cbor(&entries));
                self.wire.send(&message)?;
                let answer = self.wire.receive(PATIENCE)?.unwrap_or_default();
                assert_eq!(
                    crate::console::number(&answer, "off"),
                    Some(to as u64),
                    "answer to the chunk at {at}"
                );
                if skipped == 0 {
                    skipped_from = at;
                }
                skipped += 1;
            }
            at = to;
        }
        Ok(())
    }

    fn test(&mut self, note: &str, image: &Image) -> Result<()> {
        let hash = ("hash", Cbor::Bytes(image.hash().to_vec()));
        self.both(note, WRITE, IMAGE, 0, &[hash, ("confirm", Cbor::from(false))])
    }

    fn reset(&mut self, note: &str, board: &Board) -> Result<()> {
        let resets = board.resets();
        self.ask(note, WRITE, V2, OS, 5, &[])?;
        board.wait_resets(resets + 1, Duration::from_secs(30))?;
        board.wait_listening(Duration::from_secs(60))?;
        self.event(json!({ "note": "the board reset itself and booted", "event": "booted" }));
        Ok(())
    }
}

/// The first chunk of an image: all that an upload needs to begin.
fn first_chunk(image: &Image) -> Vec<(&'static str, Cbor)> {
    vec![
        ("data", Cbor::Bytes(image.bytes[..CHUNK].to_vec())),
        ("len", Cbor::from(image.bytes.len() as u64)),
        ("off", Cbor::from(0)),
        ("sha", Cbor::Bytes(image.file_sha256().to_vec())),
    ]
}

fn confirm(image: &Image) -> [(&'static str, Cbor); 2] {
    [("hash", Cbor::Bytes(image.hash().to_vec())), ("confirm", Cbor::from(true))]
}

/// Upload, test, swap, revert and confirm, with firmware that runs.
#[test]
#[ignore = "writes the transcripts again"]
fn record_microbit_update() -> Result<()> {
    let board = Board::microbit()?;
    let mut recorder = board_recorder("microbit_update", &board)?;
    let r = &mut recorder;
    let new = Image::stock()?.with_version(2, 1, 3, 4);
    r.note_image("new", &new);

    r.upload_all("new", &new)?;
    r.ask("list after the upload", READ, V2, IMAGE, 0, &[])?;
    r.test("test of the uploaded image", &new)?;
    r.both("list while pending", READ, IMAGE, 0, &[])?;
    r.reset("reset into the test", &board)?;
    r.both("list on test: active, not confirmed", READ, IMAGE, 0, &[])?;
    r.both("slot info on test", READ, IMAGE, 6, &[])?;
    r.reset("reset without confirm", &board)?;
    r.both("list after the revert", READ, IMAGE, 0, &[])?;

    r.test("test again, of the image that was reverted", &new)?;
    r.reset("reset into the test again", &board)?;
    r.ask("list on test again", READ, V2, IMAGE, 0, &[])?;
    r.both("confirm by no hash", WRITE, IMAGE, 0, &[("confirm", Cbor::from(true))])?;
    r.both("list after the confirm", READ, IMAGE, 0, &[])?;
    r.both("confirm once more, by hash", WRITE, IMAGE, 0, &confirm(&new))?;
    r.reset("reset after the confirm", &board)?;
    r.both("list after that: it stayed", READ, IMAGE, 0, &[])?;
    r.ask("erase of the old image", WRITE, V2, IMAGE, 5, &[])?;
    r.ask("list after that", READ, V2, IMAGE, 0, &[])?;
    recorder.save()
}

/// What may be done to a slot that waits to be swapped in.
#[test]
#[ignore = "writes the transcripts again"]
fn record_microbit_pending() -> Result<()> {
    let board = Board::microbit()?;
    let mut recorder = board_recorder("microbit_pending", &board)?;
    let r = &mut recorder;
    let image = Image::filler(600, 2, 0);
    let other = Image::filler(604, 3, 0);
    r.note_image("filler", &image);
    r.note_image("other", &other);

    for version in [V1, V2] {
        let name = if version == V1 { "version 1" } else { "version 2" };
        r.upload_all("filler", &image)?;
        r.ask(
            &format!("test, {name}"),
            WRITE,
            version,
            IMAGE,
            0,
            &[("hash", Cbor::Bytes(image.hash().to_vec()))],
        )?;
        r.ask(&format!("list while pending, {name}"), READ, version, IMAGE, 0, &[])?;
        r.upload(&format!("same image over itself while pending, {name}"), version, &first_chunk(&image))?;
        r.upload(&format!("another image over a pending one, {name}"), version, &first_chunk(&other))?;
        r.ask(&format!("list after that, {name}"), READ, version, IMAGE, 0, &[])?;
        r.ask(
            &format!("erase of slot 1 while pending, {name}"),
            WRITE,
            version,
            IMAGE,
            5,
            &[("slot", Cbor::from(1))],
        )?;
        r.ask(&format!("list after the erase, {name}"), READ, version, IMAGE, 0, &[])?;
    }
    r.upload_all("filler", &image)?;
    r.both("confirm of an image that never ran", WRITE, IMAGE, 0, &confirm(&image))?;
    r.ask("list: permanent", READ, V2, IMAGE, 0, &[])?;
    r.test("test of an image that is pending for good", &image)?;
    r.ask("erase while permanent", WRITE, V2, IMAGE, 5, &[])?;
    r.ask("list after that", READ, V2, IMAGE, 0, &[])?;
    r.reset("reset with nothing pending", &board)?;
    r.ask("list after that reset", READ, V2, IMAGE, 0, &[])?;
    recorder.save()
}

/// What may be done to the image to go back to, and what then comes of it.
#[test]
#[ignore = "writes the transcripts again"]
fn record_microbit_on_test() -> Result<()> {
    let board = Board::microbit()?;
    let mut recorder = board_recorder("microbit_on_test", &board)?;
    let r = &mut recorder;
    let stock = Image::stock()?;
    let new = Image::stock()?.with_version(2, 1, 3, 4);
    let newer = Image::stock()?.with_version(3, 0, 0, 0);
    r.note_image("new", &new);
    r.note_image("newer", &newer);

    r.upload_all("new", &new)?;
    r.test("test", &new)?;
    r.reset("reset into the test", &board)?;
    r.ask("list on test", READ, V2, IMAGE, 0, &[])?;
    r.test("test of the image that is on test", &new)?;
    r.test("test of the image to go back to", &stock)?;
    r.both("confirm of the image to go back to", WRITE, IMAGE, 0, &confirm(&stock))?;
    r.ask("list after those", READ, V2, IMAGE, 0, &[])?;
    r.both("erase of the image to go back to", WRITE, IMAGE, 5, &[])?;
    r.both("erase of it by its slot", WRITE, IMAGE, 5, &[("slot", Cbor::from(1))])?;
    r.upload("upload over the image to go back to, version 1", V1, &first_chunk(&newer))?;
    r.upload("upload over the image to go back to", V2, &first_chunk(&newer))?;
    r.both("list after those", READ, IMAGE, 0, &[])?;
    r.reset("reset without confirm", &board)?;
    r.both("list after that", READ, IMAGE, 0, &[])?;
    recorder.save()
}

/// An image made permanent without a test, and one whose content does not match its hash.
#[test]
#[ignore = "writes the transcripts again"]
fn record_microbit_permanent() -> Result<()> {
    let board = Board::microbit()?;
    let mut recorder = board_recorder("microbit_permanent", &board)?;
    let r = &mut recorder;
    let newer = Image::stock()?.with_version(3, 0, 0, 0);
    let broken = Image::stock()?.with_version(4, 0, 0, 0).with_wrong_hash();
    r.note_image("newer", &newer);
    r.note_image("broken", &broken);

    r.upload_all("newer", &newer)?;
    r.ask("confirm of an image that never ran", WRITE, V2, IMAGE, 0, &confirm(&newer))?;
    r.ask("list: permanent", READ, V2, IMAGE, 0, &[])?;
    r.reset("reset into it", &board)?;
    r.both("list after that", READ, IMAGE, 0, &[])?;
    r.upload_all("broken", &broken)?;
    r.ask("list with an image whose content is wrong", READ, V2, IMAGE, 0, &[])?;
    r.test("test of it", &broken)?;
    r.reset("reset: the bootloader refuses it", &board)?;
    r.both("list after that reset", READ, IMAGE, 0, &[])?;
    recorder.save()
}
