//! Finds one device on the air, also one that came back under another address, and the devices of a plan's target.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::super::link::{LinkError, LinkErrorKind};
use super::errors::no_such_peripheral;
use super::hub::{BleHub, Radio, Sighting};
use super::matching::{BleMatch, matches_ble};
use crate::plan::Pattern;

/// How long is listened for one device: ten of the longest usual advertising intervals (1 s), or one of the longest that
/// the specification has (10.24 s).
pub(super) const LOCATE_WITHIN: Duration = Duration::from_secs(10);
/// How long a device that was known under another address must be heard before it is taken for the same one: so long the
/// old address, or a second device of that name, has to show itself.
pub(super) const NAME_SETTLE: Duration = Duration::from_secs(3);
/// How long is listened at least where a person gave a name: a second device of that name must have its chance.
const FIND_SETTLE: Duration = Duration::from_secs(3);

/// How long several adapters listen at least, so that each one's devices are chosen among what all of them hear.
const SPREAD: Duration = Duration::from_secs(1);

/// Which device is wanted.
#[derive(Debug, Clone)]
pub(super) struct Wanted {
    /// Its address, as it was last known.
    pub address: String,
    /// Its name, where the plan knows it by that, and since when another address may be its own.
    pub name: Option<(String, Instant)>,
}

/// Where it is.
#[derive(Debug)]
pub(super) struct Located {
    pub radio: Arc<Radio>,
    /// Its address now.
    pub address: String,
}

impl BleHub {
    /// Finds one device.
    ///
    /// # Errors
    /// [`LinkErrorKind::NotFound`] where it is not heard, [`LinkErrorKind::Ambiguous`] where several may be it, and what
    /// is wrong with the adapters.
    pub(super) async fn locate(&self, wanted: &Wanted) -> Result<Located, LinkError> {
        let radios = self.radios().await?;
        let assigned = self.assigned(&wanted.address);
        let own: Vec<_> =
            radios.iter().filter(|radio| Some(radio.name()) == assigned.as_deref()).cloned().collect();
        let listening = if own.is_empty() { &radios } else { &own };
        let found = self.listen(listening, LOCATE_WITHIN, || self.look(wanted, listening)).await?;
        let address = match found {
            Some(result) => result?,
            None => return Err(self.not_heard(wanted)),
        };
        let adapter = self.assign(&address);
        let radio = listening.iter().find(|radio| Some(radio.name()) == adapter.as_deref());
        let radio = radio.or(listening.first()).cloned().ok_or_else(|| no_such_peripheral(&address))?;
        Ok(Located { radio, address })
    }

    fn look(&self, wanted: &Wanted, listening: &[Arc<Radio>]) -> Option<Result<String, LinkError>> {
        let fresh: Vec<Sighting> = self
            .everything()
            .into_iter()
            .filter(Sighting::is_fresh)
            .filter(|sighting| listening.iter().any(|radio| radio.name() == sighting.adapter))
            .collect();
        if fresh.iter().any(|sighting| sighting.seen.address == wanted.address) {
            return Some(Ok(wanted.address.clone()));
        }
        let (name, since) = wanted.name.as_ref()?;
        if self.is_shared(name, &wanted.address) {
            return None;
        }
        let mut heirs: Vec<&Sighting> = fresh
            .iter()
            .filter(|sighting| sighting.seen.name.as_deref() == Some(name))
            // What was there while the device was connected is another one.
            .filter(|sighting| sighting.first >= *since && !self.is_known(&sighting.seen.address))
            .collect();
        heirs.sort_by_key(|sighting| sighting.first);
        if heirs.first()?.first.elapsed() < NAME_SETTLE {
            return None;
        }
        let mut addresses: Vec<String> = heirs.iter().map(|sighting| sighting.seen.address.clone()).collect();
        addresses.sort();
        addresses.dedup();
        match <[String; 1]>::try_from(addresses) {
            Ok([address]) => Some(Ok(address)),
            Err(addresses) => Some(Err(LinkError::new(
                LinkErrorKind::Ambiguous,
                format!(
                    "expected one device called `{name}` in the place of {}, heard {}: {}",
                    wanted.address,
                    addresses.len(),
                    addresses.join(", ")
                ),
                "give every device a name of its own, or an address that it keeps over a reset",
            ))),
        }
    }

    fn not_heard(&self, wanted: &Wanted) -> LinkError {
        let mut error = no_such_peripheral(&wanted.address);
        if let Some((name, _)) = &wanted.name
            && self.is_shared(name, &wanted.address)
        {
            error.message += &format!(
                "; it may be back under another address, but several devices of this run are called `{name}`"
            );
        }
        error
    }

    /// The devices of a target: listens for the rest of `within`, or until there are as many as there can be.
    ///
    /// # Errors
    /// What is wrong with the adapters.
    pub(in super::super) async fn survey(
        &self,
        target: &str,
        patterns: &[Pattern],
        most: Option<usize>,
        within: Duration,
    ) -> Result<Vec<(Sighting, BleMatch)>, LinkError> {
        let radios = self.radios().await?;
        let matching = || -> Vec<(Sighting, BleMatch)> {
            let fit = |sighting: Sighting| {
                matches_ble(patterns, &sighting.seen).ok().map(|matched| (sighting, matched))
            };
            self.fresh().into_iter().filter_map(fit).collect()
        };
        let begin = Instant::now();
        let all_heard = || radios.len() == 1 || begin.elapsed() >= SPREAD;
        let enough = || (all_heard() && most.is_some_and(|most| matching().len() >= most)).then_some(());
        self.listen(&radios, self.time_left(target, within), enough).await?;
        Ok(matching())
    }

    /// Everything in reach, by every adapter.
    ///
    /// # Errors
    /// What is wrong with the adapters.
    pub async fn listen_for(&self, within: Duration) -> Result<Vec<Sighting>, LinkError> {
        let radios = self.radios().await?;
        self.listen(&radios, within, || None::<()>).await?;
        Ok(self.everything())
    }

    /// The devices that a person's name or address may mean.
    ///
    /// # Errors
    /// What is wrong with the adapters.
    pub(in super::super) async fn search(
        &self,
        fits: impl Fn(&Sighting) -> bool,
        is_address: bool,
    ) -> Result<Vec<Sighting>, LinkError> {
        let radios = self.radios().await?;
        let found = || -> Vec<Sighting> { self.fresh().into_iter().filter(&fits).collect() };
        let begin = Instant::now();
        let enough = || ((is_address || begin.elapsed() >= FIND_SETTLE) && !found().is_empty()).then_some(());
        self.listen(&radios, LOCATE_WITHIN, enough).await?;
        Ok(found())
    }
}
