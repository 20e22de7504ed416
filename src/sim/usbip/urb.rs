//! USB/IP 1.1.1 as bytes, after the import: transfers (URBs) and their answers, after the kernel's
//! `Documentation/usb/usbip_protocol.rst`, whose field names are used here. What they mean is for others. No sockets.

use bytes::{Buf, BufMut, BytesMut};

use super::protocol::{Broken, broken};

const CMD_SUBMIT: u32 = 1;
const CMD_UNLINK: u32 = 2;
const RET_SUBMIT: u32 = 3;
const RET_UNLINK: u32 = 4;
/// Bytes of `usbip_header`, whatever the command.
pub(super) const HEADER: usize = 48;
/// Longest transfer to a board that is taken, in bytes. The serial drivers of Linux send at most 10 KiB at once.
const MAX_TRANSFER: u32 = 64 * 1024;
/// `number_of_packets` where the transfer is not isochronous.
const NOT_ISOCHRONOUS: u32 = 0xffff_ffff;

/// Success.
pub(super) const OK: i32 = 0;
/// `-EPIPE`: the endpoint stalled.
pub(super) const STALL: i32 = -32;
/// `-ECONNRESET`: the URB was unlinked before it was done.
pub(super) const UNLINKED: i32 = -104;

/// What a client asks of an imported device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum UrbRequest {
    /// CMD_SUBMIT.
    Submit(Submit),
    /// CMD_UNLINK.
    Unlink {
        /// Of this request.
        seqnum: u32,
        /// Of the submit that is not wanted any more.
        target: u32,
    },
}

/// One transfer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Submit {
    pub(super) seqnum: u32,
    pub(super) devid: u32,
    /// Endpoint number, without its direction.
    pub(super) endpoint: u8,
    pub(super) is_in: bool,
    /// Bytes that the client sends, or takes at most.
    pub(super) length: u32,
    pub(super) setup: [u8; 8],
    /// What the client sends.
    pub(super) data: Vec<u8>,
}

impl UrbRequest {
    /// Takes a request out of what was received; `None` while it is not whole.
    pub(super) fn take(input: &mut BytesMut) -> Result<Option<Self>, Broken> {
        let Some(&header) = input.first_chunk::<HEADER>() else { return Ok(None) };
        let mut fields = &header[..];
        let [command, seqnum, devid, direction, endpoint] = std::array::from_fn(|_| fields.get_u32());
        match command {
            CMD_UNLINK => {
                input.advance(HEADER);
                Ok(Some(Self::Unlink { seqnum, target: fields.get_u32() }))
            }
            CMD_SUBMIT => {
                let [_flags, length, _start_frame, packets, _interval] =
                    std::array::from_fn(|_| fields.get_u32());
                let is_in = match direction {
                    0 => false,
                    1 => true,
                    other => return broken("direction 0 or 1", other.to_string()),
                };
                let Some(endpoint) = u8::try_from(endpoint).ok().filter(|endpoint| *endpoint < 16) else {
                    return broken("an endpoint from 0 to 15", endpoint.to_string());
                };
                // Older kernels send 0 here.
                if !matches!(packets, 0 | NOT_ISOCHRONOUS) {
                    return broken("no isochronous transfer", format!("one of {packets} packets"));
                }
                let sent = if is_in { 0 } else { length };
                if sent > MAX_TRANSFER {
                    return broken("at most 65536 bytes in a transfer", sent.to_string());
                }
                let end = HEADER + sent as usize;
                if input.len() < end {
                    return Ok(None);
                }
                let setup = fields.first_chunk().copied().unwrap_or_default();
                let data = input.split_to(end).get(HEADER..).unwrap_or_default().to_vec();
                Ok(Some(Self::Submit(Submit { seqnum, devid, endpoint, is_in, length, setup, data })))
            }
            other => broken("CMD_SUBMIT or CMD_UNLINK", format!("{other:#010x}")),
        }
    }
}

/// RET_SUBMIT for a transfer to the device, or one that failed.
pub(super) fn ret_submit(out: &mut BytesMut, seqnum: u32, status: i32, actual_length: u32) {
    ret_header(out, RET_SUBMIT, seqnum, status);
    out.put_u32(actual_length);
    out.put_u32(0); // start_frame
    out.put_u32(NOT_ISOCHRONOUS);
    out.put_u32(0); // error_count
    out.put_bytes(0, 8);
}

/// RET_SUBMIT with what the device sent.
pub(super) fn ret_submit_in(out: &mut BytesMut, seqnum: u32, data: &[u8]) {
    ret_submit(out, seqnum, OK, u32::try_from(data.len()).unwrap_or(u32::MAX));
    out.put_slice(data);
}

/// RET_UNLINK.
pub(super) fn ret_unlink(out: &mut BytesMut, seqnum: u32, status: i32) {
    ret_header(out, RET_UNLINK, seqnum, status);
    out.put_bytes(0, 24);
}

fn ret_header(out: &mut BytesMut, command: u32, seqnum: u32, status: i32) {
    out.put_u32(command);
    out.put_u32(seqnum);
    out.put_bytes(0, 12);
    out.put_i32(status);
}

#[cfg(test)]
mod tests {
    use super::super::protocol::tests::{takes_or_keeps, words};
    use super::*;

    /// The example at the end of the kernel's document.
    #[test]
    fn urbs_as_in_the_kernels_example() {
        let mut input = words(
            "00000001 00000d05 0001000f 00000001 00000001 00000200 00000040 ffffffff 00000000 00000004 00000000 00000000",
            &[],
        );
        // Its start_frame and number_of_packets read 0xffffffff and 0.
        let submit = UrbRequest::take(&mut input).unwrap().unwrap();
        let expected = Submit {
            seqnum: 0xd05,
            devid: 0x0001_000f,
            endpoint: 1,
            is_in: true,
            length: 64,
            setup: [0; 8],
            data: Vec::new(),
        };
        assert_eq!(submit, UrbRequest::Submit(expected));
        assert!(input.is_empty());

        let data = [0xa5; 64];
        let mut input = words(
            "00000001 00000d06 0001000f 00000000 00000001 00000000 00000040 ffffffff 00000000 00000004 00000000 00000000",
            &data,
        );
        let mut part = BytesMut::from(&input[..100]);
        assert_eq!(UrbRequest::take(&mut part), Ok(None));
        let UrbRequest::Submit(submit) = UrbRequest::take(&mut input).unwrap().unwrap() else { panic!() };
        assert_eq!((submit.is_in, &submit.data[..]), (false, &data[..]));
        assert!(input.is_empty());

        let mut out = BytesMut::new();
        ret_submit(&mut out, 0xd06, OK, 64);
        assert_eq!(
            out,
            words(
                "00000003 00000d06 00000000 00000000 00000000 00000000 00000040 00000000 ffffffff 00000000 00000000 00000000",
                &[]
            )
        );
        let mut out = BytesMut::new();
        ret_submit_in(&mut out, 0xd05, b"abc");
        assert_eq!(
            out,
            words(
                "00000003 00000d05 00000000 00000000 00000000 00000000 00000003 00000000 ffffffff 00000000 00000000 00000000",
                b"abc"
            )
        );
    }

    #[test]
    fn unlinks() {
        let mut input = words(
            "00000002 00000d07 0001000f 00000000 00000000 00000d05 00000000 00000000 00000000 00000000 00000000 00000000",
            &[],
        );
        assert_eq!(
            UrbRequest::take(&mut input),
            Ok(Some(UrbRequest::Unlink { seqnum: 0xd07, target: 0xd05 }))
        );
        assert!(input.is_empty());
        let mut out = BytesMut::new();
        ret_unlink(&mut out, 0xd07, UNLINKED);
        assert_eq!(out, words("00000004 00000d07 00000000 00000000 00000000 ffffff98", &[0; 24]));
    }

    #[test]
    fn what_is_no_transfer_is_told() {
        let urb = |start: &str| UrbRequest::take(&mut words(start, &[0; 48])).unwrap_err().to_string();
        assert!(urb("00000005").contains("got 0x00000005"));
        assert!(urb("00000001 00000001 00000000 00000002").contains("direction 0 or 1"));
        assert!(
            urb("00000001 00000001 00000000 00000000 00000010").contains("an endpoint from 0 to 15, got 16")
        );
        let to = "00000001 00000001 00000000 00000000 00000001 00000000";
        assert!(urb(&format!("{to} 00010001")).contains("at most 65536 bytes in a transfer, got 65537"));
        assert!(urb(&format!("{to} 00000001 00000000 00000008")).contains("no isochronous transfer"));
    }

    proptest::proptest! {
        #[test]
        fn any_bytes_are_read_or_refused(
            start in 0_usize..3,
            bytes in proptest::collection::vec(proptest::num::u8::ANY, 0..600),
        ) {
            let starts = ["", "00000001", "00000002"];
            let input = words(starts[start], &bytes);
            takes_or_keeps(&input, UrbRequest::take);
        }
    }
}
