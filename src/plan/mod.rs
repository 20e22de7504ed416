//! The plan file: model, loading, validation, schema.

mod address;
mod derived;
mod diagnostic;
mod expression;
mod images;
mod keys;
mod load;
mod model;
mod packages;
mod policy;
mod problems;
mod reader;
mod rules;
mod scalar;
mod schema;
mod steps;
mod targets;
mod yaml;

pub use diagnostic::{Diagnostic, Diagnostics, Place};
pub use load::{load, parse};
pub use model::*;
pub use schema::schema;
