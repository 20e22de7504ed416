//! Serial links over pseudo-terminals, which are as real as a port gets without hardware.
#![expect(clippy::unwrap_used, reason = "a failed helper is a failed test")]
#![cfg(target_os = "linux")]

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::{BorrowedFd, OwnedFd};
use std::os::unix::fs::symlink;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use flashfleet::plan::{FlowControl, LineState, LinkOptions, MatchKind, Target};
use flashfleet::smp::console;
use flashfleet::transport::{
    Connector, Discovery, Framing, Link, LinkErrorKind, SerialConnector, SerialOptions,
};
use tokio::time::timeout;

const SOON: Duration = Duration::from_secs(5);

/// The device's end of a pseudo-terminal.
struct Pty {
    /// What the device reads and writes.
    device: File,
    path: String,
}

impl Pty {
    fn new() -> Self {
        let pair = nix::pty::openpty(None, None).unwrap();
        let path = nix::unistd::ttyname(&pair.slave).unwrap().display().to_string();
        let device: OwnedFd = pair.master;
        Self { device: device.into(), path }
    }

    fn connector(&self) -> SerialConnector {
        SerialConnector::new(&self.path, SerialOptions::from(&LinkOptions::default()))
    }

    async fn link(&self) -> Box<dyn Link> {
        self.connector().connect().await.unwrap()
    }

    /// Reads, on a thread, until one message came.
    fn next_message(&self) -> std::thread::JoinHandle<Vec<u8>> {
        let mut device = self.device.try_clone().unwrap();
        std::thread::spawn(move || {
            let mut decoder = console::Decoder::new();
            let mut buffer = [0; 64];
            loop {
                let length = device.read(&mut buffer).unwrap();
                if let Some(message) = decoder.push(&buffer[..length]).pop() {
                    return message;
                }
            }
        })
    }
}

fn message(sequence: u8, length: usize) -> Vec<u8> {
    let mut message = vec![0x09, 0, 0, 0, 0, 0, sequence, 0];
    message.resize(8 + length, sequence);
    message
}

async fn recv(link: &mut Box<dyn Link>) -> Vec<u8> {
    timeout(SOON, link.recv()).await.expect("no message").unwrap()
}

#[tokio::test]
async fn messages_go_both_ways_in_noise_and_in_pieces() {
    let mut pty = Pty::new();
    let mut link = pty.link().await;
    assert!(matches!(link.properties().framing, Framing::Console { line_length: 128 }));
    // All byte values: a terminal that is not raw would swallow, change or echo some.
    let bytes: Vec<u8> = message(1, 0).into_iter().chain(0..=255).collect();
    let request = pty.next_message();
    link.send(&bytes).await.unwrap();
    assert_eq!(request.join().unwrap(), bytes);

    pty.device.write_all(b"*** Booting MCUboot ***\r\n\x06\x09not base64!\r\nuart:~$ \x1b[m").unwrap();
    for piece in console::encode(&bytes, 128).chunks(5) {
        pty.device.write_all(piece).unwrap();
        tokio::task::yield_now().await;
    }
    pty.device.write_all(&console::encode(&message(2, 0), 128)).unwrap();
    assert_eq!(recv(&mut link).await, bytes);
    assert_eq!(recv(&mut link).await, message(2, 0));
    assert!(timeout(Duration::from_millis(50), link.recv()).await.is_err(), "an echo of what was sent");
}

/// Lines back to back overrun the two line buffers of an emulated server, where a wire would have left it time.
#[tokio::test]
async fn a_pseudo_terminal_is_written_at_its_baud_rate() {
    let pty = Pty::new();
    let options = SerialOptions { baud: 9600, ..SerialOptions::from(&LinkOptions::default()) };
    let mut link = SerialConnector::new(&pty.path, options).connect().await.unwrap();
    assert_eq!(link.properties().wire_bytes_per_s, Some(960.0));
    // Two full lines (2 + 124 + 1 bytes each) and the beginning of a third.
    let bytes = message(1, 190);
    let request = pty.next_message();
    let start = Instant::now();
    link.send(&bytes).await.unwrap();
    // Timers know whole milliseconds: so much earlier it may be.
    let least = Duration::from_secs_f64(2.0 * 127.0 / 960.0) - Duration::from_millis(1);
    assert!(start.elapsed() >= least, "{:?}", start.elapsed());
    assert_eq!(request.join().unwrap(), bytes);
}

#[tokio::test]
async fn nothing_that_comes_while_it_is_read_is_left_lying() {
    const MESSAGES: u8 = 250;
    let pty = Pty::new();
    let mut link = pty.link().await;
    let mut device = pty.device.try_clone().unwrap();
    let talks = std::thread::spawn(move || {
        for number in 0..MESSAGES {
            let frame = console::encode(&message(number, 100 + usize::from(number)), 128);
            // Pieces of all sizes, as drivers give them.
            let mut rest = frame.as_slice();
            while !rest.is_empty() {
                let (piece, later) =
                    rest.split_at(rest.len().min(1 + (rest.len() * 7 + usize::from(number)) % 97));
                device.write_all(piece).unwrap();
                rest = later;
            }
            if number % 5 == 0 {
                std::thread::sleep(Duration::from_micros(u64::from(number) * 3));
            }
        }
    });
    for number in 0..MESSAGES {
        assert_eq!(recv(&mut link).await, message(number, 100 + usize::from(number)));
    }
    talks.join().unwrap();
}

#[tokio::test]
async fn a_port_that_is_full_is_written_to_when_it_has_room_and_read_meanwhile() {
    let mut pty = Pty::new();
    let options = SerialOptions { baud: 20_000_000, ..SerialOptions::from(&LinkOptions::default()) };
    let mut link = SerialConnector::new(&pty.path, options).connect().await.unwrap();
    // More than the kernel keeps for a terminal whose other end reads nothing.
    let (first, second) = (message(1, 40_000), message(2, 40_000));
    let cut = timeout(Duration::from_millis(200), link.send(&first)).await;
    assert!(cut.is_err(), "it was never full");
    let request = pty.next_message();
    timeout(SOON, link.send(&second)).await.expect("it has room again").unwrap();
    assert_eq!(request.join().unwrap(), second);
    // Nor is it deaf since.
    pty.device.write_all(&console::encode(&message(3, 10), 128)).unwrap();
    assert_eq!(recv(&mut link).await, message(3, 10));
    let request = pty.next_message();
    link.send(&message(4, 10)).await.unwrap();
    assert_eq!(request.join().unwrap(), message(4, 10));
}

#[tokio::test]
async fn a_port_that_hangs_up_is_disconnected_for_good() {
    let pty = Pty::new();
    let mut link = pty.link().await;
    let waiting =
        tokio::spawn(async move { (timeout(SOON, link.recv()).await.expect("endless silence"), link) });
    tokio::task::yield_now().await;
    drop(pty);
    let (result, mut link) = waiting.await.unwrap();
    assert_eq!(result.unwrap_err().kind, LinkErrorKind::Disconnected);
    assert_eq!(link.send(&message(1, 0)).await.unwrap_err().kind, LinkErrorKind::Disconnected);
    assert_eq!(link.recv().await.unwrap_err().kind, LinkErrorKind::Disconnected);
}

#[tokio::test]
async fn a_port_held_by_this_process_is_busy() {
    let pty = Pty::new();
    let held = pty.link().await;
    let error = pty.connector().connect().await.err().unwrap();
    assert_eq!(error.kind, LinkErrorKind::Busy);
    assert!(error.message.contains("this process"), "{error}");
    drop(held);
}

#[tokio::test]
async fn a_port_held_by_another_process_is_busy_and_the_holder_is_named() {
    let pty = Pty::new();
    let mut holder = Command::new("flock")
        .args(["--exclusive", &pty.path, "--command", "echo held; cat"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut said = [0; 5];
    holder.stdout.as_mut().unwrap().read_exact(&mut said).unwrap();
    let error = pty.connector().connect().await.err().unwrap();
    drop(holder.stdin.take());
    holder.wait().unwrap();
    assert_eq!(error.kind, LinkErrorKind::Busy);
    assert!(error.message.contains(&format!("flock (process {})", holder.id())), "{error}");
}

#[tokio::test]
async fn what_is_no_port_is_told_apart_from_what_is_not_there() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("file");
    std::fs::write(&file, "text").unwrap();
    for (path, kind) in [
        ("/dev/ttyNOTHERE0".to_owned(), LinkErrorKind::NotFound),
        (folder.path().join("gone").display().to_string(), LinkErrorKind::NotFound),
        ("/dev/null".to_owned(), LinkErrorKind::Unavailable),
        (file.display().to_string(), LinkErrorKind::Unavailable),
        (folder.path().display().to_string(), LinkErrorKind::Unavailable),
    ] {
        let connector = SerialConnector::new(&path, SerialOptions::from(&LinkOptions::default()));
        let error = connector.connect().await.err().unwrap();
        assert_eq!(error.kind, kind, "{path}: {error}");
        assert!(error.message.contains(&path), "{error}");
    }
}

#[tokio::test]
async fn a_line_that_the_port_does_not_have_matters_only_where_the_plan_sets_it() {
    let pty = Pty::new();
    for (dtr, rts, line) in
        [(LineState::On, LineState::Keep, "dtr"), (LineState::Keep, LineState::Off, "rts")]
    {
        let link = LinkOptions { dtr, rts, ..LinkOptions::default() };
        let error =
            SerialConnector::new(&pty.path, SerialOptions::from(&link)).connect().await.err().unwrap();
        assert_eq!(error.kind, LinkErrorKind::Unavailable);
        assert!(error.help.contains(&format!("`{line}: keep`")), "{}", error.help);
    }
    let link = LinkOptions { flow_control: FlowControl::Hardware, baud: 1_000_000, ..LinkOptions::default() };
    SerialConnector::new(&pty.path, SerialOptions::from(&link)).connect().await.unwrap();
}

#[tokio::test]
async fn a_port_can_be_opened_again_right_after_it_was_closed() {
    let pty = Pty::new();
    for round in 0..20 {
        let mut link = pty.link().await;
        let request = pty.next_message();
        link.send(&message(round, 40)).await.unwrap();
        // Half of the time as a device that fails: without a close.
        if round % 2 == 0 {
            link.close().await;
        } else {
            drop(link);
        }
        assert_eq!(request.join().unwrap(), message(round, 40), "a close must not lose what was sent");
    }
}

#[tokio::test]
async fn stale_input_is_not_taken_for_an_answer() {
    let mut pty = Pty::new();
    // Opened once, so that the terminal is raw and keeps what comes next.
    let first = pty.link().await;
    pty.device.write_all(&console::encode(&message(1, 10), 128)).unwrap();
    first.close().await;
    let mut link = pty.link().await;
    pty.device.write_all(&console::encode(&message(2, 10), 128)).unwrap();
    assert_eq!(recv(&mut link).await, message(2, 10));
}

#[tokio::test]
async fn a_glob_finds_ports_by_their_links_and_follows_them() {
    let folder = tempfile::tempdir().unwrap();
    let (mut first, mut second) = (Pty::new(), Pty::new());
    let name = folder.path().join("slot1-jig");
    symlink(&first.path, &name).unwrap();
    symlink(&first.path, folder.path().join("slot1-jig-alias")).unwrap();
    let target = port_target(&format!("{}/*-jig*", folder.path().display()));

    let found = Discovery::new().discover(&target).await.unwrap();
    let [candidate] = found.as_slice() else { panic!("one device with two names: {found:?}") };
    assert_eq!(candidate.address, format!("serial:{}", name.display()));
    assert_eq!(candidate.key, first.path);
    assert!(!candidate.claim, "a glob is a search");

    let mut link = candidate.connector.connect().await.unwrap();
    first.device.write_all(&console::encode(&message(1, 1), 128)).unwrap();
    assert_eq!(recv(&mut link).await, message(1, 1));
    drop(link);

    std::fs::remove_file(&name).unwrap();
    symlink(&second.path, &name).unwrap();
    let mut link = candidate.connector.connect().await.unwrap();
    second.device.write_all(&console::encode(&message(2, 1), 128)).unwrap();
    assert_eq!(recv(&mut link).await, message(2, 1));
}

#[tokio::test]
async fn a_port_that_is_named_is_a_claim_whether_it_is_there_or_not() {
    let pty = Pty::new();
    for (path, there) in [(pty.path.as_str(), true), ("/dev/ttyNOTHERE0", false)] {
        let found = Discovery::new().discover(&port_target(path)).await.unwrap();
        let [candidate] = found.as_slice() else { panic!("{found:?}") };
        assert!(candidate.claim);
        assert_eq!(candidate.address, format!("serial:{path}"));
        assert_eq!(candidate.connector.connect().await.is_ok(), there);
    }
}

fn port_target(glob: &str) -> Target {
    let kind = MatchKind::Port(vec![glob::Pattern::new(glob).unwrap()]);
    Target::new("jigs", kind.into(), Vec::new())
}

#[tokio::test]
async fn a_copy_of_the_port_in_a_program_being_started_does_not_keep_it() {
    let pty = Pty::new();
    let link = pty.link().await;
    // Until it runs, a new process has every file of its parent, locks included.
    let copy = copy_of_open(&pty.path);
    link.close().await;
    pty.link().await;
    drop(copy);
}

/// A second descriptor of the open file that this process has at `path`.
fn copy_of_open(path: &str) -> OwnedFd {
    let number = std::fs::read_dir("/proc/self/fd")
        .unwrap()
        .flatten()
        .find(|file| std::fs::read_link(file.path()).is_ok_and(|target| target.to_string_lossy() == path))
        .and_then(|file| file.file_name().to_str()?.parse().ok())
        .unwrap();
    #[expect(
        unsafe_code,
        reason = "the port's descriptor is private to the link; it is open for all of this function"
    )]
    let open = unsafe { BorrowedFd::borrow_raw(number) };
    open.try_clone_to_owned().unwrap()
}

#[test]
fn a_link_that_outlives_its_runtime_is_closed_all_the_same() {
    let pty = Pty::new();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let link = runtime.block_on(pty.link());
    drop(runtime);
    drop(link);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(pty.link());
}
