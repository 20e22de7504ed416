//! Requests to one serial function: class requests of CDC-ACM (PSTN 1.2, 6.3) and the registers of a CP210x (Silicon Labs
//! AN571). What is common to all boards lives in `device.rs`.

/// A control transfer's setup packet (USB 2.0, table 9-2).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Setup {
    pub(super) request_type: u8,
    pub(super) request: u8,
    pub(super) value: u16,
    pub(super) index: u16,
    /// Bytes that the host sends, or takes at most.
    pub(super) length: u16,
}

impl Setup {
    pub(super) fn read([request_type, request, v0, v1, i0, i1, l0, l1]: [u8; 8]) -> Self {
        let word = |low, high| u16::from_le_bytes([low, high]);
        Self { request_type, request, value: word(v0, v1), index: word(i0, i1), length: word(l0, l1) }
    }

    /// The interface that a request to an interface means.
    pub(super) fn interface(self) -> u8 {
        self.index.to_le_bytes()[0]
    }
}

/// The answer to a control request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Answer {
    /// These bytes; none for a request that carries none or sends some.
    Data(Vec<u8>),
    /// The board does not know the request.
    Stall,
}

impl Answer {
    pub(super) const DONE: Self = Self::Data(Vec::new());
}

/// Bits per second until the host sets them: what most boards' firmware begins with.
const BAUD: u32 = 115_200;
/// One stop bit, no parity, eight data bits (PSTN 1.2, table 17).
const FORMAT: [u8; 3] = [0, 0, 8];
/// The same in a CP210x (AN571, 5.4).
const LINE_CONTROL: u16 = 0x0800;

/// What the host has set on one serial line.
#[derive(Debug, Clone)]
pub(super) struct Line {
    /// Bits per second.
    pub(super) baud: u32,
    /// Stop bits, parity, data bits, as in a line coding.
    format: [u8; 3],
    /// The same as a CP210x holds it.
    line_control: u16,
    flow: [u8; 16],
    dtr: bool,
    rts: bool,
    /// DTR went up since this was looked at last.
    pub(super) raised: bool,
    /// What waits for the host is to be thrown away.
    pub(super) purge: bool,
}

impl Default for Line {
    fn default() -> Self {
        Self {
            baud: BAUD,
            format: FORMAT,
            line_control: LINE_CONTROL,
            flow: [0; 16],
            dtr: false,
            rts: false,
            raised: false,
            purge: false,
        }
    }
}

impl Line {
    fn set_dtr(&mut self, up: bool) {
        self.raised |= up && !self.dtr;
        self.dtr = up;
    }

    /// A class request to a CDC-ACM function.
    pub(super) fn acm(&mut self, setup: Setup, data: &[u8]) -> Answer {
        const TO_INTERFACE: u8 = 0x21;
        const FROM_INTERFACE: u8 = 0xa1;
        const SET_LINE_CODING: u8 = 0x20;
        const GET_LINE_CODING: u8 = 0x21;
        const SET_CONTROL_LINE_STATE: u8 = 0x22;
        match (setup.request_type, setup.request) {
            (TO_INTERFACE, SET_LINE_CODING) => {
                let &[b0, b1, b2, b3, stop, parity, bits] = data else { return Answer::Stall };
                self.baud = u32::from_le_bytes([b0, b1, b2, b3]);
                self.format = [stop, parity, bits];
                Answer::DONE
            }
            (FROM_INTERFACE, GET_LINE_CODING) => {
                Answer::Data([&self.baud.to_le_bytes()[..], &self.format].concat())
            }
            (TO_INTERFACE, SET_CONTROL_LINE_STATE) => {
                self.set_dtr(setup.value & 1 != 0);
                self.rts = setup.value & 2 != 0;
                Answer::DONE
            }
            _ => Answer::Stall,
        }
    }

    /// A vendor request to a CP210x. `waiting` is how many bytes have not left it yet.
    pub(super) fn cp210x(&mut self, setup: Setup, data: &[u8], waiting: u32) -> Answer {
        const TO_INTERFACE: u8 = 0x41;
        const FROM_INTERFACE: u8 = 0xc1;
        const FROM_DEVICE: u8 = 0xc0;
        const IFC_ENABLE: u8 = 0x00;
        const SET_LINE_CTL: u8 = 0x03;
        const GET_LINE_CTL: u8 = 0x04;
        const SET_BREAK: u8 = 0x05;
        const SET_MHS: u8 = 0x07;
        const GET_MDMSTS: u8 = 0x08;
        const GET_COMM_STATUS: u8 = 0x10;
        const PURGE: u8 = 0x12;
        const SET_FLOW: u8 = 0x13;
        const GET_FLOW: u8 = 0x14;
        const EMBED_EVENTS: u8 = 0x15;
        const SET_CHARS: u8 = 0x19;
        const GET_BAUDRATE: u8 = 0x1d;
        const SET_BAUDRATE: u8 = 0x1e;
        const VENDOR_SPECIFIC: u8 = 0xff;
        const GET_PARTNUM: u16 = 0x370b;
        const CP2102: u8 = 0x02;
        /// The other side is there: CTS, DSR and DCD (AN571, 5.11).
        const PEER: u8 = 0xb0;
        match (setup.request_type, setup.request) {
            (TO_INTERFACE, IFC_ENABLE) => self.purge = true,
            (TO_INTERFACE, PURGE) => self.purge = setup.value & 0b1010 != 0,
            (TO_INTERFACE, SET_LINE_CTL) => self.line_control = setup.value,
            (TO_INTERFACE, SET_BREAK) => {}
            (TO_INTERFACE, SET_MHS) => {
                // The high byte says which lines are meant.
                if setup.value & 0x0100 != 0 {
                    self.set_dtr(setup.value & 1 != 0);
                }
                if setup.value & 0x0200 != 0 {
                    self.rts = setup.value & 2 != 0;
                }
            }
            (TO_INTERFACE, SET_FLOW) => {
                let Some(flow) = data.first_chunk() else { return Answer::Stall };
                self.flow = *flow;
            }
            (TO_INTERFACE, SET_BAUDRATE) => {
                let Some(baud) = data.first_chunk() else { return Answer::Stall };
                self.baud = u32::from_le_bytes(*baud);
            }
            (TO_INTERFACE, SET_CHARS) => {}
            (TO_INTERFACE, EMBED_EVENTS) if setup.value == 0 => {}
            (FROM_INTERFACE, GET_LINE_CTL) => return Answer::Data(self.line_control.to_le_bytes().to_vec()),
            (FROM_INTERFACE, GET_BAUDRATE) => return Answer::Data(self.baud.to_le_bytes().to_vec()),
            (FROM_INTERFACE, GET_FLOW) => return Answer::Data(self.flow.to_vec()),
            (FROM_INTERFACE, GET_MDMSTS) => {
                return Answer::Data(vec![u8::from(self.dtr) | u8::from(self.rts) << 1 | PEER]);
            }
            (FROM_INTERFACE, GET_COMM_STATUS) => {
                let mut status = [0; 19];
                // Behind errors, hold reasons and the queue to the host.
                if let Some(queue) = status.get_mut(12..16) {
                    queue.copy_from_slice(&waiting.to_le_bytes());
                }
                return Answer::Data(status.to_vec());
            }
            (FROM_DEVICE, VENDOR_SPECIFIC) if setup.value == GET_PARTNUM => {
                return Answer::Data(vec![CP2102]);
            }
            _ => return Answer::Stall,
        }
        Answer::DONE
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn setup(request_type: u8, request: u8, value: u16) -> Setup {
        Setup { request_type, request, value, index: 0, length: 64 }
    }

    #[test]
    fn a_setup_packet_is_little_endian() {
        let setup = Setup::read([0xa1, 0x21, 0x34, 0x12, 0x02, 0x01, 0x07, 0x00]);
        assert_eq!((setup.request_type, setup.request, setup.value), (0xa1, 0x21, 0x1234));
        assert_eq!((setup.index, setup.interface(), setup.length), (0x0102, 2, 7));
    }

    #[test]
    fn an_acm_line_keeps_its_coding_and_tells_rising_dtr_once() {
        let mut line = Line::default();
        let coding = [0x00, 0xc2, 0x01, 0x00, 0, 0, 8];
        assert_eq!(line.acm(setup(0xa1, 0x21, 0), &[]), Answer::Data(coding.to_vec()));
        assert_eq!(line.acm(setup(0x21, 0x20, 0), &[0x80, 0x25, 0, 0, 2, 1, 7]), Answer::DONE);
        assert_eq!((line.baud, line.format), (9600, [2, 1, 7]));
        assert_eq!(line.acm(setup(0x21, 0x20, 0), &[0; 6]), Answer::Stall);
        assert_eq!(line.acm(setup(0x21, 0x23, 1), &[]), Answer::Stall, "its capabilities promise no break");
        assert_eq!(line.acm(setup(0x41, 0x22, 1), &[]), Answer::Stall);
        assert!(!line.raised);
        line.acm(setup(0x21, 0x22, 3), &[]);
        assert!(std::mem::take(&mut line.raised));
        line.acm(setup(0x21, 0x22, 1), &[]);
        assert!(!line.raised, "it was up already");
        line.acm(setup(0x21, 0x22, 0), &[]);
        assert!(!line.raised);
        line.acm(setup(0x21, 0x22, 1), &[]);
        assert!(line.raised);
    }

    #[test]
    fn a_cp210x_keeps_its_registers() {
        let mut line = Line::default();
        let mut ask = |kind, request, value, data: &[u8]| line.cp210x(setup(kind, request, value), data, 300);
        assert_eq!(ask(0x41, 0x1e, 0, &[0x40, 0x42, 0x0f, 0]), Answer::DONE);
        assert_eq!(ask(0xc1, 0x1d, 0, &[]), Answer::Data(vec![0x40, 0x42, 0x0f, 0]));
        assert_eq!(ask(0x41, 0x1e, 0, &[1]), Answer::Stall);
        ask(0x41, 0x03, 0x0700, &[]);
        assert_eq!(ask(0xc1, 0x04, 0, &[]), Answer::Data(vec![0, 7]));
        ask(0x41, 0x13, 0, &[9; 16]);
        assert_eq!(ask(0xc1, 0x14, 0, &[]), Answer::Data(vec![9; 16]));
        // RTS alone, then DTR alone.
        ask(0x41, 0x07, 0x0202, &[]);
        assert_eq!(ask(0xc1, 0x08, 0, &[]), Answer::Data(vec![0xb2]));
        ask(0x41, 0x07, 0x0101, &[]);
        assert_eq!(ask(0xc1, 0x08, 0, &[]), Answer::Data(vec![0xb3]));
        let Answer::Data(status) = ask(0xc1, 0x10, 0, &[]) else { panic!() };
        assert_eq!((status.len(), &status[12..16]), (19, &300_u32.to_le_bytes()[..]));
        assert_eq!(ask(0xc0, 0xff, 0x370b, &[]), Answer::Data(vec![2]));
        for (kind, request, value) in
            [(0xc0, 0xff, 0x0010), (0x41, 0x15, 1), (0xc1, 0x0f, 0), (0x41, 0x7f, 0)]
        {
            assert_eq!(ask(kind, request, value, &[]), Answer::Stall);
        }
        assert!(line.raised);
    }

    #[test]
    fn a_cp210x_forgets_what_waits_when_it_is_told_to() {
        let mut line = Line::default();
        line.cp210x(setup(0x41, 0x12, 0b0101), &[], 0);
        assert!(!line.purge, "the other direction");
        line.cp210x(setup(0x41, 0x12, 0b1111), &[], 0);
        assert!(std::mem::take(&mut line.purge));
        line.cp210x(setup(0x41, 0x00, 1), &[], 0);
        assert!(line.purge);
    }
}
