//! This machine's Bluetooth, by way of btleplug. The only place that knows btleplug; what its errors mean is told in
//! `system_errors`.
//!
//! Read in the sources of btleplug 0.13 and bluez-async 0.9, and seen with BlueZ:
//! - Starting a scan switches the adapter on, so whether it is off must be asked before.
//! - BlueZ remembers devices; `RSSI` is there only for those heard in the scan under way. `Alias` (btleplug's local name)
//!   is the address where a device has no name: `Name` is what counts.
//! - `connect` waits for the discovery of services, 30 s, also where the connection is lost meanwhile.
//! - `Disconnect` takes 2 s. On a connection that is only coming about it ends that.
//! - Where a peripheral asks for a bond and pairing fails (no agent), `StartNotify` never answers.
//! - The MTU is a property of each characteristic, read when services are read; before, btleplug says 23.
//! - A scan filter on services hides peripherals that do not advertise theirs, and its name is looked at by nobody: so the
//!   scan has none.
//! - Where the message bus itself dies, bluez-async panics in a task of its own when a stream is dropped: a line on standard
//!   error, and no more than that.
//! - btleplug's streams end with a task of the runtime: they live in tasks here, never in what a caller may drop after it.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use btleplug::api::{
    BDAddr, Central as _, CentralEvent, CentralState, CharPropFlags, Manager as _, Peripheral as _,
    ScanFilter, WriteType,
};
use btleplug::platform;
use futures_util::future::join_all;
use futures_util::{FutureExt as _, StreamExt as _};
use tokio::sync::{broadcast, mpsc};
use tokio::task::AbortHandle;
use tokio::time::{MissedTickBehavior, interval, sleep, timeout};

use super::super::detached;
use super::super::link::{LinkError, LinkErrorKind};
use super::central::{
    Adapter, Advertisement, Central, Characteristic, Gatt, Peripheral, PeripheralEvent, SMP_CHARACTERISTIC,
    SMP_SERVICE, Service,
};
use super::errors::{adapter_off, disconnected, no_daemon, no_such_peripheral, not_smp};
use super::hub::lock;
use super::system_errors::{classify, is_not_connected, service_unreachable};

/// How long connecting to the system's message bus may take; it blocks.
const BUS_WITHIN: Duration = Duration::from_secs(5);
/// How often a connection is looked at, besides the events that tell of its end: events may be late while much is heard.
const LOOK_AT_CONNECTION: Duration = Duration::from_secs(1);
/// How often is looked whether a connection has ended.
const LOOK_FOR_END: Duration = Duration::from_millis(100);
/// How often is looked whether the adapter is why a connection ended.
const LOOKS_FOR_REASON: u32 = 5;
/// Notifications kept per device; more are thrown away. A message of 2 kB in the smallest packets has 103.
const QUEUE: usize = 1024;
/// Events of an adapter kept for each of its connections.
const EVENTS: usize = 256;

/// This machine's Bluetooth. Nothing is opened before the adapters are asked for.
#[derive(Debug, Default)]
pub struct SystemCentral {
    session: tokio::sync::Mutex<Option<Session>>,
}

struct Session {
    manager: platform::Manager,
    adapters: HashMap<String, Arc<SystemAdapter>>,
}

impl fmt::Debug for Session {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Session").field("adapters", &self.adapters).finish_non_exhaustive()
    }
}

impl SystemCentral {
    /// Not opened yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }
}

#[async_trait]
impl Central for SystemCentral {
    async fn adapters(&self) -> Result<Vec<Arc<dyn Adapter>>, LinkError> {
        let mut slot = self.session.lock().await;
        // A session that fails is opened anew at the next call: the daemon may have been started again.
        let mut session = match slot.take() {
            Some(session) => session,
            None => Session { manager: open().await?, adapters: HashMap::new() },
        };
        let listed = session.manager.adapters().await.map_err(|error| service_unreachable(&error))?;
        let mut adapters = HashMap::new();
        for adapter in listed {
            // One that is unplugged at this moment is not there.
            let Ok(info) = adapter.adapter_info().await else { continue };
            let name = info.split(" (").next().unwrap_or_default().to_owned();
            let known = session.adapters.remove(&name);
            let known = known.unwrap_or_else(|| Arc::new(SystemAdapter::new(name.clone(), adapter)));
            adapters.insert(name, known);
        }
        session.adapters = adapters;
        let adapters = session.adapters.values().map(|adapter| Arc::clone(adapter) as Arc<dyn Adapter>);
        let adapters = adapters.collect();
        *slot = Some(session);
        Ok(adapters)
    }
}

async fn open() -> Result<platform::Manager, LinkError> {
    let runtime = tokio::runtime::Handle::current();
    let job = move || runtime.block_on(platform::Manager::new());
    let opened = detached::run("open the system's message bus", BUS_WITHIN, job).await;
    opened.map_err(no_daemon)?.map_err(|error| service_unreachable(&error))
}

/// What an adapter tells of itself and its connections.
#[derive(Debug, Clone)]
enum AdapterEvent {
    Disconnected(platform::PeripheralId),
    Off,
}

#[derive(Debug)]
struct SystemAdapter {
    name: String,
    adapter: platform::Adapter,
    events: broadcast::Sender<AdapterEvent>,
    /// Who reads the adapter's events, once a peripheral is opened.
    reader: Mutex<Option<AbortHandle>>,
}

impl Drop for SystemAdapter {
    fn drop(&mut self) {
        if let Some(reader) = lock(&self.reader).take() {
            reader.abort();
        }
    }
}

impl SystemAdapter {
    fn new(name: String, adapter: platform::Adapter) -> Self {
        Self { name, adapter, events: broadcast::channel(EVENTS).0, reader: Mutex::default() }
    }

    fn read_events(&self) {
        let mut reader = lock(&self.reader);
        if reader.as_ref().is_some_and(|reader| !reader.is_finished()) {
            return;
        }
        let (adapter, sender) = (self.adapter.clone(), self.events.clone());
        let task = tokio::spawn(async move {
            // Without events the connections are still looked at.
            let Ok(mut events) = adapter.events().await else { return };
            while let Some(event) = events.next().await {
                let told = match event {
                    CentralEvent::DeviceDisconnected(id) => AdapterEvent::Disconnected(id),
                    CentralEvent::StateUpdate(CentralState::PoweredOff) => AdapterEvent::Off,
                    _ => continue,
                };
                // Nobody listens while nothing is connected.
                let _ = sender.send(told);
            }
        });
        *reader = Some(task.abort_handle());
    }
}

#[async_trait]
impl Adapter for SystemAdapter {
    fn name(&self) -> &str {
        &self.name
    }

    async fn is_powered(&self) -> Result<bool, LinkError> {
        is_on(&self.adapter, &self.name).await
    }

    async fn start_scan(&self) -> Result<(), LinkError> {
        let started = self.adapter.start_scan(ScanFilter::default()).await;
        started.map_err(|error| classify(&error, &self.name))
    }

    async fn stop_scan(&self) -> Result<(), LinkError> {
        match self.adapter.stop_scan().await {
            // An adapter that was switched off does not scan any more.
            Err(error) if classify(&error, &self.name).kind == LinkErrorKind::AdapterOff => Ok(()),
            result => result.map_err(|error| classify(&error, &self.name)),
        }
    }

    async fn heard(&self) -> Result<Vec<Advertisement>, LinkError> {
        let known = self.adapter.peripherals().await.map_err(|error| classify(&error, &self.name))?;
        Ok(join_all(known.iter().map(advertisement)).await.into_iter().flatten().collect())
    }

    async fn peripheral(&self, address: &str) -> Result<Arc<dyn Peripheral>, LinkError> {
        self.read_events();
        let known = self.adapter.peripherals().await.map_err(|error| classify(&error, &self.name))?;
        let peripheral = known.into_iter().find(|peripheral| address_of(peripheral) == address);
        let peripheral = peripheral.ok_or_else(|| no_such_peripheral(address))?;
        Ok(Arc::new(SystemPeripheral {
            address: format!("ble:{address}"),
            adapter: self.adapter.clone(),
            adapter_name: self.name.clone(),
            peripheral,
            events: self.events.clone(),
            characteristic: Mutex::default(),
        }))
    }
}

/// Whether an adapter is on. Some systems do not know it at first: that counts as on.
async fn is_on(adapter: &platform::Adapter, name: &str) -> Result<bool, LinkError> {
    let failed = |error| classify(&error, name);
    if adapter.adapter_state().await.map_err(failed)? != CentralState::PoweredOff {
        return Ok(true);
    }
    // btleplug says the same where BlueZ is gone, or the adapter.
    adapter.adapter_info().await.map_err(failed)?;
    Ok(false)
}

/// Why a connection ended: where its adapter was switched off, that. BlueZ ends connections first and tells of the
/// adapter some 100 ms later.
async fn reason(adapter: &platform::Adapter, adapter_name: &str, address: &str, why: &str) -> LinkError {
    for _ in 0..LOOKS_FOR_REASON {
        match timeout(LOOK_AT_CONNECTION, is_on(adapter, adapter_name)).await {
            Ok(Ok(true)) => sleep(LOOK_FOR_END).await,
            Ok(Ok(false)) => return adapter_off(adapter_name),
            Ok(Err(error)) if error.kind == LinkErrorKind::NoBluetooth => return error,
            Ok(Err(_)) | Err(_) => break,
        }
    }
    disconnected(address, why)
}

/// What is heard of a peripheral in the scan under way; `None` where the system only remembers it.
async fn advertisement(peripheral: &platform::Peripheral) -> Option<Advertisement> {
    // One that the system has just forgotten is not there.
    let properties = peripheral.properties().await.ok().flatten()?;
    if properties.rssi.is_none() && !peripheral.is_connected().await.unwrap_or(false) {
        return None;
    }
    let local = if cfg!(target_os = "linux") { None } else { properties.local_name };
    Some(Advertisement {
        address: address_of(peripheral),
        name: properties.advertisement_name.or(local),
        rssi: properties.rssi,
        smp: properties.services.contains(&SMP_SERVICE),
    })
}

/// The MAC address, or the system's own id where it does not tell one.
fn address_of(peripheral: &platform::Peripheral) -> String {
    let address = peripheral.address();
    if address == BDAddr::default() { peripheral.id().to_string() } else { address.to_string() }
        .to_ascii_uppercase()
}

#[derive(Debug)]
struct SystemPeripheral {
    /// In the grammar of the command line.
    address: String,
    adapter: platform::Adapter,
    adapter_name: String,
    peripheral: platform::Peripheral,
    events: broadcast::Sender<AdapterEvent>,
    /// That of SMP, once services were read.
    characteristic: Mutex<Option<btleplug::api::Characteristic>>,
}

impl SystemPeripheral {
    fn smp(&self) -> Result<btleplug::api::Characteristic, LinkError> {
        let smp = lock(&self.characteristic).clone();
        smp.ok_or_else(|| not_smp(&self.address, "its services were not read"))
    }

    /// Hands on what the peripheral sends, until it is gone or nobody takes it.
    fn pump(
        &self,
        mut notifications: impl futures_util::Stream<Item = btleplug::api::ValueNotification>
        + Unpin
        + Send
        + 'static,
        mut events: broadcast::Receiver<AdapterEvent>,
    ) -> mpsc::Receiver<PeripheralEvent> {
        let (sender, receiver) = mpsc::channel(QUEUE);
        let (peripheral, adapter) = (self.peripheral.clone(), self.adapter.clone());
        let (address, adapter_name) = (self.address.clone(), self.adapter_name.clone());
        tokio::spawn(async move {
            let id = peripheral.id();
            let mut looks = interval(LOOK_AT_CONNECTION);
            looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
            let notified = |value: Vec<u8>| {
                // What nobody takes is lost, as it would be on the air.
                let _ = sender.try_send(PeripheralEvent::Notified(value));
            };
            let why = loop {
                tokio::select! {
                    biased;
                    () = sender.closed() => return,
                    next = notifications.next() => match next {
                        Some(notification) if notification.uuid == SMP_CHARACTERISTIC => notified(notification.value),
                        Some(_) => {}
                        None => break "the system tells no more of it",
                    },
                    event = events.recv() => match event {
                        Ok(AdapterEvent::Disconnected(other)) if other == id => break "the connection ended",
                        // Its connections end too, so this is only sooner.
                        Ok(AdapterEvent::Off) => break "the adapter was switched off",
                        // Looked at every second anyway.
                        _ => {}
                    },
                    _ = looks.tick() => match timeout(super::errors::CALL_WITHIN, peripheral.is_connected()).await {
                        Ok(Ok(true)) => {}
                        Ok(Ok(false)) => break "the connection ended",
                        Ok(Err(_)) => break "the system does not know it any more",
                        Err(_elapsed) => break "the system does not say whether it is connected",
                    },
                }
            };
            // What came before the end counts.
            while let Some(Some(notification)) = notifications.next().now_or_never() {
                if notification.uuid == SMP_CHARACTERISTIC {
                    notified(notification.value);
                }
            }
            let error = reason(&adapter, &adapter_name, &address, why).await;
            // Nobody may be there to hear it.
            let _ = sender.send(PeripheralEvent::Disconnected(error)).await;
        });
        receiver
    }
}

#[async_trait]
impl Peripheral for SystemPeripheral {
    async fn connect(&self) -> Result<(), LinkError> {
        self.peripheral.connect().await.map_err(|error| classify(&error, &self.address))
    }

    async fn discover(&self) -> Result<Gatt, LinkError> {
        self.peripheral.discover_services().await.map_err(|error| classify(&error, &self.address))?;
        let services = self.peripheral.services();
        let mut smp = services.iter().filter(|service| service.uuid == SMP_SERVICE);
        let smp = smp.find_map(|service| {
            service.characteristics.iter().find(|characteristic| characteristic.uuid == SMP_CHARACTERISTIC)
        });
        *lock(&self.characteristic) = smp.cloned();
        let services = services.into_iter().map(|service| Service {
            uuid: service.uuid,
            characteristics: service.characteristics.iter().map(characteristic).collect(),
        });
        Ok(Gatt { mtu: self.peripheral.mtu(), services: services.collect() })
    }

    async fn subscribe(&self) -> Result<mpsc::Receiver<PeripheralEvent>, LinkError> {
        let characteristic = self.smp()?;
        let failed = |error| classify(&error, &self.address);
        let events = self.events.subscribe();
        // Before the subscription, so that nothing is missed.
        let notifications = self.peripheral.notifications().await.map_err(failed)?;
        self.peripheral.subscribe(&characteristic).await.map_err(failed)?;
        Ok(self.pump(notifications, events))
    }

    async fn resubscribe(&self) -> Result<(), LinkError> {
        let characteristic = self.smp()?;
        let failed = |error| classify(&error, &self.address);
        // The stream of notifications is the peripheral's and goes on.
        self.peripheral.unsubscribe(&characteristic).await.map_err(failed)?;
        self.peripheral.subscribe(&characteristic).await.map_err(failed)
    }

    async fn write(&self, data: &[u8], with_response: bool) -> Result<(), LinkError> {
        let characteristic = self.smp()?;
        let kind = if with_response { WriteType::WithResponse } else { WriteType::WithoutResponse };
        let written = self.peripheral.write(&characteristic, data, kind).await;
        written.map_err(|error| classify(&error, &self.address))
    }

    async fn disconnect(&self) -> Result<(), LinkError> {
        match self.peripheral.disconnect().await {
            Err(error) if !is_not_connected(&error) => return Err(classify(&error, &self.address)),
            _ => {}
        }
        // Not every system waits for the end.
        while self.peripheral.is_connected().await.unwrap_or(false) {
            sleep(LOOK_FOR_END).await;
        }
        Ok(())
    }
}

fn characteristic(of: &btleplug::api::Characteristic) -> Characteristic {
    Characteristic {
        uuid: of.uuid,
        write_without_response: of.properties.contains(CharPropFlags::WRITE_WITHOUT_RESPONSE),
        write: of.properties.contains(CharPropFlags::WRITE),
        notify: of.properties.contains(CharPropFlags::NOTIFY),
    }
}
