//! The rig's MPS2 against itself, without flashfleet: a real MCUboot that loads the highest version into RAM, and has
//! serial recovery.

use std::time::Duration;

use crate::error::Result;
use crate::images::Image;
use crate::qemu::Board;
use crate::readback::Device;

const SHORT: Duration = Duration::from_secs(20);
const CONFIG: &str = "serial_recovery";

fn device(board: &Board) -> Device {
    Device::Tcp(board.address())
}

#[test]
fn rig_mps2_loads_its_image_into_ram_and_outlives_the_reset_line() -> Result<()> {
    let stock = Image::of_mps2(CONFIG)?;
    let board = Board::mps2(CONFIG)?;
    let running = device(&board).running()?;
    assert!(running.holds(&stock) && running.slot == 0, "{running:?}");
    board.pull_reset_line()?;
    board.wait_listening(SHORT)?;
    assert!(device(&board).running()?.holds(&stock));
    Ok(())
}

#[test]
fn rig_mps2_runs_the_higher_of_two_versions_after_a_reset() -> Result<()> {
    let board = Board::mps2(CONFIG)?;
    let new = Image::of_mps2(CONFIG)?.with_version(1, 2, 3, 0);
    device(&board).upload(&new)?;
    device(&board).reset()?;
    board.wait_resets(1, SHORT)?;
    board.wait_listening(SHORT)?;
    let running = device(&board).running()?;
    assert!(running.holds(&new) && running.slot == 1, "{running:?}");
    println!("{:?}", device(&board).images()?);
    Ok(())
}

#[test]
fn rig_mps2_enters_its_recovery_and_leaves_it_at_the_reset_line() -> Result<()> {
    let stock = Image::of_mps2(CONFIG)?;
    let board = Board::mps2(CONFIG)?;
    device(&board).reset_into_recovery()?;
    board.wait_resets(1, SHORT)?;
    board.wait_listening(SHORT)?;
    println!("{:?}", device(&board).images()?);
    println!("{:?}", device(&board).params()?);
    board.pull_reset_line()?;
    board.wait_listening(SHORT)?;
    assert!(device(&board).running()?.holds(&stock));
    Ok(())
}
