//! Raw and COBS framing on the servers that speak them, and finding out which on those and on all others.

use std::fs::File;
use std::io::{Read, Write};
use std::path::Path;
use std::time::{Duration, Instant};

use nix::sys::termios::{SetArg, SpecialCharacterIndices, cfmakeraw, tcgetattr, tcsetattr};
use serde_json::Value;

use crate::error::{Context, Result};
use crate::fixtures::fixtures;
use crate::fleet_run::{Station, step};
use crate::native::SerialServer;
use crate::qemu::Board;
use crate::smp_program::Bench;

#[path = "../common/bare.rs"]
mod bare;

/// Longer than any server waits for the rest of a message.
const GIVEN_UP: Duration = Duration::from_millis(3500);

fn bench(server: &SerialServer, options: &[&str]) -> Result<Bench> {
    Ok(Bench::new(format!("serial:{}", server.terminal().display()))?.with(options))
}

/// The terminal, passing on every byte as it is; a read waits for at most a tenth of a second.
fn open(path: &Path) -> Result<File> {
    let file = File::options().read(true).write(true).open(path).context(path.display())?;
    let mut mode = tcgetattr(&file).context(path.display())?;
    cfmakeraw(&mut mode);
    mode.control_chars[SpecialCharacterIndices::VMIN as usize] = 0;
    mode.control_chars[SpecialCharacterIndices::VTIME as usize] = 1;
    tcsetattr(&file, SetArg::TCSANOW, &mode).context(path.display())?;
    Ok(file)
}

#[test]
fn framing_raw_server_finds_back_into_step_as_the_simulated_one() -> Result<()> {
    let server = SerialServer::start("serial_raw")?;
    let mut terminal = open(server.terminal())?;
    for (name, sent, answer) in bare::SCENARIOS {
        std::thread::sleep(GIVEN_UP);
        for (silence, bytes) in sent {
            std::thread::sleep(Duration::from_millis(*silence));
            terminal.write_all(&hex::decode(bytes).context(name)?)?;
        }
        let mut answered = Vec::new();
        let end = Instant::now() + Duration::from_secs(2);
        while Instant::now() < end && answered.len() < answer.len() / 2 {
            let mut buffer = [0; 256];
            let count = terminal.read(&mut buffer)?;
            answered.extend_from_slice(&buffer[..count]);
        }
        assert_eq!(hex::encode(answered), answer, "{name}");
    }
    Ok(())
}

#[test]
fn framing_raw_server_takes_every_command_in_raw_and_auto() -> Result<()> {
    let server = SerialServer::start("serial_raw")?;
    let buf_size = usize::try_from(server.server.buf_size).context("buf_size")?;
    for options in [["--framing", "raw"], ["--framing", "auto"]] {
        let bench = bench(&server, &options)?;
        assert_eq!(bench.json(&["os", "params"])?["buf_size"], buf_size);
        assert_eq!(bench.json(&["os", "echo", "grüße"])?["text"], "grüße", "{options:?}");
        // The buffer holds the message and nothing else: filled to the byte it is answered, if only with an error, as the
        // answer is one byte longer.
        let filled = "x".repeat(buf_size - 8 - 6);
        let said = bench.smp(&["os", "echo", &filled])?;
        assert!(said.refuses("smp.mgmt.message_too_large"), "{said:?}");
        assert!(!bench.json(&["enum", "list"])?.is_null());
        assert!(bench.text(&["shell", "kernel version"])?.contains("Zephyr version 4."));
    }
    // In console framing it says nothing, and comes to no harm.
    let console = bench(&server, &["--framing", "console", "--timeout", "300ms", "--retries", "1"])?;
    assert_eq!(console.smp(&["os", "echo", "hi"])?.exit, 100);
    std::thread::sleep(GIVEN_UP);
    assert_eq!(
        bench(&server, &["--framing", "raw"])?.json(&["os", "echo", "still there"])?["text"],
        "still there"
    );
    Ok(())
}

#[test]
fn framing_of_every_console_server_is_found_without_harm() -> Result<()> {
    let servers: Vec<_> = fixtures()?
        .servers()
        .iter()
        .filter(|server| server.target == "native_sim" && server.transport == "serial")
        .filter(|server| fixtures().is_ok_and(|fixtures| fixtures.carries(server)))
        .map(|server| server.config.as_str())
        .chain(["shell"])
        .collect();
    assert!(servers.len() >= 10, "{servers:?}");
    for config in servers {
        let server = SerialServer::start(config)?;
        let bench = bench(&server, &["--framing", "auto"])?;
        let begun = Instant::now();
        assert_eq!(bench.json(&["os", "echo", "hi"])?["text"], "hi", "{config}");
        assert!(begun.elapsed() < Duration::from_secs(5), "{config}: {:?}", begun.elapsed());
        // A wrong guess before: bare messages and COBS frames, which nobody is to take for commands.
        for wrong in ["raw", "cobs"] {
            let wrong = self::bench(&server, &["--framing", wrong, "--timeout", "300ms", "--retries", "0"])?;
            assert_eq!(wrong.smp(&["raw", "read", "0", "6"])?.exit, 100, "{config}");
        }
        assert_eq!(bench.json(&["os", "echo", "and after"])?["text"], "and after", "{config}");
    }
    Ok(())
}

#[test]
fn framing_raw_server_passes_a_plan_in_raw_and_auto() -> Result<()> {
    let server = SerialServer::start("serial_raw")?;
    let station = Station::new()?;
    let address = format!("serial:{}", server.terminal().display());
    for framing in ["raw", "auto"] {
        let plan = format!(
            "version: 1
name: bare
targets:
  - name: bench
    match: {{ port: \"{}\" }}
    link: {{ framing: {framing} }}
    steps:
      - shell: {{ run: \"kernel version\", expect: \"^Zephyr version 4\\\\.\" }}
      - smp: {{ op: read, group: os, command: 6, expect: {{ buf_count: {} }} }}
      - smp: {{ op: write, group: os, command: 0, data: {{ d: grüße }}, expect: {{ r: grüße }} }}
",
            server.terminal().display(),
            server.server.buf_count,
        );
        let run = station.run(framing, &plan, &[])?;
        assert_eq!(run.code, 0, "{run}");
        assert_eq!(step(run.device(&address)?, "shell kernel version")?["verdict"], "passed");
    }
    Ok(())
}

/// The application speaks raw; its bootloader's recovery raw, or COBS.
#[test]
fn framing_of_a_board_and_of_its_recovery_are_found_and_filled() -> Result<()> {
    for (config, recovery) in [("serial_recovery_raw", "raw"), ("serial_recovery_raw_cobs", "cobs")] {
        let board = Board::mps2(config)?;
        let bench = |framing| {
            Ok::<_, crate::error::RigError>(
                Bench::new(format!("tcp:{}", board.address()))?.with(&["--framing", framing]),
            )
        };
        for framing in ["raw", "auto"] {
            assert_eq!(bench(framing)?.json(&["os", "params"])?["buf_size"], 384, "{config} {framing}");
        }
        bench("raw")?.text(&["os", "reset", "--boot-mode", "1"])?;
        board.wait_resets(1, Duration::from_secs(20))?;
        board.wait_listening(Duration::from_secs(20))?;
        for framing in [recovery, "auto"] {
            let params: Value = bench(framing)?.json(&["os", "params"])?;
            assert_eq!((&params["buf_size"], &params["buf_count"]), (&1024.into(), &1.into()), "{config}");
            // The recovery has no echo and says so; what is longer than its buffer meets silence.
            let filled = "x".repeat(1024 - 8 - 6);
            let said = bench(framing)?.smp(&["os", "echo", &filled])?;
            assert!(said.refuses("smp.mgmt.not_supported"), "{config} {framing}: {said:?}");
        }
        let images = bench(recovery)?.json(&["image", "list"])?;
        assert!(images["images"].as_array().is_some_and(|images| !images.is_empty()), "{images}");
    }
    Ok(())
}

/// Lines of 512 bytes where the server takes them, and never more of them than it has buffers for.
#[test]
fn framing_in_long_lines_reaches_the_server_that_takes_them() -> Result<()> {
    let server = SerialServer::start("serial_line512")?;
    let buf_size = usize::try_from(server.server.buf_size).context("buf_size")?;
    assert_eq!((buf_size, server.server.line_length_max), (2048, Some(512)));
    let text = "x".repeat(1800);
    for options in
        [&["--line-length", "512"][..], &["--buffer", "512x5"], &["--line-length", "512", "--buffer", "2048"]]
    {
        assert_eq!(
            bench(&server, options)?.json(&["os", "echo", &text])?["text"],
            text.as_str(),
            "{options:?}"
        );
    }
    // Four lines of 512 bytes carry 1524 bytes of packet: a longer message is not sent at all.
    let said = bench(&server, &["--buffer", "512x4"])?.smp(&["os", "echo", &text])?;
    assert!(said.exit != 0 && said.err.contains("1520"), "{said:?}");

    let station = Station::new()?;
    for link in ["line_length: 512", "buffer: 512x5", "buffer: 2KiB, line_length: 512"] {
        let plan = format!(
            "version: 1
name: lines
targets:
  - name: bench
    match: {{ port: \"{}\" }}
    link: {{ {link} }}
    steps:
      - smp: {{ op: write, group: os, command: 0, data: {{ d: {text} }}, expect: {{ r: {text} }} }}
",
            server.terminal().display(),
        );
        let run = station.run("lines", &plan, &[])?;
        assert_eq!(run.code, 0, "{link}: {run}");
    }
    Ok(())
}
