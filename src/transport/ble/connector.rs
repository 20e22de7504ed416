//! Opens the link to one peripheral: finds it, connects it when it is its adapter's turn, asks what it offers, subscribes.
//! Tries again where that can help.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use tokio::sync::{OwnedMutexGuard, mpsc, oneshot};
use tokio::time::{Instant, sleep, timeout};

use super::super::link::{Connector, Link, LinkError, LinkErrorKind};
use super::central::{Gatt, Peripheral, PeripheralEvent, SMP_CHARACTERISTIC, SMP_SERVICE};
use super::errors::{asked, disconnected, limited, not_paired, not_smp};
use super::hub::{BleHub, lock};
use super::link::{ATT_HEADER, BleLink, Hold, SMALLEST_MTU};
use super::locate::{Located, Wanted};
use crate::plan::Auto;

/// How often connecting is tried. Of eight devices connected at once 4 to 7 succeeded; one at a time, a second try is
/// seldom needed and a third was never seen to be.
pub(super) const TRIES: u32 = 3;
/// Pause before another try, doubled each time: the controller and the peripheral both need to see that the connection
/// did not come about (supervision timeout, usually 0.4 to 4 s).
const BACKOFF: Duration = Duration::from_secs(1);
/// How long a connection may take to come about. An advertising peripheral in reach is connected within a few of its
/// intervals; Linux itself gives up after 20 s. On BlueZ the discovery of services is part of it.
pub(super) const CONNECT_WITHIN: Duration = Duration::from_secs(20);
/// How long reading the services may take: some 30 exchanges at the slowest usual connection interval (100 ms), twice.
pub(super) const DISCOVER_WITHIN: Duration = Duration::from_secs(10);
/// How long subscribing may take: one exchange. Where the peripheral asks for encryption, the system pairs with it by itself,
/// which takes up to 3 s; where that needs a person, or does not work, BlueZ 5.82 was seen not to answer any more.
pub(super) const SUBSCRIBE_WITHIN: Duration = Duration::from_secs(10);
/// How long a link of the same run may take to let the device go.
const DOOR_WITHIN: Duration = Duration::from_secs(10);

/// Opens the link to one peripheral.
#[derive(Debug)]
pub struct BleConnector {
    hub: Arc<BleHub>,
    state: Arc<Mutex<State>>,
    /// It is known by its name and may come back under another address.
    by_name: bool,
    mtu: Auto<u32>,
}

#[derive(Debug)]
struct State {
    address: String,
    name: Option<String>,
    /// When it was last connected.
    connected: Option<Instant>,
}

impl BleConnector {
    /// For the peripheral at `address`. `by_name` lets it be found again under another address, where its name is its own.
    #[must_use]
    pub fn new(
        hub: Arc<BleHub>,
        address: impl Into<String>,
        name: Option<String>,
        by_name: bool,
        mtu: Auto<u32>,
    ) -> Self {
        let address = address.into();
        hub.know(&address, name.as_deref());
        Self { hub, state: Arc::new(Mutex::new(State { address, name, connected: None })), by_name, mtu }
    }
}

#[async_trait]
impl Connector for BleConnector {
    async fn connect(&self) -> Result<Box<dyn Link>, LinkError> {
        let attempt = Attempt {
            hub: Arc::clone(&self.hub),
            state: Arc::clone(&self.state),
            by_name: self.by_name,
            mtu: self.mtu,
        };
        // In a task of its own, so that a connection that is half there is ended also where nobody waits for it any more.
        let (mut sender, receiver) = oneshot::channel();
        tokio::spawn(async move {
            let linked = tokio::select! {
                biased;
                () = sender.closed() => return,
                linked = attempt.connect() => linked,
            };
            // A link that nobody takes is dropped here, which ends its connection.
            let _ = sender.send(linked);
        });
        match receiver.await {
            Ok(linked) => Ok(Box::new(linked?)),
            Err(_) => Err(LinkError::new(
                LinkErrorKind::Io,
                "expected a connection or an error, the attempt panicked",
                "this is a defect of flashfleet: please report it",
            )),
        }
    }

    fn address(&self) -> String {
        format!("ble:{}", lock(&self.state).address)
    }

    fn adapter(&self) -> Option<String> {
        let address = lock(&self.state).address.clone();
        // Also what nobody has heard yet shares an adapter with others: which one shows when it is heard.
        Some(self.hub.assign(&address).unwrap_or_else(|| "unknown".to_owned()))
    }
}

/// One call of `connect`.
struct Attempt {
    hub: Arc<BleHub>,
    state: Arc<Mutex<State>>,
    by_name: bool,
    mtu: Auto<u32>,
}

impl Attempt {
    async fn connect(&self) -> Result<BleLink, LinkError> {
        let mut wait = BACKOFF;
        let mut tries = 1;
        loop {
            match self.connect_once().await {
                Err(error) if tries < TRIES && may_pass(error.kind) => {
                    tracing::debug!(%error, tries, "connecting failed");
                    tries += 1;
                    sleep(wait).await;
                    wait *= 2;
                }
                Err(error) if may_pass(error.kind) => return Err(in_vain(&self.address(), &error)),
                result => return result,
            }
        }
    }

    fn address(&self) -> String {
        lock(&self.state).address.clone()
    }

    fn wanted(&self) -> Wanted {
        let state = lock(&self.state);
        let name = state.name.clone().zip(state.connected).filter(|_| self.by_name);
        Wanted { address: state.address.clone(), name }
    }

    async fn connect_once(&self) -> Result<BleLink, LinkError> {
        // An earlier link to it may still be closing; until then it does not advertise.
        let mut door = self.door(&self.address()).await?;
        let wanted = self.wanted();
        let Located { radio, address } = self.hub.locate(&wanted).await?;
        if address != wanted.address {
            door = self.door(&address).await?;
            self.hub.moved(&wanted.address, &address);
            lock(&self.state).address.clone_from(&address);
        }
        let turn = Arc::clone(&radio.turn).lock_owned().await;
        radio.must_be_on().await?;
        let find = radio.adapter.peripheral(&address);
        let peripheral = asked("find the peripheral", find).await?;
        let hold = Hold { hub: Arc::clone(&self.hub), peripheral, address, door };
        let half = Half { hold: Some(hold), turn: Some(turn) };
        half.open(self.mtu).await.inspect(|_| lock(&self.state).connected = Some(Instant::now()))
    }

    async fn door(&self, address: &str) -> Result<OwnedMutexGuard<()>, LinkError> {
        timeout(DOOR_WITHIN, self.hub.door(address).lock_owned()).await.map_err(|_elapsed| {
            LinkError::new(
                LinkErrorKind::Busy,
                format!("expected ble:{address} to be free, another link of this run has it"),
                "name each device once: by its name or by its address",
            )
        })
    }
}

/// A connection that is coming about, with its adapter's turn. Whatever becomes of the attempt, it does not stay half
/// open, and nobody else's turn comes before it has ended.
struct Half {
    /// `None` once it is a link, or released.
    hold: Option<Hold>,
    turn: Option<OwnedMutexGuard<()>>,
}

impl Half {
    async fn open(mut self, mtu: Auto<u32>) -> Result<BleLink, LinkError> {
        let Some(hold) = &self.hold else { return Err(closed()) };
        let opened = prepare(hold.peripheral.as_ref(), &hold.address).await;
        let Some(hold) = self.hold.take() else { return Err(closed()) };
        match opened {
            Ok(Prepared { events, mtu: agreed, with_response }) => {
                let mtu = match mtu {
                    Auto::Auto => agreed,
                    Auto::Fixed(most) => agreed.min(u16::try_from(most).unwrap_or(u16::MAX)),
                };
                Ok(BleLink::new(hold, events, mtu, with_response))
            }
            Err(error) => {
                hold.release().await;
                Err(error)
            }
        }
    }
}

impl Drop for Half {
    fn drop(&mut self) {
        let (Some(hold), turn) = (self.hold.take(), self.turn.take()) else { return };
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            runtime.spawn(async move {
                hold.release().await;
                drop(turn);
            });
        }
    }
}

fn closed() -> LinkError {
    disconnected("the device", "it was closed")
}

struct Prepared {
    events: mpsc::Receiver<PeripheralEvent>,
    mtu: u16,
    with_response: bool,
}

async fn prepare(peripheral: &dyn Peripheral, address: &str) -> Result<Prepared, LinkError> {
    let name = format!("ble:{address}");
    limited("connect the device", CONNECT_WITHIN, peripheral.connect()).await?;
    let gatt = limited("read the device's services", DISCOVER_WITHIN, peripheral.discover()).await?;
    let with_response = examine(&gatt, &name)?;
    let subscribed = timeout(SUBSCRIBE_WITHIN, peripheral.subscribe()).await;
    // It has just answered every question about its services: what it does not answer is this one.
    let events = subscribed.map_err(|_elapsed| {
        let waited = SUBSCRIBE_WITHIN.as_secs();
        not_paired(&name, format_args!("the subscription to its answers was not confirmed within {waited} s"))
    })??;
    Ok(Prepared { events, mtu: gatt.mtu, with_response })
}

/// Whether the server's characteristic wants writes with response: Zephyr's takes them without.
fn examine(gatt: &Gatt, name: &str) -> Result<bool, LinkError> {
    if gatt.services.is_empty() {
        // Not even the two that every device must have: the discovery was cut off.
        return Err(LinkError::new(
            LinkErrorKind::Io,
            format!("expected {name} to have services, the system found none"),
            "bring the device nearer",
        ));
    }
    let Some(service) = gatt.services.iter().find(|service| service.uuid == SMP_SERVICE) else {
        return Err(not_smp(name, format_args!("it has no service {SMP_SERVICE}")));
    };
    let all = &service.characteristics;
    let Some(smp) = all.iter().find(|characteristic| characteristic.uuid == SMP_CHARACTERISTIC) else {
        return Err(not_smp(
            name,
            format_args!("its SMP service has no characteristic {SMP_CHARACTERISTIC}"),
        ));
    };
    if !smp.notify || !(smp.write || smp.write_without_response) {
        return Err(not_smp(name, "its SMP characteristic cannot be written or does not notify"));
    }
    if gatt.mtu < SMALLEST_MTU {
        return Err(not_smp(
            name,
            format_args!("its MTU is {}, which leaves no {ATT_HEADER} bytes of header", gatt.mtu),
        ));
    }
    Ok(!smp.write_without_response)
}

/// Whether trying again can help.
fn may_pass(kind: LinkErrorKind) -> bool {
    matches!(kind, LinkErrorKind::Io | LinkErrorKind::Disconnected | LinkErrorKind::Unreachable)
}

fn in_vain(address: &str, last: &LinkError) -> LinkError {
    LinkError {
        kind: LinkErrorKind::Unreachable,
        message: format!(
            "expected a connection with ble:{address} in {TRIES} tries, the last one failed: {last}"
        ),
        help: last.help.clone(),
        source: last.source.clone(),
    }
}
