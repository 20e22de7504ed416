//! A man in the middle between a client and a TCP serial server: it sees whole frames and may lose them, spoil
//! them or hold them back. What it does is a rule's decision alone, so a test repeats exactly.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;

use crate::console::{Decoder, Head, Line, number};
use crate::error::{Context, Result};

/// Text that no line feed follows within this time is passed on as it is.
const UNFINISHED_LINE: Duration = Duration::from_millis(50);

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Direction {
    /// From the client to the server.
    Request,
    /// From the server to the client.
    Answer,
}

/// A whole message on its way.
#[derive(Clone, Debug)]
pub(crate) struct Frame {
    pub(crate) direction: Direction,
    pub(crate) head: Head,
    /// Header and body, without framing.
    pub(crate) message: Vec<u8>,
    /// Which frame of this direction it is, from 1.
    pub(crate) index: u32,
    /// Which frame of this direction, op, group and command it is, from 1.
    pub(crate) occurrence: u32,
}

/// What becomes of a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Action {
    Pass,
    Lose,
    /// One character of its text is replaced by another that base64 knows.
    Spoil,
    /// Passed on later, and all that follows it in the same direction after it.
    Hold(Duration),
}

type Rule = Box<dyn FnMut(&Frame) -> Action + Send>;
type Counter = (Direction, u8, u16, u8);

#[derive(Default)]
struct Seen {
    rule: Option<Rule>,
    total: HashMap<Direction, u32>,
    each: HashMap<Counter, u32>,
    log: Vec<(Frame, Action)>,
}

impl Seen {
    fn decide(&mut self, direction: Direction, message: Vec<u8>) -> Action {
        let Some(head) = Head::of(&message) else { return Action::Pass };
        let index = self.total.entry(direction).or_default();
        *index += 1;
        let occurrence = self.each.entry((direction, head.op, head.group, head.command)).or_default();
        *occurrence += 1;
        let frame = Frame { direction, head, message, index: *index, occurrence: *occurrence };
        let action = self.rule.as_mut().map_or(Action::Pass, |rule| rule(&frame));
        self.log.push((frame, action));
        action
    }
}

/// A running proxy; dropping it cuts its connections.
pub(crate) struct Proxy {
    address: SocketAddr,
    seen: Arc<Mutex<Seen>>,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Proxy {
    /// Listens on a free port of this machine and leads each client to `upstream`, under `rule`.
    pub(crate) fn start(
        upstream: SocketAddr,
        rule: impl FnMut(&Frame) -> Action + Send + 'static,
    ) -> Result<Self> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0")).context("proxy")?;
        let address = listener.local_addr()?;
        let seen = Arc::new(Mutex::new(Seen { rule: Some(Box::new(rule)), ..Seen::default() }));
        let (stop, stopped) = oneshot::channel();
        let shared = Arc::clone(&seen);
        let thread = std::thread::spawn(move || {
            runtime.block_on(async {
                tokio::select! {
                    () = serve(listener, upstream, shared) => {}
                    _ = stopped => {}
                }
            });
        });
        Ok(Self { address, seen, stop: Some(stop), thread: Some(thread) })
    }

    /// The same for a UDP server, whose messages are whole datagrams. It serves whoever sent last.
    pub(crate) fn udp(
        upstream: SocketAddr,
        rule: impl FnMut(&Frame) -> Action + Send + 'static,
    ) -> Result<Self> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let any = if upstream.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" };
        let (clients, server) = runtime.block_on(async {
            let clients = UdpSocket::bind("127.0.0.1:0").await?;
            let server = UdpSocket::bind(any).await?;
            server.connect(upstream).await.map(|()| (clients, server))
        })?;
        let address = clients.local_addr()?;
        let seen = Arc::new(Mutex::new(Seen { rule: Some(Box::new(rule)), ..Seen::default() }));
        let (stop, stopped) = oneshot::channel();
        let shared = Arc::clone(&seen);
        let thread = std::thread::spawn(move || {
            runtime.block_on(async {
                tokio::select! {
                    () = relay(clients, server, &shared) => {}
                    _ = stopped => {}
                }
            });
        });
        Ok(Self { address, seen, stop: Some(stop), thread: Some(thread) })
    }

    /// Where clients connect.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Every frame so far and what became of it.
    pub(crate) fn log(&self) -> Vec<(Frame, Action)> {
        self.seen.lock().unwrap().log.clone()
    }

    /// How many frames of a kind were seen: for example of resets, `(Request, 2, 0, 5)`.
    pub(crate) fn count(&self, direction: Direction, op: u8, group: u16, command: u8) -> usize {
        let wanted = (direction, op, group, command);
        let kind = |frame: &Frame| (frame.direction, frame.head.op, frame.head.group, frame.head.command);
        self.seen.lock().unwrap().log.iter().filter(|(frame, _)| kind(frame) == wanted).count()
    }

    /// How many frames were lost or spoiled, in this direction.
    pub(crate) fn hit(&self, direction: Direction) -> usize {
        let hit = |(frame, action): &&(Frame, Action)| {
            frame.direction == direction && matches!(action, Action::Lose | Action::Spoil)
        };
        self.seen.lock().unwrap().log.iter().filter(hit).count()
    }

    /// How many frames were lost.
    pub(crate) fn lost(&self) -> usize {
        self.seen.lock().unwrap().log.iter().filter(|(_, action)| *action == Action::Lose).count()
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// Does `bad` to one frame in so many, both ways, but not at the same place.
pub(crate) fn both_ways(one_in: u32, bad: Action) -> impl FnMut(&Frame) -> Action + Send {
    move |frame| {
        let turn = match frame.direction {
            Direction::Request => frame.index % one_in == one_in / 2,
            Direction::Answer => frame.index % one_in == one_in - 1,
        };
        if turn { bad } else { Action::Pass }
    }
}

/// Loses every `nth` answer.
pub(crate) fn lose_every_answer(nth: u32) -> impl FnMut(&Frame) -> Action + Send {
    move |frame| match frame.direction {
        Direction::Answer if frame.index % nth == 0 => Action::Lose,
        _ => Action::Pass,
    }
}

/// Loses exactly one answer: the `occurrence`th (from 1) of this op, group and command.
pub(crate) fn lose_answer(
    op: u8,
    group: u16,
    command: u8,
    occurrence: u32,
) -> impl FnMut(&Frame) -> Action + Send {
    move |frame| {
        let kind = (frame.direction, frame.head.op, frame.head.group, frame.head.command, frame.occurrence);
        if kind == (Direction::Answer, op, group, command, occurrence) { Action::Lose } else { Action::Pass }
    }
}

/// Loses exactly the first answer to a reset.
pub(crate) fn lose_reset_answer() -> impl FnMut(&Frame) -> Action + Send {
    lose_answer(3, 0, 5, 1)
}

/// Loses exactly one answer: the first that says that a whole image is there.
pub(crate) fn lose_last_upload_answer() -> impl FnMut(&Frame) -> Action + Send {
    let (mut length, mut done) = (None, false);
    move |frame| {
        if (frame.head.group, frame.head.command) != (1, 1) {
            return Action::Pass;
        }
        match frame.direction {
            Direction::Request => length = number(&frame.message, "len").or(length),
            Direction::Answer if !done && length.is_some() && number(&frame.message, "off") == length => {
                done = true;
                return Action::Lose;
            }
            Direction::Answer => {}
        }
        Action::Pass
    }
}

/// Holds back every frame, in both directions, without making the wire any narrower.
pub(crate) fn latency(each_way: Duration) -> impl FnMut(&Frame) -> Action + Send {
    move |_| Action::Hold(each_way)
}

/// Carries datagrams both ways.
async fn relay(clients: UdpSocket, server: UdpSocket, seen: &Mutex<Seen>) {
    let (mut asked, mut answer) = (vec![0; 65_536], vec![0; 65_536]);
    let mut client = None;
    loop {
        let (direction, message) = tokio::select! {
            Ok((count, from)) = clients.recv_from(&mut asked) => {
                client = Some(from);
                (Direction::Request, &mut asked[..count])
            }
            Ok(count) = server.recv(&mut answer) => (Direction::Answer, &mut answer[..count]),
            else => return,
        };
        let action = seen.lock().unwrap().decide(direction, message.to_vec());
        match action {
            Action::Pass => {}
            Action::Lose => continue,
            Action::Spoil => message.iter_mut().for_each(|byte| *byte ^= 0x55),
            // One message at a time is under way here.
            Action::Hold(held) => tokio::time::sleep(held).await,
        }
        let _ = match (direction, client) {
            (Direction::Request, _) => server.send(message).await,
            (Direction::Answer, Some(client)) => clients.send_to(message, client).await,
            (Direction::Answer, None) => continue,
        };
    }
}

async fn serve(listener: TcpListener, upstream: SocketAddr, seen: Arc<Mutex<Seen>>) {
    let mut clients = tokio::task::JoinSet::new();
    while let Ok((client, _)) = listener.accept().await {
        let seen = Arc::clone(&seen);
        clients.spawn(async move {
            let Ok(server) = TcpStream::connect(upstream).await else { return };
            let _ = client.set_nodelay(true);
            let _ = server.set_nodelay(true);
            let (from_client, to_client) = client.into_split();
            let (from_server, to_server) = server.into_split();
            tokio::select! {
                () = carry(from_client, to_server, Direction::Request, &seen) => {}
                () = carry(from_server, to_client, Direction::Answer, &seen) => {}
            }
        });
    }
}

/// Carries one direction until either end is gone.
async fn carry(mut from: OwnedReadHalf, to: OwnedWriteHalf, direction: Direction, seen: &Mutex<Seen>) {
    let (queue, queued) = mpsc::unbounded_channel();
    let reader = async {
        let (mut decoder, mut line, mut frame, mut bytes) =
            (Decoder::default(), Vec::new(), Vec::new(), [0; 1024]);
        let mut due = Instant::now();
        let mut pass = |bytes: Vec<u8>, held: Duration| {
            // What is held back holds back what follows: a wire does not reorder.
            due = due.max(Instant::now() + held);
            queue.send((due, bytes)).is_ok()
        };
        loop {
            let count = match tokio::time::timeout(UNFINISHED_LINE, from.read(&mut bytes)).await {
                Ok(Ok(count @ 1..)) => count,
                Ok(_) => return,
                Err(_) if line.is_empty() || starts_like_a_frame(&line) => continue,
                Err(_) => {
                    pass(std::mem::take(&mut line), Duration::ZERO);
                    continue;
                }
            };
            for byte in &bytes[..count] {
                line.push(*byte);
                if *byte != b'\n' {
                    continue;
                }
                let whole = std::mem::take(&mut line);
                let (action, out) = match decoder.line(&whole) {
                    Line::Text => (Action::Pass, whole),
                    Line::Part => {
                        frame.extend(whole);
                        continue;
                    }
                    Line::Broken => {
                        frame.extend(whole);
                        (Action::Pass, std::mem::take(&mut frame))
                    }
                    Line::Message(message) => {
                        frame.extend(whole);
                        (seen.lock().unwrap().decide(direction, message), std::mem::take(&mut frame))
                    }
                };
                let alive = match action {
                    Action::Pass => pass(out, Duration::ZERO),
                    Action::Lose => true,
                    Action::Spoil => pass(spoiled(out), Duration::ZERO),
                    Action::Hold(held) => pass(out, held),
                };
                if !alive {
                    return;
                }
            }
        }
    };
    tokio::select! {
        () = reader => {}
        () = write(queued, to) => {}
    }
}

async fn write(mut queued: mpsc::UnboundedReceiver<(Instant, Vec<u8>)>, mut to: OwnedWriteHalf) {
    while let Some((due, bytes)) = queued.recv().await {
        tokio::time::sleep_until(due).await;
        if to.write_all(&bytes).await.is_err() {
            return;
        }
    }
}

fn starts_like_a_frame(line: &[u8]) -> bool {
    matches!(line.first(), Some(0x06 | 0x04))
}

/// The frame with one character in the middle changed: still base64, no longer the message.
fn spoiled(mut frame: Vec<u8>) -> Vec<u8> {
    let middle = 2 + (frame.iter().position(|byte| *byte == b'\n').unwrap_or(frame.len()) - 2) / 2;
    if let Some(byte) = frame.get_mut(middle) {
        *byte = if *byte == b'A' { b'B' } else { b'A' };
    }
    frame
}
