//! actors (being built)
