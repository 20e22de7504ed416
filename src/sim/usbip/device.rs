//! One enumeration of a board as the host's drivers see it: its control endpoint, and transfers that wait until there is
//! something to say or room for what comes. Without I/O and time; what is behind the serial functions is for others.

use std::collections::VecDeque;

use bytes::BytesMut;

use super::chip::{Answer, Line, Setup};
use super::descriptor::{CONFIGURATION, DEVICE, Descriptors, EndpointUse, STRING};
use super::spec::UsbKind;
use super::urb::{OK, STALL, Submit, UNLINKED, UrbRequest, ret_submit, ret_submit_in, ret_unlink};

/// Most transfers of one board that may wait. Linux keeps about 40.
const MAX_WAITING: usize = 1024;
/// Most bytes to one board that may wait. Linux keeps at most 160 KiB.
const MAX_HELD: usize = 1024 * 1024;
/// Bytes for the host that a function keeps while no transfer asks for them.
const FIFO: usize = 4096;

/// Why a client is not served any more.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum Refused {
    #[error("expected device {expected:#010x}, got {actual:#010x}")]
    OtherDevice { expected: u32, actual: u32 },
    #[error("expected at most {MAX_WAITING} transfers and {MAX_HELD} bytes to wait, got more")]
    TooMuch,
}

/// One serial function.
#[derive(Debug, Default)]
struct Function {
    line: Line,
    /// Bytes for the host.
    fifo: VecDeque<u8>,
    /// Transfers that ask for them: number and length.
    wanted: VecDeque<(u32, u32)>,
    /// Transfers to the function that it has not taken yet.
    held: VecDeque<(u32, Vec<u8>)>,
    /// Transfers that ask for notifications.
    notify: Vec<u32>,
}

impl Function {
    fn waiting(&self) -> usize {
        self.wanted.len() + self.held.len() + self.notify.len()
    }

    fn held_bytes(&self) -> usize {
        self.held.iter().map(|(_, data)| data.len()).sum()
    }

    /// Takes a waiting transfer back.
    fn unlink(&mut self, seqnum: u32) -> bool {
        let before = self.waiting();
        self.wanted.retain(|(number, _)| *number != seqnum);
        self.held.retain(|(number, _)| *number != seqnum);
        self.notify.retain(|number| *number != seqnum);
        self.waiting() < before
    }
}

/// One enumeration of a board.
#[derive(Debug)]
pub(super) struct UsbDevice {
    descriptors: Descriptors,
    devid: u32,
    configured: bool,
    functions: Vec<Function>,
    /// What the client has not been sent yet.
    pub(super) output: BytesMut,
}

impl UsbDevice {
    pub(super) fn new(descriptors: Descriptors, devid: u32) -> Self {
        let functions = (0..descriptors.identity().functions).map(|_| Function::default()).collect();
        Self { descriptors, devid, configured: false, functions, output: BytesMut::new() }
    }

    /// Number of serial functions.
    pub(super) fn functions(&self) -> usize {
        self.functions.len()
    }

    /// Does what the client asks; answers are in `output`, now or when they are due.
    pub(super) fn handle(&mut self, request: UrbRequest) -> Result<(), Refused> {
        match request {
            UrbRequest::Unlink { seqnum, target } => {
                let found = self.functions.iter_mut().any(|function| function.unlink(target));
                ret_unlink(&mut self.output, seqnum, if found { UNLINKED } else { OK });
            }
            UrbRequest::Submit(submit) if submit.devid != self.devid => {
                return Err(Refused::OtherDevice { expected: self.devid, actual: submit.devid });
            }
            UrbRequest::Submit(submit) if submit.endpoint == 0 => self.control(&submit),
            UrbRequest::Submit(submit) => self.transfer(submit),
        }
        let waiting: usize = self.functions.iter().map(Function::waiting).sum();
        let held: usize = self.functions.iter().map(Function::held_bytes).sum();
        if waiting > MAX_WAITING || held > MAX_HELD { Err(Refused::TooMuch) } else { Ok(()) }
    }

    fn transfer(&mut self, Submit { seqnum, endpoint, is_in, length, data, .. }: Submit) {
        let found = self.descriptors.endpoint(endpoint, is_in).filter(|_| self.configured);
        let number = match found {
            Some(EndpointUse::In(it) | EndpointUse::Out(it) | EndpointUse::Notify(it)) => it,
            None => return ret_submit(&mut self.output, seqnum, STALL, 0),
        };
        let Some(function) = self.functions.get_mut(number) else { return };
        match found {
            Some(EndpointUse::Out(_)) if data.is_empty() => ret_submit(&mut self.output, seqnum, OK, 0),
            Some(EndpointUse::Out(_)) => function.held.push_back((seqnum, data)),
            Some(EndpointUse::In(_)) => {
                function.wanted.push_back((seqnum, length));
                self.deliver(number);
            }
            _ => function.notify.push(seqnum),
        }
    }

    fn control(&mut self, submit: &Submit) {
        let setup = Setup::read(submit.setup);
        let from_device = setup.request_type & 0x80 != 0;
        let seqnum = submit.seqnum;
        if from_device != submit.is_in && setup.length != 0 {
            return ret_submit(&mut self.output, seqnum, STALL, 0);
        }
        match self.answer(setup, &submit.data) {
            Answer::Stall => ret_submit(&mut self.output, seqnum, STALL, 0),
            Answer::Data(data) if from_device => {
                let length = data.len().min(setup.length.into()).min(submit.length as usize);
                ret_submit_in(&mut self.output, seqnum, data.get(..length).unwrap_or_default());
            }
            Answer::Data(_) => ret_submit(&mut self.output, seqnum, OK, submit.length),
        }
    }

    fn answer(&mut self, setup: Setup, data: &[u8]) -> Answer {
        match setup.request_type & 0x60 {
            0x00 => self.standard(setup),
            0x20 | 0x40 => {
                let Some(number) = self.descriptors.function(setup.interface()) else { return Answer::Stall };
                let Some(function) = self.functions.get_mut(number) else { return Answer::Stall };
                let waiting = u32::try_from(function.held_bytes()).unwrap_or(u32::MAX);
                let answer = match self.descriptors.identity().kind {
                    UsbKind::CdcAcm => function.line.acm(setup, data),
                    UsbKind::Cp210x => function.line.cp210x(setup, data, waiting),
                };
                if std::mem::take(&mut function.line.purge) {
                    function.fifo.clear();
                }
                answer
            }
            _ => Answer::Stall,
        }
    }

    /// Standard requests (USB 2.0, 9.4).
    fn standard(&mut self, setup: Setup) -> Answer {
        const GET_STATUS: u8 = 0;
        const CLEAR_FEATURE: u8 = 1;
        const SET_ADDRESS: u8 = 5;
        const GET_DESCRIPTOR: u8 = 6;
        const GET_CONFIGURATION: u8 = 8;
        const SET_CONFIGURATION: u8 = 9;
        const GET_INTERFACE: u8 = 10;
        const SET_INTERFACE: u8 = 11;
        const TO_DEVICE: u8 = 0x00;
        const TO_INTERFACE: u8 = 0x01;
        const TO_ENDPOINT: u8 = 0x02;
        const FROM_DEVICE: u8 = 0x80;
        const FROM_INTERFACE: u8 = 0x81;
        const FROM_ENDPOINT: u8 = 0x82;
        let [low, high] = setup.value.to_le_bytes();
        let interface = usize::from(setup.index) < self.descriptors.interfaces().len();
        match (setup.request_type, setup.request) {
            (FROM_DEVICE | FROM_ENDPOINT, GET_STATUS) => Answer::Data(vec![0, 0]),
            (FROM_INTERFACE, GET_STATUS) if interface => Answer::Data(vec![0, 0]),
            // An endpoint's halt, which never is.
            (TO_ENDPOINT, CLEAR_FEATURE) if setup.value == 0 => Answer::DONE,
            (TO_DEVICE, SET_ADDRESS) => Answer::DONE,
            (FROM_DEVICE, GET_DESCRIPTOR) => match (high, low) {
                (DEVICE, 0) => Answer::Data(self.descriptors.device.clone()),
                (CONFIGURATION, 0) => Answer::Data(self.descriptors.configuration.clone()),
                (STRING, number) => self.descriptors.string(number).map_or(Answer::Stall, Answer::Data),
                _ => Answer::Stall,
            },
            (FROM_DEVICE, GET_CONFIGURATION) => Answer::Data(vec![u8::from(self.configured)]),
            (TO_DEVICE, SET_CONFIGURATION) if setup.value < 2 => {
                self.configured = setup.value == 1;
                Answer::DONE
            }
            (FROM_INTERFACE, GET_INTERFACE) if interface => Answer::Data(vec![0]),
            (TO_INTERFACE, SET_INTERFACE) if interface && setup.value == 0 => Answer::DONE,
            _ => Answer::Stall,
        }
    }

    /// Bytes that a function can take for the host without losing any.
    pub(super) fn room(&self, function: usize) -> usize {
        self.functions.get(function).map_or(0, |function| FIFO.saturating_sub(function.fifo.len()))
    }

    /// Whether the host waits for bytes of a function.
    pub(super) fn wants(&self, function: usize) -> bool {
        self.functions.get(function).is_some_and(|function| !function.wanted.is_empty())
    }

    /// A function says something; what does not fit is lost.
    pub(super) fn send(&mut self, function: usize, bytes: &[u8]) {
        let room = self.room(function);
        if let Some(function) = self.functions.get_mut(function) {
            function.fifo.extend(bytes.iter().take(room));
        }
        self.deliver(function);
    }

    fn deliver(&mut self, function: usize) {
        let Some(function) = self.functions.get_mut(function) else { return };
        while !function.fifo.is_empty()
            && let Some((seqnum, length)) = function.wanted.pop_front()
        {
            let count = function.fifo.len().min(length as usize);
            let bytes: Vec<u8> = function.fifo.drain(..count).collect();
            ret_submit_in(&mut self.output, seqnum, &bytes);
        }
    }

    /// Takes the next bytes that the host has sent to a function; only then is their transfer done.
    pub(super) fn take(&mut self, function: usize) -> Option<Vec<u8>> {
        let (seqnum, data) = self.functions.get_mut(function)?.held.pop_front()?;
        ret_submit(&mut self.output, seqnum, OK, u32::try_from(data.len()).unwrap_or(u32::MAX));
        Some(data)
    }

    /// Whether a function's DTR went up since this was asked last.
    pub(super) fn take_raised(&mut self, function: usize) -> bool {
        self.functions.get_mut(function).is_some_and(|function| std::mem::take(&mut function.line.raised))
    }

    /// Bits per second that the host has set on a function.
    pub(super) fn baud(&self, function: usize) -> Option<u32> {
        self.functions.get(function).map(|function| function.line.baud).filter(|baud| *baud > 0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sim::usbip::UsbSpec;
    use crate::sim::usbip::identity::{Identity, Role};

    const DEVID: u32 = 0x0001_0001;

    fn device(kind: UsbKind, functions: u8) -> UsbDevice {
        let spec = UsbSpec { kind, functions, ..UsbSpec::default() };
        let identity = Identity::new(&spec, Role::Application { updated: false }, "device-1", 1);
        UsbDevice::new(Descriptors::new(identity), DEVID)
    }

    fn configured(functions: u8) -> UsbDevice {
        let mut device = device(UsbKind::CdcAcm, functions);
        assert_eq!(control(&mut device, [0, 9, 1, 0, 0, 0, 0, 0], &[]), (OK, Vec::new()));
        device
    }

    fn submit(seqnum: u32, endpoint: u8, is_in: bool, length: u32, data: &[u8]) -> UrbRequest {
        let data = data.to_vec();
        UrbRequest::Submit(Submit { seqnum, devid: DEVID, endpoint, is_in, length, setup: [0; 8], data })
    }

    /// Every answer so far: number, status and what comes behind the header.
    fn answers(device: &mut UsbDevice) -> Vec<(u32, i32, Vec<u8>)> {
        let mut bytes = &device.output.split()[..];
        let mut answers = Vec::new();
        while !bytes.is_empty() {
            let word = |at: usize| u32::from_be_bytes(bytes[at..at + 4].try_into().unwrap());
            let (command, seqnum, status, length) = (word(0), word(4), word(20), word(24));
            // Only an answer to a transfer from the device carries bytes; these tests send to odd numbers.
            let carried = if command == 3 && seqnum % 2 == 0 { length as usize } else { 0 };
            answers.push((seqnum, status.cast_signed(), bytes[48..48 + carried].to_vec()));
            bytes = &bytes[48 + carried..];
        }
        answers
    }

    /// A control transfer: its status and data.
    fn control(device: &mut UsbDevice, setup: [u8; 8], data: &[u8]) -> (i32, Vec<u8>) {
        let is_in = setup[0] & 0x80 != 0;
        let length = u32::from(u16::from_le_bytes([setup[6], setup[7]]));
        let seqnum = if is_in { 2 } else { 1 };
        let data = data.to_vec();
        let submit = Submit { seqnum, devid: DEVID, endpoint: 0, is_in, length, setup, data };
        device.handle(UrbRequest::Submit(submit)).unwrap();
        let (_, status, data) = answers(device).pop().unwrap();
        (status, data)
    }

    #[test]
    fn descriptors_are_cut_to_what_the_host_takes() {
        let mut device = device(UsbKind::CdcAcm, 1);
        let whole = device.descriptors.configuration.clone();
        let (status, first) = control(&mut device, [0x80, 6, 0, 2, 0, 0, 9, 0], &[]);
        assert_eq!((status, &first[..]), (OK, &whole[..9]));
        assert_eq!(control(&mut device, [0x80, 6, 0, 2, 0, 0, 255, 0], &[]), (OK, whole));
        assert_eq!(control(&mut device, [0x80, 6, 0, 1, 0, 0, 64, 0], &[]).1.len(), 18);
        assert_eq!(
            control(&mut device, [0x80, 6, 3, 3, 9, 4, 255, 0], &[]).1.len(),
            2 + 2 * "device-1".len()
        );
    }

    #[test]
    fn what_a_board_does_not_know_stalls() {
        let mut device = configured(2);
        for setup in [
            [0x80, 6, 0, 6, 0, 0, 10, 0],  // device qualifier: the board is not of both speeds
            [0x80, 6, 9, 3, 0, 0, 255, 0], // no such string
            [0x80, 6, 1, 2, 0, 0, 255, 0], // no second configuration
            [0x00, 9, 2, 0, 0, 0, 0, 0],
            [0x00, 3, 1, 0, 0, 0, 0, 0],    // no remote wakeup
            [0x01, 11, 1, 0, 1, 0, 0, 0],   // no other setting
            [0x01, 11, 0, 0, 4, 0, 0, 0],   // no such interface
            [0x21, 0x22, 1, 0, 1, 0, 0, 0], // a data interface has no lines
            [0x21, 0x22, 1, 0, 4, 0, 0, 0],
            [0xe0, 1, 0, 0, 0, 0, 1, 0],
            [0xc0, 0xff, 0x0b, 0x37, 0, 0, 1, 0], // not a CP210x
        ] {
            assert_eq!(control(&mut device, setup, &[]).0, STALL, "{setup:x?}");
        }
        assert_eq!(control(&mut device, [0x21, 0x22, 1, 0, 2, 0, 0, 0], &[]).0, OK);
        assert!(!device.take_raised(0) && device.take_raised(1) && !device.take_raised(1));
        // A setup packet whose direction is not that of its transfer.
        let setup = [0x80, 6, 0, 1, 0, 0, 64, 0];
        let wrong =
            Submit { seqnum: 1, devid: DEVID, endpoint: 0, is_in: false, length: 0, setup, data: vec![] };
        device.handle(UrbRequest::Submit(wrong)).unwrap();
        assert_eq!(answers(&mut device), [(1, STALL, vec![])]);
    }

    #[test]
    fn nothing_is_carried_before_the_configuration_is_set() {
        let mut device = device(UsbKind::CdcAcm, 1);
        device.handle(submit(4, 2, true, 64, &[])).unwrap();
        assert_eq!(answers(&mut device), [(4, STALL, vec![])]);
        let mut device = configured(1);
        device.handle(submit(4, 2, true, 64, &[])).unwrap();
        device.handle(submit(6, 1, true, 16, &[])).unwrap();
        assert_eq!(answers(&mut device), []);
        for (endpoint, is_in) in [(1, false), (3, true), (4, false), (15, true)] {
            device.handle(submit(8, endpoint, is_in, 0, &[])).unwrap();
            assert_eq!(answers(&mut device), [(8, STALL, vec![])], "{endpoint}");
        }
    }

    #[test]
    fn transfers_from_the_board_wait_for_bytes_and_bytes_for_transfers() {
        let mut device = configured(1);
        device.handle(submit(4, 2, true, 3, &[])).unwrap();
        device.handle(submit(6, 2, true, 64, &[])).unwrap();
        assert!(device.wants(0));
        device.send(0, b"abcde");
        assert_eq!(answers(&mut device), [(4, OK, b"abc".to_vec()), (6, OK, b"de".to_vec())]);
        assert!(!device.wants(0));
        device.send(0, b"fgh");
        assert_eq!(answers(&mut device), []);
        device.handle(submit(8, 2, true, 64, &[])).unwrap();
        assert_eq!(answers(&mut device), [(8, OK, b"fgh".to_vec())]);
        device.send(0, &[0; FIFO + 10]);
        assert_eq!(device.room(0), 0, "and no more is kept");
        device.handle(submit(10, 2, true, u32::MAX, &[])).unwrap();
        assert_eq!(answers(&mut device)[0].2.len(), FIFO);
    }

    #[test]
    fn transfers_to_the_board_are_done_when_it_took_them() {
        let mut device = configured(2);
        device.handle(submit(5, 2, false, 3, b"abc")).unwrap();
        device.handle(submit(7, 4, false, 3, b"xyz")).unwrap();
        device.handle(submit(9, 2, false, 1, b"d")).unwrap();
        assert_eq!(answers(&mut device), []);
        assert_eq!(device.take(0).as_deref(), Some(&b"abc"[..]));
        assert_eq!(answers(&mut device), [(5, OK, vec![])]);
        assert_eq!(device.take(1).as_deref(), Some(&b"xyz"[..]));
        assert_eq!(device.take(0).as_deref(), Some(&b"d"[..]));
        assert_eq!(answers(&mut device), [(7, OK, vec![]), (9, OK, vec![])]);
        assert_eq!(device.take(0), None);
    }

    #[test]
    fn what_waits_can_be_unlinked_and_what_is_done_cannot() {
        let mut device = configured(1);
        device.handle(submit(4, 2, true, 64, &[])).unwrap();
        device.handle(submit(6, 1, true, 16, &[])).unwrap();
        device.handle(submit(7, 2, false, 1, b"x")).unwrap();
        for (seqnum, target) in [(11, 4), (13, 6), (15, 7)] {
            device.handle(UrbRequest::Unlink { seqnum, target }).unwrap();
            assert_eq!(answers(&mut device), [(seqnum, UNLINKED, vec![])]);
            device.handle(UrbRequest::Unlink { seqnum, target }).unwrap();
            assert_eq!(answers(&mut device), [(seqnum, OK, vec![])]);
        }
        device.send(0, b"abc");
        assert_eq!(
            (answers(&mut device), device.take(0)),
            (vec![], None),
            "none of them is answered any more"
        );
    }

    #[test]
    fn a_client_cannot_pile_up_transfers() {
        let mut device = configured(1);
        let mut pile = |make: &dyn Fn(u32) -> UrbRequest, most: u32| {
            (0..=most).map(|number| device.handle(make(number))).find(Result::is_err)
        };
        assert_eq!(pile(&|number| submit(number, 2, true, 64, &[]), 1023), None);
        assert_eq!(pile(&|number| submit(number, 2, true, 64, &[]), 0), Some(Err(Refused::TooMuch)));
        let mut device = configured(1);
        for number in 0..16 {
            device.handle(submit(number, 2, false, 65_536, &[0; 65_536])).unwrap();
        }
        assert_eq!(device.handle(submit(99, 2, false, 1, b"x")), Err(Refused::TooMuch));
        let other =
            Submit { seqnum: 1, devid: 2, endpoint: 0, is_in: true, length: 0, setup: [0; 8], data: vec![] };
        let refused = device.handle(UrbRequest::Submit(other)).unwrap_err();
        assert_eq!(refused, Refused::OtherDevice { expected: DEVID, actual: 2 });
    }

    proptest::proptest! {
        /// Whatever a client asks, it is answered once: at once, or when there is something to say or room.
        #[test]
        fn every_transfer_is_answered_once(
            asked in proptest::collection::vec((0_u8..16, proptest::bool::ANY, 0_u32..300, proptest::array::uniform8(proptest::num::u8::ANY)), 1..60),
            kind in proptest::bool::ANY,
        ) {
            let mut device = device(if kind { UsbKind::CdcAcm } else { UsbKind::Cp210x }, 3);
            device.configured = true;
            let count = asked.len();
            for (number, (endpoint, is_in, length, setup)) in (0..).zip(asked) {
                let data = if is_in { Vec::new() } else { vec![0; length as usize] };
                let seqnum = 2 * number + u32::from(!is_in);
                device.handle(UrbRequest::Submit(Submit { seqnum, devid: DEVID, endpoint, is_in, length, setup, data })).unwrap();
                device.configured = true;
            }
            for function in 0..3 {
                while device.take(function).is_some() {}
                for _ in 0..count {
                    device.send(function, &[1; 300]);
                }
            }
            let waiting: usize = device.functions.iter().map(|function| function.notify.len()).sum();
            proptest::prop_assert_eq!(answers(&mut device).len() + waiting, count);
        }
    }

    #[test]
    fn a_cp210x_purges_what_waits_for_the_host() {
        let mut device = device(UsbKind::Cp210x, 1);
        control(&mut device, [0, 9, 1, 0, 0, 0, 0, 0], &[]);
        device.send(0, b"old");
        assert_eq!(control(&mut device, [0x41, 0, 1, 0, 0, 0, 0, 0], &[]).0, OK);
        device.handle(submit(4, 1, true, 64, &[])).unwrap();
        device.send(0, b"new");
        assert_eq!(answers(&mut device), [(4, OK, b"new".to_vec())]);
        control(&mut device, [0x41, 0x1e, 0, 0, 0, 0, 4, 0], &[0x80, 0x25, 0, 0]);
        assert_eq!(device.baud(0), Some(9600));
        device.handle(submit(5, 1, false, 2, b"ab")).unwrap();
        let (_, status) = control(&mut device, [0xc1, 0x10, 0, 0, 0, 0, 19, 0], &[]);
        assert_eq!(status[12], 2, "bytes that have not left");
    }
}
