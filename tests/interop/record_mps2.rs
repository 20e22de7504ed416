//! Records what an emulated MPS2 answers, whose MCUboot copies the image of the highest version into RAM: see `record.rs`.

use ciborium::Value as Cbor;

use crate::error::Result;
use crate::fixtures::fixtures;
use crate::images::Image;
use crate::qemu::Board;
use crate::record::{IMAGE, OS, READ, Recorder, V1, V2, WRITE};
use crate::record_board::{confirm, first_chunk};
use crate::wire::Wire;

const CONFIG: &str = "serial_recovery";

fn recorder(name: &'static str, board: &Board) -> Result<Recorder> {
    let server = fixtures()?.server("mps2_an385", CONFIG)?;
    let mut recorder = Recorder::new(name, Wire::tcp(board.address())?, server);
    recorder.note_image("stock", &Image::of_mps2(CONFIG)?);
    Ok(recorder)
}

/// What the server says of its bootloader and slots, and what it refuses, short of a boot.
#[test]
#[ignore = "writes the transcripts again"]
fn record_mps2_ram_load_slots() -> Result<()> {
    let board = Board::mps2(CONFIG)?;
    let mut recorder = recorder("mps2_ram_load_slots", &board)?;
    let r = &mut recorder;
    let stock = Image::of_mps2(CONFIG)?;
    let older = Image::filler(600, 0, 0);
    let newer = Image::filler(604, 3, 0);
    r.note_image("older", &older);
    r.note_image("newer", &newer);

    r.both("params", READ, OS, 6, &[])?;
    r.both("bootloader info", READ, OS, 8, &[])?;
    r.both("bootloader info, mode", READ, OS, 8, &[("query", Cbor::from("mode"))])?;
    r.both("image list", READ, IMAGE, 0, &[])?;
    r.both("slot info", READ, IMAGE, 6, &[])?;
    r.both("confirm of what runs", WRITE, IMAGE, 0, &[("confirm", Cbor::from(true))])?;
    r.both("confirm of what runs, by hash", WRITE, IMAGE, 0, &confirm(&stock))?;
    r.test("test of what runs", &stock)?;
    r.both("erase of the slot that runs", WRITE, IMAGE, 5, &[("slot", Cbor::from(0))])?;
    r.both("erase of the other slot", WRITE, IMAGE, 5, &[])?;

    for (name, image) in [("older", &older), ("newer", &newer)] {
        r.upload_all(name, image)?;
        r.both(&format!("list with the {name} version"), READ, IMAGE, 0, &[])?;
        r.both(&format!("slot info with the {name} version"), READ, IMAGE, 6, &[])?;
        r.test(&format!("test of the {name} version"), image)?;
        r.both(&format!("confirm of the {name} version"), WRITE, IMAGE, 0, &confirm(image))?;
        r.upload(&format!("first chunk over the {name} version"), V2, &first_chunk(image))?;
        r.upload_all(name, image)?;
        r.both(&format!("erase of the {name} version"), WRITE, IMAGE, 5, &[("slot", Cbor::from(1))])?;
        r.ask(&format!("list after the erase of the {name} version"), READ, V2, IMAGE, 0, &[])?;
    }
    let mut entries = first_chunk(&older);
    entries.push(("upgrade", Cbor::from(true)));
    r.upload("upgrade only, of the version that runs, version 1", V1, &entries)?;
    r.upload("upgrade only, of the version that runs", V2, &entries)?;
    recorder.save()
}

/// Boots: the same version, a higher one, one that is broken, one that cannot be loaded.
#[test]
#[ignore = "writes the transcripts again"]
fn record_mps2_ram_load_boots() -> Result<()> {
    let board = Board::mps2(CONFIG)?;
    let mut recorder = recorder("mps2_ram_load_boots", &board)?;
    let r = &mut recorder;
    let stock = Image::of_mps2(CONFIG)?;
    let broken = stock.clone().with_version(4, 0, 0, 0).with_wrong_hash();
    let elsewhere = Image::filler(600, 5, 0);
    let build = stock.clone().with_version(0, 0, 0, 7);
    let newer = stock.clone().with_version(2, 1, 3, 4);
    let newest = stock.with_version(2, 2, 0, 0);
    for (name, image) in [
        ("broken", &broken),
        ("elsewhere", &elsewhere),
        ("build", &build),
        ("newer", &newer),
        ("newest", &newest),
    ] {
        r.note_image(name, image);
    }

    r.upload_all("broken", &broken)?;
    r.ask("list with a higher version whose content is wrong", READ, V2, IMAGE, 0, &[])?;
    r.reset("reset: the bootloader erases it", &board)?;
    r.both("list after that", READ, IMAGE, 0, &[])?;
    r.upload_all("elsewhere", &elsewhere)?;
    r.ask("list with a higher version that is not for RAM", READ, V2, IMAGE, 0, &[])?;
    r.reset("reset: it cannot be loaded", &board)?;
    r.both("list after that", READ, IMAGE, 0, &[])?;
    r.upload_all("build", &build)?;
    r.ask("list with another build of the same version", READ, V2, IMAGE, 0, &[])?;
    r.reset("reset with another build of the same version", &board)?;
    r.both("list after that", READ, IMAGE, 0, &[])?;
    r.upload_all("newer", &newer)?;
    r.ask("list with a higher version", READ, V2, IMAGE, 0, &[])?;
    r.reset("reset: the higher version boots", &board)?;
    r.both("list after that", READ, IMAGE, 0, &[])?;
    r.both("slot info after that", READ, IMAGE, 6, &[])?;
    r.both("erase of the slot that runs", WRITE, IMAGE, 5, &[("slot", Cbor::from(1))])?;
    r.both("erase with no slot", WRITE, IMAGE, 5, &[])?;
    r.ask("list after that", READ, V2, IMAGE, 0, &[])?;
    r.upload_all("newest", &newest)?;
    r.ask("list with a higher version in the first slot", READ, V2, IMAGE, 0, &[])?;
    r.reset("reset: it boots from the first slot", &board)?;
    r.both("list after that", READ, IMAGE, 0, &[])?;
    r.both("slot info after that", READ, IMAGE, 6, &[])?;
    recorder.save()
}
