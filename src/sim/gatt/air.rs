//! Adapters in memory, for which simulated peripherals are in reach: what stands behind flashfleet's own BLE transport where
//! there is no radio. In tokio's time.

use std::collections::{BTreeMap, HashSet};
use std::future::pending;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use tokio::sync::mpsc;
use tokio::time::sleep;
use uuid::Uuid;

use super::client::GattClient;
use super::protocol;
use super::spec::{ATT_OVERHEAD, BlePermission};
use crate::sim::fleet::{Cell, Fleet};
use crate::transport::ble::{
    Adapter, Advertisement, Central, Characteristic, Gatt, Peripheral, PeripheralEvent, SMP_SERVICE, Service,
    adapter_off, disconnected, no_such_peripheral, not_paired,
};
use crate::transport::{LinkError, LinkErrorKind};

/// The largest ATT MTU that a central on Linux asks for, in bytes.
const CENTRAL_MTU: u16 = 517;
/// The service that every device has (Bluetooth Assigned Numbers, 3.4.1).
const GENERIC_ACCESS: Uuid = Uuid::from_u128(0x0000_1800_0000_1000_8000_0080_5f9b_34fb);
/// How often a device advertises.
const ADVERTISING_INTERVAL: Duration = Duration::from_millis(100);
/// Notifications that wait for a host that does not take them; of more the latest are lost.
const EVENTS_KEPT: usize = 64;
/// Signal strength of every device, in dBm.
const RSSI: i16 = -50;

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The air: a number of adapters, and simulated devices that all of them hear.
#[derive(Debug)]
pub struct Air {
    adapters: Vec<AirAdapter>,
    common: Arc<Common>,
}

/// What all adapters share.
#[derive(Debug, Default)]
struct Common {
    cells: Mutex<Vec<Arc<Cell>>>,
    /// Addresses with which this machine is bonded.
    bonds: Mutex<HashSet<String>>,
}

impl Common {
    /// What is advertised now, and who does it.
    fn advertised(&self) -> Vec<(Arc<Cell>, protocol::Advertisement)> {
        let cells = lock(&self.cells);
        let advertised = cells.iter().filter_map(|cell| {
            let mut device = cell.device();
            device.advance(cell.now());
            Some((Arc::clone(cell), device.advertisement()?))
        });
        advertised.collect()
    }
}

impl Air {
    /// An air with this many adapters, `hci0` and so on, all switched on, and nobody in reach.
    #[must_use]
    pub fn new(adapters: usize) -> Arc<Self> {
        let common = Arc::<Common>::default();
        let adapter = |number| {
            AirAdapter(Arc::new(Radio {
                name: format!("hci{number}"),
                common: Arc::clone(&common),
                powered: AtomicBool::new(true),
                heard: Mutex::default(),
                connections: Mutex::default(),
            }))
        };
        Arc::new(Self { adapters: (0..adapters).map(adapter).collect(), common })
    }

    /// Puts all devices of a fleet in reach.
    pub fn add(&self, fleet: &Fleet) {
        self.add_cells(fleet.cells());
    }

    pub(super) fn add_cells(&self, cells: &[Arc<Cell>]) {
        lock(&self.common.cells).extend(cells.iter().map(Arc::clone));
    }

    /// Bonds this machine with the device at this address, as a person does with the system's means.
    pub fn bond(&self, address: &str) {
        lock(&self.common.bonds).insert(address.to_owned());
    }

    /// Switches an adapter, by its number from 0, on or off. Its connections are lost.
    ///
    /// # Panics
    /// Where there is no such adapter.
    pub fn power(&self, adapter: usize, on: bool) {
        let radio = &self.adapters[adapter].0;
        radio.powered.store(on, Ordering::Release);
        if !on {
            lock(&radio.heard).take();
            for connected in std::mem::take(&mut *lock(&radio.connections)).into_values() {
                connected.client.leave();
            }
        }
    }
}

#[async_trait]
impl Central for Air {
    async fn adapters(&self) -> Result<Vec<Arc<dyn Adapter>>, LinkError> {
        Ok(self.adapters.iter().map(|adapter| Arc::new(adapter.clone()) as Arc<dyn Adapter>).collect())
    }
}

/// One adapter.
#[derive(Debug, Clone)]
struct AirAdapter(Arc<Radio>);

/// What an adapter is and does.
#[derive(Debug)]
struct Radio {
    name: String,
    common: Arc<Common>,
    powered: AtomicBool,
    /// What was heard since the scan began, by address; `None` without a scan.
    heard: Mutex<Option<BTreeMap<String, Advertisement>>>,
    connections: Mutex<BTreeMap<String, Connected>>,
}

/// One connection of an adapter.
#[derive(Debug, Clone)]
struct Connected {
    client: Arc<GattClient>,
    /// What the device showed when it was connected.
    shown: protocol::Advertisement,
}

impl Radio {
    fn must_be_on(&self) -> Result<(), LinkError> {
        if self.powered.load(Ordering::Acquire) { Ok(()) } else { Err(adapter_off(&self.name)) }
    }

    /// The connection with this address, if it is up.
    fn connected(&self, address: &str) -> Option<Connected> {
        lock(&self.connections).get(address).filter(|connected| connected.client.is_connected()).cloned()
    }
}

fn heard(shown: &protocol::Advertisement, rssi: Option<i16>) -> Advertisement {
    Advertisement {
        address: shown.address.clone(),
        name: shown.name.clone(),
        rssi,
        smp: shown.advertise_service && shown.service == SMP_SERVICE,
    }
}

#[async_trait]
impl Adapter for AirAdapter {
    fn name(&self) -> &str {
        &self.0.name
    }

    async fn is_powered(&self) -> Result<bool, LinkError> {
        Ok(self.0.must_be_on().is_ok())
    }

    async fn start_scan(&self) -> Result<(), LinkError> {
        self.0.must_be_on()?;
        lock(&self.0.heard).get_or_insert_default();
        Ok(())
    }

    async fn stop_scan(&self) -> Result<(), LinkError> {
        lock(&self.0.heard).take();
        Ok(())
    }

    async fn heard(&self) -> Result<Vec<Advertisement>, LinkError> {
        self.0.must_be_on()?;
        let mut all = lock(&self.0.heard);
        let Some(all) = all.as_mut() else { return Ok(Vec::new()) };
        for (_, shown) in self.0.common.advertised() {
            all.insert(shown.address.clone(), heard(&shown, Some(RSSI)));
        }
        let mut told = all.clone();
        for Connected { client, shown } in lock(&self.0.connections).values() {
            if client.is_connected() {
                told.insert(shown.address.clone(), heard(shown, None));
            }
        }
        Ok(told.into_values().collect())
    }

    async fn peripheral(&self, address: &str) -> Result<Arc<dyn Peripheral>, LinkError> {
        let heard = lock(&self.0.heard).as_ref().is_some_and(|heard| heard.contains_key(address));
        let there = || self.0.common.advertised().iter().any(|(_, shown)| shown.address == address);
        if !heard && !there() && self.0.connected(address).is_none() {
            return Err(no_such_peripheral(address));
        }
        Ok(Arc::new(AirPeripheral { radio: Arc::clone(&self.0), address: address.to_owned() }))
    }
}

/// One peripheral as one adapter reaches it.
#[derive(Debug)]
struct AirPeripheral {
    radio: Arc<Radio>,
    address: String,
}

impl AirPeripheral {
    fn connected(&self) -> Result<Connected, LinkError> {
        self.radio.connected(&self.address).ok_or_else(|| disconnected(&self.address, "it is not connected"))
    }
}

#[async_trait]
impl Peripheral for AirPeripheral {
    /// Waits for as long as the device does not advertise, as an adapter does.
    async fn connect(&self) -> Result<(), LinkError> {
        loop {
            self.radio.must_be_on()?;
            if self.radio.connected(&self.address).is_some() {
                return Ok(());
            }
            let advertised = self.radio.common.advertised();
            let found = advertised.into_iter().find(|(_, shown)| shown.address == self.address);
            let client =
                found.and_then(|(cell, shown)| Some((GattClient::connect(&cell, CENTRAL_MTU)?, shown)));
            if let Some((client, shown)) = client {
                let connected = Connected { client: Arc::new(client), shown };
                lock(&self.radio.connections).insert(self.address.clone(), connected);
                return Ok(());
            }
            sleep(ADVERTISING_INTERVAL).await;
        }
    }

    async fn discover(&self) -> Result<Gatt, LinkError> {
        let Connected { client, shown } = self.connected()?;
        let characteristic = Characteristic {
            uuid: shown.characteristic,
            write_without_response: true,
            write: false,
            notify: true,
        };
        let generic = Service { uuid: GENERIC_ACCESS, characteristics: Vec::new() };
        let own = Service { uuid: shown.service, characteristics: vec![characteristic] };
        Ok(Gatt { mtu: client.mtu(), services: vec![generic, own] })
    }

    async fn subscribe(&self) -> Result<mpsc::Receiver<PeripheralEvent>, LinkError> {
        let Connected { client, shown } = self.connected()?;
        let bonded = lock(&self.radio.common.bonds).contains(&self.address);
        if shown.permission != BlePermission::Open && !bonded {
            return Err(not_paired(&self.address, "insufficient authentication"));
        }
        client.subscribe(true);
        let (events, receiver) = mpsc::channel(EVENTS_KEPT);
        let address = self.address.clone();
        tokio::spawn(async move {
            while let Some(value) = client.notified().await {
                // What nobody takes is thrown away.
                let _ = events.try_send(PeripheralEvent::Notified(value));
            }
            let lost = PeripheralEvent::Disconnected(disconnected(&address, "the device is out of reach"));
            // Whoever does not listen any more knows.
            let _ = events.send(lost).await;
        });
        Ok(receiver)
    }

    /// Waits for ever where the device does not get to know, as for a response that does not come.
    async fn resubscribe(&self) -> Result<(), LinkError> {
        let Connected { client, .. } = self.connected()?;
        if client.subscribe(false) && client.subscribe(true) { Ok(()) } else { pending().await }
    }

    async fn write(&self, data: &[u8], _with_response: bool) -> Result<(), LinkError> {
        let Connected { client, .. } = self.connected()?;
        let most = usize::from(client.mtu() - ATT_OVERHEAD);
        if data.len() > most {
            let message = format!("expected a write of at most {most} bytes, got {}", data.len());
            return Err(LinkError::new(LinkErrorKind::TooLong, message, "write smaller pieces"));
        }
        client.write(data);
        Ok(())
    }

    async fn disconnect(&self) -> Result<(), LinkError> {
        if let Some(connected) = lock(&self.radio.connections).remove(&self.address) {
            connected.client.leave();
        }
        Ok(())
    }
}
