//! The simulator from outside: its server and bootloader, its link, its faults, its endpoints.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

#[cfg(unix)]
mod endpoints;
mod faults;
#[cfg(unix)]
mod framing;
mod gatt;
mod link;
mod radio;
mod server;
mod support;
#[cfg(unix)]
mod usbip;
#[cfg(unix)]
mod usbip_attach;
#[cfg(unix)]
mod usbip_client;
