//! One client of the bus: what it asks before it imports a board, and then that board's transfers until either goes away.

use std::future::pending;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use bytes::BytesMut;
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep, sleep_until, timeout};

use super::board::{Board, Import};
use super::bus::Boards;
use super::protocol::{Broken, OpRequest, devlist_reply, import_reply};
use super::urb::UrbRequest;

/// How long a client may take for its next request while it has imported nothing.
const IDLE: Duration = Duration::from_secs(30);
/// How long a client that asks for the list again waits for one that is different, and how often it is looked for one. A
/// client that keeps its connection so learns at once that a board came back, without asking all the time.
const HOLD: Duration = Duration::from_secs(1);
const LOOK_EVERY: Duration = Duration::from_millis(20);
/// Bytes that may wait for a client; while there are more it is not asked what else it wants.
const OUTPUT: usize = 64 * 1024;
/// Bytes read at once.
const READ: usize = 4096;
/// How soon a client that is gone without a word is noticed.
const KEEPALIVE: Duration = Duration::from_secs(10);

/// Why a connection ends, other than by the client's wish.
#[derive(Debug, thiserror::Error)]
enum End {
    #[error(transparent)]
    Io(#[from] io::Error),
    #[error(transparent)]
    Broken(#[from] Broken),
    #[error(transparent)]
    Refused(#[from] super::device::Refused),
}

/// Serves a client until one of both closes the connection.
pub(super) async fn serve(boards: Arc<Boards>, stream: TcpStream) {
    // Small answers must not wait for more; a client whose machine is gone must not keep its board.
    let _ = stream.set_nodelay(true);
    let keepalive = socket2::TcpKeepalive::new().with_time(KEEPALIVE).with_interval(KEEPALIVE);
    let _ = socket2::SockRef::from(&stream).set_tcp_keepalive(&keepalive);
    let mut input = BytesMut::new();
    let end = match before_import(&boards, &stream, &mut input).await {
        Ok(Some(import)) => urbs(import, &stream, &mut input).await,
        Ok(None) => Ok(()),
        Err(end) => Err(end),
    };
    if let Err(end) = end {
        tracing::debug!(%end, "a USB/IP client was let go");
    }
}

/// Answers requests until a board is imported; `None` where the client has gone or is silent for too long.
async fn before_import(
    boards: &Boards,
    stream: &TcpStream,
    input: &mut BytesMut,
) -> Result<Option<Import>, End> {
    let mut list = None;
    loop {
        let request = async {
            loop {
                if let Some(request) = OpRequest::take(input)? {
                    return Ok::<_, End>(Some(request));
                }
                stream.readable().await?;
                if let Some(0) = read(stream, input)? {
                    return Ok(None);
                }
            }
        };
        let Ok(request) = timeout(IDLE, request).await else { return Ok(None) };
        let (reply, import) = match request? {
            None => return Ok(None),
            Some(OpRequest::DevList) => {
                let reply = next_list(boards, list.take()).await;
                list = Some(reply.clone());
                (reply, None)
            }
            Some(OpRequest::Import(busid)) => {
                let import = boards.all().iter().find(|board| board.busid == busid).and_then(Board::import);
                (import_reply(import.as_ref().map(|import| &import.record)), import)
            }
        };
        let Ok(written) = timeout(IDLE, write_all(stream, &reply)).await else { return Ok(None) };
        written?;
        if import.is_some() {
            return Ok(import);
        }
    }
}

/// The list of boards that can be imported, once it is another one than `last`, or [`HOLD`] has passed.
async fn next_list(boards: &Boards, last: Option<Vec<u8>>) -> Vec<u8> {
    let asked = Instant::now();
    loop {
        let offers: Vec<_> = boards.all().iter().filter_map(|board| board.offer()).collect();
        let list = devlist_reply(&offers);
        if last.as_ref() != Some(&list) || asked.elapsed() >= HOLD {
            return list;
        }
        sleep(LOOK_EVERY).await;
    }
}

/// Carries the transfers of a board until it leaves the bus or the client goes.
async fn urbs(mut import: Import, stream: &TcpStream, input: &mut BytesMut) -> Result<(), End> {
    let board = Arc::clone(&import.board);
    loop {
        // Made before looking, so that nothing that happens in between is missed.
        let changed = board.changed();
        while import.device.output.len() < OUTPUT
            && let Some(request) = UrbRequest::take(input)?
        {
            import.device.handle(request)?;
        }
        let Some(at) = import.pass() else { return Ok(()) };
        let output = &mut import.device.output;
        while !output.is_empty() {
            match stream.try_write(output) {
                Ok(count) => drop(output.split_to(count)),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) => return Err(error.into()),
            }
        }
        let due = async {
            match at {
                Some(at) => sleep_until(at).await,
                None => pending().await,
            }
        };
        tokio::select! {
            readable = stream.readable(), if output.len() < OUTPUT => {
                readable?;
                if let Some(0) = read(stream, input)? {
                    return Ok(());
                }
            }
            writable = stream.writable(), if !output.is_empty() => writable?,
            () = due => {}
            () = changed => {}
        }
    }
}

/// Reads what is there; `None` where nothing is, 0 where nothing comes any more.
fn read(stream: &TcpStream, input: &mut BytesMut) -> io::Result<Option<usize>> {
    input.reserve(READ);
    match stream.try_read_buf(input) {
        Ok(count) => Ok(Some(count)),
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(None),
        Err(error) => Err(error),
    }
}

async fn write_all(stream: &TcpStream, mut bytes: &[u8]) -> io::Result<()> {
    while !bytes.is_empty() {
        stream.writable().await?;
        match stream.try_write(bytes) {
            Ok(count) => bytes = bytes.get(count..).unwrap_or_default(),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}
