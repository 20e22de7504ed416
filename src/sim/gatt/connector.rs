//! How simulated BLE devices of a plan are reached: by flashfleet's own BLE transport, over an air of their own.

use std::sync::Arc;

use async_trait::async_trait;

use super::Air;
use crate::sim::fleet::Cell;
use crate::transport::ble::{BleConnector, BleHub};
use crate::transport::{Connector, Link, LinkError};

/// The Bluetooth of a fleet: an air with one adapter and this fleet in reach.
pub(in crate::sim) fn hub(cells: &[Arc<Cell>]) -> Arc<BleHub> {
    let air = Air::new(1);
    air.add_cells(cells);
    Arc::new(BleHub::new(air))
}

/// Reaches one simulated BLE device.
#[derive(Debug)]
pub(in crate::sim) struct AirConnector {
    connector: BleConnector,
    address: String,
}

impl AirConnector {
    /// For the device called `device`, at `address` and with this name, under which it is found again where it has it for
    /// itself.
    pub(in crate::sim) fn new(
        hub: &Arc<BleHub>,
        device: &str,
        address: String,
        name: Option<String>,
        by_name: bool,
    ) -> Self {
        let connector = BleConnector::new(Arc::clone(hub), address, name, by_name, Default::default());
        Self { connector, address: format!("sim:{device}") }
    }
}

#[async_trait]
impl Connector for AirConnector {
    async fn connect(&self) -> Result<Box<dyn Link>, LinkError> {
        self.connector.connect().await
    }

    fn address(&self) -> String {
        self.address.clone()
    }

    fn adapter(&self) -> Option<String> {
        self.connector.adapter()
    }
}
