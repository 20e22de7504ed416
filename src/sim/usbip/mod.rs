//! Simulated devices as boards on USB, over USB/IP: any Linux with `vhci_hcd` sees real serial ports.

mod attach;
mod board;
mod bridge;
mod bus;
mod chip;
mod connection;
mod descriptor;
mod device;
mod identity;
mod protocol;
mod spec;
mod unmade;
mod urb;
mod vhci;

pub use attach::{AttachEvent, Attacher};
pub use board::BoardState;
pub use bus::UsbBus;
pub use protocol::PORT as USBIP_PORT;
pub use spec::{BootloaderSpec, OtherFunctions, UpdatedSpec, UsbId, UsbKind, UsbSpec, UsbSpeed};
pub use vhci::Vhci;
