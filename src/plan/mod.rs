//! The plan file: model, loading, validation, schema.

mod address;
mod buffer;
mod build;
mod data;
mod derived;
mod device_steps;
mod diagnostic;
mod expression;
mod files;
mod images;
mod keys;
mod load;
mod model;
mod packages;
mod places;
mod policy;
mod problems;
mod reader;
mod rules;
mod scalar;
mod schema;
mod step;
mod steps;
mod targets;
mod yaml;

pub use buffer::Buffer;
pub use diagnostic::{Diagnostic, Diagnostics, Place};
pub use files::read_file;
pub use load::{load, parse};
pub use model::*;
pub use schema::schema;
pub use step::{BOOT_MODE_BOOTLOADER, LocalFile, Search, Settings, SmpCommand, Step};
