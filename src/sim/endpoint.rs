//! Simulated devices behind real endpoints, in real time: what all endpoints share. Each kind has its own file.

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

use super::fleet::Cell;
use crate::smp::Time;

/// Bytes that may be on their way to a device before its endpoint stops reading: what a system's driver would hold.
const BACKLOG: usize = 16 * 1024;
/// Bytes read at once.
pub(super) const READ_SIZE: usize = 4096;

/// Behind what a simulated device is put.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum EndpointKind {
    /// A pseudo-terminal.
    Pty {
        /// A symbolic link that is kept pointing to it: its own name changes when the device is plugged in again.
        link: Option<PathBuf>,
    },
    /// A UDP socket on this address; port 0 takes any that is free.
    Udp(SocketAddr),
    /// A TCP serial server on this address, console framing over the stream; port 0 takes any that is free. One
    /// connection at a time, others are closed at once.
    Tcp(SocketAddr),
    /// A TCP socket on this address to which the program connects that is the device's radio (see `docs/simulator.md`);
    /// port 0 takes any that is free. Its address is `radio:HOST:PORT`.
    Radio(SocketAddr),
}

/// A simulated device behind a real endpoint. Dropping it closes the endpoint.
#[derive(Debug)]
pub struct Endpoint {
    address: SharedAddress,
    task: JoinHandle<()>,
    /// A symbolic link to remove at the end.
    link: Option<PathBuf>,
}

impl Endpoint {
    pub(super) fn new(address: SharedAddress, task: JoinHandle<()>, link: Option<PathBuf>) -> Self {
        Self { address, task, link }
    }

    /// Its address now, in the grammar of the command line, for example `serial:/dev/pts/5` (but see
    /// [`EndpointKind::Radio`]); empty while the device is
    /// unplugged.
    #[must_use]
    pub fn address(&self) -> String {
        self.address.get()
    }

    /// The symbolic link that is kept pointing to it.
    #[must_use]
    pub fn link(&self) -> Option<&Path> {
        self.link.as_deref()
    }
}

impl Drop for Endpoint {
    fn drop(&mut self) {
        self.task.abort();
        if let Some(link) = &self.link
            && link.is_symlink()
        {
            // Where it cannot be removed it points to nothing, which is as good.
            let _ = std::fs::remove_file(link);
        }
    }
}

/// An address that may change.
#[derive(Debug, Clone, Default)]
pub(super) struct SharedAddress(Arc<Mutex<String>>);

impl SharedAddress {
    pub(super) fn new(address: String) -> Self {
        Self(Arc::new(Mutex::new(address)))
    }

    pub(super) fn get(&self) -> String {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(super) fn set(&self, address: String) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = address;
    }
}

/// The host's side of a serial line.
pub(super) trait Line {
    /// Waits until there is something to read.
    fn readable(&self) -> impl Future<Output = io::Result<()>> + Send;
    /// Reads what is there; 0 where the host is gone.
    fn try_read(&self, buffer: &mut [u8]) -> io::Result<usize>;
    /// Writes as much as the system takes.
    fn try_write(&self, bytes: &[u8]) -> io::Result<usize>;
}

/// What comes next of a device.
pub(super) struct Next {
    /// Everything that is due by now.
    pub(super) output: Vec<Vec<u8>>,
    /// When to look again.
    pub(super) at: Option<Time>,
    /// Whether the device takes more now.
    pub(super) takes: bool,
}

/// Takes what the device has sent by now; `None` where the device has vanished since `session`.
pub(super) fn next_of(cell: &Cell, session: u64) -> Option<Next> {
    let now = cell.now();
    let mut device = cell.device();
    let mut output = Vec::new();
    while let Some((_, bytes)) = device.poll_output(now) {
        output.push(bytes);
    }
    (device.session() == session).then(|| Next {
        output,
        at: device.next_timeout(),
        takes: device.backlog() < BACKLOG,
    })
}

/// Waits until the device has something to say or something was done to it.
pub(super) async fn wait_for(cell: &Cell, at: Option<Time>, changed: tokio::sync::futures::Notified<'_>) {
    let due = async {
        match at {
            Some(at) => tokio::time::sleep_until(cell.epoch + at).await,
            None => std::future::pending().await,
        }
    };
    tokio::select! {
        () = due => {}
        () = changed => {}
    }
}

/// Carries bytes between a device and the host until the host is gone or the device has vanished. What the host does not
/// take is lost, as on a wire.
pub(super) async fn carry(cell: &Cell, session: u64, line: &impl Line) -> io::Result<()> {
    let mut buffer = vec![0; READ_SIZE];
    loop {
        let changed = cell.changed.notified();
        let Some(next) = next_of(cell, session) else { return Ok(()) };
        let output = next.output.concat();
        if !output.is_empty() {
            match line.try_write(&output) {
                Err(error) if error.kind() != io::ErrorKind::WouldBlock => return Err(error),
                _ => {}
            }
        }
        tokio::select! {
            readable = line.readable(), if next.takes => {
                readable?;
                match line.try_read(&mut buffer) {
                    Ok(0) => return Ok(()),
                    Ok(count) => {
                        let bytes = buffer.get(..count).unwrap_or_default();
                        cell.device().host_write(cell.now(), bytes);
                    }
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                    Err(error) => return Err(error),
                }
            }
            () = wait_for(cell, next.at, changed) => {}
        }
    }
}

/// Lets the device run while no host listens, until `done`; what it says is lost.
pub(super) async fn run_unheard(cell: &Cell, done: impl Future<Output = ()>) {
    tokio::pin!(done);
    loop {
        let changed = cell.changed.notified();
        let at = {
            let now = cell.now();
            let mut device = cell.device();
            device.discard_output(now);
            device.next_timeout()
        };
        tokio::select! {
            () = &mut done => return,
            () = wait_for(cell, at, changed) => {}
        }
    }
}

/// Listens for TCP connections without waiting for the runtime.
pub(super) fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    let listener = std::net::TcpListener::bind(address)?;
    listener.set_nonblocking(true)?;
    TcpListener::from_std(listener)
}

/// Lets the device run until somebody connects; what it says meanwhile is lost.
pub(super) async fn accept_unheard(cell: &Cell, listener: &TcpListener) -> Option<TcpStream> {
    let mut accepted = None;
    run_unheard(cell, async {
        while accepted.is_none() {
            // A connection that is gone before it was accepted is none.
            accepted = listener.accept().await.ok();
        }
    })
    .await;
    accepted.map(|(stream, _)| stream)
}
