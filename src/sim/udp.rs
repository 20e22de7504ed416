//! A simulated device behind a UDP socket.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use tokio::net::UdpSocket;

use super::endpoint::{Endpoint, SharedAddress, next_of, wait_for};
use super::fleet::Cell;

/// Longest datagram, in bytes.
const MAX_DATAGRAM: usize = 65_536;

/// Listens at `address`. Answers go to whoever sent last.
pub(super) fn serve(cell: Arc<Cell>, address: SocketAddr) -> io::Result<Endpoint> {
    let socket = std::net::UdpSocket::bind(address)?;
    socket.set_nonblocking(true)?;
    let socket = UdpSocket::from_std(socket)?;
    let address = SharedAddress::new(format!("udp:{}", socket.local_addr()?));
    let task = tokio::spawn(async move {
        let mut buffer = vec![0; MAX_DATAGRAM];
        let mut peer = None;
        loop {
            let changed = cell.changed.notified();
            let session = cell.device().session();
            let Some(next) = next_of(&cell, session) else { continue };
            if let Some(peer) = peer {
                for datagram in next.output {
                    // A peer that is gone is its own matter.
                    let _ = socket.send_to(&datagram, peer).await;
                }
            }
            tokio::select! {
                received = socket.recv_from(&mut buffer) => {
                    // Errors are those of earlier answers, to peers that are gone. Beyond the backlog datagrams are
                    // dropped, as by any system.
                    if let Ok((count, from)) = received && next.takes {
                        peer = Some(from);
                        cell.device().host_datagram(cell.now(), buffer.get(..count).unwrap_or_default());
                    }
                }
                () = wait_for(&cell, next.at, changed) => {}
            }
        }
    });
    Ok(Endpoint::new(address, task, None))
}
