//! Our own hash: keyed, spelled out, equal on 32 and 64 bits and in every build.
//!
//! Choices (backends, ports) and digests are made with it, so its values are part of every
//! recording and may never change. foldhash lays out tables and is used nowhere else.

/// A keyed hash in progress. 64 by 64 to 128 bit multiplications, folded.
#[derive(Clone, Copy, Debug)]
pub struct Hasher {
    state: u64,
    length: u64,
}

const MULTIPLE: u64 = 0x9e37_79b9_7f4a_7c15;
const MIX: u64 = 0xd6e8_feb8_6659_fd93;

fn fold(a: u64, b: u64) -> u64 {
    let product = u128::from(a) * u128::from(b);
    let bytes = product.to_le_bytes();
    let (low, high) = bytes.split_at(8);
    word(low) ^ word(high)
}

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
    pub fn number(&mut self, value: u64) {
        self.state = fold(self.state ^ value, MULTIPLE).rotate_left(23) ^ MIX;
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
        let mixed = fold(self.state ^ self.length, MIX);
        fold(mixed ^ (mixed >> 32), MULTIPLE | 1)
    }
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
    fn single_bits_spread() {
        let mut distance = 0_u32;
        for bit in 0..64 {
            distance += (numbers(3, &[0]) ^ numbers(3, &[1 << bit])).count_ones();
        }
        let mean = distance / 64;
        assert!((26..=38).contains(&mean), "mean distance {mean} of 64 bits");
    }
}
