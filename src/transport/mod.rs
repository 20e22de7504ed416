//! Links to devices, and how devices are found. Platform code lives below this module only.

mod link;

pub use link::{Connector, Framing, Link, LinkError, LinkErrorKind, LinkProperties};
