//! Partial checksums, finished for who looks at a recording and partial again for who replays it.
//!
//! A pod's kernel leaves a checksum to its device: the field holds the sum of the pseudo-header
//! only, and Wireshark calls that an error. The frame's packet holds the finished checksum instead,
//! and what stood there follows from it: the checksum is the complement of the sum over all that it
//! covers, the field's own content included.

use stack::Checksum;
use stack::wire::checksum::{fold, sum};

/// The bytes with the checksum finished; `None` when there is nothing to finish, or the place of it
/// is not in the bytes. All bytes of the frame must be there.
#[must_use]
pub fn finish(bytes: &[u8], checksum: Checksum) -> Option<Vec<u8>> {
    let mut finished = bytes.to_vec();
    let (covered, at) = covered(&mut finished, checksum)?;
    let value = match !fold(sum(covered)) {
        0 if at == UDP_FIELD => 0xffff,
        value => value,
    };
    *field(covered, at)? = value.to_be_bytes();
    Some(finished)
}

/// The bytes as they were before [`finish`]. Of the two forms of zero it gives 0xffff: whoever
/// needs the other one must not finish.
#[must_use]
pub fn unfinish(bytes: &[u8], checksum: Checksum) -> Option<Vec<u8>> {
    let mut partial = bytes.to_vec();
    let (covered, at) = covered(&mut partial, checksum)?;
    let value = u16::from_be_bytes(std::mem::take(field(covered, at)?));
    let before = fold(u32::from(!value) + u32::from(!fold(sum(covered))));
    *field(covered, at)? = before.to_be_bytes();
    Some(partial)
}

/// Where a datagram has its checksum, of which zero would say that there is none (RFC 768). To
/// Wireshark only one of the two forms of zero is right, in TCP the other one.
const UDP_FIELD: usize = 6;

/// What a partial checksum covers, and where in it the field is: one of its 16-bit words.
fn covered(bytes: &mut [u8], checksum: Checksum) -> Option<(&mut [u8], usize)> {
    let Checksum::Partial { start, offset } = checksum else { return None };
    if !offset.is_multiple_of(2) {
        return None;
    }
    Some((bytes.get_mut(usize::from(start)..)?, usize::from(offset)))
}

fn field(covered: &mut [u8], at: usize) -> Option<&mut [u8; 2]> {
    covered.get_mut(at..)?.first_chunk_mut()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_finished_can_be_made_partial_again() {
        for len in [2, 17, 54, 60, 255] {
            for seed in 0..200_u8 {
                let bytes: Vec<u8> = (0..=250)
                    .cycle()
                    .map(|byte: u8| byte.wrapping_mul(31).wrapping_add(seed))
                    .take(len)
                    .collect();
                for (start, offset) in [(0, 0), (14, 16), (34, 16), (34, 6), (7, 2)] {
                    let checksum = Checksum::Partial { start, offset };
                    let Some(finished) = finish(&bytes, checksum) else {
                        assert!(len < usize::from(start + offset) + 2);
                        continue;
                    };
                    assert_eq!(unfinish(&finished, checksum).unwrap(), bytes, "{start}+{offset}");
                }
            }
        }
    }

    #[test]
    fn a_finished_datagram_sums_up() {
        let addresses = [10, 1, 1, 1, 10, 1, 1, 2];
        let datagram = *b"\0\x07\0\x09\0\x10\0\0datagram";
        let pseudo = sum(&addresses) + 17 + 16;
        let mut bytes = [&[0x55; 26][..], &addresses, &datagram].concat();
        bytes[40..42].copy_from_slice(&fold(pseudo).to_be_bytes());
        let checksum = Checksum::Partial { start: 34, offset: 6 };
        let finished = finish(&bytes, checksum).unwrap();
        // What a receiver does (RFC 1071 section 1).
        assert_eq!(fold(pseudo + sum(&finished[34..])), 0xffff);
        assert_eq!(unfinish(&finished, checksum).unwrap(), bytes);
    }

    #[test]
    fn what_is_not_partial_is_left_alone() {
        for checksum in [
            Checksum::Complete,
            Checksum::Valid,
            Checksum::Partial { start: 60, offset: 0 },
            Checksum::Partial { start: 0, offset: 60 },
            Checksum::Partial { start: 0, offset: 3 },
            Checksum::Partial { start: u16::MAX, offset: u16::MAX },
        ] {
            assert_eq!(finish(&[1; 60], checksum), None);
            assert_eq!(unfinish(&[1; 60], checksum), None);
        }
    }
}
