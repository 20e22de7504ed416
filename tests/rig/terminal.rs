//! A pseudo-terminal that leads to a board's UART, as its serial port would.
//!
//! QEMU can make pseudo-terminals itself, but delays the first reply after an open by up to a second and holds
//! back a frame's last byte until more comes.

use std::fs::File;
use std::io::{Read, Write};
use std::net::Shutdown;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use nix::sys::termios::{SetArg, cfmakeraw, tcgetattr, tcsetattr};

use crate::error::{Context, Result};
use crate::uart::Uart;

/// A pseudo-terminal; dropping it is a surprise removal for whoever has it open, at the first byte that they write.
#[derive(Debug)]
pub(crate) struct Terminal {
    path: PathBuf,
    stream: UnixStream,
    /// Keeps the terminal alive between two clients.
    _slave: OwnedFd,
}

impl Terminal {
    /// Joins a new pseudo-terminal to the board's UART.
    pub(crate) fn to(uart: &Uart) -> Result<Self> {
        Self::with_latency(uart, Duration::ZERO)
    }

    /// The same, and every byte arrives so much later, each way.
    pub(crate) fn with_latency(uart: &Uart, each_way: Duration) -> Result<Self> {
        let pair = nix::pty::openpty(None, None).context("cannot open a pseudo-terminal")?;
        let mut mode = tcgetattr(&pair.slave).context("pseudo-terminal")?;
        cfmakeraw(&mut mode);
        tcsetattr(&pair.slave, SetArg::TCSANOW, &mode).context("pseudo-terminal")?;
        let path = nix::unistd::ttyname(&pair.slave).context("pseudo-terminal")?;
        let stream = uart.plug()?;
        let master = File::from(pair.master);
        pump(stream.try_clone()?, master.try_clone()?, each_way);
        pump(master, stream.try_clone()?, each_way);
        Ok(Self { path, stream, _slave: pair.slave })
    }

    /// Such as `/dev/pts/7`.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        let _ = self.stream.shutdown(Shutdown::Both);
    }
}

/// Copies until either side is gone, each part so long after it came.
fn pump(mut from: impl Read + Send + 'static, mut to: impl Write + Send + 'static, latency: Duration) {
    let (came, due) = mpsc::channel::<(Instant, Vec<u8>)>();
    let mut deliver = move |(at, part): (Instant, Vec<u8>)| {
        std::thread::sleep(at.saturating_duration_since(Instant::now()));
        to.write_all(&part).is_ok()
    };
    std::thread::spawn(move || {
        // Without latency by the same thread: then a side that is gone is noticed at the first byte for it.
        if !latency.is_zero() {
            std::thread::spawn(move || due.into_iter().all(deliver));
            copy(&mut from, |part| came.send((Instant::now() + latency, part)).is_ok());
        } else {
            copy(&mut from, |part| deliver((Instant::now(), part)));
        }
    });
}

/// Hands on what comes, until nothing does or nobody takes it.
fn copy(from: &mut impl Read, mut hand_on: impl FnMut(Vec<u8>) -> bool) {
    let mut bytes = [0; 1024];
    while let Ok(count @ 1..) = from.read(&mut bytes) {
        if !hand_on(bytes[..count].to_vec()) {
            break;
        }
    }
}
