//! A minimal client of the GDB remote protocol: enough to write memory before the first instruction.
//!
//! Source: GDB manual, appendix "GDB Remote Serial Protocol".

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use crate::error::{Context, Result, RigError};

/// Bytes written per packet; as hex they stay below the 4096 characters that QEMU's stub takes.
const CHUNK: usize = 1024;

/// A connection to QEMU's GDB stub.
#[derive(Debug)]
pub(crate) struct Gdb {
    stream: UnixStream,
}

impl Gdb {
    /// Takes over a fresh connection.
    pub(crate) fn over(stream: UnixStream) -> Result<Self> {
        stream.set_read_timeout(Some(Duration::from_secs(10)))?;
        Ok(Self { stream })
    }

    /// Writes `bytes` at `address` of the guest's memory, read-only memory included.
    pub(crate) fn write_memory(&mut self, address: u32, bytes: &[u8]) -> Result<()> {
        for (index, chunk) in bytes.chunks(CHUNK).enumerate() {
            let at = address as usize + index * CHUNK;
            let answer = self.ask(&format!("M{at:x},{:x}:{}", chunk.len(), hex::encode(chunk)))?;
            if answer != "OK" {
                return Err(RigError::new(format!(
                    "GDB stub: expected OK to a write at {at:#x}, got {answer:?}"
                )));
            }
        }
        Ok(())
    }

    /// Leaves the guest to itself; it runs on.
    pub(crate) fn detach(mut self) -> Result<()> {
        self.ask("D").map(drop)
    }

    fn ask(&mut self, request: &str) -> Result<String> {
        let sum = request.bytes().fold(0_u8, u8::wrapping_add);
        self.stream.write_all(format!("${request}#{sum:02x}").as_bytes()).context("GDB stub")?;
        loop {
            match self.byte()? {
                b'+' => {}
                b'$' => break,
                other => return Err(RigError::new(format!("GDB stub: expected + or $, got {other:#04x}"))),
            }
        }
        let mut answer = Vec::new();
        loop {
            match self.byte()? {
                b'#' => break,
                byte => answer.push(byte),
            }
        }
        let _checksum = [self.byte()?, self.byte()?];
        self.stream.write_all(b"+").context("GDB stub")?;
        Ok(String::from_utf8_lossy(&answer).into_owned())
    }

    fn byte(&mut self) -> Result<u8> {
        let mut byte = [0];
        self.stream.read_exact(&mut byte).context("GDB stub")?;
        Ok(byte[0])
    }
}
