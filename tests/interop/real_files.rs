//! Files to and from real servers: every size around a piece's, lost answers, Ctrl-C. What a server holds in the end is
//! read by smpclient; what smpclient put there flashfleet reads.

use std::path::PathBuf;
use std::time::Duration;

use crate::bridge::Bridge;
use crate::console::{body, number};
use crate::error::{Context, Result, RigError};
use crate::native::{SerialServer, UdpServer};
use crate::proxy::{Action, Direction, Frame, Proxy, both_ways, lose_answer, lose_every_answer};
use crate::readback::Device;
use crate::smp_program::Bench;

const FILE: &str = "/lfs1/file";
/// More than this does not fit the servers' file system: four blocks of 4096 bytes, of which two hold its directory.
const LARGEST: usize = 8000;

/// Bytes of a file that differ from offset to offset, and from file to file.
fn content(length: usize) -> Vec<u8> {
    (0..length).map(|at| (at * 31 + at / 251 + length).to_le_bytes()[0]).collect()
}

/// Lengths of the data of each piece of a file that went up.
fn pieces(proxy: &Proxy) -> Vec<usize> {
    let upload = |frame: &Frame| {
        let head = (frame.direction, frame.head.op, frame.head.group, frame.head.command);
        head == (Direction::Request, 2, 8, 0)
    };
    let data = |frame: Frame| {
        let map = body(&frame.message)?.into_map().ok()?;
        map.into_iter().find(|(key, _)| key.as_text() == Some("data"))?.1.into_bytes().ok()
    };
    let frames = proxy.log().into_iter().map(|(frame, _)| frame).filter(upload);
    frames.filter_map(data).map(|data| data.len()).collect()
}

/// Puts a file, gets it again, and has its length and every hash compared with those computed here.
fn assert_there_and_back(bench: &Bench, length: usize) -> Result<()> {
    let sent = content(length);
    bench.file("sent.bin", &sent)?;
    let checked = if length == 0 { "no hash compared" } else { "crc32 compared" };
    let put = bench.text(&["fs", "put", "sent.bin", FILE])?;
    // On a busy machine a server with two line buffers loses a request now and then; then it says that it went on.
    assert!(put.starts_with(&format!("put {length} bytes, {checked}")), "{put}");
    assert_eq!(bench.text(&["fs", "status", FILE])?, format!("{length} bytes\n"));
    bench.text(&["fs", "get", FILE, "got.bin"])?;
    assert!(bench.content("got.bin")? == sent, "{length} bytes: another file came back");
    if length == 0 {
        assert!(bench.smp(&["fs", "hash", FILE])?.refuses("smp.fs_mgmt.file_empty"));
        return Ok(());
    }
    let crc = format!("{:08x}", crc::Crc::<u32>::new(&crc::CRC_32_ISO_HDLC).checksum(&sent));
    let sha = hex::encode(<sha2::Sha256 as sha2::Digest>::digest(&sent));
    assert_eq!(bench.text(&["fs", "hash", FILE])?, format!("{crc}  crc32 of {length} bytes\n"));
    for (kind, hash) in [("crc32", crc), ("sha256", sha)] {
        let told = bench.text(&["fs", "hash", FILE, "--type", kind])?;
        assert_eq!(told, format!("{hash}  {kind} of {length} bytes\n"));
    }
    Ok(())
}

/// All of it on one server, behind `proxy`.
fn assert_every_size(bench: &Bench, proxy: &Proxy) -> Result<()> {
    assert_there_and_back(bench, 0)?;
    let empty = pieces(proxy).len();
    bench.file("long.bin", &content(4000))?;
    bench.text(&["fs", "put", "long.bin", FILE])?;
    let pieces = pieces(proxy);
    let (first, second) = (pieces[empty], pieces[empty + 1]);
    assert!(second > first, "the first piece carries the file's length too: {pieces:?}");
    // A file that replaces another needs room for both, until it is closed.
    for length in [1, first - 1, first, first + 1, first + second, first + second + 1, 4000, 5, 1] {
        assert_there_and_back(bench, length)?;
    }
    Ok(())
}

#[test]
fn every_size() -> Result<()> {
    let pass = |_: &Frame| Action::Pass;
    let serial = SerialServer::start("serial_fs")?;
    let bridge = Bridge::to(serial.terminal())?;
    let proxy = Proxy::start(bridge.address(), pass)?;
    assert_every_size(&Bench::new(format!("tcp:{}", proxy.address()))?, &proxy)?;
    let udp = UdpServer::start("udp")?;
    let proxy = Proxy::udp(udp.address(), pass)?;
    assert_every_size(&Bench::new(format!("udp:{}", proxy.address()))?, &proxy)?;

    // The largest, on a server whose lines are as short as its buffers, at the pace of a wire.
    let serial = SerialServer::start("serial")?;
    let device = Device::Terminal(serial.terminal().to_owned());
    let bench = Bench::new(&device)?;
    assert_there_and_back(&bench, LARGEST)?;
    assert!(device.file(FILE)? == content(LARGEST), "smpclient read another file");
    // What does not fit is told, and what replaces it needs room for both.
    bench.file("sent.bin", &content(17_000))?;
    assert!(bench.smp(&["fs", "put", "sent.bin", "/lfs1/more"])?.refuses("smp.fs_mgmt.file_write_failed"));
    Ok(())
}

#[test]
fn of_another_client() -> Result<()> {
    let udp = UdpServer::start("udp")?;
    let device = Device::Udp(udp.address().ip());
    device.put_file("/lfs1/theirs", &content(3333))?;
    let bench = Bench::new(&device)?;
    assert_eq!(bench.text(&["fs", "get", "/lfs1/theirs"])?, "got 3333 bytes: theirs\n");
    assert!(bench.content("theirs")? == content(3333), "another file came");
    // To standard output, where nothing but the file may be.
    bench.file("text", b"one\ntwo\n")?;
    bench.text(&["fs", "put", "text", "/lfs1/"])?;
    assert_eq!(bench.text(&["fs", "get", "/lfs1/text", "-"])?, "one\ntwo\n");
    // Servers shorten a file only with data.
    bench.file("nothing", b"")?;
    let differs = bench.smp(&["fs", "put", "nothing", "/lfs1/text"])?;
    assert!(differs.refuses("fs.differs"), "{differs:#?}");
    Ok(())
}

#[test]
fn that_cannot_be() -> Result<()> {
    let serial = SerialServer::start("serial")?;
    let bench = Bench::new(format!("serial:{}", serial.terminal().display()))?;
    bench.file("a", b"a")?;
    let deep = format!("/lfs1/{}", "x".repeat(80));
    for (arguments, code) in [
        (["fs", "put", "a", "/none/a"], "smp.fs_mgmt.mount_point_not_found"),
        (["fs", "put", "a", "a"], "smp.fs_mgmt.file_invalid_name"),
        (["fs", "put", "a", &deep], "smp.mgmt.invalid_value"),
        (["fs", "get", "/lfs1/none", "b"], "smp.fs_mgmt.file_not_found"),
        (["fs", "get", "/lfs1", "b"], "smp.fs_mgmt.file_is_directory"),
    ] {
        let said = bench.smp(&arguments)?;
        assert!(said.refuses(code), "{arguments:?}: expected {code}: {said:#?}");
    }
    assert!(!bench.folder().join("b").exists());
    Ok(())
}

/// A name for the test's messages, the rule, and how many frames it loses at least.
type Case = (&'static str, Box<dyn FnMut(&Frame) -> Action + Send>, usize);

/// Answers that get lost, each at another place of a put of some forty pieces and a get of four.
fn losses() -> Vec<Case> {
    let put = |nth| lose_answer(3, 8, 0, nth);
    let get = |nth| lose_answer(1, 8, 0, nth);
    vec![
        ("one in twenty", Box::new(lose_every_answer(20)), 2),
        ("one in three", Box::new(lose_every_answer(3)), 10),
        ("the first of the put", Box::new(put(1)), 1),
        ("the second of the put", Box::new(put(2)), 1),
        ("the last of the put", Box::new(lose_last(3)), 1),
        ("the close before the put", Box::new(lose_answer(3, 8, 4, 1)), 1),
        ("the close after the put", Box::new(lose_answer(3, 8, 4, 2)), 1),
        ("the status", Box::new(lose_answer(1, 8, 1, 1)), 1),
        ("the hash", Box::new(lose_answer(1, 8, 2, 1)), 1),
        ("the first of the get", Box::new(get(1)), 1),
        ("the second of the get", Box::new(get(2)), 1),
        ("the last of the get", Box::new(lose_last(1)), 1),
        ("requests, one in seven", Box::new(lose_every_request(7)), 5),
    ]
}

const LOST: usize = 3900;

/// Loses the answer, once, that says that all of the file is over.
fn lose_last(op: u8) -> impl FnMut(&Frame) -> Action + Send {
    let mut done = false;
    move |frame| {
        if done || (frame.direction, frame.head.op) != (Direction::Answer, op) || frame.head.group != 8 {
            return Action::Pass;
        }
        let end = match op {
            // A put: the offset of the next piece.
            3 => number(&frame.message, "off"),
            // A get: the offset of this piece, and its length.
            _ => {
                let data = body(&frame.message).and_then(|body| body.into_map().ok());
                let data = data.into_iter().flatten().find(|(key, _)| key.as_text() == Some("data"));
                let length = data.and_then(|(_, data)| data.into_bytes().ok()).map(|data| data.len() as u64);
                number(&frame.message, "off").zip(length).map(|(off, length)| off + length)
            }
        };
        done = frame.head.command == 0 && end == Some(LOST as u64);
        if done { Action::Lose } else { Action::Pass }
    }
}

/// Loses every `nth` request.
fn lose_every_request(nth: u32) -> impl FnMut(&Frame) -> Action + Send {
    move |frame| match frame.direction {
        Direction::Request if frame.index % nth == 0 => Action::Lose,
        _ => Action::Pass,
    }
}

/// Puts and gets through what loses, and looks at the server past it.
fn assert_survives(name: &str, proxy: &Proxy, bench: Bench, least: usize, truth: &Device) -> Result<()> {
    let bench = bench.with(&["--timeout", "150ms", "--retries", "5", "--buffer", "128"]);
    assert_comes_through(name, &bench, truth)?;
    assert!(proxy.lost() >= least, "{name}: {} frames were lost", proxy.lost());
    Ok(())
}

/// Puts and gets, and looks at the server past what is in between.
fn assert_comes_through(name: &str, bench: &Bench, truth: &Device) -> Result<()> {
    bench.file("sent.bin", &content(LOST))?;
    let put = bench.json(&["fs", "put", "sent.bin", FILE]).context(name)?;
    assert_eq!((&put["bytes"], &put["checked"]), (&LOST.into(), &"crc32".into()), "{name}: {put}");
    bench.text(&["fs", "get", FILE, "got.bin"]).context(name)?;
    assert!(bench.content("got.bin")? == content(LOST), "{name}: another file came back");
    // Past the proxy: what is there, as the server itself hashes it.
    let hash = hex::encode(<sha2::Sha256 as sha2::Digest>::digest(content(LOST)));
    let told = Bench::new(truth)?.text(&["fs", "hash", FILE, "--type", "sha256"])?;
    assert_eq!(told, format!("{hash}  sha256 of {LOST} bytes\n"), "{name}");
    Ok(())
}

/// The same on a serial server of its own.
fn assert_serial_survives(case: Case, options: &[&str]) -> Result<()> {
    let (name, rule, least) = case;
    let serial = SerialServer::start("serial_fs")?;
    let bridge = Bridge::to(serial.terminal())?;
    let proxy = Proxy::start(bridge.address(), rule)?;
    let bench = Bench::new(format!("tcp:{}", proxy.address()))?.with(options);
    assert_survives(name, &proxy, bench, least, &Device::Tcp(bridge.address()))
}

#[test]
fn through_losses() -> Result<()> {
    let one_in_three = || lose_every_answer(3);
    let joined = std::thread::scope(|scope| {
        let mut threads = Vec::new();
        for case in losses() {
            threads.push(scope.spawn(move || assert_serial_survives(case, &[])));
        }
        // Its errors do not tell how much of the file is there.
        let case: Case = ("version 1, one in three", Box::new(one_in_three()), 10);
        threads.push(scope.spawn(move || assert_serial_survives(case, &["--protocol", "1"])));
        threads.push(scope.spawn(move || {
            let udp = UdpServer::start("udp")?;
            let proxy = Proxy::udp(udp.address(), one_in_three())?;
            let bench = Bench::new(format!("udp:{}", proxy.address()))?;
            assert_survives("UDP", &proxy, bench, 10, &Device::Udp(udp.address().ip()))
        }));
        threads.into_iter().map(|thread| thread.join().unwrap()).collect::<Vec<Result<()>>>()
    });
    joined.into_iter().collect()
}

/// These servers have no image management, so files are the only uploads that they take. One frame in a hundred and one in
/// twenty, lost or spoiled, both ways: the right file is there, and the server answers.
///
/// What is spoiled over UDP arrives here, with every byte changed: a network would have dropped it for its checksum, which is
/// the case of a lost one.
#[test]
fn through_trouble_both_ways() -> Result<()> {
    let troubles = [(100, Action::Lose), (20, Action::Lose), (100, Action::Spoil), (20, Action::Spoil)];
    let joined = std::thread::scope(|scope| {
        let mut threads = Vec::new();
        for (one_in, bad) in troubles {
            for config in ["serial", "serial_fs"] {
                threads.push(scope.spawn(move || {
                    let serial = SerialServer::start(config)?;
                    let bridge = Bridge::to(serial.terminal())?;
                    let proxy = Proxy::start(bridge.address(), both_ways(one_in, bad))?;
                    let address = format!("tcp:{}", proxy.address());
                    assert_survives_both_ways(config, &proxy, &address, &Device::Tcp(bridge.address()))
                }));
            }
            threads.push(scope.spawn(move || {
                let udp = UdpServer::start("udp")?;
                let proxy = Proxy::udp(udp.address(), both_ways(one_in, bad))?;
                let address = format!("udp:{}", proxy.address());
                assert_survives_both_ways("udp", &proxy, &address, &Device::Udp(udp.address().ip()))
            }));
        }
        threads.into_iter().map(|thread| thread.join().unwrap()).collect::<Vec<Result<()>>>()
    });
    joined.into_iter().collect()
}

/// Enough messages for each rule to have its turn in both directions; then the server is asked past the proxy.
fn assert_survives_both_ways(config: &str, proxy: &Proxy, address: &str, truth: &Device) -> Result<()> {
    for _ in 0..2 {
        // Longer than a busy machine makes a server take: one that is only slow would be sent more than it has buffers for.
        let bench = Bench::new(address)?.with(&["--timeout", "1s", "--retries", "5", "--buffer", "128"]);
        assert_comes_through(config, &bench, truth)?;
    }
    let hit = [Direction::Request, Direction::Answer].map(|direction| proxy.hit(direction));
    assert!(hit.iter().all(|hit| *hit > 0), "{config}: {hit:?} frames were hit");
    assert!(truth.file(FILE)? == content(LOST), "{config}: smpclient read another file");
    Ok(())
}

/// Ctrl-C in the middle of a put, and of a get: the exit code and the text say so, and the server goes on working.
#[test]
fn interrupted() -> Result<()> {
    let serial = SerialServer::start("serial_fs")?;
    let bridge = Bridge::to(serial.terminal())?;
    let proxy = Proxy::start(bridge.address(), |_| Action::Hold(Duration::from_millis(20)))?;
    let bench = Bench::new(format!("tcp:{}", proxy.address()))?.with(&["--buffer", "256"]);
    bench.file("sent.bin", &content(LOST))?;
    let put =
        bench.smp_until(&["fs", "put", "sent.bin", FILE], || proxy.count(Direction::Request, 2, 8, 0) > 4)?;
    assert_eq!(put.exit, 130, "{put:#?}");
    assert!(put.err.contains("the file on the device is not whole"), "{put:#?}");
    assert!(proxy.count(Direction::Request, 2, 8, 0) < 15, "it went on");
    // Another command at once, the rest of the file, and a get that is cut off.
    assert_eq!(bench.text(&["os", "echo", "well?"])?, "well?\n");
    assert_eq!(bench.text(&["fs", "put", "sent.bin", FILE])?, format!("put {LOST} bytes, crc32 compared\n"));
    let get =
        bench.smp_until(&["fs", "get", FILE, "got.bin"], || proxy.count(Direction::Request, 0, 8, 0) > 1)?;
    assert_eq!(get.exit, 130, "{get:#?}");
    assert!(get.err.contains("no file was written"), "{get:#?}");
    let left: Vec<PathBuf> = std::fs::read_dir(bench.folder())?
        .map(|entry| Ok::<_, RigError>(entry?.path()))
        .collect::<Result<_>>()?;
    assert_eq!(left, [bench.folder().join("sent.bin")], "nothing half got is left");
    bench.text(&["fs", "get", FILE, "got.bin"])?;
    assert!(bench.content("got.bin")? == content(LOST));
    Ok(())
}
