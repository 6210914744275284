//! Completes partial L4 checksums in what a capture writes: a reader of the file knows no offloads.

use stack::Checksum;

/// Offset of the checksum field in a UDP header (RFC 768): zero means "none" there, so 0xffff
/// stands for it.
const UDP_FIELD: u16 = 6;
/// Offset in an SCTP header (RFC 9260), whose checksum is no ones' complement sum.
const SCTP_FIELD: u16 = 8;

/// Completes the checksum of a whole frame in place. A super-frame gets the checksum of the one
/// packet that it looks like. True when the field is complete afterwards.
pub fn complete(frame: &mut [u8], checksum: Checksum) -> bool {
    let Checksum::Partial { start, offset } = checksum else { return true };
    if offset == SCTP_FIELD {
        return false;
    }
    let Some(segment) = frame.get_mut(usize::from(start)..) else { return false };
    let value = match ones_complement(segment) {
        0 if offset == UDP_FIELD => u16::MAX,
        value => value,
    };
    let field = usize::from(offset);
    let Some(place) = segment.get_mut(field..field + 2) else { return false };
    place.copy_from_slice(&value.to_be_bytes());
    true
}

/// The Internet checksum (RFC 1071) of some bytes.
fn ones_complement(bytes: &[u8]) -> u16 {
    let (pairs, rest) = bytes.as_chunks::<2>();
    let mut sum: u64 = pairs.iter().map(|pair| u64::from(u16::from_be_bytes(*pair))).sum();
    if let [last] = rest {
        sum += u64::from(*last) << 8;
    }
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !u16::try_from(sum).unwrap_or(u16::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_sum() {
        // RFC 1071 section 3: these words sum to 0xddf2.
        let words = [0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7];
        assert_eq!(ones_complement(&words), !0xddf2);
        assert_eq!(ones_complement(&[0xab]), !0xab00);
    }

    #[test]
    fn what_cannot_be_completed_says_so() {
        let mut frame = [7_u8; 40];
        assert!(complete(&mut frame, Checksum::Complete));
        assert!(!complete(&mut frame, Checksum::Partial { start: 41, offset: 16 }));
        assert!(!complete(&mut frame, Checksum::Partial { start: 34, offset: 5 }));
        assert!(!complete(&mut frame, Checksum::Partial { start: 14, offset: SCTP_FIELD }));
        assert_eq!(frame, [7; 40], "nothing was written");
        assert!(complete(&mut frame, Checksum::Partial { start: 34, offset: 4 }));
        assert_ne!(frame[38..40], [7, 7]);
    }

    #[test]
    fn udp_zero_is_written_as_all_ones() {
        let mut frame = [0xff, 0xff, 0, 0, 0, 0, 0, 0];
        assert!(complete(&mut frame, Checksum::Partial { start: 0, offset: UDP_FIELD }));
        assert_eq!(frame[6..8], [0xff, 0xff]);
    }
}
