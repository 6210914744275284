//! The packet's id: the same at every hop, and on every node the packet passes (`epb_packetid`).
//!
//! A keyed hash of what a network does not change: addresses, protocol, ports or the identifiers of
//! an echo, the IPv4 identification, TCP's sequence and acknowledgment numbers, UDP's length and
//! the first payload bytes. Hop limit, ECN, checksums, PSH and FIN stay out, and so does a TCP
//! segment's length: the id of a super-frame is that of its first segment. It is read off the
//! header window alone, so that a capture made from a recording has the same ids.

use stack::hash::Hasher;
use stack::{Frame, Gso, GsoKind};

/// Recordings and other nodes hold these hashes: the key may never change.
const KEY: u64 = 0x6861_7368_2d69_6431;
/// Payload bytes that take part where no header identifies a packet.
const PAYLOAD: usize = 32;

const ETHERTYPE: usize = 12;
const NETWORK: usize = 14;

/// The id of the packet in a frame. Frames that are no IP or ARP are identified by their first
/// bytes.
#[must_use]
pub fn packet_id(frame: &[u8], gso: Option<Gso>) -> u64 {
    let window = frame.get(..Frame::WINDOW).unwrap_or(frame);
    let mut hasher = Hasher::new(KEY);
    let network = window.get(NETWORK..).unwrap_or(&[]);
    let understood = match window.get(ETHERTYPE..NETWORK) {
        Some([0x08, 0x00]) => ipv4(network, gso, &mut hasher),
        Some([0x86, 0xdd]) => ipv6(network, gso, &mut hasher),
        // Operation, and who asks about whom: all after the fixed part.
        Some([0x08, 0x06]) => network.get(6..28).map(|arp| hasher.bytes(arp)),
        _ => None,
    };
    if understood.is_none() {
        let end = window.len().min(NETWORK + PAYLOAD * 2);
        hasher.bytes(window.get(ETHERTYPE..end).unwrap_or(window));
    }
    hasher.finish()
}

/// What the network layer says of the part that follows.
struct Upper<'a> {
    protocol: u8,
    /// Place in the datagram in units of 8 bytes; only at 0 is there an upper header.
    offset: u16,
    /// The upper header and payload, as far as the window reaches, without Ethernet's padding.
    bytes: &'a [u8],
    gso: Option<Gso>,
}

fn ipv4(bytes: &[u8], gso: Option<Gso>, hasher: &mut Hasher) -> Option<()> {
    let header: &[u8; 20] = bytes.first_chunk()?;
    let header_len = usize::from(header[0] & 0x0f) * 4;
    let total = usize::from(u16::from_be_bytes([header[2], header[3]]));
    let end = bytes.len().min(total);
    let upper = bytes.get(header_len..end)?;
    hasher.number(4);
    hasher.bytes(&header[12..20]);
    hasher.number(u64::from(u16::from_be_bytes([header[4], header[5]])));
    let offset = u16::from_be_bytes([header[6], header[7]]) & 0x1fff;
    Upper { protocol: header[9], offset, bytes: upper, gso }.take_in(hasher);
    Some(())
}

fn ipv6(bytes: &[u8], gso: Option<Gso>, hasher: &mut Hasher) -> Option<()> {
    let header: &[u8; 40] = bytes.first_chunk()?;
    let payload = usize::from(u16::from_be_bytes([header[4], header[5]]));
    // A length of 0 is a super-frame beyond 64 KiB.
    let end = if payload == 0 { bytes.len() } else { bytes.len().min(40 + payload) };
    hasher.number(6);
    hasher.bytes(&header[8..40]);
    let (mut protocol, mut at, mut offset) = (header[6], 40, 0);
    // Hop-by-hop, routing, fragment, destination options, authentication (RFC 8200 section 4).
    while matches!(protocol, 0 | 43 | 44 | 60 | 51) && offset == 0 {
        let extension: &[u8; 8] = bytes.get(at..end)?.first_chunk()?;
        at += match protocol {
            44 => {
                offset = u16::from_be_bytes([extension[2], extension[3]]) >> 3;
                hasher.bytes(&extension[4..8]);
                8
            }
            51 => (usize::from(extension[1]) + 2) * 4,
            _ => (usize::from(extension[1]) + 1) * 8,
        };
        protocol = extension[0];
    }
    Upper { protocol, offset, bytes: bytes.get(at..end)?, gso }.take_in(hasher);
    Some(())
}

impl Upper<'_> {
    fn take_in(&self, hasher: &mut Hasher) {
        hasher.number(u64::from(self.protocol));
        hasher.number(u64::from(self.offset));
        if self.offset != 0 {
            return self.payload(0, hasher);
        }
        match (self.protocol, self.bytes) {
            // Ports, sequence and acknowledgment number.
            (6, header) if header.len() >= 12 => hasher.bytes(&header[..12]),
            (17, [src_high, src, dst_high, dst, len_high, len, _, _, ..]) => {
                hasher.bytes(&[*src_high, *src, *dst_high, *dst]);
                let length = self.datagram(u16::from_be_bytes([*len_high, *len]));
                hasher.number(u64::from(length));
                self.payload(8, hasher);
            }
            // Ports and verification tag; the checksum between them and the payload stays out.
            (132, header) if header.len() >= 12 => {
                hasher.bytes(&header[..8]);
                self.payload(12, hasher);
            }
            // Echo: type, identifier, sequence number. Else type, code and what follows the
            // checksum.
            (1, [kind @ (0 | 8), _, _, _, echo @ ..])
            | (58, [kind @ (128 | 129), _, _, _, echo @ ..]) => {
                hasher.number(u64::from(*kind));
                hasher.bytes(echo.get(..4).unwrap_or(echo));
            }
            (1 | 58, [kind, code, _, _, ..]) => {
                hasher.bytes(&[*kind, *code]);
                self.payload(4, hasher);
            }
            _ => self.payload(0, hasher),
        }
    }

    /// UDP's length field; of a super-frame, that of its first datagram.
    fn datagram(&self, length: u16) -> u16 {
        match self.gso {
            Some(Gso { kind: GsoKind::Udp, size, .. }) => length.min(size.saturating_add(8)),
            _ => length,
        }
    }

    fn payload(&self, from: usize, hasher: &mut Hasher) {
        let most = match self.gso {
            Some(Gso { kind: GsoKind::Udp, size, .. }) => PAYLOAD.min(usize::from(size)),
            _ => PAYLOAD,
        };
        let end = self.bytes.len().min(from + most);
        hasher.bytes(self.bytes.get(from..end).unwrap_or(&[]));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A UDP or TCP frame over IPv4 with payload bytes 0, 1, 2…
    fn frame(protocol: u8, upper_header: &[u8], payload: usize) -> Vec<u8> {
        let mut bytes = vec![2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2, 0x08, 0x00];
        let total = u16::try_from(20 + upper_header.len() + payload).unwrap();
        bytes.extend([0x45, 0]);
        bytes.extend(total.to_be_bytes());
        bytes.extend([0x12, 0x34, 0x40, 0, 64, protocol, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2]);
        bytes.extend(upper_header);
        bytes.extend((0..payload).map(|at| u8::try_from(at % 251).unwrap()));
        bytes
    }

    fn tcp(payload: usize) -> Vec<u8> {
        frame(
            6,
            &[0, 80, 1, 2, 0, 0, 0, 9, 0, 0, 0, 7, 0x50, 0x18, 1, 1, 0xaa, 0xaa, 0, 0],
            payload,
        )
    }

    fn udp(payload: usize) -> Vec<u8> {
        let length = u16::try_from(payload + 8).unwrap().to_be_bytes();
        frame(17, &[0, 53, 1, 2, length[0], length[1], 0xbb, 0xbb], payload)
    }

    fn changed(frame: &[u8], at: usize) -> u64 {
        let mut frame = frame.to_vec();
        frame[at] ^= 1;
        packet_id(&frame, None)
    }

    #[test]
    fn what_a_network_changes_stays_out() {
        let segment = tcp(10);
        let id = packet_id(&segment, None);
        // MACs, ECN, TTL, header checksum, TCP flags PSH and FIN, TCP checksum.
        for at in [0, 6, 15, 22, 24, 47, 50] {
            assert_eq!(changed(&segment, at), id, "byte {at}");
        }
        // Identification, protocol, addresses, ports, sequence, acknowledgment.
        for at in [18, 23, 26, 30, 34, 36, 41, 45] {
            assert_ne!(changed(&segment, at), id, "byte {at}");
        }
    }

    #[test]
    fn udp_counts_length_and_32_payload_bytes() {
        let datagram = udp(100);
        let id = packet_id(&datagram, None);
        assert_ne!(changed(&datagram, 38), id, "length");
        assert_eq!(changed(&datagram, 40), id, "checksum");
        assert_ne!(changed(&datagram, 42 + 31), id, "last of the 32");
        assert_eq!(changed(&datagram, 42 + 32), id, "first after them");
    }

    #[test]
    fn a_super_frame_has_the_id_of_its_first_segment() {
        let gso = |kind, size| Some(Gso { kind, size, ecn: false });
        assert_eq!(packet_id(&tcp(200), gso(GsoKind::Tcp4, 100)), packet_id(&tcp(100), None));
        assert_eq!(packet_id(&udp(90), gso(GsoKind::Udp, 30)), packet_id(&udp(30), None));
        assert_ne!(packet_id(&udp(90), gso(GsoKind::Udp, 30)), packet_id(&udp(90), None));
    }

    #[test]
    fn padding_is_no_payload() {
        let mut datagram = udp(4);
        let id = packet_id(&datagram, None);
        datagram.resize(60, 0xee);
        assert_eq!(packet_id(&datagram, None), id);
    }

    #[test]
    fn nothing_is_too_short_or_too_strange() {
        let whole = udp(300);
        for len in 0..whole.len() {
            let cut = &whole[..len];
            assert_eq!(packet_id(cut, None), packet_id(cut, None));
        }
        let mut six = whole.clone();
        six[12..14].copy_from_slice(&[0x86, 0xdd]);
        six[20] = 0;
        for len in 0..six.len() {
            let cut = &six[..len];
            assert_eq!(packet_id(cut, None), packet_id(cut, None));
        }
        assert_ne!(packet_id(&[1; 60], None), packet_id(&[2; 60], None));
    }

    #[test]
    fn values_are_fixed() {
        assert_eq!(packet_id(&tcp(10), None), 7_252_521_143_468_168_518);
    }
}
