//! What flashfleet promises of speed and size, measured: one table of target, figure and verdict, from one run on one machine.
//! Prints it as Markdown and writes it to `target/bench/targets.md`. Nothing here fails because a target was missed.
//!
//! `cargo bench --bench targets` runs all, `cargo bench --bench targets -- udp size` some, `-- --list` names them.
//!
//! A row of its own is a [`Case`] in its own file, named in [`CASES`].
#![expect(clippy::print_stdout, clippy::print_stderr, reason = "the table is what a bench is for")]
#![expect(clippy::unwrap_used, reason = "what starts the real servers was made for tests")]

#[path = "../../tests/rig/error.rs"]
mod error;
#[expect(dead_code, reason = "the tests of real servers use the rest")]
#[path = "../../tests/rig/fixtures.rs"]
mod fixtures;
mod fleet;
#[path = "../../tests/rig/gdb.rs"]
mod gdb;
#[expect(dead_code, reason = "the tests of real servers use the rest")]
#[path = "../../tests/rig/images.rs"]
mod images;
#[expect(dead_code, reason = "the tests of real servers use the rest")]
#[path = "../../tests/rig/leash.rs"]
mod leash;
mod machine;
mod paced;
mod peer;
mod port;
mod process;
#[expect(dead_code, reason = "the tests of real servers use the rest")]
#[path = "../../tests/rig/qemu.rs"]
mod qemu;
#[path = "../../tests/rig/qmp.rs"]
mod qmp;
mod start;
mod table;
#[expect(dead_code, reason = "the tests of real servers use the rest")]
#[path = "../../tests/rig/terminal.rs"]
mod terminal;
#[expect(dead_code, reason = "the tests of real servers use the rest")]
#[path = "../../tests/rig/uart.rs"]
mod uart;
mod udp;
mod wire;

use std::path::Path;
use std::process::ExitCode;

use table::Table;

/// Something to measure, which adds its rows to the table.
struct Case {
    /// What selects it on the command line.
    name: &'static str,
    /// What it measures, in a few words.
    about: &'static str,
    run: fn(&mut Table) -> Result<(), String>,
}

const CASES: [Case; 8] = [
    Case { name: "start", about: "start-up to usage text", run: start::start },
    Case { name: "size", about: "the stripped release binary", run: start::size },
    Case { name: "wire", about: "share of a paced serial link, with and without latency", run: wire::run },
    Case { name: "paced", about: "64 paced devices against one", run: paced::run },
    Case { name: "port", about: "port back to first request", run: port::run },
    Case { name: "udp", about: "1,000 devices over UDP", run: udp::run },
    Case { name: "fleet", about: "10,000 simulated devices", run: fleet::run },
    Case { name: "peer", about: "upload to a real Zephyr, against mcumgrctl", run: peer::run },
];

fn main() -> ExitCode {
    // Cargo adds `--bench`.
    let asked: Vec<String> = std::env::args().skip(1).filter(|argument| argument != "--bench").collect();
    if let Some((fleet::CHILD, arguments)) = asked.split_first().map(|(first, rest)| (first.as_str(), rest)) {
        return fleet::child(arguments);
    }
    if asked.iter().any(|argument| argument == "--list") {
        CASES.iter().for_each(|case| println!("{:<8} {}", case.name, case.about));
        return ExitCode::SUCCESS;
    }
    if let Some(unknown) = asked.iter().find(|asked| !CASES.iter().any(|case| case.name == **asked)) {
        eprintln!("expected names of cases, got {unknown:?}; `-- --list` names them");
        return ExitCode::from(2);
    }
    if let Err(why) = process::build() {
        eprintln!("{why}");
        return ExitCode::FAILURE;
    }
    let mut table = Table::default();
    let mut failed = false;
    for case in CASES.iter().filter(|case| asked.is_empty() || asked.iter().any(|name| name == case.name)) {
        eprintln!("{}: {}", case.name, case.about);
        if let Err(why) = (case.run)(&mut table) {
            eprintln!("{}: not measured: {why}", case.name);
            table.not_measured(case.about, &why);
            failed = true;
        }
    }
    let text = format!("{}\n{table}", machine::describe());
    println!("{text}");
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).with_file_name("bench");
    let file = folder.join("targets.md");
    if let Err(error) = std::fs::create_dir_all(&folder).and_then(|()| std::fs::write(&file, text)) {
        eprintln!("cannot write {}: {error}", file.display());
        failed = true;
    }
    if failed { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}
