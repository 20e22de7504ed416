//! Images from standard input, which `-` means on the command line.

use std::io::Read as _;
use std::path::Path;

use crate::cause::{Cause, Class};
use crate::image::{Image, ImageSet, MAX_IMAGE_SIZE};

/// Whether a path means standard input.
pub(super) fn is_stdin(path: &Path) -> bool {
    path == Path::new("-")
}

/// The image in a file, or in standard input.
pub(super) fn image(path: &Path) -> Result<Image, Cause> {
    if !is_stdin(path) {
        return Ok(Image::load(path)?);
    }
    Image::from_file_content(bytes()?).map_err(|error| error.in_file(path).into())
}

/// The image or package in a file, or in standard input.
pub(super) fn image_set(path: &Path) -> Result<ImageSet, Cause> {
    if !is_stdin(path) {
        return Ok(ImageSet::load(path)?);
    }
    ImageSet::from_file_content(bytes()?).map_err(|error| error.in_file(path).into())
}

/// All of standard input, as far as an image may go.
pub(super) fn bytes() -> Result<Vec<u8>, Cause> {
    let mut bytes = Vec::new();
    let limit = MAX_IMAGE_SIZE as u64;
    std::io::stdin().take(limit + 1).read_to_end(&mut bytes).map_err(|error| {
        let message = format!("expected to read standard input, but {error}");
        Cause::new(Class::Station, "station.cannot_read", message, "check what writes to it")
    })?;
    if bytes.len() as u64 > limit {
        let message = format!("expected an image of at most {limit} bytes, standard input has more");
        return Err(Cause::new(Class::Image, "image.too_large", message, "name the image that was meant"));
    }
    Ok(bytes)
}
