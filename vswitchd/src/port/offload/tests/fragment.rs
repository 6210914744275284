//! Fragmentation: what is put together again is the packet.

use super::*;

/// Copied in each fragment: loose source route (131), 3 bytes; not copied: record route (7), 3
/// bytes.
const OPTIONS: [u8; 8] = [131, 3, 4, 7, 3, 4, 1, 0];

fn with_mtu(packet: &Packet, mtu: u16) -> Frame {
    let mut frame = packet.frame();
    frame.set_offload(Offload { fragment_mtu: Some(mtu), ..*frame.offload() });
    frame
}

/// Puts fragments together; panics where one is no fragment of the packet.
fn reassembled(frames: &[Frame], l3: usize, mtu: u16) -> Vec<u8> {
    let mut data = Vec::new();
    for (index, frame) in frames.iter().enumerate() {
        let packet = Ipv4Packet::new_checked(&frame.bytes()[l3..]).unwrap();
        assert!(packet.verify_checksum());
        assert!(packet.total_len() <= mtu);
        assert_eq!(usize::from(packet.total_len()), frame.len() - l3);
        assert_eq!(usize::from(packet.frag_offset()), data.len());
        assert_eq!(packet.more_frags(), index + 1 < frames.len());
        assert_eq!((frame.offload().gso, frame.offload().fragment_mtu), (None, None));
        data.extend_from_slice(packet.payload());
    }
    data
}

proptest! {
    #[test]
    fn fragments_make_up_the_packet(
        packet in packets(headers::UDP, 6000),
        mtu in 68_u16..3000,
        options in any::<bool>(),
    ) {
        let ip_options = if options { OPTIONS.to_vec() } else { Vec::new() };
        let version = headers::Version::V4;
        let packet = Packet { version, dont_fragment: false, ip_options, ..packet };
        let l3 = if packet.tagged { 18 } else { 14 };
        let l4 = l3 + 20 + packet.ip_options.len();
        let whole = prepared(packet.frame(), &NOTHING);
        let frames = prepared(with_mtu(&packet, mtu), &NOTHING);
        prop_assert_eq!(reassembled(&frames, l3, mtu), &whole[0].bytes()[l4..]);
        for frame in &frames {
            prop_assert_eq!(&frame.bytes()[..l3], &whole[0].bytes()[..l3]);
            let identification = Ipv4Packet::new_unchecked(&frame.bytes()[l3..]).ident();
            prop_assert_eq!(identification, packet.identification);
        }
    }
}

#[test]
fn later_fragments_have_the_options_that_are_copied() {
    let packet = Packet {
        dont_fragment: false,
        ip_options: OPTIONS.to_vec(),
        ..Packet::udp(headers::Version::V4, vec![5; 2000])
    };
    let frames = prepared(with_mtu(&packet, 576), &ALL);
    assert_eq!(frames.len(), 4);
    assert_eq!(frames[0].bytes()[14], 0x47);
    assert_eq!(frames[0].bytes()[34..42], OPTIONS);
    for later in &frames[1..] {
        assert_eq!(later.bytes()[14], 0x46);
        assert_eq!(later.bytes()[34..38], [131, 3, 4, 0]);
    }
}

#[test]
fn a_fragment_is_fragmented_further() {
    let packet = Packet { dont_fragment: false, ..Packet::udp(headers::Version::V4, vec![5; 984]) };
    let mut middle = prepared(packet.frame(), &NOTHING).remove(0);
    // More fragments, offset 100 units of eight bytes.
    headers::put(middle.bytes_mut(), 20, 0x2064_u16.to_be_bytes());
    headers::put_header_checksum(middle.bytes_mut(), 14, 34);
    middle.set_offload(Offload { fragment_mtu: Some(520), ..Offload::default() });
    let fields: Vec<_> = prepared(middle, &ALL)
        .iter()
        .map(|frame| headers::u16_at(frame.bytes(), 20).unwrap())
        .collect();
    assert_eq!(fields, [0x2064, 0x2064 + 62], "both are followed by more");
}

#[test]
fn what_needs_no_fragments_only_loses_the_instruction() {
    let packet = Packet::udp(headers::Version::V4, vec![5; 500]);
    assert_eq!(prepared(with_mtu(&packet, 528), &ALL), [packet.frame()]);
    assert_eq!(prepared(with_mtu(&packet, 527), &ALL).len(), 2);
    assert_eq!(prepared(with_mtu(&packet, 27), &ALL), [packet.frame()], "no room for eight bytes");
    let packet = Packet::udp(headers::Version::V6, vec![5; 500]);
    assert_eq!(prepared(with_mtu(&packet, 548), &ALL), [packet.frame()]);
    assert_eq!(prepared(with_mtu(&packet, 547), &ALL).len(), 2);
    assert_eq!(prepared(with_mtu(&packet, 55), &ALL), [packet.frame()], "no room for eight bytes");
}

#[test]
fn ipv6_has_a_fragment_header_and_one_identification() {
    let packet = Packet::udp(headers::Version::V6, [3; 251].repeat(12));
    let whole = prepared(packet.frame(), &NOTHING).remove(0);
    let frames = prepared(with_mtu(&packet, 1_500), &ALL);
    let (mut data, mut ids) = (Vec::new(), Vec::new());
    for (index, frame) in frames.iter().enumerate() {
        let bytes = frame.bytes();
        assert!(bytes.len() <= 14 + 1_500 && *frame.offload() == Offload::default());
        assert_eq!(headers::u16_at(bytes, 18).map(usize::from), Some(bytes.len() - 54));
        assert_eq!((bytes[20], bytes[54], bytes[55]), (44, headers::UDP, 0));
        let place = usize::from(headers::u16_at(bytes, 56).unwrap());
        assert_eq!(place, data.len() | usize::from(index + 1 < frames.len()));
        ids.push(headers::u32_at(bytes, 58));
        assert_eq!((&bytes[..18], &bytes[21..54]), (&whole.bytes()[..18], &whole.bytes()[21..54]));
        data.extend_from_slice(&bytes[62..]);
    }
    assert_eq!((frames.len(), data), (3, whole.bytes()[54..].to_vec()));
    ids.dedup();
    assert_eq!(ids.len(), 1);
}
