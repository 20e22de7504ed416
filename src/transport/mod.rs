//! Links to devices, and how devices are found. Platform code lives below this module only.

mod address;
pub mod ble;
mod descriptors;
mod detached;
mod discover;
pub(crate) mod framing;
mod link;
mod matching;
mod memory;
mod open_error;
mod ports;
mod resolve;
mod serial;
mod stream;
#[cfg(target_os = "linux")]
mod sysfs;
mod tcp;
mod trace;
#[cfg(unix)]
mod tty;
mod udp;
mod usb;
mod usb_port;
mod watch;
pub(crate) mod wire;

pub use address::{Address, AddressError, DEFAULT_UDP_PORT, HostPort};
pub use descriptors::{descriptor_limit, enough_descriptors, raise_descriptor_limit};
pub use discover::{Candidate, Discovery, MAX_ADDRESSES};
pub use framing::FramingMemory;
pub use link::{Connector, Firmware, Framing, Link, LinkError, LinkErrorKind, LinkProperties};
pub use matching::{Mismatch, matches, matches_name, matches_usb, mismatches, name_in_plan};
pub use memory::{MemoryConnector, MemoryLink, MemoryPeer};
pub use ports::{Port, Ports, SystemPorts};
pub use serial::{SerialConnector, SerialOptions};
pub use tcp::TcpConnector;
pub use trace::WireLog;
pub use udp::{MAX_MESSAGE_V4, MAX_MESSAGE_V6, UdpConnector, UdpHub};
pub use usb::UsbFingerprint;
pub use usb_port::{UsbConnector, device_key};
pub use watch::{Listing, PortWatch, Twins};
pub use wire::TARGET as WIRE_TARGET;
