//! A simulated device behind a radio: a TCP socket to which a program connects that owns a (virtual) BLE controller.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::mpsc;

use super::protocol::{Advertisement, FromRadio, ToRadio};
use crate::sim::endpoint::{Endpoint, SharedAddress, accept_unheard, listen, wait_for};
use crate::sim::fleet::Cell;
use crate::smp::Time;

/// Longest line of a radio, in bytes: an attribute value of 512 bytes in base64, and room for the rest.
const MAX_LINE: u64 = 1024;
/// Lines of a radio that are read ahead.
const READ_AHEAD: usize = 16;

/// Listens at `address` for one radio at a time.
pub(in crate::sim) fn serve(cell: Arc<Cell>, address: SocketAddr) -> io::Result<Endpoint> {
    let listener = listen(address)?;
    let address = SharedAddress::new(format!("radio:{}", listener.local_addr()?));
    let task = tokio::spawn(async move {
        loop {
            if let Some(stream) = accept_unheard(&cell, &listener).await {
                // A radio that is gone, or says what no radio says, takes its central with it; another may come.
                let _ = serve_radio(&cell, stream).await;
                cell.device().central_leaves(cell.now());
            }
        }
    });
    Ok(Endpoint::new(address, task, None))
}

/// What the radio was told last.
#[derive(Debug, PartialEq, Eq)]
enum Told {
    Advertise(Advertisement),
    Silence,
    /// It said itself that a central is connected, in this session.
    Connected(u64),
}

/// What there is to tell a radio.
struct Next {
    lines: Vec<ToRadio>,
    at: Option<Time>,
}

async fn serve_radio(cell: &Cell, stream: TcpStream) -> io::Result<()> {
    // Small answers must not wait for more.
    let _ = stream.set_nodelay(true);
    let (reader, mut writer) = stream.into_split();
    let (sender, mut lines) = mpsc::channel(READ_AHEAD);
    let reading = tokio::spawn(read(reader, sender));
    let mut told = None;
    let result = async {
        loop {
            let changed = cell.changed.notified();
            let next = next_of(cell, &mut told);
            write(&mut writer, &next.lines).await?;
            tokio::select! {
                line = lines.recv() => match line {
                    Some(line) => take(cell, line?, &mut told),
                    None => return Ok(()),
                },
                () = wait_for(cell, next.at, changed) => {}
            }
        }
    }
    .await;
    reading.abort();
    result
}

/// Brings the device up to now; gives what its radio does not know yet.
fn next_of(cell: &Cell, told: &mut Option<Told>) -> Next {
    let now = cell.now();
    let mut device = cell.device();
    let mut values = Vec::new();
    while let Some((_, value)) = device.poll_output(now) {
        values.push(value);
    }
    let mut lines = Vec::new();
    if let Some(Told::Connected(session)) = told {
        if *session == device.session() {
            lines.extend(values.into_iter().map(ToRadio::Notify));
            return Next { lines, at: device.next_timeout() };
        }
        lines.push(ToRadio::Silence);
        *told = Some(Told::Silence);
    }
    let state = device.advertisement().map_or(Told::Silence, Told::Advertise);
    if told.as_ref() != Some(&state) {
        lines.push(match &state {
            Told::Advertise(advertisement) => ToRadio::Advertise(advertisement.clone()),
            _ => ToRadio::Silence,
        });
        *told = Some(state);
    }
    Next { lines, at: device.next_timeout() }
}

/// Does to the device what its radio tells.
fn take(cell: &Cell, line: FromRadio, told: &mut Option<Told>) {
    let now = cell.now();
    let mut device = cell.device();
    match line {
        FromRadio::Connected => {
            // A device that went in this very moment has nobody to connect to: the radio is told to drop it.
            let session = device.central_connects(now);
            *told = session.map(Told::Connected);
        }
        FromRadio::Disconnected => {
            device.central_leaves(now);
            // One that was dropped has been told what to do next.
            if matches!(told, Some(Told::Connected(_))) {
                *told = None;
            }
        }
        FromRadio::Mtu(mtu) => {
            device.central_exchanges_mtu(now, mtu);
        }
        FromRadio::Subscribed(on) => {
            device.central_subscribes(now, on);
        }
        FromRadio::Write(value) => device.central_writes(now, &value),
    }
}

async fn write(writer: &mut OwnedWriteHalf, lines: &[ToRadio]) -> io::Result<()> {
    let mut text = Vec::new();
    for line in lines {
        serde_json::to_writer(&mut text, line)?;
        text.push(b'\n');
    }
    writer.write_all(&text).await
}

/// Reads lines until the radio goes, or says what no radio says.
async fn read(reader: OwnedReadHalf, lines: mpsc::Sender<io::Result<FromRadio>>) {
    let mut reader = BufReader::new(reader);
    let mut text = Vec::new();
    loop {
        text.clear();
        let line = match (&mut reader).take(MAX_LINE).read_until(b'\n', &mut text).await {
            Ok(0) => return,
            Ok(_) => serde_json::from_slice(&text).map_err(io::Error::from),
            Err(error) => Err(error),
        };
        let last = line.is_err();
        if lines.send(line).await.is_err() || last {
            return;
        }
    }
}
