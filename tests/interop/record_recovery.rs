//! Records what the serial recovery of a real MCUboot answers, on an emulated MPS2: see `record.rs`.

use std::time::Duration;

use ciborium::Value as Cbor;

use crate::error::Result;
use crate::fixtures::fixtures;
use crate::images::Image;
use crate::qemu::Board;
use crate::readback::Device;
use crate::record::{IMAGE, OS, READ, Recorder, V1, V2, WRITE};
use crate::record_board::first_chunk;
use crate::wire::Wire;

const CONFIG: &str = "serial_recovery";
const SHORT: Duration = Duration::from_secs(20);

/// Every command, what it does not have, and everything about an upload short of a boot.
#[test]
#[ignore = "writes the transcripts again"]
fn record_mps2_recovery() -> Result<()> {
    let board = Board::mps2(CONFIG)?;
    Device::Tcp(board.address()).reset_into_recovery()?;
    board.wait_resets(1, SHORT)?;
    board.wait_listening(SHORT)?;
    let server = fixtures()?.server("mps2_an385", CONFIG)?;
    let mut recorder = Recorder::new("mps2_recovery", Wire::tcp(board.address())?, server);
    let r = &mut recorder;
    let stock = Image::of_mps2(CONFIG)?;
    let broken = Image::filler(601, 3, 0).with_wrong_hash();
    r.note_image("stock", &stock);
    r.note_image("broken", &broken);

    r.both("console echo control", WRITE, OS, 1, &[("echo", Cbor::from(0))])?;
    r.both("console echo control as a read, of nothing", READ, OS, 1, &[])?;
    r.both("echo", WRITE, OS, 0, &[("d", Cbor::from("hello"))])?;
    r.both("params", READ, OS, 6, &[])?;
    r.both("params as a write", WRITE, OS, 6, &[])?;
    r.both("application info", READ, OS, 7, &[])?;
    r.both("bootloader info", READ, OS, 8, &[])?;
    r.both("unknown command", READ, OS, 99, &[])?;
    r.both("unknown group", READ, 60, 0, &[])?;
    r.both("image list", READ, IMAGE, 0, &[])?;
    r.both("confirm", WRITE, IMAGE, 0, &[("confirm", Cbor::from(true))])?;
    r.both("erase", WRITE, IMAGE, 5, &[])?;
    r.both("slot info", READ, IMAGE, 6, &[])?;
    let answer = r.next(3, V2, OS, 1).message(&[0xa0]);
    r.maybe("an answer sent as a request", &answer)?;
    let mut longer = r.next(READ, V2, OS, 1).message(&[0xa0]);
    longer.extend([0, 0]);
    r.maybe("two bytes more than the header says", &longer)?;
    let mut shorter = r.next(READ, V2, OS, 1).message(&[0xa0]);
    shorter[3] += 2;
    r.maybe("two bytes less than the header says", &shorter)?;
    let no_cbor = r.next(WRITE, V2, IMAGE, 1).message(&[0xff, 0xff]);
    r.maybe("an upload whose body is no CBOR", &no_cbor)?;

    let off = |offset: u64| ("off", Cbor::from(offset));
    let data = |from: usize, to: usize| ("data", Cbor::Bytes(broken.bytes[from..to].to_vec()));
    let size = broken.bytes.len();
    r.upload("a chunk in the middle before any other", V2, &[data(128, 256), off(128)])?;
    r.upload("a first chunk without its offset", V2, &[data(0, 128), ("len", Cbor::from(size as u64))])?;
    r.upload("a first chunk without data", V2, &[("len", Cbor::from(size as u64)), off(0)])?;
    r.upload("a file larger than the slot", V2, &[data(0, 128), ("len", Cbor::from(1_000_000)), off(0)])?;
    // Not 2: this server reads its list of slots beyond the end for it, and writes somewhere.
    for number in [1, 7] {
        let mut entries = first_chunk(&broken);
        entries.push(("image", Cbor::from(number)));
        r.upload(&format!("a first chunk for image {number}"), V2, &entries)?;
    }
    r.upload("a first chunk, version 1", V1, &first_chunk(&broken))?;
    r.upload("a first chunk again: it starts over", V2, &first_chunk(&broken))?;
    r.ask("image list while the slot is written", READ, V2, IMAGE, 0, &[])?;
    r.upload("a chunk that is cut to the flash's alignment", V2, &[data(128, 259), off(128)])?;
    r.upload("a chunk with a wrong offset", V2, &[data(300, 310), off(300)])?;
    r.upload("a chunk that was written already", V2, &[data(128, 256), off(128)])?;
    let mut beyond = broken.bytes[256..].to_vec();
    beyond.extend([0; 40]);
    r.upload("a chunk beyond the end", V2, &[("data", Cbor::Bytes(beyond)), off(256)])?;
    r.upload("a chunk after that", V2, &[data(256, 512), off(256)])?;
    r.upload("the last chunk, which is not aligned", V2, &[data(512, size), off(512)])?;
    r.upload("the last chunk again", V2, &[data(512, size), off(512)])?;
    r.both("image list after an upload of what would not boot", READ, IMAGE, 0, &[])?;
    recorder.save()
}
