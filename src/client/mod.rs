//! client (being built)
