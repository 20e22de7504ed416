//! Devices that are none: a port that is held, a port without an SMP server, a host that does not answer.

use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use flashfleet::smp::console::Decoder;
use flashfleet::smp::{Header, Op};
use nix::pty::openpty;
use nix::sys::termios;

use super::station::{Station, Witness, verdict};

const PATIENCE: &str = "link: { timeout: 200ms, retries: 1, quiet: 600ms, return_within: 5s }";

fn plan(station: &Station, selector: &str) {
    station.plan(&format!(
        "version: 1\nname: links\nimages: {{ app: {{ file: app.bin }} }}\npolicy: {{ attempts: 1 }}\ntargets:\n  - name: a\n    match: {{ {selector} }}\n    {PATIENCE}\n    discover: 1s\n"
    ));
}

/// Both ends of a terminal in raw mode.
fn terminal() -> (std::fs::File, OwnedFd, PathBuf) {
    let pair = openpty(None, None).expect("a terminal");
    let mut modes = termios::tcgetattr(&pair.slave).expect("modes");
    termios::cfmakeraw(&mut modes);
    termios::tcsetattr(&pair.slave, termios::SetArg::TCSANOW, &modes).expect("raw mode");
    let path = nix::unistd::ttyname(&pair.slave).expect("a name");
    (pair.master.into(), pair.slave, path)
}

#[test]
fn a_host_that_does_not_answer_is_an_error_and_gets_no_firmware() {
    let station = Station::new();
    let witness = Witness::new();
    plan(&station, &format!("udp: [\"{}\"]", witness.address()));
    let (said, report) = station.run(&[]);
    assert_eq!(said.exit, 100, "{}", said.err);
    let report = report.expect("a report");
    assert_eq!(verdict(&report, 0), ("error".to_owned(), "link.no_answer".to_owned()));
    assert_eq!(report["devices"][0]["changed"], false);
    let heard = witness.heard();
    assert_eq!(heard.len(), 2, "asked once and once again");
    let said = station.say(&["run", "plan.yaml", "--dry-run"]);
    assert_eq!(said.exit, 100, "a dry run does not promise what does not answer: {}", said.out);
    assert!(said.out.contains("does not answer"), "{}", said.out);
    for message in heard {
        let (header, _) = Header::split(&message).expect("a message");
        assert_eq!(header.op, Op::Read, "questions, no firmware: {header:?}");
    }
}

#[test]
fn a_range_in_which_nobody_answers_matches_nothing() {
    let station = Station::new();
    let witness = Witness::new();
    let port = witness.address().rsplit(':').next().expect("a port").to_owned();
    plan(&station, &format!("udp: [\"127.0.0.1-127.0.0.1:{port}\"]"));
    let (said, report) = station.run(&[]);
    assert_eq!(said.exit, 4, "{}", said.err);
    let report = report.expect("a report");
    assert_eq!(report["devices"].as_array().map(Vec::len), Some(0));
    assert_eq!(report["targets_unmet"][0]["target"], "a");
}

#[test]
fn a_port_that_does_not_exist_matches_nothing() {
    let station = Station::new();
    plan(&station, &format!("port: \"{}\"", station.path("ttyNONE*").display()));
    let (said, _) = station.run(&[]);
    assert_eq!(said.exit, 4, "{}", said.err);
}

#[test]
fn a_port_that_is_no_smp_server_is_not_matched_and_gets_no_firmware() {
    let station = Station::new();
    let (mut master, _slave, path) = terminal();
    // A search, by the names that a fixture gives its ports.
    std::os::unix::fs::symlink(&path, station.path("tty-jig1")).expect("a link");
    plan(&station, &format!("port: \"{}\"", station.path("tty-*").display()));
    // A shell that echoes whatever it gets and prints a prompt.
    let mut end = master.try_clone().expect("an end");
    let shell = std::thread::spawn(move || {
        let (mut heard, mut buffer) = (Vec::new(), [0; 512]);
        while let Ok(count @ 1..) = master.read(&mut buffer) {
            heard.extend_from_slice(&buffer[..count]);
            if master.write_all(b"uart:~$ what?\r\n").is_err() || heard.ends_with(b"end of test") {
                break;
            }
        }
        heard
    });
    let (said, _) = station.run(&[]);
    assert_eq!(said.exit, 4, "{}", said.err);
    let mut slave = std::fs::File::options().read(true).write(true).open(&path).expect("the other end");
    slave.write_all(b"end of test").expect("a last word");
    let heard = shell.join().expect("the shell");
    let _ = end.flush();
    let questions: Vec<_> = Decoder::new().push(&heard);
    assert!(!questions.is_empty(), "it was asked");
    for message in questions {
        let (header, _) = Header::split(&message).expect("a message");
        assert_eq!((header.group, header.command), (0, 0), "echoes, and nothing else: {header:?}");
    }
}

#[test]
fn a_port_that_another_process_holds_is_station_trouble_and_the_holder_is_named() {
    let station = Station::new();
    let (_master, _slave, path) = terminal();
    let mut holder = Command::new("flock")
        .args(["--exclusive", &path.display().to_string(), "--command", "echo held; cat"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("flock");
    holder.stdout.as_mut().expect("its output").read_exact(&mut [0; 5]).expect("a word");
    plan(&station, &format!("port: \"{}\"", path.display()));
    let (said, report) = station.run(&[]);
    let dry = station.say(&["run", "plan.yaml", "--dry-run"]);
    drop(holder.stdin.take());
    holder.wait().expect("its end");
    assert_eq!(said.exit, 102, "{}", said.err);
    let report = report.expect("a report");
    assert_eq!(verdict(&report, 0), ("error".to_owned(), "station.port_busy".to_owned()));
    let message = report["devices"][0]["cause"]["message"].as_str().expect("a message").to_owned();
    assert!(message.contains("flock"), "{message}");
    assert_eq!(dry.exit, 102, "{}", dry.out);
    assert!(dry.out.contains("[station.port_busy]") && dry.out.contains("flock"), "{}", dry.out);
    assert_eq!(report["devices"][0]["changed"], false);
}

#[test]
fn a_device_that_two_targets_match_by_two_names_is_refused_by_the_run_and_the_dry_run() {
    let station = Station::new();
    let (_master, _slave, path) = terminal();
    for name in ["tty-a", "tty-b"] {
        std::os::unix::fs::symlink(&path, station.path(name)).expect("a link");
    }
    let target = |name: &str| {
        let link = station.path(&format!("tty-{name}"));
        format!(
            "  - name: {name}\n    match: {{ port: \"{}\" }}\n    {PATIENCE}\n    discover: 1s\n",
            link.display()
        )
    };
    station.plan(&format!(
        "version: 1\nname: links\nimages: {{ app: {{ file: app.bin }} }}\ntargets:\n{}{}",
        target("a"),
        target("b")
    ));
    let (said, report) = station.run(&[]);
    let report = report.expect("a report");
    for index in 0..2 {
        assert_eq!(verdict(&report, index), ("error".to_owned(), "plan.device_in_two_targets".to_owned()));
    }
    let dry = station.say(&["run", "plan.yaml", "--dry-run"]);
    assert_eq!((said.exit, dry.exit), (100, 100), "{}", dry.out);
    assert!(dry.out.contains("refused, as b matches it, too"), "{}", dry.out);
    assert!(dry.out.contains("refused, as a matches it, too"), "{}", dry.out);
}
