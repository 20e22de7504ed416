//! The image and reset commands of `flashfleet smp` on a board with a genuine MCUboot, and what smpclient sees of it.

use std::time::Duration;

use crate::error::Result;
use crate::images::Image;
use crate::qemu::Board;
use crate::readback::Device;
use crate::smp_program::Bench;

/// A swap takes well under a second; a machine with other work gives the board less time.
const SWAP: Duration = Duration::from_secs(60);

#[test]
fn a_whole_update() -> Result<()> {
    let board = Board::microbit()?;
    let device = Device::Tcp(board.address());
    let bench = Bench::new(&device)?;
    let new = Image::stock()?.with_version(1, 2, 3, 0);
    let hash = hex::encode(new.hash());
    bench.file("new.bin", &new.bytes)?;

    let list = bench.text(&["image", "list"])?;
    assert!(list.starts_with("IMAGE  SLOT  VERSION  FLAGS"), "{list}");
    assert!(list.contains("active,confirmed,bootable"), "{list}");
    let slots = bench.text(&["image", "slots"])?;
    let expected = "IMAGE  SLOT  BYTES   UPLOAD AS IMAGE  LARGEST IMAGE\n\
                    0      0     106496  -                -\n\
                    0      1     106496  0                -\n";
    assert_eq!(slots, expected);

    let uploaded = bench.json(&["image", "upload", "new.bin"])?;
    assert_eq!((&uploaded["hash"], &uploaded["version"]), (&hash.as_str().into(), &"1.2.3".into()));
    assert!(device.images()?[1].holds(&new));
    // One that is not newer is refused by the device where that is asked for, and nothing of it arrives.
    bench.file("old.bin", &Image::stock()?.bytes)?;
    let older = bench.smp(&["image", "upload", "old.bin", "--upgrade-only"])?;
    assert!(older.refuses("smp.img_mgmt.current_version_is_newer"), "{older:#?}");
    // Not the running one: confirming it is not for every day.
    let unproven = bench.smp(&["image", "confirm", &hash])?;
    assert_eq!(unproven.exit, 2, "{unproven:#?}");
    assert!(unproven.err.starts_with("error[cli.confirm_unproven]"), "{unproven:#?}");

    let tested = bench.json(&["image", "test", "new.bin"])?;
    assert_eq!(
        (&tested["images"][1]["pending"], &tested["images"][1]["permanent"]),
        (&true.into(), &false.into())
    );
    assert_eq!(bench.text(&["os", "reset"])?, "the device says that it will reset\n");
    board.wait_resets(1, SWAP)?;
    board.wait_listening(SWAP)?;
    let running = bench.json(&["image", "list"])?["images"][0].take();
    assert_eq!((&running["hash"], &running["confirmed"]), (&hash.as_str().into(), &false.into()));
    let kept = bench.smp(&["image", "erase"])?;
    assert!(kept.refuses("smp.img_mgmt.no_free_slot"), "what it would go back to is kept: {kept:#?}");
    assert_eq!(bench.json(&["image", "confirm", &hash])?["images"][0]["confirmed"], true);
    assert_eq!(bench.json(&["image", "confirm"])?["images"][0]["confirmed"], true);

    // With the application's leave or without it, into the firmware: this build knows no other mode.
    assert_eq!(bench.json(&["os", "reset", "--force", "--boot-mode", "normal"])?, serde_json::json!({}));
    board.wait_resets(2, SWAP)?;
    board.wait_listening(SWAP)?;
    let running = device.running()?;
    assert!(running.holds(&new) && running.confirmed, "{running:?}");
    assert_eq!(bench.text(&["image", "erase", "--slot", "1"])?, "erased\n");
    assert_eq!(device.images()?.len(), 1);
    assert_eq!(board.resets(), 2);
    Ok(())
}

/// The same in the first version of the protocol, whose errors are the server's words.
#[test]
fn upload_in_version_1() -> Result<()> {
    let board = Board::microbit()?;
    let bench = Bench::new(Device::Tcp(board.address()))?.with(&["--protocol", "1"]);
    let new = Image::stock()?.with_version(1, 2, 3, 0);
    bench.file("new.bin", &new.bytes)?;
    bench.file("old.bin", &Image::stock()?.bytes)?;
    let older = bench.smp(&["image", "upload", "old.bin", "--upgrade-only"])?;
    assert!(older.refuses("smp.mgmt.bad_state") && older.err.contains("downgrade"), "{older:#?}");
    assert!(older.err.contains("raise the image's version"), "{older:#?}");
    bench.json(&["image", "upload", "new.bin"])?;
    assert!(Device::Tcp(board.address()).images()?[1].holds(&new));
    let running = bench.smp(&["image", "erase", "--slot", "0"])?;
    assert!(running.refuses("smp.mgmt.bad_state"), "{running:#?}");
    let nothing = bench.smp(&["image", "test", &"ab".repeat(32)])?;
    assert!(nothing.refuses("smp.mgmt.unknown"), "{nothing:#?}");
    Ok(())
}
