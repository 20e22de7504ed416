//! A simulated device behind a pseudo-terminal (Linux).

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, FdFlag, OFlag, fcntl};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::pty::openpty;
use nix::sys::termios::{SetArg, cfmakeraw, tcgetattr, tcsetattr};
use nix::unistd::{ttyname, write};
use tokio::net::unix::pipe;
use tokio::time::sleep;

use super::endpoint::{Endpoint, Line, SharedAddress, carry, run_unheard};
use super::fleet::Cell;

/// How often to look whether somebody opened the terminal: nothing tells.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// The device's end of a pseudo-terminal. The other end is not held open, so that opening and closing it shows.
struct Master {
    fd: OwnedFd,
    path: PathBuf,
}

impl Master {
    fn open() -> io::Result<Self> {
        let pair = openpty(None, None)?;
        // A program that this process starts must not hold a terminal open that is to vanish.
        for end in [pair.master.as_fd(), pair.slave.as_fd()] {
            fcntl(end, FcntlArg::F_SETFD(FdFlag::FD_CLOEXEC))?;
        }
        let mut termios = tcgetattr(&pair.slave)?;
        cfmakeraw(&mut termios);
        tcsetattr(&pair.slave, SetArg::TCSANOW, &termios)?;
        let path = ttyname(&pair.slave)?;
        let flags = OFlag::from_bits_retain(fcntl(&pair.master, FcntlArg::F_GETFL)?);
        fcntl(&pair.master, FcntlArg::F_SETFL(flags | OFlag::O_NONBLOCK))?;
        Ok(Self { fd: pair.master, path })
    }

    /// Whether somebody has the other end open: where nobody has, it reads as hung up.
    fn is_open(&self) -> bool {
        let mut polled = [PollFd::new(self.fd.as_fd(), PollFlags::empty())];
        let result = poll(&mut polled, PollTimeout::ZERO);
        let [end] = &polled;
        result.is_ok() && !end.revents().is_some_and(|events| events.contains(PollFlags::POLLHUP))
    }
}

/// The device's end while somebody has the other end open. Tokio never forgets that a descriptor was hung up, so each
/// opening gets one of its own.
struct Opened {
    /// Not a pipe, but read and waited for in the same way.
    fd: pipe::Receiver,
}

impl Opened {
    fn new(master: &Master) -> io::Result<Self> {
        Ok(Self { fd: pipe::Receiver::from_owned_fd_unchecked(master.fd.try_clone()?)? })
    }
}

impl Line for Opened {
    async fn readable(&self) -> io::Result<()> {
        self.fd.readable().await
    }

    fn try_read(&self, buffer: &mut [u8]) -> io::Result<usize> {
        match self.fd.try_read(buffer) {
            // The last one who had the other end open has closed it.
            Err(error) if error.raw_os_error() == Some(Errno::EIO as i32) => Ok(0),
            result => result,
        }
    }

    fn try_write(&self, bytes: &[u8]) -> io::Result<usize> {
        // Without waiting for room: what does not fit is lost.
        Ok(write(&self.fd, bytes)?)
    }
}

/// Makes `link`, or whatever symbolic link is there, point to `target`.
fn point(link: &Path, target: &Path) -> io::Result<()> {
    match std::fs::symlink_metadata(link) {
        Ok(found) if !found.is_symlink() => {
            let text = format!("expected nothing or a symbolic link at {}", link.display());
            return Err(io::Error::new(io::ErrorKind::AlreadyExists, text));
        }
        Ok(_) => std::fs::remove_file(link)?,
        Err(_) => {}
    }
    std::os::unix::fs::symlink(target, link)
}

/// Makes a pseudo-terminal. It is closed when the device vanishes, and another one made when the device is back.
pub(super) fn serve(cell: Arc<Cell>, link: Option<PathBuf>) -> io::Result<Endpoint> {
    let show = |master: &Master| format!("serial:{}", master.path.display());
    let mut master = Master::open()?;
    if let Some(link) = &link {
        point(link, &master.path)?;
    }
    let address = SharedAddress::new(show(&master));
    let shared = address.clone();
    let own_link = link.clone();
    let task = tokio::spawn(async move {
        loop {
            serve_session(&cell, &master).await;
            drop(master);
            address.set(String::new());
            if let Some(link) = &link {
                // Where it cannot be removed it points to nothing, which is as good.
                let _ = std::fs::remove_file(link);
            }
            run_unheard(&cell, async {
                while !cell.device().is_present() {
                    sleep(LOOK_EVERY).await;
                }
            })
            .await;
            master = loop {
                match Master::open() {
                    Ok(master) => break master,
                    // The system is out of terminals, or of files: perhaps not for long.
                    Err(_) => sleep(Duration::from_secs(1)).await,
                }
            };
            address.set(show(&master));
            if let Some(link) = &link {
                let _ = point(link, &master.path);
            }
        }
    });
    Ok(Endpoint::new(shared, task, own_link))
}

/// Serves whoever opens the terminal, one after the other, until the device vanishes.
async fn serve_session(cell: &Cell, master: &Master) {
    let session = cell.device().session();
    let vanished = || cell.device().session() != session;
    while !vanished() {
        run_unheard(cell, async {
            while !master.is_open() && !vanished() {
                sleep(LOOK_EVERY).await;
            }
        })
        .await;
        if vanished() {
            return;
        }
        cell.opened();
        // However it ends, it begins again with the next one who opens the terminal.
        match Opened::new(master) {
            Ok(line) => {
                let _ = carry(cell, session, &line).await;
            }
            // The system is out of files: perhaps not for long.
            Err(_) => sleep(LOOK_EVERY).await,
        }
    }
}
