//! The rig against itself, without flashfleet: only what these show to hold may be built upon.

use std::fs::OpenOptions;
use std::io::Write as _;
use std::os::fd::AsFd;
use std::os::unix::fs::OpenOptionsExt;
use std::time::{Duration, Instant};

use nix::fcntl::OFlag;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use crate::console::{Head, cbor, encode, number};
use crate::error::{Context, Result};
use crate::images::{Image, SLOT_0};
use crate::native::{SerialServer, UdpServer};
use crate::proxy::{
    Action, Direction, Proxy, latency, lose_answer, lose_every_answer, lose_last_upload_answer,
    lose_reset_answer,
};
use crate::qemu::Board;
use crate::readback::{Device, Params};
use crate::terminal::Terminal;
use crate::wire::Wire;

const SHORT: Duration = Duration::from_secs(10);

fn echo(sequence: u8, text: &str) -> Vec<u8> {
    Head { op: 2, version: 1, group: 0, command: 0, sequence }.message(&cbor(&[("d", text.into())]))
}

fn device(board: &Board) -> Device {
    Device::Tcp(board.address())
}

/// Uploads an image, marks it for test and resets, all through smpclient.
fn test_boot(board: &Board, image: &Image) -> Result<()> {
    let device = device(board);
    device.upload(image)?;
    let slots = device.test(image)?;
    assert!(slots.iter().any(|slot| slot.holds(image) && slot.pending), "{slots:?}");
    let resets = board.resets();
    device.reset()?;
    board.wait_resets(resets + 1, SHORT)
}

#[test]
fn rig_stock_image_is_the_signed_file_of_the_set() -> Result<()> {
    let fixtures = crate::fixtures::fixtures()?;
    let name = fixtures.server("qemu_cortex_m0", "serial")?.artifact.replace(".merged.hex", ".signed.bin");
    let image = Image::stock()?;
    assert_eq!(image.bytes, std::fs::read(fixtures.file(&name)?)?);
    // Hashing it again must give the hash that imgtool gave it.
    let mut blank = image.clone();
    let hash = blank.bytes.len() - 32;
    blank.bytes[hash..].fill(0);
    assert_eq!(blank.with_version(0, 0, 0, 0), image);
    Ok(())
}

#[test]
fn rig_boards_boot_and_answer_eight_at_once() -> Result<()> {
    let stock = Image::stock()?;
    let boards = Board::fleet(8)?;
    std::thread::scope(|scope| {
        let reads: Vec<_> = boards.iter().map(|board| scope.spawn(|| device(board).images())).collect();
        for read in reads {
            let slots = read.join().unwrap()?;
            assert_eq!(slots.len(), 1, "{slots:?}");
            assert!(slots[0].holds(&stock) && slots[0].active && slots[0].confirmed, "{slots:?}");
        }
        Ok(())
    })
}

#[test]
fn rig_new_version_swaps_and_outlives_the_reset_line() -> Result<()> {
    let board = Board::microbit()?;
    let new = Image::stock()?.with_version(1, 2, 3, 0);
    test_boot(&board, &new)?;
    board.wait_listening(SHORT)?;
    let running = device(&board).running()?;
    assert!(running.holds(&new) && !running.confirmed, "{running:?}");
    assert_eq!(running.version, "1.2.3");
    device(&board).confirm()?;
    let resets = board.resets();
    board.pull_reset_line()?;
    assert_eq!(board.resets(), resets + 1);
    board.wait_listening(SHORT)?;
    let running = device(&board).running()?;
    assert!(running.holds(&new) && running.confirmed, "{running:?}");
    assert_eq!(board.uart().unheard(), 0);
    board.uart().wait_printed("I: Image version: v1.2.3", SHORT)?;
    Ok(())
}

#[test]
fn rig_unconfirmed_image_reverts_at_the_next_reset() -> Result<()> {
    let board = Board::microbit()?;
    let new = Image::stock()?.with_version(1, 2, 3, 0);
    test_boot(&board, &new)?;
    board.wait_listening(SHORT)?;
    assert!(device(&board).running()?.holds(&new));
    board.pull_reset_line()?;
    board.wait_listening(SHORT)?;
    assert!(device(&board).running()?.holds(&Image::stock()?));
    Ok(())
}

#[test]
fn rig_image_that_resets_at_once_reverts_by_itself() -> Result<()> {
    let board = Board::microbit()?;
    let bad = Image::stock()?.with_version(1, 0, 0, 0).that_resets();
    let resets = board.resets();
    test_boot(&board, &bad)?;
    // One reset into the bad image, one that it asks for itself.
    board.wait_resets(resets + 2, SHORT)?;
    board.wait_listening(SHORT)?;
    assert!(device(&board).running()?.holds(&Image::stock()?));
    assert_eq!(board.resets(), resets + 2);
    Ok(())
}

#[test]
fn rig_image_that_hangs_stays_away_until_the_reset_line_is_pulled() -> Result<()> {
    let board = Board::microbit()?;
    let bad = Image::stock()?.with_version(1, 0, 0, 0).that_hangs();
    test_boot(&board, &bad)?;
    board.wait_program_counter(bad.entry()..bad.entry() + 2, SHORT)?;
    // What lies in slot 0 is the bad image, and nothing answers.
    assert_eq!(board.read_memory(SLOT_0, 0x200)?, bad.bytes[..0x200]);
    let request = echo(1, "anyone there?");
    let mut wire = Wire::tcp(board.address())?;
    wire.send(&request)?;
    assert_eq!(wire.receive(Duration::from_millis(500))?, None);
    drop(wire);
    assert_eq!(board.uart().unheard(), encode(&request).len());
    let resets = board.resets();
    board.pull_reset_line()?;
    board.wait_listening(SHORT)?;
    assert!(device(&board).running()?.holds(&Image::stock()?));
    assert_eq!(board.resets(), resets + 1);
    Ok(())
}

#[test]
fn rig_wrong_hash_never_boots() -> Result<()> {
    let board = Board::microbit()?;
    let bad = Image::stock()?.with_version(1, 0, 0, 0).with_wrong_hash();
    test_boot(&board, &bad)?;
    board.wait_listening(SHORT)?;
    assert!(device(&board).running()?.holds(&Image::stock()?));
    Ok(())
}

#[test]
fn rig_terminal_leads_to_the_board_and_hangs_up() -> Result<()> {
    let board = Board::microbit()?;
    let terminal = Terminal::to(board.uart())?;
    let device = Device::Terminal(terminal.path().to_owned());
    assert!(device.running()?.holds(&Image::stock()?));
    // A second client on the same terminal.
    assert_eq!(device.echo("again")?, "again");
    // Its name says nothing: the system gives it to the next terminal at once.
    let mut options = OpenOptions::new();
    options.read(true).write(true).custom_flags(OFlag::O_NOCTTY.bits());
    let mut client = options.open(terminal.path()).context("the terminal")?;
    drop(terminal);
    client.write_all(b"\n").context("the terminal")?;
    let mut watched = [PollFd::new(client.as_fd(), PollFlags::empty())];
    let hung_up = poll(&mut watched, PollTimeout::try_from(SHORT).unwrap()).context("the terminal")?;
    assert_eq!(hung_up, 1, "nobody was told");
    assert!(watched[0].revents().unwrap().contains(PollFlags::POLLHUP));
    Ok(())
}

#[test]
fn rig_native_serial_says_its_params() -> Result<()> {
    for (config, buf_size) in [("serial_buf96", 96), ("serial", 384), ("serial_buf2048", 2048)] {
        let server = SerialServer::start(config)?;
        assert_eq!(server.server.buf_size, buf_size);
        let device = Device::Terminal(server.terminal().to_owned());
        assert_eq!(device.params()?, Params { buf_size, buf_count: 4 }, "{config}");
    }
    Ok(())
}

#[test]
fn rig_udp_servers_answer_side_by_side() -> Result<()> {
    let servers = [UdpServer::start("udp")?, UdpServer::start("udp")?, UdpServer::start("udp6")?];
    assert!(servers[0].address().is_ipv4() && servers[2].address().is_ipv6());
    for server in &servers {
        let device = Device::Udp(server.address().ip());
        assert_eq!(device.params()?, Params { buf_size: 2048, buf_count: 2 }, "{}", server.address());
        assert_eq!(device.echo("here")?, "here", "{}", server.address());
    }
    Ok(())
}

#[test]
fn rig_proxy_loses_every_third_answer() -> Result<()> {
    let board = Board::microbit()?;
    let proxy = Proxy::start(board.address(), lose_every_answer(3))?;
    let mut wire = Wire::tcp(proxy.address())?;
    for sequence in 1..=6 {
        wire.send(&echo(sequence, "x"))?;
        let answer = wire.receive(Duration::from_millis(700))?;
        assert_eq!(answer.is_none(), sequence % 3 == 0, "answer {sequence}");
    }
    assert_eq!(proxy.lost(), 2);
    assert_eq!(proxy.count(Direction::Request, 2, 0, 0), 6);
    Ok(())
}

#[test]
fn rig_proxy_loses_exactly_one_answer_and_passes_the_rest() -> Result<()> {
    let board = Board::microbit()?;
    let proxy = Proxy::start(board.address(), lose_answer(3, 0, 0, 2))?;
    let mut wire = Wire::tcp(proxy.address())?;
    let mut answered = Vec::new();
    for sequence in 1..=3 {
        wire.send(&echo(sequence, "x"))?;
        answered.push(wire.receive(Duration::from_millis(700))?.is_some());
    }
    assert_eq!(answered, [true, false, true]);
    Ok(())
}

#[test]
fn rig_proxy_spoils_and_holds_back() -> Result<()> {
    let board = Board::microbit()?;
    let proxy = Proxy::start(board.address(), |frame| match (frame.direction, frame.occurrence) {
        (Direction::Answer, 1) => Action::Spoil,
        _ => Action::Pass,
    })?;
    let mut wire = Wire::tcp(proxy.address())?;
    wire.send(&echo(1, "spoiled"))?;
    assert_eq!(wire.receive(Duration::from_millis(700))?, None);
    wire.send(&echo(2, "whole"))?;
    assert!(wire.receive(SHORT)?.is_some());
    drop(wire);
    drop(proxy);

    let each_way = Duration::from_millis(100);
    let proxy = Proxy::start(board.address(), latency(each_way))?;
    let mut wire = Wire::tcp(proxy.address())?;
    let start = Instant::now();
    wire.send(&echo(3, "late"))?;
    assert!(wire.receive(SHORT)?.is_some());
    assert!(start.elapsed() >= each_way * 2, "{:?}", start.elapsed());
    Ok(())
}

#[test]
fn rig_proxy_loses_the_reset_answer_and_the_board_resets_once() -> Result<()> {
    let board = Board::microbit()?;
    let proxy = Proxy::start(board.address(), lose_reset_answer())?;
    let mut wire = Wire::tcp(proxy.address())?;
    let reset = Head { op: 2, version: 1, group: 0, command: 5, sequence: 1 };
    wire.send(&reset.message(&cbor(&[])))?;
    assert_eq!(wire.receive(Duration::from_millis(700))?, None);
    board.wait_resets(1, SHORT)?;
    let fates: Vec<_> = proxy.log().into_iter().map(|(frame, action)| (frame.direction, action)).collect();
    assert_eq!(fates, [(Direction::Request, Action::Pass), (Direction::Answer, Action::Lose)]);
    Ok(())
}

#[test]
fn rig_truncated_image_is_never_listed() -> Result<()> {
    let board = Board::microbit()?;
    // Without its TLVs there is no hash to name it by.
    let bad = Image::filler(600, 1, 0).truncated(700);
    device(&board).upload(&bad)?;
    let slots = device(&board).images()?;
    assert!(slots.len() == 1 && slots[0].holds(&Image::stock()?), "{slots:?}");
    Ok(())
}

#[test]
fn rig_proxy_loses_the_last_upload_answer() -> Result<()> {
    let board = Board::microbit()?;
    let proxy = Proxy::start(board.address(), lose_last_upload_answer())?;
    let image = Image::filler(64, 1, 0);
    let mut wire = Wire::tcp(proxy.address())?;
    let mut at = 0;
    let mut sequence = 0;
    while at < image.bytes.len() {
        let to = (at + 128).min(image.bytes.len());
        let mut entries = vec![("data", ciborium::Value::Bytes(image.bytes[at..to].to_vec()))];
        if at == 0 {
            entries.push(("len", (image.bytes.len() as u64).into()));
        }
        entries.push(("off", (at as u64).into()));
        sequence += 1;
        let head = Head { op: 2, version: 1, group: 1, command: 1, sequence };
        wire.send(&head.message(&cbor(&entries)))?;
        let answer = wire.receive(Duration::from_secs(2))?;
        if to == image.bytes.len() {
            assert_eq!(answer, None);
        } else {
            assert_eq!(answer.and_then(|answer| number(&answer, "off")), Some(to as u64));
        }
        at = to;
    }
    assert_eq!(proxy.lost(), 1);
    drop(wire);
    assert!(
        device(&board).images()?.iter().any(|slot| slot.holds(&image)),
        "the image is there all the same"
    );
    Ok(())
}
