//! What a simulated device and its radio say to each other: JSON, one object per line, in both directions over one stream
//! per device. The radio knows GATT and nothing of SMP; the device knows SMP and nothing of air. See `docs/simulator.md`.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use uuid::Uuid;

use super::spec::{BlePermission, BleService};
use crate::sim::spec::SimSpec;
use crate::transport::ble::{SMP_CHARACTERISTIC, SMP_SERVICE};

/// A service of another kind, with a characteristic of the same shape: a serial port (Nordic UART Service).
const OTHER_SERVICE: Uuid = Uuid::from_u128(0x6e40_0001_b5a3_f393_e0a9_e50e_24dc_ca9e);
const OTHER_CHARACTERISTIC: Uuid = Uuid::from_u128(0x6e40_0002_b5a3_f393_e0a9_e50e_24dc_ca9e);

/// What a peripheral shows to every central: its advertisement, and the one service behind it, whose characteristic is
/// written without response and notifies.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Advertisement {
    /// Its static random address.
    pub address: String,
    /// Its name, if it has one.
    pub name: Option<String>,
    /// UUID of the service.
    pub service: Uuid,
    /// UUID of the characteristic.
    pub characteristic: Uuid,
    /// Whether the service stands in the advertisement.
    pub advertise_service: bool,
    /// What a central needs to use the characteristic.
    pub permission: BlePermission,
    /// The largest ATT MTU to agree to, in bytes.
    pub mtu: u16,
}

impl Advertisement {
    /// What the device with this index, from 0, shows after so many boots. Firmware without an SMP server has the other
    /// service.
    pub(in crate::sim) fn new(spec: &SimSpec, index: usize, boots: u64, serves: bool) -> Self {
        let ble = &spec.ble;
        let (service, characteristic) = match ble.service {
            BleService::Smp if serves => (SMP_SERVICE, SMP_CHARACTERISTIC),
            _ => (OTHER_SERVICE, OTHER_CHARACTERISTIC),
        };
        Self {
            address: ble.address_of(index, spec.count, boots),
            name: ble.name_of(&spec.device_name(index), index),
            service,
            characteristic,
            advertise_service: ble.advertise_service,
            permission: ble.permission,
            mtu: ble.mtu,
        }
    }
}

/// What a device says to its radio.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ToRadio {
    /// Advertise this, until told otherwise or connected.
    Advertise(Advertisement),
    /// Do not advertise, and drop the connection if there is one, as a device does that is switched off.
    Silence,
    /// Notify this value.
    Notify(#[serde(serialize_with = "to_base64", deserialize_with = "from_base64")] Vec<u8>),
}

/// What a radio says to its device.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FromRadio {
    /// A central has connected.
    Connected,
    /// Both have agreed on this ATT MTU, in bytes; 23 without it.
    Mtu(u16),
    /// The central wants notifications, or no more of them.
    Subscribed(bool),
    /// The central has written this value.
    Write(#[serde(serialize_with = "to_base64", deserialize_with = "from_base64")] Vec<u8>),
    /// The central is gone, for whatever reason.
    Disconnected,
}

fn to_base64<S: Serializer>(bytes: &[u8], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&STANDARD.encode(bytes))
}

fn from_base64<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<u8>, D::Error> {
    STANDARD.decode(String::deserialize(deserializer)?).map_err(de::Error::custom)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_lines_are_what_the_documentation_says() {
        let line = |message: &ToRadio| serde_json::to_string(message).unwrap();
        assert_eq!(line(&ToRadio::Silence), r#""silence""#);
        assert_eq!(line(&ToRadio::Notify(vec![1, 2, 3])), r#"{"notify":"AQID"}"#);
        let spec = SimSpec::default();
        assert_eq!(
            line(&ToRadio::Advertise(Advertisement::new(&spec, 1, 0, true))),
            concat!(
                r#"{"advertise":{"address":"F0:F1:F2:00:00:02","name":"device-2","#,
                r#""service":"8d53dc1d-1db7-4cd3-868b-8a527460aa84","#,
                r#""characteristic":"da2e7828-fbce-4e01-ae9e-261174997c48","#,
                r#""advertise_service":true,"permission":"open","mtu":247}}"#
            )
        );
        let read = |line: &str| serde_json::from_str::<FromRadio>(line).unwrap();
        assert_eq!(read(r#""connected""#), FromRadio::Connected);
        assert_eq!(read(r#"{"mtu":185}"#), FromRadio::Mtu(185));
        assert_eq!(read(r#"{"subscribed":true}"#), FromRadio::Subscribed(true));
        assert_eq!(read(r#"{"write":"AQID"}"#), FromRadio::Write(vec![1, 2, 3]));
        assert_eq!(read(r#""disconnected""#), FromRadio::Disconnected);
        assert!(serde_json::from_str::<FromRadio>(r#"{"write":"?"}"#).is_err());
    }
}
