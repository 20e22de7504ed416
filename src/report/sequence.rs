//! Which positions of an event log were counted. Nothing else.

use std::collections::BTreeMap;

/// Positions seen so far, kept as what is missing below the highest one: small for a whole log of any length.
#[derive(Debug, Clone, Default)]
pub(super) struct Sequence {
    /// One beyond the highest position seen.
    next: u64,
    /// The highest position that there is was seen: `next` cannot go beyond it.
    full: bool,
    /// First and last position of each gap.
    gaps: BTreeMap<u64, u64>,
}

impl Sequence {
    /// Marks a position as seen; `false` where it was already.
    pub(super) fn is_new(&mut self, seq: u64) -> bool {
        let next = self.next;
        if !self.full && seq >= next {
            if seq > next {
                self.gaps.insert(next, seq - 1);
            }
            self.full = seq == u64::MAX;
            self.next = seq.saturating_add(1);
            return true;
        }
        let Some((first, last)) = self.gaps.range(..=seq).next_back().map(|(first, last)| (*first, *last))
        else {
            return false;
        };
        if seq > last {
            return false;
        }
        self.gaps.remove(&first);
        if first < seq {
            self.gaps.insert(first, seq - 1);
        }
        if seq < last {
            self.gaps.insert(seq + 1, last);
        }
        true
    }

    /// How many positions below the highest one are missing.
    pub(super) fn missing(&self) -> u64 {
        self.gaps.iter().fold(0, |sum, (first, last)| sum.saturating_add((last - first).saturating_add(1)))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn agrees_with_a_set(seqs in proptest::collection::vec(0_u64..40, 0..60)) {
            let (mut sequence, mut set) = (Sequence::default(), HashSet::new());
            for seq in &seqs {
                prop_assert_eq!(sequence.is_new(*seq), set.insert(*seq));
            }
            let missing = seqs.iter().max().map_or(0, |max| max + 1 - set.len() as u64);
            prop_assert_eq!(sequence.missing(), missing);
        }
    }

    #[test]
    fn the_last_position_of_all_is_one_like_the_others() {
        let mut sequence = Sequence::default();
        assert!(sequence.is_new(u64::MAX));
        assert!(!sequence.is_new(u64::MAX));
        assert!(sequence.is_new(0));
        assert_eq!(sequence.missing(), u64::MAX - 1);
    }
}
