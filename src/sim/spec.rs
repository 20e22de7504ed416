//! How simulated devices are described, in a plan (`match: { sim: … }`) and on the command line. No behaviour.

use std::ops::RangeInclusive;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::fault::FaultSpec;
use super::firmware::{ImageHash, Version};
use super::gatt::BleSpec;
use super::recovery::RecoverySpec;
use super::usbip::{UsbKind, UsbSpec};
use crate::smp::detect::Encoding;
use crate::smp::{console, group};

/// How many devices one description may ask for.
const COUNT: RangeInclusive<u64> = 1..=10_000;
/// Bits per second.
const BAUD: RangeInclusive<u64> = 1..=u32::MAX as u64;
/// Bytes of a console line: at least one base64 quantum, marker and newline; at most the longest packet.
const LINE_LENGTH: RangeInclusive<u64> = 8..=65_535;
/// Line buffers.
const LINE_BUFFERS: RangeInclusive<u64> = 1..=1024;
/// Bytes of a buffer: at least an SMP header and an error answer; at most what the 16-bit length of a packet tells.
const BUF_SIZE: RangeInclusive<u64> = 32..=65_535;
/// Buffers: one for the request, one for its answer.
const BUF_COUNT: RangeInclusive<u64> = 2..=1024;
/// Bytes of a datagram.
const UDP_MTU: RangeInclusive<u64> = 32..=65_507;
/// Bytes of a slot: at least one page, at most what this machine should be asked to hold.
const SLOT_SIZE: RangeInclusive<u64> = 4096..=64 * 1024 * 1024;
/// Image numbers: those of a plan.
const IMAGES: RangeInclusive<u64> = 1..=16;
/// Bytes.
const WRITE_ALIGN: RangeInclusive<u64> = 1..=4096;

/// A number of equal simulated devices.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields, default)]
pub struct SimSpec {
    /// How many.
    pub count: usize,
    /// First part of each device's name; the second is its number, from 1: `device-1`.
    pub name: String,
    /// What carries the messages.
    pub transport: SimTransport,
    /// How messages are wrapped, with `transport: serial`.
    pub framing: SimFraming,
    /// Bits per second of the paced serial link, in both directions at once; `null` is as fast as it goes.
    pub baud: Option<u32>,
    /// Time a message takes each way, besides pacing, in milliseconds.
    pub latency_ms: u64,
    /// Longest console line that the server takes, in bytes, marker and newline included (Zephyr
    /// `CONFIG_UART_MCUMGR_RX_BUF_SIZE`). Longer ones are dropped silently.
    pub line_length: usize,
    /// Lines that the server can hold while its flash is busy (Zephyr `CONFIG_UART_MCUMGR_RX_BUF_COUNT`).
    pub line_buffers: usize,
    /// Size of one buffer (netbuf), in bytes.
    pub buf_size: u32,
    /// Number of buffers.
    pub buf_count: u32,
    /// Whether the server tells its buffers (OS group, command 6); otherwise `rc` 8.
    pub params: bool,
    /// Whether the server tells its bootloader (OS group, command 8); otherwise `rc` 8.
    pub bootloader_info: bool,
    /// Whether the server tells its memory pools (OS group, command 3), which Zephyr's does not; otherwise `rc` 8.
    pub memory_pools: bool,
    /// Management groups that the server has. OS (0), image (1), statistics (2), settings (3), file system (8, mounted at
    /// `/lfs1`), shell (9), enumeration (10) and Zephyr basic (63) are simulated; others are counted and answer `rc` 8.
    pub groups: Vec<u16>,
    /// Names of the server's statistics; each counts the requests that the server has seen.
    pub statistics: Vec<String>,
    /// Time to take a line out of its buffer, in microseconds; lines that follow each other faster can overrun
    /// `line_buffers`.
    pub line_us: u64,
    /// Time from the first byte of a bare message after which the server gives it up, in milliseconds (Zephyr
    /// `CONFIG_MCUMGR_TRANSPORT_RAW_UART_INPUT_TIMEOUT_TIME_MS`); 0 is never. With `framing: raw`.
    pub input_timeout_ms: u64,
    /// Longest datagram that the server reads, in bytes (Zephyr `CONFIG_MCUMGR_TRANSPORT_UDP_MTU`); the rest of a longer
    /// one is lost.
    pub udp_mtu: usize,
    /// Time from reset to the first answer, in milliseconds.
    pub boot_ms: u64,
    /// Time that a swap of the slots adds to a boot, in milliseconds.
    pub swap_ms: u64,
    /// Time from the reset's answer to the reset, in milliseconds (Zephyr `CONFIG_MCUMGR_GRP_OS_RESET_MS`).
    pub reset_ms: u64,
    /// Whether bootloader and firmware print on the serial link while they boot.
    pub boot_log: bool,
    /// Whether the port vanishes while the device is in reset, as a native USB port does and a UART bridge does not.
    pub vanishes_in_reset: bool,
    /// Whether opening the port resets the board, as wired DTR and RTS lines do.
    pub reset_on_open: bool,
    /// Version of the image that runs at first, as `major.minor.revision[.build]`.
    pub version: String,
    /// The hash by which bootloader and server know images.
    pub image_hash: ImageHash,
    /// Size of each slot, in bytes.
    pub slot_size: u32,
    /// How many images the device has, each with two slots (MCUboot `UPDATEABLE_IMAGE_NUMBER`). All run `version` at first.
    pub images: usize,
    /// The server confirms further images too, and not only the one that executes
    /// (Zephyr `CONFIG_MCUMGR_GRP_IMG_ALLOW_CONFIRM_NON_ACTIVE_IMAGE_ANY`).
    pub confirm_other_images: bool,
    /// How MCUboot updates.
    pub mode: BootMode,
    /// The server erases and overwrites a slot that waits to be swapped in
    /// (Zephyr `CONFIG_MCUMGR_GRP_IMG_ALLOW_ERASE_PENDING`); otherwise it answers `no free slot`.
    pub allow_erase_pending: bool,
    /// MCUboot refuses and erases an image of an older version.
    pub no_downgrade: bool,
    /// With direct XIP, the server refuses an upload that is linked for the slot that runs
    /// (Zephyr `CONFIG_MCUMGR_GRP_IMG_REJECT_DIRECT_XIP_MISMATCHED_SLOT`); otherwise the bootloader passes over it.
    pub reject_mismatched_slot: bool,
    /// The server checks the whole file's SHA-256 after an upload and says so in `match`
    /// (Zephyr `CONFIG_IMG_ENABLE_IMAGE_CHECK`).
    pub image_check: bool,
    /// The server adds `rsn` to errors of protocol version 1 (Zephyr `CONFIG_MCUMGR_SMP_VERBOSE_ERR_RESPONSE`).
    pub verbose_errors: bool,
    /// The server adds `rc: 0` to successes (Zephyr `CONFIG_MCUMGR_SMP_LEGACY_RC_BEHAVIOUR`, MCUboot recovery).
    pub legacy_rc: bool,
    /// The server trims each upload chunk to a multiple of this many bytes, as MCUboot's recovery does to its flash's
    /// write alignment; the last chunk is taken whole.
    pub write_align: u32,
    /// Time to handle a request, besides flash, in microseconds.
    pub process_us: u64,
    /// Time to erase 4096 bytes of flash, in microseconds.
    pub erase_page_us: u64,
    /// Time to write 1024 bytes of flash, in microseconds.
    pub write_kib_us: u64,
    /// What happens to firmware that crashes outside of its boot.
    pub on_crash: OnCrash,
    /// MCUboot's serial recovery, on serial links; without it the bootloader speaks with nobody.
    pub recovery: Option<RecoverySpec>,
    /// The device as a BLE peripheral, with `transport: ble`.
    pub ble: BleSpec,
    /// What goes wrong.
    pub fault: FaultSpec,
    /// More of what goes wrong, each with its own `only`.
    pub faults: Vec<FaultSpec>,
    /// What the boards are on USB, for `flashfleet sim --usbip`. Devices with USB of their own (`cdc_acm`) vanish in a
    /// reset wherever they are simulated.
    pub usb: Option<UsbSpec>,
}

/// How a simulated device wraps messages on its serial link.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum SimFraming {
    /// Base64 lines.
    #[default]
    Console,
    /// Bare messages.
    Raw,
    /// COBS.
    Cobs,
}

impl From<SimFraming> for Encoding {
    fn from(framing: SimFraming) -> Self {
        match framing {
            SimFraming::Console => Self::Console,
            SimFraming::Raw => Self::Raw,
            SimFraming::Cobs => Self::Cobs,
        }
    }
}

/// What carries the messages of a simulated device.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum SimTransport {
    /// A UART; `framing` says how messages are wrapped.
    #[default]
    Serial,
    /// Datagrams.
    Udp,
    /// A BLE peripheral; `ble` describes it.
    Ble,
}

/// How MCUboot updates (`mcuboot/docs/design.md`, "Image slots"; numbers of Zephyr `enum mcuboot_mode`).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum BootMode {
    /// One slot, no update by the application.
    Single,
    /// Swap through a scratch area.
    SwapScratch,
    /// The new image overwrites the old one.
    Overwrite,
    /// Swap by moving sectors.
    SwapMove,
    /// Swap by an offset: Zephyr's default since 4.2. The old image ends up where Zephyr looks for it only until the new
    /// one is confirmed, and is not listed after that.
    #[default]
    SwapOffset,
    /// Images run from either slot: the highest version boots. No test, no confirm, no revert.
    DirectXip,
    /// Images run from either slot: the highest version of those that are marked boots, and is erased after one boot
    /// unless it is confirmed.
    DirectXipWithRevert,
    /// The highest version is copied to RAM. No test, no confirm, no revert.
    RamLoad,
}

impl BootMode {
    /// The number in the answer to OS group, command 8, query `mode`; -1 for a mode that Zephyr has no number for.
    #[must_use]
    pub fn number(self) -> i32 {
        match self {
            Self::Single => 0,
            Self::SwapScratch => 1,
            Self::Overwrite => 2,
            Self::SwapMove => 3,
            Self::SwapOffset => 9,
            Self::DirectXip => 4,
            Self::DirectXipWithRevert => 5,
            Self::RamLoad => -1,
        }
    }

    /// Whether images stay in their slots, and the highest version boots.
    #[must_use]
    pub fn runs_in_place(self) -> bool {
        matches!(self, Self::DirectXip | Self::DirectXipWithRevert | Self::RamLoad)
    }
}

/// What happens to firmware that crashes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum OnCrash {
    /// It stays dead until its reset line is pulled: Zephyr's default fatal error handler.
    #[default]
    Hang,
    /// It resets (Zephyr `CONFIG_RESET_ON_FATAL_ERROR`).
    Reset,
}

impl Default for SimSpec {
    fn default() -> Self {
        Self {
            count: 1,
            name: "device".to_owned(),
            transport: SimTransport::Serial,
            framing: SimFraming::Console,
            baud: None,
            latency_ms: 0,
            line_length: console::DEFAULT_LINE_LENGTH,
            line_buffers: 2,
            buf_size: 384,
            buf_count: 4,
            params: true,
            bootloader_info: true,
            memory_pools: false,
            groups: vec![group::OS, group::IMAGE, group::STAT, group::ENUM],
            statistics: Vec::new(),
            line_us: 0,
            input_timeout_ms: 3000,
            udp_mtu: 1500,
            boot_ms: 400,
            swap_ms: 0,
            reset_ms: 250,
            boot_log: true,
            vanishes_in_reset: false,
            reset_on_open: false,
            version: "1.0.0".to_owned(),
            image_hash: ImageHash::Sha256,
            slot_size: 512 * 1024,
            images: 1,
            confirm_other_images: false,
            mode: BootMode::SwapOffset,
            allow_erase_pending: false,
            no_downgrade: false,
            reject_mismatched_slot: false,
            image_check: false,
            verbose_errors: false,
            legacy_rc: false,
            write_align: 1,
            process_us: 500,
            erase_page_us: 2000,
            write_kib_us: 1000,
            on_crash: OnCrash::Hang,
            recovery: None,
            ble: BleSpec::default(),
            fault: FaultSpec::default(),
            faults: Vec::new(),
            usb: None,
        }
    }
}

/// Why a description is not one of devices that can exist.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{field}: {message}")]
pub struct SpecError {
    /// The key, as in the plan.
    pub field: &'static str,
    /// Lower-case; what was expected and what came.
    pub message: String,
}

impl SimSpec {
    /// Time from reset to the first answer, without a swap: also what a bootloader on USB waits.
    #[must_use]
    pub fn boot(&self) -> Duration {
        let bootloader = self.usb.as_ref().and_then(|usb| usb.bootloader.as_ref());
        Duration::from_millis(self.boot_ms.saturating_add(bootloader.map_or(0, |bootloader| bootloader.ms)))
    }

    /// Whether the host loses the device while it is in reset: its port, or its connection.
    #[must_use]
    pub fn leaves_in_reset(&self) -> bool {
        let native = |usb: &UsbSpec| usb.kind == UsbKind::CdcAcm && usb.bridge.is_none();
        let ble = self.transport == SimTransport::Ble;
        self.vanishes_in_reset || ble || self.usb.as_ref().is_some_and(native)
    }

    /// Name of the device with this index, counted from 0: `device-1` is the first.
    #[must_use]
    pub fn device_name(&self, index: usize) -> String {
        format!("{}-{}", self.name, index + 1)
    }

    /// Every figure that has a range: its key, its unit, its range, and what it is.
    fn figures(&self) -> [(&'static str, &'static str, RangeInclusive<u64>, u64); 10] {
        let mtu = self.udp_mtu as u64;
        [
            ("count", "a number", COUNT, self.count as u64),
            ("baud", "bits per second", BAUD, self.baud.map_or(*BAUD.start(), u64::from)),
            ("line_length", "bytes", LINE_LENGTH, self.line_length as u64),
            ("line_buffers", "lines", LINE_BUFFERS, self.line_buffers as u64),
            ("buf_size", "bytes", BUF_SIZE, self.buf_size.into()),
            ("buf_count", "buffers", BUF_COUNT, self.buf_count.into()),
            ("udp_mtu", "bytes", UDP_MTU, mtu),
            ("images", "images", IMAGES, self.images as u64),
            ("slot_size", "bytes", SLOT_SIZE, self.slot_size.into()),
            ("write_align", "bytes", WRITE_ALIGN, self.write_align.into()),
        ]
    }

    /// Everything about this description that cannot be simulated; empty for a sound one.
    #[must_use]
    pub fn problems(&self) -> Vec<SpecError> {
        let mut problems = Vec::new();
        let mut require = |holds: bool, field: &'static str, message: String| {
            if !holds {
                problems.push(SpecError { field, message });
            }
        };
        for (field, unit, range, actual) in self.figures() {
            let (low, high) = (range.start(), range.end());
            let message = format!("expected {unit} from {low} to {high}, got {actual}");
            require(range.contains(&actual), field, message);
        }
        let named = self.name.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.'));
        require(
            named && !self.name.is_empty(),
            "name",
            format!("expected letters, digits, '-', '_' or '.', got {:?}", self.name),
        );
        let moves = !self.mode.runs_in_place() && self.mode != BootMode::Single;
        require(
            self.images <= 1 || moves,
            "images",
            "expected one image: further ones need a mode that swaps or overwrites".to_owned(),
        );
        let version = self.version.parse::<Version>();
        require(version.is_ok(), "version", version.err().unwrap_or_default());
        let last = self.device_name(self.count.saturating_sub(1));
        if self.transport == SimTransport::Ble {
            self.ble.problems(&last, self.count, &mut problems);
        }
        if let Some(recovery) = &self.recovery {
            if self.transport != SimTransport::Serial {
                let message = "expected serial devices with `recovery`, got others".to_owned();
                problems.push(SpecError { field: "transport", message });
            }
            recovery.problems(&mut problems);
        }
        if let Some(usb) = &self.usb {
            if self.transport != SimTransport::Serial {
                let message = "expected serial devices with `usb`, got others".to_owned();
                problems.push(SpecError { field: "transport", message });
            }
            usb.problems(&last, self.count, &mut problems);
        }
        for fault in std::iter::once(&self.fault).chain(&self.faults) {
            fault.problems(self.count, &mut problems);
            if fault.upload_mismatch && !self.image_check {
                let message =
                    "expected image_check: true with it: a server that checks nothing finds no mismatch";
                problems.push(SpecError { field: "upload_mismatch", message: message.to_owned() });
            }
        }
        problems
    }
}
