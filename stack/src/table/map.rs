//! The one hash map: fixed capacity, seeded layout, no raw iteration.
//!
//! hashbrown lays items out by a seed and grows only by configuration; walks look up, never
//! iterate. Room is there from the start ([`Map::new`]), or made as it is needed where only
//! configuration adds items and most nodes have few ([`Map::growing`]). [`Map::sorted`] is for
//! dumps, digests and floods, whose order must not depend on the layout.

#![expect(
    clippy::disallowed_types,
    reason = "the wrapper that gives everybody else a deterministic map"
)]

use alloc::vec::Vec;
use core::hash::Hash;

use foldhash::fast::FixedState;
use hashbrown::HashMap;

/// A map of at most a fixed number of items.
#[derive(Clone, Debug)]
pub struct Map<K, V> {
    items: HashMap<K, V, FixedState>,
    items_max: usize,
}

impl<K: Copy + Eq + Hash + Ord, V: Copy> Map<K, V> {
    /// A map of at most `items_max` items, laid out by `seed`.
    #[must_use]
    pub fn new(seed: u64, items_max: usize) -> Self {
        let hasher = FixedState::with_seed(seed);
        Self { items: HashMap::with_capacity_and_hasher(items_max, hasher), items_max }
    }

    /// The same, whose room is made as it is needed.
    #[must_use]
    pub fn growing(seed: u64, items_max: usize) -> Self {
        Self { items: HashMap::with_hasher(FixedState::with_seed(seed)), items_max }
    }

    /// The item of that key.
    #[must_use]
    #[inline]
    pub fn get(&self, key: &K) -> Option<&V> {
        self.items.get(key)
    }

    /// Puts an item in, or replaces the one of that key. False when the map is full.
    pub fn insert(&mut self, key: K, value: V) -> bool {
        if self.items.len() >= self.items_max && !self.items.contains_key(&key) {
            return false;
        }
        self.items.insert(key, value);
        true
    }

    /// Takes an item out.
    pub fn remove(&mut self, key: &K) -> Option<V> {
        self.items.remove(key)
    }

    /// How many items there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.items.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.items.is_empty()
    }

    /// All items in the order of their keys. Not for walks: it sorts.
    #[must_use]
    pub fn sorted(&self) -> Vec<(K, V)> {
        let mut items: Vec<(K, V)> = self.items.iter().map(|(key, value)| (*key, *value)).collect();
        items.sort_unstable_by_key(|(key, _)| *key);
        items
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn full_is_full_but_replacing_goes() {
        let mut map = Map::new(1, 2);
        assert!(map.insert(1, 'a'));
        assert!(map.insert(2, 'b'));
        assert!(!map.insert(3, 'c'));
        assert!(map.insert(2, 'd'));
        assert_eq!(map.sorted(), [(1, 'a'), (2, 'd')]);
    }

    #[test]
    fn one_that_grows_is_full_at_the_same_size() {
        let mut map = Map::growing(1, 1_000);
        assert!((0..1_000).all(|key| map.insert(key, key)));
        assert!(!map.insert(1_000, 0));
        assert_eq!((map.len(), map.get(&999), map.get(&1_000)), (1_000, Some(&999), None));
    }

    #[test]
    fn order_does_not_depend_on_the_seed() {
        let sorted = |seed| {
            let mut map = Map::new(seed, 1000);
            for key in 0..500_u32 {
                map.insert(key.wrapping_mul(2_654_435_761), key);
            }
            map.sorted()
        };
        assert_eq!(sorted(1), sorted(2));
    }
}
