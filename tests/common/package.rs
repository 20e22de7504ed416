//! Makes archives for tests of packages.

use std::io::{Cursor, Write};

use zip::CompressionMethod;
use zip::write::{SimpleFileOptions, ZipWriter};

/// An archive of these entries, as they are.
pub(crate) fn pack(entries: &[(&str, &[u8])]) -> Vec<u8> {
    pack_with(CompressionMethod::Stored, entries)
}

/// An archive of these entries.
pub(crate) fn pack_with(method: CompressionMethod, entries: &[(&str, &[u8])]) -> Vec<u8> {
    let mut zip = ZipWriter::new(Cursor::new(Vec::new()));
    for (name, content) in entries {
        zip.start_file(*name, SimpleFileOptions::default().compression_method(method)).expect("an entry");
        zip.write_all(content).expect("memory");
    }
    zip.finish().expect("an archive").into_inner()
}
