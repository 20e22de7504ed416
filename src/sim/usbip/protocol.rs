//! USB/IP 1.1.1 as bytes, after the kernel's `Documentation/usb/usbip_protocol.rst`, whose field names are used here. What
//! is read is checked; what it means is for others. No sockets.

use bytes::{Buf, BufMut, BytesMut};

use super::spec::UsbId;

/// 1.1.1 ("Protocol Version").
const VERSION: u16 = 0x0111;
/// Port of USB/IP servers (IANA, `usbip`).
pub const PORT: u16 = 3240;

const OP_REQ_DEVLIST: u16 = 0x8005;
const OP_REP_DEVLIST: u16 = 0x0005;
const OP_REQ_IMPORT: u16 = 0x8003;
const OP_REP_IMPORT: u16 = 0x0003;
/// Bytes of version, code and status.
const OP_HEADER: usize = 8;
const PATH: usize = 256;
const BUS_ID: usize = 32;
/// Bytes of a device in a reply, without its interfaces.
const RECORD: usize = PATH + BUS_ID + 3 * 4 + 3 * 2 + 6;
/// Bytes of an interface in a reply.
const INTERFACE: usize = 4;
/// Most devices that a list may have: more than a bus can.
const MAX_DEVICES: u32 = 4096;

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

/// The other side does not speak this protocol.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("expected {expected}, got {actual}")]
pub(super) struct Broken {
    expected: &'static str,
    actual: String,
}

fn broken<T>(expected: &'static str, actual: impl Into<String>) -> Result<T, Broken> {
    Err(Broken { expected, actual: actual.into() })
}

/// What a client asks before a device is imported.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum OpRequest {
    /// Which devices there are.
    DevList,
    /// For the device with this bus id; from then on the connection carries its URBs.
    Import(String),
}

impl OpRequest {
    /// Takes a request out of what was received; `None` while it is not whole.
    pub(super) fn take(input: &mut BytesMut) -> Result<Option<Self>, Broken> {
        let mut head = &input[..];
        let (Ok(version), Ok(code), Ok(_)) = (head.try_get_u16(), head.try_get_u16(), head.try_get_u32())
        else {
            return Ok(None);
        };
        if version != VERSION {
            return broken("version 0x0111", format!("{version:#06x}"));
        }
        match code {
            OP_REQ_DEVLIST => {
                input.advance(OP_HEADER);
                Ok(Some(Self::DevList))
            }
            OP_REQ_IMPORT => {
                let Some(busid) = head.get(..BUS_ID) else { return Ok(None) };
                let busid = text(busid);
                input.advance(OP_HEADER + BUS_ID);
                Ok(Some(Self::Import(busid)))
            }
            code => broken("OP_REQ_DEVLIST or OP_REQ_IMPORT", format!("{code:#06x}")),
        }
    }

    pub(super) fn encode(&self) -> Vec<u8> {
        let mut out = Vec::new();
        match self {
            Self::DevList => op_header(&mut out, OP_REQ_DEVLIST, 0),
            Self::Import(busid) => {
                op_header(&mut out, OP_REQ_IMPORT, 0);
                put_text(&mut out, busid, BUS_ID);
            }
        }
        out
    }
}

/// A device as replies describe it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct DeviceRecord {
    pub(super) path: String,
    pub(super) busid: String,
    pub(super) busnum: u32,
    pub(super) devnum: u32,
    /// `enum usb_device_speed` of `include/uapi/linux/usb/ch9.h`.
    pub(super) speed: u32,
    pub(super) id: UsbId,
    /// `bcdDevice`.
    pub(super) release: u16,
    /// Class, subclass, protocol.
    pub(super) class: [u8; 3],
    pub(super) configuration: u8,
    pub(super) configurations: u8,
    /// Class, subclass, protocol of each; not in the reply to an import.
    pub(super) interfaces: Vec<[u8; 3]>,
}

impl DeviceRecord {
    /// What URBs name the device by.
    pub(super) fn devid(&self) -> u32 {
        (self.busnum << 16) | self.devnum
    }

    fn put(&self, out: &mut Vec<u8>) {
        put_text(out, &self.path, PATH);
        put_text(out, &self.busid, BUS_ID);
        for number in [self.busnum, self.devnum, self.speed] {
            out.put_u32(number);
        }
        for number in [self.id.vid, self.id.pid, self.release] {
            out.put_u16(number);
        }
        out.put_slice(&self.class);
        let interfaces = u8::try_from(self.interfaces.len()).unwrap_or(u8::MAX);
        out.put_slice(&[self.configuration, self.configurations, interfaces]);
    }

    /// Reads a record; gives it and how many interfaces may follow. `None` while it is not whole.
    fn read(input: &mut &[u8]) -> Option<(Self, usize)> {
        let (mut record, rest) = input.split_at_checked(RECORD)?;
        *input = rest;
        let (path, rest) = record.split_at_checked(PATH)?;
        let (busid, rest) = rest.split_at_checked(BUS_ID)?;
        record = rest;
        let busnum = record.try_get_u32().ok()?;
        let devnum = record.try_get_u32().ok()?;
        let speed = record.try_get_u32().ok()?;
        let id = UsbId { vid: record.try_get_u16().ok()?, pid: record.try_get_u16().ok()? };
        let release = record.try_get_u16().ok()?;
        let &[c0, c1, c2, configuration, configurations, interfaces] = record.first_chunk()?;
        let record = Self {
            path: text(path),
            busid: text(busid),
            busnum,
            devnum,
            speed,
            id,
            release,
            class: [c0, c1, c2],
            configuration,
            configurations,
            interfaces: Vec::new(),
        };
        Some((record, interfaces.into()))
    }
}

/// OP_REP_DEVLIST.
pub(super) fn devlist_reply(records: &[DeviceRecord]) -> Vec<u8> {
    let mut out = Vec::new();
    op_header(&mut out, OP_REP_DEVLIST, 0);
    out.put_u32(u32::try_from(records.len()).unwrap_or(u32::MAX));
    for record in records {
        record.put(&mut out);
        for interface in &record.interfaces {
            out.put_slice(interface);
            out.put_u8(0);
        }
    }
    out
}

/// OP_REP_IMPORT; without a device it says that there is none to be had.
pub(super) fn import_reply(record: Option<&DeviceRecord>) -> Vec<u8> {
    let mut out = Vec::new();
    op_header(&mut out, OP_REP_IMPORT, u32::from(record.is_none()));
    if let Some(record) = record {
        record.put(&mut out);
    }
    out
}

/// Takes OP_REP_DEVLIST out of what was received; `None` while it is not whole.
pub(super) fn take_devlist(input: &mut BytesMut) -> Result<Option<Vec<DeviceRecord>>, Broken> {
    let mut rest = &input[..];
    if reply_status(&mut rest, OP_REP_DEVLIST)?.is_none() {
        return Ok(None);
    }
    let Ok(count) = rest.try_get_u32() else { return Ok(None) };
    if count > MAX_DEVICES {
        return broken("at most 4096 devices", count.to_string());
    }
    let mut records = Vec::new();
    for _ in 0..count {
        let Some((mut record, interfaces)) = DeviceRecord::read(&mut rest) else { return Ok(None) };
        let Some((list, after)) = rest.split_at_checked(interfaces * INTERFACE) else { return Ok(None) };
        rest = after;
        record.interfaces = list.chunks_exact(INTERFACE).filter_map(|it| it.first_chunk().copied()).collect();
        records.push(record);
    }
    let used = input.len() - rest.len();
    input.advance(used);
    Ok(Some(records))
}

/// Takes OP_REP_IMPORT out of what was received; `None` while it is not whole, `Some(None)` for a refusal.
pub(super) fn take_import(input: &mut BytesMut) -> Result<Option<Option<DeviceRecord>>, Broken> {
    let mut rest = &input[..];
    match reply_status(&mut rest, OP_REP_IMPORT)? {
        None => return Ok(None),
        Some(0) => {}
        Some(_) => {
            input.advance(OP_HEADER);
            return Ok(Some(None));
        }
    }
    let Some((record, _)) = DeviceRecord::read(&mut rest) else { return Ok(None) };
    let used = input.len() - rest.len();
    input.advance(used);
    Ok(Some(Some(record)))
}

fn op_header(out: &mut Vec<u8>, code: u16, status: u32) {
    out.put_u16(VERSION);
    out.put_u16(code);
    out.put_u32(status);
}

/// The status of a reply; `None` while its header is not whole.
fn reply_status(rest: &mut &[u8], code: u16) -> Result<Option<u32>, Broken> {
    let (Ok(version), Ok(actual), Ok(status)) = (rest.try_get_u16(), rest.try_get_u16(), rest.try_get_u32())
    else {
        return Ok(None);
    };
    if version != VERSION || actual != code {
        return broken("a USB/IP 1.1.1 reply", format!("version {version:#06x}, code {actual:#06x}"));
    }
    Ok(Some(status))
}

/// The text of a field, up to its zero byte.
fn text(field: &[u8]) -> String {
    let end = field.iter().position(|&byte| byte == 0).unwrap_or(field.len());
    String::from_utf8_lossy(field.get(..end).unwrap_or_default()).into_owned()
}

/// A field of `length` bytes that ends with a zero byte, whatever the text.
fn put_text(out: &mut Vec<u8>, text: &str, length: usize) {
    let bytes = text.as_bytes();
    let bytes = bytes.get(..bytes.len().min(length - 1)).unwrap_or_default();
    out.put_slice(bytes);
    out.put_bytes(0, length - bytes.len());
}

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
    use super::*;

    /// Words as the kernel's document writes them, then more bytes.
    fn words(text: &str, more: &[u8]) -> BytesMut {
        let mut bytes = hex::decode(text.replace(' ', "")).unwrap();
        bytes.extend_from_slice(more);
        BytesMut::from(&bytes[..])
    }

    fn record() -> DeviceRecord {
        DeviceRecord {
            path: "/sys/x/1-7".to_owned(),
            busid: "1-7".to_owned(),
            busnum: 1,
            devnum: 7,
            speed: 2,
            id: UsbId { vid: 0x2fe3, pid: 0x0004 },
            release: 0x0100,
            class: [0xef, 2, 1],
            configuration: 1,
            configurations: 1,
            interfaces: vec![[2, 2, 0], [10, 0, 0]],
        }
    }

    /// A field with its text at the start.
    fn field(text: &str, length: usize) -> Vec<u8> {
        let mut field = text.as_bytes().to_vec();
        field.resize(length, 0);
        field
    }

    fn record_bytes() -> Vec<u8> {
        let numbers = "00000001 00000007 00000002 2fe3 0004 0100 ef0201 01 01 02".replace(' ', "");
        [field("/sys/x/1-7", 256), field("1-7", 32), hex::decode(numbers).unwrap()].concat()
    }

    #[test]
    fn requests_before_the_import() {
        let mut input = words("0111 8005 00000000", &[]);
        assert_eq!(&OpRequest::DevList.encode()[..], &input[..]);
        assert_eq!(OpRequest::take(&mut input), Ok(Some(OpRequest::DevList)));
        assert!(input.is_empty());

        let mut input = words("0111 8003 00000000", &field("1-7", 32));
        let import = OpRequest::Import("1-7".to_owned());
        assert_eq!(import.encode(), &input[..]);
        let mut part = BytesMut::from(&input[..39]);
        assert_eq!(OpRequest::take(&mut part), Ok(None));
        assert_eq!(part.len(), 39);
        assert_eq!(OpRequest::take(&mut input), Ok(Some(import)));
        assert!(input.is_empty());
    }

    #[test]
    fn replies_before_the_import() {
        let list =
            [&words("0111 0005 00000000 00000001", &[])[..], &record_bytes(), &[2, 2, 0, 0, 10, 0, 0, 0]];
        let list = list.concat();
        assert_eq!(devlist_reply(&[record()]), list);
        let mut input = BytesMut::from(&list[..]);
        assert_eq!(take_devlist(&mut input), Ok(Some(vec![record()])));
        assert!(input.is_empty());
        for length in 0..list.len() {
            let mut part = BytesMut::from(&list[..length]);
            assert_eq!(take_devlist(&mut part), Ok(None), "{length}");
            assert_eq!(part.len(), length);
        }

        let import = [&words("0111 0003 00000000", &[])[..], &record_bytes()].concat();
        assert_eq!(import_reply(Some(&record())), import);
        let told = take_import(&mut BytesMut::from(&import[..])).unwrap().unwrap().unwrap();
        assert_eq!(told, DeviceRecord { interfaces: Vec::new(), ..record() });
        assert_eq!(told.devid(), 0x0001_0007);
        assert_eq!(import_reply(None), &words("0111 0003 00000001", &[])[..]);
        assert_eq!(take_import(&mut words("0111 0003 00000001", &[])), Ok(Some(None)));
    }

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
    fn what_is_not_the_protocol_is_told() {
        let op = |text| OpRequest::take(&mut words(text, &[])).unwrap_err().to_string();
        assert_eq!(op("0106 8005 00000000"), "expected version 0x0111, got 0x0106");
        assert_eq!(op("0111 8002 00000000"), "expected OP_REQ_DEVLIST or OP_REQ_IMPORT, got 0x8002");
        let urb = |start: &str| UrbRequest::take(&mut words(start, &[0; 48])).unwrap_err().to_string();
        assert!(urb("00000005").contains("got 0x00000005"));
        assert!(urb("00000001 00000001 00000000 00000002").contains("direction 0 or 1"));
        assert!(
            urb("00000001 00000001 00000000 00000000 00000010").contains("an endpoint from 0 to 15, got 16")
        );
        let to = "00000001 00000001 00000000 00000000 00000001 00000000";
        assert!(urb(&format!("{to} 00010001")).contains("at most 65536 bytes in a transfer, got 65537"));
        assert!(urb(&format!("{to} 00000001 00000000 00000008")).contains("no isochronous transfer"));
        let list = take_devlist(&mut words("0111 0005 00000000 00001001", &[])).unwrap_err().to_string();
        assert_eq!(list, "expected at most 4096 devices, got 4097");
        assert!(take_import(&mut words("0111 0005 00000000", &[])).is_err());
    }

    #[test]
    fn a_text_always_ends() {
        let busid = "x".repeat(40);
        let bytes = OpRequest::Import(busid).encode();
        assert_eq!((bytes.len(), bytes.last()), (40, Some(&0)));
    }
}
