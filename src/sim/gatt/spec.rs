//! How simulated BLE peripherals are described (`match: { sim: { transport: ble, ble: … } }`). No behaviour.

use std::ops::RangeInclusive;

use serde::{Deserialize, Serialize};

use crate::sim::spec::SpecError;

/// Bytes of the ATT MTU: from the least that LE allows (Bluetooth Core Specification, Vol 3, Part G, 5.2.1) to what holds
/// the longest attribute value of 512 bytes (Vol 3, Part F, 3.2.9) behind a notification's or prepared write's header.
pub(super) const MTU: RangeInclusive<u64> = 23..=517;
/// Bytes of operation and handle before the value of a write or a notification (Vol 3, Part F, 3.4.5.3 and 3.4.7.1).
pub(in crate::sim) const ATT_OVERHEAD: u16 = 3;
/// Longest name, in bytes: what fits into a scan response of 31 bytes besides length and type (Vol 3, Part C, 11).
const NAME_LEN: usize = 29;
/// Bits of the part of an address that counts up. The upper ones are the caller's, so that fleets can be told apart.
const COUNTING_BITS: u32 = 24;
/// The two most significant bits of a static random address (Vol 6, Part B, 1.3.2.1).
const STATIC_RANDOM: u64 = 0b11 << 46;

/// A simulated device as a BLE peripheral.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields, default)]
pub struct BleSpec {
    /// The name that it advertises: `%n` stands for the device's name, `%d` for its number, from 1. Empty for none.
    pub name: String,
    /// Address of the first device, a static random one as `F0:F1:F2:00:00:01`; each further device has the next.
    pub address: String,
    /// Each boot gives the device another address.
    pub new_address_at_boot: bool,
    /// The largest ATT MTU that the device agrees to, in bytes.
    pub mtu: u16,
    /// A message may come in several writes (Zephyr `CONFIG_MCUMGR_TRANSPORT_BT_REASSEMBLY`); otherwise each write is a
    /// message of its own.
    pub reassembly: bool,
    /// What a central needs to write and to subscribe.
    pub permission: BlePermission,
    /// What the device offers.
    pub service: BleService,
    /// Whether the service stands in the advertisement.
    pub advertise_service: bool,
}

/// What a central needs to use the SMP characteristic (Zephyr, `subsys/mgmt/mcumgr/transport/Kconfig.bluetooth`).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum BlePermission {
    /// Nothing (`CONFIG_MCUMGR_TRANSPORT_BT_PERM_RW`).
    #[default]
    Open,
    /// An encrypted connection, so a bond (`…_PERM_RW_ENCRYPT`).
    Encrypted,
    /// An encrypted connection with keys that a person vouched for (`…_PERM_RW_AUTHEN`, Zephyr's default).
    Authenticated,
}

/// The service of a simulated peripheral.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum BleService {
    /// SMP.
    #[default]
    Smp,
    /// Something else, with a characteristic that looks the same: the device is no SMP server.
    Other,
}

impl Default for BleSpec {
    fn default() -> Self {
        Self {
            name: "%n".to_owned(),
            address: "F0:F1:F2:00:00:01".to_owned(),
            new_address_at_boot: false,
            mtu: 247,
            reassembly: false,
            permission: BlePermission::Open,
            service: BleService::Smp,
            advertise_service: true,
        }
    }
}

impl BleSpec {
    /// The name that the device with this index, from 0, advertises; `device` is what the simulator calls it.
    #[must_use]
    pub fn name_of(&self, device: &str, index: usize) -> Option<String> {
        let name = self.name.replace("%n", device).replace("%d", &(index + 1).to_string());
        Some(name).filter(|name| !name.is_empty())
    }

    /// Whether each device has a name of its own, by which it is known under another address.
    #[must_use]
    pub fn has_own_names(&self) -> bool {
        self.name.contains("%n") || self.name.contains("%d")
    }

    /// The address of the `index`th of `count` devices after this many boots.
    #[must_use]
    pub fn address_of(&self, index: usize, count: usize, boots: u64) -> String {
        let mask = (1_u64 << COUNTING_BITS) - 1;
        let first = parse_address(&self.address).unwrap_or(STATIC_RANDOM);
        let moved = if self.new_address_at_boot { boots.wrapping_mul(count as u64) } else { 0 };
        let low = first.wrapping_add(index as u64).wrapping_add(moved) & mask;
        let [_, _, bytes @ ..] = (first & !mask | low).to_be_bytes();
        bytes.map(|byte| format!("{byte:02X}")).join(":")
    }

    /// Adds everything here that cannot be simulated.
    pub(in crate::sim) fn problems(&self, longest_device: &str, count: usize, problems: &mut Vec<SpecError>) {
        let mut require = |holds: bool, field: &'static str, message: String| {
            if !holds {
                problems.push(SpecError { field, message });
            }
        };
        let (low, high) = (MTU.start(), MTU.end());
        require(
            MTU.contains(&u64::from(self.mtu)),
            "ble.mtu",
            format!("expected bytes from {low} to {high}, got {}", self.mtu),
        );
        let longest = self.name_of(longest_device, count.saturating_sub(1)).unwrap_or_default();
        require(
            longest.len() <= NAME_LEN,
            "ble.name",
            format!("expected at most {NAME_LEN} bytes, got {} in {longest:?}", longest.len()),
        );
        require(
            parse_address(&self.address).is_some_and(|address| address & STATIC_RANDOM == STATIC_RANDOM),
            "ble.address",
            format!(
                "expected a static random address, from C0:00:00:00:00:00 to FF:FF:FF:FF:FF:FF, got {:?}",
                self.address
            ),
        );
    }
}

/// Six bytes in hexadecimal with colons between them.
fn parse_address(text: &str) -> Option<u64> {
    let mut bytes = [0; 6];
    let mut parts = text.split(':');
    for byte in &mut bytes {
        let part =
            parts.next().filter(|part| part.len() == 2 && part.bytes().all(|b| b.is_ascii_hexdigit()))?;
        *byte = u8::from_str_radix(part, 16).ok()?;
    }
    parts.next().is_none().then(|| bytes.iter().fold(0, |sum, &byte| sum << 8 | u64::from(byte)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_count_up_by_device_and_by_boot() {
        let spec = BleSpec { address: "C0:01:02:00:00:FE".to_owned(), ..BleSpec::default() };
        assert_eq!(spec.address_of(0, 4, 3), "C0:01:02:00:00:FE");
        assert_eq!(spec.address_of(3, 4, 3), "C0:01:02:00:01:01");
        let moving = BleSpec { new_address_at_boot: true, ..spec };
        assert_eq!(moving.address_of(0, 4, 0), "C0:01:02:00:00:FE");
        assert_eq!(moving.address_of(0, 4, 1), "C0:01:02:00:01:02", "none of the four before");
        let last = BleSpec { address: "C0:01:02:FF:FF:FF".to_owned(), ..moving };
        assert_eq!(last.address_of(1, 2, 0), "C0:01:02:00:00:00", "the upper half is the caller's");
    }

    #[test]
    fn names_are_made_from_templates() {
        let named =
            |name: &str| BleSpec { name: name.to_owned(), ..BleSpec::default() }.name_of("device-3", 2);
        assert_eq!(named("%n").as_deref(), Some("device-3"));
        assert_eq!(named("SMP-%d").as_deref(), Some("SMP-3"));
        assert_eq!(named("same").as_deref(), Some("same"));
        assert_eq!(named(""), None);
    }

    #[test]
    fn what_cannot_be_is_told_with_its_key() {
        let fields = |spec: BleSpec| {
            let mut problems = Vec::new();
            spec.problems("device-1", 1, &mut problems);
            problems.iter().map(|problem| problem.field).collect::<Vec<_>>()
        };
        assert!(fields(BleSpec::default()).is_empty());
        assert_eq!(fields(BleSpec { mtu: 22, ..BleSpec::default() }), ["ble.mtu"]);
        assert_eq!(fields(BleSpec { mtu: 518, ..BleSpec::default() }), ["ble.mtu"]);
        assert_eq!(fields(BleSpec { name: "n".repeat(30), ..BleSpec::default() }), ["ble.name"]);
        for address in [
            "",
            "F0:F1:F2:F3:F4",
            "F0:F1:F2:F3:F4:F5:F6",
            "F0:F1:F2:F3:F4:+5",
            "80:F1:F2:F3:F4:F5",
            "é:F1:F2:F3:F4:F5",
        ] {
            let spec = BleSpec { address: address.to_owned(), ..BleSpec::default() };
            assert_eq!(fields(spec), ["ble.address"], "{address}");
        }
    }
}
