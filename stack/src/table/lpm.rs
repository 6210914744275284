//! Longest prefix match over a set that is rebuilt whole: the address space cut into intervals.
//!
//! Prefixes nest, so each point of the space has one longest prefix; neighboring points with the
//! same one form an interval. A look-up is a binary search over the intervals' first addresses: no
//! tree to walk, two cache lines near the end, and nothing that depends on the order of insertion.

use alloc::vec::Vec;

/// Intervals of an address space of 32 or 128 bits, each with the value of its longest prefix.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lpm<V> {
    firsts: Vec<u128>,
    values: Vec<Option<V>>,
}

impl<V> Default for Lpm<V> {
    fn default() -> Self {
        Self { firsts: Vec::new(), values: Vec::new() }
    }
}

/// A prefix of `bits` leading bits of an address space of `width` bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Prefix {
    /// The address, right aligned; bits beyond the prefix are ignored.
    pub address: u128,
    /// Leading bits that count.
    pub bits: u8,
    /// Bits of an address: 32 or 128.
    pub width: u8,
}

impl Prefix {
    fn host_mask(self) -> u128 {
        let host = u32::from(self.width.saturating_sub(self.bits));
        u128::MAX.checked_shl(host).map_or(u128::MAX, |mask| !mask)
    }

    fn first(self) -> u128 {
        self.address & !self.host_mask()
    }

    fn last(self) -> u128 {
        self.address | self.host_mask()
    }
}

impl<V: Copy> Lpm<V> {
    /// Builds the intervals. Of two equal prefixes the later wins.
    #[must_use]
    pub fn build(prefixes: &[(Prefix, V)]) -> Self {
        let mut sorted: Vec<&(Prefix, V)> = prefixes.iter().collect();
        sorted.sort_by_key(|(prefix, _)| (prefix.first(), prefix.bits));
        let mut lpm = Self { firsts: Vec::new(), values: Vec::new() };
        let mut open: Vec<&(Prefix, V)> = Vec::new();
        lpm.begin(0, None);
        for item in sorted {
            let first = item.0.first();
            lpm.close(&mut open, Some(first));
            lpm.begin(first, Some(item.1));
            open.push(item);
        }
        lpm.close(&mut open, None);
        lpm
    }

    /// Ends the open prefixes that lie wholly before `next`; the one around each goes on after it.
    fn close(&mut self, open: &mut Vec<&(Prefix, V)>, next: Option<u128>) {
        while let Some(inner) = open.last() {
            let last = inner.0.last();
            if next.is_some_and(|first| first <= last) {
                return;
            }
            open.pop();
            if let Some(after) = last.checked_add(1) {
                self.begin(after, open.last().map(|outer| outer.1));
            }
        }
    }

    fn begin(&mut self, first: u128, value: Option<V>) {
        if self.firsts.last() == Some(&first) {
            // An interval that begins where the one before did leaves it empty: replace it.
            self.firsts.pop();
            self.values.pop();
        }
        self.firsts.push(first);
        self.values.push(value);
    }

    /// The value of the longest prefix that covers `address`.
    #[must_use]
    #[inline]
    pub fn lookup(&self, address: u128) -> Option<V> {
        let after = self.firsts.partition_point(|first| *first <= address);
        *self.values.get(after.checked_sub(1)?)?
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::vec::Vec;

    fn prefix(address: u32, bits: u8) -> Prefix {
        Prefix { address: u128::from(address), bits, width: 32 }
    }

    #[test]
    fn nested_prefixes_and_gaps() {
        let lpm = Lpm::build(&[
            (prefix(0x0a00_0000, 8), 'a'),
            (prefix(0x0a01_0000, 16), 'b'),
            (prefix(0x0a01_0101, 32), 'c'),
            (prefix(0xffff_ff00, 24), 'd'),
        ]);
        assert_eq!(lpm.lookup(0x0a00_0001), Some('a'));
        assert_eq!(lpm.lookup(0x0a01_0100), Some('b'));
        assert_eq!(lpm.lookup(0x0a01_0101), Some('c'));
        assert_eq!(lpm.lookup(0x0a01_0102), Some('b'));
        assert_eq!(lpm.lookup(0x0a02_0000), Some('a'));
        assert_eq!(lpm.lookup(0x0b00_0000), None);
        assert_eq!(lpm.lookup(0xffff_ffff), Some('d'));
    }

    #[test]
    fn the_whole_space_and_nothing() {
        let all = Prefix { address: 0, bits: 0, width: 128 };
        assert_eq!(Lpm::build(&[(all, 1)]).lookup(u128::MAX), Some(1));
        assert_eq!(Lpm::<u8>::build(&[]).lookup(5), None);
    }

    proptest! {
        #[test]
        fn equals_a_search_through_all(
            routes in proptest::collection::vec((any::<u32>(), 0_u8..=32), 0..40),
            addresses in proptest::collection::vec(any::<u32>(), 1..40),
        ) {
            // Few distinct high bits, so that prefixes nest often.
            let prefixes: Vec<(Prefix, usize)> = routes
                .iter()
                .enumerate()
                .map(|(n, (address, bits))| (prefix(address & 0xc00f_00ff, *bits), n))
                .collect();
            let lpm = Lpm::build(&prefixes);
            for address in addresses.iter().map(|a| u128::from(a & 0xc00f_00ff)) {
                let expected = prefixes
                    .iter()
                    .filter(|(p, _)| p.first() <= address && address <= p.last())
                    .max_by_key(|(p, n)| (p.bits, *n))
                    .map(|(_, n)| *n);
                prop_assert_eq!(lpm.lookup(address), expected);
            }
        }
    }
}
