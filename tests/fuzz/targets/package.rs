//! A package from a stranger: an archive as it is, or a sound one around a manifest and two images that are not.

#![no_main]

use std::io::{Cursor, Write as _};

use flashfleet::cause::Cause;
use flashfleet::image::{ImageSet, Manifest, PackageInspection};
use libfuzzer_sys::fuzz_target;
use zip::ZipWriter;
use zip::write::SimpleFileOptions;

fn look(bytes: &[u8]) {
    if let Ok(package) = PackageInspection::of_bytes(bytes) {
        let _ = format!("{package:?}");
        assert_eq!(package.manifest.files.len(), package.members.len(), "each file is a member");
    }
    let set = PackageInspection::of_bytes(bytes).and_then(ImageSet::of_package);
    match set {
        Ok(set) => {
            assert!(!set.members().is_empty());
            for number in set.image_numbers() {
                assert!(!set.for_image(number).is_empty(), "image {number}");
            }
        }
        Err(error) => {
            let cause = Cause::from(error);
            assert!(cause.code.starts_with("image.") && !cause.help.is_empty(), "{cause:?}");
        }
    }
}

fn archive(manifest: &[u8], image: &[u8]) -> Vec<u8> {
    let mut zip = ZipWriter::new(Cursor::new(Vec::new()));
    let stored = SimpleFileOptions::default().compression_method(zip::CompressionMethod::Stored);
    for (name, content) in [("manifest.json", manifest), ("a.bin", image), ("b.bin", &image[..image.len() / 2])] {
        zip.start_file(name, stored).expect("an entry");
        zip.write_all(content).expect("memory");
    }
    zip.finish().expect("an archive").into_inner()
}

fuzz_target!(|data: &[u8]| {
    if data.starts_with(b"PK") {
        return look(data);
    }
    // The manifest ends at the first zero byte.
    let end = data.iter().position(|byte| *byte == 0).unwrap_or(data.len());
    let (manifest, rest) = data.split_at(end);
    let _ = Manifest::parse(manifest).map(|manifest| format!("{manifest:?}"));
    look(&archive(manifest, rest.get(1..).unwrap_or_default()));
});
