//! What the simulated server's management groups do with a request.

mod cbor;
mod image;
mod os;
mod refused;
mod upload;

pub(super) use cbor::{Answer, Body};
pub(super) use image::ImageGroup;
pub(super) use os::{enumeration, os, statistics};
pub(super) use refused::{Effects, Refused, SmpError};
