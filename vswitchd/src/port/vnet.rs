//! The virtio-net header that TAPs and packet sockets put before each frame, to and from
//! [`Offload`].
//!
//! Layout (virtio 1.2, 5.1.6; little endian, the TAP's default on every machine we run on):
//! `flags u8, gso_type u8, hdr_len u16, gso_size u16, csum_start u16, csum_offset u16`, then what
//! we leave zero. Offsets count from the frame's first byte, the header excluded.

use stack::{Checksum, Frame, Gso, GsoKind, Offload};

/// Bytes that carry meaning for us: all of a packet socket's header, the begin of a TAP's.
pub(crate) const LEN: usize = 10;

const NEEDS_CSUM: u8 = 1;
const DATA_VALID: u8 = 2;

const GSO_NONE: u8 = 0;
const GSO_TCPV4: u8 = 1;
const GSO_TCPV6: u8 = 4;
const GSO_UDP_L4: u8 = 5;
const GSO_ECN: u8 = 0x80;

/// Reads a header the kernel wrote. `None` for what [`Offload`] cannot say: UFO, or a super-frame
/// inside a UDP tunnel (0x20, 0x40). Neither comes from a device whose offloads we set.
pub(crate) fn decode(header: &[u8]) -> Option<Offload> {
    let &[
        flags,
        gso_type,
        _,
        _,
        size_low,
        size_high,
        start_low,
        start_high,
        offset_low,
        offset_high,
    ] = header.first_chunk::<LEN>()?;
    let checksum = if flags & NEEDS_CSUM != 0 {
        Checksum::Partial {
            start: u16::from_le_bytes([start_low, start_high]),
            offset: u16::from_le_bytes([offset_low, offset_high]),
        }
    } else if flags & DATA_VALID != 0 {
        Checksum::Valid
    } else {
        Checksum::Complete
    };
    let kind = match gso_type & !GSO_ECN {
        GSO_NONE => return Some(Offload { checksum, gso: None, fragment_mtu: None }),
        GSO_TCPV4 => GsoKind::Tcp4,
        GSO_TCPV6 => GsoKind::Tcp6,
        GSO_UDP_L4 => GsoKind::Udp,
        _unknown => return None,
    };
    let gso =
        Gso { kind, size: u16::from_le_bytes([size_low, size_high]), ecn: gso_type & GSO_ECN != 0 };
    Some(Offload { checksum, gso: Some(gso), fragment_mtu: None })
}

/// Writes the header into the frame's headroom and gives back both as one piece of memory. The
/// device's header has `N` bytes; those after [`LEN`] stay zero. `None` if the headroom is too
/// small.
pub(crate) fn prefix<const N: usize>(frame: &mut Frame) -> Option<&[u8]> {
    let header = encode(frame);
    let (len, capacity) = (frame.len(), frame.capacity());
    let bytes = frame.with_front_mut(N);
    if bytes.len() != N + capacity {
        return None;
    }
    let front = bytes.first_chunk_mut::<N>()?;
    *front = [0; N];
    *front.first_chunk_mut::<LEN>()? = header;
    bytes.get(..N + len)
}

/// The header for a frame about to be written.
fn encode(frame: &Frame) -> [u8; LEN] {
    let offload = frame.offload();
    let (flags, start, offset) = match offload.checksum {
        Checksum::Partial { start, offset } => (NEEDS_CSUM, start, offset),
        Checksum::Valid => (DATA_VALID, 0, 0),
        Checksum::Complete => (0, 0, 0),
    };
    let (gso_type, size) = match offload.gso {
        None => (GSO_NONE, 0),
        Some(gso) => {
            let kind = match gso.kind {
                GsoKind::Tcp4 => GSO_TCPV4,
                GsoKind::Tcp6 => GSO_TCPV6,
                GsoKind::Udp => GSO_UDP_L4,
            };
            (if gso.ecn { kind | GSO_ECN } else { kind }, gso.size)
        }
    };
    let header_len = headers_len(frame, offload);
    let mut header = [0; LEN];
    for (field, value) in header.as_chunks_mut::<2>().0.iter_mut().zip([
        u16::from_le_bytes([flags, gso_type]),
        header_len,
        size,
        start,
        offset,
    ]) {
        *field = value.to_le_bytes();
    }
    header
}

/// Bytes from the frame's begin to the end of its L4 header: the part the kernel puts into the
/// linear area of its buffer. A hint, so 0 (all of it) is right for frames that fit one page
/// anyway.
fn headers_len(frame: &Frame, offload: &Offload) -> u16 {
    let Checksum::Partial { start, .. } = offload.checksum else { return 0 };
    let l4_len = match offload.gso {
        None => return 0,
        Some(Gso { kind: GsoKind::Udp, .. }) => 8,
        Some(Gso { kind: GsoKind::Tcp4 | GsoKind::Tcp6, .. }) => {
            // The data offset, in words of 4 bytes, is the high half of byte 12 (RFC 9293, 3.1).
            let offset = frame.window().get(usize::from(start) + 12).map_or(0, |byte| byte >> 4);
            u16::from(offset.max(5)) * 4
        }
    };
    start.saturating_add(l4_len).min(u16::try_from(frame.len()).unwrap_or(u16::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with_offload(bytes: &[u8], offload: Offload) -> Frame {
        let mut frame = Frame::from_bytes(bytes);
        frame.set_offload(offload);
        frame
    }

    #[test]
    fn what_is_encoded_decodes_to_the_same() {
        let kinds = [
            None,
            Some((GsoKind::Tcp4, true)),
            Some((GsoKind::Tcp4, false)),
            Some((GsoKind::Tcp6, false)),
            Some((GsoKind::Udp, false)),
        ];
        let checksums =
            [Checksum::Complete, Checksum::Valid, Checksum::Partial { start: 34, offset: 16 }];
        for kind in kinds {
            for checksum in checksums {
                let gso = kind.map(|(kind, ecn)| Gso { kind, size: 1448, ecn });
                let offload = Offload { checksum, gso, fragment_mtu: None };
                let header = encode(&with_offload(&[0; 200], offload));
                assert_eq!(decode(&header), Some(offload));
            }
        }
    }

    #[test]
    fn the_layout_is_the_kernels() {
        let mut bytes = [0; 3000];
        bytes[14 + 20 + 12] = 0x80;
        let offload = Offload {
            checksum: Checksum::Partial { start: 34, offset: 16 },
            gso: Some(Gso { kind: GsoKind::Tcp4, size: 1448, ecn: true }),
            fragment_mtu: None,
        };
        let header = encode(&with_offload(&bytes, offload));
        assert_eq!(header, [1, 0x81, 66, 0, 0xa8, 5, 34, 0, 16, 0]);
    }

    #[test]
    fn unknown_and_short_headers_are_refused() {
        for gso_type in [2, 3, 6, 0x21, 0x24, 0x41, 0x60] {
            let mut header = [0; 24];
            header[1] = gso_type;
            assert_eq!(decode(&header), None, "gso_type {gso_type:#x}");
        }
        assert_eq!(decode(&[0; 9]), None);
    }
}
