//! A TCP serial server in front of a pseudo-terminal, as ser2net is: so that the proxy, which knows TCP, can stand between
//! a client and a native_sim server.

use std::fs::File;
use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;

use nix::sys::termios::{SetArg, SpecialCharacterIndices, cfmakeraw, tcgetattr, tcsetattr};

use crate::error::{Context, Result};

/// One client at a time; dropping it ends it.
#[derive(Debug)]
pub(crate) struct Bridge {
    address: SocketAddr,
    ended: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Bridge {
    /// Leads clients to the terminal at `path`.
    pub(crate) fn to(path: &Path) -> Result<Self> {
        let terminal = File::options().read(true).write(true).open(path).context(path.display())?;
        let mut mode = tcgetattr(&terminal).context(path.display())?;
        cfmakeraw(&mut mode);
        // A read that nothing comes for ends with 0 bytes after a tenth of a second.
        mode.control_chars[SpecialCharacterIndices::VMIN as usize] = 0;
        mode.control_chars[SpecialCharacterIndices::VTIME as usize] = 1;
        tcsetattr(&terminal, SetArg::TCSANOW, &mode).context(path.display())?;
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let address = listener.local_addr()?;
        let ended = Arc::new(AtomicBool::new(false));
        let end = Arc::clone(&ended);
        let thread = std::thread::spawn(move || {
            for client in listener.incoming() {
                let Ok(client) = client else { return };
                if end.load(Ordering::SeqCst) || serve(&client, &terminal, &end).is_err() {
                    return;
                }
            }
        });
        Ok(Self { address, ended, thread: Some(thread) })
    }

    /// Where clients connect.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Drop for Bridge {
    fn drop(&mut self) {
        self.ended.store(true, Ordering::SeqCst);
        // Wakes the listener.
        let _ = TcpStream::connect(self.address);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// Copies both ways until the client is gone.
fn serve(client: &TcpStream, terminal: &File, end: &AtomicBool) -> std::io::Result<()> {
    client.set_nodelay(true)?;
    let gone = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let (mut client, mut terminal, mut bytes) = (client, terminal, [0; 4096]);
            while let Ok(count @ 1..) = client.read(&mut bytes) {
                if terminal.write_all(&bytes[..count]).is_err() {
                    break;
                }
            }
            gone.store(true, Ordering::SeqCst);
        });
        let (mut to_client, mut from_terminal, mut bytes) = (client, terminal, [0; 4096]);
        while !gone.load(Ordering::SeqCst) && !end.load(Ordering::SeqCst) {
            match from_terminal.read(&mut bytes) {
                Ok(count) if to_client.write_all(&bytes[..count]).is_ok() => {}
                _ => break,
            }
        }
        let _ = client.shutdown(Shutdown::Both);
    });
    Ok(())
}
