//! Which slots are free: the lowest one is found in a few steps, however many are taken.
//!
//! A tree of bits: a bit of the lowest level is a slot, a bit above says that the word below it has
//! one.

use alloc::vec;
use alloc::vec::Vec;

/// Bits of a word.
const WORD: usize = 64;

/// The free slots of a table.
#[derive(Clone, Debug)]
pub(super) struct Free {
    /// From the slots upwards; the last level has one word.
    levels: Vec<Vec<u64>>,
}

impl Free {
    /// `slots` slots, all free.
    pub(super) fn new(slots: usize) -> Self {
        let mut levels = Vec::new();
        let mut bits = slots;
        loop {
            let level = ones(bits);
            bits = level.len();
            levels.push(level);
            if bits == 1 {
                return Self { levels };
            }
        }
    }

    /// The lowest free slot.
    pub(super) fn lowest(&self) -> Option<usize> {
        let mut at = 0;
        for level in self.levels.iter().rev() {
            let word = level.get(at)?;
            if *word == 0 {
                return None;
            }
            at = at * WORD + usize::try_from(word.trailing_zeros()).ok()?;
        }
        Some(at)
    }

    /// Marks a slot as taken.
    pub(super) fn take(&mut self, slot: usize) {
        let mut at = slot;
        for level in &mut self.levels {
            let Some(word) = level.get_mut(at / WORD) else { return };
            *word &= !(1 << (at % WORD));
            if *word != 0 {
                return;
            }
            at /= WORD;
        }
    }

    /// Marks a slot as free.
    pub(super) fn give(&mut self, slot: usize) {
        let mut at = slot;
        for level in &mut self.levels {
            let Some(word) = level.get_mut(at / WORD) else { return };
            let full = *word == 0;
            *word |= 1 << (at % WORD);
            if !full {
                return;
            }
            at /= WORD;
        }
    }
}

/// So many bits that are set, and those that fill the last word up are not; a word at least.
fn ones(bits: usize) -> Vec<u64> {
    let mut words = vec![u64::MAX; bits / WORD];
    let rest = bits % WORD;
    if rest > 0 || words.is_empty() {
        words.push((1 << rest) - 1);
    }
    words
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn every_slot_in_turn_then_none() {
        for slots in [0, 1, 63, 64, 65, 4_096, 4_097, 10_000] {
            let mut free = Free::new(slots);
            for expected in 0..slots {
                assert_eq!(free.lowest(), Some(expected));
                free.take(expected);
            }
            assert_eq!(free.lowest(), None);
        }
    }

    proptest! {
        #[test]
        fn it_is_the_lowest(
            acts in prop::collection::vec((any::<bool>(), 0..5_000_usize), 0..400),
        ) {
            let mut free = Free::new(5_000);
            let mut model = vec![true; 5_000];
            for (slot, is_free) in model.iter_mut().enumerate().take(4_990) {
                free.take(slot);
                *is_free = false;
            }
            for (give, slot) in acts {
                model[slot] = give;
                if give { free.give(slot) } else { free.take(slot) }
                prop_assert_eq!(free.lowest(), model.iter().position(|free| *free));
            }
        }
    }
}
