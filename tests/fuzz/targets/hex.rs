//! Intel HEX from a stranger. Checksums are put right, so that records are read.

#![no_main]

use flashfleet::cause::Cause;
use flashfleet::image::{Inspection, Origin};
use libfuzzer_sys::fuzz_target;

/// The same lines, each with the checksum that it should have.
fn with_checksums(text: &[u8]) -> Vec<u8> {
    let mut all = Vec::new();
    for line in text.split(|byte| *byte == b'\n') {
        let digits = line.strip_prefix(b":").unwrap_or(line);
        let digits = digits.strip_suffix(b"\r").unwrap_or(digits);
        let bytes: Option<Vec<u8>> = digits
            .chunks(2)
            .map(|pair| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok().filter(|_| pair.len() == 2))
            .collect();
        match bytes.as_deref() {
            Some([record @ .., _]) => {
                let sum = record.iter().fold(0_u8, |sum, byte| sum.wrapping_add(*byte)).wrapping_neg();
                all.extend(format!(":{}", record.iter().map(|b| format!("{b:02X}")).collect::<String>()).bytes());
                all.extend(format!("{sum:02X}\n").bytes());
            }
            _ => {
                all.extend_from_slice(line);
                all.push(b'\n');
            }
        }
    }
    all
}

fn look(content: Vec<u8>) {
    let inspection = Inspection::of_file_content(content);
    let _ = format!("{inspection:?}");
    match inspection.image {
        Ok(image) => assert!(matches!(image.origin(), Origin::IntelHex { .. } | Origin::Binary)),
        Err(error) => {
            let cause = Cause::from(error);
            assert!(cause.code.starts_with("image.") && !cause.help.is_empty(), "{cause:?}");
        }
    }
}

fuzz_target!(|data: &[u8]| {
    // What begins with a colon is Intel HEX.
    let mut content = vec![b':'];
    content.extend_from_slice(data.strip_prefix(b":").unwrap_or(data));
    look(with_checksums(&content));
    look(content);
});
