//! The Internet checksum: sums over bytes (RFC 1071) and updates by difference (RFC 1624).
//!
//! A *sum* is a one's complement sum of big-endian 16-bit words in a `u32`, already folded to 16
//! bits, so that thousands of them can be added before [`fold`]. A *checksum* is what stands in a
//! header: the complement of a folded sum. Parts may be summed one by one and added when all but
//! the last have an even number of bytes.

use smoltcp::wire::IpAddress;

/// The sum of `bytes`. An odd last byte counts as if a zero byte followed (RFC 1071 section 1).
#[must_use]
pub fn sum(bytes: &[u8]) -> u32 {
    // A one's complement sum does not depend on the byte order it is made in (RFC 1071 section 2
    // B), so words are added as the machine reads them and only the result is turned.
    let (words, tail) = bytes.as_chunks::<8>();
    let mut total = 0_u64;
    for word in words {
        let word = u64::from_ne_bytes(*word);
        total += (word & 0xffff_ffff) + (word >> 32);
    }
    let (pairs, odd) = tail.as_chunks::<2>();
    for pair in pairs {
        total += u64::from(u16::from_ne_bytes(*pair));
    }
    if let [last] = odd {
        total += u64::from(u16::from_ne_bytes([*last, 0]));
    }
    u32::from(u16::from_be(fold64(total)))
}

/// The sum of a few bytes, of an even number.
#[must_use]
#[inline]
pub fn sum_of<const N: usize>(bytes: &[u8; N]) -> u32 {
    let (words, tail) = bytes.as_chunks::<4>();
    let mut total = 0_u64;
    for word in words {
        total += u64::from(u32::from_ne_bytes(*word));
    }
    let (pairs, _) = tail.as_chunks::<2>();
    for pair in pairs {
        total += u64::from(u16::from_ne_bytes(*pair));
    }
    u32::from(u16::from_be(fold64(total)))
}

/// Folds sums that were added into 16 bits. The checksum is the complement, `!fold(..)`.
#[must_use]
#[inline]
#[expect(clippy::cast_possible_truncation, reason = "two folds leave 16 bits")]
pub fn fold(sums: u32) -> u16 {
    let total = (sums & 0xffff) + (sums >> 16);
    ((total & 0xffff) + (total >> 16)) as u16
}

/// What a change adds to a sum: `old` and `new` are the sums of what was there and of what is there
/// now, from the same place on. Differences may be added like sums.
#[must_use]
#[inline]
pub fn difference(old: u32, new: u32) -> u32 {
    u32::from(!fold(old)) + u32::from(fold(new))
}

/// The [`difference`] that it makes to have `new` in place of `old`: few bytes, of an even number.
#[must_use]
#[inline]
pub fn exchange<const N: usize>(old: &[u8; N], new: &[u8; N]) -> u32 {
    let (olds, news) = (old.as_chunks::<2>().0, new.as_chunks::<2>().0);
    let pairs = olds.iter().zip(news);
    pairs.fold(0, |total, (old, new)| {
        total + u32::from(!u16::from_be_bytes(*old)) + u32::from(u16::from_be_bytes(*new))
    })
}

/// The checksum after what it covers changed by a [`difference`].
///
/// RFC 1624 section 3, equation 3: `HC' = ~(~HC + ~m + m')`. Equation 2 of that RFC is wrong when
/// the result is zero. Equation 3 is wrong when all that is covered is zero: no header that names
/// its version or protocol is, but an ICMP message may be.
#[must_use]
#[inline]
pub fn update(checksum: u16, difference: u32) -> u16 {
    !fold(u32::from(!checksum) + difference)
}

/// The checksum after one 16-bit word it covers changed from `old` to `new`: see [`update`].
#[must_use]
#[inline]
pub fn update16(checksum: u16, old: u16, new: u16) -> u16 {
    update(checksum, difference(old.into(), new.into()))
}

/// The sum of the pseudo-header that TCP, UDP (RFC 9293 section 3.1, RFC 768) and, over IPv6,
/// ICMPv6 (RFC 8200 section 8.1) put before their own bytes. `len` counts those bytes.
#[must_use]
pub fn pseudo_header(src: IpAddress, dst: IpAddress, protocol: u8, len: u32) -> u32 {
    let addresses = address(src) + address(dst);
    u32::from(fold(addresses + u32::from(protocol) + (len >> 16) + (len & 0xffff)))
}

fn address(address: IpAddress) -> u32 {
    match address {
        IpAddress::Ipv4(v4) => sum(&v4.octets()),
        IpAddress::Ipv6(v6) => sum(&v6.octets()),
    }
}

#[inline]
#[expect(clippy::cast_possible_truncation, reason = "three folds leave 16 bits")]
fn fold64(total: u64) -> u16 {
    let total = (total & 0xffff_ffff) + (total >> 32);
    let total = (total & 0xffff) + ((total >> 16) & 0xffff) + (total >> 32);
    let total = (total & 0xffff) + (total >> 16);
    ((total & 0xffff) + (total >> 16)) as u16
}

#[cfg(test)]
mod tests {
    use std::vec::Vec;

    use proptest::prelude::*;
    use smoltcp::wire::{IpProtocol, Ipv4Address, Ipv6Address};

    use super::*;

    /// RFC 1071 section 1 as it stands there: word by word, end-around carry.
    fn slowly(bytes: &[u8]) -> u16 {
        let mut total = 0_u16;
        for pair in bytes.chunks(2) {
            let word = u16::from_be_bytes([pair[0], *pair.get(1).unwrap_or(&0)]);
            let (next, carry) = total.overflowing_add(word);
            total = next + u16::from(carry);
        }
        total
    }

    #[test]
    fn the_example_of_rfc_1071_section_3() {
        assert_eq!(sum(&[0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7]), 0xddf2);
    }

    #[test]
    fn the_example_of_rfc_1624_section_4() {
        assert_eq!(update16(0xdd2f, 0x5555, 0x3285), 0x0000);
    }

    #[test]
    fn extremes_keep_their_value() {
        assert_eq!(sum(&[]), 0);
        assert_eq!(sum(&[0; 64]), 0);
        assert_eq!(sum(&[0xff; 65_535]), u32::from(slowly(&[0xff; 65_535])));
        assert_eq!(fold(u32::MAX), 0xffff);
        assert_eq!(fold(0x0001_ffff), 1, "the carry of the first fold is folded too");
    }

    #[test]
    fn an_update_is_a_recomputation_for_all_words() {
        // Every new word and every old one, against words at the edges and a stride through the
        // rest.
        let rest = 0x4500_u32;
        let probes: Vec<u16> = [0, 1, 0x7fff, 0x8000, 0xbaff, 0xfffe, 0xffff]
            .into_iter()
            .chain((0..=u16::MAX).step_by(4_099))
            .collect();
        for word in 0..=u16::MAX {
            for probe in &probes {
                for (old, new) in [(word, *probe), (*probe, word)] {
                    let before = !fold(rest + u32::from(old));
                    let after = !fold(rest + u32::from(new));
                    assert_eq!(update16(before, old, new), after, "{old:#x} to {new:#x}");
                }
            }
        }
    }

    proptest! {
        #[test]
        fn sums_agree_with_the_definition(bytes in proptest::collection::vec(any::<u8>(), 0..600)) {
            prop_assert_eq!(sum(&bytes), u32::from(slowly(&bytes)));
            if let Some(bytes) = bytes.first_chunk::<38>() {
                prop_assert_eq!(sum_of(bytes), sum(bytes));
            }
        }

        #[test]
        fn parts_add_up(
            bytes in proptest::collection::vec(any::<u8>(), 0..600), cut in 0..300_usize,
        ) {
            let (front, back) = bytes.split_at((cut * 2).min(bytes.len() & !1));
            prop_assert_eq!(fold(sum(front) + sum(back)), fold(sum(&bytes)));
        }

        #[test]
        fn an_update_in_a_header_is_a_recomputation(
            mut header in any::<[u8; 20]>(), at in 0..10_usize, new in any::<u16>(),
        ) {
            // A header is never all zero: its version is not.
            header[0] |= 0x40;
            let before = !fold(sum(&header));
            let word = [header[at * 2], header[at * 2 + 1]];
            let new = if at == 0 { new | 0x4000 } else { new };
            header[at * 2..at * 2 + 2].copy_from_slice(&new.to_be_bytes());
            prop_assert_eq!(update16(before, u16::from_be_bytes(word), new), !fold(sum(&header)));
        }

        #[test]
        fn a_difference_of_many_words_is_a_recomputation(
            mut packet in any::<[u8; 64]>(), at in 0..24_usize, new in any::<[u8; 16]>(),
            zeros in any::<bool>(),
        ) {
            // Whatever stands before the place, and be it at an edge, the packet is not all zero.
            packet[0] |= 0x40;
            if zeros {
                packet[1..].fill(0);
            }
            let before = !fold(sum(&packet));
            let place = at * 2 + 1..at * 2 + 17;
            // An odd place is summed from the even one before it, as words lie in the whole.
            let old = sum(&packet[at * 2..]);
            packet[place].copy_from_slice(&new);
            let changed = difference(old, sum(&packet[at * 2..]));
            prop_assert_eq!(update(before, changed), !fold(sum(&packet)));
        }

        #[test]
        fn pseudo_headers_are_smoltcps(
            a in any::<[u8; 16]>(), b in any::<[u8; 16]>(),
            c in any::<[u8; 4]>(), d in any::<[u8; 4]>(), len in any::<u16>(),
        ) {
            use smoltcp::wire::checksum as theirs;
            // Theirs cuts the length to 16 bits, which no packet with a 16-bit length can show.
            let len = u32::from(len);
            let six = (Ipv6Address::from(a), Ipv6Address::from(b));
            prop_assert_eq!(
                pseudo_header(six.0.into(), six.1.into(), 6, len),
                u32::from(theirs::pseudo_header_v6(&six.0, &six.1, IpProtocol::Tcp, len))
            );
            let four = (Ipv4Address::from(c), Ipv4Address::from(d));
            prop_assert_eq!(
                pseudo_header(four.0.into(), four.1.into(), 17, len),
                u32::from(theirs::pseudo_header_v4(&four.0, &four.1, IpProtocol::Udp, len))
            );
        }
    }
}
