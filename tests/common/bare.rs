//! How a Zephyr server with raw framing finds back into step: what is sent, and what the real one (native_sim `serial_raw`,
//! Zephyr 4.4) answered. Shared by the tests of the simulator and of the real server.

/// Bytes in hexadecimal, and the silence before them in milliseconds.
pub(crate) type Sent = (u64, &'static str);

/// Answer to a read of the parameters in version 2 with sequence number 0x42: `{buf_size: 384, buf_count: 4}`.
pub(crate) const PARAMS: &str = "0900001900004206bf686275665f73697a65190180696275665f636f756e7404ff";
/// Answer to command 0 of group 8, which this server does not have: `{rc: 8}`.
pub(crate) const MISREAD: &str = "0900000600080000bf62726308ff";

/// What is sent, each after a silence in which the server gives up what came before, and what is answered.
pub(crate) const SCENARIOS: [(&str, &[Sent], &str); 9] = [
    ("a message", &[(0, "0800000100004206a0")], PARAMS),
    ("a message in pieces", &[(0, "0800"), (400, "000100"), (400, "004206a0")], PARAMS),
    // 08 00 00 01 00, 08 00 00 is a header of group 8; the 01 behind it is its payload.
    ("half a header, too soon", &[(0, "0800000100"), (2500, "0800000100004206a0")], MISREAD),
    ("half a header, given up", &[(0, "0800000100"), (3500, "0800000100004206a0")], PARAMS),
    (
        "the time counts from the first byte",
        &[(0, "080000"), (1200, "00"), (1200, "00"), (1200, "0800000100004206a0")],
        PARAMS,
    ),
    (
        "and from no earlier one",
        &[(0, "080000"), (800, "00"), (800, "00"), (800, "0800000100004206a0")],
        MISREAD,
    ),
    // Operations from 4, and lengths beyond the buffer: dropped, eight bytes at a time.
    ("no headers", &[(0, "0700000000000000"), (0, "0800ffff00000000"), (0, "0800000100004206a0")], PARAMS),
    (
        "console framing and its filling",
        &[
            (0, "060941417341414141424141444642714358"),
            (0, "36773d3d0a070707070707070707"),
            (0, "0800000100004206a0"),
        ],
        PARAMS,
    ),
    (
        "COBS with what is around it",
        &[(0, "070001010102010106c506a097eb0000"), (0, "0800000100004206a0")],
        PARAMS,
    ),
];
