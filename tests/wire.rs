//! Golden bytes: every message of the OS and image groups as it lies on the wire, in both protocol versions, and both
//! forms of error. Requests are written out by hand from `smp_protocol.rst` and RFC 8949. Answers named "recorded" are
//! what Zephyr 4.4 (`bf … ff`, maps of indefinite length) sent; the others follow MCUboot's `boot_serial.c`.

use std::time::Duration;

use flashfleet::cause::{Cause, Class};
use flashfleet::smp::errors::{DeviceError, error_name};
use flashfleet::smp::message::image::{
    Erase, ImageSlot, ImageState, ListImages, SetState, SlotInfo, SlotInfoImage, SlotInfoSlot, UploadChunk,
    UploadResponse,
};
use flashfleet::smp::message::os::{
    BootloaderInfo, BootloaderInfoResponse, Echo, EchoResponse, Empty, Params, ParamsResponse, Reset,
};
use flashfleet::smp::message::{DecodeError, Repeat, Request, decode_response};
use flashfleet::smp::{Header, HeaderError, Op, RawRequest, RequestId, Version, cobs, console, group, raw};

/// Bytes from hexadecimal text; blanks are for the reader.
fn bytes(text: &str) -> Vec<u8> {
    hex::decode(text.replace([' ', '\n'], "")).expect("the test's own hexadecimal is sound")
}

/// The request in version 1 and 2, with sequence number 0x42: `body` follows `rest` of the header.
#[track_caller]
fn assert_request<R: Request>(request: &R, op: u8, rest: &str, body: &str) {
    let raw = RawRequest::new(request).expect("a request that can be encoded");
    let tail = [bytes(rest), bytes(body)].concat();
    let v1 = raw.clone().with_version(Version::V1).encode(0x42);
    assert_eq!(hex::encode(v1), hex::encode([&[op][..], &tail].concat()), "version 1");
    // Bit 3 of the first byte is version 2.
    let v2 = raw.encode(0x42);
    assert_eq!(hex::encode(&v2), hex::encode([&[op | 0x08][..], &tail].concat()), "version 2");
    assert_eq!(raw.message_len(), v2.len());
}

/// What a whole message holds as the answer to `R`.
fn answer<R: Request>(message: &str) -> Result<R::Response, DecodeError> {
    let message = bytes(message);
    let (header, payload) = Header::split(&message).expect("a whole message");
    assert_eq!((header.op, header.group, header.command), (R::OP.response(), R::GROUP, R::COMMAND));
    decode_response(payload)
}

const STOCK: &str = "1baa222074cc805faf4e09846d2377886b1e5ef7cfccd9eac1554d82d9aa9d5a";
const NEW: &str = "9b5b729fef644669ae05bebe7491a649cf3b6c58af57dbc8d787a5ab332e7e3e";

#[test]
fn header_has_every_field_in_its_place() {
    let header = Header {
        op: Op::WriteResponse,
        version: Version::V2,
        flags: 0x5a,
        length: 0x1234,
        group: 0xabcd,
        sequence: 0xef,
        command: 0x99,
    };
    //                        op 3 | version 1 << 3, flags, length, group, sequence, command
    assert_eq!(hex::encode(header.encode()), "0b 5a 1234 abcd ef 99".replace(' ', ""));
    assert_eq!(Header::decode(&header.encode()), Ok(header));
    let v1 = Header { version: Version::V1, op: Op::Read, ..header };
    assert_eq!(hex::encode(v1.encode()), "00 5a 1234 abcd ef 99".replace(' ', ""));
}

#[test]
fn header_that_is_no_header_is_refused() {
    assert_eq!(Header::decode(&bytes("0a000000000000")), Err(HeaderError::Short(7)));
    assert_eq!(Header::decode(&bytes("0c00000000000000")), Err(HeaderError::Op(4)));
    // 0b10 and 0b11 are reserved.
    assert_eq!(Header::decode(&bytes("1000000000000000")), Err(HeaderError::Version(2)));
    assert_eq!(Header::decode(&bytes("1800000000000000")), Err(HeaderError::Version(3)));
}

#[test]
fn header_and_payload_must_agree_on_the_length() {
    let short = bytes("0b000002 0000 01 00 bf");
    assert_eq!(Header::split(&short), Err(HeaderError::Length { expected: 2, actual: 1 }));
    let left_over = bytes("0b000002 0000 01 00 bfff 00");
    assert_eq!(Header::split(&left_over), Err(HeaderError::Length { expected: 2, actual: 3 }));
}

#[test]
fn echo() {
    //                                                  length group seq command
    assert_request(&Echo { d: "hello".to_owned() }, 2, "00 0009 0000 42 00", "a1 6164 6568656c6c6f");
    let hello = EchoResponse { r: "hello".to_owned() };
    // Recorded.
    assert_eq!(answer::<Echo>("0300000a00000100 bf61726568656c6c6fff"), Ok(hello.clone()));
    assert_eq!(answer::<Echo>("0b00000a00000200 bf61726568656c6c6fff"), Ok(hello));
}

#[test]
fn reset() {
    assert_request(&Reset::default(), 2, "00 0001 0000 42 05", "a0");
    let force = Reset { force: Some(true), boot_mode: Some(1) };
    //                                                a2 "force" true "boot_mode" 1
    assert_request(&force, 2, "00 0013 0000 42 05", "a2 65666f726365 f5 69626f6f745f6d6f6465 01");
    assert_eq!(Reset::REPEAT, Repeat::Once, "a second reset during a test boot reverts the update");
    assert_eq!(answer::<Reset>("0b00000200008b05 bfff"), Ok(Empty {})); // recorded
    assert_eq!(answer::<Reset>("0300000600000105 bf62726300ff"), Ok(Empty {})); // MCUboot: rc 0 is success
    assert_eq!(answer::<Reset>("0b00000000000105"), Ok(Empty {})); // data is optional
}

#[test]
fn params() {
    assert_request(&Params {}, 0, "00 0001 0000 42 06", "a0");
    let params = ParamsResponse { buf_size: 384, buf_count: 4 };
    // Recorded: "buf_size" 0x0180, "buf_count" 4.
    let body = "bf 686275665f73697a65 190180 696275665f636f756e74 04 ff";
    assert_eq!(answer::<Params>(&format!("0100001900000906{body}")), Ok(params.clone()));
    assert_eq!(answer::<Params>(&format!("0900001900000a06{body}")), Ok(params));
}

#[test]
fn bootloader_info() {
    assert_request(&BootloaderInfo::default(), 0, "00 0001 0000 42 08", "a0");
    let mode = BootloaderInfo { query: Some("mode".to_owned()) };
    assert_request(&mode, 0, "00 000c 0000 42 08", "a1 657175657279 646d6f6465");
    // {"bootloader": "MCUboot"}
    let name = answer::<BootloaderInfo>("0900001500000108 bf 6a626f6f746c6f61646572 674d4355626f6f74 ff");
    let expected = BootloaderInfoResponse {
        bootloader: Some("MCUboot".to_owned()),
        ..BootloaderInfoResponse::default()
    };
    assert_eq!(name, Ok(expected));
    // {"mode": 3, "no-downgrade": true}, and mode -1, unknown
    let mode = answer::<BootloaderInfo>("0900001600000108 bf 646d6f6465 03 6c6e6f2d646f776e6772616465 f5 ff");
    let expected = BootloaderInfoResponse { mode: Some(3), no_downgrade: Some(true), ..Default::default() };
    assert_eq!(mode, Ok(expected));
    let unknown = answer::<BootloaderInfo>("0900000800000108 bf 646d6f6465 20 ff");
    assert_eq!(unknown, Ok(BootloaderInfoResponse { mode: Some(-1), ..Default::default() }));
}

#[test]
fn image_list() {
    assert_request(&ListImages {}, 0, "00 0001 0001 42 00", "a0");
    let slot = |slot: u32, version: &str, hash: &str| ImageSlot {
        slot,
        version: version.to_owned(),
        hash: Some(bytes(hash)),
        bootable: true,
        ..ImageSlot::default()
    };
    let images = vec![
        ImageSlot { confirmed: true, active: true, ..slot(0, "0.0.0", STOCK) },
        ImageSlot { pending: true, ..slot(1, "2.1.3.4", NEW) },
    ];
    let expected = ImageState { images, split_status: Some(0) };
    // Recorded, with an update waiting for the reset.
    let flags = |pending, confirmed, active, permanent| {
        format!(
            "68626f6f7461626c65 f5 6770656e64696e67 {pending} 69636f6e6669726d6564 {confirmed} \
             66616374697665 {active} 697065726d616e656e74 {permanent} ff"
        )
    };
    let body = format!(
        "bf 66696d61676573 9f \
            bf 64736c6f74 00 6776657273696f6e 65302e302e30 6468617368 5820{STOCK} {} \
            bf 64736c6f74 01 6776657273696f6e 67322e312e332e34 6468617368 5820{NEW} {} \
         ff 6b73706c6974537461747573 00 ff",
        flags("f4", "f5", "f5", "f4"),
        flags("f5", "f4", "f4", "f4"),
    );
    assert_eq!(answer::<ListImages>(&format!("010000f600018900{body}")), Ok(expected.clone()));
    assert_eq!(answer::<ListImages>(&format!("090000f600018a00{body}")), Ok(expected.clone()));
    assert_eq!(answer::<SetState>(&format!("0b0000f600018800{body}")), Ok(expected));
}

#[test]
fn image_list_in_its_shortest_form() {
    // MCUboot's recovery without hashes: {"images": [{"slot": 0, "version": "1.2.3"}]}
    let list = answer::<ListImages>(
        "0900002100010100 bf 66696d61676573 9f bf 64736c6f74 00 6776657273696f6e 65312e322e33 ff ff ff",
    );
    let images = vec![ImageSlot { version: "1.2.3".to_owned(), ..ImageSlot::default() }];
    assert_eq!(list, Ok(ImageState { images, split_status: None }));
    // A device without a valid image: {"images": []}
    let none = answer::<ListImages>("0900000b00010100 bf 66696d61676573 9f ff ff");
    assert_eq!(none, Ok(ImageState::default()));
}

#[test]
fn set_state() {
    let test = SetState { hash: Some(bytes(NEW)), confirm: false };
    let body = format!("a2 6468617368 5820{NEW} 67636f6e6669726d f4");
    assert_request(&test, 2, "00 0031 0001 42 00", &body);
    assert_request(
        &SetState { hash: None, confirm: true },
        2,
        "00 000a 0001 42 00",
        "a1 67636f6e6669726d f5",
    );
}

#[test]
fn upload_chunks() {
    let sha = [0x5a; 32];
    let first = UploadChunk {
        image: Some(1),
        len: Some(0x1234_5678),
        off: 0,
        sha: Some(&sha),
        data: &[0x3d, 0xb8, 0xf3, 0x96],
        upgrade: Some(true),
    };
    let body = format!(
        "a6 65696d616765 01 636c656e 1a12345678 636f6666 00 63736861 5820{} 6464617461 443db8f396 \
         6775706772616465 f5",
        "5a".repeat(32)
    );
    assert_request(&first, 2, "00 004f 0001 42 01", &body);
    let middle = UploadChunk { off: 0x1_0000, data: &[0xff; 24], ..UploadChunk::default() };
    // A byte string of 24 bytes needs a second byte for its length.
    let body = format!("a2 636f6666 1a00010000 6464617461 5818{}", "ff".repeat(24));
    assert_request(&middle, 2, "00 0029 0001 42 01", &body);
    // Recorded: "off" 0x80; MCUboot: rc 0 besides.
    let at = |off, matches| Ok(UploadResponse { off: Some(off), matches });
    assert_eq!(answer::<UploadChunk<'_>>("0b00000800010101 bf 636f6666 1880 ff"), at(0x80, None));
    assert_eq!(answer::<UploadChunk<'_>>("0300000c00010101 bf 627263 00 636f6666 1880 ff"), at(0x80, None));
    assert_eq!(
        answer::<UploadChunk<'_>>("0b00000f00010101 bf 636f6666 1880 656d61746368 f4 ff"),
        at(0x80, Some(false))
    );
    assert_eq!(
        answer::<UploadChunk<'_>>("0b00000200010101 bfff"),
        Ok(UploadResponse { off: None, matches: None })
    );
}

#[test]
fn erase() {
    assert_request(&Erase::default(), 2, "00 0001 0001 42 05", "a0");
    assert_request(&Erase { slot: Some(3) }, 2, "00 0007 0001 42 05", "a1 64736c6f74 03");
    assert_eq!(answer::<Erase>("0b00000200012f05 bfff"), Ok(Empty {})); // recorded
}

#[test]
fn slot_info() {
    assert_request(&SlotInfo {}, 0, "00 0001 0001 42 06", "a0");
    let slots = vec![
        SlotInfoSlot { slot: 0, size: Some(0x1_a000), rc: None, upload_image_id: None },
        SlotInfoSlot { slot: 1, size: Some(0x1_a000), rc: None, upload_image_id: Some(0) },
    ];
    // Recorded.
    let body = "bf 66696d61676573 9f bf 65696d616765 00 65736c6f7473 9f \
                bf 64736c6f74 00 6473697a65 1a0001a000 ff \
                bf 64736c6f74 01 6473697a65 1a0001a000 6f75706c6f61645f696d6167655f6964 00 ff \
                ff ff ff ff";
    let expected = vec![SlotInfoImage { image: 0, slots, max_image_size: None }];
    assert_eq!(
        answer::<SlotInfo>(&format!("0100005100011906{body}")).map(|info| info.images),
        Ok(expected.clone())
    );
    assert_eq!(answer::<SlotInfo>(&format!("0900005100011a06{body}")).map(|info| info.images), Ok(expected));
    // A slot that could not be read, and the limit that MCUboot's shared data tells:
    // {"images": [{"image": 1, "slots": [{"slot": 0, "rc": -5}], "max_image_size": 1000}]}
    let body = "bf 66696d61676573 9f bf 65696d616765 01 65736c6f7473 9f bf 64736c6f74 00 627263 24 ff ff \
                6e6d61785f696d6167655f73697a65 1903e8 ff ff ff";
    let slots = vec![SlotInfoSlot { slot: 0, size: None, rc: Some(-5), upload_image_id: None }];
    let expected = vec![SlotInfoImage { image: 1, slots, max_image_size: Some(1000) }];
    assert_eq!(answer::<SlotInfo>(&format!("0900003a00011a06{body}")).map(|info| info.images), Ok(expected));
}

/// The error in an answer to a set of an image's state.
fn refusal(message: &str) -> DeviceError {
    match answer::<SetState>(message) {
        Err(DecodeError::Device(error)) => error,
        other => panic!("expected the device's no, got {other:?}"),
    }
}

#[test]
fn errors_in_both_forms() {
    // Recorded: {"rc": 6}, in version 1.
    let v1 = refusal("0300000600012d00 bf 627263 06 ff");
    assert_eq!(v1, DeviceError { group: None, rc: 6, reason: None });
    assert_eq!(v1.code(), "smp.mgmt.bad_state");
    // Recorded: {"err": {"group": 1, "rc": 28}}, in version 2.
    let v2 = refusal("0b00001400012e00 bf 63657272 bf 6567726f7570 01 627263 181c ff ff");
    assert_eq!(v2, DeviceError { group: Some(1), rc: 28, reason: None });
    assert_eq!(v2.code(), "smp.img_mgmt.image_already_pending");
    // Recorded: errors of SMP itself keep the form of version 1 in version 2.
    let smp = refusal("0b00000600010100 bf 627263 08 ff");
    assert_eq!(smp.code(), "smp.mgmt.not_supported");
    assert!(smp.is_not_supported());
    // {"rc": 1, "rsn": "img too large"}
    let reason = refusal("0300001800010100 bf 627263 01 6372736e 6d696d6720746f6f206c61726765 ff");
    assert_eq!(reason.reason.as_deref(), Some("img too large"));
    assert_eq!((reason.code().as_str(), reason.class()), ("smp.mgmt.unknown", Class::Image));
    // Negative numbers occur: {"rc": -5}
    assert_eq!(refusal("0300000600010100 bf 627263 24 ff").code(), "smp.mgmt.rc-5");
    // {"err": {"group": 64, "rc": 3}}
    let own = refusal("0b00001400010100 bf 63657272 bf 6567726f7570 1840 627263 03 ff ff");
    assert_eq!(own.code(), "smp.group64.rc3");
}

#[test]
fn error_zero_is_success() {
    // {"images": [], "rc": 0} and {"err": {"group": 1, "rc": 0}, "images": []}
    assert!(answer::<SetState>("0b00000f00010100 bf 66696d61676573 9fff 627263 00 ff").is_ok());
    assert!(
        answer::<SetState>(
            "0b00001c00010100 bf 63657272 bf 6567726f7570 01 627263 00 ff 66696d61676573 9fff ff"
        )
        .is_ok()
    );
}

#[test]
fn error_that_cannot_be_read_is_no_success() {
    let malformed = |message: &str| {
        let result = answer::<Reset>(message);
        assert!(matches!(result, Err(DecodeError::Malformed(_))), "{message}: {result:?}");
    };
    malformed("0b00000800000105 bf 63657272 bf ff ff"); // {"err": {}}
    malformed("0b00000700000105 bf 63657272 03 ff"); // {"err": 3}
    malformed("0b00000f00000105 bf 63657272 bf 6567726f7570 01 ff ff"); // {"err": {"group": 1}}
    malformed("0b00000c00000105 bf 63657272 bf 627263 03 ff ff"); // {"err": {"rc": 3}}
    malformed("0b00000700000105 bf 627263 6136 ff"); // {"rc": "6"}
}

#[test]
fn answer_that_is_not_a_map_of_the_fields_is_malformed() {
    let malformed = |payload: &str| {
        let result = decode_response::<EchoResponse>(&bytes(payload));
        assert!(matches!(result, Err(DecodeError::Malformed(_))), "{payload}: {result:?}");
    };
    malformed("81 6161"); // ["a"]: a list of the fields is not the map of them
    malformed("a0"); // without "r"
    malformed("a1 6172 07"); // "r" that is a number
    malformed("a1 6172 65 6865"); // cut short
    malformed("ff"); // no CBOR
    malformed("bb ffffffffffffffff"); // a map of 2^64 - 1 pairs
    malformed("a1 6172 7b ffffffffffffffff 61"); // a text of 2^64 - 1 bytes
    malformed(&"81".repeat(10_000)); // lists in lists
}

#[test]
fn bytes_left_over_are_an_error() {
    assert_eq!(
        decode_response::<EchoResponse>(&bytes("a1 6172 6161 00")),
        Err(DecodeError::Trailing { consumed: 5, total: 6 })
    );
    // Also after an error.
    assert_eq!(
        decode_response::<EchoResponse>(&bytes("a1 627263 08 f6")),
        Err(DecodeError::Trailing { consumed: 5, total: 6 })
    );
}

#[test]
fn unknown_fields_are_passed_over() {
    // {"r": "a", "x": [1, {}]}
    let response = decode_response::<EchoResponse>(&bytes("bf 6172 6161 6178 8201a0 ff"));
    assert_eq!(response, Ok(EchoResponse { r: "a".to_owned() }));
}

#[test]
fn numbers_have_the_specification_s_names() {
    // The last number of each enumerator, so that one left out or doubled shows.
    for (group, rc, name) in [
        (None, 1, "unknown"),
        (None, 10, "busy"),
        (None, 13, "unsupported_too_new"),
        (Some(group::OS), 6, "query_response_value_not_valid"),
        (Some(group::IMAGE), 3, "no_image"),
        (Some(group::IMAGE), 8, "hash_not_found"),
        (Some(group::IMAGE), 9, "no_free_slot"),
        (Some(group::IMAGE), 13, "flash_erase_failed"),
        (Some(group::IMAGE), 22, "invalid_image_header"),
        (Some(group::IMAGE), 25, "invalid_flash_address"),
        (Some(group::IMAGE), 27, "current_version_is_newer"),
        (Some(group::IMAGE), 30, "invalid_image_too_large"),
        (Some(group::IMAGE), 34, "active_slot_not_known"),
        (Some(group::STAT), 5, "walk_aborted"),
        (Some(group::SETTINGS), 8, "save_not_supported"),
        (Some(group::FS), 11, "file_offset_not_valid"),
        (Some(group::FS), 16, "file_empty"),
        (Some(group::SHELL), 3, "empty_command"),
        (Some(group::ENUM), 4, "index_too_large"),
        (Some(group::ZEPHYR), 4, "flash_erase_failed"),
    ] {
        assert_eq!(error_name(group, rc), Some(name), "error {rc} of {group:?}");
    }
    for (group, rc) in
        [(None, 14), (None, 256), (Some(group::IMAGE), 35), (Some(group::SHELL), 4), (Some(64), 1)]
    {
        assert_eq!(error_name(group, rc), None, "error {rc} of {group:?}");
    }
}

#[test]
fn cause_of_a_refusal_names_request_number_name_and_reason() {
    let error = DeviceError { group: Some(1), rc: 9, reason: Some("no\u{1b}[31m slot".to_owned()) };
    let cause = error.to_cause(RequestId::of::<UploadChunk<'_>>());
    assert_eq!(cause.class, Class::Device);
    assert_eq!(cause.code, "smp.img_mgmt.no_free_slot");
    assert_eq!(
        cause.message,
        "expected success of image upload, the device answered with error 9 of group 1 (img_mgmt): no_free_slot, \
         saying \"no[31m slot\""
    );
    assert!(cause.help.contains("confirm the running image"), "{}", cause.help);
    // No error is without advice.
    for group in [None, Some(0), Some(1), Some(2), Some(3), Some(8), Some(9), Some(10), Some(63), Some(64)] {
        for rc in -1..300 {
            let error = DeviceError { group, rc, reason: None };
            let cause: Cause = error.to_cause(RequestId::of::<Reset>());
            assert!(!cause.help.is_empty() && cause.code.starts_with("smp."), "{cause:?}");
        }
    }
}

#[test]
fn console_lines() {
    // "123456789" has CRC-16/XMODEM 31c3; the length 11 counts the CRC.
    // 000b 313233343536373839 31c3
    assert_eq!(console::encode(b"123456789", 128), b"\x06\x09AAsxMjM0NTY3ODkxww==\n");
    // Lines of 11 bytes: marker, two quanta, newline.
    assert_eq!(console::encode(b"123456789", 11), b"\x06\x09AAsxMjM0\n\x04\x14NTY3ODkx\n\x04\x14ww==\n");
    // 128 bytes of line carry 93 bytes of packet (`serial_util.c`, `max_input`); the CRC is 4 bytes of overhead with the length.
    let lines = console::encode(&[0xaa; 90], 128);
    let lengths: Vec<usize> = lines.split_inclusive(|byte| *byte == b'\n').map(<[u8]>::len).collect();
    assert_eq!(lengths, [127, 7]);
    assert_eq!(console::encoded_len(90, 128), 134);
}

/// What MCUboot's recovery (`BOOT_SERIAL_RAW_PROTOCOL_COBS`) took and answered: read of the parameters, version 1.
#[test]
fn cobs_frames() {
    let request = hex::decode("0000000100008506a0").unwrap();
    let frame = cobs::encode(&request);
    assert_eq!(frame[..10], hex::decode("010101020101068506a0").unwrap());
    assert_eq!((frame.len(), frame.last()), (13, Some(&0)));
    let answer =
        hex::decode("0201010219010f8506bf686275665f73697a6519040f696275665f636f756e7401ffcf2e00").unwrap();
    let message = cobs::Decoder::new().push(&answer);
    // The same in bare form: `{buf_size: 1024, buf_count: 1}`, an indefinite map.
    let bare = hex::decode("0100001900008506bf686275665f73697a65190400696275665f636f756e7401ff").unwrap();
    assert_eq!(message, std::slice::from_ref(&bare));
    assert_eq!(cobs::encode(&bare), answer);
    // Bare is all that raw framing is.
    assert_eq!(raw::Decoder::new().push(Duration::ZERO, &bare), [bare]);
}

/// The parts of a transcript (`tests/data/transcripts/README.md`) that this test reads.
#[derive(serde::Deserialize)]
struct Transcript {
    exchanges: Vec<RecordedExchange>,
}

#[derive(serde::Deserialize)]
struct RecordedExchange {
    #[serde(default)]
    request: String,
    #[serde(default)]
    responses: Vec<String>,
}

/// Success, the device's no, or `None` for an answer whose fields this crate has no type for.
fn judge(header: &Header, payload: &[u8]) -> Option<Result<(), DecodeError>> {
    fn is<R: Request>(payload: &[u8]) -> Option<Result<(), DecodeError>> {
        Some(decode_response::<R::Response>(payload).map(drop))
    }
    match (header.group, header.command) {
        (group::OS, 0) => is::<Echo>(payload),
        (group::OS, 5) => is::<Reset>(payload),
        (group::OS, 6) => is::<Params>(payload),
        (group::OS, 8) => is::<BootloaderInfo>(payload),
        (group::IMAGE, 0) => is::<ListImages>(payload),
        (group::IMAGE, 1) => is::<UploadChunk<'_>>(payload),
        (group::IMAGE, 5) => is::<Erase>(payload),
        (group::IMAGE, 6) => is::<SlotInfo>(payload),
        _ => None,
    }
}

#[test]
fn every_recorded_answer_can_be_read() {
    let (mut successes, mut refusals) = (0, 0);
    for file in glob::glob("tests/data/transcripts/*.json").expect("a pattern") {
        let text = std::fs::read_to_string(file.expect("a file")).expect("a transcript");
        let transcript: Transcript = serde_json::from_str(&text).expect("a transcript");
        for exchange in transcript.exchanges {
            for response in exchange.responses {
                let message = bytes(&response);
                let (header, payload) = Header::split(&message).expect("a whole message");
                // Some requests are none on purpose: half a header, a version that does not exist.
                let Ok(request) = Header::decode(&bytes(&exchange.request)) else { continue };
                assert_eq!(
                    (header.op, header.group, header.sequence, header.command),
                    (request.op.response(), request.group, request.sequence, request.command),
                );
                match judge(&header, payload) {
                    Some(Ok(())) => successes += 1,
                    Some(Err(DecodeError::Device(error))) => {
                        assert!(error.name().is_some(), "{error}");
                        refusals += 1;
                    }
                    Some(Err(error)) => panic!("{response} answers {}: {error}", exchange.request),
                    None => {}
                }
            }
        }
    }
    assert!(successes > 100 && refusals > 100, "{successes} successes and {refusals} refusals were read");
}
