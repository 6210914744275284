//! The Internet checksum (RFC 1071), over many bytes at once.

use stack::{Checksum, Frame};

/// The ones' complement sum of `bytes` as 16-bit words in network order, not complemented. An odd
/// last byte counts as the high half of a word.
#[must_use]
pub fn sum(bytes: &[u8]) -> u16 {
    // The sum does not care about the byte order it is made in (RFC 1071, 2(B)), nor about the word
    // size, as long as carries are added in again. Words of 4 bytes into 8 cannot overflow
    // below 16 GiB, and without carries the compiler makes it SIMD.
    let (words, rest) = bytes.as_chunks::<4>();
    let mut total = words
        .iter()
        .fold(0_u64, |total, word| total.wrapping_add(u64::from(u32::from_ne_bytes(*word))));
    let mut last = [0; 4];
    for (to, from) in last.iter_mut().zip(rest) {
        *to = *from;
    }
    total += u64::from(u32::from_ne_bytes(last));
    u16::from_be(fold(total))
}

/// The ones' complement sum of two sums.
#[must_use]
pub fn add(a: u16, b: u16) -> u16 {
    fold(u64::from(a) + u64::from(b))
}

/// A sum of words, its carries added in until none is left.
fn fold(mut total: u64) -> u16 {
    while total > 0xffff {
        total = (total & 0xffff) + (total >> 16);
    }
    // The loop left 16 bits.
    (total & 0xffff).try_into().unwrap_or(u16::MAX)
}

/// Finishes a partial checksum; a complete one stays. UDP's result of zero is stored as 0xffff,
/// which means the same and is not "no checksum" (RFC 768). SCTP's CRC32c is not known here: ports
/// have it switched off, so it never is partial.
pub fn complete(frame: &mut Frame) {
    let Checksum::Partial { start, offset } = frame.offload().checksum else { return };
    let (start, offset) = (usize::from(start), usize::from(offset));
    let Some(covered) = frame.bytes_mut().get_mut(start..) else { return };
    let value = match !sum(covered) {
        0 if offset == UDP_FIELD => 0xffff,
        value => value,
    };
    let Some(field) = covered.get_mut(offset..).and_then(|rest| rest.first_chunk_mut()) else {
        return;
    };
    *field = value.to_be_bytes();
    let mut offload = *frame.offload();
    offload.checksum = Checksum::Valid;
    frame.set_offload(offload);
}

/// Where a datagram has its checksum; TCP's is at 16, that of ICMP at 2.
const UDP_FIELD: usize = 6;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use stack::Offload;

    use super::*;

    /// RFC 1071, 4.1, word for word.
    fn slow_sum(bytes: &[u8]) -> u16 {
        let mut total = 0_u32;
        for word in bytes.chunks(2) {
            total += u32::from(word[0]) << 8 | u32::from(*word.get(1).unwrap_or(&0));
            total = (total & 0xffff) + (total >> 16);
        }
        u16::try_from(total).unwrap()
    }

    #[test]
    fn the_example_of_rfc_1071() {
        assert_eq!(sum(&[0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7]), 0xddf2);
        assert_eq!(sum(&[]), 0);
        assert_eq!(sum(&[0xab]), 0xab00);
    }

    #[test]
    fn carries_of_a_long_run_of_ones_are_kept() {
        assert_eq!(sum(&[0xff; 65_536]), 0xffff);
    }

    proptest! {
        #[test]
        fn fast_is_slow(bytes in prop::collection::vec(any::<u8>(), 0..600)) {
            prop_assert_eq!(sum(&bytes), slow_sum(&bytes));
        }

        #[test]
        fn a_sum_is_the_sum_of_its_parts(
            bytes in prop::collection::vec(any::<u8>(), 0..600),
            middle in 0_usize..300,
        ) {
            let (front, back) = bytes.split_at((middle * 2).min(bytes.len() & !1));
            prop_assert_eq!(add(sum(front), sum(back)), sum(&bytes));
        }

        #[test]
        fn completed_means_that_all_sums_to_ones(
            bytes in prop::collection::vec(any::<u8>(), 60..300),
            start in 0_u16..40,
        ) {
            let mut frame = Frame::from_bytes(&bytes);
            let checksum = Checksum::Partial { start, offset: 6 };
            frame.set_offload(Offload { checksum, ..Offload::default() });
            // What the rest of a sender's stack has summed already: here, nothing.
            let field = usize::from(start) + 6;
            frame.bytes_mut()[field..field + 2].fill(0);
            complete(&mut frame);
            prop_assert_eq!(frame.offload().checksum, Checksum::Valid);
            // The field counts as a word of its own only at an even distance, which 6 is.
            prop_assert_eq!(slow_sum(&frame.bytes()[usize::from(start)..]), 0xffff);
        }
    }

    #[test]
    fn a_datagrams_result_of_zero_is_sent_as_ones() {
        for (offset, expected) in [(6, [0xff, 0xff]), (2, [0, 0])] {
            let mut bytes = [0xff; 8];
            bytes[offset..offset + 2].copy_from_slice(&[0, 0]);
            let mut frame = Frame::from_bytes(&bytes);
            let checksum = Checksum::Partial { start: 0, offset: offset.try_into().unwrap() };
            frame.set_offload(Offload { checksum, ..Offload::default() });
            complete(&mut frame);
            assert_eq!(frame.bytes()[offset..offset + 2], expected, "at {offset}");
        }
    }

    #[test]
    fn a_description_outside_of_the_frame_changes_nothing() {
        for (start, offset) in [(100, 0), (10, 100), (19, 0), (20, 0), (u16::MAX, u16::MAX)] {
            let mut frame = Frame::from_bytes(&[7; 20]);
            let checksum = Checksum::Partial { start, offset };
            frame.set_offload(Offload { checksum, ..Offload::default() });
            complete(&mut frame);
            assert_eq!(frame.bytes(), [7; 20]);
            assert_eq!(frame.offload().checksum, checksum);
        }
    }
}
