//! A simulated device behind a TCP serial server.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use tokio::net::{TcpListener, TcpStream};

use super::endpoint::{Endpoint, Line, SharedAddress, accept_unheard, carry, listen};
use super::fleet::Cell;

impl Line for TcpStream {
    fn readable(&self) -> impl Future<Output = io::Result<()>> + Send {
        Self::readable(self)
    }

    fn try_read(&self, buffer: &mut [u8]) -> io::Result<usize> {
        Self::try_read(self, buffer)
    }

    fn try_write(&self, bytes: &[u8]) -> io::Result<usize> {
        Self::try_write(self, bytes)
    }
}

/// Listens at `address`. The server stays when the device vanishes: its line is silent then.
pub(super) fn serve(cell: Arc<Cell>, address: SocketAddr) -> io::Result<Endpoint> {
    let listener = listen(address)?;
    let address = SharedAddress::new(format!("tcp:{}", listener.local_addr()?));
    let task = tokio::spawn(async move {
        loop {
            if let Some(stream) = accept_unheard(&cell, &listener).await {
                tokio::select! {
                    () = serve_one(&cell, &stream) => {}
                    () = refuse_others(&listener) => {}
                }
            }
        }
    });
    Ok(Endpoint::new(address, task, None))
}

/// One connection, until the client closes it.
async fn serve_one(cell: &Cell, stream: &TcpStream) {
    // Small answers must not wait for more.
    let _ = stream.set_nodelay(true);
    cell.opened();
    loop {
        let session = cell.device().session();
        // The connection's end, in whatever way, is the end of it; a device that vanished leaves it open.
        match carry(cell, session, stream).await {
            Ok(()) if cell.device().session() != session => {}
            _ => return,
        }
    }
}

/// A serial server holds its port for one client.
async fn refuse_others(listener: &TcpListener) {
    loop {
        // Dropped, and so closed, at once.
        let _ = listener.accept().await;
    }
}
