//! Our own hash: keyed, spelled out, equal on 32 and 64 bits and in every build.
//!
//! Choices (backends, ports) and digests are made with it, so its values are part of every
//! recording: they may not change but with the version of records. foldhash lays out tables and is
//! used nowhere else.

/// A keyed hash in progress. 64 by 64 to 128 bit multiplications, folded.
#[derive(Clone, Copy, Debug)]
pub struct Hasher {
    state: u64,
    length: u64,
}

const MULTIPLE: u64 = 0x9e37_79b9_7f4a_7c15;
const MIX: u64 = 0xd6e8_feb8_6659_fd93;

fn word(bytes: &[u8]) -> u64 {
    let mut padded = [0_u8; 8];
    for (to, from) in padded.iter_mut().zip(bytes) {
        *to = *from;
    }
    u64::from_le_bytes(padded)
}

impl Hasher {
    /// A hash keyed by `key`.
    #[must_use]
    pub fn new(key: u64) -> Self {
        Self { state: key ^ MIX, length: 0 }
    }

    /// Takes in a number.
    #[inline]
    pub fn number(&mut self, value: u64) {
        self.state = mix(self.state ^ value, MULTIPLE).rotate_left(23) ^ MIX;
        self.length = self.length.wrapping_add(8);
    }

    /// Takes in bytes, and their count.
    pub fn bytes(&mut self, bytes: &[u8]) {
        let (words, rest) = bytes.as_chunks::<8>();
        for chunk in words {
            self.number(u64::from_le_bytes(*chunk));
        }
        if !rest.is_empty() {
            self.number(word(rest));
        }
        self.number(u64::try_from(bytes.len()).unwrap_or(u64::MAX));
    }

    /// The hash of all that was taken in.
    #[must_use]
    pub fn finish(&self) -> u64 {
        let mixed = mix(self.state ^ self.length, MIX);
        mix(mixed ^ (mixed >> 32), MULTIPLE | 1)
    }
}

/// The hash of a row of words.
#[must_use]
#[inline]
pub(crate) fn row(key: u64, values: &[u64]) -> u64 {
    let mut lanes = Lanes::new();
    let (blocks, rest) = values.as_chunks::<4>();
    blocks.iter().for_each(|block| lanes.block(*block));
    let mut last = [0; 4];
    last.iter_mut().zip(rest).for_each(|(place, value)| *place = *value);
    lanes.block(last);
    lanes.finish(key, values.len())
}

/// The hash of some numbers.
#[must_use]
pub fn numbers(key: u64, values: &[u64]) -> u64 {
    let mut hasher = Hasher::new(key);
    for value in values {
        hasher.number(*value);
    }
    hasher.finish()
}

/// Keys of [`mix`] and [`Lanes`].
pub(crate) const KEYS: [u64; 4] =
    [0xa076_1d64_78bd_642f, 0xe703_7ed1_a0b4_28db, 0x8ebc_6af0_9c88_c6e3, 0x5895_65b3_d27d_d0b7];

/// 64 by 64 to 128 bits, folded.
#[inline]
pub(crate) fn mix(a: u64, b: u64) -> u64 {
    let product = u128::from(a) * u128::from(b);
    let [a, b, c, d, e, f, g, h, high @ ..] = product.to_le_bytes();
    u64::from_le_bytes([a, b, c, d, e, f, g, h]) ^ u64::from_le_bytes(high)
}

/// A hash of much at once: two lanes that take in bytes, pairs of words at a time. No state is in
/// them until the end: what one thing comes to does not wait for the one before it, and a processor
/// does both at once. The chain of records and the digests of rows are made with it.
pub(crate) struct Lanes(u64, u64);

impl Lanes {
    #[inline]
    pub(crate) fn new() -> Self {
        let [k0, _, k2, _] = KEYS;
        Self(k0, k2)
    }

    #[inline]
    pub(crate) fn block(&mut self, [a, b, c, d]: [u64; 4]) {
        let [_, k1, _, k3] = KEYS;
        self.0 = mix(a ^ k1, b ^ self.0);
        self.1 = mix(c ^ k3, d ^ self.1);
    }

    #[inline]
    pub(crate) fn bytes(&mut self, bytes: &[u8]) {
        let (blocks, rest) = bytes.as_chunks::<32>();
        for block in blocks {
            self.block(words(block));
        }
        if rest.is_empty() {
            return;
        }
        // The last 32 bytes, some of them a second time: the count tells it apart.
        if let Some(last) = bytes.last_chunk::<32>() {
            self.block(words(last));
            return;
        }
        // Zeros stand for what is missing.
        let (whole, tail) = rest.as_chunks::<8>();
        let mut padded = [0_u64; 4];
        for (place, word) in padded.iter_mut().zip(whole) {
            *place = u64::from_le_bytes(*word);
        }
        if let Some(place) = padded.get_mut(whole.len()) {
            *place = tail_word(tail);
        }
        self.block(padded);
    }

    #[inline]
    pub(crate) fn finish(self, state: u64, len: usize) -> u64 {
        let [k0, _, k2, _] = KEYS;
        let len = u64::try_from(len).unwrap_or(u64::MAX);
        let two = self.1.rotate_left(17) ^ len ^ k0;
        mix(state ^ self.0 ^ k2, state.rotate_left(32) ^ two) ^ state.rotate_left(1)
    }
}

#[inline]
pub(crate) fn words(block: &[u8; 32]) -> [u64; 4] {
    let mut words = [0; 4];
    for (place, word) in words.iter_mut().zip(block.as_chunks::<8>().0) {
        *place = u64::from_le_bytes(*word);
    }
    words
}

/// Up to seven bytes as a word, with at most three loads.
#[inline]
fn tail_word(tail: &[u8]) -> u64 {
    let (mut word, mut shift, mut rest) = (0_u64, 0, tail);
    if let Some((four, after)) = rest.split_first_chunk::<4>() {
        (word, shift, rest) = (u64::from(u32::from_le_bytes(*four)), 32, after);
    }
    if let Some((two, after)) = rest.split_first_chunk::<2>() {
        word |= u64::from(u16::from_le_bytes(*two)) << shift;
        (shift, rest) = (shift + 16, after);
    }
    if let Some(byte) = rest.first() {
        word |= u64::from(*byte) << shift;
    }
    word
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Recordings hold these values: a change here is a change of format. They were computed by a
    /// second implementation.
    #[test]
    fn values_are_fixed() {
        assert_eq!(Hasher::new(0).finish(), 0x1ce7_e515_566f_9d7e);
        assert_eq!(numbers(0, &[0]), 0xd148_9e01_b9af_30bf);
        assert_eq!(numbers(1, &[1, 2, 3]), 0x8644_5404_6b2a_eb42);
        assert_eq!(numbers(u64::MAX, &[u64::MAX, 0]), 0x13ca_7860_0dd3_9e85);
        assert_eq!(row(0, &[]), 0x3c9e_348f_6ed6_8e1a);
        assert_eq!(row(1, &[1, 2, 3]), 0x78cb_482d_81e0_f36a);
        assert_eq!(row(u64::MAX, &[u64::MAX, 0, 1, 2, 3]), 0x5cc9_254f_b7cf_b18a);
        let of = |bytes: &[u8]| {
            let mut hasher = Hasher::new(7);
            hasher.bytes(bytes);
            hasher.finish()
        };
        assert_eq!(of(b""), 0x8ec5_82a8_d3f8_00a0);
        assert_eq!(of(b"hop"), 0xd35d_43b8_023e_7729);
        assert_eq!(of(b"hopscope"), 0x3b45_9cc0_05e9_140c);
        assert_eq!(of(b"hopscope, hopscope"), 0x875f_41f8_f105_6719);
    }

    #[test]
    fn keys_order_and_length_count() {
        assert_ne!(numbers(1, &[1, 2, 3]), numbers(2, &[1, 2, 3]));
        assert_ne!(numbers(1, &[1, 2, 3]), numbers(1, &[1, 3, 2]));
        let mut one = Hasher::new(7);
        one.bytes(b"hopscope");
        let mut two = Hasher::new(7);
        two.bytes(b"hopscope\0");
        assert_ne!(one.finish(), two.finish());
    }

    #[test]
    fn every_bit_and_the_count_of_a_row_count() {
        let words: std::vec::Vec<u64> = (0..11).map(|n| numbers(5, &[n])).collect();
        let mut seen = std::vec![row(1, &words), row(2, &words)];
        for len in 0..words.len() {
            seen.push(row(1, &words[..len]));
        }
        // What is missing counts as zeros, and their count tells them apart.
        seen.push(row(1, &[&words[..], &[0]].concat()));
        for at in 0..words.len() {
            for bit in 0..64 {
                let mut other = words.clone();
                other[at] ^= 1 << bit;
                seen.push(row(1, &other));
            }
        }
        let count = seen.len();
        seen.sort_unstable();
        seen.dedup();
        assert_eq!(seen.len(), count);
    }

    #[test]
    fn single_bits_spread() {
        let mut distance = 0_u32;
        for bit in 0..64 {
            distance += (numbers(3, &[0]) ^ numbers(3, &[1 << bit])).count_ones();
        }
        let mean = distance / 64;
        assert!((26..=38).contains(&mean), "mean distance {mean} of 64 bits");
    }
}
