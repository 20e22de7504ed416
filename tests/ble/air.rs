//! A radio in memory: adapters, peripherals with an SMP server of two commands, and what goes wrong with each call.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use async_trait::async_trait;
use ciborium::Value;
use flashfleet::plan::Auto;
use flashfleet::smp::{HEADER_LEN, Header, Op};
use flashfleet::transport::ble::{
    Adapter, Advertisement, BleConnector, BleHub, Central, Gatt, Peripheral, PeripheralEvent, disconnected,
    no_such_peripheral,
};
use flashfleet::transport::{LinkError, LinkErrorKind};
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep};

/// How long a connection takes to come about in this radio.
pub(crate) const CONNECT_TAKES: Duration = Duration::from_millis(700);

/// What a call does the next time.
#[derive(Debug, Clone)]
pub(crate) enum Does {
    Fail(LinkError),
    Hang,
}

/// One peripheral.
pub(crate) struct Device {
    pub(crate) name: Option<String>,
    pub(crate) smp: bool,
    /// Signal strength by adapter; absent where the adapter does not hear it.
    pub(crate) heard_by: BTreeMap<String, i16>,
    pub(crate) advertises: bool,
    pub(crate) gatt: Gatt,
    /// Puts several writes together to one message.
    pub(crate) reassembles: bool,
    pub(crate) buf_size: u32,
    /// Does not get the write that is so many writes away, from 1.
    pub(crate) loses: Option<usize>,
    /// Answers nothing.
    pub(crate) mute: bool,
    /// Notifications carry this many bytes, where that is not MTU − 3.
    pub(crate) notify_len: Option<usize>,
    /// What happened, by call: `connect`, `disconnect`, …
    pub(crate) calls: HashMap<&'static str, usize>,
    /// The lengths of all writes.
    pub(crate) writes: Vec<usize>,
    part: Vec<u8>,
    link: Option<mpsc::Sender<PeripheralEvent>>,
    pub(crate) connected: bool,
    next: HashMap<&'static str, VecDeque<Does>>,
}

#[derive(Default)]
pub(crate) struct State {
    pub(crate) adapters: BTreeMap<String, AdapterState>,
    pub(crate) devices: BTreeMap<String, Device>,
    pub(crate) next: HashMap<&'static str, VecDeque<Does>>,
    /// What must not happen and did.
    pub(crate) wrong: Vec<String>,
    /// Most adapters that connected at the same time.
    pub(crate) most_connecting: usize,
    /// Connections that came about, in order.
    pub(crate) order: Vec<(String, String)>,
}

#[derive(Default)]
pub(crate) struct AdapterState {
    pub(crate) off: bool,
    scanning: bool,
    connecting: usize,
    pub(crate) scans: usize,
}

/// The radio.
#[derive(Clone, Default)]
pub(crate) struct Air(Arc<Mutex<State>>);

impl std::fmt::Debug for Air {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Air")
    }
}

impl Air {
    /// With these adapters.
    pub(crate) fn new(adapters: &[&str]) -> Self {
        let air = Self::default();
        for name in adapters {
            air.state().adapters.insert((*name).to_owned(), AdapterState::default());
        }
        air
    }

    pub(crate) fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().expect("nobody panicked")
    }

    /// An SMP server that everybody hears.
    pub(crate) fn device(&self, address: &str, name: &str) {
        let heard_by = self.state().adapters.keys().map(|adapter| (adapter.clone(), -50)).collect();
        let device = Device {
            name: Some(name.to_owned()),
            smp: true,
            heard_by,
            advertises: true,
            gatt: Gatt::smp(247),
            reassembles: true,
            buf_size: 1024,
            loses: None,
            mute: false,
            notify_len: None,
            calls: HashMap::new(),
            writes: Vec::new(),
            part: Vec::new(),
            link: None,
            connected: false,
            next: HashMap::new(),
        };
        self.state().devices.insert(address.to_owned(), device);
    }

    pub(crate) fn with<T>(&self, address: &str, change: impl FnOnce(&mut Device) -> T) -> T {
        change(self.state().devices.get_mut(address).expect("a device"))
    }

    pub(crate) fn count(&self, address: &str, call: &str) -> usize {
        self.with(address, |device| device.calls.get(call).copied().unwrap_or(0))
    }

    /// What a device's call does next, once.
    pub(crate) fn next(&self, address: &str, call: &'static str, does: Does) {
        self.with(address, |device| device.next.entry(call).or_default().push_back(does));
    }

    /// What a call of an adapter, or of the machine, does next, once.
    pub(crate) fn next_of_machine(&self, call: &'static str, does: Does) {
        self.state().next.entry(call).or_default().push_back(does);
    }

    /// The device leaves: its connection ends and it does not advertise.
    pub(crate) fn leave(&self, address: &str) {
        self.lose(address, disconnected(address, "it left"));
        self.with(address, |device| device.advertises = false);
    }

    /// The connection ends.
    pub(crate) fn lose(&self, address: &str, error: LinkError) {
        self.with(address, |device| {
            device.connected = false;
            device.part.clear();
            if let Some(link) = device.link.take() {
                let _ = link.try_send(PeripheralEvent::Disconnected(error));
            }
        });
    }

    /// Sends a notification.
    pub(crate) fn notify(&self, address: &str, bytes: &[u8]) {
        self.with(address, |device| {
            let link = device.link.as_ref().expect("a subscription");
            link.try_send(PeripheralEvent::Notified(bytes.to_vec())).expect("room");
        });
    }

    pub(crate) fn hub(&self) -> Arc<BleHub> {
        Arc::new(BleHub::new(Arc::new(self.clone())))
    }

    /// A connector for a device that is known by its name.
    pub(crate) fn connector(&self, hub: &Arc<BleHub>, address: &str) -> BleConnector {
        let name = self.with(address, |device| device.name.clone());
        BleConnector::new(Arc::clone(hub), address, name, true, Auto::Auto)
    }

    async fn of_machine(&self, call: &'static str) -> Result<(), LinkError> {
        let does = self.state().next.get_mut(call).and_then(VecDeque::pop_front);
        obey(does).await
    }
}

async fn obey(does: Option<Does>) -> Result<(), LinkError> {
    match does {
        None => Ok(()),
        Some(Does::Fail(error)) => Err(error),
        Some(Does::Hang) => std::future::pending().await,
    }
}

#[async_trait]
impl Central for Air {
    async fn adapters(&self) -> Result<Vec<Arc<dyn Adapter>>, LinkError> {
        self.of_machine("adapters").await?;
        let names: Vec<String> = self.state().adapters.keys().cloned().collect();
        let adapter = |name| Arc::new(AirAdapter { air: self.clone(), name }) as Arc<dyn Adapter>;
        Ok(names.into_iter().map(adapter).collect())
    }
}

#[derive(Debug)]
struct AirAdapter {
    air: Air,
    name: String,
}

impl AirAdapter {
    fn with<T>(&self, change: impl FnOnce(&mut AdapterState) -> T) -> T {
        change(self.air.state().adapters.get_mut(&self.name).expect("an adapter"))
    }
}

#[async_trait]
impl Adapter for AirAdapter {
    fn name(&self) -> &str {
        &self.name
    }

    async fn is_powered(&self) -> Result<bool, LinkError> {
        self.air.of_machine("is_powered").await?;
        Ok(!self.with(|adapter| adapter.off))
    }

    async fn start_scan(&self) -> Result<(), LinkError> {
        self.air.of_machine("start_scan").await?;
        let wrong = self.with(|adapter| {
            let wrong = adapter.connecting > 0 || adapter.scanning;
            adapter.scanning = true;
            adapter.scans += 1;
            wrong
        });
        if wrong {
            self.air.state().wrong.push(format!("{} scans while it does something else", self.name));
        }
        Ok(())
    }

    async fn stop_scan(&self) -> Result<(), LinkError> {
        self.air.of_machine("stop_scan").await?;
        self.with(|adapter| adapter.scanning = false);
        Ok(())
    }

    async fn heard(&self) -> Result<Vec<Advertisement>, LinkError> {
        self.air.of_machine("heard").await?;
        let state = self.air.state();
        Ok(state
            .devices
            .iter()
            .filter(|(_, device)| device.advertises && !device.connected)
            .filter_map(|(address, device)| {
                Some(Advertisement {
                    address: address.clone(),
                    name: device.name.clone(),
                    rssi: Some(*device.heard_by.get(&self.name)?),
                    smp: device.smp,
                })
            })
            .collect())
    }

    async fn peripheral(&self, address: &str) -> Result<Arc<dyn Peripheral>, LinkError> {
        self.air.of_machine("peripheral").await?;
        if !self.air.state().devices.contains_key(address) {
            return Err(no_such_peripheral(address));
        }
        let (air, adapter) = (self.air.clone(), self.name.clone());
        Ok(Arc::new(AirPeripheral { air, adapter, address: address.to_owned() }))
    }
}

#[derive(Debug)]
struct AirPeripheral {
    air: Air,
    adapter: String,
    address: String,
}

/// Counts an adapter as connecting, also where the call is given up.
struct Connecting<'a>(&'a AirPeripheral);

impl<'a> Connecting<'a> {
    fn new(peripheral: &'a AirPeripheral) -> Self {
        let mut state = peripheral.air.state();
        let adapter = state.adapters.get_mut(&peripheral.adapter).expect("an adapter");
        adapter.connecting += 1;
        if adapter.connecting > 1 || adapter.scanning {
            let wrong = format!("{} connects while it does something else", peripheral.adapter);
            state.wrong.push(wrong);
        }
        let connecting = state.adapters.values().filter(|adapter| adapter.connecting > 0).count();
        state.most_connecting = state.most_connecting.max(connecting);
        Self(peripheral)
    }
}

impl Drop for Connecting<'_> {
    fn drop(&mut self) {
        let mut state = self.0.air.state();
        state.adapters.get_mut(&self.0.adapter).expect("an adapter").connecting -= 1;
    }
}

impl AirPeripheral {
    async fn called(&self, call: &'static str) -> Result<(), LinkError> {
        let does = self.air.with(&self.address, |device| {
            *device.calls.entry(call).or_default() += 1;
            device.next.get_mut(call).and_then(VecDeque::pop_front)
        });
        obey(does).await
    }
}

#[async_trait]
impl Peripheral for AirPeripheral {
    async fn connect(&self) -> Result<(), LinkError> {
        let _connecting = Connecting::new(self);
        self.called("connect").await?;
        sleep(CONNECT_TAKES).await;
        let there = self.air.with(&self.address, |device| {
            device.connected = device.advertises;
            device.connected
        });
        if !there {
            return Err(LinkError::new(LinkErrorKind::Io, "le-connection-abort-by-local", "try again"));
        }
        self.air.state().order.push((self.adapter.clone(), self.address.clone()));
        Ok(())
    }

    async fn discover(&self) -> Result<Gatt, LinkError> {
        let _connecting = Connecting::new(self);
        self.called("discover").await?;
        Ok(self.air.with(&self.address, |device| device.gatt.clone()))
    }

    async fn subscribe(&self) -> Result<mpsc::Receiver<PeripheralEvent>, LinkError> {
        self.called("subscribe").await?;
        let (sender, receiver) = mpsc::channel(1024);
        self.air.with(&self.address, |device| device.link = Some(sender));
        Ok(receiver)
    }

    async fn resubscribe(&self) -> Result<(), LinkError> {
        self.called("resubscribe").await?;
        self.air.with(&self.address, |device| device.part.clear());
        Ok(())
    }

    async fn write(&self, data: &[u8], _: bool) -> Result<(), LinkError> {
        self.called("write").await?;
        self.air.with(&self.address, |device| device.written(data));
        Ok(())
    }

    async fn disconnect(&self) -> Result<(), LinkError> {
        self.called("disconnect").await?;
        self.air.with(&self.address, |device| {
            device.connected = false;
            device.link = None;
            device.part.clear();
        });
        Ok(())
    }
}

impl Device {
    fn written(&mut self, data: &[u8]) {
        self.writes.push(data.len());
        assert!(data.len() <= usize::from(self.gatt.mtu) - 3, "a write of {} bytes", data.len());
        self.loses = self.loses.map(|away| away - 1);
        if self.loses.take_if(|away| *away == 0).is_some() {
            return;
        }
        if !self.reassembles {
            self.part.clear();
        }
        self.part.extend_from_slice(data);
        let Ok(header) = Header::decode(&self.part) else { return };
        let total = HEADER_LEN + usize::from(header.length);
        if self.part.len() < total || total > self.buf_size as usize {
            return;
        }
        let message: Vec<u8> = self.part.drain(..total).collect();
        let (Some(answer), false) = (self.answer(header, &message[HEADER_LEN..]), self.mute) else { return };
        let Some(link) = &self.link else { return };
        let len = self.notify_len.unwrap_or(usize::from(self.gatt.mtu) - 3);
        for piece in answer.chunks(len) {
            let _ = link.try_send(PeripheralEvent::Notified(piece.to_vec()));
        }
    }

    /// Echo and parameters; everything else is not supported.
    fn answer(&self, header: Header, body: &[u8]) -> Option<Vec<u8>> {
        let Ok(Value::Map(request)) = ciborium::from_reader(body) else { return None };
        let text = |text: &str| Value::Text(text.to_owned());
        let answer = match (header.group, header.command) {
            (0, 0) => vec![(text("r"), request.into_iter().next()?.1)],
            (0, 6) => {
                vec![(text("buf_size"), Value::from(self.buf_size)), (text("buf_count"), Value::from(4))]
            }
            _ => vec![(text("rc"), Value::from(8))],
        };
        let mut body = Vec::new();
        ciborium::into_writer(&Value::Map(answer), &mut body).expect("CBOR");
        let op = if header.op == Op::Read { Op::ReadResponse } else { Op::WriteResponse };
        let length = u16::try_from(body.len()).expect("a short answer");
        Some([Header { op, length, ..header }.encode().as_slice(), &body].concat())
    }
}

/// How long something took.
pub(crate) async fn timed<T>(work: impl Future<Output = T>) -> (T, Duration) {
    let begin = Instant::now();
    let result = work.await;
    (result, begin.elapsed())
}
