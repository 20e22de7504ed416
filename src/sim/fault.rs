//! What goes wrong on simulated devices: how it is described, and the dice that decide. What each fault does lives where
//! it happens (`device.rs`, `server.rs`).

use serde::{Deserialize, Serialize};

use super::spec::SpecError;

/// What goes wrong on a simulated device.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields, default)]
pub struct FaultSpec {
    /// Numbers of the devices that have these faults, from 1; without any, all have.
    pub only: Vec<usize>,
    /// Seed of the dice. The same seed gives the same faults; each device has dice of its own.
    pub seed: u64,
    /// Share of messages lost, in each direction, from 0 to 1.
    pub lose: f64,
    /// Share of messages with one bit flipped, in each direction, from 0 to 1.
    pub corrupt: f64,
    /// Share of messages that come twice, in each direction, from 0 to 1.
    pub duplicate: f64,
    /// Share of answers that come late, from 0 to 1.
    pub delay: f64,
    /// How late, in milliseconds.
    pub delay_ms: u64,
    /// The answer to the first reset is lost; the reset happens.
    pub lose_reset_answer: bool,
    /// The answer to the last chunk of the first whole upload is lost; the chunk is written.
    pub lose_last_upload_answer: bool,
    /// Single answers that are lost; what was asked for happens.
    pub lose_answer: Vec<NthAnswer>,
    /// Single writes that a BLE device does not get.
    pub lose_write: Vec<LostWrite>,
    /// Requests that the server refuses.
    pub refuse: Vec<Refusal>,
    /// The device vanishes, as an unplugged one, once this many bytes of uploads were written to its flash.
    pub vanish_at_byte: Option<u64>,
    /// How long it stays away, in milliseconds; without it for ever.
    pub vanish_ms: Option<u64>,
    /// The firmware hangs once this many bytes of uploads were written; the reset line helps.
    pub hang_at_byte: Option<u64>,
    /// The server forgets the upload under way once this many bytes were written: the next chunk is answered `off: 0`.
    pub forget_upload_at_byte: Option<u64>,
    /// After its first reset the device never answers again, whatever is done.
    pub never_return: bool,
    /// A reset is answered and does not happen.
    pub ignore_reset: bool,
    /// The device answers a reset and then takes this much longer to boot, in milliseconds.
    pub slow_boot_ms: u64,
    /// An erase takes this much longer, in milliseconds.
    pub slow_erase_ms: u64,
    /// A new image on test resets at once, so that the old one comes back.
    pub crash_on_test_boot: bool,
    /// A new image on test loops until the reset line is pulled.
    pub hang_on_test_boot: bool,
    /// A new image on test comes up without an SMP server.
    pub mute_on_test_boot: bool,
    /// The bootloader leaves a pending image pending.
    pub ignore_swap: bool,
    /// The hash of the running image reads wrong in the image list once another image than the first one runs.
    pub wrong_hash: bool,
    /// The last answer of an upload says `match: false`.
    pub upload_mismatch: bool,
    /// A confirm is answered as usual and not kept.
    pub forget_confirm: bool,
    /// Bytes that come while the device boots make it deaf until its reset line is pulled.
    pub wedge_on_early_bytes: bool,
    /// Share of answers on a serial link that have text before them, as a log on the same UART, from 0 to 1.
    pub chatter: f64,
}

/// One lost answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct NthAnswer {
    /// Management group.
    pub group: u16,
    /// Command within the group.
    pub command: u8,
    /// Which answer to this command, from 1.
    #[serde(default = "first")]
    pub nth: u64,
}

/// A write that does not arrive, of a message to a BLE device. That the server was out of buffers when it came looks the same
/// to whoever sent it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct LostWrite {
    /// Management group.
    pub group: u16,
    /// Command within the group.
    pub command: u8,
    /// Which message with this command, from 1; one that is sent again counts again.
    #[serde(default = "first")]
    pub nth: u64,
    /// Which write of it, from 1.
    #[serde(default = "first")]
    pub write: u64,
    /// Nothing else arrives after it either, for as long as the connection lasts.
    #[serde(default)]
    pub and_all_after: bool,
}

/// Requests that the server refuses without doing anything.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct Refusal {
    /// Management group.
    pub group: u16,
    /// Command within the group.
    pub command: u8,
    /// The error: an SMP error, unless `of_group`.
    pub rc: u32,
    /// `rc` is one of the group's own errors; protocol version 1 gets it translated as Zephyr does.
    #[serde(default)]
    pub of_group: bool,
    /// The first request that is refused, from 1.
    #[serde(default = "first")]
    pub from: u64,
    /// How many are refused; without it all.
    #[serde(default)]
    pub times: Option<u64>,
}

fn first() -> u64 {
    1
}

impl Refusal {
    /// Whether the `nth` request (from 1) of this group and command is refused.
    pub(super) fn applies(&self, group: u16, command: u8, nth: u64) -> bool {
        let after = nth.checked_sub(self.from);
        let in_time = after.is_some_and(|after| self.times.is_none_or(|times| after < times));
        self.group == group && self.command == command && in_time
    }
}

impl FaultSpec {
    /// Whether the device with this number, from 1, has these faults.
    #[must_use]
    pub fn applies_to(&self, number: usize) -> bool {
        self.only.is_empty() || self.only.contains(&number)
    }

    /// Adds everything here that cannot be simulated on `count` devices.
    pub(super) fn problems(&self, count: usize, problems: &mut Vec<SpecError>) {
        for (field, share) in [
            ("fault.lose", self.lose),
            ("fault.corrupt", self.corrupt),
            ("fault.duplicate", self.duplicate),
            ("fault.delay", self.delay),
            ("fault.chatter", self.chatter),
        ] {
            if !(0.0..=1.0).contains(&share) {
                let message = format!("expected a share from 0 to 1, got {share}");
                problems.push(SpecError { field, message });
            }
        }
        for number in self.only.iter().filter(|number| !(1..=count).contains(*number)) {
            let message = format!("expected numbers of devices from 1 to {count}, got {number}");
            problems.push(SpecError { field: "fault.only", message });
        }
        if self.vanish_ms.is_some() && self.vanish_at_byte.is_none() {
            let message = "expected `vanish_at_byte` beside it".to_owned();
            problems.push(SpecError { field: "fault.vanish_ms", message });
        }
        if self.lose_answer.iter().any(|answer| answer.nth == 0)
            || self.lose_write.iter().any(|lost| lost.nth == 0 || lost.write == 0)
            || self.refuse.iter().any(|refusal| refusal.from == 0)
        {
            let message = "expected a number from 1 in `nth`, `write` and `from`, got 0".to_owned();
            problems.push(SpecError { field: "fault", message });
        }
    }

    /// Both together: of shares, times and numbers the larger, of everything else either.
    fn merge(mut self, other: &Self) -> Self {
        self.seed ^= other.seed.rotate_left(1);
        self.lose = self.lose.max(other.lose);
        self.corrupt = self.corrupt.max(other.corrupt);
        self.duplicate = self.duplicate.max(other.duplicate);
        self.delay = self.delay.max(other.delay);
        self.delay_ms = self.delay_ms.max(other.delay_ms);
        self.chatter = self.chatter.max(other.chatter);
        self.slow_boot_ms = self.slow_boot_ms.max(other.slow_boot_ms);
        self.slow_erase_ms = self.slow_erase_ms.max(other.slow_erase_ms);
        self.lose_answer.extend_from_slice(&other.lose_answer);
        self.lose_write.extend_from_slice(&other.lose_write);
        self.refuse.extend_from_slice(&other.refuse);
        if self.vanish_at_byte.is_none() {
            (self.vanish_at_byte, self.vanish_ms) = (other.vanish_at_byte, other.vanish_ms);
        }
        self.hang_at_byte = self.hang_at_byte.or(other.hang_at_byte);
        self.forget_upload_at_byte = self.forget_upload_at_byte.or(other.forget_upload_at_byte);
        for (mine, its) in [
            (&mut self.lose_reset_answer, other.lose_reset_answer),
            (&mut self.lose_last_upload_answer, other.lose_last_upload_answer),
            (&mut self.never_return, other.never_return),
            (&mut self.ignore_reset, other.ignore_reset),
            (&mut self.crash_on_test_boot, other.crash_on_test_boot),
            (&mut self.hang_on_test_boot, other.hang_on_test_boot),
            (&mut self.mute_on_test_boot, other.mute_on_test_boot),
            (&mut self.ignore_swap, other.ignore_swap),
            (&mut self.wrong_hash, other.wrong_hash),
            (&mut self.upload_mismatch, other.upload_mismatch),
            (&mut self.forget_confirm, other.forget_confirm),
            (&mut self.wedge_on_early_bytes, other.wedge_on_early_bytes),
        ] {
            *mine |= its;
        }
        self
    }

    /// All of `faults` that the device with this number, from 1, has.
    pub(super) fn of_device<'a>(faults: impl IntoIterator<Item = &'a Self>, number: usize) -> Self {
        faults
            .into_iter()
            .filter(|fault| fault.applies_to(number))
            .fold(Self::default(), |sum, fault| sum.merge(fault))
    }
}

/// Repeatable dice: SplitMix64 (Steele, Lea and Flood, "Fast splittable pseudorandom number generators", 2014), so that a
/// seed gives the same run on every machine and with every version of every crate.
#[derive(Debug, Clone)]
pub(super) struct Dice(u64);

impl Dice {
    pub(super) fn new(seed: u64, device: usize) -> Self {
        let mut dice = Self(seed ^ (device as u64).wrapping_mul(0xd1b5_4a32_d192_ed03));
        dice.next();
        dice
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut word = self.0;
        word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        word ^ (word >> 31)
    }

    /// True in this share of throws. A share of 0 throws no dice, so that adding a fault does not move the others.
    pub(super) fn throw(&mut self, share: f64) -> bool {
        // The upper 53 bits are a fraction that f64 holds exactly.
        share > 0.0 && ((self.next() >> 11) as f64) / ((1_u64 << 53) as f64) < share
    }

    /// A number below `limit`; 0 where `limit` is 0.
    pub(super) fn below(&mut self, limit: usize) -> usize {
        usize::try_from(self.next() % (limit.max(1) as u64)).unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dice_repeat_by_seed_differ_by_device_and_keep_their_share() {
        let throws = |seed, device| {
            let mut dice = Dice::new(seed, device);
            (0..10_000).map(|_| dice.throw(0.05)).collect::<Vec<_>>()
        };
        assert_eq!(throws(1, 0), throws(1, 0));
        assert_ne!(throws(1, 0), throws(2, 0));
        assert_ne!(throws(1, 0), throws(1, 1));
        let hits = throws(1, 0).into_iter().filter(|&hit| hit).count();
        assert!((400..600).contains(&hits), "{hits} of 10000 at a share of 0.05");
    }

    #[test]
    fn the_ends_of_the_share_are_exact() {
        let mut dice = Dice::new(3, 3);
        assert!((0..1000).all(|_| !dice.throw(0.0)));
        assert!((0..1000).all(|_| dice.throw(1.0)));
    }

    #[test]
    fn faults_apply_to_the_devices_named_and_add_up() {
        let all = FaultSpec { lose: 0.1, ..FaultSpec::default() };
        let some = FaultSpec { only: vec![2, 5], never_return: true, lose: 0.3, ..FaultSpec::default() };
        let of = |number| FaultSpec::of_device([&all, &some], number);
        assert!(!of(1).never_return);
        assert_eq!(of(1).lose, 0.1);
        assert!(of(2).never_return && of(5).never_return);
        assert_eq!(of(5).lose, 0.3);
    }

    #[test]
    fn refusals_count_from_one() {
        let refusal = Refusal { group: 1, command: 1, rc: 10, of_group: true, from: 3, times: Some(2) };
        let refused = (1..=6).filter(|&nth| refusal.applies(1, 1, nth)).collect::<Vec<_>>();
        assert_eq!(refused, [3, 4]);
        assert!(!refusal.applies(1, 0, 3));
    }
}
