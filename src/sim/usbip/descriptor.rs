//! The descriptors of a board (USB 2.0, chapter 9; CDC 1.2 and PSTN 1.2 for the serial functions), and where its endpoints
//! are. What is done with requests lives in `board.rs`.

use super::identity::Identity;
use super::spec::{UsbKind, UsbSpeed};

// Descriptor types (USB 2.0, table 9-5; CDC 1.2, table 12; Interface Association ECN).
pub(super) const DEVICE: u8 = 1;
pub(super) const CONFIGURATION: u8 = 2;
pub(super) const STRING: u8 = 3;
const INTERFACE: u8 = 4;
const ENDPOINT: u8 = 5;
const INTERFACE_ASSOCIATION: u8 = 11;
const CS_INTERFACE: u8 = 0x24;

// Transfer types of endpoints (USB 2.0, table 9-13).
const BULK: u8 = 2;
const INTERRUPT: u8 = 3;

/// Class of a device whose functions span several interfaces (Interface Association ECN).
const CLASS_ASSOCIATION: [u8; 3] = [0xef, 2, 1];
/// Communications interface, Abstract Control Model, no protocol (CDC 1.2, tables 4 and 5).
const CLASS_ACM: [u8; 3] = [2, 2, 0];
/// Data interface (CDC 1.2, table 6).
const CLASS_DATA: [u8; 3] = [10, 0, 0];
/// Known to the vendor's driver only.
const CLASS_VENDOR: [u8; 3] = [0xff, 0, 0];

/// US English.
const LANGUAGE: [u8; 4] = [4, STRING, 0x09, 0x04];

// Numbers of strings; the functions' names follow.
const MANUFACTURER: u8 = 1;
const PRODUCT: u8 = 2;
const SERIAL_NUMBER: u8 = 3;
const FIRST_FUNCTION: u8 = 4;

/// `bcdDevice`.
pub(super) const RELEASE: u16 = 0x0100;

/// Which function an endpoint belongs to, and what it is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum EndpointUse {
    /// Bytes from the function, by its number from 0.
    In(usize),
    /// Bytes to the function.
    Out(usize),
    /// Notifications of the function; there never are any.
    Notify(usize),
}

/// Everything that a board says of itself.
#[derive(Debug, Clone)]
pub(super) struct Descriptors {
    identity: Identity,
    pub(super) device: Vec<u8>,
    pub(super) configuration: Vec<u8>,
}

impl Descriptors {
    pub(super) fn new(identity: Identity) -> Self {
        let device = device(&identity);
        let configuration = configuration(&identity);
        Self { identity, device, configuration }
    }

    pub(super) fn identity(&self) -> &Identity {
        &self.identity
    }

    /// Class, subclass and protocol of the device.
    pub(super) fn class(&self) -> [u8; 3] {
        class(&self.identity)
    }

    /// Class, subclass and protocol of each interface.
    pub(super) fn interfaces(&self) -> Vec<[u8; 3]> {
        let functions = usize::from(self.identity.functions);
        match self.identity.kind {
            UsbKind::CdcAcm => [CLASS_ACM, CLASS_DATA].repeat(functions),
            UsbKind::Cp210x => vec![CLASS_VENDOR; functions],
        }
    }

    /// The string with this number, as its descriptor.
    pub(super) fn string(&self, number: u8) -> Option<Vec<u8>> {
        let identity = &self.identity;
        let text = match number {
            0 => return Some(LANGUAGE.to_vec()),
            MANUFACTURER => identity.manufacturer.clone()?,
            PRODUCT => identity.product.clone()?,
            SERIAL_NUMBER => identity.serial_number.clone()?,
            number => {
                let function = number.checked_sub(FIRST_FUNCTION).filter(|it| *it < identity.functions)?;
                format!("Serial port {function}")
            }
        };
        let mut descriptor = vec![0, STRING];
        descriptor.extend(text.encode_utf16().flat_map(u16::to_le_bytes));
        // The description was checked: 126 units at most.
        let length = u8::try_from(descriptor.len()).ok()?;
        if let Some(first) = descriptor.first_mut() {
            *first = length;
        }
        Some(descriptor)
    }

    /// What an endpoint is for; `None` where there is none of this number and direction.
    pub(super) fn endpoint(&self, number: u8, is_in: bool) -> Option<EndpointUse> {
        let functions = usize::from(self.identity.functions);
        let number = usize::from(number);
        let found = match self.identity.kind {
            UsbKind::CdcAcm => match (number.checked_sub(1)?, is_in) {
                (index, true) if index % 2 == 0 => EndpointUse::Notify(index / 2),
                (index, true) => EndpointUse::In(index / 2),
                (index, false) if index % 2 == 1 => EndpointUse::Out(index / 2),
                _ => return None,
            },
            UsbKind::Cp210x if is_in => EndpointUse::In(number.checked_sub(1)?),
            UsbKind::Cp210x => EndpointUse::Out(number.checked_sub(1)?),
        };
        let (EndpointUse::In(function) | EndpointUse::Out(function) | EndpointUse::Notify(function)) = found;
        (function < functions).then_some(found)
    }

    /// The function that requests to this interface mean; `None` where there is none.
    pub(super) fn function(&self, interface: u8) -> Option<usize> {
        let function = match self.identity.kind {
            UsbKind::CdcAcm if interface.is_multiple_of(2) => interface / 2,
            UsbKind::CdcAcm => return None,
            UsbKind::Cp210x => interface,
        };
        (function < self.identity.functions).then_some(function.into())
    }
}

fn class(identity: &Identity) -> [u8; 3] {
    match identity.kind {
        UsbKind::CdcAcm => CLASS_ASSOCIATION,
        UsbKind::Cp210x => [0; 3],
    }
}

/// The number of a string, 0 where it is left out.
fn string_number(number: u8, text: Option<&String>) -> u8 {
    if text.is_some() { number } else { 0 }
}

/// Packet size of bulk endpoints, in bytes (USB 2.0, 5.8.3).
fn packet_size(identity: &Identity) -> u16 {
    match identity.speed {
        UsbSpeed::Full => 64,
        UsbSpeed::High => 512,
    }
}

/// USB 2.0, table 9-8.
fn device(identity: &Identity) -> Vec<u8> {
    let mut out = vec![18, DEVICE, 0x00, 0x02];
    out.extend_from_slice(&class(identity));
    out.push(64);
    for number in [identity.id.vid, identity.id.pid, RELEASE] {
        out.extend_from_slice(&number.to_le_bytes());
    }
    out.extend_from_slice(&[
        string_number(MANUFACTURER, identity.manufacturer.as_ref()),
        string_number(PRODUCT, identity.product.as_ref()),
        string_number(SERIAL_NUMBER, identity.serial_number.as_ref()),
        1,
    ]);
    out
}

/// USB 2.0, table 9-10, and everything that belongs to the configuration.
fn configuration(identity: &Identity) -> Vec<u8> {
    let mut body = Vec::new();
    for function in 0..identity.functions {
        match identity.kind {
            UsbKind::CdcAcm => acm(&mut body, identity, function),
            UsbKind::Cp210x => {
                interface(&mut body, function, 2, CLASS_VENDOR, FIRST_FUNCTION + function);
                endpoints(&mut body, identity, function + 1);
            }
        }
    }
    let interfaces = match identity.kind {
        UsbKind::CdcAcm => 2 * identity.functions,
        UsbKind::Cp210x => identity.functions,
    };
    let length = u16::try_from(9 + body.len()).unwrap_or(u16::MAX).to_le_bytes();
    // Bus powered, 100 mA.
    let mut out = vec![9, CONFIGURATION, length[0], length[1], interfaces, 1, 0, 0x80, 50];
    out.append(&mut body);
    out
}

/// One CDC-ACM function (PSTN 1.2, 5.3): its two interfaces and what ties them together.
fn acm(out: &mut Vec<u8>, identity: &Identity, function: u8) {
    let control = 2 * function;
    let data = control + 1;
    let name = FIRST_FUNCTION + function;
    let [class, subclass, protocol] = CLASS_ACM;
    out.extend_from_slice(&[8, INTERFACE_ASSOCIATION, control, 2, class, subclass, protocol, name]);
    interface(out, control, 1, CLASS_ACM, name);
    // Header, CDC 1.10.
    out.extend_from_slice(&[5, CS_INTERFACE, 0, 0x10, 0x01]);
    // Call management: none.
    out.extend_from_slice(&[5, CS_INTERFACE, 1, 0, data]);
    // ACM: line coding and control line state.
    out.extend_from_slice(&[4, CS_INTERFACE, 2, 0x02]);
    out.extend_from_slice(&[5, CS_INTERFACE, 6, control, data]);
    endpoint(out, 0x80 | (control + 1), INTERRUPT, 16, 10);
    interface(out, data, 2, CLASS_DATA, 0);
    endpoints(out, identity, data + 1);
}

fn interface(out: &mut Vec<u8>, number: u8, endpoints: u8, [class, subclass, protocol]: [u8; 3], name: u8) {
    out.extend_from_slice(&[9, INTERFACE, number, 0, endpoints, class, subclass, protocol, name]);
}

/// Two bulk endpoints of one number.
fn endpoints(out: &mut Vec<u8>, identity: &Identity, number: u8) {
    endpoint(out, 0x80 | number, BULK, packet_size(identity), 0);
    endpoint(out, number, BULK, packet_size(identity), 0);
}

/// USB 2.0, table 9-13.
fn endpoint(out: &mut Vec<u8>, address: u8, attributes: u8, packet_size: u16, interval: u8) {
    let [low, high] = packet_size.to_le_bytes();
    out.extend_from_slice(&[7, ENDPOINT, address, attributes, low, high, interval]);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sim::usbip::UsbSpec;
    use crate::sim::usbip::identity::Role;

    fn descriptors(kind: UsbKind, functions: u8, speed: UsbSpeed) -> Descriptors {
        let spec = UsbSpec { kind, functions, speed, manufacturer: String::new(), ..UsbSpec::default() };
        Descriptors::new(Identity::new(&spec, Role::Application { updated: false }, "device-1", 1))
    }

    /// Splits by the length fields: every descriptor must end where the next begins.
    fn split(mut bytes: &[u8]) -> Vec<&[u8]> {
        let mut parts = Vec::new();
        while let Some(&length) = bytes.first() {
            let (part, rest) = bytes.split_at(length.into());
            parts.push(part);
            bytes = rest;
        }
        parts
    }

    #[test]
    fn the_device_descriptor_in_bytes() {
        let device = descriptors(UsbKind::CdcAcm, 1, UsbSpeed::Full).device;
        assert_eq!(hex::encode(device), "12010002ef020140e32f04000001000203 01".replace(' ', ""));
        let device = descriptors(UsbKind::Cp210x, 1, UsbSpeed::Full).device;
        assert_eq!(hex::encode(device), "120100020000 0040c41060ea00010002 0301".replace(' ', ""));
    }

    #[test]
    fn one_function_in_bytes() {
        let configuration = descriptors(UsbKind::CdcAcm, 1, UsbSpeed::Full).configuration;
        let expected = "09024b0002010080 32 080b000202020004 0904000001020200 04 0524001001 0524010001 04240202 \
            0524060001 0705810310000a 09040100020a000000 07058202400000 07050202400000";
        assert_eq!(hex::encode(configuration), expected.replace(' ', ""));
    }

    #[test]
    fn lengths_interfaces_and_endpoints_agree() {
        for (kind, functions, speed) in [
            (UsbKind::CdcAcm, 1, UsbSpeed::High),
            (UsbKind::CdcAcm, 7, UsbSpeed::Full),
            (UsbKind::Cp210x, 1, UsbSpeed::Full),
            (UsbKind::Cp210x, 2, UsbSpeed::High),
        ] {
            let all = descriptors(kind, functions, speed);
            let parts = split(&all.configuration);
            let head = parts[0];
            assert_eq!(usize::from(u16::from_le_bytes([head[2], head[3]])), all.configuration.len());
            let of = |kind: u8| parts.iter().filter(move |part| part[1] == kind).collect::<Vec<_>>();
            let interfaces = of(INTERFACE);
            assert_eq!(usize::from(head[4]), interfaces.len());
            let classes: Vec<_> = interfaces.iter().map(|it| [it[5], it[6], it[7]]).collect();
            assert_eq!(classes, all.interfaces());
            for (number, interface) in interfaces.iter().enumerate() {
                assert_eq!(usize::from(interface[2]), number);
            }
            let mut addresses: Vec<u8> = of(ENDPOINT).iter().map(|it| it[2]).collect();
            for &address in &addresses {
                assert!(all.endpoint(address & 0x0f, address & 0x80 != 0).is_some(), "{address:#x}");
            }
            let ends = interfaces.iter().map(|it| usize::from(it[4])).sum::<usize>();
            assert_eq!(addresses.len(), ends);
            addresses.sort_unstable();
            addresses.dedup();
            assert_eq!(addresses.len(), ends, "no endpoint twice");
            let packet = if speed == UsbSpeed::High { 512 } else { 64 };
            assert!(
                of(ENDPOINT)
                    .iter()
                    .filter(|it| it[3] == BULK)
                    .all(|it| u16::from_le_bytes([it[4], it[5]]) == packet)
            );
            let associations = of(INTERFACE_ASSOCIATION);
            if kind == UsbKind::CdcAcm {
                let firsts: Vec<u8> = associations.iter().map(|it| it[2]).collect();
                assert_eq!(firsts, (0..functions).map(|it| 2 * it).collect::<Vec<_>>());
                assert!(associations.iter().all(|it| it[3] == 2 && it[4..7] == CLASS_ACM));
            } else {
                assert!(associations.is_empty());
            }
        }
    }

    #[test]
    fn endpoints_belong_to_functions() {
        let acm = descriptors(UsbKind::CdcAcm, 2, UsbSpeed::Full);
        let found: Vec<_> =
            (0..6).map(|number| (acm.endpoint(number, true), acm.endpoint(number, false))).collect();
        use EndpointUse::{In, Notify, Out};
        let expected = [
            (None, None),
            (Some(Notify(0)), None),
            (Some(In(0)), Some(Out(0))),
            (Some(Notify(1)), None),
            (Some(In(1)), Some(Out(1))),
            (None, None),
        ];
        assert_eq!(found, expected);
        assert_eq!([0, 1, 2, 3, 4].map(|it| acm.function(it)), [Some(0), None, Some(1), None, None]);
        let bridge = descriptors(UsbKind::Cp210x, 1, UsbSpeed::Full);
        assert_eq!((bridge.endpoint(1, true), bridge.endpoint(1, false)), (Some(In(0)), Some(Out(0))));
        assert_eq!((bridge.endpoint(2, true), bridge.function(0), bridge.function(1)), (None, Some(0), None));
    }

    #[test]
    fn strings() {
        let all = descriptors(UsbKind::CdcAcm, 2, UsbSpeed::Full);
        let text = |number| {
            all.string(number).map(|bytes| {
                assert_eq!((usize::from(bytes[0]), bytes[1]), (bytes.len(), STRING));
                let units: Vec<u16> =
                    bytes[2..].chunks(2).map(|it| u16::from_le_bytes([it[0], it[1]])).collect();
                String::from_utf16(&units).unwrap()
            })
        };
        assert_eq!(all.string(0), Some(LANGUAGE.to_vec()));
        assert_eq!(text(1), None, "left out");
        assert_eq!(text(2).as_deref(), Some("Simulated board"));
        assert_eq!(text(3).as_deref(), Some("device-1"));
        assert_eq!(text(5).as_deref(), Some("Serial port 1"));
        assert_eq!((text(6), text(255)), (None, None));
    }
}
