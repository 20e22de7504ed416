//! Reads flashfleet's wire logs (`run --trace DIR`) with the rig's own decoder: what a log says went over the wire has to
//! be frames that anyone can decode.

use std::path::Path;

use ciborium::Value;

use crate::console::{Decoder, Head, Line, body};
use crate::error::{Context, Result, RigError};

/// One device's wire log, decoded.
#[derive(Debug, Default)]
pub(crate) struct Traced {
    /// The link, as its lines name it.
    pub(crate) link: String,
    /// Messages to the device, out of the bytes.
    pub(crate) sent: Vec<Vec<u8>>,
    /// Messages from the device, out of the bytes.
    pub(crate) received: Vec<Vec<u8>>,
}

impl Traced {
    /// How many requests of a kind went out: for example resets, `(2, 0, 5)`.
    pub(crate) fn requests(&self, op: u8, group: u16, command: u8) -> usize {
        let kind = |head: &Head| (head.op, head.group, head.command) == (op, group, command);
        self.sent.iter().filter(|message| Head::of(message).as_ref().is_some_and(kind)).count()
    }

    /// The file that the upload requests put together.
    pub(crate) fn uploaded(&self) -> Vec<u8> {
        let mut file = Vec::new();
        for message in &self.sent {
            let upload =
                Head::of(message).is_some_and(|head| (head.op, head.group, head.command) == (2, 1, 1));
            let Some(Value::Map(entries)) = body(message).filter(|_| upload) else { continue };
            let entry = |key: &str| {
                entries.iter().find(|(name, _)| name.as_text() == Some(key)).map(|(_, value)| value.clone())
            };
            let offset = entry("off").and_then(|off| usize::try_from(off.as_integer()?).ok());
            if let (Some(offset), Some(Value::Bytes(data))) = (offset, entry("data")) {
                let end = offset + data.len();
                file.resize(file.len().max(end), 0);
                file[offset..end].copy_from_slice(&data);
            }
        }
        file
    }
}

/// Every log of a folder.
pub(crate) fn read(folder: &Path) -> Result<Vec<Traced>> {
    let mut logs = Vec::new();
    for entry in std::fs::read_dir(folder).context(folder.display())? {
        let path = entry?.path();
        let text = std::fs::read_to_string(&path).context(path.display())?;
        logs.push(decode(&text).context(path.display())?);
    }
    Ok(logs)
}

fn decode(text: &str) -> Result<Traced> {
    let mut log = Traced::default();
    let (mut to_device, mut from_device) = (Stream::default(), Stream::default());
    let mut told = [0, 0];
    for line in text.lines() {
        let unreadable = || RigError::new(format!("unreadable line: {line}"));
        let mut fields = line.splitn(5, ' ');
        let mut field = || fields.next().ok_or_else(unreadable);
        let (_time, direction, link, kind) = (field()?, field()?, field()?, field()?);
        let rest = fields.next().unwrap_or_default();
        link.clone_into(&mut log.link);
        match (direction, kind) {
            ("tx", "bytes") => log.sent.extend(to_device.take(&unescape(rest)?)),
            ("rx", "bytes") => log.received.extend(from_device.take(&unescape(rest)?)),
            ("tx", "smp") => told[0] += 1,
            ("rx", "smp") => told[1] += 1,
            ("--", "note") => {}
            _ => return Err(unreadable()),
        }
    }
    // Each message is told twice: as the bytes that went, and by its header.
    let decoded = [log.sent.len(), log.received.len()];
    if told != decoded || decoded[0] == 0 {
        return Err(RigError::new(format!("the log tells of {told:?} messages, its bytes hold {decoded:?}")));
    }
    Ok(log)
}

/// One direction of a link.
#[derive(Default)]
struct Stream {
    decoder: Decoder,
    line: Vec<u8>,
}

impl Stream {
    fn take(&mut self, bytes: &[u8]) -> Vec<Vec<u8>> {
        let mut messages = Vec::new();
        for byte in bytes {
            self.line.push(*byte);
            if *byte == b'\n'
                && let Line::Message(message) = self.decoder.line(&std::mem::take(&mut self.line))
            {
                messages.push(message);
            }
        }
        messages
    }
}

/// The bytes of a quoted text as logs have it: printable ASCII as it is, `\n`, `\r`, `\t`, `\\`, `\'`, `\"`, `\xNN`.
fn unescape(quoted: &str) -> Result<Vec<u8>> {
    let wrong = || RigError::new(format!("expected quoted bytes, got {quoted}"));
    let inner = quoted.strip_prefix('"').and_then(|rest| rest.strip_suffix('"')).ok_or_else(wrong)?;
    let mut bytes = Vec::new();
    let mut rest = inner.bytes();
    while let Some(byte) = rest.next() {
        bytes.push(match byte {
            b'\\' => match rest.next().ok_or_else(wrong)? {
                b'n' => b'\n',
                b'r' => b'\r',
                b't' => b'\t',
                b'x' => {
                    let digits = [rest.next().ok_or_else(wrong)?, rest.next().ok_or_else(wrong)?];
                    *hex::decode(digits).context(quoted)?.first().ok_or_else(wrong)?
                }
                other => other,
            },
            other => other,
        });
    }
    Ok(bytes)
}
