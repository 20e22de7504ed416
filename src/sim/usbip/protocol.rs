//! USB/IP 1.1.1 as bytes, up to the import, after the kernel's `Documentation/usb/usbip_protocol.rst`, whose field names are
//! used here. Transfers live in `urb.rs`. What is read is checked; what it means is for others. No sockets.

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

/// The other side does not speak this protocol.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("expected {expected}, got {actual}")]
pub(super) struct Broken {
    expected: &'static str,
    actual: String,
}

pub(super) fn broken<T>(expected: &'static str, actual: impl Into<String>) -> Result<T, Broken> {
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

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// Words as the kernel's document writes them, then more bytes.
    pub(in crate::sim::usbip) fn words(text: &str, more: &[u8]) -> BytesMut {
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

    #[test]
    fn what_is_not_the_protocol_is_told() {
        let op = |text| OpRequest::take(&mut words(text, &[])).unwrap_err().to_string();
        assert_eq!(op("0106 8005 00000000"), "expected version 0x0111, got 0x0106");
        assert_eq!(op("0111 8002 00000000"), "expected OP_REQ_DEVLIST or OP_REQ_IMPORT, got 0x8002");
        let list = take_devlist(&mut words("0111 0005 00000000 00001001", &[])).unwrap_err().to_string();
        assert_eq!(list, "expected at most 4096 devices, got 4097");
        assert!(take_import(&mut words("0111 0005 00000000", &[])).is_err());
    }

    /// An error, something that took bytes, or nothing and every byte kept.
    pub(in crate::sim::usbip) fn takes_or_keeps<T>(
        input: &BytesMut,
        take: impl Fn(&mut BytesMut) -> Result<Option<T>, Broken>,
    ) {
        let mut rest = input.clone();
        if let Ok(took) = take(&mut rest) {
            assert_eq!(rest.len() < input.len(), took.is_some());
        }
    }

    proptest::proptest! {
        #[test]
        fn any_bytes_are_read_or_refused(
            start in 0_usize..4,
            bytes in proptest::collection::vec(proptest::num::u8::ANY, 0..600),
        ) {
            let starts = ["", "0111 8003 00000000", "0111 0005 00000000 000000", "0111 0003 00000000"];
            let input = words(starts[start], &bytes);
            takes_or_keeps(&input, OpRequest::take);
            takes_or_keeps(&input, take_devlist);
            takes_or_keeps(&input, take_import);
        }
    }

    #[test]
    fn a_text_always_ends() {
        let busid = "x".repeat(40);
        let bytes = OpRequest::Import(busid).encode();
        assert_eq!((bytes.len(), bytes.last()), (40, Some(&0)));
    }
}
