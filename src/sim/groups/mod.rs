//! What the simulated server's management groups do with a request.

mod cbor;
mod enumeration;
mod fs;
mod image;
mod os;
mod refused;
mod settings;
mod shell;
mod stat;
mod upload;

pub(super) use cbor::{Answer, Body};
pub(super) use enumeration::enumeration;
pub(super) use fs::Files;
pub(super) use image::ImageGroup;
pub(super) use os::{Clock, os};
pub(super) use refused::{Effects, Refused, SmpError};
pub(super) use settings::Settings;
pub(super) use shell::shell;
pub(super) use stat::statistics;
