//! Records what an emulated micro:bit under MCUboot answers: see `record.rs`.

use std::time::Duration;

use ciborium::Value as Cbor;
use serde_json::json;

use crate::console::{cbor, number};
use crate::error::Result;
use crate::fixtures::fixtures;
use crate::images::Image;
use crate::qemu::Board;
use crate::record::{IMAGE, OS, PATIENCE, READ, Recorder, V1, V2, WRITE};
use crate::wire::Wire;

/// Body bytes of an upload chunk: the message stays below three lines, as the micro:bit has little memory.
const CHUNK: usize = 128;

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
    pub(crate) fn upload_all(&mut self, name: &str, image: &Image) -> Result<()> {
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
                assert_eq!(number(&answer, "off"), Some(to as u64), "answer to the chunk at {at}");
                if skipped == 0 {
                    skipped_from = at;
                }
                skipped += 1;
            }
            at = to;
        }
        Ok(())
    }

    pub(crate) fn test(&mut self, note: &str, image: &Image) -> Result<()> {
        let hash = ("hash", Cbor::Bytes(image.hash().to_vec()));
        self.both(note, WRITE, IMAGE, 0, &[hash, ("confirm", Cbor::from(false))])
    }

    pub(crate) fn reset(&mut self, note: &str, board: &Board) -> Result<()> {
        let resets = board.resets();
        self.ask(note, WRITE, V2, OS, 5, &[])?;
        board.wait_resets(resets + 1, Duration::from_secs(30))?;
        board.wait_listening(Duration::from_secs(60))?;
        self.event(json!({ "note": "the board reset itself and booted", "event": "booted" }));
        Ok(())
    }
}

/// The first chunk of an image: all that an upload needs to begin.
pub(crate) fn first_chunk(image: &Image) -> Vec<(&'static str, Cbor)> {
    vec![
        ("data", Cbor::Bytes(image.bytes[..CHUNK].to_vec())),
        ("len", Cbor::from(image.bytes.len() as u64)),
        ("off", Cbor::from(0)),
        ("sha", Cbor::Bytes(image.file_sha256().to_vec())),
    ]
}

pub(crate) fn confirm(image: &Image) -> [(&'static str, Cbor); 2] {
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
