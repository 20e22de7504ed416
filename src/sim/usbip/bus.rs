//! The bus: boards in their places, and the server that offers them over USB/IP.

use std::io;
use std::net::SocketAddr;
use std::ops::Range;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::sleep;

use super::board::{Behind, Board, BoardState};
use super::bridge::Bridge;
use super::connection;
use super::spec::{UsbKind, UsbSpec};
use crate::sim::fleet::{Cell, Fleet};
use crate::sim::spec::SpecError;

/// Most clients at once; further ones wait.
const CONNECTIONS: usize = 1024;
/// Most boards: what a client takes in one list.
const BOARDS: usize = 4096;
/// How long to wait when the system has no more files for connections.
const NO_FILES: Duration = Duration::from_millis(100);

/// The boards of a bus, in their places.
#[derive(Debug, Default)]
pub(super) struct Boards(Mutex<Vec<Arc<Board>>>);

impl Boards {
    pub(super) fn all(&self) -> Vec<Arc<Board>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// A USB bus whose boards can be imported over USB/IP. Dropping it takes all of them off.
#[derive(Debug)]
pub struct UsbBus {
    boards: Arc<Boards>,
    address: SocketAddr,
    task: JoinHandle<()>,
}

impl Drop for UsbBus {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl UsbBus {
    /// A bus without boards that listens at `address`; port 0 takes any that is free. Must be called within a tokio
    /// runtime whose clock is not paused, and which has to run for the bus to answer.
    ///
    /// # Errors
    /// What the system says of it, for example an address in use.
    pub fn listen(address: SocketAddr) -> io::Result<Self> {
        let listener = std::net::TcpListener::bind(address)?;
        listener.set_nonblocking(true)?;
        let listener = TcpListener::from_std(listener)?;
        let address = listener.local_addr()?;
        let boards = Arc::new(Boards::default());
        let task = tokio::spawn(accept(listener, Arc::clone(&boards)));
        Ok(Self { boards, address, task })
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Number of boards, plugged in or not.
    #[must_use]
    pub fn len(&self) -> usize {
        self.boards.all().len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Plugs in a board for each device of a fleet, as its description says under `usb`; gives their numbers on the bus,
    /// from 0. Those with `bridge` have a serial server behind them, and their simulated devices stand idle.
    ///
    /// # Errors
    /// Where the bus is full, or `usb` is not one of boards that can be.
    pub fn add_fleet(&self, fleet: &Fleet) -> Result<Range<usize>, SpecError> {
        let first = self.len();
        for (index, cell) in fleet.cells().iter().enumerate() {
            let usb = cell.device().spec().usb.clone().unwrap_or_default();
            self.add_cell(cell, index, usb)?;
        }
        Ok(first..self.len())
    }

    /// Plugs in a board with the device of a fleet that has this index, from 0, under a description of its own. How the
    /// device boots is the fleet's matter: `kind` and the bootloader's time must be those of the fleet's own `usb`. Gives
    /// the board's number on the bus, from 0.
    ///
    /// # Errors
    /// Where the bus is full, or the description is not one of a board that can be, or not with this device.
    ///
    /// # Panics
    /// Where there is no such device.
    pub fn add(&self, fleet: &Fleet, index: usize, usb: UsbSpec) -> Result<usize, SpecError> {
        let cell = &fleet.cells()[index];
        let own = cell.device().spec().usb.clone().unwrap_or_default();
        let waits = |usb: &UsbSpec| usb.bootloader.as_ref().map(|it| it.ms);
        for (field, same) in
            [("usb.kind", own.kind == usb.kind), ("usb.bootloader", waits(&own) == waits(&usb))]
        {
            if !same {
                let message =
                    "expected what the description of its fleet says: it tells how the device boots";
                return Err(SpecError { field, message: message.to_owned() });
            }
        }
        self.add_cell(cell, index, usb)
    }

    /// Plugs in a board with a serial server behind it: `usb.bridge` says which. Gives its number on the bus, from 0.
    ///
    /// # Errors
    /// Where the bus is full, there is no `bridge`, or the description is not one of a board that can be.
    pub fn add_bridge(&self, usb: UsbSpec) -> Result<usize, SpecError> {
        if usb.bridge.is_none() {
            let message = "expected the address of a serial server, as tcp:localhost:4001".to_owned();
            return Err(SpecError { field: "usb.bridge", message });
        }
        let number = self.len() + 1;
        self.place(usb, (format!("bridge-{number}"), number), None)
    }

    fn add_cell(&self, cell: &Arc<Cell>, index: usize, usb: UsbSpec) -> Result<usize, SpecError> {
        if usb.kind == UsbKind::CdcAcm && usb.bridge.is_none() && !cell.device().spec().leaves_in_reset() {
            let message =
                "expected devices that leave in a reset: say `usb` in the description of their fleet";
            return Err(SpecError { field: "usb.kind", message: message.to_owned() });
        }
        self.place(usb, (cell.name.clone(), index + 1), Some(cell))
    }

    fn place(
        &self,
        usb: UsbSpec,
        (name, number): (String, usize),
        cell: Option<&Arc<Cell>>,
    ) -> Result<usize, SpecError> {
        let mut problems = Vec::new();
        usb.problems(&name, number, &mut problems);
        if let Some(problem) = problems.into_iter().next() {
            return Err(problem);
        }
        let behind = match (usb.bridge_to(&name, number), cell) {
            (Some(place), _) => Behind::Bridge(Bridge::to(place)),
            (None, Some(cell)) => Behind::Device(Arc::clone(cell)),
            (None, None) => {
                let message = "expected a device or a serial server behind the board".to_owned();
                return Err(SpecError { field: "usb.bridge", message });
            }
        };
        let mut boards = self.boards.0.lock().unwrap_or_else(PoisonError::into_inner);
        let index = boards.len();
        let devnum = u32::try_from(index + 1).ok().filter(|_| index < BOARDS).ok_or_else(|| SpecError {
            field: "count",
            message: format!("expected at most {BOARDS} boards on one bus"),
        })?;
        boards.push(Arc::new(Board::new(devnum, usb, (name, number), behind)));
        Ok(index)
    }

    fn at(&self, index: usize) -> Arc<Board> {
        Arc::clone(&self.boards.all()[index])
    }

    /// What is known of a board now.
    ///
    /// # Panics
    /// Where there is no such board.
    #[must_use]
    pub fn board(&self, index: usize) -> BoardState {
        self.at(index).board_state()
    }

    /// Pulls a board: it is gone at once, whatever goes on, and the simulated device behind it without power.
    ///
    /// # Panics
    /// Where there is no such board.
    pub fn unplug(&self, index: usize) {
        self.at(index).unplug();
    }

    /// Plugs a board in again, in the same place of the bus; a simulated device behind it boots.
    ///
    /// # Panics
    /// Where there is no such board.
    pub fn plug(&self, index: usize) {
        self.at(index).plug();
    }
}

async fn accept(listener: TcpListener, boards: Arc<Boards>) {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept(), if connections.len() < CONNECTIONS => match accepted {
                Ok((stream, _)) => {
                    connections.spawn(connection::serve(Arc::clone(&boards), stream));
                }
                // Out of files, perhaps not for long; or the connection is gone already.
                Err(_) => sleep(NO_FILES).await,
            },
            Some(_) = connections.join_next() => {}
        }
    }
}
