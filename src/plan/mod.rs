//! The plan file: model, loading, validation.

mod model;

pub use model::*;
