//! What is known of a device besides its address. Shared by discovery and reports; holds no behaviour.

use serde::{Deserialize, Serialize};

/// Everything that tells one device from another. All parts are `None` for devices on a network.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Identity {
    /// The USB side, for ports on USB.
    pub usb: Option<UsbIdentity>,
    /// The Bluetooth side.
    pub ble: Option<BleIdentity>,
}

impl Identity {
    /// The place that names a device on the line: fixture slot, else serial number.
    #[must_use]
    pub fn slot_name(&self) -> Option<&str> {
        let usb = self.usb.as_ref()?;
        usb.hub_path.as_deref().or(usb.serial_number.as_deref())
    }
}

/// What a USB device says of itself, and where it is plugged in.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct UsbIdentity {
    /// Vendor id; four hexadecimal digits in reports, as everywhere else.
    #[serde(with = "hex_id")]
    #[cfg_attr(test, schemars(with = "String"))]
    pub vid: u16,
    /// Product id; four hexadecimal digits in reports, as everywhere else.
    #[serde(with = "hex_id")]
    #[cfg_attr(test, schemars(with = "String"))]
    pub pid: u16,
    /// Interface number, for devices with several ports.
    pub interface: Option<u8>,
    /// `iSerialNumber`.
    pub serial_number: Option<String>,
    /// `iProduct`.
    pub product: Option<String>,
    /// Bus and port chain, for example `1-2.3`: the fixture slot.
    pub hub_path: Option<String>,
}

impl UsbIdentity {
    /// `vid:pid[:interface]`: hexadecimal ids, decimal unpadded interface, as `usb:` selectors match it.
    #[must_use]
    pub fn id(&self) -> String {
        match self.interface {
            Some(interface) => format!("{:04x}:{:04x}:{interface}", self.vid, self.pid),
            None => format!("{:04x}:{:04x}", self.vid, self.pid),
        }
    }
}

/// What a Bluetooth peripheral says of itself.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct BleIdentity {
    /// Advertised name.
    pub name: Option<String>,
    /// MAC address, or the UUID that some systems give instead.
    pub address: String,
}

/// USB ids as people write them.
mod hex_id {
    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    #[expect(clippy::trivially_copy_pass_by_ref, reason = "serde calls it with a reference")]
    pub(super) fn serialize<S: Serializer>(id: &u16, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&format!("{id:04x}"))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u16, D::Error> {
        let text = String::deserialize(deserializer)?;
        u16::from_str_radix(&text, 16).map_err(|_| {
            D::Error::custom(format!("expected a USB id of four hexadecimal digits, got {text:?}"))
        })
    }
}
