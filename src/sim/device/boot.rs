//! How a simulated device stops, vanishes and boots.

use std::sync::Arc;
use std::time::Duration;

use super::{Device, Power};
use crate::sim::bare::BareReceiver;
use crate::sim::firmware::Behaviour;
use crate::sim::mcuboot::SwapType;
use crate::sim::next_boot::NextBoot;
use crate::sim::spec::BootMode;
use crate::sim::uart::Wire;
use crate::smp::Time;

/// What keeps MCUboot in its recovery (Zephyr, `BOOT_MODE_TYPE_BOOTLOADER` in `retention/bootmode.h`).
const BOOT_MODE_BOOTLOADER: u8 = 1;

/// Shortest boot, so that firmware that resets at once does not do so without end in no time.
const MIN_BOOT: Duration = Duration::from_millis(10);

impl Device {
    /// Stops everything that runs.
    pub(super) fn stop(&mut self) {
        self.lose_connection();
        self.server.restart();
        self.receiver.clear();
        self.bare = BareReceiver::default();
        self.queue.clear();
        self.work = None;
        self.reset_at = None;
        self.changes_at = None;
        self.stalled_until = self.now;
        let now = self.now + Duration::from_millis(self.spec.latency_ms);
        self.outputs.retain(|(at, _)| *at <= now);
        self.to_host = Wire::default();
    }

    pub(super) fn vanish(&mut self, until: Option<Time>) {
        self.stop();
        self.incoming.clear();
        self.outputs.clear();
        self.session += 1;
        self.power = Power::Away;
        self.changes_at = until;
    }

    /// A reset: the bootloader runs, and then whatever it starts.
    pub(super) fn boot(&mut self) {
        self.stop();
        self.boots += 1;
        self.boot_started = self.now;
        if self.spec.leaves_in_reset() {
            self.vanish(None);
        }
        if self.stays_in_recovery() {
            return;
        }
        let boot = if self.fault.ignore_swap && self.flash.swap_type() != SwapType::Revert {
            self.flash.boot_without_update()
        } else {
            self.flash.boot(self.spec.no_downgrade)
        };
        if boot.started.is_none() && self.spec.recovery.as_ref().is_some_and(|it| it.no_application) {
            return self.start_recovery();
        }
        let on_test = self.runs_an_update();
        self.behaviour = match boot.started {
            None => Behaviour::Hangs,
            _ if on_test && self.fault.crash_on_test_boot => Behaviour::Resets,
            _ if on_test && self.fault.hang_on_test_boot => Behaviour::Hangs,
            _ if on_test && self.fault.mute_on_test_boot => Behaviour::Mute,
            Some(behaviour) => behaviour,
        };
        let swap = if boot.swapped { self.spec.swap_ms } else { 0 };
        let slow = if self.resets > 0 { self.fault.slow_boot_ms } else { 0 };
        let boot_time = self.spec.boot().max(MIN_BOOT) + Duration::from_millis(swap + slow);
        self.power = Power::Booting;
        self.changes_at = Some(self.now + boot_time);
        self.log("*** Booting MCUboot v2.3.0 ***\r\n");
    }

    /// Whether the boot mode that the application left keeps the bootloader in its recovery. It looks there before it looks
    /// at the slots (MCUboot `boot/zephyr/main.c`).
    fn stays_in_recovery(&mut self) -> bool {
        let asked = self.boot_mode.take() == Some(BOOT_MODE_BOOTLOADER);
        self.recovery = None;
        let stays = asked && self.spec.recovery.as_ref().is_some_and(|it| it.boot_mode);
        if stays {
            self.start_recovery();
        }
        stays
    }

    fn start_recovery(&mut self) {
        self.recovery = self.spec.recovery.as_ref().map(|it| Arc::new(it.over(&self.spec)));
        self.power = Power::Booting;
        let bootloader = Duration::from_millis(self.spec.boot_ms).max(MIN_BOOT);
        self.changes_at = Some(self.now + bootloader);
        self.log("*** Booting MCUboot v2.3.0 ***\r\n");
    }

    /// Whether what runs is on test; where there is no test, whether it is another image than the first.
    fn runs_an_update(&self) -> bool {
        match self.spec.mode {
            BootMode::DirectXip | BootMode::RamLoad | BootMode::Overwrite => self.flash.is_updated(),
            _ => self.flash.next_boot().1 == NextBoot::Revert,
        }
    }

    pub(super) fn booted(&mut self) {
        if self.recovery.is_some() {
            self.power = Power::Recovery;
            return;
        }
        match self.behaviour {
            Behaviour::Normal if !self.wedged => self.power = Power::Running,
            Behaviour::Normal | Behaviour::Mute => self.power = Power::Mute,
            Behaviour::Hangs => self.power = Power::Stuck,
            Behaviour::Resets => return self.boot(),
        }
        if self.power != Power::Stuck {
            self.log("*** Booting Zephyr OS build v4.4.0 ***\r\n");
        }
    }
}
