//! Packages on real boards: made by Python's `zipfile` as nRF Connect SDK makes them, compressed or not.

use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use serde_json::json;

use crate::error::Result;
use crate::fixtures::run;
use crate::fleet_run::{Station, step};
use crate::images::Image;
use crate::qemu::Board;
use crate::readback::Device;

/// A board that was reset by its line listens again well within this, whatever else the machine does.
const BOOT: Duration = Duration::from_secs(60);

/// Packs files of the station's folder and their manifest.
const PACK: &str = "
import json, os, sys, zipfile
out, method, files = sys.argv[1], int(sys.argv[2]), json.loads(sys.argv[3])
folder = os.path.dirname(out)
for entry in files:
    entry['size'] = os.path.getsize(os.path.join(folder, entry['file']))
    entry['modtime'] = int(os.path.getmtime(os.path.join(folder, entry['file'])))
manifest = {'format-version': 0, 'time': 1700000000, 'name': 'boards', 'files': files}
with zipfile.ZipFile(out, 'w', compression=method) as package:
    for entry in files:
        package.write(os.path.join(folder, entry['file']), entry['file'])
    package.writestr('manifest.json', json.dumps(manifest, indent=4))
";

/// Python's `ZIP_STORED` and `ZIP_DEFLATED`.
const METHODS: [&str; 2] = ["0", "8"];

/// A package of files with their image numbers.
fn pack(station: &Station, name: &str, method: &str, files: &[(&str, u32)]) -> Result<PathBuf> {
    let path = station.path(name);
    let entry = |(file, number): &(&str, u32)| {
        json!({
            "type": "application", "board": "bbc_microbit", "soc": "nRF51822_QFAA", "load_address": 0x8000,
            "image_index": number.to_string(), "slot_index_primary": (2 * number + 1).to_string(),
            "slot_index_secondary": (2 * number + 2).to_string(), "file": file,
        })
    };
    let files = json!(files.iter().map(entry).collect::<Vec<_>>()).to_string();
    run(
        Command::new("python3").args(["-c", PACK]).arg(&path).args([method, &files]),
        "apt-get install -y python3",
    )?;
    Ok(path)
}

fn plan(package: &str, board: &Board) -> String {
    format!(
        "version: 1
images: {{ app: {{ file: {package} }} }}
targets:
  - name: board
    match: {{ tcp: [\"{}\"] }}
    link: {{ quiet: 2s, return_within: 60s }}
policy: {{ deadline: 4m }}
",
        board.address()
    )
}

#[test]
fn fleet_a_package_is_put_on_a_board_like_the_image_in_it() -> Result<()> {
    let station = Station::new()?;
    let boards = Board::fleet(METHODS.len())?;
    let new = Image::stock()?.with_version(1, 2, 3, 0);
    station.image("app.bin", &new)?;
    for (board, method) in boards.iter().zip(METHODS) {
        let name = format!("package-{method}");
        pack(&station, &format!("{name}.zip"), method, &[("app.bin", 0)])?;
        let run = station.run(&name, &plan(&format!("{name}.zip"), board), &[])?;
        assert_eq!(run.code, 0, "{run}");
        let device = Device::Tcp(board.address());
        let reported = run.device(&device)?;
        assert_eq!(reported["images"][0]["upload"]["bytes"], new.bytes.len(), "{reported:#}");
        assert_eq!(board.resets(), 2);

        board.pull_reset_line()?;
        board.wait_listening(BOOT)?;
        let running = device.running()?;
        assert!(running.holds(&new) && running.confirmed, "{running:?}");
    }
    Ok(())
}

/// The board has one image. What is for a second one is refused by it, and nothing of the package is booted.
#[test]
fn fleet_a_package_of_more_images_than_a_board_has_is_not_booted() -> Result<()> {
    let station = Station::new()?;
    let boards = Board::fleet(1)?;
    let [board] = &boards[..] else { unreachable!("one board") };
    let old = Image::stock()?;
    station.image("app.bin", &Image::stock()?.with_version(1, 2, 3, 0))?;
    station.image("net.bin", &Image::filler(1000, 2, 0))?;
    pack(&station, "two.zip", "8", &[("app.bin", 0), ("net.bin", 1)])?;
    let run = station.run("two", &plan("two.zip", board), &[])?;
    assert_eq!(run.code, 100, "{run}");
    let device = Device::Tcp(board.address());
    let reported = run.device(&device)?;
    assert_eq!(reported["verdict"], "failed", "{reported:#}");
    // Told by the board's own slots before anything is written.
    assert_eq!(reported["cause"]["code"], "device.no_such_image", "{reported:#}");
    assert_eq!(reported["changed"], false, "{reported:#}");
    assert_eq!(step(reported, "upload app")?["verdict"], "failed", "{reported:#}");
    assert_eq!(board.resets(), 0);
    let running = device.running()?;
    assert!(running.holds(&old) && running.confirmed, "{running:?}");
    Ok(())
}
