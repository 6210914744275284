//! CRC32c, SCTP's checksum (RFC 9260 section 6.8 and appendix A), by difference alone.
//!
//! A CRC is linear: when two messages of one length differ by D, their CRCs differ by D's. D is
//! zero but for the word that changed, so what follows that word counts by its length only, and
//! that is a power of x: no payload is read, whatever its size.
//!
//! Polynomials stand in words bit-reversed, as CRC32c has them: the highest bit is the coefficient
//! of x^0.

/// CRC32c's polynomial without x^32.
const POLYNOMIAL: u32 = 0x82f6_3b78;
/// x^0.
const ONE: u32 = 1 << 31;
/// What a byte that follows multiplies by: x^8.
const BYTE: u32 = ONE >> 8;

/// x^(8n) for n below 256.
const BYTES: [u32; 256] = powers(BYTE);
/// x^(8·256n) for n below 256.
const BLOCKS: [u32; 256] = powers(power(8));

/// x^(8·2^doublings).
const fn power(doublings: u32) -> u32 {
    let (mut power, mut left) = (BYTE, doublings);
    while left > 0 {
        power = multiply(power, power);
        left -= 1;
    }
    power
}

const fn powers(step: u32) -> [u32; 256] {
    let mut table = [0; 256];
    let mut rest: &mut [u32] = &mut table;
    let mut power = ONE;
    while let Some((place, behind)) = rest.split_first_mut() {
        *place = power;
        power = multiply(power, step);
        rest = behind;
    }
    table
}

/// The product modulo the polynomial.
const fn multiply(a: u32, b: u32) -> u32 {
    let (mut rest, mut shifted, mut product) = (a, b, 0);
    while rest != 0 {
        if rest & ONE != 0 {
            product ^= shifted;
        }
        let carried = shifted & 1 != 0;
        shifted = (shifted >> 1) ^ if carried { POLYNOMIAL } else { 0 };
        rest <<= 1;
    }
    product
}

/// What a packet's CRC32c changes by, to be added without carry (`^`), when one 16-bit word of it
/// changes from `old` to `new`, both in host order. `left` counts the packet's bytes from that word
/// on, the word included.
///
/// The CRC is in the order in which the algorithm gives it. A packet has it with the lowest byte
/// first (RFC 9260 appendix A).
#[must_use]
pub fn difference16(old: u16, new: u16, left: u16) -> u32 {
    // The first byte goes in first: with its lowest bit at the lowest place, as all bits do.
    let changed = u32::from((old ^ new).swap_bytes());
    let [blocks, bytes] = left.to_be_bytes();
    let power = |table: &[u32; 256], at: u8| table.get(usize::from(at)).copied().unwrap_or(ONE);
    multiply(changed, multiply(power(&BYTES, bytes), power(&BLOCKS, blocks)))
}

#[cfg(test)]
mod tests {
    use std::vec;
    use std::vec::Vec;

    use proptest::prelude::*;

    use super::*;

    /// CRC32c bit by bit, as RFC 9260 appendix A describes it.
    fn slowly(bytes: &[u8]) -> u32 {
        let mut crc = u32::MAX;
        for byte in bytes {
            crc ^= u32::from(*byte);
            for _ in 0..8 {
                crc = if crc & 1 == 1 { crc >> 1 ^ POLYNOMIAL } else { crc >> 1 };
            }
        }
        !crc
    }

    /// What a change of the word at `at` does, against computing anew.
    fn judge(mut bytes: Vec<u8>, at: usize, new: u16) {
        let before = slowly(&bytes);
        let old = u16::from_be_bytes([bytes[at], bytes[at + 1]]);
        bytes[at..at + 2].copy_from_slice(&new.to_be_bytes());
        let left = u16::try_from(bytes.len() - at).unwrap();
        let len = bytes.len();
        assert_eq!(before ^ difference16(old, new, left), slowly(&bytes), "{at} of {len}");
    }

    #[test]
    fn the_slow_one_is_crc32c() {
        // The check value of the catalogue, and RFC 3720 section B.4.
        assert_eq!(slowly(b"123456789"), 0xe306_9283);
        assert_eq!(slowly(&[0; 32]), 0x8a91_36aa);
        assert_eq!(slowly(&[0xff; 32]), 0x62a8_ab43);
    }

    #[test]
    fn lengths_at_the_edges_of_both_tables() {
        for len in [2, 3, 12, 255, 256, 257, 258, 511, 512, 513, 32_768, 65_280, 65_534, 65_535] {
            judge(vec![0x5a; len], 0, 0x1234);
            judge(vec![0x5a; len], len - 2, 0xffff);
        }
    }

    #[test]
    fn every_bit_of_the_word() {
        for bit in 0..16 {
            judge(vec![0; 300], 2, 1 << bit);
        }
        assert_eq!(difference16(7, 7, 1_000), 0, "nothing changed");
    }

    proptest! {
        #[test]
        fn a_difference_is_a_recomputation(
            bytes in proptest::collection::vec(any::<u8>(), 2..3_000),
            at in any::<proptest::sample::Index>(),
            new in any::<u16>(),
        ) {
            let at = at.index(bytes.len() - 1);
            judge(bytes, at, new);
        }
    }
}
