//! Segmentation: nothing but the super-frame's meaning comes out.

use super::*;

const FIN_PSH: u8 = 0x09;
const CWR: u8 = 0x80;

proptest! {
    #[test]
    fn tcp_segments_make_up_the_super_frame(
        packet in packets(headers::TCP, 4000),
        size in 100_u16..2000,
        ecn in any::<bool>(),
    ) {
        let frames = prepared(packet.super_frame(size, ecn), &NOTHING);
        prop_assert_eq!(frames.len(), packet.payload.len().div_ceil(usize::from(size)));
        let reads: Vec<_> = frames.iter().map(read).collect();
        let payload: Vec<_> = reads.iter().flat_map(|read| read.payload.clone()).collect();
        prop_assert_eq!(&payload, &packet.payload);
        let last = reads.len() - 1;
        let mut sequence = packet.sequence;
        for (index, segment) in reads.iter().enumerate() {
            prop_assert_eq!(segment.sequence, sequence);
            sequence = sequence.wrapping_add(u32::try_from(segment.payload.len()).unwrap());
            if index < last {
                prop_assert_eq!(segment.payload.len(), usize::from(size));
            }
            let mut flags = packet.tcp_flags;
            if index < last {
                flags &= !FIN_PSH;
            }
            if index > 0 && ecn {
                flags &= !CWR;
            }
            prop_assert_eq!(segment.tcp_flags, flags, "segment {} of {}", index, last);
            if packet.version == headers::Version::V4 {
                let steps = u16::try_from(index).unwrap();
                let identification = packet.identification.wrapping_add(steps);
                prop_assert_eq!(segment.identification, identification);
            }
        }
        headers_are_equal(&packet, &frames)?;
    }

    #[test]
    fn udp_segments_make_up_the_super_frame(
        packet in packets(headers::UDP, 4000),
        size in 20_u16..2000,
    ) {
        let frames = prepared(packet.super_frame(size, false), &NOTHING);
        let reads: Vec<_> = frames.iter().map(read).collect();
        let expected: Vec<_> = packet.payload.chunks(usize::from(size)).collect();
        let payloads: Vec<_> = reads.iter().map(|read| &read.payload[..]).collect();
        prop_assert_eq!(payloads, expected);
        headers_are_equal(&packet, &frames)?;
    }
}

/// What no segment may change: MACs, tag, addresses, hop limit, TOS, L4 ports, TCP options.
fn headers_are_equal(packet: &Packet, frames: &[Frame]) -> Result<(), TestCaseError> {
    let whole = packet.frame();
    let l3 = if packet.tagged { 18 } else { 14 };
    let l4 = match packet.version {
        headers::Version::V4 => l3 + 20,
        headers::Version::V6 => l3 + 40,
    };
    let mut kept = vec![0..l3 + 2, l3 + 8..l3 + 10, l3 + 12..l4 + 4];
    if packet.protocol == headers::TCP {
        kept.extend([l4 + 8..l4 + 13, l4 + 14..l4 + 16, l4 + 18..l4 + 20 + packet.tcp_options]);
    }
    for frame in frames {
        for range in &kept {
            prop_assert_eq!(&frame.bytes()[range.clone()], &whole.bytes()[range.clone()]);
        }
    }
    Ok(())
}

#[test]
fn a_super_frame_of_one_segment_only_loses_its_description() {
    let packet = Packet::udp(headers::Version::V4, vec![1; 900]);
    let frames = prepared(packet.super_frame(900, false), &Capabilities { udp_gso: false, ..ALL });
    assert_eq!(frames, [packet.frame()]);
}

#[test]
fn padding_behind_the_packet_is_not_sent() {
    let packet = Packet::udp(headers::Version::V4, vec![1; 900]);
    let mut frame = packet.super_frame(500, false);
    frame.set_len(frame.len() + 10);
    let payloads: Vec<_> =
        prepared(frame, &NOTHING).iter().map(|frame| read(frame).payload.len()).collect();
    assert_eq!(payloads, [500, 400]);
}

#[test]
fn a_byte_a_segment_is_refused() {
    let packet = Packet::udp(headers::Version::V4, vec![1; 2049]);
    let frames = prepared(packet.super_frame(1, false), &NOTHING);
    assert_eq!(frames.len(), 1);
    assert!(frames[0].offload().gso.is_some());
    assert_eq!(prepared(packet.super_frame(2, false), &NOTHING).len(), 1025);
}
