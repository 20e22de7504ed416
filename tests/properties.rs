//! Properties that hold for any input, one file per room.

#[path = "properties/smp.rs"]
mod smp;
#[path = "properties/upload.rs"]
mod upload;
