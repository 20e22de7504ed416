//! The `flashfleet` program.
fn main() {}
