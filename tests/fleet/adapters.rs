//! Devices that share a Bluetooth adapter: how many are at work, whose links are open, and what an adapter's trouble comes
//! to.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use flashfleet::report::{Outcome, Verdict};
use flashfleet::sim::SimSpec;
use flashfleet::smp::Header;
use flashfleet::transport::ble::adapter_off;
use flashfleet::transport::{Connector, Link, LinkError, LinkErrorKind, LinkProperties};
use tokio::time::sleep;

use super::line::{Line, in_virtual_time};

/// How many links are open on an adapter, and were at most.
#[derive(Debug, Default)]
struct Open {
    now: AtomicUsize,
    most: AtomicUsize,
}

/// A simulated device behind an adapter.
#[derive(Debug)]
struct Shared {
    inner: Arc<dyn Connector>,
    adapter: String,
    open: Arc<Open>,
    /// How long opening takes.
    takes: Duration,
    /// What opening the link comes to, one after the other; then links.
    script: Mutex<VecDeque<Option<LinkError>>>,
    /// The link breaks with this, once, when a message of this group and command is to be sent.
    breaks: Mutex<Option<((u16, u8), LinkError)>>,
}

impl Shared {
    fn new(inner: Arc<dyn Connector>, adapter: &str, open: &Arc<Open>) -> Self {
        Self {
            inner,
            adapter: adapter.to_owned(),
            open: Arc::clone(open),
            takes: Duration::from_secs(1),
            script: Mutex::default(),
            breaks: Mutex::default(),
        }
    }
}

#[async_trait]
impl Connector for Shared {
    async fn connect(&self) -> Result<Box<dyn Link>, LinkError> {
        sleep(self.takes).await;
        if let Some(Some(error)) = self.script.lock().expect("nobody panicked").pop_front() {
            return Err(error);
        }
        let inner = self.inner.connect().await?;
        let now = self.open.now.fetch_add(1, Ordering::Relaxed) + 1;
        self.open.most.fetch_max(now, Ordering::Relaxed);
        let breaks = self.breaks.lock().expect("nobody panicked").take();
        Ok(Box::new(SharedLink { inner, open: Arc::clone(&self.open), breaks, broken: None }))
    }

    fn address(&self) -> String {
        self.inner.address()
    }

    fn adapter(&self) -> Option<String> {
        Some(self.adapter.clone())
    }
}

struct SharedLink {
    inner: Box<dyn Link>,
    open: Arc<Open>,
    breaks: Option<((u16, u8), LinkError)>,
    broken: Option<LinkError>,
}

impl Drop for SharedLink {
    fn drop(&mut self) {
        self.open.now.fetch_sub(1, Ordering::Relaxed);
    }
}

#[async_trait]
impl Link for SharedLink {
    async fn send(&mut self, message: &[u8]) -> Result<(), LinkError> {
        let header = Header::decode(message).expect("whole messages are sent");
        if self.breaks.as_ref().is_some_and(|(what, _)| *what == (header.group, header.command)) {
            self.broken = self.breaks.take().map(|(_, error)| error);
        }
        match &self.broken {
            Some(error) => Err(error.clone()),
            None => self.inner.send(message).await,
        }
    }

    async fn recv(&mut self) -> Result<Vec<u8>, LinkError> {
        match &self.broken {
            Some(error) => Err(error.clone()),
            None => self.inner.recv().await,
        }
    }

    fn properties(&self) -> LinkProperties {
        LinkProperties { survives_reset: false, ..self.inner.properties() }
    }

    async fn close(self: Box<Self>) {}
}

/// `count` devices on as many adapters as there are names; `change` sees each connector.
fn line(count: usize, adapters: &[&str], change: impl Fn(&mut Shared)) -> (Line, Vec<Arc<Open>>) {
    let mut line = Line::new(&SimSpec { count, ..SimSpec::default() });
    let open: Vec<Arc<Open>> = adapters.iter().map(|_| Arc::default()).collect();
    let devices = line.devices.get_mut("line").expect("a target");
    for (index, candidate) in devices.iter_mut().enumerate() {
        let which = index % adapters.len();
        let mut shared = Shared::new(Arc::clone(&candidate.connector), adapters[which], &open[which]);
        change(&mut shared);
        candidate.connector = Arc::new(shared);
        candidate.claim = false;
    }
    (line, open)
}

#[test]
fn no_more_than_per_adapter_devices_are_at_work_on_one_adapter() {
    in_virtual_time(async {
        let (mut line, _) = line(8, &["hci0", "hci1"], |_| {});
        line.plan.policy.per_adapter = 2;
        let finished = line.run().await;
        assert_eq!(finished.outcome, Outcome::Passed);
        assert_eq!(finished.most_at_once(|_| true), 4, "two on each of two adapters");
        let first = |device: &str| device.ends_with(['1', '3', '5', '7']);
        assert_eq!(finished.most_at_once(first), 2);
        // Three where the plan does not say.
        let (line, _) = self::line(8, &["hci0"], |_| {});
        assert_eq!(line.run().await.most_at_once(|_| true), 3);
    });
}

#[test]
fn a_device_that_waits_for_its_turn_has_no_link_open() {
    in_virtual_time(async {
        let (mut line, open) = line(6, &["hci0"], |_| {});
        line.plan.policy.per_adapter = 1;
        let finished = line.run().await;
        assert_eq!((finished.outcome, finished.report.summary.passed), (Outcome::Passed, 6));
        // Six are asked for an echo when they are found, all at once: this radio has no turns. Each lets go again.
        assert_eq!(open[0].most.swap(0, Ordering::Relaxed), 6);
        line.devices.get_mut("line").expect("a target").iter_mut().for_each(|one| one.claim = true);
        assert_eq!(line.run().await.report.summary.passed, 6);
        assert_eq!(open[0].most.load(Ordering::Relaxed), 1);
        assert_eq!(open[0].now.load(Ordering::Relaxed), 0);
    });
}

#[test]
fn a_device_whose_adapter_is_busy_with_others_for_long_is_found_all_the_same() {
    in_virtual_time(async {
        let (line, _) = line(2, &["hci0"], |shared| shared.takes = Duration::from_secs(40));
        assert_eq!(line.run().await.report.summary.passed, 2);
    });
}

#[test]
fn a_link_that_broke_with_its_adapter_is_opened_anew() {
    in_virtual_time(async {
        // In the middle of the upload; the adapter is back for the second attempt.
        let (line, _) = line(1, &["hci0"], |shared| {
            shared.script = Mutex::new([None].into());
            shared.breaks = Mutex::new(Some(((1, 1), adapter_off("hci0"))));
        });
        let mut line = line;
        line.devices.get_mut("line").expect("a target")[0].claim = true;
        let finished = line.run().await;
        assert_eq!(finished.verdicts(), [Verdict::Passed]);
        assert_eq!(finished.report.devices[0].attempts, 2);
    });
}

#[test]
fn an_adapter_that_stays_off_is_station_trouble_and_nobodys_fault_of_the_device() {
    in_virtual_time(async {
        let (mut line, _) = line(1, &["hci0"], |shared| {
            shared.script = Mutex::new(std::iter::repeat_n(Some(adapter_off("hci0")), 99).collect());
            shared.script.get_mut().expect("nobody panicked").push_front(None);
            shared.breaks = Mutex::new(Some(((1, 1), adapter_off("hci0"))));
        });
        line.devices.get_mut("line").expect("a target")[0].claim = true;
        let finished = line.run().await;
        assert_eq!((finished.outcome, finished.code(0).as_str()), (Outcome::Station, "station.adapter_off"));
    });
}

#[test]
fn two_that_may_be_the_device_that_was_reset_are_told_as_that() {
    in_virtual_time(async {
        let ambiguous = LinkError::new(LinkErrorKind::Ambiguous, "two devices are called so", "rename one");
        let (mut line, _) = line(1, &["hci0"], |shared| {
            shared.script = Mutex::new(std::iter::repeat_n(Some(ambiguous.clone()), 9999).collect());
            shared.script.get_mut().expect("nobody panicked").push_front(None);
            let gone = LinkError::new(LinkErrorKind::Disconnected, "it left", "wait");
            shared.breaks = Mutex::new(Some(((0, 5), gone)));
        });
        line.devices.get_mut("line").expect("a target")[0].claim = true;
        let finished = line.run().await;
        assert_eq!(
            (finished.verdicts(), finished.code(0)),
            (vec![Verdict::Error], "plan.ambiguous_device".to_owned())
        );
    });
}
