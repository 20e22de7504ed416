//! A board's UART, served over TCP as a terminal server would: one client at a time, bytes to the board at the pace
//! of its wire, and what the board prints is kept.
//!
//! Real hardware loses the bytes that reach it while no firmware listens. QEMU's UART keeps them, and once they
//! fill its FIFO before the firmware clears the receive event, no event ever comes again: the board stays deaf,
//! even across a reset. So this drops them, and counts them.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};

use socket2::Socket;

use crate::error::{Result, RigError};
use crate::qmp::Qmp;

/// How a firmware is seen to listen: a bit that it sets once it does, and that a reset clears.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Receiver {
    /// Address of the UART's register.
    register: u32,
    /// The bit.
    on: u32,
}

/// INTENSET of the nRF51's UART, RXDRDY; source: nRF51 Series Reference Manual, chapter 29.
pub(crate) const NRF51: Receiver = Receiver { register: 0x4000_2304, on: 1 << 2 };
/// CTRL of the first CMSDK UART of the MPS2, receive interrupt enable; source: Arm Cortex-M System Design Kit Technical
/// Reference Manual, chapter 4.3, and Arm MPS2 application note AN385.
pub(crate) const CMSDK: Receiver = Receiver { register: 0x4000_4008, on: 1 << 3 };

/// Bytes that are passed on at once, and how long a wire of 115200 baud takes for them at ten bits each.
const PART: usize = 32;
const PART_TIME: Duration = Duration::from_nanos(1_000_000_000 / 115_200 * 10 * PART as u64);

/// The served UART; dropping it cuts its client off.
#[derive(Debug)]
pub(crate) struct Uart {
    address: SocketAddr,
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    qmp: Arc<Qmp>,
    receiver: Receiver,
    board: UnixStream,
    client: Mutex<Option<Socket>>,
    printed: Mutex<Vec<u8>>,
    more: Condvar,
    unheard: AtomicUsize,
    unpaced: AtomicBool,
    closed: AtomicBool,
}

impl Uart {
    /// Serves the UART that QEMU has at the other end of `board` on a free port of this machine.
    ///
    /// Not TCP on that side: QEMU takes and gives single bytes, of which a congestion window holds few, and their
    /// acknowledgement may take 40 ms.
    pub(crate) fn serve(board: UnixStream, qmp: Arc<Qmp>, receiver: Receiver) -> Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        let address = listener.local_addr()?;
        let shared = Arc::new(Shared {
            qmp,
            receiver,
            board,
            client: Mutex::default(),
            printed: Mutex::default(),
            more: Condvar::new(),
            unheard: AtomicUsize::new(0),
            unpaced: AtomicBool::new(false),
            closed: AtomicBool::new(false),
        });
        let from_board = Arc::clone(&shared);
        std::thread::spawn(move || from_board.carry_from_board());
        let to_board = Arc::clone(&shared);
        std::thread::spawn(move || {
            while let Ok((client, _)) = listener.accept() {
                if to_board.closed.load(Ordering::SeqCst) {
                    return;
                }
                let _ = client.set_nodelay(true);
                to_board.carry_to_board(Socket::from(client));
            }
        });
        Ok(Self { address, shared })
    }

    /// A client without TCP in between, for a bridge in this process. It is the only one until it is dropped.
    pub(crate) fn plug(&self) -> Result<UnixStream> {
        let (near, far) = UnixStream::pair()?;
        let to_board = Arc::clone(&self.shared);
        std::thread::spawn(move || to_board.carry_to_board(Socket::from(far)));
        Ok(near)
    }

    /// Where clients connect.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// From now on the wire is as fast as the emulator takes bytes: for what is measured without a wire.
    pub(crate) fn unpace(&self) {
        self.shared.unpaced.store(true, Ordering::SeqCst);
    }

    /// Everything that the board has printed, frames included.
    pub(crate) fn printed(&self) -> Vec<u8> {
        self.shared.printed.lock().unwrap().clone()
    }

    /// Waits until the board has printed `text`.
    pub(crate) fn wait_printed(&self, text: &str, within: Duration) -> Result<()> {
        let until = Instant::now() + within;
        let mut printed = self.shared.printed.lock().unwrap();
        while !printed.windows(text.len()).any(|window| window == text.as_bytes()) {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                let printed = String::from_utf8_lossy(&printed);
                return Err(RigError::new(format!("the board did not print {text:?}, but: {printed}")));
            }
            printed = self.shared.more.wait_timeout(printed, left).unwrap().0;
        }
        Ok(())
    }

    /// Bytes that were sent to the board while no firmware listened.
    pub(crate) fn unheard(&self) -> usize {
        self.shared.unheard.load(Ordering::SeqCst)
    }
}

/// Whether the firmware has its receiver on.
pub(crate) fn listens(qmp: &Qmp, receiver: Receiver) -> Result<bool> {
    // Through the core: the machine's physical address space of QEMU does not hold the micro:bit's registers.
    let answer = qmp.human(&format!("x /1wx {:#x}", receiver.register))?;
    let value = answer.split("0x").nth(1).map(str::trim);
    let value = value.and_then(|digits| u32::from_str_radix(digits, 16).ok());
    value
        .map(|bits| bits & receiver.on != 0)
        .ok_or_else(|| RigError::new(format!("no register value in {answer:?}")))
}

impl Shared {
    fn carry_from_board(&self) {
        let mut bytes = [0; 1024];
        while let Ok(count @ 1..) = (&self.board).read(&mut bytes) {
            self.printed.lock().unwrap().extend_from_slice(&bytes[..count]);
            self.more.notify_all();
            if let Some(client) = self.client.lock().unwrap().as_mut() {
                let _ = client.write_all(&bytes[..count]);
            }
        }
    }

    fn carry_to_board(&self, mut client: Socket) {
        *self.client.lock().unwrap() = client.try_clone().ok();
        let mut bytes = [0; 1024];
        // After which reset the firmware was last seen to listen: it does so until the next.
        let mut listening_since = None;
        while let Ok(count @ 1..) = client.read(&mut bytes) {
            let unpaced = self.unpaced.load(Ordering::SeqCst);
            for part in bytes[..count].chunks(if unpaced { count } else { PART }) {
                let resets = self.qmp.resets();
                if listening_since != Some(resets) && listens(&self.qmp, self.receiver).unwrap_or(false) {
                    listening_since = Some(resets);
                }
                if listening_since != Some(resets) {
                    self.unheard.fetch_add(part.len(), Ordering::SeqCst);
                } else if (&self.board).write_all(part).is_err() {
                    break;
                }
                if !unpaced {
                    std::thread::sleep(PART_TIME);
                }
            }
        }
        *self.client.lock().unwrap() = None;
    }
}

impl Drop for Uart {
    fn drop(&mut self) {
        self.shared.closed.store(true, Ordering::SeqCst);
        let _ = self.shared.board.shutdown(Shutdown::Both);
        if let Some(client) = self.shared.client.lock().unwrap().take() {
            let _ = client.shutdown(Shutdown::Both);
        }
        // Wakes the listener, so that its thread ends.
        let _ = TcpStream::connect(self.address);
    }
}
