//! How long chunks take, by a link and a server with these properties. Arithmetic only.

use super::to_f64;

/// One chunk's way, in seconds, and how many are on it at once.
#[derive(Debug, Clone, Copy)]
pub(super) struct Model {
    /// Bytes of the file.
    pub(super) data: f64,
    /// On the wire; 0 where its speed is not known.
    pub(super) request: f64,
    pub(super) answer: f64,
    /// What any request takes besides its bytes.
    pub(super) quick: f64,
    /// What the data takes more than that: the flash, and the wire where its speed is not known. Grows with the data.
    pub(super) handling: f64,
    /// The server's part of `quick`, as far as it is known: it takes one message at a time.
    pub(super) serial: f64,
    pub(super) window: f64,
}

impl Model {
    pub(super) fn trip(&self) -> f64 {
        self.request + self.answer + self.quick + self.handling
    }

    /// How long the server is busy with a chunk.
    pub(super) fn service(&self) -> f64 {
        self.serial + self.handling + self.answer
    }

    /// From one answer to the next.
    pub(super) fn interval(&self) -> f64 {
        (self.trip() / self.window).max(self.request).max(self.service())
    }

    /// How long so many chunks take with a window that begins at one and grows after as many answers in a row as the size
    /// has, where as many before belong to the size below.
    pub(super) fn time(&self, chunks: f64) -> f64 {
        let (mut left, mut time, mut size) = (chunks, 0.0, 1.0);
        while size < self.window && left > 0.0 {
            let here = left.min(2.0 * size - 1.0);
            time += here * Self { window: size, ..*self }.interval();
            left -= here;
            size += 1.0;
        }
        time + left * self.interval()
    }

    pub(super) fn with_window(self, window: usize) -> Self {
        Self { window: to_f64(window.max(1)), ..self }
    }

    pub(super) fn with_wire(self, times: f64) -> Self {
        Self { request: self.request / times, answer: self.answer / times, ..self }
    }
}
