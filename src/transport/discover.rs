//! From what a plan or a person says to the devices that may be meant, each with a way to open it. Whether something
//! answers there is not asked here.

use std::collections::HashSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

use super::address::{Address, HostPort};
use super::ble::{self, BleHub, Central, SystemCentral};
use super::link::{Connector, Firmware, LinkError};
use super::matching::{matches, matches_name, matches_usb, name_in_plan, names};
use super::ports::{Port, Ports, SystemPorts};
use super::serial::{SerialConnector, SerialOptions, is_pseudo_terminal, real_name};
use super::tcp::TcpConnector;
use super::udp::{UdpConnector, UdpHub};
use super::usb::UsbFingerprint;
use super::usb_port::{UsbConnector, device_key};
use super::watch::PortWatch;
use crate::cause::{Cause, Class};
use crate::identity::Identity;
use crate::plan::{LinkOptions, Match, MatchKind, Pattern, Target, UdpTarget};

/// Most addresses that one target may name: a /20. A longer search is nearly always a slip of the pen.
pub const MAX_ADDRESSES: usize = 4096;

/// One device that may be meant.
#[derive(Debug, Clone)]
pub struct Candidate {
    /// Its address, as reports show it.
    pub address: String,
    /// What tells whether two candidates are ways to one device: the place of a board on USB, the port behind every link
    /// to it, or the address.
    pub key: String,
    /// What else is known of it.
    pub identity: Identity,
    /// How to open it.
    pub connector: Arc<dyn Connector>,
    /// It was named: no answer is an error. Else it was searched for: what answers no echo is not matched.
    pub claim: bool,
}

impl Candidate {
    /// A device that is reached in one way, of which nothing is known but the address, and that was named.
    #[must_use]
    pub fn new(connector: Arc<dyn Connector>) -> Self {
        let address = connector.address();
        Self { key: address.clone(), address, identity: Identity::default(), connector, claim: true }
    }
}

/// Finds devices. One for a whole run: its UDP devices share its sockets.
#[derive(Debug, Clone)]
pub struct Discovery {
    ports: Arc<dyn Ports>,
    watch: Arc<PortWatch>,
    udp: Arc<UdpHub>,
    ble: Arc<BleHub>,
}

impl Default for Discovery {
    fn default() -> Self {
        Self::new()
    }
}

impl Discovery {
    /// On this machine.
    #[must_use]
    pub fn new() -> Self {
        Self::with_ports(Arc::new(SystemPorts))
    }

    /// With ports from elsewhere, for tests.
    #[must_use]
    pub fn with_ports(ports: Arc<dyn Ports>) -> Self {
        let ble = Arc::new(BleHub::new(Arc::new(SystemCentral::new())));
        Self { watch: Arc::new(PortWatch::new(Arc::clone(&ports))), ports, udp: Arc::new(UdpHub::new()), ble }
    }

    /// The same, with another Bluetooth than this machine's, for tests and simulated devices.
    #[must_use]
    pub fn with_central(self, central: Arc<dyn Central>) -> Self {
        Self { ble: Arc::new(BleHub::new(central)), ..self }
    }

    /// The Bluetooth of the run.
    #[must_use]
    pub fn ble(&self) -> &BleHub {
        &self.ble
    }

    /// Everything that `target` may mean at this moment, each port and address once. A board with several ports is there
    /// once for each; their keys are the same. Boards in their bootloader are there only where the target says that its boards start there: see
    /// [`Discovery::in_bootloader`]. Simulated devices are not found here: for them the list is empty.
    ///
    /// # Errors
    /// `plan.too_many_addresses`, `plan.bad_address`, `station.unavailable` where this machine cannot list its ports, and
    /// what is wrong with its Bluetooth. A name that does not resolve is no error here; its connector says so.
    pub async fn discover(&self, target: &Target) -> Result<Vec<Candidate>, Cause> {
        let found = match &target.matcher.kind {
            MatchKind::Usb(_) | MatchKind::Port(_) => self.on_ports(target).await?,
            MatchKind::Udp(entries) => self.on_udp(&target.name, entries, &target.link)?,
            MatchKind::Tcp(places) => tcp(places, &target.link)?,
            MatchKind::Ble(patterns) => ble::candidates(&self.ble, target, patterns).await?,
            MatchKind::Sim(_) => Vec::new(),
        };
        let mut addresses = HashSet::new();
        Ok(found.into_iter().filter(|candidate| addresses.insert(candidate.address.clone())).collect())
    }

    /// The ports of the boards that `target` means and that are in their bootloader at this moment. They are no
    /// candidates: what is done to a board begins in its application, and most bootloaders are left again by themselves.
    /// Where the target says that its boards start there, they are candidates, and none is listed here.
    ///
    /// # Errors
    /// Where the machine lists no ports.
    pub async fn in_bootloader(&self, target: &Target) -> Result<Vec<Port>, LinkError> {
        if target.starts_in == Firmware::Bootloader {
            return Ok(Vec::new());
        }
        let globs = match &target.matcher {
            Match { bootloader_usb: Some(_), kind: MatchKind::Usb(_), .. } => &[][..],
            Match { bootloader_usb: Some(_), kind: MatchKind::Port(globs), .. } => globs,
            _ => return Ok(Vec::new()),
        };
        let mut ports = self.list(globs).await?;
        ports.retain(|port| matches(&target.matcher, port) == Ok(Firmware::Bootloader));
        Ok(ports)
    }

    /// The device that a person named: one candidate, or of a board on USB one for each of its ports that match, the one
    /// with the lowest interface first. Never none.
    ///
    /// # Errors
    /// `device.not_found`, `device.several` with the list of matches, `cli.not_supported` for `sim:`, or why this
    /// machine cannot list its ports or use its Bluetooth.
    pub async fn find(&self, address: &Address, link: &LinkOptions) -> Result<Vec<Candidate>, Cause> {
        let one = match address {
            // Never listed, and nothing is known of it but its name.
            Address::Serial(path) if is_pseudo_terminal(path) => {
                let key = real_name(path).to_string_lossy().into_owned();
                Ok(plain(path.clone(), key, Identity::default(), link, true))
            }
            Address::Serial(path) => {
                let glob = glob::Pattern::escape(path);
                let globs: Vec<_> = glob::Pattern::new(&glob).into_iter().collect();
                // A port that this machine does not list can still be opened.
                let ports = self.list(&globs).await.unwrap_or_default();
                let port = ports.iter().find(|port| names(port).any(|name| name == *path));
                Ok(match port {
                    Some(port) => self.candidate(port, path.clone(), &ports, None, link, true),
                    None => plain(path.clone(), path.clone(), Identity::default(), link, true),
                })
            }
            Address::Usb(pattern) => {
                let ports = self.list(&[]).await.map_err(Cause::from)?;
                return self.of_one_board(pattern, &ports, link);
            }
            Address::Udp(place) => Ok(self.udp(place.clone(), link, true)),
            Address::Tcp(place) => Ok(tcp_candidate(place.clone(), link)),
            Address::Ble(name) => ble::find(&self.ble, name, link).await,
            Address::Sim(_) => Err(Cause::new(
                Class::Plan,
                "cli.not_supported",
                "simulated devices exist within a plan only",
                "write a plan with `match: { sim: … }`, or start `flashfleet sim` and use the addresses that it prints",
            )),
        };
        one.map(|one| vec![one])
    }

    /// Those of `ports` that match, where they are ports of one board.
    fn of_one_board(
        &self,
        pattern: &Pattern,
        ports: &[Port],
        link: &LinkOptions,
    ) -> Result<Vec<Candidate>, Cause> {
        let fits = |port: &&Port| port.identity.usb.as_ref().is_some_and(|usb| matches_usb(pattern, usb));
        let mut found: Vec<&Port> = ports.iter().filter(fits).collect();
        if found.is_empty() {
            return Err(Cause::new(
                Class::Link,
                "device.not_found",
                format!("expected a USB serial port that matches `{}`, found none", pattern.as_str()),
                "`flashfleet list` shows what there is",
            ));
        }
        if !are_one_board(&found) {
            return Err(several(pattern, found.into_iter()));
        }
        let interface = |port: &&Port| port.identity.usb.as_ref().and_then(|usb| usb.interface);
        found.sort_by_key(interface);
        let candidate = |port: &Port| {
            let path = port.path.to_string_lossy().into_owned();
            self.candidate(port, path, ports, Some((vec![pattern.clone()], None)), link, true)
        };
        Ok(found.into_iter().map(candidate).collect())
    }

    /// Every port of this machine, and those that `globs` lead to.
    ///
    /// # Errors
    /// Where the machine lists no ports.
    pub async fn list(&self, globs: &[glob::Pattern]) -> Result<Vec<Port>, LinkError> {
        // Also where globs ask for more: whoever follows a device must have seen its twins.
        let listing = self.watch.listing().await;
        if globs.is_empty() {
            return Ok(listing?.ports.clone());
        }
        self.ports.ports(globs).await
    }

    async fn on_ports(&self, target: &Target) -> Result<Vec<Candidate>, Cause> {
        let Target { matcher, link, starts_in, .. } = target;
        let globs: &[glob::Pattern] = match &matcher.kind {
            MatchKind::Port(globs) => globs,
            _ => &[],
        };
        let ports = self.list(globs).await.map_err(Cause::from)?;
        let mut found = Vec::new();
        for port in &ports {
            let runs = match matches(matcher, port) {
                Ok(Firmware::Bootloader) if *starts_in == Firmware::Application => continue,
                Ok(runs) => runs,
                Err(_) => continue,
            };
            let name = name_in_plan(matcher, port);
            let claim = globs.iter().any(|glob| !is_search(glob) && matches_name(glob, &name));
            let aliases = match &matcher.kind {
                MatchKind::Usb(patterns) => patterns.clone(),
                _ => Vec::new(),
            };
            let ids = Some((aliases, matcher.bootloader_usb.clone()));
            let candidate = self.candidate(port, name, &ports, ids, link, claim);
            candidate.connector.expect(runs);
            found.push(candidate);
        }
        // A port that was named and is not there must be told, not passed over.
        for glob in globs.iter().filter(|glob| !is_search(glob)) {
            let name = plain_name(glob);
            if !ports.iter().any(|port| names(port).any(|other| other == name)) {
                found.push(plain(name.clone(), name, Identity::default(), link, true));
            }
        }
        Ok(found)
    }

    /// A candidate for `port`, shown as `name`.
    fn candidate(
        &self,
        port: &Port,
        name: String,
        ports: &[Port],
        ids: Option<(Vec<Pattern>, Option<Pattern>)>,
        link: &LinkOptions,
        claim: bool,
    ) -> Candidate {
        let path = port.path.to_string_lossy().into_owned();
        // Where only the name tells a port from its neighbours (several on one interface), it is opened by its name.
        let is_like = |other: &&Port| other.identity == port.identity && other.path != port.path;
        let only_by_name = name != path && ports.iter().any(|other| is_like(&other));
        match port.identity.usb.clone().filter(|_| !only_by_name) {
            Some(seen) => {
                let (aliases, bootloader) = ids.unwrap_or_default();
                let print = UsbFingerprint { seen, aliases, bootloader };
                let link_name = (name != path).then_some(name);
                let options = SerialOptions::from(link);
                let connector = UsbConnector::new(Arc::clone(&self.watch), print, path, link_name, options);
                Candidate { key: device_key(port), identity: port.identity.clone(), ..of(connector, claim) }
            }
            None => plain(name, path, port.identity.clone(), link, claim),
        }
    }

    fn on_udp(
        &self,
        target: &str,
        entries: &[UdpTarget],
        link: &LinkOptions,
    ) -> Result<Vec<Candidate>, Cause> {
        let mut found = Vec::new();
        for entry in entries {
            match entry {
                UdpTarget::Host { host, port } => {
                    let place = HostPort { host: host.clone(), port: *port };
                    // The same host is written the same way, however the plan writes it.
                    let place = HostPort::parse(&place.to_string(), None)
                        .map_err(|error| Cause { code: "plan.bad_address".into(), ..Cause::from(error) })?;
                    found.push(self.udp(place, link, true));
                }
                UdpTarget::Range { first, last, port } => {
                    let room = MAX_ADDRESSES.saturating_sub(found.len());
                    for ip in expand_range(target, *first, *last, room)? {
                        found.push(self.udp(HostPort { host: ip.to_string(), port: *port }, link, false));
                    }
                }
            }
        }
        if found.len() > MAX_ADDRESSES {
            return Err(too_many(target));
        }
        // A claim counts before a search for the same address.
        found.sort_by_key(|candidate| !candidate.claim);
        Ok(found)
    }

    fn udp(&self, place: HostPort, link: &LinkOptions, claim: bool) -> Candidate {
        let connector = UdpConnector::new(Arc::clone(&self.udp), place, link.mtu);
        of(connector, claim)
    }
}

fn of(connector: impl Connector + 'static, claim: bool) -> Candidate {
    let address = connector.address();
    Candidate {
        key: address.clone(),
        address,
        identity: Identity::default(),
        connector: Arc::new(connector),
        claim,
    }
}

/// A candidate that is opened by its name.
fn plain(name: String, key: String, identity: Identity, link: &LinkOptions, claim: bool) -> Candidate {
    Candidate { key, identity, ..of(SerialConnector::new(name, SerialOptions::from(link)), claim) }
}

fn tcp(places: &[String], link: &LinkOptions) -> Result<Vec<Candidate>, Cause> {
    let bad = |error| Cause { code: "plan.bad_address".into(), ..Cause::from(error) };
    places.iter().map(|text| Ok(tcp_candidate(HostPort::parse(text, None).map_err(bad)?, link))).collect()
}

fn tcp_candidate(place: HostPort, link: &LinkOptions) -> Candidate {
    of(TcpConnector::new(place, link), true)
}

/// Whether a glob can lead to more than one name.
fn is_search(glob: &glob::Pattern) -> bool {
    let escaped = glob.as_str().replace("[*]", "").replace("[?]", "").replace("[[]", "").replace("[]]", "");
    escaped.contains(['*', '?', '['])
}

/// The one name of a glob that is no search.
fn plain_name(glob: &glob::Pattern) -> String {
    glob.as_str().replace("[*]", "*").replace("[?]", "?").replace("[]]", "]").replace("[[]", "[")
}

/// Every address from `first` to `last`, at most `most` of them.
fn expand_range(target: &str, first: IpAddr, last: IpAddr, most: usize) -> Result<Vec<IpAddr>, Cause> {
    let (from, to, to_ip): (u128, u128, fn(u128) -> Option<IpAddr>) = match (first, last) {
        (IpAddr::V4(first), IpAddr::V4(last)) => (first.to_bits().into(), last.to_bits().into(), |bits| {
            u32::try_from(bits).ok().map(|bits| Ipv4Addr::from_bits(bits).into())
        }),
        (IpAddr::V6(first), IpAddr::V6(last)) => {
            (first.to_bits(), last.to_bits(), |bits| Some(Ipv6Addr::from_bits(bits).into()))
        }
        _ => return Err(no_range(first, last)),
    };
    let steps = to.checked_sub(from).ok_or_else(|| no_range(first, last))?;
    if usize::try_from(steps).map_or(true, |steps| steps >= most) {
        return Err(too_many(target));
    }
    Ok((from..=to).filter_map(to_ip).collect())
}

fn no_range(first: IpAddr, last: IpAddr) -> Cause {
    Cause::new(
        Class::Plan,
        "plan.bad_address",
        format!("expected a range from a lower to a higher address of one kind, got `{first}-{last}`"),
        "write the lower address first",
    )
}

fn too_many(target: &str) -> Cause {
    Cause::new(
        Class::Plan,
        "plan.too_many_addresses",
        format!(
            "expected at most {MAX_ADDRESSES} addresses, first to last, in the ranges of target `{target}`"
        ),
        "correct the range, or split the target",
    )
}

/// Whether ports are ways to one device. Where only what they say makes them one board, two of one interface are two boards
/// that say the same.
fn are_one_board(ports: &[&Port]) -> bool {
    let keys: HashSet<String> = ports.iter().map(|port| device_key(port)).collect();
    let usb = |port: &&Port| port.identity.usb.clone();
    let interfaces: HashSet<_> = ports.iter().map(|port| usb(port).and_then(|usb| usb.interface)).collect();
    let have_places = ports.iter().all(|port| usb(port).is_some_and(|usb| usb.hub_path.is_some()));
    keys.len() == 1 && (have_places || interfaces.len() == ports.len())
}

fn several<'a>(pattern: &Pattern, ports: impl Iterator<Item = &'a Port>) -> Cause {
    let list: Vec<String> = ports
        .map(|port| {
            let usb = port.identity.usb.as_ref();
            let id = usb.map(crate::identity::UsbIdentity::id).unwrap_or_default();
            let serial = usb.and_then(|usb| usb.serial_number.as_deref()).unwrap_or("-");
            format!("serial:{} ({id}, serial number {serial})", port.path.display())
        })
        .collect();
    Cause::new(
        Class::Plan,
        "device.several",
        format!(
            "expected one device that matches `{}`, found {}: {}",
            pattern.as_str(),
            list.len(),
            list.join(", ")
        ),
        "name one of them by its address",
    )
}
