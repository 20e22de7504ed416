//! What goes into a diagnosis and what comes out of it. No behaviour.

use std::time::Duration;

/// What holds the length of messages.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MessageBound {
    /// The server's buffers, of which `overhead` bytes are not the message's. Link and plan allow messages of `most` bytes.
    Buffers {
        /// Bytes of a buffer besides the message.
        overhead: usize,
        /// Longest message that link and plan allow, in bytes.
        most: usize,
    },
    /// The plan; the server itself would take messages of `most` bytes.
    Plan {
        /// Longest message of the server, in bytes.
        most: usize,
    },
    /// One GATT write, as the server does not put several together; its buffers would take messages of `most` bytes.
    Write {
        /// Longest message of the server, in bytes.
        most: usize,
    },
    /// The server does not tell its buffers.
    Untold,
    /// The link.
    Link,
}

/// What holds the number of chunks in flight.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WindowBound {
    /// The server's buffers; the plan allows `most`.
    Buffers {
        /// Chunks.
        most: usize,
    },
    /// The plan; the server itself would take `most`.
    Plan {
        /// Chunks.
        most: usize,
    },
    /// The server does not tell its buffers.
    Untold,
}

/// What an upload had to go by.
#[derive(Clone, Copy)]
pub struct Conditions<'a> {
    /// Length of the file, in bytes.
    pub file_len: usize,
    /// Longest message, in bytes, SMP header included.
    pub max_message: usize,
    /// What holds it.
    pub message_bound: MessageBound,
    /// Most chunks in flight.
    pub window: usize,
    /// What holds it.
    pub window_bound: WindowBound,
    /// Bytes per second on the wire each way; `None` where it is not known.
    pub wire_bytes_per_s: Option<f64>,
    /// Bytes on the wire for a message of so many bytes.
    pub wire_len: &'a dyn Fn(usize) -> usize,
    /// The shortest time that any small request took besides its and its answer's bytes on the wire.
    pub quick_trip: Option<Duration>,
    /// The link is a Bluetooth connection.
    pub radio: bool,
}

impl std::fmt::Debug for Conditions<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Conditions").field("window", &self.window).finish_non_exhaustive()
    }
}

/// The one thing that limits.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Bottleneck {
    /// Too little was measured, or nothing stands out.
    #[default]
    Unknown,
    /// The wire is busy.
    BaudRate,
    /// Each round trip carries little, as the messages are short.
    BufferSize,
    /// Each round trip carries little, as few messages are in flight.
    BufferCount,
    /// The same, as the plan says.
    Window,
    /// Each round trip carries no more than one GATT write.
    Mtu,
    /// Round trips are long, and the buffers are large and many already.
    Latency,
    /// Erasing the slot.
    Erase,
    /// The server takes its time for each chunk.
    Device,
    /// Either, or a link whose speed is not known.
    LinkOrDevice,
    /// Waiting for what was lost.
    Loss,
}

/// What to change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change {
    /// The line's speed, in bits per second, at both ends.
    Baud(u32),
    /// The size of the server's buffers, in bytes.
    BufferSize(usize),
    /// The size of the buffers in the plan.
    PlanBuffer,
    /// The number of the server's buffers.
    BufferCount(usize),
    /// The window in the plan.
    PlanWindow,
    /// The server tells its buffers.
    TellBuffers,
    /// The server puts GATT writes together.
    Reassembly,
    /// The server asks for a short connection interval.
    ConnectionInterval,
    /// The server erases while it receives.
    EraseProgressively,
}

impl Change {
    /// The setting as its user knows it: a key of the plan or a Kconfig symbol of Zephyr 4.4, and its value
    /// (`subsys/mgmt/mcumgr/transport/Kconfig`, `Kconfig.bluetooth`, `grp/os_mgmt/Kconfig`, `subsys/dfu/Kconfig`).
    #[must_use]
    pub fn setting(self) -> (&'static str, String) {
        match self {
            Self::Baud(baud) => ("link.baud", baud.to_string()),
            Self::BufferSize(size) => ("CONFIG_MCUMGR_TRANSPORT_NETBUF_SIZE", size.to_string()),
            Self::PlanBuffer => ("link.buffer", "auto".to_owned()),
            Self::BufferCount(count) => ("CONFIG_MCUMGR_TRANSPORT_NETBUF_COUNT", count.to_string()),
            Self::PlanWindow => ("link.window", "auto".to_owned()),
            Self::TellBuffers => ("CONFIG_MCUMGR_GRP_OS_MCUMGR_PARAMS", "y".to_owned()),
            Self::Reassembly => ("CONFIG_MCUMGR_TRANSPORT_BT_REASSEMBLY", "y".to_owned()),
            Self::ConnectionInterval => ("CONFIG_MCUMGR_TRANSPORT_BT_CONN_PARAM_CONTROL", "y".to_owned()),
            Self::EraseProgressively => ("CONFIG_IMG_ERASE_PROGRESSIVELY", "y".to_owned()),
        }
    }
}

/// What would lift the limit.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Remedy {
    /// The change.
    pub change: Change,
    /// Bytes of the file per second over the whole upload that it would give at most, with everything else as it was
    /// measured; `None` where that cannot be told.
    pub bytes_per_s: Option<f64>,
}

/// What an upload's measurements say. Times are seconds; `None` where they were not measured.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Diagnosis {
    /// Bytes of the file per second between the first answer and the last: without the erase.
    pub streaming_bytes_per_s: Option<f64>,
    /// From the first request to its answer, less a usual round trip.
    pub erase_s: Option<f64>,
    /// Bytes of the file in one full chunk.
    pub chunk_bytes: usize,
    /// Chunks in flight most of the time.
    pub in_flight: usize,
    /// One chunk and its answer, with nothing else on the way.
    pub round_trip_s: Option<f64>,
    /// Of that, a chunk's time on the wire.
    pub wire_s: Option<f64>,
    /// Of that, what any request takes besides its bytes.
    pub latency_s: Option<f64>,
    /// How long the server is busy with one chunk.
    pub device_s: Option<f64>,
    /// What limits.
    pub limited_by: Bottleneck,
    /// What would lift it, where a setting does.
    pub remedy: Option<Remedy>,
}
