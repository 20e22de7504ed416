//! Images from files: every kind of wrong file gets its own code, and Intel HEX gives the same image as binary.

#![expect(clippy::unwrap_used, clippy::cast_possible_truncation, reason = "a test fails by panicking")]

use std::fs;
use std::path::{Path, PathBuf};

use flashfleet::cause::{Cause, Class};
use flashfleet::image::{Image, ImageBuilder, ImageError, MAX_IMAGE_SIZE, Origin};
use ihex::Record;
use rstest::{fixture, rstest};
use sha2::{Digest, Sha256};
use tempfile::TempDir;

#[fixture]
fn folder() -> TempDir {
    TempDir::new().unwrap()
}

fn write(folder: &TempDir, name: &str, content: impl AsRef<[u8]>) -> PathBuf {
    let path = folder.path().join(name);
    fs::write(&path, content).unwrap();
    path
}

fn image(version: &str) -> Vec<u8> {
    ImageBuilder::new().version(version).payload(&[0x5a; 1000]).build()
}

/// Loads a file that is wrong; checks what holds for every error.
fn refused(path: &Path) -> ImageError {
    let error = Image::load(path).unwrap_err();
    assert_eq!(error.file(), Some(path));
    let text = error.to_string();
    assert!(text.starts_with(&path.display().to_string()), "{text}");
    let cause = Cause::from(error.clone());
    assert_eq!(cause.message, text);
    assert!(cause.code.starts_with("image.") && !cause.help.is_empty(), "{cause:?}");
    error
}

/// Intel HEX records for data at an address.
fn records(address: u32, data: &[u8]) -> Vec<Record> {
    let mut records = Vec::new();
    let mut address = address;
    let mut rest = data;
    while !rest.is_empty() {
        let room = 0x1_0000 - (address & 0xffff) as usize;
        let (chunk, after) = rest.split_at(rest.len().min(16).min(room));
        if records.is_empty() || address & 0xffff == 0 {
            records.push(Record::ExtendedLinearAddress((address >> 16) as u16));
        }
        records.push(Record::Data { offset: address as u16, value: chunk.to_vec() });
        address = address.wrapping_add(chunk.len() as u32);
        rest = after;
    }
    records
}

fn hex(parts: &[(u32, &[u8])]) -> String {
    let mut all: Vec<Record> = parts.iter().flat_map(|(address, data)| records(*address, data)).collect();
    all.push(Record::EndOfFile);
    ihex::create_object_file_representation(&all).unwrap()
}

#[rstest]
fn a_binary_file(folder: TempDir) {
    let bytes = image("1.2.3");
    let image = Image::load(&write(&folder, "app.signed.bin", &bytes)).unwrap();
    assert_eq!(**image.bytes(), *bytes);
    assert_eq!(image.origin(), Origin::Binary);
    assert_eq!(image.padding(), 0);
}

#[rstest]
#[case::empty(b"", "image.empty", "empty")]
#[case::one_byte(b"\x3d", "image.truncated", "32 bytes")]
#[case::elf(b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0", "image.foreign", "ELF")]
#[case::short_elf(b"\x7fELF", "image.foreign", "ELF")]
#[case::hex(b":020000040000FA\n:00000001FF\n", "image.foreign", "Intel HEX")]
#[case::srecord(
    b"S00600004844521B\nS1130000285F245F2212226A000424290008237C2A\n",
    "image.foreign",
    "S-record"
)]
#[case::gzip(b"\x1f\x8b\x08\0\0\0\0\0\0\x03", "image.foreign", "gzip")]
#[case::zip(b"PK\x03\x04\x14\0\0\0\x08\0", "image.foreign", "ZIP")]
#[case::pem(b"-----BEGIN PUBLIC KEY-----\nMFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAE\n", "image.foreign", "PEM")]
#[case::html(b"\n<!DOCTYPE html><html><head><title>404</title></head></html>", "image.foreign", "web page")]
#[case::lfs(b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\n", "image.foreign", "LFS")]
#[case::text(b"this is not an image at all, but a line of text\n", "image.foreign", "text")]
#[case::erased(&[0xff; 64], "image.foreign", "erased")]
#[case::version_1(&[0x3c, 0xb8, 0xf3, 0x96, 0, 0, 0, 0], "image.foreign", "version 1")]
#[case::big_endian(&[0x96, 0xf3, 0xb8, 0x3d, 0, 0, 0, 0], "image.foreign", "big-endian")]
#[case::header_room(&[0; 0x200], "image.unsigned", "zeros")]
#[case::noise(&[0xa5; 64], "image.bad_magic", "0xa5a5a5a5")]
fn a_foreign_binary_is_called_by_its_name(
    folder: TempDir,
    #[case] content: &[u8],
    #[case] code: &str,
    #[case] says: &str,
) {
    let error = refused(&write(&folder, "app.bin", content));
    assert_eq!((error.code(), error.class()), (code, Class::Image), "{error}");
    assert!(error.to_string().contains(says), "{error}");
}

#[rstest]
fn firmware_without_a_header_is_not_signed(folder: TempDir) {
    // Initial stack pointer, reset vector, other vectors: as the ARM tool chain lays them out.
    let vectors: Vec<u8> = [0x2000_4000_u32, 0x0000_0415, 0x0000_0401, 0x0000_0401]
        .iter()
        .flat_map(|w| w.to_le_bytes())
        .collect();
    let firmware = vectors.repeat(8);
    let error = refused(&write(&folder, "zephyr.bin", &firmware));
    assert_eq!(error.code(), "image.unsigned");
    assert!(error.to_string().contains("imgtool") && error.help().contains("zephyr.signed.bin"), "{error}");

    let error = refused(&write(&folder, "zephyr.hex", hex(&[(0x8000, &firmware)])));
    assert_eq!(error.code(), "image.unsigned");
    assert!(error.to_string().contains("0x00008000"), "{error}");
}

#[rstest]
fn files_that_are_no_image_files(folder: TempDir) {
    let missing = refused(&folder.path().join("missing.bin"));
    assert_eq!((missing.code(), missing.class()), ("image.file_missing", Class::Plan));
    let below_a_file = write(&folder, "file", "").join("app.bin");
    assert_eq!(refused(&below_a_file).code(), "image.file_missing");
    let directory = refused(folder.path());
    assert_eq!((directory.code(), directory.class()), ("image.not_a_file", Class::Plan));
    assert!(directory.to_string().contains("directory"));
    // Not taken for an image, whatever the case of the ending.
    let zip = refused(&write(&folder, "dfu_application.ZIP", b"PK\x03\x04"));
    assert_eq!(zip.code(), "image.zip_malformed");
    assert_eq!(refused(&folder.path().join("missing.zip")).code(), "image.file_missing");
}

#[cfg(unix)]
#[rstest]
fn pipes_and_devices_are_not_opened(folder: TempDir) {
    assert_eq!(refused(Path::new("/dev/zero")).code(), "image.not_a_file");
    let pipe = folder.path().join("pipe.bin");
    nix::unistd::mkfifo(&pipe, nix::sys::stat::Mode::S_IRWXU).unwrap();
    assert_eq!(refused(&pipe).code(), "image.not_a_file");
}

#[rstest]
#[case("huge.bin", MAX_IMAGE_SIZE as u64 + 1)]
#[case("huge.hex", 3 * MAX_IMAGE_SIZE as u64 + 1)]
fn a_huge_file_is_not_read(folder: TempDir, #[case] name: &str, #[case] size: u64) {
    let path = folder.path().join(name);
    fs::File::create(&path).unwrap().set_len(size).unwrap();
    let error = refused(&path);
    assert_eq!(error.code(), "image.too_large");
    assert!(error.to_string().contains(&size.to_string()), "{error}");
}

#[rstest]
#[case::confirmed(0xff, true)]
#[case::pending(0xff, false)]
#[case::erased_to_zero(0x00, false)]
fn the_padding_that_would_mark_the_slot_is_dropped(
    folder: TempDir,
    #[case] erased: u8,
    #[case] confirmed: bool,
) {
    let bytes = image("1.2.3");
    let mut padded = bytes.clone();
    padded.resize(0x2000, erased);
    // Trailer of `imgtool sign --pad`: image_ok 8 bytes before the 16 bytes of magic.
    padded[0x2000 - 16..].copy_from_slice(&hex::decode("77c295f360d2ef7f3552500f2cb67980").unwrap());
    if confirmed {
        padded[0x2000 - 24] = 1;
    }
    let image = Image::load(&write(&folder, "app.bin", &padded)).unwrap();
    assert_eq!(**image.bytes(), *bytes);
    assert_eq!(image.padding(), 0x2000 - bytes.len());
    assert_eq!(image.source_sha256().as_slice(), Sha256::digest(&padded).as_slice());
    assert_eq!(image.file_sha256().as_slice(), Sha256::digest(&bytes).as_slice());
}

#[rstest]
#[case::appended(&[1, 2, 3])]
#[case::not_only_padding(&[0xff, 0xff, 0xff, 0x42])]
#[case::another_image(&[0x3d, 0xb8, 0xf3, 0x96])]
fn bytes_behind_the_image_are_refused(folder: TempDir, #[case] tail: &[u8]) {
    let mut bytes = image("1.2.3");
    bytes.extend_from_slice(tail);
    assert_eq!(refused(&write(&folder, "app.bin", bytes)).code(), "image.trailing_bytes");
}

#[rstest]
#[case::at_zero(0)]
#[case::in_flash(0x0800_c000)]
#[case::across_a_64_kib_border(0x0000_fe00)]
#[case::at_the_end_of_memory(0xffff_f000)]
fn intel_hex_gives_the_same_image(folder: TempDir, #[case] address: u32) {
    let bytes = image("1.2.3");
    let text = hex(&[(address, &bytes)]);
    let image = Image::load(&write(&folder, "app.signed.HEX", &text)).unwrap();
    assert_eq!(**image.bytes(), *bytes);
    assert_eq!(image.origin(), Origin::IntelHex { address, alone: true });
    assert_eq!(image.file_sha256().as_slice(), Sha256::digest(&bytes).as_slice());
    assert_eq!(image.source_sha256().as_slice(), Sha256::digest(&text).as_slice());
}

#[rstest]
fn records_may_come_in_any_order_and_by_segment(folder: TempDir) {
    let bytes = image("1.2.3");
    let (first, second) = bytes.split_at(700);
    // 0x0800:0x0100 is 0x8100.
    let mut all = vec![Record::ExtendedSegmentAddress(0x0800)];
    for (at, chunk) in second.chunks(32).enumerate() {
        all.push(Record::Data { offset: (0x100 + 700 + at * 32) as u16, value: chunk.to_vec() });
    }
    all.push(Record::StartLinearAddress(0x8301));
    all.extend(records(0x8100, first));
    all.push(Record::EndOfFile);
    let text = ihex::create_object_file_representation(&all).unwrap().replace('\n', "\r\n");
    let image = Image::load(&write(&folder, "app.hex", text)).unwrap();
    assert_eq!(**image.bytes(), *bytes);
    assert_eq!(image.origin(), Origin::IntelHex { address: 0x8100, alone: true });
}

#[rstest]
fn the_application_is_found_in_a_merged_file(folder: TempDir) {
    let app = image("1.2.3");
    // A bootloader has the magic in its code, at any place, aligned ones included.
    let mut bootloader = vec![0x11; 0x8000];
    bootloader[0x404..0x408].copy_from_slice(&[0x3d, 0xb8, 0xf3, 0x96]);
    bootloader[0x700..0x704].copy_from_slice(&[0x3d, 0xb8, 0xf3, 0x96]);
    let settings = [0xa5; 64];
    // The image touches the bootloader, so both are one region.
    let text = hex(&[(0, &bootloader), (0x8000, &app), (0x3_0000, &settings)]);
    let image = Image::load(&write(&folder, "merged.hex", text)).unwrap();
    assert_eq!(**image.bytes(), *app);
    assert_eq!(image.origin(), Origin::IntelHex { address: 0x8000, alone: false });
}

#[rstest]
fn an_image_within_an_image_is_not_another_one(folder: TempDir) {
    let mut payload = vec![0; 0x100];
    payload.extend(image("9.9.9"));
    let outer = ImageBuilder::new().version("1.2.3").payload(&payload).build();
    let image = Image::load(&write(&folder, "app.hex", hex(&[(0x8000, &outer)]))).unwrap();
    assert_eq!(image.version(), "1.2.3");
}

#[rstest]
fn several_images_are_listed(folder: TempDir) {
    let text = hex(&[(0x8000, &image("1.2.3")), (0x2_0000, &image("4.5.6"))]);
    let error = refused(&write(&folder, "merged.hex", text));
    assert_eq!(error.code(), "image.hex_several_images");
    let text = error.to_string();
    assert!(text.contains("1.2.3 at 0x00008000") && text.contains("4.5.6 at 0x00020000"), "{text}");
}

#[rstest]
fn the_magic_everywhere_is_no_reason_to_look_for_ever(folder: TempDir) {
    let mut page = vec![0; 0x100];
    page[..4].copy_from_slice(&[0x3d, 0xb8, 0xf3, 0x96]);
    let error = refused(&write(&folder, "app.hex", hex(&[(0, &page.repeat(100))])));
    assert_eq!(error.code(), "image.hex_several_images");
}

#[rstest]
fn no_image_in_several_regions(folder: TempDir) {
    let error = refused(&write(&folder, "boot.hex", hex(&[(0, &[1; 32]), (0x1000, &[2; 32])])));
    assert_eq!(error.code(), "image.hex_no_image");
    assert!(error.to_string().contains("0x00000000 to 0x0000001f, 0x00001000 to 0x0000101f"), "{error}");
    assert_eq!(refused(&write(&folder, "none.hex", ":00000001FF\n")).code(), "image.hex_no_image");
}

#[rstest]
fn faults_of_an_image_in_intel_hex_name_its_address(folder: TempDir) {
    let mut bytes = image("1.2.3");
    bytes[0x300] ^= 1;
    let error = refused(&write(&folder, "changed.hex", hex(&[(0x8000, &bytes)])));
    assert_eq!(error.code(), "image.hash_mismatch");
    assert!(error.to_string().contains("0x00008000"), "{error}");

    let bytes = image("1.2.3");
    let error = refused(&write(&folder, "short.hex", hex(&[(0x8000, &bytes[..700])])));
    assert_eq!(error.code(), "image.truncated");
    assert!(error.to_string().contains("0x00008000"), "{error}");

    let error = refused(&write(&folder, "gap.hex", hex(&[(0x8000, &bytes[..700]), (0x82d0, &bytes[720..])])));
    assert_eq!(error.code(), "image.hex_gap");
    assert!(error.to_string().contains("0x000082bc") && error.to_string().contains("20 bytes"), "{error}");
}

#[rstest]
#[case::empty("", "image.empty", "empty")]
#[case::no_end(":020000040000FA\n", "image.hex_truncated", "line 1")]
#[case::checksum(":020000040000FA\n:0100000000FE\n:00000001FF\n", "image.hex_syntax", "line 2")]
#[case::no_colon(":020000040000FA\n\nhello\n:00000001FF\n", "image.hex_syntax", "line 3")]
#[case::text("hello\n", "image.hex_syntax", "line 1")]
#[case::behind_the_end(":00000001FF\n:020000040000FA\n", "image.hex_syntax", "line 2")]
#[case::beyond_32_bits(":02000004FFFFFC\n:02FFFF000102FD\n:00000001FF\n", "image.hex_address", "line 2")]
#[case::segment_wrap(":020000021000EC\n:02FFFF000102FD\n:00000001FF\n", "image.hex_address", "line 2")]
#[case::twice(":0100000000FF\n:0100000000FF\n:00000001FF\n", "image.hex_overlap", "0x00000000")]
#[case::binary_image("\u{3}", "image.hex_syntax", "line 1")]
fn wrong_intel_hex(folder: TempDir, #[case] content: &str, #[case] code: &str, #[case] says: &str) {
    let error = refused(&write(&folder, "app.hex", content));
    assert_eq!(error.code(), code, "{error}");
    assert!(error.to_string().contains(says), "{error}");
}

#[rstest]
#[case::binary_image(image("1.2.3"), "binary MCUboot image")]
#[case::elf(b"\x7fELF\x02\x01\x01".to_vec(), "ELF")]
fn another_file_named_hex(folder: TempDir, #[case] content: Vec<u8>, #[case] says: &str) {
    let error = refused(&write(&folder, "app.hex", content));
    assert_eq!(error.code(), "image.not_intel_hex");
    assert!(error.to_string().contains(says), "{error}");
}

#[rstest]
fn a_line_without_end_is_not_collected(folder: TempDir) {
    let error = refused(&write(&folder, "app.hex", format!(":{}", "00".repeat(1 << 20))));
    assert_eq!(error.code(), "image.hex_syntax");
}

#[rstest]
fn scattered_records_are_refused(folder: TempDir) {
    let all: Vec<Record> = (0..2000)
        .map(|at| Record::Data { offset: at * 2, value: vec![0] })
        .chain([Record::EndOfFile])
        .collect();
    let text = ihex::create_object_file_representation(&all).unwrap();
    let error = refused(&write(&folder, "app.hex", text));
    assert_eq!(error.code(), "image.hex_scattered");
    assert!(error.to_string().contains("line 1025"), "{error}");
}
