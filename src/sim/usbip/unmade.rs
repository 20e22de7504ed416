//! Boards of which the kernel has made no device yet, and when to plug one in again. What is done to them lives in
//! `attach.rs`.
//!
//! The kernel gives up on a board that does not answer within 5 s, as it may where either machine is busy, and then nothing
//! but pulling it helps: one whose configuration could not be set stays on the bus without a driver ("can't set config",
//! `usb_generic_driver_probe`); for one that does not even answer the call off of a transfer it waits without an end
//! (`usb_kill_urb`), and its whole hub does; and one that has its address cannot be reset, as `vhci_hcd` enables no port
//! whose board has one (`vhci_hub_control`, `GetPortStatus`).

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use tokio::time::Instant;

use super::vhci::Port;

/// How long the kernel may make no device of any board on a hub before one of the boards there is plugged in again. It takes
/// the boards of a hub one after the other, waits 5 s for an answer (`USB_CTRL_GET_TIMEOUT`), and asks up to three times.
pub(super) const PATIENCE: Duration = Duration::from_secs(20);
/// How long a board waits on a hub that gets on with others: each of 15 takes about a second where the machine is busy.
pub(super) const TURN: Duration = Duration::from_secs(40);

/// The ports with boards that were attached and are no devices yet.
#[derive(Debug, Default)]
pub(super) struct Unmade {
    since: BTreeMap<u32, Since>,
}

/// Since when a board waits.
#[derive(Debug, Clone, Copy)]
struct Since {
    attached: Instant,
    /// Since something happened on its hub.
    stands_still: Instant,
}

impl Unmade {
    /// A board was attached to a port.
    pub(super) fn attached(&mut self, port: u32, now: Instant) {
        self.since.insert(port, Since { attached: now, stands_still: now });
    }

    pub(super) fn is_empty(&self) -> bool {
        self.since.is_empty()
    }

    /// The ports to be detached now: of each hub at most one, as the others may just wait for their turn.
    pub(super) fn overdue(
        &mut self,
        ports: &[Port],
        is_made: impl Fn(&Port) -> bool,
        now: Instant,
    ) -> Vec<u32> {
        let waiting: BTreeMap<u32, &Port> = ports.iter().map(|port| (port.number, port)).collect();
        let mut busy = BTreeSet::new();
        self.since.retain(|number, _| match waiting.get(number) {
            Some(port) if is_made(port) => {
                busy.insert(port.hub);
                false
            }
            Some(port) => !port.free,
            None => false,
        });
        let mut overdue = BTreeMap::new();
        for (number, since) in &self.since {
            let Some(port) = waiting.get(number) else { continue };
            let stands_still =
                !busy.contains(&port.hub) && now.saturating_duration_since(since.stands_still) >= PATIENCE;
            if !stands_still && now.saturating_duration_since(since.attached) < TURN {
                continue;
            }
            // The board that has its address is the one that the kernel is at, or has given up on.
            let rank = (port.device.is_none(), since.attached, *number);
            let first = overdue.entry(port.hub).or_insert(rank);
            *first = rank.min(*first);
        }
        busy.extend(overdue.keys());
        let overdue: Vec<u32> = overdue.into_values().map(|(.., number)| number).collect();
        self.since.retain(|number, _| !overdue.contains(number));
        for (number, since) in &mut self.since {
            if waiting.get(number).is_some_and(|port| busy.contains(&port.hub)) {
                since.stands_still = now;
            }
        }
        overdue
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NONE: [u32; 0] = [];

    /// Ports 0 to 2 on one hub, 3 on another. Those in `addressed` have boards with addresses.
    fn ports(addressed: &[u32]) -> Vec<Port> {
        (0..4)
            .map(|number| Port {
                number,
                hub: (number / 3) as usize,
                superspeed: false,
                free: false,
                device: addressed.contains(&number).then(|| format!("1-{number}")),
            })
            .collect()
    }

    struct Scene {
        unmade: Unmade,
        start: Instant,
    }

    impl Scene {
        fn new() -> Self {
            let (mut unmade, start) = (Unmade::default(), Instant::now());
            (0..4).for_each(|port| unmade.attached(port, start));
            Self { unmade, start }
        }

        /// After so many patiences.
        fn overdue(&mut self, ports: &[Port], made: &[u32], patiences: f32) -> Vec<u32> {
            let now = self.start + PATIENCE.mul_f32(patiences);
            self.unmade.overdue(ports, |port| made.contains(&port.number), now)
        }
    }

    #[test]
    fn boards_of_which_devices_were_made_or_that_left_are_left_alone() {
        let mut scene = Scene::new();
        assert_eq!(scene.overdue(&ports(&[]), &[0, 1], 0.9), NONE);
        let mut ports = ports(&[]);
        ports[2].free = true;
        ports.pop();
        assert_eq!(scene.overdue(&ports, &[], 5.0), NONE);
        assert!(scene.unmade.is_empty());
    }

    #[test]
    fn a_hub_that_gets_on_is_given_time_and_the_other_is_not() {
        let mut scene = Scene::new();
        assert_eq!(scene.overdue(&ports(&[]), &[0], 0.9), NONE);
        assert_eq!(scene.overdue(&ports(&[]), &[0], 1.1), [3]);
        assert_eq!(scene.overdue(&ports(&[]), &[0, 1], 1.8), NONE);
        // But not for ever.
        assert_eq!(scene.overdue(&ports(&[]), &[0, 1], 1.9), NONE);
        assert_eq!(scene.overdue(&ports(&[]), &[0, 1], 2.0), [2]);
        assert!(scene.unmade.is_empty());
    }

    #[test]
    fn of_a_hub_that_stands_still_one_board_is_pulled_at_a_time_and_first_the_one_with_an_address() {
        let mut scene = Scene::new();
        assert_eq!(scene.overdue(&ports(&[2]), &[], 1.0), [2, 3]);
        assert_eq!(scene.overdue(&ports(&[]), &[], 1.9), NONE);
        assert_eq!(scene.overdue(&ports(&[]), &[], 2.0), [0]);
        scene.unmade.attached(2, scene.start + PATIENCE * 2);
        assert_eq!(scene.overdue(&ports(&[]), &[], 3.0), [1]);
    }
}
