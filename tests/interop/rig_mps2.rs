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
fn rig_mps2_runs_the_higher_of_two_versions_and_erases_it_where_it_is_damaged() -> Result<()> {
    let stock = Image::of_mps2(CONFIG)?;
    let new = stock.clone().with_version(1, 2, 3, 0);
    let board = Board::mps2_with(CONFIG, &[stock.clone(), new.clone()])?;
    let running = device(&board).running()?;
    assert!(running.holds(&new) && running.slot == 1, "{running:?}");
    let board = Board::mps2_with(CONFIG, &[stock.clone(), new.with_wrong_hash()])?;
    let slots = device(&board).images()?;
    assert!(slots.len() == 1 && slots[0].active && slots[0].holds(&stock), "{slots:?}");
    Ok(())
}

#[test]
fn rig_mps2_enters_its_recovery_and_leaves_it_at_the_reset_line() -> Result<()> {
    let stock = Image::of_mps2(CONFIG)?;
    let board = Board::mps2(CONFIG)?;
    device(&board).reset_into_recovery()?;
    board.wait_resets(1, SHORT)?;
    board.wait_listening(SHORT)?;
    let slots = device(&board).images()?;
    assert!(slots.len() == 1 && slots[0].holds(&stock) && !slots[0].active, "nothing runs: {slots:?}");
    board.pull_reset_line()?;
    board.wait_listening(SHORT)?;
    assert!(device(&board).running()?.holds(&stock));
    Ok(())
}
