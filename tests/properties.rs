//! Properties that hold for any input, one file per room.

#[path = "properties/framing.rs"]
mod framing;
#[path = "properties/smp.rs"]
mod smp;
#[path = "properties/upload.rs"]
mod upload;
