//! From a flow's hash to its connection: a fixed table, a cache line a bucket, no tombstones.
//!
//! A bucket holds fifteen entries and a count. An entry is a number and as many bits of the hash as
//! are left beside it, so that nearly every wrong entry is passed over without a look at its
//! connection. What does not fit into its bucket goes to a second one that follows from the hash as
//! well; the count says how many did, and a look-up goes there only if there are any. What fits
//! into neither waits in a list, which is empty at any load that the limits allow. The layout
//! follows from the seed of tables and shows in no result.

use alloc::vec;
use alloc::vec::Vec;

/// Entries of a bucket.
const ENTRIES: usize = 15;
/// Of these as many are filled on average when the table is full.
const FILLED: usize = 10;
/// Words of a bucket: its entries, then how many whose first bucket this is are elsewhere. An entry
/// of 0 is free; else it is the bits of the hash above the number plus one.
const WORDS: usize = ENTRIES + 1;

/// Numbers by hash.
#[derive(Clone, Debug)]
pub(super) struct Index {
    /// Plain words, because the allocator has zeroed ones at no cost.
    words: Vec<u32>,
    /// Words before the first bucket, so that none lies across two cache lines.
    begin: usize,
    buckets: usize,
    /// Bits of an entry that are its number.
    bits: u32,
    /// What found no room in its buckets: hash, entry.
    rest: Vec<(u64, u32)>,
}

impl Index {
    /// For at most `max` numbers below `max`.
    pub(super) fn new(max: usize) -> Self {
        let buckets = max.div_ceil(FILLED).max(2);
        let words = vec![0; (buckets + 1) * WORDS];
        let begin = words.as_ptr().align_offset(WORDS * size_of::<u32>()).min(WORDS);
        let bits = usize::BITS - max.saturating_add(1).leading_zeros();
        Self { words, begin, buckets, bits: bits.min(31), rest: Vec::new() }
    }

    /// The number of that hash for which `is_it` says yes.
    #[inline]
    pub(super) fn find(&self, hash: u64, is_it: impl Fn(usize) -> bool) -> Option<usize> {
        let first = self.first(hash);
        let [entries @ .., elsewhere] = self.bucket(first)?;
        if let Some(found) = self.find_in(entries, hash, &is_it) {
            return Some(found);
        }
        if *elsewhere == 0 {
            return None;
        }
        let [entries @ .., _] = self.bucket(self.second(hash, first))?;
        if let Some(found) = self.find_in(entries, hash, &is_it) {
            return Some(found);
        }
        let rest = self.rest.iter().filter(|(other, _)| *other == hash);
        rest.filter_map(|(_, entry)| self.number(*entry)).find(|number| is_it(*number))
    }

    /// Puts a number in. It must not be there.
    pub(super) fn insert(&mut self, hash: u64, number: usize) {
        let entry = self.entry(hash, number);
        let (first, second) = self.places(hash);
        let at_first = self.filled(first);
        // The first one's last places are for those whose second is no emptier, so that in the end
        // nothing finds both full.
        let prefers_first = at_first < FILLED || at_first <= self.filled(second);
        if prefers_first && self.replace(first, 0, entry) {
            return;
        }
        self.count(first, 1);
        if !self.replace(second, 0, entry) {
            self.rest.push((hash, entry));
        }
    }

    /// Takes a number out.
    pub(super) fn remove(&mut self, hash: u64, number: usize) {
        let entry = self.entry(hash, number);
        let (first, second) = self.places(hash);
        if self.replace(first, entry, 0) {
            return;
        }
        let removed = self.replace(second, entry, 0) || {
            let place = self.rest.iter().position(|other| *other == (hash, entry));
            place.map(|place| self.rest.swap_remove(place)).is_some()
        };
        if removed {
            self.count(first, -1);
        }
    }

    /// Bytes it takes.
    #[cfg(test)]
    pub(super) fn bytes(&self) -> usize {
        self.words.capacity() * size_of::<u32>()
    }

    fn bucket(&self, place: usize) -> Option<&[u32; WORDS]> {
        self.words.get(self.begin + place * WORDS..)?.first_chunk()
    }

    fn bucket_mut(&mut self, place: usize) -> Option<&mut [u32; WORDS]> {
        self.words.get_mut(self.begin + place * WORDS..)?.first_chunk_mut()
    }

    fn places(&self, hash: u64) -> (usize, usize) {
        let first = self.first(hash);
        (first, self.second(hash, first))
    }

    #[inline]
    fn first(&self, hash: u64) -> usize {
        usize::try_from(((hash >> 32) * self.buckets as u64) >> 32).unwrap_or(0)
    }

    /// Never the first: at least one bucket further, and less than all of them.
    #[inline]
    fn second(&self, hash: u64, first: usize) -> usize {
        let low = hash & 0xffff_ffff;
        let others = (self.buckets - 1) as u64;
        let place = first + 1 + usize::try_from((low * others) >> 32).unwrap_or(0);
        place.checked_sub(self.buckets).unwrap_or(place)
    }

    fn entry(&self, hash: u64, number: usize) -> u32 {
        let number = u32::try_from(number).unwrap_or(u32::MAX) + 1;
        // The middle of the hash: its upper bits have chosen the bucket.
        let tag = u32::try_from((hash >> 16) & 0xffff_ffff).unwrap_or(0);
        number | tag.checked_shl(self.bits).unwrap_or(0)
    }

    fn number(&self, entry: u32) -> Option<usize> {
        let mask = (1_u32 << self.bits) - 1;
        usize::try_from((entry & mask).checked_sub(1)?).ok()
    }

    #[inline]
    fn find_in(
        &self,
        entries: &[u32; ENTRIES],
        hash: u64,
        is_it: &impl Fn(usize) -> bool,
    ) -> Option<usize> {
        let mask = (1_u32 << self.bits) - 1;
        let tag = u32::try_from((hash >> 16) & 0xffff_ffff).unwrap_or(0);
        let tag = tag.checked_shl(self.bits).unwrap_or(0);
        let alike = entries.iter().filter(|entry| **entry & !mask == tag && **entry != 0);
        alike.filter_map(|entry| self.number(*entry)).find(|number| is_it(*number))
    }

    /// Puts an entry in place of another one. False when that one is not there.
    fn replace(&mut self, place: usize, old: u32, new: u32) -> bool {
        let Some([entries @ .., _]) = self.bucket_mut(place) else { return false };
        let found = entries.iter_mut().find(|entry| **entry == old);
        found.map(|entry| *entry = new).is_some()
    }

    /// Entries of a bucket.
    fn filled(&self, place: usize) -> usize {
        let Some([entries @ .., _]) = self.bucket(place) else { return ENTRIES };
        entries.iter().filter(|entry| **entry != 0).count()
    }

    fn count(&mut self, place: usize, more: i32) {
        if let Some([.., elsewhere]) = self.bucket_mut(place) {
            *elsewhere = elsewhere.saturating_add_signed(more);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;
    use crate::hash;

    #[test]
    fn a_full_table_finds_everything_and_nothing_else() {
        let max = 20_000;
        let mut index = Index::new(max);
        let hash_of = |number: usize| hash::numbers(5, &[number as u64]);
        (0..max).for_each(|number| index.insert(hash_of(number), number));
        assert_eq!(index.rest, [], "everything has found room");
        for number in 0..max {
            assert_eq!(index.find(hash_of(number), |found| found == number), Some(number));
            assert_eq!(index.find(hash_of(number + max), |found| found == number + max), None);
        }
        (0..max).for_each(|number| index.remove(hash_of(number), number));
        assert!(index.words.iter().all(|word| *word == 0), "nothing is left behind");
        assert_eq!(index.rest, []);
    }

    #[test]
    fn a_bucket_is_a_cache_line_and_an_entry_takes_seven_bytes() {
        let index = Index::new(1 << 20);
        let first = index.bucket(0).unwrap();
        assert_eq!(size_of_val(first), 64);
        assert_eq!(core::ptr::from_ref(first).addr() % 64, 0);
        assert!(index.bytes() <= (1 << 20) * 7);
    }

    proptest! {
        /// Few hashes, so that buckets run over and the list is used.
        #[test]
        fn it_is_a_map(steps in proptest::collection::vec((any::<bool>(), 0..40_usize), 0..400)) {
            let mut index = Index::new(64);
            let mut model: BTreeMap<usize, u64> = BTreeMap::new();
            for (insert, number) in steps {
                let hash = hash::numbers(1, &[(number % 3) as u64]);
                match (insert, model.contains_key(&number)) {
                    (true, false) => {
                        index.insert(hash, number);
                        model.insert(number, hash);
                    }
                    (false, true) => {
                        index.remove(hash, number);
                        model.remove(&number);
                    }
                    _ => {}
                }
                for other in 0..40 {
                    let hash = hash::numbers(1, &[(other % 3) as u64]);
                    let found = index.find(hash, |found| found == other);
                    prop_assert_eq!(found, model.contains_key(&other).then_some(other));
                }
            }
        }
    }
}
